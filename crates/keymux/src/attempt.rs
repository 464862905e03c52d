//! One attempt: a connection, the request on it, and the head of the answer. Says what was observed when it fails;
//! whose fault that was is told elsewhere.

use crate::clock::Clock;
use crate::live::Upstream;
use crate::upstream::{ConnectError, Connector, OutBody, Pool, Sender};
use http::{Request, Response};
use hyper::body::Incoming;
use keymux_policy::{Evidence, Phase, Sign};
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
    /// Head and body.
    pub response: Response<Incoming>,
    /// The connection, to be given back when the body was read to its end.
    pub sender: Sender,
    /// When the request was sent (monotonic).
    pub sent_ns: u64,
}

/// How long the phases up to the head may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
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
    /// Sends the request and waits for the head of its answer.
    pub async fn send(
        &self,
        upstream: &Upstream,
        request: Request<OutBody>,
        patience: Patience,
    ) -> Result<Answered, Failed> {
        let sent_ns = self.clock.mono_ns();
        let mut request = request;
        // A pooled connection may have been closed under us. Where hyper gives the request back untouched, it goes
        // out on a fresh one as if nothing had happened.
        while let Some(mut sender) = self.pool.take(upstream.origin_id, sent_ns) {
            if sender.ready().await.is_err() {
                continue;
            }
            match tokio::time::timeout(patience.first_byte, sender.try_send_request(request)).await {
                Ok(Ok(response)) => return Ok(Answered { response, sender, sent_ns }),
                Ok(Err(mut error)) => match error.take_message() {
                    Some(untouched) => request = untouched,
                    None => return Err(broken(error.error(), Phase::Send)),
                },
                Err(_) => return Err(too_slow(patience)),
            }
        }
        let mut sender = self.open(upstream, patience.connect).await?;
        match tokio::time::timeout(patience.first_byte, sender.send_request(request)).await {
            Ok(Ok(response)) => Ok(Answered { response, sender, sent_ns }),
            Ok(Err(error)) => Err(broken(&error, Phase::Head)),
            Err(_) => Err(too_slow(patience)),
        }
    }

    /// Gives a connection back.
    pub fn give_back(&self, upstream: &Upstream, sender: Sender) {
        self.pool.put(upstream.origin_id, sender, self.clock.mono_ns());
    }

    async fn open(&self, upstream: &Upstream, within: Duration) -> Result<Sender, Failed> {
        let connected = tokio::time::timeout(within, self.connector.connect(&upstream.origin)).await;
        let error = match connected {
            Ok(Ok(sender)) => return Ok(sender),
            Ok(Err(error)) => error,
            Err(_) => {
                let detail = format!("no connection within {} ms", within.as_millis());
                return Err(Failed::new(Phase::Connect, Sign::ConnectFailed, detail));
            }
        };
        let sign = match &error {
            ConnectError::Tcp { .. } | ConnectError::Proxy(_) | ConnectError::Http(_) => Sign::ConnectFailed,
            ConnectError::Tls { .. } => Sign::TlsFailed,
            ConnectError::Local(_) => Sign::Local,
        };
        Err(Failed::new(Phase::Connect, sign, error.to_string()))
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
fn broken(error: &hyper::Error, phase: Phase) -> Failed {
    let detail = describe(error);
    if error.is_parse() || error.is_parse_too_large() || error.is_parse_status() {
        Failed::new(Phase::Head, Sign::Garbage, detail)
    } else {
        Failed::new(phase, Sign::Reset, detail)
    }
}

/// An error with its cause.
pub fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
