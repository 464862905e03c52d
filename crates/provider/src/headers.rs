//! Rate-limit headers, each vendor's own way: names, periods, forms of the reset, rounding.

use crate::compose::Headers;
use crate::dialect::HeaderFamily;
use crate::fault::RateLimitTime;
use crate::limit::Limiter;
use crate::spec::Dimension;
use crate::time::{DAY, MS, Now, SECOND, go_duration, retry_after_s, rfc3339};

/// State of one limit, as headers tell it.
#[derive(Clone, Copy, Debug)]
struct Told {
    limit: u64,
    remaining: u64,
    full_in_ns: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Period {
    /// The shortest there is, days left out.
    Short,
    Day,
}

fn tell(limiters: &mut [Limiter], ids: &[usize], now: Now, want: Dimension, period: Period) -> Option<Told> {
    let mut best: Option<(u64, usize)> = None;
    for &id in ids {
        let Some(limiter) = limiters.get(id) else { continue };
        let day = limiter.period_ns >= DAY;
        let fits = limiter.dimension == want && !limiter.shared && day == (period == Period::Day);
        if fits && best.is_none_or(|(shortest, _)| limiter.period_ns < shortest) {
            best = Some((limiter.period_ns, id));
        }
    }
    let limiter = limiters.get_mut(best?.1)?;
    Some(Told { limit: limiter.limit, remaining: limiter.remaining(now), full_in_ns: limiter.full_in(now) })
}

/// Adds the headers that every answer of this family carries.
pub(crate) fn rate_limits(
    family: HeaderFamily,
    limiters: &mut [Limiter],
    ids: &[usize],
    now: Now,
    query_cost: u64,
    out: &mut Headers,
) {
    use Dimension::{InputTokens, OutputTokens, Requests, TotalTokens};
    use Period::{Day, Short};
    let mut told = |dimension, period| tell(limiters, ids, now, dimension, period);
    match family {
        HeaderFamily::Openai => {
            triple(told(Requests, Short), REQUESTS, go_duration, out);
            triple(told(TotalTokens, Short), TOKENS, go_duration, out);
        }
        HeaderFamily::Groq => {
            triple(told(Requests, Day), REQUESTS, go_duration, out);
            triple(told(TotalTokens, Short), TOKENS, go_duration, out);
        }
        HeaderFamily::Azure => {
            let seconds = |ns: u64| ns.div_ceil(SECOND).to_string();
            triple(told(Requests, Short), REQUESTS, seconds, out);
            triple(told(TotalTokens, Short), TOKENS, seconds, out);
        }
        HeaderFamily::Cerebras => {
            let seconds = |ns: u64| format!("{:.3}", ns as f64 / 1e9);
            triple(told(Requests, Day), REQUESTS_DAY, seconds, out);
            triple(told(TotalTokens, Short), TOKENS_MINUTE, seconds, out);
        }
        HeaderFamily::Anthropic => {
            let date = |ns: u64| rfc3339(now.unix_ns.saturating_add(ns));
            let rounded = |told: Option<Told>| {
                told.map(|told| Told { remaining: (told.remaining + 500) / 1000 * 1000, ..told })
            };
            triple(told(Requests, Short), ANTHROPIC_REQUESTS, date, out);
            triple(rounded(told(TotalTokens, Short)), ANTHROPIC_TOKENS, date, out);
            triple(rounded(told(InputTokens, Short)), ANTHROPIC_INPUT, date, out);
            triple(rounded(told(OutputTokens, Short)), ANTHROPIC_OUTPUT, date, out);
        }
        HeaderFamily::Mistral => {
            if let Some(told) = told(Requests, Short) {
                out.push(("x-ratelimit-limit-req-minute", told.limit.to_string()));
                out.push(("x-ratelimit-remaining-req-minute", told.remaining.to_string()));
            }
            if let Some(told) = told(TotalTokens, Short) {
                out.push(("x-ratelimit-limit-tokens-minute", told.limit.to_string()));
                out.push(("x-ratelimit-remaining-tokens-minute", told.remaining.to_string()));
                out.push(("x-ratelimit-tokens-query-cost", query_cost.to_string()));
            }
        }
        HeaderFamily::Openrouter | HeaderFamily::None => {}
    }
}

type Names = [&'static str; 3];
const REQUESTS: Names =
    ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"];
const TOKENS: Names =
    ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"];
const REQUESTS_DAY: Names = [
    "x-ratelimit-limit-requests-day",
    "x-ratelimit-remaining-requests-day",
    "x-ratelimit-reset-requests-day",
];
const TOKENS_MINUTE: Names = [
    "x-ratelimit-limit-tokens-minute",
    "x-ratelimit-remaining-tokens-minute",
    "x-ratelimit-reset-tokens-minute",
];
const ANTHROPIC_REQUESTS: Names = [
    "anthropic-ratelimit-requests-limit",
    "anthropic-ratelimit-requests-remaining",
    "anthropic-ratelimit-requests-reset",
];
const ANTHROPIC_TOKENS: Names = [
    "anthropic-ratelimit-tokens-limit",
    "anthropic-ratelimit-tokens-remaining",
    "anthropic-ratelimit-tokens-reset",
];
const ANTHROPIC_INPUT: Names = [
    "anthropic-ratelimit-input-tokens-limit",
    "anthropic-ratelimit-input-tokens-remaining",
    "anthropic-ratelimit-input-tokens-reset",
];
const ANTHROPIC_OUTPUT: Names = [
    "anthropic-ratelimit-output-tokens-limit",
    "anthropic-ratelimit-output-tokens-remaining",
    "anthropic-ratelimit-output-tokens-reset",
];

fn triple(told: Option<Told>, names: Names, reset: impl Fn(u64) -> String, out: &mut Headers) {
    if let Some(told) = told {
        out.push((names[0], told.limit.to_string()));
        out.push((names[1], told.remaining.to_string()));
        out.push((names[2], reset(told.full_in_ns)));
    }
}

/// What a refusal by a limit adds, in the form asked for.
pub(crate) struct ComeBack {
    pub(crate) wait_ns: u64,
    pub(crate) form: RateLimitTime,
    /// The limit itself, for families that repeat it.
    pub(crate) limit: u64,
    pub(crate) tokens: bool,
    /// The rate-limit headers of the answer are those of a real limit already.
    pub(crate) real: bool,
}

pub(crate) fn come_back(family: HeaderFamily, back: &ComeBack, now: Now, out: &mut Headers) {
    let wait = back.wait_ns;
    match back.form {
        RateLimitTime::RetryAfter => {
            out.push(("retry-after", retry_after_s(wait).to_string()));
            // OpenAI and Azure send both for limits of their own.
            if back.real && matches!(family, HeaderFamily::Openai | HeaderFamily::Azure) {
                out.push(("retry-after-ms", wait.div_ceil(MS).to_string()));
            }
        }
        RateLimitTime::RetryAfterMs => out.push(("retry-after-ms", wait.div_ceil(MS).to_string())),
        RateLimitTime::ResetHeader if family == HeaderFamily::Openrouter => {
            out.push(("x-ratelimit-limit", back.limit.to_string()));
            out.push(("x-ratelimit-remaining", "0".to_owned()));
            out.push(("x-ratelimit-reset", epoch_ms(now, wait).to_string()));
        }
        RateLimitTime::ResetHeader if !back.real => {
            let told = Some(Told { limit: back.limit, remaining: 0, full_in_ns: wait });
            let date = |ns: u64| rfc3339(now.unix_ns.saturating_add(ns));
            let float = |ns: u64| format!("{:.3}", ns as f64 / 1e9);
            let whole = |ns: u64| ns.div_ceil(SECOND).to_string();
            match (family, back.tokens) {
                (HeaderFamily::Anthropic, false) => triple(told, ANTHROPIC_REQUESTS, date, out),
                (HeaderFamily::Anthropic, true) => triple(told, ANTHROPIC_INPUT, date, out),
                (HeaderFamily::Cerebras, false) => triple(told, REQUESTS_DAY, float, out),
                (HeaderFamily::Cerebras, true) => triple(told, TOKENS_MINUTE, float, out),
                (HeaderFamily::Azure, false) => triple(told, REQUESTS, whole, out),
                (HeaderFamily::Azure, true) => triple(told, TOKENS, whole, out),
                (_, false) => triple(told, REQUESTS, go_duration, out),
                (_, true) => triple(told, TOKENS, go_duration, out),
            }
        }
        RateLimitTime::ResetHeader | RateLimitTime::BodyText | RateLimitTime::None => {}
    }
}

/// When, in OpenRouter's unit.
pub(crate) fn epoch_ms(now: Now, wait_ns: u64) -> u64 {
    now.unix_ns.saturating_add(wait_ns).div_ceil(MS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{LimitShape, LimitSpec};

    fn headers(family: HeaderFamily) -> Headers {
        let now = Now { mono_ns: 0, unix_ns: 1_755_780_000 * SECOND };
        let limit = |dimension, limit, shape| LimitSpec { dimension, limit, shape, ..LimitSpec::default() };
        let mut limiters: Vec<Limiter> = [
            limit(Dimension::Requests, 600, LimitShape::Bucket),
            limit(Dimension::Requests, 14_400, LimitShape::Day),
            limit(Dimension::TotalTokens, 80_000, LimitShape::Bucket),
            limit(Dimension::InputTokens, 80_000, LimitShape::Bucket),
        ]
        .iter()
        .map(|spec| Limiter::new(spec, now))
        .collect();
        limiters[0].charge(now, 1);
        limiters[1].charge(now, 30);
        limiters[2].charge(now, 1_400);
        limiters[3].charge(now, 1_400);
        let mut out = Vec::new();
        rate_limits(family, &mut limiters, &[0, 1, 2, 3], now, 77, &mut out);
        out
    }

    fn value(headers: &Headers, name: &str) -> String {
        headers.iter().find(|(n, _)| *n == name).map(|(_, v)| v.clone()).unwrap_or_default()
    }

    #[test]
    fn the_same_name_is_a_minute_at_openai_and_a_day_at_groq() {
        let openai = headers(HeaderFamily::Openai);
        assert_eq!(value(&openai, "x-ratelimit-remaining-requests"), "599");
        assert_eq!(value(&openai, "x-ratelimit-reset-requests"), "100ms");
        assert_eq!(value(&openai, "x-ratelimit-reset-tokens"), "1.05s");
        let groq = headers(HeaderFamily::Groq);
        assert_eq!(value(&groq, "x-ratelimit-remaining-requests"), "14370");
    }

    #[test]
    fn anthropic_rounds_tokens_and_dates_the_reset() {
        let headers = headers(HeaderFamily::Anthropic);
        assert_eq!(value(&headers, "anthropic-ratelimit-input-tokens-remaining"), "79000");
        assert_eq!(value(&headers, "anthropic-ratelimit-input-tokens-reset"), "2025-08-21T12:40:02Z");
        assert_eq!(value(&headers, "anthropic-ratelimit-requests-remaining"), "599");
    }

    #[test]
    fn the_others() {
        assert_eq!(value(&headers(HeaderFamily::Mistral), "x-ratelimit-tokens-query-cost"), "77");
        assert_eq!(value(&headers(HeaderFamily::Azure), "x-ratelimit-reset-tokens"), "2");
        assert_eq!(value(&headers(HeaderFamily::Cerebras), "x-ratelimit-reset-tokens-minute"), "1.050");
        assert!(headers(HeaderFamily::Openrouter).is_empty());
    }
}
