//! The state of everything, for people: plain numbers with names, capped, to be serialised by whoever asks.

use crate::Policy;
use crate::ask::ClientId;
use crate::blame::Class;
use crate::fleet::{AccountId, Dimension, KeyId, ProviderId};
use crate::gate::Gate;
use crate::hash::Map;
use crate::lease::Why;
pub use crate::pool::Counts;
pub use crate::quota::domain::Source;
use crate::time::Now;
pub use crate::troubles::Tally;
use std::sync::Arc;

/// Keys, limits and breakers shown at most, so that a view of ten thousand keys stays readable.
const KEYS_MAX: usize = 1_000;
const PER_KEY_MAX: usize = 32;
/// Models whose estimates are shown.
const MODELS_MAX: usize = 100;
/// Lines shown at most.
const LINES_MAX: usize = 64;
/// Clients shown at most.
const CLIENTS_MAX: usize = 20;

/// Requests since the start. `submitted = done + refused + cancelled + waiting + in flight`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Totals {
    pub submitted: u64,
    pub done: u64,
    pub refused: u64,
    pub cancelled: u64,
    pub in_flight: u64,
}

/// Something is out until a time, because of a class of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Out {
    /// Until when (monotonic); then it opens, or one request probes it.
    pub until_mono_ns: u64,
    /// Whose fault it was.
    pub why: Class,
}

/// A limit as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitView {
    /// What is counted.
    pub dimension: Dimension,
    /// The models that share it (empty: all).
    pub models: Vec<Box<str>>,
    /// Counts days.
    pub daily: bool,
    /// The most that it admits.
    pub size: f64,
    /// What is left; below zero where more was used than was known.
    pub level: f64,
    /// Needed by requests that wait.
    pub queued: f64,
    /// Where it is known from.
    pub source: Source,
}

/// The breaker of a key for one model, where it is not simply closed, or the model of a key that is out.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelView {
    /// The upstream's name of the model.
    pub model: Arc<str>,
    /// The breaker is open until then.
    pub breaker_open_until: Option<u64>,
    /// The key may not use the model.
    pub benched: Option<Out>,
    /// A rate limit of the account for this model.
    pub quota: Option<Out>,
    /// Failures in a row, failures and attempts in the window.
    pub failures: (u32, u32, u32),
    /// Time to the first token of streams, smoothed.
    pub first_output_ns: Option<u64>,
    /// Attempts in flight.
    pub in_flight: u32,
}

/// A key.
#[derive(Clone, Debug)]
pub struct KeyView {
    /// Its id.
    pub id: KeyId,
    /// Its name.
    pub name: Arc<str>,
    /// Whether the configuration lets it be used.
    pub enabled: bool,
    /// Attempts in flight.
    pub in_flight: u32,
    /// Attempts so far.
    pub counts: Counts,
    /// Refused, forbidden or at its cap.
    pub benched: Option<Out>,
    /// A rate limit of the key itself.
    pub quota: Option<Out>,
    /// Limits of the key itself.
    pub limits: Vec<LimitView>,
    /// By model.
    pub models: Vec<ModelView>,
}

/// An account with its keys.
#[derive(Clone, Debug)]
pub struct AccountView {
    /// Its id.
    pub id: AccountId,
    /// Its name.
    pub name: Arc<str>,
    /// Attempts in flight.
    pub in_flight: u32,
    /// Attempts so far.
    pub counts: Counts,
    /// Out of money.
    pub benched: Option<Out>,
    /// A rate limit of the whole account.
    pub quota: Option<Out>,
    /// Its limits.
    pub limits: Vec<LimitView>,
    /// Its keys.
    pub keys: Vec<KeyView>,
}

/// A provider with its accounts.
#[derive(Clone, Debug)]
pub struct ProviderView {
    /// Its id.
    pub id: ProviderId,
    /// Its name.
    pub name: Arc<str>,
    /// Attempts in flight.
    pub in_flight: u32,
    /// Attempts so far.
    pub counts: Counts,
    /// Its breaker is open until then.
    pub open_until: Option<u64>,
    /// Its keys, those that are not shown too.
    pub tally: Tally,
    /// Models without capacity there, until when.
    pub no_capacity: Vec<(Arc<str>, u64)>,
    /// Its accounts.
    pub accounts: Vec<AccountView>,
}

/// Numbers for people: what [`Policy::view`] shows.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// When.
    pub at: Now,
    /// Requests so far.
    pub totals: Totals,
    /// Waiting, by class: high, normal, low.
    pub waiting: [usize; 3],
    /// Waiting, by client: those of whom most wait, most first.
    pub waiting_clients: Vec<(ClientId, usize)>,
    /// What the first of each line wait for; of those few that pause between two attempts nothing is told.
    pub waits: Vec<Why>,
    /// Bytes of bodies that wait.
    pub waiting_bytes: u64,
    /// Retries that the global budget's share allows now (below zero: only its floor is left).
    pub retry_budget: f64,
    /// Events that nobody took in time.
    pub events_dropped: u64,
    /// Whether nobody may wait any more.
    pub draining: bool,
    /// Unnamed routes in use.
    pub adhoc_routes: usize,
    /// Everything by provider.
    pub providers: Vec<ProviderView>,
    /// There are more keys than are shown.
    pub keys_left_out: usize,
    /// What is known of the models that answered most.
    pub models: Vec<EstimateView>,
}

/// What is expected of requests to one upstream model.
#[derive(Clone, Debug, PartialEq)]
pub struct EstimateView {
    /// The upstream's name of the model.
    pub model: Arc<str>,
    /// Answers that told their input.
    pub answers: u64,
    /// By how much estimates of the input were off lately, either way, as a share of what was reported.
    pub input_error: f64,
    /// Tokens counted for each one guessed from bytes: of text that is mostly ASCII, and of other.
    pub input_ratio: [f64; 2],
    /// Output expected where no cap is given, in tokens.
    pub output_tokens: f64,
}

fn out(gate: &Gate, now: Now) -> Option<Out> {
    gate.is_shut(now.mono_ns).then_some(Out { until_mono_ns: gate.until(), why: gate.why() })
}

impl Policy {
    /// Requests so far: cheap enough to ask after every verb.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The state of everything, for people.
    pub fn view(&self, now: Now) -> View {
        let now = self.now.max_mono(now);
        let mut left = KEYS_MAX;
        let mut keys_of = Map::<AccountId, Vec<usize>>::default();
        let mut keys = 0;
        for (id, key) in self.pool.keys.iter().filter(|(_, k)| k.present || k.in_flight > 0) {
            keys_of.entry(key.account).or_default().push(id);
            keys += 1;
        }
        let providers = self.pool.providers.iter().filter(|(_, p)| p.present || p.in_flight > 0);
        let tally = self.tally(now);
        let providers = providers.map(|(id, _)| {
            let tally = tally.get(id).copied().unwrap_or_default();
            ProviderView { tally, ..self.view_provider(id, now, &keys_of, &mut left) }
        });
        let providers = providers.collect();
        View {
            at: now,
            totals: self.totals,
            waiting: self.room.by_class,
            waiting_clients: self.room.clients_most(CLIENTS_MAX),
            waits: self.waits(),
            waiting_bytes: self.room.bytes,
            retry_budget: self.budget.left(now.mono_ns, &self.pool.settings.retry),
            events_dropped: self.events.dropped,
            draining: self.draining,
            adhoc_routes: self.routes.adhoc.len(),
            providers,
            keys_left_out: usize::saturating_sub(keys, KEYS_MAX),
            models: self.view_estimates(),
        }
    }

    fn waits(&self) -> Vec<Why> {
        let first = self.room.heads().filter_map(|id| self.requests.get(id)?.place.waits_for);
        first.map(|waited| waited.why).take(LINES_MAX).collect()
    }

    fn view_estimates(&self) -> Vec<EstimateView> {
        let known = self.pool.models.iter().filter(|(_, m)| m.stats.off().answers > 0);
        let mut models: Vec<_> = known
            .map(|(_, m)| EstimateView {
                model: m.name.clone(),
                answers: m.stats.off().answers,
                input_error: m.stats.off().share,
                input_ratio: [false, true].map(|wide| m.stats.input_ratio(wide)),
                output_tokens: m.stats.usual_output(),
            })
            .collect();
        models.sort_by(|a, b| b.answers.cmp(&a.answers).then_with(|| a.model.cmp(&b.model)));
        models.truncate(MODELS_MAX);
        models
    }

    /// By how much estimates of the input were off lately, over all models by their answers, as a share of what was
    /// reported. `None` before the first.
    pub fn input_error(&self) -> Option<f64> {
        let (mut answers, mut off) = (0_u64, 0.0);
        for (_, model) in self.pool.models.iter() {
            answers += model.stats.off().answers;
            off += model.stats.off().share * model.stats.off().answers as f64;
        }
        (answers > 0).then(|| off / answers as f64)
    }

    fn view_provider(
        &self,
        id: usize,
        now: Now,
        keys_of: &Map<AccountId, Vec<usize>>,
        left: &mut usize,
    ) -> ProviderView {
        let p = &self.pool.providers[id];
        let id = ProviderId(crate::route::to_u32(id));
        let shut = self.pool.provider_models.iter().filter(|(_, pm)| pm.provider == id);
        let shut = shut.filter_map(|(_, pm)| {
            let capacity = pm.capacity.is_shut(now.mono_ns).then_some(pm.capacity.until());
            let breaker = pm.breaker.is_open(now.mono_ns).then(|| pm.breaker.until());
            Some((self.pool.models[pm.model].name.clone(), capacity.max(breaker)?))
        });
        let accounts =
            self.pool.accounts.iter().filter(|(_, a)| a.provider == id && (a.present || a.in_flight > 0));
        let accounts = accounts.map_while(|(a, _)| {
            let keys = keys_of.get(&AccountId(crate::route::to_u32(a))).map_or(&[][..], Vec::as_slice);
            (*left > 0).then(|| self.view_account(a, now, keys, left))
        });
        ProviderView {
            id,
            name: p.name.clone(),
            in_flight: p.in_flight,
            counts: p.counts,
            open_until: p.breaker.is_open(now.mono_ns).then(|| p.breaker.until()),
            tally: Tally::default(),
            no_capacity: shut.take(PER_KEY_MAX).collect(),
            accounts: accounts.collect(),
        }
    }

    fn view_account(&self, id: usize, now: Now, keys: &[usize], left: &mut usize) -> AccountView {
        let a = &self.pool.accounts[id];
        let id = AccountId(crate::route::to_u32(id));
        let learned = a.models.iter().flat_map(|am| &self.pool.account_models[*am].domains);
        let mut domains: Vec<usize> = a.domains.iter().chain(learned).copied().collect();
        domains.sort_unstable();
        domains.dedup();
        let keys: Vec<KeyView> = keys.iter().take(*left).map(|k| self.view_key(*k, now)).collect();
        *left -= keys.len();
        AccountView {
            id,
            name: a.name.clone(),
            in_flight: a.in_flight,
            counts: a.counts,
            benched: out(&a.bench, now),
            quota: out(&a.quota, now)
                .or_else(|| out(&a.free, now))
                .or_else(|| self.learned_out(&a.domains, now)),
            limits: self.view_limits(&domains, now),
            keys,
        }
    }

    /// A limit that is known from refusals alone has shut these.
    fn learned_out(&self, domains: &[usize], now: Now) -> Option<Out> {
        let learners = domains.iter().filter_map(|d| self.pool.domains.get(*d)?.learner.as_ref());
        let until = learners.filter_map(|l| l.shut_until(now.mono_ns)).max()?;
        Some(Out { until_mono_ns: until, why: Class::Quota })
    }

    fn view_limits(&self, domains: &[usize], now: Now) -> Vec<LimitView> {
        let known = domains.iter().filter_map(|d| self.pool.domains.get(*d));
        let shown = known.filter(|d| d.size().is_finite()).take(PER_KEY_MAX);
        shown
            .map(|d| LimitView {
                dimension: d.dimension,
                models: d.models.0.clone(),
                daily: d.daily,
                size: d.size(),
                level: d.level(now),
                queued: d.queued,
                source: d.source,
            })
            .collect()
    }

    fn view_key(&self, id: usize, now: Now) -> KeyView {
        let k = &self.pool.keys[id];
        let settings = &self.pool.settings.breaker;
        let models = k.targets.iter().take(PER_KEY_MAX).map(|t| {
            let t = &self.pool.targets[*t];
            let (failed, total) = t.breaker.totals(now.mono_ns, settings);
            ModelView {
                model: self.pool.models[t.model].name.clone(),
                breaker_open_until: t.breaker.is_open(now.mono_ns).then(|| t.breaker.until()),
                benched: out(&t.bench, now),
                quota: out(&self.pool.account_models[t.account_model].quota, now)
                    .or_else(|| self.learned_out(&self.pool.account_models[t.account_model].domains, now)),
                failures: (t.breaker.run(), failed, total),
                first_output_ns: t.first_output[1].get().map(|ns| crate::time::ns_of(ns / 1e9)),
                in_flight: t.in_flight,
            }
        });
        KeyView {
            id: KeyId(crate::route::to_u32(id)),
            name: k.name.clone(),
            enabled: k.enabled,
            in_flight: k.in_flight,
            counts: k.counts,
            benched: out(&k.bench, now),
            quota: out(&k.quota, now),
            limits: self.view_limits(&k.domains, now),
            models: models.collect(),
        }
    }
}
