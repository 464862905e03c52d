//! OpenAI's Responses: typed events with sequence numbers.

use std::fmt::Write as _;

use crate::answer::{Answer, Delta, Finish, Kind};
use crate::dialect::Dialect;
use crate::json::{dollars, quote};

fn usage(answer: &Answer) -> String {
    let (input, output) = (answer.input, answer.output);
    let cost = if answer.dialect == Dialect::Openrouter {
        let details = answer.cost_details("upstream_inference_input_cost", "upstream_inference_output_cost");
        format!(r#","cost":{},"is_byok":false,"cost_details":{details}"#, dollars(answer.cost_nano_usd))
    } else {
        String::new()
    };
    format!(
        r#"{{"input_tokens":{input},"input_tokens_details":{{"cached_tokens":{}}},"output_tokens":{output},"output_tokens_details":{{"reasoning_tokens":{}}},"total_tokens":{}{cost}}}"#,
        answer.cached,
        answer.reasoning,
        input + output
    )
}

fn event(kind: &str, fields: &str, seq: &mut u64, out: &mut String) {
    let _ = write!(
        out,
        "event: {kind}\ndata: {{\"type\":\"{kind}\",\"sequence_number\":{seq}{}{fields}}}\n\n",
        if fields.is_empty() { "" } else { "," }
    );
    *seq += 1;
}

/// The response object as it stands: before, at, or (with an error) instead of its end.
fn object(answer: &Answer, status: &str, output: &str, error: Option<&str>) -> String {
    let (id, model, created) = (quote(&answer.id), quote(&answer.model), answer.created_s);
    let done = status == "completed" || status == "incomplete";
    let usage = if done { usage(answer) } else { "null".to_owned() };
    let details = if status == "incomplete" { r#"{"reason":"max_output_tokens"}"# } else { "null" };
    let completed = if done { created.to_string() } else { "null".to_owned() };
    let previous = answer.previous.as_deref().map_or_else(|| "null".to_owned(), quote);
    format!(
        r#"{{"id":{id},"object":"response","created_at":{created},"completed_at":{completed},"status":"{status}","background":false,"error":{},"incomplete_details":{details},"instructions":null,"max_output_tokens":null,"model":{model},"output":[{output}],"parallel_tool_calls":true,"frequency_penalty":0.0,"presence_penalty":0.0,"previous_response_id":{previous},"reasoning":{{"effort":null,"summary":null}},"service_tier":"default","store":{},"temperature":1.0,"text":{{"format":{{"type":"text"}}}},"tool_choice":"auto","tools":[],"top_p":1.0,"truncation":"disabled","usage":{usage},"user":null,"metadata":{{}}}}"#,
        error.unwrap_or("null"),
        answer.store,
    )
}

fn reasoning_item(answer: &Answer) -> String {
    format!(r#"{{"id":"{}","type":"reasoning","summary":[]}}"#, answer.sub_id("rs_", 3))
}

fn text_part(text: &str) -> String {
    format!(r#"{{"type":"output_text","annotations":[],"logprobs":[],"text":{}}}"#, quote(text))
}

/// The message or function call, with as much of it as there is.
fn item(answer: &Answer, status: &str, text: Option<&str>) -> String {
    match answer.tool() {
        None => {
            let content = text.map(text_part).unwrap_or_default();
            format!(
                r#"{{"id":"{}","type":"message","status":"{status}","content":[{content}],"role":"assistant"}}"#,
                answer.sub_id("msg_", 4)
            )
        }
        Some(name) => format!(
            r#"{{"id":"{}","type":"function_call","status":"{status}","arguments":{},"call_id":"{}","name":{}}}"#,
            answer.sub_id("fc_", 4),
            quote(text.unwrap_or_default()),
            answer.sub_id("call_", 5),
            quote(name)
        ),
    }
}

fn item_index(answer: &Answer) -> u32 {
    u32::from(answer.reasoning_each > 0)
}

/// `item_id`, `output_index` and, for text, `content_index`.
fn place(answer: &Answer) -> String {
    let index = item_index(answer);
    match answer.tool() {
        None => {
            format!(r#""item_id":"{}","output_index":{index},"content_index":0"#, answer.sub_id("msg_", 4))
        }
        Some(_) => format!(r#""item_id":"{}","output_index":{index}"#, answer.sub_id("fc_", 4)),
    }
}

fn response_event(answer: &Answer, kind: &str, status: &str, seq: &mut u64, out: &mut String) {
    event(kind, &format!(r#""response":{}"#, object(answer, status, "", None)), seq, out);
}

pub(crate) fn open(answer: &Answer, seq: &mut u64, out: &mut String) {
    response_event(answer, "response.created", "in_progress", seq, out);
    response_event(answer, "response.in_progress", "in_progress", seq, out);
}

pub(crate) fn delta(answer: &Answer, delta: &Delta<'_>, seq: &mut u64, out: &mut String) {
    if delta.kind == Kind::Reasoning {
        // Reasoning is counted, not shown: one empty item.
        for (at, kind) in
            [(delta.first, "response.output_item.added"), (delta.last, "response.output_item.done")]
        {
            if at {
                event(kind, &format!(r#""output_index":0,"item":{}"#, reasoning_item(answer)), seq, out);
            }
        }
        return;
    }
    let (index, place, tool) = (item_index(answer), place(answer), answer.tool().is_some());
    if delta.first {
        let item = item(answer, "in_progress", None);
        let fields = format!(r#""output_index":{index},"item":{item}"#);
        event("response.output_item.added", &fields, seq, out);
        if !tool {
            event("response.content_part.added", &format!(r#"{place},"part":{}"#, text_part("")), seq, out);
        }
    }
    let text = quote(delta.text);
    if tool {
        let fields = format!(r#"{place},"delta":{text}"#);
        event("response.function_call_arguments.delta", &fields, seq, out);
    } else {
        let fields = format!(r#"{place},"delta":{text},"logprobs":[]"#);
        event("response.output_text.delta", &fields, seq, out);
    }
}

fn ending(answer: &Answer) -> &'static str {
    if answer.finish == Finish::Length { "incomplete" } else { "completed" }
}

fn whole_output(answer: &Answer) -> String {
    let mut items = Vec::new();
    if answer.reasoning_each > 0 {
        items.push(reasoning_item(answer));
    }
    if answer.visible_each > 0 {
        items.push(item(answer, ending(answer), Some(&answer.whole_text(0))));
    }
    items.join(",")
}

pub(crate) fn close(answer: &Answer, seq: &mut u64, out: &mut String) {
    if answer.visible_each > 0 {
        let (index, place, whole) = (item_index(answer), place(answer), answer.whole_text(0));
        let text = quote(&whole);
        if let Some(name) = answer.tool() {
            let fields = format!(r#"{place},"name":{},"arguments":{text}"#, quote(name));
            event("response.function_call_arguments.done", &fields, seq, out);
        } else {
            let fields = format!(r#"{place},"text":{text},"logprobs":[]"#);
            event("response.output_text.done", &fields, seq, out);
            let fields = format!(r#"{place},"part":{}"#, text_part(&whole));
            event("response.content_part.done", &fields, seq, out);
        }
        let item = item(answer, ending(answer), Some(&whole));
        event("response.output_item.done", &format!(r#""output_index":{index},"item":{item}"#), seq, out);
    }
    let status = ending(answer);
    let object = object(answer, status, &whole_output(answer), None);
    event(&format!("response.{status}"), &format!(r#""response":{object}"#), seq, out);
}

/// Before any output the response fails as a whole (quota errors come like this inside a 200); later it is a
/// bare `error` event.
pub(crate) fn error_event(answer: &Answer, early: bool, seq: &mut u64, out: &mut String) {
    if early {
        let error =
            r#"{"code":"server_error","message":"The server had an error while processing your request."}"#;
        let object = object(answer, "failed", "", Some(error));
        event("response.failed", &format!(r#""response":{object}"#), seq, out);
    } else {
        event(
            "error",
            r#""code":"server_error","message":"The server had an error while processing your request.","param":null"#,
            seq,
            out,
        );
    }
}

/// A response in one piece; also what is stored.
pub(crate) fn body(answer: &Answer) -> String {
    object(answer, ending(answer), &whole_output(answer), None)
}
