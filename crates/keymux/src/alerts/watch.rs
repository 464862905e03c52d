//! What no single event tells: that all keys of a provider are out, that requests are refused one after the other. And
//! which troubles of keys there are now, so that none is believed longer than it lasts.

use crate::errors::Kind as Refused;
use crate::happening::{Happening, Kind, account_name, key_name, provider_name};
use crate::live::Snapshot;
use keymux_config::Topic;
use keymux_policy::Troubles;
use keymux_policy::fleet::{KeyId, ProviderId};
use std::collections::{BTreeSet, VecDeque};

/// The troubles that [`standing`] knows of.
pub(super) const KINDS: [Kind; 5] =
    [Kind::KeyBenched, Kind::BreakerOpened, Kind::AccountBenched, Kind::ProviderOpened, Kind::AllKeysOut];

/// What checks alone find out.
pub(super) const CHECKED: [Kind; 3] = [Kind::KeyUnusable, Kind::KeyExpires, Kind::CreditLow];

/// Whom and what there can be trouble with: what the configuration has and is switched on, by the names that events have
/// for it. Whatever was told of anything else is over.
#[derive(Debug, Default)]
pub(super) struct There {
    pub(super) providers: BTreeSet<String>,
    pub(super) accounts: BTreeSet<String>,
    pub(super) keys: BTreeSet<String>,
    pub(super) hooks: BTreeSet<String>,
    /// Keys are checked.
    pub(super) checks: bool,
}

impl There {
    pub(super) fn new(snapshot: &Snapshot, in_use: &BTreeSet<KeyId>, checks: bool) -> Self {
        let all = snapshot.provider_ids.iter().zip(&snapshot.key_ids);
        let in_use_of = all.filter(|(_, keys)| keys.iter().any(|key| in_use.contains(key)));
        Self {
            providers: in_use_of.map(|(id, _)| provider_name(snapshot, *id)).collect(),
            // Which keys are an account's the provider may know better than the configuration.
            accounts: snapshot.account_names.values().cloned().collect(),
            keys: in_use.iter().map(|key| key_name(snapshot, *key)).collect(),
            hooks: snapshot.config.webhooks.iter().map(|hook| hook.name.to_string()).collect(),
            checks,
        }
    }

    /// Whether a condition can be this subject's.
    pub(super) fn has(&self, topic: Topic, subject: &str) -> bool {
        match topic {
            Topic::KeyOut | Topic::KeyExpiring | Topic::CreditLow => self.keys.contains(subject),
            // A key and a model.
            Topic::KeyDegraded => {
                let of =
                    |key: &String| subject.strip_prefix(&**key).is_some_and(|rest| rest.starts_with(' '));
                self.keys.iter().any(of)
            }
            Topic::CreditOut => self.accounts.contains(subject),
            Topic::AllKeysOut | Topic::ProviderDown => self.providers.contains(subject),
            Topic::Webhook => self.hooks.contains(subject),
            Topic::Budget | Topic::Refusing | Topic::Ledger | Topic::Reload => true,
        }
    }
}

/// Troubles as they are, by the names that events have for them: those of the configuration, though the scheduler may have
/// learned that a key's account is another.
pub(super) fn standing(troubles: &Troubles, snapshot: &Snapshot) -> BTreeSet<(Kind, String)> {
    // A reload may have removed a key just now.
    let key = |id: &KeyId| snapshot.key(*id).map(|_| key_name(snapshot, *id));
    let provider = |id: &ProviderId| provider_name(snapshot, *id);
    let mut stand = BTreeSet::new();
    stand.extend(troubles.providers.iter().map(|id| (Kind::ProviderOpened, provider(id))));
    stand.extend(troubles.without_key.iter().map(|id| (Kind::AllKeysOut, provider(id))));
    stand.extend(troubles.accounts.iter().map(|id| (Kind::AccountBenched, account_name(snapshot, *id))));
    stand.extend(troubles.keys.iter().filter_map(|id| Some((Kind::KeyBenched, key(id)?))));
    let models = troubles.models.iter();
    stand.extend(
        models.filter_map(|(id, model)| Some((Kind::BreakerOpened, format!("{} {model}", key(id)?)))),
    );
    stand
}

/// Providers without a usable key.
#[derive(Debug, Default)]
pub(super) struct Providers(BTreeSet<String>);

impl Providers {
    /// What changed since the last look.
    pub(super) fn look(&mut self, stand: &BTreeSet<(Kind, String)>) -> Vec<Happening> {
        let out = stand.iter().filter(|(kind, _)| *kind == Kind::AllKeysOut).map(|(_, name)| name.clone());
        let out: BTreeSet<String> = out.collect();
        let begun = out.difference(&self.0).map(|name| {
            let text = format!("all keys of a provider are out: {name}");
            Happening::new(Kind::AllKeysOut, name, text)
        });
        let over = self.0.difference(&out).map(|name| {
            Happening::new(Kind::SomeKeyBack, name, format!("a key of a provider is back: {name}"))
        });
        let told = begun.chain(over).collect();
        self.0 = out;
        told
    }
}

/// Refusals for want of room: here, or at the providers.
pub(super) const FOR_WANT_OF_ROOM: [Refused; 6] = [
    Refused::QuotaExhausted,
    Refused::RoomFull,
    Refused::AllOut,
    Refused::BodiesFull,
    Refused::TooManyConnections,
    Refused::LedgerUnavailable,
];

/// So many refusals within [`WITHIN_S`] need a person.
const MANY: u64 = 5;
const WITHIN_S: u64 = 10;
/// So long without one, and it is over.
const CALM_S: u64 = 60;

/// Whether requests are refused for want of room.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// Refusals so far.
    total: u64,
    /// When there were some, and how many.
    recent: VecDeque<(u64, u64)>,
    last_s: u64,
    refusing: bool,
}

impl Refusals {
    /// `total` refusals so far; looked at once a second or so.
    pub(super) fn look(&mut self, now_s: u64, total: u64) -> Option<Happening> {
        let new = total.saturating_sub(std::mem::replace(&mut self.total, total));
        if new > 0 {
            self.recent.push_back((now_s, new));
            self.last_s = now_s;
        }
        while self.recent.front().is_some_and(|(at, _)| at + WITHIN_S <= now_s) {
            self.recent.pop_front();
        }
        let many: u64 = self.recent.iter().map(|(_, n)| n).sum();
        let is = Happening::new;
        if !self.refusing && many >= MANY {
            self.refusing = true;
            let text = format!("requests are refused for want of room: {many} in the last {WITHIN_S} s");
            return Some(is(Kind::Refusing, "", text));
        }
        if self.refusing && now_s >= self.last_s + CALM_S {
            self.refusing = false;
            let text = format!("no request was refused for want of room for {CALM_S} s");
            return Some(is(Kind::RefusingNoMore, "", text));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_now_and_then_is_no_trouble_and_many_are_until_it_is_calm() {
        let mut refusals = Refusals::default();
        let mut said = Vec::new();
        let mut total = 0;
        for at_s in 0..400 {
            total += match at_s {
                0..100 => u64::from(at_s % 5 == 0),
                100..110 => 3,
                150 => 1,
                _ => 0,
            };
            said.extend(refusals.look(at_s, total).map(|told| (at_s, told.kind)));
        }
        assert_eq!(said, [(101, Kind::Refusing), (210, Kind::RefusingNoMore)]);
    }

    #[test]
    fn a_provider_is_told_of_when_its_last_key_goes_and_when_the_first_comes_back() {
        let mut providers = Providers::default();
        let out = |names: &[&str]| names.iter().map(|name| (Kind::AllKeysOut, (*name).to_owned())).collect();
        let kinds =
            |told: Vec<Happening>| told.iter().map(|t| (t.kind, t.subject.clone())).collect::<Vec<_>>();
        assert_eq!(kinds(providers.look(&out(&["a"]))), [(Kind::AllKeysOut, "a".to_owned())]);
        assert!(providers.look(&out(&["a"])).is_empty());
        let both = [(Kind::AllKeysOut, "b".to_owned()), (Kind::SomeKeyBack, "a".to_owned())];
        assert_eq!(kinds(providers.look(&out(&["b"]))), both);
    }
}
