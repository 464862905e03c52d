//! Who asks: one source of requests each, with the models of traffic that there are, and the file of a replay.

use super::SpecError;
use keymux_policy::Priority;
use serde::{Deserialize, Serialize};

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
    /// The lines of a replay, in order of time.
    #[serde(skip)]
    pub lines: Vec<Line>,
}

/// A line of a replay. What it leaves open is as its traffic has it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Line {
    /// When it comes, in seconds.
    pub at_s: f64,
    /// Tokens of the prompt.
    pub input: u64,
    /// Tokens of the answer.
    pub output: u64,
    /// Among the clients of the traffic.
    pub client: u64,
    /// Which route, by its place among all.
    pub route: Option<u32>,
    /// The cap that the caller states.
    pub max_tokens: Option<u64>,
    /// How long it will wait for its turn.
    pub deadline_ms: Option<u64>,
    /// By what whoever wrote the line knows it again, see [`crate::Served`].
    pub tag: u32,
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

/// Reads the lines of a replay: CSV. Errors name the file and the line.
pub(super) fn lines(path: &str, text: &str) -> Result<Vec<Line>, SpecError> {
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
            (at_s >= 0.0).then_some(Line { at_s, input, output, client, ..Line::default() })
        })();
        let wanted = "wanted `seconds,input tokens,output tokens[,number of the client]`";
        lines.push(parsed.ok_or_else(|| SpecError::Sense(format!("{path}:{}: {wanted}", n + 1)))?);
    }
    lines.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    Ok(lines)
}
