//! What holds for every dialect: texts without a code, the status as the last resort, limits and waits in prose.

use serde_json::Value;

use super::{ErrorFacts, Evidence, LimitScope, Said, Sign};
use crate::limits::{Dimension, Period, Profile};
use crate::when;

/// Texts that mean something under certain statuses, for servers that give no code. In lower case; the first that
/// matches counts. An empty list of statuses means any.
const MARKS: &[(&[u16], &str, Sign)] = &[
    (&[400, 402, 403], "credit balance is too low", Sign::NoMoney),
    (&[400, 403, 429], "reached your specified api usage limits", Sign::NoMoney),
    (&[402, 403, 429], "insufficient balance", Sign::NoMoney),
    (&[402, 403, 429], "insufficient credit", Sign::NoMoney),
    (&[403, 429], "any credits", Sign::NoMoney),
    (&[401, 402, 403, 412], "suspended", Sign::NoMoney),
    (&[429], "check your plan and billing", Sign::NoMoney),
    (&[400, 401, 403], "api key not valid", Sign::KeyRefused),
    (&[400, 401, 403], "incorrect api key", Sign::KeyRefused),
    (&[400, 401, 403], "invalid api key", Sign::KeyRefused),
    (&[400, 401, 403], "api key expired", Sign::KeyRefused),
    (&[400, 403], "location is not supported", Sign::RegionRefused),
    (&[400, 403], "country, region, or territory not supported", Sign::RegionRefused),
    (&[400, 413, 422, 500], "context length", Sign::ContextTooLong),
    (&[400, 413, 422, 500], "context window", Sign::ContextTooLong),
    (&[400, 413, 422, 500], "context size", Sign::ContextTooLong),
    (&[400, 413, 422, 500], "maximum context", Sign::ContextTooLong),
    (&[400, 413, 422], "prompt is too long", Sign::ContextTooLong),
    (&[400, 413, 422], "input is too long", Sign::ContextTooLong),
    (&[400, 413, 422], "reduce the length of the messages", Sign::ContextTooLong),
    (&[400, 403, 422], "content management policy", Sign::ContentRefused),
    (&[400, 403, 422], "content policy", Sign::ContentRefused),
    (&[400, 403, 422], "safety system", Sign::ContentRefused),
    (&[400, 403, 422], "requires moderation", Sign::ContentRefused),
    (&[503], "loading model", Sign::Overloaded),
];

/// How a text says that a model is not there.
const NO_MODEL: &[&str] = &[
    "not found",
    "not exist",
    "no such model",
    "unknown model",
    "not a valid model",
    "invalid model",
    "unavailable",
];

/// The sign of a text that has no code.
pub(crate) fn by_message(evidence: &Evidence<'_>) -> Option<Sign> {
    let (status, said) = (evidence.status, evidence.said);
    if said.lower.is_empty() {
        return None;
    }
    let marked = MARKS.iter().find(|(statuses, mark, _)| statuses.contains(&status) && said.says(mark));
    if let Some((_, _, sign)) = marked {
        return Some(*sign);
    }
    let about_model = matches!(status, 400 | 404) && (said.says("model") || said.says("deployment"));
    (about_model && NO_MODEL.iter().any(|mark| said.says(mark))).then_some(Sign::ModelUnknown)
}

/// The sign of a status about which the body said nothing that is known.
pub(crate) fn by_status(evidence: &Evidence<'_>) -> Sign {
    let said = evidence.said;
    match evidence.status {
        401 => Sign::KeyRefused,
        402 => Sign::NoMoney,
        // A page comes from something in front of the API (an address is blocked): it knows nothing of our key.
        403 if said.is_page => Sign::Unrecognised,
        403 => Sign::KeyForbidden,
        404 if said.says("model") => Sign::ModelUnknown,
        404 | 405 | 501 => Sign::NotSupported,
        408 | 504 | 524 => Sign::TimedOut,
        429 => rate_limited(evidence, LimitScope::Unknown),
        451 => Sign::RegionRefused,
        // Groq: the flexible tier is full.
        498 => Sign::SharedCapacity,
        499 => Sign::ClientClosed,
        503 | 529 => Sign::Overloaded,
        // Bedrock: the model failed.
        424 | 500..=599 => Sign::ServerError,
        400..=499 => Sign::BadRequest,
        _ => Sign::Unrecognised,
    }
}

/// The status that fits an error inside a 200 that names none: what its words would have come with.
pub(super) fn status_of(said: &Said) -> u16 {
    for word in said.words() {
        let status = match word {
            "rate_limit_exceeded" | "rate_limit_error" | "insufficient_quota" | "RESOURCE_EXHAUSTED" => 429,
            "invalid_request_error" | "invalid_request" | "invalid_prompt" | "context_length_exceeded" => 400,
            "authentication_error" | "authentication" | "invalid_api_key" => 401,
            "billing_error" | "payment_required" => 402,
            "permission_error" | "permission_denied" => 403,
            "not_found_error" | "not_found" | "model_not_found" => 404,
            "request_too_large" | "payload_too_large" => 413,
            "timeout_error" | "timeout" => 504,
            "overloaded_error" => 529,
            "provider_overloaded" | "server_is_overloaded" | "service_unavailable_error" => 503,
            "provider_unavailable" => 502,
            _ => continue,
        };
        return status;
    }
    500
}

/// Finds the numbers and the wait in the text, for what headers left open.
pub(super) fn numbers_and_waits(evidence: &Evidence<'_>, facts: &mut ErrorFacts) {
    let lower = &evidence.said.lower;
    facts.limit = number_after(lower, &["limit of", "limit", "can only afford"]);
    facts.requested = number_after(lower, &["requested up to", "requested"]);
    if facts.retry_after_ns.is_none() {
        facts.retry_after_ns = wait_in(lower);
    }
}

/// The number that follows one of these words (a colon between is fine), commas between thousands undone.
fn number_after(lower: &str, words: &[&str]) -> Option<u64> {
    words.iter().find_map(|word| {
        lower.match_indices(word).find_map(|(at, _)| {
            let rest = lower[at + word.len()..].trim_start_matches([':', ' ']);
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != ',').unwrap_or(rest.len());
            rest[..end].replace(',', "").parse().ok()
        })
    })
}

/// The wait that a text asks for: "try again in 41.724s", "retry after 7 seconds", "retry in 1m2s".
fn wait_in(lower: &str) -> Option<u64> {
    let marks = ["try again in ", "retry after ", "retry in ", "try again after ", "wait "];
    marks
        .iter()
        .find_map(|mark| lower.match_indices(mark).find_map(|(at, _)| wait_at(&lower[at + mark.len()..])))
}

fn wait_at(text: &str) -> Option<u64> {
    let mut words = text.split([' ', ',', ';', '\n']).filter(|word| !word.is_empty());
    let amount = words.next()?.trim_end_matches(['.', ')', '!', '"', '\'']);
    let unit = words.next().unwrap_or_default().trim_end_matches(['.', ')', '!', '"', '\'']);
    let wait = if let Some(wait) = when::duration(amount) {
        wait
    } else {
        let factor_ms = match unit {
            "ms" | "millisecond" | "milliseconds" => 1,
            "s" | "sec" | "secs" | "second" | "seconds" => 1_000,
            "m" | "min" | "mins" | "minute" | "minutes" => 60_000,
            "h" | "hour" | "hours" => 3_600_000,
            "day" | "days" => 86_400_000,
            _ => return None,
        };
        crate::decimal::scaled(amount, 6)?.saturating_mul(factor_ms)
    };
    Some(wait.min(when::WAIT_NS_MAX))
}

/// Texts that say what there was too much of.
const DIMENSIONS: &[(&str, Dimension)] = &[
    ("input token", Dimension::InputTokens),
    ("(itpm)", Dimension::InputTokens),
    ("output token", Dimension::OutputTokens),
    ("(otpm)", Dimension::OutputTokens),
    ("concurren", Dimension::Concurrent),
    ("parallel request", Dimension::Concurrent),
    ("tokens per", Dimension::TotalTokens),
    ("token rate limit", Dimension::TotalTokens),
    ("(tpm)", Dimension::TotalTokens),
    ("(tpd)", Dimension::TotalTokens),
    ("requests per", Dimension::Requests),
    ("requests rate limit", Dimension::Requests),
    ("call rate limit", Dimension::Requests),
    ("images per", Dimension::Requests),
    ("(rpm)", Dimension::Requests),
    ("(rpd)", Dimension::Requests),
];

/// Texts that say over what time.
const PERIODS: &[(&str, Period)] = &[
    ("per day", Period::Day),
    ("per-day", Period::Day),
    ("perday", Period::Day),
    ("daily", Period::Day),
    ("per month", Period::Month),
    ("monthly", Period::Month),
    ("per hour", Period::Hour),
    ("per min", Period::Minute),
    ("per-min", Period::Minute),
    ("permin", Period::Minute),
    ("per second", Period::Second),
    ("persecond", Period::Second),
];

/// What a text limits, as far as it says.
pub(crate) fn limit_named(lower: &str) -> (Option<Dimension>, Option<Period>) {
    let dimension = DIMENSIONS.iter().find(|(mark, _)| lower.contains(mark)).map(|(_, dimension)| *dimension);
    let period = PERIODS.iter().find(|(mark, _)| lower.contains(mark)).map(|(_, period)| *period);
    (dimension, period)
}

/// The sign of a refusal for rate, with all that the body and the headers say about which limit it was.
pub(crate) fn rate_limited(evidence: &Evidence<'_>, scope: LimitScope) -> Sign {
    let said = evidence.said;
    let (mut dimension, mut period) = limit_named(&said.lower);
    if dimension.is_none() {
        dimension = match said.kind.as_str() {
            "tokens" => Some(Dimension::TotalTokens),
            "requests" => Some(Dimension::Requests),
            "input_tokens" => Some(Dimension::InputTokens),
            "output_tokens" => Some(Dimension::OutputTokens),
            _ => None,
        };
    }
    // The one limit of which nothing is left is the one.
    let mut spent = evidence.measured.iter().filter(|m| m.remaining == Some(0));
    if let (Some(only), None) = (spent.next(), spent.next())
        && dimension.is_none_or(|named| named == only.dimension)
    {
        dimension = Some(only.dimension);
        period = period.or((only.period != Period::Unknown).then_some(only.period));
    }
    let by_model = !matches!(evidence.profile, Profile::OpenRouter | Profile::Generic);
    let scope = if scope == LimitScope::Unknown && by_model { LimitScope::Model } else { scope };
    Sign::RateLimited { dimension, period: period.unwrap_or(Period::Unknown), scope }
}

/// The first violation of a Google error that counts by the day, else the first; and the wait that it states.
pub(crate) fn google_quota(details: &Value) -> Option<(String, Option<u64>)> {
    let list = details.as_array()?;
    let of_type = |name: &'static str| {
        list.iter().filter(move |item| item["@type"].as_str().is_some_and(|kind| kind.ends_with(name)))
    };
    let ids: Vec<String> = of_type("QuotaFailure")
        .filter_map(|failure| failure["violations"].as_array())
        .flatten()
        .map(|violation| {
            let value = super::text_of(violation, "quotaValue");
            format!(
                "{} {} ={value}",
                super::text_of(violation, "quotaId"),
                super::text_of(violation, "quotaMetric")
            )
        })
        .collect();
    let wait = of_type("RetryInfo").find_map(|info| when::duration(info["retryDelay"].as_str()?));
    let id = ids.iter().find(|id| id.contains("PerDay")).or(ids.first());
    if id.is_none() && wait.is_none() {
        return None;
    }
    Some((id.cloned().unwrap_or_default(), wait))
}
