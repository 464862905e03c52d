//! Passes an answer on while it comes: one state machine that the client's connection polls, without a task or a channel. It holds the
//! lease, so the lease is settled when the answer ends, breaks, or the client goes away.

use crate::alarm::Alarm;
use crate::body::Broken;
use crate::evidence;
use crate::live::{KeyEntry, Upstream};
use crate::redact;
use crate::scheduler::Held;
use crate::serve::Worker;
use crate::story::{Outcome, Story};
use crate::stream::StreamReader;
use crate::upstream::Exchange;
use bytes::Bytes;
use keymux_policy::blame::Class;
use keymux_policy::{End, Evidence, Phase, Sign, Used};
use keymux_wire::stream::{StreamKind, error_event};
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

/// What ties an answer to the attempt that brought it.
pub struct Attempt {
    /// Who relays.
    pub worker: Arc<Worker>,
    /// What the request holds.
    pub held: Held,
    /// The provider.
    pub upstream: Arc<Upstream>,
    /// The key.
    pub key: Arc<KeyEntry>,
    /// When the first output came, after it was sent.
    pub first_output_ns: Option<u64>,
    /// Guess of the input tokens, for an answer that ends without a bill.
    pub input_tokens: u64,
}

impl Attempt {
    /// Settles the attempt, of which the client has seen a part. Whose fault it was, if it was no answer.
    fn settle(self, end: End, used: Option<Used>) -> Option<Class> {
        let outcome =
            keymux_policy::Outcome { end, used, committed: true, first_output_ns: self.first_output_ns };
        let blame = match self.held.finish(outcome) {
            crate::scheduler::Answer::Done(settled) => settled.blame,
            _ => None,
        };
        self.key.counters.attempt(blame);
        blame
    }
}

/// How a stream is read and how long it may pause. `None` for an answer that is not a stream of events: its end is
/// told by its framing.
pub struct Events {
    /// Whose events.
    pub kind: StreamKind,
    /// Reads them.
    pub reader: StreamReader,
}

/// How long an answer may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Between two chunks, in nanoseconds.
    pub idle_ns: u64,
    /// The whole request's end (monotonic).
    pub until_ns: u64,
    /// That end is the client's wish.
    pub clients_wish: bool,
}

impl Limits {
    /// Whose time is over when the request's is.
    fn over(&self) -> Sign {
        if self.clients_wish { Sign::ClientTimeout } else { Sign::TotalTimeout }
    }
}

/// An answer that is being passed on.
pub struct Relay {
    attempt: Option<Attempt>,
    story: Story,
    status: u16,
    /// The answer's connection, until it is given back or closed.
    exchange: Option<Box<Exchange>>,
    events: Option<Events>,
    /// What may leave, in order.
    ready: VecDeque<Bytes>,
    limits: Limits,
    last_chunk_ns: u64,
    /// Bytes of the whole, where the head told.
    length: Option<u64>,
}

impl Relay {
    /// Passes on what is left of the answer, after `ready`.
    pub fn new(
        attempt: Attempt,
        story: Story,
        status: u16,
        exchange: Box<Exchange>,
        events: Option<Events>,
        ready: VecDeque<Bytes>,
        limits: Limits,
    ) -> Self {
        let length = match &events {
            // It may change: a chunk taken out, an error event added.
            Some(_) => None,
            None => {
                exchange.bytes_left().map(|rest| rest + ready.iter().map(|c| c.len() as u64).sum::<u64>())
            }
        };
        let last_chunk_ns = attempt.worker.gateway.clock.mono_ns();
        Self {
            attempt: Some(attempt),
            story,
            status,
            exchange: Some(exchange),
            events,
            ready,
            limits,
            last_chunk_ns,
            length,
        }
    }

    /// Length of the whole, asked before its first piece, where the head told.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Whether it is a stream of events.
    pub fn is_stream(&self) -> bool {
        self.events.is_some()
    }

    /// The next chunk.
    pub fn poll(&mut self, cx: &mut Context<'_>, alarm: &mut Alarm) -> Poll<Option<Result<Bytes, Broken>>> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                if chunk.is_empty() {
                    continue;
                }
                return Poll::Ready(Some(Ok(chunk)));
            }
            if self.attempt.is_none() {
                return Poll::Ready(None);
            }
            let Some(exchange) = &mut self.exchange else { return Poll::Ready(None) };
            match exchange.poll_data(cx) {
                Poll::Ready(Some(Ok(chunk))) => {
                    self.take(chunk);
                    // A provider that never pauses would pass the end of the request's time unseen.
                    if self.last_chunk_ns >= self.limits.until_ns
                        && let Some(broken) =
                            self.break_off(self.limits.over(), "it took too long".to_owned())
                    {
                        return Poll::Ready(Some(Err(broken)));
                    }
                }
                Poll::Ready(Some(Err(fault))) => {
                    if let Some(broken) = self.break_off(Sign::Reset, fault.to_string()) {
                        return Poll::Ready(Some(Err(broken)));
                    }
                }
                Poll::Ready(None) => {
                    if let Some(broken) = self.ended() {
                        return Poll::Ready(Some(Err(broken)));
                    }
                }
                Poll::Pending => match self.out_of_time(cx, alarm) {
                    None => return Poll::Pending,
                    Some(sign) => {
                        if let Some(broken) = self.break_off(sign, "no byte came in time".to_owned()) {
                            return Poll::Ready(Some(Err(broken)));
                        }
                    }
                },
            }
        }
    }

    fn take(&mut self, chunk: Bytes) {
        if let Some(attempt) = &self.attempt {
            self.last_chunk_ns = attempt.worker.gateway.clock.mono_ns();
        }
        let ready = &mut self.ready;
        let Some(events) = &mut self.events else { return ready.push_back(chunk) };
        let before = ready.len();
        events.reader.feed(&chunk, &mut |bytes| ready.push_back(bytes));
        let sent = self.attempt.as_ref().and_then(|attempt| attempt.key.credential.as_ref());
        if let (Some(_), Some((_, credential))) = (&events.reader.seen().error, sent) {
            for piece in ready.iter_mut().skip(before) {
                *piece = redact::credential(std::mem::take(piece), credential);
            }
        }
        self.remember_made();
    }

    /// What was made for the request at the provider is its client's, before it can be named by anybody.
    fn remember_made(&mut self) {
        let (Some(attempt), Some(events)) = (&self.attempt, &mut self.events) else { return };
        let made = events.reader.take_made();
        if !made.is_empty() {
            let client = self.story.caller().map(|client| client.payers.client).unwrap_or_default();
            attempt.worker.gateway.bound.made(client, &made, attempt.key.account);
        }
    }

    /// Whether a pause, or the whole request, has lasted too long. Asked only once nothing is there to read.
    fn out_of_time(&self, cx: &mut Context<'_>, alarm: &mut Alarm) -> Option<Sign> {
        let idle_end_ns = self.last_chunk_ns.saturating_add(self.limits.idle_ns);
        if !alarm.is_past(cx, idle_end_ns.min(self.limits.until_ns)) {
            return None;
        }
        Some(if idle_end_ns <= self.limits.until_ns { Sign::IdleTimeout } else { self.limits.over() })
    }

    /// The provider ended its answer.
    fn ended(&mut self) -> Option<Broken> {
        let Some(events) = &mut self.events else {
            self.close(Outcome::Answered, End::Done, None);
            return None;
        };
        let ready = &mut self.ready;
        events.reader.finish(&mut |bytes| ready.push_back(bytes));
        let used = events.reader.seen().usage.as_ref().map(evidence::of_usage);
        if let Some(facts) = &events.reader.seen().error {
            // The provider said itself, inside its stream, that it failed: the client has read it.
            let unix_ns = self.attempt.as_ref().map_or(0, |a| a.worker.gateway.clock.now().unix_ns);
            let evidence = evidence::of_error(facts, Phase::Stream, true, unix_ns);
            let used = used.or_else(|| self.counted());
            self.close(Outcome::Broken, End::Failed(evidence), used);
            return None;
        }
        if events.reader.is_complete() {
            let used = used.or_else(|| self.counted());
            self.close(Outcome::Answered, End::Done, used);
            return None;
        }
        self.break_off(Sign::Truncated, "the stream ended before its last event".to_owned())
    }

    /// The answer cannot go on. A stream gets a last event that says so; anything else is cut, since a proper end
    /// would make the part look like the whole.
    fn break_off(&mut self, sign: Sign, detail: String) -> Option<Broken> {
        self.exchange = None;
        if self.ended_well() {
            return None;
        }
        let used = self.counted();
        if matches!(sign, Sign::IdleTimeout | Sign::TotalTimeout | Sign::ClientTimeout) {
            self.story.cancelled();
        }
        let evidence = crate::attempt::Failed::new(Phase::Stream, sign, "").evidence;
        let told = self.events.as_ref().map(|events| {
            let message = match sign {
                Sign::IdleTimeout => "The provider's stream paused for too long and was ended.",
                Sign::TotalTimeout => "The request took longer than this gateway allows and was ended.",
                Sign::ClientTimeout => "The request took longer than its x-keymux-timeout and was ended.",
                _ => "The provider's stream broke off before its end.",
            };
            error_event(events.kind, message, "server_error", "stream_broken")
        });
        tracing::debug!(id = self.story.id(), %detail, "an answer broke off");
        self.close(Outcome::Broken, End::Failed(evidence), used);
        let inside = self.events.as_ref().is_some_and(|events| events.reader.is_inside_event());
        match told.filter(|_| !inside) {
            Some(event) => {
                self.ready.push_back(Bytes::from(event));
                None
            }
            None => Some(Broken(detail)),
        }
    }

    /// After the stream's own last event nothing matters any more: not a pause, not a cut, not a client that leaves.
    fn ended_well(&mut self) -> bool {
        let Some(seen) = self.events.as_ref().map(|events| events.reader.seen()) else { return false };
        if !seen.done {
            return false;
        }
        let used = seen.usage.as_ref().map(evidence::of_usage).or_else(|| self.counted());
        self.close(Outcome::Answered, End::Done, used);
        true
    }

    /// Settles, and keeps the connection if its answer was read to the end.
    fn close(&mut self, outcome: Outcome, end: End, used: Option<Used>) {
        self.remember_made();
        let Some(attempt) = self.attempt.take() else { return };
        // Dropped, it closes the connection: the provider stops.
        if let (Some(exchange), End::Done) = (self.exchange.take(), &end) {
            attempt.worker.dialer.give_back(
                &attempt.upstream,
                exchange.into_connection(),
                self.last_chunk_ns,
            );
        }
        if let Some(seen) = self.events.as_ref().map(|events| events.reader.seen()) {
            self.story.generation(seen.id.as_deref());
            if let Some(usage) = &seen.usage {
                self.story.billed(usage);
            }
        }
        self.story.end(outcome, self.status, used);
        let seen = match &end {
            End::Failed(evidence) => Some(evidence.clone()),
            _ => None,
        };
        self.story.blamed(attempt.settle(end, used), seen.as_ref());
    }

    /// What was used so far: what the stream said, else what went by.
    fn counted(&self) -> Option<Used> {
        let attempt = self.attempt.as_ref()?;
        let reader = &self.events.as_ref()?.reader;
        let mut used = reader.seen().usage.as_ref().map(evidence::of_usage).unwrap_or_default();
        if used.input_tokens == 0 {
            used.input_tokens = attempt.input_tokens;
        }
        used.output_tokens = used.output_tokens.max(reader.output_tokens_guess());
        used.estimated = true;
        Some(used)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if self.attempt.is_none() {
            return;
        }
        // The provider may still have to end its body: the connection is not kept.
        self.exchange = None;
        if self.ended_well() {
            return;
        }
        let used = self.counted();
        let gone = Evidence { ..crate::attempt::Failed::new(Phase::Stream, Sign::ClientGone, "").evidence };
        self.close(Outcome::ClientGone, End::Failed(gone), used);
    }
}
