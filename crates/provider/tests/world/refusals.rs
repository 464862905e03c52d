//! Every refusal in every dialect: status, body, headers, and what the books say.

use crate::kit::{at, body, chat, get, header, one, post, post_as};
use keymux_provider::{Framing, How, Reply};
use serde_json::{Value, json};

/// A chat (or message) that is hit by this fault.
fn hit(dialect: &str, headers: Option<&str>, fault: &Value) -> (Reply, Value) {
    let more = headers.map_or_else(|| json!({}), |family| json!({ "headers": family }));
    let mut world = one(dialect, &more);
    let mut request = chat(&format!("sim: {}", json!({ "fault": fault })));
    request["max_tokens"] = json!(10);
    let path = if dialect == "anthropic" { "/v1/messages" } else { "/v1/chat/completions" };
    let mut reply = post(&mut world, at(0), path, &request);
    assert!(!reply.open, "a refusal holds nothing");
    let record = world.records().last().unwrap();
    assert_eq!(record.status, reply.status);
    assert_eq!(
        record.fault.as_deref(),
        fault.as_str().or_else(|| fault.as_object()?.keys().next().map(String::as_str))
    );
    assert!(record.ended_ns.is_some() && record.billed_nano_usd == 0);
    let text = body(&mut reply);
    (reply, text)
}

/// A refusal by a fault: its status, and what stands at a place of its body.
type Wording = (Value, u16, &'static str, Value);

fn worded(dialect: &str, wordings: Vec<Wording>) {
    for (fault, status, pointer, value) in wordings {
        let (reply, text) = hit(dialect, None, &fault);
        assert_eq!(reply.status, status, "{fault}: {text}");
        assert_eq!(text.pointer(pointer).cloned().unwrap_or_default(), value, "{fault}: {text}");
        match dialect {
            "openrouter" => assert_eq!(text["error"]["code"], status, "{text}"),
            "anthropic" => assert!(text["type"] == "error" && text["request_id"].is_string(), "{text}"),
            _ => assert!(text["error"]["message"].is_string(), "{text}"),
        }
    }
}

#[test]
fn openai_words_its_refusals_as_documented() {
    worded(
        "openai",
        vec![
            (json!("bad_key"), 401, "/error/code", json!("invalid_api_key")),
            (json!({ "rate_limit": {} }), 429, "/error/code", json!("rate_limit_exceeded")),
            (json!({ "rate_limit": { "tokens": true } }), 429, "/error/type", json!("tokens")),
            (json!({ "quota_exhausted": {} }), 429, "/error/code", json!("insufficient_quota")),
            (
                json!({ "quota_exhausted": { "code": "credit_balance_exhausted" } }),
                429,
                "/error/code",
                json!("credit_balance_exhausted"),
            ),
            (
                json!({ "forbidden": { "why": "region" } }),
                403,
                "/error/code",
                json!("unsupported_country_region_territory"),
            ),
            (json!("model_missing"), 404, "/error/code", json!("model_not_found")),
            (json!("context_length"), 400, "/error/code", json!("context_length_exceeded")),
            (json!({ "status": { "code": 500 } }), 500, "/error/type", json!("server_error")),
            (json!({ "status": { "code": 503 } }), 503, "/error/code", json!("server_is_overloaded")),
        ],
    );
}

#[test]
fn anthropic_words_its_refusals_as_documented() {
    worded(
        "anthropic",
        vec![
            (json!("bad_key"), 401, "/error/type", json!("authentication_error")),
            (json!({ "rate_limit": {} }), 429, "/error/type", json!("rate_limit_error")),
            (
                json!({ "quota_exhausted": {} }),
                429,
                "/error/details/error_code",
                json!("enforced_spend_limit_reached"),
            ),
            (json!({ "payment": {} }), 400, "/error/type", json!("invalid_request_error")),
            (json!("billing"), 402, "/error/type", json!("billing_error")),
            (json!({ "status": { "code": 529 } }), 529, "/error/type", json!("overloaded_error")),
            (json!({ "status": { "code": 500 } }), 500, "/error/type", json!("api_error")),
            (json!("model_missing"), 404, "/error/type", json!("not_found_error")),
        ],
    );
}

#[test]
fn openrouter_words_its_refusals_as_documented() {
    worded(
        "openrouter",
        vec![
            (json!("bad_key"), 401, "/error/message", json!("User not found.")),
            (json!("bad_key"), 401, "/error/metadata", Value::Null),
            (json!({ "rate_limit": {} }), 429, "/error/metadata/error_type", json!("rate_limit_exceeded")),
            (
                json!({ "payment": { "in_flight": true } }),
                402,
                "/error/metadata/limit_source",
                json!("openrouter_in_flight_budget"),
            ),
            (json!({ "payment": {} }), 402, "/error/metadata/limit_source", json!("openrouter_credits")),
            (
                json!({ "forbidden": { "why": "key_limit" } }),
                403,
                "/error/metadata/limit_source",
                json!("openrouter_key_limit"),
            ),
            (
                json!({ "forbidden": { "why": "moderation" } }),
                403,
                "/error/metadata/reasons/0",
                json!("violence"),
            ),
            (
                json!({ "forbidden": { "why": "guardrail" } }),
                403,
                "/error/metadata/limit_source",
                json!("openrouter_guardrail_budget"),
            ),
            (json!("model_missing"), 400, "/error/availability/code", json!("model_not_found")),
            (
                json!({ "status": { "code": 502 } }),
                502,
                "/error/metadata/error_type",
                json!("provider_unavailable"),
            ),
            (json!({ "status": { "code": 500 } }), 500, "/error/metadata/provider_code", Value::Null),
        ],
    );
}

#[test]
fn every_limit_source_of_openrouter_has_its_status_and_name() {
    for (source, status, name) in [
        ("in_flight_budget", 402, "openrouter_in_flight_budget"),
        ("credits", 402, "openrouter_credits"),
        ("weight_exceeds_budget", 402, "openrouter_credits"),
        ("key_limit", 403, "openrouter_key_limit"),
        ("guardrail_budget", 403, "openrouter_guardrail_budget"),
        ("workspace_budget", 403, "openrouter_workspace_budget"),
        ("free_tier_daily", 429, "openrouter_free_tier_daily"),
        ("free_tier_minute", 429, "openrouter_free_tier_minute"),
        ("shared_capacity", 429, "openrouter_shared_capacity"),
        ("upstream_shared_pool", 429, "upstream_provider_shared_pool"),
    ] {
        let fault =
            json!({ "rate_limit": { "limit_source": source, "time": "reset_header", "wait_ms": 5000 } });
        let (reply, text) = hit("openrouter", None, &fault);
        assert_eq!(reply.status, status, "{source}");
        assert_eq!(text["error"]["metadata"]["limit_source"], name, "{source}");
    }
}

#[test]
fn an_aggregator_takes_the_dearest_that_it_may() {
    let model =
        json!({ "id": "m", "input_nano_usd": 1000, "output_nano_usd": 10000, "dearest_percent": 300 });
    let mut world = one("openrouter", &json!({ "model": [model] }));
    let mut billed = |max_price: Value, path: &str| {
        let mut request = chat("hello");
        request["max_tokens"] = json!(1);
        request["provider"] = json!({ "max_price": max_price });
        let mut reply = post(&mut world, at(0), path, &request);
        world.done(reply.id, at(9_000), How::Completed);
        let text = body(&mut reply);
        (reply.status, world.records().last().unwrap().billed_nano_usd, text)
    };
    let chat = "/api/v1/chat/completions";
    for (max_price, cost) in [
        (json!(null), 33_000),
        (json!({ "prompt": 3, "completion": "30" }), 33_000),
        (json!({ "completion": "29.9" }), 11_000),
        (json!({ "prompt": 1, "completion": 10 }), 11_000),
    ] {
        let (status, billed, text) = billed(max_price, chat);
        assert_eq!((status, billed), (200, cost), "{text}");
        assert_eq!(text["usage"]["cost"].as_f64(), Some(cost as f64 / 1e9));
    }
    let (status, _, text) = billed(json!({ "prompt": 0.99 }), chat);
    assert_eq!((status, &text["error"]["availability"]["constraint"]["field"]), (404, &json!("max_price")));
    assert_eq!(billed(json!({ "prompt": 0.99 }), "/api/v1/messages").0, 404);
}

#[test]
fn a_relayed_error_is_the_upstreams_and_says_so() {
    let (reply, text) = hit("openrouter", None, &json!({ "relayed": {} }));
    assert_eq!(reply.status, 401);
    assert_eq!(text["error"]["message"], "Provider returned error");
    assert!(
        text["error"]["metadata"]["provider_name"].is_string()
            && text["error"]["metadata"]["raw"].is_string()
    );
}

#[test]
fn a_rate_limit_says_when_in_the_form_asked_for_and_in_no_other() {
    // What each form must bring, and that nothing else gives the time away.
    let forms = ["retry_after", "retry_after_ms", "reset_header", "body_text", "none"];
    for (dialect, family, reset_header) in [
        ("openai", None, "x-ratelimit-reset-requests"),
        ("openai", Some("azure"), "x-ratelimit-reset-requests"),
        ("anthropic", None, "anthropic-ratelimit-requests-reset"),
        ("openrouter", None, "x-ratelimit-reset"),
    ] {
        for form in forms {
            let (reply, text) =
                hit(dialect, family, &json!({ "rate_limit": { "time": form, "wait_ms": 2500 } }));
            let told = [
                header(&reply, "retry-after").is_some(),
                header(&reply, "retry-after-ms").is_some(),
                header(&reply, reset_header).is_some(),
                text.to_string().contains("2.5s") || text.to_string().contains("3 seconds"),
                false,
            ];
            let wanted: Vec<bool> = forms.iter().map(|f| *f == form && *f != "none").collect();
            assert_eq!(told.to_vec(), wanted, "{dialect} {family:?} {form}: {:?} {text}", reply.headers);
        }
    }
    let (reply, _) = hit("openai", None, &json!({ "rate_limit": { "wait_ms": 2500 } }));
    assert_eq!(header(&reply, "retry-after"), Some("3"), "rounded up");
    let (reply, _) =
        hit("openai", None, &json!({ "rate_limit": { "wait_ms": 2500, "time": "reset_header" } }));
    assert_eq!(header(&reply, "x-ratelimit-reset-requests"), Some("2.5s"));
}

#[test]
fn openrouters_reset_is_in_epoch_milliseconds_in_header_and_body() {
    let (reply, text) =
        hit("openrouter", None, &json!({ "rate_limit": { "time": "reset_header", "wait_ms": 2500 } }));
    // The refusal itself takes 2 ms.
    let reset = (at(0).unix_ns / 1_000_000 + 2 + 2500).to_string();
    assert_eq!(header(&reply, "x-ratelimit-reset"), Some(reset.as_str()));
    assert_eq!(text["error"]["metadata"]["headers"]["X-RateLimit-Reset"], reset);
}

#[test]
fn mistral_without_a_plan_has_a_limit_of_zero() {
    let (reply, _) = hit("openai", Some("mistral"), &json!({ "quota_exhausted": {} }));
    assert_eq!(header(&reply, "x-ratelimit-limit-req-minute"), Some("0"));
}

#[test]
fn strangers_learn_nothing_and_are_in_the_books_without_a_key() {
    let mut world = one("openai", &json!({}));
    let mut reply = post_as(&mut world, at(0), "wrong", "/v1/chat/completions", &json!({ "nonsense": 1 }));
    assert_eq!(reply.status, 401, "the credential comes before the body");
    assert_eq!(body(&mut reply)["error"]["code"], "invalid_api_key");
    let record = world.records().last().unwrap();
    assert_eq!((&*record.key, record.refused_by.as_deref()), ("", Some("bad_key")));
    assert_eq!(world.summary().keys["p/"].calls, 1);
}

#[test]
fn paths_methods_and_bodies_that_are_wrong() {
    let mut world = one("openai", &json!({ "model": [{ "id": "m", "context": 100 }] }));
    assert_eq!(post(&mut world, at(0), "/v1/unknown", &json!({})).status, 404);
    assert_eq!(get(&mut world, at(0), "/v1/chat/completions").status, 405);
    assert_eq!(post(&mut world, at(0), "/v1/chat/completions", &json!({ "model": "m" })).status, 400);
    assert_eq!(post(&mut world, at(0), "/v1/chat/completions", &chat("sim: {\"typo\":1}")).status, 400);
    let mut other = chat("hi");
    other["model"] = json!("other");
    assert_eq!(post(&mut world, at(0), "/v1/chat/completions", &other).status, 404);
    let mut reply = post(&mut world, at(0), "/v1/chat/completions", &chat(&"x".repeat(500)));
    assert_eq!(body(&mut reply)["error"]["code"], "context_length_exceeded");
    assert_eq!(world.records().count(), 6, "each is in the books");
}

#[test]
fn what_stands_in_the_place_of_an_answer() {
    for (fault, status, framing, text) in [
        (json!({ "html": {} }), 200, None, "<!DOCTYPE html>"),
        (json!({ "html": { "status": 403 } }), 403, None, "<!DOCTYPE html>"),
        (json!({ "redirect": { "location": "http://x/" } }), 307, None, "Redirecting"),
        (json!("half_head"), 0, Some(Framing::Raw), "HTTP/1.1 200 OK\r\ncontent-type: applicat"),
        (json!("hang"), 0, Some(Framing::Raw), ""),
        (json!({ "reset": {} }), 0, Some(Framing::Raw), ""),
    ] {
        let mut world = one("openai", &json!({}));
        let request = chat(&format!("sim: {}", json!({ "fault": fault })));
        let mut reply = post(&mut world, at(0), "/v1/chat/completions", &request);
        assert_eq!(reply.status, status, "{fault}");
        assert_eq!(world.records().last().unwrap().status, status);
        assert!(framing.is_none_or(|framing| reply.plan.framing == framing));
        let bytes = reply.plan.drain();
        assert!(String::from_utf8_lossy(&bytes).starts_with(text), "{fault}");
        assert!(!String::from_utf8_lossy(&bytes).contains("chat.completion"));
    }
}

#[test]
fn an_error_inside_a_200() {
    for (dialect, fault, pointer) in [
        ("openai", json!({ "error_in_200": {} }), "/error/message"),
        ("anthropic", json!({ "error_in_200": {} }), "/error/type"),
        ("openrouter", json!({ "error_in_200": {} }), "/error/code"),
        ("openrouter", json!({ "error_in_200": { "partial": true } }), "/choices/0/error/code"),
    ] {
        let mut world = one(dialect, &json!({ "model": [{ "id": "m", "input_nano_usd": 5 }] }));
        let mut request = chat(&format!("sim: {}", json!({ "fault": fault })));
        request["max_tokens"] = json!(10);
        let path = if dialect == "anthropic" { "/v1/messages" } else { "/v1/chat/completions" };
        let mut reply = post(&mut world, at(0), path, &request);
        assert_eq!(reply.status, 200);
        let text = body(&mut reply);
        assert!(text.pointer(pointer).is_some(), "{dialect} {fault}: {text}");
        world.done(reply.id, at(100), keymux_provider::How::Completed);
        let billed = world.records().last().unwrap().billed_nano_usd;
        assert_eq!(billed > 0, pointer.starts_with("/choices"), "without output nothing is billed");
    }
}

#[test]
fn a_wrong_length_is_wrong_by_what_was_asked() {
    for by in [5_i64, -5] {
        let mut world = one("openai", &json!({}));
        let request = chat(&format!("sim: {}", json!({ "fault": { "wrong_length": { "by": by } } })));
        let mut reply = post(&mut world, at(0), "/v1/chat/completions", &request);
        assert_eq!(reply.plan.framing, Framing::Raw);
        let text = String::from_utf8(reply.plan.drain()).unwrap();
        let (head, content) = text.split_once("\r\n\r\n").unwrap();
        let announced: i64 =
            head.split("content-length: ").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
        assert_eq!(announced - i64::try_from(content.len()).unwrap(), by);
    }
}
