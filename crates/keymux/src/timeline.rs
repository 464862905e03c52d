//! What just happened, in words: the scheduler's events and what operators did, in a ring that forgets the oldest. It
//! knows sentences and how grave they are, not what they are about.

use keymux_policy::event::What;
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Entries that are remembered.
const ENTRIES_MAX: usize = 500;

/// How grave something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Something is out.
    Bad,
    /// Something is short for a while.
    Warn,
    /// Something is back.
    Good,
    /// Something is different.
    Info,
}

/// One entry.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Counts up.
    pub id: u64,
    /// When, in milliseconds since 1970.
    pub at_unix_ms: u64,
    /// How grave.
    pub level: Level,
    /// A sentence.
    pub text: String,
}

/// The last entries.
#[derive(Default)]
pub struct Timeline(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    last: u64,
    ring: VecDeque<Entry>,
}

impl Timeline {
    /// One more.
    pub fn push(&self, at_unix_ns: u64, level: Level, text: String) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.last += 1;
        if entries.ring.len() == ENTRIES_MAX {
            entries.ring.pop_front();
        }
        let entry = Entry { id: entries.last, at_unix_ms: at_unix_ns / 1_000_000, level, text };
        entries.ring.push_back(entry);
    }

    /// Those after an id, oldest first.
    pub fn after(&self, id: u64) -> Vec<Entry> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.ring.iter().filter(|entry| entry.id > id).cloned().collect()
    }
}

/// How grave an event of the scheduler is.
pub fn level(what: &What) -> Level {
    match what {
        What::BreakerOpened { .. }
        | What::ProviderOpened { .. }
        | What::KeyBenched { .. }
        | What::AccountBenched { .. } => Level::Bad,
        What::CapacityShut { .. } | What::QuotaShut { .. } | What::RetryBudgetSpent => Level::Warn,
        What::BreakerClosed { .. }
        | What::ProviderClosed { .. }
        | What::KeyRestored { .. }
        | What::AccountRestored { .. }
        | What::CapacityRestored { .. } => Level::Good,
        What::BreakerHalfOpen { .. } | What::LimitLearned { .. } | What::Reconfigured => Level::Info,
    }
}

/// How grave an event of the ledger is: all are, but those that say that it is back.
pub fn level_of_ledger(text: &str) -> Level {
    if text.ends_with(" back") || text.ends_with(" again") { Level::Good } else { Level::Bad }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_that_is_back_is_good_news_and_all_else_of_it_is_bad() {
        assert_eq!(level_of_ledger("ledger back"), Level::Good);
        assert_eq!(level_of_ledger("ledger log writes again"), Level::Good);
        assert_eq!(level_of_ledger("ledger away: no route to it; rows wait in the log"), Level::Bad);
    }

    #[test]
    fn who_asks_after_an_id_gets_what_came_since_and_the_oldest_are_forgotten() {
        let timeline = Timeline::default();
        for n in 1..=ENTRIES_MAX as u64 + 3 {
            timeline.push(n * 1_000_000, Level::Info, format!("event {n}"));
        }
        let all = timeline.after(0);
        assert_eq!((all.len(), all[0].id, all[0].at_unix_ms), (ENTRIES_MAX, 4, 4));
        let last = ENTRIES_MAX as u64 + 3;
        let new: Vec<u64> = timeline.after(last - 2).iter().map(|e| e.id).collect();
        assert_eq!(new, [last - 1, last]);
        assert!(timeline.after(last).is_empty());
    }
}
