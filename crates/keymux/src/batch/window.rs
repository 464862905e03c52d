//! How many lines are out at once. Where limits are known, the scheduler holds the reins: what is out beyond them waits in
//! its room, and more would only wait too. Where none is known, this finds out how many at once bring the most answers a
//! second, by hill climbing: doubled as long as that pays; later, now and then, a quarter more or a fifth less. More stays
//! if the rate rose by nearly half of what the step promised, less stays if the rate fell by less than half of what it
//! threatened. So a server that queues what it cannot do is not flooded, and a provider with room for a thousand gets them.
//!
//! Knows no clock; a round is at least as many answers as lines are out, so that slow and fast models are judged alike.

/// Where it begins.
const BEGIN: usize = 32;
/// Less is not tried: one that waits costs a server nothing.
const LIMIT_MIN: usize = 8;
/// A round has at least so many answers.
const ROUND_MIN: usize = 64;
/// Rounds between two tries, once the top was found.
const REST: u32 = 6;
/// Lines in the waiting room that are enough: with these, whatever comes free is taken.
const WAITING_ENOUGH: usize = 32;

/// A change that is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Double,
    More,
    Less,
}

impl Step {
    fn from(self, limit: usize) -> usize {
        match self {
            Self::Double => limit * 2,
            Self::More => limit + limit.div_ceil(4),
            Self::Less => limit - limit / 5,
        }
    }

    /// The share of the rate before that there must be for it to stay.
    fn worth_it(self) -> f64 {
        match self {
            Self::Double => 1.3,
            Self::More => 1.1,
            Self::Less => 0.92,
        }
    }

    fn other(self) -> Self {
        if self == Self::Less { Self::More } else { Self::Less }
    }
}

/// The window.
#[derive(Debug)]
pub struct Window {
    limit: usize,
    limit_max: usize,
    /// The last limit that was worth it, and the answers a second that it brought.
    base: Option<(usize, f64)>,
    /// What is being tried, or will be after the rest.
    step: Step,
    tries: bool,
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
            step: Step::Double,
            tries: false,
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
            (self.base, self.tries) = (None, false);
            return;
        }
        if std::mem::take(&mut self.settles) || !full {
            return;
        }
        self.judge(rate);
    }

    fn judge(&mut self, rate: f64) {
        match self.base {
            None => {
                self.base = Some((self.limit, rate));
                self.attempt();
            }
            Some((_, before)) if self.tries && rate >= before * self.step.worth_it() => {
                self.base = Some((self.limit, rate));
                self.attempt();
            }
            Some((limit, _)) if self.tries => {
                self.set(limit);
                self.pause();
            }
            Some((limit, before)) => {
                self.base = Some((limit, before * 0.7 + rate * 0.3));
                self.rest = self.rest.saturating_sub(1);
                if self.rest == 0 {
                    self.attempt();
                }
            }
        }
    }

    fn attempt(&mut self) {
        let least = LIMIT_MIN.min(self.limit_max);
        let limit = self.step.from(self.limit).clamp(least, self.limit_max);
        self.tries = limit != self.limit;
        if self.tries {
            self.set(limit);
        } else {
            self.pause();
        }
    }

    fn pause(&mut self) {
        (self.tries, self.rest) = (false, REST);
        self.step = self.step.other();
    }

    fn set(&mut self, limit: usize) {
        let limit = limit.min(self.limit_max);
        self.settles = limit != self.limit;
        self.limit = limit;
    }
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
        let most = climbed(100_000, 2_000, 1_000, 40_000);
        assert!(most.iter().all(|n| *n <= 1_000) && most[20..].iter().all(|n| *n >= 700), "{most:?}");
        let most = climbed(100_000, 2_000, 100_000, 60_000).pop().unwrap();
        assert!(most >= 2_000, "{most}");
    }

    #[test]
    fn a_server_that_queues_is_not_flooded_and_not_left_idle() {
        for slots in [1, 40, 300] {
            let seen = climbed(slots, 500, 100_000, 100_000);
            let (least, most) = (slots.max(LIMIT_MIN) * 8 / 10, (slots * 2).max(BEGIN * 2));
            assert!(seen[20..].iter().all(|n| (least..=most).contains(n)), "{slots}: {seen:?}");
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
