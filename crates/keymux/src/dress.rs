//! What an answer wears when it leaves: the provider's headers without what must not cross, and who gave it.

use crate::answer::Context;
use crate::body::Body;
use crate::reply::Reply;
use crate::story::Story;
use crate::upstream::Head;
use crate::{headers, redact};
use bytes::Bytes;
use keymux_wire::answer::is_json_object;
use keymux_wire::body::{Envelope, error_body};
use keymux_wire::error::Dialect;

/// A provider's own error, as it came but for what must not cross. One that says nothing a program could read (empty,
/// or a page of HTML) is told in the words of the endpoint's dialect.
pub fn relayed_error(context: &Context<'_>, head: &Head, body: Bytes, story: &Story) -> Reply {
    let status = head.status.as_u16();
    let silent = !is_json_object(&body);
    let body = match &context.key.credential {
        _ if silent => Bytes::from(silent_error(context.envelope, status)),
        Some((_, sent)) => redact::credential(body, sent),
        None => body,
    };
    let mut reply = dressed(context, head, story, Body::Whole(body), silent.then_some("application/json"));
    if status == 429 {
        // Final: whatever could be waited for has been.
        reply.field("x-should-retry", b"false");
    }
    reply
}

fn silent_error(envelope: Envelope, status: u16) -> Vec<u8> {
    let type_ = if status < 500 { "invalid_request_error" } else { "api_error" };
    let message = format!("The provider answered {status} without saying why.");
    error_body(envelope, status, type_, "provider_error", None, &message)
}

/// The answer without what must not cross, and with who gave it.
pub fn dressed(
    context: &Context<'_>,
    head: &Head,
    story: &Story,
    body: Body,
    media_type: Option<&str>,
) -> Reply {
    let mut reply = Reply::new(head.status, body);
    headers::to_caller(&mut reply, head, media_type);
    reply.field("x-keymux-provider", context.upstream.shown.as_bytes());
    if context.expose_keys {
        reply.field("x-keymux-key", context.key.shown.as_bytes());
    }
    reply.number("x-keymux-attempts", u64::from(story.attempts()));
    reply.number("x-keymux-queue-ms", story.queue_ms());
    if let Some(cap) = context.plan.cap {
        reply.number("x-keymux-max-tokens", cap);
    }
    if let (Some(priced), Dialect::OpenRouter) = (&context.plan.priced, context.upstream.dialect) {
        reply.field("x-keymux-max-price", priced.told.as_bytes());
    }
    reply
}
