//! What just happened, in a ring that forgets the oldest, and as lines of the log. Whoever has something to tell tells
//! it here; who wants to know asks for what came after what it knows.

use crate::happening::{Happening, Kind, Level};
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Entries that are remembered.
const ENTRIES_MAX: usize = 500;

/// One entry.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Counts up.
    pub id: u64,
    /// When, in milliseconds since 1970.
    pub at_unix_ms: u64,
    /// How grave.
    pub level: Level,
    /// What kind of thing happened.
    pub kind: Kind,
    /// Whom or what it is about.
    pub subject: String,
    /// A sentence.
    pub text: String,
}

/// The last entries.
pub struct Timeline(Mutex<Entries>);

struct Entries {
    last: u64,
    ring: VecDeque<Entry>,
    /// Of each kind since the start.
    counts: [u64; Kind::ALL.len()],
}

impl Default for Timeline {
    fn default() -> Self {
        Self(Mutex::new(Entries { last: 0, ring: VecDeque::new(), counts: [0; Kind::ALL.len()] }))
    }
}

impl Timeline {
    /// One more.
    pub fn tell(&self, at_unix_ns: u64, happening: Happening) {
        let Happening { kind, subject, text } = happening;
        let row = kind.row();
        match row.level {
            Level::Bad | Level::Warn => tracing::warn!(kind = row.word, event = %text, "event"),
            Level::Good | Level::Info => tracing::info!(kind = row.word, event = %text, "event"),
        }
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.last += 1;
        entries.counts[kind as usize] += 1;
        if entries.ring.len() == ENTRIES_MAX {
            entries.ring.pop_front();
        }
        let (id, at_unix_ms) = (entries.last, at_unix_ns / 1_000_000);
        let entry = Entry { id, at_unix_ms, level: row.level, kind, subject, text };
        entries.ring.push_back(entry);
    }

    /// How many of each kind were told.
    pub fn counts(&self) -> impl Iterator<Item = (Kind, u64)> + use<> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner).counts;
        Kind::ALL.into_iter().zip(counts)
    }

    /// Those after an id, oldest first.
    pub fn after(&self, id: u64) -> Vec<Entry> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.ring.iter().filter(|entry| entry.id > id).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_after_an_id_gets_what_came_since_and_the_oldest_are_forgotten() {
        let timeline = Timeline::default();
        for n in 1..=ENTRIES_MAX as u64 + 3 {
            timeline.tell(n * 1_000_000, Happening::new(Kind::ByOperator, "", format!("event {n}")));
        }
        let all = timeline.after(0);
        assert_eq!((all.len(), all[0].id, all[0].at_unix_ms), (ENTRIES_MAX, 4, 4));
        let last = ENTRIES_MAX as u64 + 3;
        let new: Vec<u64> = timeline.after(last - 2).iter().map(|e| e.id).collect();
        assert_eq!(new, [last - 1, last]);
        assert!(timeline.after(last).is_empty());
    }
}
