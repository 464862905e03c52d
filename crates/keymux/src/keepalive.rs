//! `x-keymux-keepalive: 1`: an answer that begins before it is decided who gives it. While the request waits, comment
//! lines keep the connection warm; a later refusal can then only be an error event. What is decided at once is answered
//! as ever.

use crate::body::{Body, Broken};
use crate::errors::Problem;
use crate::live::Snapshot;
use crate::options::Options;
use crate::request::{Asked, carry_out};
use crate::serve::Worker;
use crate::story::Story;
use bytes::{Bytes, BytesMut};
use http::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http_body::Body as _;
use keymux_policy::fleet::Endpoint;
use keymux_wire::stream::{StreamKind, error_event};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Interval;

/// Time between two comments.
const PAUSE: Duration = Duration::from_secs(5);
/// How long a decision may take before the answer begins without it.
const AT_ONCE: Duration = Duration::from_secs(1);
const COMMENT: &[u8] = b": waiting for a key with room\n\n";

type Decided = Pin<Box<dyn Future<Output = Result<Response<Body>, Problem>> + Send>>;

/// An answer that is still being decided, or that one, once it is.
pub struct Deferred {
    state: State,
    kind: StreamKind,
    beat: Interval,
}

enum State {
    Deciding(Decided),
    Answering(Body),
    Wrapping(Body, BytesMut),
    Over,
}

/// Answers as ever if it is decided soon, else begins the answer now.
pub async fn deferred(
    worker: Arc<Worker>,
    snapshot: Arc<Snapshot>,
    asked: Asked,
    options: Options,
    story: Story,
) -> Result<Response<Body>, Problem> {
    let kind = match asked.endpoint {
        Endpoint::Messages => StreamKind::Messages,
        Endpoint::Responses => StreamKind::Responses,
        Endpoint::Completions => StreamKind::Completions,
        _ => StreamKind::Chat,
    };
    let mut deciding: Decided =
        Box::pin(async move { carry_out(&worker, &snapshot, &asked, &options, story).await });
    if let Ok(decided) = tokio::time::timeout(AT_ONCE, &mut deciding).await {
        return decided;
    }
    let state = State::Deciding(deciding);
    let beat = tokio::time::interval(PAUSE);
    let mut response = Response::new(Body::Deferred(Box::new(Deferred { state, kind, beat })));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

impl Deferred {
    /// The next chunk.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        loop {
            match &mut self.state {
                State::Deciding(decided) => match decided.as_mut().poll(cx) {
                    Poll::Ready(Ok(response)) if is_stream(&response) => {
                        self.state = State::Answering(response.into_body());
                    }
                    Poll::Ready(Ok(response)) => {
                        // A plain answer: the provider's error, in its own words.
                        self.state = State::Wrapping(response.into_body(), BytesMut::new());
                    }
                    Poll::Ready(Err(problem)) => {
                        self.state = State::Over;
                        return Poll::Ready(Some(Ok(self.told(&problem))));
                    }
                    Poll::Pending => {
                        return self.beat.poll_tick(cx).map(|_| Some(Ok(Bytes::from_static(COMMENT))));
                    }
                },
                State::Answering(body) => {
                    return Pin::new(body)
                        .poll_frame(cx)
                        .map(|frame| frame.map(|frame| frame.map(|f| f.into_data().unwrap_or_default())));
                }
                State::Wrapping(body, whole) => match Pin::new(body).poll_frame(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Some(Ok(frame))) => {
                        whole.extend_from_slice(&frame.into_data().unwrap_or_default());
                    }
                    Poll::Ready(Some(Err(broken))) => return Poll::Ready(Some(Err(broken))),
                    Poll::Ready(None) => {
                        let event = wrapped(self.kind, whole);
                        self.state = State::Over;
                        return Poll::Ready(Some(Ok(event)));
                    }
                },
                State::Over => return Poll::Ready(None),
            }
        }
    }

    fn told(&self, problem: &Problem) -> Bytes {
        let row = problem.kind.row();
        let type_ = if self.kind == StreamKind::Messages { row.anthropic_type } else { row.openai_type };
        let code = problem.code.unwrap_or(row.code);
        Bytes::from(error_event(self.kind, &problem.message, type_, code))
    }
}

/// A whole body as one event. It may have several lines.
fn wrapped(kind: StreamKind, whole: &[u8]) -> Bytes {
    let mut event = Vec::with_capacity(whole.len() + 32);
    if kind == StreamKind::Messages {
        event.extend_from_slice(b"event: error\n");
    }
    for line in whole.split(|byte| *byte == b'\n') {
        event.extend_from_slice(b"data: ");
        event.extend_from_slice(line.trim_ascii_end());
        event.push(b'\n');
    }
    event.push(b'\n');
    Bytes::from(event)
}

fn is_stream(response: &Response<Body>) -> bool {
    response.status().is_success()
        && response
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|v| v.as_bytes().starts_with(b"text/event-stream"))
}
