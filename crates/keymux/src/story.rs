//! What is told of one request when it is over: to the log and the metrics, and later to the ledger. It ends with its
//! drop, however the request ends.

use crate::observe::{self, Line};
use crate::serve::Gateway;
use keymux_policy::Used;
use keymux_policy::fleet::Endpoint;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How a request ended, as the log and the metrics call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A provider answered, and the whole answer went out.
    Answered,
    /// A provider's error was relayed.
    ProviderError,
    /// keymux refused, or every attempt failed.
    Refused,
    /// The answer broke off after its first bytes were sent.
    Broken,
    /// The client went away.
    ClientGone,
}

impl Outcome {
    fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::ProviderError => "provider_error",
            Self::Refused => "refused",
            Self::Broken => "broken",
            Self::ClientGone => "client_gone",
        }
    }
}

/// One request's story.
pub struct Story {
    gateway: Arc<Gateway>,
    /// The request's id.
    pub id: Arc<str>,
    endpoint: Endpoint,
    /// The model, as the client wrote it.
    pub model: String,
    provider: Arc<str>,
    key: Arc<str>,
    arrived_ns: u64,
    /// Attempts so far.
    pub attempts: u32,
    /// Time in the waiting room.
    pub waited_ns: u64,
    status: u16,
    outcome: Outcome,
    used: Used,
}

impl Story {
    /// A request has arrived.
    pub fn begin(gateway: &Arc<Gateway>, id: Arc<str>, endpoint: Endpoint, arrived_ns: u64) -> Self {
        gateway.in_flight.fetch_add(1, Ordering::AcqRel);
        gateway.metrics.in_flight.inc();
        Self {
            gateway: gateway.clone(),
            id,
            endpoint,
            model: String::new(),
            provider: gateway.nobody.clone(),
            key: gateway.nobody.clone(),
            arrived_ns,
            attempts: 0,
            waited_ns: 0,
            status: 499,
            outcome: Outcome::ClientGone,
            used: Used::default(),
        }
    }

    /// An attempt begins.
    pub fn attempt(&mut self, provider: &Arc<str>, key: &Arc<str>, number: u32, waited_ns: u64) {
        self.provider = provider.clone();
        self.key = key.clone();
        self.attempts = number;
        self.waited_ns = waited_ns;
    }

    /// The first output goes to the client.
    pub fn first_output(&self, now_ns: u64) {
        self.gateway.metrics.first_output_seconds.observe(seconds(now_ns.saturating_sub(self.arrived_ns)));
    }

    /// How it ended. What is never told ended with the client going away.
    pub fn end(&mut self, outcome: Outcome, status: u16, used: Option<Used>) {
        self.outcome = outcome;
        self.status = status;
        if let Some(used) = used {
            self.used = used;
        }
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

impl Drop for Story {
    fn drop(&mut self) {
        let gateway = &self.gateway;
        gateway.metrics.in_flight.dec();
        gateway.metrics.request(self.endpoint, self.outcome.label());
        let total_ns = gateway.clock.mono_ns().saturating_sub(self.arrived_ns);
        gateway.metrics.request_seconds.observe(seconds(total_ns));
        if self.waited_ns > 0 {
            gateway.metrics.wait_seconds.observe(seconds(self.waited_ns));
        }
        if gateway.log_requests.load(Ordering::Relaxed) {
            observe::request_line(&Line {
                id: &self.id,
                endpoint: crate::surface::label(self.endpoint),
                model: &self.model,
                provider: &self.provider,
                key: &self.key,
                status: self.status,
                outcome: self.outcome.label(),
                attempts: self.attempts,
                queue_ms: self.waited_ns / 1_000_000,
                total_ms: total_ns / 1_000_000,
                input_tokens: self.used.input_tokens,
                output_tokens: self.used.output_tokens,
            });
        }
        if gateway.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            gateway.idle.notify_waiters();
        }
    }
}
