//! The provider's own books: what came in, what was refused and why, and what it would bill.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::dialect::Endpoint;

/// A shared, immutable name; cloning it is cheap, so that a million records may carry it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Name(text.into())
    }
}

impl From<String> for Name {
    fn from(text: String) -> Self {
        Name(text.into())
    }
}

impl Deref for Name {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        &*self.0 == *other
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// One call, as the provider's billing department sees it. Instants are nanoseconds since the world began.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// Number of the call, from 1, in order of arrival.
    pub id: u64,
    /// Provider.
    pub provider: Name,
    /// Account; empty when the key was not known.
    pub account: Name,
    /// Key; empty when it was not known.
    pub key: Name,
    /// What was asked for.
    pub endpoint: Endpoint,
    /// The model asked for.
    pub model: Name,
    /// Asked for as a stream.
    pub stream: bool,
    /// When the request was complete.
    pub arrived_ns: u64,
    /// When it ended; None while it is open.
    pub ended_ns: Option<u64>,
    /// HTTP status; 0 when none was or will be sent (hang, reset before the head, garbage).
    pub status: u16,
    /// The limit or rule that refused it (`requests/60s`, `credit`, `bad_key`, …).
    pub refused_by: Option<Name>,
    /// When a refusal by a limit said to come back, in nanoseconds from arrival.
    pub retry_after_ns: Option<u64>,
    /// Input tokens, cached ones included.
    pub input_tokens: u64,
    /// Input tokens read from the prompt cache.
    pub cached_tokens: u64,
    /// Output tokens produced so far, reasoning included.
    pub output_tokens: u64,
    /// Of these, reasoning.
    pub reasoning_tokens: u64,
    /// What it is billed, in nano-dollars.
    pub billed_nano_usd: u64,
    /// The caller went away before the end.
    pub cancelled: bool,
    /// The fault that hit it.
    pub fault: Option<Name>,
    /// Id of the answer (generation, response, message), empty when refused.
    pub answer_id: String,
    /// What the prompt said should stand here (see [`crate::Steer::note`]).
    pub note: String,
}

/// Totals of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KeyTotals {
    /// Calls that reached the provider with this key.
    pub calls: u64,
    /// Calls answered with a status below 300.
    pub ok: u64,
    /// 429s by the provider's own limits and by faults.
    pub rate_limited: u64,
    /// All other refusals and faults.
    pub failed: u64,
    /// Calls whose caller went away.
    pub cancelled: u64,
    /// Calls that are open now.
    pub open: u64,
    /// Input tokens of answered calls.
    pub input_tokens: u64,
    /// Of these, from the cache.
    pub cached_tokens: u64,
    /// Output tokens produced.
    pub output_tokens: u64,
    /// Billed, in nano-dollars.
    pub billed_nano_usd: u64,
}

/// Totals of a world: `provider/key` → totals. Calls with an unknown key stand under `provider/`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// By `provider/key`.
    pub keys: BTreeMap<String, KeyTotals>,
    /// Refusals by what refused them.
    pub refusals: BTreeMap<String, u64>,
}

impl Summary {
    /// All keys together.
    pub fn total(&self) -> KeyTotals {
        let mut total = KeyTotals::default();
        for key in self.keys.values() {
            total.calls += key.calls;
            total.ok += key.ok;
            total.rate_limited += key.rate_limited;
            total.failed += key.failed;
            total.cancelled += key.cancelled;
            total.open += key.open;
            total.input_tokens += key.input_tokens;
            total.cached_tokens += key.cached_tokens;
            total.output_tokens += key.output_tokens;
            total.billed_nano_usd += key.billed_nano_usd;
        }
        total
    }
}

/// The books: every record up to a cap (older ones are dropped from the front), totals for ever.
#[derive(Clone, Debug)]
pub(crate) struct Books {
    records: std::collections::VecDeque<Record>,
    /// Id of the record at the front.
    first: u64,
    cap: usize,
    totals: Vec<KeyTotals>,
    refusals: BTreeMap<Name, u64>,
}

impl Books {
    pub(crate) fn new(slots: usize, cap: usize) -> Self {
        Books {
            records: std::collections::VecDeque::new(),
            first: 1,
            cap: cap.max(1),
            totals: vec![KeyTotals::default(); slots],
            refusals: BTreeMap::new(),
        }
    }

    pub(crate) fn set_cap(&mut self, cap: usize) {
        self.cap = cap.max(1);
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.first + self.records.len() as u64
    }

    /// Writes a call down; `slot` is the key's line in the totals.
    pub(crate) fn enter(&mut self, slot: usize, record: Record) {
        if let Some(totals) = self.totals.get_mut(slot) {
            totals.calls += 1;
            if record.ended_ns.is_none() {
                totals.open += 1;
            }
            match record.status {
                200..300 => totals.ok += 1,
                429 => totals.rate_limited += 1,
                _ => totals.failed += 1,
            }
        }
        if let Some(rule) = &record.refused_by {
            *self.refusals.entry(rule.clone()).or_default() += 1;
        }
        self.records.push_back(record);
        if self.records.len() > self.cap {
            self.records.pop_front();
            self.first += 1;
        }
    }

    /// Closes a call.
    pub(crate) fn close(&mut self, slot: usize, id: u64, close: &Closing) {
        if let Some(totals) = self.totals.get_mut(slot) {
            totals.open = totals.open.saturating_sub(1);
            totals.cancelled += u64::from(close.cancelled);
            totals.input_tokens += close.input_tokens;
            totals.cached_tokens += close.cached_tokens;
            totals.output_tokens += close.output_tokens;
            totals.billed_nano_usd += close.billed_nano_usd;
        }
        let at = id.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        if let Some(record) = at.and_then(|at| self.records.get_mut(at)) {
            record.ended_ns = Some(close.at_ns);
            record.cancelled = close.cancelled;
            record.output_tokens = close.output_tokens;
            record.reasoning_tokens = record.reasoning_tokens.min(close.output_tokens);
            record.billed_nano_usd = close.billed_nano_usd;
        }
    }

    pub(crate) fn records(&self) -> impl DoubleEndedIterator<Item = &Record> {
        self.records.iter()
    }

    pub(crate) fn totals(&self, slot: usize) -> KeyTotals {
        self.totals.get(slot).cloned().unwrap_or_default()
    }

    pub(crate) fn refusals(&self) -> &BTreeMap<Name, u64> {
        &self.refusals
    }
}

/// What is known at a call's end.
#[derive(Debug, Default)]
pub(crate) struct Closing {
    pub(crate) at_ns: u64,
    pub(crate) cancelled: bool,
    pub(crate) input_tokens: u64,
    pub(crate) cached_tokens: u64,
    pub(crate) output_tokens: u64,
    pub(crate) billed_nano_usd: u64,
}
