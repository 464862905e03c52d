//! What is told of providers, accounts, keys and their limits: the policy's own view of the moment, cut to what the
//! configuration in force names.

use super::OTHER;
use super::scrape::Series;
use super::table::Metric;
use crate::admin::{KeyState, key_state};
use crate::checks::Known;
use crate::live::Snapshot;
use keymux_config::LimitSpec;
use keymux_policy::View;
use keymux_policy::fleet::Dimension;
use keymux_policy::view::{AccountView, KeyView, LimitView, ProviderView};
use std::collections::{BTreeMap, HashSet};
use std::fmt;

type Written = Result<(), fmt::Error>;

/// Everything that requests can be sent with.
pub(super) struct Pool<'a> {
    snapshot: &'a Snapshot,
    view: &'a View,
}

impl<'a> Pool<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, view: &'a View) -> Self {
        Self { snapshot, view }
    }

    /// What a reload removed stays in the policy while it is in flight, but is told no more.
    fn configured(&self) -> impl Iterator<Item = &'a ProviderView> {
        self.view.providers.iter().filter(|p| self.snapshot.upstream(p.id).is_some())
    }

    fn configured_accounts(&self) -> impl Iterator<Item = (&'a ProviderView, &'a AccountView)> {
        let all = self.configured().flat_map(|p| p.accounts.iter().map(move |a| (p, a)));
        all.filter(|(_, a)| self.snapshot.account_names.contains_key(&a.id))
    }

    fn configured_keys(&self) -> impl Iterator<Item = (&'a ProviderView, &'a AccountView, &'a KeyView)> {
        let all = self.configured().flat_map(|p| p.accounts.iter().map(move |a| (p, a)));
        let all = all.flat_map(|(p, a)| a.keys.iter().map(move |k| (p, a, k)));
        all.filter(|(_, _, k)| self.snapshot.key(k.id).is_some())
    }

    /// Attempts, tokens and money by key.
    pub(super) fn counters(&self, series: &mut Series<'_>) -> Written {
        for (provider, keys) in self.snapshot.config.providers.iter().zip(&self.snapshot.key_ids) {
            for key in keys.iter().filter_map(|id| self.snapshot.key(*id)) {
                let (provider, counters) = (&*provider.name, &key.counters);
                match series.metric() {
                    Metric::Attempts => counters
                        .attempts()
                        .try_for_each(|(outcome, n)| series.count(&[provider, &key.name, outcome], n))?,
                    Metric::Tokens => counters.tokens().try_for_each(|((direction, kind), n)| {
                        series.count(&[provider, &key.name, direction, kind], n)
                    })?,
                    Metric::Cost => counters
                        .cost_usd()
                        .try_for_each(|(source, usd)| series.sum(&[provider, &key.name, source], usd))?,
                    _ => series.count(&[provider, &key.name], counters.unpriced())?,
                }
            }
        }
        Ok(())
    }

    /// How keys are.
    pub(super) fn keys(&self, series: &mut Series<'_>) -> Written {
        let now_ns = self.view.at.mono_ns;
        for (provider, account, key) in self.configured_keys() {
            let names = [&*provider.name, &*account.name, &*key.name];
            match series.metric() {
                Metric::KeyState => {
                    let now = key_state(key, account);
                    for state in KeyState::ALL {
                        let [p, a, k] = names;
                        series.flag(&[p, a, k, state.label()], state == now)?;
                    }
                }
                Metric::KeyCooldown => {
                    let until = key.benched.or(account.benched).map_or(0, |out| out.until_mono_ns);
                    series.gauge(&names, until.saturating_sub(now_ns) as f64 / 1e9)?;
                }
                Metric::KeyInFlight => series.number(&names, u64::from(key.in_flight))?,
                _ => {
                    let open = key.models.iter().filter(|m| m.breaker_open_until.is_some()).count();
                    series.number(&names, open as u64)?;
                }
            }
        }
        Ok(())
    }

    /// How old what checks know of keys is.
    pub(super) fn checks(&self, series: &mut Series<'_>, known: &Known) -> Written {
        let now = self.view.at.unix_ns;
        for (provider, account, key) in self.configured_keys() {
            if let Some(at) = known.found_at(key.id) {
                let names = [&*provider.name, &*account.name, &*key.name];
                series.gauge(&names, now.saturating_sub(at) as f64 / 1e9)?;
            }
        }
        Ok(())
    }

    /// Which accounts are out.
    pub(super) fn accounts(&self, series: &mut Series<'_>) -> Written {
        self.configured_accounts()
            .try_for_each(|(p, account)| series.flag(&[&p.name, &account.name], account.benched.is_some()))
    }

    /// Which providers are out.
    pub(super) fn providers(&self, series: &mut Series<'_>) -> Written {
        self.configured().try_for_each(|provider| match series.metric() {
            Metric::ProviderKeys => series.number(&[&provider.name], provider.tally.keys as u64),
            Metric::ProviderKeysOut => series.number(&[&provider.name], provider.tally.out as u64),
            Metric::ProviderOut => series.flag(&[&provider.name], provider.open_until.is_some()),
            _ => series.number(&[&provider.name], provider.no_capacity.len() as u64),
        })
    }

    /// How full limits are.
    pub(super) fn headroom(&self, series: &mut Series<'_>) -> Written {
        let known = self.known_models();
        let mut least: BTreeMap<[&str; 4], BTreeMap<String, f64>> = BTreeMap::new();
        let mut note = |names: [&'a str; 3], limits: &[LimitView]| {
            for limit in limits {
                let [provider, account, key] = names;
                let of = least.entry([provider, account, key, limit_label(limit)]).or_default();
                let left = if limit.size > 0.0 { (limit.level / limit.size).clamp(0.0, 1.0) } else { 0.0 };
                let least = of.entry(models_label(limit, &known)).or_insert(left);
                *least = least.min(left);
            }
        };
        for (provider, account) in self.configured_accounts() {
            note([&provider.name, &account.name, ""], &account.limits);
        }
        for (provider, account, key) in self.configured_keys() {
            note([&provider.name, &account.name, &key.name], &key.limits);
        }
        for ([provider, account, key, limit], by_models) in &least {
            for (models, left) in by_models {
                series.gauge(&[provider, account, key, limit, models], *left)?;
            }
        }
        Ok(())
    }

    /// Names and patterns of models that stand in the configuration. A limit that was learned is of the model that a
    /// client asked for.
    fn known_models(&self) -> HashSet<&'a str> {
        let config = &self.snapshot.config;
        let targets = config.routes.iter().flat_map(|route| route.tiers.iter().flatten());
        let mut known: HashSet<&str> = targets.map(|target| &*target.model).collect();
        let of =
            |limits: &'a [LimitSpec]| limits.iter().flat_map(|limit| limit.models.0.iter().map(|m| &**m));
        for provider in &config.providers {
            known.extend(provider.accounts.iter().flat_map(|account| of(&account.limits)));
            known.extend(provider.keys.iter().flat_map(|key| of(&key.limits)));
        }
        known
    }
}

fn models_label(limit: &LimitView, known: &HashSet<&str>) -> String {
    if limit.models.iter().all(|model| known.contains(&**model)) {
        limit.models.join(",")
    } else {
        OTHER.to_owned()
    }
}

fn limit_label(limit: &LimitView) -> &'static str {
    match (limit.dimension, limit.daily) {
        (Dimension::Requests, false) => "requests",
        (Dimension::Requests, true) => "requests_day",
        (Dimension::TotalTokens, false) => "tokens",
        (Dimension::TotalTokens, true) => "tokens_day",
        (Dimension::InputTokens, false) => "input_tokens",
        (Dimension::InputTokens, true) => "input_tokens_day",
        (Dimension::OutputTokens, false) => "output_tokens",
        (Dimension::OutputTokens, true) => "output_tokens_day",
        (Dimension::Concurrent, _) => "concurrent",
        (Dimension::NanoUsd, false) => "usd",
        (Dimension::NanoUsd, true) => "usd_day",
    }
}
