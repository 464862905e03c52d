//! What is told of one request when it is over: to the log and the metrics, and later to the ledger. It ends with its
//! drop, however the request ends.

use crate::observe;
use crate::serve::Gateway;
use keymux_policy::Used;
use keymux_policy::fleet::Endpoint;
use keymux_store::Record;
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
    endpoint: Endpoint,
    arrived_ns: u64,
    record: Record,
}

impl Story {
    /// A request has arrived.
    pub fn begin(gateway: &Arc<Gateway>, id: Arc<str>, endpoint: Endpoint, arrived_ns: u64) -> Self {
        gateway.in_flight.fetch_add(1, Ordering::AcqRel);
        gateway.metrics.in_flight.inc();
        let record = Record {
            id,
            endpoint: keymux_config::endpoint_path(endpoint),
            model: String::new(),
            provider: gateway.nobody.clone(),
            key: gateway.nobody.clone(),
            // Stays so unless another end is told.
            status: 499,
            outcome: Outcome::ClientGone.label(),
            attempts: 0,
            queue_ns: 0,
            first_output_ns: None,
            total_ns: 0,
            used: keymux_store::Used::default(),
        };
        Self { gateway: gateway.clone(), endpoint, arrived_ns, record }
    }

    /// The request's id.
    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// The model, as the client wrote it.
    pub fn asks_for(&mut self, model: &str) {
        model.clone_into(&mut self.record.model);
    }

    /// An attempt begins.
    pub fn attempt(&mut self, provider: &Arc<str>, key: &Arc<str>, number: u32, waited_ns: u64) {
        self.record.provider = provider.clone();
        self.record.key = key.clone();
        self.record.attempts = number;
        self.record.queue_ns = waited_ns;
    }

    /// Attempts so far.
    pub fn attempts(&self) -> u32 {
        self.record.attempts
    }

    /// Milliseconds in the waiting room.
    pub fn queue_ms(&self) -> u64 {
        self.record.queue_ns / 1_000_000
    }

    /// The first output goes to the client.
    pub fn first_output(&mut self, now_ns: u64) {
        let took_ns = now_ns.saturating_sub(self.arrived_ns);
        self.record.first_output_ns = Some(took_ns);
        self.gateway.metrics.first_output_seconds.observe(seconds(took_ns));
    }

    /// How it ended. What is never told ended with the client going away.
    pub fn end(&mut self, outcome: Outcome, status: u16, used: Option<Used>) {
        self.record.outcome = outcome.label();
        self.record.status = status;
        if let Some(used) = used {
            self.record.used = keymux_store::Used {
                input_tokens: used.input_tokens,
                cached_input_tokens: used.cached_input_tokens,
                output_tokens: used.output_tokens,
                cost_nano_usd: used.cost_nano_usd,
                estimated: used.estimated,
            };
        }
    }

    /// keymux itself answered, with this error.
    pub fn refused(&mut self, problem: &crate::errors::Problem) {
        self.end(Outcome::Refused, problem.kind.row().status, None);
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

impl Drop for Story {
    fn drop(&mut self) {
        let gateway = &self.gateway;
        gateway.metrics.in_flight.dec();
        gateway.metrics.request(self.endpoint, self.record.outcome);
        self.record.total_ns = gateway.clock.mono_ns().saturating_sub(self.arrived_ns);
        gateway.metrics.request_seconds.observe(seconds(self.record.total_ns));
        if self.record.queue_ns > 0 {
            gateway.metrics.wait_seconds.observe(seconds(self.record.queue_ns));
        }
        if gateway.log_requests.load(Ordering::Relaxed) {
            observe::request_line(&self.record);
        }
        gateway.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}
