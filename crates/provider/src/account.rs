//! Who owns keys: credit, limits, the prompt cache and stored responses belong to an account, hardly anything
//! to a key.

use std::collections::HashMap;

use crate::fault::Fault;
use crate::record::Name;
use crate::spec::ChargingSpec;
use crate::spending::{SpendReset, Spending};
use crate::time::{Now, SECOND};

/// How long a prompt prefix stays in the cache without being read.
const CACHE_TTL_NS: u64 = 300 * SECOND;
/// Shorter prompts are never cached (OpenAI's and Anthropic's documented minimum).
pub(crate) const CACHE_MIN_TOKENS: u64 = 1024;
const CACHE_ENTRIES: usize = 4096;
const STORED_ENTRIES: usize = 4096;

#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) name: Name,
    pub(crate) limiters: Vec<usize>,
    pub(crate) charging: ChargingSpec,
    pub(crate) credit: Option<i64>,
    pub(crate) spent_nano_usd: u64,
    pub(crate) faults: Vec<Fault>,
    pub(crate) cache: PromptCache,
    pub(crate) stored: Stored,
    /// Open calls whose output is charged as it is produced.
    pub(crate) producing: Vec<u64>,
    pub(crate) produced_until_ns: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) name: Name,
    pub(crate) account: usize,
    pub(crate) limiters: Vec<usize>,
    pub(crate) spend_cap: Option<u64>,
    pub(crate) spend_reset: Option<SpendReset>,
    pub(crate) spent: Spending,
    pub(crate) expires_ns: Option<u64>,
    pub(crate) disabled: bool,
    pub(crate) workspace: Option<Name>,
    pub(crate) faults: Vec<Fault>,
    /// Its line in the books.
    pub(crate) slot: usize,
}

impl Key {
    /// It opens anything.
    pub(crate) fn lives(&self, now: Now) -> bool {
        !self.disabled && self.expires_ns.is_none_or(|at| now.mono_ns < at)
    }

    /// What is left of its own cap.
    pub(crate) fn cap_left(&self, now: Now) -> Option<u64> {
        self.spend_cap.map(|cap| cap.saturating_sub(self.spent.since(self.spend_reset, now)))
    }
}

/// Which prefixes were seen lately, per model: what an account's prompt cache can answer from.
#[derive(Clone, Debug, Default)]
pub(crate) struct PromptCache(HashMap<(u64, u64), (u64, u64)>);

impl PromptCache {
    /// Tokens of this prompt that are warm; remembers the prompt.
    pub(crate) fn read(&mut self, now: Now, model: u64, prompt: u64, tokens: u64) -> u64 {
        if tokens < CACHE_MIN_TOKENS {
            return 0;
        }
        let fresh = |at: u64| now.mono_ns.saturating_sub(at) < CACHE_TTL_NS;
        if self.0.len() >= CACHE_ENTRIES {
            self.0.retain(|_, (at, _)| fresh(*at));
            if self.0.len() >= CACHE_ENTRIES {
                self.0.clear();
            }
        }
        let entry = self.0.entry((model, prompt)).or_insert((now.mono_ns, 0));
        let warm = if fresh(entry.0) { entry.1.min(tokens) } else { 0 };
        *entry = (now.mono_ns, tokens);
        // Vendors count in steps of 128 and never the last bit of the prompt.
        warm / 128 * 128
    }
}

/// Responses kept for later, by id; bounded, the oldest go first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stored {
    bodies: HashMap<String, Vec<u8>>,
    order: std::collections::VecDeque<String>,
}

impl Stored {
    pub(crate) fn keep(&mut self, id: &str, body: Vec<u8>) {
        if self.order.len() >= STORED_ENTRIES
            && let Some(oldest) = self.order.pop_front()
        {
            self.bodies.remove(&oldest);
        }
        self.order.push_back(id.to_owned());
        self.bodies.insert(id.to_owned(), body);
    }

    pub(crate) fn get(&self, id: &str) -> Option<&[u8]> {
        self.bodies.get(id).map(Vec::as_slice)
    }

    pub(crate) fn remove(&mut self, id: &str) -> bool {
        self.order.retain(|kept| kept != id);
        self.bodies.remove(id).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_warm_for_five_minutes_of_its_model_only() {
        let mut cache = PromptCache::default();
        let at = |s: u64| Now { mono_ns: s * SECOND, unix_ns: 0 };
        assert_eq!(cache.read(at(0), 1, 7, 2048), 0);
        assert_eq!(cache.read(at(299), 1, 7, 3000), 2048);
        assert_eq!(cache.read(at(299), 2, 7, 3000), 0);
        assert_eq!(cache.read(at(599), 1, 7, 3000), 0);
        assert_eq!(cache.read(at(600), 1, 7, 1000), 0, "too short to be cached");
    }
}
