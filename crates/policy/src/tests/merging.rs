//! Keys that were taken for two accounts' and are one's: they share one set of limits, and no charge is lost.

use super::harness::*;
use crate::fleet::{AccountId, Dimension, Fleet, LimitSpec, ModelSet, Shape};
use crate::{Ask, Decision, Lease};

/// Two accounts of one key each, and the same with both keys in the first.
fn apart_and_one(limit: &LimitSpec) -> (Fleet, Fleet) {
    let apart = fleet(2, std::slice::from_ref(limit));
    let mut one = apart.clone();
    one.accounts.truncate(1);
    one.keys[1].account = AccountId(0);
    (apart, one)
}

fn go_to(w: &mut World, account: u32, most: usize) -> Vec<Lease> {
    let go = |_| match w.submit(Ask { bound_to: Some(AccountId(account)), ..w.ask(0.0) }) {
        Decision::Go(lease) => lease,
        other => panic!("{other:?}"),
    };
    (0..most).map(go).collect()
}

#[test]
fn slots_of_both_count_and_come_back_to_the_one() {
    let slots = LimitSpec {
        dimension: Dimension::Concurrent,
        shape: Shape::Slots { limit: 5 },
        models: ModelSet::default(),
        preset: false,
    };
    let (apart, one) = apart_and_one(&slots);
    let mut w = World::new(apart);
    let (first, second) = (go_to(&mut w, 0, 3), go_to(&mut w, 1, 2));
    w.policy.reconfigure(w.now(), one);
    assert_eq!(w.policy.view(w.now()).providers[0].accounts[0].in_flight, 5);
    assert!(w.levels()[0].abs() < 1e-9, "three and two are five: {:?}", w.levels());
    for lease in second {
        w.ok(lease);
    }
    assert!((w.levels()[0] - 2.0).abs() < 1e-9, "what the other held comes back: {:?}", w.levels());
    for lease in first {
        w.ok(lease);
    }
    assert!((w.levels()[0] - 5.0).abs() < 1e-9, "{:?}", w.levels());
    w.conserved();
}

#[test]
fn the_lower_level_less_all_that_is_in_flight() {
    let (apart, one) = apart_and_one(&bucket(Dimension::Requests, 20.0, 1e-6));
    let mut w = World::new(apart);
    let mut first = go_to(&mut w, 0, 6);
    let second = go_to(&mut w, 1, 3);
    for lease in first.drain(..4) {
        w.ok(lease);
    }
    // Four are used and two in flight at the one, three in flight at the other: 16 less five.
    w.policy.reconfigure(w.now(), one);
    assert!((w.levels()[0] - 11.0).abs() < 0.1, "{:?}", w.levels());
    assert_eq!(w.policy.view(w.now()).providers[0].accounts.len(), 1, "the other is no more");
    for lease in first.into_iter().chain(second) {
        w.ok(lease);
    }
    assert!((w.levels()[0] - 11.0).abs() < 0.1, "{:?}", w.levels());
    assert_eq!(w.policy.view(w.now()).providers[0].in_flight, 0);
    w.conserved();
}

#[test]
fn the_third_of_three_counts_what_is_in_flight_at_both_others() {
    let apart = fleet(3, &[bucket(Dimension::Requests, 20.0, 1e-6)]);
    let mut one = apart.clone();
    one.accounts.truncate(1);
    one.keys[1].account = AccountId(0);
    one.keys[2].account = AccountId(0);
    let mut w = World::new(apart);
    let mut leases = go_to(&mut w, 0, 2);
    leases.extend(go_to(&mut w, 1, 3));
    let mut third = go_to(&mut w, 2, 10);
    for lease in third.drain(..6) {
        w.ok(lease);
    }
    // Six are used and four in flight at the third, which is what all have left: 14 less nine.
    w.policy.reconfigure(w.now(), one);
    assert!((w.levels()[0] - 5.0).abs() < 0.1, "{:?}", w.levels());
    leases.append(&mut third);
    for lease in leases {
        w.ok(lease);
    }
    assert!((w.levels()[0] - 5.0).abs() < 0.1, "{:?}", w.levels());
    w.conserved();
}

#[test]
fn a_reservation_that_was_too_large_comes_back_to_the_one() {
    let (mut apart, mut one) = apart_and_one(&bucket(Dimension::TotalTokens, 10_000.0, 1e-6));
    for fleet in [&mut apart, &mut one] {
        fleet.providers[0].charging.output = crate::fleet::OutputCharge::MaxTokensRefunded;
    }
    let mut w = World::new(apart);
    let lease = go_to(&mut w, 1, 1).remove(0);
    w.policy.reconfigure(w.now(), one);
    let before = w.levels()[0];
    assert!((before - 9_800.0).abs() < 1.0, "{before}");
    w.ok(lease);
    assert!((w.levels()[0] - before - 50.0).abs() < 1.0, "{:?}", w.levels());
}

#[test]
fn what_shut_one_shuts_both() {
    let (apart, one) = apart_and_one(&bucket(Dimension::Requests, 20.0, 1.0));
    let mut w = World::new(apart);
    let lease = go_to(&mut w, 1, 1).remove(0);
    let refused = w.fail(lease, limited(crate::outcome::LimitScope::Account, Some(600.0)));
    assert!(matches!(refused, crate::Next::Refuse(_)), "{refused:?}");
    w.policy.reconfigure(w.now(), one);
    let after = w.refused(0.0).retry_after_ns.unwrap();
    assert!(after > 250 * crate::time::SECOND, "{after}");
}
