//! What one line of a batch asks for. A line is a call in the form of OpenAI's Batch API, one in the form of Anthropic's,
//! or just a prompt; whatever it is, what comes out is an endpoint and a body. A line that is none of these is told of
//! with its number and kept out. Knows no file and no network.

use crate::surface::{self, Lost, Surface};
use bytes::Bytes;
use http::Method;
use keymux_policy::fleet::Endpoint;
use keymux_wire::body::Envelope;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Longest name of a line.
const CUSTOM_ID_BYTES_MAX: usize = 512;

/// A line that can be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Its name.
    pub custom_id: String,
    /// What it calls.
    pub endpoint: Endpoint,
    /// What errors look like on its path.
    pub envelope: Envelope,
    /// The body.
    pub body: Bytes,
}

/// A line that cannot be sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Bad {
    /// Its name, if it has one.
    pub custom_id: Option<String>,
    /// For machines.
    pub code: &'static str,
    /// For people: what is wrong, and the mend. Says no line number; who tells it adds that.
    pub message: String,
}

impl Bad {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { custom_id: None, code, message: message.into() }
    }

    fn named(mut self, custom_id: &str) -> Self {
        self.custom_id = Some(custom_id.to_owned());
        self
    }
}

/// The fields by which a call is known. Numbers of any form are told of, not guessed at.
#[derive(Deserialize)]
struct Wrapped<'a> {
    #[serde(borrow)]
    custom_id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<&'a RawValue>,
    #[serde(borrow)]
    url: Option<&'a RawValue>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

/// What has to be known of a body before it is sent.
#[derive(Deserialize)]
struct Inside<'a> {
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    stream: Option<&'a RawValue>,
}

/// Reads a line. `number` names it if it does not name itself; `model` is for bodies that name none.
///
/// # Errors
/// What is wrong with it.
pub fn read(text: &str, number: u64, model: Option<&str>) -> Result<Call, Bad> {
    let wrapped: Wrapped<'_> = serde_json::from_str(text).map_err(|error| unread(text, &error))?;
    if wrapped.params.is_some() || wrapped.url.is_some() || wrapped.body.is_some() || wrapped.method.is_some()
    {
        return wrapped.call(model);
    }
    let fields: BTreeMap<String, &RawValue> =
        serde_json::from_str(text).map_err(|error| unread(text, &error))?;
    simple(fields, number, model)
}

fn unread(text: &str, error: &serde_json::Error) -> Bad {
    if !text.starts_with('{') && error.is_data() {
        return Bad::new("invalid_json", "it is JSON, but no object; a line is one object, `{…}`");
    }
    let told = error.to_string().replace("line 1 column", "column");
    Bad::new("invalid_json", format!("it is no JSON object: {told}"))
}

fn text_of(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

impl Wrapped<'_> {
    fn call(&self, model: Option<&str>) -> Result<Call, Bad> {
        let missing = |field: &str| {
            let told =
                format!("`{field}` is missing; a line is {{\"custom_id\", \"method\", \"url\", \"body\"}}");
            Bad::new("missing_field", told)
        };
        let custom_id = name(self.custom_id.ok_or_else(|| missing("custom_id"))?)?;
        let (endpoint, envelope, body) = if let Some(params) = self.params {
            (Endpoint::Messages, Envelope::Anthropic, params)
        } else {
            let (endpoint, envelope) = self.place(&missing).map_err(|bad| bad.named(&custom_id))?;
            (endpoint, envelope, self.body.ok_or_else(|| missing("body").named(&custom_id))?)
        };
        let body = complete(body.get(), model, endpoint).map_err(|bad| bad.named(&custom_id))?;
        Ok(Call { custom_id, endpoint, envelope, body })
    }

    fn place(&self, missing: &impl Fn(&str) -> Bad) -> Result<(Endpoint, Envelope), Bad> {
        let wrong = |field: &str| Bad::new("invalid_field", format!("`{field}` is no text"));
        if let Some(method) = self.method {
            let method = text_of(method).ok_or_else(|| wrong("method"))?;
            if !method.eq_ignore_ascii_case("POST") {
                let shown: String = method.chars().take(20).collect();
                return Err(Bad::new("unknown_method", format!("`method` is `{shown}`; only POST is sent")));
            }
        }
        let url = text_of(self.url.ok_or_else(|| missing("url"))?).ok_or_else(|| wrong("url"))?;
        let path = surface::normal(&url);
        match surface::find(&Method::POST, &path) {
            Ok(Surface::Call(endpoint)) => Ok((endpoint, surface::envelope_of_normal(&path))),
            Ok(_) | Err(Lost::Path | Lost::Method(_)) => {
                let shown: String = url.chars().take(120).collect();
                let told = format!(
                    "`url` is `{shown}`; give /v1/chat/completions, /v1/completions, /v1/embeddings, \
                     /v1/responses or /v1/messages"
                );
                Err(Bad::new("unknown_url", told))
            }
        }
    }
}

fn name(raw: &RawValue) -> Result<String, Bad> {
    let custom_id = text_of(raw)
        .ok_or_else(|| Bad::new("invalid_field", "`custom_id` is no text; write it in quotes"))?;
    if custom_id.is_empty() || custom_id.len() > CUSTOM_ID_BYTES_MAX {
        let told = format!("`custom_id` has {} bytes; give 1 to {CUSTOM_ID_BYTES_MAX}", custom_id.len());
        return Err(Bad::new("invalid_field", told));
    }
    Ok(custom_id)
}

/// The code of a line that only lacks a model.
pub const NO_MODEL: &str = "missing_model";

/// A body as it goes out: with a model, and not as a stream.
fn complete(body: &str, model: Option<&str>, endpoint: Endpoint) -> Result<Bytes, Bad> {
    let inside: Inside<'_> = match serde_json::from_str(body) {
        Ok(inside) if body.starts_with('{') => inside,
        _ => return Err(Bad::new("invalid_field", "the body is no object, or says a thing twice")),
    };
    if inside.stream.is_some_and(|stream| stream.get() == "true") {
        let told = "it asks for a stream, and a line has one answer; leave `stream` out";
        return Err(Bad::new("stream_unsupported", told));
    }
    match (inside.model, model) {
        (None, Some(model)) => {
            let rest = body[1..].trim_start();
            let comma = if rest.starts_with('}') { "" } else { "," };
            Ok(Bytes::from(format!("{{\"model\":{}{comma}{rest}", serde_json::Value::from(model))))
        }
        // A moderation may leave it to the provider.
        (None, None) if endpoint != Endpoint::Moderations => {
            let told = "it names no model; give `model` in the line, or --model for all lines";
            Err(Bad::new(NO_MODEL, told))
        }
        _ => Ok(Bytes::copy_from_slice(body.as_bytes())),
    }
}

/// A line without an envelope: its fields are the body's. A prompt is a chat of one message.
fn simple(fields: BTreeMap<String, &RawValue>, number: u64, model: Option<&str>) -> Result<Call, Bad> {
    let message;
    let mut fields = fields;
    let custom_id = match (fields.remove("custom_id"), fields.remove("id")) {
        (Some(raw), _) => name(raw)?,
        // Whatever it is: people number things.
        (None, Some(raw)) => text_of(raw).unwrap_or_else(|| raw.get().to_owned()),
        (None, None) => format!("line-{number}"),
    };
    let endpoint = if let Some(prompt) = fields.remove("prompt") {
        let Some(text) = text_of(prompt) else {
            return Err(Bad::new("invalid_field", "`prompt` is no text").named(&custom_id));
        };
        let mut messages = Vec::new();
        if let Some(system) = fields.remove("system") {
            let Some(system) = text_of(system) else {
                return Err(Bad::new("invalid_field", "`system` is no text").named(&custom_id));
            };
            messages.push(serde_json::json!({ "role": "system", "content": system }));
        }
        messages.push(serde_json::json!({ "role": "user", "content": text }));
        message = RawValue::from_string(serde_json::Value::from(messages).to_string());
        if let Ok(message) = &message {
            fields.insert("messages".to_owned(), message);
        }
        Endpoint::ChatCompletions
    } else if fields.contains_key("messages") {
        Endpoint::ChatCompletions
    } else if fields.contains_key("input") {
        Endpoint::Embeddings
    } else {
        let told = "it is no call: give `custom_id`, `method`, `url` and `body`, or just `prompt`";
        return Err(Bad::new("missing_field", told).named(&custom_id));
    };
    let body = serde_json::to_string(&fields).unwrap_or_default();
    let body = complete(&body, model, endpoint).map_err(|bad| bad.named(&custom_id))?;
    Ok(Call { custom_id, endpoint, envelope: Envelope::OpenAi, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str, model: Option<&str>) -> (String, Endpoint, String) {
        let call = read(text, 7, model).unwrap();
        (call.custom_id, call.endpoint, String::from_utf8(call.body.to_vec()).unwrap())
    }

    fn bad(text: &str) -> Bad {
        read(text, 7, Some("m")).unwrap_err()
    }

    #[test]
    fn a_call_in_openais_form_keeps_its_body_byte_for_byte() {
        let text = r#"{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{"model":"e", "x" :1e3,"input":"ü"}}"#;
        let expected = r#"{"model":"e", "x" :1e3,"input":"ü"}"#;
        assert_eq!(body(text, Some("other")), ("a".into(), Endpoint::Embeddings, expected.into()));
        for (url, endpoint, envelope) in [
            ("/v1/chat/completions", Endpoint::ChatCompletions, Envelope::OpenAi),
            ("/v1/completions/", Endpoint::Completions, Envelope::OpenAi),
            ("/v1/responses", Endpoint::Responses, Envelope::OpenAi),
            ("/v1/messages", Endpoint::Messages, Envelope::Anthropic),
            ("/api/v1/chat/completions", Endpoint::ChatCompletions, Envelope::OpenRouter),
        ] {
            let text = format!(r#"{{"custom_id":"a","url":"{url}","body":{{"model":"m"}}}}"#);
            let call = read(&text, 1, None).unwrap();
            assert_eq!((call.endpoint, call.envelope), (endpoint, envelope), "{url}");
        }
    }

    #[test]
    fn a_call_in_anthropics_form_is_a_message() {
        let text = r#"{"custom_id":"a","params":{"model":"m","max_tokens":5}}"#;
        let call = read(text, 1, None).unwrap();
        assert_eq!((call.endpoint, call.envelope), (Endpoint::Messages, Envelope::Anthropic));
        assert_eq!(call.body, r#"{"model":"m","max_tokens":5}"#);
    }

    #[test]
    fn a_prompt_is_a_chat_and_what_else_it_says_goes_with_it() {
        let (id, endpoint, sent) = body(r#"{"prompt":"Say \"hi\"","max_tokens":3}"#, Some("m"));
        assert_eq!((&*id, endpoint), ("line-7", Endpoint::ChatCompletions));
        let sent: serde_json::Value = serde_json::from_str(&sent).unwrap();
        let expected = serde_json::json!({"model": "m", "max_tokens": 3,
            "messages": [{"role": "user", "content": "Say \"hi\""}]});
        assert_eq!(sent, expected);
        let (id, _, sent) = body(r#"{"id":12,"model":"own","system":"s","prompt":"p"}"#, Some("m"));
        assert_eq!(id, "12");
        assert!(sent.contains("\"own\"") && sent.contains("system") && !sent.contains("\"m\""), "{sent}");
        assert_eq!(body(r#"{"input":["a"]}"#, Some("m")).1, Endpoint::Embeddings);
        assert_eq!(body(r#"{"messages":[]}"#, Some("m")).1, Endpoint::ChatCompletions);
    }

    #[test]
    fn a_model_for_all_lines_is_only_for_bodies_without_one() {
        let text = r#"{"custom_id":"a","url":"/v1/completions","body":{ "prompt":"x"}}"#;
        assert_eq!(body(text, Some("m\"")).2, r#"{"model":"m\"","prompt":"x"}"#);
        let empty = r#"{"custom_id":"a","url":"/v1/completions","body":{}}"#;
        assert_eq!(body(empty, Some("m")).2, r#"{"model":"m"}"#);
        assert_eq!(read(r#"{"prompt":"x"}"#, 1, None).unwrap_err().code, NO_MODEL);
        let text = r#"{"custom_id":"a","url":"/v1/chat/completions","body":{"messages":[]}}"#;
        assert_eq!(read(text, 1, None).unwrap_err().code, NO_MODEL);
        let text = r#"{"custom_id":"a","url":"/v1/moderations","body":{}}"#;
        assert_eq!(body(text, None).2, "{}", "the provider has one of its own");
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said_with_the_mend() {
        for (text, code, told) in [
            ("{\"custom_id\":\"a\",", "invalid_json", "column"),
            ("[1]", "invalid_json", "no object"),
            ("{} x", "invalid_json", "column"),
            ("{}", "missing_field", "`prompt`"),
            (r#"{"url":"/v1/messages","body":{}}"#, "missing_field", "`custom_id`"),
            (r#"{"custom_id":"a","body":{}}"#, "missing_field", "`url`"),
            (r#"{"custom_id":"a","url":"/v1/messages"}"#, "missing_field", "`body`"),
            (r#"{"custom_id":"a","url":"/v1/models","body":{}}"#, "unknown_url", "/v1/models"),
            (r#"{"custom_id":"a","url":"/healthz","body":{}}"#, "unknown_url", "/healthz"),
            (r#"{"custom_id":"a","method":"GET","url":"/v1/messages","body":{}}"#, "unknown_method", "GET"),
            (r#"{"custom_id":5,"url":"/v1/messages","body":{}}"#, "invalid_field", "quotes"),
            (r#"{"custom_id":"","url":"/v1/messages","body":{}}"#, "invalid_field", "0 bytes"),
            (r#"{"custom_id":"a","url":"/v1/messages","body":[]}"#, "invalid_field", "no object"),
            (
                r#"{"custom_id":"a","url":"/v1/messages","body":{"stream":true}}"#,
                "stream_unsupported",
                "stream",
            ),
            (
                r#"{"custom_id":"a","custom_id":"b","url":"/v1/messages","body":{}}"#,
                "invalid_json",
                "duplicate",
            ),
            (r#"{"prompt":5}"#, "invalid_field", "`prompt`"),
        ] {
            let bad = bad(text);
            assert_eq!(bad.code, code, "{text}: {bad:?}");
            assert!(bad.message.contains(told), "{text}: {bad:?}");
        }
        assert_eq!(bad(r#"{"custom_id":"a","body":{}}"#).custom_id.as_deref(), Some("a"));
    }
}
