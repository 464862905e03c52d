//! Random worlds: scenarios that nobody thought of, each with several quota domains, faults and a stranger, of which
//! nothing is expected but that the invariants hold. One that fails is made smaller as long as it still fails.

use crate::rng::Rng;
use crate::spec::{
    Arrivals, Class, Limits, Network, Patience, Place, Route, Scenario, Stranger, StrategyName, Tokens,
    Traffic,
};
use keymux_provider::{
    AccountSpec, Anchor, ChargingSpec, Dialect, Dimension, FaultKind, FaultSpec, HeaderFamily, KeySpec,
    LatencySpec, LimitShape, LimitSpec, OutputLength, ProviderSpec, RateLimitTime, TotalTokens,
};

/// Requests of a random world, about.
const REQUESTS: f64 = 2_100.0;
/// Runs that a shrinking may take.
const SHRINK_MAX: usize = 400;

/// The world of a seed.
pub fn world(seed: u64) -> Scenario {
    let mut rng = Rng::new(seed ^ 0xC4A0_5000);
    let seconds = 60.0 + rng.unit() * 240.0;
    let mut providers: Vec<ProviderSpec> = (0..2 + rng.below(2)).map(|n| provider(n, &mut rng)).collect();
    for _ in 0..2 + rng.below(3) {
        let at = index(rng.below(providers.len() as u64));
        let account = &mut providers[at].accounts;
        let which = index(rng.below(account.len() as u64));
        let fault = fault(seconds, &mut rng);
        if rng.chance(0.2) {
            providers[at].faults.push(fault);
        } else if rng.chance(0.5) {
            account[which].faults.push(fault);
        } else if let Some(key) = account[which].keys.first_mut() {
            key.faults.push(fault);
        }
    }
    while providers.iter().flat_map(|p| &p.accounts).map(|a| a.limits.len()).sum::<usize>() < 3 {
        providers[0].accounts[0].limits.push(limit(&mut rng));
    }
    let p = &providers[index(rng.below(providers.len() as u64))];
    let stranger = Stranger {
        account: format!("{}/{}", p.name, p.accounts[0].name),
        arrivals: Arrivals::Poisson(0.5 + rng.unit() * 4.0),
        input: Tokens::Between(50, 1_000),
        ..Stranger::default()
    };
    let routes = routes(&providers, &mut rng);
    let kinds = 2 + rng.below(3);
    let rate = REQUESTS / kinds as f64 / seconds;
    let traffic: Vec<Traffic> = (0..kinds).map(|n| traffic(n, rate, seconds, &routes, &mut rng)).collect();
    Scenario {
        title: format!("random world {seed}"),
        seconds,
        limits: if rng.chance(0.5) { Limits::Declared } else { Limits::Learned },
        network: Network { delay_ms: rng.unit() * 50.0, jitter_ms: rng.unit() * 200.0 },
        patience: Patience { first_byte_ms: 20_000, idle_ms: 10_000 },
        waiters_max: rng.chance(0.2).then_some(20),
        traffic,
        providers,
        routes,
        strangers: vec![stranger],
        ..Scenario::default()
    }
}

fn index(n: u64) -> usize {
    usize::try_from(n).unwrap_or(0)
}

fn provider(n: u64, rng: &mut Rng) -> ProviderSpec {
    let dialect = [Dialect::Openai, Dialect::Openrouter, Dialect::Anthropic][index(rng.below(3))];
    let headers = match (dialect, rng.below(6)) {
        (Dialect::Openai, 0) => Some(HeaderFamily::Groq),
        (Dialect::Openai, 1) => Some(HeaderFamily::Azure),
        (Dialect::Openai, 2) => Some(HeaderFamily::Mistral),
        (_, 3) => Some(HeaderFamily::None),
        _ => None,
    };
    let total_tokens =
        [TotalTokens::MaxOfEstimateAndMaxTokens, TotalTokens::InputPlusMaxTokens, TotalTokens::AsProduced];
    let times = [
        RateLimitTime::RetryAfter,
        RateLimitTime::RetryAfterMs,
        RateLimitTime::BodyText,
        RateLimitTime::None,
    ];
    let total_tokens = total_tokens[index(rng.below(3))];
    ProviderSpec {
        name: format!("p{n}"),
        dialect,
        headers,
        refusal_time: rng.chance(0.4).then(|| times[index(rng.below(4))]),
        accounts: (0..=rng.below(2)).map(|a| account(a, rng)).collect(),
        latency: LatencySpec {
            ttft_ms: 20.0 + rng.unit() * 800.0,
            ttft_sigma: 0.4,
            per_token_ms: rng.unit() * 20.0,
            output: OutputLength { mean: 30.0, sigma: 0.5, max: 200 },
            ..LatencySpec::default()
        },
        charging: ChargingSpec {
            total_tokens,
            refund_unused: total_tokens == TotalTokens::InputPlusMaxTokens,
            refused_count: rng.chance(0.2),
            ..ChargingSpec::default()
        },
        cancel_stops_billing: rng.chance(0.7),
        ..ProviderSpec::default()
    }
}

fn account(n: u64, rng: &mut Rng) -> AccountSpec {
    let limits = (0..=rng.below(3)).map(|_| limit(rng)).collect();
    let key = |k| KeySpec { name: format!("k{n}{k}"), ..KeySpec::default() };
    AccountSpec {
        name: format!("a{n}"),
        limits,
        keys: (0..=rng.below(2)).map(key).collect(),
        ..AccountSpec::default()
    }
}

fn limit(rng: &mut Rng) -> LimitSpec {
    let tokens = 5_000 + rng.below(60_000);
    let (dimension, limit) = match rng.below(6) {
        0 | 1 => (Dimension::Requests, 60 + rng.below(600)),
        2 => (Dimension::InputTokens, tokens),
        3 => (Dimension::TotalTokens, tokens),
        4 => (Dimension::OutputTokens, 2_000 + rng.below(20_000)),
        _ => (Dimension::Concurrent, 1 + rng.below(8)),
    };
    let shape = match rng.below(8) {
        0 if dimension == Dimension::Requests => LimitShape::Day,
        1..=3 => LimitShape::Window,
        _ => LimitShape::Bucket,
    };
    LimitSpec {
        dimension,
        limit,
        shape,
        sub_window_ms: (dimension == Dimension::Requests && rng.chance(0.15)).then_some(1_000),
        anchor: if rng.chance(0.5) { Anchor::Clock } else { Anchor::FirstRequest },
        ..LimitSpec::default()
    }
}

fn fault(seconds: f64, rng: &mut Rng) -> FaultSpec {
    let kind = match rng.below(14) {
        0 => FaultKind::BadKey,
        1 => FaultKind::Payment { in_flight: false, wait_ms: 0 },
        2 => FaultKind::Hang,
        3 => FaultKind::Status { code: 500, retry_after_ms: None },
        4 => FaultKind::Status { code: 503, retry_after_ms: Some(2_000) },
        5 => FaultKind::Slow { factor: 10.0 },
        6 => FaultKind::Reset { after_events: None },
        7 => FaultKind::Truncate { after_events: 2, clean: false },
        8 => FaultKind::ErrorEvent { after_events: 0 },
        9 => FaultKind::ErrorIn200 { partial: false },
        10 => FaultKind::QuotaExhausted { code: None },
        11 => FaultKind::RateLimit {
            time: RateLimitTime::RetryAfter,
            wait_ms: 3_000,
            limit_source: None,
            tokens: false,
        },
        12 => FaultKind::Stall { after_events: 1 },
        _ => FaultKind::Relayed { status: 401 },
    };
    let from_ms = rng.below(crate::time::ns_of(seconds / 1e6).max(1));
    FaultSpec {
        from_ms,
        to_ms: rng.chance(0.8).then(|| from_ms + 1 + rng.below(60_000)),
        probability: if rng.chance(0.5) { 1.0 } else { 0.2 + rng.unit() * 0.6 },
        ..FaultSpec::always(kind)
    }
}

fn routes(providers: &[ProviderSpec], rng: &mut Rng) -> Vec<Route> {
    let names = || providers.iter().map(|p| Place::named(&p.name));
    let strategies = [
        StrategyName::Headroom,
        StrategyName::RoundRobin,
        StrategyName::LeastInFlight,
        StrategyName::Fastest,
    ];
    let mut routes = vec![Route {
        name: "all".to_owned(),
        tiers: vec![names().collect()],
        strategy: if rng.chance(0.6) { StrategyName::Headroom } else { strategies[index(rng.below(4))] },
    }];
    if rng.chance(0.6) {
        let tiers = names().map(|n| vec![n]).collect();
        routes.push(Route { name: "tiers".to_owned(), tiers, strategy: StrategyName::Headroom });
    }
    if rng.chance(0.4) {
        let p = &providers[0];
        let only = vec![vec![Place::named(&format!("{}/{}", p.name, p.accounts[0].name))]];
        routes.push(Route { name: "one".to_owned(), tiers: only, strategy: StrategyName::Headroom });
    }
    routes
}

fn traffic(n: u64, rate: f64, seconds: f64, routes: &[Route], rng: &mut Rng) -> Traffic {
    let arrivals = match rng.below(5) {
        0 => Arrivals::Uniform(rate),
        1 => Arrivals::Burst { base: rate * 0.6, peak: rate * 10.0, at_s: 5.0, for_s: 2.0, every_s: 40.0 },
        2 => Arrivals::Diurnal { low: 0.0, high: rate * 2.0, period_s: seconds / 3.0 },
        _ => Arrivals::Poisson(rate),
    };
    Traffic {
        client: format!("c{n}"),
        clients: 1 + rng.below(4),
        route: Some(routes[index(rng.below(routes.len() as u64))].name.clone()),
        arrivals,
        input: Tokens::LogNormal { median: 200.0, sigma: 1.0, min: 10, max: 4_000 },
        output: Tokens::Between(1, 80),
        max_tokens: rng.chance(0.8).then_some(200),
        guess: if rng.chance(0.7) { 1.0 } else { 0.5 + rng.unit() },
        deadline_ms: [0, 500, 5_000, 20_000, 60_000][index(rng.below(5))],
        class: [Class::High, Class::Normal, Class::Normal, Class::Low][index(rng.below(4))],
        stream: rng.chance(0.5),
        leaves: if rng.chance(0.4) { 0.1 } else { 0.0 },
        comes_back: u32::from(rng.chance(0.4)) * 2,
        wrong: rng.chance(0.1),
        poison: false,
        conversation: if rng.chance(0.3) { 5 } else { 0 },
        ..Traffic::default()
    }
}

/// Makes a failing scenario smaller as long as it still fails: fewer kinds of traffic, faults, accounts and limits, and
/// half the time.
pub fn shrink(scenario: &Scenario, fails: impl Fn(&Scenario) -> bool) -> Scenario {
    let mut least = scenario.clone();
    let mut runs = 0;
    loop {
        let smaller = candidates(&least).into_iter().find(|s| {
            runs += 1;
            runs <= SHRINK_MAX && fails(s)
        });
        match smaller {
            Some(found) => least = found,
            None => return least,
        }
    }
}

/// Every scenario that is one step smaller.
fn candidates(s: &Scenario) -> Vec<Scenario> {
    let mut out = Vec::new();
    let mut push = |change: &dyn Fn(&mut Scenario)| {
        let mut smaller = s.clone();
        change(&mut smaller);
        out.push(smaller);
    };
    if s.seconds > 2.0 {
        push(&|s| s.seconds /= 2.0);
        push(&|s| s.seconds *= 0.9);
    }
    for n in 0..s.traffic.len() {
        push(&|s| drop(s.traffic.remove(n)));
    }
    for n in 0..s.strangers.len() {
        push(&|s| drop(s.strangers.remove(n)));
    }
    for p in 0..s.providers.len() {
        push(&|s| drop(s.providers.remove(p)));
        for f in 0..s.providers[p].faults.len() {
            push(&|s| drop(s.providers[p].faults.remove(f)));
        }
        for a in 0..s.providers[p].accounts.len() {
            push(&|s| drop(s.providers[p].accounts.remove(a)));
            for f in 0..s.providers[p].accounts[a].faults.len() {
                push(&|s| drop(s.providers[p].accounts[a].faults.remove(f)));
            }
            for l in 0..s.providers[p].accounts[a].limits.len() {
                push(&|s| drop(s.providers[p].accounts[a].limits.remove(l)));
            }
            for k in 0..s.providers[p].accounts[a].keys.len() {
                for f in 0..s.providers[p].accounts[a].keys[k].faults.len() {
                    push(&|s| drop(s.providers[p].accounts[a].keys[k].faults.remove(f)));
                }
                push(&|s| drop(s.providers[p].accounts[a].keys.remove(k)));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_world_has_what_it_must_have_and_is_the_same_for_its_seed() {
        for seed in 0..200 {
            let s = world(seed);
            let accounts = || s.providers.iter().flat_map(|p| &p.accounts);
            assert!(accounts().map(|a| a.limits.len()).sum::<usize>() >= 3, "domains");
            let of_keys = accounts().flat_map(|a| &a.keys).map(|k| k.faults.len()).sum::<usize>();
            let faults = of_keys + accounts().map(|a| a.faults.len()).sum::<usize>();
            assert!(faults + s.providers.iter().map(|p| p.faults.len()).sum::<usize>() >= 2, "faults");
            assert_eq!(s.strangers.len(), 1);
            assert_eq!(s.write(), world(seed).write());
        }
    }

    #[test]
    fn a_failing_scenario_is_shrunk_to_what_makes_it_fail() {
        let small = shrink(&world(3), |s| s.providers.iter().any(|p| p.name == "p1") && s.traffic.len() >= 2);
        assert_eq!((small.providers.len(), small.traffic.len(), small.strangers.len()), (1, 2, 0));
        assert!(small.seconds <= 2.0 && small.providers[0].accounts.is_empty());
    }
}
