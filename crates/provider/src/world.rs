//! A world of providers: built from a spec, asked by calls, ended by `done`, read through its books.

mod build;
mod door;
mod flow;
mod reply;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::account::{Account, Key};
use crate::admit::{self, Taken, Used};
use crate::call::{Course, How};
use crate::dialect::{Dialect, HeaderFamily};
use crate::fault::{Fault, FaultSpec, RateLimitTime};
use crate::limit::Limiter;
use crate::record::{Books, Closing, KeyTotals, Name, Record, Summary};
use crate::rng::Rng;
use crate::spec::{Dimension, LatencySpec, ModelSpec, WorldSpec};
use crate::time::{MS, Now};

/// Everything on the other side of the gateway. See the crate's head.
#[derive(Debug)]
pub struct World {
    providers: Vec<Provider>,
    limiters: Vec<Limiter>,
    open: HashMap<u64, Open>,
    /// Cancelled calls that a provider goes on generating, by when they end.
    lingering: BinaryHeap<Reverse<(u64, u64)>>,
    books: Books,
    rng: Rng,
    names: HashMap<String, Name>,
    scratch: Vec<usize>,
}

#[derive(Debug)]
struct Provider {
    name: Name,
    dialect: Dialect,
    family: HeaderFamily,
    refusal_time: Option<RateLimitTime>,
    models: Vec<ModelSpec>,
    by_model: HashMap<String, usize>,
    /// Limiters of shared capacity, by model.
    shared: Vec<Vec<usize>>,
    accounts: Vec<Account>,
    keys: Vec<Key>,
    by_secret: HashMap<String, usize>,
    latency: LatencySpec,
    faults: Vec<Fault>,
    open: bool,
    cancel_stops_billing: bool,
    expose_account: bool,
    default_max_tokens: u64,
    /// The line in the books for calls with unknown keys.
    stranger_slot: usize,
}

/// A call that was admitted and has not ended.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is one independent fact about the call")]
struct Open {
    provider: usize,
    key: usize,
    account: usize,
    slot: usize,
    taken: Vec<Taken>,
    course: Course,
    arrived_ns: u64,
    /// Output tokens charged so far where output is metered.
    metered: u64,
    input_nano_usd: u64,
    cached_nano_usd: u64,
    output_nano_usd: u64,
    stream: bool,
    writes: bool,
    /// Nothing is billed: it ends in an error without output.
    failed: bool,
    /// The books are closed, only limits are still held.
    closed: bool,
}

/// State of one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// What the books call it.
    pub name: Name,
    /// What it counts.
    pub dimension: Dimension,
    /// How much of it.
    pub limit: u64,
    /// In how long; meaningless for slots and holds.
    pub period_ns: u64,
    /// Whole units left.
    pub remaining: u64,
    /// Time until it is whole again.
    pub full_in_ns: u64,
}

/// Where a fault is put at run time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FaultScope {
    /// The provider's name.
    pub provider: String,
    /// An account of it.
    #[serde(default)]
    pub account: Option<String>,
    /// A key of it.
    #[serde(default)]
    pub key: Option<String>,
}

/// A spec or scope that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorldError(String);

impl WorldError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        WorldError(text.into())
    }
}

impl fmt::Display for WorldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WorldError {}

impl World {
    /// Builds a world whose clock begins at `mono_ns` 0. Errors name what is double or missing.
    pub fn new(spec: WorldSpec, seed: u64) -> Result<Self, WorldError> {
        build::world(spec, seed)
    }

    /// The place of a provider, for [`crate::Call::provider`].
    pub fn provider(&self, name: &str) -> Option<usize> {
        self.providers.iter().position(|provider| provider.name == *name)
    }

    /// The names of all providers.
    pub fn providers(&self) -> impl Iterator<Item = &str> {
        self.providers.iter().map(|provider| &*provider.name)
    }

    /// Keep at most so many records (a million by default); totals are kept for ever.
    pub fn keep_records(&mut self, cap: usize) {
        self.books.set_cap(cap);
    }

    /// All records kept, in order of arrival.
    pub fn records(&self) -> impl DoubleEndedIterator<Item = &Record> {
        self.books.records()
    }

    /// Totals by key, refusals by rule.
    pub fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        for provider in &self.providers {
            for key in &provider.keys {
                let name = format!("{}/{}", provider.name, key.name);
                summary.keys.insert(name, self.books.totals(key.slot));
            }
            let strangers = self.books.totals(provider.stranger_slot);
            if strangers.calls > 0 {
                summary.keys.insert(format!("{}/", provider.name), strangers);
            }
        }
        summary.refusals = self.books.refusals().iter().map(|(rule, n)| (rule.to_string(), *n)).collect();
        summary
    }

    /// Totals of one key.
    pub fn key_totals(&self, provider: &str, key: &str) -> Option<KeyTotals> {
        let provider = self.providers.get(self.provider(provider)?)?;
        let key = provider.keys.iter().find(|k| k.name == *key)?;
        Some(self.books.totals(key.slot))
    }

    /// The limits that a call with this key for this model meets, as the provider sees them now: what an oracle
    /// compares a mirror with. Empty for an unknown provider or key.
    pub fn levels(&mut self, now: Now, provider: &str, key: &str, model: &str) -> Vec<Level> {
        let found = self.provider(provider).and_then(|index| self.providers.get(index));
        let Some(provider) = found else { return Vec::new() };
        let Some(key) = provider.keys.iter().find(|k| k.name == *key) else { return Vec::new() };
        let account = provider.accounts.get(key.account).map(|a| a.limiters.as_slice()).unwrap_or_default();
        let shared = provider.by_model.get(model).and_then(|i| provider.shared.get(*i)).into_iter().flatten();
        let ids: Vec<usize> = account.iter().chain(&key.limiters).chain(shared).copied().collect();
        let mut levels = Vec::with_capacity(ids.len());
        for id in ids {
            let Some(limiter) = self.limiters.get_mut(id).filter(|l| l.covers(model)) else { continue };
            levels.push(Level {
                name: limiter.label.clone(),
                dimension: limiter.dimension,
                limit: limiter.limit,
                period_ns: limiter.period_ns,
                remaining: limiter.remaining(now),
                full_in_ns: limiter.full_in(now),
            });
        }
        levels
    }

    /// How many admitted calls have not ended.
    pub fn open_calls(&self) -> usize {
        self.open.values().filter(|open| !open.closed).count()
    }

    /// Puts a fault into the running world; its times count from now. It goes before those that are there.
    pub fn inject(&mut self, now: Now, scope: &FaultScope, fault: FaultSpec) -> Result<(), WorldError> {
        let timeline = self.timeline(scope)?;
        timeline.insert(0, Fault::injected(fault, now.mono_ns));
        Ok(())
    }

    /// Removes every fault at exactly this scope, those of the spec included.
    pub fn clear_faults(&mut self, scope: &FaultScope) -> Result<(), WorldError> {
        self.timeline(scope)?.clear();
        Ok(())
    }

    fn timeline(&mut self, scope: &FaultScope) -> Result<&mut Vec<Fault>, WorldError> {
        let missing = |what: &str, name: &str| WorldError::new(format!("no {what} named '{name}'"));
        let provider = self
            .providers
            .iter_mut()
            .find(|p| p.name == *scope.provider)
            .ok_or_else(|| missing("provider", &scope.provider))?;
        if let Some(name) = &scope.key {
            let key = provider.keys.iter_mut().find(|k| k.name == **name);
            return key.map(|k| &mut k.faults).ok_or_else(|| missing("key", name));
        }
        if let Some(name) = &scope.account {
            let account = provider.accounts.iter_mut().find(|a| a.name == **name);
            return account.map(|a| &mut a.faults).ok_or_else(|| missing("account", name));
        }
        Ok(&mut provider.faults)
    }

    /// Ends an open call; a second time, and for a refusal, it does nothing.
    pub fn done(&mut self, id: u64, now: Now, how: How) {
        self.catch_up(now);
        let Some(open) = self.open.get(&id).filter(|open| !open.closed) else { return };
        let Some(provider) = self.providers.get_mut(open.provider) else { return };
        let elapsed = now.mono_ns.saturating_sub(open.arrived_ns);
        let cancelled = how == How::Cancelled;
        // Nothing stops an answer in one piece; some vendors do not stop streams either.
        let runs_on = cancelled
            && (!provider.cancel_stops_billing || (!open.stream && provider.dialect == Dialect::Openrouter))
            && open.course.end_at_ns.is_some_and(|end| end > elapsed);
        let produced =
            if cancelled && !runs_on { open.course.produced(elapsed) } else { open.course.output_tokens };
        let cost = open.cost(produced, cancelled && !runs_on);
        let closing = Closing {
            at_ns: now.mono_ns,
            cancelled,
            input_tokens: open.course.input_tokens,
            cached_tokens: open.course.cached_tokens,
            output_tokens: produced,
            billed_nano_usd: cost,
        };
        self.books.close(open.slot, id, &closing);
        if let Some(account) = provider.accounts.get_mut(open.account) {
            account.spent_nano_usd += cost;
            if let Some(credit) = &mut account.credit {
                *credit = credit.saturating_sub_unsigned(cost);
            }
        }
        if let Some(key) = provider.keys.get_mut(open.key) {
            key.spent.add(now, cost);
        }
        if runs_on {
            let end = open.arrived_ns + open.course.end_at_ns.unwrap_or(elapsed);
            self.lingering.push(Reverse((end, id)));
            if let Some(open) = self.open.get_mut(&id) {
                open.closed = true;
            }
        } else {
            self.release(id, now, produced, cost);
        }
    }

    /// Gives back what a call held.
    fn release(&mut self, id: u64, now: Now, produced: u64, cost: u64) {
        let Some(open) = self.open.remove(&id) else { return };
        let Some(account) =
            self.providers.get_mut(open.provider).and_then(|p| p.accounts.get_mut(open.account))
        else {
            return;
        };
        admit::meter(&mut self.limiters, &open.taken, now, produced.saturating_sub(open.metered));
        account.producing.retain(|other| *other != id);
        let fresh = if account.charging.cached_input_free { open.course.cached_tokens } else { 0 };
        let used = Used {
            input: open.course.input_tokens.saturating_sub(fresh),
            output: produced,
            cost_nano_usd: cost,
        };
        admit::settle(&mut self.limiters, &open.taken, now, used, account.charging.refund_unused);
    }

    /// Lets calls end that nobody listens to any more.
    fn catch_up(&mut self, now: Now) {
        while let Some(Reverse((end, id))) = self.lingering.peek().copied() {
            if end > now.mono_ns {
                return;
            }
            self.lingering.pop();
            if let Some(open) = self.open.get(&id) {
                let produced = open.course.output_tokens;
                let cost = open.cost(produced, false);
                self.release(id, now, produced, cost);
            }
        }
    }

    /// Charges what an account's open calls have produced meanwhile, at most once a millisecond.
    fn meter(&mut self, provider: usize, account: usize, now: Now) {
        let Some(account) = self.providers.get_mut(provider).and_then(|p| p.accounts.get_mut(account)) else {
            return;
        };
        if account.producing.is_empty() || now.mono_ns < account.produced_until_ns + MS {
            return;
        }
        account.produced_until_ns = now.mono_ns;
        for id in &account.producing {
            let Some(open) = self.open.get_mut(id) else { continue };
            let produced = open.course.produced(now.mono_ns.saturating_sub(open.arrived_ns));
            let more = produced.saturating_sub(open.metered);
            open.metered = produced;
            if more > 0 {
                admit::meter(&mut self.limiters, &open.taken, now, more);
            }
        }
    }
}

impl Open {
    /// What is billed. Answers that fail or are stopped before their first token cost nothing.
    fn cost(&self, produced: u64, stopped: bool) -> u64 {
        let course = &self.course;
        if produced == 0 && self.writes && (self.failed || course.error_inside || stopped) {
            return 0;
        }
        if self.failed {
            return 0;
        }
        let fresh = course.input_tokens.saturating_sub(course.cached_tokens);
        fresh
            .saturating_mul(self.input_nano_usd)
            .saturating_add(course.cached_tokens.saturating_mul(self.cached_nano_usd))
            .saturating_add(produced.saturating_mul(self.output_nano_usd))
    }
}
