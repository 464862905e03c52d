//! First contact: accounts of whose limits nothing is known.

use super::harness::*;
use crate::fleet::{AccountId, Dimension, Fleet};
use crate::outcome::{LimitScope, Measurement};
use crate::time::MS;
use crate::{Decision, Lease};

/// All that go at once of so many that would wait.
fn flood(w: &mut World, n: usize) -> Vec<Lease> {
    let asks = (0..n).filter_map(|_| {
        let ask = w.ask(60.0);
        match w.submit(ask) {
            Decision::Go(lease) => Some(lease),
            _ => None,
        }
    });
    asks.collect()
}

#[test]
fn a_flood_goes_step_by_step_until_an_answer_tells_the_limits() {
    let mut w = World::new(fleet(1, &[]));
    let mut out = flood(&mut w, 100);
    assert_eq!(out.len(), 8);
    w.pass(0.25);
    assert_eq!(w.poll().len(), 8, "nobody answered yet");
    w.pass(0.01);
    // An answer that was sent beside seven others shows that sixteen may go.
    let last = out.pop().unwrap();
    w.policy.first_output(w.now(), &last);
    assert_eq!(w.poll().len(), 0, "as many are out already");
    let says = Measurement {
        dimension: Dimension::Requests,
        daily: false,
        account_wide: false,
        limit: Some(600.0),
        remaining: Some(580.0),
        rounding: 1.0,
        reset_ns: None,
        reset_means_full: true,
    };
    w.policy.head(w.now(), &last, &[says]);
    assert_eq!(w.poll().len(), 84, "now it is known");
}

#[test]
fn answers_open_it_by_round_trips_and_a_refusal_ends_it() {
    let mut w = World::new(fleet(1, &[]));
    let out = flood(&mut w, 100);
    w.pass(0.05);
    for lease in out {
        w.ok(lease);
    }
    let mut out: Vec<Lease> = w.poll().into_iter().map(|woken| let_out(vec![woken])).collect();
    assert_eq!(out.len(), 16);
    w.pass(0.05);
    w.fail(out.pop().unwrap(), limited(LimitScope::Account, Some(30.0)));
    assert!(w.poll().is_empty());
    w.ns += 500 * MS;
    assert!(w.poll().is_empty(), "it is known when to come back");
}

#[test]
fn where_limits_are_declared_or_nobody_can_wait_nothing_is_held_back() {
    let mut w = World::new(fleet(1, &[rpm(60.0)]));
    assert_eq!(flood(&mut w, 100).len(), 59);
    let mut w = World::new(fleet(1, &[]));
    let leases: Vec<Lease> = (0..100).map(|_| w.go_now()).collect();
    assert_eq!(leases.len(), 100);
}

#[test]
fn first_contact_sends_nobody_to_a_worse_tier() {
    let mut f = Fleet { providers: vec![provider(0), provider(1)], ..Fleet::default() };
    add_account(&mut f, 0, 1, vec![]);
    add_account(&mut f, 1, 1, vec![]);
    f.routes.push(route(0, &[&[0], &[1]]));
    let mut w = World::new(f);
    let out = flood(&mut w, 100);
    assert!(out.len() == 8 && out.iter().all(|lease| lease.account == AccountId(0)));
    let told = w.policy.view(w.now());
    assert_eq!(told.providers[1].accounts[0].in_flight, 0);
}
