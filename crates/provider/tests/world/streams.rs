//! Streams in every dialect: their grammar, that they say the same as the answer in one piece, their usage,
//! their pace, and the ways in which they break.

use crate::kit::{Event, MS, at, body, chat, events, one, post};
use keymux_provider::{End, Framing};
use serde_json::{Value, json};

const SAID: &str = "sim: {\"text\":\"It rains — “naïve” \\\"boats\\\" 🦀.\\nThen not.\"}";
const TEXT: &str = "It rains — “naïve” \"boats\" 🦀.\nThen not.";

fn streaming(mut request: Value) -> Value {
    request["stream"] = json!(true);
    request
}

fn deltas(events: &[Event], pointer: &str) -> String {
    events
        .iter()
        .filter(|e| !e.data.is_empty() && e.data != "[DONE]")
        .filter_map(|e| e.json().pointer(pointer).and_then(Value::as_str).map(str::to_owned))
        .collect()
}

#[test]
fn a_chat_stream_begins_with_the_role_says_the_text_and_ends_with_done() {
    let mut world = one("openai", &json!({}));
    let mut whole = post(&mut world, at(0), "/v1/chat/completions", &chat(SAID));
    let whole = body(&mut whole);
    assert_eq!(whole["choices"][0]["message"]["content"], TEXT);
    assert_eq!(whole["object"], "chat.completion");

    let mut reply = post(&mut world, at(0), "/v1/chat/completions", &streaming(chat(SAID)));
    assert_eq!(reply.plan.framing, Framing::Chunked);
    let events = events(&mut reply.plan);
    let first = events[0].json();
    assert_eq!(first["choices"][0]["delta"], json!({"role":"assistant","content":"","refusal":null}));
    assert_eq!(first["object"], "chat.completion.chunk");
    assert_eq!(deltas(&events, "/choices/0/delta/content"), TEXT);
    let last = &events[events.len() - 2].json();
    assert_eq!(last["choices"][0]["finish_reason"], "stop");
    assert_eq!(events.last().unwrap().data, "[DONE]");
    assert!(events.iter().all(|e| e.data == "[DONE]" || e.json().get("usage").is_none()), "nobody asked");
}

#[test]
fn openai_sends_usage_only_when_asked_and_in_a_chunk_without_choices() {
    let mut world = one("openai", &json!({}));
    let mut request = streaming(chat(SAID));
    request["stream_options"] = json!({ "include_usage": true });
    let mut reply = post(&mut world, at(0), "/v1/chat/completions", &request);
    let events = events(&mut reply.plan);
    let usage = events[events.len() - 2].json();
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["completion_tokens"], reply.course.output_tokens);
    assert!(
        events[..events.len() - 2]
            .iter()
            .all(|e| e.json()["usage"].is_null() && e.data.contains("\"usage\":null"))
    );
}

#[test]
fn openrouter_comments_first_and_always_ends_with_usage_and_cost() {
    let more = json!({
        "model": [{ "id": "m", "input_nano_usd": 100, "output_nano_usd": 1000 }],
        "latency": { "ttft_ms": 50, "ttft_sigma": 0, "per_token_ms": 1, "comment_every_ms": 20 },
    });
    let mut world = one("openrouter", &more);
    let mut reply = post(&mut world, at(0), "/api/v1/chat/completions", &streaming(chat(SAID)));
    let id = reply.id;
    let events = events(&mut reply.plan);
    let comments: Vec<u64> = events.iter().filter(|e| e.name == ":").map(|e| e.at_ns / MS).collect();
    assert_eq!(comments, [5, 25, 45], "before the first token, at their distance");
    assert!(events[3].at_ns >= 50 * MS);
    assert_eq!(deltas(&events, "/choices/0/delta/content"), TEXT);
    let usage = events[events.len() - 2].json();
    world.done(id, at(1000), keymux_provider::How::Completed);
    let billed = world.records().last().unwrap().billed_nano_usd;
    assert!(billed > 0);
    let told = (usage["usage"]["cost"].as_f64().unwrap() * 1e9).round().to_string();
    assert_eq!(told, billed.to_string(), "the books and the answer agree");
    assert_eq!(usage["usage"]["is_byok"], false);
    let part = |name: &str| usage["usage"]["cost_details"][name].as_f64().unwrap();
    let (prompt, output) =
        (part("upstream_inference_prompt_cost"), part("upstream_inference_completions_cost"));
    assert!(prompt > 0.0 && output > prompt, "output is dearer here: {prompt} {output}");
    assert_eq!(((prompt + output) * 1e9).round().to_string(), told, "the parts are the whole");
    let chunks = || events.iter().filter(|e| e.name != ":" && e.data.starts_with('{'));
    assert!(chunks().count() > 2);
    for chunk in chunks() {
        let fingerprint = &chunk.json()["system_fingerprint"];
        assert!(
            chunk.json().get("system_fingerprint").is_none() || fingerprint.is_string(),
            "its SDK takes no null"
        );
    }
    let whole = body(&mut post(&mut world, at(2000), "/api/v1/chat/completions", &chat(SAID)));
    assert!(whole.as_object().unwrap().contains_key("system_fingerprint"), "required, and null");
}

#[test]
fn messages_follow_their_grammar_with_cumulative_usage_and_no_done() {
    let mut world = one("anthropic", &json!({}));
    let mut request =
        json!({ "model": "m", "max_tokens": 100, "messages": [{ "role": "user", "content": SAID }] });
    let whole = body(&mut post(&mut world, at(0), "/v1/messages", &request));
    assert_eq!(whole["content"][0]["text"], TEXT);
    assert_eq!(whole["stop_reason"], "end_turn");
    request["stream"] = json!(true);
    let mut reply = post(&mut world, at(0), "/v1/messages?beta=true", &request);
    let events = events(&mut reply.plan);
    for event in &events {
        assert_eq!(event.json()["type"], event.name.as_str(), "name and type agree");
    }
    let names: Vec<&str> = events.iter().map(|e| e.name.as_str()).collect();
    assert_eq!(names[..3], ["message_start", "content_block_start", "ping"]);
    assert_eq!(names[names.len() - 3..], ["content_block_stop", "message_delta", "message_stop"]);
    assert!(names[3..names.len() - 3].iter().all(|n| *n == "content_block_delta"));
    assert_eq!(deltas(&events, "/delta/text"), TEXT);
    let delta = events[events.len() - 2].json();
    assert_eq!(delta["usage"]["output_tokens"], reply.course.output_tokens);
    assert_eq!(events[0].json()["message"]["usage"]["output_tokens"], 1);
}

#[test]
fn thinking_comes_in_a_block_of_its_own_before_the_text() {
    let mut world = one("anthropic", &json!({}));
    let prompt = "sim: {\"reasoning_tokens\":3,\"text\":\"Done.\"}";
    let request = json!({ "model": "m", "max_tokens": 100, "stream": true, "messages": [{ "role": "user", "content": prompt }] });
    let mut reply = post(&mut world, at(0), "/v1/messages", &request);
    let events = events(&mut reply.plan);
    let starts: Vec<Value> = events
        .iter()
        .filter(|e| e.name == "content_block_start")
        .map(|e| e.json()["content_block"]["type"].clone())
        .collect();
    assert_eq!(starts, ["thinking", "text"]);
    let stops: Vec<Value> =
        events.iter().filter(|e| e.name == "content_block_stop").map(|e| e.json()["index"].clone()).collect();
    assert_eq!(stops, [0, 1]);
    assert!(events.iter().any(|e| e.data.contains("signature_delta")));
    assert_eq!(deltas(&events, "/delta/text"), "Done.");
    assert_eq!(reply.course.reasoning_tokens, 3);
}

#[test]
fn responses_number_their_events_and_say_the_text_three_times() {
    let mut world = one("openai", &json!({}));
    let request = json!({ "model": "m", "stream": true, "input": SAID });
    let mut reply = post(&mut world, at(0), "/v1/responses", &request);
    let events = events(&mut reply.plan);
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event.json()["type"], event.name.as_str());
        assert_eq!(event.json()["sequence_number"], index);
    }
    assert_eq!(events[0].name, "response.created");
    assert_eq!(events[1].name, "response.in_progress");
    let text: String = events
        .iter()
        .filter(|e| e.name == "response.output_text.delta")
        .map(|e| e.json()["delta"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(text, TEXT);
    let done = events.iter().find(|e| e.name == "response.output_text.done").unwrap().json();
    assert_eq!(done["text"], TEXT);
    let last = events.last().unwrap();
    assert_eq!(last.name, "response.completed");
    assert_eq!(last.json()["response"]["output"][0]["content"][0]["text"], TEXT);
    assert_eq!(last.json()["response"]["usage"]["output_tokens"], reply.course.output_tokens);
}

#[test]
fn a_cap_ends_answers_early_in_every_dialects_words() {
    let long = "sim: {\"output_tokens\":50}";
    let mut world = one("openai", &json!({}));
    let mut request = chat(long);
    request["max_tokens"] = json!(4);
    let answer = body(&mut post(&mut world, at(0), "/v1/chat/completions", &request));
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["completion_tokens"], 4);
    let request = json!({ "model": "m", "input": long, "max_output_tokens": 4 });
    let answer = body(&mut post(&mut world, at(0), "/v1/responses", &request));
    assert_eq!(
        (&answer["status"], &answer["incomplete_details"]["reason"]),
        (&json!("incomplete"), &json!("max_output_tokens"))
    );
    let mut world = one("anthropic", &json!({}));
    let request = json!({ "model": "m", "max_tokens": 4, "messages": [{ "role": "user", "content": long }] });
    let answer = body(&mut post(&mut world, at(0), "/v1/messages", &request));
    assert_eq!(answer["stop_reason"], "max_tokens");
}

#[test]
fn tools_are_called_whole_and_in_pieces_in_every_dialect() {
    let schema = json!({ "type": "object", "properties": { "city": { "type": "string" }, "days": { "type": "integer" } } });
    let wanted = json!({ "city": "Oslo", "days": 7 });
    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();

    let mut world = one("openai", &json!({}));
    let mut request = chat("What is the weather? use the tool");
    request["tools"] =
        json!([{ "type": "function", "function": { "name": "weather", "parameters": schema } }]);
    let answer = body(&mut post(&mut world, at(0), "/v1/chat/completions", &request));
    let call = &answer["choices"][0]["message"]["tool_calls"][0];
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(read(call["function"]["arguments"].as_str().unwrap()), wanted);
    let mut reply = post(&mut world, at(0), "/v1/chat/completions", &streaming(request));
    let found = events(&mut reply.plan);
    assert_eq!(read(&deltas(&found, "/choices/0/delta/tool_calls/0/function/arguments")), wanted);
    assert_eq!(deltas(&found, "/choices/0/delta/tool_calls/0/function/name"), "weather", "named once");

    let request = json!({ "model": "m", "stream": true, "input": "use the tool", "tools": [{ "type": "function", "name": "weather", "parameters": schema }] });
    let mut reply = post(&mut world, at(0), "/v1/responses", &request);
    let found = events(&mut reply.plan);
    assert_eq!(read(&deltas(&found, "/delta")), wanted);
    assert_eq!(found.last().unwrap().json()["response"]["output"][0]["type"], "function_call");

    let mut world = one("anthropic", &json!({}));
    let request = json!({
        "model": "m", "max_tokens": 100, "stream": true, "messages": [{ "role": "user", "content": "go" }],
        "tools": [{ "name": "weather", "input_schema": schema }], "tool_choice": { "type": "any" },
    });
    let mut reply = post(&mut world, at(0), "/v1/messages", &request);
    let found = events(&mut reply.plan);
    assert_eq!(read(&deltas(&found, "/delta/partial_json")), wanted);
    assert_eq!(deltas(&found, "/delta/stop_reason"), "tool_use");
}

#[test]
fn tokens_come_at_their_pace_and_the_end_with_the_last() {
    let mut world = one("openai", &json!({}));
    let prompt = "sim: {\"output_tokens\":4,\"ttft_ms\":30,\"per_token_ms\":10,\"delay_ms\":100}";
    let mut reply = post(&mut world, at(0), "/v1/chat/completions", &streaming(chat(prompt)));
    let times: Vec<u64> = events(&mut reply.plan).iter().map(|e| e.at_ns / MS).collect();
    assert_eq!(times, [117, 130, 140, 150, 160, 160, 160], "role, four tokens, finish, done");
    assert_eq!(reply.course.end_at_ns, Some(160 * MS));
}

fn broken(dialect: &str, path: &str, fault: &Value) -> (keymux_provider::Reply, String) {
    let mut world = one(dialect, &json!({}));
    let prompt = format!("sim: {}", json!({ "fault": fault, "output_tokens": 10 }));
    let mut request = streaming(chat(&prompt));
    request["max_tokens"] = json!(100);
    if path.ends_with("responses") {
        request = json!({ "model": "m", "stream": true, "input": prompt });
    }
    let mut reply = post(&mut world, at(0), path, &request);
    let text = String::from_utf8(reply.plan.drain()).unwrap();
    (reply, text)
}

#[test]
fn broken_streams_never_have_a_terminal_event() {
    let terminal =
        ["[DONE]", "message_stop", "response.completed", "\"finish_reason\":\"stop\"", "message_delta"];
    let places = [
        ("openai", "/v1/chat/completions"),
        ("openai", "/v1/responses"),
        ("openrouter", "/api/v1/chat/completions"),
        ("anthropic", "/v1/messages"),
    ];
    for (dialect, path) in places {
        for (fault, end) in [
            (json!({ "truncate": { "after_events": 2 } }), End::Cut),
            (json!({ "truncate": { "after_events": 2, "clean": true } }), End::Complete),
            (json!({ "stall": { "after_events": 2 } }), End::Hang),
            (json!({ "reset": { "after_events": 2 } }), End::Reset),
            (json!({ "error_event": { "after_events": 2 } }), End::Complete),
        ] {
            let (reply, text) = broken(dialect, path, &fault);
            assert!(!terminal.iter().any(|word| text.contains(word)), "{dialect} {fault}: {text}");
            assert_eq!(reply.plan.end, end, "{dialect} {fault}");
            assert_eq!(reply.course.output_tokens, 2, "{dialect} {fault}");
            assert_eq!(reply.status, 200);
        }
    }
}

#[test]
fn an_error_event_is_the_dialects_own() {
    let late = json!({ "error_event": { "after_events": 2 } });
    let early = json!({ "error_event": { "after_events": 0 } });
    let last = |text: &str| text.trim_end().rsplit("\n\n").next().unwrap().to_owned();

    let (_, text) = broken("openai", "/v1/chat/completions", &late);
    assert!(last(&text).starts_with("data: {\"error\":{\"message\":"), "{text}");
    let (_, text) = broken("openrouter", "/api/v1/chat/completions", &late);
    let event: Value = serde_json::from_str(last(&text).strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(event["choices"][0]["finish_reason"], "error");
    assert!(event["error"]["code"].is_number() && event["id"].is_string());
    let (_, text) = broken("anthropic", "/v1/messages", &late);
    assert!(last(&text).starts_with("event: error\ndata: {\"type\":\"error\""), "{text}");
    let (_, text) = broken("openai", "/v1/responses", &late);
    assert!(
        last(&text).starts_with("event: error\ndata: {\"type\":\"error\",\"sequence_number\":"),
        "{text}"
    );
    // Before any output: the second event at OpenAI's Responses (quota errors come so).
    let (_, text) = broken("openai", "/v1/responses", &early);
    assert!(last(&text).starts_with("event: response.failed"), "{text}");
    assert!(!text.contains("output_text.delta"));
}

#[test]
fn dripping_keeps_every_byte() {
    let mut world = one("openai", &json!({}));
    let said = json!({ "text": TEXT, "fault": { "drip": { "bytes": 3, "every_ms": 2 } } });
    let mut reply =
        post(&mut world, at(0), "/v1/chat/completions", &streaming(chat(&format!("sim: {said}"))));
    let mut bytes = Vec::new();
    let mut last_at = 0;
    while let Some(step) = reply.plan.next_step() {
        assert!(step.bytes.len() <= 3);
        assert!(step.at_ns >= last_at + if last_at == 0 { 0 } else { 2 * MS }, "at its distance");
        last_at = step.at_ns;
        bytes.extend(step.bytes);
    }
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.ends_with("data: [DONE]\n\n") && text.contains("🦀"));
}

#[test]
fn a_queue_shows_life_before_the_answer_and_the_answer_is_whole() {
    let mut world = one("openai", &json!({}));
    let steer = json!({ "text": TEXT, "delay_ms": 60, "fault": { "queued": { "every_ms": 20 } } });
    let request = chat(&format!("sim: {steer}"));
    let mut reply = post(&mut world, at(0), "/v1/chat/completions", &request);
    assert_eq!(reply.plan.head_at_ns, Some(5 * MS));
    let text = String::from_utf8(reply.plan.drain()).unwrap();
    assert!(text.starts_with("\n\n\n"), "{text:?}");
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], TEXT);
    let mut reply = post(&mut world, at(0), "/v1/chat/completions", &streaming(request));
    let events = events(&mut reply.plan);
    assert_eq!(events.iter().filter(|e| e.name == ":").count(), 4, "at 5, 25, 45 and 65 of 80 ms");
    assert_eq!(deltas(&events, "/choices/0/delta/content"), TEXT);
}
