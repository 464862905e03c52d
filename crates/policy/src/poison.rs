//! Requests that crash or hang whatever they meet. One that failed alike on two targets is its own fault; when the same
//! one is sent again, it is known, and counts against nobody. Not for ever, and only one after the other: a provider
//! that is down fails alike as well what many callers send at once, be it the same.

use crate::correlate::Way;
use crate::time::SECOND;
use std::collections::VecDeque;

/// So long after its last failure a request is known.
const KNOWN_NS: u64 = 10 * SECOND;
const KNOWN_MAX: usize = 64;
/// After so many times in a row it is no longer the request that is blamed.
const TIMES_MAX: u32 = 30;

#[derive(Clone, Copy, Debug)]
struct Poison {
    print: u64,
    provider_model: usize,
    way: Way,
    at: u64,
    times: u32,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Poisons(VecDeque<Poison>);

impl Poisons {
    /// A request failed alike on two targets, or is known to and failed again.
    pub(crate) fn note(&mut self, now: u64, print: u64, provider_model: usize, way: Way) {
        let is = |p: &Poison| p.print == print && p.provider_model == provider_model;
        let times = self.0.iter().find(|p| is(p)).map_or(0, |p| p.times) + 1;
        self.0.retain(|p| !is(p));
        if self.0.len() == KNOWN_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Poison { print, provider_model, way, at: now, times });
    }

    /// Whether it failed alike on two targets lately, before this one `arrived`.
    pub(crate) fn knows(&self, arrived: u64, print: u64, provider_model: usize, way: Way) -> bool {
        let same = |p: &Poison| p.print == print && p.provider_model == provider_model && p.way == way;
        self.0.iter().any(|p| same(p) && arrived > p.at && arrived - p.at <= KNOWN_NS && p.times <= TIMES_MAX)
    }

    /// It was answered after all.
    pub(crate) fn forget(&mut self, print: u64) {
        if !self.0.is_empty() {
            self.0.retain(|p| p.print != print);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_for_ten_seconds_for_the_same_model_and_way() {
        let mut p = Poisons::default();
        p.note(0, 7, 1, Way::Server);
        assert!(p.knows(10 * SECOND, 7, 1, Way::Server));
        assert!(!p.knows(10 * SECOND + 1, 7, 1, Way::Server));
        assert!(
            !p.knows(1, 8, 1, Way::Server) && !p.knows(1, 7, 2, Way::Server) && !p.knows(1, 7, 1, Way::Hang)
        );
        p.note(9 * SECOND, 7, 1, Way::Server);
        assert!(p.knows(15 * SECOND, 7, 1, Way::Server), "failed again: known again");
        assert!(!p.knows(8 * SECOND, 7, 1, Way::Server), "came at the same time: somebody else's");
        (0..40).for_each(|_| p.note(9 * SECOND, 7, 1, Way::Server));
        assert!(!p.knows(10 * SECOND, 7, 1, Way::Server), "so often: something else is wrong");
        p.forget(7);
        assert!(p.is_empty());
        (0..100).for_each(|print| p.note(0, print, 1, Way::Server));
        assert_eq!(p.0.len(), KNOWN_MAX);
    }
}
