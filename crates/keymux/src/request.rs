//! The story of a request, top to bottom: who calls, what for, where it may go, one attempt after the other until one
//! answers, and the answer on its way back. Each chapter is told in its own file; this one keeps their order.

use crate::answer::{self, Tried};
use crate::attempt::{Failed, Patience};
use crate::body::{self, Body};
use crate::errors::{Kind, Problem};
use crate::options::Options;
use crate::plan::{self, Plan, Read};
use crate::scheduler::{Answer, Held};
use crate::serve::Worker;
use crate::story::Story;
use crate::surface::{self, Lost, Surface};
use crate::upstream::Outgoing;
use crate::{guard, headers, keepalive, models, refuse};
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue, ORIGIN};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use keymux_policy::fleet::Endpoint;
use keymux_policy::{Phase, Sign};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Serves one request. Every error becomes an answer in the dialect of its path.
pub async fn handle(worker: Arc<Worker>, request: Request<Incoming>) -> Response<Body> {
    let id = worker.next_id();
    let envelope = surface::envelope(request.uri().path());
    let origin = request.headers().get(ORIGIN).cloned();
    let mut response = match serve(&worker, request, &id).await {
        Ok(response) => response,
        Err(problem) => {
            worker.gateway.metrics.refusal(problem.kind);
            let mut response = body::whole(problem.response(envelope, Some(&id)));
            if problem.kind == Kind::BadFraming {
                // Where this request ends is not sure, so nothing behind it is one.
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            response
        }
    };
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert("x-request-id", id);
    }
    if origin.is_some() {
        guard::cors(&worker.gateway.live.load().config.server, origin.as_ref(), headers);
    }
    response
}

async fn serve(
    worker: &Arc<Worker>,
    request: Request<Incoming>,
    id: &Arc<str>,
) -> Result<Response<Body>, Problem> {
    let gateway = &worker.gateway;
    let snapshot = gateway.live.load_full();
    let server = &snapshot.config.server;
    if request.method() == Method::OPTIONS && request.headers().contains_key(ORIGIN) {
        let mut response = Response::new(Body::Whole(Full::default()));
        *response.status_mut() = StatusCode::NO_CONTENT;
        guard::preflight(server, request.headers().get(ORIGIN), response.headers_mut());
        return Ok(response);
    }
    let path = surface::normal(request.uri().path());
    let surface = surface::find(request.method(), &path).map_err(|lost| lost_problem(lost, &path))?;
    match surface {
        Surface::Healthz => return Ok(plain(StatusCode::OK, "ok\n")),
        Surface::Readyz if gateway.draining.load(Ordering::Acquire) => {
            return Ok(plain(StatusCode::SERVICE_UNAVAILABLE, "draining\n"));
        }
        Surface::Readyz => return Ok(plain(StatusCode::OK, "ready\n")),
        _ => guard::admit(server, &request)?,
    }
    if gateway.draining.load(Ordering::Acquire) {
        return Err(Problem::new(Kind::Draining, "This gateway is shutting down; try another one."));
    }
    match surface {
        // Rare and large: boxed, or every call would have room for them.
        Surface::Models => Box::pin(models::list(worker, &snapshot, &request)).await,
        Surface::Model(name) => Box::pin(models::one(worker, &snapshot, &request, name)).await,
        Surface::Call(endpoint) => {
            let story = Story::begin(gateway, id.clone(), endpoint, gateway.clock.mono_ns());
            call(worker.clone(), snapshot.clone(), endpoint, request, story).await
        }
        // Answered above.
        Surface::Healthz | Surface::Readyz => Ok(plain(StatusCode::OK, "ok\n")),
    }
}

/// A call to a model: read it, plan it, and carry it out.
async fn call(
    worker: Arc<Worker>,
    snapshot: Arc<crate::live::Snapshot>,
    endpoint: Endpoint,
    request: Request<Incoming>,
    mut story: Story,
) -> Result<Response<Body>, Problem> {
    let server = &snapshot.config.server;
    let (parts, incoming) = request.into_parts();
    let options = Options::read(&parts.headers)?;
    let idle = Duration::from_millis(server.body_timeout_ms);
    let body =
        body::read(&parts.headers, incoming, server.body_bytes_max, idle).await.inspect_err(|problem| {
            story.refused(problem);
        })?;
    let asked = Asked {
        endpoint,
        query: parts.uri.query().and_then(headers::query_from_caller),
        headers: parts.headers,
        body,
    };
    // Only a stream has room for comments.
    if options.keepalive && surface::streams(endpoint) && wants_stream(&asked) {
        return keepalive::deferred(worker, snapshot, asked, options, story).await;
    }
    carry_out(&worker, &snapshot, &asked, &options, story).await
}

/// Whether the body asks for a stream. What is wrong with a body is told later.
fn wants_stream(asked: &Asked) -> bool {
    plan::read(asked.endpoint, &asked.headers, &asked.body).is_ok_and(|read| read.stream())
}

/// What a caller asked.
pub struct Asked {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The query string.
    pub query: Option<String>,
    /// The headers, as they came.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// Asks the scheduler, waits if it must, and tries one target after the other until the story is over.
pub async fn carry_out(
    worker: &Arc<Worker>,
    snapshot: &Arc<crate::live::Snapshot>,
    asked: &Asked,
    options: &Options,
    mut story: Story,
) -> Result<Response<Body>, Problem> {
    let planned = plan::read(asked.endpoint, &asked.headers, &asked.body).and_then(|read| {
        let now_ns = worker.gateway.clock.mono_ns();
        let mut plan = Plan::new(snapshot, asked.endpoint, &read, &asked.body, options, now_ns)?;
        plan.ask.bound_to = worker.gateway.bound.account_for(&read)?;
        Ok((read, plan))
    });
    let (read, plan) = planned.inspect_err(|problem| {
        story.refused(problem);
    })?;
    story.asks_for(read.model());
    let mut answer = worker.gateway.scheduler.submit(plan.ask.clone());
    loop {
        let held = match answer {
            Answer::Go(held) => held,
            Answer::Wait(waiting) => {
                let _waits = worker.gateway.wait();
                answer = waiting.decided().await;
                continue;
            }
            Answer::Refuse(refusal) => {
                let problem = refuse::problem(&refusal);
                story.refused(&problem);
                return Err(problem);
            }
            Answer::Done(_) => {
                return Err(Problem::new(Kind::Internal, "The scheduler ended a request twice."));
            }
        };
        match attempt(worker, snapshot, asked, &read, &plan, held, story).await {
            Tried::Over(response) => return response,
            Tried::Again(next, told) => {
                answer = next;
                story = told;
            }
        }
    }
}

/// One attempt on one target.
async fn attempt(
    worker: &Arc<Worker>,
    snapshot: &Arc<crate::live::Snapshot>,
    asked: &Asked,
    read: &Read<'_>,
    plan: &Plan,
    held: Held,
    mut story: Story,
) -> Tried {
    let gateway = &worker.gateway;
    // A lease that was granted after a reload may name what only the newer configuration knows.
    let newer = gateway.live.load_full();
    let Some((upstream, key)) = held.lease().and_then(|lease| {
        let known = |s: &crate::live::Snapshot| {
            Some((s.upstream(lease.provider)?.clone(), s.key(lease.key)?.clone()))
        };
        known(snapshot).or_else(|| known(&newer))
    }) else {
        let failed = Failed::new(Phase::Connect, Sign::Local, "the key is not configured any more");
        return answer::failed(held, failed, story, None);
    };
    let Some(lease) = held.lease() else {
        return Tried::Over(Err(Problem::new(Kind::Internal, "An attempt without a lease.")));
    };
    story.attempt(&upstream.name, &key.name, lease.attempt, lease.waited_ns);
    let timeouts = plan.timeouts(snapshot, &upstream);
    let now_ns = gateway.clock.mono_ns();
    let left_ns = plan.until_ns.saturating_sub(now_ns);
    let configured_ns = plan::first_byte_ms(&timeouts, plan.ask.stream).saturating_mul(1_000_000);
    let first_byte_ns =
        lease.first_byte_timeout_ns.map_or(configured_ns, |adaptive| adaptive.min(configured_ns));
    let patience = Patience {
        from_ns: now_ns,
        connect: Duration::from_millis(timeouts.connect_ms).min(Duration::from_nanos(left_ns)),
        first_byte: Duration::from_nanos(first_byte_ns.min(left_ns)),
        clients_wish: plan.clients_wish && left_ns < first_byte_ns,
    };
    let outgoing = plan::outgoing(snapshot, plan, read, &asked.body, &upstream, &lease.model);
    let request = outbound(asked, &upstream, &key, outgoing.body);
    match worker.dialer.send(&upstream, request, patience).await {
        Err(failed) => answer::failed(held, failed, story, Some(&key)),
        Ok(answered) => {
            let context = answer::Context {
                worker,
                plan,
                endpoint: asked.endpoint,
                timeouts,
                usage_added: outgoing.usage_added,
                upstream,
                key,
                expose_keys: snapshot.config.server.expose_keys,
            };
            answer::receive(context, answered, held, story).await
        }
    }
}

/// The request as it goes out.
fn outbound(
    asked: &Asked,
    upstream: &crate::live::Upstream,
    key: &crate::live::KeyEntry,
    body: Bytes,
) -> Outgoing {
    let path = keymux_config::endpoint_path(asked.endpoint);
    let (mark, query) = asked.query.as_ref().map_or(("", ""), |query| ("?", query.as_str()));
    // Room for a small body too, which is copied behind the head.
    let mut head = Vec::with_capacity(1024 + body.len().min(Outgoing::TOGETHER_BYTES_MAX));
    headers::begin(&mut head, "POST", &[&upstream.target_base, "/", path, mark, query], upstream);
    headers::to_provider(&mut head, &asked.headers, upstream, key);
    let mut digits = [0; 20];
    headers::field(&mut head, "content-length", decimal(body.len(), &mut digits));
    headers::end(&mut head, upstream);
    Outgoing::new(head, body)
}

/// A number in decimal digits.
fn decimal(mut n: usize, digits: &mut [u8; 20]) -> &[u8] {
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b"0123456789"[n % 10];
        n /= 10;
        if n == 0 {
            return &digits[start..];
        }
    }
}

fn lost_problem(lost: Lost, path: &str) -> Problem {
    match lost {
        Lost::Path => {
            let shown: String = path.chars().take(120).collect();
            Problem::new(
                Kind::PathUnknown,
                format!(
                    "There is no path `{shown}` here; endpoints live under /v1, such as /v1/chat/completions."
                ),
            )
        }
        Lost::Method(allow) => Problem {
            allow: Some(allow),
            ..Problem::new(Kind::MethodNotAllowed, format!("This path takes {allow}."))
        },
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::Whole(Full::new(Bytes::from_static(text.as_bytes()))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
