//! The many shapes of an error body, brought into one.

use serde_json::Value;

use super::text_of;
use crate::text::cut;

/// An error body larger than this is not parsed, in bytes.
const BODY_BYTES_MAX: usize = 64 << 10;

/// How much of a message is searched, in bytes.
const MESSAGE_BYTES_MAX: usize = 4 << 10;

/// What an error body says.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// What it says to people.
    pub(crate) message: String,
    /// The same in lower case, for the rules.
    pub(crate) lower: String,
    /// `type`.
    pub(crate) kind: String,
    /// `code`, a number as text.
    pub(crate) code: String,
    /// `status`, Google's word.
    pub(crate) status: String,
    /// `OpenRouter`'s stable word, from wherever it stands.
    pub(crate) error_type: String,
    /// `OpenRouter`: particulars.
    pub(crate) metadata: Value,
    /// `OpenRouter`: why a model cannot be routed.
    pub(crate) availability: Value,
    /// Anthropic: an object; Google: a list.
    pub(crate) details: Value,
    /// The body is Anthropic's envelope.
    pub(crate) anthropic_envelope: bool,
    /// The body is a page, not an API's answer.
    pub(crate) is_page: bool,
}

impl Said {
    /// Reads a whole error body, whatever it is.
    pub(crate) fn read(body: &[u8]) -> Said {
        let body = body.trim_ascii_start();
        let parsed =
            (body.len() <= BODY_BYTES_MAX).then(|| serde_json::from_slice::<Value>(body).ok()).flatten();
        let Some(mut value) = parsed else {
            let start = String::from_utf8_lossy(&body[..body.len().min(MESSAGE_BYTES_MAX)]);
            let is_page = start.starts_with('<');
            let said = Said { is_page, ..Said::default() };
            return if is_page { said } else { said.saying(&start) };
        };
        // Google wraps errors of streams in a list.
        if let Value::Array(items) = &mut value {
            let first = items.first_mut().map(Value::take);
            value = first.unwrap_or_default();
        }
        let anthropic_envelope = value["type"] == "error" && value["error"].is_object();
        let mut said = match &value["error"] {
            inner @ Value::Object(_) => Said::from_value(inner, &value),
            Value::String(message) => Said::from_value(&value, &value).saying_first(message),
            _ => Said::from_value(&value, &value),
        };
        said.anthropic_envelope = anthropic_envelope;
        said
    }

    /// Reads an error object that stands alone, or a mere string.
    pub(crate) fn from_error(raw: &str) -> Said {
        if raw.len() > BODY_BYTES_MAX {
            return Said::default();
        }
        match serde_json::from_str::<Value>(raw).unwrap_or_default() {
            Value::String(message) => Said::default().saying(&message),
            value => Said::from_value(&value, &Value::Null),
        }
    }

    /// Takes the fields from the error object; what stands beside it in the body fills in.
    fn from_value(error: &Value, beside: &Value) -> Said {
        let kind = text_of(error, "type");
        let metadata = error["metadata"].clone();
        let words = [&metadata["error_type"], &error["error_type"], &beside["error_type"]];
        let error_type = words.iter().find_map(|word| word.as_str()).unwrap_or_default();
        let code = text_of(error, "code");
        let said = Said {
            // An event's or envelope's own type is no error type.
            kind: if kind == "error" { String::new() } else { kind },
            code: if code.is_empty() { text_of(error, "http_status") } else { code },
            status: text_of(error, "status"),
            error_type: error_type.to_owned(),
            availability: error["availability"].clone(),
            details: error["details"].clone(),
            metadata,
            ..Said::default()
        };
        let message =
            [&error["message"], &error["detail"], &error["error"], &beside["message"], &beside["detail"]];
        match message.iter().find(|value| !value.is_null()) {
            Some(Value::String(text)) => said.saying(text),
            // FastAPI lists what it did not like.
            Some(Value::Array(list)) => {
                said.saying(list.first().map_or("", |item| item["msg"].as_str().unwrap_or("")))
            }
            Some(Value::Object(object)) => {
                said.saying(object.get("message").and_then(Value::as_str).unwrap_or(""))
            }
            _ => said,
        }
    }

    fn saying(mut self, message: &str) -> Said {
        cut(message.trim(), MESSAGE_BYTES_MAX).clone_into(&mut self.message);
        self.lower = self.message.to_ascii_lowercase();
        self
    }

    fn saying_first(self, message: &str) -> Said {
        if self.message.is_empty() { self.saying(message) } else { self }
    }

    /// The words by which the error names itself, the most particular first.
    pub(crate) fn words(&self) -> [&str; 4] {
        [&self.code, &self.kind, &self.error_type, &self.status]
    }

    /// The message holds this text, case aside. `mark` must be in lower case.
    pub(crate) fn says(&self, mark: &str) -> bool {
        self.lower.contains(mark)
    }

    /// The HTTP status that the body names as its code.
    pub(crate) fn status_named(&self) -> Option<u16> {
        self.code.parse().ok().filter(|status| (400..600).contains(status))
    }
}
