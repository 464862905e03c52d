//! OpenAI's error bodies, and those of vendors that copy the rest but not these (Mistral, Azure).

use crate::dialect::HeaderFamily;
use crate::fault::ForbiddenWhy;
use crate::json::quote;
use crate::refusal::{Ctx, Limited, Refusal, Why, axis};
use crate::spec::Dimension;
use crate::time::{go_duration, retry_after_s};

struct Words {
    status: u16,
    kind: &'static str,
    code: Option<String>,
    param: Option<&'static str>,
    message: String,
}

pub(super) fn write(refusal: &Refusal, ctx: &Ctx<'_>) -> (u16, String) {
    if let (Why::RateLimit(_), Some(other)) = (&refusal.why, other_vendor(refusal, ctx)) {
        return (429, other);
    }
    let words = words(refusal, ctx);
    let code = words.code.as_deref().map_or_else(|| "null".to_owned(), quote);
    let param = words.param.map_or_else(|| "null".to_owned(), quote);
    let kind = if words.kind.is_empty() { "null".to_owned() } else { quote(words.kind) };
    let body = format!(
        "{{\n  \"error\": {{\n    \"message\": {},\n    \"type\": {kind},\n    \"param\": {param},\n    \"code\": {code}\n  }}\n}}\n",
        quote(&words.message)
    );
    (words.status, body)
}

fn say(status: u16, kind: &'static str, code: &str, message: impl Into<String>) -> Words {
    let code = (!code.is_empty()).then(|| code.to_owned());
    Words { status, kind, code, param: None, message: message.into() }
}

const INVALID: &str = "invalid_request_error";

fn words(refusal: &Refusal, ctx: &Ctx<'_>) -> Words {
    match &refusal.why {
        Why::NoKey => say(
            401,
            INVALID,
            "",
            "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth.",
        ),
        Why::BadKey => say(
            401,
            INVALID,
            "invalid_api_key",
            "Incorrect API key provided. You can find your API key at https://platform.openai.com/account/api-keys.",
        ),
        Why::RateLimit(limited) => limited_words(refusal, limited, ctx),
        Why::Exhausted { code } => exhausted(code.as_deref().unwrap_or("insufficient_quota")),
        Why::Credits => exhausted("insufficient_quota"),
        Why::TooDear { .. } | Why::Billing => say(402, "insufficient_balance", "", "Insufficient Balance"),
        Why::InFlight => say(429, "rate_limit_error", "slow_down", "Too much spending in flight. Slow down."),
        Why::KeyCap | Why::WorkspaceBudget => exhausted("project_spend_limit_exceeded"),
        Why::Forbidden(ForbiddenWhy::Region) => say(
            403,
            "request_forbidden",
            "unsupported_country_region_territory",
            "Country, region, or territory not supported",
        ),
        Why::Forbidden(ForbiddenWhy::Moderation) => say(
            400,
            INVALID,
            "content_policy_violation",
            "Your request was rejected as a result of our safety system.",
        ),
        Why::Forbidden(_) | Why::NeedsManagementKey => {
            say(403, INVALID, "", "You have insufficient permissions for this operation.")
        }
        Why::Relayed { status } => plain_status(*status),
        Why::Status { code } => plain_status(*code),
        Why::Overloaded => say(
            503,
            "service_unavailable_error",
            "server_is_overloaded",
            "Our servers are currently overloaded. Please try again later.",
        ),
        request => about_request(request, ctx),
    }
}

/// Refusals that are the request's own fault.
fn about_request(why: &Why, ctx: &Ctx<'_>) -> Words {
    match why {
        // Of an aggregator's alone; it stands here for completeness.
        Why::ModelMissing | Why::TooDearThere => say(
            404,
            INVALID,
            "model_not_found",
            format!("The model `{}` does not exist or you do not have access to it.", ctx.model),
        ),
        Why::ContextLength { context, requested } => Words {
            param: Some("messages"),
            ..say(
                400,
                INVALID,
                "context_length_exceeded",
                format!(
                    "This model's maximum context length is {context} tokens. However, your messages resulted in {requested} tokens. Please reduce the length of the messages."
                ),
            )
        },
        Why::NoPath => say(404, INVALID, "unknown_url", "Invalid URL. Please check the path and the method."),
        Why::Method => say(
            405,
            INVALID,
            "method_not_supported",
            "Not allowed: this method is not supported on this path.",
        ),
        Why::Invalid { message, param } => Words { param: *param, ..say(400, INVALID, "", message.clone()) },
        Why::NoResponse { id } => say(404, INVALID, "", format!("Response with id '{id}' not found.")),
        Why::PreviousResponse { id } => Words {
            param: Some("previous_response_id"),
            ..say(
                400,
                INVALID,
                "previous_response_not_found",
                format!("Previous response with id '{id}' not found."),
            )
        },
        _ => plain_status(500),
    }
}

fn plain_status(status: u16) -> Words {
    match status {
        401 => say(401, INVALID, "invalid_api_key", "Incorrect API key provided."),
        402 => say(402, "insufficient_balance", "", "Insufficient Balance"),
        403 => say(403, INVALID, "", "Forbidden"),
        404 => say(404, INVALID, "", "Not found"),
        408 => say(408, "timeout", "", "Request timed out."),
        413 => say(413, INVALID, "", "Request entity too large."),
        422 => say(422, INVALID, "", "Unprocessable entity."),
        429 => say(429, "requests", "rate_limit_exceeded", "Rate limit reached."),
        400..=499 => say(status, INVALID, "", "Bad request."),
        503 => say(
            503,
            "service_unavailable_error",
            "server_is_overloaded",
            "The server is currently overloaded with other requests. Sorry about that!",
        ),
        _ => say(
            status,
            "server_error",
            "",
            "The server had an error while processing your request. Sorry about that!",
        ),
    }
}

fn exhausted(code: &str) -> Words {
    let message = if code == "insufficient_quota" {
        "You exceeded your current quota, please check your plan and billing details. For more information on this error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors."
    } else {
        "The spending limit of this organization or project is reached. Raise it or add credit to go on."
    };
    say(429, "insufficient_quota", code, message)
}

fn limited_words(refusal: &Refusal, limited: &Limited, ctx: &Ctx<'_>) -> Words {
    let kind = match limited.dimension {
        Dimension::Requests | Dimension::Concurrent => "requests",
        _ => "tokens",
    };
    let Limited { limit, used, requested, .. } = limited;
    let (axis, model, account) = (axis(limited), ctx.model, ctx.account);
    if limited.never {
        return say(
            429,
            kind,
            "rate_limit_exceeded",
            format!(
                "Request too large for {model} in organization {account} on {axis}: Limit {limit}, Requested {requested}. The input or output tokens must be reduced in order to run successfully."
            ),
        );
    }
    let again = refusal
        .wait_in_text()
        .map_or_else(String::new, |ns| format!(" Please try again in {}.", go_duration(ns)));
    say(
        429,
        kind,
        "rate_limit_exceeded",
        format!(
            "Rate limit reached for {model} in organization {account} on {axis}: Limit {limit}, Used {used}, Requested {requested}.{again} Visit https://platform.openai.com/account/rate-limits to learn more."
        ),
    )
}

/// Rate-limit bodies that differ from OpenAI's although the rest is the same.
fn other_vendor(refusal: &Refusal, ctx: &Ctx<'_>) -> Option<String> {
    match ctx.family {
        HeaderFamily::Mistral => Some(
            r#"{"object":"error","message":"Rate limit exceeded","type":"rate_limited","param":null,"code":"1300"}"#
                .to_owned(),
        ),
        HeaderFamily::Azure => {
            let again = refusal
                .wait_in_text()
                .map_or_else(String::new, |ns| format!(" Please retry after {} seconds.", retry_after_s(ns)));
            Some(format!(
                r#"{{"error":{{"code":"429","message":{}}}}}"#,
                quote(&format!("Requests to this deployment have exceeded the call rate limit of your current pricing tier.{again}"))
            ))
        }
        _ => None,
    }
}
