//! What the outside may see: counters and the request log. The only file that names metrics. Labels are names of the
//! configuration and fixed words, never anything that a client sent.

mod ledger;
mod log;

pub use log::{events, init, request_line};

use keymux_policy::blame::Class;
use keymux_policy::fleet::Endpoint;
use keymux_store::Store;
use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram};
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

/// Bounds of the latency histograms, in seconds.
const SECONDS: [f64; 12] = [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Requests {
    endpoint: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Attempts {
    provider: String,
    key: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Tokens {
    provider: String,
    key: String,
    direction: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

/// All metrics of the process.
pub struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<Requests, Counter>,
    attempts: Family<Attempts, Counter>,
    tokens: Family<Tokens, Counter>,
    refusals: Family<Outcome, Counter>,
    /// The answered requests of the endpoint that is called most, without a look-up.
    chat_answered: Counter,
    /// Requests between their head and the last byte of their answer.
    pub in_flight: Gauge,
    /// Requests in the waiting room.
    pub waiting: Gauge,
    /// Open connections of clients.
    pub connections: Gauge,
    /// By how much estimates of the input were off lately, as a share of what was reported.
    pub input_estimate_error: Gauge<f64, AtomicU64>,
    /// Whole requests.
    pub request_seconds: Histogram,
    /// From the request's arrival to its first output.
    pub first_output_seconds: Histogram,
    /// Time in the waiting room, of requests that waited.
    pub wait_seconds: Histogram,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    reason: &'static str,
}

/// The counters of one key, looked up once, when the configuration is read.
pub struct KeyCounters {
    answered: Counter,
    failed: [Counter; CLASSES.len()],
    input: Counter,
    output: Counter,
}

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

impl KeyCounters {
    /// An attempt ended.
    pub fn attempt(&self, blame: Option<Class>) {
        match blame {
            Some(class) => self.failed[class as usize].inc(),
            None => self.answered.inc(),
        };
    }

    /// Tokens were used.
    pub fn tokens(&self, input: u64, output: u64) {
        self.input.inc_by(input);
        self.output.inc_by(output);
    }
}

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

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A registry with everything in it.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("keymux");
        let histogram = || Histogram::new(SECONDS);
        let requests = Family::<Requests, Counter>::default();
        let labels = Requests { endpoint: "chat/completions", outcome: "answered" };
        let chat_answered = requests.get_or_create(&labels).clone();
        let metrics = Self {
            chat_answered,
            requests,
            attempts: Family::default(),
            tokens: Family::default(),
            refusals: Family::default(),
            in_flight: Gauge::default(),
            waiting: Gauge::default(),
            connections: Gauge::default(),
            input_estimate_error: Gauge::default(),
            request_seconds: histogram(),
            first_output_seconds: histogram(),
            wait_seconds: histogram(),
            registry: Mutex::new(Registry::default()),
        };
        registry.register("requests", "Requests, by endpoint and outcome", metrics.requests.clone());
        registry.register(
            "attempts",
            "Attempts, by key and whose fault a failure was",
            metrics.attempts.clone(),
        );
        registry.register("tokens", "Tokens that providers reported", metrics.tokens.clone());
        registry.register(
            "refusals",
            "Requests that keymux refused, by error code",
            metrics.refusals.clone(),
        );
        registry.register("in_flight_requests", "Requests being served", metrics.in_flight.clone());
        registry.register("waiting_requests", "Requests in the waiting room", metrics.waiting.clone());
        registry.register("connections", "Open connections of clients", metrics.connections.clone());
        registry.register(
            "input_estimate_error_ratio",
            "By how much calibrated estimates of input tokens were off lately, as a share of what was reported",
            metrics.input_estimate_error.clone(),
        );
        let seconds = [
            ("request", "Time of whole requests", &metrics.request_seconds),
            ("first_output", "Time to the first output", &metrics.first_output_seconds),
            ("wait", "Time in the waiting room, of requests that waited", &metrics.wait_seconds),
        ];
        for (name, help, histogram) in seconds {
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        }
        let build = Family::<Build, Gauge>::default();
        build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("build_info", "The version that runs", build);
        Self { registry: Mutex::new(registry), ..metrics }
    }

    /// Tells of this ledger from now on.
    pub fn tell_of(&self, store: Arc<Store>) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register_collector(Box::new(ledger::Ledger(store)));
    }

    /// Tells what becomes of traces.
    pub fn count_traces(&self, traces: &crate::traces::Traces) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let (sent, dropped) = (traces.sent.clone(), traces.dropped.clone());
        registry.register("traces_sent", "Requests whose spans a collector took", sent);
        registry.register("traces_dropped", "Requests whose spans no collector took", dropped);
    }

    /// The counters of a key.
    pub fn key(&self, provider: &str, key: &str) -> KeyCounters {
        let attempt = |outcome| {
            let labels = Attempts { provider: provider.to_owned(), key: key.to_owned(), outcome };
            self.attempts.get_or_create(&labels).clone()
        };
        let tokens = |direction| {
            let labels = Tokens { provider: provider.to_owned(), key: key.to_owned(), direction };
            self.tokens.get_or_create(&labels).clone()
        };
        KeyCounters {
            answered: attempt("answered"),
            failed: CLASSES.map(|class| attempt(class_label(class))),
            input: tokens("input"),
            output: tokens("output"),
        }
    }

    /// A request ended.
    pub fn request(&self, endpoint: Endpoint, outcome: &'static str) {
        if endpoint == Endpoint::ChatCompletions && outcome == "answered" {
            self.chat_answered.inc();
            return;
        }
        let endpoint = keymux_config::endpoint_path(endpoint);
        self.requests.get_or_create(&Requests { endpoint, outcome }).inc();
    }

    /// keymux refused a request.
    pub fn refusal(&self, kind: crate::errors::Kind) {
        self.refusals.get_or_create(&Outcome { reason: kind.row().code }).inc();
    }

    /// How often keymux refused for one of these reasons.
    pub fn refused(&self, kinds: &[crate::errors::Kind]) -> u64 {
        let of = |kind: &crate::errors::Kind| self.refusals.get(&Outcome { reason: kind.row().code });
        kinds.iter().filter_map(|kind| of(kind).map(|counter| counter.get())).sum()
    }

    /// Everything, as Prometheus reads it.
    pub fn render(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &registry);
        text
    }
}
