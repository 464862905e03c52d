//! Something that is shut for a time: a benched key, an account without money, a model without capacity, a rate limit
//! that named a time. Shutting twice keeps the later end. Two ways to open: by itself at its end (a stated time), or
//! by one live probe at a time that succeeds (everything that is a judgement of ours).
//!
//! What was sent before the gate shut says nothing about how things are after it.

use crate::blame::Class;
use crate::rng::Rng;
use crate::time::{DAY, MINUTE};

/// Stated times beyond this are probed in between.
pub(crate) const PROBE_EVERY_NS: u64 = 5 * MINUTE;
/// Daily limits exist; a stated time beyond this is not believed, and nobody is told more than the next probe.
const BELIEVED_MAX_NS: u64 = DAY;

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

/// Most gates never shut: what they remember is allocated when they first do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Option<Box<State>>);

#[derive(Clone, Debug)]
struct State {
    closed: bool,
    until: u64,
    since: u64,
    by_probe: bool,
    probe_at: u64,
    probing: bool,
    /// Times that it shut in a row: the exponent of the next cool-down.
    strikes: u32,
    trial: Trial,
    why: Class,
}

/// How a gate stands that a check has opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trial {
    /// None has, or a request has gone well since.
    None,
    /// One has, and no request has gone well since.
    On,
    /// A request was refused all the same.
    Relapsed,
    /// It was opened once more after that.
    Again,
}

impl Default for State {
    fn default() -> Self {
        Self {
            closed: false,
            until: 0,
            since: 0,
            by_probe: false,
            probe_at: u64::MAX,
            probing: false,
            strikes: 0,
            trial: Trial::None,
            why: Class::Quota,
        }
    }
}

impl State {
    fn pass(&self, now: u64) -> Pass {
        if !self.closed || (!self.by_probe && now >= self.until) {
            return Pass::Open;
        }
        let due = self.until.min(self.probe_at);
        let by_itself = !self.by_probe && self.until - now <= BELIEVED_MAX_NS;
        if now < due {
            Pass::Shut { until: if by_itself { self.until } else { due }, soft: false }
        } else if self.probing && self.by_probe {
            Pass::Shut { until: now, soft: true }
        } else if self.probing {
            let next = if by_itself { self.until } else { now.saturating_add(PROBE_EVERY_NS) };
            Pass::Shut { until: next, soft: false }
        } else {
            Pass::Probe
        }
    }

    fn close(&mut self, now: u64, until: u64, why: Class) -> bool {
        let until = until.max(now.saturating_add(1));
        let shut = self.pass(now) != Pass::Open;
        if shut && until <= self.until {
            return false;
        }
        if !shut {
            self.since = now;
            self.by_probe = false;
            if self.trial != Trial::None {
                self.trial = Trial::Relapsed;
            }
        }
        (self.closed, self.until, self.why) = (true, until, why);
        true
    }
}

impl Gate {
    pub(crate) fn pass(&self, now: u64) -> Pass {
        self.0.as_ref().map_or(Pass::Open, |s| s.pass(now))
    }

    fn state(&mut self) -> &mut State {
        self.0.get_or_insert_default()
    }

    /// The end of its cool-down.
    pub(crate) fn until(&self) -> u64 {
        self.0.as_ref().map_or(0, |s| s.until)
    }

    /// Whose fault it was that shut it last.
    pub(crate) fn why(&self) -> Class {
        self.0.as_ref().map_or(Class::Quota, |s| s.why)
    }

    pub(crate) fn is_shut(&self, now: u64) -> bool {
        self.pass(now) != Pass::Open
    }

    /// When it shut, or the last probe failed.
    pub(crate) fn since(&self) -> u64 {
        self.0.as_ref().map_or(0, |s| s.since)
    }

    /// When a live request probes it, where it is shut until one succeeds.
    pub(crate) fn due(&self) -> Option<u64> {
        self.0.as_ref().filter(|s| s.closed && s.by_probe).map(|s| s.until.min(s.probe_at))
    }

    /// A live request is out to probe it.
    pub(crate) fn is_probed(&self) -> bool {
        self.0.as_ref().is_some_and(|s| s.closed && s.probing)
    }

    /// A check opened it, and a request found it shut all the same: checks do not see what is wrong.
    pub(crate) fn has_relapsed(&self) -> bool {
        self.0.as_ref().is_some_and(|s| s.trial == Trial::Relapsed)
    }

    /// A check found out by itself that it has to shut again: nothing was missed.
    pub(crate) fn end_trial(&mut self) {
        if let Some(s) = &mut self.0 {
            s.trial = if s.trial == Trial::On { Trial::None } else { s.trial };
        }
    }

    /// Whether something sent at `sent` knows more than the time before it shut.
    pub(crate) fn is_news(&self, now: u64, sent: u64) -> bool {
        !self.is_shut(now) || self.0.as_ref().is_none_or(|s| sent >= s.since)
    }

    /// Shuts until a stated time, at which it opens by itself. Never shortens. Tells whether the end moved.
    pub(crate) fn shut_until(&mut self, now: u64, until: u64, why: Class) -> bool {
        let s = self.state();
        let moved = s.close(now, until, why);
        if moved {
            s.by_probe = false;
            s.probe_at = u64::MAX;
            self.probe_between(now);
        }
        moved
    }

    /// The end is a stated one: should it be far away, it is probed before.
    pub(crate) fn probe_between(&mut self, now: u64) {
        let s = self.state();
        let far = s.until.saturating_sub(now) > PROBE_EVERY_NS;
        s.probe_at = if far { s.probe_at.min(now.saturating_add(PROBE_EVERY_NS)) } else { u64::MAX };
    }

    /// A check has just been the probe in between: the next one is due a while from now.
    pub(crate) fn probe_again(&mut self, now: u64) {
        let s = self.state();
        let far = s.until.saturating_sub(now) > PROBE_EVERY_NS;
        s.probe_at = if far { now.saturating_add(PROBE_EVERY_NS) } else { u64::MAX };
    }

    /// Shuts until a probe at `until` or later succeeds. Never shortens.
    pub(crate) fn shut_for_probe(&mut self, now: u64, until: u64, why: Class) -> bool {
        let s = self.state();
        let moved = s.close(now, until, why);
        if moved {
            s.by_probe = true;
            s.probe_at = u64::MAX;
        }
        moved
    }

    /// The next cool-down without a stated time: `first` doubling to `longest`, with jitter. One per strike.
    pub(crate) fn strike(&mut self, first: u64, longest: u64, rng: &mut Rng) -> u64 {
        let s = self.state();
        let times = 1u64.checked_shl(s.strikes).unwrap_or(u64::MAX);
        s.strikes = s.strikes.saturating_add(1).min(62);
        rng.jitter(first.saturating_mul(times).min(longest)).min(longest)
    }

    pub(crate) fn begin_probe(&mut self) {
        self.state().probing = true;
    }

    /// The probe came back and proved nothing: the next may try.
    pub(crate) fn end_probe(&mut self, now: u64) {
        let s = self.state();
        s.probing = false;
        if !s.by_probe || s.probe_at != u64::MAX {
            s.probe_at = now.saturating_add(PROBE_EVERY_NS);
        }
    }

    /// The probe failed: what was sent before now says nothing any more, and the next comes at `until`.
    pub(crate) fn probe_failed(&mut self, now: u64, until: u64) {
        self.end_probe(now);
        let s = self.state();
        s.since = now;
        s.until = s.until.max(until);
    }

    /// It works again (a probe, a reset, an operator). Tells whether it was shut.
    pub(crate) fn open(&mut self) -> bool {
        self.0.take().is_some_and(|s| s.closed)
    }

    /// Opens, but the next cool-down is still doubled: it has to prove itself first.
    pub(crate) fn open_on_trial(&mut self) -> bool {
        let strikes = self.0.as_ref().map_or(0, |s| s.strikes);
        let was = self.open();
        self.state().strikes = strikes;
        was
    }

    /// A check found that it works again.
    pub(crate) fn open_by_check(&mut self) -> bool {
        let relapsed = self.has_relapsed();
        let was = self.open_on_trial();
        self.state().trial = if relapsed { Trial::Again } else { Trial::On };
        was
    }

    pub(crate) fn forgive(&mut self) {
        self.state().strikes = 0;
    }

    /// Something sent at `sent` went well: where the gate had opened by itself, its strikes are over. Tells whether
    /// it had been shut until then.
    pub(crate) fn went_well(&mut self, now: u64, sent: u64) -> bool {
        let over = self.0.as_ref().is_some_and(|s| s.pass(now) == Pass::Open && sent >= s.since);
        over && self.open()
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
        assert_eq!(g.until(), 30 * SECOND);
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
    fn a_year_is_not_believed_whatever_opens_the_gate() {
        let year = 365 * DAY;
        let mut quota = Gate::default();
        quota.shut_until(0, year, Class::Quota);
        let mut key = Gate::default();
        key.shut_for_probe(0, year, Class::Key);
        key.probe_between(0);
        for g in [&mut quota, &mut key] {
            assert_eq!(g.pass(MINUTE), Pass::Shut { until: 5 * MINUTE, soft: false });
            assert_eq!(g.pass(5 * MINUTE), Pass::Probe);
            g.begin_probe();
            assert!(matches!(g.pass(6 * MINUTE), Pass::Shut { until, .. } if until <= 11 * MINUTE));
            g.probe_failed(6 * MINUTE, year);
            assert_eq!(g.pass(10 * MINUTE), Pass::Shut { until: 11 * MINUTE, soft: false });
            assert_eq!(g.pass(11 * MINUTE), Pass::Probe);
        }
        // Our own cool-down of an hour is no stated time.
        let mut g = Gate::default();
        g.shut_for_probe(0, 60 * MINUTE, Class::Key);
        assert_eq!(g.pass(59 * MINUTE), Pass::Shut { until: 60 * MINUTE, soft: false });
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
        assert_eq!(g.state().strikes, 0);
    }
}
