//! Who is out at this moment, for those who are to be told of it. The view is for looking: it is cut to what fits on a
//! page. This leaves nobody out, and makes nothing for what is well, so that ten thousand keys cost little under a lock.

use crate::Policy;
use crate::fleet::{AccountId, KeyId, ProviderId};
use crate::time::Now;
use std::sync::Arc;

/// Everybody that is out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Troubles {
    /// Providers whose breaker is open.
    pub providers: Vec<ProviderId>,
    /// Providers of whose keys none can be used.
    pub without_key: Vec<ProviderId>,
    /// Accounts without money.
    pub accounts: Vec<AccountId>,
    /// Keys that are benched, be it for one model.
    pub keys: Vec<KeyId>,
    /// Keys, each with a model for which its breaker is open.
    pub models: Vec<(KeyId, Arc<str>)>,
}

/// Keys of a provider that the configuration lets be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All of them.
    pub keys: usize,
    /// Those that are benched, or whose account is.
    pub out: usize,
}

impl Policy {
    /// Who is out now.
    pub fn troubles(&self, now: Now) -> Troubles {
        let now = self.now.max_mono(now);
        let pool = &self.pool;
        let mut keys = Vec::new();
        let mut models = Vec::new();
        let usable = |id: KeyId| pool.keys.get(id.0 as usize).is_some_and(|k| k.present && k.enabled);
        for (id, _) in pool.keys.iter().filter(|(_, k)| k.bench.is_shut(now.mono_ns)) {
            keys.push(KeyId(crate::route::to_u32(id)));
        }
        for (_, t) in pool.targets.iter() {
            let (benched, open) = (t.bench.is_shut(now.mono_ns), t.breaker.is_open(now.mono_ns));
            keys.extend(benched.then_some(t.key));
            if open && usable(t.key) {
                models.push((t.key, pool.models[t.model].name.clone()));
            }
        }
        keys.retain(|key| usable(*key));
        keys.sort_unstable();
        keys.dedup();
        let accounts = pool.accounts.iter().filter(|(_, a)| a.present && a.bench.is_shut(now.mono_ns));
        let providers = pool.providers.iter().filter(|(_, p)| p.present && p.breaker.is_open(now.mono_ns));
        let without_key =
            self.tally(now).into_iter().enumerate().filter(|(_, t)| t.keys > 0 && t.out == t.keys);
        Troubles {
            providers: providers.map(|(id, _)| ProviderId(crate::route::to_u32(id))).collect(),
            without_key: without_key.map(|(id, _)| ProviderId(crate::route::to_u32(id))).collect(),
            accounts: accounts.map(|(id, _)| AccountId(crate::route::to_u32(id))).collect(),
            keys,
            models,
        }
    }

    /// By provider, in the order of their ids.
    pub(crate) fn tally(&self, now: Now) -> Vec<Tally> {
        let mut all = Vec::new();
        for (_, key) in self.pool.keys.iter().filter(|(_, k)| k.present && k.enabled) {
            let provider = key.provider.0 as usize;
            if all.len() <= provider {
                all.resize(provider + 1, Tally::default());
            }
            let account = self.pool.account(key.account);
            all[provider].keys += 1;
            all[provider].out +=
                usize::from(key.bench.is_shut(now.mono_ns) || account.bench.is_shut(now.mono_ns));
        }
        all
    }
}
