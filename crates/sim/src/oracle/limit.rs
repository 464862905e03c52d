//! Limits, as the oracle counts them: what one admits over a span at most, and the earliest instant for the next.

use super::Mean;
use crate::time::{DAY, MS, s_of, unix};
use keymux_provider::{Anchor, ChargingSpec, Dimension, LimitShape, LimitSpec, TotalTokens};
use std::collections::VecDeque;

/// What a request of this size is charged in a dimension.
pub(crate) fn charge(dimension: Dimension, charging: &ChargingSpec, size: Mean) -> f64 {
    let produced = if charging.refund_unused { size.output } else { size.cap };
    match dimension {
        Dimension::Requests | Dimension::Concurrent => 1.0,
        Dimension::InputTokens => size.input,
        Dimension::OutputTokens if charging.output_reserved => produced,
        Dimension::OutputTokens => size.output,
        Dimension::TotalTokens => match charging.total_tokens {
            TotalTokens::MaxOfEstimateAndMaxTokens => size.input.max(size.cap),
            TotalTokens::InputPlusMaxTokens => size.input + produced,
            TotalTokens::AsProduced => size.input + size.output,
        },
        Dimension::InFlightMoney => 0.0,
    }
}

/// The most that a limit admits between two instants (seconds of the run), if it may be used in this share of them.
pub(crate) fn admits(limit: &LimitSpec, from_s: f64, to_s: f64, share: f64, held_s: f64) -> f64 {
    let (amount, period_s) = (limit.limit as f64, limit.period_ms.max(1) as f64 / 1e3);
    let span = to_s - from_s;
    if limit.dimension == Dimension::Concurrent {
        return amount * (1.0 + span * share / held_s.max(1e-3));
    }
    let windows = |period_s: f64, clock: bool| {
        if clock {
            let begin = s_of(unix(0) % crate::time::ns_of(period_s).max(1));
            ((to_s + begin) / period_s).floor() - ((from_s + begin) / period_s).floor() + 1.0
        } else {
            (span / period_s).ceil() + 1.0
        }
    };
    let whole = match limit.shape {
        LimitShape::Bucket => {
            let burst = limit.burst.unwrap_or(limit.limit) as f64;
            burst + amount / period_s * span * share + burst.min(amount / period_s * span * (1.0 - share))
        }
        LimitShape::Window => amount * windows(period_s, limit.anchor == Anchor::Clock),
        LimitShape::Day => amount * windows(s_of(DAY), true),
    };
    match limit.sub_window_ms {
        Some(ms) => {
            let period = ms as f64 / 1e3;
            let slice = (amount * period / period_s).floor().max(1.0);
            whole.min(slice * windows(period, true))
        }
        None => whole,
    }
}

/// A limit that is booked in order of time.
#[derive(Clone, Debug)]
pub(super) struct Booked {
    state: State,
    /// Slices of the period, where it is enforced in such.
    slice: Option<Box<Booked>>,
}

#[derive(Clone, Debug)]
enum State {
    Bucket { level: f64, at_ns: u64, burst: f64, per_ns: f64 },
    Window { limit: f64, period_ns: u64, clock: bool, from_ns: u64, until_ns: u64, used: f64 },
    Slots { limit: usize, ends: VecDeque<u64> },
    None,
}

impl Booked {
    pub(super) fn new(l: &LimitSpec) -> Self {
        let (amount, period_ns) = (l.limit as f64, l.period_ms.max(1) * MS);
        let state = match (l.dimension, l.shape) {
            (Dimension::InFlightMoney, _) => State::None,
            (Dimension::Concurrent, _) => {
                State::Slots { limit: usize::try_from(l.limit).unwrap_or(1).max(1), ends: VecDeque::new() }
            }
            (_, LimitShape::Bucket) => {
                let burst = l.burst.unwrap_or(l.limit) as f64;
                State::Bucket { level: burst, at_ns: 0, burst, per_ns: amount / period_ns as f64 }
            }
            (_, shape) => {
                let day = shape == LimitShape::Day;
                let period_ns = if day { DAY } else { period_ns };
                let clock = day || l.anchor == Anchor::Clock;
                State::Window { limit: amount, period_ns, clock, from_ns: 0, until_ns: 0, used: 0.0 }
            }
        };
        let slice = l.sub_window_ms.filter(|_| l.dimension != Dimension::Concurrent).map(|ms| {
            let limit = (amount * ms as f64 / l.period_ms.max(1) as f64).floor().max(1.0);
            let state = State::Window {
                limit,
                period_ns: ms.max(1) * MS,
                clock: true,
                from_ns: 0,
                until_ns: 0,
                used: 0.0,
            };
            Box::new(Booked { state, slice: None })
        });
        Self { state, slice }
    }

    /// The earliest instant at or after `ns` at which so much fits; `None` if never.
    pub(super) fn earliest(&self, ns: u64, need: f64) -> Option<u64> {
        let at = match &self.state {
            State::None => ns,
            State::Bucket { level, at_ns, burst, per_ns } => {
                if need > *burst {
                    return None;
                }
                let missing = (need - level) / per_ns.max(1e-18);
                ns.max(at_ns.saturating_add(crate::time::ns_of(missing / 1e9)))
            }
            State::Window { limit, from_ns, until_ns, used, .. } => {
                if need > *limit {
                    return None;
                }
                // Booked in order: a window that is over has no room any more.
                let ns = ns.max(*from_ns);
                if ns >= *until_ns || used + need <= *limit { ns } else { *until_ns }
            }
            State::Slots { limit, ends } => {
                let busy = ends.iter().filter(|end| **end > ns).count();
                if busy < *limit { ns } else { ends.get(ends.len() - limit).copied().unwrap_or(ns).max(ns) }
            }
        };
        match &self.slice {
            Some(slice) => slice.earliest(at, need.min(slice.most())),
            None => Some(at),
        }
    }

    fn most(&self) -> f64 {
        if let State::Window { limit, .. } = &self.state { *limit } else { f64::INFINITY }
    }

    /// Books so much from `ns` until `end_ns`.
    pub(super) fn book(&mut self, ns: u64, end_ns: u64, need: f64) {
        match &mut self.state {
            State::None => {}
            State::Bucket { level, at_ns, burst, per_ns } => {
                let since = ns.saturating_sub(*at_ns);
                *level = (*level + since as f64 * *per_ns).min(*burst) - need;
                *at_ns = ns.max(*at_ns);
            }
            State::Window { period_ns, clock, from_ns, until_ns, used, .. } => {
                if ns >= *until_ns {
                    *used = 0.0;
                    *from_ns = ns;
                    let into = if *clock { unix(ns) % *period_ns } else { 0 };
                    *until_ns = ns - into.min(ns) + *period_ns - into.saturating_sub(ns);
                }
                *used += need;
            }
            State::Slots { limit, ends } => {
                let at = ends.partition_point(|end| *end <= end_ns);
                ends.insert(at, end_ns);
                while ends.len() > 2 * *limit {
                    ends.pop_front();
                }
            }
        }
        if let Some(slice) = &mut self.slice {
            slice.book(ns, end_ns, need.min(slice.most()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(limit: u64, shape: LimitShape) -> LimitSpec {
        LimitSpec { limit, shape, period_ms: 10_000, ..LimitSpec::default() }
    }

    #[test]
    fn a_span_admits_the_burst_and_the_refill_or_every_window_that_it_touches() {
        let bucket = LimitSpec { burst: Some(5), ..limit(10, LimitShape::Bucket) };
        assert!((admits(&bucket, 0.0, 100.0, 1.0, 1.0) - 105.0).abs() < 1e-9);
        let window = limit(10, LimitShape::Window);
        // Windows of the calendar begin a third of a second before the run's tens.
        assert!((admits(&window, 0.0, 9.0, 1.0, 1.0) - 10.0).abs() < 1e-9);
        assert!((admits(&window, 0.0, 9.8, 1.0, 1.0) - 20.0).abs() < 1e-9);
        let slots = LimitSpec { dimension: Dimension::Concurrent, ..limit(4, LimitShape::Bucket) };
        assert!((admits(&slots, 0.0, 10.0, 1.0, 2.0) - 24.0).abs() < 1e-9);
    }

    #[test]
    fn bookings_go_to_the_earliest_instant_that_the_limit_admits() {
        let mut bucket = Booked::new(&LimitSpec { burst: Some(1), ..limit(10, LimitShape::Bucket) });
        bucket.book(0, 0, 1.0);
        assert_eq!(bucket.earliest(0, 1.0).map(|ns| (ns + MS / 2) / MS), Some(1_000));
        let mut window = Booked::new(&limit(1, LimitShape::Window));
        window.book(0, 0, 1.0);
        assert_eq!(window.earliest(0, 1.0).map(|ns| ns / MS), Some(9_667));
        window.book(9_667 * MS, 0, 1.0);
        assert_eq!(window.earliest(1, 1.0).map(|ns| ns / MS), Some(19_667), "a full window stays full");
        let mut slots =
            Booked::new(&LimitSpec { dimension: Dimension::Concurrent, ..limit(1, LimitShape::Bucket) });
        slots.book(0, 7, 1.0);
        assert_eq!((slots.earliest(3, 1.0), slots.earliest(8, 1.0)), (Some(7), Some(8)));
        assert_eq!(Booked::new(&limit(1, LimitShape::Bucket)).earliest(0, 2.0), None);
    }
}
