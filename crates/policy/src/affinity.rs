//! Where a conversation's prompt cache is warm: a fixed table from the hash of a conversation to the key that served
//! it last. Two conversations in one slot only cost a cache miss.

use crate::fleet::{AccountId, KeyId};
use crate::time::MINUTE;

const SLOTS: u64 = 8_192;
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
            self.entries.resize(usize::try_from(SLOTS).unwrap_or(0), None);
        }
        self.entries[slot(session)] = Some(Entry { session, key, account, at: now });
    }
}

fn slot(session: u64) -> usize {
    usize::try_from((session ^ (session >> 32)) % SLOTS).unwrap_or(0)
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
        assert_eq!(a.find(Some(5 + SLOTS), MINUTE), None, "another conversation in the same slot");
        assert_eq!(a.find(None, MINUTE), None);
    }
}
