use proptest::prelude::*;
use serde_json::Value;

use super::{Kind, Meaning, StreamKind, error_event, is_mere_output, read};
use crate::error::Sign;
use crate::sse::{Event, Scanner};

/// An event as it is read once output was seen.
fn read_after_output(kind: StreamKind, event: &Event<'_>) -> Meaning {
    if is_mere_output(kind, event) { Meaning::plain(Kind::Output) } else { read(kind, event) }
}

fn event<'a>(name: Option<&'a str>, data: &'a str) -> Event<'a> {
    Event {
        event: name,
        data: data.as_bytes(),
        comment_only: false,
        oversized: false,
        complete: true,
        start: 0,
        raw_len: 0,
    }
}

fn kind(stream: StreamKind, data: &str) -> Kind {
    let name = serde_json::from_str::<Value>(data).ok().and_then(|v| v["type"].as_str().map(str::to_owned));
    read(stream, &event(name.as_deref().filter(|_| stream != StreamKind::Chat), data)).kind
}

fn chat(data: &str) -> Meaning {
    read(StreamKind::Chat, &event(None, data))
}

fn sign(kind: Kind) -> Sign {
    let Kind::Error(facts) = kind else { panic!("no error: {kind:?}") };
    facts.sign
}

#[test]
fn chat_scaffolding_is_silence() {
    for data in [
        r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}"#,
        r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":null,"refusal":null,"tool_calls":[]}}]}"#,
        r#"{"choices":[],"prompt_filter_results":[{"prompt_index":0,"content_filter_results":{}}]}"#,
        r#"{"id":"x","choices":null}"#,
        "{}",
        "",
    ] {
        assert_eq!(chat(data).kind, Kind::Silence, "{data}");
    }
    let comment = Event { comment_only: true, ..event(None, "") };
    assert_eq!(read(StreamKind::Chat, &comment).kind, Kind::Silence);
}

#[test]
fn chat_output_of_every_sort() {
    for delta in [
        r#"{"content":"x"}"#,
        r#"{"content":" "}"#,
        r#"{"role":"assistant","reasoning":"hm"}"#,
        r#"{"reasoning_content":"hm"}"#,
        r#"{"reasoning_details":[{"type":"reasoning.text"}]}"#,
        r#"{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":""}}]}"#,
        r#"{"function_call":{"name":"f"}}"#,
        r#"{"refusal":"no"}"#,
        r#"{"audio":{"data":"UklG"}}"#,
        r#"{"images":[{"type":"image_url"}]}"#,
    ] {
        assert_eq!(
            chat(&format!(r#"{{"choices":[{{"index":0,"delta":{delta}}}]}}"#)).kind,
            Kind::Output,
            "{delta}"
        );
    }
    assert_eq!(
        kind(StreamKind::Completions, r#"{"choices":[{"text":"x","finish_reason":null}]}"#),
        Kind::Output
    );
    assert_eq!(
        kind(StreamKind::Completions, r#"{"choices":[{"text":"","finish_reason":null}]}"#),
        Kind::Silence
    );
}

#[test]
fn chat_usage_finish_and_end() {
    let usage_only = chat(r#"{"choices":[],"model":"m","usage":{"prompt_tokens":3,"completion_tokens":4}}"#);
    assert_eq!(usage_only.kind, Kind::UsageOnly);
    assert_eq!(usage_only.usage.unwrap().output_tokens, 4);
    assert_eq!(chat(r#"{"usage":{"prompt_tokens":3}}"#).kind, Kind::UsageOnly);
    // OpenRouter's usage comes with a choice: that chunk is not the injection's doing and must stay.
    let with_choice = chat(
        r#"{"choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":{"prompt_tokens":3,"cost":0.1}}"#,
    );
    assert_eq!(with_choice.kind, Kind::Silence);
    assert_eq!(with_choice.usage.unwrap().cost_nano_usd, Some(100_000_000));
    let finish = chat(
        r#"{"choices":[{"delta":{},"finish_reason":"stop"}],"x_groq":{"id":"r","usage":{"prompt_tokens":9}}}"#,
    );
    assert_eq!((finish.kind, finish.finish, finish.usage.unwrap().input_tokens), (Kind::Other, true, 9));
    let last_words = chat(r#"{"choices":[{"delta":{"content":"."},"finish_reason":"length"}]}"#);
    assert_eq!((last_words.kind, last_words.finish), (Kind::Output, true));
    for done in ["[DONE]", " [DONE] "] {
        assert_eq!(chat(done).kind, Kind::Done);
    }
    for garbage in ["<html>", "{\"choices\":[{", "[DONE]x", "[1]", "{\"choices\":\"x\"}"] {
        assert_eq!(chat(garbage).kind, Kind::Other, "{garbage}");
    }
}

#[test]
fn chat_errors_in_every_place() {
    for (data, want) in [
        (r#"{"error":{"message":"Overloaded","code":503}}"#, Sign::Overloaded),
        (
            r#"{"id":"gen-1","choices":[{"delta":{"content":""},"finish_reason":"error"}],"error":{"code":"server_error","message":"x"}}"#,
            Sign::ServerError,
        ),
        (
            r#"{"choices":[{"delta":{"content":"partial"},"error":{"code":502,"message":"x","metadata":{"error_type":"provider_unavailable"}},"finish_reason":"error"}]}"#,
            Sign::ServerError,
        ),
        (r#"{"choices":[{"delta":{},"finish_reason":"error"}]}"#, Sign::ServerError),
        (r#"{"error":"boom"}"#, Sign::ServerError),
        (
            r#"{"object":"error","message":"The model `x` does not exist.","type":"NotFoundError","code":404}"#,
            Sign::ServerError,
        ),
    ] {
        assert_eq!(sign(chat(data).kind), want, "{data}");
    }
    assert!(matches!(read(StreamKind::Chat, &event(Some("error"), "upstream died")).kind, Kind::Error(_)));
    for none in [r#"{"error":null,"choices":[]}"#, r#"{"error":{},"choices":[]}"#, r#"{"error":false}"#] {
        assert_eq!(chat(none).kind, Kind::Silence, "{none}");
    }
}

#[test]
fn messages_events() {
    let m = |data: &str| read(StreamKind::Messages, &event(None, data));
    let start = m(
        r#"{"type":"message_start","message":{"id":"msg_1","model":"claude","content":[],"usage":{"input_tokens":10,"cache_read_input_tokens":5,"output_tokens":1}}}"#,
    );
    assert_eq!((start.kind, start.answer_id.as_deref()), (Kind::Silence, Some("msg_1")));
    let mut usage = start.usage.unwrap();
    assert_eq!((usage.input_tokens, usage.model.as_deref()), (15, Some("claude")));
    for (data, want) in [
        (r#"{"type":"ping"}"#, Kind::Silence),
        (
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
            Kind::Silence,
        ),
        (
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
            Kind::Silence,
        ),
        (
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#,
            Kind::Output,
        ),
        (
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x"}}"#,
            Kind::Output,
        ),
        (
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":""}}"#,
            Kind::Silence,
        ),
        (
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"x"}}"#,
            Kind::Output,
        ),
        (r#"{"type":"content_block_stop","index":0}"#, Kind::Silence),
        (r#"{"type":"message_stop"}"#, Kind::Done),
        (r#"{"type":"something_new","x":1}"#, Kind::Other),
    ] {
        assert_eq!(m(data).kind, want, "{data}");
    }
    let delta = m(
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":42}}"#,
    );
    assert!(delta.finish);
    usage.merge(&delta.usage.unwrap());
    assert_eq!((usage.input_tokens, usage.output_tokens), (15, 42));
    assert!(
        !m(r#"{"type":"message_delta","delta":{"stop_reason":null},"usage":{"output_tokens":2}}"#).finish
    );
    let error = m(r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#);
    assert_eq!(sign(error.kind), Sign::Overloaded);
}

#[test]
fn responses_events() {
    let r = |data: &str| read(StreamKind::Responses, &event(None, data));
    let created = r(
        r#"{"type":"response.created","sequence_number":0,"response":{"id":"resp_1","error":null,"usage":null,"status":"in_progress"}}"#,
    );
    assert_eq!(
        (created.kind, created.answer_id.as_deref(), created.usage),
        (Kind::Silence, Some("resp_1"), None)
    );
    for (data, want) in [
        (r#"{"type":"response.in_progress","response":{}}"#, Kind::Silence),
        (
            r#"{"type":"response.output_item.added","item":{"id":"m","type":"message","status":"in_progress","content":[],"role":"assistant"}}"#,
            Kind::Silence,
        ),
        (
            r#"{"type":"response.output_item.added","item":{"id":"r","type":"reasoning","summary":[],"encrypted_content":"gAAA"}}"#,
            Kind::Silence,
        ),
        (
            r#"{"type":"response.output_item.added","item":{"id":"f","type":"function_call","status":"in_progress","arguments":"","call_id":"c","name":"f"}}"#,
            Kind::Output,
        ),
        (
            r#"{"type":"response.content_part.added","part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}}"#,
            Kind::Silence,
        ),
        (r#"{"type":"response.output_text.delta","delta":"x","logprobs":[]}"#, Kind::Output),
        (r#"{"type":"response.output_text.delta","delta":""}"#, Kind::Silence),
        (r#"{"type":"response.reasoning_summary_text.delta","delta":"x"}"#, Kind::Output),
        (r#"{"type":"response.output_text.done","text":"x"}"#, Kind::Output),
        (r#"{"type":"response.image_generation_call.partial_image","partial_image_b64":"x"}"#, Kind::Output),
        (r#"{"type":"response.web_search_call.searching"}"#, Kind::Silence),
        (r#"{"type":"response.brand_new"}"#, Kind::Other),
    ] {
        assert_eq!(r(data).kind, want, "{data}");
    }
    for end in ["completed", "incomplete"] {
        let done = r(&format!(
            r#"{{"type":"response.{end}","response":{{"id":"resp_1","model":"m","usage":{{"input_tokens":5,"output_tokens":6}}}}}}"#
        ));
        assert_eq!((done.kind, done.finish, done.usage.unwrap().output_tokens), (Kind::Done, true, 6));
    }
    for (data, want) in [
        (
            r#"{"type":"response.failed","response":{"id":"r","status":"failed","error":{"code":"rate_limit_exceeded","message":"slow"}}}"#,
            None,
        ),
        (
            r#"{"type":"error","code":"insufficient_quota","message":"You exceeded your current quota","param":null,"sequence_number":1}"#,
            Some(Sign::NoMoney),
        ),
        (
            r#"{"type":"error","error":{"type":"invalid_request_error","code":"context_length_exceeded","message":"x"}}"#,
            Some(Sign::ContextTooLong),
        ),
        (r#"{"type":"response.failed","response":{}}"#, Some(Sign::ServerError)),
    ] {
        let got = sign(r(data).kind);
        assert!(want.map_or(matches!(got, Sign::RateLimited { .. }), |want| got == want), "{data}: {got:?}");
    }
    // Without a type in the data the event's name tells.
    assert!(matches!(
        read(StreamKind::Responses, &event(Some("error"), r#"{"message":"x"}"#)).kind,
        Kind::Error(_)
    ));
}

#[test]
fn after_output_only_what_matters_is_read() {
    fn after(stream: StreamKind, name: Option<&str>, data: &str) -> Meaning {
        read_after_output(stream, &event(name, data))
    }
    // Would be silence to a full read: proof that it was not read.
    let plain = r#"{"choices":[{"delta":{"content":""},"finish_reason":null}],"usage":null,"error":null}"#;
    assert_eq!(after(StreamKind::Chat, None, plain).kind, Kind::Output);
    // The words inside model text are no hit, or one that the parse rejects.
    for text in [r#"{\"usage\":{\"prompt_tokens\":1}}"#, r#""error""#, r#"usage\": {"#, "error", "usage"] {
        let quoted = serde_json::to_string(text).unwrap();
        let data = format!(r#"{{"choices":[{{"delta":{{"content":{quoted}}},"finish_reason":null}}]}}"#);
        let got = after(StreamKind::Chat, None, &data);
        assert_eq!((got.kind, got.usage), (Kind::Output, None), "{data}");
    }
    // A tool's arguments may hold an unescaped member of that name one level down.
    let nested = r#"{"choices":[{"delta":{"tool_calls":[{"function":{"usage" : 1,"error":{"x":1}}}]}}]}"#;
    assert_eq!(after(StreamKind::Chat, None, nested), Meaning::plain(Kind::Output));
    for (stream, name, data) in [
        (StreamKind::Chat, None, "[DONE]"),
        (StreamKind::Chat, None, r#"{"choices":[],"usage" : {"prompt_tokens":1}}"#),
        (StreamKind::Chat, None, r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#),
        (StreamKind::Chat, None, r#"{"choices":[{"delta":{},"finish_reason":"error"}]}"#),
        (StreamKind::Chat, None, r#"{"error":{"code":500,"message":"x"}}"#),
        (StreamKind::Chat, None, r#"{"object":"error","message":"x"}"#),
        (StreamKind::Chat, None, r#"{"message":"x","object" : "error"}"#),
        (StreamKind::Chat, Some("error"), "died"),
        (
            StreamKind::Messages,
            Some("error"),
            r#"{"type":"error","error":{"type":"api_error","message":"x"}}"#,
        ),
        (StreamKind::Messages, Some("message_stop"), r#"{"type":"message_stop"}"#),
        (
            StreamKind::Messages,
            Some("message_delta"),
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":42}}"#,
        ),
        (
            StreamKind::Responses,
            None,
            r#"{"sequence_number":4,"type":"response.completed","response":{"usage":{"input_tokens":5}}}"#,
        ),
        (StreamKind::Responses, Some("response.failed"), r#"{"type":"response.failed","response":{}}"#),
    ] {
        assert_eq!(after(stream, name, data), read(stream, &event(name, data)), "{data}");
        assert_ne!(after(stream, name, data), Meaning::plain(Kind::Output), "{data}");
    }
}

#[test]
fn our_error_events_are_read_as_errors_by_everybody() {
    for stream in [StreamKind::Chat, StreamKind::Completions, StreamKind::Responses, StreamKind::Messages] {
        let bytes = error_event(stream, "the \"stream\"\nbroke", "api_error", "upstream_cut");
        assert!(!bytes.windows(6).any(|w| w == b"[DONE]"));
        let mut count = 0;
        Scanner::default().feed(&bytes, &mut |event| {
            count += 1;
            assert!(event.complete);
            let data: Value = serde_json::from_slice(event.data).unwrap();
            let error = if stream == StreamKind::Responses { &data } else { &data["error"] };
            assert_eq!(error["message"], "the \"stream\"\nbroke");
            assert_eq!(
                event.event,
                (stream != StreamKind::Chat && stream != StreamKind::Completions).then_some("error")
            );
            if event.event.is_some() {
                assert_eq!(data["type"], "error");
            }
            let Kind::Error(facts) = read_after_output(stream, &event).kind else { panic!("{stream:?}") };
            assert_eq!(facts.message.as_deref(), Some("the \"stream\" broke"));
        });
        assert_eq!(count, 1);
    }
}

proptest! {
    #[test]
    fn arbitrary_data_never_panics(data in "[{}\\[\\]:,\"\\\\a-z0-9 ]{0,40}", which in 0..4_usize) {
        let stream = [StreamKind::Chat, StreamKind::Completions, StreamKind::Responses, StreamKind::Messages][which];
        let _ = read(stream, &event(None, &data));
        let _ = read_after_output(stream, &event(Some(&data), &data));
    }

    /// Every member that matters is found wherever in a chunk it stands, however it is written and whatever is around
    /// it; what is taken for mere output has nothing to tell.
    #[test]
    fn after_output_a_chunk_tells_what_a_full_read_tells(
        mut members in proptest::collection::vec(0..MEMBERS.len(), 0..5),
        in_choice in proptest::collection::vec(0..IN_CHOICE.len(), 0..4),
        text in "[aegnorsu\"\\\\ :,é]{0,150}",
        id in "[a-z0-9]{0,80}",
        style in 0..4_usize,
    ) {
        let mut names: Vec<&str> = Vec::new();
        members.retain(|which| {
            let name = name_of(MEMBERS[*which]);
            let new = !names.contains(&name);
            names.push(name);
            new
        });
        let mut names: Vec<&str> = Vec::new();
        let mut choice = format!("\"delta\":{{\"content\":{}}}", serde_json::to_string(&text).unwrap());
        for which in in_choice {
            let member = IN_CHOICE[which];
            if !names.contains(&name_of(member)) {
                names.push(name_of(member));
                choice = if which % 2 == 0 { format!("{member},{choice}") } else { format!("{choice},{member}") };
            }
        }
        let members: Vec<&str> = members.into_iter().map(|which| MEMBERS[which]).collect();
        let half = members.len() / 2;
        let parts = [
            &members[..half],
            &[&format!("\"id\":\"{id}\""), &format!("\"choices\":[{{{choice}}}]")],
            &members[half..],
        ];
        let data = format!("{{{}}}", parts.concat().join(","));
        // With spaces behind or before every colon outside of strings, or line breaks.
        let spaced = |with: &str| data.replace("\":", with);
        let data = if text.contains(':') {
            data
        } else {
            [data.clone(), spaced("\": "), spaced("\" :"), spaced("\" \n:\t ")][style].clone()
        };
        let after = read_after_output(StreamKind::Chat, &event(None, &data));
        let whole = chat(&data);
        prop_assert_eq!(after.usage, whole.usage, "{}", &data);
        prop_assert_eq!(after.finish, whole.finish, "{}", &data);
        if after.kind != Kind::Output || matches!(whole.kind, Kind::Error(_) | Kind::Done | Kind::UsageOnly) {
            prop_assert_eq!(after.kind, whole.kind, "{}", &data);
        }
    }
}

/// Members of a chunk, of which some matter.
const MEMBERS: [&str; 11] = [
    r#""usage":null"#,
    r#""usage":{"prompt_tokens":7,"completion_tokens":2}"#,
    r#""error":null"#,
    r#""error":{"code":503,"message":"Overloaded"}"#,
    r#""error":"boom""#,
    r#""object":"error""#,
    r#""object":"chat.completion.chunk""#,
    r#""obfuscation":"error usage""#,
    r#""model":"gpt-5-mini-2025-08-07""#,
    r#""x_groq":{"id":"r","usage":{"prompt_tokens":9}}"#,
    r#""service_tier":null"#,
];

/// Members of a choice, of which some matter.
const IN_CHOICE: [&str; 7] = [
    r#""finish_reason":null"#,
    r#""finish_reason":"stop""#,
    r#""finish_reason":"error""#,
    r#""native_finish_reason":null"#,
    r#""native_finish_reason":"STOP""#,
    r#""error":{"code":502,"message":"x"}"#,
    r#""logprobs":null"#,
];

fn name_of(member: &str) -> &str {
    member.split('"').nth(1).unwrap()
}
