//! Plain calls that wait where nothing comes any more.

use super::harness::*;
use crate::Lease;
use crate::event::What;
use crate::hang::Hang;
use crate::outcome::Sign;
use crate::time::SECOND;

/// So many keys, whose plain answers take a tenth of a second.
fn quick(accounts: u32) -> World {
    let mut w = World::new(fleet(accounts, &[]));
    for _ in 0..60 {
        let lease = w.go();
        w.pass(0.1);
        w.ok(lease);
    }
    w
}

/// So many calls in flight at key 0, first, and behind them those at the others, unless these are answered.
fn silent(w: &mut World, most: usize, others_answer: bool) -> Vec<Lease> {
    let (mut silent, mut others) = (Vec::new(), Vec::new());
    while silent.len() < most {
        w.pass(0.1);
        let lease = w.go();
        if lease.key.0 == 0 { silent.push(lease) } else { others.push(lease) }
    }
    w.pass(0.1);
    if others_answer {
        others.drain(..).for_each(|lease| w.ok(lease));
    }
    silent.append(&mut others);
    silent
}

fn asked(w: &mut World, leases: &[Lease]) -> Vec<Hang> {
    leases.iter().map(|lease| w.policy.hangs(w.now(), lease)).collect()
}

#[test]
fn several_calls_that_are_silent_for_far_too_long_while_siblings_answer_are_moved_and_the_key_is_shut() {
    let mut w = quick(3);
    let calls = silent(&mut w, 4, true);
    w.pass(8.0);
    let said = asked(&mut w, &calls);
    assert!(matches!(said[..2], [Hang::AskAt(_), Hang::AskAt(_)]), "two may be chance: {said:?}");
    assert_eq!(said[2..], [Hang::GiveUp, Hang::GiveUp]);
    assert_eq!(asked(&mut w, &calls)[..2], [Hang::GiveUp, Hang::GiveUp], "now it is known");
    w.policy.take_events(&mut Vec::new());
    for lease in calls {
        let next = again(w.fail(lease, evidence(Sign::FirstByteTimeout, None)));
        assert_ne!(next.key.0, 0, "its breaker is open");
        w.ok(next);
    }
    for _ in 0..20 {
        let lease = w.go();
        assert_ne!(lease.key.0, 0);
        w.ok(lease);
    }
}

#[test]
fn one_long_call_is_never_given_up_however_often_it_asks() {
    let mut w = quick(3);
    let calls = silent(&mut w, 1, true);
    for _ in 0..50 {
        w.pass(10.0);
        let said = w.policy.hangs(w.now(), &calls[0]);
        let Hang::AskAt(at) = said else { panic!("{said:?}") };
        assert!(at > w.ns + SECOND, "asked ever less often");
        let other = w.go();
        w.ok(other);
    }
    assert_eq!(w.policy.hung(), 0);
}

#[test]
fn where_nobody_answers_the_model_is_slow_and_no_key_hangs() {
    let mut w = quick(2);
    let calls = silent(&mut w, 4, false);
    w.pass(60.0);
    let said = asked(&mut w, &calls);
    assert!(said.iter().all(|s| matches!(s, Hang::AskAt(_))), "{said:?}");
    // The other one answers again: now it can be told.
    let (back, rest): (Vec<_>, Vec<_>) = calls.into_iter().partition(|l| l.key.0 == 1);
    for lease in back {
        w.ok(lease);
    }
    assert!(asked(&mut w, &rest).contains(&Hang::GiveUp));
}

#[test]
fn who_says_anything_does_not_hang() {
    let mut w = quick(3);
    let mut calls = silent(&mut w, 4, true);
    w.pass(8.0);
    assert!(asked(&mut w, &calls[..2]).iter().all(|s| matches!(s, Hang::AskAt(_))));
    let answered = calls.remove(0);
    w.ok(answered);
    let said = asked(&mut w, &calls);
    assert!(said.iter().all(|s| matches!(s, Hang::AskAt(_))), "one of four is answered: {said:?}");
    assert_eq!(w.policy.hung(), 0);
}

#[test]
fn a_plain_probe_of_what_hung_does_not_wait_for_the_configured_time_out() {
    let mut w = quick(3);
    let calls = silent(&mut w, 4, true);
    w.pass(8.0);
    asked(&mut w, &calls);
    for lease in calls {
        let next = again(w.fail(lease, evidence(Sign::FirstByteTimeout, None)));
        w.ok(next);
    }
    let probe = loop {
        w.pass(1.0);
        let lease = w.go();
        if lease.probe {
            break lease;
        }
        w.ok(lease);
    };
    assert_eq!(probe.key.0, 0);
    assert!(matches!(w.policy.hangs(w.now(), &probe), Hang::AskAt(_)));
    w.pass(2.5);
    assert_eq!(w.policy.hangs(w.now(), &probe), Hang::GiveUp);
    let next = again(w.fail(probe, evidence(Sign::FirstByteTimeout, None)));
    assert_ne!(next.key.0, 0);
    w.ok(next);
    let mut events = Vec::new();
    w.policy.take_events(&mut events);
    let opened = events.iter().filter(|e| matches!(e.what, What::BreakerOpened { .. })).count();
    assert_eq!(opened, 2, "{events:?}");
}

#[test]
fn plain_calls_that_wait_where_it_hangs_are_moved() {
    let mut w = World::new(fleet(2, &[]));
    for _ in 0..60 {
        let lease = w.go();
        w.pass(0.5);
        w.ok(lease);
    }
    // Five calls at one key time out one after the other; another has waited there for a second, one came just now.
    let all: Vec<Lease> = (0..14)
        .map(|_| {
            w.pass(0.15);
            w.go()
        })
        .collect();
    let (mut at_one, _other): (Vec<Lease>, Vec<Lease>) = all.into_iter().partition(|l| l.key.0 == 1);
    assert_eq!(at_one.len(), 7);
    let waits = at_one.remove(0);
    assert_ne!(w.policy.hangs(w.now(), &waits), Hang::GiveUp, "nothing is known to be wrong");
    let before = w.policy.hung();
    while at_one.len() > 1 {
        w.pass(0.3);
        let lease = at_one.remove(0);
        w.finish(lease, crate::outcome::End::Failed(evidence(Sign::FirstByteTimeout, None)));
    }
    assert!(w.policy.hung() > before, "who waits may ask again");
    assert_eq!(w.policy.hangs(w.now(), &waits), Hang::GiveUp, "hardly any answer takes so long");
    let next = again(w.fail(waits, evidence(Sign::FirstByteTimeout, None)));
    assert_eq!(next.key.0, 0);
    assert!(matches!(w.policy.hangs(w.now(), &next), Hang::AskAt(_)));
}
