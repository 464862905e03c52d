//! What a batch came to: counts, tokens, money and times, by model and key. Bounded, whatever a file names.

use super::engine::Over;
use super::journal::Kind;
use hdrhistogram::Histogram;
use keymux_store::Record;
use std::collections::BTreeMap;
use std::collections::HashMap;

/// Rows of the summary; what comes beyond is told together.
const ROWS_MAX: usize = 200;
/// Errors that are told apart.
const ERRORS_MAX: usize = 20;
/// Longest time that is told exactly, in milliseconds.
const LATENCY_MS_MAX: u64 = 86_400_000;

/// Sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Lines with an answer.
    pub answered: u64,
    /// Lines that ended with an error.
    pub failed: u64,
    /// Input tokens.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Nano-dollars, of lines whose cost is known.
    pub cost_nano_usd: u64,
    /// Lines whose cost nobody knows.
    pub cost_unknown: u64,
    /// Attempts beyond the first.
    pub retries: u64,
}

impl Sum {
    fn add(&mut self, kind: Kind, record: &Record) {
        match kind {
            Kind::Answered => self.answered += 1,
            Kind::Failed | Kind::Bad => self.failed += 1,
        }
        self.input_tokens += record.used.input_tokens;
        self.output_tokens += record.used.output_tokens;
        match record.used.cost_nano_usd {
            Some(cost) => self.cost_nano_usd += cost,
            None if kind == Kind::Answered => self.cost_unknown += 1,
            None => {}
        }
        self.retries += u64::from(record.attempts.saturating_sub(1));
    }
}

/// One model with one key.
#[derive(Clone, Debug)]
pub struct Row {
    /// The model as the lines name it.
    pub model: String,
    /// `provider/key`.
    pub key: String,
    /// What it came to.
    pub sum: Sum,
    /// Milliseconds at the provider and in front of it, of answered lines.
    pub took_ms: Took,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Tally {
    /// Of this run.
    pub total: Sum,
    /// Lines of this run that could not be sent.
    pub bad: u64,
    /// Milliseconds from sending to the answer, waiting for room left out.
    pub took_ms: Took,
    pub(super) rows: HashMap<(String, String), Row>,
    pub(super) errors: BTreeMap<String, (u64, u64)>,
}

/// Times, in milliseconds.
#[derive(Clone, Debug)]
pub struct Took(Option<Histogram<u32>>);

impl Default for Took {
    fn default() -> Self {
        // These bounds are allowed, so there always is one.
        Self(Histogram::new_with_max(LATENCY_MS_MAX, 2).ok())
    }
}

impl Took {
    fn add(&mut self, ms: u64) {
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(ms);
        }
    }

    /// The time within which this share of them was over.
    pub fn within(&self, share: f64) -> u64 {
        self.0.as_ref().map_or(0, |histogram| histogram.value_at_quantile(share))
    }
}

impl Tally {
    /// A line is over.
    pub fn add(&mut self, over: &Over) {
        if let Some(error) = &over.error {
            self.error(error, over.number);
        }
        if over.entry.kind == Kind::Bad {
            self.bad += 1;
            return;
        }
        let record = &over.record;
        self.total.add(over.entry.kind, record);
        let took_ms = record.total_ns.saturating_sub(record.queue_ns) / 1_000_000;
        let answered = over.entry.kind == Kind::Answered;
        if answered {
            self.took_ms.add(took_ms);
        }
        let row = self.row(record);
        row.sum.add(over.entry.kind, record);
        if answered {
            row.took_ms.add(took_ms);
        }
    }

    fn row(&mut self, record: &Record) -> &mut Row {
        let model: String = record.model.chars().take(80).collect();
        let mut name = (model, format!("{}/{}", record.provider, record.key));
        if self.rows.len() >= ROWS_MAX && !self.rows.contains_key(&name) {
            name = ("(others)".to_owned(), "-".to_owned());
        }
        let (model, key) = name.clone();
        self.rows.entry(name).or_insert_with(|| Row {
            model,
            key,
            sum: Sum::default(),
            took_ms: Took::default(),
        })
    }

    fn error(&mut self, error: &str, number: u64) {
        let known = self.errors.contains_key(error);
        let error = if known || self.errors.len() < ERRORS_MAX { error } else { "(others)" };
        let (count, _) = self.errors.entry(error.to_owned()).or_insert((0, number));
        *count += 1;
    }

    /// By model and key, the most lines first.
    pub fn rows(&self) -> Vec<&Row> {
        let mut rows: Vec<&Row> = self.rows.values().collect();
        rows.sort_by_key(|row| {
            (std::cmp::Reverse(row.sum.answered + row.sum.failed), row.model.clone(), row.key.clone())
        });
        rows
    }

    /// What went wrong: how often, and in which line first. The most frequent first.
    pub fn errors(&self) -> Vec<(&str, u64, u64)> {
        let mut errors: Vec<_> =
            self.errors.iter().map(|(text, (count, line))| (&**text, *count, *line)).collect();
        errors.sort_by_key(|(_, count, line)| (std::cmp::Reverse(*count), *line));
        errors
    }
}
