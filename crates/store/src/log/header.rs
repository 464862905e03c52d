//! Who the log is and where it begins: two slots, written in turn, so that a torn one leaves the other.

use super::disk::Disk;
use std::io;

/// Bytes before the ring: two slots in blocks of their own.
pub(crate) const SIZE: u64 = 8192;
const SLOT: usize = 48;
const MAGIC: [u8; 8] = *b"kmxlog\x00\x01";

/// One slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Random: tells frames of this log from those of one that lay in the same blocks.
    pub log: u64,
    /// Bytes of the ring.
    pub capacity: u64,
    /// Counts the writes; the higher of two good slots holds.
    pub turn: u64,
    /// Where the log begins.
    pub tail: u64,
}

impl Header {
    /// The slot's bytes.
    pub(crate) fn bytes(&self) -> [u8; SLOT] {
        let mut out = [0; SLOT];
        out[..8].copy_from_slice(&MAGIC);
        for (i, n) in [self.log, self.capacity, self.turn, self.tail].into_iter().enumerate() {
            out[8 + i * 8..16 + i * 8].copy_from_slice(&n.to_le_bytes());
        }
        let crc = crc32fast::hash(&out[..40]);
        out[40..44].copy_from_slice(&crc.to_le_bytes());
        out
    }

    fn parse(slot: &[u8; SLOT]) -> Option<Self> {
        let mut n = [0u64; 4];
        for (i, n) in n.iter_mut().enumerate() {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&slot[8 + i * 8..16 + i * 8]);
            *n = u64::from_le_bytes(bytes);
        }
        let [log, capacity, turn, tail] = n;
        let sound = slot[..8] == MAGIC && crc32fast::hash(&slot[..40]).to_le_bytes() == slot[40..44];
        (sound && capacity > 0).then_some(Self { log, capacity, turn, tail })
    }

    /// Writes the slot whose turn it is.
    pub(crate) fn write(&self, disk: &dyn Disk) -> io::Result<()> {
        disk.write_at(&self.bytes(), (self.turn % 2) * (SIZE / 2))
    }

    /// The slot that holds; `None` if neither is good.
    pub(crate) fn read(disk: &dyn Disk) -> io::Result<Option<Self>> {
        let mut best: Option<Self> = None;
        for at in [0, SIZE / 2] {
            let mut slot = [0; SLOT];
            match disk.read_at(&mut slot, at) {
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => continue,
                other => other?,
            }
            best = best.into_iter().chain(Self::parse(&slot)).max_by_key(|h| h.turn);
        }
        Ok(best)
    }
}
