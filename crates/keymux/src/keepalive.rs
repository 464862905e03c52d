//! `x-keymux-keepalive: 1`: an answer that begins before it is decided who gives it. While the request waits, comment
//! lines keep the connection warm; a later refusal can then only be an error event. What is decided at once is answered
//! as ever.

use crate::alarm::Alarm;
use crate::body::{Body, Broken};
use crate::errors::Problem;
use crate::live::Snapshot;
use crate::options::Options;
use crate::reply::Reply;
use crate::request::{Asked, carry_out};
use crate::serve::Worker;
use crate::story::Story;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
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

type Decided = Pin<Box<dyn Future<Output = Result<Reply, Problem>> + Send>>;

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
) -> Result<Reply, Problem> {
    let kind = match asked.endpoint {
        Endpoint::Messages => StreamKind::Messages,
        Endpoint::Responses => StreamKind::Responses,
        Endpoint::Completions => StreamKind::Completions,
        _ => StreamKind::Chat,
    };
    let mut deciding: Decided = Box::pin(async move {
        let mut alarm = Alarm::new(worker.gateway.clock.clone());
        carry_out(&worker, &snapshot, &asked, &options, story, &mut alarm).await
    });
    if let Ok(decided) = tokio::time::timeout(AT_ONCE, &mut deciding).await {
        return decided;
    }
    let state = State::Deciding(deciding);
    let beat = tokio::time::interval(PAUSE);
    let body = Body::Deferred(Box::new(Deferred { state, kind, beat }));
    let mut reply = Reply::new(StatusCode::OK, body);
    reply.field("content-type", b"text/event-stream");
    reply.field("cache-control", b"no-cache");
    Ok(reply)
}

impl Deferred {
    /// The next chunk.
    pub fn poll(&mut self, cx: &mut Context<'_>, alarm: &mut Alarm) -> Poll<Option<Result<Bytes, Broken>>> {
        loop {
            match &mut self.state {
                State::Deciding(decided) => match decided.as_mut().poll(cx) {
                    Poll::Ready(Ok(reply)) if is_stream(&reply) => {
                        self.state = State::Answering(reply.body);
                    }
                    Poll::Ready(Ok(reply)) => {
                        // A plain answer: the provider's error, in its own words.
                        self.state = State::Wrapping(reply.body, BytesMut::new());
                    }
                    Poll::Ready(Err(problem)) => {
                        self.state = State::Over;
                        return Poll::Ready(Some(Ok(self.told(&problem))));
                    }
                    Poll::Pending => {
                        return self.beat.poll_tick(cx).map(|_| Some(Ok(Bytes::from_static(COMMENT))));
                    }
                },
                State::Answering(body) => return body.poll_piece(cx, alarm),
                State::Wrapping(body, whole) => match body.poll_piece(cx, alarm) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Some(Ok(piece))) => whole.extend_from_slice(&piece),
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

fn is_stream(reply: &Reply) -> bool {
    matches!(&reply.body, Body::Relay(relay) if relay.is_stream()) && reply.status.is_success()
}
