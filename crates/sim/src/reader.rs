//! What an answer says, read from its headers and its text: a second, smaller reader beside the gateway's own, so that
//! the simulator knows no more than a client of the provider would. It knows the simulated vendors' words only.

use keymux_policy::fleet::Dimension;
use keymux_policy::outcome::LimitScope;
use keymux_policy::{Evidence, Measurement, Phase, Sign};
use keymux_provider::{Dialect, HeaderFamily};

/// Whose words these are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vendor {
    pub(crate) dialect: Dialect,
    pub(crate) family: HeaderFamily,
}

type Headers = [(&'static str, String)];

fn value<'h>(headers: &'h Headers, name: &str) -> Option<&'h str> {
    headers.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str())
}

/// The limits that the headers state.
pub(crate) fn measurements(vendor: Vendor, headers: &Headers, unix_ns: u64) -> Vec<Measurement> {
    let mut out = Vec::new();
    for dimension in
        [Dimension::Requests, Dimension::InputTokens, Dimension::OutputTokens, Dimension::TotalTokens]
    {
        let Some(names) = names(vendor.family, dimension) else { continue };
        let [limit, remaining, reset] = names.map(|name| value(headers, name));
        let number = |text: Option<&str>| text.and_then(|t| t.parse::<f64>().ok());
        let m = Measurement {
            dimension,
            daily: is_daily(vendor.family, dimension),
            account_wide: false,
            limit: number(limit),
            remaining: number(remaining),
            rounding: match (vendor.family, dimension) {
                (HeaderFamily::Anthropic, Dimension::Requests) => 1.0,
                (HeaderFamily::Anthropic, _) => 1_000.0,
                _ => 1.0,
            },
            reset_ns: reset.and_then(|text| match vendor.family {
                HeaderFamily::Openrouter => epoch_ms(text, unix_ns),
                _ => wait(text, unix_ns),
            }),
            reset_means_full: !matches!(vendor.family, HeaderFamily::Mistral | HeaderFamily::Openrouter),
        };
        if m.limit.is_some() || m.remaining.is_some() {
            out.push(m);
        }
    }
    out
}

fn is_daily(family: HeaderFamily, dimension: Dimension) -> bool {
    matches!(family, HeaderFamily::Groq | HeaderFamily::Cerebras) && dimension == Dimension::Requests
}

fn names(family: HeaderFamily, dimension: Dimension) -> Option<[&'static str; 3]> {
    use Dimension as D;
    use HeaderFamily as F;
    Some(match (family, dimension) {
        (F::Openai | F::Groq | F::Azure, D::Requests) => {
            ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"]
        }
        (F::Openai | F::Groq | F::Azure, D::TotalTokens) => {
            ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"]
        }
        (F::Cerebras, D::Requests) => [
            "x-ratelimit-limit-requests-day",
            "x-ratelimit-remaining-requests-day",
            "x-ratelimit-reset-requests-day",
        ],
        (F::Cerebras, D::TotalTokens) => [
            "x-ratelimit-limit-tokens-minute",
            "x-ratelimit-remaining-tokens-minute",
            "x-ratelimit-reset-tokens-minute",
        ],
        (F::Mistral, D::Requests) => ["x-ratelimit-limit-req-minute", "x-ratelimit-remaining-req-minute", ""],
        (F::Mistral, D::TotalTokens) => {
            ["x-ratelimit-limit-tokens-minute", "x-ratelimit-remaining-tokens-minute", ""]
        }
        (F::Openrouter, D::Requests) => ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"],
        (F::Anthropic, D::Requests) => [
            "anthropic-ratelimit-requests-limit",
            "anthropic-ratelimit-requests-remaining",
            "anthropic-ratelimit-requests-reset",
        ],
        (F::Anthropic, D::TotalTokens) => [
            "anthropic-ratelimit-tokens-limit",
            "anthropic-ratelimit-tokens-remaining",
            "anthropic-ratelimit-tokens-reset",
        ],
        (F::Anthropic, D::InputTokens) => [
            "anthropic-ratelimit-input-tokens-limit",
            "anthropic-ratelimit-input-tokens-remaining",
            "anthropic-ratelimit-input-tokens-reset",
        ],
        (F::Anthropic, D::OutputTokens) => [
            "anthropic-ratelimit-output-tokens-limit",
            "anthropic-ratelimit-output-tokens-remaining",
            "anthropic-ratelimit-output-tokens-reset",
        ],
        _ => return None,
    })
}

/// A wait in any of the vendors' forms: `1m3.5s`, `17ms`, seconds, an RFC 3339 date.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "seconds of a wait, never negative"
)]
fn wait(text: &str, unix_ns: u64) -> Option<u64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return (seconds >= 0.0).then_some((seconds * 1e9) as u64);
    }
    if text.contains('T') {
        return Some(date(text)?.saturating_sub(unix_ns));
    }
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let amount: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        total += amount
            * match &rest[..unit] {
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3_600e9,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    Some(total as u64)
}

/// Milliseconds since 1970, as OpenRouter writes them.
fn epoch_ms(text: &str, unix_ns: u64) -> Option<u64> {
    Some(text.parse::<u64>().ok()?.saturating_mul(1_000_000).saturating_sub(unix_ns))
}

/// `2025-08-21T12:40:02Z` in nanoseconds since 1970 (days from civil, after Hinnant).
fn date(text: &str) -> Option<u64> {
    let parts = text.trim_end_matches('Z').split(['-', 'T', ':']).map(|p| p.parse::<u64>().ok());
    let parts: Vec<u64> = parts.collect::<Option<_>>()?;
    let [year, month, day, hours, minutes, seconds] = parts.try_into().ok()?;
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some((days * 86_400 + hours * 3_600 + minutes * 60 + seconds) * 1_000_000_000)
}

/// A failure without an answer.
pub(crate) fn silent(phase: Phase, sign: Sign) -> Evidence {
    Evidence { phase, status: None, sign, relayed: false, retry_after_ns: None, limit: None, requested: None }
}

/// A refusal, as its status, headers and text tell it.
pub(crate) fn evidence(
    vendor: Vendor,
    status: u16,
    headers: &Headers,
    body: &[u8],
    unix_ns: u64,
) -> Evidence {
    let text = String::from_utf8_lossy(body);
    let text = text.as_ref();
    let says = |part: &str| text.contains(part);
    let relayed = says("\"provider_code\":");
    let sign = match status {
        _ if relayed && status >= 500 => Sign::ServerError,
        _ if relayed && status == 429 => Sign::Overloaded,
        401 => Sign::KeyRefused,
        402 if says("in_flight") || says("in-flight") => Sign::InFlightMoney,
        402 => Sign::NoMoney,
        403 if says("key_limit") => Sign::KeyCap,
        403 if says("moderation") => Sign::BadRequest,
        403 => Sign::KeyForbidden,
        400 if says("credit balance") => Sign::NoMoney,
        404 => Sign::ModelUnknown,
        400 if says("not a valid model") => Sign::ModelUnknown,
        429 => limited(vendor, headers, text),
        503 | 529 => Sign::Overloaded,
        500..=599 => Sign::ServerError,
        _ => Sign::BadRequest,
    };
    Evidence {
        phase: Phase::Head,
        status: Some(status),
        sign,
        relayed,
        retry_after_ns: come_back(headers, text, unix_ns),
        limit: number_after(text, "Limit ").or_else(|| number_after(text, "rate limit of ")),
        requested: number_after(text, "Requested "),
    }
}

fn limited(vendor: Vendor, headers: &Headers, text: &str) -> Sign {
    let says = |part: &str| text.contains(part);
    if says("insufficient_quota") || says("spend limit") {
        return Sign::NoMoney;
    }
    if says("shared_pool") || says("shared_capacity") {
        return Sign::Overloaded;
    }
    if says("too large") || says("larger than your") {
        return Sign::TooLargeForLimit;
    }
    let mut dimension = [
        ("concurrent", Dimension::Concurrent),
        ("input tokens per", Dimension::InputTokens),
        ("output tokens per", Dimension::OutputTokens),
        ("tokens per", Dimension::TotalTokens),
        ("requests per", Dimension::Requests),
        ("limit_requests/", Dimension::Requests),
        ("call rate limit", Dimension::Requests),
    ]
    .iter()
    .find(|(mark, _)| says(mark))
    .map(|(_, dimension)| *dimension);
    let mut daily = says("per day") || says("per-day");
    if dimension.is_none() {
        let measured = measurements(vendor, headers, 0);
        let mut spent = measured.iter().filter(|m| m.remaining == Some(0.0));
        if let (Some(only), None) = (spent.next(), spent.next()) {
            (dimension, daily) = (Some(only.dimension), daily || only.daily);
        }
    }
    let scope =
        if vendor.dialect == Dialect::Openrouter { LimitScope::Unknown } else { LimitScope::AccountModel };
    Sign::RateLimited { dimension, scope, daily }
}

fn come_back(headers: &Headers, text: &str, unix_ns: u64) -> Option<u64> {
    let ms = value(headers, "retry-after-ms").and_then(|v| v.parse::<u64>().ok()).map(|ms| ms * 1_000_000);
    let seconds = value(headers, "retry-after").and_then(|v| wait(v, unix_ns));
    let epoch = value(headers, "x-ratelimit-reset").and_then(|v| epoch_ms(v, unix_ns));
    let said = text.split("try again in ").nth(1).and_then(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.').unwrap_or(rest.len());
        wait(rest[..end].trim_end_matches('.'), unix_ns)
    });
    // Whoever comes back at the earlier of two times is refused again.
    ms.or(seconds).or(said).max(epoch)
}

fn number_after(text: &str, mark: &str) -> Option<f64> {
    let rest = text.split(mark).nth(1)?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_read_in_every_form_that_a_vendor_writes() {
        assert_eq!(wait("1m3.5s", 0), Some(63_500_000_000));
        assert_eq!(wait("17ms", 0), Some(17_000_000));
        assert_eq!(wait("1.050", 0), Some(1_050_000_000));
        assert_eq!(wait("1h0m1s", 0), Some(3_601_000_000_000));
        assert_eq!(wait("2025-08-21T12:40:02Z", 1_755_780_000_000_000_000), Some(2_000_000_000));
        assert_eq!(wait("soon", 0), None);
    }

    #[test]
    fn a_refusal_names_its_limit_only_where_the_vendor_does() {
        let openai = Vendor { dialect: Dialect::Openai, family: HeaderFamily::Openai };
        let text = br#"{"error":{"message":"Rate limit reached for m in organization a on tokens per min (TPM): Limit 100, Used 90, Requested 20. Please try again in 1.5s. Visit","type":"tokens","code":"rate_limit_exceeded"}}"#;
        let e = evidence(openai, 429, &[], text, 0);
        let dimension = Some(Dimension::TotalTokens);
        assert_eq!(e.sign, Sign::RateLimited { dimension, scope: LimitScope::AccountModel, daily: false });
        assert_eq!((e.retry_after_ns, e.limit, e.requested), (Some(1_500_000_000), Some(100.0), Some(20.0)));
        let e = evidence(
            openai,
            429,
            &[("retry-after", "7".to_owned())],
            br#"{"message":"Rate limit exceeded"}"#,
            0,
        );
        let unknown = Sign::RateLimited { dimension: None, scope: LimitScope::AccountModel, daily: false };
        assert_eq!((e.sign, e.retry_after_ns), (unknown, Some(7_000_000_000)));
    }
}
