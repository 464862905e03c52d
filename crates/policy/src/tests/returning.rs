//! What was slow or failing for some seconds and is well again has its share back within half a minute, however little
//! is asked.

use super::harness::*;
use crate::event::What;
use crate::fleet::{AccountId, KeyId};
use crate::outcome::{End, Outcome, Sign};
use crate::time::ns_of;
use crate::{Ask, Decision, Lease, Next};

/// The first of three is ill for a while.
const ILL: KeyId = KeyId(0);
const KEYS: u32 = 3;

/// What it does then.
#[derive(Clone, Copy, Debug)]
enum Illness {
    /// It answers, after so many seconds.
    Slow(f64),
    /// It fails after so many seconds.
    Fails(f64),
}

struct Play {
    w: World,
    ill: Option<Illness>,
    /// When each attempt that is out ends, and whether it fails.
    out: Vec<(u64, bool, f64, Lease)>,
    /// When an answer came from the one, and from the others.
    of_ill: Vec<u64>,
    of_others: Vec<u64>,
}

impl Play {
    fn send(&mut self, lease: Lease) {
        let (failed, took) = match self.ill.filter(|_| lease.key == ILL) {
            None => (false, 0.2),
            Some(Illness::Slow(s)) => (false, s),
            Some(Illness::Fails(s)) => (true, s),
        };
        self.out.push((self.w.ns + ns_of(took), failed, took, lease));
    }

    /// Asks every so many seconds, for so many seconds.
    fn go_on(&mut self, every: f64, seconds: f64) {
        let end = self.w.ns + ns_of(seconds);
        while self.w.ns < end {
            let ask = self.w.ask(10.0);
            if let Decision::Go(lease) = self.w.submit(ask) {
                self.send(lease);
            }
            let next = self.w.ns + ns_of(every);
            while let Some(at) =
                (0..self.out.len()).filter(|i| self.out[*i].0 <= next).min_by_key(|i| self.out[*i].0)
            {
                let (over, failed, took, lease) = self.out.swap_remove(at);
                self.w.ns = over;
                self.finish(failed, took, lease);
            }
            self.w.ns = next;
            for woken in self.w.poll() {
                if let Decision::Go(lease) = woken.decision {
                    self.send(lease);
                }
            }
        }
    }

    fn finish(&mut self, failed: bool, took: f64, lease: Lease) {
        if failed {
            if let Next::Go(again) = self.w.fail(lease, evidence(Sign::ServerError, Some(500))) {
                self.send(again);
            }
            return;
        }
        let answers = if lease.key == ILL { &mut self.of_ill } else { &mut self.of_others };
        answers.push(self.w.ns);
        let done = Outcome { first_output_ns: Some(ns_of(took)), ..outcome(End::Done) };
        let next = self.w.policy.finish(self.w.now(), lease, done);
        assert!(matches!(next, Next::Done(_)), "{next:?}");
    }
}

/// The share of the answers that came from the one that was ill, against its fair share: of the half minute that
/// begins half a minute after it is well.
fn share_after(illness: Illness, every: f64, seconds: f64, seed: u64) -> f64 {
    let (out, of_ill, of_others) = (Vec::new(), Vec::new(), Vec::new());
    let mut p = Play { w: World::seeded(fleet(KEYS, &[]), seed), ill: None, out, of_ill, of_others };
    p.go_on(every, 120.0);
    p.ill = Some(illness);
    p.go_on(every, seconds);
    p.ill = None;
    // It is well when its last answer from then is back.
    while p.out.iter().any(|(.., took, lease)| lease.key == ILL && (*took - 0.2).abs() > 0.01) {
        p.go_on(every, every);
    }
    p.go_on(every, 30.0);
    let since = p.w.ns;
    p.go_on(every, 30.0);
    let count =
        |answers: &[u64]| f64::from(u32::try_from(answers.iter().filter(|at| **at > since).count()).unwrap());
    count(&p.of_ill) * f64::from(KEYS) / (count(&p.of_ill) + count(&p.of_others))
}

fn comes_back(illness: Illness, seconds: f64) {
    for every in [1.0, 0.3, 0.02] {
        for seed in 0..10 {
            let share = share_after(illness, every, seconds, seed);
            assert!((0.8..1.25).contains(&share), "{illness:?}, one each {every} s, seed {seed}: {share}");
        }
    }
}

#[test]
fn after_answers_of_many_seconds() {
    comes_back(Illness::Slow(14.0), 10.0);
}

#[test]
fn after_answers_ten_times_as_slow() {
    comes_back(Illness::Slow(2.0), 20.0);
}

#[test]
fn after_silence() {
    comes_back(Illness::Fails(14.0), 14.0);
}

#[test]
fn after_errors() {
    comes_back(Illness::Fails(0.02), 10.0);
}

/// One broken connection with many requests on it.
#[test]
fn after_failures_all_at_once() {
    comes_back(Illness::Fails(2.0), 1.0);
}

/// Slow start is a share, also of what is so little that nobody is ever busy.
#[test]
fn while_its_breaker_is_closed_on_trial() {
    let (out, of_ill, of_others) = (Vec::new(), Vec::new(), Vec::new());
    let mut p = Play { w: World::new(fleet(KEYS, &[])), ill: None, out, of_ill, of_others };
    for _ in 0..6 {
        // Whoever may go nowhere else.
        let ask = Ask { bound_to: Some(AccountId(0)), ..p.w.ask(0.0) };
        if let Decision::Go(lease) = p.w.submit(ask) {
            p.w.pass(0.3);
            assert!(matches!(p.w.fail(lease, evidence(Sign::ServerError, Some(500))), Next::Done(_)));
        }
    }
    assert!(p.w.events().iter().any(|e| matches!(e, What::BreakerOpened { key: ILL, .. })));
    p.go_on(1.0, 10.0);
    assert!(p.w.events().iter().any(|e| matches!(e, What::BreakerClosed { key: ILL, .. })));
    let before = p.of_ill.len();
    p.go_on(1.0, 30.0);
    let some = p.of_ill.len() - before;
    assert!((2..8).contains(&some), "of thirty {some}");
    p.go_on(1.0, 15.0);
    let before = p.of_ill.len();
    p.go_on(1.0, 30.0);
    let fair = p.of_ill.len() - before;
    assert!((9..=11).contains(&fair), "of thirty {fair}");
}
