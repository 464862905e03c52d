//! What free calls find out: keys are benched and brought back by it, and nobody is for what says nothing of a key.

use super::harness::*;
use crate::Decision;
use crate::blame::Class;
use crate::checks::{Found, Says};
use crate::event::What;
use crate::fleet::{AccountId, Fleet, KeyId, Member, ModelSet, RouteId};
use crate::outcome::Sign;
use crate::time::{DAY, MINUTE, SECOND};

const WORKS: Says = Says::Works { money: false };

impl World {
    /// A round that was sent just now.
    fn checks(&mut self, says: &[Says]) {
        self.checks_sent(self.ns, says);
    }

    /// What keys 0, 1, … are found to be, asked for at `sent`.
    fn checks_sent(&mut self, sent: u64, says: &[Says]) {
        let round = round(sent, says);
        self.policy.checked(self.now(), &round);
    }

    /// The same by lists of models.
    fn lists(&mut self, says: &[Says]) {
        let mut round = round(self.ns, says);
        for found in &mut round {
            found.by_list = true;
        }
        self.policy.checked(self.now(), &round);
    }

    /// Until when a key is benched.
    fn benched(&self, key: u32) -> Option<u64> {
        let view = self.policy.view(self.now());
        let mut keys = view.providers.iter().flat_map(|p| &p.accounts).flat_map(|a| &a.keys);
        keys.find(|k| k.id == KeyId(key)).unwrap().benched.map(|out| out.until_mono_ns)
    }

    fn due(&self, within_s: u64) -> Vec<u32> {
        self.policy.due_for_check(self.now(), within_s * SECOND).into_iter().map(|key| key.0).collect()
    }
}

fn round(sent: u64, says: &[Says]) -> Vec<Found> {
    let found = |(key, says): (usize, &Says)| Found {
        key: KeyId(u32::try_from(key).unwrap()),
        sent_mono_ns: sent,
        says: *says,
        free_models_out_ns: None,
        by_list: false,
    };
    says.iter().enumerate().map(found).collect()
}

/// Two accounts of one key each, and a third of two.
fn four_keys() -> Fleet {
    let mut four = fleet(2, &[]);
    add_account(&mut four, 0, 2, Vec::new());
    four
}

#[test]
fn a_revoked_key_is_benched_before_any_request_meets_it() {
    let mut w = World::new(fleet(2, &[]));
    w.checks(&[Says::Refused, WORKS]);
    let until = w.benched(0).expect("benched");
    assert!(until > w.ns + 50 * SECOND && until < w.ns + 70 * SECOND, "{}", until - w.ns);
    assert_eq!(w.events(), [What::KeyBenched { key: KeyId(0), why: Class::Key, until_mono_ns: until }]);
    for _ in 0..20 {
        let lease = w.go();
        assert_eq!(lease.key, KeyId(1));
        w.ok(lease);
    }
}

#[test]
fn f27_what_is_refused_to_all_keys_or_says_nothing_benches_nobody() {
    let mut w = World::new(four_keys());
    let all = |says| [says; 4];
    for round in [
        &all(Says::Refused)[..],
        &all(Says::Nothing),
        &all(Says::NoMoney { stated: false }),
        &[Says::Refused, Says::Nothing, Says::Refused, Says::Nothing],
        // Nobody is there who could tell whether it is the key.
        &[Says::Refused],
    ] {
        w.checks(round);
        w.pass(300.0);
        w.checks(round);
        assert!(w.health().is_empty(), "{round:?}: {:?}", w.health());
        assert!(w.events().is_empty(), "{round:?}");
    }
    // The other key of the same account is no witness about its money.
    w.checks(&[Says::Nothing, Says::Nothing, Says::NoMoney { stated: false }, WORKS]);
    assert!(w.health().is_empty(), "{:?}", w.health());
}

#[test]
fn f25_a_key_that_works_again_is_brought_back_by_a_check_and_is_on_trial() {
    let mut w = World::new(fleet(2, &[]));
    let refused = |w: &mut World| {
        let lease = loop {
            let lease = w.go();
            if lease.key == KeyId(0) {
                break lease;
            }
            w.ok(lease);
        };
        let lease = again(w.fail(lease, evidence(Sign::KeyRefused, Some(401))));
        w.ok(lease);
        w.benched(0).expect("benched") - w.ns
    };
    let first = refused(&mut w);
    let sent = w.ns;
    w.pass(1.0);
    w.checks_sent(sent - 1, &[WORKS, WORKS]);
    assert!(w.benched(0).is_some(), "what was asked before it was refused is older news");
    w.events();
    w.checks(&[WORKS, WORKS]);
    assert_eq!(w.benched(0), None);
    assert_eq!(w.events(), [What::KeyRestored { key: KeyId(0) }]);
    let second = refused(&mut w);
    assert!(second > first * 3 / 2, "refused all the same, it rests twice as long: {first} {second}");
    w.pass(1.0);
    w.checks(&[WORKS, WORKS]);
    assert!(w.benched(0).is_some(), "and checks, which do not see what is wrong, do not shorten that");
    w.ns = w.benched(0).unwrap() - 10 * SECOND;
    w.checks(&[WORKS, WORKS]);
    assert_eq!(w.benched(0), None, "they only spare a request the probe");
    let third = refused(&mut w);
    assert!(third > second * 3 / 2, "{second} {third}");
    w.ns = w.benched(0).unwrap() - 10 * SECOND;
    w.checks(&[WORKS, WORKS]);
    while served(&mut w) != KeyId(0) {}
    refused(&mut w);
    w.pass(1.0);
    w.checks(&[WORKS, WORKS]);
    assert_eq!(w.benched(0), None, "a request that went well ended the trial");
}

fn served(w: &mut World) -> KeyId {
    let lease = w.go();
    let key = lease.key;
    w.ok(lease);
    key
}

#[test]
fn a_key_that_checks_alone_see_come_and_go_is_no_relapse() {
    let mut w = World::new(fleet(2, &[]));
    for _ in 0..5 {
        w.checks(&[Says::Refused, WORKS]);
        assert!(w.benched(0).is_some());
        w.pass(30.0);
        w.checks(&[WORKS, WORKS]);
        assert_eq!(w.benched(0), None);
        w.pass(30.0);
    }
}

#[test]
fn a_check_is_the_probe_so_that_no_request_has_to_be() {
    let mut w = World::new(fleet(2, &[]));
    w.checks(&[Says::Refused, WORKS]);
    let until = w.benched(0).unwrap();
    assert_eq!(w.due(10), []);
    w.ns = until - 5 * SECOND;
    assert_eq!(w.due(10), [0]);
    // Alone in its round: a bench that stands needs no witness.
    w.checks(&[Says::Refused]);
    let next = w.benched(0).unwrap();
    assert!(next > w.ns + 100 * SECOND, "doubled: {}", next - w.ns);
    w.pass(30.0);
    let lease = w.go();
    assert_eq!((lease.key, lease.probe), (KeyId(1), false));
    w.ok(lease);
    w.checks(&[Says::Refused, WORKS]);
    assert_eq!(w.benched(0), Some(next), "what is far from being probed is left as it is");
    // Nobody could check it in time: a live request does, as ever, and a check does not disturb it.
    w.ns = next + SECOND;
    let lease = w.go();
    assert!(lease.probe && lease.key == KeyId(0), "{lease:?}");
    w.checks(&[Says::Refused, WORKS]);
    w.ok(lease);
    assert_eq!(w.benched(0), None, "who was answered is believed");
}

#[test]
fn a_key_that_may_not_list_models_is_tried_by_a_request_and_then_left_alone() {
    let mut w = World::new(fleet(2, &[]));
    w.lists(&[Says::Refused, WORKS]);
    let until = w.benched(0).expect("it may be the key");
    w.ns = until - 10 * SECOND;
    w.lists(&[Says::Refused, WORKS]);
    w.lists(&[Says::Refused]);
    assert_eq!(w.benched(0), Some(until), "that says no more than before");
    w.ns = until;
    w.lists(&[Says::Refused, WORKS]);
    let lease = w.go();
    assert!(lease.probe && lease.key == KeyId(0), "{lease:?}");
    w.ok(lease);
    assert_eq!(w.benched(0), None);
    for _ in 0..20 {
        w.pass(300.0);
        w.lists(&[Says::Refused, WORKS]);
        assert_eq!(w.benched(0), None, "it works, whatever the list says");
    }
    let mut renewed = fleet(2, &[]);
    renewed.keys[0].secret = 1;
    w.policy.reconfigure(w.now(), renewed);
    w.lists(&[Says::Refused, WORKS]);
    assert!(w.benched(0).is_some(), "nobody has called with the new secret");
}

#[test]
fn a_key_that_worked_is_benched_by_a_call_that_speaks_of_it_all_the_same() {
    let mut w = World::new(fleet(2, &[]));
    while served(&mut w) != KeyId(0) {}
    w.pass(1.0);
    w.lists(&[Says::Refused, WORKS]);
    w.lists(&[Says::NoMoney { stated: false }, WORKS]);
    assert!(w.health().is_empty(), "{:?}", w.health());
    w.checks(&[Says::Refused, WORKS]);
    assert!(w.benched(0).is_some());
}

#[test]
fn an_account_that_is_out_by_a_list_is_tried_by_a_request() {
    let mut w = World::new(fleet(2, &[]));
    let broke = [Says::NoMoney { stated: false }, WORKS];
    w.lists(&broke);
    assert_eq!(w.health().len(), 1);
    w.pass(55.0);
    w.lists(&broke);
    w.pass(15.0);
    let lease = w.go();
    assert!(lease.probe && lease.key == KeyId(0), "{lease:?}");
    w.ok(lease);
    assert!(w.health().is_empty(), "{:?}", w.health());
}

#[test]
fn a_key_that_was_answered_meanwhile_is_not_refused() {
    let mut w = World::new(fleet(1, &[]));
    let sent = w.ns;
    w.pass(0.1);
    let lease = w.go();
    w.pass(0.1);
    w.ok(lease);
    w.checks_sent(sent, &[Says::Capped { for_ns: None }]);
    assert!(w.health().is_empty(), "{:?}", w.health());
    w.pass(0.1);
    w.checks(&[Says::Capped { for_ns: None }]);
    assert!(w.benched(0).is_some(), "asked later, it is news");
}

#[test]
fn a_cap_that_is_used_up_shuts_its_key_until_the_reset_and_no_other() {
    let mut w = World::new(four_keys());
    let six_hours = Some(6 * 60 * MINUTE);
    w.checks(&[WORKS, WORKS, Says::Capped { for_ns: six_hours }, WORKS]);
    let until = w.ns + 360 * MINUTE;
    assert_eq!((w.benched(2), w.benched(3)), (Some(until), None), "the account goes on");
    // As long as checks say the same, no request is wasted on finding out.
    for round in 1..=20 {
        w.pass(290.0);
        let left = until - w.ns;
        assert_eq!(w.due(20), [2], "round {round}");
        w.checks(&[WORKS, WORKS, Says::Capped { for_ns: Some(left) }, WORKS]);
        for _ in 0..8 {
            let lease = w.go();
            assert!(lease.key != KeyId(2) && !lease.probe);
            w.ok(lease);
        }
    }
    assert_eq!(w.events().iter().filter(|e| matches!(e, What::KeyBenched { .. })).count(), 1, "told once");
    // Somebody raised it.
    w.checks(&[WORKS, WORKS, WORKS, WORKS]);
    assert_eq!(w.benched(2), None);
}

#[test]
fn an_account_without_money_is_out_and_comes_back_only_when_money_is_told_of() {
    let account = |w: &World| w.policy.view(w.now()).providers[0].accounts[2].benched.is_some();
    let mut w = World::new(four_keys());
    w.checks(&[WORKS, WORKS, Says::NoMoney { stated: false }, Says::Nothing]);
    assert!(account(&w), "the other accounts are witnesses");
    assert!(matches!(w.events(), [What::AccountBenched { account: AccountId(2), why: Class::Account, .. }]));
    for _ in 0..20 {
        let lease = w.go();
        assert!(lease.key.0 < 2);
        w.ok(lease);
    }
    w.checks(&[WORKS, WORKS, WORKS, WORKS]);
    assert!(account(&w), "that a key is known says nothing of money");
    w.checks(&[Says::Nothing, Says::Nothing, Says::Works { money: true }]);
    assert!(!account(&w));
    assert_eq!(w.events(), [What::AccountRestored { account: AccountId(2) }]);
    let mut alone = World::new(fleet(1, &[]));
    alone.checks(&[Says::NoMoney { stated: true }]);
    assert_eq!(alone.health().len(), 1, "what is stated as a fact needs no witness");
}

#[test]
fn free_models_that_are_used_up_are_shut_until_midnight_and_others_are_not() {
    let mut fleet = fleet(1, &[]);
    let free = Member { model: "m:free".into(), ..fleet.routes[0].tiers[0][0].clone() };
    fleet.routes.push(route(1, &[]));
    fleet.routes[1].tiers = vec![vec![free]];
    let mut w = World::new(fleet);
    let says = |free_models_out_ns| Found { free_models_out_ns, ..round(0, &[WORKS])[0] };
    w.policy.checked(w.now(), &[says(Some(DAY / 2))]);
    assert!(matches!(w.events(), [What::QuotaShut { account: AccountId(0), model: None, .. }]));
    let lease = w.go();
    w.ok(lease);
    let ask = crate::Ask { to: crate::Destination::Route(RouteId(1)), ..w.ask(0.0) };
    assert!(matches!(w.submit(ask), Decision::Refuse(_)));
    w.policy.checked(w.now(), &[says(Some(DAY / 2))]);
    assert!(w.events().is_empty(), "told once");
}

#[test]
fn keys_that_are_gone_or_switched_off_are_left_alone() {
    let mut w = World::new(fleet(2, &[]));
    w.checks(&[Says::Refused, WORKS]);
    let mut without = fleet(2, &[]);
    without.keys.remove(0);
    w.policy.reconfigure(w.now(), without);
    w.pass(60.0);
    assert_eq!(w.due(3600), []);
    w.checks(&[WORKS, WORKS, Says::Refused]);
    let mut off = fleet(2, &[]);
    off.keys[0].enabled = false;
    off.keys[1].models = ModelSet::default();
    w.policy.reconfigure(w.now(), off);
    assert_eq!(w.due(3600), [], "nobody will probe it");
}
