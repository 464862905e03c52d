//! The log: a ring on disk, of fixed size, that takes everything the database will hold before the database does.
//!
//! It is the journal of reservations and the spool of rows in one. Both need the same things (one `write()`, a checksum,
//! a group flush, order, a cap), and in one file a row and the end of its reservations are one write, so no crash can
//! part them. Frames stand at positions that only grow; a position's place in the file is its remainder by the
//! capacity. The log begins at its tail: the oldest row that the database lacks or the oldest open reservation. A
//! reservation that stays open while the ring goes round is written again at the head, so that one slow stream holds
//! up nobody.
//!
//! What was overwritten must not be needed: the space before a new tail is used only after the header that names the
//! tail is flushed.

pub(crate) mod disk;
mod header;
mod recover;
mod walk;
mod write;

use crate::codec::{self, Entry};
use crate::record::{Record, Reservation};
use disk::Disk;
use header::Header;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// The least capacity; below it a few requests in flight would fill it.
pub(crate) const CAPACITY_MIN: u64 = 1 << 20;
/// Bytes that are read in one go, and kept for those that are to be written.
const WINDOW: usize = 256 * 1024;

/// Why the log did not take something.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The database has been away for so long that the ring is full.
    #[error("the log is full: {used} of {capacity} bytes wait for the database")]
    Full {
        /// Bytes in use.
        used: u64,
        /// Bytes there are.
        capacity: u64,
    },
    /// The disk refused.
    #[error("the log cannot be written: {0}")]
    Io(#[from] io::Error),
    /// Another process has it.
    #[error("another keymux uses this log")]
    InUse,
    /// The last flush failed, and none has succeeded since.
    #[error("the log cannot be flushed: {0}")]
    NotFlushed(String),
}

/// How full the log is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    /// Bytes in use.
    pub bytes: u64,
    /// Bytes there are.
    pub capacity: u64,
    /// Rows that the database lacks.
    pub rows: u64,
    /// When the oldest of them began, in milliseconds since 1970.
    pub oldest_unix_ms: Option<u64>,
    /// Reservations that are open.
    pub open: u64,
    /// Their sum, in nano-dollars.
    pub open_nano_usd: u64,
    /// What the last flush failed with, if it failed.
    pub trouble: Option<String>,
}

/// What was found in the log when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Requests that were open, each as the record that settles it: [`crate::UNKNOWN`], charged with what is known of
    /// its attempts and with what was reserved for the others. They are *not* written yet.
    pub unknown: Vec<Record>,
    /// Rows that wait for the database.
    pub rows: u64,
    /// Bytes that were no frames where frames must be: torn or damaged, and cut out.
    pub damaged_bytes: u64,
    /// The log could not be read at all: it was put aside under this name, and a new one begun.
    pub put_aside: Option<std::path::PathBuf>,
}

struct Hold {
    at: u64,
    reservation: Box<Reservation>,
    settled_nano_usd: Option<u64>,
}

struct Ring {
    /// Everything before it is written.
    head: u64,
    applied: u64,
    /// As it is flushed: space before the tail that it names may be used again.
    header: Header,
    rows: u64,
    open: BTreeMap<u64, Hold>,
    trouble: Option<String>,
    /// Bytes behind the head that are being written: by one at a time.
    under_way: u64,
    /// What comes then: without a place yet.
    taken: Taken,
    /// Empty, and with room: for what is taken during a write.
    spare: Taken,
    /// Rows that are taken and not written.
    taken_rows: usize,
    /// Costs of open reservations that found no room.
    late: BTreeMap<u64, u64>,
    /// The last reservation that was taken.
    last_hold: u64,
    /// Up to this one they are written, and open; or were refused.
    decided: u64,
    /// What the last write that failed failed with.
    refused: Option<(io::ErrorKind, String)>,
    /// Reservations that wait for a write of somebody else's, each with its task.
    tasks: BTreeMap<u64, Waker>,
    /// Threads that do.
    threads: usize,
}

/// What is written next, in order.
#[derive(Default)]
struct Taken {
    frames: Vec<u8>,
    /// What is so once they are written, each with the offset behind its frame.
    changes: Vec<(usize, Change)>,
}

/// What an entry changes, once it is written.
enum Change {
    Row,
    Opened(u64, Box<Reservation>),
    /// Written again.
    Carried(u64),
    Closed(u64),
    Settled(u64, u64),
}

impl Change {
    fn is_of(&self, hold: u64) -> bool {
        matches!(self, Self::Carried(of) | Self::Closed(of) | Self::Settled(of, _) if *of == hold)
    }
}

/// The log. All methods may be called from any thread.
pub struct Log {
    disk: Box<dyn Disk>,
    id: u64,
    capacity: u64,
    /// Never held while the disk works: requests end here.
    ring: Mutex<Ring>,
    /// A write has ended.
    written: Condvar,
    flushing: Mutex<()>,
    flushed: AtomicU64,
}

/// Rows read from the log, in order.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub rows: Vec<Record>,
    /// The position behind them.
    pub next: u64,
    /// Bytes between them that were no frames.
    pub damaged_bytes: u64,
}

impl Log {
    /// Opens the log at `path`, or makes one that can hold `capacity` bytes. Another capacity than before takes hold
    /// when the log is empty.
    pub fn open(path: &Path, capacity: u64) -> Result<(Self, Recovery), LogError> {
        let capacity = capacity.max(CAPACITY_MIN).next_multiple_of(4096);
        let mut put_aside = None;
        if let Some(file) = disk::open(path).map_err(in_use)? {
            if let Some(header) = Header::read(&file)? {
                let (log, found) = Self::recover(Box::new(file), header)?;
                if header.capacity == capacity || found.rows > 0 || !found.unknown.is_empty() {
                    return Ok((log, found));
                }
            } else {
                let aside = path.with_extension("damaged");
                std::fs::rename(path, &aside)?;
                put_aside = Some(aside);
            }
        }
        let header = Header { log: random(), capacity, turn: 0, tail: 0 };
        let file = disk::create(path, header::SIZE + capacity, &header.bytes()).map_err(in_use)?;
        let (log, found) = Self::recover(Box::new(file), header)?;
        Ok((log, Recovery { put_aside, ..found }))
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // A panic elsewhere leaves the ring as it was before the frame, or after it: both are sound.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes kept free of new reservations and of new requests, for the rows of those that are in flight.
    fn margin(&self) -> u64 {
        self.capacity / 8
    }

    /// Bytes kept free of rows as well, for what gives space back: a reservation that is carried on, or a full ring
    /// could not let go of it.
    fn spare(&self) -> u64 {
        self.capacity / 32
    }

    fn place(&self, at: u64) -> (u64, u64) {
        let offset = at % self.capacity;
        (header::SIZE + offset, self.capacity - offset)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let (place, room) = self.place(at);
        let (first, rest) = bytes.split_at(bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
        self.disk.write_at(first, place)?;
        if rest.is_empty() { Ok(()) } else { self.disk.write_at(rest, header::SIZE) }
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        let (place, room) = self.place(at);
        let cut = into.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        let (first, rest) = into.split_at_mut(cut);
        self.disk.read_at(first, place)?;
        if rest.is_empty() { Ok(()) } else { self.disk.read_at(rest, header::SIZE) }
    }

    /// Flushes what was written so far, and the new tail; returns the position up to which everything is on the disk.
    pub fn sync(&self) -> Result<u64, LogError> {
        let _one = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let (head, mut header, tail, suspect) = {
            let ring = self.ring();
            (ring.head, ring.header, ring.tail(), ring.trouble.is_some())
        };
        let moved = tail != header.tail;
        if moved {
            // Into the other slot than the flushed one, also when it is tried again.
            (header.turn, header.tail) = (header.turn + 1, tail);
        } else if head == self.flushed() && !suspect {
            return Ok(head);
        }
        let done = self.flush(head, Some(header).filter(|_| moved || suspect), suspect);
        let mut ring = self.ring();
        match done {
            Ok(()) => {
                ring.trouble = None;
                ring.header = header;
                self.flushed.store(head, Ordering::Release);
                Ok(head)
            }
            Err(e) => {
                ring.trouble = Some(e.to_string());
                Err(LogError::NotFlushed(e.to_string()))
            }
        }
    }

    fn flush(&self, head: u64, header: Option<Header>, suspect: bool) -> io::Result<()> {
        // After a failed flush the kernel may hold pages for clean that never reached the disk: they are written anew.
        // The lock of the ring is not needed: nobody writes before the head.
        let mut at = self.flushed();
        while suspect && at < head {
            let n = (head - at).min(WINDOW as u64);
            let mut bytes = vec![0; usize::try_from(n).unwrap_or(WINDOW)];
            self.read_at(&mut bytes, at)?;
            self.write_at(&bytes, at)?;
            at += n;
        }
        if let Some(header) = header {
            header.write(&*self.disk)?;
        }
        self.disk.sync()
    }

    /// Everything before this position is on stable storage.
    pub fn flushed(&self) -> u64 {
        self.flushed.load(Ordering::Acquire)
    }

    /// Everything before this position was written.
    pub fn head(&self) -> u64 {
        self.ring().head
    }

    /// Rows that the database lacks.
    pub(crate) fn rows(&self) -> u64 {
        self.ring().rows
    }

    /// Whether a new request can be taken on: there is room for its row beside those in flight.
    pub fn has_room(&self) -> bool {
        let ring = self.ring();
        ring.end() - ring.header.tail + self.margin() <= self.capacity
    }

    /// Whether the next flush gives room.
    pub(crate) fn frees(&self) -> bool {
        let ring = self.ring();
        ring.tail() > ring.header.tail
    }

    /// At most this many of the rows that the database lacks, the oldest first.
    pub(crate) fn read(&self, rows_max: usize) -> Result<Batch, LogError> {
        let (from, head) = {
            let ring = self.ring();
            (ring.applied, ring.head)
        };
        let mut batch = Batch { next: from, ..Batch::default() };
        let mut frames = self.frames(from, head);
        frames.step = WINDOW.min(rows_max.saturating_mul(1024));
        while batch.rows.len() < rows_max
            && let Some((entry, damaged_bytes)) = frames.next()?
        {
            batch.damaged_bytes += damaged_bytes;
            if let Some(Entry::Row(row)) = codec::entry(entry) {
                batch.rows.push(*row);
            }
            batch.next = frames.at;
        }
        if batch.rows.len() < rows_max {
            batch.damaged_bytes += frames.skipped;
            batch.next = head;
        }
        Ok(batch)
    }

    /// The database has this many more rows, up to that position.
    pub(crate) fn applied(&self, up_to: u64, rows: u64) -> Result<(), LogError> {
        {
            let mut ring = self.ring();
            ring.applied = up_to.min(ring.head);
            ring.rows = ring.rows.saturating_sub(rows);
            if ring.applied == ring.head {
                // Rows that were damaged after they were counted will not come any more.
                ring.rows = 0;
            }
        }
        loop {
            let tail = self.ring().header.tail;
            match self.carry() {
                // A full ring takes few of many open reservations at once; the places that they leave take more.
                Err(full @ LogError::Full { .. }) => {
                    self.sync()?;
                    if self.ring().header.tail == tail {
                        return Err(full);
                    }
                }
                done => return done,
            }
        }
    }

    /// How full it is.
    pub fn fill(&self) -> Fill {
        let mut fill = {
            let ring = self.ring();
            Fill {
                bytes: ring.end() - ring.header.tail,
                capacity: self.capacity,
                rows: ring.rows,
                oldest_unix_ms: None,
                open: ring.open.len() as u64,
                open_nano_usd: ring.open.values().map(|h| h.reservation.cost_nano_usd).sum(),
                trouble: ring.trouble.clone(),
            }
        };
        if fill.rows > 0 {
            // One frame is wanted, and asked for often: not a whole window.
            fill.oldest_unix_ms = self.read(1).ok().and_then(|b| b.rows.first().map(|r| r.started_unix_ms));
        }
        fill
    }
}

impl Ring {
    fn tail(&self) -> u64 {
        self.open.values().map(|h| h.at).min().unwrap_or(u64::MAX).min(self.applied)
    }

    /// The position behind all that was taken.
    fn end(&self) -> u64 {
        self.head + self.under_way + self.taken.frames.len() as u64
    }

    /// A reservation that stands further behind the head than this.
    fn stale(&self, behind: u64) -> Option<u64> {
        let old = self.head.saturating_sub(behind);
        self.open.iter().find(|(_, hold)| hold.at < old).map(|(hold, _)| *hold)
    }

    /// Follows what is written at this place.
    fn note(&mut self, change: Change, at: u64) {
        match change {
            Change::Row => self.rows += 1,
            // Found again at a restart, it is open from where it stood first: its cost may stand behind that alone.
            Change::Opened(hold, reservation) => {
                self.open.entry(hold).or_insert(Hold { at, reservation, settled_nano_usd: None });
            }
            Change::Carried(hold) => {
                if let Some(open) = self.open.get_mut(&hold) {
                    open.at = at;
                }
            }
            Change::Closed(hold) => {
                self.open.remove(&hold);
                self.late.remove(&hold);
            }
            Change::Settled(hold, cost) => {
                if let Some(open) = self.open.get_mut(&hold) {
                    open.settled_nano_usd = Some(cost);
                }
            }
        }
    }
}

fn in_use(e: io::Error) -> LogError {
    if e.kind() == io::ErrorKind::WouldBlock { LogError::InUse } else { LogError::Io(e) }
}

/// Sixty-four bits that the operating system seeded, for an identity and not for a secret.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests;
