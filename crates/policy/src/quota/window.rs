//! Fixed windows: so many units in each period, whole again at once. Aligned to an instant of the calendar, or begun
//! by the first use. What is sent in the last moments of a window may arrive in the next one, so it counts in both.

use super::MARGIN_NS;
use super::slide::Slide;
use crate::time::{Now, ns_of, s_of};

#[derive(Clone, Debug)]
pub(crate) struct Window {
    pub(crate) limit: f64,
    pub(crate) period_ns: u64,
    /// An instant (Unix) at which a period begins.
    anchor_unix_ns: Option<u64>,
    used: f64,
    /// Of `used`, what was sent so late that it may count in the next window.
    late: f64,
    /// Number of the period that `used` belongs to.
    epoch: u64,
    /// End of the running period (monotonic), for windows without an anchor; 0: not begun.
    end_mono_ns: u64,
    way_ns: u64,
    /// Where it begins with a request and nothing may be refused.
    slide: Option<Box<Slide>>,
}

impl Window {
    pub(crate) fn new(limit: f64, period_ns: u64, anchor_unix_ns: Option<u64>) -> Self {
        let period_ns = period_ns.max(1);
        Self {
            limit,
            period_ns,
            anchor_unix_ns,
            used: 0.0,
            late: 0.0,
            epoch: 0,
            end_mono_ns: 0,
            way_ns: MARGIN_NS,
            slide: None,
        }
    }

    /// Requests may be so long on their way.
    pub(crate) fn far_away(&mut self, way_ns: u64) {
        self.way_ns = way_ns;
        if self.anchor_unix_ns.is_none() {
            self.slide.get_or_insert_default();
        }
    }

    /// What is sent so long before an end may count on either side of it.
    fn margin(&self) -> u64 {
        self.way_ns.min(self.period_ns / 4).max(MARGIN_NS.min(self.period_ns / 10))
    }

    /// The number of the period at `now`, and its end (monotonic; `None`: it begins with the next use).
    fn period(&self, now: Now) -> (u64, Option<u64>) {
        if let Some(slide) = &self.slide {
            (self.epoch, slide.end(now.mono_ns))
        } else if let Some(anchor) = self.anchor_unix_ns {
            let shifted = now.unix_ns + self.period_ns - anchor % self.period_ns;
            let end = now.mono_ns.saturating_add(self.period_ns - shifted % self.period_ns);
            (shifted / self.period_ns, Some(end))
        } else if self.end_mono_ns == 0 {
            (self.epoch, None)
        } else if now.mono_ns >= self.end_mono_ns {
            (self.epoch + 1, None)
        } else {
            (self.epoch, Some(self.end_mono_ns))
        }
    }

    pub(crate) fn used(&self, now: Now) -> f64 {
        if let Some(slide) = &self.slide {
            return slide.used(now.mono_ns);
        }
        let (epoch, _) = self.period(now);
        if epoch == self.epoch {
            self.used
        } else if epoch == self.epoch + 1 {
            self.late
        } else {
            0.0
        }
    }

    /// Share of the running period that is still to come (1 where it has not begun).
    pub(crate) fn share_left(&self, now: Now) -> f64 {
        self.period(now).1.map_or(1.0, |end| end.saturating_sub(now.mono_ns) as f64 / self.period_ns as f64)
    }

    /// End of the running period.
    pub(crate) fn end(&self, now: Now) -> Option<u64> {
        self.period(now).1
    }

    /// The first instant at which `need` fits behind `ahead` units of others' work. `u64::MAX`: never.
    pub(crate) fn ready_at(&self, now: Now, ahead: f64, need: f64) -> u64 {
        if need > self.limit * (1.0 + 1e-9) {
            return u64::MAX;
        }
        let total = self.used(now) + ahead + need;
        if total <= self.limit + 1e-9 {
            return now.mono_ns;
        }
        if let Some(slide) = &self.slide {
            // A period later for each `limit` units, the rest as soon as so much of what was sent is over.
            let periods = ((ahead + need) / self.limit - 1e-9).floor().max(0.0);
            let rest = ahead + need - periods * self.limit;
            let at = slide.down_to(now.mono_ns, self.limit - rest);
            return at.saturating_add(ns_of(s_of(self.counts_ns()) * periods)).max(now.mono_ns + 1);
        }
        let end = self.period(now).1.unwrap_or(now.mono_ns.saturating_add(self.period_ns));
        // A window later for each `limit` units; a request does not straddle two of them, which the forecast forgives.
        let rest = total - self.limit.max(self.used(now));
        let windows = (rest / self.limit - 1e-9).floor().max(0.0);
        let end = end.saturating_add(ns_of(s_of(self.period_ns) * windows));
        end.max(now.mono_ns + 1)
    }

    /// How long a charge counts that slides.
    fn counts_ns(&self) -> u64 {
        self.period_ns.saturating_add(self.margin())
    }

    /// Whether taking `need` now leaves less than `held` for the one who saves up for it until `at`.
    pub(crate) fn is_short_of(&self, now: Now, need: f64, held: f64, at: u64) -> bool {
        if let Some(slide) = &self.slide {
            let still = at < now.mono_ns.saturating_add(self.counts_ns());
            return still && slide.used(at) + need + held > self.limit + 1e-9;
        }
        self.end(now).is_none_or(|end| at < end) && self.used(now) + need + held > self.limit + 1e-9
    }

    fn roll(&mut self, now: Now) {
        let (epoch, end) = self.period(now);
        if epoch != self.epoch {
            self.used = self.used(now);
            self.late = 0.0;
            self.epoch = epoch;
        }
        if end.is_none() {
            // The provider's period begins when the request arrives, a little later than ours.
            self.end_mono_ns = now.mono_ns.saturating_add(self.period_ns + self.margin());
        }
    }

    /// Takes, and names the period that was charged.
    pub(crate) fn take(&mut self, now: Now, amount: f64) -> u64 {
        let until = now.mono_ns.saturating_add(self.counts_ns());
        if let Some(slide) = &mut self.slide {
            return slide.take(now.mono_ns, until, amount);
        }
        self.roll(now);
        self.used += amount;
        let margin = self.margin();
        if self.anchor_unix_ns.is_some() && self.end(now).is_some_and(|end| end - now.mono_ns <= margin) {
            self.late += amount;
        }
        self.epoch
    }

    /// Settles a charge of the period `epoch` by `amount` more (or less): only the window that was charged gets it.
    pub(crate) fn adjust(&mut self, now: Now, epoch: u64, amount: f64) {
        if let Some(slide) = self.slide.as_mut().filter(|_| amount <= 0.0) {
            slide.give_back(epoch, -amount);
        } else if self.slide.is_none() && self.period(now).0 == epoch && self.epoch == epoch {
            self.used = (self.used + amount).max(0.0);
        } else if amount > 0.0 {
            // More than was reserved: a provider that counts as it goes has charged the running window.
            self.take(now, amount);
        }
    }

    pub(crate) fn set_used(&mut self, now: Now, used: f64) {
        let more = used - self.used(now);
        if let Some(slide) = self.slide.as_mut().filter(|_| more <= 0.0) {
            return slide.forget(-more);
        }
        if self.slide.is_some() {
            self.take(now, more);
            return;
        }
        self.roll(now);
        self.used = used.max(0.0);
        self.late = 0.0;
    }

    /// An instant (Unix) at which a period begins, where that is known.
    pub(crate) fn anchor(&self) -> Option<u64> {
        self.anchor_unix_ns
    }

    /// Its periods follow this clock after all; what was used stays used.
    pub(crate) fn anchored(&mut self, now: Now, anchor_unix_ns: u64) {
        let used = self.used(now);
        self.anchor_unix_ns = Some(anchor_unix_ns);
        self.epoch = self.period(now).0;
        (self.used, self.late) = (used, 0.0);
    }

    /// So much is used until `end` (monotonic), as was said or is known from before: that much is certain again.
    pub(crate) fn used_until(&mut self, now: Now, used: f64, end: u64) -> bool {
        let Some(slide) = &mut self.slide else { return false };
        slide.clear();
        slide.take(now.mono_ns, end.max(now.mono_ns), used);
        true
    }

    /// So much more is used until `end` (monotonic), as is known from before, where charges slide.
    pub(crate) fn also_until(&mut self, now: Now, used: f64, end: Option<u64>) -> bool {
        let Some(slide) = &mut self.slide else { return false };
        if let Some(end) = end {
            slide.take(now.mono_ns, end, used);
        }
        true
    }

    /// What is used, and until when (monotonic), in few parts.
    pub(crate) fn parts(&self, now: Now) -> Vec<(Option<u64>, f64)> {
        match &self.slide {
            Some(slide) => slide.parts(now.mono_ns),
            None => vec![(self.end(now), self.used(now))],
        }
    }

    /// The running period ends at `end` (monotonic), as this process knew it before it was started again.
    pub(crate) fn resume(&mut self, now: Now, end: u64, by_clock: bool) {
        if by_clock {
            self.begin(now, end, true);
        } else {
            self.end_mono_ns = end;
        }
    }

    /// A period ends at `end` (monotonic), and the next ones follow by the clock, or each begins with its first use.
    pub(crate) fn begin(&mut self, now: Now, end: u64, by_clock: bool) {
        if by_clock {
            self.anchor_unix_ns = Some((now.unix_ns + end).saturating_sub(now.mono_ns));
        } else {
            self.end_mono_ns = end.saturating_add(MARGIN_NS.min(self.period_ns / 10));
        }
        (self.epoch, self.late) = (self.period(now).0, 0.0);
    }

    /// The running period ends in `in_ns`, and each is so long, as answers said; what was used in it stays used.
    pub(crate) fn align(&mut self, now: Now, in_ns: u64, period_ns: u64) {
        let used = self.used(now);
        self.slide = None;
        self.period_ns = period_ns.max(1);
        self.anchor_unix_ns = Some(now.unix_ns.saturating_add(in_ns));
        self.epoch = self.period(now).0;
        self.used = used;
        self.late = 0.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{DAY, SECOND};

    fn at(s: f64) -> Now {
        let ns = crate::time::ns_of(s);
        Now { mono_ns: ns, unix_ns: 1_000 * DAY + ns }
    }

    #[test]
    fn begun_by_the_first_use_and_whole_again_after_the_period() {
        let mut w = Window::new(3.0, 10 * SECOND, None);
        for _ in 0..3 {
            assert_eq!(w.ready_at(at(4.0), 0.0, 1.0), at(4.0).mono_ns);
            w.take(at(4.0), 1.0);
        }
        // The end is ours plus the margin: the provider's clock started when the request arrived.
        let end = at(14.03).mono_ns;
        assert_eq!(w.ready_at(at(5.0), 0.0, 1.0), end);
        assert_eq!(w.ready_at(at(5.0), 3.0, 1.0), end + 10 * SECOND);
        assert_eq!(w.ready_at(at(14.02), 0.0, 1.0), end);
        assert_eq!(w.ready_at(at(14.03), 0.0, 3.0), end);
        assert_eq!(w.ready_at(at(5.0), 0.0, 3.5), u64::MAX);
    }

    #[test]
    fn aligned_to_the_calendar() {
        let mut w = Window::new(100.0, 60 * SECOND, Some(0));
        let epoch = w.take(at(30.0), 100.0);
        assert_eq!(w.ready_at(at(31.0), 0.0, 1.0), 60 * SECOND);
        w.adjust(at(32.0), epoch, -40.0);
        assert!((w.used(at(32.0)) - 60.0).abs() < 1e-9);
        // A refund for a window that is over changes nothing in the next.
        w.take(at(61.0), 100.0);
        w.adjust(at(62.0), epoch, -40.0);
        assert!((w.used(at(62.0)) - 100.0).abs() < 1e-9);
    }

    #[test]
    fn what_leaves_at_the_last_moment_counts_in_both_windows() {
        let mut w = Window::new(10.0, 60 * SECOND, Some(0));
        w.take(at(59.0), 4.0);
        w.take(at(59.99), 3.0);
        assert!((w.used(at(60.5)) - 3.0).abs() < 1e-9);
        assert!((w.used(at(120.5))).abs() < 1e-9);
    }

    /// A window of ten in ten seconds that begins with a request, nobody knows which.
    fn sliding() -> Window {
        let mut w = Window::new(10.0, 10 * SECOND, None);
        w.far_away(300 * crate::time::MS);
        w
    }

    #[test]
    fn where_nobody_knows_when_a_window_began_no_period_has_more_than_the_limit() {
        let mut w = sliding();
        w.take(at(1.0), 2.0);
        w.take(at(9.0), 8.0);
        // The first two may have begun the provider's window at 1.0 or at 1.3, or the eight at 9.3.
        assert_eq!(w.ready_at(at(9.5), 0.0, 1.0), at(11.3).mono_ns);
        assert_eq!(w.ready_at(at(9.5), 0.0, 3.0), at(19.3).mono_ns);
        assert_eq!(w.ready_at(at(9.5), 10.0, 1.0), at(11.3).mono_ns + at(10.3).mono_ns);
        assert!((w.used(at(11.3)) - 8.0).abs() < 1e-9 && w.used(at(19.3)).abs() < 1e-9);
    }

    #[test]
    fn who_saves_up_in_a_sliding_window_is_passed_only_by_what_is_over_in_time() {
        let mut w = sliding();
        w.take(at(0.0), 6.0);
        // Somebody saves up for eight until 10.3, when the six are over.
        assert!(w.is_short_of(at(1.0), 3.0, 8.0, at(10.3).mono_ns));
        assert!(!w.is_short_of(at(1.0), 2.0, 8.0, at(10.3).mono_ns));
    }

    #[test]
    fn what_a_refusal_says_of_a_sliding_window_replaces_what_was_counted() {
        let mut w = sliding();
        w.take(at(0.0), 3.0);
        assert!(w.used_until(at(1.0), 10.0, at(4.0).mono_ns));
        assert_eq!(w.ready_at(at(1.0), 0.0, 1.0), at(4.0).mono_ns);
        assert!(w.used(at(4.0)).abs() < 1e-9);
        w.set_used(at(5.0), 7.0);
        assert!((w.used(at(5.0)) - 7.0).abs() < 1e-9);
        w.set_used(at(5.0), 4.0);
        assert!((w.used(at(5.0)) - 4.0).abs() < 1e-9);
        let first = w.take(at(6.0), 2.0);
        w.adjust(at(6.5), first, -1.0);
        assert!((w.used(at(7.0)) - 5.0).abs() < 1e-9);
        assert!(!Window::new(1.0, SECOND, None).used_until(at(0.0), 1.0, 5), "only where it slides");
    }

    #[test]
    fn what_is_long_on_its_way_counts_on_both_sides_of_an_end() {
        let mut w = Window::new(10.0, 60 * SECOND, Some(0));
        w.far_away(300 * crate::time::MS);
        w.take(at(59.6), 2.0);
        w.take(at(59.8), 3.0);
        assert!((w.used(at(60.1)) - 3.0).abs() < 1e-9);
        // A second's quarter at most, or nothing of a short one would be left.
        let mut short = Window::new(10.0, SECOND, Some(0));
        short.far_away(300 * crate::time::MS);
        short.take(at(60.74), 2.0);
        short.take(at(60.76), 3.0);
        assert!((short.used(at(61.1)) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn another_period_and_end_keep_what_was_used() {
        let mut w = Window::new(10.0, 60 * SECOND, Some(0));
        w.take(at(30.0), 4.0);
        w.align(at(31.0), 7 * SECOND, 10 * SECOND);
        assert!((w.used(at(31.0)) - 4.0).abs() < 1e-9);
        assert!((w.used(at(37.9)) - 4.0).abs() < 1e-9);
        assert!(w.used(at(38.1)).abs() < 1e-9);
        assert_eq!(w.end(at(38.1)), Some(48 * SECOND));
    }

    #[test]
    fn a_day_with_an_offset() {
        let mut w = Window::new(1.0, DAY, Some(8 * 3_600 * SECOND));
        w.take(at(3_600.0), 1.0);
        assert_eq!(w.ready_at(at(3_600.0), 0.0, 1.0), 8 * 3_600 * SECOND);
    }
}
