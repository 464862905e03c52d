//! A key with another secret is another key: nothing that was held against the one of before holds against it.

use super::harness::*;
use crate::checks::{Found, Says};
use crate::event::What;
use crate::fleet::{Fleet, KeyId};
use crate::outcome::Sign;

/// Two keys; the first has this secret.
fn two(secret: u64) -> Fleet {
    let mut two = fleet(2, &[]);
    two.keys[0].secret = secret;
    two
}

impl World {
    /// One request that goes to the first key.
    fn first_goes(&mut self) -> crate::Lease {
        for _ in 0..20 {
            let lease = self.go();
            if lease.key == KeyId(0) {
                return lease;
            }
            self.ok(lease);
            self.pass(1.0);
        }
        panic!("the first key gets nothing");
    }

    fn refused_by_first(&mut self, sign: Sign, status: u16) {
        let lease = self.first_goes();
        let lease = again(self.fail(lease, evidence(sign, Some(status))));
        self.ok(lease);
        self.pass(1.0);
    }

    fn takes(&mut self, fleet: Fleet) -> Vec<What> {
        self.events();
        self.policy.reconfigure(self.now(), fleet);
        self.pass(1.0);
        self.events().iter().filter(|what| **what != What::Reconfigured).cloned().collect()
    }
}

#[test]
fn a_new_secret_lifts_what_was_held_against_the_key_and_the_same_one_does_not() {
    for (sign, status) in [(Sign::KeyRefused, 401), (Sign::KeyForbidden, 403)] {
        let mut w = World::new(two(1));
        w.refused_by_first(sign, status);
        assert_eq!(w.health().len(), 1);
        assert!(w.takes(two(1)).is_empty());
        assert_eq!(w.health().len(), 1, "{sign:?}: it is the same key");
        assert_eq!(w.takes(two(2)), [What::KeyRestored { key: KeyId(0) }]);
        assert!(w.health().is_empty(), "{:?}", w.health());
        let lease = w.first_goes();
        assert!(!lease.probe, "it is used like any other");
        w.ok(lease);
    }
}

#[test]
fn so_does_one_that_came_while_it_was_switched_off() {
    let mut w = World::new(two(1));
    w.refused_by_first(Sign::KeyRefused, 401);
    let mut off = two(1);
    off.keys[0].enabled = false;
    w.takes(off.clone());
    off.keys[0].secret = 2;
    assert!(w.takes(off).is_empty(), "a key that is switched off is not back");
    w.takes(two(2));
    assert!(w.health().is_empty(), "{:?}", w.health());
    let lease = w.first_goes();
    w.ok(lease);
}

#[test]
fn what_was_sent_with_the_secret_of_before_says_nothing_of_the_new_one() {
    for (sign, status) in [(Sign::KeyRefused, 401), (Sign::KeyForbidden, 403)] {
        let mut w = World::new(two(1));
        let late = w.first_goes();
        let asked = Found {
            key: KeyId(0),
            sent_mono_ns: w.ns,
            says: Says::Refused,
            free_models_out_ns: None,
            by_list: false,
        };
        let other = Found { key: KeyId(1), says: Says::Works { money: false }, ..asked };
        w.pass(1.0);
        w.takes(two(2));
        let next = again(w.fail(late, evidence(sign, Some(status))));
        w.ok(next);
        w.policy.checked(w.now(), &[asked, other]);
        assert!(w.health().is_empty(), "{sign:?}: {:?}", w.health());
        // What is sent from now on does.
        w.policy.checked(w.now(), &[Found { sent_mono_ns: w.ns, ..asked }, other]);
        assert_eq!(w.health().len(), 1);
    }
}
