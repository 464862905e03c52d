//! Anthropic's envelope; OpenRouter's `/messages` wears it too, with an `error_type` beside it.

use crate::dialect::Dialect;
use crate::fault::ForbiddenWhy;
use crate::json::quote;
use crate::refusal::{Ctx, Limited, Refusal, Why, axis};
use crate::time::go_duration;

pub(super) fn write(refusal: &Refusal, ctx: &Ctx<'_>) -> (u16, String) {
    let (status, kind, message) = words(refusal, ctx);
    let details = match &refusal.why {
        Why::Exhausted { code } if ctx.dialect == Dialect::Anthropic => {
            let code = code.as_deref().unwrap_or("enforced_spend_limit_reached");
            format!(r#","details":{{"error_code":{}}}"#, quote(code))
        }
        _ => String::new(),
    };
    let error_type = if ctx.dialect == Dialect::Openrouter {
        format!(r#","error_type":"{}""#, openrouter_type(status))
    } else {
        String::new()
    };
    let body = format!(
        r#"{{"type":"error","error":{{"type":"{kind}","message":{}{details}{error_type}}},"request_id":{}}}"#,
        quote(&message),
        quote(ctx.request_id)
    );
    (status, body)
}

const INVALID: &str = "invalid_request_error";

fn words(refusal: &Refusal, ctx: &Ctx<'_>) -> (u16, &'static str, String) {
    let openrouter = ctx.dialect == Dialect::Openrouter;
    let say = |status: u16, kind: &'static str, message: &str| (status, kind, message.to_owned());
    match &refusal.why {
        Why::NoKey => say(401, "authentication_error", "x-api-key header is required"),
        Why::BadKey => say(401, "authentication_error", "invalid x-api-key"),
        Why::RateLimit(limited) => (429, "rate_limit_error", limited_text(refusal, limited)),
        Why::Exhausted { .. } => say(
            429,
            "rate_limit_error",
            "You have reached your enforced spend limit. Access returns at the start of the next month.",
        ),
        Why::Credits if openrouter => say(402, "billing_error", "Insufficient credits. Add more to go on."),
        Why::Credits => say(
            400,
            INVALID,
            "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits.",
        ),
        Why::TooDear { affordable_tokens } => (
            402,
            "billing_error",
            format!(
                "This request requires more credits, or fewer max_tokens. You can only afford {affordable_tokens}."
            ),
        ),
        Why::InFlight => say(
            402,
            "billing_error",
            "The in-flight budget of this account is exhausted. Wait for open requests to finish.",
        ),
        Why::Billing => {
            say(402, "billing_error", "There is a problem with the billing of this organization.")
        }
        Why::KeyCap if openrouter => say(403, "permission_error", "Key limit exceeded (total limit)."),
        Why::KeyCap => say(
            400,
            INVALID,
            "You have reached your specified API usage limits. You will regain access on the first of next month.",
        ),
        Why::Forbidden(ForbiddenWhy::Moderation) => {
            say(403, "permission_error", "Your chosen model requires moderation and your input was flagged.")
        }
        Why::Forbidden(_) | Why::WorkspaceBudget | Why::NeedsManagementKey => say(
            403,
            "permission_error",
            "Your API key does not have permission to use the specified resource.",
        ),
        Why::Relayed { status } => (*status, kind_of(*status), "Provider returned error".to_owned()),
        Why::Status { code } => (*code, kind_of(*code), message_of(*code).to_owned()),
        Why::ModelMissing => (404, "not_found_error", format!("model: {}", ctx.model)),
        Why::TooDearThere => (
            404,
            "not_found_error",
            format!("No endpoints found for {} within the given max_price", ctx.model),
        ),
        Why::ContextLength { context, requested } => {
            (400, INVALID, format!("prompt is too long: {requested} tokens > {context} maximum"))
        }
        Why::Overloaded => say(529, "overloaded_error", "Overloaded"),
        Why::NoPath | Why::NoResponse { .. } | Why::PreviousResponse { .. } => {
            say(404, "not_found_error", "Not found")
        }
        Why::Method => say(405, INVALID, "Method Not Allowed"),
        Why::Invalid { message, param } => {
            let text = param.map_or_else(|| message.clone(), |param| format!("{param}: {message}"));
            (400, INVALID, text)
        }
    }
}

fn limited_text(refusal: &Refusal, limited: &Limited) -> String {
    let (limit, axis) = (limited.limit, axis(limited));
    if limited.never {
        return format!("This request is larger than your organization's rate limit of {limit} {axis}.");
    }
    let again = refusal
        .wait_in_text()
        .filter(|_| !limited.real)
        .map_or_else(String::new, |ns| format!(" Please try again in {}.", go_duration(ns)));
    format!(
        "This request would exceed your organization's rate limit of {limit} {axis}.{again} For details, refer to: https://docs.claude.com/en/api/rate-limits."
    )
}

fn kind_of(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        _ => "api_error",
    }
}

fn message_of(status: u16) -> &'static str {
    match status {
        400..=499 => "Bad request",
        529 => "Overloaded",
        _ => "Internal server error",
    }
}

fn openrouter_type(status: u16) -> &'static str {
    match status {
        400 => "invalid_request",
        401 => "authentication",
        402 => "payment_required",
        403 => "permission_denied",
        404 => "not_found",
        429 => "rate_limit_exceeded",
        502 => "provider_unavailable",
        503 | 529 => "provider_overloaded",
        _ => "server",
    }
}
