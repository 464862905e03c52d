//! What the answers of one limit say when they are put side by side: which shape it has, and how far our mirror can be
//! off.
//!
//! *Shape.* The same header, "full again in", means two things. A bucket is full again after used / rate, so a longer
//! time follows from more use; a window is full again at its end, whatever was used. Each answer allows an interval of
//! rates (were it a bucket) and an interval of ends (were it a window); the shape whose intervals stop to intersect is
//! refuted. While neither is, nothing is concluded: few answers of some load tell.
//!
//! *Offset.* What the provider has, less what the mirror has, lies in an interval that each answer gives. The true
//! offset of requests hardly moves, so the intervals are intersected: answers while little was in flight are sharp, and
//! what they told stays known. An interval that misses the earlier ones means that somebody else uses the account.

use crate::time::{MS, SECOND, s_of};

/// Both ends of what is possible.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Span {
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Span {
    pub(crate) fn middle(self) -> f64 {
        self.low.midpoint(self.high)
    }

    pub(crate) fn holds(self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }

    fn meet(self, other: Span) -> Option<Span> {
        let both = Span { low: self.low.max(other.low), high: self.high.min(other.high) };
        (both.low <= both.high).then_some(both)
    }

    fn shift(self, by: f64) -> Span {
        Span { low: self.low + by, high: self.high + by }
    }

    fn widen(self, by: f64) -> Span {
        Span { low: self.low - by, high: self.high + by }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Shape {
    /// Not enough was said.
    Unknown,
    /// Refills at a rate within these, in units a second.
    Bucket(Span),
    /// Whole again at `end` (monotonic, the latest possible). `fresh`: another one began since the last answer.
    Window { end: u64, period: u64, fresh: bool },
}

/// One answer about a limit that says when it is full again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    /// When its request was sent, and when its head came (monotonic).
    pub(crate) sent: u64,
    pub(crate) now: u64,
    pub(crate) used: f64,
    pub(crate) rounding: f64,
    pub(crate) reset: u64,
}

/// Agreement of this many answers in a row makes what they say certain.
const CERTAIN: u32 = 4;

#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// Rates that explain all answers, were it a bucket.
    rates: Option<Span>,
    /// Ends of the running window, in seconds, that explain them, were it one.
    ends: Option<Span>,
    no_bucket: bool,
    no_window: bool,
    /// The longest reset that was seen, and the shortest distance of two ends.
    longest: u64,
    distance: Option<u64>,
    offset: Option<Span>,
    /// Answers in a row whose offsets agree.
    agree: u32,
}

/// How exactly a reset is known: dates and whole seconds to a second, others to a millisecond.
fn grain(reset: u64) -> u64 {
    if reset.is_multiple_of(MS) && !reset.is_multiple_of(SECOND) { MS } else { SECOND }
}

impl Told {
    /// Takes an answer in, and says what all of them mean.
    pub(crate) fn hear(&mut self, a: Answer) -> Shape {
        let fresh = self.narrow(a);
        if self.no_bucket && self.no_window {
            // Neither: the limit was changed, or somebody rounds in a way of his own.
            *self = Told { offset: self.offset, agree: self.agree, ..Told::default() };
            self.narrow(a);
        }
        match (self.no_bucket, self.no_window, self.rates, self.ends) {
            (false, true, Some(rates), _) => Shape::Bucket(rates),
            (true, false, _, Some(ends)) => {
                let period = self.distance.unwrap_or(self.longest).max(self.longest).max(SECOND);
                Shape::Window { end: crate::time::ns_of(ends.high), period, fresh }
            }
            _ => Shape::Unknown,
        }
    }

    /// The lowest rate that explains all answers, in units a second: what is whole at once at a time that was told has
    /// come back by then, too.
    pub(crate) fn slowest(&self) -> f64 {
        self.rates.map_or(0.0, |rates| rates.low)
    }

    fn narrow(&mut self, a: Answer) -> bool {
        let (reset, grain) = (s_of(a.reset), s_of(grain(a.reset)));
        // Counts of what is left are cut off to whole ones: more is told as used than is.
        let more = if a.rounding > 1.0 { a.rounding } else { 0.0 };
        let fastest = if reset > grain { (a.used + more) / (reset - grain) } else { f64::INFINITY };
        let rates = Span { low: (a.used - a.rounding).max(0.0) / (reset + grain), high: fastest };
        match self.rates.map_or(Some(rates), |known| known.meet(rates)) {
            Some(both) => self.rates = Some(both),
            None => self.no_bucket = true,
        }
        self.longest = self.longest.max(a.reset);
        let ends = Span { low: s_of(a.sent) + reset - grain, high: s_of(a.now) + reset + grain };
        let Some(known) = self.ends else {
            self.ends = Some(ends);
            return false;
        };
        if let Some(both) = known.meet(ends) {
            self.ends = Some(both);
            return false;
        }
        // Only when the old one may be over can it be another.
        if ends.low > known.high && s_of(a.now) >= known.low {
            let distance = a.now.saturating_add(a.reset).saturating_sub(crate::time::ns_of(known.high));
            self.distance = Some(self.distance.map_or(distance, |d| d.min(distance)));
            self.ends = Some(ends);
            return true;
        }
        self.no_window = true;
        false
    }

    /// What is possible of the offset after one more answer. `drift`: how far it may have moved by itself since.
    pub(crate) fn agree(&mut self, offset: Span, drift: f64) -> Span {
        let both = self.offset.and_then(|known| known.widen(drift).meet(offset));
        self.agree = if both.is_some() { (self.agree + 1).min(CERTAIN) } else { 0 };
        let now = both.unwrap_or(offset);
        self.offset = Some(now);
        now
    }

    /// The mirror was moved by so much.
    pub(crate) fn moved(&mut self, by: f64) {
        self.offset = self.offset.map(|offset| offset.shift(-by));
    }

    /// What was known of the offset is over: a window began anew.
    pub(crate) fn forget_offset(&mut self) {
        self.offset = None;
    }

    /// A window is refuted.
    pub(crate) fn is_bucket(&self) -> bool {
        self.no_window && !self.no_bucket
    }

    pub(crate) fn is_certain(&self) -> bool {
        self.agree >= CERTAIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers about a limit of 100 in ten seconds, one unit each so many milliseconds, heard 50 ms after they left.
    fn heard(window: bool, every_ms: u64, count: u64, date: bool) -> (Told, Shape) {
        let mut told = Told::default();
        let mut shape = Shape::Unknown;
        let (mut used, mut at_ms) = (0.0_f64, 3_000);
        for _ in 0..count {
            let before = at_ms;
            at_ms += every_ms;
            if !window {
                used = (used - (at_ms - before) as f64 / 100.0).max(0.0);
            } else if before / 10_000 != at_ms / 10_000 {
                used = 0.0;
            }
            used += 1.0;
            let reset_ns = crate::time::ns_of(if window { 0.0 } else { used / 10.0 });
            let reset_ms = if window { 10_000 - at_ms % 10_000 } else { reset_ns / MS };
            let reset = if date { reset_ms / 1_000 * SECOND + 123_456 } else { reset_ms * MS };
            let now = (at_ms + 50) * MS;
            shape = told.hear(Answer { sent: at_ms * MS, now, used: used.ceil(), rounding: 1.0, reset });
        }
        (told, shape)
    }

    #[test]
    fn a_bucket_and_a_window_are_told_apart_by_a_few_answers() {
        for date in [false, true] {
            let (_, shape) = heard(false, 20, 60, date);
            assert!(
                matches!(shape, Shape::Bucket(r) if r.low <= 10.0 && r.high >= 10.0 && r.low > 5.0),
                "{date} {shape:?}"
            );
            let (_, shape) = heard(true, 20, 60, date);
            let Shape::Window { end, .. } = shape else { panic!("{date} {shape:?}") };
            assert!(end.abs_diff(10 * SECOND) <= SECOND + 100 * MS, "{date} {end}");
        }
        assert!(matches!(heard(false, 20, 8, false).1, Shape::Bucket(_)));
        assert!(matches!(heard(true, 20, 8, false).1, Shape::Window { .. }));
        assert_eq!(heard(true, 20, 1, false).1, Shape::Unknown, "one answer tells nothing");
    }

    #[test]
    fn a_window_that_begins_anew_is_still_the_same_window_with_its_period() {
        let (_, shape) = heard(true, 100, 190, false);
        let Shape::Window { end, period, .. } = shape else { panic!("{shape:?}") };
        assert!(end.abs_diff(30 * SECOND) < 100 * MS, "{end}");
        assert!(period.abs_diff(10 * SECOND) < 200 * MS, "{period}");
    }

    #[test]
    fn hardly_used_limits_tell_nothing_false() {
        // Full again before the next: a bucket's reset looks like a short window's, and that is all there is.
        let (_, shape) = heard(false, 500, 20, false);
        assert!(!matches!(shape, Shape::Window { .. }), "{shape:?}");
        let (_, shape) = heard(true, 1_500, 20, false);
        assert!(!matches!(shape, Shape::Bucket(_)), "{shape:?}");
    }

    #[test]
    fn a_limit_that_changes_its_shape_is_believed_again() {
        let (mut told, _) = heard(true, 20, 60, false);
        let mut shape = Shape::Unknown;
        for n in 1..20_u64 {
            let now = (5_000 + n * 20) * MS;
            let a = Answer { sent: now, now, used: n as f64, rounding: 1.0, reset: n * 100 * MS };
            shape = told.hear(a);
        }
        assert!(matches!(shape, Shape::Bucket(_)), "{shape:?}");
    }

    #[test]
    fn offsets_are_intersected_until_somebody_else_shows() {
        let mut told = Told::default();
        let span = |low, high| Span { low, high };
        assert_eq!(told.agree(span(-1.0, 3.0), 0.0), span(-1.0, 3.0));
        assert_eq!(told.agree(span(1.0, 9.0), 0.0), span(1.0, 3.0));
        told.moved(1.0);
        assert_eq!(told.agree(span(-5.0, 5.0), 0.5), span(-0.5, 2.5));
        assert!(!told.is_certain());
        told.agree(span(-5.0, 5.0), 0.0);
        told.agree(span(-5.0, 5.0), 0.0);
        assert!(told.is_certain());
        assert_eq!(told.agree(span(-9.0, -8.0), 0.0), span(-9.0, -8.0), "what was known is over");
        assert!(!told.is_certain());
    }
}
