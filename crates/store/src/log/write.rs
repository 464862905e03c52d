//! How entries come into the log. They are taken where they arise, in memory, and written together by whoever must know
//! that something is written: a reservation, or the thread that flushes. So the requests that begin in one turn of a
//! worker's loop cost one write together, and one that has no money held costs none.

use super::{Change, Log, LogError, Ring, Taken, WINDOW};
use crate::codec;
use crate::record::{Record, Reservation};
use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::sync::{MutexGuard, PoisonError};
use std::task::{Context, Poll};

impl Log {
    /// Takes a reservation, to be written with what is written next. The number names it until a record closes it. Money
    /// that came back before is written as back before it is held again.
    pub fn reserve(&self, reservation: Reservation) -> Result<u64, LogError> {
        let reservation = Box::new(reservation);
        let mut ring = self.ring();
        if let Some(trouble) = &ring.trouble {
            return Err(LogError::NotFlushed(trouble.clone()));
        }
        self.take_late(&mut ring)?;
        // Above its place, so that it is flushed where `flushed` is above the number; never one of before.
        let hold = (ring.end() + 1).max(ring.last_hold + 1);
        self.take(&mut ring, self.margin(), |out| {
            codec::put_frame(out, |out| codec::put_reserve(out, hold, &reservation));
        })?;
        ring.last_hold = hold;
        ring.taken.becomes(Change::Opened(hold, reservation));
        Ok(hold)
    }

    /// Returns once a reservation is written: its attempt may go out. It waits until the tasks that are ready have had
    /// their turn, so that theirs are written with it; and while others write. It is on the disk itself once
    /// [`flushed`](Self::flushed) exceeds its number.
    ///
    /// # Errors
    /// It is not in the file, and never will be.
    pub async fn written(&self, hold: u64) -> Result<(), LogError> {
        let mut came = true;
        poll_fn(|cx| {
            if std::mem::take(&mut came) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.poll_written(cx, hold)
        })
        .await
    }

    fn poll_written(&self, cx: &Context<'_>, hold: u64) -> Poll<Result<(), LogError>> {
        let mut ring = self.ring();
        loop {
            if let Some(fate) = ring.fate(hold) {
                return Poll::Ready(fate);
            }
            if ring.under_way > 0 {
                ring.tasks.insert(hold, cx.waker().clone());
                return Poll::Pending;
            }
            // It decides about all that was taken.
            ring = self.write(ring).0;
        }
    }

    /// Takes a row, to be written with what is written next: unless the ring is full, or `rows_max` are taken and not
    /// written. Returns where its bytes stand among those that are not.
    pub(crate) fn row(&self, row: &Record, rows_max: usize) -> Result<Range<usize>, LogError> {
        let mut ring = self.ring();
        if ring.taken_rows >= rows_max {
            return Err(self.full(&ring));
        }
        let before = ring.taken.frames.len();
        self.take_row(&mut ring, row, self.spare())?;
        Ok(before..ring.taken.frames.len())
    }

    /// Writes the rows of requests that the last process left open, also if no others have room.
    pub(crate) fn close(&self, unknown: &[Record]) -> Result<(), LogError> {
        unknown.iter().try_for_each(|row| self.take_row(&mut self.ring(), row, 0))?;
        self.write_out()
    }

    fn take_row(&self, ring: &mut Ring, row: &Record, spare: u64) -> Result<(), LogError> {
        self.take(ring, spare, |out| codec::put_frame(out, |out| codec::put_row(out, row)))?;
        ring.taken_rows += 1;
        ring.taken.becomes(Change::Row);
        row.holds.iter().for_each(|hold| ring.taken.becomes(Change::Closed(*hold)));
        Ok(())
    }

    /// Takes the cost of an attempt, to be written with what is written next. If there is no room, it goes before the next
    /// reservation all the same, or that could be of money which a crash finds still held.
    pub(crate) fn settle(&self, hold: u64, cost_nano_usd: u64) -> Result<(), LogError> {
        let mut ring = self.ring();
        ring.late.insert(hold, cost_nano_usd);
        self.take_late(&mut ring)
    }

    /// Takes the costs that wait for room. Half of the spare bytes stay free for reservations that are carried on, or a
    /// ring full of costs could not let go of them.
    fn take_late(&self, ring: &mut Ring) -> Result<(), LogError> {
        while let Some((&hold, &cost_nano_usd)) = ring.late.first_key_value() {
            self.take(ring, self.spare() / 2, |out| {
                codec::put_frame(out, |out| codec::put_settle(out, hold, cost_nano_usd));
            })?;
            ring.late.remove(&hold);
            ring.taken.becomes(Change::Settled(hold, cost_nano_usd));
        }
        Ok(())
    }

    /// Writes what was taken, or waits until others have. They may go on writing what comes after it without a pause.
    pub(crate) fn write_out(&self) -> Result<(), LogError> {
        let mut ring = self.ring();
        let end = ring.end();
        while ring.under_way > 0 {
            if ring.head >= end {
                return Ok(());
            }
            ring = self.wait(ring);
        }
        self.write(ring).1
    }

    /// Rows that are taken and not written, and bytes that nobody writes yet.
    pub(crate) fn coming(&self) -> (usize, usize) {
        let ring = self.ring();
        (ring.taken_rows, ring.taken.frames.len())
    }

    fn full(&self, ring: &Ring) -> LogError {
        LogError::Full { used: ring.end() - ring.header.tail, capacity: self.capacity }
    }

    /// Takes frames, if the ring has room for them and so many bytes more.
    fn take(&self, ring: &mut Ring, spare: u64, put: impl FnOnce(&mut Vec<u8>)) -> Result<(), LogError> {
        let before = ring.taken.frames.len();
        put(&mut ring.taken.frames);
        if ring.end() - ring.header.tail + spare > self.capacity {
            ring.taken.frames.truncate(before);
            return Err(self.full(ring));
        }
        Ok(())
    }

    /// The ring while nobody writes.
    fn at_rest(&self) -> MutexGuard<'_, Ring> {
        let mut ring = self.ring();
        while ring.under_way > 0 {
            ring = self.wait(ring);
        }
        ring
    }

    /// Waits until a write has ended.
    fn wait<'a>(&self, mut ring: MutexGuard<'a, Ring>) -> MutexGuard<'a, Ring> {
        ring.threads += 1;
        ring = self.written.wait(ring).unwrap_or_else(PoisonError::into_inner);
        ring.threads -= 1;
        ring
    }

    /// Writes what was taken; nobody else may be writing. If the disk refuses, what it took is written; reservations
    /// that it did not take are refused, and all else is taken as before.
    fn write<'a>(&'a self, mut ring: MutexGuard<'a, Ring>) -> (MutexGuard<'a, Ring>, Result<(), LogError>) {
        if ring.taken.frames.is_empty() {
            return (ring, Ok(()));
        }
        let spare = std::mem::take(&mut ring.spare);
        let mut taken = std::mem::replace(&mut ring.taken, spare);
        ring.under_way = taken.frames.len() as u64;
        let head = ring.head;
        drop(ring);
        codec::seal(&mut taken.frames, self.id, head);
        let end = head + taken.frames.len() as u64;
        let done = self.write_at(&taken.frames, head);
        let written = if done.is_ok() { end } else { self.whole(head, end) };
        let mut ring = self.ring();
        ring.under_way = 0;
        let rest = ring.is_written(&mut taken, written);
        match &done {
            Ok(()) => {
                taken.frames.clear();
                // What piled up while a disk refused is not kept room for.
                taken.frames.shrink_to(WINDOW);
                taken.changes.shrink_to(WINDOW / 64);
                ring.spare = taken;
            }
            Err(error) => ring.is_refused(taken, rest, error),
        }
        std::mem::take(&mut ring.tasks).into_values().for_each(std::task::Waker::wake);
        if ring.threads > 0 {
            self.written.notify_all();
        }
        (ring, done.map_err(LogError::from))
    }

    /// Where the frames end that a write left behind when it broke off: what a restart would find.
    fn whole(&self, from: u64, to: u64) -> u64 {
        let mut frames = self.frames(from, to);
        let mut end = from;
        while let Ok(Some((_, 0))) = frames.next() {
            end = frames.at;
        }
        end
    }

    /// Writes reservations that are old in the ring again at its head.
    pub(super) fn carry(&self) -> Result<(), LogError> {
        let mut ring = self.at_rest();
        while let Some(hold) = ring.stale(self.capacity / 4) {
            // What was taken may close it or say what it cost. Then it is looked at again once that is written.
            if !ring.taken.changes.iter().any(|(_, change)| change.is_of(hold)) {
                self.take_again(&mut ring, hold)?;
            }
            let (then, done) = self.write(ring);
            done?;
            ring = then;
        }
        Ok(())
    }

    fn take_again(&self, ring: &mut Ring, hold: u64) -> Result<(), LogError> {
        let Some(open) = ring.open.remove(&hold) else { return Ok(()) };
        let done = self.take(ring, 0, |out| {
            codec::put_frame(out, |out| codec::put_reserve(out, hold, &open.reservation));
            // In one write: without its cost it would be charged as reserved.
            if let Some(cost) = open.settled_nano_usd {
                codec::put_frame(out, |out| codec::put_settle(out, hold, cost));
            }
        });
        ring.open.insert(hold, open);
        done?;
        ring.taken.becomes(Change::Carried(hold));
        Ok(())
    }
}

impl Taken {
    /// What is so once the last frame is written.
    fn becomes(&mut self, change: Change) {
        self.changes.push((self.frames.len(), change));
    }
}

impl Ring {
    /// What became of a reservation; `None`: nothing yet.
    fn fate(&self, hold: u64) -> Option<Result<(), LogError>> {
        if hold > self.decided {
            return None;
        }
        if self.open.contains_key(&hold) {
            return Some(Ok(()));
        }
        let why = self.refused.as_ref().map(|(kind, why)| io::Error::new(*kind, why.clone()));
        Some(Err(why.unwrap_or_else(|| io::ErrorKind::Other.into()).into()))
    }

    /// What was taken is written up to this position; returns the offset behind the last of those frames.
    fn is_written(&mut self, taken: &mut Taken, up_to: u64) -> usize {
        let from = self.head;
        let written = taken.changes.partition_point(|(end, _)| from + *end as u64 <= up_to);
        let mut begin = 0;
        for (end, change) in taken.changes.drain(..written) {
            match &change {
                Change::Row => self.taken_rows -= 1,
                Change::Opened(hold, _) => self.decided = *hold,
                _ => {}
            }
            self.note(change, from + begin as u64);
            begin = end;
        }
        self.head = from + begin as u64;
        begin
    }

    /// What was taken is not written from this offset on: it is taken as before, but for reservations.
    fn is_refused(&mut self, taken: Taken, mut begin: usize, error: &io::Error) {
        self.refused = Some((error.kind(), error.to_string()));
        let since = std::mem::take(&mut self.taken);
        for (end, change) in taken.changes {
            if let Change::Opened(hold, _) = change {
                self.decided = hold;
            } else {
                self.taken.frames.extend_from_slice(&taken.frames[begin..end]);
                self.taken.becomes(change);
            }
            begin = end;
        }
        let before = self.taken.frames.len();
        self.taken.frames.extend(since.frames);
        self.taken.changes.extend(since.changes.into_iter().map(|(end, change)| (before + end, change)));
    }
}
