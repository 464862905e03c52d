//! The wall clock: the only file that reads it. Everything else gets [`Now`] as an argument.

use keymux_policy::Now;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Reads both clocks, counting monotonic time from its own making. Calendar time is monotonic time plus an offset that
/// [`Clock::set_calendar`] keeps true, so that one look at the machine's clock tells both.
#[derive(Clone, Debug)]
pub struct Clock {
    start: Instant,
    start_unix_ns: Arc<AtomicU64>,
}

impl Clock {
    /// A clock that starts at zero.
    #[expect(clippy::disallowed_methods, reason = "this file owns the clock")]
    pub fn start() -> Self {
        let clock = Self { start: Instant::now(), start_unix_ns: Arc::new(AtomicU64::new(0)) };
        clock.set_calendar();
        clock
    }

    /// Looks at the calendar again: somebody may have set it. Called once a second.
    #[expect(clippy::disallowed_methods, reason = "this file owns the clock")]
    pub fn set_calendar(&self) {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        self.start_unix_ns.store(nanos(unix).saturating_sub(self.mono_ns()), Ordering::Relaxed);
    }

    /// This instant on both clocks.
    pub fn now(&self) -> Now {
        let mono_ns = self.mono_ns();
        Now { mono_ns, unix_ns: self.start_unix_ns.load(Ordering::Relaxed) + mono_ns }
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
