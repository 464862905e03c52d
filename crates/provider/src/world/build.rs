//! From spec to world.

use std::collections::{BinaryHeap, HashMap};

use crate::account::{Account, Key, PromptCache, Stored};
use crate::fault::{Fault, FaultSpec};
use crate::limit::Limiter;
use crate::record::{Books, Name};
use crate::rng::Rng;
use crate::spec::{AccountSpec, Dimension, LimitSpec, ModelSpec, ProviderSpec, WorldSpec};
use crate::spending::Spending;
use crate::time::{MS, Now};
use crate::world::{Provider, World, WorldError};

const RECORDS_KEPT: usize = 1_000_000;

pub(super) fn world(spec: WorldSpec, seed: u64) -> Result<World, WorldError> {
    let mut limiters = Vec::new();
    let mut slots = 0;
    let mut providers: Vec<Provider> = Vec::new();
    for provider in spec.providers {
        if provider.name.is_empty() || provider.name.contains('/') {
            return Err(WorldError::new(format!("'{}' is no name for a provider", provider.name)));
        }
        if providers.iter().any(|p| p.name == *provider.name) {
            return Err(WorldError::new(format!("two providers named '{}'", provider.name)));
        }
        providers.push(build_provider(provider, &mut limiters, &mut slots)?);
    }
    Ok(World {
        providers,
        limiters,
        open: HashMap::new(),
        lingering: BinaryHeap::new(),
        books: Books::new(slots, RECORDS_KEPT),
        rng: Rng::new(seed),
        names: HashMap::new(),
        scratch: Vec::new(),
    })
}

fn build_provider(
    spec: ProviderSpec,
    limiters: &mut Vec<Limiter>,
    slots: &mut usize,
) -> Result<Provider, WorldError> {
    let mut provider = Provider {
        name: Name::from(spec.name.as_str()),
        dialect: spec.dialect,
        family: spec.headers.unwrap_or_else(|| spec.dialect.own_headers()),
        refusal_time: spec.refusal_time,
        shared: spec.models.iter().map(|model| shared(model, limiters)).collect(),
        by_model: HashMap::new(),
        models: Vec::new(),
        accounts: Vec::new(),
        keys: Vec::new(),
        by_secret: HashMap::new(),
        latency: spec.latency.clone(),
        faults: timeline(&spec.faults),
        open: spec.open,
        cancel_stops_billing: spec.cancel_stops_billing,
        expose_account: spec.expose_account,
        default_max_tokens: spec.default_max_tokens,
        stranger_slot: take_slot(slots),
    };
    for (index, model) in spec.models.iter().enumerate() {
        if provider.by_model.insert(model.id.clone(), index).is_some() {
            return Err(WorldError::new(format!("{}: two models named '{}'", spec.name, model.id)));
        }
    }
    for account in &spec.accounts {
        add_account(&mut provider, &spec, account, limiters, slots)?;
    }
    provider.models = spec.models;
    Ok(provider)
}

fn add_account(
    provider: &mut Provider,
    spec: &ProviderSpec,
    account: &AccountSpec,
    limiters: &mut Vec<Limiter>,
    slots: &mut usize,
) -> Result<(), WorldError> {
    if provider.accounts.iter().any(|other| other.name == *account.name) {
        return Err(WorldError::new(format!("{}: two accounts named '{}'", spec.name, account.name)));
    }
    let index = provider.accounts.len();
    let limits = spec.limits.iter().chain(&account.limits);
    provider.accounts.push(Account {
        name: Name::from(account.name.as_str()),
        limiters: limits.map(|limit| add(limiters, limit)).collect(),
        charging: account.charging.clone().unwrap_or_else(|| spec.charging.clone()),
        credit: account.credit_nano_usd,
        spent_nano_usd: 0,
        faults: timeline(&account.faults),
        cache: PromptCache::default(),
        stored: Stored::default(),
        producing: Vec::new(),
        produced_until_ns: 0,
    });
    for key in &account.keys {
        if provider.keys.iter().any(|other| other.name == *key.name) {
            return Err(WorldError::new(format!("{}: two keys named '{}'", spec.name, key.name)));
        }
        if provider.by_secret.insert(key.secret.clone(), provider.keys.len()).is_some() {
            let name = &key.name;
            return Err(WorldError::new(format!("{}: the secret of key '{name}' is used twice", spec.name)));
        }
        provider.keys.push(Key {
            name: Name::from(key.name.as_str()),
            account: index,
            limiters: key.limits.iter().map(|limit| add(limiters, limit)).collect(),
            spend_cap: key.spend_cap_nano_usd,
            spend_reset: key.spend_reset,
            spent: Spending::begun(key.spent_nano_usd),
            expires_ns: key.expires_in_ms.map(|ms| ms.saturating_mul(MS)),
            disabled: key.disabled,
            workspace: key.workspace.as_deref().map(Name::from),
            faults: timeline(&key.faults),
            slot: take_slot(slots),
        });
    }
    Ok(())
}

fn take_slot(slots: &mut usize) -> usize {
    *slots += 1;
    *slots - 1
}

fn add(limiters: &mut Vec<Limiter>, spec: &LimitSpec) -> usize {
    limiters.push(Limiter::new(spec, Now::default()));
    limiters.len() - 1
}

/// Capacity that all accounts share.
fn shared(model: &ModelSpec, limiters: &mut Vec<Limiter>) -> Vec<usize> {
    let rpm = model.shared_rpm.map(|limit| LimitSpec { limit, ..LimitSpec::default() });
    let slots = model.shared_concurrent.map(|limit| LimitSpec {
        dimension: Dimension::Concurrent,
        limit,
        ..LimitSpec::default()
    });
    rpm.iter()
        .chain(&slots)
        .map(|limit| {
            let mut limiter = Limiter::new(limit, Now::default());
            limiter.shared = true;
            limiter.label = Name::from(format!("shared {}", limiter.label));
            limiters.push(limiter);
            limiters.len() - 1
        })
        .collect()
}

fn timeline(faults: &[FaultSpec]) -> Vec<Fault> {
    faults.iter().cloned().map(Fault::new).collect()
}
