//! The story of a request, top to bottom: who calls, what for, where it may go, one attempt after the other until one
//! answers, and the answer on its way back. Each chapter is told in its own file; this one keeps their order.

use crate::alarm::Alarm;
use crate::answer::{self, Tried};
use crate::attempt::{Failed, Patience};
use crate::body::{self, Body, Taken};
use crate::clients::bill::Call;
use crate::clients::{self, Client, Entry};
use crate::errors::{Kind, Problem};
use crate::http1::Fields;
use crate::keys::openrouter;
use crate::options::Options;
use crate::plan::{self, Plan, Read};
use crate::reply::Reply;
use crate::scheduler::{Answer, Held};
use crate::serve::{Gone, Line, RequestHead, Worker};
use crate::story::Story;
use crate::surface::{self, Lost, Own, Surface};
use crate::traces::Trace;
use crate::upstream::Outgoing;
use crate::{bound, guard, headers, keepalive, models, refuse};
use bytes::Bytes;
use http::{Method, StatusCode};
use keymux_policy::fleet::Endpoint;
use keymux_policy::tenants::Want;
use keymux_policy::{Now, Phase, Sign};
use keymux_wire::body::Envelope;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Why a request has no answer of a provider.
enum Ended {
    Problem(Problem),
    Gone,
}

impl From<Problem> for Ended {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<Gone> for Ended {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}

/// Serves one request. Every error becomes an answer in the dialect of its path; only who has gone gets none.
pub async fn handle(
    worker: &Arc<Worker>,
    line: &mut Line,
    alarm: &mut Alarm,
    mut head: RequestHead,
) -> Result<Reply, Gone> {
    let id = worker.next_id();
    let origin = head.fields.get("origin").map(<[u8]>::to_vec);
    let mut caller = None;
    let mut reply = match serve(worker, line, alarm, &mut head, (&id, &mut caller)).await {
        Ok(reply) => reply,
        Err(Ended::Problem(problem)) => told(worker, head.path(), &id, &problem),
        Err(Ended::Gone) => return Err(Gone),
    };
    reply.field("x-request-id", id.as_bytes());
    if let Some(client) = &caller {
        clients::headers::add(&worker.gateway.turnstile, client, &mut reply);
    }
    if let Some(origin) = origin {
        let may_call = guard::cors(&worker.gateway.live.load().config.server, &origin, &mut reply);
        if may_call && head.method == Method::OPTIONS {
            guard::preflight(&mut reply);
        }
    }
    Ok(reply)
}

/// Answers bytes that are no request.
pub fn unreadable(worker: &Worker, path: &str, problem: &Problem) -> Reply {
    let id = worker.next_id();
    let mut reply = told(worker, path, &id, problem);
    reply.field("x-request-id", id.as_bytes());
    reply
}

fn told(worker: &Worker, path: &str, id: &str, problem: &Problem) -> Reply {
    worker.gateway.metrics.refusal(problem.kind);
    problem.reply(surface::envelope(path), Some(id))
}

async fn serve(
    worker: &Arc<Worker>,
    line: &mut Line,
    alarm: &mut Alarm,
    head: &mut RequestHead,
    (id, known): (&Arc<str>, &mut Option<Arc<Client>>),
) -> Result<Reply, Ended> {
    let gateway = &worker.gateway;
    let snapshot = gateway.live.load_full();
    let server = &snapshot.config.server;
    if head.method == Method::OPTIONS && head.fields.has("origin") {
        return Ok(Reply::new(StatusCode::NO_CONTENT, Body::EMPTY));
    }
    let path = surface::normal(head.path());
    let surface = surface::find(&head.method, &path).map_err(|lost| lost_problem(lost, &path))?;
    match surface {
        Surface::Healthz => return Ok(plain(StatusCode::OK, "ok\n")),
        Surface::Readyz if gateway.draining.load(Ordering::Acquire) => {
            return Ok(plain(StatusCode::SERVICE_UNAVAILABLE, "draining\n"));
        }
        Surface::Readyz => return Ok(plain(StatusCode::OK, "ready\n")),
        Surface::Own(what @ (Own::Keys | Own::Key(_))) => {
            guard::manages(gateway.admin_token().as_ref(), &head.fields)?;
            let mut asked = Box::pin(own(worker, (line, alarm), head, (what, None)));
            return Ok(asked.as_mut().await?);
        }
        _ => {}
    }
    let now = gateway.clock.now();
    let caller = guard::admit(server, &gateway.directory, &head.fields, now.unix_ns / 1_000_000)?;
    known.clone_from(&caller);
    if gateway.draining.load(Ordering::Acquire) {
        return Err(Problem::new(Kind::Draining, "This gateway is shutting down; try another one.").into());
    }
    match surface {
        // Rare and large: boxed, or every call would have room for them.
        Surface::Models => {
            let mut listed = Box::pin(models::list(worker, &snapshot, head, caller.as_deref()));
            Ok(line.unless_gone(listed.as_mut()).await??)
        }
        Surface::Model(name) => {
            let mut one = Box::pin(models::one(worker, &snapshot, head, (name, caller.as_deref())));
            Ok(line.unless_gone(one.as_mut()).await??)
        }
        Surface::Own(what) => {
            let mut asked = Box::pin(own(worker, (line, alarm), head, (what, caller.as_deref())));
            Ok(asked.as_mut().await?)
        }
        Surface::Call(endpoint) => {
            let envelope = surface::envelope_of_normal(&path);
            gateway.ledger.admit()?;
            let mut story = Story::begin(gateway, id.clone(), (endpoint, caller), now);
            let traces = &snapshot.config.traces;
            if traces.collector.is_some() {
                story.traced(Trace::begin(&head.fields, id, traces.sample));
            }
            call(worker, &snapshot, (endpoint, envelope), (line, alarm), head, story).await
        }
        // Answered above.
        Surface::Healthz | Surface::Readyz => Ok(plain(StatusCode::OK, "ok\n")),
    }
}

/// A question about client keys, answered here.
async fn own(
    worker: &Arc<Worker>,
    (line, alarm): (&mut Line, &mut Alarm),
    head: &RequestHead,
    (what, caller): (Own<'_>, Option<&Client>),
) -> Result<Reply, Problem> {
    let gateway = &worker.gateway;
    let server = &gateway.live.load_full().config.server;
    let body = body::read(&head.fields, line, alarm, gateway, server).await?;
    let asked = openrouter::Asked { method: &head.method, what, query: head.query(), body: &body, caller };
    openrouter::answer(gateway, &asked).await
}

/// A call to a model: read it, plan it, and carry it out while the client waits.
async fn call(
    worker: &Arc<Worker>,
    snapshot: &Arc<crate::live::Snapshot>,
    (endpoint, envelope): (Endpoint, Envelope),
    (line, alarm): (&mut Line, &mut Alarm),
    head: &mut RequestHead,
    mut story: Story,
) -> Result<Reply, Ended> {
    let server = &snapshot.config.server;
    let options = Options::read(&head.fields).inspect_err(|problem| story.refused(problem))?;
    story.tagged(&options.tags);
    let body = body::read(&head.fields, line, alarm, &worker.gateway, server)
        .await
        .inspect_err(|problem| story.refused(problem))?;
    let query = head.query().and_then(headers::query_from_caller);
    let asked = Asked { endpoint, query, fields: std::mem::take(&mut head.fields), envelope, body };
    // Only a stream has room for comments.
    if options.keepalive && surface::streams(endpoint) && wants_stream(&asked) {
        let deferred = keepalive::deferred(worker.clone(), snapshot.clone(), asked, options, story);
        let mut deferred = Box::pin(deferred);
        return Ok(line.unless_gone(deferred.as_mut()).await??);
    }
    let carried = pin!(carry_out(worker, snapshot, &asked, &options, story, alarm));
    Ok(line.unless_gone(carried).await??)
}

/// Whether the body asks for a stream. What is wrong with a body is told later.
fn wants_stream(asked: &Asked) -> bool {
    plan::read(asked.endpoint, &asked.fields, &asked.body).is_ok_and(|read| read.stream())
}

/// What a caller asked.
pub struct Asked {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The query string.
    pub query: Option<String>,
    /// The headers, as they came.
    pub fields: Fields,
    /// The envelope that errors have on its path.
    pub envelope: Envelope,
    /// The body.
    pub body: Taken,
}

/// Asks the scheduler, waits if it must, and tries one target after the other until the story is over.
pub async fn carry_out(
    worker: &Arc<Worker>,
    snapshot: &Arc<crate::live::Snapshot>,
    asked: &Asked,
    options: &Options,
    mut story: Story,
    alarm: &mut Alarm,
) -> Result<Reply, Problem> {
    let now = if asked.body.came_at_once() { story.arrived() } else { worker.gateway.clock.now() };
    let planned = plan::read(asked.endpoint, &asked.fields, &asked.body).and_then(|read| {
        let caller = story.caller().map(|client| &**client);
        let plan = Plan::new(snapshot, asked.endpoint, &read, &asked.body, (caller, options), now)?;
        Ok((read, plan))
    });
    let (read, mut plan) = planned.inspect_err(|problem| {
        story.refused(problem);
    })?;
    story.asks_for(read.model(), read.stream());
    story.planned(snapshot.counters(plan.route), plan.ask.class);
    let bound = bound::bind(&worker.gateway, snapshot, &read, &mut plan, story.caller().map(|c| &**c)).await;
    bound.inspect_err(|problem| story.refused(problem))?;
    let passed = pass(worker, snapshot, (&read, &asked.body, &mut plan), &mut story, now).await;
    let now = passed.inspect_err(|problem| story.refused(problem))?;
    let mut answer = worker.gateway.scheduler.submit(now, plan.ask.clone());
    let mut now_ns = now.mono_ns;
    loop {
        let held = match answer {
            Answer::Go(held) => held,
            Answer::Wait(waiting) => {
                answer = waiting.decided().await;
                now_ns = worker.gateway.clock.mono_ns();
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
        match attempt(worker, snapshot, asked, (&read, &plan, now_ns), held, story, alarm).await {
            Tried::Over(reply) => return reply,
            Tried::Again(next) => (answer, story) = *next,
        }
        now_ns = worker.gateway.clock.mono_ns();
    }
}

/// Takes what the request needs of its client's limits and budgets, and waits for it if it must. The instant at which
/// it may begin.
async fn pass(
    worker: &Worker,
    snapshot: &crate::live::Snapshot,
    (read, body, plan): (&Read<'_>, &[u8], &mut Plan),
    story: &mut Story,
    now: Now,
) -> Result<Now, Problem> {
    let Some(client) = story.caller().cloned() else { return Ok(now) };
    let gateway = &worker.gateway;
    if client.budgeted {
        let worth = clients::worth::checked(gateway, snapshot, &client, (plan, read, body), now)?;
        plan.worth(worth, read);
    }
    let size = &plan.ask.size;
    let tokens = (size.input_tokens + size.output_tokens_max.unwrap_or(0)) as f64;
    let bound_nano_usd = plan.ask.cost_max_nano_usd;
    let deadline_mono_ns = plan.ask.deadline_mono_ns;
    let want = Want { payers: client.payers, tokens, bound_nano_usd, deadline_mono_ns };
    let (said, then) = match gateway.turnstile.enter(want) {
        Entry::Go(passed) => (Ok(passed), now),
        Entry::Refuse(denial) => (Err(denial), now),
        Entry::Wait(waiting) => (waiting.called().await, gateway.clock.now()),
    };
    let passed = said.map_err(|denial| clients::denied::problem(&denial, &client, then.unix_ns))?;
    story.passed(passed, bound_nano_usd, then.mono_ns.saturating_sub(now.mono_ns));
    Ok(then)
}

/// One attempt on one target.
async fn attempt(
    worker: &Arc<Worker>,
    snapshot: &Arc<crate::live::Snapshot>,
    asked: &Asked,
    (read, plan, now_ns): (&Read<'_>, &Plan, u64),
    mut held: Held,
    mut story: Story,
    alarm: &mut Alarm,
) -> Tried {
    let gateway = &worker.gateway;
    let Some((upstream, key)) = held.lease().and_then(|lease| {
        let known = |s: &crate::live::Snapshot| {
            Some((s.upstream(lease.provider)?.clone(), s.key(lease.key)?.clone()))
        };
        // A lease that was granted after a reload may name what only the newer configuration knows.
        known(snapshot).or_else(|| known(&gateway.live.load_full()))
    }) else {
        let failed = Failed::new(Phase::Connect, Sign::Local, "the key is not configured any more");
        return answer::failed(held, failed, story, None);
    };
    held.begins(&key);
    let Some(lease) = held.lease() else {
        return Tried::Over(Err(Problem::new(Kind::Internal, "An attempt without a lease.")));
    };
    let timeouts = plan.timeouts(snapshot, &upstream);
    story.attempt(&upstream, &key, lease, now_ns);
    let price = snapshot.price(upstream.id, &lease.model);
    let goes_on = !plan.ask.stream || plan.background || upstream.runs_on_after_cancel;
    let call = Call { price, input_tokens: lease.input_tokens, goes_on };
    let now_ns = match story.goes_out(call, now_ns, (plan.until_ns, alarm)).await {
        Ok(now_ns) => now_ns,
        Err(problem) => {
            story.refused(&problem);
            return Tried::Over(Err(problem));
        }
    };
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
    let trace = story.trace().map(|trace| (trace, story.attempts()));
    let request = outbound(asked, (&upstream, &key), trace, outgoing.body);
    let plain = Some(&held).filter(|_| !plan.ask.stream);
    match worker.dialer.send(&upstream, request, patience, (plain, story.is_sent()), alarm).await {
        Err(failed) => answer::failed(held, failed, story, Some(&key)),
        Ok(answered) => {
            let context = answer::Context {
                worker,
                plan,
                endpoint: asked.endpoint,
                envelope: asked.envelope,
                timeouts,
                usage_added: outgoing.usage_added,
                upstream,
                key,
                expose_keys: snapshot.config.server.expose_keys,
            };
            answer::receive(&context, answered, held, story, alarm).await
        }
    }
}

/// The request as it goes out.
fn outbound(
    asked: &Asked,
    (upstream, key): (&crate::live::Upstream, &crate::live::KeyEntry),
    trace: Option<(&Trace, u32)>,
    body: Bytes,
) -> Outgoing {
    let path = keymux_config::endpoint_path(asked.endpoint);
    let (mark, query) = asked.query.as_ref().map_or(("", ""), |query| ("?", query.as_str()));
    // Room for a small body too, which is copied behind the head.
    let mut head = Vec::with_capacity(1024 + body.len().min(Outgoing::TOGETHER_BYTES_MAX));
    headers::begin(&mut head, "POST", &[&upstream.target_base, "/", path, mark, query], upstream);
    headers::to_provider(&mut head, &asked.fields, upstream, key);
    headers::trace_context(&mut head, &asked.fields, upstream, trace);
    headers::number_field(&mut head, "content-length", body.len() as u64);
    headers::end(&mut head, upstream);
    Outgoing::new(head, body)
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

fn plain(status: StatusCode, text: &'static str) -> Reply {
    Reply::whole(status, "text/plain; charset=utf-8", text)
}
