//! What there is to choose from: providers, accounts, keys, routes and their limits, as the configuration declares
//! them. Plain data. Ids are given by the caller and stay the same over a reload for whatever keeps its name, so
//! that what was learned about a key survives.

use std::sync::Arc;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u32);
    };
}
id!(/** An API endpoint with a dialect. */ ProviderId);
id!(/** The owner that a provider bills and limits. */ AccountId);
id!(/** One secret at one provider. */ KeyId);
id!(/** A public model name and its tiers. */ RouteId);

/// An endpoint of the HTTP surface that is served by a provider. A target is a candidate only for endpoints that its
/// provider serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are the paths")]
pub enum Endpoint {
    ChatCompletions,
    Completions,
    Embeddings,
    Responses,
    Messages,
    CountTokens,
    Moderations,
    Rerank,
    ImagesGenerations,
    ImagesEdits,
    ImagesVariations,
    Images,
    AudioSpeech,
    AudioTranscriptions,
    AudioTranslations,
}

impl Endpoint {
    /// All of them, in their order.
    pub const ALL: [Self; 15] = [
        Self::ChatCompletions,
        Self::Completions,
        Self::Embeddings,
        Self::Responses,
        Self::Messages,
        Self::CountTokens,
        Self::Moderations,
        Self::Rerank,
        Self::ImagesGenerations,
        Self::ImagesEdits,
        Self::ImagesVariations,
        Self::Images,
        Self::AudioSpeech,
        Self::AudioTranscriptions,
        Self::AudioTranslations,
    ];
}

/// A set of [`Endpoint`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointSet(u32);

impl EndpointSet {
    /// The set of these endpoints.
    pub fn of(endpoints: &[Endpoint]) -> Self {
        Self(endpoints.iter().fold(0, |bits, e| bits | 1 << (*e as u32)))
    }
    /// Whether the endpoint is served.
    pub fn has(self, endpoint: Endpoint) -> bool {
        self.0 & (1 << (endpoint as u32)) != 0
    }
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Dimension {
    Requests,
    InputTokens,
    OutputTokens,
    TotalTokens,
    Concurrent,
    NanoUsd,
}

/// How a limit comes back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// Refills all the time, up to `capacity`.
    Bucket {
        /// Units when full.
        capacity: f64,
        /// Units that come back in a second.
        refill_per_s: f64,
    },
    /// `limit` units in each period, whole again at once. Aligned to `anchor_unix_ns` where given, else the period
    /// begins with the first use.
    Window {
        /// Units in a period.
        limit: f64,
        /// Length of the period.
        period_ns: u64,
        /// An instant at which a period begins.
        anchor_unix_ns: Option<u64>,
    },
    /// `limit` units in a calendar day that begins at midnight UTC plus an offset.
    Day {
        /// Units in a day.
        limit: f64,
        /// Seconds that local midnight lies behind midnight UTC.
        offset_s: i32,
    },
    /// At most `limit` at the same time (for [`Dimension::Concurrent`]).
    Slots {
        /// Requests in flight.
        limit: u32,
    },
}

/// Names of models, as globs with `*` (an empty list means every model). Matched without regard to ASCII case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelSet(pub Vec<Box<str>>);

/// One declared limit. Which account or key it belongs to is told by where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitSpec {
    /// What is counted.
    pub dimension: Dimension,
    /// How it comes back.
    pub shape: Shape,
    /// The models that share this one limit.
    pub models: ModelSet,
    /// From a preset: replaced by a limit that a person declared for the same dimension and models.
    pub preset: bool,
}

/// How a provider charges output tokens against its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputCharge {
    /// `max_tokens` at admission, the unused rest refunded when the request ends.
    MaxTokensRefunded,
    /// The greater of `max_tokens` and the estimated input, never refunded (`OpenAI`).
    MaxOfBoth,
    /// `max_tokens` and the estimated input together, never refunded.
    SumOfBoth,
    /// As they are produced; `max_tokens` does not matter (Anthropic, Groq).
    AsProduced,
}

impl OutputCharge {
    /// What was charged at admission stays charged, however little is used.
    pub(crate) fn keeps(self) -> bool {
        matches!(self, Self::MaxOfBoth | Self::SumOfBoth)
    }
}

/// How a provider charges a request against its limits: one row of the table of settling rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charging {
    /// How output is charged.
    pub output: OutputCharge,
    /// Cached input does not count.
    pub cached_input_free: bool,
    /// Refused requests count as requests too.
    pub refused_count: bool,
    /// A cancelled call goes on at the provider: its concurrency slot is held until its expected end.
    pub runs_on_after_cancel: bool,
}

/// A provider.
#[derive(Clone, Debug)]
pub struct ProviderSpec {
    /// Its id.
    pub id: ProviderId,
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// The endpoints that it serves.
    pub endpoints: EndpointSet,
    /// How it charges.
    pub charging: Charging,
}

/// An account at a provider. Limits belong to accounts.
#[derive(Clone, Debug)]
pub struct AccountSpec {
    /// Its id.
    pub id: AccountId,
    /// Whose account it is.
    pub provider: ProviderId,
    /// Its name in the configuration (a key without an account names one after itself).
    pub name: Arc<str>,
    /// A person gave it that name: it stays apart from others that have one, whatever its provider says.
    pub named: bool,
    /// What it is limited to.
    pub limits: Vec<LimitSpec>,
}

/// A key.
#[derive(Clone, Debug)]
pub struct KeySpec {
    /// Its id.
    pub id: KeyId,
    /// The account that owns it.
    pub account: AccountId,
    /// The provider that it opens.
    pub provider: ProviderId,
    /// Its name, which may be shown.
    pub name: Arc<str>,
    /// Its share against the other keys, 1.0 by default.
    pub weight: f64,
    /// Whether it may be used.
    pub enabled: bool,
    /// Which secret it has: a new one is a new key, against which nothing is held. Any number, by which none can be found.
    pub secret: u64,
    /// The only models it may be used for (empty: all).
    pub models: ModelSet,
    /// Limits of the key itself, on top of its account's.
    pub limits: Vec<LimitSpec>,
}

/// One member of a tier: a provider's model, over all keys of that provider or some of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Where.
    pub provider: ProviderId,
    /// The upstream's name of the model.
    pub model: Arc<str>,
    /// Only these keys (empty: every key of the provider).
    pub keys: Vec<KeyId>,
    /// Share against the other members, multiplied with the keys' own weights.
    pub weight: f64,
}

/// How to choose among targets that all have room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Least cost: load x time to first token / weight x pressure on the scarcest limit.
    #[default]
    Headroom,
    /// One after the other.
    RoundRobin,
    /// One after the other, in proportion to the weights.
    Weighted,
    /// Fewest requests in flight for their weight.
    LeastInFlight,
    /// Shortest time to the first token.
    Fastest,
}

/// A public model name.
#[derive(Clone, Debug)]
pub struct RouteSpec {
    /// Its id.
    pub id: RouteId,
    /// The name that clients use.
    pub name: Arc<str>,
    /// Tried in order: a later tier serves while no earlier one has a target with room.
    pub tiers: Vec<Vec<Member>>,
    /// How to choose inside a tier.
    pub strategy: Strategy,
}

/// Everything that the configuration says.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    /// The providers.
    pub providers: Vec<ProviderSpec>,
    /// The accounts.
    pub accounts: Vec<AccountSpec>,
    /// The keys.
    pub keys: Vec<KeySpec>,
    /// The routes with a name. Routes for `provider:model` come to be when they are first asked for.
    pub routes: Vec<RouteSpec>,
    /// The strategy of routes that have no name in the configuration.
    pub default_strategy: Strategy,
    /// Numbers that rule breakers, retries and the waiting room.
    pub settings: Settings,
}

/// Numbers that rule breakers, retries and the waiting room.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The breaker of each key x model and of each provider.
    pub breaker: BreakerSettings,
    /// Trying again.
    pub retry: RetrySettings,
    /// The waiting room.
    pub room: RoomSettings,
    /// Routes for unnamed models kept at once; beyond, the longest idle one makes room.
    pub adhoc_routes_max: usize,
}

/// When a breaker opens and for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct BreakerSettings {
    /// The sliding window.
    pub window_ns: u64,
    /// Failures in the window before it may open.
    pub failures_min: u32,
    /// Share of failures in the window at which it opens.
    pub failure_ratio: f64,
    /// Failures in a row that open it, whatever the ratio, once they span `consecutive_span_ns`.
    pub consecutive: u32,
    /// The least time between the first and the last failure in a row.
    pub consecutive_span_ns: u64,
    /// First cool-down; each failed probe doubles it.
    pub cooldown_min_ns: u64,
    /// Longest cool-down.
    pub cooldown_max_ns: u64,
}

/// How often and how much may be tried again. The allowances are separate: spending one leaves the others.
#[derive(Clone, Debug, PartialEq)]
pub struct RetrySettings {
    /// Walks over all candidates that one request may take.
    pub rounds_max: u32,
    /// Attempts of one request in all. Those that a rate limit refused do not count: only the deadline ends them.
    pub attempts_max: u32,
    /// Attempts of one request that found no capacity for its model, before it no longer waits for that.
    pub overloads_max: u32,
    /// Retries as a share of the requests over the last 10 s.
    pub budget_ratio: f64,
    /// Retries a second that are always allowed.
    pub budget_floor_per_s: f64,
}

/// How many may wait.
#[derive(Clone, Debug, PartialEq)]
pub struct RoomSettings {
    /// Requests waiting at once, in one pool.
    pub waiters_max: usize,
    /// Bytes of bodies held for waiting requests, in one pool.
    pub bytes_max: u64,
    /// Requests of one client waiting at once.
    pub per_client_max: usize,
    /// Requests of one route waiting at once.
    pub per_route_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        use crate::time::SECOND;
        Self {
            breaker: BreakerSettings {
                window_ns: 60 * SECOND,
                failures_min: 3,
                failure_ratio: 0.5,
                consecutive: 5,
                consecutive_span_ns: SECOND,
                cooldown_min_ns: 5 * SECOND,
                cooldown_max_ns: 60 * SECOND,
            },
            retry: RetrySettings {
                rounds_max: 2,
                attempts_max: 32,
                overloads_max: u32::MAX,
                budget_ratio: 0.2,
                budget_floor_per_s: 10.0,
            },
            room: RoomSettings {
                waiters_max: 10_000,
                bytes_max: 256 << 20,
                per_client_max: 10_000,
                per_route_max: 10_000,
            },
            adhoc_routes_max: 1_000,
        }
    }
}
