//! One attempt: a connection, the request on it, and the head of the answer. Says what was observed when it fails;
//! whose fault that was is told elsewhere.

use crate::alarm::Alarm;
use crate::clock::{Clock, nanos};
use crate::live::Upstream;
use crate::scheduler::Held;
use crate::upstream::{ConnectError, Connection, Connector, Exchange, Fault, Head, Outgoing, Pool};
use keymux_policy::{Evidence, HANG_ASK_NS, Hang, Phase, Sign};
use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

/// What a worker needs to send something.
pub struct Dialer {
    /// Idle connections.
    pub pool: Pool,
    /// Opens new ones.
    pub connector: Connector,
    /// Tells how old they are.
    pub clock: Clock,
}

/// An answer whose head has come.
pub struct Answered {
    /// Its head.
    pub head: Head,
    /// Its body, on the connection that is given back when the body was read to its end.
    pub exchange: Box<Exchange>,
    /// When the request was sent (monotonic).
    pub sent_ns: u64,
}

/// How long the phases up to the head may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// This instant (monotonic).
    pub from_ns: u64,
    /// For a connection.
    pub connect: Duration,
    /// From sending to the head.
    pub first_byte: Duration,
    /// The first-byte limit is what is left of the whole request's time, by the client's own wish.
    pub clients_wish: bool,
}

/// A failed attempt.
pub struct Failed {
    /// What was observed.
    pub evidence: Evidence,
    /// In words, for logs. Holds no secret.
    pub detail: String,
}

impl Failed {
    /// A failure without an answer.
    pub fn new(phase: Phase, sign: Sign, detail: impl Into<String>) -> Self {
        let evidence = Evidence {
            phase,
            status: None,
            sign,
            relayed: false,
            retry_after_ns: None,
            limit: None,
            requested: None,
        };
        Self { evidence, detail: detail.into() }
    }
}

impl Dialer {
    /// Sends the request and waits for the head of its answer. With `plain`, the lease of a call whose answer comes
    /// whole, it is also given up where the scheduler finds that its target hangs. `sent` is set when there is a
    /// connection to send it on: until then nobody can bill it.
    pub async fn send(
        &self,
        upstream: &Upstream,
        request: Outgoing,
        patience: Patience,
        (plain, sent): (Option<&Held>, &mut bool),
        alarm: &mut Alarm,
    ) -> Result<Answered, Failed> {
        let sent_ns = patience.from_ns;
        let mut request = request;
        loop {
            let (connection, from_ns) = match self.pool.take(upstream.origin_id, sent_ns) {
                Some(connection) => (connection, sent_ns),
                // Rare, and large.
                None => (Box::pin(self.open(upstream, patience.connect)).await?, self.clock.mono_ns()),
            };
            *sent = true;
            let until_ns = from_ns.saturating_add(nanos(patience.first_byte));
            // Handed on from step to step, so it lies still.
            let mut exchange = Box::new(Exchange::new(connection, request));
            let ask_ns = from_ns.saturating_add(HANG_ASK_NS);
            let suspected = plain.filter(|_| ask_ns < until_ns);
            let came = {
                let mut head = pin!(exchange.head());
                let limit_ns = if suspected.is_some() { ask_ns } else { until_ns };
                match (alarm.before(limit_ns, head.as_mut()).await, suspected) {
                    (Ok(came), _) => Ok(came),
                    // Rare, and large.
                    (Err(_), Some(held)) => Box::pin(suspect(head, held, until_ns, patience, alarm)).await,
                    (Err(_), None) => Err(too_slow(patience)),
                }
            };
            let fault = match came? {
                Ok(head) => return Ok(Answered { head, exchange, sent_ns }),
                Err(fault) => fault,
            };
            let was_idle = exchange.was_idle();
            match exchange.untouched() {
                // The pooled connection had been closed under us: the request goes out on another one as if nothing
                // had happened.
                Some(untouched) if was_idle => request = untouched,
                _ => return Err(broken(&fault, if was_idle { Phase::Send } else { Phase::Head })),
            }
        }
    }

    /// Gives a connection back, if it may carry another request.
    pub fn give_back(&self, upstream: &Upstream, connection: Option<Connection>, now_ns: u64) {
        if let Some(connection) = connection {
            self.pool.put(upstream.origin_id, connection, now_ns);
        }
    }

    async fn open(&self, upstream: &Upstream, within: Duration) -> Result<Connection, Failed> {
        let connected = tokio::time::timeout(within, self.connector.connect(&upstream.origin)).await;
        let error = match connected {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => error,
            Err(_) => {
                let detail = format!("no connection within {} ms", within.as_millis());
                return Err(Failed::new(Phase::Connect, Sign::ConnectFailed, detail));
            }
        };
        let sign = match &error {
            ConnectError::Tcp { .. } | ConnectError::Proxy(_) => Sign::ConnectFailed,
            ConnectError::Tls { .. } => Sign::TlsFailed,
            ConnectError::Local(_) => Sign::Local,
        };
        Err(Failed::new(Phase::Connect, sign, error.to_string()))
    }
}

/// Waits on for the head of a plain answer, asking whether its target hangs whenever that may have changed.
async fn suspect<T>(
    mut head: Pin<&mut impl Future<Output = T>>,
    held: &Held,
    until_ns: u64,
    patience: Patience,
    alarm: &mut Alarm,
) -> Result<T, Failed> {
    let mut found = held.found_hanging();
    loop {
        let ask_ns = match held.hangs() {
            Hang::GiveUp => {
                let detail = "the key does not answer any more, and others do";
                return Err(Failed::new(Phase::Head, Sign::FirstByteTimeout, detail));
            }
            Hang::AskAt(at) => at.min(until_ns),
            Hang::Unknown => until_ns,
        };
        tokio::select! {
            biased;
            came = alarm.before(ask_ns, head.as_mut()) => match came {
                Ok(came) => return Ok(came),
                Err(_) if ask_ns == until_ns => return Err(too_slow(patience)),
                Err(_) => {}
            },
            // It cannot be gone: the lease holds its scheduler.
            _ = found.changed() => {}
        }
    }
}

fn too_slow(patience: Patience) -> Failed {
    if patience.clients_wish {
        return Failed::new(Phase::Head, Sign::ClientTimeout, "the time that the caller set ran out");
    }
    let detail = format!("no answer within {} ms", patience.first_byte.as_millis());
    Failed::new(Phase::Head, Sign::FirstByteTimeout, detail)
}

/// A connection that broke before the head was whole. On a pooled one (`Phase::Send`) the provider may just have
/// closed it for being idle, which says nothing about the key.
fn broken(fault: &Fault, phase: Phase) -> Failed {
    let sign = match fault {
        Fault::Garbage(_) => Sign::Garbage,
        Fault::Closed | Fault::Io(_) => Sign::Reset,
    };
    Failed::new(phase, sign, fault.to_string())
}
