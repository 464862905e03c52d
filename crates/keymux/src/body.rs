//! Bodies on the side of the client: reading a request's, and the one type of an answer's.

use crate::errors::{Kind, Problem};
use crate::relay::Relay;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http::{HeaderMap, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

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
    body: Incoming,
    bytes_max: usize,
    idle: Duration,
) -> Result<Bytes, Problem> {
    if let Some(coding) =
        headers.get(CONTENT_ENCODING).filter(|c| !c.as_bytes().eq_ignore_ascii_case(b"identity"))
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
    match collect(body, bytes_max, idle, None).await {
        Ok(bytes) => Ok(bytes),
        Err(Stopped::TooLarge(_)) => Err(too_large(bytes_max)),
        Err(Stopped::Idle) => Err(Problem::new(
            Kind::BodyTimeout,
            format!("The body stopped coming for {} s; send it whole.", idle.as_secs()),
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

/// Reads a body to its end: into one piece without a copy where it came in one.
pub async fn collect(
    mut body: Incoming,
    bytes_max: usize,
    idle: Duration,
    until: Option<Instant>,
) -> Result<Bytes, Stopped> {
    collect_from(&mut body, bytes_max, idle, until).await
}

/// Waits for the next piece. Most are there already, and cost neither a timer nor a look at the clock.
async fn patient<F: Future + Unpin>(
    idle: Duration,
    until: Option<Instant>,
    mut piece: F,
) -> Result<F::Output, Late> {
    if let Poll::Ready(output) = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut piece).poll(cx))).await {
        return Ok(output);
    }
    let waited = async move {
        match until {
            Some(until) => tokio::time::timeout_at(until, piece).await.map_err(|_| Late),
            None => Ok(piece.await),
        }
    };
    tokio::time::timeout(idle, waited).await.unwrap_or(Err(Late))
}

/// The time ran out.
struct Late;

/// As [`collect`], leaving the body with the caller, who may go on reading after [`Stopped::TooLarge`].
pub async fn collect_from(
    body: &mut Incoming,
    bytes_max: usize,
    idle: Duration,
    until: Option<Instant>,
) -> Result<Bytes, Stopped> {
    let mut chunks: Vec<Bytes> = Vec::new();
    let mut total = 0;
    loop {
        if body.is_end_stream() {
            break;
        }
        let Ok(frame) = patient(idle, until, body.frame()).await else { return Err(Stopped::Idle) };
        match frame {
            None => break,
            Some(Err(error)) => return Err(Stopped::Broken(crate::attempt::describe(&error))),
            Some(Ok(frame)) => {
                // Trailers mean nothing here.
                let Ok(data) = frame.into_data() else { continue };
                total += data.len();
                chunks.push(data);
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
