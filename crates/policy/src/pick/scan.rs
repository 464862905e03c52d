//! The words of choosing: what a request brings, and what a look at its candidates brought.

use crate::ask::Ask;
use crate::fleet::{AccountId, KeyId};
use crate::lease::{Skipped, Why};
use crate::quota::{Need, Order};
use crate::time::Now;

/// Where a request stands among those that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// It comes new: it may go if there is room, and else stands behind all that wait.
    New,
    /// Others stand in front: it may not go now, only be told when.
    Behind,
    /// So they do, but its class has had less than it keeps, and goes at that rate at least.
    Kept,
    /// It is first in its lane, or has been let out before: nobody stands in front.
    Front,
}

impl Line {
    /// It may not go now.
    pub(crate) fn waits(self) -> bool {
        matches!(self, Self::Behind | Self::Kept)
    }
}

/// What a request brings to choosing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query<'a> {
    pub(crate) now: Now,
    pub(crate) ask: &'a Ask,
    pub(crate) id: u64,
    pub(crate) order: Order,
    pub(crate) first_attempt: bool,
    pub(crate) tried: &'a [usize],
    pub(crate) barred: &'a [AccountId],
    pub(crate) barred_models: &'a [usize],
    pub(crate) avoid: Option<AccountId>,
    pub(crate) affine: Option<(KeyId, AccountId)>,
    /// Only this target (one more try on the same key).
    pub(crate) only: Option<usize>,
    pub(crate) line: Line,
    /// The share of what waits, and of what was promised, that goes before.
    pub(crate) ahead: (f64, f64),
}

/// The chosen target and where it stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Best {
    pub(crate) tier: usize,
    pub(crate) member: usize,
    pub(crate) slot: usize,
    pub(crate) target: usize,
    pub(crate) need: Need,
    /// Something in its way wants a probe.
    pub(crate) probe: bool,
}

/// The blocked candidate that will be ready first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    /// When it will go, behind those that wait already.
    pub(crate) forecast: u64,
    /// Before this it cannot go by any means (`forecast` may hope for slots that come back earlier).
    pub(crate) earliest: u64,
    pub(crate) why: Why,
    pub(crate) domain: Option<usize>,
    pub(crate) target: Option<usize>,
    pub(crate) account: Option<AccountId>,
    pub(crate) need: Need,
}

/// What a look at the candidates brought.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub(crate) best: Option<Best>,
    pub(crate) skipped: Vec<Skipped>,
    pub(crate) wait: Option<Wait>,
    /// When something may have changed by time alone; `u64::MAX`: only when something comes back.
    pub(crate) try_at: u64,
    /// The largest limit that the request exceeds, with what it would take there.
    pub(crate) too_large: Option<(usize, f64)>,
    /// A limit that will not come back by itself.
    pub(crate) never: Option<usize>,
    pub(crate) members: usize,
    pub(crate) allowed: usize,
    pub(crate) served: usize,
    pub(crate) bound: usize,
    pub(crate) tried: usize,
}
