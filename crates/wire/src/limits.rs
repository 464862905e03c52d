//! Rate-limit headers: what a provider says is left of a limit.
//!
//! Header families are recognised by their names under every profile, so that a known provider behind another base URL
//! is still understood; the profile only decides what a name leaves open (Groq's `…-requests` is a day's, OpenAI's a
//! minute's). What a measurement means for a bucket is the policy's question.

#[cfg(test)]
mod tests;

use crate::when;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// Requests.
    Requests,
    /// Tokens of the prompt.
    InputTokens,
    /// Tokens of the answer.
    OutputTokens,
    /// Tokens of both.
    TotalTokens,
    /// Requests in flight at the same time.
    Concurrent,
}

/// The span of time that a limit counts over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Period {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A month.
    Month,
    /// Not said.
    Unknown,
}

/// Whose limit a header speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// This model (or its family, or the deployment) at this account.
    Model,
    /// The account, whatever the model.
    Account,
    /// The project within the account.
    Project,
}

/// Whose header meanings apply where the names leave them open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Profile {
    /// `OpenAI`: by the minute, resets say when the limit is full again.
    OpenAi,
    /// Azure `OpenAI`: by the minute, resets in whole seconds, -1 and 0 where there is nothing to say.
    Azure,
    /// Anthropic: by the minute, tokens rounded to thousands.
    Anthropic,
    /// Groq: requests by the day, tokens by the minute.
    Groq,
    /// Mistral: the names carry the period.
    Mistral,
    /// Cerebras: the names carry the period.
    Cerebras,
    /// `OpenRouter`: bare names, on refusals only.
    OpenRouter,
    /// Nothing is known.
    Generic,
}

/// One limit as the headers of one answer show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measurement {
    /// What is counted.
    pub dimension: Dimension,
    /// Over what time.
    pub period: Period,
    /// For whom.
    pub scope: Scope,
    /// The whole of it.
    pub limit: Option<u64>,
    /// What is left of it.
    pub remaining: Option<u64>,
    /// `remaining` is a multiple of this: the true value lies within one such step. At least 1.
    pub rounding: u64,
    /// When it resets, in nanoseconds from now.
    pub reset_ns: Option<u64>,
    /// The reset is when the limit is full again, not when the next request fits.
    pub reset_means_full: bool,
}

/// Which of a limit's three numbers a header carries.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Limit,
    Remaining,
    Reset,
}

/// What the name of a header says.
#[derive(Clone, Copy)]
struct Named {
    part: Part,
    dimension: Dimension,
    period: Option<Period>,
    scope: Option<Scope>,
    anthropic: bool,
    bare: bool,
}

/// Headers longer than this are none of ours.
const NAME_BYTES_MAX: usize = 64;

/// Reads the rate-limit headers of an answer and appends what they say to `out`, one measurement a limit. Names are
/// matched without regard to case; `unix_ns` turns points in time into waits.
pub fn read<'h, N: AsRef<[u8]>>(
    profile: Profile,
    headers: impl Iterator<Item = (N, &'h [u8])>,
    unix_ns: u64,
    out: &mut Vec<Measurement>,
) {
    let first = out.len();
    for (name, value) in headers {
        let Some(named) = read_name(name.as_ref()) else { continue };
        let Ok(value) = std::str::from_utf8(value) else { continue };
        let slot = slot(profile, named, first, out);
        match named.part {
            Part::Limit => slot.limit = slot.limit.or_else(|| count(value)),
            Part::Remaining => slot.remaining = slot.remaining.or_else(|| count(value)),
            Part::Reset => slot.reset_ns = slot.reset_ns.or_else(|| when::until(value, unix_ns)),
        }
    }
    let mut at = first;
    while at < out.len() {
        let m = &out[at];
        let nothing = m.limit.is_none() && m.remaining.is_none() && m.reset_ns.is_none();
        // Azure writes 0 where it knows nothing (Responses).
        let azure_zero =
            profile == Profile::Azure && m.limit.unwrap_or(0) == 0 && m.remaining.unwrap_or(0) == 0;
        if nothing || azure_zero {
            out.remove(at);
        } else {
            at += 1;
        }
    }
}

/// The measurement that a header belongs to.
fn slot(profile: Profile, named: Named, first: usize, out: &mut Vec<Measurement>) -> &mut Measurement {
    let fresh = interpret(profile, named);
    let found = out[first..]
        .iter()
        .position(|m| m.dimension == fresh.dimension && m.period == fresh.period && m.scope == fresh.scope);
    let at = found.map_or(out.len(), |at| first + at);
    if at == out.len() {
        out.push(fresh);
    }
    &mut out[at]
}

/// Fills in what the name leaves open.
fn interpret(profile: Profile, named: Named) -> Measurement {
    let tokens = !matches!(named.dimension, Dimension::Requests | Dimension::Concurrent);
    let profile = if named.anthropic { Profile::Anthropic } else { profile };
    let period = named.period.unwrap_or(match profile {
        Profile::OpenAi | Profile::Azure | Profile::Anthropic => Period::Minute,
        Profile::Groq if tokens => Period::Minute,
        Profile::Groq => Period::Day,
        Profile::Mistral | Profile::Cerebras | Profile::OpenRouter | Profile::Generic => Period::Unknown,
    });
    let scope = named.scope.unwrap_or(if named.bare { Scope::Account } else { Scope::Model });
    Measurement {
        dimension: named.dimension,
        period,
        scope,
        limit: None,
        remaining: None,
        rounding: if profile == Profile::Anthropic && tokens { 1_000 } else { 1 },
        reset_ns: None,
        reset_means_full: matches!(
            profile,
            Profile::OpenAi | Profile::Azure | Profile::Anthropic | Profile::Groq | Profile::Cerebras
        ),
    }
}

/// Takes a header's name apart. `None` for all that are no rate-limit headers.
fn read_name(bytes: &[u8]) -> Option<Named> {
    // One look at the first letter spares nearly all headers the rest.
    if !matches!(bytes.first()? | 0x20, b'x' | b'a' | b'r') || bytes.len() > NAME_BYTES_MAX {
        return None;
    }
    let mut lower = [0_u8; NAME_BYTES_MAX];
    let lower = &mut lower[..bytes.len()];
    lower.copy_from_slice(bytes);
    lower.make_ascii_lowercase();
    let name = std::str::from_utf8(lower).ok()?;
    if let Some(rest) = name.strip_prefix("anthropic-ratelimit-") {
        let (what, part) = rest.rsplit_once('-')?;
        return named(part_named(part)?, what, true);
    }
    let rest = ["x-ratelimit-", "x-rate-limit-", "ratelimit-"]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))?;
    let (part, what) = rest.split_once('-').unwrap_or((rest, ""));
    named(part_named(part)?, what, false)
}

fn part_named(word: &str) -> Option<Part> {
    match word {
        "limit" => Some(Part::Limit),
        "remaining" => Some(Part::Remaining),
        "reset" => Some(Part::Reset),
        _ => None,
    }
}

/// Reads the words that say what is limited. A word that is not known makes it another limit, which is left alone
/// (`priority`, `unified`, `query-cost`).
fn named(part: Part, what: &str, anthropic: bool) -> Option<Named> {
    let mut dimension = None;
    let mut named = Named {
        part,
        dimension: Dimension::Requests,
        period: None,
        scope: None,
        anthropic,
        bare: what.is_empty(),
    };
    for word in what.split('-').filter(|word| !word.is_empty()) {
        match word {
            "requests" | "request" | "req" => dimension = Some(Dimension::Requests),
            // "input-tokens" and Fireworks' "tokens-prompt" alike.
            "tokens" | "token" => dimension = dimension.or(Some(Dimension::TotalTokens)),
            "input" | "prompt" => dimension = Some(Dimension::InputTokens),
            "output" | "generated" => dimension = Some(Dimension::OutputTokens),
            "concurrent" | "concurrency" => dimension = Some(Dimension::Concurrent),
            "project" => named.scope = Some(Scope::Project),
            "second" => named.period = Some(Period::Second),
            "minute" => named.period = Some(Period::Minute),
            "hour" => named.period = Some(Period::Hour),
            "day" => named.period = Some(Period::Day),
            "month" => named.period = Some(Period::Month),
            _ => return None,
        }
    }
    match dimension {
        Some(dimension) => named.dimension = dimension,
        None if named.bare => {}
        None => return None,
    }
    Some(named)
}

/// A whole number, with commas between thousands at most; what follows a semicolon or a comma with a space (the
/// policies of the IETF drafts) is left alone. Fractions are cut off.
fn count(text: &str) -> Option<u64> {
    let text = text.split([';', ' ']).find(|piece| !piece.is_empty())?.trim_end_matches(',');
    let whole = text.split_once('.').map_or(text, |(whole, _)| whole);
    let mut groups = whole.split(',');
    let head = groups.next()?;
    if head.is_empty() || !head.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut digits = head.to_owned();
    for group in groups {
        if group.len() != 3 || !group.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        digits.push_str(group);
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

/// How long the provider asks to wait, in nanoseconds: `retry-after-ms` if it can be read, else `Retry-After` in
/// seconds (fractions too) or as a date. Zero is an answer; nonsense and negative numbers are none; nothing is taken
/// for longer than 366 days.
pub fn retry_after<'h, N: AsRef<[u8]>>(
    headers: impl Iterator<Item = (N, &'h [u8])>,
    unix_ns: u64,
) -> Option<u64> {
    let mut from_seconds = None;
    let mut from_ms = None;
    for (name, value) in headers {
        let name = name.as_ref();
        let Ok(value) = std::str::from_utf8(value) else { continue };
        if name.eq_ignore_ascii_case(b"retry-after-ms") {
            from_ms = from_ms.or_else(|| crate::decimal::scaled(value.trim(), 6));
        } else if name.eq_ignore_ascii_case(b"retry-after") {
            from_seconds = from_seconds.or_else(|| when::until(value, unix_ns));
        }
    }
    from_ms.or(from_seconds).map(|wait| wait.min(when::WAIT_NS_MAX))
}
