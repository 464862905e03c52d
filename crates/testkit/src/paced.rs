//! A body that comes at its plan's pace, and the guard that tells the world how a call ended.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use keymux_provider::{Framing, How, Plan, Step};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::capture::Capture;
use crate::clock::{Clock, instant};
use crate::shared::Shared;

/// Ends a call exactly once: completed if somebody says so, else cancelled when it is dropped.
pub(crate) struct CallGuard {
    shared: Arc<Shared>,
    age: u64,
    id: u64,
    open: bool,
    pub(crate) capture: Option<Arc<Capture>>,
}

impl CallGuard {
    pub(crate) fn new(
        shared: Arc<Shared>,
        age: u64,
        id: u64,
        open: bool,
        capture: Option<Arc<Capture>>,
    ) -> Self {
        CallGuard { shared, age, id, open, capture }
    }

    pub(crate) fn completed(&mut self) {
        if std::mem::take(&mut self.open) {
            self.shared.done(self.age, self.id, How::Completed);
        }
    }

    pub(crate) fn sent(&self, bytes: &[u8]) {
        if let Some(capture) = &self.capture {
            capture.sent(bytes);
        }
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        if self.open {
            self.shared.done(self.age, self.id, How::Cancelled);
        }
    }
}

/// When a plan's steps are due on this machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    clock: Clock,
    arrived_ns: u64,
}

impl Pace {
    pub(crate) fn new(clock: Clock, arrived_ns: u64) -> Self {
        Pace { clock, arrived_ns }
    }

    pub(crate) fn due(&self, at_ns: u64) -> Instant {
        self.clock.at(self.arrived_ns.saturating_add(at_ns))
    }
}

/// The body of one paced answer.
pub(crate) struct PacedBody {
    plan: Plan,
    pace: Pace,
    guard: CallGuard,
    next: Option<Step>,
    /// Bytes still to come, where that is known.
    left: Option<u64>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl PacedBody {
    pub(crate) fn new(mut plan: Plan, pace: Pace, guard: CallGuard) -> Self {
        let left = match plan.framing {
            Framing::Length(length) => Some(length),
            Framing::Chunked | Framing::Raw => None,
        };
        let next = plan.next_step();
        PacedBody { plan, pace, guard, next, left, sleep: None }
    }
}

impl Body for PacedBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        let Some(step) = &this.next else {
            this.guard.completed();
            return Poll::Ready(None);
        };
        let due = this.pace.due(step.at_ns);
        if due > instant() {
            let sleep = match &mut this.sleep {
                Some(sleep) => {
                    sleep.as_mut().reset(due);
                    sleep
                }
                none => none.insert(Box::pin(sleep_until(due))),
            };
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        let Some(step) = this.next.take() else { return Poll::Ready(None) };
        this.next = this.plan.next_step();
        this.guard.sent(&step.bytes);
        if let Some(left) = &mut this.left {
            *left = left.saturating_sub(step.bytes.len() as u64);
            // hyper does not ask again once the announced length is through.
            if *left == 0 {
                this.guard.completed();
            }
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(step.bytes)))))
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
