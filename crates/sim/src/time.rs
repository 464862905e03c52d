//! The virtual clock. It begins at zero; the scheduler and the providers see it with different starts, so that nobody
//! can mistake one clock for another.

/// A millisecond in nanoseconds.
pub(crate) const MS: u64 = 1_000_000;
/// A second in nanoseconds.
pub(crate) const SECOND: u64 = 1_000 * MS;
/// A day in nanoseconds.
pub(crate) const DAY: u64 = 86_400 * SECOND;

/// What the scheduler's monotonic clock shows at the start.
const MONO_START_NS: u64 = 1_000 * SECOND;
/// The calendar at the start: noon in UTC, a third of a second past a full minute, so that windows of the calendar and
/// windows that begin with the run are never the same by chance.
const UNIX_START_NS: u64 = 20_000 * DAY + DAY / 2 + 333 * MS;

/// As the scheduler sees it.
pub(crate) fn ours(ns: u64) -> keymux_policy::Now {
    keymux_policy::Now { mono_ns: MONO_START_NS + ns, unix_ns: UNIX_START_NS + ns }
}

/// As the providers see it.
pub(crate) fn theirs(ns: u64) -> keymux_provider::Now {
    keymux_provider::Now { mono_ns: ns, unix_ns: UNIX_START_NS + ns }
}

/// The virtual clock at an instant of the scheduler's monotonic one.
pub(crate) fn of_mono(mono_ns: u64) -> u64 {
    mono_ns.saturating_sub(MONO_START_NS)
}

/// The virtual clock's calendar.
pub(crate) fn unix(ns: u64) -> u64 {
    UNIX_START_NS + ns
}

/// Nanoseconds in so many seconds; never negative.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the range first")]
pub(crate) fn ns_of(seconds: f64) -> u64 {
    if seconds.is_nan() || seconds <= 0.0 { 0 } else { (seconds * 1e9).min(9.0e18) as u64 }
}

/// Seconds in so many nanoseconds.
pub(crate) fn s_of(ns: u64) -> f64 {
    ns as f64 / 1e9
}
