//! Where a conversation's prompt cache is warm: a fixed table from the hash of a conversation to the key that served
//! it last. Two conversations in one slot only cost a cache miss.

use crate::fleet::{AccountId, KeyId};
use crate::time::MINUTE;

const SLOT_BITS: u32 = 15;
/// Providers keep their caches for about this long.
const WARM_NS: u64 = 10 * MINUTE;

#[derive(Clone, Copy, Debug)]
struct Entry {
    session: u64,
    key: KeyId,
    account: AccountId,
    at: u64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Affinity {
    entries: Vec<Option<Entry>>,
}

impl Affinity {
    /// The key and account that served the conversation last, while that is worth anything.
    pub(crate) fn find(&self, session: Option<u64>, now: u64) -> Option<(KeyId, AccountId)> {
        let session = session?;
        let entry = self.entries.get(slot(session))?.as_ref()?;
        (entry.session == session && now.saturating_sub(entry.at) < WARM_NS)
            .then_some((entry.key, entry.account))
    }

    pub(crate) fn served(&mut self, session: Option<u64>, key: KeyId, account: AccountId, now: u64) {
        let Some(session) = session else { return };
        if self.entries.is_empty() {
            self.entries.resize(1 << SLOT_BITS, None);
        }
        self.entries[slot(session)] = Some(Entry { session, key, account, at: now });
    }
}

fn slot(session: u64) -> usize {
    // Neighbours go far apart: a caller's own numbers may be no hash.
    usize::try_from(session.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - SLOT_BITS)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_for_ten_minutes_and_only_its_own() {
        let mut a = Affinity::default();
        a.served(Some(5), KeyId(1), AccountId(2), 0);
        a.served(None, KeyId(9), AccountId(9), 0);
        assert_eq!(a.find(Some(5), MINUTE), Some((KeyId(1), AccountId(2))));
        assert_eq!(a.find(Some(5), 10 * MINUTE), None);
        let other = (6..1 << 20).find(|other| slot(*other) == slot(5));
        assert_eq!(a.find(other, MINUTE), None, "another conversation in the same slot");
        assert_eq!(a.find(None, MINUTE), None);
    }

    #[test]
    fn few_conversations_share_a_slot_even_if_they_are_numbered() {
        let numbers = (0..20_u64).flat_map(|client| (0..100).map(move |n| client << 32 | n));
        let slots: std::collections::HashSet<_> = numbers.map(slot).collect();
        assert!(slots.len() > 1_800, "{} of 2,000", slots.len());
    }
}
