//! Small worlds with a provider that keeps its own books (its limiters share no code with ours): what overload must
//! look like from both sides. The full scenarios live in the simulator.

use super::harness::*;
use super::market::{Limiter, Market, requests};
use crate::fleet::{Dimension, Fleet};
use crate::rng::Rng;
use crate::{Ask, ClientId, Size};

#[test]
fn at_130_percent_the_quota_is_used_up_without_one_429_and_refusals_are_immediate() {
    let f = fleet(3, &[bucket(Dimension::Requests, 20.0, 10.0)]);
    let limiters = (0..3).map(|_| Limiter::new(20.0, 10.0)).collect();
    let mut market = Market::new(f, limiters, requests);
    market.arrivals(39.0, 300.0, |_, w| w.ask(20.0));
    market.run();
    let t = &market.tally;
    assert_eq!(t.limited, 0, "not one 429");
    // What the limits could admit until the last deadline.
    let possible = (60.0 + 30.0 * 300.0_f64).min(f64::from(t.arrived));
    let goodput = f64::from(t.answered) / possible;
    assert!(goodput >= 0.99, "{goodput}");
    assert_eq!(t.refused_late, 0, "every refusal is immediate");
    let most = t.served.iter().copied().fold(0.0, f64::max);
    let least = t.served.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(most / least < 1.05, "{:?}", t.served);
}

#[test]
fn at_70_percent_everything_is_answered_and_spread_evenly() {
    let f = fleet(3, &[bucket(Dimension::Requests, 20.0, 10.0)]);
    let limiters = (0..3).map(|_| Limiter::new(20.0, 10.0)).collect();
    let mut market = Market::new(f, limiters, requests);
    market.arrivals(21.0, 300.0, |_, w| w.ask(20.0));
    market.run();
    let t = &market.tally;
    assert_eq!((t.limited, t.refused), (0, 0));
    assert_eq!(t.answered, t.arrived);
    let most = t.served.iter().copied().fold(0.0, f64::max);
    let least = t.served.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(most / least < 1.05, "{:?}", t.served);
}

#[test]
fn token_bound_with_mixed_sizes_little_is_left_unused() {
    let mut f = fleet(3, &[bucket(Dimension::InputTokens, 100_000.0, 5_000.0)]);
    f.settings.room.waiters_max = 100_000;
    let limiters = (0..3).map(|_| Limiter::new(100_000.0, 5_000.0)).collect();
    let mut market = Market::new(f, limiters, |ask| ask.size.input_tokens as f64);
    // Sizes from 100 to 60,000, a hundredth of them large.
    let ask = |rng: &mut Rng, w: &World| {
        let tokens = if rng.below(100) == 0 { 60_000 } else { 100 + rng.below(3_000) as u64 };
        let size = Size { body_bytes: 0, wide: false, input_tokens: tokens, output_tokens_max: Some(0) };
        Ask { size, ..w.ask(60.0) }
    };
    market.arrivals(10.0, 600.0, ask);
    market.run();
    let t = &market.tally;
    assert_eq!(t.limited, 0);
    let served: f64 = t.served.iter().sum();
    let goodput = served / (300_000.0 + 15_000.0 * 600.0);
    assert!(goodput >= 0.97, "{goodput} late {} refused {}", t.refused_late, t.refused);
}

#[test]
fn quotas_of_1_3_6_are_all_used_up() {
    let mut f = Fleet { providers: vec![provider(0)], ..Fleet::default() };
    for n in [2.0, 6.0, 12.0] {
        add_account(&mut f, 0, 1, vec![bucket(Dimension::Requests, n * 2.0, n)]);
    }
    f.routes.push(route(0, &[&[0]]));
    let limiters = [2.0, 6.0, 12.0].map(|n| Limiter::new(n * 2.0, n)).into();
    let mut market = Market::new(f, limiters, requests);
    market.arrivals(26.0, 300.0, |_, w| w.ask(10.0));
    market.run();
    let t = &market.tally;
    assert_eq!(t.limited, 0);
    let goodput = f64::from(t.answered) / (40.0 + 20.0 * 300.0);
    assert!(goodput >= 0.98, "{goodput}");
    assert!(t.refused_late * 100 <= t.refused, "{} of {}", t.refused_late, t.refused);
}

#[test]
fn a_burst_of_ten_times_is_answered_as_far_as_the_deadline_allows() {
    let f = fleet(3, &[bucket(Dimension::Requests, 10.0, 10.0)]);
    let limiters = (0..3).map(|_| Limiter::new(10.0, 10.0)).collect();
    let mut market = Market::new(f, limiters, requests);
    market.arrivals(200.0, 2.0, |_, w| w.ask(20.0));
    market.run();
    let t = &market.tally;
    assert_eq!((t.limited, t.refused), (0, 0), "400 requests are less than 22 s of quota");
}

#[test]
fn the_client_who_floods_gets_no_more_than_its_share() {
    let f = fleet(2, &[bucket(Dimension::Requests, 10.0, 10.0)]);
    let limiters = (0..2).map(|_| Limiter::new(10.0, 10.0)).collect();
    let mut market = Market::new(f, limiters, requests);
    // Nine clients ask for one a second each, a tenth for eighty: 20 a second are there.
    market.arrivals(89.0, 120.0, |rng, w| {
        let client = rng.below(89) as u64;
        Ask { client: ClientId(client.min(9)), ..w.ask(10.0) }
    });
    market.run();
    let t = &market.tally;
    assert_eq!(t.limited, 0);
    for (client, (asked, got)) in t.asked.iter().zip(&t.by_client).take(9).enumerate() {
        assert!(f64::from(*got) >= 0.98 * f64::from(*asked), "client {client}: {got} of {asked}");
    }
    assert!(f64::from(t.answered) >= 0.99 * 20.0 * 120.0, "{}", t.answered);
}

#[test]
fn with_many_clients_alike_the_quota_is_used_up_and_shared() {
    let f = fleet(3, &[bucket(Dimension::Requests, 20.0, 10.0)]);
    let limiters = (0..3).map(|_| Limiter::new(20.0, 10.0)).collect();
    let mut market = Market::new(f, limiters, requests);
    market.arrivals(39.0, 300.0, |rng, w| Ask { client: ClientId(rng.below(20) as u64), ..w.ask(20.0) });
    market.run();
    let t = &market.tally;
    assert_eq!(t.limited, 0);
    assert!(f64::from(t.answered) >= 0.99 * (60.0 + 30.0 * 300.0), "{}", t.answered);
    let (least, most) = (t.by_client[..20].iter().min(), t.by_client[..20].iter().max());
    assert!(f64::from(*most.unwrap()) < 1.1 * f64::from(*least.unwrap()), "{:?}", &t.by_client[..20]);
}
