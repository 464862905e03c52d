//! Anthropic's Messages: blocks, cumulative usage, no `[DONE]`.

use std::fmt::Write as _;

use crate::answer::{Answer, Delta, Finish, Kind};
use crate::dialect::Dialect;
use crate::json::{dollars, quote};

fn stop_reason(answer: &Answer) -> &'static str {
    match answer.finish {
        Finish::Stop => "end_turn",
        Finish::Length => "max_tokens",
        Finish::Tool => "tool_use",
    }
}

/// `input_tokens` leaves out what was read from or written to the cache.
fn usage(answer: &Answer, output: u64) -> String {
    let fresh = answer.input - (answer.cached + answer.cache_write).min(answer.input);
    let mut text = format!(
        r#"{{"input_tokens":{fresh},"cache_creation_input_tokens":{write},"cache_read_input_tokens":{},"cache_creation":{{"ephemeral_5m_input_tokens":{write},"ephemeral_1h_input_tokens":0}},"output_tokens":{output},"service_tier":"standard""#,
        answer.cached,
        write = answer.cache_write,
    );
    if answer.dialect == Dialect::Openrouter {
        let _ = write!(text, r#","cost":{},"is_byok":false"#, dollars(answer.cost_nano_usd));
    }
    text.push('}');
    text
}

fn event(name: &str, data: &str, out: &mut String) {
    let _ = write!(out, "event: {name}\ndata: {data}\n\n");
}

fn text_index(answer: &Answer) -> u32 {
    u32::from(answer.reasoning_each > 0)
}

fn tool_block(answer: &Answer, name: &str, input: &str) -> String {
    let id = answer.sub_id("toolu_", 1);
    format!(r#"{{"type":"tool_use","id":"{id}","name":{},"input":{input}}}"#, quote(name))
}

pub(crate) fn open(answer: &Answer, out: &mut String) {
    let (id, model) = (quote(&answer.id), quote(&answer.model));
    let usage = usage(answer, 1);
    event(
        "message_start",
        &format!(
            r#"{{"type":"message_start","message":{{"id":{id},"type":"message","role":"assistant","model":{model},"content":[],"stop_reason":null,"stop_sequence":null,"usage":{usage}}}}}"#
        ),
        out,
    );
    if answer.reasoning_each == 0 {
        block_start(answer, out);
    }
    event("ping", r#"{"type":"ping"}"#, out);
}

fn block_start(answer: &Answer, out: &mut String) {
    let block = match answer.tool() {
        None => r#"{"type":"text","text":""}"#.to_owned(),
        Some(name) => tool_block(answer, name, "{}"),
    };
    let index = text_index(answer);
    event(
        "content_block_start",
        &format!(r#"{{"type":"content_block_start","index":{index},"content_block":{block}}}"#),
        out,
    );
}

fn block_delta(index: u32, delta: &str, out: &mut String) {
    event(
        "content_block_delta",
        &format!(r#"{{"type":"content_block_delta","index":{index},"delta":{delta}}}"#),
        out,
    );
}

fn block_stop(index: u32, out: &mut String) {
    event("content_block_stop", &format!(r#"{{"type":"content_block_stop","index":{index}}}"#), out);
}

pub(crate) fn delta(answer: &Answer, delta: &Delta<'_>, out: &mut String) {
    let text = quote(delta.text);
    match (delta.kind, answer.tool()) {
        (Kind::Reasoning, _) => {
            if delta.first {
                event(
                    "content_block_start",
                    r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
                    out,
                );
            }
            block_delta(0, &format!(r#"{{"type":"thinking_delta","thinking":{text}}}"#), out);
            if delta.last {
                let signature = answer.sub_id("sig", 2);
                block_delta(0, &format!(r#"{{"type":"signature_delta","signature":"{signature}"}}"#), out);
                block_stop(0, out);
                block_start(answer, out);
            }
        }
        (Kind::Visible, None) => {
            block_delta(text_index(answer), &format!(r#"{{"type":"text_delta","text":{text}}}"#), out);
        }
        (Kind::Visible, Some(_)) => block_delta(
            text_index(answer),
            &format!(r#"{{"type":"input_json_delta","partial_json":{text}}}"#),
            out,
        ),
    }
}

pub(crate) fn close(answer: &Answer, out: &mut String) {
    block_stop(text_index(answer), out);
    let (reason, usage) = (stop_reason(answer), usage(answer, answer.output));
    event(
        "message_delta",
        &format!(
            r#"{{"type":"message_delta","delta":{{"stop_reason":"{reason}","stop_sequence":null}},"usage":{usage}}}"#
        ),
        out,
    );
    event("message_stop", r#"{"type":"message_stop"}"#, out);
}

pub(crate) fn error_event(out: &mut String) {
    event(
        "error",
        r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_sim"}"#,
        out,
    );
}

/// A message in one piece.
pub(crate) fn body(answer: &Answer) -> String {
    let mut content = Vec::new();
    if answer.reasoning_each > 0 {
        let thinking = quote(&Answer::thought(0, answer.reasoning_each));
        let signature = answer.sub_id("sig", 2);
        content.push(format!(r#"{{"type":"thinking","thinking":{thinking},"signature":"{signature}"}}"#));
    }
    let text = answer.whole_text(0);
    content.push(match answer.tool() {
        None => format!(r#"{{"type":"text","text":{}}}"#, quote(&text)),
        // Cut short by the token cap, the arguments may be no JSON: Anthropic then sends what it has as `{}`.
        Some(name) => {
            let whole = serde_json::from_str::<serde_json::Value>(&text).is_ok();
            tool_block(answer, name, if whole { &text } else { "{}" })
        }
    });
    let (id, model, reason) = (quote(&answer.id), quote(&answer.model), stop_reason(answer));
    format!(
        r#"{{"id":{id},"type":"message","role":"assistant","model":{model},"content":[{}],"stop_reason":"{reason}","stop_sequence":null,"usage":{}}}"#,
        content.join(","),
        usage(answer, answer.output)
    )
}
