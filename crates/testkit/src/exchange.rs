//! One request and its answer: read it whole, ask the world, hand the plan to hyper or to the raw socket.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use keymux_provider::{Framing, HttpRequest, Reply};
use tokio::sync::Notify;
use tokio::time::sleep_until;

use crate::capture::{Capture, Captured};
use crate::control;
use crate::paced::{CallGuard, Pace, PacedBody};
use crate::raw::RawAnswer;
use crate::shared::Shared;

/// The largest request that is read.
const BODY_MAX: usize = 64 << 20;

/// Where a request leaves a raw answer for its connection.
#[derive(Default)]
pub(crate) struct Takeover {
    answer: Mutex<Option<RawAnswer>>,
    wake: Notify,
}

impl Takeover {
    fn leave(&self, answer: RawAnswer) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        self.wake.notify_one();
    }

    /// Waits for an answer that hyper cannot give.
    pub(crate) async fn taken(&self) -> RawAnswer {
        loop {
            self.wake.notified().await;
            if let Some(answer) = self.answer.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return answer;
            }
        }
    }
}

/// Either a whole body or a paced one.
pub(crate) enum Answer {
    Whole(Full<Bytes>),
    Paced(Box<PacedBody>),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Answer::Whole(body) => Pin::new(body).poll_frame(cx),
            Answer::Paced(body) => Pin::new(&mut **body).poll_frame(cx),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Whole(body) => body.size_hint(),
            Answer::Paced(body) => body.size_hint(),
        }
    }
}

/// A plain JSON answer of the test kit's own.
pub(crate) fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<Answer> {
    let mut response = Response::new(Answer::Whole(Full::new(body.into())));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    response
}

/// Answers one request.
pub(crate) async fn answer(
    shared: Arc<Shared>,
    takeover: Arc<Takeover>,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    let (head, body) = request.into_parts();
    let target = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let Ok(body) = Limited::new(body, BODY_MAX).collect().await else {
        return Ok(json(StatusCode::PAYLOAD_TOO_LARGE, r#"{"error":"the body is too large or broken"}"#));
    };
    let body = body.to_bytes();
    if let Some(path) = target.strip_prefix("/_sim/") {
        return Ok(control::answer(&shared, head.method.as_str(), path, &body).await);
    }
    let (provider, path) = split(&target);
    let headers: Vec<(String, String)> = head
        .headers
        .iter()
        .map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect();
    let request = HttpRequest { method: head.method.as_str(), path, headers: &headers, body: &body };
    let (reply, pace, age) = {
        let mut age = shared.age();
        let now = age.now();
        let Some(reply) = age.world.http(now, provider, &request) else {
            let text = format!(r#"{{"error":"no provider is mounted at '/{provider}'"}}"#);
            return Ok(json(StatusCode::NOT_FOUND, text));
        };
        (reply, Pace::new(age.clock, now.mono_ns), age.number)
    };
    let capture = shared.captures_wanted().then(|| {
        Arc::new(Capture::new(Captured {
            id: reply.id,
            provider: provider.to_owned(),
            method: request.method.to_owned(),
            path: path.to_owned(),
            headers: headers.clone(),
            body: body.to_vec(),
            sent: Vec::new(),
        }))
    });
    if let Some(capture) = &capture {
        shared.keep(Arc::clone(capture));
    }
    shared.tell();
    let guard = CallGuard::new(shared, age, reply.id, reply.open, capture);
    Ok(deliver(reply, pace, guard, &takeover).await)
}

async fn deliver(reply: Reply, pace: Pace, guard: CallGuard, takeover: &Takeover) -> Response<Answer> {
    if reply.plan.framing == Framing::Raw {
        takeover.leave(RawAnswer { plan: reply.plan, pace, guard });
        // The connection takes it from here and drops this future.
        return std::future::pending().await;
    }
    sleep_until(pace.due(reply.plan.head_at_ns.unwrap_or(0))).await;
    let mut response = Response::new(Answer::Paced(Box::new(PacedBody::new(reply.plan, pace, guard))));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in &reply.headers {
        if let Ok(value) = hyper::header::HeaderValue::from_str(value) {
            response.headers_mut().append(*name, value);
        }
    }
    response
}

/// `/openai/v1/models?x` is `openai` and `/v1/models?x`.
fn split(target: &str) -> (&str, &str) {
    let rest = target.strip_prefix('/').unwrap_or(target);
    match rest.find(['/', '?']) {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_segment_is_the_provider() {
        assert_eq!(split("/openai/v1/models?a=b/c"), ("openai", "/v1/models?a=b/c"));
        assert_eq!(split("/openai"), ("openai", ""));
        assert_eq!(split("/"), ("", ""));
    }
}
