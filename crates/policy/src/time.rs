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
