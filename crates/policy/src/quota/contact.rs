//! The first contact with an account of whose limits nothing is known, neither declared nor by any answer: a flood would
//! be refused by as much as is on its way before the first refusal is heard. So few go at first, and twice as many with
//! each round trip that is answered, or after a while without a refusal: an answer may take longer than anybody's
//! patience. As soon as anything is known this has no say any more.

use crate::gate::Pass;
use crate::time::MS;

/// So many at first.
const FIRST: u32 = 8;
/// Without any answer they are doubled after so long.
const STEP_NS: u64 = 250 * MS;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Contact {
    /// So many may be in flight.
    most: u32,
    /// When so many were, or when they became more.
    full_ns: Option<u64>,
}

impl Default for Contact {
    fn default() -> Self {
        Self { most: FIRST, full_ns: None }
    }
}

impl Contact {
    /// May one more go, which will wait until `deadline` at the latest? Nobody is refused for what is not known to be a
    /// limit: who cannot wait for the next step goes.
    pub(crate) fn pass(&self, now: u64, in_flight: u32, deadline: u64) -> Pass {
        let until = self.full_ns.map_or(0, |full| full.saturating_add(STEP_NS));
        if in_flight < self.most || until <= now || until > deadline {
            Pass::Open
        } else {
            Pass::Shut { until, soft: false }
        }
    }

    /// One goes out beside so many.
    pub(crate) fn sent(&mut self, now: u64, beside: u32) {
        let over = self.full_ns.is_none_or(|full| full.saturating_add(STEP_NS) <= now);
        if beside < self.most - 1 || !over {
            return;
        }
        if beside >= self.most {
            self.most = self.most.saturating_mul(2);
        }
        self.full_ns = Some(now);
    }

    /// One was answered that went out beside so many. Tells whether more may go now.
    pub(crate) fn answered(&mut self, beside: u32) -> bool {
        let most = beside.saturating_add(1).saturating_mul(2);
        let more = most > self.most;
        self.most = self.most.max(most);
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends as many as may go at this instant.
    fn flood(c: &mut Contact, now: u64, in_flight: &mut u32) -> u32 {
        let before = *in_flight;
        while *in_flight < 1_000 && c.pass(now, *in_flight, u64::MAX) == Pass::Open {
            c.sent(now, *in_flight);
            *in_flight += 1;
        }
        *in_flight - before
    }

    #[test]
    fn few_go_at_first_and_twice_as_many_after_each_step() {
        let (mut c, mut n) = (Contact::default(), 0);
        assert_eq!(flood(&mut c, MS, &mut n), 8);
        assert_eq!(c.pass(MS, n, u64::MAX), Pass::Shut { until: 251 * MS, soft: false });
        assert_eq!(flood(&mut c, 250 * MS, &mut n), 0);
        assert_eq!(flood(&mut c, 251 * MS, &mut n), 8);
        assert_eq!(flood(&mut c, 501 * MS, &mut n), 16);
        assert_eq!(flood(&mut c, 60_000 * MS, &mut n), 32, "time alone opens one step");
    }

    #[test]
    fn an_answer_shows_how_many_may_go_together() {
        let (mut c, mut n) = (Contact::default(), 0);
        assert_eq!(flood(&mut c, MS, &mut n), 8);
        assert!(!c.answered(2), "it says no more than was known");
        n -= 1;
        assert!(c.answered(7));
        n -= 1;
        assert_eq!(flood(&mut c, 20 * MS, &mut n), 10);
    }

    #[test]
    fn who_cannot_wait_for_the_next_step_goes() {
        let (mut c, mut n) = (Contact::default(), 0);
        flood(&mut c, MS, &mut n);
        assert_eq!(c.pass(2 * MS, n, 250 * MS), Pass::Open);
        assert_ne!(c.pass(2 * MS, n, 251 * MS), Pass::Open);
    }
}
