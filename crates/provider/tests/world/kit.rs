//! What the tests of this folder share: small worlds, requests, and a reader of event streams that is not the
//! gateway's.

use keymux_provider::{HttpRequest, Now, Plan, Reply, World, WorldSpec};
use serde_json::Value;

pub(crate) const MS: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1_000_000_000;

pub(crate) fn at(ms: u64) -> Now {
    Now { mono_ns: ms * MS, unix_ns: 1_800_000_000 * SECOND + ms * MS }
}

/// A world from JSON; latencies are exact unless the spec says otherwise.
pub(crate) fn world(spec: &Value) -> World {
    let spec: WorldSpec = serde_json::from_value(spec.clone()).expect("the spec is readable");
    World::new(spec, 7).expect("the spec makes sense")
}

/// One provider with one account `acc` and one key `key` (secret `s`), with more fields.
pub(crate) fn one(dialect: &str, more: &Value) -> World {
    let mut provider = serde_json::json!({
        "name": "p",
        "dialect": dialect,
        "latency": { "ttft_ms": 20, "ttft_sigma": 0, "per_token_ms": 1, "output": { "mean": 5, "sigma": 0, "max": 100 } },
        "account": [{ "name": "acc", "key": [{ "name": "key", "secret": "s" }] }],
    });
    for (name, value) in more.as_object().expect("an object") {
        provider[name] = value.clone();
    }
    world(&serde_json::json!({ "provider": [provider] }))
}

pub(crate) fn post(world: &mut World, now: Now, path: &str, body: &Value) -> Reply {
    post_as(world, now, "s", path, body)
}

pub(crate) fn post_as(world: &mut World, now: Now, secret: &str, path: &str, body: &Value) -> Reply {
    let headers = [
        ("authorization".to_owned(), format!("Bearer {secret}")),
        ("content-type".to_owned(), "application/json".to_owned()),
    ];
    let body = body.to_string();
    let request = HttpRequest { method: "POST", path, headers: &headers, body: body.as_bytes() };
    world.http(now, "p", &request).expect("the provider is there")
}

pub(crate) fn get(world: &mut World, now: Now, path: &str) -> Reply {
    let headers = [("authorization".to_owned(), "Bearer s".to_owned())];
    world
        .http(now, "p", &HttpRequest { method: "GET", path, headers: &headers, body: b"" })
        .expect("it is there")
}

/// A chat request with one user message.
pub(crate) fn chat(prompt: &str) -> Value {
    serde_json::json!({ "model": "m", "messages": [{ "role": "user", "content": prompt }] })
}

pub(crate) fn header<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    reply.headers.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str())
}

pub(crate) fn body(reply: &mut Reply) -> Value {
    let bytes = reply.plan.drain();
    serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&bytes)))
}

/// One event of a stream: its name (empty if it has none) and its data.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) at_ns: u64,
    pub(crate) name: String,
    pub(crate) data: String,
}

impl Event {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|e| panic!("{e}: {}", self.data))
    }
}

/// Splits a plan into events by the rules of the HTML standard; comments are events named `:`.
pub(crate) fn events(plan: &mut Plan) -> Vec<Event> {
    let mut found = Vec::new();
    while let Some(step) = plan.next_step() {
        let text = String::from_utf8(step.bytes).expect("a stream is UTF-8");
        assert!(text.ends_with("\n\n"), "a step ends with an event: {text:?}");
        for block in text.split("\n\n").filter(|block| !block.is_empty()) {
            let mut event = Event { at_ns: step.at_ns, name: String::new(), data: String::new() };
            for line in block.lines() {
                if let Some(name) = line.strip_prefix("event: ") {
                    name.clone_into(&mut event.name);
                } else if let Some(data) = line.strip_prefix("data: ") {
                    assert!(event.data.is_empty(), "one data line each: {block}");
                    data.clone_into(&mut event.data);
                } else if line.starts_with(':') {
                    event.name = ":".to_owned();
                } else {
                    panic!("no line of an event: {line:?}");
                }
            }
            found.push(event);
        }
    }
    found
}
