//! What is kept over a restart: the levels and clocks of all limits, those that were learned included, and what is
//! shut until when. Plain data by name, on the wall clock, to be written down by whoever asks; taken in again, levels
//! have come back by as much as time has passed, so that a restart in the middle of overload draws no refusals.

use crate::Policy;
use crate::fleet::{AccountId, Dimension, ModelSet};
use crate::gate::{Gate, PROBE_EVERY_NS};
use crate::quota::window::Window;
use crate::quota::{Domain, History, Learner, Meter, Source};
use crate::sane::STATED_MAX_NS;
use crate::time::Now;

/// One limit, or a part of what was used of one: a window whose beginning nobody knows stands as several.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedLimit {
    /// The key's name, for a limit of one key alone.
    pub key: Option<Box<str>>,
    /// What is counted.
    pub dimension: Dimension,
    /// Over days.
    pub daily: bool,
    /// The models that share it (empty: all).
    pub models: Vec<Box<str>>,
    /// Nobody declared it.
    pub learned: bool,
    /// It is known from refusals alone.
    pub from_refusals: bool,
    /// How it stands.
    pub meter: SavedMeter,
    /// Nothing goes before this (Unix).
    pub shut_until_unix_ns: Option<u64>,
}

/// How a limit stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SavedMeter {
    /// A bucket.
    Bucket {
        /// Units when full.
        capacity: f64,
        /// Units that come back in a second.
        rate: f64,
        /// Units that are left; below zero where more was used than was known.
        level: f64,
    },
    /// A window.
    Window {
        /// Units in a period.
        limit: f64,
        /// Its length.
        period_ns: u64,
        /// Units used.
        used: f64,
        /// End of the running period (Unix); 0: not begun.
        end_unix_ns: u64,
        /// Its periods follow the clock.
        by_clock: bool,
    },
    /// So many at a time.
    Slots {
        /// How many.
        limit: u32,
    },
    /// Not known yet.
    Open,
}

/// An account with its limits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SavedAccount {
    /// The provider's name.
    pub provider: Box<str>,
    /// The account's name.
    pub account: Box<str>,
    /// Accounts of the configuration that were found to be this one, by their names.
    pub also: Vec<Box<str>>,
    /// A rate limit has shut the whole account until then (Unix).
    pub shut_until_unix_ns: Option<u64>,
    /// Its limits, its keys' included.
    pub limits: Vec<SavedLimit>,
}

/// All that is kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Saved {
    /// When (Unix).
    pub at_unix_ns: u64,
    /// Accounts that have anything to keep.
    pub accounts: Vec<SavedAccount>,
}

impl Policy {
    /// The levels and clocks of all limits, to be given to [`Policy::resume`] of the next process.
    pub fn save(&self, now: Now) -> Saved {
        let now = self.now.max_mono(now);
        let mut saved = Saved { at_unix_ns: now.unix_ns, accounts: Vec::new() };
        let mut joined = self.owners.joined_names();
        for (id, a) in self.pool.accounts.iter().filter(|(_, a)| a.present) {
            let of_models = a.models.iter().flat_map(|am| &self.pool.account_models[*am].domains);
            let mut domains: Vec<usize> = a.domains.iter().chain(of_models).copied().collect();
            domains.sort_unstable();
            domains.dedup();
            let domains = domains.iter().filter_map(|d| self.pool.domains.get(*d));
            let limits = domains.flat_map(|d| save_limit(d, None, now));
            let shut = shut_until(&a.quota, now);
            let account = SavedAccount {
                provider: Box::from(&*self.pool.provider(a.provider).name),
                account: Box::from(&*a.name),
                also: joined.remove(&AccountId(crate::route::to_u32(id))).unwrap_or_default(),
                shut_until_unix_ns: shut,
                limits: limits.collect(),
            };
            saved.accounts.push(account);
        }
        for (_, key) in self.pool.keys.iter().filter(|(_, k)| k.present && !k.domains.is_empty()) {
            let account = self.pool.account(key.account);
            let known = saved.accounts.iter_mut().find(|a| *a.account == *account.name);
            let Some(known) = known.filter(|a| *a.provider == *self.pool.provider(key.provider).name) else {
                continue;
            };
            let domains = key.domains.iter().filter_map(|d| self.pool.domains.get(*d));
            known.limits.extend(domains.flat_map(|d| save_limit(d, Some(&key.name), now)));
        }
        let says =
            |a: &SavedAccount| !a.limits.is_empty() || a.shut_until_unix_ns.is_some() || !a.also.is_empty();
        saved.accounts.retain(says);
        saved
    }

    /// Takes in what another process saved. Declared limits keep their sizes; learned ones come back with theirs.
    pub fn resume(&mut self, now: Now, saved: &Saved) {
        let now = self.tick(now);
        // A clock that was set back tells nothing of what has come back since.
        let gone_ns = now.unix_ns.saturating_sub(saved.at_unix_ns);
        self.join_again(now, saved);
        for account in &saved.accounts {
            let found = self.pool.accounts.iter().find(|(_, a)| {
                a.present
                    && *a.name == *account.account
                    && *self.pool.provider(a.provider).name == *account.provider
            });
            let Some((id, _)) = found else { continue };
            let id = AccountId(crate::route::to_u32(id));
            if let Some(until) = account.shut_until_unix_ns.filter(|until| *until > now.unix_ns) {
                let until = now.mono_ns.saturating_add((until - now.unix_ns).min(STATED_MAX_NS));
                self.pool.account_mut(id).quota.shut_until(now.mono_ns, until, crate::blame::Class::Quota);
            }
            for limit in &account.limits {
                self.resume_limit(now, id, limit, gone_ns);
            }
            self.pool.rematch_account(id);
        }
        self.room.touch();
    }

    /// Accounts that were found to be one before are so again, unless the configuration names them apart now.
    fn join_again(&mut self, now: Now, saved: &Saved) {
        for account in saved.accounts.iter().filter(|account| !account.also.is_empty()) {
            let find = |name: &str| self.owners.find(&account.provider, name);
            let Some(into) = find(&account.account) else { continue };
            let also: Vec<_> = account.also.iter().filter_map(|name| find(name)).collect();
            for from in also {
                self.owners.pair(from, into);
            }
        }
        self.regroup(now);
    }

    fn resume_limit(&mut self, now: Now, account: AccountId, limit: &SavedLimit, gone_ns: u64) {
        if let Some(name) = &limit.key {
            let key = self.pool.keys.iter().find(|(_, k)| k.account == account && *k.name == **name);
            let Some(domains) = key.map(|(_, k)| k.domains.clone()) else { return };
            self.resume_declared(now, &domains, limit, gone_ns);
            return;
        }
        if !limit.learned {
            let domains = self.pool.account(account).domains.clone();
            self.resume_declared(now, &domains, limit, gone_ns);
            return;
        }
        let Some(meter) = limit.meter.within_reason(now).map(|meter| meter.resumed(now, gone_ns)) else {
            return;
        };
        let (serial, models) = (self.pool.serial(), ModelSet(limit.models.clone()));
        let mut domain = Domain::new(account, limit.dimension, models, Source::Learned, meter, serial);
        domain.daily = limit.daily;
        let shut = limit.shut_until_unix_ns.filter(|until| *until > now.unix_ns);
        if limit.from_refusals {
            // A longer time would have shut the account's gate, which is probed.
            let until =
                shut.map(|until| now.mono_ns.saturating_add((until - now.unix_ns).min(PROBE_EVERY_NS)));
            let mut learner = Learner::new(History::default());
            learner.resume(now, limit.dimension, &domain.meter, until);
            domain.learner = Some(Box::new(learner));
        }
        let at = self.pool.domains.insert(domain);
        // A limit of one model is found by its name when the model is first asked for.
        self.pool.account_mut(account).domains.push(at);
    }

    fn resume_declared(&mut self, now: Now, domains: &[usize], limit: &SavedLimit, gone_ns: u64) {
        let Some(was) = limit.meter.within_reason(now).map(|was| was.resumed(now, gone_ns)) else { return };
        let same = domains.iter().find(|d| {
            let d = &self.pool.domains[**d];
            let alike = match (&d.meter, &was) {
                (Meter::Window(w), Meter::Window(was)) => w.period_ns == was.period_ns,
                (is, was) => std::mem::discriminant(is) == std::mem::discriminant(was),
            };
            alike && d.dimension == limit.dimension && d.models.0 == limit.models
        });
        let Some(at) = same else { return };
        let domain = &mut self.pool.domains[*at];
        match (&mut domain.meter, was) {
            (Meter::Bucket(b), Meter::Bucket(was)) => {
                let used = was.capacity - was.level(now.mono_ns);
                b.set_level(now.mono_ns, b.capacity - used);
            }
            (Meter::Window(w), Meter::Window(was)) => {
                if w.also_until(now, was.used(now), was.end(now)) {
                    return;
                }
                let (limit, anchored) = (w.limit, w.anchor());
                *w = was;
                w.limit = limit;
                w.far_away(crate::quota::WAY_NS);
                if let Some(anchor) = anchored {
                    w.anchored(now, anchor);
                }
            }
            _ => {}
        }
    }
}

fn shut_until(gate: &Gate, now: Now) -> Option<u64> {
    let shut = gate.is_shut(now.mono_ns);
    shut.then(|| now.unix_ns.saturating_add(gate.until().saturating_sub(now.mono_ns)))
}

fn save_limit(domain: &Domain, key: Option<&str>, now: Now) -> Vec<SavedLimit> {
    let unix = |mono: u64| now.unix_ns.saturating_add(mono.saturating_sub(now.mono_ns));
    let learned = domain.source == Source::Learned;
    let window = |w: &Window, (end, used): (Option<u64>, f64)| SavedMeter::Window {
        limit: w.limit,
        period_ns: w.period_ns,
        used,
        end_unix_ns: end.map_or(0, unix),
        by_clock: w.anchor().is_some(),
    };
    let meters = match &domain.meter {
        Meter::Bucket(b) => {
            vec![SavedMeter::Bucket { capacity: b.capacity, rate: b.rate, level: b.level(now.mono_ns) }]
        }
        // One that slides stands as several, one for each part of what was used.
        Meter::Window(w) => w.parts(now).into_iter().map(|part| window(w, part)).collect(),
        // Who held one is gone with the process.
        Meter::Slots { limit, .. } if learned => vec![SavedMeter::Slots { limit: *limit }],
        Meter::Slots { .. } => Vec::new(),
        Meter::Open => vec![SavedMeter::Open],
    };
    let limit = |meter| SavedLimit {
        key: key.map(Box::from),
        dimension: domain.dimension,
        daily: domain.daily,
        models: domain.models.0.clone(),
        learned,
        from_refusals: domain.learner.is_some(),
        meter,
        shut_until_unix_ns: domain.learner.as_ref().and_then(|l| l.shut_until(now.mono_ns)).map(unix),
    };
    meters.into_iter().map(limit).collect()
}

impl SavedMeter {
    /// As it stands by now.
    fn resumed(&self, now: Now, gone_ns: u64) -> Meter {
        use crate::quota::{bucket::Bucket, window::Window};
        match *self {
            Self::Bucket { capacity, rate, level } => {
                let mut b = Bucket::new(capacity, rate, now.mono_ns);
                b.set_level(now.mono_ns, level + rate * crate::time::s_of(gone_ns));
                Meter::Bucket(b)
            }
            Self::Window { limit, period_ns, used, end_unix_ns, by_clock } => {
                let mut w = Window::new(limit, period_ns, by_clock.then_some(end_unix_ns));
                if end_unix_ns > now.unix_ns {
                    w.resume(now, now.mono_ns.saturating_add(end_unix_ns - now.unix_ns), by_clock);
                    w.set_used(now, used);
                }
                Meter::Window(w)
            }
            Self::Slots { limit } => Meter::Slots { limit, used: 0 },
            Self::Open => Meter::Open,
        }
    }
}
