//! The truth about who may call and what they may spend: teams, client keys, and what money settings there are.
//! Plain data; nothing here is
//! enforced by this crate.

use crate::secret::SecretSource;
use keymux_policy::Priority;
use keymux_policy::budget::Budget;
use keymux_policy::fleet::{LimitSpec, ModelSet};
use std::sync::Arc;

/// Client keys that share a budget and limits above their own.
#[derive(Clone, Debug, PartialEq)]
pub struct Team {
    /// Its name, unique.
    pub name: Arc<str>,
    /// What all of its keys may spend together.
    pub budget: Budget,
    /// What they may use together.
    pub limits: Vec<LimitSpec>,
}

/// A key that clients call with.
#[derive(Clone, Debug, PartialEq)]
pub struct Client {
    /// Its name, unique.
    pub name: Arc<str>,
    /// Index of its team.
    pub team: Option<usize>,
    /// SHA-256 of what it presents: what it is looked up by.
    pub digest: [u8; 32],
    /// Where the secret came from, to read it again; `None`: only its digest was written down.
    pub source: Option<SecretSource>,
    /// Where it may go.
    pub allow: Allow,
    /// What it may spend.
    pub budget: Budget,
    /// What it may use.
    pub limits: Vec<LimitSpec>,
    /// Its class, and the highest that its requests can ask for.
    pub priority: Priority,
    /// Its share against the other clients of its class.
    pub weight: f64,
    /// From when on it is refused (seconds since 1970-01-01 UTC).
    pub expires_unix_s: Option<i64>,
    /// Labels for the ledger.
    pub tags: Vec<Arc<str>>,
    /// How long its requests may wait; over the route's.
    pub max_wait_ms: Option<u64>,
}

/// Where a client may go, fallbacks included. `None`: anywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allow {
    /// Models by the name that the client uses (an empty set: all).
    pub models: ModelSet,
    /// Names of providers.
    pub providers: Option<Vec<Arc<str>>>,
    /// Providers and names of their accounts.
    pub accounts: Option<Vec<(Arc<str>, Arc<str>)>>,
    /// Providers and names of their keys.
    pub keys: Option<Vec<(Arc<str>, Arc<str>)>>,
}

/// What becomes of a client with a budget that asks for a model whose price is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownPrice {
    /// Refused: its cost has no bound.
    #[default]
    Refuse,
    /// Served, and its cost is recorded as unknown; it spends nothing of the budget.
    Serve,
}
