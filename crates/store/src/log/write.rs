//! How entries come into the log. They are taken where they arise, in memory, and written together by whoever must know
//! that something is written: a reservation, or the thread that flushes. So a request whose money is held costs one
//! write, and one that has none costs none.

use super::{Change, Hold, Log, LogError, Ring, WINDOW};
use crate::codec;
use crate::record::{Record, Reservation};
use std::ops::Range;
use std::sync::{MutexGuard, PoisonError};

/// What is written next, by whoever holds the lock: one at a time, in order.
#[derive(Default)]
pub(super) struct Pen {
    frames: Vec<u8>,
}

impl Log {
    fn pen(&self) -> MutexGuard<'_, Pen> {
        self.pen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets money aside: one `write()`, before the attempt goes out. All that was taken before is written with it, so
    /// money that came back is written as back before it is held again. The number names it until a record closes it. It
    /// is on the disk itself once [`flushed`](Self::flushed) exceeds the number.
    pub fn reserve(&self, reservation: Reservation) -> Result<u64, LogError> {
        if let Some(trouble) = &self.ring().trouble {
            return Err(LogError::NotFlushed(trouble.clone()));
        }
        let mut hold = 0;
        self.write(&mut self.pen(), self.margin(), |_, frames, at| {
            hold = at + 1;
            codec::put_frame(frames, |out| codec::put_reserve(out, hold, &reservation));
            move |ring: &mut Ring| {
                ring.open.insert(at + 1, Hold { at, reservation, settled_nano_usd: None });
            }
        })?;
        Ok(hold)
    }

    /// Takes a row, to be written with what is written next: unless the ring is full, or `rows_max` are taken and not
    /// written. Returns where its bytes stand among those that are not.
    pub(crate) fn row(&self, row: &Record, rows_max: usize) -> Result<Range<usize>, LogError> {
        let mut ring = self.ring();
        if ring.coming_rows >= rows_max {
            return Err(self.full(&ring));
        }
        let before = ring.frames.len();
        self.take_row(&mut ring, row, self.spare())?;
        Ok(before..ring.frames.len())
    }

    /// Writes the rows of requests that the last process left open, also if no others have room.
    pub(crate) fn close(&self, unknown: &[Record]) -> Result<(), LogError> {
        unknown.iter().try_for_each(|row| self.take_row(&mut self.ring(), row, 0))?;
        self.write_out()
    }

    fn take_row(&self, ring: &mut Ring, row: &Record, spare: u64) -> Result<(), LogError> {
        self.take(ring, spare, |out| codec::put_row(out, row))?;
        ring.coming_rows += 1;
        ring.coming.push(Change::Row);
        ring.coming.extend(row.holds.iter().map(|hold| Change::Closed(*hold)));
        Ok(())
    }

    /// Takes the cost of an attempt, to be written with what is written next.
    pub(crate) fn settle(&self, hold: u64, cost_nano_usd: u64) -> Result<(), LogError> {
        let mut ring = self.ring();
        self.take(&mut ring, 0, |out| codec::put_settle(out, hold, cost_nano_usd))?;
        ring.coming.push(Change::Settled(hold, cost_nano_usd));
        Ok(())
    }

    /// Writes what was taken.
    pub(crate) fn write_out(&self) -> Result<(), LogError> {
        self.write(&mut self.pen(), 0, |_, _, _| |_: &mut Ring| {})
    }

    /// Rows that are taken and not written, and bytes that nobody writes yet.
    pub(crate) fn coming(&self) -> (usize, usize) {
        let ring = self.ring();
        (ring.coming_rows, ring.frames.len())
    }

    fn full(&self, ring: &Ring) -> LogError {
        LogError::Full { used: ring.end() - ring.tail_flushed, capacity: self.capacity }
    }

    /// Takes one frame, if the ring has room for it and so many bytes more.
    fn take(&self, ring: &mut Ring, spare: u64, entry: impl FnOnce(&mut Vec<u8>)) -> Result<(), LogError> {
        let before = ring.frames.len();
        codec::put_frame(&mut ring.frames, entry);
        if ring.end() - ring.tail_flushed + spare > self.capacity {
            ring.frames.truncate(before);
            return Err(self.full(ring));
        }
        Ok(())
    }

    /// Writes what was taken, and behind it what `last` puts at the place it is told, if `margin` bytes stay free then;
    /// what that returns is done in the same step in which the head moves on. If the disk refuses, all but the last is
    /// taken as before, and the next write goes to the same place.
    fn write<Then: FnOnce(&mut Ring)>(
        &self,
        pen: &mut Pen,
        margin: u64,
        last: impl FnOnce(&Ring, &mut Vec<u8>, u64) -> Then,
    ) -> Result<(), LogError> {
        let (head, taken, fits, then, coming, rows) = {
            let mut ring = self.ring();
            std::mem::swap(&mut pen.frames, &mut ring.frames);
            let taken = pen.frames.len();
            let then = last(&ring, &mut pen.frames, ring.head + taken as u64);
            let used = ring.head + pen.frames.len() as u64 - ring.tail_flushed;
            let fits = pen.frames.len() == taken || used + margin <= self.capacity;
            if !fits {
                pen.frames.truncate(taken);
            }
            // The last too: what is taken from here on has its place behind it.
            ring.under_way = pen.frames.len() as u64;
            (ring.head, taken, fits, then, std::mem::take(&mut ring.coming), ring.coming_rows)
        };
        codec::seal(&mut pen.frames, self.id, head);
        let written = self.write_at(&pen.frames, head);
        let mut ring = self.ring();
        ring.under_way = 0;
        if let Err(error) = written {
            pen.frames.truncate(taken);
            pen.frames.append(&mut ring.frames);
            std::mem::swap(&mut pen.frames, &mut ring.frames);
            let since = std::mem::replace(&mut ring.coming, coming);
            ring.coming.extend(since);
            return Err(error.into());
        }
        ring.head += pen.frames.len() as u64;
        ring.coming_rows -= rows;
        for change in &coming {
            ring.note(change);
        }
        pen.frames.clear();
        // What piled up while a disk refused is not kept room for.
        pen.frames.shrink_to(WINDOW);
        if !fits {
            return Err(self.full(&ring));
        }
        then(&mut ring);
        Ok(())
    }

    /// Writes reservations that are old in the ring again at its head.
    pub(super) fn carry(&self) -> Result<(), LogError> {
        loop {
            let Some(hold) = self.ring().stale(self.capacity / 4) else { return Ok(()) };
            self.write(&mut self.pen(), 0, |ring, frames, at| {
                // What is written before it may close it or say what it cost. Then it is looked at again.
                let open = ring.open.get(&hold).filter(|_| !ring.coming.iter().any(|c| c.is_of(hold)));
                if let Some(open) = open {
                    codec::put_frame(frames, |out| codec::put_reserve(out, hold, &open.reservation));
                    // In one write: without its cost it would be charged as reserved.
                    if let Some(cost) = open.settled_nano_usd {
                        codec::put_frame(frames, |out| codec::put_settle(out, hold, cost));
                    }
                }
                let carried = open.is_some();
                move |ring: &mut Ring| {
                    if let Some(open) = ring.open.get_mut(&hold).filter(|_| carried) {
                        open.at = at;
                    }
                }
            })?;
        }
    }
}
