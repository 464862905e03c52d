//! Chat completions and legacy completions, as OpenAI and OpenRouter write them.

use std::fmt::Write as _;

use crate::answer::{Answer, Delta, Finish, Kind};
use crate::dialect::Dialect;
use crate::json::{dollars, quote};

/// What a chunk of a stream calls itself.
const CHUNK: &str = "chat.completion.chunk";

pub(crate) fn finish_reason(answer: &Answer) -> &'static str {
    match answer.finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::Tool => "tool_calls",
    }
}

/// The usage object. OpenRouter's carries the cost.
pub(crate) fn usage(answer: &Answer) -> String {
    if answer.untold {
        return "null".to_owned();
    }
    let (input, output) = (answer.input, answer.output);
    let mut text = format!(
        r#"{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":{}"#,
        input + output
    );
    if answer.dialect == Dialect::Openrouter {
        let cost = dollars(answer.cost_nano_usd);
        let details =
            answer.cost_details("upstream_inference_prompt_cost", "upstream_inference_completions_cost");
        let _ = write!(
            text,
            r#","cost":{cost},"is_byok":false,"cost_details":{details},"prompt_tokens_details":{{"cached_tokens":{},"cache_write_tokens":{},"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":{}}}}}"#,
            answer.cached, answer.cache_write, answer.reasoning
        );
    } else {
        let _ = write!(
            text,
            r#","prompt_tokens_details":{{"cached_tokens":{},"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":{},"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}}"#,
            answer.cached, answer.reasoning
        );
    }
    text
}

/// The fields that every chunk or body of this answer begins with. OpenRouter knows no fingerprint of this provider:
/// null in a body, where the field is required, and absent from a chunk, where it may only be a string.
fn lead(answer: &Answer, object: &str) -> String {
    let (id, model, created) = (quote(&answer.id), quote(&answer.model), answer.created_s);
    if answer.dialect == Dialect::Openrouter {
        let fingerprint = if object == CHUNK { "" } else { r#","system_fingerprint":null"# };
        format!(
            r#"{{"id":{id},"provider":"Simulated","model":{model},"object":"{object}","created":{created}{fingerprint}"#
        )
    } else {
        format!(
            r#"{{"id":{id},"object":"{object}","created":{created},"model":{model},"service_tier":"default","system_fingerprint":"fp_simulated""#
        )
    }
}

fn chunk(answer: &Answer, choices: &str, usage_field: Option<&str>, out: &mut String) {
    let lead = lead(answer, CHUNK);
    let _ = write!(out, "data: {lead},\"choices\":[{choices}]");
    match usage_field {
        Some(usage) => {
            let _ = write!(out, ",\"usage\":{usage}");
        }
        None if answer.include_usage && answer.dialect == Dialect::Openai => out.push_str(",\"usage\":null"),
        None => {}
    }
    out.push_str("}\n\n");
}

fn choice(answer: &Answer, index: u32, delta: &str, finish: Option<&str>) -> String {
    let reason = finish.map_or_else(|| "null".to_owned(), quote);
    if answer.dialect == Dialect::Openrouter {
        format!(
            r#"{{"index":{index},"delta":{delta},"finish_reason":{reason},"native_finish_reason":{reason},"logprobs":null}}"#
        )
    } else {
        format!(r#"{{"index":{index},"delta":{delta},"logprobs":null,"finish_reason":{reason}}}"#)
    }
}

/// OpenAI opens every choice with its role; OpenRouter puts the role into every delta.
pub(crate) fn open(answer: &Answer, out: &mut String) {
    if answer.dialect == Dialect::Openrouter {
        return;
    }
    let content = if answer.tool().is_some() { "null" } else { "\"\"" };
    let delta = format!(r#"{{"role":"assistant","content":{content},"refusal":null}}"#);
    for index in 0..answer.n {
        chunk(answer, &choice(answer, index, &delta, None), None, out);
    }
}

pub(crate) fn delta(answer: &Answer, index: u32, delta: &Delta<'_>, out: &mut String) {
    let role = if answer.dialect == Dialect::Openrouter { r#""role":"assistant","# } else { "" };
    let text = quote(delta.text);
    let body = match (delta.kind, answer.tool()) {
        // OpenAI counts reasoning and does not show it.
        (Kind::Reasoning, _) if answer.dialect == Dialect::Openai => return,
        (Kind::Reasoning, _) => format!(r#"{{{role}"content":"","reasoning":{text}}}"#),
        (Kind::Visible, None) => format!(r#"{{{role}"content":{text}}}"#),
        (Kind::Visible, Some(name)) => {
            let head = if delta.first {
                let id = answer.sub_id("call_", u64::from(index));
                format!(r#""id":"{id}","type":"function","#)
            } else {
                String::new()
            };
            let name = if delta.first { format!(r#""name":{},"#, quote(name)) } else { String::new() };
            format!(r#"{{{role}"tool_calls":[{{"index":0,{head}"function":{{{name}"arguments":{text}}}}}]}}"#)
        }
    };
    chunk(answer, &choice(answer, index, &body, None), None, out);
}

pub(crate) fn close(answer: &Answer, out: &mut String) {
    let openrouter = answer.dialect == Dialect::Openrouter;
    let last = if openrouter { r#"{"role":"assistant","content":""}"# } else { "{}" };
    for index in 0..answer.n {
        chunk(answer, &choice(answer, index, last, Some(finish_reason(answer))), None, out);
    }
    if openrouter {
        chunk(answer, &choice(answer, 0, last, None), Some(&usage(answer)), out);
    } else if answer.include_usage {
        chunk(answer, "", Some(&usage(answer)), out);
    }
    out.push_str("data: [DONE]\n\n");
}

pub(crate) fn error_event(answer: &Answer, out: &mut String) {
    if answer.dialect == Dialect::Openrouter {
        let lead = lead(answer, CHUNK);
        let _ = write!(
            out,
            "data: {lead},\"error\":{{\"code\":502,\"message\":\"Provider disconnected unexpectedly\",\"metadata\":{{\"error_type\":\"provider_unavailable\",\"provider_name\":\"Simulated\"}}}},\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"\"}},\"finish_reason\":\"error\",\"native_finish_reason\":\"error\",\"logprobs\":null}}]}}\n\n"
        );
    } else {
        out.push_str("data: {\"error\":{\"message\":\"The server had an error while processing your request. Sorry about that!\",\"type\":\"server_error\",\"param\":null,\"code\":null}}\n\n");
    }
}

/// A chat completion in one piece.
pub(crate) fn body(answer: &Answer) -> String {
    let choices: Vec<String> = (0..answer.n).map(|index| whole_choice(answer, index)).collect();
    let lead = lead(answer, "chat.completion");
    format!(r#"{lead},"choices":[{}],"usage":{}}}"#, choices.join(","), usage(answer))
}

fn whole_choice(answer: &Answer, index: u32) -> String {
    let text = quote(&answer.whole_text(index));
    let openrouter = answer.dialect == Dialect::Openrouter;
    let reasoning = if openrouter && answer.reasoning_each > 0 {
        format!(r#","reasoning":{}"#, quote(&Answer::thought(0, answer.reasoning_each)))
    } else {
        String::new()
    };
    let message = match answer.tool() {
        None => format!(r#"{{"role":"assistant","content":{text},"refusal":null{reasoning}}}"#),
        Some(name) => {
            let id = answer.sub_id("call_", u64::from(index));
            format!(
                r#"{{"role":"assistant","content":null,"refusal":null,"tool_calls":[{{"id":"{id}","type":"function","function":{{"name":{},"arguments":{text}}}}}]{reasoning}}}"#,
                quote(name)
            )
        }
    };
    let reason = finish_reason(answer);
    if answer.failed {
        return format!(
            r#"{{"index":{index},"message":{message},"logprobs":null,"finish_reason":"error","native_finish_reason":"error","error":{{"code":502,"message":"Provider disconnected unexpectedly","metadata":{{"error_type":"provider_unavailable","provider_name":"Simulated"}}}}}}"#
        );
    }
    let native = if openrouter { format!(r#","native_finish_reason":"{reason}""#) } else { String::new() };
    format!(r#"{{"index":{index},"message":{message},"logprobs":null,"finish_reason":"{reason}"{native}}}"#)
}

fn completion_chunk(answer: &Answer, choices: &str, usage_field: Option<&str>, out: &mut String) {
    let (id, model, created) = (quote(&answer.id), quote(&answer.model), answer.created_s);
    let _ = write!(
        out,
        r#"data: {{"id":{id},"object":"text_completion","created":{created},"choices":[{choices}],"model":{model}"#
    );
    if let Some(usage) = usage_field {
        let _ = write!(out, ",\"usage\":{usage}");
    } else if answer.include_usage && answer.dialect == Dialect::Openai {
        out.push_str(",\"usage\":null");
    }
    out.push_str("}\n\n");
}

pub(crate) fn completion_delta(answer: &Answer, index: u32, delta: &Delta<'_>, out: &mut String) {
    if delta.kind == Kind::Reasoning {
        return;
    }
    let text = quote(delta.text);
    let choice = format!(r#"{{"text":{text},"index":{index},"logprobs":null,"finish_reason":null}}"#);
    completion_chunk(answer, &choice, None, out);
}

pub(crate) fn completion_close(answer: &Answer, out: &mut String) {
    let reason = finish_reason(answer);
    for index in 0..answer.n {
        let choice = format!(r#"{{"text":"","index":{index},"logprobs":null,"finish_reason":"{reason}"}}"#);
        completion_chunk(answer, &choice, None, out);
    }
    if answer.include_usage || answer.dialect == Dialect::Openrouter {
        completion_chunk(answer, "", Some(&usage(answer)), out);
    }
    out.push_str("data: [DONE]\n\n");
}

/// A legacy completion in one piece.
pub(crate) fn completion_body(answer: &Answer) -> String {
    let reason = finish_reason(answer);
    let choices: Vec<String> = (0..answer.n)
        .map(|index| {
            let text = quote(&answer.whole_text(index));
            format!(r#"{{"text":{text},"index":{index},"logprobs":null,"finish_reason":"{reason}"}}"#)
        })
        .collect();
    let (id, model, created) = (quote(&answer.id), quote(&answer.model), answer.created_s);
    format!(
        r#"{{"id":{id},"object":"text_completion","created":{created},"model":{model},"choices":[{}],"usage":{}}}"#,
        choices.join(","),
        usage(answer)
    )
}
