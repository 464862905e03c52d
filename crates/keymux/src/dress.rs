//! What an answer wears when it leaves: the provider's headers without what must not cross, and who gave it.

use crate::answer::Context;
use crate::body::Body;
use crate::story::Story;
use crate::upstream::Head;
use crate::{headers, redact};
use bytes::Bytes;
use http::Response;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http_body_util::Full;
use keymux_policy::fleet::Endpoint;
use keymux_wire::answer::is_json_object;
use keymux_wire::body::{Envelope, error_body};

/// A provider's own error, as it came but for what must not cross. One that says nothing a program could read (empty,
/// or a page of HTML) is told in the words of the endpoint's dialect.
pub fn relayed_error(context: &Context<'_>, head: &Head, body: Bytes, story: &Story) -> Response<Body> {
    let status = head.status.as_u16();
    let silent = !is_json_object(&body);
    let body = match &context.key.credential {
        _ if silent => Bytes::from(silent_error(context.endpoint, status)),
        Some((_, sent)) => redact::credential(body, sent),
        None => body,
    };
    let mut response = answer_whole(context, head, body, story);
    let headers = response.headers_mut();
    // Its length may be another now; hyper knows.
    headers.remove(CONTENT_LENGTH);
    if silent {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if status == 429 {
        // Final: whatever could be waited for has been.
        headers.insert(X_SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    response
}

fn silent_error(endpoint: Endpoint, status: u16) -> Vec<u8> {
    let envelope = match endpoint {
        Endpoint::Messages | Endpoint::CountTokens => Envelope::Anthropic,
        _ => Envelope::OpenAi,
    };
    let type_ = if status < 500 { "invalid_request_error" } else { "api_error" };
    let message = format!("The provider answered {status} without saying why.");
    error_body(envelope, status, type_, "provider_error", None, &message)
}

/// An answer that is known whole.
pub fn answer_whole(context: &Context<'_>, head: &Head, body: Bytes, story: &Story) -> Response<Body> {
    dressed(context, head, story, Body::Whole(Full::new(body)))
}

const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
const X_PROVIDER: HeaderName = HeaderName::from_static("x-keymux-provider");
const X_KEY: HeaderName = HeaderName::from_static("x-keymux-key");
const X_ATTEMPTS: HeaderName = HeaderName::from_static("x-keymux-attempts");
const X_QUEUE_MS: HeaderName = HeaderName::from_static("x-keymux-queue-ms");

/// The answer without what must not cross, and with who gave it.
pub fn dressed(context: &Context<'_>, head: &Head, story: &Story, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    let mut headers = headers::to_caller(head);
    headers.insert(X_PROVIDER, context.upstream.shown.clone());
    if context.expose_keys {
        headers.insert(X_KEY, context.key.shown.clone());
    }
    headers.insert(X_ATTEMPTS, number(u64::from(story.attempts())));
    headers.insert(X_QUEUE_MS, number(story.queue_ms()));
    *response.headers_mut() = headers;
    response
}

/// A number; the usual ones without an allocation.
fn number(n: u64) -> HeaderValue {
    match n {
        0 => HeaderValue::from_static("0"),
        1 => HeaderValue::from_static("1"),
        n => HeaderValue::from(n),
    }
}
