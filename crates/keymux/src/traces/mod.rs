//! Traces of requests, as OpenTelemetry has them: a span for the request and one for each attempt. On the way of a
//! request stands only who its parent is and whether it is wanted ([`Trace`]); when it is over, what the log and the
//! ring of recent requests know anyhow is copied into a queue that never waits, and made into spans beside the data
//! path. Where the queue is full, traces are dropped and counted. Never a body, never a credential.

mod context;
mod export;
mod names;
mod otlp;
mod spans;

pub use context::{Trace, is_context, share_of};
pub use export::export;

use crate::explain::Told;
use keymux_policy::fleet::Endpoint;
use prometheus_client::metrics::counter::Counter;
use std::sync::{Mutex, PoisonError};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Requests that may wait to be made into spans.
const QUEUE_MAX: usize = 2_048;

/// A request that is over and wanted.
struct Traced {
    trace: Box<Trace>,
    endpoint: Endpoint,
    told: Box<Told>,
}

/// The way from requests that are over to who makes spans of them.
pub struct Traces {
    queue: Sender<Traced>,
    /// Until somebody takes them.
    waiting: Mutex<Option<Receiver<Traced>>>,
    /// Requests whose spans a collector took.
    pub sent: Counter,
    /// Requests whose spans nobody took.
    pub dropped: Counter,
}

impl Default for Traces {
    fn default() -> Self {
        let (queue, waiting) = channel(QUEUE_MAX);
        Self {
            queue,
            waiting: Mutex::new(Some(waiting)),
            sent: Counter::default(),
            dropped: Counter::default(),
        }
    }
}

impl Traces {
    /// A request is over.
    pub fn over(&self, trace: Box<Trace>, endpoint: Endpoint, told: &Told) {
        if !trace.sampled {
            return;
        }
        // First the place, then the copy: while the collector is away, a request costs no more than this look.
        match self.queue.try_reserve() {
            Ok(place) => place.send(Traced { trace, endpoint, told: Box::new(told.clone()) }),
            Err(_) => {
                self.dropped.inc();
            }
        }
    }

    fn take(&self) -> Option<Receiver<Traced>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::Fields;

    #[test]
    fn a_full_queue_drops_and_counts_and_what_is_not_wanted_is_neither() {
        let traces = Traces::default();
        let over = |sample| {
            let trace = Box::new(Trace::begin(&Fields::default(), "km-1", sample));
            traces.over(trace, Endpoint::ChatCompletions, &Told::default());
        };
        over(0.0);
        for _ in 0..QUEUE_MAX + 3 {
            over(1.0);
        }
        over(0.0);
        let mut queue = traces.take().unwrap();
        assert!(traces.take().is_none(), "spans are made by one");
        assert_eq!((queue.len(), traces.dropped.get()), (QUEUE_MAX, 3));
        assert!(queue.try_recv().is_ok());
        over(1.0);
        assert_eq!((queue.len(), traces.dropped.get()), (QUEUE_MAX, 3), "there was room again");
    }
}
