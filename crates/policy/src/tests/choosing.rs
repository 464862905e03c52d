//! Which target: strategies, affinity, the caller's choice, many keys.

use super::harness::*;
use crate::fleet::{
    AccountId, Dimension, Endpoint, Fleet, KeyId, OutputCharge, ProviderId, RouteId, RouteSpec, Strategy,
};
use crate::outcome::{End, Outcome, Sign, Used};
use crate::refusal::RefusalKind;
use crate::{Allowed, Ask, ClientId, Decision, Destination, Lease, Providers, Size};
use std::sync::Arc;

fn with_strategy(accounts: u32, strategy: Strategy) -> Fleet {
    let mut f = fleet(accounts, &[]);
    f.routes[0].strategy = strategy;
    f
}

fn served(w: &mut World, n: usize, keys: usize) -> Vec<u32> {
    let mut per_key = vec![0; keys];
    for _ in 0..n {
        let lease = w.go();
        per_key[lease.key.0 as usize] += 1;
        w.ok(lease);
    }
    per_key
}

#[test]
fn round_robin_goes_round() {
    let mut w = World::new(with_strategy(4, Strategy::RoundRobin));
    let first: Vec<KeyId> = (0..4)
        .map(|_| {
            let lease = w.go();
            let key = lease.key;
            w.ok(lease);
            key
        })
        .collect();
    for i in 0..40 {
        let lease = w.go();
        // Every round has every key once.
        assert!(first.contains(&lease.key), "{i}");
        w.ok(lease);
    }
    assert_eq!(served(&mut w, 400, 4), [100; 4]);
}

#[test]
fn weighted_follows_the_weights() {
    let mut f = with_strategy(3, Strategy::Weighted);
    (f.keys[0].weight, f.keys[1].weight, f.keys[2].weight) = (1.0, 3.0, 6.0);
    let mut w = World::new(f);
    assert_eq!(served(&mut w, 1_000, 3), [100, 300, 600]);
}

#[test]
fn a_key_that_comes_back_does_not_catch_up() {
    let mut w = World::new(with_strategy(2, Strategy::RoundRobin));
    let lease = w.go();
    let out = lease.key;
    let next = again(w.fail(lease, limited(crate::outcome::LimitScope::Account, Some(10.0))));
    w.ok(next);
    served(&mut w, 50, 2);
    w.pass(11.0);
    // It comes back by and by: first one request, then two, then four.
    for _ in 0..200 {
        served(&mut w, 40, 2);
        w.pass(0.1);
    }
    let per_key = served(&mut w, 40, 2);
    assert!((19..=21).contains(&per_key[out.0 as usize]), "{per_key:?}");
}

#[test]
fn least_in_flight_fills_up_the_emptiest() {
    let mut w = World::new(with_strategy(3, Strategy::LeastInFlight));
    let mut leases: Vec<Lease> = (0..30).map(|_| w.go_now()).collect();
    let freed = leases[0].key;
    // One key is emptied: the next ten all go there.
    let (of_key, rest): (Vec<Lease>, Vec<Lease>) = leases.drain(..).partition(|l| l.key == freed);
    assert_eq!((of_key.len(), rest.len()), (10, 20));
    for l in of_key {
        w.ok(l);
    }
    for _ in 0..10 {
        assert_eq!(w.go().key, freed);
    }
}

#[test]
fn fastest_takes_the_fastest_and_leaves_it_when_it_slows() {
    let mut w = World::new(with_strategy(3, Strategy::Fastest));
    let serve = |w: &mut World, speeds: [f64; 3]| {
        let lease = w.go();
        let key = lease.key.0;
        w.pass(speeds[key as usize]);
        w.policy.first_output(w.now(), &lease);
        w.ok(lease);
        key
    };
    for _ in 0..20 {
        serve(&mut w, [0.5, 0.1, 0.9]);
    }
    assert!((0..20).all(|_| serve(&mut w, [0.5, 0.1, 0.9]) == 1));
    serve(&mut w, [0.5, 5.0, 0.9]);
    assert!((0..5).all(|_| serve(&mut w, [0.5, 5.0, 0.9]) != 1));
}

#[test]
fn headroom_shares_in_proportion_to_the_quotas() {
    let mut f = Fleet { providers: vec![provider(0)], ..Fleet::default() };
    for n in [100.0, 300.0, 600.0] {
        add_account(&mut f, 0, 1, vec![bucket(Dimension::Requests, n, n / 60.0)]);
    }
    f.routes.push(route(0, &[&[0]]));
    let mut w = World::new(f);
    let per_key = served(&mut w, 500, 3);
    for (n, share) in per_key.iter().zip([50.0, 150.0, 300.0]) {
        assert!((f64::from(*n) - share).abs() <= share * 0.1 + 3.0, "{per_key:?}");
    }
}

#[test]
fn headroom_leaves_a_slow_and_a_failing_key_before_any_breaker_opens() {
    let mut w = World::new(fleet(3, &[]));
    let mut per_key = [0u32; 3];
    for _ in 0..300 {
        let leases: Vec<Lease> = (0..3).map(|_| w.go()).collect();
        for lease in leases {
            let key = lease.key.0;
            per_key[key as usize] += 1;
            let used = crate::Outcome {
                first_output_ns: Some(crate::time::ns_of(if key == 0 { 2.0 } else { 0.1 })),
                ..outcome(crate::End::Done)
            };
            w.policy.finish(w.now(), lease, used);
        }
        w.pass(0.05);
    }
    assert!(per_key[0] < 90, "{per_key:?}");
    assert!(per_key[0] > 0);
}

#[test]
fn a_conversation_stays_where_its_cache_is_warm_but_not_at_any_price() {
    let mut w = World::new(fleet(8, &[bucket(Dimension::Requests, 20.0, 0.0)]));
    let ask = |w: &World| Ask { session: Some(77), ..w.ask(0.0) };
    let a = ask(&w);
    let Decision::Go(lease) = w.submit(a) else { panic!() };
    let home = lease.key;
    w.ok(lease);
    for _ in 0..4 {
        let a = ask(&w);
        let Decision::Go(lease) = w.submit(a) else { panic!() };
        assert_eq!(lease.key, home);
        w.ok(lease);
    }
    // Its quota runs down: others are as good, and at the end the only ones.
    let elsewhere = (0..100).filter(|_| {
        let a = ask(&w);
        let Decision::Go(lease) = w.submit(a) else { panic!() };
        let key = lease.key;
        w.ok(lease);
        key != home
    });
    assert!(elsewhere.count() > 80);
}

#[test]
fn the_callers_choice_of_providers_is_obeyed() {
    let mut f = fleet(1, &[]);
    for p in 1..3 {
        f.providers.push(provider(p));
        add_account(&mut f, p, 1, vec![]);
    }
    f.routes = vec![route(0, &[&[0], &[1, 2]])];
    let mut w = World::new(f);
    let mut chosen = |providers: Providers| {
        let ask = Ask { providers: Some(Box::new(providers)), ..w.ask(0.0) };
        match w.submit(ask) {
            Decision::Go(lease) => {
                let id = lease.provider;
                w.ok(lease);
                Ok(id.0)
            }
            Decision::Refuse(r) => Err(r.kind),
            Decision::Wait { .. } => panic!(),
        }
    };
    let p = ProviderId;
    assert_eq!(chosen(Providers { order: vec![p(2), p(1)], ..Providers::default() }), Ok(2));
    assert_eq!(
        chosen(Providers { ignore: vec![p(0)], only: Some(vec![p(0), p(1)]), ..Providers::default() }),
        Ok(1)
    );
    assert_eq!(
        chosen(Providers { only: Some(vec![p(1)]), ignore: vec![p(1)], ..Providers::default() }),
        Err(RefusalKind::NoProviderLeft)
    );
    assert_eq!(chosen(Providers { no_fallbacks: true, ..Providers::default() }), Ok(0));
}

#[test]
fn without_fallbacks_only_the_order_or_the_first_tier_serves() {
    let mut f = fleet(1, &[bucket(Dimension::Requests, 1.0, 0.0)]);
    f.providers.push(provider(1));
    add_account(&mut f, 1, 1, vec![]);
    f.routes = vec![route(0, &[&[0], &[1]])];
    let mut w = World::new(f);
    let lease = w.go();
    w.ok(lease);
    let ask = Ask {
        providers: Some(Box::new(Providers { no_fallbacks: true, ..Providers::default() })),
        ..w.ask(0.0)
    };
    assert!(matches!(w.submit(ask), Decision::Refuse(_)));
    let order = Providers { order: vec![ProviderId(0)], no_fallbacks: true, ..Providers::default() };
    let ask = Ask { providers: Some(Box::new(order)), ..w.ask(0.0) };
    assert!(matches!(w.submit(ask), Decision::Refuse(_)));
    let lease = w.go();
    assert_eq!(lease.provider, ProviderId(1));
}

#[test]
fn state_at_a_provider_binds_to_its_account_and_endpoints_to_their_providers() {
    let mut w = World::new(fleet(3, &[]));
    for _ in 0..10 {
        let ask = Ask { bound_to: Some(AccountId(2)), ..w.ask(0.0) };
        let Decision::Go(lease) = w.submit(ask) else { panic!() };
        assert_eq!(lease.account, AccountId(2));
    }
    let refused = |w: &mut World, ask: Ask| match w.submit(ask) {
        Decision::Refuse(r) => r.kind,
        other => panic!("{other:?}"),
    };
    let ask = Ask { bound_to: Some(AccountId(9)), ..w.ask(9.0) };
    assert_eq!(refused(&mut w, ask), RefusalKind::BoundElsewhere);
    let ask = Ask { endpoint: Endpoint::Rerank, ..w.ask(9.0) };
    assert_eq!(refused(&mut w, ask), RefusalKind::EndpointNotServed { providers: vec!["p0".into()] });
    let ask = Ask { to: Destination::Route(RouteId(7)), ..w.ask(9.0) };
    assert_eq!(refused(&mut w, ask), RefusalKind::NoKey);
    let ask = Ask { to: Destination::Adhoc { provider: ProviderId(7), model: "x".into() }, ..w.ask(9.0) };
    assert_eq!(refused(&mut w, ask), RefusalKind::NoKey);
    // A bound request never fails over.
    let ask = Ask { bound_to: Some(AccountId(2)), ..w.ask(0.0) };
    let Decision::Go(lease) = w.submit(ask) else { panic!() };
    assert!(!matches!(
        w.fail(lease, limited(crate::outcome::LimitScope::Account, Some(9.0))),
        crate::Next::Go(_)
    ));
}

fn may(providers: Option<Vec<u32>>, keys: Option<Vec<u32>>) -> Arc<Allowed> {
    let providers = providers.map(|list| list.into_iter().map(ProviderId).collect());
    let keys = keys.map(|list| list.into_iter().map(KeyId).collect());
    Arc::new(Allowed { providers, keys })
}

#[test]
fn what_a_client_may_not_use_it_never_gets_not_even_after_failures() {
    let mut f = fleet(10_000, &[]);
    f.providers.push(provider(1));
    add_account(&mut f, 1, 1, vec![]);
    f.routes = vec![RouteSpec { strategy: Strategy::RoundRobin, ..route(0, &[&[0], &[1]]) }];
    let mut w = World::new(f);
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..20 {
        let ask = Ask { allowed: Some(may(None, Some(vec![17, 9_999]))), ..w.ask(0.0) };
        let Decision::Go(lease) = w.submit(ask) else { panic!() };
        let first = lease.key;
        seen.insert(first.0);
        if round > 1 {
            w.ok(lease);
            continue;
        }
        match w.fail(lease, evidence(Sign::ServerError, Some(500))) {
            crate::Next::Go(lease) => {
                assert!(lease.key != first && [17, 9_999].contains(&lease.key.0));
                w.ok(lease);
            }
            crate::Next::Done(_) | crate::Next::Refuse(_) => {}
            crate::Next::Wait { .. } => panic!("nobody else's key is waited for"),
        }
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [17, 9_999]);
    let ask = Ask { allowed: Some(may(Some(vec![1]), None)), ..w.ask(0.0) };
    let Decision::Go(lease) = w.submit(ask) else { panic!() };
    assert_eq!(lease.provider, ProviderId(1));
    w.ok(lease);
    for allowed in [may(Some(vec![]), None), may(Some(vec![0]), Some(vec![10_000])), may(None, Some(vec![]))]
    {
        let ask = Ask { allowed: Some(allowed), ..w.ask(9.0) };
        assert!(matches!(w.submit(ask), Decision::Refuse(r) if r.kind == RefusalKind::NoProviderLeft));
    }
}

#[test]
fn who_may_use_other_keys_waits_in_another_line() {
    let mut w = World::new(fleet(2, &[bucket(Dimension::Requests, 1.0, 1.0 / 60.0)]));
    let held = [w.go(), w.go()];
    let first = Ask { allowed: Some(may(None, Some(vec![0]))), ..w.ask(600.0) };
    let Decision::Wait { .. } = w.submit(first) else { panic!() };
    let second = Ask { allowed: Some(may(None, Some(vec![1]))), ..w.ask(600.0) };
    let Decision::Wait { .. } = w.submit(second) else { panic!() };
    // Each goes as soon as its own key has room: were they one line, both would be sent where the first may go.
    w.pass(70.0);
    let woken = w.poll();
    let keys: std::collections::BTreeSet<u32> = woken
        .iter()
        .map(|w| match &w.decision {
            Decision::Go(lease) => lease.key.0,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!((woken.len(), keys.len()), (2, 2));
    drop(held);
}

#[test]
fn three_keys_with_room_among_ten_thousand_are_found_at_once() {
    let mut f = fleet(10_000, &[bucket(Dimension::Requests, 1.0, 0.0)]);
    for a in [17, 5_000, 9_999] {
        f.accounts[a].limits = vec![bucket(Dimension::Requests, 100.0, 0.0)];
    }
    let mut w = World::new(f);
    let mut of_large = 0;
    for _ in 0..9_997 + 300 {
        let lease = w.go();
        of_large += u32::from([17, 5_000, 9_999].contains(&lease.account.0));
        w.ok(lease);
    }
    assert_eq!(of_large, 300);
    assert!(matches!(w.refused(0.0).kind, RefusalKind::QuotaExhausted { .. }));
}

#[test]
fn what_is_released_early_among_many_is_found_again() {
    // Ten thousand keys of a hundred accounts, each account with one slot.
    let mut f = Fleet { providers: vec![provider(0)], ..Fleet::default() };
    for _ in 0..100 {
        add_account(&mut f, 0, 100, vec![slots(1)]);
    }
    f.routes.push(route(0, &[&[0]]));
    let mut w = World::new(f);
    let mut leases: Vec<Lease> = (0..100).map(|_| w.go()).collect();
    w.refused(0.0);
    for _ in 0..1_000 {
        let lease = leases.swap_remove(leases.len() / 2);
        let account = lease.account;
        w.ok(lease);
        let next = w.go();
        assert_eq!(next.account, account);
        leases.push(next);
        w.refused(0.0);
    }
    for l in leases {
        w.ok(l);
    }
    assert!(w.levels().iter().all(|l| (*l - 1.0).abs() < 1e-9));
}

#[test]
fn unnamed_routes_are_bounded_and_the_longest_idle_gives_way() {
    let mut f = fleet(40, &[]);
    f.settings.adhoc_routes_max = 10;
    let mut w = World::new(f);
    let ask = |w: &World, model: String| Ask {
        to: Destination::Adhoc { provider: ProviderId(0), model: model.into() },
        ..w.ask(0.0)
    };
    let a = ask(&w, "kept".into());
    let Decision::Go(kept) = w.submit(a) else { panic!() };
    for i in 0..500 {
        w.pass(0.01);
        let a = ask(&w, format!("model-{i}"));
        let Decision::Go(lease) = w.submit(a) else { panic!() };
        w.ok(lease);
    }
    assert!(w.policy.view(w.now()).adhoc_routes <= 10);
    assert!(w.policy.pool.targets.len() <= 8 * 10, "{}", w.policy.pool.targets.len());
    assert!(w.policy.pool.models.len() <= 12);
    // The one in flight all the while is settled as ever.
    w.fail(kept, evidence(Sign::ServerError, Some(500)));
    w.conserved();
}

#[test]
fn a_conversation_of_one_client_is_no_other_clients() {
    let mut homes = std::collections::BTreeSet::new();
    let mut w = World::new(fleet(8, &[]));
    for client in 0..40 {
        let ask = Ask { session: Some(77), client: ClientId(client), ..w.ask(0.0) };
        let Decision::Go(lease) = w.submit(ask) else { panic!() };
        homes.insert(lease.key);
        w.ok(lease);
    }
    assert_eq!(homes.len(), 8, "nobody is drawn to where another one was");
}

/// Two accounts with the same limit of tokens; one keeps what is unused of `max_tokens`. Half of the requests state
/// forty times what they use: all have room at once only where those go to the other one.
#[test]
fn a_large_unused_cap_goes_to_whom_gives_it_back() {
    let mut f = Fleet { providers: vec![provider(0), provider(1)], ..Fleet::default() };
    f.providers[1].charging.output = OutputCharge::MaxOfBoth;
    for p in [0, 1] {
        add_account(&mut f, p, 1, vec![bucket(Dimension::TotalTokens, 60_000.0, 4_000.0)]);
    }
    f.routes.push(route(0, &[&[0, 1]]));
    let mut w = World::new(f);
    let mut large_kept = 0;
    for n in 0..1_000 {
        let large = n % 2 == 0;
        let size = Size {
            input_tokens: 400,
            output_tokens_max: Some(if large { 4_000 } else { 100 }),
            ..w.ask(0.0).size
        };
        let ask = Ask { size, ..w.ask(0.0) };
        let Decision::Go(lease) = w.submit(ask) else { panic!("{n} has no room") };
        large_kept += u32::from(large && lease.key == KeyId(1));
        let used = Some(Used { input_tokens: 400, output_tokens: 100, ..Used::default() });
        w.pass(0.08);
        w.policy.finish(w.now(), lease, Outcome { used, ..outcome(End::Done) });
    }
    assert!(large_kept < 20, "{large_kept}");
}
