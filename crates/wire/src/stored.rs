//! What a request takes from a provider's store: a response it continues, a conversation, files, items, spoken answers,
//! vector stores and containers by their ids.
//! Whoever keeps such a thing is the only one who can serve the request.

use crate::head::{Head, RawSpan};
use memchr::memmem;
use serde_json::Value;

/// Something that lives at a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored<'a> {
    /// The field that names it.
    pub field: &'static str,
    /// The id of a response, which its answer gave; `None` for what no answer gives.
    pub response: Option<&'a str>,
}

impl<'a> Stored<'a> {
    /// What the request builds on, if anything.
    pub fn of(head: &'a Head<'_>) -> Option<Stored<'a>> {
        let of = |field| Some(Stored { field, response: None });
        if let Some(id) = head.previous_response_id.as_deref() {
            return Some(Stored { field: "previous_response_id", response: Some(id) });
        }
        if head.conversation.is_some() {
            return of("conversation");
        }
        // A message that was spoken needs no `type`.
        let spoken = ("messages", &head.messages, &["\"audio\""][..], spoken as Look);
        let typed = [
            ("messages", &head.messages, &["\"file_id\""][..], named as Look),
            ("input", &head.input, &["\"file_id\"", "\"item_reference\""], named),
            ("tools", &head.tools, &["\"vector_store_ids\"", "\"container\""], kept_by_tools),
        ];
        let mut all = std::iter::once(spoken).chain(typed.into_iter().filter(|_| head.seen.types));
        all.find_map(|(field, part, words, look)| in_part(field, part.as_ref()?, words, look)).and_then(of)
    }
}

/// What a part of a body names, as one who has read it says.
type Look = fn(&Value) -> Option<&'static str>;

/// The words are looked for first: hardly any body has them, and those that do are read once more. So are those in which
/// a letter of a word may be written as an escape, and what cannot be read may name anything.
fn in_part(field: &'static str, part: &RawSpan<'_>, words: &[&str], look: Look) -> Option<&'static str> {
    let has = |word: &str| memmem::find(part.raw.as_bytes(), word.as_bytes()).is_some();
    let is_spelt_out = || has("\\u00") && ["\\u005", "\\u006", "\\u007"].into_iter().any(has);
    if !words.iter().any(|word| has(word)) && !is_spelt_out() {
        return None;
    }
    serde_json::from_str(part.raw).map_or(Some(field), |value| look(&value))
}

/// An answer that was spoken before.
fn spoken(messages: &Value) -> Option<&'static str> {
    let by_id = |message: &Value| {
        message.get("audio").and_then(|audio| audio.get("id")).is_some_and(Value::is_string)
    };
    messages.as_array()?.iter().any(by_id).then_some("audio")
}

/// What tools that run at the provider keep there.
fn kept_by_tools(tools: &Value) -> Option<&'static str> {
    tools.as_array()?.iter().find_map(|tool| {
        let container = tool.get("container");
        let files = container.and_then(|made| made.get("file_ids")).and_then(Value::as_array);
        if tool.get("vector_store_ids").is_some_and(Value::is_array) {
            Some("vector_store_ids")
        } else if container.is_some_and(Value::is_string) {
            Some("container")
        } else {
            files.filter(|files| !files.is_empty()).map(|_| "file_ids")
        }
    })
}

fn named(value: &Value) -> Option<&'static str> {
    let object = match value {
        Value::Array(list) => return list.iter().find_map(named),
        Value::Object(object) => object,
        _ => return None,
    };
    match object.get("type").and_then(Value::as_str) {
        Some("item_reference") => return Some("item_reference"),
        // What a model wrote, or a tool takes, may look like anything.
        Some("tool_use" | "server_tool_use" | "function_call" | "custom_tool_call") => return None,
        Some("file" | "input_file" | "document" | "image" | "input_image" | "container_upload") => {
            let within = [Some(value), object.get("file"), object.get("source")];
            if within.into_iter().flatten().any(|part| part.get("file_id").is_some_and(Value::is_string)) {
                return Some("file_id");
            }
        }
        _ => {}
    }
    object.values().find_map(named)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::{BodyKind, parse};

    fn stored(kind: BodyKind, body: &str) -> Option<(&'static str, Option<String>)> {
        let head = parse(body.as_bytes(), kind).unwrap();
        Stored::of(&head).map(|s| (s.field, s.response.map(str::to_owned)))
    }

    #[test]
    fn what_lives_at_a_provider_is_seen() {
        for (field, body) in [
            ("conversation", r#"{"model":"m","conversation":"conv_1","input":"x"}"#),
            ("file_id", r#"{"model":"m","input":[{"content":[{"type":"input_file","file_id":"file-1"}]}]}"#),
            ("file_id", r#"{"model":"m","input":[{"content":[{"file_id":"file-1","type":"input_image"}]}]}"#),
            ("file_id", r#"{"model":"m","messages":[{"content":[{"type":"file","file":{"file_id":"f"}}]}]}"#),
            (
                "file_id",
                r#"{"model":"m","messages":[{"content":[{"type":"tool_result","content":[{"type":"document","source":{"type":"file","file_id":"f"}}]}]}]}"#,
            ),
            ("item_reference", r#"{"model":"m","input":[{"type":"item_reference","id":"msg_1"}]}"#),
            (
                "file_id",
                r#"{"model":"m","input":[{"content":[{"type":"input_file","file\u005fid":"file-1"}]}]}"#,
            ),
            (
                "file_id",
                r#"{"model":"m","input":[{"content":[{"t\u0079pe":"input_file","file_id":"file-1"}]}]}"#,
            ),
            ("item_reference", r#"{"model":"m","input":[{"type":"item\u005Freference","id":"msg_1"}]}"#),
            (
                "vector_store_ids",
                r#"{"model":"m","input":"x","tools":[{"type":"file_search","vector_store_ids":["vs_1"]}]}"#,
            ),
            (
                "container",
                r#"{"model":"m","input":"x","tools":[{"type":"code_interpreter","container":"cntr_1"}]}"#,
            ),
            (
                "file_ids",
                r#"{"model":"m","input":"x","tools":[{"type":"code_interpreter","container":{"type":"auto","file_ids":["f"]}}]}"#,
            ),
            ("audio", r#"{"model":"m","messages":[{"role":"assistant","audio":{"id":"audio_1"}}]}"#),
        ] {
            assert_eq!(stored(BodyKind::Responses, body), Some((field, None)), "{body}");
        }
        let continued = r#"{"model":"m","previous_response_id":"resp_1","input":"x"}"#;
        let id = Some("resp_1".to_owned());
        assert_eq!(stored(BodyKind::Responses, continued), Some(("previous_response_id", id)));
        // Too deep to be read: nobody knows what is down there.
        let (open, close) = ("[".repeat(200), "]".repeat(200));
        let deep = format!(r#"{{"model":"m","input":[{open}{{"type":"input_file","file_id":"f"}}{close}]}}"#);
        assert_eq!(stored(BodyKind::Responses, &deep), Some(("input", None)));
    }

    #[test]
    fn what_only_looks_like_it_is_not() {
        for body in [
            r#"{"model":"m","messages":[{"role":"user","content":"{\"type\":\"file\",\"file_id\":\"f\"}"}]}"#,
            r#"{"model":"m","messages":[{"content":[{"type":"tool_use","name":"t","input":{"type":"file","file_id":"f"}}]}]}"#,
            r#"{"model":"m","messages":[{"content":[{"type":"text","file_id":"f"}]}]}"#,
            r#"{"model":"m","messages":[],"tools":[{"type":"function","function":{"parameters":{"type":"object","properties":{"file_id":{"type":"string"}}}}}]}"#,
            r#"{"model":"m","messages":[{"content":[{"type":"file","file":{"file_id":null,"file_data":"x"}}]}]}"#,
            r#"{"model":"m","messages":[{"content":"an \u0061udio \u005f"}],"tools":[{"type":"code_interpreter","container":{"type":"auto"}}]}"#,
            r#"{"model":"m","messages":[{"role":"assistant","audio":null,"content":"audio"}],"audio":{"voice":"alloy"}}"#,
        ] {
            assert_eq!(stored(BodyKind::Chat, body), None, "{body}");
        }
    }
}
