//! The lines themselves: who stands where, in order of arrival, and when the first of each is to be asked again.

use crate::budget::Owner;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
struct Line {
    /// By order of arrival.
    queue: BTreeSet<u64>,
    /// Tokens that all of them want.
    tokens: f64,
    /// When the first is to be asked again (monotonic); `u64::MAX`: when something comes back.
    due: u64,
}

/// All lines that somebody stands in.
#[derive(Debug, Default)]
pub(super) struct Lines {
    lines: BTreeMap<Owner, Line>,
    due: BTreeSet<(u64, Owner)>,
}

impl Lines {
    pub(super) fn stand(&mut self, owner: Owner, seq: u64, tokens: f64) {
        let line = self.lines.entry(owner).or_insert_with(|| Line { due: u64::MAX, ..Line::default() });
        if line.queue.insert(seq) {
            line.tokens += tokens;
        }
    }

    pub(super) fn leave(&mut self, owner: Owner, seq: u64, tokens: f64) {
        let Some(line) = self.lines.get_mut(&owner) else { return };
        if line.queue.remove(&seq) {
            line.tokens = (line.tokens - tokens).max(0.0);
        }
        if line.queue.is_empty() {
            self.due.remove(&(line.due, owner));
            self.lines.remove(&owner);
        }
    }

    /// When this one is to be asked again; it counts only for the first.
    pub(super) fn due(&mut self, owner: Owner, seq: u64, at: u64) {
        let Some(line) = self.lines.get_mut(&owner) else { return };
        if line.queue.first() == Some(&seq) {
            self.due.remove(&(line.due, owner));
            line.due = at;
            if at != u64::MAX {
                self.due.insert((at, owner));
            }
        }
    }

    pub(super) fn first(&self, owner: Owner) -> Option<u64> {
        self.lines.get(&owner)?.queue.first().copied()
    }

    /// Whether somebody stands there who came before.
    pub(super) fn has_before(&self, owner: Owner, seq: u64) -> bool {
        self.first(owner).is_some_and(|first| first < seq)
    }

    /// Requests and tokens that stand in a line.
    pub(super) fn ahead(&self, owner: Owner) -> (f64, f64) {
        self.lines.get(&owner).map_or((0.0, 0.0), |line| (line.queue.len() as f64, line.tokens))
    }

    /// An owner whose first is to be asked now; it is due no more.
    pub(super) fn take_due(&mut self, now: u64) -> Option<Owner> {
        let (at, owner) = self.due.first().copied().filter(|first| first.0 <= now)?;
        self.due.remove(&(at, owner));
        if let Some(line) = self.lines.get_mut(&owner) {
            line.due = u64::MAX;
        }
        Some(owner)
    }

    pub(super) fn next_due(&self) -> Option<u64> {
        self.due.first().map(|first| first.0)
    }
}
