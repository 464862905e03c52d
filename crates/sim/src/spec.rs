//! A scenario as it is written down: who sells, who buys, what the network does, what must come out. Data only, from
//! TOML; a misspelt field is an error, because an expectation that is silently ignored proves nothing.

use keymux_policy::Priority;
use keymux_provider::{AccountSpec, ProviderSpec};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A scenario.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// What it shows, in a line.
    pub title: String,
    /// How long requests keep arriving. What then still waits or runs is seen to its end.
    pub seconds: f64,
    /// What the gateway knows of the limits before the first request.
    pub limits: Limits,
    /// Providers whose limits are known otherwise than the rest's.
    pub limits_of: BTreeMap<String, Limits>,
    /// Goodput, answers and shares count only requests that come from this second on: what is learned is learned by then.
    pub count_from_s: f64,
    /// Goodput counts requests, or the tokens of their prompts.
    pub count: Count,
    /// Whether conversations are kept where their prompt is cached.
    pub affinity: bool,
    /// The wire between gateway and providers.
    pub network: Network,
    /// How long the gateway waits for whom.
    pub patience: Patience,
    /// How many may wait (default: as the gateway has it).
    pub waiters_max: Option<usize>,
    /// The gateway restarts at these seconds, with its levels saved; nobody listens for a second, and whoever is cut off
    /// comes again then.
    pub restart_at_s: Vec<f64>,
    /// The providers, as `keymux_provider` has them.
    #[serde(rename = "provider")]
    pub providers: Vec<ProviderSpec>,
    /// More accounts, all alike.
    #[serde(rename = "accounts")]
    pub accounts: Vec<Copies>,
    /// Public model names and their tiers. Without any: one route `chat` over all providers.
    #[serde(rename = "route")]
    pub routes: Vec<Route>,
    /// Who asks.
    #[serde(rename = "traffic")]
    pub traffic: Vec<Traffic>,
    /// Others that use the same accounts, unseen.
    #[serde(rename = "stranger")]
    pub strangers: Vec<Stranger>,
    /// What must come out: a range (both ends included) by the name of a figure.
    pub expect: BTreeMap<String, [f64; 2]>,
    /// Expectations that are not met yet: what the figure is instead, and why. As soon as one is met, the mark must go.
    pub known: BTreeMap<String, Known>,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            title: String::new(),
            seconds: 300.0,
            limits: Limits::default(),
            limits_of: BTreeMap::new(),
            count_from_s: 0.0,
            count: Count::default(),
            affinity: true,
            network: Network::default(),
            patience: Patience::default(),
            waiters_max: None,
            restart_at_s: Vec::new(),
            providers: Vec::new(),
            accounts: Vec::new(),
            routes: Vec::new(),
            traffic: Vec::new(),
            strangers: Vec::new(),
            expect: BTreeMap::new(),
            known: BTreeMap::new(),
        }
    }
}

/// What the gateway knows of limits at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limits {
    /// All of them, from the configuration.
    #[default]
    Declared,
    /// None: they are learned from headers, where the provider sends any, and from refusals.
    Learned,
}

/// What goodput counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Count {
    /// Requests.
    #[default]
    Requests,
    /// Tokens of prompts.
    Tokens,
}

/// The wire: each way takes `delay_ms` and up to `jitter_ms` more, drawn anew each time, so that what is sent later may
/// arrive earlier.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the type's own documentation says it")]
pub struct Network {
    pub delay_ms: f64,
    pub jitter_ms: f64,
}

impl Default for Network {
    fn default() -> Self {
        Self { delay_ms: 5.0, jitter_ms: 20.0 }
    }
}

/// How long the gateway waits for a provider, as its configuration says.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Patience {
    /// For the head of an answer.
    pub first_byte_ms: u64,
    /// For the next piece of a stream.
    pub idle_ms: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self { first_byte_ms: 120_000, idle_ms: 60_000 }
    }
}

/// Accounts that are all alike.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Copies {
    /// Where.
    pub provider: String,
    /// How many.
    pub copies: u32,
    /// Keys of each.
    pub keys: u32,
    /// What each is like; its name and its keys' names are given by number.
    pub like: AccountSpec,
}

/// A public model name.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Route {
    /// Its name.
    pub name: String,
    /// Providers, tier by tier: `provider`, or `provider/account` for the keys of one account.
    pub tiers: Vec<Vec<String>>,
    /// How to choose (`headroom`, `round_robin`, `weighted`, `least_in_flight`, `fastest`).
    pub strategy: StrategyName,
}

/// The names of the strategies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the configuration's")]
pub enum StrategyName {
    #[default]
    Headroom,
    RoundRobin,
    Weighted,
    LeastInFlight,
    Fastest,
}

/// Requests of one kind, from one client or from many alike.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Traffic {
    /// Name of the client; of many, their number is added.
    pub client: String,
    /// How many clients share this traffic evenly.
    pub clients: u64,
    /// Which route.
    pub route: Option<String>,
    /// First second.
    pub from_s: f64,
    /// Last second (default: the scenario's end).
    pub to_s: Option<f64>,
    /// When they come.
    pub arrivals: Arrivals,
    /// Tokens of the prompt.
    pub input: Tokens,
    /// Tokens of the answer, as long as `max_tokens` lets it be.
    pub output: Tokens,
    /// The cap that the caller states.
    pub max_tokens: Option<u64>,
    /// What the gateway guesses for each token of the prompt.
    pub guess: f64,
    /// How long they will wait for their turn.
    pub deadline_ms: u64,
    /// Priority.
    pub class: Class,
    /// Answers come as streams.
    pub stream: bool,
    /// Share of the requests whose caller goes away after a while (up to 5 s).
    pub leaves: f64,
    /// How often a refused caller comes back at the stated time.
    pub comes_back: u32,
    /// The request is wrong in itself: the provider answers 400.
    pub wrong: bool,
    /// The request crashes whatever it meets: the provider answers 500.
    pub poison: bool,
    /// Conversations that each client has at a time; 0 for none.
    pub conversation: u32,
    /// The lines of a replay.
    #[serde(skip)]
    pub lines: Vec<Line>,
}

/// A line of a replay.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Line {
    pub at_s: f64,
    pub input: u64,
    pub output: u64,
    pub client: u64,
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            client: "client".to_owned(),
            clients: 1,
            route: None,
            from_s: 0.0,
            to_s: None,
            arrivals: Arrivals::default(),
            input: Tokens::Fixed(100),
            output: Tokens::Fixed(20),
            max_tokens: Some(100),
            guess: 1.0,
            deadline_ms: 20_000,
            class: Class::default(),
            stream: false,
            leaves: 0.0,
            comes_back: 0,
            wrong: false,
            poison: false,
            conversation: 0,
            lines: Vec::new(),
        }
    }
}

/// When requests come.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Arrivals {
    /// Independent of each other, so many a second.
    Poisson(f64),
    /// Evenly spaced, so many a second.
    Uniform(f64),
    /// `base` a second, and `peak` a second for `for_s` seconds, every `every_s` seconds, first at `at_s`.
    Burst {
        /// A second, between bursts.
        base: f64,
        /// A second, in a burst.
        peak: f64,
        /// When the first begins.
        at_s: f64,
        /// How long one lasts.
        for_s: f64,
        /// From one to the next.
        every_s: f64,
    },
    /// Swings as a sine between `low` and `high` a second.
    Diurnal {
        /// At night.
        low: f64,
        /// By day.
        high: f64,
        /// Length of a day.
        period_s: f64,
    },
    /// So many callers that each wait for their answer, think, and ask again.
    Closed {
        /// How many.
        callers: u64,
        /// Mean pause after an answer.
        think_ms: f64,
    },
    /// One, at the beginning.
    Once,
    /// So many, all at the beginning.
    Herd(u64),
    /// As written down in this file: CSV with a line for each request: seconds, input tokens, output tokens, and, if
    /// there are several, the number of the client. See [`Scenario::attach`].
    Replay(String),
}

impl Default for Arrivals {
    fn default() -> Self {
        Self::Poisson(1.0)
    }
}

/// How large.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Tokens {
    /// Always the same.
    Fixed(u64),
    /// Log-normal between two ends.
    LogNormal {
        /// Half are smaller.
        median: f64,
        /// Sigma of the logarithm.
        sigma: f64,
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// Any between two ends.
    Between(u64, u64),
}

/// Priority classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the configuration's")]
pub enum Class {
    High,
    #[default]
    Normal,
    Low,
}

impl From<Class> for Priority {
    fn from(class: Class) -> Self {
        match class {
            Class::High => Priority::High,
            Class::Normal => Priority::Normal,
            Class::Low => Priority::Low,
        }
    }
}

/// Somebody else who uses one of our accounts.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stranger {
    /// `provider/account`.
    pub account: String,
    /// First second.
    pub from_s: f64,
    /// Last second (default: the end).
    pub to_s: Option<f64>,
    /// When they come.
    pub arrivals: Arrivals,
    /// Tokens of the prompt.
    pub input: Tokens,
    /// Tokens of the answer.
    pub output: Tokens,
    /// The cap.
    pub max_tokens: Option<u64>,
}

impl Default for Stranger {
    fn default() -> Self {
        Self {
            account: String::new(),
            from_s: 0.0,
            to_s: None,
            arrivals: Arrivals::default(),
            input: Tokens::Fixed(100),
            output: Tokens::Fixed(20),
            max_tokens: Some(100),
        }
    }
}

/// An expectation that is not met yet.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// Where the figure lies today.
    pub now: [f64; 2],
    /// Why, as far as that is known.
    pub why: String,
}

/// A scenario that cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The text is no scenario; the message has the line and points at it.
    #[error("{0}")]
    Text(#[from] toml::de::Error),
    /// It does not fit together.
    #[error("{0}")]
    Sense(String),
}

impl Scenario {
    /// Reads a scenario. Errors point at the line.
    pub fn read(text: &str) -> Result<Self, SpecError> {
        Ok(toml::from_str(text)?)
    }

    /// Reads the files that replays name, through whoever may read files. Errors name file and line.
    pub fn attach(&mut self, mut read: impl FnMut(&str) -> Result<String, String>) -> Result<(), SpecError> {
        for traffic in &mut self.traffic {
            let Arrivals::Replay(path) = &traffic.arrivals else { continue };
            let text = read(path).map_err(|e| SpecError::Sense(format!("replay `{path}`: {e}")))?;
            traffic.lines = lines(path, &text)?;
        }
        Ok(())
    }

    /// The scenario as text.
    pub fn write(&self) -> String {
        toml::to_string(self).unwrap_or_else(|error| format!("# cannot be written: {error}\n"))
    }
}

fn lines(path: &str, text: &str) -> Result<Vec<Line>, SpecError> {
    let mut lines = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut fields = line.split(',').map(str::trim);
        let mut next = || fields.next().filter(|f| !f.is_empty());
        let parsed = (|| {
            let at_s: f64 = next()?.parse().ok()?;
            let (input, output) = (next()?.parse().ok()?, next()?.parse().ok()?);
            let client = next().map_or(Some(0), |c| c.parse().ok())?;
            (at_s >= 0.0).then_some(Line { at_s, input, output, client })
        })();
        let wanted = "wanted `seconds,input tokens,output tokens[,number of the client]`";
        lines.push(parsed.ok_or_else(|| SpecError::Sense(format!("{path}:{}: {wanted}", n + 1)))?);
    }
    lines.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    Ok(lines)
}
