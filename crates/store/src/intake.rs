//! From requests to the log: what a request leaves behind is taken by the log where it ends, and a thread writes it out
//! and flushes it, many at once. The thread is woken once a batch, not once a request. Rows that the log has no room for
//! wait here, bounded.

use crate::log::Log;
use crate::record::Record;
use crate::store::{Point, Shared};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What comes within this time is written and flushed together. This and two flushes is what an acknowledgement may take
/// (the flush that was under way when it came, and its own): well below the 100 ms that are promised, also on a disk that
/// takes 30 ms for each. A flush costs some 60 µs of CPU, so 40 of them a second are a four-hundredth of a core.
const BATCH: Duration = Duration::from_millis(25);
/// So many bytes do not wait for more.
const BATCH_BYTES: usize = 64 * 1024;
/// Between two tries to write to a log that is full or fails.
const AGAIN: Duration = Duration::from_millis(100);
/// At the end a database that makes no room in a full log for so long is not waited for.
const LAST: Duration = Duration::from_secs(2);

/// The way in.
#[derive(Default)]
pub(crate) struct Intake {
    waiting: Mutex<Waiting>,
    wake: Condvar,
    /// Something was taken or written since the last batch began.
    dirty: AtomicBool,
    /// Rows wait here: those that come now wait behind them.
    behind: AtomicBool,
    /// Nobody has anything to record any more.
    pub stop: AtomicBool,
}

#[derive(Default)]
struct Waiting {
    rows: VecDeque<Record>,
    lost: u64,
}

impl Intake {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a row, unless `max` are taken and not written.
    pub(crate) fn row(&self, log: &Log, row: &Record, max: usize) -> bool {
        if !self.behind.load(Ordering::Acquire)
            && let Ok(place) = log.row(row, max)
        {
            // Once a batch: a thread that is at work finds what came meanwhile.
            if place.contains(&BATCH_BYTES) {
                self.wake();
            }
            self.stir();
            return true;
        }
        {
            let mut waiting = self.lock();
            if waiting.rows.len() + log.coming().0 >= max {
                waiting.lost += 1;
                return false;
            }
            waiting.rows.push_back(row.clone());
            self.behind.store(true, Ordering::Release);
        }
        self.stir();
        true
    }

    /// There is something to write or to flush.
    pub(crate) fn stir(&self) {
        if !self.dirty.swap(true, Ordering::AcqRel) {
            self.wake();
        }
    }

    /// Wakes the thread, whatever there is.
    pub(crate) fn wake(&self) {
        // The lock: the thread is either before its look at what there is, or asleep and hears this.
        drop(self.lock());
        self.wake.notify_all();
    }

    /// Rows that are not written yet, and those that never will be.
    pub(crate) fn depth(&self, log: &Log) -> (usize, u64) {
        let waiting = self.lock();
        (waiting.rows.len() + log.coming().0, waiting.lost)
    }

    /// Gives the log what waits for room in it, in order; says whether that was all.
    fn refill(&self, log: &Log, max: usize) -> bool {
        // Under the lock, so that whoever counts never looks between the two.
        let mut waiting = self.lock();
        while let Some(row) = waiting.rows.front() {
            if log.row(row, max).is_err() {
                return false;
            }
            waiting.rows.pop_front();
        }
        self.behind.store(false, Ordering::Release);
        true
    }
}

/// The thread. It ends when it is told to and everything is written, or cannot be.
pub(crate) fn run(shared: &Shared) {
    let intake = &shared.intake;
    let mut failed = false;
    loop {
        let stop = wait(shared, failed);
        intake.dirty.store(false, Ordering::Release);
        let all = intake.refill(&shared.log, shared.buffer);
        let written = shared.log.write_out();
        (shared.probe)(Point::Appended);
        let flushed = shared.log.sync();
        (shared.probe)(Point::Flushed);
        shared.progress.tell();
        let refused = written.is_err() || flushed.is_err();
        failed = refused || !all;
        if failed {
            // Whatever it is, it is tried again.
            intake.dirty.store(true, Ordering::Release);
        }
        let idle = !intake.dirty.load(Ordering::Acquire);
        if stop && (idle || refused || !all && !makes_room(shared)) {
            return;
        }
    }
}

/// Waits until a full log has room again, or would have after a flush; says whether that is so.
fn makes_room(shared: &Shared) -> bool {
    let moves = || shared.log.has_room() || shared.log.frees();
    shared.progress.sleep(LAST, || shared.is_away() || moves()) && moves()
}

/// Waits until there is something, and then a little for more to come with it, or for a disk that failed to mend.
fn wait(shared: &Shared, failed: bool) -> bool {
    let intake = &shared.intake;
    let stop = || intake.stop.load(Ordering::Acquire);
    let idle = |_: &mut Waiting| !intake.dirty.load(Ordering::Acquire) && !stop();
    let waiting = intake.wake.wait_while(intake.lock(), idle).unwrap_or_else(PoisonError::into_inner);
    let few = |_: &mut Waiting| (failed || shared.log.coming().1 < BATCH_BYTES) && !stop();
    let limit = if failed { AGAIN } else { BATCH };
    drop(intake.wake.wait_timeout_while(waiting, limit, few).unwrap_or_else(PoisonError::into_inner));
    stop()
}
