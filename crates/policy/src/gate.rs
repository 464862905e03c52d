//! Something that is shut for a time: a benched key, an account without money, a model without capacity, a rate limit
//! that named a time. Shutting twice keeps the later end. Two ways to open: by itself at its end (a stated time), or
//! by one live probe at a time that succeeds (everything that is a judgement of ours).
//!
//! What was sent before the gate shut says nothing about how things are after it.

use crate::blame::Class;
use crate::rng::Rng;
use crate::time::MINUTE;

/// Stated times beyond this are probed in between.
const PROBE_EVERY_NS: u64 = 5 * MINUTE;

/// May a request pass?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    Open,
    /// As the one live probe.
    Probe,
    /// Not before `until`; `soft`: a probe is out, and nobody knows when it ends.
    Shut {
        until: u64,
        soft: bool,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Gate {
    closed: bool,
    pub(crate) until: u64,
    since: u64,
    by_probe: bool,
    probe_at: u64,
    probing: bool,
    /// Times that it shut in a row: the exponent of the next cool-down.
    strikes: u32,
    pub(crate) why: Class,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            closed: false,
            until: 0,
            since: 0,
            by_probe: false,
            probe_at: u64::MAX,
            probing: false,
            strikes: 0,
            why: Class::Quota,
        }
    }
}

impl Gate {
    pub(crate) fn pass(&self, now: u64) -> Pass {
        if !self.closed || (!self.by_probe && now >= self.until) {
            return Pass::Open;
        }
        let due = if self.by_probe { self.until } else { self.probe_at };
        if now < due {
            Pass::Shut { until: self.until, soft: false }
        } else if self.probing {
            Pass::Shut { until: if self.by_probe { now } else { self.until }, soft: self.by_probe }
        } else {
            Pass::Probe
        }
    }

    pub(crate) fn is_shut(&self, now: u64) -> bool {
        self.pass(now) != Pass::Open
    }

    /// Whether something sent at `sent` knows only the time before it shut.
    pub(crate) fn is_news(&self, now: u64, sent: u64) -> bool {
        !self.is_shut(now) || sent >= self.since
    }

    /// Shuts until a stated time, at which it opens by itself. Never shortens. Tells whether the end moved.
    pub(crate) fn shut_until(&mut self, now: u64, until: u64, why: Class) -> bool {
        let moved = self.close(now, until, why);
        if moved {
            self.by_probe = false;
            self.probe_at =
                if self.until - now > PROBE_EVERY_NS { now.saturating_add(PROBE_EVERY_NS) } else { u64::MAX };
        }
        moved
    }

    /// Shuts until a probe at `until` or later succeeds. Never shortens.
    pub(crate) fn shut_for_probe(&mut self, now: u64, until: u64, why: Class) -> bool {
        let moved = self.close(now, until, why);
        self.by_probe |= moved;
        moved
    }

    fn close(&mut self, now: u64, until: u64, why: Class) -> bool {
        let until = until.max(now.saturating_add(1));
        let shut = self.is_shut(now);
        if shut && until <= self.until {
            return false;
        }
        if !shut {
            self.since = now;
            self.by_probe = false;
        }
        (self.closed, self.until, self.why) = (true, until, why);
        true
    }

    /// The next cool-down without a stated time: `first` doubling to `longest`, with jitter. One per strike.
    pub(crate) fn strike(&mut self, first: u64, longest: u64, rng: &mut Rng) -> u64 {
        let times = 1u64.checked_shl(self.strikes).unwrap_or(u64::MAX);
        self.strikes = self.strikes.saturating_add(1).min(62);
        rng.jitter(first.saturating_mul(times).min(longest)).min(longest)
    }

    pub(crate) fn begin_probe(&mut self) {
        self.probing = true;
    }

    /// The probe came back and proved nothing: the next may try.
    pub(crate) fn end_probe(&mut self, now: u64) {
        self.probing = false;
        if !self.by_probe {
            self.probe_at = now.saturating_add(PROBE_EVERY_NS);
        }
    }

    /// The probe failed: what was sent before now says nothing any more, and the next comes at `until`.
    pub(crate) fn probe_failed(&mut self, now: u64, until: u64) {
        self.end_probe(now);
        self.since = now;
        self.until = self.until.max(until);
    }

    /// It works again (a probe, a reset, an operator). Tells whether it was shut.
    pub(crate) fn open(&mut self) -> bool {
        let was = self.closed;
        *self = Self::default();
        was
    }

    /// Opens, but the next cool-down is still doubled: it has to prove itself first.
    pub(crate) fn open_on_trial(&mut self) -> bool {
        let strikes = self.strikes;
        let was = self.open();
        self.strikes = strikes;
        was
    }

    pub(crate) fn forgive(&mut self) {
        self.strikes = 0;
    }

    /// Something sent at `sent` went well: where the gate had opened by itself, its strikes are over. Tells whether
    /// it had been shut until then.
    pub(crate) fn went_well(&mut self, now: u64, sent: u64) -> bool {
        if (self.closed || self.strikes > 0) && !self.is_shut(now) && sent >= self.since {
            return self.open();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SECOND;

    #[test]
    fn a_second_refusal_extends_and_never_shortens() {
        let mut g = Gate::default();
        assert!(g.shut_until(0, 30 * SECOND, Class::Quota));
        assert!(!g.shut_until(SECOND, 2 * SECOND, Class::Quota), "shorter: the first stands");
        assert_eq!(g.until, 30 * SECOND);
        assert!(g.shut_until(SECOND, 60 * SECOND, Class::Quota));
        assert_eq!(g.pass(59 * SECOND), Pass::Shut { until: 60 * SECOND, soft: false });
        assert_eq!(g.pass(60 * SECOND), Pass::Open);
    }

    #[test]
    fn one_probe_at_a_time() {
        let mut g = Gate::default();
        g.shut_for_probe(0, 10 * SECOND, Class::Key);
        assert_eq!(g.pass(9 * SECOND), Pass::Shut { until: 10 * SECOND, soft: false });
        assert_eq!(g.pass(10 * SECOND), Pass::Probe);
        g.begin_probe();
        assert_eq!(g.pass(11 * SECOND), Pass::Shut { until: 11 * SECOND, soft: true });
        g.probe_failed(12 * SECOND, 32 * SECOND);
        assert_eq!(g.pass(12 * SECOND), Pass::Shut { until: 32 * SECOND, soft: false });
        assert_eq!(g.pass(32 * SECOND), Pass::Probe);
        assert!(g.open());
        assert_eq!(g.pass(32 * SECOND), Pass::Open);
    }

    #[test]
    fn long_stated_times_are_probed_in_between_and_open_by_themselves() {
        let mut g = Gate::default();
        g.shut_until(0, 60 * MINUTE, Class::Quota);
        assert_eq!(g.pass(4 * MINUTE), Pass::Shut { until: 60 * MINUTE, soft: false });
        assert_eq!(g.pass(5 * MINUTE), Pass::Probe);
        g.begin_probe();
        assert_eq!(g.pass(6 * MINUTE), Pass::Shut { until: 60 * MINUTE, soft: false });
        g.probe_failed(6 * MINUTE, 20 * MINUTE);
        assert_eq!(g.pass(10 * MINUTE), Pass::Shut { until: 60 * MINUTE, soft: false }, "not shortened");
        assert_eq!(g.pass(11 * MINUTE), Pass::Probe);
        assert_eq!(g.pass(60 * MINUTE), Pass::Open);
    }

    #[test]
    fn strikes_double_and_success_resets_them() {
        let (mut g, mut rng) = (Gate::default(), Rng::new(1));
        let mut now = 0;
        for expected in [1u64, 2, 4, 8, 16, 32, 60, 60] {
            let wait = g.strike(SECOND, 60 * SECOND, &mut rng);
            let exact = (expected * SECOND) as f64;
            assert!((wait as f64 / exact - 1.0).abs() < 0.11, "{wait} for {expected}");
            g.shut_until(now, now + wait, Class::Quota);
            assert!(!g.went_well(now, now), "still shut");
            now += wait;
        }
        g.went_well(now, now);
        assert_eq!(g.strikes, 0);
    }
}
