//! Limits as a caller meets them: what is admitted, when a refusal says to come back, what headers tell, and
//! what is charged.

use keymux_provider::{Call, Endpoint, How, Now, World};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::kit::{MS, SECOND, at, body, chat, get, header, one, post, post_as, world};

fn ask(tokens: u64) -> Call<'static> {
    Call {
        secret: "s",
        endpoint: Endpoint::Chat,
        model: "m",
        n: 1,
        input_tokens: tokens,
        output_tokens: Some(5),
        max_tokens: Some(5),
        ..Call::default()
    }
}

fn limited(limits: &Value) -> World {
    one("openai", &json!({ "limits": limits }))
}

/// When the calls that were admitted came.
fn admitted(world: &mut World, times: &[u64]) -> Vec<u64> {
    let mut ok = Vec::new();
    for ns in times {
        let now = at(0).plus(*ns);
        let reply = world.call(now, &ask(1));
        if reply.status == 200 {
            ok.push(*ns);
            world.done(reply.id, now, How::Completed);
        } else {
            assert_eq!(reply.status, 429);
        }
    }
    ok
}

proptest! {
    /// A bucket never lets more through, in any stretch of time, than its depth and what flows in meanwhile; and
    /// a refused call would not have fitted.
    #[test]
    fn a_bucket_admits_exactly_what_its_definition_admits(
        gaps in prop::collection::vec(0_u64..400, 1..200),
        limit in 1_u64..20,
        burst in 1_u64..20,
    ) {
        let mut world = limited(&json!([{ "limit": limit, "period_ms": 1000, "burst": burst }]));
        let times: Vec<u64> = gaps.iter().scan(0, |t, gap| { *t += gap * MS; Some(*t) }).collect();
        let ok = admitted(&mut world, &times);
        // The oracle is the definition: for every stretch, count <= burst + limit x length.
        let scaled = |count: u64| u128::from(count) * u128::from(SECOND);
        let fits = |ok: &[u64], next: u64| ok.iter().enumerate().all(|(i, from)| {
            let count = (ok.len() - i + 1) as u64;
            scaled(count) <= scaled(burst) + u128::from(limit) * u128::from(next - from)
        });
        let mut so_far: Vec<u64> = Vec::new();
        for time in times {
            let was_admitted = ok.get(so_far.len()) == Some(&time);
            prop_assert_eq!(was_admitted, fits(&so_far, time), "at {} after {:?}", time, so_far);
            if was_admitted {
                so_far.push(time);
            }
        }
    }

    /// A window counts by the clock: at most the limit between two of its boundaries, and never less.
    #[test]
    fn a_window_admits_its_limit_between_boundaries(
        gaps in prop::collection::vec(0_u64..400, 1..200),
        limit in 1_u64..20,
    ) {
        let mut world = limited(&json!([{ "limit": limit, "period_ms": 1000, "shape": "window" }]));
        let times: Vec<u64> = gaps.iter().scan(0, |t, gap| { *t += gap * MS; Some(*t) }).collect();
        let ok = admitted(&mut world, &times);
        for window in 0..=times.last().unwrap_or(&0) / SECOND {
            let inside = |list: &[u64]| list.iter().filter(|t| **t / SECOND == window).count() as u64;
            prop_assert_eq!(inside(&ok), inside(&times).min(limit));
        }
    }

    /// Who comes back when the refusal said is admitted; a nanosecond earlier is too early.
    #[test]
    fn the_time_told_is_true_to_the_nanosecond(
        used in 1_u64..40,
        size in 1_u64..60,
        shape in prop::sample::select(vec!["bucket", "window", "day"]),
        start in 0_u64..3000,
    ) {
        let limits = json!([{ "dimension": "input_tokens", "limit": 60, "period_ms": 7000, "shape": shape }]);
        let mut world = limited(&limits);
        let now = at(start);
        for _ in 0..3 {
            world.call(now, &ask(used));
        }
        let refused = world.call(now, &ask(size));
        prop_assume!(refused.status == 429);
        let wait = refused.retry_after_ns.unwrap();
        prop_assert_eq!(world.call(now.plus(wait - 1), &ask(size)).status, 429);
        prop_assert_eq!(world.call(now.plus(wait), &ask(size)).status, 200);
    }
}

#[test]
fn a_refusal_names_its_limit_and_takes_nothing() {
    let mut world = limited(&json!([
        { "dimension": "requests", "limit": 10, "shape": "window" },
        { "dimension": "total_tokens", "limit": 40, "shape": "window" },
    ]));
    let request = |n: usize| {
        let mut request = chat(&"x".repeat(n * 4));
        request["max_tokens"] = json!(1);
        request
    };
    assert_eq!(post(&mut world, at(0), "/v1/chat/completions", &request(30)).status, 200);
    let mut refused = post(&mut world, at(0), "/v1/chat/completions", &request(20));
    assert_eq!(refused.status, 429);
    assert_eq!(refused.refused_by.as_deref(), Some("total_tokens/60s"));
    assert_eq!(header(&refused, "x-ratelimit-remaining-requests"), Some("9"), "only one request was taken");
    assert_eq!(header(&refused, "x-ratelimit-remaining-tokens"), Some("10"));
    let seconds: u64 = header(&refused, "retry-after").unwrap().parse().unwrap();
    assert_eq!(seconds, refused.retry_after_ns.unwrap().div_ceil(SECOND));
    let text = body(&mut refused)["error"]["message"].as_str().unwrap().to_owned();
    assert!(text.contains("tokens per min (TPM): Limit 40, Used 30, Requested 20."), "{text}");
    // Larger than the limit: no time to come back is told, by no means.
    let mut never = post(&mut world, at(0), "/v1/chat/completions", &request(41));
    assert_eq!(never.retry_after_ns, None);
    assert_eq!(header(&never, "retry-after"), None);
    assert!(body(&mut never)["error"]["message"].as_str().unwrap().starts_with("Request too large"));
}

#[test]
fn keys_of_one_account_share_its_limits_and_keys_have_their_own() {
    let mut world = world(&json!({ "provider": [{
        "name": "p", "limits": [{ "limit": 2, "shape": "window" }],
        "account": [
            { "name": "a", "key": [{ "name": "a1", "secret": "a1" }, { "name": "a2", "secret": "a2" }] },
            { "name": "b", "key": [{ "name": "b1", "secret": "b1", "limits": [{ "limit": 1, "shape": "window" }] }] },
        ],
    }] }));
    let mut status = |secret: &'static str| world.call(at(0), &Call { secret, ..ask(1) }).status;
    assert_eq!([status("a1"), status("a2"), status("a1"), status("a2")], [200, 200, 429, 429]);
    assert_eq!([status("b1"), status("b1")], [200, 429]);
}

#[test]
fn a_limit_for_some_models_leaves_the_others_alone() {
    let mut world = limited(&json!([{ "limit": 1, "shape": "window", "models": ["big-*", "huge"] }]));
    let mut status = |model: &'static str| world.call(at(0), &Call { model, ..ask(1) }).status;
    assert_eq!([status("big-1"), status("big-2"), status("huge")], [200, 429, 429], "they share it");
    assert_eq!([status("small"), status("small")], [200, 200]);
}

#[test]
fn shared_capacity_refuses_everybody_and_says_that_it_is_not_the_key() {
    for (dialect, status) in [("openai", 503), ("anthropic", 529), ("openrouter", 429)] {
        let mut world = world(&json!({ "provider": [{
            "name": "p", "dialect": dialect, "model": [{ "id": "m", "shared_rpm": 1 }, { "id": "n" }],
            "account": [
                { "name": "a", "key": [{ "name": "a", "secret": "s" }] },
                { "name": "b", "key": [{ "name": "b", "secret": "t" }] },
            ],
        }] }));
        let path = if dialect == "anthropic" { "/v1/messages" } else { "/v1/chat/completions" };
        let mut request = chat("hi");
        request["max_tokens"] = json!(5);
        assert_eq!(post(&mut world, at(0), path, &request).status, 200);
        let refused = post_as(&mut world, at(0), "t", path, &request);
        assert_eq!(refused.status, status, "another account's request is refused as well");
        request["model"] = json!("n");
        assert_eq!(post_as(&mut world, at(0), "t", path, &request).status, 200);
    }
}

#[test]
fn a_slot_is_held_until_the_call_is_done() {
    let mut world = limited(&json!([{ "dimension": "concurrent", "limit": 1 }]));
    let first = world.call(at(0), &ask(1));
    assert_eq!(world.call(at(60_000), &ask(1)).status, 429, "time alone frees nothing");
    world.done(first.id, at(60_000), How::Cancelled);
    world.done(first.id, at(60_000), How::Cancelled);
    assert_eq!(world.call(at(60_000), &ask(1)).status, 200);
    assert_eq!(world.call(at(60_000), &ask(1)).status, 429, "ending twice frees one slot");
}

#[test]
fn where_a_disconnect_stops_nothing_the_slot_and_the_bill_run_on() {
    let model = json!([{ "id": "m", "input_nano_usd": 1, "output_nano_usd": 10 }]);
    let limits = json!([{ "dimension": "concurrent", "limit": 1 }]);
    let long = Call { output_tokens: Some(101), max_tokens: Some(1000), stream: true, ..ask(7) };
    for (stops, freed_at_once, billed) in [(true, true, 7 + 110), (false, false, 7 + 1010)] {
        let more = json!({ "model": model, "limits": limits, "cancel_stops_billing": stops });
        let mut world = one("openai", &more);
        let call = world.call(at(0), &long);
        // First token at 20 ms, then one a millisecond: eleven are out.
        world.done(call.id, at(30), How::Cancelled);
        let record = world.records().last().unwrap().clone();
        assert_eq!(record.billed_nano_usd, billed);
        assert!(record.cancelled);
        assert_eq!(world.call(at(31), &long).status == 200, freed_at_once);
        if !freed_at_once {
            assert_eq!(world.call(at(119), &long).status, 429);
            assert_eq!(world.call(at(120), &long).status, 200, "at its natural end");
        }
    }
}

#[test]
fn a_call_cancelled_before_its_first_token_costs_nothing() {
    let mut world =
        one("openai", &json!({ "model": [{ "id": "m", "input_nano_usd": 1, "output_nano_usd": 10 }] }));
    let call = world.call(at(0), &Call { stream: true, ..ask(7) });
    world.done(call.id, at(19), How::Cancelled);
    assert_eq!(world.records().last().unwrap().billed_nano_usd, 0);
}

#[test]
fn metered_output_is_charged_while_it_is_produced() {
    let mut world = one(
        "anthropic",
        &json!({
            "limits": [{ "dimension": "output_tokens", "limit": 50, "shape": "window" }],
        }),
    );
    let long = Call { output_tokens: Some(1000), max_tokens: Some(1000), stream: true, ..ask(1) };
    let call = world.call(at(0), &long);
    assert_eq!(call.status, 200, "the cap is no reservation");
    assert_eq!(world.call(at(30), &ask(1)).status, 200, "eleven tokens are out");
    assert_eq!(world.call(at(75), &ask(1)).status, 429, "over fifty are");
    world.done(call.id, at(75), How::Cancelled);
    assert_eq!(world.call(at(60_000), &ask(1)).status, 200, "next window");
}

#[test]
fn reserved_output_comes_back_only_where_the_vendor_refunds_it() {
    for (refund, second) in [(true, 200), (false, 429)] {
        let mut world = one(
            "openai",
            &json!({
                "limits": [{ "dimension": "total_tokens", "limit": 100, "shape": "window" }],
                "charging": { "total_tokens": "input_plus_max_tokens", "refund_unused": refund },
            }),
        );
        let call = Call { max_tokens: Some(80), ..ask(10) };
        let first = world.call(at(0), &call);
        assert_eq!(world.call(at(0), &call).status, 429, "the reservation counts while it is open");
        world.done(first.id, at(100), How::Completed);
        assert_eq!(world.call(at(100), &Call { max_tokens: Some(60), ..ask(10) }).status, second);
    }
}

#[test]
fn an_in_flight_budget_is_a_402_that_passes() {
    let mut world = one(
        "openrouter",
        &json!({
            "model": [{ "id": "m", "input_nano_usd": 10, "output_nano_usd": 10 }],
            "limits": [{ "dimension": "in_flight_money", "limit": 1000, "settlement_ms": 50, "retry_after_ms": 20_000 }],
            "charging": { "hold_cap_tokens": 60 },
        }),
    );
    let mut request = chat("four");
    request["max_tokens"] = json!(1_000_000);
    let first = post(&mut world, at(0), "/v1/chat/completions", &request);
    assert_eq!(first.status, 200, "a huge cap holds no more than the fixed cap");
    let refused = post(&mut world, at(0), "/v1/chat/completions", &request);
    assert_eq!((refused.status, header(&refused, "retry-after")), (402, Some("20")));
    world.done(first.id, at(10), How::Completed);
    assert_eq!(
        post(&mut world, at(11), "/v1/chat/completions", &request).status,
        200,
        "the real cost is small"
    );
}

#[test]
fn credit_runs_out_in_each_vendors_words() {
    for (dialect, status) in [("openai", 429), ("openrouter", 402), ("anthropic", 400)] {
        let mut world = world(&json!({ "provider": [{
            "name": "p", "dialect": dialect, "latency": { "output": { "mean": 5, "sigma": 0 } },
            "model": [{ "id": "m", "output_nano_usd": 10 }],
            "account": [{ "name": "a", "credit_nano_usd": 60, "key": [{ "name": "k", "secret": "s" }] }],
        }] }));
        let path = if dialect == "anthropic" { "/v1/messages" } else { "/v1/chat/completions" };
        let mut request = chat("hi");
        request["max_tokens"] = json!(5);
        let mut statuses = Vec::new();
        for step in 0..3 {
            let reply = post(&mut world, at(step), path, &request);
            statuses.push(reply.status);
            world.done(reply.id, at(step), How::Completed);
        }
        let last = statuses.pop();
        assert_eq!(last, Some(status), "{dialect}");
        assert_eq!(statuses[0], 200);
    }
}

#[test]
fn a_keys_own_cap_stops_that_key_only_and_free_calls_go_on() {
    let mut world = world(&json!({ "provider": [{
        "name": "p", "dialect": "openrouter", "latency": { "output": { "mean": 5, "sigma": 0 } },
        "model": [{ "id": "m", "output_nano_usd": 10 }],
        "account": [{ "name": "a", "key": [
            { "name": "k", "secret": "s", "spend_cap_nano_usd": 50 }, { "name": "l", "secret": "t" },
        ] }],
    }] }));
    let first = post(&mut world, at(0), "/v1/chat/completions", &chat("hi"));
    world.done(first.id, at(100), How::Completed);
    assert_eq!(post(&mut world, at(100), "/v1/chat/completions", &chat("hi")).status, 403);
    assert_eq!(post_as(&mut world, at(100), "t", "/v1/chat/completions", &chat("hi")).status, 200);
    let mut key = get(&mut world, at(100), "/api/v1/key");
    let key = body(&mut key);
    assert_eq!(key["data"]["limit_remaining"], 0);
    assert_eq!(key["data"]["organization_id"], "a", "tells which keys share an account");
    assert_eq!(key["data"]["rate_limit"]["requests"], -1);
}

#[test]
fn a_prompt_that_was_seen_before_is_cached_at_its_account_and_free_where_the_vendor_says_so() {
    let mut world = one(
        "openai",
        &json!({
            "limits": [{ "dimension": "input_tokens", "limit": 5000, "shape": "window" }],
            "charging": { "cached_input_free": true },
        }),
    );
    let call = Call { prompt: Some(9), ..ask(2048) };
    let cold = world.call(at(0), &call);
    let warm = world.call(at(1000), &call);
    assert_eq!((cold.course.cached_tokens, warm.course.cached_tokens), (0, 2048));
    assert_eq!(world.call(at(1000), &ask(2952)).status, 200, "only the cold one was charged");
    let uncached = world.call(at(2000), &ask(2048));
    assert_eq!(uncached.course.cached_tokens, 0);
}

#[test]
fn refused_requests_count_where_the_vendor_counts_them() {
    let run = |counts: bool| {
        let mut world = one(
            "openai",
            &json!({
                "limits": [{ "limit": 3, "period_ms": 1000, "shape": "window" }, { "dimension": "input_tokens", "limit": 10, "period_ms": 500, "shape": "window" }],
                "charging": { "refused_count": counts },
            }),
        );
        assert_eq!(world.call(at(0), &ask(10)).status, 200);
        for _ in 0..5 {
            assert_eq!(world.call(at(0), &ask(10)).status, 429);
        }
        world.call(at(500), &ask(10)).status
    };
    assert_eq!((run(false), run(true)), (200, 429));
}

#[test]
fn server_errors_cost_a_request_and_refusals_by_fault_do_not() {
    let left = |fault: Value| {
        let mut world = limited(&json!([{ "limit": 10, "shape": "window" }]));
        let prompt = format!("sim: {}", json!({ "fault": fault }));
        post(&mut world, at(0), "/v1/chat/completions", &chat(&prompt));
        let reply = post(&mut world, at(0), "/v1/chat/completions", &chat("hi"));
        header(&reply, "x-ratelimit-remaining-requests").unwrap().to_owned()
    };
    assert_eq!(left(json!({ "status": { "code": 500 } })), "8");
    assert_eq!(left(json!("bad_key")), "9");
    assert_eq!(left(json!({ "rate_limit": {} })), "9");
}

#[test]
fn the_same_seed_decides_the_same() {
    let run = || {
        let mut world = one(
            "openai",
            &json!({
                "latency": { "ttft_sigma": 0.5 },
                "faults": [{ "probability": 0.3, "kind": { "status": { "code": 500 } } }],
            }),
        );
        (0..200)
            .map(|i| {
                let reply = world.call(at(i), &ask(1));
                (reply.status, reply.course.end_at_ns)
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

#[test]
fn a_clock_that_goes_backwards_breaks_nothing() {
    let mut world = limited(
        &json!([{ "limit": 5, "period_ms": 1000 }, { "limit": 5, "period_ms": 1000, "shape": "window" }]),
    );
    for ms in [5000, 4000, 0, 6000] {
        let now = Now { mono_ns: ms * MS, unix_ns: at(ms).unix_ns };
        let reply = world.call(now, &ask(1));
        world.done(reply.id, at(0), How::Cancelled);
    }
    assert_eq!(world.open_calls(), 0);
}

#[test]
fn levels_are_what_the_next_call_meets() {
    let mut world = limited(&json!([
        { "limit": 60 },
        { "dimension": "total_tokens", "limit": 100, "shape": "window", "models": ["other"] },
    ]));
    world.call(at(0), &ask(1));
    let levels = world.levels(at(500), "p", "key", "m");
    assert_eq!(levels.len(), 1, "the other limit is for another model");
    assert_eq!((&*levels[0].name, levels[0].remaining), ("requests/60s", 59));
    assert_eq!(levels[0].full_in_ns, 500 * MS);
    assert!(world.levels(at(0), "p", "nobody", "m").is_empty());
}

#[test]
fn of_several_limits_the_slowest_is_named_so_that_the_time_is_true() {
    for order in [[1_000, 10_000], [10_000, 1_000]] {
        let [first, second] = order.map(|ms| json!({ "limit": 1, "period_ms": ms }));
        let mut world = limited(&json!([first, second]));
        world.call(at(0), &ask(1));
        let refused = world.call(at(0), &ask(1));
        assert_eq!(
            (refused.refused_by.as_deref(), refused.retry_after_ns),
            (Some("requests/10s"), Some(10 * SECOND))
        );
    }
}

#[test]
fn only_refusals_by_a_limit_carry_its_headers() {
    let mut world = limited(&json!([{ "limit": 1, "shape": "window" }]));
    for fault in
        [json!("bad_key"), json!({ "status": { "code": 400 } }), json!({ "rate_limit": { "time": "none" } })]
    {
        let prompt = format!("sim: {}", json!({ "fault": fault }));
        let refused = post(&mut world, at(0), "/v1/chat/completions", &chat(&prompt));
        let told: Vec<_> =
            refused.headers.iter().filter(|(name, _)| name.starts_with("x-ratelimit")).collect();
        assert!(told.is_empty(), "{fault}: {told:?}");
    }
    post(&mut world, at(0), "/v1/chat/completions", &chat("hi"));
    let refused = post(&mut world, at(0), "/v1/chat/completions", &chat("hi"));
    assert_eq!(header(&refused, "x-ratelimit-remaining-requests"), Some("0"));
}

#[test]
fn refusals_by_limits_say_when_in_the_form_that_the_provider_has() {
    let refused = |dialect: &str, form: &str| {
        let limits = json!([{ "limit": 1, "period_ms": 10_000 }]);
        let mut world = one(dialect, &json!({ "limits": limits, "headers": "none", "refusal_time": form }));
        post(&mut world, at(0), "/v1/chat/completions", &chat("hi"));
        let mut reply = post(&mut world, at(500), "/v1/chat/completions", &chat("hi"));
        assert_eq!(reply.status, 429);
        let text = body(&mut reply).to_string();
        let retry_after = header(&reply, "retry-after").map(str::to_owned);
        (retry_after, header(&reply, "retry-after-ms").map(str::to_owned), text)
    };
    for dialect in ["openai", "openrouter"] {
        let (seconds, ms, _) = refused(dialect, "retry_after");
        assert_eq!((seconds.as_deref(), ms), (Some("10"), None), "{dialect}");
        let (seconds, ms, _) = refused(dialect, "retry_after_ms");
        assert_eq!((seconds, ms.as_deref()), (None, Some("9500")), "{dialect}");
        let (seconds, ms, text) = refused(dialect, "none");
        assert_eq!((seconds, ms), (None, None), "{dialect}");
        assert!(!text.contains("try again") && !text.contains("Reset"), "{text}");
    }
}

#[test]
fn a_refusal_for_too_many_at_once_says_so() {
    let mut world = one("openai", &json!({ "limits": [{ "dimension": "concurrent", "limit": 1 }] }));
    post(&mut world, at(0), "/v1/chat/completions", &chat("hi"));
    let mut reply = post(&mut world, at(1), "/v1/chat/completions", &chat("hi"));
    let text = body(&mut reply).to_string();
    assert!(reply.status == 429 && text.contains("concurrent") && !text.contains("per min"), "{text}");
}
