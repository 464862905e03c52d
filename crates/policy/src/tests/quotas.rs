//! Limits: shared, declared, learned, refused.

use super::harness::*;
use crate::event::What;
use crate::fleet::{AccountId, Dimension, Fleet, LimitSpec, ModelSet, Shape};
use crate::outcome::{Evidence, LimitScope, Measurement, Sign};
use crate::refusal::RefusalKind;
use crate::time::{DAY, MINUTE, SECOND};
use crate::{Decision, Destination, Next};

fn burst(w: &mut World) -> usize {
    (0..10_000)
        .take_while(|_| {
            let ask = w.ask(0.0);
            matches!(w.submit(ask), Decision::Go(_))
        })
        .count()
}

#[test]
fn keys_of_one_account_share_its_limits() {
    let mut f = Fleet { providers: vec![provider(0)], ..Fleet::default() };
    add_account(&mut f, 0, 3, vec![bucket(Dimension::Requests, 10.0, 0.0)]);
    f.routes.push(route(0, &[&[0]]));
    let mut w = World::new(f);
    assert_eq!(burst(&mut w), 10, "three keys of one account triple nothing");
    let mut w = World::new(fleet(3, &[bucket(Dimension::Requests, 10.0, 0.0)]));
    assert_eq!(burst(&mut w), 30, "three accounts do");
}

#[test]
fn a_limit_of_a_key_stands_on_top_of_its_accounts() {
    let mut f = Fleet { providers: vec![provider(0)], ..Fleet::default() };
    add_account(&mut f, 0, 2, vec![bucket(Dimension::Requests, 10.0, 0.0)]);
    f.keys[0].limits = vec![bucket(Dimension::Requests, 2.0, 0.0)];
    f.routes.push(route(0, &[&[0]]));
    let mut w = World::new(f);
    let mut of_first = 0;
    for _ in 0..10 {
        let lease = w.go();
        of_first += u32::from(lease.key.0 == 0);
    }
    assert_eq!(of_first, 2);
    assert_eq!(burst(&mut w), 0);
}

#[test]
fn models_in_a_glob_share_one_limit_and_others_do_not() {
    let mut f = Fleet { providers: vec![provider(0)], ..Fleet::default() };
    let limit =
        LimitSpec { models: ModelSet(vec!["gpt-4o*".into()]), ..bucket(Dimension::Requests, 3.0, 0.0) };
    add_account(&mut f, 0, 1, vec![limit]);
    let mut w = World::new(f);
    let mut try_model = |model: &str| {
        let to = Destination::Adhoc { provider: crate::fleet::ProviderId(0), model: model.into() };
        let ask = crate::Ask { to, ..w.ask(0.0) };
        matches!(w.submit(ask), Decision::Go(_))
    };
    assert!(try_model("gpt-4o") && try_model("gpt-4o-mini") && try_model("GPT-4O"));
    assert!(!try_model("gpt-4o") && !try_model("gpt-4o-mini"));
    assert!(try_model("o3"));
}

#[test]
fn a_declared_limit_replaces_the_presets_of_the_same_dimension_and_period_only() {
    let preset = |dimension, n| LimitSpec { preset: true, ..bucket(dimension, n, 0.0) };
    let day = LimitSpec {
        dimension: Dimension::Requests,
        shape: Shape::Day { limit: 50.0, offset_s: 0 },
        models: ModelSet::default(),
        preset: true,
    };
    let mut w = World::new(fleet(
        1,
        &[preset(Dimension::Requests, 5.0), day, bucket(Dimension::Requests, 20.0, 0.0)],
    ));
    assert_eq!(w.levels(), [50.0, 20.0]);
    assert_eq!(burst(&mut w), 20);
}

fn says(limit: f64, remaining: f64) -> Measurement {
    Measurement {
        dimension: Dimension::Requests,
        daily: false,
        account_wide: false,
        limit: Some(limit),
        remaining: Some(remaining),
        rounding: 0.0,
        reset_ns: None,
        reset_means_full: true,
    }
}

#[test]
fn limits_are_learned_from_the_first_answer_and_then_kept() {
    let mut w = World::new(fleet(1, &[]));
    let lease = w.go();
    w.policy.head(w.now(), &lease, &[says(60.0, 3.0)]);
    w.ok(lease);
    assert!(
        matches!(w.events(), [What::LimitLearned { account: AccountId(0), dimension: Dimension::Requests, size }] if (*size - 60.0).abs() < 1e-9)
    );
    assert_eq!(burst(&mut w), 2, "three less the margin");
    let after = w.refused(0.0).retry_after_ns.unwrap();
    // One place is kept already: for the one whom the burst brought to know.
    assert!(after <= SECOND + SECOND / 20, "one a second: {after}");
    // A number that makes no sense teaches nothing.
    let mut w = World::new(fleet(1, &[]));
    let lease = w.go();
    w.policy.head(w.now(), &lease, &[says(0.0, 0.0), says(-1.0, -1.0), says(f64::NAN, 0.0)]);
    w.ok(lease);
    assert!(w.events().is_empty());
    assert_eq!(burst(&mut w), 10_000);
}

#[test]
fn an_account_wide_limit_is_learned_for_every_model() {
    let mut f = fleet(1, &[]);
    let mut second = route(1, &[&[0]]);
    second.tiers[0][0].model = "other".into();
    f.routes.push(second);
    let mut w = World::new(f);
    let lease = w.go();
    w.policy.head(w.now(), &lease, &[Measurement { account_wide: true, ..says(60.0, 0.0) }]);
    w.ok(lease);
    let ask = crate::Ask { to: Destination::Route(crate::fleet::RouteId(1)), ..w.ask(0.0) };
    assert!(matches!(w.submit(ask), Decision::Refuse(_)));
}

#[test]
fn a_measurement_corrects_a_declared_limit_of_the_same_size() {
    let mut w = World::new(fleet(1, &[rpm(60.0)]));
    let lease = w.go();
    w.policy.head(w.now(), &lease, &[says(60.0, 10.0)]);
    w.ok(lease);
    assert_eq!(w.levels().len(), 1, "it is the same limit");
    assert!((w.levels()[0] - 10.0).abs() < 0.1, "somebody else uses the account: {:?}", w.levels());
}

#[test]
fn a_named_token_limit_lets_a_smaller_request_go_before_the_stated_time() {
    let mut w = World::new(fleet(1, &[bucket(Dimension::TotalTokens, 6_000.0, 100.0)]));
    let ask = crate::Ask {
        size: crate::Size { body_bytes: 0, wide: false, input_tokens: 3_000, output_tokens_max: Some(0) },
        ..w.ask(0.0)
    };
    let Decision::Go(lease) = w.submit(ask) else { panic!() };
    let sign = Sign::RateLimited {
        dimension: Some(Dimension::TotalTokens),
        scope: LimitScope::AccountModel,
        daily: false,
    };
    w.fail(lease, Evidence { retry_after_ns: Some(40 * SECOND), ..evidence(sign, Some(429)) });
    let after = w.refused(0.0).retry_after_ns.unwrap();
    assert!(after > 10 * SECOND && after < 13 * SECOND, "200 tokens fit after 12 s: {after}");
}

#[test]
fn a_limit_of_one_account_sends_the_request_to_another_at_once() {
    let mut f = Fleet { providers: vec![provider(0)], ..Fleet::default() };
    add_account(&mut f, 0, 2, vec![]);
    add_account(&mut f, 0, 1, vec![]);
    f.routes.push(route(0, &[&[0]]));
    let mut w = World::new(f);
    let lease = loop {
        let lease = w.go();
        if lease.account == AccountId(0) {
            break lease;
        }
    };
    let next = again(w.fail(lease, limited(LimitScope::Account, Some(30.0))));
    assert_eq!(next.account, AccountId(1), "the other key of the account shares the limit");
}

#[test]
fn an_in_flight_budget_passes_and_a_lack_of_money_does_not() {
    let mut w = World::new(fleet(1, &[]));
    let lease = w.go();
    w.fail(lease, Evidence { retry_after_ns: Some(20 * SECOND), ..evidence(Sign::InFlightMoney, Some(402)) });
    assert_eq!(w.refused(0.0).retry_after_ns, Some(20 * SECOND));
    assert!(w.events().iter().all(|e| matches!(e, What::QuotaShut { .. })));
    w.pass(20.0);
    let (a, b) = (w.go(), w.go());
    assert!(!a.probe && !b.probe, "a stated time opens by itself");
    let mut w = World::new(fleet(1, &[]));
    let lease = w.go();
    let next = w.fail(lease, evidence(Sign::NoMoney, Some(402)));
    assert!(matches!(&next, Next::Refuse(r) if matches!(r.kind, RefusalKind::AllOut { .. })), "{next:?}");
    w.pass(70.0);
    let probe = w.go();
    assert!(probe.probe);
    assert!(matches!(w.refused(0.0).kind, RefusalKind::AllOut { .. }), "one probe only");
}

#[test]
fn a_daily_limit_without_a_time_lasts_until_midnight_and_is_probed_in_between() {
    let mut w = World::new(fleet(1, &[]));
    let lease = w.go();
    let sign = Sign::RateLimited { dimension: None, scope: LimitScope::Account, daily: true };
    w.fail(lease, evidence(sign, Some(429)));
    let midnight = DAY - w.now().unix_ns % DAY;
    assert_eq!(w.refused(0.0).retry_after_ns, Some(midnight));
    w.ns += 5 * MINUTE;
    let probe = w.go();
    assert!(probe.probe);
    assert_eq!(w.refused(0.0).retry_after_ns, Some(midnight - 5 * MINUTE), "only one, and the time stands");
    w.ok(probe);
    let lease = w.go();
    assert!(!lease.probe, "the probe shortened it");
}

#[test]
fn a_year_that_a_provider_states_is_neither_told_nor_waited_for() {
    let year = Some(365.0 * 86_400.0);
    let tokens = Sign::RateLimited {
        dimension: Some(Dimension::TotalTokens),
        scope: LimitScope::AccountModel,
        daily: false,
    };
    let named =
        crate::Evidence { retry_after_ns: year.map(crate::time::ns_of), ..evidence(tokens, Some(429)) };
    let refused = crate::Evidence { sign: Sign::KeyRefused, status: Some(401), ..named.clone() };
    let empty = crate::Evidence { sign: Sign::NoMoney, status: Some(402), ..named.clone() };
    let full = crate::Evidence { sign: Sign::Overloaded, status: Some(503), ..named.clone() };
    // Few keys, which are all looked at, and many, which are drawn.
    for accounts in [1, 40] {
        for evidence in [limited(LimitScope::Account, year), limited(LimitScope::Key, year)]
            .into_iter()
            .chain([named.clone(), refused.clone(), empty.clone(), full.clone()])
        {
            let mut f = fleet(accounts, &[bucket(Dimension::TotalTokens, 1e6, 1e4)]);
            f.settings.retry.attempts_max = 1;
            let mut w = World::new(f);
            for _ in 0..accounts {
                let ask = w.ask(0.0);
                let Decision::Go(lease) = w.submit(ask) else { break };
                w.fail(lease, evidence.clone());
            }
            let told = w.refused(0.0).retry_after_ns;
            assert!(told.is_some_and(|ns| ns <= 5 * MINUTE), "{accounts} {:?}: {told:?}", evidence.sign);
            w.ns += 5 * MINUTE;
            let probe = w.go();
            assert!(probe.probe, "{:?}", evidence.sign);
            w.ok(probe);
            let lease = w.go();
            assert!(accounts > 1 || !lease.probe, "{:?}: the probe opened it", evidence.sign);
        }
    }
}

#[test]
fn an_hour_is_probed_in_between_though_another_account_has_room() {
    let mut w = World::new(fleet(40, &[]));
    let mut out = None;
    for _ in 0..40 {
        let lease = w.go();
        if out.is_none() {
            out = Some(lease.key);
            let next = again(w.fail(lease, limited(LimitScope::Account, Some(3_600.0))));
            w.ok(next);
        } else {
            w.ok(lease);
        }
    }
    // It is drawn until it is known to be shut, then no more.
    for _ in 0..400 {
        let lease = w.go();
        assert!(Some(lease.key) != out);
        w.ok(lease);
    }
    w.ns += 5 * MINUTE;
    let probed = (0..400).any(|_| {
        let lease = w.go();
        let probe = lease.probe;
        w.ok(lease);
        probe
    });
    assert!(probed);
}

#[test]
fn free_models_share_a_limit_of_their_own() {
    let mut f = Fleet { providers: vec![provider(0)], ..Fleet::default() };
    add_account(&mut f, 0, 1, vec![]);
    let mut w = World::new(f);
    let to = |model: &str| Destination::Adhoc { provider: crate::fleet::ProviderId(0), model: model.into() };
    let ask = crate::Ask { to: to("a:free"), ..w.ask(0.0) };
    let Decision::Go(lease) = w.submit(ask) else { panic!() };
    w.fail(lease, limited(LimitScope::AccountFreeModels, Some(30.0)));
    let ask = crate::Ask { to: to("b:free"), ..w.ask(0.0) };
    assert!(matches!(w.submit(ask), Decision::Refuse(_)));
    let ask = crate::Ask { to: to("paid"), ..w.ask(0.0) };
    assert!(matches!(w.submit(ask), Decision::Go(_)));
}

#[test]
fn a_request_larger_than_any_limit_is_refused_at_once_and_for_good() {
    let mut w = World::new(fleet(2, &[bucket(Dimension::TotalTokens, 1_000.0, 100.0)]));
    let ask = crate::Ask {
        size: crate::Size { body_bytes: 0, wide: false, input_tokens: 900, output_tokens_max: Some(200) },
        ..w.ask(60.0)
    };
    let Decision::Refuse(refusal) = w.submit(ask) else { panic!() };
    assert_eq!(refusal.retry_after_ns, None);
    let RefusalKind::TooLarge { limit, size } = refusal.kind else { panic!() };
    assert!((size - 1_100.0).abs() < 1e-6 && limit.size == Some(1_000.0));
}

#[test]
fn another_configuration_keeps_levels_and_cool_downs() {
    let f = fleet(2, &[bucket(Dimension::Requests, 10.0, 0.0)]);
    let mut w = World::new(f.clone());
    for _ in 0..6 {
        let _in_flight = w.go();
    }
    let lease = w.go();
    let hurt = lease.key;
    let next = again(w.fail(lease, evidence(Sign::KeyRefused, Some(401))));
    let mut f = f;
    for a in &mut f.accounts {
        a.limits = vec![bucket(Dimension::Requests, 20.0, 0.0)];
    }
    add_account(&mut f, 0, 1, vec![]);
    w.policy.reconfigure(w.now(), f.clone());
    let used: f64 = w.levels().iter().map(|l| 20.0 - l).sum();
    assert!((used - 8.0).abs() < 1e-6, "what was used stays used: {:?}", w.levels());
    for _ in 0..30 {
        let lease = w.go_now();
        assert_ne!(lease.key, hurt, "still benched");
    }
    // A lease of before settles as ever, and a key that is gone is not used again.
    w.ok(next);
    f.keys.truncate(2);
    f.accounts.truncate(2);
    w.policy.reconfigure(w.now(), f);
    let ask = w.ask(0.0);
    if let Decision::Go(lease) = w.submit(ask) {
        assert!(lease.key.0 < 2);
    }
    w.conserved();
}

#[test]
fn a_key_that_moves_to_another_account_shares_its_limits_from_then_on() {
    let mut f = fleet(2, &[bucket(Dimension::Requests, 10.0, 0.0)]);
    let mut w = World::new(f.clone());
    let leases: Vec<_> = (0..4).map(|_| w.go()).collect();
    f.keys[1].account = AccountId(0);
    w.policy.reconfigure(w.now(), f);
    for lease in leases {
        w.ok(lease);
    }
    assert_eq!(burst(&mut w), 8, "what is left of the one account");
    let view = w.policy.view(w.now());
    assert_eq!((view.providers[0].accounts[0].in_flight, view.providers[0].accounts[1].in_flight), (8, 0));
}

#[test]
fn an_answer_never_lifts_what_is_declared_and_lowers_it_at_once() {
    let mut w = World::new(fleet(1, &[rpm(60.0)]));
    for _ in 0..30 {
        let lease = w.go();
        w.ok(lease);
    }
    let before = w.levels();
    // Sent before the others, arrived before them: they are not counted in what it says.
    let lease = w.go();
    w.policy.head(w.now(), &lease, &[Measurement { limit: None, ..says(60.0, 59.0) }]);
    assert!(w.levels()[0] <= before[0], "{:?}", w.levels());
    w.policy.head(w.now(), &lease, &[Measurement { limit: None, ..says(60.0, 2.0) }]);
    assert!(w.levels()[0] < 3.0, "{:?}", w.levels());
}

#[test]
fn a_call_that_met_an_overload_counts_and_one_that_a_limit_turned_away_does_not() {
    let left = |status| {
        let mut f = fleet(1, &[bucket(Dimension::Requests, 10.0, 0.0)]);
        f.settings.retry.attempts_max = 1;
        let mut w = World::new(f);
        let lease = w.go();
        w.fail(lease, evidence(Sign::Overloaded, Some(status)));
        w.levels()[0]
    };
    assert!((left(503) - 9.0).abs() < 1e-9 && (left(529) - 9.0).abs() < 1e-9);
    assert!((left(429) - 10.0).abs() < 1e-9);
}

#[test]
fn a_declared_window_without_an_anchor_never_lets_out_more_than_its_limit_in_its_length() {
    let shape = Shape::Window { limit: 10.0, period_ns: 10 * SECOND, anchor_unix_ns: None };
    let limit = LimitSpec { shape, ..bucket(Dimension::Requests, 0.0, 0.0) };
    let mut w = World::new(fleet(1, &[limit]));
    // One begins a window, the rest come shortly before that one ends.
    let lease = w.go();
    w.ok(lease);
    w.pass(9.0);
    assert_eq!(burst(&mut w), 9);
    w.pass(1.5);
    assert_eq!(burst(&mut w), 1, "only the first one is over");
    w.pass(8.6);
    assert_eq!(burst(&mut w), 0, "what was sent at 9 s may have arrived at 9.3 s");
    w.pass(0.3);
    assert_eq!(burst(&mut w), 9);
}
