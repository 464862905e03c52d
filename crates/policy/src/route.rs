//! What a request may choose from: tiers of members, each a model at a provider over keys grouped by account. Keys of
//! one account share its limits, so what is shut for one is shut for all: they are looked at as one group.
//!
//! Cost must not grow with the number of keys. Where there are many, `Openings` keeps those that are not known to be
//! blocked in a dense array (for random draws) and the others in a heap by the instant at which they are ready.

use crate::fleet::{AccountId, KeyId, ProviderId, RouteId, Strategy};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// Keys grouped by account; both sorted by id.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layout {
    pub(crate) groups: Vec<Span>,
    pub(crate) keys: Vec<KeyId>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) account: AccountId,
    pub(crate) start: usize,
    pub(crate) len: usize,
}

impl Layout {
    pub(crate) fn of(mut keys: Vec<(AccountId, KeyId)>) -> Self {
        keys.sort_unstable();
        keys.dedup();
        let mut layout = Self::default();
        for (account, key) in keys {
            match layout.groups.last_mut() {
                Some(span) if span.account == account => span.len += 1,
                _ => layout.groups.push(Span { account, start: layout.keys.len(), len: 1 }),
            }
            layout.keys.push(key);
        }
        layout
    }

    pub(crate) fn group_of(&self, account: AccountId) -> Option<usize> {
        self.groups.binary_search_by_key(&account, |g| g.account).ok()
    }

    /// The place of a key inside a group.
    pub(crate) fn slot_of(&self, group: usize, key: KeyId) -> Option<usize> {
        let span = self.groups[group];
        self.keys[span.start..span.start + span.len].binary_search(&key).ok().map(|i| span.start + i)
    }
}

pub(crate) const UNKNOWN: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    /// Index of the target, once looked at.
    pub(crate) target: u32,
    /// Stride scheduling: the virtual time of its next turn.
    pub(crate) pass: f64,
}

#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) provider: ProviderId,
    pub(crate) model: usize,
    pub(crate) provider_model: usize,
    pub(crate) weight: f64,
    pub(crate) layout: Arc<Layout>,
    /// Index of account x model of each group, once looked at.
    pub(crate) account_models: Vec<u32>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) groups_open: Option<Openings>,
    pub(crate) keys_open: Vec<(usize, Openings)>,
}

impl Member {
    pub(crate) fn new(
        provider: ProviderId,
        model: usize,
        provider_model: usize,
        weight: f64,
        layout: Arc<Layout>,
    ) -> Self {
        let slots = vec![Slot { target: UNKNOWN, pass: 0.0 }; layout.keys.len()];
        let account_models = vec![UNKNOWN; layout.groups.len()];
        Self {
            provider,
            model,
            provider_model,
            weight,
            layout,
            account_models,
            slots,
            groups_open: None,
            keys_open: Vec::new(),
        }
    }

    pub(crate) fn groups_open(&mut self) -> &mut Openings {
        let n = self.layout.groups.len();
        self.groups_open.get_or_insert_with(|| Openings::new(n))
    }

    pub(crate) fn keys_open(&mut self, group: usize) -> &mut Openings {
        let at = match self.keys_open.binary_search_by_key(&group, |(g, _)| *g) {
            Ok(at) => at,
            Err(at) => {
                self.keys_open.insert(at, (group, Openings::new(self.layout.groups[group].len)));
                at
            }
        };
        &mut self.keys_open[at].1
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Tier {
    pub(crate) members: Vec<Member>,
    pub(crate) slots: usize,
    /// Virtual time of the stride scheduling: who comes new, or back, starts here.
    pub(crate) turn: f64,
}

#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) name: Arc<str>,
    pub(crate) named: Option<RouteId>,
    pub(crate) strategy: Strategy,
    pub(crate) tiers: Vec<Tier>,
    pub(crate) used_at: u64,
    /// Requests in flight and waiting: while there are any, the route stays.
    pub(crate) busy: usize,
    pub(crate) waiting: usize,
    /// Routes of one pool compete for the same limits: their clients take turns with each other.
    pub(crate) pool: usize,
    /// The markets that it is in, by their number in [`crate::routes::Markets`].
    pub(crate) among: usize,
    /// Tells a route from its predecessor at the same index.
    pub(crate) serial: u64,
}

/// Where a blocked group (or one key of it) is to be opened again when what blocks it is released early.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Park {
    pub(crate) route: usize,
    pub(crate) serial: u64,
    pub(crate) tier: usize,
    pub(crate) member: usize,
    pub(crate) group: usize,
    pub(crate) slot: Option<usize>,
}

impl Route {
    pub(crate) fn unpark(&mut self, park: &Park) {
        let Some(member) = self.tiers.get_mut(park.tier).and_then(|t| t.members.get_mut(park.member)) else {
            return;
        };
        match park.slot {
            None => {
                if let Some(open) = &mut member.groups_open {
                    open.reopen(park.group);
                }
            }
            Some(slot) => {
                let start = member.layout.groups[park.group].start;
                member.keys_open(park.group).reopen(slot - start);
            }
        }
    }
}

/// The open ones of `n` items, and when the others are ready.
#[derive(Clone, Debug)]
pub(crate) struct Openings {
    open: Vec<u32>,
    /// Place in `open`, or `UNKNOWN` while blocked.
    place: Vec<u32>,
    ready: Vec<u64>,
    blocked: BinaryHeap<Reverse<(u64, u32)>>,
}

impl Openings {
    pub(crate) fn new(n: usize) -> Self {
        let all: Vec<u32> = (0..n).map(to_u32).collect();
        Self { place: all.clone(), open: all, ready: Vec::new(), blocked: BinaryHeap::new() }
    }

    pub(crate) fn open(&self) -> &[u32] {
        &self.open
    }

    /// Some of the blocked ones, roughly the earliest.
    pub(crate) fn blocked(&self) -> impl Iterator<Item = usize> + '_ {
        self.blocked.iter().map(|Reverse((_, item))| *item as usize).filter(|i| self.place[*i] == UNKNOWN)
    }

    pub(crate) fn park(&mut self, item: usize, until: u64) {
        let at = self.place[item];
        if at == UNKNOWN {
            return;
        }
        self.place[item] = UNKNOWN;
        self.open.swap_remove(at as usize);
        if let Some(moved) = self.open.get(at as usize) {
            self.place[*moved as usize] = at;
        }
        if self.ready.is_empty() {
            self.ready = vec![0; self.place.len()];
        }
        self.ready[item] = until;
        self.blocked.push(Reverse((until, to_u32(item))));
        // Items that were opened early leave stale entries behind: sweep before they outnumber the items.
        if self.blocked.len() > 2 * self.place.len() + 64 {
            let blocked = (0..self.place.len()).filter(|i| self.place[*i] == UNKNOWN);
            self.blocked = blocked.map(|i| Reverse((self.ready[i], to_u32(i)))).collect();
        }
    }

    pub(crate) fn reopen(&mut self, item: usize) {
        if self.place[item] == UNKNOWN {
            self.place[item] = to_u32(self.open.len());
            self.open.push(to_u32(item));
        }
    }

    /// Opens one item whose time has come, if any.
    pub(crate) fn due(&mut self, now: u64) -> Option<usize> {
        while let Some(Reverse((at, item))) = self.blocked.peek().copied() {
            if at > now {
                return None;
            }
            self.blocked.pop();
            let item = item as usize;
            if self.place[item] == UNKNOWN && self.ready[item] <= now {
                self.reopen(item);
                return Some(item);
            }
        }
        None
    }
}

pub(crate) fn to_u32(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_grouped_by_account() {
        let l = Layout::of(vec![
            (AccountId(2), KeyId(1)),
            (AccountId(1), KeyId(7)),
            (AccountId(2), KeyId(0)),
            (AccountId(2), KeyId(0)),
        ]);
        assert_eq!(l.keys, [KeyId(7), KeyId(0), KeyId(1)]);
        assert_eq!(l.group_of(AccountId(2)), Some(1));
        assert_eq!(l.slot_of(1, KeyId(1)), Some(2));
        assert_eq!(l.group_of(AccountId(3)), None);
    }

    #[test]
    fn parked_items_come_back_when_due_or_released() {
        let mut o = Openings::new(5);
        o.park(1, 100);
        o.park(3, 50);
        o.park(3, 10);
        assert_eq!(o.open().len(), 3);
        assert_eq!(o.due(49), None);
        assert_eq!(o.due(50), Some(3));
        o.reopen(1);
        assert_eq!(o.open().len(), 5);
        assert_eq!(o.due(1_000), None, "released early: its entry is stale");
        for round in 0..1_000 {
            o.park(2, 1_000_000 + round);
            o.reopen(2);
        }
        assert!(o.blocked.len() < 100, "stale entries are swept");
        let mut seen: Vec<u32> = o.open().to_vec();
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2, 3, 4]);
    }
}
