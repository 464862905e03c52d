//! How many connections owe their client an answer: from a request's head to the last byte of its answer, written and
//! flushed. The drain waits for them; what a request's story knows ends earlier, when its answer is known.

use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

/// Connections that owe an answer.
#[derive(Default)]
pub(super) struct Writes {
    owing: AtomicUsize,
    last: Notify,
}

impl Writes {
    /// An answer is owed while this lives.
    pub(super) fn owe(&self) -> Owes<'_> {
        self.owing.fetch_add(1, Ordering::AcqRel);
        Owes(self)
    }

    pub(super) fn count(&self) -> usize {
        self.owing.load(Ordering::Acquire)
    }

    /// Waits for a moment in which no answer is owed.
    pub(super) async fn none(&self) {
        loop {
            // Made before the look, so that an end in between is not missed.
            let last = self.last.notified();
            if self.count() == 0 {
                return;
            }
            last.await;
        }
    }
}

/// An answer that is owed.
pub(super) struct Owes<'a>(&'a Writes);

impl Drop for Owes<'_> {
    fn drop(&mut self) {
        if self.0.owing.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.last.notify_waiters();
        }
    }
}
