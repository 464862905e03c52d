//! What a request takes from a provider's store: a response it continues, a conversation, files and items by their ids.
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
        if !head.seen.types {
            return None;
        }
        let parts = [&head.messages, &head.input];
        parts.into_iter().flatten().find_map(named_in).and_then(of)
    }
}

/// The words are looked for first: hardly any body has them, and those that do are read once more.
fn named_in(part: &RawSpan<'_>) -> Option<&'static str> {
    let has = |word: &str| memmem::find(part.raw.as_bytes(), word.as_bytes()).is_some();
    if !has("\"file_id\"") && !has("\"item_reference\"") {
        return None;
    }
    named(&serde_json::from_str(part.raw).ok()?)
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
        ] {
            assert_eq!(stored(BodyKind::Responses, body), Some((field, None)), "{body}");
        }
        let continued = r#"{"model":"m","previous_response_id":"resp_1","input":"x"}"#;
        let id = Some("resp_1".to_owned());
        assert_eq!(stored(BodyKind::Responses, continued), Some(("previous_response_id", id)));
    }

    #[test]
    fn what_only_looks_like_it_is_not() {
        for body in [
            r#"{"model":"m","messages":[{"role":"user","content":"{\"type\":\"file\",\"file_id\":\"f\"}"}]}"#,
            r#"{"model":"m","messages":[{"content":[{"type":"tool_use","name":"t","input":{"type":"file","file_id":"f"}}]}]}"#,
            r#"{"model":"m","messages":[{"content":[{"type":"text","file_id":"f"}]}]}"#,
            r#"{"model":"m","messages":[],"tools":[{"type":"function","function":{"parameters":{"type":"object","properties":{"file_id":{"type":"string"}}}}}]}"#,
            r#"{"model":"m","messages":[{"content":[{"type":"file","file":{"file_id":null,"file_data":"x"}}]}]}"#,
        ] {
            assert_eq!(stored(BodyKind::Chat, body), None, "{body}");
        }
    }
}
