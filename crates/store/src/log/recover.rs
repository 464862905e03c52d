//! What a log says after the process that wrote it is gone: which rows wait, which reservations are open, what is torn.

use super::disk::Disk;
use super::header::Header;
use super::{Change, Hold, Log, LogError, Recovery, Ring, Taken};
use crate::codec::{self, Entry};
use crate::record::{CostSource, Record, UNKNOWN, Used};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Condvar, Mutex};

impl Log {
    /// Reads the whole ring from its tail. The end is where the last frame ends; what lies beyond is an earlier round.
    pub(super) fn recover(disk: Box<dyn Disk>, header: Header) -> Result<(Self, Recovery), LogError> {
        let Header { log: id, capacity, tail, .. } = header;
        let ring = Ring {
            head: tail,
            applied: tail,
            header,
            rows: 0,
            open: BTreeMap::new(),
            trouble: None,
            under_way: 0,
            taken: Taken::default(),
            spare: Taken::default(),
            taken_rows: 0,
            late: BTreeMap::new(),
            last_hold: 0,
            decided: 0,
            refused: None,
            tasks: BTreeMap::new(),
            threads: 0,
        };
        let flushed = AtomicU64::new(tail);
        let log = Self {
            disk,
            id,
            capacity,
            ring: Mutex::new(ring),
            written: Condvar::new(),
            flushing: Mutex::new(()),
            flushed,
        };
        let mut found = Recovery::default();
        {
            let mut ring = log.ring();
            let mut frames = log.frames(tail, tail + capacity);
            loop {
                let from = frames.at;
                let Some((bytes, skipped)) = frames.next()? else { break };
                found.damaged_bytes += skipped;
                let at = from + skipped;
                match codec::entry(bytes) {
                    Some(Entry::Reserve(hold, reservation)) => {
                        ring.last_hold = ring.last_hold.max(hold);
                        ring.note(Change::Opened(hold, reservation), at);
                    }
                    Some(Entry::Settle(hold, cost)) => ring.note(Change::Settled(hold, cost), at),
                    Some(Entry::Row(row)) => {
                        ring.note(Change::Row, at);
                        row.holds.iter().for_each(|hold| ring.note(Change::Closed(*hold), at));
                    }
                    None => found.damaged_bytes += bytes.len() as u64,
                }
                ring.head = frames.at;
            }
            found.damaged_bytes += log.torn_at(ring.head, tail + capacity)?;
            found.rows = ring.rows;
            found.unknown = unknown(&ring.open);
        }
        // What a killed process wrote is in the kernel's hands; from here on it is on the disk.
        log.disk.sync()?;
        log.flushed.store(log.head(), std::sync::atomic::Ordering::Release);
        Ok((log, found))
    }

    /// Everything before this position is in the database.
    pub(crate) fn applied_to(&self) -> u64 {
        self.ring().applied
    }

    /// Bytes of a frame that was begun at the end and is not whole: its head names its place, its checksum is wrong.
    fn torn_at(&self, head: u64, end: u64) -> Result<u64, LogError> {
        let mut bytes = [0; codec::HEAD];
        if head + codec::HEAD as u64 > end {
            return Ok(0);
        }
        self.read_at(&mut bytes, head)?;
        let len = u64::from(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        let begun = codec::claimed(&bytes) == Some(head) && len > 0;
        Ok(if begun { codec::HEAD as u64 + len.min(codec::ENTRY_MAX as u64) } else { 0 })
    }
}

/// One record for each request that has open reservations and no row.
fn unknown(open: &BTreeMap<u64, Hold>) -> Vec<Record> {
    let mut requests: BTreeMap<&str, Record> = BTreeMap::new();
    for (hold, Hold { reservation: r, settled_nano_usd, .. }) in open {
        let record = requests.entry(&*r.request).or_insert_with(|| Record {
            id: r.request.clone(),
            outcome: UNKNOWN.into(),
            started_unix_ms: r.at_unix_ms,
            used: Used {
                cost_nano_usd: Some(0),
                cost_source: CostSource::Reserved,
                estimated: true,
                ..Used::default()
            },
            ..Record::default()
        });
        // Holds grow with time: the last attempt is the one that the request is told by.
        record.client = r.client.clone();
        record.team = r.team.clone();
        record.endpoint.clone_from(&r.endpoint);
        r.model.as_ref().clone_into(&mut record.model);
        record.provider = r.provider.clone();
        record.key = r.key.clone();
        record.account = r.account.clone();
        record.charged_unix_ms = r.at_unix_ms;
        record.attempts += 1;
        record.holds.push(*hold);
        let cost = settled_nano_usd.unwrap_or(r.cost_nano_usd);
        record.used.cost_nano_usd = record.used.cost_nano_usd.map(|sum| sum.saturating_add(cost));
    }
    requests.into_values().collect()
}
