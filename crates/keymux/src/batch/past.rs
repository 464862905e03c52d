//! What earlier runs of a batch have left, as the journal tells it: which lines are done, at what cost, and which of their
//! answers are not in the output yet.

use super::journal::{Entry, Kind, Place, Point};
use std::collections::{BTreeMap, HashMap};

/// What an earlier run has left.
#[derive(Debug, Default)]
pub struct Past {
    /// Of the lines that are done, by their place; 0: not done.
    pub marks: Vec<u32>,
    /// How many of them ended with an answer, with an error, or could not be sent.
    pub counts: [u64; 3],
    /// What all calls cost, those too that ended in an error.
    pub spent_nano_usd: u64,
    /// The last point.
    pub point: Point,
    /// What came after it, or did not stand in its order yet.
    pub unwritten: BTreeMap<u64, Place>,
    /// Lines without their texts, and no point yet that says where these are.
    pub(super) is_bare: bool,
    /// Lines that are done without an answer.
    unanswered: HashMap<u64, Kind>,
}

/// How the past is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look {
    /// The output is written anew from its first line.
    pub afresh: bool,
    /// Lines that ended with an error are done again.
    pub retry_failed: bool,
    /// Where it says last that the output was begun anew, once that is known.
    pub(super) anew_at: u64,
}

impl Look {
    /// For who begins the output anew.
    pub fn afresh(retry_failed: bool) -> Self {
        Self { afresh: true, retry_failed, ..Self::default() }
    }
}

impl Past {
    /// Whether a line is done.
    pub fn has(&self, seq: u64) -> bool {
        self.mark(seq).is_some()
    }

    /// The mark of a line that is done.
    pub fn mark(&self, seq: u64) -> Option<u32> {
        let mark = *self.marks.get(usize::try_from(seq).ok()?)?;
        (mark != 0).then_some(mark)
    }

    /// Lines that are done.
    pub fn done(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Takes in what was found.
    pub(super) fn take(&mut self, entry: &Entry, place: Place, look: Look) {
        self.is_bare |= place.length == 0;
        self.spent_nano_usd += entry.cost_nano_usd.unwrap_or(0);
        if look.retry_failed && entry.kind != Kind::Answered {
            return;
        }
        // Where it was done again, the later one counts.
        let Ok(index) = usize::try_from(entry.seq) else { return };
        if self.marks.len() <= index {
            self.marks.resize(index + 1, 0);
        }
        let unanswered = self.unanswered.remove(&entry.seq);
        if std::mem::replace(&mut self.marks[index], entry.mark) != 0 {
            self.counts[unanswered.unwrap_or(Kind::Answered) as usize] -= 1;
        }
        self.counts[entry.kind as usize] += 1;
        if entry.kind != Kind::Answered {
            self.unanswered.insert(entry.seq, entry.kind);
        }
        // Of a batch that was finished only the lines are left, and only who wants it afresh misses the texts.
        if place.length > 0 || look.afresh {
            self.unwritten.insert(entry.seq, place);
        }
    }

    /// Lines without an answer are to be done again.
    pub(super) fn forget_unanswered(&mut self) {
        for (seq, kind) in std::mem::take(&mut self.unanswered) {
            self.counts[kind as usize] -= 1;
            self.unwritten.remove(&seq);
            if let Some(mark) = usize::try_from(seq).ok().and_then(|index| self.marks.get_mut(index)) {
                *mark = 0;
            }
        }
        // Whether the input has become shorter is asked of lines that are done.
        while self.marks.last() == Some(&0) {
            self.marks.pop();
        }
    }

    /// The journal of a batch that was finished: which lines were answered is known, and no longer how.
    pub fn is_without_texts(&self) -> bool {
        self.unwritten.values().any(|place| place.length == 0)
    }
}
