//! From requests to the log: a bounded buffer that costs a request one push, and the thread that writes it out in
//! batches with one flush each. The thread is woken once a batch, not once a request.

use crate::codec::Entry;
use crate::store::{Point, Shared};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What comes within this time is written and flushed together. Twice this, and a flush, is what an acknowledgement may
/// take.
const BATCH: Duration = Duration::from_millis(40);
/// So many entries do not wait for more.
const BATCH_ROWS: usize = 500;
/// Between two tries to write to a log that is full or fails.
const AGAIN: Duration = Duration::from_millis(100);

/// The buffer.
#[derive(Default)]
pub(crate) struct Intake {
    waiting: Mutex<Waiting>,
    wake: Condvar,
    /// Something was written or buffered since the last batch began.
    dirty: AtomicBool,
}

#[derive(Default)]
struct Waiting {
    entries: Vec<Entry>,
    /// Entries that the thread holds, since the log did not take them.
    held: usize,
    lost: u64,
}

impl Intake {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an entry, unless `max` wait already.
    pub(crate) fn push(&self, entry: Entry, max: usize) -> bool {
        let full = {
            let mut waiting = self.lock();
            if waiting.entries.len() + waiting.held >= max {
                waiting.lost += 1;
                return false;
            }
            waiting.entries.push(entry);
            waiting.entries.len() == BATCH_ROWS
        };
        if full {
            self.wake.notify_all();
        }
        self.stir();
        true
    }

    /// There is something to write or to flush.
    pub(crate) fn stir(&self) {
        if !self.dirty.swap(true, Ordering::AcqRel) {
            // The lock: the thread is either before its look at the flag, or asleep and hears this.
            drop(self.lock());
            self.wake.notify_all();
        }
    }

    /// Wakes the thread, whatever there is.
    pub(crate) fn wake(&self) {
        drop(self.lock());
        self.wake.notify_all();
    }

    /// Entries that are not in the log yet, and those that never will be.
    pub(crate) fn depth(&self) -> (usize, u64) {
        let waiting = self.lock();
        (waiting.entries.len() + waiting.held, waiting.lost)
    }
}

/// The thread. It ends when it is told to and everything is written, or cannot be.
pub(crate) fn run(shared: &Shared) {
    let intake = &shared.intake;
    let mut held: Vec<Entry> = Vec::new();
    loop {
        let stop = wait(shared, held.is_empty());
        intake.dirty.store(false, Ordering::Release);
        {
            // In one step: whoever counts must not look between the two.
            let mut waiting = intake.lock();
            held.append(&mut waiting.entries);
            waiting.held = held.len();
        }
        let (taken, appended) = shared.log.append(&held);
        (shared.probe)(Point::Appended);
        held.drain(..taken);
        intake.lock().held = held.len();
        let flushed = shared.log.sync();
        (shared.probe)(Point::Flushed);
        shared.progress.tell();
        let failed = appended.is_err() || flushed.is_err();
        if failed {
            // Whatever it is, it is tried again.
            intake.dirty.store(true, Ordering::Release);
        }
        let idle = !intake.dirty.load(Ordering::Acquire);
        if stop && (failed || idle && held.is_empty()) {
            return;
        }
    }
}

/// Waits until there is something, and then a little for more to come with it.
fn wait(shared: &Shared, nothing_held: bool) -> bool {
    let intake = &shared.intake;
    let stop = || shared.stop.load(Ordering::Acquire);
    let idle = |_: &mut Waiting| nothing_held && !intake.dirty.load(Ordering::Acquire) && !stop();
    let waiting = intake.wake.wait_while(intake.lock(), idle).unwrap_or_else(PoisonError::into_inner);
    let few = |w: &mut Waiting| w.entries.len() < BATCH_ROWS && !stop();
    let limit = if nothing_held { BATCH } else { AGAIN };
    drop(intake.wake.wait_timeout_while(waiting, limit, few).unwrap_or_else(PoisonError::into_inner));
    stop()
}
