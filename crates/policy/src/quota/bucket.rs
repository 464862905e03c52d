//! A bucket that refills all the time (the fluid form of GCRA: level now = level then + rate x time, at most the
//! capacity). The safety margin for network delay lies in the level, rate x 30 ms, never in time: a full bucket may
//! be used at once.

use super::MARGIN_NS;
use crate::time::{ns_of, s_of};

#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    pub(crate) capacity: f64,
    /// Units a second.
    pub(crate) rate: f64,
    level: f64,
    at_ns: u64,
    /// So long may a request be on its way.
    way_ns: u64,
    /// The fullest it was lately, and when.
    peak: (f64, u64),
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(capacity: f64, rate: f64, mono_ns: u64) -> Self {
        Self { capacity, rate, level: capacity, at_ns: mono_ns, way_ns: MARGIN_NS, peak: (capacity, mono_ns) }
    }

    /// Requests may be so long on their way. A provider's bucket that is full until they arrive has lost what ours took
    /// for refilled meanwhile.
    pub(crate) fn far_away(&mut self, way_ns: u64) {
        self.way_ns = way_ns.max(MARGIN_NS);
    }

    /// What is left unused: what comes back while a request is on its way, but of a small bucket no more than a part.
    pub(crate) fn margin(&self) -> f64 {
        let least = self.rate * s_of(MARGIN_NS);
        (self.rate * s_of(self.way_ns)).min(self.capacity / 16.0).max(least)
    }

    pub(crate) fn level(&self, mono_ns: u64) -> f64 {
        (self.level + self.rate * s_of(mono_ns.saturating_sub(self.at_ns))).min(self.capacity)
    }

    /// The first instant at which `need` fits behind `ahead` units of others' work. `u64::MAX`: never.
    pub(crate) fn ready_at(&self, mono_ns: u64, ahead: f64, need: f64) -> u64 {
        if need > self.capacity * (1.0 + 1e-9) {
            return u64::MAX;
        }
        let margin = self.margin();
        // With others ahead the bucket never gets full, so their work simply adds up.
        let goal = if ahead > 0.0 { ahead + need + margin } else { (need + margin).min(self.capacity) };
        let missing = goal - self.level(mono_ns);
        if missing <= goal.abs() * 1e-9 + 1e-9 {
            mono_ns
        } else if self.rate > 0.0 {
            mono_ns.saturating_add(ns_of(missing / self.rate).max(1))
        } else {
            u64::MAX
        }
    }

    /// Whether taking `need` now leaves `held` units at `hold_at` for the one who saves up for them.
    pub(crate) fn fits_beside(&self, mono_ns: u64, need: f64, held: f64, hold_at: u64) -> bool {
        let later = (self.level(mono_ns) - need + self.rate * s_of(hold_at.saturating_sub(mono_ns)))
            .min(self.capacity);
        later + 1e-9 >= (held + self.margin()).min(self.capacity)
    }

    /// Takes (or with a negative amount gives back, never above the capacity). The level may go below zero. Tells when,
    /// for [`Self::give_back`].
    pub(crate) fn take(&mut self, mono_ns: u64, amount: f64) -> u64 {
        let level = self.level(mono_ns);
        if level > self.peak.0 || !self.is_fresh(mono_ns) {
            self.peak = (level, mono_ns);
        }
        self.level = (level - amount).min(self.capacity);
        self.at_ns = mono_ns.max(self.at_ns);
        mono_ns
    }

    /// Gives back of what was taken at `taken_ns`. The provider knew of it before us: what overflowed there, because it
    /// was fuller then, is lost.
    pub(crate) fn give_back(&mut self, mono_ns: u64, taken_ns: u64, amount: f64) {
        let fuller = self.is_fresh(mono_ns) && self.peak.1 > taken_ns;
        let lost = if fuller { (self.peak.0 + amount - self.capacity).clamp(0.0, amount) } else { 0.0 };
        self.take(mono_ns, lost - amount);
    }

    fn is_fresh(&self, mono_ns: u64) -> bool {
        mono_ns.saturating_sub(self.peak.1) < self.way_ns - MARGIN_NS
    }

    pub(crate) fn set_level(&mut self, mono_ns: u64, level: f64) {
        self.level = level.min(self.capacity);
        self.at_ns = mono_ns.max(self.at_ns);
    }

    /// Another size or rate; what was used stays used.
    pub(crate) fn resize(&mut self, mono_ns: u64, capacity: f64, rate: f64) {
        let used = self.capacity - self.level(mono_ns);
        self.capacity = capacity;
        self.rate = rate;
        self.set_level(mono_ns, capacity - used);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SECOND;

    /// Up to the rounding of a floating number.
    #[track_caller]
    fn assert_near(ns: u64, expected: u64) {
        assert!(ns.abs_diff(expected) < 100, "{ns} is not {expected}");
    }

    #[test]
    fn a_full_bucket_gives_its_capacity_at_once_then_its_rate() {
        let mut b = Bucket::new(10.0, 1.0, 0);
        for _ in 0..9 {
            assert_eq!(b.ready_at(0, 0.0, 1.0), 0);
            b.take(0, 1.0);
        }
        // The tenth has the margin to wait for: 30 ms of refill.
        assert_near(b.ready_at(0, 0.0, 1.0), 30_000_000);
        b.take(0, 1.0);
        assert_near(b.ready_at(0, 0.0, 1.0), 1_030_000_000);
        assert_near(b.ready_at(0, 5.0, 1.0), 6_030_000_000);
        assert_eq!(b.ready_at(0, 0.0, 11.0), u64::MAX);
        // The capacity itself fits, but only when full: the margin must not make it impossible.
        assert_near(b.ready_at(0, 0.0, 10.0), 10 * SECOND);
    }

    #[test]
    fn refunds_never_exceed_the_capacity_and_debts_are_paid_first() {
        let mut b = Bucket::new(10.0, 1.0, 0);
        b.take(0, -5.0);
        assert!((b.level(0) - 10.0).abs() < 1e-9);
        b.take(0, 25.0);
        assert!((b.level(0) + 15.0).abs() < 1e-9);
        assert_near(b.ready_at(0, 0.0, 1.0), 16_030_000_000);
    }

    #[test]
    fn what_came_back_while_requests_were_on_their_way_is_left_unused() {
        let mut b = Bucket::new(600.0, 10.0, 0);
        b.far_away(300 * crate::time::MS);
        // A full one at the provider refilled nothing until the first of these arrived, up to 300 ms later.
        b.take(0, 600.0);
        assert_near(b.ready_at(0, 0.0, 1.0), 400_000_000);
        // A small one would be of no use if it were all margin.
        let mut small = Bucket::new(16.0, 10.0, 0);
        small.far_away(300 * crate::time::MS);
        assert!((small.margin() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_given_back_overflowed_if_the_provider_was_full_when_it_knew() {
        let mut b = Bucket::new(100.0, 10.0, 0);
        b.far_away(300 * crate::time::MS);
        let first = b.take(0, 40.0);
        b.give_back(SECOND / 10, first, 30.0);
        assert!((b.level(SECOND / 10) - 91.0).abs() < 1e-9, "its own charge made room for it");
        let second = b.take(SECOND, 40.0);
        // It is full again at 5 s, when others go out at once; the second one's refund was known there before that.
        let third = b.take(5 * SECOND, 90.0);
        b.give_back(5 * SECOND + SECOND / 10, second, 30.0);
        assert!((b.level(5 * SECOND + SECOND / 10) - 11.0).abs() < 1e-9, "nothing was left to give back");
        b.give_back(6 * SECOND, third, 30.0);
        assert!((b.level(6 * SECOND) - 50.0).abs() < 1e-9, "all of it");
    }

    #[test]
    fn ready_at_is_ready_and_a_moment_before_is_not() {
        let mut b = Bucket::new(100_000.0, 777.7, 5);
        b.take(5, 99_999.0);
        for need in [1.0, 3.3, 5_000.0, 99_000.0, 100_000.0] {
            let t = b.ready_at(5, 0.0, need);
            assert_eq!(b.ready_at(t, 0.0, need), t, "{need}");
            assert!(b.ready_at(t - 1_000_000, 0.0, need) > t - 1_000_000, "{need}");
        }
    }

    #[test]
    fn a_small_request_may_pass_the_saver_only_by_what_would_overflow() {
        let mut b = Bucket::new(100.0, 10.0, 0);
        b.take(0, 50.0);
        // Somebody saves up for 100 at 5 s: everything is needed.
        assert!(!b.fits_beside(0, 1.0, 100.0, 5 * SECOND));
        // At 6 s there are 10 to spare.
        assert!(b.fits_beside(0, 10.0, 100.0, 6 * SECOND));
        assert!(!b.fits_beside(0, 10.5, 100.0, 6 * SECOND));
    }
}
