//! Instants as arguments, and the forms in which vendors write times into headers.

use std::fmt::Write as _;

use jiff::Timestamp;

pub(crate) const MS: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1_000_000_000;
pub(crate) const DAY: u64 = 86_400 * SECOND;

/// One instant on both clocks. `mono_ns` counts from the start of the world (fault timelines are relative to
/// it) and must not go backwards; `unix_ns` decides calendar days, windows and everything written as a date.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Nanoseconds since the world began.
    pub mono_ns: u64,
    /// Nanoseconds since 1970-01-01T00:00:00Z.
    pub unix_ns: u64,
}

impl Now {
    /// The instant `ns` later on both clocks.
    #[must_use]
    pub fn plus(self, ns: u64) -> Self {
        Now { mono_ns: self.mono_ns.saturating_add(ns), unix_ns: self.unix_ns.saturating_add(ns) }
    }
}

/// Nanoseconds from a non-negative float of nanoseconds; NaN and negative values become 0.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the range first")]
pub(crate) fn whole(value: f64) -> u64 {
    if value.is_nan() || value <= 0.0 { 0 } else { value.min(9.0e18) as u64 }
}

pub(crate) fn ms_f64(ms: f64) -> u64 {
    whole(ms * 1e6)
}

/// Whole seconds, rounded up, at least 1: what an honest `Retry-After` says.
pub(crate) fn retry_after_s(ns: u64) -> u64 {
    ns.div_ceil(SECOND).max(1)
}

/// OpenAI's and Groq's form, as Go prints a duration: `17ms`, `7.66s`, `1m3.5s`, `6m0s`, `1h12m3.5s`.
pub(crate) fn go_duration(ns: u64) -> String {
    let ms = ns.div_ceil(MS);
    if ms < 1000 {
        return format!("{ms}ms");
    }
    let seconds = ms / 1000;
    let (h, m, s, frac) = (seconds / 3600, seconds / 60 % 60, seconds % 60, ms % 1000);
    let mut out = String::new();
    if h > 0 {
        let _ = write!(out, "{h}h");
    }
    if h > 0 || m > 0 {
        let _ = write!(out, "{m}m");
    }
    if frac == 0 {
        let _ = write!(out, "{s}s");
    } else {
        let text = format!("{frac:03}");
        let _ = write!(out, "{s}.{}s", text.trim_end_matches('0'));
    }
    out
}

/// Anthropic's form: RFC 3339 in UTC, whole seconds, rounded up.
pub(crate) fn rfc3339(unix_ns: u64) -> String {
    let seconds = i64::try_from(unix_ns.div_ceil(SECOND)).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).map_or_else(|_| "9999-12-30T22:00:00Z".to_owned(), |t| t.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_look_like_the_captured_ones() {
        for (ns, text) in [
            (17 * MS, "17ms"),
            (SECOND, "1s"),
            (7_660 * MS, "7.66s"),
            (360 * SECOND, "6m0s"),
            (4_323_500 * MS, "1h12m3.5s"),
            (179_560 * MS, "2m59.56s"),
        ] {
            assert_eq!(go_duration(ns), text);
        }
    }

    #[test]
    fn dates_and_retry_after_round_up() {
        assert_eq!(rfc3339(1_755_780_059 * SECOND - 1), "2025-08-21T12:40:59Z");
        assert_eq!(retry_after_s(1), 1);
        assert_eq!(retry_after_s(SECOND + 1), 2);
        assert_eq!(retry_after_s(0), 1);
    }
}
