//! How many lines are out at once. Where limits are known, the scheduler holds the reins: what is out beyond them waits in
//! its room, and more would only wait too. Where none is known, more at once is tried as long as it brings more answers a
//! second, by hill climbing: doubled at first, then by quarters, each step kept only if the rate rose with it. A server
//! that queues what it cannot do is found so, and so is a provider with room for a thousand.
//!
//! Knows no clock; a round is as many answers as lines are out, so that slow and fast models are judged alike.

/// Where it begins.
const BEGIN: usize = 32;
/// A round has at least so many answers.
const ROUND_MIN: usize = 24;
/// Rounds between two tries, once the top was found.
const REST: u32 = 8;
/// Lines in the waiting room that are enough: with these, whatever comes free is taken.
const WAITING_ENOUGH: usize = 32;

/// The window.
#[derive(Debug)]
pub struct Window {
    limit: usize,
    limit_max: usize,
    /// The last limit that was worth it, and the answers a second that it brought.
    base: Option<(usize, f64)>,
    factor: f64,
    rest: u32,
    /// Answers of this round, and when it began.
    answers: usize,
    began_ns: u64,
    /// The limit was what held lines back, all through this round.
    full: bool,
    /// The answers of the first round at a new limit were asked for at the old one.
    settles: bool,
}

impl Window {
    /// One that never exceeds `limit_max`.
    pub fn new(limit_max: usize, now_ns: u64) -> Self {
        let limit_max = limit_max.max(1);
        Self {
            limit: BEGIN.min(limit_max),
            limit_max,
            base: None,
            factor: 2.0,
            rest: 0,
            answers: 0,
            began_ns: now_ns,
            full: true,
            settles: false,
        }
    }

    /// Lines that may be out.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// A line ended. `out` were out before it did, of which `waiting` waited for room.
    pub fn ended(&mut self, now_ns: u64, out: usize, waiting: usize) {
        self.answers += 1;
        self.full &= out >= self.limit && waiting == 0;
        if self.answers < self.limit.max(ROUND_MIN) {
            return;
        }
        let seconds = now_ns.saturating_sub(self.began_ns).max(1) as f64 / 1e9;
        let (rate, full) = (self.answers as f64 / seconds, self.full);
        (self.answers, self.began_ns, self.full) = (0, now_ns, true);
        if waiting > 0 {
            // Enough that all that comes free is taken, and no more.
            if waiting < WAITING_ENOUGH.min(self.limit) && out >= self.limit {
                self.set(self.limit + WAITING_ENOUGH);
            }
            self.base = None;
            return;
        }
        if std::mem::take(&mut self.settles) || !full {
            return;
        }
        self.judge(rate);
    }

    fn judge(&mut self, rate: f64) {
        match self.base {
            // What the step promised is a rate as much higher; a fifth of that is worth it.
            Some((limit, before))
                if self.limit > limit && rate < before * (1.0 + (self.factor - 1.0) / 5.0) =>
            {
                (self.factor, self.rest) = (1.25, REST);
                self.set(limit);
                return;
            }
            Some((limit, before)) if self.rest > 0 => {
                self.rest -= 1;
                self.base = Some((limit, before * 0.7 + rate * 0.3));
                return;
            }
            _ => {}
        }
        self.base = Some((self.limit, rate));
        self.set(step(self.limit, self.factor));
    }

    fn set(&mut self, limit: usize) {
        let limit = limit.min(self.limit_max);
        self.settles = limit != self.limit;
        self.limit = limit;
    }
}

fn step(limit: usize, factor: f64) -> usize {
    if factor > 1.5 { limit * 2 } else { limit + limit.div_ceil(4) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// A server that works on `slots` lines at once, each for `ms`, and queues the rest. Where the window stood after
    /// each thousand answers.
    fn climbed(slots: usize, ms: u64, limit_max: usize, answers: usize) -> Vec<usize> {
        let mut window = Window::new(limit_max, 0);
        let (mut now, mut queued) = (0, 0_usize);
        let mut ends = std::collections::BinaryHeap::new();
        let mut seen = Vec::new();
        for n in 0..answers {
            queued += window.limit().saturating_sub(ends.len() + queued);
            while ends.len() < slots && queued > 0 {
                queued -= 1;
                // Spread over the time, as calls are.
                let took = ms * MS / 2 + (n as u64 * 7_919 % 1_000) * ms * MS / 1_000;
                ends.push(std::cmp::Reverse(now + took));
            }
            let out = ends.len() + queued;
            if let Some(std::cmp::Reverse(at)) = ends.pop() {
                now = at;
            }
            window.ended(now, out, 0);
            if n % 1_000 == 999 {
                seen.push(window.limit());
            }
        }
        seen
    }

    #[test]
    fn room_that_nobody_told_of_is_found() {
        let last = climbed(100_000, 2_000, 1_000, 20_000).pop();
        assert_eq!(last, Some(1_000), "no more than may be out");
        let last = climbed(100_000, 2_000, 100_000, 40_000).pop().unwrap();
        assert!(last >= 2_000, "{last}");
    }

    #[test]
    fn a_server_that_queues_is_not_flooded() {
        for slots in [1, 40, 300] {
            let seen = climbed(slots, 500, 100_000, 60_000);
            let (least, most) = (BEGIN.max(slots * 9 / 10), BEGIN.max(slots * 5 / 2));
            assert!(seen[10..].iter().all(|n| (least..=most).contains(n)), "{slots}: {seen:?}");
        }
    }

    #[test]
    fn where_lines_wait_for_limits_there_are_enough_of_them_and_no_more() {
        let mut window = Window::new(100_000, 0);
        for n in 0..10_000_u64 {
            // Ten calls at a time pass, the rest of the window waits.
            let out = window.limit();
            window.ended(n * MS, out, out.saturating_sub(10));
        }
        assert!((BEGIN..=2 * BEGIN + WAITING_ENOUGH).contains(&window.limit()), "{}", window.limit());
    }
}
