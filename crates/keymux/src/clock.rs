//! The wall clock: the only file that reads it. Everything else gets [`Now`] as an argument.

use keymux_policy::Now;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Reads both clocks, counting monotonic time from its own making.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts at zero.
    #[expect(clippy::disallowed_methods, reason = "this file owns the clock")]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// This instant on both clocks.
    #[expect(clippy::disallowed_methods, reason = "this file owns the clock")]
    pub fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Now { mono_ns: self.mono_ns(), unix_ns: nanos(unix) }
    }

    /// This instant on the monotonic clock, in nanoseconds since the start.
    #[expect(clippy::disallowed_methods, reason = "this file owns the clock")]
    pub fn mono_ns(&self) -> u64 {
        nanos(Instant::now().saturating_duration_since(self.start))
    }

    /// The instant at which the monotonic clock will show `mono_ns`, for timers.
    pub fn at(&self, mono_ns: u64) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.start + Duration::from_nanos(mono_ns))
    }
}

/// A duration in nanoseconds; 584 years saturate.
pub fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}
