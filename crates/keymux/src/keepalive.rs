//! `x-keymux-keepalive: 1`: an answer that begins before it is decided who gives it. While the request waits, comment
//! lines keep the connection warm; a later refusal can then only be an error event.

use crate::body::{Body, Broken};
use crate::errors::Problem;
use crate::live::Snapshot;
use crate::options::Options;
use crate::request::{Asked, carry_out};
use crate::serve::Worker;
use crate::story::Story;
use bytes::Bytes;
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
    Over,
}

/// Begins the answer now.
pub fn deferred(
    worker: Arc<Worker>,
    snapshot: Arc<Snapshot>,
    asked: Asked,
    options: Options,
    story: Story,
) -> Response<Body> {
    let kind = match asked.endpoint {
        Endpoint::Messages => StreamKind::Messages,
        Endpoint::Responses => StreamKind::Responses,
        Endpoint::Completions => StreamKind::Completions,
        _ => StreamKind::Chat,
    };
    let deciding = async move { carry_out(&worker, &snapshot, &asked, &options, story).await };
    let state = State::Deciding(Box::pin(deciding));
    let beat = tokio::time::interval(PAUSE);
    let mut response = Response::new(Body::Deferred(Box::new(Deferred { state, kind, beat })));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
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
                        self.state = State::Over;
                        let status = response.status().as_u16();
                        let message = format!("The provider answered {status} without a stream.");
                        return Poll::Ready(Some(Ok(self.told(&message, "provider_error"))));
                    }
                    Poll::Ready(Err(problem)) => {
                        self.state = State::Over;
                        let code = problem.code.unwrap_or(problem.kind.row().code);
                        return Poll::Ready(Some(Ok(self.told(&problem.message, code))));
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
                State::Over => return Poll::Ready(None),
            }
        }
    }

    fn told(&self, message: &str, code: &str) -> Bytes {
        Bytes::from(error_event(self.kind, message, "server_error", code))
    }
}

fn is_stream(response: &Response<Body>) -> bool {
    response.status().is_success()
        && response
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|v| v.as_bytes().starts_with(b"text/event-stream"))
}
