//! What requests add to: plain atomics, found once for each configuration, so that counting takes neither a lock nor a
//! look-up. Counters live as long as the process and are found by name, so a key that a reload removes and another brings
//! back goes on counting where it was.

use crate::errors::{Kind, ROWS};
use crate::story::Outcome;
use keymux_config::endpoint_path;
use keymux_policy::Priority;
use keymux_policy::blame::Class;
use keymux_policy::fleet::Endpoint;
use keymux_store::{CostSource, Used};
use prometheus_client::metrics::gauge::Gauge;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Upper bounds of the histograms' buckets, in milliseconds; one more has no bound.
const BOUNDS_MS: [u64; 12] = [5, 20, 50, 100, 250, 500, 1_000, 2_500, 5_000, 15_000, 60_000, 300_000];

/// All classes of blame.
pub const CLASSES: [Class; 9] = [
    Class::Request,
    Class::Key,
    Class::Account,
    Class::Quota,
    Class::Capacity,
    Class::Target,
    Class::Provider,
    Class::Client,
    Class::Local,
];

/// The word for a class of blame, in metrics and logs.
pub fn class_label(class: Class) -> &'static str {
    match class {
        Class::Request => "request",
        Class::Key => "key",
        Class::Account => "account",
        Class::Quota => "quota",
        Class::Capacity => "capacity",
        Class::Target => "target",
        Class::Provider => "provider",
        Class::Client => "client",
        Class::Local => "local",
    }
}

/// The label of what the configuration does not name. What it does name so is counted there too.
pub const OTHER: &str = "other";

/// Classes of the waiting room, in their order.
pub(super) const WAIT_CLASSES: [&str; 3] = ["high", "normal", "low"];

/// Direction and kind of tokens, in the order of [`KeyCounters`]'s counters.
pub(super) const TOKENS: [(&str, &str); 7] = [
    ("input", "plain"),
    ("input", "cached"),
    ("input", "cache_write"),
    ("input", "audio"),
    ("output", "plain"),
    ("output", "reasoning"),
    ("output", "audio"),
];

fn add(counter: &AtomicU64, n: u64) {
    if n > 0 {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// How often which time was seen.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS_MS.len() + 1],
    sum_ns: AtomicU64,
}

impl Histogram {
    /// A time was seen.
    pub fn observe(&self, ns: u64) {
        let at = BOUNDS_MS.iter().position(|bound| ns <= bound * 1_000_000).unwrap_or(BOUNDS_MS.len());
        self.buckets[at].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// Each bucket's bound in seconds and what is in it, and the sum in seconds.
    pub(super) fn read(&self) -> (Vec<(f64, u64)>, f64) {
        let bounds = BOUNDS_MS.iter().map(|ms| *ms as f64 / 1e3).chain([f64::INFINITY]);
        (bounds.zip(self.buckets.iter().map(get)).collect(), get(&self.sum_ns) as f64 / 1e9)
    }
}

/// The counters of one key.
#[derive(Debug, Default)]
pub struct KeyCounters {
    answered: AtomicU64,
    failed: [AtomicU64; CLASSES.len()],
    tokens: [AtomicU64; TOKENS.len()],
    cost_nano_usd: [AtomicU64; CostSource::ALL.len()],
    unpriced: AtomicU64,
}

impl KeyCounters {
    /// An attempt ended.
    pub fn attempt(&self, blame: Option<Class>) {
        add(blame.map_or(&self.answered, |class| &self.failed[class as usize]), 1);
    }

    /// A request that ended with this key used so much.
    pub fn used(&self, used: &Used) {
        let special = used.cached_input_tokens + used.cache_write_tokens + used.input_audio_tokens;
        let thought = used.reasoning_tokens + used.output_audio_tokens;
        let kinds = [
            used.input_tokens.saturating_sub(special),
            used.cached_input_tokens,
            used.cache_write_tokens,
            used.input_audio_tokens,
            used.output_tokens.saturating_sub(thought),
            used.reasoning_tokens,
            used.output_audio_tokens,
        ];
        for (counter, n) in self.tokens.iter().zip(kinds) {
            add(counter, n);
        }
        match used.cost_nano_usd {
            Some(cost) => add(&self.cost_nano_usd[usize::from(used.cost_source.code())], cost),
            None => add(&self.unpriced, 1),
        }
    }

    /// Answered attempts, and failed ones by class where there were any.
    pub(super) fn attempts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let failed = CLASSES.iter().map(|class| (class_label(*class), get(&self.failed[*class as usize])));
        [("answered", get(&self.answered))].into_iter().chain(failed.filter(|(_, n)| *n > 0))
    }

    /// Tokens by direction and kind; what a key never used is left out but for the plain kinds.
    pub(super) fn tokens(&self) -> impl Iterator<Item = ((&'static str, &'static str), u64)> {
        let all = TOKENS.into_iter().zip(self.tokens.iter().map(get));
        all.filter(|((_, kind), n)| *n > 0 || *kind == "plain")
    }

    /// Dollars by who says so.
    pub(super) fn cost_usd(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let known = CostSource::ALL.into_iter().filter(|source| *source != CostSource::Unknown);
        known
            .map(|source| (source.label(), get(&self.cost_nano_usd[usize::from(source.code())]) as f64 / 1e9))
    }

    /// Requests of unknown cost.
    pub(super) fn unpriced(&self) -> u64 {
        get(&self.unpriced)
    }
}

/// The counters of one name that clients ask for.
#[derive(Debug, Default)]
pub struct ModelCounters {
    requests: [[AtomicU64; Outcome::ALL.len()]; Endpoint::ALL.len()],
    /// Whole requests.
    pub request: Histogram,
    /// From the arrival to the first output.
    pub first_output: Histogram,
}

impl ModelCounters {
    /// A request ended.
    pub fn ended(&self, endpoint: Endpoint, outcome: Outcome) {
        if let Some(counts) = self.requests.get(endpoint as usize) {
            add(&counts[outcome as usize], 1);
        }
    }

    /// By endpoint and outcome: every outcome of an endpoint that was asked for.
    pub(super) fn requests(&self) -> Vec<(&'static str, &'static str, u64)> {
        let mut found = Vec::new();
        for (endpoint, counts) in Endpoint::ALL.into_iter().zip(&self.requests) {
            if counts.iter().any(|n| get(n) > 0) {
                let path = endpoint_path(endpoint);
                found.extend(Outcome::ALL.map(|o| (path, o.label(), get(&counts[o as usize]))));
            }
        }
        found
    }
}

/// The times of a provider's model.
#[derive(Debug, Default)]
pub struct TargetTimes {
    /// Attempts that were answered whole.
    pub answered: Histogram,
    /// From the attempt's beginning to its first output.
    pub first_output: Histogram,
}

/// Things by name, for the life of the process.
type Named<K, T> = Mutex<HashMap<K, Arc<T>>>;

fn named<K: Hash + Eq, T: Default>(all: &Named<K, T>, name: K) -> Arc<T> {
    all.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default().clone()
}

/// All that is counted in this process.
#[derive(Debug, Default)]
pub struct Metrics {
    keys: Named<(Arc<str>, Arc<str>), KeyCounters>,
    models: Named<Arc<str>, ModelCounters>,
    targets: Named<(Arc<str>, Arc<str>), TargetTimes>,
    refusals: Refusals,
    waits: [Histogram; WAIT_CLASSES.len()],
    retries: AtomicU64,
    config_refused: AtomicBool,
    /// Requests between their head and the last byte of their answer.
    pub in_flight: Gauge,
    /// Open connections of clients.
    pub connections: Gauge,
}

#[derive(Debug)]
struct Refusals([AtomicU64; ROWS.len()]);

impl Default for Refusals {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; ROWS.len()])
    }
}

impl Metrics {
    /// The counters of a key.
    pub fn key(&self, provider: &Arc<str>, key: &Arc<str>) -> Arc<KeyCounters> {
        named(&self.keys, (provider.clone(), key.clone()))
    }

    /// The counters of a route, or of [`OTHER`].
    pub fn route(&self, name: &Arc<str>) -> Arc<ModelCounters> {
        named(&self.models, name.clone())
    }

    /// The times of a provider's model, or of [`OTHER`].
    pub fn target(&self, provider: &Arc<str>, model: Arc<str>) -> Arc<TargetTimes> {
        named(&self.targets, (provider.clone(), model))
    }

    /// keymux refused a request.
    pub fn refusal(&self, kind: Kind) {
        add(&self.refusals.0[kind as usize], 1);
    }

    /// A request waited.
    pub fn waited(&self, class: Priority, ns: u64) {
        self.waits[class as usize].observe(ns);
    }

    /// A request is tried again.
    pub fn retry(&self) {
        add(&self.retries, 1);
    }

    /// Whether the configuration as it stands in its file is refused.
    pub fn config_refused(&self, refused: bool) {
        self.config_refused.store(refused, Ordering::Release);
    }

    /// How often keymux refused for one of these reasons.
    pub fn refused(&self, kinds: &[Kind]) -> u64 {
        kinds.iter().map(|kind| get(&self.refusals.0[*kind as usize])).sum()
    }

    pub(super) fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        ROWS.iter().map(|row| row.code).zip(self.refusals.0.iter().map(get))
    }

    pub(super) fn waits(&self) -> impl Iterator<Item = (&'static str, &Histogram)> {
        WAIT_CLASSES.into_iter().zip(&self.waits)
    }

    pub(super) fn retries(&self) -> u64 {
        get(&self.retries)
    }

    pub(super) fn config_is_refused(&self) -> bool {
        self.config_refused.load(Ordering::Acquire)
    }
}
