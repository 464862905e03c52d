//! What the tests of the log have in common: a disk in memory, and things to write.

mod history;
mod recovery;
mod room;
mod writes;

use super::*;
use crate::record::{CostSource, Used};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A disk in memory that remembers what is not flushed yet.
#[derive(Clone, Default)]
struct Memory(Arc<Inner>);
#[derive(Default)]
struct Inner {
    now: Mutex<Vec<u8>>,
    flushed: Mutex<Vec<u8>>,
    /// Writes since the last flush.
    loose: Mutex<Vec<(u64, Vec<u8>)>>,
    no_writes: AtomicBool,
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
        let meanwhile = if bytes.is_empty() { None } else { self.0.meanwhile.lock().unwrap().take() };
        if let Some(work) = meanwhile {
            work();
        }
        if self.0.no_writes.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let begin = usize::try_from(at).unwrap();
        self.0.now.lock().unwrap()[begin..begin + bytes.len()].copy_from_slice(bytes);
        self.0.loose.lock().unwrap().push((at, bytes.to_vec()));
        Ok(())
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
