//! A world in virtual time: a fleet, a clock, and short words for what can happen.

use crate::event::{Event, What};
use crate::fleet::{
    AccountId, AccountSpec, Charging, Dimension, Endpoint, EndpointSet, Fleet, KeyId, KeySpec, LimitSpec,
    Member, ModelSet, OutputCharge, ProviderId, ProviderSpec, RouteId, RouteSpec, Shape, Strategy,
};
use crate::outcome::{End, Evidence, LimitScope, Outcome, Phase, Sign, Used};
use crate::time::{DAY, Now, ns_of};
use crate::{
    Ask, ClientId, Decision, Destination, Lease, Next, Policy, Priority, Refusal, Size, TeamId, Ticket, Woken,
};
use std::sync::Arc;

pub(crate) const MODEL: &str = "m";

pub(crate) fn rpm(n: f64) -> LimitSpec {
    bucket(Dimension::Requests, n, n / 60.0)
}

pub(crate) fn bucket(dimension: Dimension, capacity: f64, refill_per_s: f64) -> LimitSpec {
    LimitSpec {
        dimension,
        shape: Shape::Bucket { capacity, refill_per_s },
        models: ModelSet::default(),
        preset: false,
    }
}

pub(crate) fn slots(limit: u32) -> LimitSpec {
    LimitSpec {
        dimension: Dimension::Concurrent,
        shape: Shape::Slots { limit },
        models: ModelSet::default(),
        preset: false,
    }
}

pub(crate) fn provider(id: u32) -> ProviderSpec {
    ProviderSpec {
        id: ProviderId(id),
        name: format!("p{id}").into(),
        endpoints: EndpointSet::of(&[Endpoint::ChatCompletions, Endpoint::Embeddings]),
        charging: Charging {
            output: OutputCharge::MaxTokensRefunded,
            cached_input_free: false,
            refused_count: false,
            runs_on_after_cancel: false,
        },
    }
}

/// An account with so many keys; ids follow on from what the fleet has.
pub(crate) fn add_account(fleet: &mut Fleet, provider: u32, keys: u32, limits: Vec<LimitSpec>) {
    let account = AccountId(u32::try_from(fleet.accounts.len()).unwrap());
    let name: Arc<str> = format!("a{}", account.0).into();
    fleet.accounts.push(AccountSpec {
        id: account,
        provider: ProviderId(provider),
        name,
        named: false,
        limits,
    });
    for _ in 0..keys {
        let id = KeyId(u32::try_from(fleet.keys.len()).unwrap());
        fleet.keys.push(KeySpec {
            id,
            account,
            provider: ProviderId(provider),
            name: format!("k{}", id.0).into(),
            weight: 1.0,
            enabled: true,
            secret: 0,
            models: ModelSet::default(),
            limits: Vec::new(),
        });
    }
}

/// One provider, one key in each of so many accounts, one route over all of them.
pub(crate) fn fleet(accounts: u32, limits: &[LimitSpec]) -> Fleet {
    let mut fleet = Fleet { providers: vec![provider(0)], ..Fleet::default() };
    for _ in 0..accounts {
        add_account(&mut fleet, 0, 1, limits.to_vec());
    }
    fleet.routes.push(route(0, &[&[0]]));
    fleet
}

/// A route with tiers of providers, all with the same model.
pub(crate) fn route(id: u32, tiers: &[&[u32]]) -> RouteSpec {
    let member =
        |p: &u32| Member { provider: ProviderId(*p), model: MODEL.into(), keys: Vec::new(), weight: 1.0 };
    RouteSpec {
        id: RouteId(id),
        name: format!("r{id}").into(),
        tiers: tiers.iter().map(|tier| tier.iter().map(member).collect()).collect(),
        strategy: Strategy::Headroom,
    }
}

pub(crate) fn evidence(sign: Sign, status: Option<u16>) -> Evidence {
    Evidence {
        phase: Phase::Head,
        status,
        sign,
        relayed: false,
        retry_after_ns: None,
        limit: None,
        requested: None,
    }
}

pub(crate) fn limited(scope: LimitScope, after_s: Option<f64>) -> Evidence {
    let sign = Sign::RateLimited { dimension: None, scope, daily: false };
    Evidence { retry_after_ns: after_s.map(ns_of), ..evidence(sign, Some(429)) }
}

pub(crate) fn outcome(end: End) -> Outcome {
    Outcome { end, used: None, committed: false, first_output_ns: None }
}

pub(crate) struct World {
    pub(crate) policy: Policy,
    pub(crate) ns: u64,
    pub(crate) events: Vec<What>,
}

impl World {
    pub(crate) fn new(fleet: Fleet) -> Self {
        Self::seeded(fleet, 1)
    }

    pub(crate) fn seeded(fleet: Fleet, seed: u64) -> Self {
        let ns = ns_of(1_000.0);
        Self { policy: Policy::new(at(ns), fleet, seed), ns, events: Vec::new() }
    }

    pub(crate) fn now(&self) -> Now {
        at(self.ns)
    }

    pub(crate) fn pass(&mut self, seconds: f64) {
        self.ns += ns_of(seconds);
    }

    /// An ask on route 0 that waits for at most so many seconds.
    pub(crate) fn ask(&self, wait_s: f64) -> Ask {
        Ask {
            to: Destination::Route(RouteId(0)),
            endpoint: Endpoint::ChatCompletions,
            client: ClientId(0),
            team: TeamId(0),
            class: Priority::Normal,
            weight: 1.0,
            deadline_mono_ns: self.ns + ns_of(wait_s),
            size: Size { body_bytes: 100, wide: false, input_tokens: 100, output_tokens_max: Some(100) },
            cost_max_nano_usd: None,
            session: None,
            bound_to: None,
            allowed: None,
            providers: None,
            stream: false,
        }
    }

    pub(crate) fn submit(&mut self, ask: Ask) -> Decision {
        self.policy.submit(self.now(), ask)
    }

    #[track_caller]
    pub(crate) fn go(&mut self) -> Lease {
        let ask = self.ask(10.0);
        match self.submit(ask) {
            Decision::Go(lease) => lease,
            other => panic!("{other:?}"),
        }
    }

    /// One that would not wait, not even to make contact.
    #[track_caller]
    pub(crate) fn go_now(&mut self) -> Lease {
        let ask = self.ask(0.0);
        match self.submit(ask) {
            Decision::Go(lease) => lease,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn wait(&mut self, wait_s: f64) -> (Ticket, u64) {
        let ask = self.ask(wait_s);
        match self.submit(ask) {
            Decision::Wait { ticket, forecast_mono_ns } => (ticket, forecast_mono_ns),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn refused(&mut self, wait_s: f64) -> Refusal {
        let ask = self.ask(wait_s);
        match self.submit(ask) {
            Decision::Refuse(refusal) => refusal,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn finish(&mut self, lease: Lease, end: End) -> Next {
        self.policy.finish(self.now(), lease, outcome(end))
    }

    pub(crate) fn ok(&mut self, lease: Lease) {
        let used = Used { input_tokens: 100, output_tokens: 50, ..Used::default() };
        let done = Outcome { used: Some(used), first_output_ns: Some(ns_of(0.1)), ..outcome(End::Done) };
        let next = self.policy.finish(self.now(), lease, done);
        assert!(matches!(next, Next::Done(s) if s.blame.is_none()), "{next:?}");
    }

    pub(crate) fn fail(&mut self, lease: Lease, evidence: Evidence) -> Next {
        self.finish(lease, End::Failed(evidence))
    }

    pub(crate) fn poll(&mut self) -> Vec<Woken> {
        let mut out = Vec::new();
        self.policy.poll(self.now(), &mut out);
        out
    }

    /// Jumps from wake to wake until somebody is let out.
    #[track_caller]
    pub(crate) fn until_woken(&mut self) -> Vec<Woken> {
        for _ in 0..10_000 {
            let wake = self.policy.next_wake().expect("somebody waits");
            assert_ne!(wake, u64::MAX, "waits for ever");
            self.ns = self.ns.max(wake);
            let out = self.poll();
            if !out.is_empty() {
                return out;
            }
        }
        panic!("next_wake never lets anybody out");
    }

    pub(crate) fn events(&mut self) -> &[What] {
        let mut out: Vec<Event> = Vec::new();
        self.policy.take_events(&mut out);
        self.events = out.into_iter().map(|e| e.what).collect();
        &self.events
    }

    /// Everything that is not in perfect health, in a form that can be compared.
    pub(crate) fn health(&self) -> Vec<String> {
        let view = self.policy.view(self.now());
        let mut ill = Vec::new();
        for p in &view.providers {
            if p.open_until.is_some() || !p.no_capacity.is_empty() {
                ill.push(format!("{} {:?} {:?}", p.name, p.open_until, p.no_capacity));
            }
            for a in &p.accounts {
                if a.benched.is_some() || a.quota.is_some() {
                    ill.push(format!("{} {:?} {:?}", a.name, a.benched, a.quota));
                }
                for k in &a.keys {
                    if k.benched.is_some() || k.quota.is_some() {
                        ill.push(format!("{} {:?} {:?}", k.name, k.benched, k.quota));
                    }
                    for m in &k.models {
                        let out = m.breaker_open_until.is_some() || m.benched.is_some() || m.quota.is_some();
                        if out || m.failures.0 + m.failures.1 > 0 {
                            let m = (m.breaker_open_until, m.benched, m.quota, m.failures.0, m.failures.1);
                            ill.push(format!("{} {m:?}", k.name));
                        }
                    }
                }
            }
        }
        ill
    }

    /// Levels of all limits, by account.
    pub(crate) fn levels(&self) -> Vec<f64> {
        let view = self.policy.view(self.now());
        let accounts = view.providers.iter().flat_map(|p| &p.accounts);
        accounts.flat_map(|a| a.limits.iter().map(|l| l.level)).collect()
    }

    #[track_caller]
    pub(crate) fn conserved(&self) {
        let view = self.policy.view(self.now());
        let t = view.totals;
        let waiting = u64::try_from(view.waiting.iter().sum::<usize>()).unwrap();
        assert_eq!(t.submitted, t.done + t.refused + t.cancelled + waiting + t.in_flight, "{t:?} {waiting}");
    }
}

pub(crate) fn at(ns: u64) -> Now {
    Now { mono_ns: ns, unix_ns: 20_000 * DAY + ns }
}

#[track_caller]
pub(crate) fn again(next: Next) -> Lease {
    match next {
        Next::Go(lease) => lease,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub(crate) fn let_out(woken: Vec<Woken>) -> Lease {
    assert_eq!(woken.len(), 1, "{woken:?}");
    match woken.into_iter().next().map(|w| w.decision) {
        Some(Decision::Go(lease)) => lease,
        other => panic!("{other:?}"),
    }
}
