//! One request that fails wherever it goes takes nothing away from the others.

use super::harness::*;
use crate::outcome::{Evidence, Sign};
use crate::time::SECOND;
use crate::{Decision, Lease, Next};
use std::collections::HashSet;

fn kinds() -> [Evidence; 4] {
    [
        evidence(Sign::ServerError, Some(500)),
        evidence(Sign::FirstByteTimeout, None),
        evidence(Sign::KeyForbidden, Some(403)),
        evidence(Sign::KeyForbidden, Some(451)),
    ]
}

fn warmed(calls: u32, accounts: u32) -> World {
    let mut w = World::new(fleet(accounts, &[]));
    for _ in 0..calls {
        let lease = w.go();
        w.pass(0.01);
        w.ok(lease);
    }
    w
}

/// Fails wherever it is let; tells how often it was.
fn poison(w: &mut World, evidence: &Evidence) -> usize {
    let (mut lease, mut tried) = (w.go(), 0);
    loop {
        tried += 1;
        w.pass(0.003);
        match w.fail(lease, evidence.clone()) {
            Next::Go(next) => lease = next,
            Next::Wait { .. } => match w.until_woken().remove(0).decision {
                Decision::Go(next) => lease = next,
                _ => return tried,
            },
            Next::Done(_) | Next::Refuse(_) => return tried,
        }
    }
}

#[test]
fn a_poisonous_request_shuts_no_provider_and_takes_no_key_out() {
    for accounts in [2, 3, 5] {
        for calls in [0, 12] {
            for evidence in kinds() {
                let mut w = warmed(calls, accounts);
                let tried = poison(&mut w, &evidence);
                assert!(tried >= 2, "{evidence:?}: it is tried elsewhere");
                let what = (accounts, calls, evidence.sign, w.health());
                let leases: Vec<Lease> = (0..accounts).map(|_| w.go()).collect();
                let keys: HashSet<_> = leases.iter().map(|l| l.key).collect();
                assert_eq!(keys.len(), accounts as usize, "a key is out: {what:?}");
                assert!(leases.iter().all(|l| !l.probe), "{what:?}");
            }
        }
    }
}

#[test]
fn while_a_poisonous_request_walks_the_others_have_a_key() {
    for evidence in kinds() {
        let mut w = warmed(0, 3);
        let mut lease = w.go();
        for _ in 0..2 {
            lease = again(w.fail(lease, evidence.clone()));
            w.pass(0.003);
            let other = w.go();
            w.finish(other, crate::outcome::End::Dropped);
        }
    }
}

#[test]
fn keys_that_may_not_do_what_a_third_one_may_are_benched() {
    let mut w = warmed(0, 3);
    let mut lease = w.go();
    for _ in 0..2 {
        lease = again(w.fail(lease, evidence(Sign::KeyForbidden, Some(403))));
    }
    let fine = lease.key;
    w.ok(lease);
    for _ in 0..10 {
        let lease = w.go();
        assert_eq!(lease.key, fine);
        w.ok(lease);
    }
}

#[test]
fn two_requests_that_hang_everywhere_are_the_provider() {
    let mut w = warmed(0, 3);
    let (one, two) = (w.go(), w.go());
    assert_ne!(one.key, two.key);
    w.pass(5.0);
    w.fail(one, evidence(Sign::FirstByteTimeout, None));
    w.fail(two, evidence(Sign::FirstByteTimeout, None));
    let refusal = w.refused(0.0);
    assert!(refusal.retry_after_ns.is_some_and(|ns| ns < 6 * SECOND), "{refusal:?}");
}

#[test]
fn the_same_poisonous_request_sent_again_and_again_takes_nothing_down() {
    for evidence in kinds() {
        for accounts in [2, 3, 5] {
            let mut w = warmed(12, accounts);
            for _ in 0..12 {
                poison(&mut w, &evidence);
                w.pass(0.8);
            }
            let what = (accounts, evidence.sign, w.health());
            let leases: Vec<Lease> = (0..accounts).map(|_| w.go()).collect();
            let keys: HashSet<_> = leases.iter().map(|l| l.key).collect();
            assert_eq!(keys.len(), accounts as usize, "a key is out: {what:?}");
            assert!(leases.iter().all(|l| !l.probe), "{what:?}");
        }
    }
}

#[test]
fn different_requests_that_crash_everywhere_are_the_provider() {
    let mut w = warmed(0, 3);
    for i in 0..4 {
        let ask = crate::Ask { session: Some(i), ..w.ask(0.0) };
        let Decision::Go(mut lease) = w.submit(ask) else { break };
        while let Next::Go(next) = w.fail(lease, evidence(Sign::ServerError, Some(500))) {
            w.pass(0.2);
            lease = next;
        }
    }
    assert!(w.refused(0.0).retry_after_ns.is_some());
}

#[test]
fn two_of_three_accounts_without_money_leave_the_third() {
    let mut w = warmed(0, 3);
    let lease = w.go();
    let lease = again(w.fail(lease, evidence(Sign::NoMoney, Some(402))));
    let lease = again(w.fail(lease, evidence(Sign::NoMoney, Some(402))));
    let rich = lease.key;
    w.ok(lease);
    for _ in 0..5 {
        let lease = w.go();
        assert_eq!(lease.key, rich);
        w.ok(lease);
    }
}

#[test]
fn a_key_that_breaks_costs_five_attempts() {
    let mut w = warmed(3_000, 3);
    // A thousand requests went well with each within the last minute; now one breaks.
    let (mut wasted, start) = (0, w.ns);
    while w.ns < start + 5 * SECOND {
        w.pass(0.01);
        let mut lease = w.go();
        while lease.key.0 == 1 {
            wasted += 1;
            lease = again(w.fail(lease, evidence(Sign::ServerError, Some(500))));
        }
        w.ok(lease);
    }
    assert!((1..=5).contains(&wasted), "{wasted}");
}

#[test]
fn who_failed_already_does_not_probe_while_another_waits() {
    let crash = || evidence(Sign::ServerError, Some(500));
    let crashes = |w: &mut World, mut lease: Lease| {
        while let Next::Go(next) = w.fail(lease, crash()) {
            lease = next;
        }
    };
    for at_once in [false, true] {
        // Two that crash whatever they meet, with nobody answered in between. At once, each waits with a target untried.
        let mut w = warmed(12, 2);
        let send = |w: &mut World, session| {
            let ask = crate::Ask { session: Some(session), ..w.ask(600.0) };
            let Decision::Go(lease) = w.submit(ask) else { panic!("it is open") };
            lease
        };
        let first = send(&mut w, 0);
        if at_once {
            let second = send(&mut w, 1);
            let first = again(w.fail(first, crash()));
            crashes(&mut w, second);
            crashes(&mut w, first);
        } else {
            crashes(&mut w, first);
            let second = send(&mut w, 1);
            crashes(&mut w, second);
        }
        let (fresh, _) = w.wait(600.0);
        let mut woken = w.until_woken();
        woken.retain(|woken| matches!(woken.decision, Decision::Go(_)));
        assert!(woken.len() == 1 && woken[0].ticket == fresh, "at once: {at_once}: {woken:?}");
        let probe = let_out(woken);
        assert!(probe.probe);
        w.ok(probe);
    }
}

#[test]
fn who_finds_no_capacity_too_often_no_longer_waits_for_it() {
    let mut f = fleet(2, &[]);
    f.settings.retry.overloads_max = 2;
    let mut w = World::new(f);
    let lease = w.go();
    let overloaded = || evidence(Sign::Overloaded, Some(503));
    assert!(matches!(w.fail(lease, overloaded()), Next::Wait { .. }));
    let lease = let_out(w.until_woken());
    assert!(matches!(w.fail(lease, overloaded()), Next::Refuse(_)));
}
