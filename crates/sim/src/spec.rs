//! A scenario as it is written down: who sells, who buys, what the network does, what must come out. Data only, from
//! TOML; a misspelt field is an error, because an expectation that is silently ignored proves nothing.

mod route;
mod traffic;

pub use route::{KeyTerms, Place, Route, StrategyName};
pub use traffic::{Arrivals, Class, Line, Tokens, Traffic};

use keymux_policy::fleet::Settings;
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
    /// Numbers of the gateway's configuration that rule breakers, retries and the waiting room.
    #[serde(skip)]
    pub settings: Option<Settings>,
    /// The gateway restarts at these seconds, with its levels saved; nobody listens for a second, and whoever is cut off
    /// comes again then.
    pub restart_at_s: Vec<f64>,
    /// The providers, as `keymux_provider` has them.
    #[serde(rename = "provider")]
    pub providers: Vec<ProviderSpec>,
    /// More accounts, all alike.
    #[serde(rename = "accounts")]
    pub accounts: Vec<Copies>,
    /// What the gateway knows of single keys, by `provider/key`.
    pub keys: BTreeMap<String, KeyTerms>,
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
            settings: None,
            restart_at_s: Vec::new(),
            providers: Vec::new(),
            accounts: Vec::new(),
            keys: BTreeMap::new(),
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
    /// A name that there is not.
    #[error("there is no {what} `{name}`")]
    Unknown {
        /// Of what kind.
        what: &'static str,
        /// As it was written.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
}

impl Scenario {
    /// Reads a scenario. Errors point at the line.
    pub fn read(text: &str) -> Result<Self, SpecError> {
        Ok(toml::from_str(text)?)
    }

    /// Reads the files that replays name, through whoever may read files. Errors name file and line.
    pub fn attach(&mut self, mut read: impl FnMut(&str) -> Result<String, String>) -> Result<(), SpecError> {
        for source in &mut self.traffic {
            let Arrivals::Replay(path) = &source.arrivals else { continue };
            let text = read(path).map_err(|e| SpecError::Sense(format!("replay `{path}`: {e}")))?;
            source.lines = traffic::lines(path, &text)?;
        }
        Ok(())
    }

    /// Its routes; where it names none, the one over all providers.
    pub fn routes(&self) -> Vec<Route> {
        if !self.routes.is_empty() {
            return self.routes.clone();
        }
        let all = self.providers.iter().map(|p| Place::named(&p.name)).collect();
        vec![Route { name: "chat".to_owned(), tiers: vec![all], strategy: StrategyName::Headroom }]
    }

    /// The scenario as text.
    pub fn write(&self) -> String {
        toml::to_string(self).unwrap_or_else(|error| format!("# cannot be written: {error}\n"))
    }
}
