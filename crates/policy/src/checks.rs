//! What free calls find out about keys, beside all traffic. A check speaks of keys and money only: it benches a key that
//! its provider refuses and one whose spending cap is reached, and lifts what was held against a key that is taken again.
//!
//! Careful in one direction. A refusal counts only where another key of that provider was taken in the same round:
//! providers in trouble refuse everybody (`OpenRouter` did in February 2026), and with one key alone there is nobody to ask.
//! Traffic will tell. What a provider states of money (a cap that is used up, an empty balance) needs no witness; that a
//! key has expired or cannot call models does, as our clock or reading may be wrong. A key that a check brought back is
//! on trial: should requests be refused all the same, it rests twice as long, whatever checks say.
//!
//! Some providers have no call that speaks of the key, and are asked for their list of models instead. A key may be kept
//! from that list and answer all else: such a refusal benches once and never goes on with it, so that a live request
//! finds out, and counts for nothing once a request went well with the key's secret.

use crate::Policy;
use crate::blame::Class;
use crate::effect::{ACCOUNT, KEY, Rule, STATED_MIN_NS};
use crate::event::What;
use crate::fleet::{AccountId, Dimension, KeyId, ProviderId};
use crate::gate::Gate;
use crate::rng::Rng;
use crate::time::{Now, SECOND};
use std::collections::{BTreeMap, BTreeSet};

/// A bench that ends sooner than this is about to be probed.
const SOON_NS: u64 = 30 * SECOND;

/// What a check found out about one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The key.
    pub key: KeyId,
    /// When it was asked for (monotonic): what happened later is newer.
    pub sent_mono_ns: u64,
    /// How it is.
    pub says: Says,
    /// Its account's free models are used up for this long.
    pub free_models_out_ns: Option<u64>,
    /// It was asked for by the list of models, which does not speak of the key itself.
    pub by_list: bool,
}

/// How a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// Its provider takes it.
    Works {
        /// And says that its account has money.
        money: bool,
    },
    /// Its provider refuses it.
    Refused,
    /// What it may spend is used up, for this long where that is known.
    Capped {
        /// Until it is whole again.
        for_ns: Option<u64>,
    },
    /// Its account has no money.
    NoMoney {
        /// Stated as a fact, and not just by a refusal.
        stated: bool,
    },
    /// Nobody knows.
    Nothing,
}

impl Says {
    /// The provider lives, and tells keys apart.
    fn is_taken(self) -> bool {
        matches!(self, Self::Works { .. } | Self::Capped { .. } | Self::NoMoney { stated: true })
    }

    fn is_bad(self) -> bool {
        matches!(self, Self::Refused | Self::Capped { .. } | Self::NoMoney { .. })
    }
}

/// What became of a gate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moved {
    Shut(u64),
    Opened,
    No,
}

impl Policy {
    /// A round of checks has ended: what it found is held against keys and accounts, or lifted.
    pub fn checked(&mut self, now: Now, round: &[Found]) {
        let now = self.tick(now);
        let mut taken: BTreeMap<ProviderId, BTreeSet<AccountId>> = BTreeMap::new();
        for found in round.iter().filter(|found| found.says.is_taken()) {
            if let Some(key) = self.pool.keys.get(found.key.0 as usize) {
                taken.entry(key.provider).or_default().insert(key.account);
            }
        }
        for found in round {
            let key = self.pool.keys.get(found.key.0 as usize);
            // With the secret of before, it was another key.
            let Some(key) = key.filter(|k| k.present && found.sent_mono_ns >= k.secret.1) else { continue };
            let account = key.account;
            let (proven, stands) = (key.proven, key.bench.due().is_some());
            let account_stands = self.pool.account(account).bench.due().is_some();
            if found.by_list && found.says.is_bad() && (proven || stands || account_stands) {
                continue;
            }
            let witnesses = taken.get(&self.pool.key(found.key).provider);
            let believed = match found.says {
                // One that stands is only gone on with.
                Says::Refused => witnesses.is_some() || stands,
                Says::NoMoney { stated: false } => {
                    witnesses.is_some_and(|accounts| accounts.iter().any(|other| *other != account))
                        || account_stands
                }
                _ => true,
            };
            if believed && !(found.says.is_bad() && self.answered_since(found)) {
                self.take_in(now, found, account);
            }
        }
    }

    /// Keys that are benched and will be probed by live requests before so much time has passed, unless a check spares
    /// them that.
    pub fn due_for_check(&self, now: Now, within_ns: u64) -> Vec<KeyId> {
        let before = self.now.max_mono(now).mono_ns.saturating_add(within_ns);
        let keys = self.pool.keys.iter().filter(|(_, k)| k.present && k.enabled);
        keys.filter(|(_, k)| k.bench.due().is_some_and(|due| due <= before))
            .map(|(id, _)| KeyId(crate::route::to_u32(id)))
            .collect()
    }

    /// Whether a request that the key answered shows that it worked after it was asked for.
    fn answered_since(&self, found: &Found) -> bool {
        let targets = &self.pool.key(found.key).targets;
        targets.iter().any(|t| self.pool.targets[*t].ok_at.is_some_and(|at| at > found.sent_mono_ns))
    }

    fn take_in(&mut self, now: Now, found: &Found, account: AccountId) {
        let (key, sent) = (found.key, found.sent_mono_ns);
        let bench = &mut self.pool.keys[key.0 as usize].bench;
        let moved = match found.says {
            Says::Works { .. } => lift(bench, (now, sent)),
            Says::Refused => hold(bench, (now, sent), None, &KEY, &mut self.rng),
            Says::Capped { for_ns } => hold(bench, (now, sent), for_ns, &KEY, &mut self.rng),
            Says::NoMoney { .. } | Says::Nothing => Moved::No,
        };
        match moved {
            Moved::Shut(until_mono_ns) => {
                self.events.push(now, What::KeyBenched { key, why: Class::Key, until_mono_ns });
            }
            Moved::Opened => {
                self.events.push(now, What::KeyRestored { key });
                self.release(account, Some(key));
            }
            Moved::No => {}
        }
        let bench = &mut self.pool.accounts[account.0 as usize].bench;
        let moved = match found.says {
            Says::Works { money: true } => lift(bench, (now, sent)),
            Says::NoMoney { .. } => hold(bench, (now, sent), None, &ACCOUNT, &mut self.rng),
            _ => Moved::No,
        };
        match moved {
            Moved::Shut(until_mono_ns) => {
                self.events.push(now, What::AccountBenched { account, why: Class::Account, until_mono_ns });
            }
            Moved::Opened => {
                self.events.push(now, What::AccountRestored { account });
                self.release(account, None);
            }
            Moved::No => {}
        }
        if let Some(out_ns) = found.free_models_out_ns.filter(|ns| *ns > 0) {
            self.free_models_out(now, account, now.mono_ns.saturating_add(out_ns));
        }
    }

    fn free_models_out(&mut self, now: Now, account: AccountId, until_mono_ns: u64) {
        let free = &mut self.pool.accounts[account.0 as usize].free;
        let was = free.is_shut(now.mono_ns);
        if free.shut_until(now.mono_ns, until_mono_ns, Class::Quota) && !was {
            let dimension = Some(Dimension::Requests);
            self.events.push(now, What::QuotaShut { account, model: None, dimension, until_mono_ns });
        }
    }
}

/// Lifts a bench, unless it is younger than what was found or a live request is trying it out. Where requests were
/// refused by a key that checks had brought back, what is wrong is nothing that they see: then not before its time.
fn lift(bench: &mut Gate, (now, sent): (Now, u64)) -> Moved {
    let Some(due) = bench.due() else { return Moved::No };
    let early = bench.has_relapsed() && due > now.mono_ns.saturating_add(SOON_NS);
    if early || bench.since() > sent || bench.is_probed() {
        return Moved::No;
    }
    if bench.open_by_check() { Moved::Opened } else { Moved::No }
}

/// Benches, or goes on benching what is about to be probed: the check was the probe.
fn hold(
    bench: &mut Gate,
    (now, sent): (Now, u64),
    stated_ns: Option<u64>,
    rule: &Rule,
    rng: &mut Rng,
) -> Moved {
    let mono = now.mono_ns;
    let shut = bench.is_shut(mono);
    if shut && (bench.since() > sent || bench.is_probed()) {
        return Moved::No;
    }
    let stated = stated_ns.map(|ns| mono.saturating_add(ns.max(STATED_MIN_NS)));
    if shut && stated.is_none() && bench.due().is_some_and(|due| due > mono.saturating_add(SOON_NS)) {
        return Moved::No;
    }
    let until =
        stated.unwrap_or_else(|| mono.saturating_add(bench.strike(rule.cooldown.0, rule.cooldown.1, rng)));
    if shut {
        bench.probe_failed(mono, until);
    } else {
        bench.end_trial();
        bench.shut_for_probe(mono, until, rule.class);
    }
    if stated.is_some() {
        bench.probe_again(mono);
    }
    if shut { Moved::No } else { Moved::Shut(bench.until()) }
}
