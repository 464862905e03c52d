//! Time as an argument. Nothing in this crate reads a clock: every verb takes [`Now`], so the server and the
//! simulator drive the very same code.

/// One instant, on both clocks. `mono_ns` never goes backwards (a smaller one than the last seen is taken as the
/// last seen); `unix_ns` tells calendar days and stated dates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Nanoseconds of a monotonic clock with an arbitrary start.
    pub mono_ns: u64,
    /// Nanoseconds since 1970-01-01 UTC.
    pub unix_ns: u64,
}

/// A millisecond in nanoseconds.
pub const MS: u64 = 1_000_000;
/// A second in nanoseconds.
pub const SECOND: u64 = 1_000 * MS;
/// A minute in nanoseconds.
pub const MINUTE: u64 = 60 * SECOND;
/// A day in nanoseconds.
pub const DAY: u64 = 86_400 * SECOND;

/// Nanoseconds in so many seconds, rounded up; never negative, at most `u64::MAX`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the range of u64 first"
)]
pub(crate) fn ns_of(seconds: f64) -> u64 {
    let ns = (seconds * 1e9).ceil();
    if ns <= 0.0 {
        0
    } else if ns >= 1.8e19 {
        u64::MAX
    } else {
        ns as u64
    }
}

/// Seconds in so many nanoseconds.
pub(crate) fn s_of(ns: u64) -> f64 {
    ns as f64 / 1e9
}

impl Now {
    /// The later of two instants, on each clock: a caller whose clock went backwards is taken at the latest seen.
    pub(crate) fn max_mono(self, other: Now) -> Now {
        if self.mono_ns >= other.mono_ns { self } else { other }
    }
}
