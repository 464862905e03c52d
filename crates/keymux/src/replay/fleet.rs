//! The gateway's own configuration as the providers of a scenario: accounts, keys, limits, routes. What it declares (and
//! what a gateway has learned and saved) is enforced there and known here; where neither knows a limit there is none, and
//! that is said. Failures, other users of an account and headers have no part in it.

use super::row::Row;
use keymux_config::{Config, Dialect, Provider, Resolution, Target};
use keymux_policy::fleet::{Charging, Dimension, LimitSpec, OutputCharge, Shape};
use keymux_policy::saved::{Saved, SavedLimit, SavedMeter};
use keymux_provider as theirs;
use keymux_sim::Scenario;
use keymux_sim::spec::{KeyTerms, Limits, Network, Patience, Place, Route};
use std::collections::HashMap;
use std::sync::Arc;

/// Whose latency nobody measured answers like this: a middling model of today.
const USUAL: Latency = Latency { first_ms: 600.0, sigma: 0.4, per_token_ms: 12.0 };
const DAY_NS: u64 = 86_400_000_000_000;

/// A fleet to replay against.
pub struct Fleet<'c> {
    /// Its providers and routes, without traffic.
    pub scenario: Scenario,
    config: Option<&'c Config>,
    /// Where a model leads at an endpoint.
    routes: HashMap<(Arc<str>, Arc<str>), Result<u32, String>>,
    /// What cannot be enforced, in words.
    pub notes: Vec<String>,
}

/// How long answers take.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Latency {
    first_ms: f64,
    sigma: f64,
    per_token_ms: f64,
}

impl<'c> Fleet<'c> {
    /// That of a scenario; its own traffic, and what it expects of that, stay out.
    pub fn of_scenario(mut scenario: Scenario) -> Self {
        scenario.routes = scenario.routes();
        scenario.traffic.clear();
        scenario.expect.clear();
        scenario.known.clear();
        scenario.count_from_s = 0.0;
        Self { scenario, config: None, routes: HashMap::new(), notes: Vec::new() }
    }

    /// That of a configuration, with the limits that its gateway learned.
    pub fn of_config(config: &'c Config, saved: Option<&Saved>) -> Self {
        let mut notes = Vec::new();
        let mut scenario = Scenario {
            limits: Limits::Declared,
            settings: Some(config.settings.clone()),
            // The time over the network is in what was measured of answers.
            network: Network { delay_ms: 1.0, jitter_ms: 1.0 },
            ..Scenario::default()
        };
        let first_bytes = config.providers.iter().map(|p| p.timeouts.first_byte_plain_ms);
        scenario.patience = Patience {
            first_byte_ms: first_bytes.max().unwrap_or(Patience::default().first_byte_ms),
            ..Patience::default()
        };
        for provider in &config.providers {
            for key in provider.keys.iter().filter(|key| key.enabled) {
                let models = key.models.0.iter().map(ToString::to_string).collect();
                let terms = KeyTerms { weight: key.weight, models };
                scenario.keys.insert(format!("{}/{}", provider.name, key.name), terms);
            }
            scenario.providers.push(vendor(provider, saved, &mut notes));
        }
        Self { scenario, config: Some(config), routes: HashMap::new(), notes }
    }

    /// The route for a model at an endpoint, by its place among the scenario's; or why there is none.
    ///
    /// # Errors
    /// In words.
    pub fn route(&mut self, model: &Arc<str>, endpoint: &Arc<str>) -> Result<u32, String> {
        let of = (model.clone(), endpoint.clone());
        if let Some(known) = self.routes.get(&of) {
            return known.clone();
        }
        let found = match self.config {
            Some(config) => self.configured(config, model, endpoint),
            None => Ok(self.named(model)),
        };
        self.routes.insert(of, found.clone());
        found
    }

    /// Whether nobody on the route charges input that is read from a cache against its limits.
    pub fn charges_fresh_input_only(&self, route: u32) -> bool {
        let free = |place: &Place| {
            let provider = self.scenario.providers.iter().find(|p| p.name == place.provider);
            provider.is_some_and(|p| p.charging.cached_input_free)
        };
        let route = usize::try_from(route).ok().and_then(|at| self.scenario.routes.get(at));
        route.is_some_and(|route| route.tiers.iter().flatten().all(free))
    }

    /// A scenario knows models by its routes alone; what has no route of its name takes the first.
    fn named(&self, model: &str) -> u32 {
        let at = self.scenario.routes.iter().position(|r| r.name == model).unwrap_or(0);
        u32::try_from(at).unwrap_or(0)
    }

    fn configured(&mut self, config: &Config, model: &str, path: &str) -> Result<u32, String> {
        let endpoint = keymux_config::endpoint_at(path).ok_or_else(|| format!("no endpoint `{path}`"))?;
        let (tiers, strategy) = match config.resolve(model) {
            Resolution::Route(route) => {
                let route = &config.routes[route];
                (route.tiers.clone(), route.strategy)
            }
            Resolution::Adhoc { provider, model } => {
                let target = Target { provider, model: model.into(), keys: Vec::new(), weight: 1.0 };
                (vec![vec![target]], config.default_strategy)
            }
            Resolution::Unknown { suggestions } => {
                let meant = suggestions.first().map(|s| format!("; did you mean `{s}`?")).unwrap_or_default();
                return Err(format!("no route for model `{model}`{meant}"));
            }
        };
        let serves = |target: &&Target| config.providers[target.provider].endpoints.has(endpoint);
        let places = tiers.iter().map(|tier| -> Vec<Place> {
            tier.iter().filter(serves).filter_map(|target| place(config, target)).collect()
        });
        let tiers: Vec<Vec<Place>> = places.filter(|tier| !tier.is_empty()).collect();
        if tiers.is_empty() {
            return Err(format!("no key serves `{path}` for model `{model}`"));
        }
        let name = format!("{model} {path}");
        self.scenario.routes.push(Route { name, tiers, strategy: strategy.into() });
        Ok(u32::try_from(self.scenario.routes.len() - 1).unwrap_or(u32::MAX))
    }

    /// Lets providers answer as fast as they did: each model at each provider by its own answers, else by the provider's,
    /// else by all. `false`: nobody measured anything.
    pub fn hurry(&mut self, rows: &[Row]) -> bool {
        let Some(config) = self.config else { return true };
        let mut measured: HashMap<(Option<String>, Option<String>), Sum> = HashMap::new();
        for row in rows.iter().filter(|r| r.answered && r.attempts == 1 && r.total_us > 0) {
            let provider = config.providers.iter().position(|p| *p.name == *row.provider);
            let upstream = provider.map(|p| upstream(config, p, &row.model));
            let name = provider.map(|_| row.provider.to_string());
            for of in [(name.clone(), upstream), (name, None), (None, None)] {
                measured.entry(of).or_default().add(row);
            }
        }
        let of = |provider: &str, model: Option<&str>| {
            let provider = Some(provider.to_owned());
            let ways = [(provider.clone(), model.map(str::to_owned)), (provider, None), (None, None)];
            ways.iter().find_map(|way| measured.get(way)).map_or(USUAL, Sum::latency)
        };
        let places = self.scenario.routes.iter().flat_map(|r| r.tiers.iter().flatten());
        let mut asked: Vec<(String, String)> =
            places.filter_map(|p| p.model.clone().map(|model| (p.provider.clone(), model))).collect();
        asked.sort();
        asked.dedup();
        for provider in &mut self.scenario.providers {
            provider.latency = of(&provider.name, None).spec();
            let models = asked.iter().filter(|(name, _)| *name == provider.name);
            provider.models = models
                .map(|(name, model)| theirs::ModelSpec {
                    id: model.clone(),
                    context: u64::MAX,
                    latency: Some(of(name, Some(model)).spec()),
                    ..theirs::ModelSpec::default()
                })
                .collect();
        }
        !measured.is_empty()
    }

    /// `provider/account` of those that nothing limits, if requests may go there.
    pub fn unlimited(&self) -> Vec<String> {
        let mut names = Vec::new();
        for provider in self.scenario.providers.iter().filter(|p| p.limits.is_empty()) {
            let reached = |account: &&theirs::AccountSpec| {
                let places = self.scenario.routes.iter().flat_map(|r| r.tiers.iter().flatten());
                let mut of = places.filter(|place| place.provider == provider.name);
                let named = |place: &Place| {
                    place.account.as_ref().is_none_or(|a| *a == account.name)
                        && (place.keys.is_empty()
                            || account.keys.iter().any(|k| place.keys.contains(&k.name)))
                };
                !account.keys.is_empty() && of.any(named)
            };
            let open = provider.accounts.iter().filter(reached).filter(|account| {
                account.limits.is_empty() && account.keys.iter().all(|k| k.limits.is_empty())
            });
            names.extend(open.map(|account| format!("{}/{}", provider.name, account.name)));
        }
        names
    }
}

/// The provider's name of a model.
fn upstream(config: &Config, provider: usize, model: &str) -> String {
    match config.resolve(model) {
        Resolution::Route(route) => {
            let mut targets = config.routes[route].tiers.iter().flatten();
            let there = targets.find(|target| target.provider == provider);
            there.map_or_else(|| model.to_owned(), |target| target.model.to_string())
        }
        Resolution::Adhoc { model, .. } => model,
        Resolution::Unknown { .. } => model.to_owned(),
    }
}

fn place(config: &Config, target: &Target) -> Option<Place> {
    let provider = &config.providers[target.provider];
    let enabled = |k: &&usize| provider.keys[**k].enabled;
    let keys: Vec<String> =
        target.keys.iter().filter(enabled).map(|k| provider.keys[*k].name.to_string()).collect();
    let any = if target.keys.is_empty() { provider.keys.iter().any(|k| k.enabled) } else { !keys.is_empty() };
    any.then(|| Place {
        keys,
        model: Some(target.model.to_string()),
        weight: target.weight,
        ..Place::named(&provider.name)
    })
}

fn vendor(provider: &Provider, saved: Option<&Saved>, notes: &mut Vec<String>) -> theirs::ProviderSpec {
    let mut accounts: Vec<theirs::AccountSpec> = Vec::new();
    for (a, account) in provider.accounts.iter().enumerate() {
        let name = format!("{}/{}", provider.name, account.name);
        let mut limits: Vec<theirs::LimitSpec> =
            account.limits.iter().filter_map(|l| enforced(l, &name, notes)).collect();
        for limit in learned(saved, &provider.name, &account.name) {
            // What is declared is what holds; of a window that slides, one part is enough.
            if !limits.iter().any(|known| alike(known, &limit)) {
                limits.push(limit);
            }
        }
        let keys = provider.keys.iter().filter(|key| key.account == a && key.enabled).map(|key| {
            let limits = key.limits.iter().filter_map(|l| enforced(l, &name, notes)).collect();
            theirs::KeySpec { name: key.name.to_string(), limits, ..theirs::KeySpec::default() }
        });
        let keys = keys.collect();
        accounts.push(theirs::AccountSpec {
            name: account.name.to_string(),
            limits,
            keys,
            ..theirs::AccountSpec::default()
        });
    }
    theirs::ProviderSpec {
        name: provider.name.to_string(),
        dialect: match provider.dialect {
            Dialect::OpenAi => theirs::Dialect::Openai,
            Dialect::OpenRouter => theirs::Dialect::Openrouter,
            Dialect::Anthropic => theirs::Dialect::Anthropic,
        },
        // All that headers could tell is known.
        headers: Some(theirs::HeaderFamily::None),
        accounts,
        charging: charging(provider.charging),
        cancel_stops_billing: !provider.charging.runs_on_after_cancel,
        default_max_tokens: 1 << 20,
        ..theirs::ProviderSpec::default()
    }
}

fn charging(of: Charging) -> theirs::ChargingSpec {
    let (total_tokens, reserved, refunded) = match of.output {
        OutputCharge::AsProduced => (theirs::TotalTokens::AsProduced, false, false),
        OutputCharge::MaxOfBoth => (theirs::TotalTokens::MaxOfEstimateAndMaxTokens, false, false),
        OutputCharge::SumOfBoth => (theirs::TotalTokens::InputPlusMaxTokens, true, false),
        OutputCharge::MaxTokensRefunded => (theirs::TotalTokens::InputPlusMaxTokens, true, true),
    };
    theirs::ChargingSpec {
        total_tokens,
        output_reserved: reserved,
        refund_unused: refunded,
        cached_input_free: of.cached_input_free,
        refused_count: of.refused_count,
        ..theirs::ChargingSpec::default()
    }
}

fn enforced(limit: &LimitSpec, at: &str, notes: &mut Vec<String>) -> Option<theirs::LimitSpec> {
    let found = spec(limit.dimension, limit.shape, &limit.models.0);
    if found.is_none() {
        notes.push(format!("a limit of {at} in dollars is not enforced"));
    }
    found
}

/// Limits of an account that nobody declared.
fn learned(saved: Option<&Saved>, provider: &str, account: &str) -> Vec<theirs::LimitSpec> {
    let accounts = saved.into_iter().flat_map(|s| &s.accounts);
    let of = accounts.filter(|a| &*a.provider == provider && &*a.account == account);
    of.flat_map(|a| &a.limits).filter(|l| l.learned && l.key.is_none()).filter_map(learned_one).collect()
}

fn learned_one(limit: &SavedLimit) -> Option<theirs::LimitSpec> {
    let shape = match limit.meter {
        SavedMeter::Bucket { capacity, rate, .. } if rate > 0.0 => {
            Shape::Bucket { capacity, refill_per_s: rate }
        }
        SavedMeter::Window { limit, period_ns, by_clock, .. } if period_ns > 0 => {
            if period_ns == DAY_NS {
                Shape::Day { limit, offset_s: 0 }
            } else {
                Shape::Window { limit, period_ns, anchor_unix_ns: by_clock.then_some(0) }
            }
        }
        SavedMeter::Slots { limit } => Shape::Slots { limit },
        _ => return None,
    };
    spec(limit.dimension, shape, &limit.models)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an amount or a time, never negative"
)]
fn spec(dimension: Dimension, shape: Shape, models: &[Box<str>]) -> Option<theirs::LimitSpec> {
    let dimension = match dimension {
        Dimension::Requests => theirs::Dimension::Requests,
        Dimension::InputTokens => theirs::Dimension::InputTokens,
        Dimension::OutputTokens => theirs::Dimension::OutputTokens,
        Dimension::TotalTokens => theirs::Dimension::TotalTokens,
        Dimension::Concurrent => theirs::Dimension::Concurrent,
        Dimension::NanoUsd => return None,
    };
    let whole = |amount: f64| (amount.round().max(1.0)) as u64;
    let base = theirs::LimitSpec {
        dimension,
        models: models.iter().map(ToString::to_string).collect(),
        ..theirs::LimitSpec::default()
    };
    Some(match shape {
        Shape::Bucket { capacity, refill_per_s } => {
            let limit = whole(capacity);
            // Such that so many come back in it, and none is lost to rounding.
            let period_ms = whole(limit as f64 / refill_per_s.max(1e-12) * 1e3);
            theirs::LimitSpec { limit, period_ms, ..base }
        }
        Shape::Window { limit, period_ns, anchor_unix_ns } => theirs::LimitSpec {
            limit: whole(limit),
            period_ms: (period_ns / 1_000_000).max(1),
            shape: theirs::LimitShape::Window,
            anchor: if anchor_unix_ns.is_some() {
                theirs::Anchor::Clock
            } else {
                theirs::Anchor::FirstRequest
            },
            ..base
        },
        Shape::Day { limit, .. } => {
            theirs::LimitSpec { limit: whole(limit), shape: theirs::LimitShape::Day, ..base }
        }
        Shape::Slots { limit } => theirs::LimitSpec { limit: u64::from(limit).max(1), ..base },
    })
}

/// Whether two limits speak of the same thing, so that one of them is enough.
fn alike(a: &theirs::LimitSpec, b: &theirs::LimitSpec) -> bool {
    let daily = |l: &theirs::LimitSpec| l.shape == theirs::LimitShape::Day || l.period_ms >= 86_400_000;
    a.dimension == b.dimension && a.models == b.models && daily(a) == daily(b)
}

/// What was measured of some answers.
#[derive(Default)]
struct Sum {
    n: f64,
    first_ms: f64,
    logs: f64,
    squares: f64,
    writing_ms: f64,
    tokens: f64,
}

impl Sum {
    fn add(&mut self, row: &Row) {
        let served = row.total_us.saturating_sub(row.queue_us);
        let first = row.first_output_us.map_or(served, |us| us.saturating_sub(row.queue_us)).min(served);
        let first_ms = (first as f64 / 1e3).max(0.1);
        self.n += 1.0;
        self.first_ms += first_ms;
        self.logs += first_ms.ln();
        self.squares += first_ms.ln().powi(2);
        self.writing_ms += (served - first) as f64 / 1e3;
        self.tokens += row.output_tokens.saturating_sub(1) as f64;
    }

    fn latency(&self) -> Latency {
        let mean_log = self.logs / self.n;
        Latency {
            first_ms: self.first_ms / self.n,
            sigma: (self.squares / self.n - mean_log.powi(2)).max(0.0).sqrt(),
            per_token_ms: if self.tokens > 0.0 { self.writing_ms / self.tokens } else { 0.0 },
        }
    }
}

impl Latency {
    fn spec(self) -> theirs::LatencySpec {
        theirs::LatencySpec {
            ttft_ms: self.first_ms,
            ttft_sigma: self.sigma,
            per_token_ms: self.per_token_ms,
            ..theirs::LatencySpec::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::tests::row;
    use super::super::traffic;
    use super::*;
    use keymux_config::{World, from_toml};
    use keymux_policy::saved::SavedAccount;
    use keymux_provider::Dimension::{Concurrent, Requests};
    use keymux_provider::LimitShape::{Bucket, Day, Window};
    use keymux_sim::{simulate, variant};

    const TEXT: &str = r#"
        [server]
        max_wait = "7s"
        [[provider]]
        name = "openai"
        keys = [
          { name = "a1", account = "a", secret = "literal:sk-test-a1", weight = 3.0 },
          { name = "a2", account = "a", secret = "literal:sk-test-a2", models = ["gpt-*"] },
          { name = "off", secret = "literal:sk-test-off", enabled = false },
        ]
        account = [{ name = "a", limits = [{ rpm = 60 }, { requests = 100, per = "1h", shape = "window", models = ["o*"] }, { rpd = 500, shape = "window" }, { concurrent = 4 }, { usd = 5, per = "1d" }] }]
        [[provider]]
        name = "anthropic"
        keys = [{ name = "main", secret = "literal:sk-test-main" }]
        [[route]]
        model = "fast"
        max_wait = "3s"
        tiers = [[{ target = "openai:gpt-x", keys = ["a2", "off"] }], ["anthropic:claude-x"]]
        [[client]]
        name = "night"
        secret = "literal:km-test-night"
        priority = "low"
        max_wait = "60s"
    "#;

    fn config() -> Config {
        let none = |_: &str| None;
        let read = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
        let world = World { env: &none, env_names: &[], read: &read, run: &|_| Err("no".to_owned()) };
        from_toml("test", TEXT, &world).unwrap_or_else(|p| panic!("{}", p.render("test", TEXT, false)))
    }

    fn name(name: &str) -> Arc<str> {
        name.into()
    }

    #[test]
    fn a_configuration_becomes_its_providers_with_all_limits() {
        let config = config();
        let fleet = Fleet::of_config(&config, None);
        let account = &fleet.scenario.providers[0].accounts[0];
        let told: Vec<(theirs::Dimension, u64, u64, theirs::LimitShape)> =
            account.limits.iter().map(|l| (l.dimension, l.limit, l.period_ms, l.shape)).collect();
        assert_eq!(
            told,
            [
                (Requests, 60, 60_000, Bucket),
                (Requests, 100, 3_600_000, Window),
                (Requests, 500, 60_000, Day),
                (Concurrent, 4, 60_000, Bucket),
            ]
        );
        assert_eq!(account.limits[1].models, ["o*"]);
        assert!(
            fleet.notes.len() == 1 && fleet.notes[0].contains("openai/a in dollars"),
            "{:?}",
            fleet.notes
        );
        let keys: Vec<&str> = account.keys.iter().map(|k| &*k.name).collect();
        assert_eq!(keys, ["a1", "a2"], "one that is off is none");
        assert_eq!(fleet.scenario.keys["openai/a2"].models, ["gpt-*"]);
        assert!((fleet.scenario.keys["openai/a1"].weight - 3.0).abs() < 1e-9);
        // Its charging is known to both sides as one.
        let anthropic = &fleet.scenario.providers[1].charging;
        assert!(anthropic.cached_input_free && anthropic.total_tokens == theirs::TotalTokens::AsProduced);
    }

    #[test]
    fn what_was_learned_holds_where_nothing_is_declared() {
        let limit = |dimension, daily| SavedLimit {
            key: None,
            dimension,
            daily,
            models: Vec::new(),
            learned: true,
            from_refusals: false,
            meter: SavedMeter::Bucket { capacity: 7.0, rate: 0.5, level: 1.0 },
            shut_until_unix_ns: None,
        };
        let of = |provider: &str, account: &str| SavedAccount {
            provider: provider.into(),
            account: account.into(),
            limits: vec![limit(Dimension::Requests, false), limit(Dimension::TotalTokens, false)],
            ..SavedAccount::default()
        };
        let accounts = vec![of("openai", "a"), of("anthropic", "main"), of("anthropic", "gone")];
        let saved = Saved { at_unix_ns: 1, accounts };
        let config = config();
        let mut fleet = Fleet::of_config(&config, Some(&saved));
        let limits = |p: usize| fleet.scenario.providers[p].accounts[0].limits.clone();
        assert_eq!(
            limits(0).iter().filter(|l| l.dimension == theirs::Dimension::Requests).count(),
            3,
            "declared"
        );
        assert_eq!((limits(0).len(), limits(1).len()), (5, 2));
        assert_eq!((limits(1)[0].limit, limits(1)[0].period_ms), (7, 14_000));
        fleet.route(&name("fast"), &name("chat/completions")).unwrap();
        assert_eq!(fleet.unlimited(), Vec::<String>::new());
        let mut unknown = Fleet::of_config(&config, None);
        unknown.route(&name("anthropic:claude-x"), &name("messages")).unwrap();
        assert_eq!(unknown.unlimited(), ["anthropic/main"]);
    }

    #[test]
    fn models_lead_where_the_gateway_would_send_them() {
        let config = config();
        let mut fleet = Fleet::of_config(&config, None);
        let fast = fleet.route(&name("fast"), &name("chat/completions")).unwrap();
        let tiers = |fleet: &Fleet<'_>, route: u32| fleet.scenario.routes[route as usize].tiers.clone();
        // Anthropic serves no chat/completions, and a key that is off serves nobody.
        assert_eq!(tiers(&fleet, fast).len(), 1);
        assert_eq!(
            (&*tiers(&fleet, fast)[0][0].keys, tiers(&fleet, fast)[0][0].model.as_deref()),
            (&["a2".to_owned()][..], Some("gpt-x"))
        );
        let messages = fleet.route(&name("fast"), &name("messages")).unwrap();
        assert_eq!(tiers(&fleet, messages)[0][0].provider, "anthropic");
        assert!(fleet.charges_fresh_input_only(messages) && !fleet.charges_fresh_input_only(fast));
        let again = fleet.route(&name("fast"), &name("chat/completions")).unwrap();
        assert_eq!((again, fleet.scenario.routes.len()), (fast, 2), "each is made once");
        let unknown = fleet.route(&name("fasst"), &name("chat/completions")).unwrap_err();
        assert!(unknown.contains("did you mean `fast`"), "{unknown}");
        assert!(fleet.route(&name("openai:gpt"), &name("rerank")).unwrap_err().contains("no key serves"));
    }

    #[test]
    fn rows_become_traffic_that_runs_and_can_be_varied() {
        let config = config();
        let mut fleet = Fleet::of_config(&config, None);
        let of = |n: u64, client: &str, endpoint: &str| super::Row {
            model: name("fast"),
            client: name(client),
            endpoint: name(endpoint),
            cached_tokens: 40,
            ..row(n)
        };
        let mut rows = vec![
            of(0, "config:night", "chat/completions"),
            of(1, "", "messages"),
            of(2, "config:night", "chat/completions"),
            super::Row { model: name("none"), ..of(3, "", "messages") },
            super::Row { status: 400, ..of(4, "", "messages") },
        ];
        rows.extend((5..65).map(|n| of(n, "ck-9", "chat/completions")));
        let left_out = traffic::put(&mut fleet, &rows, Some(&config), false);
        assert_eq!(left_out.values().sum::<u64>(), 2);
        let sources = &fleet.scenario.traffic;
        let names: Vec<&str> = sources.iter().map(|t| &*t.client).collect();
        assert_eq!(names, ["night", "everybody", "ck-9"]);
        assert!(matches!(sources[0].class, keymux_sim::spec::Class::Low));
        let line = sources[0].lines[1];
        assert_eq!((line.at_s, line.input, line.output, line.max_tokens), (2.0, 100, 101, Some(101)));
        assert_eq!((line.deadline_ms, sources[2].lines[0].deadline_ms), (Some(60_000), Some(3_000)));
        assert_eq!(sources[1].lines[0].input, 60, "what is cached is not charged there");
        assert!(fleet.hurry(&rows));
        let run = simulate(&fleet.scenario, 1).expect("a run");
        assert_eq!((run.by_name["requests"], run.by_name["answered"]), (63.0, 1.0));
        assert_eq!(run.violations, Vec::<String>::new());
        let lost = variant(&fleet.scenario, "-key:openai/a2").expect("without a key");
        let run = simulate(&lost, 1).expect("a run");
        assert_eq!(run.clients.iter().map(|c| c.answered).collect::<Vec<_>>(), [0, 1, 0]);
    }

    #[test]
    fn models_answer_as_fast_as_they_did() {
        let config = config();
        let mut fleet = Fleet::of_config(&config, None);
        let of = |provider: &str, model: &str, first_ms: u64| super::Row {
            provider: name(provider),
            model: name(model),
            queue_us: 50_000,
            first_output_us: Some(50_000 + first_ms * 1_000),
            total_us: 50_000 + first_ms * 1_000 + 1_000_000,
            ..row(0)
        };
        let retried = super::Row { attempts: 2, ..of("openai", "fast", 90_000) };
        let rows = [of("openai", "fast", 400), of("openai", "openai:other", 800), retried];
        for row in &rows {
            fleet.route(&row.model, &row.endpoint).unwrap();
        }
        fleet.route(&name("fast"), &name("messages")).unwrap();
        assert!(fleet.hurry(&rows));
        let openai = &fleet.scenario.providers[0];
        let latency = |id: &str| openai.models.iter().find(|m| m.id == id).unwrap().latency.clone().unwrap();
        assert!((latency("gpt-x").ttft_ms - 400.0).abs() < 1e-6 && latency("gpt-x").ttft_sigma < 1e-6);
        assert!((latency("gpt-x").per_token_ms - 10.0).abs() < 1e-6, "a second for a hundred tokens");
        assert!((latency("other").ttft_ms - 800.0).abs() < 1e-6);
        assert!((openai.latency.ttft_ms - 600.0).abs() < 1e-6, "any other model of it");
        let anthropic = &fleet.scenario.providers[1];
        assert!((anthropic.latency.ttft_ms - 600.0).abs() < 1e-6, "one that nobody measured");
        let mut none = Fleet::of_config(&config, None);
        assert!(!none.hurry(&[super::Row { total_us: 0, ..row(0) }]));
        assert!((none.scenario.providers[0].latency.ttft_ms - USUAL.first_ms).abs() < 1e-6);
    }
}
