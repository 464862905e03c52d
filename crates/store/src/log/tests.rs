//! What the tests of the log have in common: a disk in memory, and things to write.

mod history;
mod recovery;
mod room;
mod writes;

use super::*;
use crate::record::{CostSource, Used};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc::sync_channel;
use std::task::{Context, Poll};
use std::time::Duration;

/// A disk in memory that remembers what is not flushed yet.
#[derive(Clone, Default)]
struct Memory(Arc<Inner>);
#[derive(Default)]
struct Inner {
    now: Mutex<Vec<u8>>,
    flushed: Mutex<Vec<u8>>,
    /// Writes since the last flush.
    loose: Mutex<Vec<(u64, Vec<u8>)>>,
    /// Bytes of frames that are taken until writes fail; `None`: all.
    takes: Mutex<Option<usize>>,
    /// Writes of frames that are under way, and those that ever were.
    writing: AtomicBool,
    writes: AtomicUsize,
    no_flushes: AtomicBool,
    /// What goes on elsewhere during the next write.
    meanwhile: Mutex<Option<Meanwhile>>,
}
type Meanwhile = Box<dyn FnOnce() + Send>;

impl Memory {
    fn of(bytes: Vec<u8>) -> Self {
        let disk = Self::default();
        *disk.0.flushed.lock().unwrap() = bytes.clone();
        *disk.0.now.lock().unwrap() = bytes;
        disk
    }
    /// A log in a fresh ring on this disk.
    fn fresh(capacity: u64) -> (Self, Log) {
        let disk = Self::of(vec![0; usize::try_from(header::SIZE + capacity).unwrap()]);
        Header { log: 7, capacity, turn: 0, tail: 0 }.write(&disk).unwrap();
        disk.sync().unwrap();
        let (log, found) = disk.clone().reopen();
        assert_eq!(found, Recovery::default());
        (disk, log)
    }
    /// From here on it takes so many bytes of frames, and then none; or all again.
    fn takes(&self, bytes: Option<usize>) {
        *self.0.takes.lock().unwrap() = bytes;
    }
    fn refuses(&self) -> bool {
        self.0.takes.lock().unwrap().is_some()
    }
    fn put(&self, bytes: &[u8], at: u64) {
        let begin = usize::try_from(at).unwrap();
        self.0.now.lock().unwrap()[begin..begin + bytes.len()].copy_from_slice(bytes);
        self.0.loose.lock().unwrap().push((at, bytes.to_vec()));
    }
    fn reopen(self) -> (Log, Recovery) {
        let header = Header::read(&self).unwrap().expect("a header");
        Log::recover(Box::new(self), header).unwrap()
    }
    /// What another process finds after a kill: everything that was written.
    fn after_kill(&self) -> Self {
        Self::of(self.0.now.lock().unwrap().clone())
    }
    /// What is found after the power went: what was flushed, and of the rest what `keep` says, in blocks of 512 bytes.
    fn after_power_loss(&self, mut keep: impl FnMut() -> bool) -> Self {
        let mut bytes = self.0.flushed.lock().unwrap().clone();
        for (at, written) in &*self.0.loose.lock().unwrap() {
            let mut at = usize::try_from(*at).unwrap();
            let mut rest = &written[..];
            while !rest.is_empty() {
                let (block, more) = rest.split_at(rest.len().min(512 - at % 512));
                if keep() {
                    bytes[at..at + block.len()].copy_from_slice(block);
                }
                at += block.len();
                rest = more;
            }
        }
        Self::of(bytes)
    }
}

impl Disk for Memory {
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        let at = usize::try_from(at).unwrap();
        into.copy_from_slice(&self.0.now.lock().unwrap()[at..at + into.len()]);
        Ok(())
    }
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        if at < header::SIZE {
            if *self.0.takes.lock().unwrap() == Some(0) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.put(bytes, at);
            return Ok(());
        }
        assert!(!self.0.writing.swap(true, Ordering::AcqRel), "one writes at a time");
        self.0.writes.fetch_add(1, Ordering::Relaxed);
        let meanwhile = self.0.meanwhile.lock().unwrap().take();
        if let Some(work) = meanwhile {
            work();
        }
        let mut takes = self.0.takes.lock().unwrap();
        let taken = &bytes[..bytes.len().min(takes.unwrap_or(usize::MAX))];
        takes.iter_mut().for_each(|left| *left -= taken.len());
        self.put(taken, at);
        self.0.writing.store(false, Ordering::Release);
        if taken.len() < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
    fn sync(&self) -> io::Result<()> {
        if self.0.no_flushes.load(Ordering::Relaxed) {
            // As Linux does: the pages are clean now, and their contents never reached the disk.
            self.0.loose.lock().unwrap().clear();
            return Err(io::Error::other("the disk is gone"));
        }
        let mut flushed = self.0.flushed.lock().unwrap();
        for (at, bytes) in self.0.loose.lock().unwrap().drain(..) {
            let begin = usize::try_from(at).unwrap();
            flushed[begin..begin + bytes.len()].copy_from_slice(&bytes);
        }
        Ok(())
    }
}

/// How many writes of frames there were.
fn writes(disk: &Memory) -> usize {
    disk.0.writes.load(Ordering::Relaxed)
}

fn record(n: u64, holds: Vec<u64>) -> Record {
    Record {
        id: format!("req-{n}").into(),
        generation: n.is_multiple_of(2).then(|| format!("gen-{n}").into()),
        client: "ck-1".into(),
        tags: vec!["a".into(), "b".into()],
        endpoint: "chat/completions".into(),
        model: "sonnet".into(),
        status: 200,
        outcome: "answered".into(),
        started_unix_ms: 1000 + n,
        first_output_ns: Some(n),
        used: Used { cost_nano_usd: Some(n), cost_source: CostSource::Prices, ..Used::default() },
        holds,
        ..Record::default()
    }
}

fn row(n: u64, holds: Vec<u64>) -> Entry {
    Entry::Row(Box::new(record(n, holds)))
}

fn reservation(n: u64, cost: u64) -> Reservation {
    Reservation {
        request: format!("req-{n}").into(),
        cost_nano_usd: cost,
        at_unix_ms: 5,
        ..Reservation::default()
    }
}

/// Sets money aside, alone in its turn.
fn reserve(log: &Log, reservation: Reservation) -> Result<u64, LogError> {
    let hold = log.reserve(reservation)?;
    let mut written = pin!(log.written(hold));
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(written.as_mut().poll(cx).is_pending(), "others have their turn first");
    let Poll::Ready(done) = written.poll(cx) else { panic!("nobody else writes") };
    done.map(|()| hold)
}

/// Takes and writes; how many were taken, and what came of it.
fn append(log: &Log, entries: &[Entry]) -> (usize, Result<(), LogError>) {
    let take = |entry: &Entry| match entry {
        Entry::Row(row) => log.row(row, usize::MAX).map(drop),
        Entry::Settle(hold, cost) => log.settle(*hold, *cost),
        Entry::Reserve(..) => unreachable!(),
    };
    let end =
        entries.iter().map(take).enumerate().find_map(|(n, taken)| taken.err().map(|error| (n, Err(error))));
    let (taken, end) = end.unwrap_or((entries.len(), Ok(())));
    (taken, log.write_out().and(end))
}

fn ids(rows: &[Record]) -> Vec<String> {
    rows.iter().map(|r| r.id.to_string()).collect()
}

const KIB: u64 = 1024;
/// What takes longer never comes.
const LONG: Duration = Duration::from_secs(20);
