//! The state of everything, as JSON, and what an event says in words.

use crate::live::Snapshot;
use crate::observe::class_label;
use crate::serve::Gateway;
use keymux_policy::event::What;
use keymux_policy::fleet::{AccountId, KeyId, ProviderId};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

/// What operators see.
pub(super) fn json(gateway: &Gateway) -> Value {
    let _view = gateway.scheduler.view();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "draining": gateway.draining.load(Ordering::Acquire),
        "in_flight": gateway.in_flight.load(Ordering::Acquire),
        "waiting": gateway.scheduler.waiting(),
        "keys": [],
    })
}

/// An event in words.
pub fn told(gateway: &Gateway, what: &What) -> String {
    let snapshot = gateway.live.load();
    let key = |id: &KeyId| key_name(&snapshot, *id);
    let provider = |id: &ProviderId| provider_name(&snapshot, *id);
    let account = |id: &AccountId| account_name(&snapshot, *id);
    match what {
        What::BreakerOpened { key: id, model, last, .. } => {
            format!("breaker opened: {} {model} (last: {})", key(id), class_label(*last))
        }
        What::BreakerHalfOpen { key: id, model } => format!("breaker half open: {} {model}", key(id)),
        What::BreakerClosed { key: id, model } => format!("breaker closed: {} {model}", key(id)),
        What::ProviderOpened { provider: id, .. } => format!("provider out: {}", provider(id)),
        What::ProviderClosed { provider: id } => format!("provider back: {}", provider(id)),
        What::KeyBenched { key: id, why, .. } => format!("key benched: {} ({})", key(id), class_label(*why)),
        What::KeyRestored { key: id } => format!("key restored: {}", key(id)),
        What::AccountBenched { account: id, why, .. } => {
            format!("account benched: {} ({})", account(id), class_label(*why))
        }
        What::AccountRestored { account: id } => format!("account restored: {}", account(id)),
        What::CapacityShut { provider: id, model, .. } => format!("no capacity: {} {model}", provider(id)),
        What::LimitLearned { account: id, dimension, size } => {
            format!("limit learned: {} {dimension:?} {size:.0}", account(id))
        }
        What::QuotaShut { account: id, dimension, .. } => match dimension {
            Some(dimension) => format!("quota used up: {} {dimension:?}", account(id)),
            None => format!("quota used up: {}", account(id)),
        },
        What::RetryBudgetSpent => "the retry budget is spent".to_owned(),
        What::Reconfigured => "the configuration was replaced".to_owned(),
    }
}

fn key_name(snapshot: &Snapshot, id: KeyId) -> String {
    match snapshot.key(id) {
        Some(key) => format!("{}/{}", account_name(snapshot, key.account), key.name),
        None => "a removed key".to_owned(),
    }
}

fn provider_name(snapshot: &Snapshot, id: ProviderId) -> String {
    snapshot.upstream(id).map_or_else(|| "a removed provider".to_owned(), |u| u.name.to_string())
}

fn account_name(snapshot: &Snapshot, id: AccountId) -> String {
    snapshot.account_names.get(&id).cloned().unwrap_or_else(|| "a removed account".to_owned())
}
