//! What went through an account for a model, and what was refused: the evidence from which a limit is learned that
//! nobody states. Amounts are kept as a running sum over time, so that what was used between any two instants is one
//! subtraction; old steps are thinned out in proportion to their age. Knows no limit.

use super::estimate::Need;
use crate::fleet::Dimension;
use crate::time::MS;
use std::collections::VecDeque;

/// Steps kept. A step is forty bytes.
const STEPS_MAX: usize = 320;
/// So many are left when they are thinned out: ten a second reach back a quarter of an hour.
const STEPS_LEFT: usize = 256;
/// Refusals kept.
const REFUSALS_MAX: usize = 12;
/// The last so many requests that were let in, by how many were in flight.
const BESIDE_MAX: usize = 64;

/// What a refusal may be counted in, in the order in which the dimensions are tried.
pub(crate) const COUNTED: [Dimension; 4] =
    [Dimension::Requests, Dimension::TotalTokens, Dimension::InputTokens, Dimension::OutputTokens];

type Sums = [f64; COUNTED.len()];

fn sums(need: &Need) -> Sums {
    COUNTED.map(|d| need.of(d))
}

/// Where a dimension stands in a row of sums.
pub(crate) fn column(dimension: Dimension) -> usize {
    COUNTED.iter().position(|d| *d == dimension).unwrap_or(0)
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) at: u64,
    /// All that was taken up to and with this instant.
    pub(crate) sum: Sums,
}

/// A request that a limit refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused {
    pub(crate) sent: u64,
    pub(crate) heard: u64,
    pub(crate) need: Sums,
    /// All that was taken before it, and in the same millisecond: steps are no finer.
    pub(crate) sum: Sums,
    /// Others in flight when it was sent.
    pub(crate) beside: u32,
    /// When it fits again, as stated: not before the first, at the second at the latest.
    pub(crate) stated: Option<(u64, u64)>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) steps: Vec<Step>,
    pub(crate) refusals: VecDeque<Refused>,
    /// What happened before this is not known any more, or not believed any more.
    pub(crate) from: u64,
    /// The newest step that was forgotten.
    base: Option<Step>,
    total: Sums,
    in_flight: u32,
    beside: VecDeque<u16>,
}

impl History {
    /// A request goes out. Tells how many others are in flight.
    pub(crate) fn sent(&mut self, now: u64, need: &Need) -> u32 {
        let need = sums(need);
        for (total, n) in self.total.iter_mut().zip(need) {
            *total += n;
        }
        let (total, others) = (self.total, self.in_flight);
        self.in_flight += 1;
        match self.steps.last_mut() {
            Some(last) if last.at / MS == now / MS => *last = Step { at: now, sum: total },
            _ => {
                if self.steps.len() >= STEPS_MAX {
                    self.thin(now);
                }
                self.steps.push(Step { at: now, sum: total });
            }
        }
        others
    }

    /// It ended: what it was charged in truth, and whether a limit had refused it.
    pub(crate) fn ended(&mut self, sent: u64, need: &Need, actual: &Need, beside: u32, refused: bool) {
        self.in_flight = self.in_flight.saturating_sub(1);
        // What was refused was not let in, even where it is charged: it tells nothing of how much there is.
        let (need, actual) = (sums(need), if refused { Sums::default() } else { sums(actual) });
        let off: Sums = std::array::from_fn(|i| actual[i] - need[i]);
        if !refused {
            if self.beside.len() == BESIDE_MAX {
                self.beside.pop_front();
            }
            self.beside.push_back(u16::try_from(beside).unwrap_or(u16::MAX));
        }
        if off.iter().all(|o| *o == 0.0) {
            return;
        }
        let correct = |sum: &mut Sums| sum.iter_mut().zip(off).for_each(|(s, o)| *s += o);
        correct(&mut self.total);
        let steps = self.base.iter_mut().chain(&mut self.steps);
        steps.rev().take_while(|s| s.at >= sent).for_each(|s| correct(&mut s.sum));
        self.refusals
            .iter_mut()
            .rev()
            .take_while(|r| r.sent / MS >= sent / MS)
            .for_each(|r| correct(&mut r.sum));
    }

    /// A limit refused a request, whose own charge has been taken out already. Of those that were sent before the
    /// first was heard of, one tells all.
    pub(crate) fn refused(
        &mut self,
        sent: u64,
        heard: u64,
        need: &Need,
        beside: u32,
        stated: Option<(u64, u64)>,
    ) -> bool {
        if let Some(last) = self.refusals.back_mut()
            && sent <= last.heard
        {
            if let Some((from, to)) = stated {
                let known = last.stated.get_or_insert((from, to));
                *known = (known.0.max(from), known.1.max(to));
            }
            return false;
        }
        if self.refusals.len() == REFUSALS_MAX {
            self.refusals.pop_front();
        }
        self.refusals.push_back(Refused {
            sent,
            heard,
            need: sums(need),
            sum: self.before((sent / MS + 1) * MS),
            beside,
            stated,
        });
        true
    }

    /// Whether something was let in between the last two refusals.
    pub(crate) fn recovered(&self) -> bool {
        let mut last = self.refusals.iter().rev();
        match (last.next(), last.next()) {
            (Some(b), Some(a)) => b.sum[0] > a.sum[0] + 1e-9,
            _ => false,
        }
    }

    /// Nobody will say any more when those in flight end.
    pub(crate) fn forget_in_flight(&mut self) {
        self.in_flight = 0;
    }

    /// Requests that have not ended.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// All that was taken before this instant.
    pub(crate) fn before(&self, at: u64) -> Sums {
        let n = self.steps.partition_point(|s| s.at < at);
        match n.checked_sub(1) {
            Some(i) => self.steps[i].sum,
            None => self.base.map_or_else(Sums::default, |base| base.sum),
        }
    }

    /// The most that were in flight beside one that was let in, leaving out as many as may be due to delays.
    pub(crate) fn let_in_beside(&self, more_than: u32) -> (usize, usize) {
        let more = self.beside.iter().filter(|b| u32::from(**b) > more_than).count();
        (more, self.beside.len())
    }

    /// Old steps that lie close together for their age become one.
    fn thin(&mut self, now: u64) {
        let mut kept: Vec<Step> = Vec::with_capacity(STEPS_MAX);
        let mut first = 0;
        for step in &self.steps {
            let apart = (now - step.at) / 40;
            match kept.last_mut() {
                Some(last) if step.at - first < apart => *last = *step,
                _ => {
                    first = step.at;
                    kept.push(*step);
                }
            }
        }
        if kept.len() > STEPS_LEFT {
            self.base = kept.drain(..kept.len() - STEPS_LEFT).next_back();
            self.from = self.from.max(self.base.map_or(0, |base| base.at + 1));
        }
        self.steps = kept;
    }

    /// What happened before this refusal says nothing any more.
    pub(crate) fn forget_before(&mut self, refusal: usize) {
        if refusal == 0 {
            return;
        }
        self.refusals.drain(..refusal.min(self.refusals.len()));
        self.from = self.from.max(self.refusals.front().map_or(0, |first| first.sent));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_burst_what_was_let_in_is_what_is_known_of_it_however_late_the_rest_is_refused() {
        let mut h = History::default();
        let mut one = Need::default();
        one.set(Dimension::Requests, 1.0);
        let nothing = Need::default();
        for _ in 0..100 {
            h.sent(MS, &one);
        }
        for n in 0..40 {
            h.ended(MS, &one, &nothing, 0, true);
            assert_eq!(h.refused(MS, 50 * MS, &one, 0, None), n == 0);
        }
        assert!((h.refusals[0].sum[0] - 60.0).abs() < 1e-9, "{:?}", h.refusals[0]);
    }

    #[test]
    fn what_was_forgotten_is_not_taken_for_nothing() {
        let mut h = History::default();
        let mut need = Need::default();
        need.set(Dimension::Requests, 1.0);
        let mut end = 0;
        while h.from == 0 {
            end += MS;
            h.sent(end, &need);
            assert!(end < 50_000_000 * MS);
        }
        let (from, to) = (h.before(h.from)[0], h.before(end + 1)[0]);
        let between = (end + MS - h.from) as f64 / MS as f64;
        assert!((to - from - between).abs() < 2.0, "{from} {to} {between}");
        assert!(h.before(0)[0] >= from - 1.0, "an unknown past is not one without requests");
    }
}
