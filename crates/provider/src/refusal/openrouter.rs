//! OpenRouter's errors: `{error:{message,code,metadata}}`, limit sources, and errors relayed from behind it.

use std::fmt::Write as _;

use crate::fault::{ForbiddenWhy, LimitSource};
use crate::headers::epoch_ms;
use crate::json::quote;
use crate::refusal::{Ctx, Limited, Refusal, Why};
use crate::spec::Dimension;
use crate::time::{DAY, go_duration, rfc3339};

pub(super) fn write(refusal: &Refusal, ctx: &Ctx<'_>) -> (u16, String) {
    let (status, message, metadata) = words(refusal, ctx);
    let mut body = format!(r#"{{"error":{{"message":{},"code":{status}"#, quote(&message));
    if !metadata.is_empty() {
        let _ = write!(body, r#","metadata":{{{metadata}}}"#);
    }
    match refusal.why {
        Why::ModelMissing => {
            body.push_str(r#","availability":{"code":"model_not_found","retryable":false}"#);
        }
        Why::TooDearThere => body.push_str(
            r#","availability":{"code":"constraint_filtered","retryable":false,"constraint":{"field":"max_price"}}"#,
        ),
        _ => {}
    }
    body.push('}');
    if !ctx.account.is_empty() {
        let _ = write!(body, r#","user_id":{}"#, quote(ctx.account));
    }
    body.push('}');
    (status, body)
}

fn error_type(kind: &str) -> String {
    format!(r#""error_type":"{kind}""#)
}

fn source(kind: &str, source: &str) -> String {
    format!(r#""error_type":"{kind}","limit_source":"{source}""#)
}

fn words(refusal: &Refusal, ctx: &Ctx<'_>) -> (u16, String, String) {
    let say = |status: u16, message: &str, metadata: String| (status, message.to_owned(), metadata);
    let until = rfc3339(ctx.now.unix_ns - ctx.now.unix_ns % DAY + DAY);
    match &refusal.why {
        Why::NoKey => say(401, "No auth credentials found", String::new()),
        Why::BadKey => say(401, "User not found.", String::new()),
        Why::RateLimit(limited) => limited_words(refusal, limited, ctx),
        Why::Exhausted { .. } | Why::Credits => say(
            402,
            "Insufficient credits. Add more using https://openrouter.ai/settings/credits",
            source("payment_required", "openrouter_credits"),
        ),
        Why::TooDear { affordable_tokens } => (
            402,
            format!("This request requires more credits, or fewer max_tokens. You can only afford {affordable_tokens} tokens. To increase, visit https://openrouter.ai/settings/credits"),
            source("payment_required", "openrouter_credits") + r#","reason":"weight_exceeds_budget""#,
        ),
        Why::InFlight => say(
            402,
            "In-flight budget exhausted: wait for open requests to finish or add credits.",
            source("payment_required", "openrouter_in_flight_budget") + r#","reason":"in_flight_budget_exhausted""#,
        ),
        Why::Billing => say(402, "Payment required.", error_type("payment_required")),
        Why::KeyCap => say(
            403,
            "Key limit exceeded (daily limit). Manage it using https://openrouter.ai/settings/keys",
            source("permission_denied", "openrouter_key_limit") + &format!(r#","resets_at":"{until}""#),
        ),
        Why::Forbidden(ForbiddenWhy::Guardrail) => say(403, "Budget limit exceeded for this guardrail.", budget("openrouter_guardrail_budget", &until)),
        Why::WorkspaceBudget => say(403, "Budget limit exceeded for this workspace.", budget("openrouter_workspace_budget", &until)),
        Why::Forbidden(ForbiddenWhy::Moderation) => say(
            403,
            "Your chosen model requires moderation and your input was flagged for \"violence\".",
            error_type("content_policy_violation") + r#","reasons":["violence"],"flagged_input":"…","provider_name":"Simulated","model_slug":"simulated/model""#,
        ),
        Why::Forbidden(_) => say(403, "This key is not allowed to do that.", error_type("permission_denied")),
        Why::NeedsManagementKey => say(403, "Only management keys can perform this operation", String::new()),
        Why::Relayed { status } => (*status, "Provider returned error".to_owned(), relayed(*status)),
        Why::Status { code } => say(*code, message_of(*code), if *code == 500 { error_type("server") } else { error_type(type_of(*code)) }),
        Why::ModelMissing => (400, format!("{} is not a valid model ID", ctx.model), error_type("invalid_request")),
        Why::TooDearThere => (404, format!("No endpoints found for {}", ctx.model), error_type("not_found")),
        Why::ContextLength { context, requested } => (
            400,
            format!("This endpoint's maximum context length is {context} tokens. However, you requested about {requested} tokens."),
            error_type("context_length_exceeded"),
        ),
        Why::Overloaded => say(
            429,
            "Provider returned error",
            r#""raw":"this model is temporarily rate-limited upstream. Please retry shortly, or add your own key","provider_name":"Simulated","is_byok":false,"error_type":"rate_limit_exceeded","limit_source":"upstream_provider_shared_pool""#.to_owned(),
        ),
        Why::NoPath => say(404, "Not Found", String::new()),
        Why::Method => say(405, "Method Not Allowed", String::new()),
        Why::Invalid { message, .. } => (400, message.clone(), error_type("invalid_request")),
        Why::NoResponse { id } | Why::PreviousResponse { id } => (404, format!("{id} not found"), error_type("not_found")),
    }
}

fn budget(name: &str, until: &str) -> String {
    source("permission_denied", name)
        + &format!(r#","scope":"workspace","limit_usd":10,"spend_usd":10.02,"resets_at":"{until}""#)
}

fn relayed(status: u16) -> String {
    let raw = format!(r#"{{"error":{{"message":"upstream says {status}","type":"upstream_error"}}}}"#);
    format!(
        r#""raw":{},"provider_name":"Simulated","is_byok":false,"error_type":"{}","provider_code":{status}"#,
        quote(&raw),
        type_of(status)
    )
}

fn type_of(status: u16) -> &'static str {
    match status {
        401 => "authentication",
        402 => "payment_required",
        403 => "permission_denied",
        404 => "not_found",
        408 | 504 | 524 => "timeout",
        413 => "payload_too_large",
        422 => "unprocessable",
        429 => "rate_limit_exceeded",
        400..=499 => "invalid_request",
        502 => "provider_unavailable",
        503 | 529 => "provider_overloaded",
        _ => "server",
    }
}

fn message_of(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "User not found.",
        408 | 504 | 524 => "Request timed out",
        429 => "Rate limit exceeded",
        502 => "Bad Gateway: invalid response from the provider",
        503 | 529 => "Provider overloaded",
        _ => "Internal Server Error",
    }
}

/// Rate limits of the platform repeat their headers in the body, as strings, reset in epoch milliseconds.
fn limited_words(refusal: &Refusal, limited: &Limited, ctx: &Ctx<'_>) -> (u16, String, String) {
    let (limit, model) = (limited.limit, ctx.model);
    let day = limited.period_ns >= DAY;
    let free = ctx.model.ends_with(":free");
    let named = match limited.source {
        None if free && day => Some(LimitSource::FreeTierDaily),
        None if free && limited.dimension == Dimension::Requests => Some(LimitSource::FreeTierMinute),
        other => other,
    };
    let (message, name) = match named {
        Some(LimitSource::FreeTierDaily) => {
            ("Rate limit exceeded: free-models-per-day".to_owned(), Some("openrouter_free_tier_daily"))
        }
        Some(LimitSource::FreeTierMinute) => {
            ("Rate limit exceeded: free-models-per-min".to_owned(), Some("openrouter_free_tier_minute"))
        }
        Some(LimitSource::SharedCapacity) => (
            format!("High demand for {model} on OpenRouter - limited to {limit} requests per minute"),
            Some("openrouter_shared_capacity"),
        ),
        Some(LimitSource::UpstreamSharedPool) => {
            let text = r#""raw":"this model is temporarily rate-limited upstream. Please retry shortly","provider_name":"Simulated","is_byok":false,"error_type":"rate_limit_exceeded","limit_source":"upstream_provider_shared_pool""#;
            return (429, "Provider returned error".to_owned(), text.to_owned());
        }
        _ => {
            let what = if limited.dimension == Dimension::Requests { "requests" } else { "tokens" };
            (format!("Rate limit exceeded: limit_{what}/{model}"), None)
        }
    };
    let again = refusal
        .wait_ns
        .filter(|_| refusal.form == crate::fault::RateLimitTime::BodyText)
        .map_or_else(String::new, |ns| format!(". Please try again in {}.", go_duration(ns)));
    let mut metadata = error_type("rate_limit_exceeded");
    if let Some(name) = name {
        let _ = write!(metadata, r#","limit_source":"{name}""#);
    }
    if let Some(wait) = refusal.wait_ns.filter(|_| refusal.form == crate::fault::RateLimitTime::ResetHeader) {
        let reset = epoch_ms(ctx.now, wait);
        let _ = write!(
            metadata,
            r#","headers":{{"X-RateLimit-Limit":"{limit}","X-RateLimit-Remaining":"0","X-RateLimit-Reset":"{reset}"}}"#
        );
    }
    (429, message + &again, metadata)
}
