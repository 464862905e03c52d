//! Bodies on the side of the client: reading a request's, and the one type of an answer's.

use crate::attempt::describe;
use crate::errors::{Kind, Problem};
use crate::relay::Relay;
use crate::upstream::Exchange;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http::{HeaderMap, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// How long a request's body may take altogether: a byte now and then would hold a connection for ever.
const UPLOAD: Duration = Duration::from_mins(10);

/// The body of an answer.
pub enum Body {
    /// Known whole.
    Whole(Full<Bytes>),
    /// Relayed as it comes.
    Relay(Box<Relay>),
    /// Begun before it is decided who answers.
    Deferred(Box<crate::keepalive::Deferred>),
}

/// Why an answer breaks off. The connection is closed without a proper end, so that the client sees the cut.
#[derive(Debug, thiserror::Error)]
#[error("the provider's answer broke off: {0}")]
pub struct Broken(pub String);

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Whole(full) => Pin::new(full).poll_frame(cx).map_err(|never| match never {}),
            Self::Relay(relay) => relay.poll(cx).map(|chunk| chunk.map(|c| c.map(Frame::data))),
            Self::Deferred(deferred) => deferred.poll(cx).map(|chunk| chunk.map(|c| c.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(full) => full.is_end_stream(),
            Self::Relay(_) | Self::Deferred(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(full) => full.size_hint(),
            Self::Relay(relay) => relay.size_hint(),
            Self::Deferred(_) => SizeHint::default(),
        }
    }
}

/// An answer that is known whole.
pub fn whole(response: Response<Full<Bytes>>) -> Response<Body> {
    response.map(Body::Whole)
}

/// Reads a request's body.
pub async fn read(
    headers: &HeaderMap,
    mut body: Incoming,
    bytes_max: usize,
    idle: Duration,
) -> Result<Bytes, Problem> {
    if let Some(coding) =
        headers.get_all(CONTENT_ENCODING).iter().find(|c| !c.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        let coding = String::from_utf8_lossy(coding.as_bytes()).into_owned();
        let message =
            format!("The body is encoded ({coding}); send it plain, the gateway has to read the model.");
        return Err(Problem::new(Kind::EncodedBody, message));
    }
    let stated =
        headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    if stated.is_some_and(|bytes| bytes > bytes_max as u64) {
        return Err(too_large(bytes_max));
    }
    let until = tokio::time::sleep(UPLOAD).deadline();
    match collect(&mut body, bytes_max, idle, Some(until)).await {
        Ok(bytes) => Ok(bytes),
        Err(Stopped::TooLarge(_)) => Err(too_large(bytes_max)),
        Err(Stopped::Idle) => Err(Problem::new(
            Kind::BodyTimeout,
            format!(
                "The body stopped coming for {} s, or was not whole after {} s; send it whole, and faster.",
                idle.as_secs(),
                UPLOAD.as_secs()
            ),
        )),
        Err(Stopped::Broken(detail)) => {
            Err(Problem::new(Kind::InvalidBody, format!("The body broke off: {detail}."))
                .at("invalid_body", None))
        }
    }
}

fn too_large(bytes_max: usize) -> Problem {
    let message =
        format!("The body is over {bytes_max} bytes, the limit of this gateway (`server.body_bytes_max`).");
    Problem::new(Kind::BodyTooLarge, message)
}

/// Why a body could not be read whole.
pub enum Stopped {
    /// It is larger than asked for; this is what came, and the rest is still to come.
    TooLarge(Vec<Bytes>),
    /// No byte for too long.
    Idle,
    /// The connection broke, or the framing is wrong.
    Broken(String),
}

/// A body, piece by piece: a client's or a provider's.
pub trait Pieces {
    /// The next piece, which may be empty; `None` at the end.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, String>>>;
    /// It is known that nothing more comes.
    fn is_over(&self) -> bool;
}

impl Pieces for Incoming {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, String>>> {
        let frame = Pin::new(self).poll_frame(cx);
        // Trailers mean nothing here.
        frame.map(|frame| {
            frame.map(|frame| frame.map(|f| f.into_data().unwrap_or_default()).map_err(|e| describe(&e)))
        })
    }

    fn is_over(&self) -> bool {
        self.is_end_stream()
    }
}

impl Pieces for Exchange {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, String>>> {
        self.poll_data(cx).map(|data| data.map(|data| data.map_err(|fault| fault.to_string())))
    }

    fn is_over(&self) -> bool {
        Exchange::is_over(self)
    }
}

/// Waits for the next piece. Most are there already, and cost neither a timer nor a look at the clock.
async fn patient(
    idle: Duration,
    until: Option<Instant>,
    body: &mut impl Pieces,
) -> Result<Option<Result<Bytes, String>>, Late> {
    if let Poll::Ready(piece) = poll_fn(|cx| Poll::Ready(body.poll_piece(cx))).await {
        return Ok(piece);
    }
    let piece = poll_fn(|cx| body.poll_piece(cx));
    let paused = tokio::time::sleep(idle).deadline();
    tokio::time::timeout_at(until.map_or(paused, |until| until.min(paused)), piece).await.map_err(|_| Late)
}

/// The time ran out.
struct Late;

/// Reads a body to its end: into one piece, without a copy where it came in one. It stays with the caller, who may go
/// on reading after [`Stopped::TooLarge`].
pub async fn collect(
    body: &mut impl Pieces,
    bytes_max: usize,
    idle: Duration,
    until: Option<Instant>,
) -> Result<Bytes, Stopped> {
    let mut chunks: Vec<Bytes> = Vec::new();
    let mut total = 0;
    while !body.is_over() {
        let Ok(piece) = patient(idle, until, body).await else { return Err(Stopped::Idle) };
        match piece {
            None => break,
            Some(Err(detail)) => return Err(Stopped::Broken(detail)),
            Some(Ok(piece)) => {
                if chunks.is_empty() && body.is_over() && piece.len() <= bytes_max {
                    return Ok(piece);
                }
                total += piece.len();
                chunks.push(piece);
                if total > bytes_max {
                    return Err(Stopped::TooLarge(chunks));
                }
            }
        }
    }
    if chunks.len() == 1 {
        return Ok(chunks.swap_remove(0));
    }
    let mut whole = BytesMut::with_capacity(total);
    for chunk in &chunks {
        whole.extend_from_slice(chunk);
    }
    Ok(whole.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A byte now and then, for ever.
    struct Trickle(u32);

    impl Pieces for Trickle {
        fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, String>>> {
            self.0 += 1;
            if self.0.is_multiple_of(3) {
                return Poll::Ready(Some(Ok(Bytes::from_static(b"x"))));
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }

        fn is_over(&self) -> bool {
            false
        }
    }

    #[test]
    fn a_body_that_trickles_ends_at_its_deadline() {
        let stopped = crate::rt::single().unwrap().block_on(async {
            let until = tokio::time::sleep(Duration::ZERO).deadline();
            collect(&mut Trickle(0), 1_000_000, Duration::from_mins(1), Some(until)).await
        });
        assert!(matches!(stopped, Err(Stopped::Idle)));
    }
}
