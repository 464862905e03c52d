//! What to make of an answer whose head has come: relay it, try elsewhere, or give up. A stream is held back until its
//! first real output and a plain answer until it is whole, so that whatever goes wrong before can still fail over.

use crate::alarm::Alarm;
use crate::attempt::{Answered, Failed};
use crate::body::{self, Body, Pauses, Stopped};
use crate::clients::dear;
use crate::dress::{dressed, relayed_error};
use crate::errors::{Kind, Problem};
use crate::live::{KeyEntry, Upstream};
use crate::plan::Plan;
use crate::relay::{Attempt, Events, Limits, Relay};
use crate::reply::Reply;
use crate::scheduler::{Answer, Held};
use crate::serve::Worker;
use crate::story::{Outcome, Story};
use crate::stream::{HOLD_BYTES_MAX, HOLD_EVENTS_MAX, StreamReader, tokens_guess};
use crate::upstream::{Exchange, Head};
use crate::{evidence, surface};
use bytes::Bytes;
use keymux_config::Timeouts;
use keymux_policy::fleet::Endpoint;
use keymux_policy::{End, Now, Phase, Sign, Used};
use keymux_wire::body::Envelope;
use keymux_wire::error::{self, ErrorFacts};
use keymux_wire::stored::Watch;
use keymux_wire::stream::StreamKind;
use keymux_wire::{answer as wire_answer, limits, owner};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;

/// Largest error answer that is read.
const ERROR_BYTES_MAX: usize = 1 << 20;
/// Largest plain answer that is held back until it is whole; a larger one passes from there on.
const PLAIN_BYTES_MAX: usize = 8 << 20;

/// What came of an attempt.
pub enum Tried {
    /// The request is answered.
    Over(Result<Reply, Problem>),
    /// The scheduler has another word on it.
    Again(Box<(Answer, Story)>),
}

/// What an answer is read with.
pub struct Context<'a> {
    /// Who reads.
    pub worker: &'a Arc<Worker>,
    /// What was planned.
    pub plan: &'a Plan,
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The envelope of errors on its path.
    pub envelope: Envelope,
    /// How long the parts may take.
    pub timeouts: Timeouts,
    /// The usage chunk has to be taken out again.
    pub usage_added: bool,
    /// The provider.
    pub upstream: Arc<Upstream>,
    /// The key.
    pub key: Arc<KeyEntry>,
    /// Whether the caller may learn the key's name.
    pub expose_keys: bool,
}

impl Context<'_> {
    fn limits(&self) -> Limits {
        Limits {
            idle_ns: self.timeouts.idle_ms.saturating_mul(1_000_000),
            until_ns: self.plan.until_ns,
            clients_wish: self.plan.clients_wish,
        }
    }

    fn pauses<'a>(&self, alarm: &'a mut Alarm) -> Pauses<'a> {
        let Limits { idle_ns, until_ns, .. } = self.limits();
        Pauses { alarm, idle_ns, until_ns }
    }

    fn now_ns(&self) -> u64 {
        self.worker.gateway.clock.mono_ns()
    }

    /// What the answer may name that is the client's from then on.
    fn watch(&self) -> Watch {
        self.plan.watch.at(self.upstream.dialect)
    }

    /// A pause that was too long: whose time ran out?
    fn out_of_time(&self) -> Sign {
        if self.now_ns() < self.plan.until_ns {
            Sign::IdleTimeout
        } else if self.plan.clients_wish {
            Sign::ClientTimeout
        } else {
            Sign::TotalTimeout
        }
    }
}

/// Reads the answer as far as it must be read before the client may see it.
pub async fn receive(
    context: &Context<'_>,
    answered: Answered,
    held: Held,
    story: Story,
    alarm: &mut Alarm,
) -> Tried {
    let Answered { head, exchange, sent_ns } = answered;
    let now = context.worker.gateway.clock.now();
    measure(context, &head, &held, now.unix_ns);
    if let Some(detail) = unfit(&head) {
        return failed(held, Failed::new(Phase::Head, Sign::Garbage, detail), story, Some(&context.key));
    }
    if !head.status.is_success() {
        // Rare: boxed, or every answer would have room for it.
        return Box::pin(refused(context, &head, exchange, held, story, alarm)).await;
    }
    match stream_kind(context.endpoint).filter(|_| is(&head, b"text/event-stream")) {
        Some(kind) => hold_back(context, &head, exchange, kind, (held, sent_ns), story, alarm).await,
        None if is_json_endpoint(context.endpoint) || is(&head, b"application/json") => {
            whole(context, &head, exchange, (held, sent_ns, now), story, alarm).await
        }
        None => {
            let first_output_ns = Some(now.mono_ns.saturating_sub(sent_ns));
            let attempt = attempt_of(context, held, first_output_ns);
            pass_on(context, &head, exchange, None, VecDeque::new(), attempt, story)
        }
    }
}

/// Tells the scheduler what the headers say about limits, and about whose key it was where that is news.
fn measure(context: &Context<'_>, head: &Head, held: &Held, unix_ns: u64) {
    let mut stated = Vec::new();
    limits::read(context.upstream.profile, head.fields(), unix_ns, &mut stated);
    if !stated.is_empty() {
        let measured: Vec<_> = stated.iter().map(evidence::of_limit).collect();
        held.head(&measured);
    }
    if let Some(owner) = owner::read(head.fields()).filter(|owner| context.key.tells_owner(*owner)) {
        held.owned_by(owner);
    }
}

/// An answer that cannot be one of a provider's, whatever its body says.
fn unfit(head: &Head) -> Option<String> {
    if head.status.is_redirection() {
        return Some(format!("the provider answered {}: redirects are never followed", head.status.as_u16()));
    }
    let coding = head.get("content-encoding")?;
    (!coding.eq_ignore_ascii_case(b"identity"))
        .then(|| "the provider compressed its answer although it was asked not to".to_owned())
}

fn is(head: &Head, media_type: &[u8]) -> bool {
    head.get("content-type")
        .and_then(|value| value.get(..media_type.len()))
        .is_some_and(|start| start.eq_ignore_ascii_case(media_type))
}

fn stream_kind(endpoint: Endpoint) -> Option<StreamKind> {
    match endpoint {
        Endpoint::ChatCompletions => Some(StreamKind::Chat),
        Endpoint::Completions => Some(StreamKind::Completions),
        Endpoint::Responses => Some(StreamKind::Responses),
        Endpoint::Messages => Some(StreamKind::Messages),
        _ => None,
    }
}

fn is_json_endpoint(endpoint: Endpoint) -> bool {
    stream_kind(endpoint).is_some() || matches!(endpoint, Endpoint::Embeddings | Endpoint::CountTokens)
}

/// The provider answered with an error status.
async fn refused(
    context: &Context<'_>,
    head: &Head,
    mut exchange: Box<Exchange>,
    held: Held,
    mut story: Story,
    alarm: &mut Alarm,
) -> Tried {
    let body = body::collect(&mut *exchange, ERROR_BYTES_MAX, context.pauses(alarm)).await;
    let (body, intact) = match body {
        Ok(body) => (body, true),
        // The status still tells something; the body is not relayed in part.
        Err(_) => (Bytes::new(), false),
    };
    if intact {
        context.worker.dialer.give_back(&context.upstream, exchange.into_connection(), context.now_ns());
    }
    let unix_ns = context.worker.gateway.clock.now().unix_ns;
    let facts = error::read(
        context.upstream.dialect,
        context.upstream.profile,
        head.status.as_u16(),
        head.fields(),
        &body,
        unix_ns,
    );
    let failed_attempt =
        Failed { evidence: evidence::of_error(&facts, Phase::Head, false, unix_ns), detail: shown(&facts) };
    if !intact {
        return failed(held, failed_attempt, story, Some(&context.key));
    }
    tell_too_dear(context, &facts, story.target());
    let status = head.status.as_u16();
    match report(held, failed_attempt, &mut story, Some(&context.key)) {
        Answer::Done(_) => {
            if let Some(problem) = too_dear(context, &facts) {
                story.refused(&problem);
                return Tried::Over(Err(problem));
            }
            story.end(Outcome::ProviderError, status, None);
            Tried::Over(Ok(relayed_error(context, head, body, &story)))
        }
        next => Tried::Again(Box::new((next, story))),
    }
}

/// Tells the operator of a price of ours that nobody serves for. One of the caller's own is its own affair.
fn tell_too_dear(context: &Context<'_>, facts: &ErrorFacts, model: &str) {
    let ours = context.plan.priced.as_ref().filter(|priced| !priced.is_lower);
    let Some(priced) = ours.filter(|_| facts.sign == error::Sign::TooDear) else { return };
    dear::tell(&context.worker.gateway, (&context.upstream.name, model), &priced.told);
}

/// A price that nobody serves for, where it was written by us.
fn too_dear(context: &Context<'_>, facts: &ErrorFacts) -> Option<Problem> {
    let priced = context.plan.priced.as_ref().filter(|_| facts.sign == error::Sign::TooDear)?;
    let message = format!(
        "This key has a budget, and no provider behind {} serves this model within the price that its budget was \
         asked for (US dollars for a million tokens: {}). A [[price]] of the operator's for this model can raise it.",
        context.upstream.name, priced.told
    );
    Some(Problem::new(Kind::TooDear, message).at("no_provider_within_price", Some("provider.max_price")))
}

fn shown(facts: &ErrorFacts) -> String {
    format!("{}: {}", facts.status, facts.sign)
}

/// A plain answer: read to its end, looked at, then handed on in one piece.
async fn whole(
    context: &Context<'_>,
    head: &Head,
    mut exchange: Box<Exchange>,
    (held, sent_ns, mut now): (Held, u64, Now),
    mut story: Story,
    alarm: &mut Alarm,
) -> Tried {
    let first_output_ns = Some(now.mono_ns.saturating_sub(sent_ns));
    let came_at_once = exchange.has_come();
    let read = body::collect(&mut *exchange, PLAIN_BYTES_MAX, context.pauses(alarm)).await;
    let body = match read {
        Ok(body) => body,
        Err(Stopped::TooLarge(chunks)) => {
            let attempt = attempt_of(context, held, first_output_ns);
            return pass_on(context, head, exchange, None, chunks.into(), attempt, story);
        }
        Err(Stopped::Idle) => {
            let failure = Failed::new(Phase::Hold, context.out_of_time(), "the answer stopped coming");
            return failed(held, failure, story, Some(&context.key));
        }
        Err(Stopped::Broken(detail)) => {
            return failed(
                held,
                Failed::new(Phase::Hold, Sign::Truncated, detail),
                story,
                Some(&context.key),
            );
        }
    };
    if !came_at_once {
        now = context.worker.gateway.clock.now();
    }
    context.worker.dialer.give_back(&context.upstream, exchange.into_connection(), now.mono_ns);
    let said = wire_answer::read(surface::body_kind(context.endpoint), context.upstream.dialect, &body);
    if let Some(facts) = &said.error {
        let unix_ns = context.worker.gateway.clock.now().unix_ns;
        let evidence = evidence::of_error(facts, Phase::Hold, true, unix_ns);
        let failure = Failed { evidence, detail: shown(facts) };
        return match report(held, failure, &mut story, Some(&context.key)) {
            Answer::Done(_) => {
                story.end(Outcome::ProviderError, head.status.as_u16(), None);
                Tried::Over(Ok(relayed_error(context, head, body, &story)))
            }
            next => Tried::Again(Box::new((next, story))),
        };
    }
    if !said.is_json_object {
        let failure =
            Failed::new(Phase::Hold, Sign::Garbage, "the provider answered 200 without a JSON object");
        return failed(held, failure, story, Some(&context.key));
    }
    let used = said.usage.as_ref().map(evidence::of_usage);
    if let (Endpoint::Responses, Some(id)) = (context.endpoint, &said.id) {
        context.worker.gateway.bound.remember(context.plan.ask.client, id, context.key.account);
    }
    let made = keymux_wire::stored::made(&body, context.watch());
    context.worker.gateway.bound.made(context.plan.ask.client, &made, context.key.account);
    story.generation(said.id.as_deref());
    if let Some(usage) = &said.usage {
        story.billed(usage);
    }
    story.first_output(now.mono_ns);
    let told = used.or_else(|| counted(context.endpoint, &held, &body));
    story.end(Outcome::Answered, head.status.as_u16(), told);
    story.over(now.mono_ns);
    settle(held, now, &context.key, used, first_output_ns);
    Tried::Over(Ok(dressed(context, head, &story, Body::Whole(body), None)))
}

/// What an answer has around its text.
const FRAME_BYTES: u64 = 300;

/// What an answer used that does not tell: its input as guessed, and its bytes for what it says.
fn counted(endpoint: Endpoint, held: &Held, body: &[u8]) -> Option<Used> {
    let output_tokens = match endpoint {
        Endpoint::Embeddings => 0,
        // One that tells nothing is still being made.
        Endpoint::Responses => return None,
        _ if stream_kind(endpoint).is_some() => tokens_guess(body.len() as u64, FRAME_BYTES).max(1),
        _ => return None,
    };
    let input_tokens = held.lease()?.input_tokens;
    Some(Used { input_tokens, cached_input_tokens: 0, output_tokens, cost_nano_usd: None, estimated: true })
}

fn settle(held: Held, now: Now, key: &KeyEntry, used: Option<Used>, first_output_ns: Option<u64>) {
    key.counters.attempt(None);
    let outcome = keymux_policy::Outcome { end: End::Done, used, committed: true, first_output_ns };
    // An answered request has no next step.
    drop(held.finish_at(now, outcome));
}

fn attempt_of(context: &Context<'_>, held: Held, first_output_ns: Option<u64>) -> Attempt {
    let input_tokens = held.lease().map_or(0, |lease| lease.input_tokens);
    Attempt {
        worker: context.worker.clone(),
        held,
        upstream: context.upstream.clone(),
        key: context.key.clone(),
        first_output_ns,
        input_tokens,
    }
}

/// Why the hold is over.
enum Hold {
    /// Output, or as much held back as may be.
    Go,
    /// It ended before any output.
    Ended,
    Failed(Failed),
}

/// Holds a stream back until its first output, then passes it on.
async fn hold_back(
    context: &Context<'_>,
    head: &Head,
    mut exchange: Box<Exchange>,
    kind: StreamKind,
    (held, sent_ns): (Held, u64),
    mut story: Story,
    alarm: &mut Alarm,
) -> Tried {
    let mut reader = StreamReader::new(kind, context.usage_added).watching(context.watch());
    let mut ready = VecDeque::new();
    let hold_ns = context.timeouts.hold_ms.saturating_mul(1_000_000);
    let hold_until_ns = context.now_ns().saturating_add(hold_ns).min(context.plan.until_ns);
    let mut bytes = 0;
    let over = loop {
        match alarm.before(hold_until_ns, poll_fn(|cx| exchange.poll_data(cx))).await {
            // Silence, but alive: the client may as well see it.
            Err(_) if context.now_ns() < context.plan.until_ns => break Hold::Go,
            Err(_) => {
                break Hold::Failed(Failed::new(Phase::Hold, context.out_of_time(), "no output in time"));
            }
            Ok(None) => break Hold::Ended,
            Ok(Some(Err(fault))) => {
                break Hold::Failed(Failed::new(Phase::Hold, Sign::Truncated, fault.to_string()));
            }
            Ok(Some(Ok(chunk))) => {
                bytes += chunk.len();
                reader.feed(&chunk, &mut |piece| ready.push_back(piece));
                let seen = reader.seen();
                if seen.output || seen.held >= HOLD_EVENTS_MAX || bytes >= HOLD_BYTES_MAX {
                    break Hold::Go;
                }
                if seen.error.is_some() || seen.done {
                    break Hold::Ended;
                }
            }
        }
    };
    if matches!(over, Hold::Ended) {
        reader.finish(&mut |piece| ready.push_back(piece));
    }
    let failure = match over {
        Hold::Failed(failure) => Some(failure),
        Hold::Ended => ended_early(context, &reader),
        Hold::Go => None,
    };
    if let Some(failure) = failure {
        return failed(held, failure, story, Some(&context.key));
    }
    if let (Endpoint::Responses, Some(id)) = (context.endpoint, &reader.seen().id) {
        context.worker.gateway.bound.remember(context.plan.ask.client, id, context.key.account);
    }
    let now_ns = context.now_ns();
    held.first_output();
    story.first_output(now_ns);
    let attempt = attempt_of(context, held, Some(now_ns.saturating_sub(sent_ns)));
    pass_on(context, head, exchange, Some(Events { kind, reader }), ready, attempt, story)
}

/// A stream that was over before any output: an error, a cut, or an answer that is empty on purpose.
fn ended_early(context: &Context<'_>, reader: &StreamReader) -> Option<Failed> {
    let seen = reader.seen();
    if let Some(facts) = &seen.error {
        let unix_ns = context.worker.gateway.clock.now().unix_ns;
        return Some(Failed {
            evidence: evidence::of_error(facts, Phase::Hold, true, unix_ns),
            detail: shown(facts),
        });
    }
    if reader.is_complete() {
        return None;
    }
    Some(Failed::new(Phase::Hold, Sign::Truncated, "the stream ended before any output"))
}

/// Relays what is ready and what is still to come.
fn pass_on(
    context: &Context<'_>,
    head: &Head,
    exchange: Box<Exchange>,
    events: Option<Events>,
    ready: VecDeque<Bytes>,
    attempt: Attempt,
    story: Story,
) -> Tried {
    let mut reply = dressed(context, head, &story, Body::EMPTY, None);
    let relay = Relay::new(attempt, story, head.status.as_u16(), exchange, events, ready, context.limits());
    reply.body = Body::Relay(Box::new(relay));
    Tried::Over(Ok(reply))
}

/// Reports a failed attempt.
fn report(held: Held, failure: Failed, story: &mut Story, key: Option<&KeyEntry>) -> Answer {
    tracing::debug!(id = story.id(), detail = %failure.detail, "an attempt failed");
    let blame = keymux_policy::blame::judge(&failure.evidence);
    story.failed(blame, &failure.evidence, failure.detail);
    if let Some(key) = key {
        key.counters.attempt(Some(blame));
    }
    let outcome = keymux_policy::Outcome {
        end: End::Failed(failure.evidence),
        used: None,
        committed: false,
        first_output_ns: None,
    };
    held.finish(outcome)
}

/// An attempt failed without an answer that could be relayed.
pub fn failed(held: Held, failure: Failed, mut story: Story, key: Option<&KeyEntry>) -> Tried {
    let sign = failure.evidence.sign;
    match report(held, failure, &mut story, key) {
        Answer::Done(_) => {
            let problem = without_answer(sign);
            story.refused(&problem);
            Tried::Over(Err(problem))
        }
        next => Tried::Again(Box::new((next, story))),
    }
}

/// What a client is told when the last attempt brought nothing.
fn without_answer(sign: Sign) -> Problem {
    let (kind, message) = match sign {
        Sign::FirstByteTimeout | Sign::IdleTimeout | Sign::TotalTimeout => {
            (Kind::UpstreamTimeout, "The provider did not answer in time.")
        }
        Sign::ClientTimeout => {
            (Kind::UpstreamTimeout, "No answer came within this request's x-keymux-timeout.")
        }
        Sign::ConnectFailed | Sign::TlsFailed => (Kind::UpstreamFailed, "The provider cannot be reached."),
        Sign::Garbage => (Kind::UpstreamFailed, "The provider's answer cannot be understood."),
        Sign::Local => (Kind::Internal, "The gateway could not send this request."),
        _ => (Kind::UpstreamFailed, "The provider's answer broke off."),
    };
    Problem::new(kind, message)
}
