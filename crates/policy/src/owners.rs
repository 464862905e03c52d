//! Which accounts are one. A person who does not say which keys belong together leaves each with an account of its own,
//! and a provider that limits their common owner would be asked for as many times its quota. Providers tell: by headers of
//! every answer, or when a key is asked about itself. What a person has named apart stays apart, whatever is told.
//!
//! Knows the configuration and what was told; what it makes of both is another configuration, which is taken like one
//! that a person wrote.

use crate::Policy;
use crate::event::What;
use crate::fleet::{AccountId, Fleet, KeyId, LimitSpec, Shape};
use crate::time::{MS, Now};
use std::collections::{BTreeMap, BTreeSet};

/// A key whose owner changes more often than its secret ever will speaks for whoever is behind a gateway.
const CHANGES_MAX: u8 = 3;
/// A fleet is not laid out anew more often than this for each of its keys: that takes a microsecond or two.
const PAUSE_NS: u64 = MS / 10;

/// What one key's answers say of its owner.
#[derive(Clone, Copy, Debug)]
struct Told {
    owner: u64,
    changes: u8,
}

impl Told {
    fn owner(self) -> Option<u64> {
        (self.changes < CHANGES_MAX).then_some(self.owner)
    }
}

/// The configuration as it was given, and what was found out about who owns what.
#[derive(Clone, Debug, Default)]
pub(crate) struct Owners {
    given: Fleet,
    told: BTreeMap<KeyId, Told>,
    /// Owners that some key has told.
    heard: BTreeSet<u64>,
    pairs: BTreeSet<(AccountId, AccountId)>,
    /// Those that have become another.
    joined: BTreeMap<AccountId, AccountId>,
    /// Something was told that may change which are one.
    news: bool,
    not_before: u64,
}

impl Policy {
    /// A key is found to belong to an owner: who is named alike at the same provider owns all these keys, and they share
    /// his limits. `owner` is a digest of the name.
    pub fn owned_by(&mut self, now: Now, key: KeyId, owner: u64) {
        let now = self.tick(now);
        self.owners.tell(key, owner);
        self.regroup(now);
    }

    /// Two accounts of the configuration are found to be one: all their keys share one set of limits from now on, the
    /// lower level of each. Two that a person has named, or of different providers, stay apart.
    pub fn same_account(&mut self, now: Now, a: AccountId, b: AccountId) {
        let now = self.tick(now);
        self.owners.pair(a, b);
        self.regroup(now);
    }

    /// The account that this one has become, if it has.
    pub(crate) fn home(&self, account: AccountId) -> AccountId {
        self.owners.joined.get(&account).copied().unwrap_or(account)
    }

    /// Acts on what was told, if it was news, unless that was done just before: then the next that is told brings it along.
    pub(crate) fn regroup(&mut self, now: Now) {
        let owners = &mut self.owners;
        if !owners.news || now.mono_ns < owners.not_before {
            return;
        }
        owners.news = false;
        owners.not_before = now.mono_ns.saturating_add(PAUSE_NS * owners.given.keys.len() as u64);
        let joined = owners.find_joined();
        let before = std::mem::replace(&mut owners.joined, joined);
        if before == owners.joined {
            return;
        }
        self.settle_in(now, false);
        let joined = self.owners.joined.iter().filter(|(from, into)| before.get(from) != Some(into));
        let events: Vec<_> = joined.map(|(from, into)| (*from, *into)).collect();
        for (account, into) in events {
            self.events.push(now, What::AccountJoined { account, into });
        }
        self.room.touch();
    }
}

impl Owners {
    /// Another configuration. What was told of its keys and accounts still holds: ids stay with their names.
    pub(crate) fn give(&mut self, fleet: Fleet) {
        self.given = fleet;
        let known: BTreeSet<KeyId> = self.given.keys.iter().map(|key| key.id).collect();
        self.told.retain(|key, _| known.contains(key));
        self.heard = self.told.values().map(|told| told.owner).collect();
        self.joined = self.find_joined();
    }

    fn tell(&mut self, key: KeyId, owner: u64) {
        let changes = match self.told.get(&key) {
            Some(told) if told.owner == owner || told.changes == CHANGES_MAX => return,
            Some(told) => told.changes + 1,
            None => 0,
        };
        self.told.insert(key, Told { owner, changes });
        // The first of its owner says nothing of others.
        self.news |= !self.heard.insert(owner) || changes > 0;
    }

    pub(crate) fn pair(&mut self, a: AccountId, b: AccountId) {
        self.news |= a != b && self.pairs.insert((a.min(b), a.max(b)));
    }

    /// Accounts that have become another, each with the one that it is now.
    fn find_joined(&self) -> BTreeMap<AccountId, AccountId> {
        let mut groups = Groups::of(&self.given);
        let mut owned: BTreeMap<(u32, u64), AccountId> = BTreeMap::new();
        let mut owners: BTreeMap<AccountId, BTreeSet<u64>> = BTreeMap::new();
        for key in &self.given.keys {
            let Some(owner) = self.told.get(&key.id).and_then(|told| told.owner()) else { continue };
            owners.entry(key.account).or_default().insert(owner);
            let first = *owned.entry((key.provider.0, owner)).or_insert(key.account);
            groups.join(first, key.account);
        }
        for (a, b) in &self.pairs {
            // What their answers say now is truer than what was found out once.
            let differ = owners.get(a).zip(owners.get(b)).is_some_and(|(a, b)| a.is_disjoint(b));
            if !differ {
                groups.join(*a, *b);
            }
        }
        let accounts = self.given.accounts.iter().map(|account| account.id);
        accounts.map(|id| (id, groups.root(id))).filter(|(id, root)| id != root).collect()
    }

    /// The names of those that have become another, by that one.
    pub(crate) fn joined_names(&self) -> BTreeMap<AccountId, Vec<Box<str>>> {
        let mut names: BTreeMap<AccountId, Vec<Box<str>>> = BTreeMap::new();
        for account in &self.given.accounts {
            if let Some(into) = self.joined.get(&account.id) {
                names.entry(*into).or_default().push(Box::from(&*account.name));
            }
        }
        names
    }

    /// The account of these names, as the configuration has it.
    pub(crate) fn find(&self, provider: &str, name: &str) -> Option<AccountId> {
        let provider = self.given.providers.iter().find(|p| *p.name == *provider)?.id;
        let same = self.given.accounts.iter().find(|a| a.provider == provider && *a.name == *name);
        same.map(|account| account.id)
    }

    /// The configuration with all that belongs together in one account.
    pub(crate) fn fleet(&self) -> Fleet {
        let mut fleet = self.given.clone();
        if self.joined.is_empty() {
            return fleet;
        }
        let mut brought: BTreeMap<AccountId, Vec<LimitSpec>> = BTreeMap::new();
        fleet.accounts.retain_mut(|account| match self.joined.get(&account.id) {
            Some(into) => {
                brought.entry(*into).or_default().append(&mut account.limits);
                false
            }
            None => true,
        });
        for account in &mut fleet.accounts {
            for limit in brought.remove(&account.id).unwrap_or_default() {
                bring(&mut account.limits, limit);
            }
        }
        for key in &mut fleet.keys {
            key.account = self.joined.get(&key.account).copied().unwrap_or(key.account);
        }
        fleet
    }
}

/// A limit that was declared for both is the lower one, never their sum.
fn bring(limits: &mut Vec<LimitSpec>, limit: LimitSpec) {
    let alike = |other: &&mut LimitSpec| {
        other.dimension == limit.dimension
            && other.models == limit.models
            && other.preset == limit.preset
            && period(&other.shape) == period(&limit.shape)
    };
    match limits.iter_mut().find(alike) {
        Some(known) if size(&limit.shape) < size(&known.shape) => known.shape = limit.shape,
        Some(_) => {}
        None => limits.push(limit),
    }
}

/// How a limit comes back; shapes that differ in this are two limits.
fn period(shape: &Shape) -> (u8, u64) {
    match shape {
        Shape::Bucket { .. } => (0, 0),
        Shape::Window { period_ns, .. } => (1, *period_ns),
        Shape::Day { .. } => (2, 0),
        Shape::Slots { .. } => (3, 0),
    }
}

fn size(shape: &Shape) -> f64 {
    match shape {
        Shape::Bucket { refill_per_s, .. } => *refill_per_s,
        Shape::Window { limit, .. } | Shape::Day { limit, .. } => *limit,
        Shape::Slots { limit } => f64::from(*limit),
    }
}

/// Accounts that are joined step by step: a forest in which every root has at most one name that a person gave.
struct Groups {
    of: BTreeMap<AccountId, Node>,
}

#[derive(Clone, Copy)]
struct Node {
    parent: AccountId,
    provider: u32,
    named: bool,
}

impl Groups {
    fn of(fleet: &Fleet) -> Self {
        let node = |account: &crate::fleet::AccountSpec| Node {
            parent: account.id,
            provider: account.provider.0,
            named: account.named,
        };
        Self { of: fleet.accounts.iter().map(|account| (account.id, node(account))).collect() }
    }

    fn root(&mut self, account: AccountId) -> AccountId {
        let mut at = account;
        while let Some(node) = self.of.get(&at).copied().filter(|node| node.parent != at) {
            // Halve the way for who comes next.
            let above = self.of.get(&node.parent).map_or(node.parent, |parent| parent.parent);
            self.of.insert(at, Node { parent: above, ..node });
            at = above;
        }
        at
    }

    fn join(&mut self, a: AccountId, b: AccountId) {
        let (a, b) = (self.root(a), self.root(b));
        let (Some(one), Some(other)) = (self.of.get(&a).copied(), self.of.get(&b).copied()) else { return };
        if a == b || one.provider != other.provider || one.named && other.named {
            return;
        }
        let into = match (one.named, other.named) {
            (true, _) => a,
            (_, true) => b,
            _ => a.min(b),
        };
        for (at, node) in [(a, one), (b, other)] {
            self.of.insert(at, Node { parent: into, ..node });
        }
    }
}
