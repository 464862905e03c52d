//! What changed, for logs, metrics and the dashboard. Every change of a key's or provider's state yields one.

use crate::blame::Class;
use crate::fleet::{AccountId, Dimension, KeyId, OutputCharge, ProviderId};
use crate::time::Now;
use std::sync::Arc;

/// Something happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When.
    pub at: Now,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "fields are ids, names and instants")]
pub enum What {
    /// The breaker of a key x model opened.
    BreakerOpened { key: KeyId, model: Arc<str>, until_mono_ns: u64, last: Class },
    /// It lets one probe through.
    BreakerHalfOpen { key: KeyId, model: Arc<str> },
    /// It closed again.
    BreakerClosed { key: KeyId, model: Arc<str> },
    /// The breaker of a provider opened; the benches that its trouble caused are undone.
    ProviderOpened { provider: ProviderId, until_mono_ns: u64 },
    /// It closed again.
    ProviderClosed { provider: ProviderId },
    /// A key is out until a probe.
    KeyBenched { key: KeyId, why: Class, until_mono_ns: u64 },
    /// It is back.
    KeyRestored { key: KeyId },
    /// An account is out until a probe or a reset.
    AccountBenched { account: AccountId, why: Class, until_mono_ns: u64 },
    /// It is back.
    AccountRestored { account: AccountId },
    /// A provider has no capacity for a model.
    CapacityShut { provider: ProviderId, model: Arc<str>, until_mono_ns: u64 },
    /// It has capacity for the model again.
    CapacityRestored { provider: ProviderId, model: Arc<str> },
    /// A limit was learned or changed.
    LimitLearned { account: AccountId, dimension: Dimension, size: f64 },
    /// Answers show that a provider charges tokens by another rule than was known.
    ChargingLearned { provider: ProviderId, output: OutputCharge },
    /// A domain was shut by a refusal.
    QuotaShut {
        account: AccountId,
        model: Option<Arc<str>>,
        dimension: Option<Dimension>,
        until_mono_ns: u64,
    },
    /// Two accounts of the configuration are found to be one: the keys of `account` share the limits of `into`.
    AccountJoined { account: AccountId, into: AccountId },
    /// The global retry budget is spent.
    RetryBudgetSpent,
    /// The configuration was replaced.
    Reconfigured,
}
