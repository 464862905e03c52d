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
