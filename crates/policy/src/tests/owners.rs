//! Keys of which nobody said that they are one account's, and whose provider says so: their limits count once.

use super::harness::*;
use crate::event::What;
use crate::fleet::{AccountId, Dimension, Fleet, KeyId};
use crate::{Ask, Decision};

/// As many accounts of one key each, with ten requests a minute as the preset knows.
fn strangers(n: u32) -> Fleet {
    fleet(n, &[bucket(Dimension::Requests, 10.5, 1e-5)])
}

/// How many may go at once.
fn burst(w: &mut World) -> usize {
    let goes = |w: &mut World| {
        let ask = w.ask(0.0);
        matches!(w.submit(ask), Decision::Go(_))
    };
    (0..1_000).take_while(|_| goes(w)).count()
}

fn told(w: &mut World, key: u32, owner: u64) {
    w.policy.owned_by(w.now(), KeyId(key), owner);
}

/// The accounts that there are, with their keys.
fn accounts(w: &World) -> Vec<(String, Vec<String>)> {
    let view = w.policy.view(w.now());
    let accounts = view.providers.iter().flat_map(|p| &p.accounts);
    accounts.map(|a| (a.name.to_string(), a.keys.iter().map(|k| k.name.to_string()).collect())).collect()
}

fn all(w: &World) -> String {
    let one = |(name, keys): &(String, Vec<String>)| format!("{name}({})", keys.join(","));
    accounts(w).iter().map(one).collect::<Vec<_>>().join(" ")
}

#[test]
fn keys_of_one_owner_share_one_set_of_limits_from_then_on() {
    let mut w = World::new(strangers(3));
    let leases: Vec<_> = (0..3).map(|_| w.go_now()).collect();
    told(&mut w, 2, 7);
    told(&mut w, 1, 8);
    told(&mut w, 0, 7);
    assert_eq!(all(&w), "a0(k0,k2) a1(k1)");
    assert_eq!(w.events(), [What::AccountJoined { account: AccountId(2), into: AccountId(0) }]);
    // Two of the ten are in flight at the one that is two, one at the other.
    assert_eq!(burst(&mut w), 8 + 9);
    for lease in leases {
        w.ok(lease);
    }
    w.conserved();
}

#[test]
fn what_a_person_named_apart_stays_apart_and_draws_those_that_have_no_name() {
    let mut fleet = strangers(4);
    (fleet.accounts[1].named, fleet.accounts[3].named) = (true, true);
    let mut w = World::new(fleet);
    for key in 0..4 {
        told(&mut w, key, 7);
    }
    w.pass(1.0);
    told(&mut w, 0, 7);
    drop(w.go());
    assert_eq!(all(&w), "a1(k0,k1,k2) a3(k3)");
}

#[test]
fn owners_of_the_same_name_at_two_providers_are_two() {
    let mut fleet = Fleet { providers: vec![provider(0), provider(1)], ..Fleet::default() };
    for p in 0..2 {
        add_account(&mut fleet, p, 1, Vec::new());
    }
    fleet.routes.push(route(0, &[&[0, 1]]));
    let mut w = World::new(fleet);
    told(&mut w, 0, 7);
    told(&mut w, 1, 7);
    w.policy.same_account(w.now(), AccountId(0), AccountId(1));
    assert_eq!(accounts(&w).len(), 2);
}

#[test]
fn the_lower_of_two_declared_limits_holds_for_both_whichever_account_is_left() {
    for lower in [0, 1] {
        let mut fleet = fleet(2, &[]);
        for account in [0, 1] {
            let limit = if account == lower { 5.0 } else { 10.0 };
            fleet.accounts[account].limits = vec![bucket(Dimension::Requests, limit + 0.5, limit * 1e-6)];
        }
        fleet.accounts[1].limits.push(bucket(Dimension::TotalTokens, 1e6, 1.0));
        let mut w = World::new(fleet);
        w.policy.same_account(w.now(), AccountId(1), AccountId(0));
        assert_eq!(w.levels().len(), 2, "what only one of them had declared holds for both");
        assert_eq!(burst(&mut w), 5);
    }
}

#[test]
fn another_configuration_brings_them_apart_no_more_than_a_restart() {
    let mut w = World::new(strangers(2));
    w.policy.same_account(w.now(), AccountId(0), AccountId(1));
    assert_eq!(burst(&mut w), 10);
    w.pass(1.0);
    w.policy.reconfigure(w.now(), strangers(3));
    assert_eq!(all(&w), "a0(k0,k1) a2(k2)");
    assert_eq!(burst(&mut w), 10, "the third is new");
    let saved = w.policy.save(w.now());
    let mut next = World::new(strangers(3));
    let now = next.now();
    next.policy.resume(now, &saved);
    assert_eq!(all(&next), "a0(k0,k1) a2(k2)");
    assert_eq!(burst(&mut next), 0, "neither has anything left");
    // Unless that names them apart.
    let mut named = strangers(2);
    for account in &mut named.accounts {
        account.named = true;
    }
    w.policy.reconfigure(w.now(), named);
    assert!(all(&w).starts_with("a0(k0) a1(k1)"), "{}", all(&w));
}

#[test]
fn a_key_that_got_another_owner_leaves_and_one_that_changes_it_all_the_time_tells_nothing() {
    let mut w = World::new(strangers(2));
    told(&mut w, 0, 7);
    told(&mut w, 1, 7);
    assert_eq!(accounts(&w).len(), 1);
    w.pass(1.0);
    told(&mut w, 1, 8);
    assert_eq!(all(&w), "a0(k0) a1(k1)", "its secret was replaced by another account's");
    for n in 0..20_u64 {
        w.pass(1.0);
        told(&mut w, 1, if n % 2 == 0 { 7 } else { 8 });
    }
    told(&mut w, 1, 7);
    assert_eq!(all(&w), "a0(k0) a1(k1)");
}

#[test]
fn what_is_bound_to_an_account_that_became_another_goes_there() {
    let mut w = World::new(strangers(3));
    w.policy.same_account(w.now(), AccountId(1), AccountId(2));
    for _ in 0..10 {
        let ask = Ask { bound_to: Some(AccountId(2)), ..w.ask(0.0) };
        let Decision::Go(lease) = w.submit(ask) else { panic!("bound elsewhere") };
        assert_eq!(lease.account, AccountId(1));
    }
}

#[test]
fn much_that_is_told_at_once_is_acted_on_together() {
    let mut w = World::new(fleet(1_000, &[]));
    w.policy.same_account(w.now(), AccountId(0), AccountId(1));
    for key in 2..1_000 {
        w.policy.same_account(w.now(), AccountId(0), AccountId(key));
    }
    assert_eq!(accounts(&w).len(), 999, "a thousand keys are not laid out a thousand times");
    w.pass(0.1);
    drop(w.go());
    assert_eq!(accounts(&w).len(), 1);
}
