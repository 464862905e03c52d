//! The state of everything that can be chosen: providers, accounts, keys, models, and what lies where two of them
//! meet. A *target* is key x upstream model; routes that name the same one share its state. Targets, and what else
//! belongs to a model, come to be when they are first looked at, so that ten thousand keys cost nothing until used.
//!
//! Knows nothing of requests: who is in flight is a count here.

use crate::blame::Class;
use crate::breaker::Breaker;
use crate::correlate::{Trouble, Way};
use crate::fleet::{
    AccountId, Charging, EndpointSet, KeyId, LimitSpec, ModelSet, ProviderId, Settings, Shape,
};
use crate::gate::Gate;
use crate::hash::Map;
use crate::health::{Ewma, FirstByte, SIZES};
use crate::quota::contact::Contact;
use crate::quota::{Domain, History, ModelStats};
use crate::route::{Layout, Park};
use crate::slab::Slab;
use crate::time::{DAY, Now};
use std::sync::Arc;

/// What is counted for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Attempts begun.
    pub requests: u64,
    /// Attempts answered.
    pub ok: u64,
    /// Attempts failed, by [`Class`] in its order.
    pub failed: [u64; 9],
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.ok += other.ok;
        for (n, more) in self.failed.iter_mut().zip(other.failed) {
            *n += more;
        }
    }

    pub(crate) fn fail(&mut self, class: Class) {
        self.failed[class as usize] += 1;
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Provider {
    pub(crate) name: Arc<str>,
    pub(crate) present: bool,
    pub(crate) endpoints: EndpointSet,
    /// As it was told, and as it is in force: answers may show another rule.
    pub(crate) charging_told: Charging,
    pub(crate) charging: Charging,
    pub(crate) breaker: Breaker,
    pub(crate) trouble: Trouble,
    /// The trouble that opened the breaker last, and when: attempts sent before say nothing new.
    pub(crate) down: Option<(Way, u64)>,
    pub(crate) accounts: usize,
    /// All usable keys, and whether some are for certain models only.
    pub(crate) layout: Arc<Layout>,
    pub(crate) restricted: bool,
    pub(crate) in_flight: u32,
    pub(crate) counts: Counts,
}

#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) provider: ProviderId,
    pub(crate) name: Arc<str>,
    pub(crate) present: bool,
    /// Out of money, until a probe.
    pub(crate) bench: Gate,
    /// A rate limit of the whole account, or of its free models.
    pub(crate) quota: Gate,
    pub(crate) free: Gate,
    /// Its own limits: declared ones, and those learned for all models.
    pub(crate) domains: Vec<usize>,
    pub(crate) models: Vec<usize>,
    pub(crate) parked: Vec<Park>,
    pub(crate) tried_second: Option<u64>,
    pub(crate) in_flight: u32,
    pub(crate) counts: Counts,
}

#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) account: AccountId,
    pub(crate) provider: ProviderId,
    pub(crate) name: Arc<str>,
    pub(crate) present: bool,
    pub(crate) enabled: bool,
    pub(crate) weight: f64,
    pub(crate) models: ModelSet,
    pub(crate) bench: Gate,
    /// Which secret it has, and since when: what was sent before says nothing of it.
    pub(crate) secret: (u64, u64),
    /// A request went well with this secret.
    pub(crate) proven: bool,
    pub(crate) quota: Gate,
    pub(crate) domains: Vec<usize>,
    pub(crate) targets: Vec<usize>,
    pub(crate) parked: Vec<Park>,
    pub(crate) in_flight: u32,
    pub(crate) counts: Counts,
}

/// An upstream model by its name, wherever it is served.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) name: Arc<str>,
    pub(crate) free: bool,
    pub(crate) stats: ModelStats,
    /// Members of routes that name it, and requests in flight: without either it can be forgotten.
    pub(crate) members: usize,
    pub(crate) in_flight: usize,
    pub(crate) account_models: Vec<usize>,
    pub(crate) provider_models: Vec<usize>,
    pub(crate) targets: Vec<usize>,
}

/// A model at a provider: its capacity there, whoever asks.
#[derive(Clone, Debug)]
pub(crate) struct ProviderModel {
    pub(crate) provider: ProviderId,
    pub(crate) model: usize,
    pub(crate) capacity: Gate,
    pub(crate) breaker: Breaker,
    pub(crate) first_byte: Option<Box<[FirstByte; SIZES]>>,
    /// How long plain answers take.
    pub(crate) plain: Option<Box<[FirstByte; SIZES]>>,
}

/// A model of an account: where most limits lie.
#[derive(Clone, Debug)]
pub(crate) struct AccountModel {
    pub(crate) account: AccountId,
    pub(crate) model: usize,
    pub(crate) quota: Gate,
    /// What went through while no limit was known.
    pub(crate) watch: Option<Box<History>>,
    /// How many may go meanwhile.
    pub(crate) contact: Contact,
    /// All domains that apply: the account's that match, and those learned for this model.
    pub(crate) domains: Vec<usize>,
}

#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) key: KeyId,
    pub(crate) account: AccountId,
    pub(crate) provider: ProviderId,
    pub(crate) model: usize,
    pub(crate) account_model: usize,
    pub(crate) provider_model: usize,
    /// The key's own domains that match the model.
    pub(crate) domains: Vec<usize>,
    /// The key may not use this model.
    pub(crate) bench: Gate,
    pub(crate) breaker: Breaker,
    /// Its breaker was opened by a time-out.
    pub(crate) hangs: bool,
    /// Plain calls that have waited here for far too long, since it last said anything.
    pub(crate) silent: u8,
    /// Time to the first token: of plain answers, of streams.
    pub(crate) first_output: [Ewma; 2],
    /// When the last attempt went there.
    pub(crate) asked_at: u64,
    pub(crate) ok_at: Option<u64>,
    pub(crate) in_flight: u32,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Pool {
    pub(crate) settings: Settings,
    pub(crate) providers: Slab<Provider>,
    pub(crate) accounts: Slab<Account>,
    pub(crate) keys: Slab<Key>,
    pub(crate) models: Slab<Model>,
    pub(crate) provider_models: Slab<ProviderModel>,
    pub(crate) account_models: Slab<AccountModel>,
    pub(crate) targets: Slab<Target>,
    pub(crate) domains: Slab<Domain>,
    model_index: Map<Arc<str>, usize>,
    provider_model_index: Map<(u32, usize), usize>,
    account_model_index: Map<(u32, usize), usize>,
    target_index: Map<(u32, usize), usize>,
    serial: u64,
}

impl Pool {
    pub(crate) fn provider(&self, id: ProviderId) -> &Provider {
        &self.providers[id.0 as usize]
    }
    pub(crate) fn provider_mut(&mut self, id: ProviderId) -> &mut Provider {
        &mut self.providers[id.0 as usize]
    }
    pub(crate) fn account(&self, id: AccountId) -> &Account {
        &self.accounts[id.0 as usize]
    }
    pub(crate) fn account_mut(&mut self, id: AccountId) -> &mut Account {
        &mut self.accounts[id.0 as usize]
    }
    pub(crate) fn key(&self, id: KeyId) -> &Key {
        &self.keys[id.0 as usize]
    }
    pub(crate) fn key_mut(&mut self, id: KeyId) -> &mut Key {
        &mut self.keys[id.0 as usize]
    }

    pub(crate) fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// The model of this name; a member of a route begins to name it.
    pub(crate) fn name_model(&mut self, name: &Arc<str>) -> usize {
        let at = if let Some(at) = self.model_index.get(name) {
            *at
        } else {
            let at = self.models.insert(Model {
                name: name.clone(),
                free: name.ends_with(":free"),
                stats: ModelStats::default(),
                members: 0,
                in_flight: 0,
                account_models: Vec::new(),
                provider_models: Vec::new(),
                targets: Vec::new(),
            });
            self.model_index.insert(name.clone(), at);
            at
        };
        self.models[at].members += 1;
        at
    }

    /// A member of a route does not name the model any more.
    pub(crate) fn unname_model(&mut self, at: usize) {
        self.models[at].members -= 1;
        self.forget_if_unused(at);
    }

    /// Forgets a model that no route names and no request uses, with all that was learned about it.
    pub(crate) fn forget_if_unused(&mut self, at: usize) {
        if self.models[at].members > 0 || self.models[at].in_flight > 0 {
            return;
        }
        let Some(model) = self.models.remove(at) else { return };
        self.model_index.remove(&model.name);
        for pm in model.provider_models {
            if let Some(gone) = self.provider_models.remove(pm) {
                self.provider_model_index.remove(&(gone.provider.0, at));
            }
        }
        for t in model.targets {
            if let Some(gone) = self.targets.remove(t) {
                self.target_index.remove(&(gone.key.0, at));
                self.key_mut(gone.key).targets.retain(|other| *other != t);
            }
        }
        for am in model.account_models {
            let Some(gone) = self.account_models.remove(am) else { continue };
            self.account_model_index.remove(&(gone.account.0, at));
            self.account_mut(gone.account).models.retain(|other| *other != am);
            for d in gone.domains {
                if !self.account(gone.account).domains.contains(&d) {
                    self.domains.remove(d);
                }
            }
        }
    }

    pub(crate) fn provider_model(&mut self, provider: ProviderId, model: usize) -> usize {
        if let Some(at) = self.provider_model_index.get(&(provider.0, model)) {
            return *at;
        }
        let at = self.provider_models.insert(ProviderModel {
            provider,
            model,
            capacity: Gate::default(),
            breaker: Breaker::default(),
            first_byte: None,
            plain: None,
        });
        self.provider_model_index.insert((provider.0, model), at);
        self.models[model].provider_models.push(at);
        at
    }

    pub(crate) fn account_model(&mut self, account: AccountId, model: usize) -> usize {
        if let Some(at) = self.account_model_index.get(&(account.0, model)) {
            return *at;
        }
        let domains = self.matching(&self.account(account).domains, model);
        let at = self.account_models.insert(AccountModel {
            account,
            model,
            quota: Gate::default(),
            watch: None,
            contact: Contact::default(),
            domains,
        });
        self.account_model_index.insert((account.0, model), at);
        self.models[model].account_models.push(at);
        self.account_mut(account).models.push(at);
        at
    }

    pub(crate) fn target(&mut self, key: KeyId, model: usize) -> usize {
        if let Some(at) = self.target_index.get(&(key.0, model)) {
            return *at;
        }
        let (account, provider) = (self.key(key).account, self.key(key).provider);
        let target = Target {
            key,
            account,
            provider,
            model,
            account_model: self.account_model(account, model),
            provider_model: self.provider_model(provider, model),
            domains: self.matching(&self.key(key).domains, model),
            bench: Gate::default(),
            breaker: Breaker::default(),
            hangs: false,
            silent: 0,
            first_output: [Ewma::default(); 2],
            asked_at: 0,
            ok_at: None,
            in_flight: 0,
        };
        let at = self.targets.insert(target);
        self.target_index.insert((key.0, model), at);
        self.models[model].targets.push(at);
        self.key_mut(key).targets.push(at);
        at
    }

    fn matching(&self, domains: &[usize], model: usize) -> Vec<usize> {
        let name = &self.models[model].name;
        domains.iter().copied().filter(|d| self.domains[*d].models.matches(name)).collect()
    }

    /// Brings the domains of an account or key in line with what is declared: what stays keeps its level.
    pub(crate) fn declare(
        &mut self,
        now: Now,
        account: AccountId,
        specs: &[LimitSpec],
        old: Vec<usize>,
    ) -> Vec<usize> {
        let mut old = old;
        let mut domains = Vec::with_capacity(specs.len());
        for spec in specs.iter().filter(|s| !overruled(s, specs)) {
            if let Some(i) = old.iter().position(|d| self.domains[*d].same_as(spec)) {
                let at = old.swap_remove(i);
                self.domains[at].reshape(now, &spec.shape);
                domains.push(at);
            } else {
                let serial = self.serial();
                domains.push(self.domains.insert(Domain::declared(account, spec, now, serial).far_away()));
            }
        }
        for d in old {
            if self.domains[d].source == crate::quota::Source::Learned {
                domains.push(d);
            } else {
                self.domains.remove(d);
            }
        }
        domains
    }

    /// After the domains of an account changed: what applies to each of its models.
    pub(crate) fn rematch_account(&mut self, account: AccountId) {
        for am in self.account(account).models.clone() {
            let mut domains = self.matching(&self.account(account).domains, self.account_models[am].model);
            let learned = self.account_models[am].domains.iter().copied().filter(|d| {
                self.domains
                    .get(*d)
                    .is_some_and(|d| d.source == crate::quota::Source::Learned && !d.models.0.is_empty())
            });
            domains.extend(learned.collect::<Vec<_>>());
            domains.sort_unstable();
            domains.dedup();
            self.account_models[am].domains = domains;
        }
    }

    /// A key is found to belong to another account: from now on it shares that one's limits.
    pub(crate) fn move_key(&mut self, key: KeyId, account: AccountId) {
        self.key_mut(key).account = account;
        for t in self.key(key).targets.clone() {
            let model = self.targets[t].model;
            let account_model = self.account_model(account, model);
            let target = &mut self.targets[t];
            (target.account, target.account_model) = (account, account_model);
        }
    }

    /// After the domains of a key changed.
    pub(crate) fn rematch_key(&mut self, key: KeyId) {
        for t in self.key(key).targets.clone() {
            self.targets[t].domains = self.matching(&self.key(key).domains, self.targets[t].model);
        }
    }

    /// All domains of a target: its account's and its key's.
    pub(crate) fn domains_of(&self, target: usize) -> impl Iterator<Item = usize> + '_ {
        let t = &self.targets[target];
        self.account_models[t.account_model].domains.iter().chain(&t.domains).copied()
    }

    /// The domain at `at`, if it is still the one that had this serial.
    pub(crate) fn domain_mut(&mut self, at: usize, serial: u64) -> Option<&mut Domain> {
        self.domains.get_mut(at).filter(|d| d.serial == serial)
    }
}

/// A preset's limit gives way to one that a person declared for the same dimension, models and kind of period.
fn overruled(spec: &LimitSpec, all: &[LimitSpec]) -> bool {
    let daily = |s: &LimitSpec| match s.shape {
        Shape::Day { .. } => true,
        Shape::Window { period_ns, .. } => period_ns >= DAY / 2,
        _ => false,
    };
    spec.preset
        && all.iter().any(|s| {
            !s.preset && s.dimension == spec.dimension && s.models == spec.models && daily(s) == daily(spec)
        })
}
