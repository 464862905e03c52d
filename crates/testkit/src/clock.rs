//! The one place that reads the clock. A world's time begins when it is made; tests that reset a world get a
//! new clock with it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keymux_provider::Now;
use tokio::time::Instant;

/// A beginning on the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Clock { started: instant() }
    }

    pub(crate) fn now(&self) -> Now {
        let mono = instant().saturating_duration_since(self.started);
        Now { mono_ns: nanos(mono), unix_ns: unix_ns() }
    }

    /// The instant at which this clock shows `mono_ns`.
    pub(crate) fn at(&self, mono_ns: u64) -> Instant {
        self.started + Duration::from_nanos(mono_ns)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "real sockets live in real time; this is testkit's one clock file"
)]
pub(crate) fn instant() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "real sockets live in real time; this is testkit's one clock file"
)]
pub(crate) fn unix_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, nanos)
}

/// Nanoseconds of a duration; 584 years are enough.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
