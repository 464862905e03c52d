//! What a client or a team may, from both places where it can be written down (the configuration and the store), with
//! every name resolved against the configuration in force.

use crate::live::Snapshot;
use keymux_config as config;
use keymux_policy::budget::{Budget, Owner, Payers, Reset};
use keymux_policy::fleet::{Dimension, KeyId, LimitSpec, ModelSet, ProviderId, Shape};
use keymux_policy::{Allowed, Priority};
use keymux_store as store;
use std::sync::Arc;

/// Whether a key may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It may, until it expires.
    Active,
    /// Switched off for now.
    Disabled,
    /// Its team is switched off, or no more.
    TeamOff,
    /// Ended for ever.
    Revoked,
}

/// A client, as the data path sees it.
#[derive(Debug)]
pub struct Client {
    /// Its id, in the ledger too: `config:<name>`, or the store's.
    pub id: Arc<str>,
    /// What people call it.
    pub name: Arc<str>,
    /// Its team; empty for none.
    pub team: Arc<str>,
    /// Who it is to the scheduler, and whose limits and budgets it uses.
    pub payers: Payers,
    /// Whether it may call.
    pub status: Status,
    /// When it ends, in milliseconds since 1970.
    pub expires_unix_ms: Option<u64>,
    /// Models, by the names that the client uses.
    pub models: ModelSet,
    /// Providers and keys; `None`: all.
    pub allowed: Option<Arc<Allowed>>,
    /// Its class, and the highest that its requests can ask for.
    pub class: Priority,
    /// Its share against the other clients of its class.
    pub weight: f64,
    /// How long its requests may wait; over the route's.
    pub max_wait_ms: Option<u64>,
    /// Labels for the ledger.
    pub tags: Vec<Arc<str>>,
    /// Somebody's money has a limit: its own, or its team's.
    pub budgeted: bool,
    /// What it asks without a cap on the output gets a smaller one than usual where its money covers no more.
    pub shortens: bool,
}

impl Client {
    /// Whether it may use a key of a provider.
    pub fn may_use(&self, provider: ProviderId, key: KeyId) -> bool {
        self.allowed.as_ref().is_none_or(|allowed| allowed.has(provider, key))
    }
}

/// The limits and the budget of a client or a team.
#[derive(Clone, Debug)]
pub struct Dues {
    /// Whose.
    pub owner: Owner,
    /// Requests and tokens a minute, requests at once.
    pub limits: Vec<LimitSpec>,
    /// Money; `None`: it is no more, and may spend nothing.
    pub budget: Option<Budget>,
}

/// A team, from either place.
pub(super) struct Team {
    pub(super) limits: Vec<LimitSpec>,
    pub(super) budget: Budget,
    pub(super) off: bool,
}

impl Team {
    pub(super) fn of_config(team: &config::Team) -> Self {
        Self { limits: team.limits.clone(), budget: team.budget, off: false }
    }

    pub(super) fn of_store(team: &store::Team) -> Self {
        let (limits, budget) = (limits(&team.terms), budget(&team.terms));
        Self { limits, budget, off: team.disabled || team.removed }
    }
}

/// What is left to be found out of a client: its ids, and what is known of its team.
pub(super) struct Around<'a> {
    pub(super) payers: Payers,
    pub(super) team: Option<&'a Team>,
    pub(super) snapshot: &'a Snapshot,
}

/// A client of the configuration, and what it may use up.
pub(super) fn of_config(client: &config::Client, around: &Around<'_>) -> (Client, Dues) {
    let teams = &around.snapshot.config.teams;
    let team = client.team.and_then(|index| teams.get(index)).map_or_else(|| "".into(), |t| t.name.clone());
    let made = Client {
        id: format!("config:{}", client.name).into(),
        name: client.name.clone(),
        team,
        payers: around.payers,
        status: Status::Active,
        expires_unix_ms: client.expires_unix_s.map(|s| u64::try_from(s).unwrap_or(0).saturating_mul(1_000)),
        models: client.allow.models.clone(),
        allowed: allowed(&client.allow, around.snapshot),
        class: client.priority,
        weight: client.weight,
        max_wait_ms: client.max_wait_ms,
        tags: client.tags.clone(),
        budgeted: budgeted(client.budget, around),
        shortens: true,
    };
    let owner = Owner::Client(around.payers.client);
    (made, Dues { owner, limits: client.limits.clone(), budget: Some(client.budget) })
}

/// A client of the store, and what it may use up.
pub(super) fn of_store(client: &store::Client, around: &Around<'_>) -> (Client, Dues) {
    let terms = &client.terms;
    let named = |list: &[String]| -> Option<Vec<Arc<str>>> {
        (!list.is_empty()).then(|| list.iter().map(|name| name.as_str().into()).collect())
    };
    let allow = config::Allow {
        models: ModelSet(terms.models.iter().map(|glob| glob.as_str().into()).collect()),
        providers: named(&terms.providers),
        accounts: pairs(&terms.accounts),
        keys: pairs(&terms.keys),
    };
    let team_off = !client.team.is_empty() && around.team.is_none_or(|team| team.off);
    let status = match () {
        () if client.revoked_unix_ms.is_some() => Status::Revoked,
        () if client.disabled => Status::Disabled,
        () if team_off => Status::TeamOff,
        () => Status::Active,
    };
    let budget = budget(terms);
    let made = Client {
        id: client.id.as_str().into(),
        name: client.name.as_str().into(),
        team: client.team.as_str().into(),
        payers: around.payers,
        status,
        expires_unix_ms: client.expires_unix_ms,
        allowed: allowed(&allow, around.snapshot),
        models: allow.models,
        class: match terms.priority.as_deref() {
            Some("high") => Priority::High,
            Some("low") => Priority::Low,
            _ => Priority::Normal,
        },
        weight: terms.weight.map_or(1.0, |weight| f64::from(weight.max(1))),
        max_wait_ms: terms.max_wait_ms,
        tags: terms.tags.iter().map(|tag| tag.as_str().into()).collect(),
        budgeted: budgeted(budget, around),
        shortens: true,
    };
    let owner = Owner::Client(around.payers.client);
    (made, Dues { owner, limits: limits(terms), budget: Some(budget) })
}

fn budgeted(own: Budget, around: &Around<'_>) -> bool {
    own.limit_nano_usd.is_some() || around.team.is_some_and(|team| team.budget.limit_nano_usd.is_some())
}

/// `provider:name`, or a name that holds at any provider.
fn pairs(list: &[String]) -> Option<Vec<(Arc<str>, Arc<str>)>> {
    let pair = |text: &String| {
        let (provider, name) = text.split_once(':').unwrap_or(("", text));
        (provider.into(), name.into())
    };
    (!list.is_empty()).then(|| list.iter().map(pair).collect())
}

/// The ids behind the names. A name that the configuration does not have (any more) allows nothing.
fn allowed(allow: &config::Allow, snapshot: &Snapshot) -> Option<Arc<Allowed>> {
    let listed = |list: &[(Arc<str>, Arc<str>)], provider: &str, name: &str| {
        list.iter().any(|(p, n)| **n == *name && (p.is_empty() || **p == *provider))
    };
    if allow.providers.is_none() && allow.accounts.is_none() && allow.keys.is_none() {
        return None;
    }
    let all = snapshot.config.providers.iter().zip(&snapshot.provider_ids).zip(&snapshot.key_ids);
    let (mut providers, mut keys) = (Vec::new(), Vec::new());
    for ((provider, id), key_ids) in all {
        if allow.providers.as_ref().is_some_and(|list| !list.contains(&provider.name)) {
            continue;
        }
        providers.push(*id);
        for (key, key_id) in provider.keys.iter().zip(key_ids) {
            let account = &provider.accounts[key.account].name;
            let by_account = allow.accounts.as_ref().is_none_or(|list| listed(list, &provider.name, account));
            let by_key = allow.keys.as_ref().is_none_or(|list| listed(list, &provider.name, &key.name));
            if by_account && by_key {
                keys.push(*key_id);
            }
        }
    }
    providers.sort_unstable();
    keys.sort_unstable();
    let by_key = allow.accounts.is_some() || allow.keys.is_some();
    Some(Arc::new(Allowed { providers: Some(providers), keys: by_key.then_some(keys) }))
}

/// In the scheduler's own shapes, as the configuration makes them.
fn limits(terms: &store::Terms) -> Vec<LimitSpec> {
    let spec = |dimension, shape| LimitSpec { dimension, shape, models: ModelSet::default(), preset: false };
    let bucket = |n: u64| Shape::Bucket { capacity: n as f64, refill_per_s: n as f64 / 60.0 };
    let mut limits = Vec::new();
    limits.extend(terms.requests_a_minute.map(|n| spec(Dimension::Requests, bucket(n))));
    limits.extend(terms.tokens_a_minute.map(|n| spec(Dimension::TotalTokens, bucket(n))));
    limits.extend(terms.concurrent.map(|limit| spec(Dimension::Concurrent, Shape::Slots { limit })));
    limits
}

fn budget(terms: &store::Terms) -> Budget {
    let Some(budget) = terms.budget else { return Budget::default() };
    let reset = match budget.reset {
        store::Reset::Daily => Reset::Daily,
        store::Reset::Weekly => Reset::Weekly,
        store::Reset::Monthly => Reset::Monthly,
        store::Reset::Never => Reset::Never,
    };
    Budget { limit_nano_usd: Some(budget.nano_usd), reset }
}
