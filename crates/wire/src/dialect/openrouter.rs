//! Refusals of `OpenRouter`: an aggregator's facts beside `OpenAI`'s.
//!
//! Three things matter. `metadata.limit_source` says which of many limits it was. An error of a provider behind it is
//! relayed under that provider's status, and then it never speaks of our key. And a 402 may pass: money held for
//! requests in flight.

use serde_json::Value;

use crate::error::{
    ErrorFacts, Evidence, LimitScope, Said, Sign, by_message, by_status, rate_limited, text_of,
};
use crate::limits::{self, Dimension, Period, Profile};
use crate::{text, when};

const FREE_DAY: Sign = Sign::RateLimited {
    dimension: Some(Dimension::Requests),
    period: Period::Day,
    scope: LimitScope::AccountFreeModels,
};
const FREE_MINUTE: Sign = Sign::RateLimited {
    dimension: Some(Dimension::Requests),
    period: Period::Minute,
    scope: LimitScope::AccountFreeModels,
};

/// `metadata.limit_source`.
const SOURCES: &[(&str, Sign)] = &[
    ("openrouter_in_flight_budget", Sign::InFlightMoney),
    ("openrouter_credits", Sign::NoMoney),
    ("openrouter_key_limit", Sign::KeyCap),
    // A member's or workspace's budget: narrower than the account, so it is laid to the key.
    ("openrouter_guardrail_budget", Sign::KeyCap),
    ("openrouter_workspace_budget", Sign::KeyCap),
    ("openrouter_free_tier_daily", FREE_DAY),
    ("openrouter_free_tier_minute", FREE_MINUTE),
    ("openrouter_shared_capacity", Sign::SharedCapacity),
    ("upstream_provider_shared_pool", Sign::UpstreamCapacity),
];

/// Texts of refusals that carry no source.
const MARKS: &[(&[u16], &str, Sign)] = &[
    (&[429], "free-models-per-day", FREE_DAY),
    (&[429], "free-models-per-min", FREE_MINUTE),
    (&[429], "high demand for", Sign::SharedCapacity),
    (&[429], "temporarily rate-limited upstream", Sign::UpstreamCapacity),
    (&[402], "in-flight", Sign::InFlightMoney),
    (&[402], "in flight", Sign::InFlightMoney),
    (&[402, 403], "key limit exceeded", Sign::KeyCap),
    (&[400, 404, 503], "max_price", Sign::TooDear),
    (&[400, 404, 503], "max price", Sign::TooDear),
    (&[400, 404, 503], "maximum price", Sign::TooDear),
    // What the caller's own choice of providers leaves: no sign of a load, whatever the status.
    (&[503], "routing requirements", Sign::ModelUnknown),
    (&[503], "no endpoints found", Sign::ModelUnknown),
];

/// `error.availability.code`.
const AVAILABILITY: &[(&str, Sign)] = &[
    ("model_not_found", Sign::ModelUnknown),
    ("wrong_endpoint", Sign::NotSupported),
    ("no_endpoints", Sign::ModelUnknown),
    ("model_deprecated", Sign::ModelUnknown),
    ("model_unavailable_upstream", Sign::ModelUnknown),
    ("free_variant_ended", Sign::ModelUnknown),
    // The account's own privacy settings leave no provider: another account may have some.
    ("privacy_restricted", Sign::ModelUnknown),
    ("constraint_filtered", Sign::BadRequest),
    ("capacity_exhausted", Sign::SharedCapacity),
    ("temporarily_unavailable", Sign::Overloaded),
    ("region_restricted", Sign::RegionRefused),
];

/// `metadata.error_type`, where it says more than the status.
const TYPES: &[(&str, Sign)] = &[
    ("context_length_exceeded", Sign::ContextTooLong),
    ("max_tokens_exceeded", Sign::ContextTooLong),
    ("token_limit_exceeded", Sign::ContextTooLong),
    ("string_too_long", Sign::ContextTooLong),
    ("authentication", Sign::KeyRefused),
    ("permission_denied", Sign::KeyForbidden),
    ("payment_required", Sign::NoMoney),
    ("provider_overloaded", Sign::UpstreamCapacity),
    ("provider_unavailable", Sign::ServerError),
    ("invalid_request", Sign::BadRequest),
    ("invalid_prompt", Sign::BadRequest),
    ("not_found", Sign::ModelUnknown),
    ("precondition_failed", Sign::BadRequest),
    ("payload_too_large", Sign::BadRequest),
    ("unprocessable", Sign::BadRequest),
    ("content_policy_violation", Sign::ContentRefused),
    ("refusal", Sign::ContentRefused),
    ("invalid_image", Sign::BadRequest),
    ("image_too_large", Sign::BadRequest),
    ("image_too_small", Sign::BadRequest),
    ("unsupported_image_format", Sign::BadRequest),
    ("image_not_found", Sign::BadRequest),
    ("image_download_failed", Sign::BadRequest),
    ("server", Sign::ServerError),
    ("timeout", Sign::TimedOut),
];

/// The body holds what only `OpenRouter` writes, whichever dialect was configured.
pub(crate) fn is_its_shape(said: &Said) -> bool {
    let metadata = &said.metadata;
    said.availability.is_object()
        || metadata["limit_source"].is_string()
        || metadata["provider_name"].is_string()
}

pub(crate) fn sign(evidence: &Evidence<'_>, facts: &mut ErrorFacts) -> Option<Sign> {
    let said = evidence.said;
    let metadata = &said.metadata;
    facts.upstream = metadata["provider_name"].as_str().and_then(text::word);
    facts.relayed = facts.upstream.is_some() && said.message == "Provider returned error";
    if !said.error_type.is_empty() {
        facts.error_type = text::word(&said.error_type);
    }
    stated_times(evidence, facts);
    if facts.relayed {
        return Some(behind(evidence));
    }
    if evidence.status == 403 && (metadata["flagged_input"].is_string() || metadata["reasons"].is_array()) {
        return Some(Sign::ContentRefused);
    }
    let found = |table: &[(&str, Sign)], word: &str| {
        table.iter().find(|(known, _)| word == *known).map(|(_, sign)| *sign)
    };
    let code = text_of(&said.availability, "code");
    let by_availability = found(AVAILABILITY, &code)
        .or((said.availability["retryable"] == Value::Bool(true)).then_some(Sign::Overloaded));
    let by_availability = match by_availability {
        Some(Sign::BadRequest) if said.availability["constraint"]["field"] == "max_price" => {
            Some(Sign::TooDear)
        }
        other => other,
    };
    let sign = found(SOURCES, &text_of(metadata, "limit_source"))
        .or_else(|| {
            let marked = MARKS.iter().find(|(on, mark, _)| on.contains(&evidence.status) && said.says(mark));
            marked.map(|(_, _, sign)| *sign)
        })
        .or(by_availability)
        // The text of a 400 can say more than its type ("not a valid model").
        .or_else(|| (evidence.status == 400).then(|| by_message(evidence)).flatten())
        .or_else(|| found(TYPES, &said.error_type));
    match sign {
        // Without a source: only what passes carries a wait.
        Some(Sign::NoMoney) | None if evidence.status == 402 => Some(money(evidence, facts)),
        None if evidence.status == 429 => Some(rate_limited(evidence, LimitScope::Account)),
        Some(FREE_DAY) => {
            // It resets at midnight UTC, whether it says so or not.
            let midnight = if evidence.unix_ns > 0 { when::next_day(evidence.unix_ns) } else { None };
            facts.ready_at_unix_ns = facts.ready_at_unix_ns.or(midnight);
            Some(FREE_DAY)
        }
        other => other,
    }
}

/// Which want of money a 402 is.
fn money(evidence: &Evidence<'_>, facts: &ErrorFacts) -> Sign {
    let metadata = &evidence.said.metadata;
    let reason = text_of(metadata, "reason");
    if reason == "weight_exceeds_budget" {
        return Sign::TooLargeForLimit;
    }
    let has_source = metadata["limit_source"].is_string();
    let passes = reason == "in_flight_budget_exhausted" || (!has_source && facts.retry_after_ns.is_some());
    if passes { Sign::InFlightMoney } else { Sign::NoMoney }
}

/// The times that stand in the body: the headers it repeats (with the reset in milliseconds since 1970), the reset of
/// a budget, the wait of an unavailable model.
fn stated_times(evidence: &Evidence<'_>, facts: &mut ErrorFacts) {
    let metadata = &evidence.said.metadata;
    if let Some(headers) = metadata["headers"].as_object() {
        let texts: Vec<(&str, String)> = headers
            .keys()
            .take(16)
            .map(|name| (name.as_str(), text_of(&metadata["headers"], name)))
            .collect();
        let mut measured = Vec::new();
        let pairs = texts.iter().map(|(name, value)| (*name, value.as_bytes()));
        limits::read(Profile::OpenRouter, pairs.clone(), evidence.unix_ns, &mut measured);
        facts.retry_after_ns = facts.retry_after_ns.or_else(|| limits::retry_after(pairs, evidence.unix_ns));
        if let Some(measurement) = measured.first() {
            facts.limit = facts.limit.or(measurement.limit);
            let reset = measurement.reset_ns.filter(|_| evidence.unix_ns > 0);
            facts.ready_at_unix_ns = reset.map(|wait| evidence.unix_ns.saturating_add(wait));
        }
    }
    if let Some(at) = metadata["resets_at"].as_str().and_then(when::instant) {
        facts.ready_at_unix_ns = Some(at);
    }
    if facts.retry_after_ns.is_none() {
        let seconds = text_of(&evidence.said.availability, "retry_after");
        facts.retry_after_ns = when::until(&seconds, evidence.unix_ns);
    }
}

/// The sign of a relayed error: what the provider behind says, but never about our key or our account.
fn behind(evidence: &Evidence<'_>) -> Sign {
    let raw = text_of(&evidence.said.metadata, "raw");
    let said = Said::read(raw.as_bytes());
    // A source beside the raw text is the aggregator's own word for it.
    if evidence.said.metadata["limit_source"] == "upstream_provider_shared_pool" {
        return Sign::UpstreamCapacity;
    }
    let inner = Evidence { said: &said, measured: &[], profile: Profile::Generic, ..*evidence };
    let mut facts = ErrorFacts::new(evidence.status);
    let anthropic = said.anthropic_envelope.then(|| super::anthropic::sign(&inner, &mut facts)).flatten();
    let sign = anthropic
        .or_else(|| super::openai::sign(&inner, &mut facts))
        .or_else(|| TYPES.iter().find(|(known, _)| evidence.said.error_type == *known).map(|(_, sign)| *sign))
        .unwrap_or_else(|| by_status(&inner));
    match sign {
        Sign::KeyRefused | Sign::KeyForbidden | Sign::KeyCap | Sign::NoMoney | Sign::InFlightMoney => {
            Sign::ServerError
        }
        Sign::RateLimited { .. } | Sign::TooLargeForLimit | Sign::SharedCapacity | Sign::Overloaded => {
            Sign::UpstreamCapacity
        }
        other => other,
    }
}
