//! Who is out: everybody, however many there are.

use super::harness::*;
use crate::checks::{Found, Says};
use crate::fleet::{AccountId, Dimension, Fleet, KeyId, ProviderId};
use crate::lease::Why;
use crate::outcome::Sign;
use crate::troubles::{Tally, Troubles};

/// More than the view shows.
const MANY: u32 = 1_500;

/// Two providers, one after the other: so many accounts of one key each, and one account of two.
fn large() -> Fleet {
    let mut large = fleet(MANY, &[]);
    large.providers.push(provider(1));
    add_account(&mut large, 1, 2, Vec::new());
    large.routes = vec![route(0, &[&[0], &[1]])];
    large
}

impl World {
    fn troubles(&self) -> Troubles {
        self.policy.troubles(self.now())
    }

    /// A round of checks of the first provider's keys: the last one is taken, the others are refused.
    fn checked(&mut self) {
        let found = |key| Found {
            key: KeyId(key),
            sent_mono_ns: self.ns,
            says: if key < MANY - 1 { Says::Refused } else { Says::Works { money: false } },
            free_models_out_ns: None,
            by_list: false,
        };
        let round: Vec<Found> = (0..MANY).map(found).collect();
        self.policy.checked(self.now(), &round);
    }
}

#[test]
fn nobody_is_left_out_however_many_there_are() {
    let mut w = World::new(large());
    assert_eq!(w.troubles(), Troubles::default(), "all is well");
    w.checked();
    let troubles = w.troubles();
    assert_eq!(troubles.keys.len(), MANY as usize - 1);
    assert_eq!((troubles.keys[0], troubles.keys[1_200]), (KeyId(0), KeyId(1_200)));
    assert!(troubles.without_key.is_empty(), "the last one still serves");
    // It loses its money: no key is left there.
    let last = w.go();
    assert_eq!(last.key, KeyId(MANY - 1));
    let next = again(w.fail(last, evidence(Sign::NoMoney, Some(402))));
    w.ok(next);
    let troubles = w.troubles();
    assert_eq!(troubles.without_key, [ProviderId(0)]);
    assert_eq!(troubles.accounts, [AccountId(MANY - 1)]);
    assert_eq!(troubles.keys.len(), MANY as usize - 1);
    let tally = Tally { keys: MANY as usize, out: MANY as usize };
    assert_eq!(
        w.policy.view(w.now()).providers.iter().map(|p| p.tally).collect::<Vec<_>>(),
        [tally, Tally { keys: 2, out: 0 }]
    );
    w.policy.restore(w.now(), KeyId(1_100));
    assert!(w.troubles().without_key.is_empty());
}

#[test]
fn keys_that_are_switched_off_count_for_nothing() {
    let mut off = large();
    off.keys.iter_mut().take(MANY as usize - 1).for_each(|key| key.enabled = false);
    let mut w = World::new(off);
    let lease = w.go();
    let next = again(w.fail(lease, evidence(Sign::KeyRefused, Some(401))));
    w.ok(next);
    let troubles = w.troubles();
    assert_eq!((troubles.keys, troubles.without_key), (vec![KeyId(MANY - 1)], vec![ProviderId(0)]));
    let mut all_off = large();
    all_off.keys.iter_mut().take(MANY as usize).for_each(|key| key.enabled = false);
    w.policy.reconfigure(w.now(), all_off);
    assert_eq!(
        w.troubles(),
        Troubles::default(),
        "that there is none to use was said by who switched them off"
    );
}

#[test]
fn a_model_that_a_key_may_not_use_and_one_that_fails_are_troubles_of_that_key() {
    let mut w = World::new(fleet(2, &[]));
    let lease = w.go();
    let benched = lease.key;
    let next = again(w.fail(lease, evidence(Sign::KeyForbidden, Some(403))));
    w.ok(next);
    assert_eq!(w.troubles(), Troubles { keys: vec![benched], ..Troubles::default() });
    let mut one = fleet(1, &[]);
    one.settings.breaker.failures_min = u32::MAX;
    one.settings.breaker.consecutive = 3;
    one.settings.retry.rounds_max = 1;
    let mut w = World::new(one.clone());
    for _ in 0..3 {
        let lease = w.go();
        w.pass(1.0);
        w.fail(lease, evidence(Sign::ServerError, Some(500)));
    }
    assert_eq!(w.troubles(), Troubles { models: vec![(KeyId(0), MODEL.into())], ..Troubles::default() });
    one.keys[0].enabled = false;
    w.policy.reconfigure(w.now(), one);
    assert_eq!(w.troubles(), Troubles::default(), "nobody asks it any more");
}

#[test]
fn a_provider_that_fails_with_every_key_is_one_trouble() {
    let mut w = World::new(fleet(5, &[]));
    let forbidden = || evidence(Sign::KeyForbidden, Some(403));
    let (first, second) = (w.go(), w.go());
    let lease = again(w.fail(first, forbidden()));
    let lease = again(w.fail(lease, forbidden()));
    w.fail(second, forbidden());
    w.fail(lease, forbidden());
    assert_eq!(w.troubles(), Troubles { providers: vec![ProviderId(0)], ..Troubles::default() });
}

#[test]
fn the_view_tells_what_the_first_of_each_line_wait_for() {
    let waits = |w: &World| w.policy.view(w.now()).waits;
    let mut w = World::new(fleet(1, &[rpm(1.0)]));
    let lease = w.go();
    assert_eq!(waits(&w), []);
    w.wait(1_000.0);
    w.wait(1_000.0);
    assert_eq!(waits(&w), [Why::Limit(Dimension::Requests)], "one line, however long");
    w.ok(lease);
    let mut w = World::new(fleet(1, &[]));
    let lease = w.go();
    w.fail(lease, evidence(Sign::KeyRefused, Some(401)));
    w.wait(1_000.0);
    assert!(!waits(&w).is_empty() && waits(&w).iter().all(|why| *why == Why::Benched), "{:?}", waits(&w));
}
