//! Classes of failures that today's gateways have, each named after the pain that it causes there
//! (numbers are those of our list of forty).

use super::harness::*;
use crate::blame::Class;
use crate::event::What;
use crate::fleet::{AccountId, Dimension, KeyId};
use crate::outcome::{End, Evidence, LimitScope, Phase, Sign};
use crate::refusal::RefusalKind;
use crate::time::{MINUTE, MS, SECOND, s_of};
use crate::{Decision, Lease, Next, Why};

fn server_error() -> Evidence {
    evidence(Sign::ServerError, Some(500))
}

/// Fails every attempt until the breakers of all keys are open.
fn break_everything(w: &mut World) {
    for _ in 0..40 {
        let ask = w.ask(0.0);
        let Decision::Go(mut lease) = w.submit(ask) else { return };
        loop {
            w.pass(0.2);
            match w.fail(lease, server_error()) {
                Next::Go(next) => lease = next,
                _ => break,
            }
        }
    }
}

#[test]
fn f01_all_keys_out_waits_for_the_first_to_return() {
    let mut w = World::new(fleet(1, &[]));
    break_everything(&mut w);
    let (_, forecast) = w.wait(20.0);
    assert!(forecast > w.ns && forecast <= w.ns + 6 * SECOND, "the end of the cool-down");
    let lease = let_out(w.until_woken());
    assert!(lease.probe && w.ns == forecast);
    w.ok(lease);
    let lease = w.go();
    assert!(!lease.probe);
    w.ok(lease);
}

#[test]
fn f02_a_refusal_names_what_is_out_and_when_it_returns() {
    let mut w = World::new(fleet(1, &[rpm(60.0)]));
    for _ in 0..60 {
        let ask = w.ask(0.0);
        if let Decision::Go(lease) = w.submit(ask) {
            w.ok(lease);
        }
    }
    let refusal = w.refused(0.0);
    let RefusalKind::QuotaExhausted { limit: Some(limit) } = refusal.kind else { panic!("{refusal:?}") };
    assert_eq!((&*limit.provider, &*limit.account, limit.dimension), ("p0", "a0", Dimension::Requests));
    assert_eq!(limit.size, Some(60.0));
}

#[test]
fn f03_an_exhausted_pool_always_says_when_and_it_is_true() {
    let mut w = World::new(fleet(2, &[rpm(6.0)]));
    for _ in 0..12 {
        let ask = w.ask(0.0);
        if let Decision::Go(lease) = w.submit(ask) {
            w.ok(lease);
        }
        w.pass(0.05);
    }
    let after = w.refused(0.0).retry_after_ns.expect("a time to come back");
    assert!(after > 9 * SECOND && after < 11 * SECOND, "{after}");
    w.ns += after - 100 * MS;
    w.refused(0.0);
    w.ns += 100 * MS;
    let lease = w.go();
    w.ok(lease);
}

#[test]
fn f04_a_refused_prompt_of_one_client_touches_no_key() {
    let mut w = World::new(fleet(1, &[]));
    let lease = w.go();
    w.ok(lease);
    let before = w.health();
    for sign in [Sign::BadRequest, Sign::ModelUnknown, Sign::TooDear, Sign::TooLargeForLimit] {
        for relayed in [false, true] {
            for _ in 0..20 {
                let lease = w.go();
                w.pass(0.2);
                let next = w.fail(lease, Evidence { relayed, ..evidence(sign, Some(400)) });
                assert!(matches!(next, Next::Done(s) if s.blame == Some(Class::Request)));
            }
        }
    }
    assert_eq!(w.health(), before);
}

#[test]
fn f05_a_clients_own_short_time_out_touches_no_key() {
    let mut w = World::new(fleet(1, &[]));
    let lease = w.go();
    w.ok(lease);
    let before = w.health();
    for sign in [Sign::ClientTimeout, Sign::ClientGone] {
        for _ in 0..20 {
            let lease = w.go();
            w.pass(0.2);
            assert!(
                matches!(w.fail(lease, evidence(sign, None)), Next::Done(s) if s.blame == Some(Class::Client))
            );
        }
    }
    let lease = w.go();
    assert!(matches!(w.finish(lease, End::Dropped), Next::Done(_)));
    assert_eq!(w.health(), before);
}

#[test]
fn f06_a_second_refusal_extends_the_cool_down_and_a_shorter_one_does_not_shorten_it() {
    let mut w = World::new(fleet(1, &[]));
    let (a, b, c) = (w.go(), w.go(), w.go());
    w.fail(a, limited(LimitScope::Account, Some(5.0)));
    w.fail(b, limited(LimitScope::Account, Some(30.0)));
    w.fail(c, limited(LimitScope::Account, Some(2.0)));
    assert_eq!(w.refused(0.0).retry_after_ns, Some(30 * SECOND));
}

#[test]
fn f07_one_failure_of_one_request_cools_nothing() {
    let mut w = World::new(fleet(1, &[]));
    let lease = w.go();
    w.fail(lease, server_error());
    assert!(w.events().is_empty());
    let lease = w.go();
    w.ok(lease);
}

#[test]
fn f08_a_relayed_error_of_the_request_stays_the_requests() {
    let mut w = World::new(fleet(2, &[]));
    let lease = w.go();
    let next = w.fail(lease, Evidence { relayed: true, ..evidence(Sign::BadRequest, Some(400)) });
    assert!(matches!(next, Next::Done(s) if s.blame == Some(Class::Request)), "not tried elsewhere");
}

#[test]
fn f09_in_flight_counts_return_to_zero_and_ties_do_not_pile_up() {
    let mut w = World::new(fleet(10, &[]));
    let mut leases: Vec<Lease> = (0..200).map(|_| w.go_now()).collect();
    let mut per_key = [0u32; 10];
    for l in &leases {
        per_key[l.key.0 as usize] += 1;
    }
    assert!(per_key.iter().all(|n| *n == 20), "{per_key:?}");
    for (i, lease) in leases.drain(..).enumerate() {
        match i % 4 {
            0 => w.ok(lease),
            1 => drop(w.fail(lease, evidence(Sign::ClientGone, None))),
            2 => drop(w.finish(lease, End::Dropped)),
            _ => drop(w.fail(lease, evidence(Sign::BadRequest, Some(400)))),
        }
    }
    let view = w.policy.view(w.now());
    assert_eq!(view.totals.in_flight, 0);
    assert!(view.providers[0].accounts.iter().all(|a| a.in_flight == 0 && a.keys[0].in_flight == 0));
    let ended = |c: crate::view::Counts| c.ok + c.failed.iter().sum::<u64>() == c.requests;
    let accounts = &view.providers[0].accounts;
    assert!(
        ended(view.providers[0].counts),
        "every attempt is in one of the counts: {:?}",
        view.providers[0].counts
    );
    assert!(accounts.iter().all(|a| ended(a.counts) && ended(a.keys[0].counts)));
    w.conserved();
}

#[test]
fn f10_retry_after_is_obeyed_before_the_next_try() {
    let mut w = World::new(fleet(1, &[]));
    let lease = w.go();
    let Next::Wait { forecast_mono_ns, .. } = w.fail(lease, limited(LimitScope::Unknown, Some(4.0))) else {
        panic!("waits")
    };
    assert_eq!(forecast_mono_ns, w.ns + 4 * SECOND);
    let start = w.ns;
    let lease = let_out(w.until_woken());
    assert_eq!((w.ns, lease.attempt, lease.waited_ns), (start + 4 * SECOND, 2, 4 * SECOND));
    w.ok(lease);
}

#[test]
fn f11_f12_a_limit_admits_exactly_what_it_says_however_many_ask_at_once() {
    let mut w = World::new(fleet(1, &[bucket(Dimension::Requests, 100.0, 0.0), slots(1_000)]));
    let admitted = (0..544).filter(|_| {
        let ask = w.ask(0.0);
        matches!(w.submit(ask), Decision::Go(_))
    });
    assert_eq!(admitted.count(), 100);
    // Tokens are reserved before anything is known of what will be used.
    let mut w = World::new(fleet(1, &[bucket(Dimension::TotalTokens, 1_000.0, 0.0)]));
    let admitted = (0..50).filter(|_| {
        let ask = w.ask(0.0);
        matches!(w.submit(ask), Decision::Go(_))
    });
    assert_eq!(admitted.count(), 5, "200 tokens each");
}

#[test]
fn f13_what_was_reserved_and_not_used_comes_back() {
    let mut w = World::new(fleet(1, &[bucket(Dimension::TotalTokens, 1_000.0, 0.0)]));
    let lease = w.go();
    assert!((w.levels()[0] - 800.0).abs() < 1e-6);
    w.ok(lease);
    assert!((w.levels()[0] - 850.0).abs() < 1e-6, "150 were used");
}

#[test]
fn f14_a_request_that_one_limit_refuses_takes_nothing_from_the_others() {
    let mut w = World::new(fleet(
        1,
        &[bucket(Dimension::Requests, 10.0, 0.0), bucket(Dimension::TotalTokens, 100.0, 0.0)],
    ));
    w.refused(5.0);
    assert_eq!(w.levels(), [10.0, 100.0]);
}

#[test]
fn f15_a_slot_comes_back_on_every_end() {
    for end in [
        End::Done,
        End::Dropped,
        End::Failed(evidence(Sign::ClientGone, None)),
        End::Failed(evidence(Sign::BadRequest, Some(400))),
        End::Failed(Evidence { phase: Phase::Stream, ..evidence(Sign::Truncated, Some(200)) }),
    ] {
        let mut w = World::new(fleet(1, &[slots(1)]));
        for _ in 0..3 {
            let lease = w.go();
            w.refused(0.0);
            let committed = crate::Outcome { committed: true, ..outcome(end.clone()) };
            w.policy.finish(w.now(), lease, committed);
        }
        assert_eq!(w.levels(), [1.0], "{end:?}");
    }
}

#[test]
fn f15_a_call_that_goes_on_at_the_provider_keeps_its_slot_until_its_expected_end() {
    let mut f = fleet(1, &[slots(1)]);
    f.providers[0].charging.runs_on_after_cancel = true;
    let mut w = World::new(f);
    let lease = w.go();
    w.fail(lease, evidence(Sign::ClientGone, None));
    assert_eq!(w.levels(), [0.0]);
    let (_, _) = w.wait(30.0);
    let lease = let_out(w.until_woken());
    assert_eq!(w.levels(), [0.0]);
    w.ok(lease);
    assert_eq!(w.levels(), [1.0]);
}

#[test]
fn f23_a_request_walks_over_all_keys_before_it_fails() {
    let mut f = fleet(0, &[]);
    add_account(&mut f, 0, 8, vec![]);
    let mut w = World::new(f);
    let mut lease = w.go();
    // Seven keys are refused; the eighth answers.
    for _ in 0..7 {
        lease = again(w.fail(lease, evidence(Sign::KeyRefused, Some(401))));
    }
    assert_eq!(lease.attempt, 8);
    w.ok(lease);
}

#[test]
fn f24_a_retry_takes_another_key_and_a_bad_key_is_remembered() {
    let mut w = World::new(fleet(2, &[]));
    let lease = w.go();
    let bad = lease.key;
    let next = again(w.fail(lease, evidence(Sign::KeyRefused, Some(401))));
    assert_ne!(next.key, bad);
    w.ok(next);
    for _ in 0..20 {
        let lease = w.go();
        assert_ne!(lease.key, bad);
        assert!(
            lease.skipped.iter().any(|s| s.key == bad && s.why == Why::Benched && s.until_mono_ns.is_some())
        );
        w.ok(lease);
    }
}

#[test]
fn f25_a_benched_key_comes_back_by_one_probe_and_not_by_more() {
    let mut w = World::new(fleet(2, &[]));
    let lease = w.go();
    let bad = lease.key;
    let next = again(w.fail(lease, evidence(Sign::KeyRefused, Some(401))));
    w.ok(next);
    w.pass(70.0);
    // One request probes it, the others go elsewhere.
    let probe = w.go();
    assert!(probe.probe && probe.key == bad);
    let other = w.go();
    assert!(!other.probe && other.key != bad);
    w.ok(other);
    // It fails: the bench doubles, and the client does not see it.
    let next = again(w.fail(probe, evidence(Sign::KeyRefused, Some(401))));
    assert_ne!(next.key, bad);
    w.ok(next);
    w.pass(90.0);
    let lease = w.go();
    assert_ne!(lease.key, bad, "two minutes this time");
    w.ok(lease);
    w.pass(50.0);
    let probe = w.go();
    assert!(probe.probe && probe.key == bad);
    w.ok(probe);
    assert!(w.events().iter().any(|e| matches!(e, What::KeyRestored { .. })));
    let keys: Vec<KeyId> = (0..4)
        .map(|_| {
            let lease = w.go();
            let key = lease.key;
            w.ok(lease);
            key
        })
        .collect();
    assert!(keys.contains(&bad), "back for good");
}

#[test]
fn f26_a_transient_failure_disables_nothing() {
    let mut w = World::new(fleet(1, &[]));
    for i in 0..50 {
        let lease = w.go();
        if i % 10 == 9 {
            w.fail(lease, evidence(Sign::ServerError, Some(503)));
        } else {
            w.ok(lease);
        }
        w.pass(1.0);
    }
    assert!(w.events().is_empty());
}

#[test]
fn f26_a_refusal_by_a_limit_is_no_failure_of_the_key() {
    let mut w = World::new(fleet(1, &[]));
    for _ in 0..10 {
        let ask = w.ask(0.0);
        let Decision::Go(lease) = w.submit(ask) else { panic!() };
        w.fail(lease, limited(LimitScope::Account, Some(0.5)));
        w.pass(1.0);
    }
    let events = w.events();
    assert!(events.iter().all(|e| matches!(e, What::QuotaShut { .. })), "{events:?}");
}

#[test]
fn f27_when_every_key_fails_alike_it_is_the_provider_and_the_keys_are_absolved() {
    let mut w = World::new(fleet(5, &[]));
    // One request may itself be the reason; a second that fares alike is proof, at its first attempt.
    let first = w.go();
    let second = w.go();
    let mut lease = again(w.fail(first, evidence(Sign::KeyForbidden, Some(403))));
    lease = again(w.fail(lease, evidence(Sign::KeyForbidden, Some(403))));
    assert!(w.policy.view(w.now()).providers[0].open_until.is_none());
    assert!(matches!(w.fail(second, evidence(Sign::KeyForbidden, Some(403))), Next::Wait { .. }));
    let next = w.fail(lease, evidence(Sign::KeyForbidden, Some(403)));
    assert!(matches!(next, Next::Wait { .. }), "three keys were asked, the others are not burnt: {next:?}");
    let events = w.events().to_vec();
    assert!(events.iter().any(|e| matches!(e, What::ProviderOpened { .. })), "{events:?}");
    let view = w.policy.view(w.now());
    assert!(view.providers[0].open_until.is_some());
    assert!(view.providers[0].accounts.iter().all(|a| a.keys[0].benched.is_none()));
    assert!(view.providers[0].accounts.iter().flat_map(|a| &a.keys[0].models).all(|m| m.benched.is_none()));
    // It comes back by one probe, and everything is well.
    w.until_woken().into_iter().for_each(|woken| {
        let Decision::Go(lease) = woken.decision else { panic!() };
        assert!(lease.probe);
        w.ok(lease);
    });
    let lease = w.go();
    assert!(!lease.probe);
    w.ok(lease);
}

#[test]
fn f27_a_blocked_address_that_draws_429_everywhere_blacklists_nobody() {
    let mut w = World::new(fleet(3, &[]));
    for _ in 0..30 {
        let ask = w.ask(0.0);
        let Decision::Go(mut lease) = w.submit(ask) else {
            w.pass(2.0);
            continue;
        };
        while let Next::Go(next) = w.fail(lease, limited(LimitScope::Unknown, None)) {
            lease = next;
        }
    }
    // However often it happened, a minute later all are back.
    w.pass(61.0);
    let leases: Vec<Lease> = (0..3).map(|_| w.go()).collect();
    for l in leases {
        w.ok(l);
    }
}

#[test]
fn an_operator_who_tries_a_key_again_tries_its_account_too() {
    let mut w = World::new(fleet(1, &[]));
    let lease = w.go();
    w.fail(lease, evidence(Sign::NoMoney, Some(402)));
    assert_eq!(w.health().len(), 1, "out of money");
    w.events();
    w.policy.restore(w.now(), KeyId(0));
    assert_eq!(w.events(), [What::AccountRestored { account: AccountId(0) }]);
    let lease = w.go_now();
    w.ok(lease);
    assert!(w.health().is_empty(), "{:?}", w.health());
}

#[test]
fn f28_success_resets_the_count_in_a_row() {
    let mut f = fleet(1, &[]);
    f.settings.breaker.failures_min = u32::MAX;
    f.settings.breaker.consecutive = 3;
    f.settings.retry.rounds_max = 1;
    let mut w = World::new(f);
    for _ in 0..20 {
        for _ in 0..2 {
            let lease = w.go();
            w.pass(1.0);
            w.fail(lease, server_error());
        }
        let lease = w.go();
        w.ok(lease);
    }
    assert!(w.events().is_empty());
    for _ in 0..3 {
        let lease = w.go();
        w.pass(1.0);
        w.fail(lease, server_error());
    }
    assert!(matches!(w.events(), [What::BreakerOpened { .. }]));
}

#[test]
fn f29_a_bad_request_is_sent_once() {
    let mut w = World::new(fleet(10, &[]));
    let lease = w.go();
    assert!(matches!(w.fail(lease, evidence(Sign::BadRequest, Some(422))), Next::Done(_)));
    let view = w.policy.view(w.now());
    assert_eq!(view.providers[0].counts.requests, 1);
}

#[test]
fn f30_a_full_first_tier_spills_into_the_second() {
    let mut f = fleet(1, &[rpm(2.0)]);
    f.providers.push(provider(1));
    add_account(&mut f, 1, 1, vec![]);
    f.routes = vec![route(0, &[&[0], &[1]])];
    let mut w = World::new(f);
    let accounts: Vec<AccountId> = (0..6)
        .map(|_| {
            let lease = w.go();
            let account = lease.account;
            w.ok(lease);
            account
        })
        .collect();
    assert_eq!(accounts[..1], [AccountId(0)]);
    assert!(accounts[2..].iter().all(|a| *a == AccountId(1)), "{accounts:?}");
    w.pass(60.0);
    let lease = w.go();
    assert_eq!(lease.account, AccountId(0), "and back");
    w.ok(lease);
}

#[test]
fn f31_a_429_without_any_time_fails_over_and_learns_its_own() {
    let mut w = World::new(fleet(2, &[]));
    let lease = w.go();
    let limited_key = lease.key;
    let next = again(w.fail(lease, limited(LimitScope::Unknown, None)));
    assert_ne!(next.key, limited_key);
    w.ok(next);
    let mut waits = Vec::new();
    let mut w = World::new(fleet(1, &[]));
    for _ in 0..7 {
        let ask = w.ask(0.0);
        let Decision::Go(lease) = w.submit(ask) else { panic!() };
        w.pass(0.01);
        w.fail(lease, limited(LimitScope::Unknown, None));
        let wait = w.refused(0.0).retry_after_ns.unwrap();
        waits.push(s_of(wait));
        w.ns += wait;
    }
    for (wait, doubled) in waits.iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0]) {
        assert!((wait / doubled - 1.0).abs() < 0.12, "{waits:?}");
    }
    assert!(w.ns < 1_000 * SECOND + 3 * MINUTE);
}
