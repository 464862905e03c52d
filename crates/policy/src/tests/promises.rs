//! What is promised is kept: places for who comes back, shares of lower classes, fair shares of clients.

use super::harness::*;
use super::market::{Limiter, Market, requests};
use crate::fleet::Dimension;
use crate::time::{MS, SECOND, ns_of};
use crate::{Ask, ClientId, Decision, Priority, Size};

/// Three accounts, ten requests a second each, at 130 %.
fn overloaded(capacity: f64, seconds: f64, clients: u64) -> Market {
    let f = fleet(3, &[bucket(Dimension::Requests, capacity, 10.0)]);
    let limiters = (0..3).map(|_| Limiter::new(capacity, 10.0)).collect();
    let mut market = Market::new(f, limiters, requests);
    market.arrivals(39.0, seconds, |rng, w| {
        let client = ClientId(rng.below(usize::try_from(clients).unwrap()) as u64);
        Ask { client, ..w.ask(20.0) }
    });
    market
}

#[test]
fn who_comes_back_when_told_is_not_refused_again() {
    for clients in [1, 20] {
        for (name, stay) in [
            ("to the millisecond", (|_, after| after.div_ceil(MS) * MS) as super::market::Stay),
            ("to the second", |_, after| after.div_ceil(SECOND) * SECOND),
        ] {
            let mut market = overloaded(20.0, 300.0, clients);
            market.come_back(stay);
            market.run_for(300.0);
            let t = &market.tally;
            assert_eq!(t.limited, 0);
            assert!(t.came_back > 300, "{}", t.came_back);
            let again = f64::from(t.refused_again) / f64::from(t.came_back);
            assert!(again <= 0.05, "{name}: {} of {}", t.refused_again, t.came_back);
            assert!(f64::from(t.answered) >= 0.99 * 30.0 * 300.0, "{name}: {}", t.answered);
            assert!(t.refused_late * 100 <= t.refused, "{name}: {} of {}", t.refused_late, t.refused);
        }
    }
}

/// The room is full of others of the same client, who come for the first time.
#[test]
fn a_place_is_kept_for_two_seconds_and_not_longer() {
    let in_front = |late_s: f64| {
        let mut w = World::new(fleet(1, &[bucket(Dimension::Requests, 1.0, 1.0)]));
        let mut sent = 0;
        let mut flood = |w: &mut World, until: u64| {
            while w.ns + 400 * MS < until {
                sent += 1;
                let size = Size { body_bytes: 1_000 + sent, ..w.ask(0.0).size };
                let ask = Ask { size, ..w.ask(5.0) };
                if let Decision::Go(lease) = w.submit(ask) {
                    w.ok(lease);
                }
                w.pass(0.4);
                for woken in w.poll() {
                    if let Decision::Go(lease) = woken.decision {
                        w.ok(lease);
                    }
                }
            }
            w.ns = until;
        };
        let until = w.ns + 60 * SECOND;
        flood(&mut w, until);
        let after = loop {
            let ask = w.ask(5.0);
            match w.submit(ask) {
                Decision::Refuse(refusal) => break refusal.retry_after_ns.expect("a time to come back"),
                Decision::Wait { ticket, .. } => w.policy.cancel(w.now(), ticket),
                Decision::Go(lease) => w.ok(lease),
            }
            let until = w.ns + SECOND;
            flood(&mut w, until);
        };
        let until = w.ns + after + ns_of(late_s);
        flood(&mut w, until);
        let again = w.ask(5.0);
        match w.submit(again) {
            Decision::Wait { forecast_mono_ns, .. } => forecast_mono_ns - w.ns < 2 * SECOND,
            other => matches!(other, Decision::Go(_)),
        }
    };
    assert!(in_front(0.0) && in_front(1.0) && in_front(1.9));
    assert!(!in_front(2.1), "it stands at the end, like anybody who is new");
}

#[test]
fn quota_is_not_saved_up_for_who_never_comes_back() {
    for capacity in [4.0, 20.0] {
        let mut market = overloaded(capacity, 300.0, 1);
        market.run();
        let t = &market.tally;
        assert!(f64::from(t.answered) >= 0.99 * 30.0 * 300.0, "{capacity}: {}", t.answered);
    }
}

#[test]
fn lower_classes_keep_their_share_and_no_more() {
    let f = fleet(3, &[bucket(Dimension::Requests, 20.0, 10.0)]);
    let limiters = (0..3).map(|_| Limiter::new(20.0, 10.0)).collect();
    let mut market = Market::new(f, limiters, requests);
    // Each class alone would use it all.
    market.arrivals(90.0, 300.0, |rng, w| {
        let class = [Priority::High, Priority::Normal, Priority::Low][rng.below(3)];
        Ask { class, ..w.ask(20.0) }
    });
    market.run();
    let t = &market.tally;
    assert_eq!(t.limited, 0);
    let share = t.by_class.map(|n| f64::from(n) / f64::from(t.answered));
    assert!((0.09..0.13).contains(&share[1]), "normal keeps a tenth: {share:?}");
    assert!((0.045..0.08).contains(&share[2]), "low keeps a twentieth: {share:?}");
    assert!(f64::from(t.answered) >= 0.99 * 30.0 * 300.0, "{}", t.answered);
    assert!(t.refused_late * 50 <= t.refused, "{} of {}", t.refused_late, t.refused);
}

#[test]
fn a_class_alone_has_everything_and_high_has_what_the_others_do_not_keep() {
    let f = fleet(1, &[bucket(Dimension::Requests, 10.0, 10.0)]);
    let mut market = Market::new(f, vec![Limiter::new(10.0, 10.0)], requests);
    market.arrivals(20.0, 120.0, |_, w| Ask { class: Priority::Low, ..w.ask(20.0) });
    market.run();
    assert!(f64::from(market.tally.by_class[2]) >= 0.98 * 10.0 * 120.0, "{:?}", market.tally.by_class);
}

#[test]
fn large_and_small_requests_cost_their_clients_what_they_take() {
    let f = fleet(2, &[bucket(Dimension::InputTokens, 100_000.0, 5_000.0)]);
    let limiters = (0..2).map(|_| Limiter::new(100_000.0, 5_000.0)).collect();
    let mut market = Market::new(f, limiters, |ask| ask.size.input_tokens as f64);
    // Two clients ask for the same number of tokens, one of them in pieces that are twenty times as large: each could
    // use up all there is.
    market.arrivals(21.0, 600.0, |rng, w| {
        let large = rng.below(21) == 0;
        let tokens = if large { 10_000 } else { 500 };
        let size = Size { body_bytes: 0, wide: false, input_tokens: tokens, output_tokens_max: Some(0) };
        Ask { size, client: ClientId(u64::from(large)), ..w.ask(30.0) }
    });
    market.run();
    let t = &market.tally;
    assert_eq!(t.limited, 0);
    let (small, large) = (t.units[0], t.units[1]);
    assert!((0.85..1.15).contains(&(small / large)), "{small} {large}");
    assert!(small + large >= 0.97 * (10_000.0 * 600.0 + 200_000.0), "{}", small + large);
}

#[test]
fn whatever_one_client_does_each_other_gets_its_share() {
    // A hundred clients, one of which sends nine tenths of the load, with a long patience, and comes back or not.
    for (name, patience, comes_back) in
        [("patient", 20.0, false), ("persistent", 20.0, true), ("hasty", 2.0, true)]
    {
        let f = fleet(4, &[bucket(Dimension::Requests, 20.0, 10.0)]);
        let limiters = (0..4).map(|_| Limiter::new(20.0, 10.0)).collect();
        let mut market = Market::new(f, limiters, requests);
        let mut others = 0;
        // 40 a second are there; each of 99 asks for 0.3 a second, one for the ninefold of them all.
        market.arrivals(297.0, 60.0, |rng, w| {
            let flood = rng.below(10) < 9;
            others += 1;
            let client = ClientId(if flood { 99 } else { rng.below(99) as u64 });
            Ask { client, ..w.ask(if flood { patience } else { 20.0 }) }
        });
        if comes_back {
            market.come_back(|_, after| after);
        }
        market.run_for(60.0);
        let t = &market.tally;
        assert_eq!(t.limited, 0);
        for (client, (asked, got)) in t.asked[..99].iter().zip(&t.by_client).enumerate() {
            // What is still under way at the end is not lost.
            assert!(f64::from(*got) + 4.0 >= 0.98 * f64::from(*asked), "{name} {client}: {got} of {asked}");
        }
        assert!(f64::from(t.answered) >= 0.99 * 40.0 * 60.0, "{name}: {}", t.answered);
    }
}

#[test]
fn who_asks_for_more_than_its_share_gets_its_share() {
    // Demand 2, 6, 10, 22 and 40 a second of 40: the shares are 2, 6, 10, 11 and 11.
    let f = fleet(4, &[bucket(Dimension::Requests, 20.0, 10.0)]);
    let limiters = (0..4).map(|_| Limiter::new(20.0, 10.0)).collect();
    let mut market = Market::new(f, limiters, requests);
    let demand = [2, 6, 10, 22, 40];
    market.arrivals(80.0, 600.0, |rng, w| {
        let mut at = rng.below(80);
        let client = demand.iter().position(|d| {
            let hit = at < *d;
            at = at.saturating_sub(*d);
            hit
        });
        Ask { client: ClientId(client.unwrap_or(0) as u64), ..w.ask(20.0) }
    });
    market.run();
    let t = &market.tally;
    for (client, share) in [2.0, 6.0, 10.0, 11.0, 11.0].into_iter().enumerate() {
        let got = f64::from(t.by_client[client]);
        let due = (share * 600.0_f64).min(f64::from(t.asked[client]));
        assert!(got >= 0.98 * due, "client {client}: {got} of {due}");
    }
}

#[test]
fn a_flood_on_one_route_leaves_another_route_of_the_same_account_its_share() {
    let mut f = fleet(1, &[bucket(Dimension::Requests, 20.0, 20.0)]);
    f.routes.push(route(1, &[&[0]]));
    let mut market = Market::new(f, vec![Limiter::new(20.0, 20.0)], requests);
    // 60 a second on one route, 5 on the other, of 20 that there are.
    market.arrivals(65.0, 120.0, |rng, w| {
        let modest = rng.below(13) == 0;
        let to = crate::Destination::Route(crate::fleet::RouteId(u32::from(modest)));
        Ask { to, client: ClientId(u64::from(modest)), ..w.ask(20.0) }
    });
    market.run();
    let t = &market.tally;
    assert_eq!(t.limited, 0);
    assert!(
        f64::from(t.by_client[1]) >= 0.98 * f64::from(t.asked[1]),
        "{} of {}",
        t.by_client[1],
        t.asked[1]
    );
    assert!(f64::from(t.answered) >= 0.99 * 20.0 * 120.0, "{}", t.answered);
}
