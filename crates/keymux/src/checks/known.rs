//! What checks found out last about each key of a running gateway, and which of it is news for people.

use super::verdict::{Note, Verdict, notes};
use super::{Checked, report};
use crate::happening::{Happening, Kind};
use http::HeaderValue;
use keymux_policy::fleet::KeyId;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// By key.
#[derive(Default)]
pub struct Known {
    last: Mutex<HashMap<KeyId, Last>>,
    /// Nobody checks: what is not known is not well either.
    off: AtomicBool,
    /// Looks, by what they found.
    counts: [AtomicU64; Verdict::WORDS.len()],
}

/// The last look at a key.
#[derive(Default)]
struct Last {
    checked: Option<Arc<Checked>>,
    found_at_unix_ns: Option<u64>,
    /// What it was called when people heard of it: what they heard of another name is over.
    subject: String,
    /// The secret that was looked at: another one is another key.
    credential: Option<HeaderValue>,
    unusable: bool,
    expires: bool,
    low: bool,
}

impl Known {
    /// What is known of a key.
    pub fn of(&self, key: KeyId) -> Option<Arc<Checked>> {
        self.with(|all| all.get(&key)?.checked.clone())
    }

    /// Whether this key was looked at with this secret.
    pub fn has(&self, key: KeyId, credential: Option<&HeaderValue>) -> bool {
        self.with(|all| all.get(&key).is_some_and(|last| last.credential.as_ref() == credential))
    }

    /// Checks are on or off: once nobody looks any more, nothing is known any more.
    pub fn switch(&self, on: bool) {
        self.off.store(!on, Ordering::Release);
        if !on {
            self.keep(|_| false);
        }
    }

    /// Nobody checks.
    pub fn are_off(&self) -> bool {
        self.off.load(Ordering::Acquire)
    }

    /// How often keys were looked at so far, by what was found.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        Verdict::WORDS.into_iter().zip(counts)
    }

    /// When a look last found out how a key is, in nanoseconds since 1970.
    pub fn found_at(&self, key: KeyId) -> Option<u64> {
        self.with(|all| all.get(&key)?.found_at_unix_ns)
    }

    /// Forgets keys that are gone or switched off: what people heard of them is over, and begins anew with them.
    pub fn keep(&self, is_there: impl Fn(KeyId) -> bool) {
        self.with(|all| all.retain(|key, _| is_there(*key)));
    }

    /// One more look. Returns what a person should hear of it; `subject` is the key's name.
    pub fn take(&self, checked: Checked, credential: Option<HeaderValue>, subject: &str) -> Vec<Happening> {
        self.with(|all| {
            let last = all.entry(checked.key).or_default();
            if last.subject != subject {
                *last = Last { subject: subject.to_owned(), ..Last::default() };
            }
            let told = last.news(&checked, subject);
            last.credential = credential;
            self.counts[checked.verdict.place()].fetch_add(1, Ordering::Relaxed);
            if checked.verdict.is_usable().is_some() {
                last.found_at_unix_ns = Some(checked.at_unix_ns);
            }
            // What nobody knows any more is better known from before.
            let keeps = matches!(checked.verdict, Verdict::Unknown(_)) && last.checked.is_some();
            let facts = if keeps { last.checked.as_ref().and_then(|c| c.facts.clone()) } else { None };
            last.checked = Some(Arc::new(Checked { facts: checked.facts.clone().or(facts), ..checked }));
            told
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<KeyId, Last>) -> T) -> T {
        act(&mut self.last.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Last {
    /// What begins or ends with this look. A look that found nothing out changes nothing.
    fn news(&mut self, checked: &Checked, subject: &str) -> Vec<Happening> {
        let mut told = Vec::new();
        let mut tell = |kind, text| told.push(Happening::new(kind, subject, text));
        if let Some(usable) = checked.verdict.is_usable()
            && std::mem::replace(&mut self.unusable, !usable) == usable
        {
            match checked.verdict.detail() {
                Some(detail) => tell(Kind::KeyUnusable, format!("key unusable: {subject}: {detail}")),
                None => tell(Kind::KeyUsable, format!("key usable again: {subject}")),
            }
        }
        // Its date has come, or it was revoked before: a refusal tells no date any more.
        let ended = matches!(checked.verdict, Verdict::Refused(_) | Verdict::Unfit(_));
        if ended && std::mem::take(&mut self.expires) {
            tell(Kind::KeyEnded, format!("key ended: {subject}"));
        }
        if checked.facts.is_none() {
            return told;
        }
        let notes = notes(checked);
        let expires = notes.iter().find_map(|note| match note {
            Note::Expires(at) if !ended => Some(report::ahead(*at, checked.at_unix_ns)),
            _ => None,
        });
        let expired_soon = std::mem::replace(&mut self.expires, expires.is_some());
        match (expires, expired_soon) {
            (Some(when), false) => tell(Kind::KeyExpires, format!("key expires: {subject}, {when}")),
            (None, true) => tell(Kind::KeyProlonged, format!("key does not expire soon any more: {subject}")),
            _ => {}
        }
        let low = notes.iter().find_map(|note| match note {
            Note::Low(text) => Some(text),
            _ => None,
        });
        match (low, std::mem::replace(&mut self.low, low.is_some())) {
            (Some(text), false) => tell(Kind::CreditLow, format!("credit low: {subject}: {text}")),
            (None, true) if checked.verdict == Verdict::Works => {
                tell(Kind::CreditRaised, format!("credit no longer low: {subject}"));
            }
            // Used up is lower than low.
            (None, true) => self.low = true,
            _ => {}
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::Way;
    use keymux_wire::key;

    const NOW: u64 = 1_795_428_000_000_000_000;

    fn checked(verdict: Verdict, facts: Option<&str>) -> Checked {
        let facts = facts.and_then(|text| key::read(format!(r#"{{"data":{text}}}"#).as_bytes()));
        Checked {
            key: KeyId(7),
            provider: "p".into(),
            name: "k".into(),
            account: "k".into(),
            way: Way::Key,
            sent_ns: 0,
            at_unix_ns: NOW,
            verdict,
            facts: facts.map(Box::new),
            balance: None,
            owner: None,
            limits: Vec::new(),
        }
    }

    fn told(known: &Known, verdict: Verdict, facts: Option<&str>) -> Vec<&'static str> {
        let told = known.take(checked(verdict, facts), None, "p/k/k");
        told.iter().map(|h| h.kind.row().word).collect()
    }

    #[test]
    fn each_change_is_told_once_and_what_nobody_knows_is_none() {
        let known = Known::default();
        let refused = || Verdict::Refused("no".to_owned());
        let unknown = || Verdict::Unknown("gone".to_owned());
        assert!(told(&known, Verdict::Works, None).is_empty(), "that all is well is no news");
        assert_eq!(told(&known, refused(), None), ["key_unusable"]);
        assert!(told(&known, refused(), None).is_empty());
        assert!(told(&known, unknown(), None).is_empty());
        assert!(told(&known, refused(), None).is_empty(), "it was so all the time");
        assert_eq!(told(&known, Verdict::Works, None), ["key_usable"]);
    }

    #[test]
    fn looks_are_counted_and_only_one_that_finds_out_makes_a_key_known_anew() {
        let known = Known::default();
        told(&known, Verdict::Unknown("gone".to_owned()), None);
        assert_eq!(known.found_at(KeyId(7)), None);
        told(&known, Verdict::Refused("no".to_owned()), None);
        told(&known, Verdict::Refused("no".to_owned()), None);
        assert_eq!(known.found_at(KeyId(7)), Some(NOW));
        let counted: Vec<_> = known.counts().filter(|(_, n)| *n > 0).collect();
        assert_eq!(counted, [("refused", 2), ("unknown", 1)]);
    }

    #[test]
    fn once_checks_are_off_nothing_is_known_and_what_they_find_later_is_news() {
        let known = Known::default();
        let refused = || Verdict::Refused("no".to_owned());
        assert!(!known.are_off());
        assert_eq!(told(&known, refused(), None), ["key_unusable"]);
        known.switch(false);
        assert!(known.are_off() && known.of(KeyId(7)).is_none());
        known.switch(true);
        assert_eq!(told(&known, refused(), None), ["key_unusable"]);
    }

    #[test]
    fn what_ends_soon_is_told_until_it_does_not() {
        let known = Known::default();
        let soon = r#"{"usage":0,"expires_at":"2026-11-25T10:00:00Z","limit":10,"limit_remaining":0.5}"#;
        assert_eq!(told(&known, Verdict::Works, Some(soon)), ["key_expires", "credit_low"]);
        assert!(told(&known, Verdict::Works, Some(soon)).is_empty());
        assert!(told(&known, Verdict::Unknown("gone".to_owned()), None).is_empty());
        assert!(known.of(KeyId(7)).unwrap().facts.is_some(), "what was told last is still shown");
        let capped = Verdict::Capped { until_unix_ns: None, what: "up".to_owned() };
        let spent = r#"{"usage":0,"expires_at":"2026-11-25T10:00:00Z","limit":10,"limit_remaining":0}"#;
        assert_eq!(told(&known, capped, Some(spent)), ["key_unusable"], "not: raised");
        let well = r#"{"usage":0,"expires_at":null,"limit":10,"limit_remaining":9}"#;
        assert_eq!(
            told(&known, Verdict::Works, Some(well)),
            ["key_usable", "key_prolonged", "credit_raised"]
        );
    }

    #[test]
    fn a_key_that_ended_is_not_said_to_be_prolonged_and_does_not_expire_any_more() {
        let soon = r#"{"usage":0,"expires_at":"2026-11-25T10:00:00Z"}"#;
        let past = r#"{"usage":0,"expires_at":"2026-11-20T10:00:00Z"}"#;
        // As a refusal without a word of its date, and as an answer with a date that is past.
        for end in [None, Some(past)] {
            let known = Known::default();
            let refused = || Verdict::Refused("it has expired".to_owned());
            assert_eq!(told(&known, Verdict::Works, Some(soon)), ["key_expires"]);
            assert_eq!(told(&known, refused(), end), ["key_unusable", "key_ended"]);
            assert!(told(&known, refused(), end).is_empty());
            assert!(
                told(&known, refused(), Some(soon)).is_empty(),
                "it is refused: that it expires is no news"
            );
            assert_eq!(told(&known, Verdict::Works, Some(soon)), ["key_usable", "key_expires"]);
        }
    }

    #[test]
    fn what_is_switched_off_or_has_another_name_begins_anew() {
        let known = Known::default();
        let refused = || checked(Verdict::Refused("no".to_owned()), None);
        let kinds = |subject| {
            let told = known.take(refused(), None, subject);
            told.iter().map(|h| h.kind.row().word).collect::<Vec<_>>()
        };
        assert_eq!(kinds("p/k/k"), ["key_unusable"]);
        known.keep(|key| key != KeyId(7));
        assert_eq!(kinds("p/k/k"), ["key_unusable"]);
        assert_eq!(kinds("p/team/k"), ["key_unusable"]);
        assert!(kinds("p/team/k").is_empty());
    }

    #[test]
    fn another_secret_is_another_key() {
        let known = Known::default();
        let secret = |text| Some(HeaderValue::from_static(text));
        known.take(checked(Verdict::Works, None), secret("one"), "k");
        assert!(known.has(KeyId(7), secret("one").as_ref()));
        assert!(!known.has(KeyId(7), secret("two").as_ref()) && !known.has(KeyId(8), secret("one").as_ref()));
        known.keep(|_| false);
        assert!(known.of(KeyId(7)).is_none());
    }
}
