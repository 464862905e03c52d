//! Taking a configuration, the first or another one: what keeps its id keeps its learned state; what is gone stays
//! until its last request has settled.

use crate::Policy;
use crate::breaker::Breaker;
use crate::correlate::Trouble;
use crate::event::What;
use crate::fleet::{AccountId, AccountSpec, Fleet, KeyId, KeySpec, ProviderSpec, RouteSpec};
use crate::gate::Gate;
use crate::pool::{Account, Counts, Key, Provider};
use crate::route::{Layout, Member, Route, Tier};
use crate::routes::{Routes, layout, unname};
use crate::time::Now;
use std::sync::Arc;

impl Policy {
    /// Another configuration: what keeps its id keeps its learned state; requests in flight settle as they were.
    pub fn reconfigure(&mut self, now: Now, fleet: Fleet) {
        let now = self.tick(now);
        self.configure(now, fleet);
        self.events.push(now, What::Reconfigured);
        self.room.touch();
    }

    /// The operator says that a key works: its bench, those of its models and its account's are lifted.
    pub fn restore(&mut self, now: Now, key: KeyId) {
        let now = self.tick(now);
        let Some(k) = self.pool.keys.get_mut(key.0 as usize) else { return };
        let account = k.account;
        let mut was = k.bench.open() | k.quota.open();
        for target in k.targets.clone() {
            was |= self.absolve(now, target);
        }
        if was {
            self.events.push(now, What::KeyRestored { key });
        }
        if self.pool.account_mut(account).bench.open() {
            self.events.push(now, What::AccountRestored { account });
        }
        self.release(account, Some(key));
    }

    /// The operator says that a key works with this model: its bench and its breaker there are lifted, and nothing else.
    /// Tells whether the key has anything to do with the model.
    pub fn restore_model(&mut self, now: Now, key: KeyId, model: &str) -> bool {
        let now = self.tick(now);
        let Some(k) = self.pool.keys.get(key.0 as usize) else { return false };
        let account = k.account;
        let of = |target: &&usize| &*self.pool.models[self.pool.targets[**target].model].name == model;
        let Some(target) = k.targets.iter().find(of).copied() else { return false };
        if self.absolve(now, target) {
            self.events.push(now, What::KeyRestored { key });
        }
        self.release(account, Some(key));
        true
    }

    /// Lifts the bench and the breaker of a key with a model, and tells of the breaker. Tells whether it was benched.
    fn absolve(&mut self, now: Now, target: usize) -> bool {
        let target = &mut self.pool.targets[target];
        let (key, model) = (target.key, target.model);
        if target.breaker.absolve(now.mono_ns) {
            let model = self.pool.models[model].name.clone();
            self.events.push(now, What::BreakerClosed { key, model });
        }
        target.bench.open()
    }

    /// Attempts of this key that are in flight.
    pub fn in_flight(&self, key: KeyId) -> u32 {
        self.pool.keys.get(key.0 as usize).map_or(0, |k| k.in_flight)
    }

    pub(crate) fn configure(&mut self, now: Now, fleet: Fleet) {
        self.owners.give(fleet);
        self.settle_in(now, true);
    }

    /// Takes the configuration as it was given, with the accounts joined that are found to be one. `afresh`: routes that
    /// nobody named and nobody uses are forgotten.
    pub(crate) fn settle_in(&mut self, now: Now, afresh: bool) {
        let fleet = self.owners.fleet();
        self.pool.settings = fleet.settings;
        self.routes.default_strategy = fleet.default_strategy;
        self.set_providers(&fleet.providers);
        self.set_accounts(now, &fleet.accounts);
        self.set_keys(now, &fleet.keys);
        self.lay_out();
        self.set_routes(fleet.routes);
        self.refresh_adhoc(afresh);
        let last = self.pool.providers.iter().map(|(id, _)| id + 1).max();
        self.routes.connect(last.unwrap_or(0));
        self.room.new_markets(self.routes.markets());
    }

    fn set_providers(&mut self, specs: &[ProviderSpec]) {
        self.pool.providers.iter_mut().for_each(|(_, p)| p.present = false);
        for spec in specs {
            if let Some(p) = self.pool.providers.get_mut(spec.id.0 as usize) {
                (p.name, p.endpoints) = (spec.name.clone(), spec.endpoints);
                if p.charging_told != spec.charging {
                    (p.charging_told, p.charging) = (spec.charging, spec.charging);
                }
                p.present = true;
                continue;
            }
            let provider = Provider {
                name: spec.name.clone(),
                present: true,
                endpoints: spec.endpoints,
                charging_told: spec.charging,
                charging: spec.charging,
                breaker: Breaker::default(),
                trouble: Trouble::default(),
                down: None,
                accounts: 0,
                layout: Arc::default(),
                restricted: false,
                in_flight: 0,
                counts: Counts::default(),
            };
            self.pool.providers.put(spec.id.0, provider);
        }
    }

    fn set_accounts(&mut self, now: Now, specs: &[AccountSpec]) {
        self.pool.accounts.iter_mut().for_each(|(_, a)| a.present = false);
        for spec in specs {
            let at = spec.id.0 as usize;
            if self.pool.accounts.get(at).is_none() {
                let account = Account {
                    provider: spec.provider,
                    name: spec.name.clone(),
                    present: true,
                    bench: Gate::default(),
                    quota: Gate::default(),
                    free: Gate::default(),
                    domains: Vec::new(),
                    models: Vec::new(),
                    parked: Vec::new(),
                    tried_second: None,
                    in_flight: 0,
                    counts: Counts::default(),
                };
                self.pool.accounts.put(spec.id.0, account);
            }
            let old = std::mem::take(&mut self.pool.accounts[at].domains);
            let domains = self.pool.declare(now, spec.id, &spec.limits, old);
            let a = &mut self.pool.accounts[at];
            (a.domains, a.name, a.present, a.provider) = (domains, spec.name.clone(), true, spec.provider);
            self.pool.rematch_account(spec.id);
        }
    }

    fn set_keys(&mut self, now: Now, specs: &[KeySpec]) {
        self.pool.keys.iter_mut().for_each(|(_, k)| k.present = false);
        let mut moved = Vec::new();
        for spec in specs {
            let known = self.pool.accounts.get(spec.account.0 as usize).is_some()
                && self.pool.providers.get(spec.provider.0 as usize).is_some();
            if !known {
                continue;
            }
            let at = spec.id.0 as usize;
            if self.pool.keys.get(at).is_none() {
                let key = Key {
                    account: spec.account,
                    provider: spec.provider,
                    name: spec.name.clone(),
                    present: true,
                    enabled: spec.enabled,
                    weight: spec.weight,
                    models: spec.models.clone(),
                    bench: Gate::default(),
                    secret: (spec.secret, 0),
                    proven: false,
                    quota: Gate::default(),
                    domains: Vec::new(),
                    targets: Vec::new(),
                    parked: Vec::new(),
                    in_flight: 0,
                    counts: Counts::default(),
                };
                self.pool.keys.put(spec.id.0, key);
            }
            if self.pool.keys[at].account != spec.account {
                moved.push((self.pool.keys[at].account, spec.account));
                self.pool.move_key(spec.id, spec.account);
            }
            if self.pool.keys[at].secret.0 != spec.secret {
                self.renew(now, spec);
            }
            let old = std::mem::take(&mut self.pool.keys[at].domains);
            let domains = self.pool.declare(now, spec.account, &spec.limits, old);
            let k = &mut self.pool.keys[at];
            (k.domains, k.name, k.present) = (domains, spec.name.clone(), true);
            (k.enabled, k.weight, k.models) = (spec.enabled, spec.weight, spec.models.clone());
            self.pool.rematch_key(spec.id);
        }
        moved.sort_unstable();
        moved.dedup();
        let keys = self.pool.keys.iter().filter(|(_, k)| k.present);
        let left: std::collections::BTreeSet<AccountId> = keys.map(|(_, k)| k.account).collect();
        for (from, to) in moved {
            if !left.contains(&from) && !self.pool.account(from).present {
                self.merge_account(now, from, to);
            }
        }
    }

    /// A key has another secret: what its provider held against the one of before is over.
    fn renew(&mut self, now: Now, spec: &KeySpec) {
        let key = &mut self.pool.keys[spec.id.0 as usize];
        (key.secret, key.proven) = ((spec.secret, now.mono_ns), false);
        let mut was = key.bench.open() | key.quota.open();
        for target in &key.targets {
            was |= self.pool.targets[*target].bench.open();
        }
        if was && spec.enabled {
            self.events.push(now, What::KeyRestored { key: spec.id });
        }
    }

    /// Groups the usable keys of each provider by account.
    fn lay_out(&mut self) {
        let mut keys_of: Vec<Vec<(AccountId, KeyId)>> = Vec::new();
        for (id, key) in self.pool.keys.iter().filter(|(_, k)| k.present && k.enabled) {
            let provider = key.provider.0 as usize;
            if keys_of.len() <= provider {
                keys_of.resize(provider + 1, Vec::new());
            }
            keys_of[provider].push((key.account, KeyId(crate::route::to_u32(id))));
        }
        for (id, p) in self.pool.providers.iter_mut() {
            let keys = keys_of.get_mut(id).filter(|_| p.present).map(std::mem::take).unwrap_or_default();
            p.restricted = keys.iter().any(|(_, k)| !self.pool.keys[k.0 as usize].models.0.is_empty());
            let layout = Layout::of(keys);
            p.accounts = layout.groups.len();
            p.layout = Arc::new(layout);
        }
    }

    fn set_routes(&mut self, specs: Vec<RouteSpec>) {
        let old: Vec<_> = self.routes.named.drain().collect();
        let mut kept = crate::hash::Map::default();
        for (id, at) in old {
            kept.insert(id, at);
        }
        for spec in specs {
            let tiers = self.tiers(&spec);
            let serial = self.routes.serial();
            if let Some(at) = kept.remove(&spec.id) {
                let route = &mut self.routes.all[at];
                let before = std::mem::replace(&mut route.tiers, tiers);
                (route.name, route.strategy, route.serial) = (spec.name, spec.strategy, serial);
                let before = Route { tiers: before, ..self.routes.all[at].clone() };
                unname(&mut self.pool, &before);
                self.routes.named.insert(spec.id, at);
                continue;
            }
            let route = Route {
                name: spec.name,
                named: Some(spec.id),
                strategy: spec.strategy,
                tiers,
                used_at: 0,
                busy: 0,
                waiting: 0,
                pool: 0,
                among: 0,
                serial,
            };
            let at = self.routes.all.insert(route);
            self.routes.named.insert(spec.id, at);
        }
        let mut gone: Vec<usize> = kept.into_values().collect();
        gone.sort_unstable();
        for at in gone {
            self.retire(at);
        }
    }

    /// A route that is gone: its waiters find no candidate, and the last request takes it away.
    fn retire(&mut self, at: usize) {
        let route = &mut self.routes.all[at];
        route.named = None;
        let tiers = std::mem::take(&mut route.tiers);
        let idle = route.busy == 0;
        let before = Route { tiers, ..route.clone() };
        unname(&mut self.pool, &before);
        if idle {
            self.routes.all.remove(at);
        }
    }

    fn tiers(&mut self, spec: &RouteSpec) -> Vec<Tier> {
        let mut tiers = Vec::with_capacity(spec.tiers.len());
        for members in &spec.tiers {
            let mut tier = Tier::default();
            for m in members {
                if !self.pool.providers.get(m.provider.0 as usize).is_some_and(|p| p.present) {
                    continue;
                }
                let model = self.pool.name_model(&m.model);
                let layout = layout(&self.pool, m.provider, &m.model, &m.keys);
                let pm = self.pool.provider_model(m.provider, model);
                tier.slots += layout.keys.len();
                tier.members.push(Member::new(m.provider, model, pm, m.weight, layout));
            }
            tiers.push(tier);
        }
        tiers
    }

    /// Unnamed routes: those in use are made anew over the keys that there are now, the others when they are asked for.
    fn refresh_adhoc(&mut self, forget: bool) {
        let mut all: Vec<_> = self.routes.adhoc.iter().map(|(key, at)| (key.clone(), *at)).collect();
        all.sort_unstable_by_key(|(_, at)| *at);
        for (key, at) in all {
            if forget && self.routes.all[at].busy == 0 {
                self.routes.forget_adhoc(&mut self.pool, &key);
                continue;
            }
            let serial = self.routes.serial();
            let mut route = self.routes.all[at].clone();
            let before = Route { tiers: std::mem::take(&mut route.tiers), ..route.clone() };
            if self.pool.provider(key.0).present {
                Routes::fill_adhoc(&mut self.pool, &mut route, key.0);
            }
            (route.serial, route.strategy) = (serial, self.routes.default_strategy);
            self.routes.all[at] = route;
            unname(&mut self.pool, &before);
        }
    }
}
