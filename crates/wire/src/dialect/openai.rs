//! Refusals of `OpenAI`'s dialect, and of the servers that follow it with words of their own: Azure, Gemini, Groq,
//! Mistral, DeepSeek, xAI, vLLM, llama.cpp.

use crate::error::{
    ErrorFacts, Evidence, LimitScope, Sign, by_message, google_quota, limit_named, rate_limited,
};
use crate::limits::{Dimension, Period, Profile};

/// What a code or type means, whatever the status. Words that say no more than the status are left out.
const WORDS: &[(&str, Sign)] = &[
    // The request.
    ("context_length_exceeded", Sign::ContextTooLong),
    ("exceed_context_size_error", Sign::ContextTooLong),
    ("string_above_max_length", Sign::ContextTooLong),
    ("content_filter", Sign::ContentRefused),
    ("content_policy_violation", Sign::ContentRefused),
    ("image_content_policy_violation", Sign::ContentRefused),
    ("moderation_blocked", Sign::ContentRefused),
    ("ResponsibleAIPolicyViolation", Sign::ContentRefused),
    ("model_not_found", Sign::ModelUnknown),
    ("model_decommissioned", Sign::ModelUnknown),
    ("DeploymentNotFound", Sign::ModelUnknown),
    ("unknown_url", Sign::NotSupported),
    ("OperationNotSupported", Sign::NotSupported),
    // The key.
    ("invalid_api_key", Sign::KeyRefused),
    ("account_deactivated", Sign::KeyRefused),
    ("API_KEY_INVALID", Sign::KeyRefused),
    ("UNAUTHENTICATED", Sign::KeyRefused),
    ("ip_not_authorized", Sign::KeyForbidden),
    ("PERMISSION_DENIED", Sign::KeyForbidden),
    ("unsupported_country_region_territory", Sign::RegionRefused),
    // Money. A project's own limit binds its keys, not the organisation.
    ("project_spend_limit_exceeded", Sign::KeyCap),
    ("insufficient_quota", Sign::NoMoney),
    ("credit_balance_exhausted", Sign::NoMoney),
    ("organization_spend_limit_exceeded", Sign::NoMoney),
    ("organization_usage_limit_exceeded", Sign::NoMoney),
    ("billing_hard_limit_reached", Sign::NoMoney),
    ("billing_not_active", Sign::NoMoney),
    ("insufficient_balance", Sign::NoMoney),
    // Capacity.
    ("server_is_overloaded", Sign::Overloaded),
    ("engine_overloaded", Sign::Overloaded),
    ("overloaded_error", Sign::Overloaded),
    ("service_unavailable", Sign::Overloaded),
    ("UNAVAILABLE", Sign::Overloaded),
    ("resource_unavailable", Sign::SharedCapacity),
    ("flex_capacity_exceeded", Sign::SharedCapacity),
    ("capacity_exceeded", Sign::SharedCapacity),
    ("server_error", Sign::ServerError),
    ("INTERNAL", Sign::ServerError),
    ("DEADLINE_EXCEEDED", Sign::TimedOut),
];

/// Words for "too fast"; which limit it was stands elsewhere in the refusal.
const TOO_FAST: &[&str] = &[
    "rate_limit_exceeded",
    "rate_limit_error",
    "rate_limited",
    "RateLimitReached",
    "too_many_requests",
    "quota_exceeded",
    "RESOURCE_EXHAUSTED",
    "tokens",
    "requests",
];

pub(crate) fn sign(evidence: &Evidence<'_>, facts: &mut ErrorFacts) -> Option<Sign> {
    let said = evidence.said;
    if let Some(sign) = google(evidence, facts) {
        return Some(sign);
    }
    for word in said.words().into_iter().filter(|word| !word.is_empty()) {
        if let Some((_, sign)) = WORDS.iter().find(|(known, _)| word == *known) {
            return Some(*sign);
        }
        if word == "slow_down" {
            // The organisation's traffic grew too fast, all its models together.
            return Some(rate_limited(evidence, LimitScope::Account));
        }
    }
    let too_fast = evidence.status == 429 || said.words().iter().any(|word| TOO_FAST.contains(word));
    if too_fast {
        return Some(too_fast_sign(evidence, facts));
    }
    by_message(evidence)
}

/// Which "too fast" it is: one that never passes, or one that does.
fn too_fast_sign(evidence: &Evidence<'_>, facts: &ErrorFacts) -> Sign {
    let said = evidence.said;
    let sizes = facts.requested.zip(facts.limit);
    // Groq sends it with a 413, OpenAI with a 429.
    if said.says("request too large") || sizes.is_some_and(|(requested, limit)| requested > limit) {
        return Sign::TooLargeForLimit;
    }
    if let Some(sign) = by_message(evidence) {
        return sign;
    }
    // Mistral without a plan: an allowance of nothing.
    let none_allowed = evidence.measured.iter().any(|m| m.limit == Some(0) && m.remaining.unwrap_or(0) == 0);
    if none_allowed && evidence.profile != Profile::Azure {
        return Sign::NoMoney;
    }
    rate_limited(evidence, LimitScope::Unknown)
}

/// Gemini's details, which contradict its text: the message of every 429 speaks of plan and billing, and a day's quota
/// can come with a wait of seconds.
fn google(evidence: &Evidence<'_>, facts: &mut ErrorFacts) -> Option<Sign> {
    let said = evidence.said;
    let reason =
        said.details.as_array().and_then(|list| list.iter().find_map(|item| item["reason"].as_str()));
    if let Some((_, sign)) = reason.and_then(|reason| WORDS.iter().find(|(known, _)| reason == *known)) {
        return Some(*sign);
    }
    let quota = google_quota(&said.details);
    if said.status != "RESOURCE_EXHAUSTED" && quota.is_none() {
        return None;
    }
    let (id, wait) = quota.unwrap_or_default();
    // The model is not part of this project's tier.
    if id.ends_with(" =0") || said.lower.contains("limit: 0,") {
        return Some(Sign::ModelUnknown);
    }
    let lower = id.to_ascii_lowercase();
    let dimension = match () {
        () if lower.contains("inputtoken") || lower.contains("input_token") => Some(Dimension::InputTokens),
        () if lower.contains("token") => Some(Dimension::TotalTokens),
        () if lower.contains("request") => Some(Dimension::Requests),
        () => None,
    };
    let period = limit_named(&lower).1.unwrap_or(Period::Unknown);
    match period {
        // Its stated wait is not when a day's quota is whole again.
        Period::Day => facts.retry_after_ns = None,
        _ => facts.retry_after_ns = facts.retry_after_ns.or(wait),
    }
    if dimension.is_none() && period == Period::Unknown {
        return Some(rate_limited(evidence, LimitScope::Model));
    }
    Some(Sign::RateLimited { dimension, period, scope: LimitScope::Model })
}
