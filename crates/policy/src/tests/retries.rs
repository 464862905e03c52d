//! Trying again: what, where, how often.

use super::harness::*;
use crate::blame::Class;
use crate::event::What;
use crate::fleet::{AccountId, Fleet, ProviderId};
use crate::outcome::{End, Evidence, LimitScope, Phase, Sign};
use crate::refusal::RefusalKind;
use crate::time::{MS, SECOND};
use crate::{Decision, Lease, Next, Outcome};
use std::collections::HashSet;

fn crash() -> Evidence {
    evidence(Sign::ServerError, Some(500))
}

#[test]
fn nothing_is_tried_again_once_the_client_has_a_byte() {
    let mut w = World::new(fleet(3, &[]));
    let lease = w.go();
    let cut = Evidence { phase: Phase::Stream, ..evidence(Sign::Truncated, Some(200)) };
    let next = w.policy.finish(w.now(), lease, Outcome { committed: true, ..outcome(End::Failed(cut)) });
    assert!(matches!(next, Next::Done(s) if s.blame == Some(Class::Target)));
}

#[test]
fn each_target_once_a_round_then_a_pause_then_the_answer_itself() {
    let mut f = fleet(0, &[]);
    add_account(&mut f, 0, 3, vec![]);
    f.settings.breaker.failures_min = 100;
    f.settings.breaker.consecutive = 0;
    let mut w = World::new(f);
    let ways = [Sign::ServerError, Sign::FirstByteTimeout, Sign::Reset];
    let mut lease = w.go();
    let mut rounds = Vec::new();
    for _ in 0..2 {
        let mut keys = HashSet::new();
        for (i, sign) in ways.into_iter().enumerate() {
            keys.insert(lease.key);
            let next = w.fail(lease, evidence(sign, Some(502)));
            match next {
                Next::Go(next) => lease = next,
                Next::Wait { forecast_mono_ns, .. } => {
                    assert_eq!(i, 2);
                    let pause = forecast_mono_ns - w.ns;
                    assert!(pause > SECOND / 5 && pause < SECOND / 2, "{pause}");
                    lease = let_out(w.until_woken());
                }
                Next::Done(settled) => {
                    assert_eq!(settled.blame, Some(Class::Target), "the client gets the last answer");
                    rounds.push(keys.len());
                    assert_eq!(rounds, [3, 3]);
                    w.conserved();
                    return;
                }
                Next::Refuse(r) => panic!("{r:?}"),
            }
        }
        rounds.push(keys.len());
    }
    panic!("never ended");
}

#[test]
fn without_an_answer_to_relay_the_refusal_says_whose_fault_it_was() {
    let mut f = fleet(1, &[]);
    f.settings.retry.rounds_max = 1;
    let mut w = World::new(f);
    let lease = w.go();
    let next = w.fail(lease, Evidence { phase: Phase::Connect, ..evidence(Sign::ConnectFailed, None) });
    assert!(
        matches!(&next, Next::Refuse(r) if matches!(&r.kind, RefusalKind::Exhausted { last: Class::Target, sign: Sign::ConnectFailed, provider: Some(p) } if &**p == "p0")),
        "{next:?}"
    );
}

#[test]
fn a_stale_connection_is_tried_once_more_on_the_same_key_for_free() {
    let mut w = World::new(fleet(3, &[]));
    let stale = || Evidence { phase: Phase::Send, ..evidence(Sign::Reset, None) };
    let lease = w.go();
    let key = lease.key;
    let before = w.health();
    let lease = again(w.fail(lease, stale()));
    assert_eq!((lease.key, lease.attempt), (key, 2));
    assert_eq!(w.health(), before, "no failure is counted");
    let lease = again(w.fail(lease, stale()));
    assert_ne!(lease.key, key, "the second is a failure like any other");
    assert_ne!(w.health(), before);
    w.ok(lease);
    // An answer that has begun is not a stale connection.
    let lease = w.go();
    let key = lease.key;
    let lease = again(w.fail(lease, Evidence { phase: Phase::Hold, ..evidence(Sign::Reset, Some(200)) }));
    assert_ne!(lease.key, key);
}

#[test]
fn all_keys_of_a_provider_down_fails_over_to_the_next_tier() {
    let mut f = fleet(3, &[]);
    f.providers.push(provider(1));
    add_account(&mut f, 1, 1, vec![]);
    f.routes = vec![route(0, &[&[0], &[1]])];
    let mut w = World::new(f);
    let down = || Evidence { phase: Phase::Connect, ..evidence(Sign::ConnectFailed, None) };
    let mut lease = w.go();
    let mut attempts = 1;
    while lease.provider == ProviderId(0) {
        lease = again(w.fail(lease, down()));
        attempts += 1;
    }
    assert!(attempts <= 3, "{attempts}");
    w.ok(lease);
    assert!(w.events().iter().any(|e| matches!(e, What::ProviderOpened { .. })));
    // While it is down nobody is sent there, but for the probes.
    for _ in 0..20 {
        let lease = w.go();
        assert_eq!(lease.provider, ProviderId(1));
        w.ok(lease);
    }
    w.pass(6.0);
    let probe = w.go();
    assert!(probe.probe && probe.provider == ProviderId(0));
    let next = again(w.fail(probe, down()));
    assert_eq!(next.provider, ProviderId(1), "within one attempt");
    w.ok(next);
    w.pass(13.0);
    let probe = w.go();
    assert_eq!(probe.provider, ProviderId(0));
    w.ok(probe);
    assert!(w.events().iter().any(|e| matches!(e, What::ProviderClosed { .. })));
    let lease = w.go();
    assert_eq!(lease.provider, ProviderId(0), "and back");
}

#[test]
fn without_capacity_the_other_keys_are_not_burnt() {
    let mut f = fleet(5, &[]);
    f.providers.push(provider(1));
    add_account(&mut f, 1, 1, vec![]);
    f.routes = vec![route(0, &[&[0], &[1]])];
    let mut w = World::new(f);
    let lease = w.go();
    let next = again(w.fail(lease, evidence(Sign::Overloaded, Some(529))));
    assert_eq!((next.provider, next.attempt), (ProviderId(1), 2));
    w.ok(next);
    let lease = w.go();
    assert_eq!(lease.provider, ProviderId(1));
    w.ok(lease);
    w.pass(2.0);
    let probe = w.go();
    assert!(probe.probe && probe.provider == ProviderId(0));
    let other = w.go();
    assert_eq!(other.provider, ProviderId(1), "one probe");
    w.policy.first_output(w.now(), &probe);
    let lease = w.go();
    assert_eq!(lease.provider, ProviderId(0), "its first output proves capacity");
    w.ok(probe);
}

#[test]
fn the_only_keys_own_401_is_never_shown_to_the_client() {
    let mut w = World::new(fleet(1, &[]));
    let lease = w.go();
    let Next::Refuse(refusal) = w.fail(lease, evidence(Sign::KeyRefused, Some(401))) else { panic!() };
    let RefusalKind::AllOut { out } = &refusal.kind else { panic!("{refusal:?}") };
    let [one] = &out[..] else { panic!("{out:?}") };
    assert_eq!((&*one.provider, &*one.account, &*one.key, one.why), ("p0", "a0", "k0", Class::Key));
    assert_eq!(one.after_ns, refusal.retry_after_ns);
    let after = refusal.retry_after_ns.unwrap();
    assert!(after > 50 * SECOND && after < 70 * SECOND, "when it is probed: {after}");
}

#[test]
fn a_relayed_401_does_not_bench_the_key() {
    let mut w = World::new(fleet(2, &[]));
    let lease = w.go();
    let next = again(w.fail(lease, Evidence { relayed: true, ..evidence(Sign::KeyRefused, Some(401)) }));
    w.ok(next);
    assert!(!w.events().iter().any(|e| matches!(e, What::KeyBenched { .. })));
}

#[test]
fn a_key_that_may_not_use_a_model_may_use_the_others() {
    let mut f = fleet(1, &[]);
    let mut other = route(1, &[&[0]]);
    other.tiers[0][0].model = "other".into();
    f.routes.push(other);
    let mut w = World::new(f);
    let lease = w.go();
    w.fail(lease, evidence(Sign::KeyForbidden, Some(403)));
    w.refused(0.0);
    let ask = crate::Ask { to: crate::Destination::Route(crate::fleet::RouteId(1)), ..w.ask(0.0) };
    assert!(matches!(w.submit(ask), Decision::Go(_)));
}

#[test]
fn a_model_that_one_account_lacks_is_looked_for_in_others_then_relayed() {
    let mut f = Fleet { providers: vec![provider(0)], ..Fleet::default() };
    add_account(&mut f, 0, 2, vec![]);
    add_account(&mut f, 0, 1, vec![]);
    f.routes.push(route(0, &[&[0]]));
    let mut w = World::new(f);
    let before = w.health();
    let lease = w.go();
    let first = lease.account;
    let lease = again(w.fail(lease, evidence(Sign::ModelUnknown, Some(404))));
    assert_ne!(lease.account, first);
    assert!(
        matches!(w.fail(lease, evidence(Sign::ModelUnknown, Some(404))), Next::Done(s) if s.blame == Some(Class::Request))
    );
    assert_eq!(w.health(), before);
    // Among a thousand accounts a typing error is not asked of each.
    let mut w = World::new(fleet(1_000, &[]));
    let mut lease = w.go();
    let mut asked = 1;
    while let Next::Go(next) = w.fail(lease, evidence(Sign::ModelUnknown, Some(404))) {
        (lease, asked) = (next, asked + 1);
    }
    assert_eq!(asked, 4);
}

#[test]
fn a_price_that_nobody_behind_a_provider_serves_for_is_asked_of_one_account_and_of_others() {
    let mut f = Fleet { providers: vec![provider(0), provider(1)], ..Fleet::default() };
    for _ in 0..3 {
        add_account(&mut f, 0, 1, vec![]);
    }
    add_account(&mut f, 1, 1, vec![]);
    f.routes.push(route(0, &[&[0], &[1]]));
    let mut w = World::new(f);
    let before = w.health();
    let lease = w.go();
    assert_eq!(lease.provider, crate::fleet::ProviderId(0));
    let lease = again(w.fail(lease, evidence(Sign::TooDear, Some(404))));
    assert_eq!(lease.provider, crate::fleet::ProviderId(1));
    assert!(
        matches!(w.fail(lease, evidence(Sign::TooDear, Some(404))), Next::Done(s) if s.blame == Some(Class::Request))
    );
    assert_eq!(w.health(), before);
}

#[test]
fn a_poisonous_request_takes_no_key_down() {
    let mut w = World::new(fleet(4, &[]));
    for round in 0..30 {
        // Healthy traffic all the while.
        let healthy: Vec<_> = (0..8).map(|_| w.go()).collect();
        let ask = w.ask(0.0);
        let Decision::Go(mut lease) = w.submit(ask) else { panic!("a key is out in round {round}") };
        w.pass(0.3);
        for l in healthy {
            w.ok(l);
        }
        let mut attempts = 1;
        while let Next::Go(next) = w.fail(lease, crash()) {
            (lease, attempts) = (next, attempts + 1);
            w.pass(0.3);
            let others: Vec<_> = (0..8).map(|_| w.go()).collect();
            w.pass(0.1);
            for l in others {
                w.ok(l);
            }
        }
        assert!(attempts <= 2, "{attempts} targets crashed in round {round}");
        w.pass(1.0);
    }
    let events = w.events();
    assert!(
        !events.iter().any(|e| matches!(e, What::BreakerOpened { .. } | What::ProviderOpened { .. })),
        "{events:?}"
    );
}

#[test]
fn a_broken_key_is_found_out_and_nobody_sees_it() {
    let mut w = World::new(fleet(3, &[]));
    let mut wasted = 0;
    for _ in 0..200 {
        let mut lease = w.go();
        w.pass(0.2);
        while lease.key.0 == 1 {
            wasted += 1;
            lease = again(w.fail(lease, crash()));
        }
        w.ok(lease);
    }
    // Forty seconds: until it is out, and what looks whether it is back.
    assert!((1..=3 + 4).contains(&wasted), "{wasted}");
}

#[test]
fn the_retry_budget_bounds_what_failures_add_and_nothing_is_lost() {
    let mut f = Fleet { providers: vec![provider(0), provider(1)], ..Fleet::default() };
    add_account(&mut f, 0, 1, vec![rpm(1e6)]);
    add_account(&mut f, 1, 1, vec![rpm(1e6)]);
    f.routes.push(route(0, &[&[0], &[1]]));
    f.settings.breaker.failures_min = u32::MAX;
    f.settings.breaker.consecutive = 0;
    let mut w = World::new(f);
    let leases: Vec<_> = (0..100).map(|_| w.go()).collect();
    let (mut at_once, mut later) = (0, 0);
    for lease in leases {
        assert_eq!(lease.account, AccountId(0));
        match w.fail(lease, crash()) {
            Next::Go(next) => {
                at_once += 1;
                w.ok(next);
            }
            Next::Wait { .. } => later += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(at_once, 20, "a fifth, the floor of ten a second included");
    assert_eq!(later, 80);
    assert!(w.events().iter().any(|e| matches!(e, What::RetryBudgetSpent)));
    let (mut answered, start) = (0, w.ns);
    while answered < 80 {
        for woken in w.until_woken() {
            let Decision::Go(lease) = woken.decision else {
                panic!("lost after {} s", (w.ns - start) / SECOND)
            };
            answered += 1;
            w.ok(lease);
        }
    }
    assert!(w.ns - start >= 6 * SECOND);
    w.conserved();
}

#[test]
fn quota_refusals_and_benches_do_not_draw_on_the_retry_budget() {
    let mut w = World::new(fleet(100, &[]));
    for _ in 0..90 {
        let lease = w.go();
        let next = again(w.fail(lease, limited(crate::outcome::LimitScope::Account, Some(100.0))));
        w.ok(next);
    }
    assert!(!w.events().iter().any(|e| matches!(e, What::RetryBudgetSpent)));
}

#[test]
fn no_request_is_tried_more_often_than_allowed() {
    let mut f = fleet(100, &[]);
    f.settings.retry.attempts_max = 5;
    let mut w = World::new(f);
    let mut lease = w.go();
    let mut attempts = 1;
    while let Next::Go(next) = w.fail(lease, evidence(Sign::KeyCap, Some(403))) {
        (lease, attempts) = (next, attempts + 1);
    }
    assert_eq!(attempts, 5);
}

#[test]
fn refusals_by_limits_use_up_no_attempts() {
    let mut f = fleet(1, &[]);
    f.settings.retry.attempts_max = 2;
    let mut w = World::new(f);
    let ask = w.ask(100.0);
    let Decision::Go(mut lease) = w.submit(ask) else { panic!() };
    for refusals in 0..8 {
        let next = w.fail(lease, limited(LimitScope::Account, Some(1.0)));
        assert!(matches!(next, Next::Wait { .. }), "{refusals}: {next:?}");
        lease = let_out(w.until_woken());
    }
    w.ok(lease);
}

#[test]
fn many_answers_to_what_was_sent_before_are_one_piece_of_news() {
    // Ten requests are in flight when the key is refused, or a limit without a time is hit: one cool-down, not ten
    // doublings of it.
    let mut w = World::new(fleet(1, &[]));
    let leases: Vec<Lease> = (0..10).map(|_| w.go_now()).collect();
    for lease in leases {
        w.pass(0.2);
        w.fail(lease, evidence(Sign::KeyRefused, Some(401)));
    }
    assert!(w.refused(0.0).retry_after_ns.unwrap() <= 66 * SECOND);
    let mut w = World::new(fleet(1, &[]));
    let leases: Vec<Lease> = (0..10).map(|_| w.go_now()).collect();
    let start = w.ns;
    for lease in leases {
        w.pass(0.01);
        w.fail(lease, limited(LimitScope::Account, None));
    }
    assert!(w.ns + w.refused(0.0).retry_after_ns.unwrap() - start <= 1_200 * MS);
}
