//! The books: one record for each call, totals that agree with them, faults at run time, stored state.

use keymux_provider::{Call, FaultScope, FaultSpec, How, HttpRequest};
use serde_json::json;

use crate::kit::{at, body, chat, get, header, one, post, world};

fn spec(value: &serde_json::Value) -> FaultSpec {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn totals_agree_with_the_records_even_when_old_ones_are_dropped() {
    let mut world = one(
        "openai",
        &json!({
            "model": [{ "id": "m", "input_nano_usd": 3, "output_nano_usd": 7 }],
            "faults": [{ "from_call": 5, "to_call": 6, "kind": "bad_key" }, { "from_call": 9, "to_call": 9, "kind": { "rate_limit": {} } }],
        }),
    );
    for step in 0..20 {
        let reply = post(&mut world, at(step), "/v1/chat/completions", &chat("hello"));
        world.done(reply.id, at(step), if step % 4 == 0 { How::Cancelled } else { How::Completed });
    }
    let billed: u64 = world.records().map(|r| r.billed_nano_usd).sum();
    let totals = world.key_totals("p", "key").unwrap();
    assert_eq!((totals.calls, totals.ok, totals.failed, totals.rate_limited, totals.open), (20, 17, 2, 1, 0));
    assert_eq!(totals.billed_nano_usd, billed);
    assert_eq!(totals.cancelled, world.records().filter(|r| r.cancelled).count() as u64);
    assert_eq!(world.summary().refusals["bad_key"], 2);
    let ids: Vec<u64> = world.records().map(|r| r.id).collect();
    assert_eq!(ids, (1..=20).collect::<Vec<_>>());

    world.keep_records(3);
    let late = post(&mut world, at(21), "/v1/chat/completions", &chat("hello"));
    for step in 0..5 {
        let reply = post(&mut world, at(22 + step), "/v1/chat/completions", &chat("hello"));
        world.done(reply.id, at(22 + step), How::Completed);
    }
    world.done(late.id, at(40), How::Completed);
    assert_eq!(world.key_totals("p", "key").unwrap().open, 0, "a dropped record still ends in the totals");
}

#[test]
fn a_fault_put_in_while_running_begins_then_and_stands_before_the_others() {
    let mut world = one("openai", &json!({ "faults": [{ "kind": { "status": { "code": 500 } } }] }));
    let scope = FaultScope { provider: "p".to_owned(), account: None, key: Some("key".to_owned()) };
    let call = Call { secret: "s", model: "m", ..Call::default() };
    let status = |world: &mut keymux_provider::World, ms| world.call(at(ms), &call).status;
    assert_eq!(status(&mut world, 5000), 500);
    world.inject(at(5000), &scope, spec(&json!({ "from_ms": 10, "to_ms": 20, "kind": "bad_key" }))).unwrap();
    assert_eq!(status(&mut world, 5009), 500);
    assert_eq!(status(&mut world, 5010), 401, "the key's own fault goes before the provider's");
    assert_eq!(status(&mut world, 5020), 500);
    world.clear_faults(&FaultScope { provider: "p".to_owned(), ..FaultScope::default() }).unwrap();
    assert_eq!(status(&mut world, 5021), 200);
    let nowhere = FaultScope { key: Some("other".to_owned()), ..scope };
    let error = world.inject(at(0), &nowhere, spec(&json!({ "kind": "hang" }))).unwrap_err();
    assert!(error.to_string().contains("no key named 'other'"));
}

#[test]
fn one_numbered_fault_hits_exactly_the_next_call_of_the_provider() {
    let mut world = one("openai", &json!({}));
    let scope = FaultScope { provider: "p".to_owned(), ..FaultScope::default() };
    world.inject(at(0), &scope, spec(&json!({ "to_call": 1, "kind": "bad_key" }))).unwrap();
    assert_eq!(get(&mut world, at(1), "/v1/models").status, 200, "free calls are not counted");
    let statuses: Vec<u16> =
        (2..5).map(|ms| post(&mut world, at(ms), "/v1/chat/completions", &chat("hi")).status).collect();
    assert_eq!(statuses, [401, 200, 200]);
}

#[test]
fn stored_responses_belong_to_their_account() {
    let mut world = world(&json!({ "provider": [{ "name": "p", "account": [
        { "name": "a", "key": [{ "name": "a1", "secret": "s" }, { "name": "a2", "secret": "s2" }] },
        { "name": "b", "key": [{ "name": "b1", "secret": "t" }] },
    ] }] }));
    let ask =
        |previous: Option<&str>| json!({ "model": "m", "input": "hi", "previous_response_id": previous });
    let mut first = post(&mut world, at(0), "/v1/responses", &ask(None));
    let id = body(&mut first)["id"].as_str().unwrap().to_owned();
    let status = |world: &mut keymux_provider::World, secret: &str, request| {
        crate::kit::post_as(world, at(1), secret, "/v1/responses", &request).status
    };
    assert_eq!(status(&mut world, "s2", ask(Some(&id))), 200, "another key of the account");
    assert_eq!(status(&mut world, "t", ask(Some(&id))), 400, "a stranger's");
    assert_eq!(status(&mut world, "s", ask(Some("resp_none"))), 400);
    let path = format!("/v1/responses/{id}");
    let mut kept = get(&mut world, at(2), &path);
    assert_eq!(body(&mut kept)["id"], id.as_str());
    let headers = [("authorization".to_owned(), "Bearer s".to_owned())];
    let delete = HttpRequest { method: "DELETE", path: &path, headers: &headers, body: b"" };
    assert_eq!(world.http(at(3), "p", &delete).unwrap().status, 200);
    assert_eq!(get(&mut world, at(4), &path).status, 404);
    assert_eq!(world.http(at(5), "p", &delete).unwrap().status, 404);
}

#[test]
fn a_generation_can_be_looked_up_by_its_header_and_costs_what_the_books_say() {
    let mut world = one("openrouter", &json!({ "model": [{ "id": "m", "output_nano_usd": 1_000_000 }] }));
    let mut reply = post(&mut world, at(0), "/api/v1/chat/completions", &chat("hi"));
    let id = header(&reply, "x-generation-id").unwrap().to_owned();
    assert_eq!(body(&mut reply)["id"], id.as_str());
    world.done(reply.id, at(50), How::Completed);
    let found = body(&mut get(&mut world, at(60), &format!("/api/v1/generation?id={id}")));
    assert_eq!(found["data"]["total_cost"].as_f64(), Some(0.005));
    assert_eq!(get(&mut world, at(60), "/api/v1/generation?id=gen-none").status, 404);
    assert_eq!(get(&mut world, at(60), "/api/v1/credits").status, 403, "only for management keys");
}

#[test]
fn models_are_listed_in_each_dialects_form() {
    let models = json!({ "model": [{ "id": "v/one", "input_nano_usd": 150, "output_nano_usd": 600, "context": 9000 }, { "id": "v/two" }] });
    for (dialect, pointer, value) in [
        ("openai", "/data/1/object", json!("model")),
        ("anthropic", "/last_id", json!("v/two")),
        ("openrouter", "/data/0/pricing/prompt", json!("0.00000015")),
    ] {
        let mut world = one(dialect, &models);
        let list = body(&mut get(&mut world, at(0), "/v1/models"));
        assert_eq!(list.pointer(pointer), Some(&value), "{dialect}: {list}");
        assert_eq!(list["data"][0]["id"], "v/one");
        assert_eq!(
            body(&mut get(&mut world, at(0), "/v1/models/v/two"))["id"],
            "v/two",
            "ids may have slashes"
        );
        assert_ne!(get(&mut world, at(0), "/v1/models/none").status, 200);
    }
}

#[test]
fn embeddings_come_as_numbers_or_as_base64_of_the_same_numbers() {
    let run = |format: &str| {
        let mut world = one("openai", &json!({}));
        let request =
            json!({ "model": "m", "input": ["a", "b"], "encoding_format": format, "dimensions": 3 });
        body(&mut post(&mut world, at(0), "/v1/embeddings", &request))
    };
    let (float, base64) = (run("float"), run("base64"));
    assert_eq!(float["data"].as_array().unwrap().len(), 2);
    assert_eq!(float["data"][1]["index"], 1);
    let numbers: Vec<f64> =
        float["data"][0]["embedding"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
    let norm: f64 = numbers.iter().map(|x| x * x).sum();
    assert_eq!(numbers.len(), 3);
    assert!((norm - 1.0).abs() < 1e-3);
    assert_eq!(base64["data"][0]["embedding"].as_str().unwrap().len(), 16, "12 bytes");
    assert_eq!(float["usage"]["total_tokens"], float["usage"]["prompt_tokens"]);
}

#[test]
fn the_other_endpoints_answer_something_of_their_kind() {
    let mut world = one("openai", &json!({}));
    let moderation = body(&mut post(&mut world, at(0), "/v1/moderations", &json!({ "input": ["a", "b"] })));
    assert_eq!(moderation["results"].as_array().unwrap().len(), 2);
    let image =
        body(&mut post(&mut world, at(0), "/v1/images/generations", &json!({ "prompt": "a", "n": 2 })));
    assert_eq!(image["data"].as_array().unwrap().len(), 2);
    let mut speech = post(&mut world, at(0), "/v1/audio/speech", &json!({ "model": "m", "input": "a" }));
    assert_eq!(header(&speech, "content-type"), Some("audio/mpeg"));
    assert!(String::from_utf8(speech.plan.drain()).is_err(), "not text");
    let mut world = one("anthropic", &json!({ "limits": [{ "limit": 0, "shape": "window" }] }));
    let request = json!({ "model": "m", "messages": [{ "role": "user", "content": "12345678" }] });
    let counted = body(&mut post(&mut world, at(0), "/v1/messages/count_tokens", &request));
    assert_eq!(counted["input_tokens"], 2, "and no limit is charged for it");
}

#[test]
fn a_spec_that_makes_no_sense_is_refused_with_names() {
    let error = |spec: serde_json::Value| {
        keymux_provider::World::new(serde_json::from_value(spec).unwrap(), 1).unwrap_err().to_string()
    };
    let twice =
        json!([{ "name": "a", "key": [{ "name": "k", "secret": "s" }, { "name": "l", "secret": "s" }] }]);
    assert!(error(json!({ "provider": [{ "name": "p", "account": twice }] })).contains("secret of key 'l'"));
    assert!(
        error(json!({ "provider": [{ "name": "p" }, { "name": "p" }] })).contains("two providers named 'p'")
    );
    assert!(error(json!({ "provider": [{ "name": "a/b" }] })).contains("'a/b'"));
}

#[test]
fn a_call_is_found_again_by_its_note_whatever_became_of_it() {
    let mut world = one("openai", &json!({ "model": [{ "id": "m", "output_nano_usd": 7 }] }));
    let ask = |steer: &str| {
        chat(&format!("sim: {{\"note\": \"n-1\", \"output_tokens\": 4, \"reasoning_tokens\": 3{steer}}}"))
    };
    let whole = post(&mut world, at(0), "/v1/chat/completions", &ask(""));
    world.done(whole.id, at(90), How::Completed);
    let mut stream = ask("");
    stream["stream"] = json!(true);
    let stopped = post(&mut world, at(100), "/v1/chat/completions", &stream);
    world.done(stopped.id, at(121), How::Cancelled);
    post(&mut world, at(200), "/v1/chat/completions", &ask(", \"status\": 429"));
    let seen: Vec<_> =
        world.records().map(|r| (&*r.note, r.status, r.reasoning_tokens, r.output_tokens)).collect();
    assert_eq!(seen, [("n-1", 200, 3, 7), ("n-1", 200, 2, 2), ("n-1", 429, 0, 0)]);
}
