//! What a request asks of the scheduler.

use crate::fleet::{AccountId, Endpoint, KeyId, ProviderId, RouteId};
use std::sync::Arc;

/// Where a request wants to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A route of the configuration.
    Route(RouteId),
    /// A provider's model without a route of its own.
    Adhoc {
        /// The provider.
        provider: ProviderId,
        /// The upstream's name of the model.
        model: Arc<str>,
    },
}

/// Priority classes. Strict, but each lower one keeps a small share of every binding limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Class {
    High,
    #[default]
    Normal,
    Low,
}

/// Who asks. Zero is the one client of a gateway without client keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub u64);

/// The team of the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TeamId(pub u64);

/// What a request will use, as far as one can know before it is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Size {
    /// Bytes of the body, which a waiting request keeps in memory.
    pub body_bytes: u64,
    /// Uncalibrated guess of the input tokens.
    pub input_tokens: u64,
    /// Most of its text is beyond ASCII: how far a guess is off differs by script.
    pub wide: bool,
    /// The caller's cap on output tokens, times `n`.
    pub output_tokens_max: Option<u64>,
}

/// Which providers the caller allows, and in which order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Providers {
    /// These first, in this order.
    pub order: Vec<ProviderId>,
    /// Only these (`None`: any).
    pub only: Option<Vec<ProviderId>>,
    /// Never these.
    pub ignore: Vec<ProviderId>,
    /// Whether others than those in `order` may serve, and later tiers.
    pub no_fallbacks: bool,
}

/// What a client may use at all, whatever its request says. Both lists in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Allowed {
    /// Only these providers (`None`: any).
    pub providers: Option<Vec<ProviderId>>,
    /// Only these keys of theirs (`None`: any).
    pub keys: Option<Vec<KeyId>>,
}

impl Allowed {
    /// Whether a key of a provider is among it.
    pub fn has(&self, provider: ProviderId, key: KeyId) -> bool {
        self.has_provider(provider) && self.has_key(key)
    }

    pub(crate) fn has_provider(&self, provider: ProviderId) -> bool {
        self.providers.as_ref().is_none_or(|list| list.binary_search(&provider).is_ok())
    }

    pub(crate) fn has_key(&self, key: KeyId) -> bool {
        self.keys.as_ref().is_none_or(|list| list.binary_search(&key).is_ok())
    }
}

/// One request, as the scheduler sees it.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Where to.
    pub to: Destination,
    /// Which endpoint.
    pub endpoint: Endpoint,
    /// Who.
    pub client: ClientId,
    /// Whose.
    pub team: TeamId,
    /// How urgent.
    pub class: Class,
    /// Share against the other clients of its class.
    pub weight: f64,
    /// Waits no longer than this instant (monotonic). At or before `now`: does not wait at all.
    pub deadline_mono_ns: u64,
    /// How large.
    pub size: Size,
    /// The greatest cost that it can have.
    pub cost_max_nano_usd: Option<u64>,
    /// Hash of the conversation; two clients with the same one have nothing in common.
    pub session: Option<u64>,
    /// State at the provider that binds it to one account: there or nowhere.
    pub bound_to: Option<AccountId>,
    /// The caller's choice of providers.
    pub providers: Option<Box<Providers>>,
    /// What its client may use.
    pub allowed: Option<Arc<Allowed>>,
    /// Streams are timed to the first token; a plain answer's first byte comes with its last.
    pub stream: bool,
}
