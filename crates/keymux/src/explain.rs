//! Why each recent request went where it went: its attempts, what was passed over and until when, how long it waited.
//! A ring that forgets the oldest, and those that went well before those that did not; it knows names, counts and
//! times, never a body.

use keymux_policy::blame::Class;
use keymux_policy::lease::Skipped;
use keymux_policy::{Now, Sign};
use keymux_store::Record;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Requests that are remembered, whatever came of them.
const REQUESTS_MAX: usize = 1000;
/// Older ones that are remembered because something went wrong with them: at a thousand requests a second, the others
/// are gone after one.
const TROUBLED_MAX: usize = 500;

/// One request that is over.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// What every ledger would hold of it.
    pub record: Record,
    /// When it arrived.
    pub at: Now,
    /// It asked for a stream.
    pub stream: bool,
    /// Its attempts, in their order.
    pub steps: Vec<Step>,
    /// What keymux itself answered, where no provider's answer went out: a machine's word and a sentence.
    pub refusal: Option<(&'static str, String)>,
}

/// One attempt.
#[derive(Clone, Debug)]
pub struct Step {
    /// Where it went.
    pub provider: Arc<str>,
    /// With which key.
    pub key: Arc<str>,
    /// The provider's name of the model.
    pub model: Arc<str>,
    /// When it began, after the request's arrival.
    pub begun_ns: u64,
    /// When it ended, after the request's arrival; not before its answer was passed on whole.
    pub ended_ns: Option<u64>,
    /// Time that the request had spent in the waiting room until then.
    pub waited_ns: u64,
    /// It probed a key or provider that was out.
    pub probe: bool,
    /// What was passed over for it.
    pub skipped: Vec<Skipped>,
    /// Whose fault it was, if it failed.
    pub blame: Option<Class>,
    /// What was seen of the failure.
    pub sign: Option<Sign>,
    /// The status of a failure that had one.
    pub status: Option<u16>,
    /// The failure in words.
    pub detail: Option<String>,
}

/// The last requests.
#[derive(Default)]
pub struct Recent {
    rings: Mutex<Rings>,
}

#[derive(Default)]
struct Rings {
    newest: VecDeque<Box<Told>>,
    troubled: VecDeque<Box<Told>>,
}

impl Told {
    /// Whether an operator may want to know why: it was not answered, or not by its first attempt.
    pub fn is_troubled(&self) -> bool {
        self.record.outcome != "answered" || self.steps.iter().any(|step| step.blame.is_some())
    }
}

impl Recent {
    /// One more. The one that is forgotten for it comes back in its place, so that the caller gives back its memory,
    /// outside of the lock.
    pub fn push(&self, told: &mut Box<Told>) {
        let mut rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        let full = rings.newest.len() == REQUESTS_MAX;
        let mut oldest = if full { rings.newest.pop_front() } else { None };
        if let Some(troubled) = oldest.take_if(|old| old.is_troubled()) {
            oldest = if rings.troubled.len() == TROUBLED_MAX { rings.troubled.pop_front() } else { None };
            rings.troubled.push_back(troubled);
        }
        rings.newest.push_back(std::mem::replace(told, oldest.unwrap_or_default()));
    }

    /// What `seen` makes of the requests, newest first, until it has made `most`.
    pub fn newest<T>(&self, most: usize, seen: impl FnMut(&Told) -> Option<T>) -> Vec<T> {
        let rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        // All that are only there because of their trouble are older than all others.
        let all = rings.newest.iter().rev().chain(rings.troubled.iter().rev());
        all.map(|told| &**told).filter_map(seen).take(most).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(n: u64, outcome: &'static str) -> Box<Told> {
        let mut told = Box::new(Told { at: Now { mono_ns: n, unix_ns: n }, ..Told::default() });
        told.record.outcome = outcome.into();
        told
    }

    #[test]
    fn what_went_wrong_is_remembered_longer_and_not_for_ever() {
        let recent = Recent::default();
        let troubled = TROUBLED_MAX as u64 + 3;
        (0..troubled).for_each(|n| recent.push(&mut told(n, "refused")));
        (troubled..troubled + REQUESTS_MAX as u64).for_each(|n| recent.push(&mut told(n, "answered")));
        let all = recent.newest(usize::MAX, |told| Some(told.at.unix_ns));
        assert_eq!(all.len(), REQUESTS_MAX + TROUBLED_MAX);
        assert!(all.is_sorted_by(|a, b| a > b), "newest first");
        assert_eq!(all.last(), Some(&3));
        (0..REQUESTS_MAX as u64).for_each(|n| recent.push(&mut told(9_000 + n, "answered")));
        let refused = recent.newest(usize::MAX, |told| (told.record.outcome == "refused").then_some(()));
        assert_eq!(refused.len(), TROUBLED_MAX, "those that went well push out their like only");
    }

    #[test]
    fn the_oldest_is_forgotten_first() {
        let recent = Recent::default();
        for n in 0..REQUESTS_MAX as u64 + 2 {
            let mut told = told(n, "answered");
            recent.push(&mut told);
            assert_eq!(
                told.at.unix_ns,
                n.saturating_sub(REQUESTS_MAX as u64),
                "what is forgotten comes back"
            );
        }
        let all = recent.newest(usize::MAX, |told| Some(told.at.unix_ns));
        assert_eq!((all.len(), all[0], all[all.len() - 1]), (REQUESTS_MAX, REQUESTS_MAX as u64 + 1, 2));
        assert_eq!(recent.newest(1, |told| (told.at.unix_ns % 2 == 0).then_some(told.at.unix_ns)), [1000]);
    }
}
