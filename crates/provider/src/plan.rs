//! When which bytes are due. A plan is walked by whoever owns the socket; the events of a stream are written
//! as they fall due, so that ten thousand slow streams cost no memory for what they have not said yet.

use std::collections::VecDeque;
use std::fmt::Write as _;

use crate::answer::{Answer, Delta, Kind};
use crate::call::{Course, End};
use crate::time::MS;

/// How the bytes of a plan are put on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// A body of this length; status and headers by the transport.
    Length(u64),
    /// A body without a known length; status and headers by the transport.
    Chunked,
    /// The steps are everything that is written to the connection, head included, valid HTTP or not; the
    /// connection ends with the plan.
    Raw,
}

/// Bytes and when they are due, in nanoseconds since the call's arrival.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Due.
    pub at_ns: u64,
    /// What.
    pub bytes: Vec<u8>,
}

/// The bytes of one reply.
#[derive(Debug)]
pub struct Plan {
    /// How they are framed.
    pub framing: Framing,
    /// When the head is due; None is never (then nothing is).
    pub head_at_ns: Option<u64>,
    /// When the reply ends; None is never.
    pub end_at_ns: Option<u64>,
    /// How it ends.
    pub end: End,
    source: Source,
    drip: Option<Drip>,
}

#[derive(Debug)]
enum Source {
    Steps(VecDeque<Step>),
    Stream(Box<Stream>),
    Endless { at_ns: u64, sent: u64 },
}

#[derive(Debug)]
struct Drip {
    bytes: usize,
    every_ns: u64,
    clock_ns: u64,
    rest: VecDeque<Step>,
}

/// Lines of a head that never ends: this many go out every millisecond, and no more than that many in all.
const ENDLESS_BATCH: u64 = 64;
const ENDLESS_TOTAL: u64 = 1_000_000;

impl Plan {
    /// Nothing at all: what a caller gets that wants no bytes.
    pub(crate) fn none(course: &Course) -> Self {
        Plan::steps(Framing::Raw, Vec::new(), course.head_at_ns, course.end_at_ns, course.end)
    }

    pub(crate) fn steps(
        framing: Framing,
        steps: Vec<Step>,
        head_at_ns: Option<u64>,
        end_at_ns: Option<u64>,
        end: End,
    ) -> Self {
        Plan { framing, head_at_ns, end_at_ns, end, source: Source::Steps(steps.into()), drip: None }
    }

    /// A body in one piece.
    pub(crate) fn body(at_ns: u64, bytes: Vec<u8>) -> Self {
        let framing = Framing::Length(bytes.len() as u64);
        Plan::steps(framing, vec![Step { at_ns, bytes }], Some(at_ns), Some(at_ns), End::Complete)
    }

    /// Everything that goes over the connection, at once.
    pub(crate) fn raw(at_ns: u64, bytes: Vec<u8>, end: End) -> Self {
        let end_at = (end != End::Hang).then_some(at_ns);
        Plan::steps(Framing::Raw, vec![Step { at_ns, bytes }], Some(at_ns), end_at, end)
    }

    pub(crate) fn endless(at_ns: u64) -> Self {
        let source = Source::Endless { at_ns, sent: 0 };
        Plan {
            framing: Framing::Raw,
            head_at_ns: Some(at_ns),
            end_at_ns: None,
            end: End::Hang,
            source,
            drip: None,
        }
    }

    /// A stream. With `head`, the whole of it raw and in chunked coding, for endings that are not HTTP's.
    pub(crate) fn stream(stream: Stream, course: &Course, head: Option<Vec<u8>>) -> Self {
        let framing = if head.is_some() { Framing::Raw } else { Framing::Chunked };
        let stream = Box::new(Stream { head, ..stream });
        Plan {
            framing,
            head_at_ns: course.head_at_ns,
            end_at_ns: course.end_at_ns,
            end: course.end,
            source: Source::Stream(stream),
            drip: None,
        }
    }

    /// Cuts all further bytes into small pieces.
    pub(crate) fn drip(mut self, bytes: u32, every_ms: u64) -> Self {
        let every_ns = every_ms * MS;
        self.drip = Some(Drip { bytes: bytes.max(1) as usize, every_ns, clock_ns: 0, rest: VecDeque::new() });
        self
    }

    /// The next bytes; None after the last, when [`Plan::end`] applies at [`Plan::end_at_ns`].
    pub fn next_step(&mut self) -> Option<Step> {
        let Some(mut drip) = self.drip.take() else { return self.source.next() };
        if drip.rest.is_empty()
            && let Some(step) = self.source.next()
        {
            for piece in step.bytes.chunks(drip.bytes) {
                let at_ns = step.at_ns.max(drip.clock_ns);
                drip.clock_ns = at_ns + drip.every_ns;
                drip.rest.push_back(Step { at_ns, bytes: piece.to_vec() });
            }
        }
        let step = drip.rest.pop_front();
        self.drip = Some(drip);
        step
    }

    /// All remaining bytes at once, for callers that need no pacing.
    pub fn drain(&mut self) -> Vec<u8> {
        std::iter::from_fn(|| self.next_step()).flat_map(|step| step.bytes).collect()
    }
}

impl Source {
    fn next(&mut self) -> Option<Step> {
        match self {
            Source::Steps(steps) => steps.pop_front(),
            Source::Stream(stream) => stream.next(),
            Source::Endless { at_ns, sent } => {
                if *sent >= ENDLESS_TOTAL {
                    return None;
                }
                let mut text = if *sent == 0 { "HTTP/1.1 200 OK\r\n".to_owned() } else { String::new() };
                for i in *sent..*sent + ENDLESS_BATCH {
                    let _ = write!(text, "x-filler-{i}: {}\r\n", "a".repeat(64));
                }
                let step = Step { at_ns: *at_ns, bytes: text.into_bytes() };
                *sent += ENDLESS_BATCH;
                *at_ns += MS;
                Some(step)
            }
        }
    }
}

/// How a stream closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// With the dialect's terminal events.
    Proper,
    /// With nothing.
    Silent,
    /// With an error event.
    Error,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Head,
    Comments { at_ns: u64 },
    Open,
    Output,
    Close,
    Done,
}

/// A stream of events, written as they fall due.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) answer: Answer,
    pub(crate) course: Course,
    pub(crate) per_event: u64,
    /// Comment before the first output, and the time between two.
    pub(crate) comments: Option<(&'static str, u64)>,
    pub(crate) closing: Closing,
    phase: Phase,
    event: u64,
    seq: u64,
    head: Option<Vec<u8>>,
}

impl Stream {
    pub(crate) fn new(
        answer: Answer,
        course: &Course,
        per_event: u64,
        comments: Option<(&'static str, u64)>,
        closing: Closing,
    ) -> Self {
        Stream {
            answer,
            course: course.clone(),
            per_event: per_event.max(1),
            comments,
            closing,
            phase: Phase::Head,
            event: 0,
            seq: 0,
            head: None,
        }
    }

    fn next(&mut self) -> Option<Step> {
        let head_at = self.course.head_at_ns.unwrap_or(0);
        let first = self.course.first_output_at_ns.or(self.course.end_at_ns).unwrap_or(head_at);
        loop {
            match self.phase {
                Phase::Head => {
                    self.phase = match self.comments {
                        Some(_) => Phase::Comments { at_ns: head_at },
                        None => Phase::Open,
                    };
                    if let Some(head) = &self.head {
                        return Some(Step { at_ns: head_at, bytes: head.clone() });
                    }
                }
                Phase::Comments { at_ns } => {
                    let (comment, every) = self.comments.unwrap_or((":\n\n", u64::MAX));
                    if at_ns >= first {
                        self.phase = Phase::Open;
                        continue;
                    }
                    self.phase = Phase::Comments { at_ns: at_ns.saturating_add(every.max(MS)) };
                    return Some(self.step(at_ns, comment.to_owned()));
                }
                Phase::Open => {
                    self.phase = Phase::Output;
                    let mut text = String::new();
                    self.answer.open(&mut self.seq, &mut text);
                    if !text.is_empty() {
                        // With comments the first data comes with the first output.
                        let at = if self.comments.is_some() { first } else { head_at };
                        return Some(self.step(at, text));
                    }
                }
                Phase::Output => match self.output(first) {
                    Some(step) if step.bytes.is_empty() => {}
                    Some(step) => return Some(step),
                    None => self.phase = Phase::Close,
                },
                Phase::Close => {
                    self.phase = Phase::Done;
                    return self.close();
                }
                Phase::Done => return None,
            }
        }
    }

    /// One event for each choice; None when all is said.
    fn output(&mut self, first: u64) -> Option<Step> {
        let answer = &self.answer;
        let thinking = answer.reasoning_each.div_ceil(self.per_event);
        let (kind, nth, total) = if self.event < thinking {
            (Kind::Reasoning, self.event, answer.reasoning_each)
        } else {
            (Kind::Visible, self.event - thinking, answer.visible_each)
        };
        let from = nth * self.per_event;
        if from >= total {
            return None;
        }
        let to = (from + self.per_event).min(total);
        let before = if kind == Kind::Visible { answer.reasoning_each } else { 0 };
        let at_ns = first.saturating_add(
            (before + from).saturating_mul(u64::from(answer.n)).saturating_mul(self.course.token_ns),
        );
        let mut out = String::new();
        for choice in 0..answer.n {
            let text = match kind {
                Kind::Reasoning => Answer::thought(from, to),
                Kind::Visible => answer.text(choice, from, to),
            };
            // Truncated streams have no last event: nothing is closed properly.
            let last = to == total && self.closing != Closing::Silent;
            let delta = Delta { kind, text: &text, first: nth == 0, last };
            answer.delta(choice, &delta, &mut self.seq, &mut out);
        }
        self.event += 1;
        Some(self.step(at_ns, out))
    }

    fn close(&mut self) -> Option<Step> {
        let at_ns = self.course.end_at_ns?;
        let mut text = String::new();
        match self.closing {
            Closing::Proper => self.answer.close(&mut self.seq, &mut text),
            Closing::Silent => return None,
            Closing::Error => {
                let early = self.answer.output == 0;
                self.answer.error_event(early, &mut self.seq, &mut text);
            }
        }
        Some(self.step(at_ns, text))
    }

    fn step(&self, at_ns: u64, text: String) -> Step {
        if self.head.is_none() || text.is_empty() {
            return Step { at_ns, bytes: text.into_bytes() };
        }
        let bytes = format!("{:x}\r\n{text}\r\n", text.len()).into_bytes();
        Step { at_ns, bytes }
    }
}
