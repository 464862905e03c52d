//! Which limit explains what was let in and what was refused? Each hypothesis (a window of a usual period, by the
//! clock or begun by the first use; a bucket; so many at a time) says what its size must have been at least, to let in
//! what was let in, and at most, to refuse what was refused. One whose bounds contradict each other is out.
//!
//! Instants are known up to the network's delay, so what lies so close to the end of a window is counted on the side
//! that proves less.

use super::history::{History, Refused, column};
use crate::fleet::Dimension;
use crate::time::{MS, Now, SECOND, s_of};

/// Delay and jitter of the network, either way.
const FUZZ_NS: u64 = 60 * MS;

/// Refusals nearer to each other than this tell no rate.
const SPAN_MIN_NS: u64 = 500 * MS;
/// So many refusals with the same number in flight are no chance.
const SLOTS_PROVEN: usize = 3;
/// Of a rate that is not known so well yet.
const CAUTION: f64 = 0.85;
/// So many requests between two refusals tell it exactly enough.
const EXACT: f64 = 16.0;

/// One request in so long is let out of any bucket.
const PACE_MAX_NS: u64 = 60 * SECOND;

/// Periods that providers use, the most usual first.
const PERIODS_S: [u64; 16] = [60, 10, 3_600, 86_400, 1, 30, 300, 5, 2, 20, 15, 120, 600, 1_800, 3, 12];

/// So many of them are believed more readily.
const USUAL: usize = 5;

/// A limit that explains the evidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Shape {
    /// `limit` in each period; `end` of the one that was running when last refused.
    Window { limit: f64, period_ns: u64, end: u64, by_clock: bool },
    /// A bucket, empty when last refused.
    Bucket { capacity: f64, rate: f64 },
    /// So many at a time.
    Slots { limit: u32 },
}

/// What the evidence says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Guess {
    pub(crate) dimension: Dimension,
    pub(crate) shape: Shape,
    /// It has been put to the test: it explains more than one refusal, or the time that one stated.
    pub(crate) proven: bool,
}

/// The evidence from one refusal on, in one dimension.
struct Evidence<'a> {
    history: &'a History,
    refusals: Vec<&'a Refused>,
    column: usize,
    /// What happened before is not looked at.
    from: u64,
    /// What was let in before this will not be refused any more.
    settled: u64,
    now: Now,
}

/// The limit that explains the newest evidence best, in one of these dimensions. When nothing explains all of it, the
/// oldest is left out, for limits change.
pub(crate) fn guess(history: &mut History, now: Now, dimensions: &[Dimension]) -> Option<Guess> {
    for (i, dimension) in dimensions.iter().enumerate() {
        for skipped in 0..history.refusals.len() {
            let Some(found) = explain(history, now, *dimension, skipped) else { continue };
            // Requests vary less than tokens: what is not named is believed to be tokens on good evidence only.
            if i > 0 && !(found.proven && skipped == 0 && history.refusals.len() > 3) {
                break;
            }
            if i + 1 < dimensions.len() && skipped > 0 && !found.proven {
                break;
            }
            history.forget_before(skipped);
            return Some(found);
        }
    }
    explain(history, now, *dimensions.first()?, 0)
}

fn explain(history: &History, now: Now, dimension: Dimension, skipped: usize) -> Option<Guess> {
    let refusals: Vec<&Refused> = history.refusals.iter().skip(skipped).collect();
    let from = if skipped == 0 { history.from } else { history.from.max(refusals.first()?.sent) };
    // What is in flight for less than a refusal takes may still be refused.
    let slowest = refusals.iter().map(|r| r.heard - r.sent).max().unwrap_or(0);
    let settled = now.mono_ns.saturating_sub(slowest + slowest / 2 + 5 * MS);
    let evidence = Evidence { history, refusals, column: column(dimension), from, settled, now };
    let of = |shape, proven| Guess { dimension, shape, proven };
    let windows = PERIODS_S.iter().flat_map(|s| [(s * SECOND, true), (s * SECOND, false)]);
    let best = windows.filter_map(|(period, by_clock)| evidence.window(period, by_clock));
    let best = best.reduce(|a, b| if b.1 > a.1 { b } else { a });
    if let Some((shape, _)) = best.filter(|(_, surprise)| *surprise >= 0.0) {
        return Some(of(shape, true));
    }
    if dimension == Dimension::Requests
        && let Some(limit) = evidence.slots()
    {
        let (shape, proven) = (Shape::Slots { limit }, evidence.refusals.len() >= SLOTS_PROVEN);
        return Some(Guess { dimension: Dimension::Concurrent, shape, proven });
    }
    evidence.bucket().map(|(shape, exact)| of(shape, exact))
}

impl Evidence<'_> {
    fn before(&self, at: u64) -> f64 {
        self.history.before(at)[self.column]
    }

    fn used(&self, r: &Refused, since: u64) -> f64 {
        r.sum[self.column] - self.before(since)
    }

    /// The windows that the evidence falls into: begin, end.
    fn windows(&self, period: u64, by_clock: bool) -> Vec<(u64, u64)> {
        let first = self.history.steps.iter().map(|s| s.at).find(|at| *at >= self.from);
        let Some(first) = first else { return Vec::new() };
        let last = self.now.mono_ns;
        let mut out = Vec::new();
        if by_clock {
            // How far the wall clock is ahead, in the period.
            let off = (self.now.unix_ns % period + period - last % period) % period;
            let mut begin = (first + off) - (first + off) % period;
            let count = (last + off - begin) / period;
            begin += count.saturating_sub(63) * period;
            while begin <= last + off {
                out.push((begin.saturating_sub(off), begin + period - off));
                begin += period;
            }
        } else {
            let mut end = 0;
            for step in self.history.steps.iter().filter(|s| s.at >= self.from) {
                if step.at >= end {
                    end = step.at + period;
                    out.push((step.at, end));
                }
            }
        }
        out
    }

    /// Whether a window of this period explains all, and how much less likely that is by chance than is asked for
    /// (as a logarithm): each refusal after the first that comes exactly when the size is used up counts, and each
    /// stated time that is the window's end.
    fn window(&self, period: u64, by_clock: bool) -> Option<(Shape, f64)> {
        let windows = self.windows(period, by_clock);
        let fuzz = FUZZ_NS.min(period / 8);
        let mut least: f64 = 0.0;
        for (begin, end) in &windows {
            let (from, to) = if by_clock { (begin + fuzz, end - fuzz) } else { (*begin, end - fuzz) };
            let to = to.min(self.settled);
            if to > from && to > self.from {
                least = least.max(self.before(to) - self.before(from.max(self.from)));
            }
        }
        let (mut most, mut size, mut end) = (f64::INFINITY, f64::INFINITY, 0);
        let (mut surprise, mut tests, mut largest, mut tested) = (0.0, 0_u32, 0.0_f64, None);
        for r in &self.refusals {
            let window = windows.iter().rev().find(|(begin, _)| *begin <= r.sent);
            let Some((begin, ends)) = window.copied() else { continue };
            // Begun by a request that came after the window's end: nothing was used.
            let (begin, ends) =
                if !by_clock && r.sent >= ends { (r.sent, r.sent + period) } else { (begin, ends) };
            if let Some((earliest, latest)) = r.stated {
                if ends + fuzz < earliest || ends > latest + fuzz {
                    return None;
                }
                surprise += (s_of(period) / s_of(latest - earliest + fuzz)).ln();
                // A bucket that gave so much until now has the next one sooner.
                let told = s_of(earliest.saturating_sub(r.heard));
                let usual =
                    s_of(r.sent.saturating_sub(begin)) / (self.used(r, begin) / r.need[self.column]).max(1.0);
                surprise += (told / usual.max(1e-3)).max(1.0).ln();
            }
            end = ends;
            if r.sent < begin + fuzz && by_clock || r.sent + fuzz > ends {
                continue;
            }
            // How much was used of a window that had begun before is not known.
            if begin < self.from {
                continue;
            }
            most = most.min(
                self.used(r, begin.saturating_sub(if by_clock { fuzz } else { 0 })) + r.need[self.column],
            );
            size = size.min(self.used(r, begin));
            tests += u32::from(tested != Some(ends));
            tested = Some(ends);
            largest = largest.max(r.need[self.column]);
        }
        if !most.is_finite() || most <= least + 1e-9 {
            return None;
        }
        let limit = least.max(size);
        if limit <= 0.0 {
            return None;
        }
        // Where what came before is not known, or contradicts this, one refusal is not enough.
        if self.from > 0 && tests < 2 {
            return None;
        }
        surprise += f64::from(tests - 1) * (limit / largest).ln();
        let usual = PERIODS_S.iter().take(USUAL).any(|s| s * SECOND == period);
        let wanted = if usual { 3.5 } else { 5.0 };
        Some((Shape::Window { limit, period_ns: period, end, by_clock }, surprise - wanted))
    }

    /// A bucket is empty, but for less than was asked, whenever it refuses: what it let in between two refusals is
    /// what came back in between, unless it was full for a while and more could have come. So this is never too much
    /// but for the size of a request, and paced by it no other kind of limit is overrun for long.
    fn bucket(&self) -> Option<(Shape, bool)> {
        let (c, last) = (self.column, *self.refusals.last()?);
        let far = |r: &&&Refused| last.sent.saturating_sub(r.sent) >= SPAN_MIN_NS;
        let let_in = |r: &Refused| (last.sum[c] - r.sum[c]) / last.need[c].max(1e-9);
        // The nearest that tells it exactly enough, else the farthest.
        let near = self.refusals.iter().rev().filter(far).find(|r| let_in(r) >= EXACT);
        let anchor = near.or_else(|| self.refusals.iter().find(|r| far(r)))?;
        let span = s_of(last.sent - anchor.sent);
        let rate = (last.sum[c] - anchor.sum[c]) / span;
        if rate <= 0.0 {
            return None;
        }
        let depth = self.depth(rate);
        let capacity = depth.unwrap_or(0.0).max(last.need[c]);
        let exact = let_in(anchor) >= EXACT;
        // Better a little under it than over it, until it is known.
        let rate = if exact { rate } else { CAUTION * rate };
        // Nor paced slower than it would be tried without knowing anything.
        let rate = rate.max(last.need[c] / s_of(PACE_MAX_NS));
        Some((Shape::Bucket { capacity, rate }, depth.is_some() && exact))
    }

    /// The most that was ever missing from a bucket of this rate; `None` where it refused although less was missing.
    fn depth(&self, rate: f64) -> Option<f64> {
        let c = self.column;
        let largest = self.refusals.iter().map(|r| r.need[c]).fold(0.0, f64::max);
        let (mut missing, mut most, mut at, mut sum) = (0.0_f64, 0.0_f64, None, self.before(self.from));
        let mut refused: f64 = f64::INFINITY;
        let mut refusals = self.refusals.iter().peekable();
        for step in self.history.steps.iter().filter(|s| s.at >= self.from) {
            while let Some(r) = refusals.peek().filter(|r| r.sent < step.at) {
                let gone = at.map_or(0.0, |at| s_of(r.sent.saturating_sub(at)));
                refused = refused.min((missing - rate * gone).max(0.0) + r.need[c]);
                refusals.next();
            }
            let gone = at.map_or(0.0, |at| s_of(step.at - at));
            missing = (missing - rate * gone).max(0.0) + step.sum[c] - sum;
            (at, sum) = (Some(step.at), step.sum[c]);
            most = most.max(missing);
        }
        // Two requests' worth of doubt: the rate is known only so well.
        (refused + 2.0 * largest + 0.1 * most >= most).then(|| most.min(refused).max(largest))
    }

    /// So many at a time: nearly all refusals saw as many beside them, hardly any that was let in saw more, and what
    /// came after a refusal was let in again as soon as one had ended.
    fn slots(&self) -> Option<u32> {
        let mut beside: Vec<u32> = self.refusals.iter().map(|r| r.beside).collect();
        beside.sort_unstable();
        let limit = beside[beside.len() / 2];
        let near = beside.iter().filter(|b| b.abs_diff(limit) <= 1).count();
        let stuck = beside.len() > 1 && !self.history.recovered();
        if limit < 2
            || stuck
            || near * 4 < beside.len() * 3
            || self.refusals.iter().any(|r| r.stated.is_some())
        {
            return None;
        }
        let (more, of) = self.history.let_in_beside(limit);
        (more * 8 <= of).then_some(limit)
    }
}
