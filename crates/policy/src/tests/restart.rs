//! A restart: what the next process knows of limits.

use super::harness::*;
use crate::fleet::{Dimension, LimitSpec, ModelSet, Shape};
use crate::outcome::{LimitScope, Measurement};
use crate::time::{MINUTE, SECOND};
use crate::{Decision, saved::Saved};

/// The next process, so many seconds later, with a monotonic clock of its own.
fn restarted(w: &World, fleet: crate::fleet::Fleet, seconds: f64) -> (World, Saved) {
    let saved = w.policy.save(w.now());
    let mut next = World::seeded(fleet, 2);
    next.ns = w.ns;
    next.pass(seconds);
    let now = next.now();
    next.policy.resume(now, &saved);
    (next, saved)
}

fn burst(w: &mut World) -> usize {
    let goes = |w: &mut World| {
        let ask = w.ask(0.0);
        matches!(w.submit(ask), Decision::Go(_))
    };
    (0..10_000).take_while(|_| goes(w)).count()
}

#[test]
fn a_bucket_comes_back_with_what_was_left_and_what_refilled() {
    let f = fleet(1, &[bucket(Dimension::Requests, 20.0, 1.0)]);
    let mut w = World::new(f.clone());
    assert!(burst(&mut w) >= 19);
    let (mut next, _) = restarted(&w, f, 5.0);
    let level = next.levels()[0];
    assert!((4.0..=6.1).contains(&level), "not whole, not empty: {level}");
    assert!((4..=6).contains(&burst(&mut next)));
}

#[test]
fn a_window_comes_back_with_its_end() {
    let window = LimitSpec {
        dimension: Dimension::Requests,
        shape: Shape::Window { limit: 7.0, period_ns: MINUTE, anchor_unix_ns: None },
        models: ModelSet::default(),
        preset: false,
    };
    let f = fleet(1, &[window]);
    let mut w = World::new(f.clone());
    assert_eq!(burst(&mut w), 7);
    let (mut next, _) = restarted(&w, f.clone(), 20.0);
    let after = next.refused(0.0).retry_after_ns.unwrap();
    assert!((39 * SECOND..=42 * SECOND).contains(&after), "{after}");
    let (mut much_later, _) = restarted(&w, f, 100.0);
    assert_eq!(burst(&mut much_later), 7, "that window is over");
}

#[test]
fn what_was_learned_is_not_learned_again() {
    let f = fleet(1, &[]);
    let mut w = World::new(f.clone());
    let lease = w.go();
    let says = Measurement {
        dimension: Dimension::Requests,
        daily: false,
        account_wide: false,
        limit: Some(60.0),
        remaining: Some(3.0),
        rounding: 1.0,
        reset_ns: None,
        reset_means_full: true,
    };
    w.policy.head(w.now(), &lease, &[says]);
    w.ok(lease);
    let (mut next, _) = restarted(&w, f.clone(), 1.0);
    assert!(burst(&mut next) <= 4, "three were left, and one came back");
    // A refusal's time stands, too.
    let mut w = World::new(f.clone());
    let ask = w.ask(0.0);
    let Decision::Go(lease) = w.submit(ask) else { panic!() };
    w.fail(lease, limited(LimitScope::AccountModel, Some(30.0)));
    let (mut next, saved) = restarted(&w, f, 10.0);
    let after = next.refused(0.0).retry_after_ns.unwrap();
    assert!((19 * SECOND..=21 * SECOND).contains(&after), "{after}");
    assert_eq!(next.policy.save(next.now()).accounts.len(), saved.accounts.len(), "and is saved again");
}

#[test]
fn names_that_are_gone_and_numbers_without_sense_are_left_alone() {
    let f = fleet(1, &[bucket(Dimension::Requests, 20.0, 1.0)]);
    let mut w = World::new(f.clone());
    assert!(burst(&mut w) >= 19);
    let mut saved = w.policy.save(w.now());
    saved.accounts.push(crate::saved::SavedAccount { account: "nobody".into(), ..saved.accounts[0].clone() });
    let bad = crate::saved::SavedMeter::Bucket { capacity: f64::NAN, rate: -1.0, level: 1e300 };
    saved.accounts[0].limits[0].meter = bad;
    let mut next = World::new(f);
    let now = next.now();
    next.policy.resume(now, &saved);
    assert!(burst(&mut next) >= 19);
}

#[test]
fn of_a_window_that_slides_each_part_comes_back_in_its_time() {
    let window = |limit, seconds| LimitSpec {
        dimension: Dimension::Requests,
        shape: Shape::Window { limit, period_ns: seconds * SECOND, anchor_unix_ns: None },
        models: ModelSet::default(),
        preset: false,
    };
    // Beside a larger one of the same dimension: neither takes the other's levels.
    let f = fleet(1, &[window(1_000.0, 3_600), window(60.0, 60)]);
    let mut w = World::new(f.clone());
    for _ in 0..60 {
        let lease = w.go();
        w.ok(lease);
        w.pass(0.5);
    }
    let (mut next, saved) = restarted(&w, f, 0.0);
    assert!(saved.accounts[0].limits.len() <= 2 * 32, "{}", saved.accounts[0].limits.len());
    assert_eq!(burst(&mut next), 0);
    assert!((next.levels()[0] - 940.0).abs() < 1e-6, "{:?}", next.levels());
    next.pass(45.3);
    let came_back = burst(&mut next);
    assert!((26..=30).contains(&came_back), "of what was sent in the first half: {came_back}");
}
