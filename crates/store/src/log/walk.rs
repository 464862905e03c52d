//! A walk over what stands in the log.

use super::{Log, WINDOW};
use crate::codec::{self, Frame};
use std::io;

impl Log {
    /// The frames between two positions.
    pub(super) fn frames(&self, from: u64, to: u64) -> Frames<'_> {
        Frames { log: self, at: from, to, window: Vec::new(), window_at: from, step: WINDOW, skipped: 0 }
    }
}

/// Walks the frames between two positions, over damage as well: after bytes that are no frame the next place where a
/// frame of this log and position stands is where it goes on.
pub(super) struct Frames<'a> {
    log: &'a Log,
    /// Where it is.
    pub at: u64,
    to: u64,
    window: Vec<u8>,
    window_at: u64,
    /// Bytes to read at once.
    pub step: usize,
    /// Bytes since the last frame that were none.
    pub skipped: u64,
}

impl Frames<'_> {
    /// The next entry and the bytes that were skipped before it; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<(&[u8], u64)>> {
        let found = loop {
            if self.at >= self.to {
                return Ok(None);
            }
            let begin = usize::try_from(self.at - self.window_at).unwrap_or(usize::MAX);
            let bytes = self.window.get(begin..).unwrap_or(&[]);
            match codec::frame(bytes, self.log.id, self.at) {
                Frame::Whole(entry, len) => break (begin + codec::HEAD, entry.len(), len),
                Frame::Short(need) if (need as u64) <= self.to - self.at => self.slide(need)?,
                Frame::Short(_) | Frame::Bad => {
                    self.skipped += 8.min(self.to - self.at);
                    self.at += 8;
                }
            }
        };
        let (begin, len, whole) = found;
        self.at += whole as u64;
        let skipped = std::mem::take(&mut self.skipped);
        Ok(Some((&self.window[begin..begin + len], skipped)))
    }

    /// Moves the window to where the walk is.
    fn slide(&mut self, need: usize) -> io::Result<()> {
        let len = (self.to - self.at).min(need.max(self.step) as u64);
        self.window.resize(usize::try_from(len).unwrap_or(self.step), 0);
        self.window_at = self.at;
        self.log.read_at(&mut self.window, self.at)
    }
}
