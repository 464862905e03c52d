//! One limit of a provider, in exact integers: buckets, windows, days, slots and holds.
//!
//! A bucket's level is kept in units x period, so that refilling `limit` units in a period is `limit x dt`
//! with no rounding ever: two worlds that see the same calls agree to the nanosecond. This is deliberately
//! not the arithmetic that the gateway uses to mirror it.

use std::collections::VecDeque;

use crate::dialect::glob_matches;
use crate::record::Name;
use crate::spec::{Anchor, Dimension, LimitShape, LimitSpec};
use crate::time::{DAY, MS, Now, SECOND};

#[derive(Clone, Debug)]
pub(crate) struct Limiter {
    pub(crate) dimension: Dimension,
    pub(crate) limit: u64,
    pub(crate) period_ns: u64,
    /// What records call it, such as `requests/60s`.
    pub(crate) label: Name,
    pub(crate) retry_after_ns: Option<u64>,
    pub(crate) shared: bool,
    settlement_ns: u64,
    models: Vec<String>,
    level: Level,
    slice: Option<Slice>,
}

#[derive(Clone, Debug)]
enum Level {
    /// `level` and `capacity` in units x `period_ns`.
    Bucket { level: i128, capacity: i128, at_ns: u64 },
    /// `start_ns` in Unix time; `until_ns` is 0 before the first window.
    Window { start_ns: u64, until_ns: u64, used: u64, anchor: Anchor },
    /// Slots or money held; the queue holds what is released later.
    Held { held: u64, settling: VecDeque<(u64, u64)> },
}

/// Enforcement in slices of the period.
#[derive(Clone, Debug)]
struct Slice {
    ns: u64,
    limit: u64,
    index: u64,
    used: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    Fits,
    /// Would fit after so many nanoseconds if nobody else came; None where nobody can say.
    Wait(Option<u64>),
    /// Larger than the limit can ever admit.
    Never,
}

impl Limiter {
    pub(crate) fn new(spec: &LimitSpec, now: Now) -> Self {
        let held = matches!(spec.dimension, Dimension::Concurrent | Dimension::InFlightMoney);
        let day = spec.shape == LimitShape::Day;
        let period_ns = if day { DAY } else { spec.period_ms.max(1) * MS };
        let limit = spec.limit;
        let level = if held {
            Level::Held { held: 0, settling: VecDeque::new() }
        } else if spec.shape == LimitShape::Bucket {
            let capacity = i128::from(spec.burst.unwrap_or(limit)) * i128::from(period_ns);
            Level::Bucket { level: capacity, capacity, at_ns: now.mono_ns }
        } else {
            let anchor = if day { Anchor::Clock } else { spec.anchor };
            Level::Window { start_ns: 0, until_ns: 0, used: 0, anchor }
        };
        let slice = spec.sub_window_ms.filter(|_| !held).map(|ms| {
            let ns = ms.max(1) * MS;
            let share = u128::from(limit) * u128::from(ns) / u128::from(period_ns);
            Slice { ns, limit: u64::try_from(share).unwrap_or(limit).max(1), index: u64::MAX, used: 0 }
        });
        Limiter {
            dimension: spec.dimension,
            limit,
            period_ns,
            label: label(spec.dimension, held, period_ns),
            retry_after_ns: spec.retry_after_ms.map(|ms| ms * MS),
            shared: false,
            settlement_ns: spec.settlement_ms * MS,
            models: spec.models.clone(),
            level,
            slice,
        }
    }

    pub(crate) fn covers(&self, model: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|glob| glob_matches(glob, model))
    }

    /// Carries the level forward to `now`.
    fn advance(&mut self, now: Now) {
        match &mut self.level {
            Level::Bucket { level, capacity, at_ns } => {
                let dt = now.mono_ns.saturating_sub(*at_ns);
                *level = (*level + i128::from(dt) * i128::from(self.limit)).min(*capacity);
                *at_ns = now.mono_ns.max(*at_ns);
            }
            Level::Window { start_ns, until_ns, used, anchor } => {
                if now.unix_ns >= *until_ns {
                    *used = 0;
                    if *anchor == Anchor::Clock {
                        *start_ns = now.unix_ns - now.unix_ns % self.period_ns;
                        *until_ns = *start_ns + self.period_ns;
                    }
                }
            }
            Level::Held { held, settling } => {
                while let Some((_, amount)) = settling.front().filter(|(at, _)| *at <= now.mono_ns).copied() {
                    settling.pop_front();
                    *held = held.saturating_sub(amount);
                }
            }
        }
        if let Some(slice) = &mut self.slice {
            let index = now.unix_ns / slice.ns;
            if index != slice.index {
                slice.index = index;
                slice.used = 0;
            }
        }
    }

    /// Would a charge of `need` be admitted now?
    pub(crate) fn fits(&mut self, now: Now, need: u64) -> Fit {
        self.advance(now);
        let mut wait = match &self.level {
            Level::Bucket { level, capacity, .. } => {
                let need = i128::from(need) * i128::from(self.period_ns);
                if need > *capacity {
                    return Fit::Never;
                }
                ceil_div(need - *level, self.limit)
            }
            Level::Window { until_ns, used, .. } => {
                if need > self.limit {
                    return Fit::Never;
                }
                if used.saturating_add(need) <= self.limit { 0 } else { until_ns - now.unix_ns }
            }
            Level::Held { held, .. } => {
                if need > self.limit {
                    return Fit::Never;
                }
                if held.saturating_add(need) <= self.limit {
                    return Fit::Fits;
                }
                return Fit::Wait(self.retry_after_ns);
            }
        };
        if let Some(slice) = &self.slice {
            // A charge larger than a slice is let through into an empty one, or it could never pass.
            if slice.used > 0 && slice.used.saturating_add(need) > slice.limit {
                wait = wait.max((slice.index + 1) * slice.ns - now.unix_ns);
            }
        }
        if wait == 0 { Fit::Fits } else { Fit::Wait(Some(wait)) }
    }

    /// Charges `amount` whether it fits or not; the mark says which window was charged.
    pub(crate) fn charge(&mut self, now: Now, amount: u64) -> u64 {
        self.advance(now);
        if let Some(slice) = &mut self.slice {
            slice.used = slice.used.saturating_add(amount);
        }
        match &mut self.level {
            Level::Bucket { level, .. } => {
                *level -= i128::from(amount) * i128::from(self.period_ns);
                0
            }
            Level::Window { start_ns, until_ns, used, .. } => {
                if now.unix_ns >= *until_ns {
                    *start_ns = now.unix_ns;
                    *until_ns = now.unix_ns + self.period_ns;
                }
                *used = used.saturating_add(amount);
                *start_ns
            }
            Level::Held { held, .. } => {
                *held = held.saturating_add(amount);
                0
            }
        }
    }

    /// Counts a refused call, as far as anything is left: a refusal takes a bucket's fraction of a unit too, so that
    /// whoever knocks faster than it refills never gets in.
    pub(crate) fn count_refused(&mut self, now: Now) {
        self.advance(now);
        match &mut self.level {
            Level::Bucket { level, .. } => *level -= i128::from(self.period_ns).min((*level).max(0)),
            Level::Window { used, .. } if *used < self.limit => *used += 1,
            Level::Window { .. } | Level::Held { .. } => {}
        }
    }

    /// Gives back what was reserved and not used: only to the window that was charged, never above capacity.
    pub(crate) fn refund(&mut self, now: Now, mark: u64, amount: u64) {
        self.advance(now);
        match &mut self.level {
            Level::Bucket { level, capacity, .. } => {
                *level = (*level + i128::from(amount) * i128::from(self.period_ns)).min(*capacity);
            }
            Level::Window { start_ns, used, .. } => {
                if *start_ns == mark {
                    *used = used.saturating_sub(amount);
                }
            }
            Level::Held { held, .. } => *held = held.saturating_sub(amount),
        }
    }

    /// Ends a hold of money: the real cost stays held for the settlement window.
    pub(crate) fn settle_hold(&mut self, now: Now, held_amount: u64, real: u64) {
        self.advance(now);
        if let Level::Held { held, settling } = &mut self.level {
            *held = held.saturating_sub(held_amount).saturating_add(real);
            settling.push_back((now.mono_ns.saturating_add(self.settlement_ns), real));
        }
    }

    /// Whole units left now (0 when over).
    pub(crate) fn remaining(&mut self, now: Now) -> u64 {
        self.advance(now);
        match &self.level {
            Level::Bucket { level, .. } => {
                u64::try_from((*level).max(0) / i128::from(self.period_ns)).unwrap_or(u64::MAX)
            }
            Level::Window { used, .. } => self.limit.saturating_sub(*used),
            Level::Held { held, .. } => self.limit.saturating_sub(*held),
        }
    }

    /// Nanoseconds until it is whole again.
    pub(crate) fn full_in(&mut self, now: Now) -> u64 {
        self.advance(now);
        match &self.level {
            Level::Bucket { level, capacity, .. } => ceil_div(*capacity - *level, self.limit),
            Level::Window { until_ns, used, .. } => {
                if *used == 0 && now.unix_ns >= *until_ns {
                    0
                } else {
                    until_ns.saturating_sub(now.unix_ns)
                }
            }
            Level::Held { .. } => 0,
        }
    }
}

/// `ceil(value / by)`, 0 for negative values; a limit of 0 never refills.
fn ceil_div(value: i128, by: u64) -> u64 {
    if value <= 0 {
        return 0;
    }
    if by == 0 {
        return u64::MAX / 4;
    }
    let by = i128::from(by);
    u64::try_from((value + by - 1) / by).unwrap_or(u64::MAX / 4)
}

fn label(dimension: Dimension, held: bool, period_ns: u64) -> Name {
    let dimension = match dimension {
        Dimension::Requests => "requests",
        Dimension::InputTokens => "input_tokens",
        Dimension::OutputTokens => "output_tokens",
        Dimension::TotalTokens => "total_tokens",
        Dimension::Concurrent => "concurrent",
        Dimension::InFlightMoney => "in_flight_money",
    };
    if held {
        return Name::from(dimension);
    }
    if period_ns.is_multiple_of(SECOND) {
        Name::from(format!("{dimension}/{}s", period_ns / SECOND))
    } else {
        Name::from(format!("{dimension}/{}ms", period_ns / MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        // Half a second into a minute, so that clock windows and the mono clock do not agree by chance.
        Now { mono_ns: ms * MS, unix_ns: 1_800_000_000 * SECOND + 500 * MS + ms * MS }
    }

    fn limiter(spec: &LimitSpec) -> Limiter {
        Limiter::new(spec, at(0))
    }

    #[test]
    fn bucket_refills_exactly_and_says_when() {
        let mut l = limiter(&LimitSpec { limit: 3, period_ms: 1_000, ..LimitSpec::default() });
        for _ in 0..3 {
            assert_eq!(l.fits(at(0), 1), Fit::Fits);
            l.charge(at(0), 1);
        }
        assert_eq!(l.fits(at(0), 1), Fit::Wait(Some(333_333_334)));
        let almost = Now { mono_ns: 333_333_333, ..at(0) };
        assert_eq!(l.fits(almost, 1), Fit::Wait(Some(1)));
        assert_eq!(l.fits(almost.plus(1), 1), Fit::Fits);
        assert_eq!(l.fits(at(0), 4), Fit::Never);
        assert_eq!(l.full_in(almost.plus(1)), SECOND - 333_333_334);
    }

    #[test]
    fn who_knocks_faster_than_a_bucket_refills_never_gets_in_where_refusals_count() {
        let mut l = limiter(&LimitSpec { limit: 2, period_ms: 1_000, ..LimitSpec::default() });
        l.charge(at(0), 2);
        for ms in (400..4_000).step_by(400) {
            assert!(matches!(l.fits(at(ms), 1), Fit::Wait(_)), "{ms}");
            l.count_refused(at(ms));
        }
        assert_eq!(l.fits(at(4_000), 1), Fit::Wait(Some(100 * MS)), "nothing is owed beyond what was left");
        assert_eq!(l.fits(at(4_100), 1), Fit::Fits);
    }

    #[test]
    fn bucket_never_refunds_above_capacity() {
        let mut l = limiter(&LimitSpec { limit: 10, period_ms: 1_000, ..LimitSpec::default() });
        l.charge(at(0), 10);
        l.refund(at(900), 0, 10);
        assert_eq!(l.remaining(at(900)), 10);
    }

    #[test]
    fn clock_window_starts_again_at_its_boundary_not_a_period_after_the_first_call() {
        let spec =
            LimitSpec { limit: 2, period_ms: 1_000, shape: LimitShape::Window, ..LimitSpec::default() };
        let mut l = limiter(&spec);
        l.charge(at(0), 2);
        assert_eq!(l.fits(at(0), 1), Fit::Wait(Some(500 * MS)));
        assert_eq!(l.fits(at(500), 2), Fit::Fits);
        let mut l = limiter(&LimitSpec { anchor: Anchor::FirstRequest, ..spec });
        l.charge(at(0), 2);
        assert_eq!(l.fits(at(0), 1), Fit::Wait(Some(SECOND)));
    }

    #[test]
    fn refund_reaches_only_the_window_that_was_charged() {
        let spec =
            LimitSpec { limit: 10, period_ms: 1_000, shape: LimitShape::Window, ..LimitSpec::default() };
        let mut l = limiter(&spec);
        let mark = l.charge(at(0), 6);
        l.charge(at(600), 4);
        l.refund(at(600), mark, 6);
        assert_eq!(l.remaining(at(600)), 6);
        let mark = l.charge(at(600), 1);
        l.refund(at(600), mark, 1);
        assert_eq!(l.remaining(at(600)), 6);
    }

    #[test]
    fn day_ends_at_midnight_utc() {
        let mut l = limiter(&LimitSpec { limit: 1, shape: LimitShape::Day, ..LimitSpec::default() });
        l.charge(at(0), 1);
        let midnight = DAY - at(0).unix_ns % DAY;
        assert_eq!(l.fits(at(0), 1), Fit::Wait(Some(midnight)));
        assert_eq!(l.fits(at(0).plus(midnight), 1), Fit::Fits);
    }

    #[test]
    fn slices_refuse_a_burst_that_the_period_would_admit() {
        let mut l = limiter(&LimitSpec { sub_window_ms: Some(1_000), ..LimitSpec::default() });
        l.charge(at(0), 1);
        assert_eq!(l.fits(at(0), 1), Fit::Wait(Some(500 * MS)));
        assert_eq!(l.fits(at(500), 1), Fit::Fits);
    }

    #[test]
    fn slots_come_back_when_released_and_money_after_settlement() {
        let mut l =
            limiter(&LimitSpec { dimension: Dimension::Concurrent, limit: 1, ..LimitSpec::default() });
        l.charge(at(0), 1);
        assert_eq!(l.fits(at(9), 1), Fit::Wait(None));
        l.refund(at(9), 0, 1);
        assert_eq!(l.fits(at(9), 1), Fit::Fits);
        let mut l = limiter(&LimitSpec {
            dimension: Dimension::InFlightMoney,
            limit: 100,
            settlement_ms: 50,
            retry_after_ms: Some(20_000),
            ..LimitSpec::default()
        });
        l.charge(at(0), 80);
        assert_eq!(l.fits(at(0), 30), Fit::Wait(Some(20 * SECOND)));
        l.settle_hold(at(10), 80, 75);
        assert_eq!(l.fits(at(59), 30), Fit::Wait(Some(20 * SECOND)));
        assert_eq!(l.fits(at(60), 100), Fit::Fits);
    }
}
