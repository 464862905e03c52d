//! What stands now, whoever is told of it: a webhook that comes later is told of it too.

use super::conditions::Conditions;
use super::watch::{CHECKED, KINDS, There};
use crate::happening::{Effect, Happening, Kind};
use keymux_config::{Topic, Webhook};
use keymux_policy::Now;
use std::collections::{BTreeMap, BTreeSet};

/// Conditions that are remembered.
const STANDING_MAX: usize = 1_000;

/// Conditions that have begun and are not over.
#[derive(Debug, Default)]
pub(super) struct Register {
    standing: BTreeMap<(Topic, String), (Happening, Now)>,
}

impl Register {
    /// Something happened.
    pub(super) fn happens(&mut self, now: Now, happening: &Happening) {
        match happening.kind.row().effect {
            Effect::Opens(topic) => {
                let id = (topic, happening.subject.clone());
                if let Some((known, _)) = self.standing.get_mut(&id) {
                    // What the state of keys tells the end of stays so, whoever else finds it out.
                    let kind = if KINDS.contains(&known.kind) { known.kind } else { happening.kind };
                    *known = Happening { kind, ..happening.clone() };
                } else if self.standing.len() < STANDING_MAX {
                    self.standing.insert(id, (happening.clone(), now));
                }
            }
            Effect::Closes(topic) => {
                self.standing.remove(&(topic, happening.subject.clone()));
            }
            Effect::Notes(_) | Effect::Nothing => {}
        }
    }

    /// Forgets what is over though nothing said so. `stand` are the troubles of keys that are.
    pub(super) fn look(&mut self, stand: &BTreeSet<(Kind, String)>, there: &There) {
        self.standing.retain(|(topic, subject), (what, _)| {
            let may_be_so = !KINDS.contains(&what.kind) || stand.contains(&(what.kind, subject.clone()));
            let is_watched = there.checks || !CHECKED.contains(&what.kind);
            may_be_so && is_watched && there.has(*topic, subject)
        });
    }

    /// Nothing stands.
    pub(super) fn is_empty(&self) -> bool {
        self.standing.is_empty()
    }

    /// Tells a webhook of what it wants to know and was not told.
    pub(super) fn tell(&self, conditions: &mut Conditions, hook: &Webhook) {
        for (happening, since) in self.standing.values() {
            conditions.happens(*since, happening, hook);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::conditions::{News, hook};

    const S: u64 = 1_000_000_000;

    fn at(seconds: u64) -> Now {
        Now { mono_ns: seconds * S, unix_ns: 1_800_000_000 * S + seconds * S }
    }

    fn told(register: &Register, hook: &Webhook, now: Now) -> Vec<(News, String, u64)> {
        let mut conditions = Conditions::default();
        register.tell(&mut conditions, hook);
        register.tell(&mut conditions, hook);
        let notices = conditions.message(now, hook).map(|message| message.notices).unwrap_or_default();
        notices.into_iter().map(|n| (n.news, n.subject, n.lasted_ns / S)).collect()
    }

    #[test]
    fn who_comes_later_is_told_once_of_what_stands_and_since_when() {
        let mut register = Register::default();
        let there = There { keys: ["p/a/one".to_owned(), "p/a/two".to_owned()].into(), ..There::default() };
        for (at_s, kind, subject) in [
            (1, Kind::KeyBenched, "p/a/one"),
            (2, Kind::KeyBenched, "p/a/two"),
            (3, Kind::LedgerAway, ""),
            (4, Kind::BudgetSpent, "key k"),
            (5, Kind::KeyBenched, "p/a/gone"),
            (6, Kind::KeyUnusable, "p/a/one"),
            (7, Kind::ReloadRefused, ""),
            (8, Kind::Reloaded, ""),
        ] {
            register.happens(at(at_s), &Happening::new(kind, subject, "it is so"));
        }
        let stand = BTreeSet::from([(Kind::KeyBenched, "p/a/one".to_owned())]);
        register.look(&stand, &there);
        let all = told(&register, &hook(""), at(60));
        let begun = |subject: &str, lasted| (News::Begins, subject.to_owned(), lasted);
        assert_eq!(all, [begun("p/a/one", 59), begun("", 57)]);
        assert_eq!(told(&register, &hook("events = [\"ledger\"]"), at(60)), [begun("", 57)]);
        register.look(&BTreeSet::new(), &there);
        register.happens(at(61), &Happening::new(Kind::LedgerBack, "", "well again"));
        assert!(register.is_empty());
    }
}
