//! Times and waits in all the forms in which providers write them.
//!
//! One reader for all: the forms can be told apart by their shape, and a number by its magnitude (seconds from now,
//! seconds or milliseconds since 1970), so that a new provider behind an old dialect is understood too.

use jiff::Timestamp;

use crate::decimal;

pub(crate) const SECOND_NS: u64 = 1_000_000_000;

/// No stated wait is taken for longer than this: 366 days. It keeps later sums far from overflow.
pub(crate) const WAIT_NS_MAX: u64 = 366 * 86_400 * SECOND_NS;

/// How long from `unix_ns` until the stated time, in nanoseconds; zero if it is past. Reads Go's durations (`1h2m3.5s`,
/// `120ms`), numbers of seconds, seconds or milliseconds since 1970, RFC 3339 and HTTP dates. `None` for anything else,
/// negative numbers included.
pub(crate) fn until(text: &str, unix_ns: u64) -> Option<u64> {
    let text = text.trim();
    let first = *text.as_bytes().first()?;
    if text.len() > 64 {
        return None;
    }
    let wait = if first.is_ascii_digit() || first == b'.' || first == b'+' {
        number(text, unix_ns).or_else(|| duration(text)).or_else(|| at(text, unix_ns))?
    } else {
        at(text, unix_ns)?
    };
    Some(wait.min(WAIT_NS_MAX))
}

/// A number: seconds from now, or a point in time if it is too large for that.
fn number(text: &str, unix_ns: u64) -> Option<u64> {
    let as_seconds_ns = decimal::scaled(text, 9)?;
    let seconds = decimal::scaled(text, 0)?;
    let at_ns = match seconds {
        // Below 31 years it is a wait.
        0..1_000_000_000 => return Some(as_seconds_ns),
        1_000_000_000..100_000_000_000 => as_seconds_ns,
        100_000_000_000..100_000_000_000_000 => decimal::scaled(text, 6)?,
        100_000_000_000_000..100_000_000_000_000_000 => decimal::scaled(text, 3)?,
        _ => return None,
    };
    Some(at_ns.saturating_sub(unix_ns))
}

/// A duration as Go prints it: numbers with units, added up. Days are accepted too.
pub(crate) fn duration(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (amount, tail) = rest.split_at(digits);
        let unit_len = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let (scale, factor) = match unit {
            "ns" => (0, 1),
            "us" | "µs" | "μs" => (3, 1),
            "ms" => (6, 1),
            "s" => (9, 1),
            "m" => (9, 60),
            "h" => (9, 3_600),
            "d" => (9, 86_400),
            _ => return None,
        };
        total = total.saturating_add(decimal::scaled(amount, scale)?.saturating_mul(factor));
        rest = tail;
    }
    Some(total)
}

/// A date: RFC 3339, or one of HTTP's.
fn at(text: &str, unix_ns: u64) -> Option<u64> {
    Some(instant(text)?.saturating_sub(unix_ns))
}

/// A date in nanoseconds since 1970.
pub(crate) fn instant(text: &str) -> Option<u64> {
    if text.len() > 64 {
        return None;
    }
    let parsed = match text.as_bytes().first()? {
        b'0'..=b'9' => text.parse::<Timestamp>().ok(),
        _ => http_date(text),
    };
    u64::try_from(parsed?.as_nanosecond().max(0)).ok()
}

/// RFC 9110, 5.6.7: the form in use, and the two obsolete ones that a recipient must accept.
fn http_date(text: &str) -> Option<Timestamp> {
    let parse = |format: &str, text: &str| {
        let parsed = jiff::fmt::strtime::BrokenDownTime::parse(format, text).ok()?;
        let civil = parsed.to_datetime().ok()?;
        civil.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    };
    match text.strip_suffix("GMT").or_else(|| text.strip_suffix("UTC")).map(str::trim_end) {
        Some(date) => parse("%a, %d %b %Y %H:%M:%S", date).or_else(|| parse("%A, %d-%b-%y %H:%M:%S", date)),
        None => parse("%a %b %e %H:%M:%S %Y", text),
    }
}

/// The start of the next month in UTC, in nanoseconds since 1970: when monthly spend limits are whole again.
pub(crate) fn next_month(unix_ns: u64) -> Option<u64> {
    let today = date(unix_ns)?;
    let next = today.first_of_month().checked_add(jiff::Span::new().months(1)).ok()?;
    midnight(next)
}

/// The next Monday's midnight in UTC, in nanoseconds since 1970.
pub(crate) fn next_week(unix_ns: u64) -> Option<u64> {
    let today = date(unix_ns)?;
    let days = 7 - i64::from(today.weekday().to_monday_zero_offset());
    midnight(today.checked_add(jiff::Span::new().days(days)).ok()?)
}

/// The next midnight in UTC, in nanoseconds since 1970.
pub(crate) fn next_day(unix_ns: u64) -> Option<u64> {
    midnight(date(unix_ns)?.tomorrow().ok()?)
}

fn date(unix_ns: u64) -> Option<jiff::civil::Date> {
    let now = Timestamp::from_nanosecond(i128::from(unix_ns)).ok()?;
    Some(now.to_zoned(jiff::tz::TimeZone::UTC).date())
}

fn midnight(date: jiff::civil::Date) -> Option<u64> {
    let at = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_nanosecond();
    u64::try_from(at).ok()
}

#[cfg(test)]
mod tests {
    use super::{SECOND_NS, WAIT_NS_MAX, duration, next_day, next_month, next_week, until};

    /// 2026-11-23T10:00:00Z.
    const NOW: u64 = 1_795_428_000 * SECOND_NS;

    #[test]
    fn every_form_of_a_wait_is_read() {
        for (text, ms) in [
            ("1s", 1_000),
            ("6m0s", 360_000),
            ("120ms", 120),
            ("1h12m3.5s", 4_323_500),
            ("2m59.56s", 179_560),
            ("7.66s", 7_660),
            ("1d2h", 93_600_000),
            ("0s", 0),
            ("20", 20_000),
            ("0.25", 250),
            ("86400", 86_400_000),
            ("1795428030", 30_000),
            ("1795428030000", 30_000),
            ("1795428030.5", 30_500),
            ("1795427000", 0),
            ("2026-11-23T10:00:59Z", 59_000),
            ("2026-11-23T11:01:00+01:00", 60_000),
            ("2026-11-23T09:00:00Z", 0),
            ("Mon, 23 Nov 2026 10:00:07 GMT", 7_000),
            ("Monday, 23-Nov-26 10:00:08 GMT", 8_000),
            ("Mon Nov 23 10:00:09 2026", 9_000),
        ] {
            assert_eq!(until(text, NOW), Some(ms * 1_000_000), "{text}");
        }
        assert_eq!(duration("17us"), Some(17_000));
        assert_eq!(duration("1.5µs"), Some(1_500));
    }

    #[test]
    fn what_states_no_time_is_none_and_what_is_too_far_is_cut() {
        for text in
            ["", " ", "-1", "NaN", "inf", "soon", "1x", "5 s", "1s2", "--", "2026-13-01T00:00:00Z", "+", "1e"]
        {
            assert_eq!(until(text, NOW), None, "{text}");
        }
        assert_eq!(until("999999999", NOW), Some(WAIT_NS_MAX));
        assert_eq!(until("99999999999999999999h", NOW), Some(WAIT_NS_MAX));
        assert_eq!(until(&"1".repeat(65), NOW), None);
    }

    #[test]
    fn calendar_edges_are_found() {
        assert_eq!(next_day(NOW), Some(1_795_478_400 * SECOND_NS));
        // 2026-12-01T00:00:00Z
        assert_eq!(next_month(NOW), Some(1_796_083_200 * SECOND_NS));
        // A Monday: its week ends in seven days, and its first instant belongs to it.
        assert_eq!(next_week(NOW), Some(1_795_996_800 * SECOND_NS));
        assert_eq!(next_week(1_795_996_800 * SECOND_NS - 1), Some(1_795_996_800 * SECOND_NS));
        assert_eq!(next_week(1_795_996_800 * SECOND_NS), Some(1_796_601_600 * SECOND_NS));
        assert_eq!(next_day(1_795_478_400 * SECOND_NS), Some((1_795_478_400 + 86_400) * SECOND_NS));
    }
}
