//! From a scenario to both sides of it: the world as the providers enforce it, and the fleet as the gateway knows it.

use crate::spec::{KeyTerms, Limits, Place, Scenario, SpecError};
use crate::time::{DAY, MS};
use keymux_policy::fleet::{
    self as ours, AccountId, Charging, Endpoint, EndpointSet, Fleet, KeyId, Member, ModelSet, OutputCharge,
    ProviderId, RouteId, RouteSpec, Shape,
};
use keymux_provider::{self as theirs, Anchor, ChargingSpec, LimitShape, TotalTokens, WorldSpec};
use std::sync::Arc;

/// The model of places that name none: everybody serves it.
pub(crate) const MODEL: &str = "m";

/// A key, as both sides know it.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) secret: String,
    pub(crate) provider: usize,
    pub(crate) account: usize,
}

/// An account with all its limits.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) provider: usize,
    pub(crate) limits: Vec<theirs::LimitSpec>,
    pub(crate) charging: ChargingSpec,
    /// Faults of its provider and its own; and of its keys, if it has only one.
    pub(crate) faults: Vec<theirs::FaultSpec>,
}

/// A route, as the accounts that may serve it, each with its name of the model.
#[derive(Clone, Debug)]
pub(crate) struct RouteOf {
    pub(crate) name: String,
    pub(crate) accounts: Vec<(usize, Arc<str>)>,
}

impl Account {
    /// The limits that requests of this model meet there.
    pub(crate) fn limits_of(&self, model: &str) -> impl Iterator<Item = (usize, &theirs::LimitSpec)> {
        self.limits.iter().enumerate().filter(move |(_, l)| l.applies_to(model))
    }
}

/// Both sides of a scenario.
#[derive(Clone, Debug)]
pub(crate) struct Sides {
    pub(crate) world: WorldSpec,
    pub(crate) fleet: Fleet,
    pub(crate) keys: Vec<Key>,
    pub(crate) accounts: Vec<Account>,
    pub(crate) routes: Vec<RouteOf>,
}

fn wrong(text: impl Into<String>) -> SpecError {
    SpecError::Sense(text.into())
}

/// Works both sides out.
pub(crate) fn sides(scenario: &Scenario) -> Result<Sides, SpecError> {
    let world = WorldSpec { providers: providers(scenario)? };
    if world.providers.is_empty() {
        return Err(wrong("there is no [[provider]]"));
    }
    let mut sides =
        Sides { world, fleet: Fleet::default(), keys: Vec::new(), accounts: Vec::new(), routes: Vec::new() };
    if let Some(settings) = &scenario.settings {
        sides.fleet.settings = settings.clone();
    }
    if let Some(max) = scenario.waiters_max {
        let room = &mut sides.fleet.settings.room;
        (room.waiters_max, room.per_client_max, room.per_route_max) = (max, max, max);
        room.bytes_max = u64::MAX;
    }
    for (p, provider) in sides.world.providers.clone().iter().enumerate() {
        let limits = scenario.limits_of.get(&provider.name).copied().unwrap_or(scenario.limits);
        add_provider(&mut sides, (p, provider), scenario, limits == Limits::Declared);
    }
    if sides.keys.is_empty() {
        return Err(wrong(
            "no provider has a key; add [[provider.account]] with [[provider.account.key]], or [[accounts]]",
        ));
    }
    add_routes(&mut sides, scenario)?;
    Ok(sides)
}

/// The providers with all accounts in place.
pub(crate) fn providers(scenario: &Scenario) -> Result<Vec<theirs::ProviderSpec>, SpecError> {
    let mut providers = scenario.providers.clone();
    for copies in &scenario.accounts {
        let found = providers.iter_mut().find(|p| p.name == copies.provider);
        let provider = found
            .ok_or_else(|| wrong(format!("[[accounts]]: there is no provider `{}`", copies.provider)))?;
        for n in 0..copies.copies.max(1) {
            let mut account = copies.like.clone();
            account.name = format!("{}{}", if account.name.is_empty() { "a" } else { &account.name }, n);
            let like = account.keys.first().cloned().unwrap_or_default();
            account.keys = (0..copies.keys.max(1))
                .map(|k| {
                    let name = format!("{}-{k}", account.name);
                    theirs::KeySpec { secret: String::new(), name, ..like.clone() }
                })
                .collect();
            provider.accounts.push(account);
        }
    }
    for provider in &mut providers {
        for account in &mut provider.accounts {
            for key in &mut account.keys {
                if key.name.is_empty() {
                    key.name.clone_from(&account.name);
                }
                if key.secret.is_empty() {
                    key.secret = format!("{}/{}", provider.name, key.name);
                }
            }
        }
    }
    Ok(providers)
}

fn add_provider(
    sides: &mut Sides,
    (p, provider): (usize, &theirs::ProviderSpec),
    scenario: &Scenario,
    declared: bool,
) {
    let id = ProviderId(to_u32(p));
    sides.fleet.providers.push(ours::ProviderSpec {
        id,
        name: provider.name.as_str().into(),
        // Translation between dialects is nobody's business here.
        endpoints: EndpointSet::of(&[Endpoint::ChatCompletions]),
        charging: charging(&provider.charging, provider),
    });
    for account in &provider.accounts {
        let a = sides.accounts.len();
        let account_id = AccountId(to_u32(a));
        let limits: Vec<_> = provider.limits.iter().chain(&account.limits).cloned().collect();
        sides.fleet.accounts.push(ours::AccountSpec {
            id: account_id,
            provider: id,
            name: account.name.as_str().into(),
            named: true,
            limits: if declared { limits.iter().flat_map(declare).collect() } else { Vec::new() },
        });
        let mut faults: Vec<_> = provider.faults.iter().chain(&account.faults).cloned().collect();
        if let [only] = account.keys.as_slice() {
            faults.extend(only.faults.iter().cloned());
        }
        for key in &account.keys {
            let name = format!("{}/{}", provider.name, key.name);
            let KeyTerms { weight, models } = scenario.keys.get(&name).cloned().unwrap_or_default();
            sides.fleet.keys.push(ours::KeySpec {
                id: KeyId(to_u32(sides.keys.len())),
                account: account_id,
                provider: id,
                name: key.name.as_str().into(),
                weight,
                enabled: true,
                secret: 0,
                models: ModelSet(models.into_iter().map(String::into_boxed_str).collect()),
                limits: if declared { key.limits.iter().flat_map(declare).collect() } else { Vec::new() },
            });
            sides.keys.push(Key { name, secret: key.secret.clone(), provider: p, account: a });
        }
        sides.accounts.push(Account {
            name: format!("{}/{}", provider.name, account.name),
            provider: p,
            limits,
            charging: account.charging.clone().unwrap_or_else(|| provider.charging.clone()),
            faults,
        });
    }
}

fn add_routes(sides: &mut Sides, scenario: &Scenario) -> Result<(), SpecError> {
    for (r, route) in scenario.routes().iter().enumerate() {
        let mut accounts = Vec::new();
        let mut tiers = Vec::new();
        for tier in &route.tiers {
            let mut members = Vec::new();
            for place in tier {
                let member = member(sides, place, &mut accounts)?;
                members.push(member);
            }
            tiers.push(members);
        }
        sides.fleet.routes.push(RouteSpec {
            id: RouteId(to_u32(r)),
            name: route.name.as_str().into(),
            tiers,
            strategy: route.strategy.into(),
        });
        sides.routes.push(RouteOf { name: route.name.clone(), accounts });
    }
    Ok(())
}

fn member(sides: &Sides, place: &Place, accounts: &mut Vec<(usize, Arc<str>)>) -> Result<Member, SpecError> {
    let Place { provider, account, keys: named, model, weight } = place;
    let at = sides.world.providers.iter().position(|p| p.name == *provider);
    let at = at.ok_or_else(|| wrong(format!("[[route]]: there is no provider `{provider}`")))?;
    let of = account.as_ref().map(|account| format!("{provider}/{account}"));
    let of_account = |a: usize| {
        let a = &sides.accounts[a];
        a.provider == at && of.as_ref().is_none_or(|name| a.name == *name)
    };
    if let Some(name) = of.as_ref().filter(|_| !(0..sides.accounts.len()).any(of_account)) {
        return Err(wrong(format!("[[route]]: there is no account `{name}`")));
    }
    let named: Vec<String> = named.iter().map(|key| format!("{provider}/{key}")).collect();
    if let Some(name) = named.iter().find(|name| !sides.keys.iter().any(|k| k.name == **name)) {
        return Err(wrong(format!("[[route]]: there is no key `{name}`")));
    }
    let wanted = |k: &&usize| {
        let key = &sides.keys[**k];
        of_account(key.account) && (named.is_empty() || named.contains(&key.name))
    };
    let all: Vec<usize> = (0..sides.keys.len()).collect();
    let found: Vec<usize> = all.iter().filter(wanted).copied().collect();
    let model: Arc<str> = model.as_deref().unwrap_or(MODEL).into();
    let mut of_keys: Vec<usize> = found.iter().map(|k| sides.keys[*k].account).collect();
    of_keys.dedup();
    accounts.extend(of_keys.into_iter().map(|a| (a, model.clone())));
    let only = account.is_some() || !named.is_empty();
    if only && found.is_empty() {
        return Err(wrong(format!("[[route]]: there is no key at `{}`", of.unwrap_or_default())));
    }
    let keys = if only { found.into_iter().map(|k| KeyId(to_u32(k))).collect() } else { Vec::new() };
    Ok(Member { provider: ProviderId(to_u32(at)), model, keys, weight: *weight })
}

/// How the gateway is told that the provider charges.
fn charging(spec: &ChargingSpec, provider: &theirs::ProviderSpec) -> Charging {
    let output = match spec.total_tokens {
        TotalTokens::AsProduced if !spec.output_reserved => OutputCharge::AsProduced,
        TotalTokens::MaxOfEstimateAndMaxTokens if !spec.refund_unused => OutputCharge::MaxOfBoth,
        TotalTokens::InputPlusMaxTokens if !spec.refund_unused => OutputCharge::SumOfBoth,
        _ => OutputCharge::MaxTokensRefunded,
    };
    Charging {
        output,
        cached_input_free: spec.cached_input_free,
        refused_count: spec.refused_count,
        runs_on_after_cancel: !provider.cancel_stops_billing,
    }
}

/// A limit as an operator writes it down: what is enforced in slices is told as well.
fn declare(limit: &theirs::LimitSpec) -> Vec<ours::LimitSpec> {
    use theirs::Dimension as D;
    let dimension = match limit.dimension {
        D::Requests => ours::Dimension::Requests,
        D::InputTokens => ours::Dimension::InputTokens,
        D::OutputTokens => ours::Dimension::OutputTokens,
        D::TotalTokens => ours::Dimension::TotalTokens,
        D::Concurrent => ours::Dimension::Concurrent,
        // Nobody can declare what is in flight in dollars.
        D::InFlightMoney => return Vec::new(),
    };
    let spec = |shape| ours::LimitSpec {
        dimension,
        shape,
        models: ModelSet(limit.models.iter().map(|m| m.as_str().into()).collect()),
        preset: false,
    };
    let period_ns = if limit.shape == LimitShape::Day { DAY } else { limit.period_ms.max(1) * MS };
    let amount = limit.limit as f64;
    if limit.dimension == D::Concurrent {
        return vec![spec(Shape::Slots {
            limit: to_u32(usize::try_from(limit.limit).unwrap_or(usize::MAX)),
        })];
    }
    let shape = match limit.shape {
        LimitShape::Bucket => Shape::Bucket {
            capacity: limit.burst.unwrap_or(limit.limit) as f64,
            refill_per_s: amount / (period_ns as f64 / 1e9),
        },
        LimitShape::Window => Shape::Window {
            limit: amount,
            period_ns,
            anchor_unix_ns: (limit.anchor == Anchor::Clock).then_some(0),
        },
        LimitShape::Day => Shape::Day { limit: amount, offset_s: 0 },
    };
    let mut out = vec![spec(shape)];
    if let Some(ms) = limit.sub_window_ms {
        let share = (amount * (ms * MS) as f64 / period_ns as f64).floor().max(1.0);
        out.push(spec(Shape::Window { limit: share, period_ns: ms * MS, anchor_unix_ns: Some(0) }));
    }
    out
}

pub(crate) fn to_u32(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
