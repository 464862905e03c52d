//! What others say of times and sizes, within reason. Headers, refusals and files of saved levels are written by
//! strangers: a reset in the year 9999 or a limit of 1e30 must not take a key away from its owner for longer than it
//! takes to find out that it was nonsense.

use crate::outcome::{Evidence, Measurement};
use crate::saved::SavedMeter;
use crate::time::{DAY, Now};

/// No header shuts a limit for longer: after a day one request finds out.
const RESET_MAX_NS: u64 = DAY;
/// No refusal is believed for longer. Stated times over five minutes are probed in between.
pub(crate) const STATED_MAX_NS: u64 = 32 * DAY;
/// Limits are smaller than this, in whatever they count.
const UNITS_MAX: f64 = 1e18;

fn units(n: f64) -> bool {
    (0.0..UNITS_MAX).contains(&n)
}

impl Measurement {
    pub(crate) fn within_reason(self) -> Self {
        Self {
            limit: self.limit.filter(|n| units(*n)),
            remaining: self.remaining.filter(|n| units(*n)),
            rounding: if units(self.rounding) { self.rounding } else { 1.0 },
            reset_ns: self.reset_ns.map(|ns| ns.min(RESET_MAX_NS)),
            ..self
        }
    }
}

impl Evidence {
    pub(crate) fn within_reason(self) -> Self {
        Self {
            retry_after_ns: self.retry_after_ns.map(|ns| ns.min(STATED_MAX_NS)),
            limit: self.limit.filter(|n| units(*n)),
            requested: self.requested.filter(|n| units(*n)),
            ..self
        }
    }
}

impl SavedMeter {
    /// `None`: it would admit nothing for ages, or everything.
    pub(crate) fn within_reason(self, now: Now) -> Option<Self> {
        match self {
            Self::Bucket { capacity, rate, level } => {
                let sane = units(capacity) && units(rate) && level.is_finite() && capacity > 0.0;
                let whole = sane && crate::time::ns_of(capacity / rate.max(1e-300)) <= STATED_MAX_NS;
                whole.then(|| Self::Bucket { capacity, rate, level: level.clamp(-capacity, capacity) })
            }
            Self::Window { limit, period_ns, used, end_unix_ns, by_clock } => {
                let sane = units(limit) && limit > 0.0 && used.is_finite();
                let last = now.unix_ns.saturating_add(period_ns);
                (sane && (1..=STATED_MAX_NS).contains(&period_ns)).then(|| Self::Window {
                    limit,
                    period_ns,
                    used: used.clamp(0.0, 2.0 * limit),
                    // By the clock, any end says the same as one in the running period.
                    end_unix_ns: match end_unix_ns.checked_sub(last) {
                        Some(far) if by_clock => last - period_ns + far % period_ns,
                        Some(_) => last,
                        None => end_unix_ns,
                    },
                    by_clock,
                })
            }
            Self::Slots { limit } => (limit > 0).then_some(self),
            Self::Open => Some(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_says_is_taken_within_reason() {
        let now = Now { mono_ns: 5, unix_ns: 1_000 * DAY };
        let bucket = |capacity, rate, level| SavedMeter::Bucket { capacity, rate, level }.within_reason(now);
        assert_eq!(
            bucket(5.0, 1.0, -1e308),
            Some(SavedMeter::Bucket { capacity: 5.0, rate: 1.0, level: -5.0 })
        );
        assert_eq!(bucket(5.0, 1.0, 9.0), Some(SavedMeter::Bucket { capacity: 5.0, rate: 1.0, level: 5.0 }));
        for (capacity, rate, level) in [
            (-1.0, 1.0, 0.0),
            (1e308, 1.0, 0.0),
            (5.0, 0.0, 0.0),
            (5.0, 1e-9, 0.0),
            (5.0, -1.0, 0.0),
            (5.0, 1.0, f64::NAN),
        ] {
            assert_eq!(bucket(capacity, rate, level), None, "{capacity} {rate} {level}");
        }
        let window = |limit, period_ns, used, end_unix_ns| {
            SavedMeter::Window { limit, period_ns, used, end_unix_ns, by_clock: false }.within_reason(now)
        };
        let kept = SavedMeter::Window {
            limit: 5.0,
            period_ns: DAY,
            used: 10.0,
            end_unix_ns: 1_001 * DAY,
            by_clock: false,
        };
        assert_eq!(window(5.0, DAY, 1e300, u64::MAX), Some(kept));
        assert_eq!(window(5.0, 0, 1.0, 0), None);
        assert_eq!(window(5.0, u64::MAX, 1.0, 0), None);
        assert_eq!(SavedMeter::Slots { limit: 0 }.within_reason(now), None);
    }
}
