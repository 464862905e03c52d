//! Error bodies of our own, in the envelope that the client's endpoint promises.

use serde::Serialize;

/// Whose envelope a client expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Envelope {
    /// `{"error":{"message","type","param","code"}}`.
    OpenAi,
    /// `{"type":"error","error":{"type","message"},"request_id"}`.
    Anthropic,
    /// `{"error":{"code","message","metadata"}}`, where the code is the HTTP status as a number.
    OpenRouter,
}

/// One refusal, to be written in any envelope.
#[derive(Debug, Clone, Copy)]
pub struct ErrorBody<'a> {
    /// The HTTP status it goes out with.
    pub status: u16,
    /// `OpenAI`'s type. In Anthropic's envelope the type follows from the status, because that set is closed.
    pub type_: &'a str,
    /// The machine's word for it; Anthropic's envelope carries it as `error.code`, which its clients ignore,
    /// `OpenRouter`'s as `metadata.error_type`.
    pub code: &'a str,
    /// The field to blame.
    pub param: Option<&'a str>,
    /// What happened and what to do, for people.
    pub message: &'a str,
    /// Our id of the request, for Anthropic's envelope.
    pub request_id: Option<&'a str>,
}

impl ErrorBody<'_> {
    /// The bytes of the body.
    pub fn render(&self, envelope: Envelope) -> Vec<u8> {
        #[derive(Serialize)]
        struct OpenAi<'a> {
            error: OpenAiError<'a>,
        }
        #[derive(Serialize)]
        struct OpenAiError<'a> {
            message: &'a str,
            r#type: &'a str,
            param: Option<&'a str>,
            code: &'a str,
        }
        #[derive(Serialize)]
        struct Anthropic<'a> {
            r#type: &'a str,
            error: AnthropicError<'a>,
            request_id: Option<&'a str>,
        }
        #[derive(Serialize)]
        struct AnthropicError<'a> {
            r#type: &'a str,
            message: &'a str,
            code: &'a str,
        }
        #[derive(Serialize)]
        struct OpenRouter<'a> {
            error: OpenRouterError<'a>,
        }
        #[derive(Serialize)]
        struct OpenRouterError<'a> {
            code: u16,
            message: &'a str,
            metadata: OpenRouterMetadata<'a>,
        }
        #[derive(Serialize)]
        struct OpenRouterMetadata<'a> {
            error_type: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            param: Option<&'a str>,
        }
        let ErrorBody { status, type_, code, param, message, request_id } = *self;
        let body = match envelope {
            Envelope::OpenAi => {
                serde_json::to_vec(&OpenAi { error: OpenAiError { message, r#type: type_, param, code } })
            }
            Envelope::Anthropic => {
                let error = AnthropicError { r#type: anthropic_type(status), message, code };
                serde_json::to_vec(&Anthropic { r#type: "error", error, request_id })
            }
            Envelope::OpenRouter => {
                let metadata = OpenRouterMetadata { error_type: code, param };
                serde_json::to_vec(&OpenRouter { error: OpenRouterError { code: status, message, metadata } })
            }
        };
        // Strings always serialise.
        body.unwrap_or_default()
    }
}

/// An error body without a request id. See [`ErrorBody`].
pub fn error_body(
    envelope: Envelope,
    status: u16,
    type_: &str,
    code: &str,
    param: Option<&str>,
    message: &str,
) -> Vec<u8> {
    ErrorBody { status, type_, code, param, message, request_id: None }.render(envelope)
}

/// Anthropic's type for a status.
pub fn anthropic_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        409 => "conflict_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        503 | 529 => "overloaded_error",
        500..=599 => "api_error",
        _ => "invalid_request_error",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Envelope, ErrorBody, error_body};

    #[test]
    fn openai_envelope_has_all_four_fields() {
        let bytes = error_body(
            Envelope::OpenAi,
            400,
            "invalid_request_error",
            "invalid_type",
            Some("n"),
            "say \"1\"\n",
        );
        let body: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(
            body,
            json!({"error":{"message":"say \"1\"\n","type":"invalid_request_error","param":"n","code":"invalid_type"}})
        );
        let bytes = error_body(Envelope::OpenAi, 500, "server_error", "x", None, "m");
        let body: Value = serde_json::from_slice(&bytes).unwrap();
        assert!(body["error"].as_object().unwrap().contains_key("param"));
    }

    #[test]
    fn openrouter_envelope_has_the_status_for_its_code() {
        for (param, metadata) in [
            (Some("n"), json!({"error_type":"invalid_type","param":"n"})),
            (None, json!({"error_type":"invalid_type"})),
        ] {
            let bytes = error_body(Envelope::OpenRouter, 400, "t", "invalid_type", param, "m");
            let body: Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(body, json!({"error":{"code":400,"message":"m","metadata":metadata}}));
        }
    }

    #[test]
    fn anthropic_envelope_takes_its_type_from_the_status() {
        for (status, kind) in [
            (400, "invalid_request_error"),
            (413, "request_too_large"),
            (415, "invalid_request_error"),
            (429, "rate_limit_error"),
            (502, "api_error"),
            (529, "overloaded_error"),
        ] {
            let error =
                ErrorBody { status, type_: "t", code: "c", param: None, message: "m", request_id: Some("r") };
            let body: Value = serde_json::from_slice(&error.render(Envelope::Anthropic)).unwrap();
            assert_eq!(
                body,
                json!({"type":"error","error":{"type":kind,"message":"m","code":"c"},"request_id":"r"})
            );
        }
    }
}
