//! What a load found.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::load::run::Answered;

/// Bodies of failures that are kept.
const SAMPLES: usize = 8;
const SAMPLE_BYTES: usize = 600;

/// Percentiles, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latencies {
    /// How many were measured.
    pub count: u64,
    /// Mean.
    pub mean_us: f64,
    /// Half are quicker.
    pub p50_us: u64,
    /// 90 % are quicker.
    pub p90_us: u64,
    /// 99 % are quicker.
    pub p99_us: u64,
    /// 99.9 % are quicker.
    pub p999_us: u64,
    /// The slowest.
    pub max_us: u64,
}

/// The body of an answer that was no success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// Its status.
    pub status: u16,
    /// Its beginning.
    pub body: String,
}

/// What a load found. Latencies are those of successes, from the instant due.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// Requests that were due.
    pub sent: u64,
    /// Answers with a status below 300 that were whole.
    pub ok: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without an answer, or with half of one, by what went wrong.
    pub errors: BTreeMap<String, u64>,
    /// Answers by the key that gave them, where the gateway tells (`x-keymux-key`).
    pub by_key: BTreeMap<String, u64>,
    /// Refusals that said when to come back.
    pub with_retry_after: u64,
    /// To the first byte of the body.
    pub first_byte: Latencies,
    /// To the last byte.
    pub total: Latencies,
    /// Bytes of bodies.
    pub bytes: u64,
    /// Requests that found all connections busy and were sent over a millisecond late.
    pub late: u64,
    /// From the first request due to the last answer, in seconds.
    pub seconds: f64,
    /// Some bodies of failures.
    pub samples: Vec<Sample>,
}

/// Collects answers.
pub(crate) struct Tally {
    summary: Summary,
    first: Histogram<u64>,
    total: Histogram<u64>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Tally { summary: Summary::default(), first: histogram(), total: histogram() }
    }

    pub(crate) fn add(&mut self, answered: &Answered) {
        let summary = &mut self.summary;
        summary.sent += 1;
        summary.bytes += answered.bytes;
        summary.late += u64::from(answered.late);
        if answered.status != 0 {
            *summary.statuses.entry(answered.status).or_default() += 1;
        }
        if let Some(key) = &answered.key {
            *summary.by_key.entry(key.clone()).or_default() += 1;
        }
        summary.with_retry_after += u64::from(answered.retry_after);
        if let Some(error) = &answered.error {
            *summary.errors.entry(error.clone()).or_default() += 1;
        }
        let failed = answered.error.is_some() || !(200..300).contains(&answered.status);
        if failed {
            if answered.status != 0 && summary.samples.len() < SAMPLES {
                let body = answered.body.get(..SAMPLE_BYTES.min(answered.body.len())).unwrap_or_default();
                let body = String::from_utf8_lossy(body).into_owned();
                summary.samples.push(Sample { status: answered.status, body });
            }
            return;
        }
        summary.ok += 1;
        self.first.saturating_record(answered.first_us);
        self.total.saturating_record(answered.total_us);
    }

    pub(crate) fn close(mut self, seconds: f64) -> Summary {
        self.summary.seconds = seconds;
        self.summary.first_byte = latencies(&self.first);
        self.summary.total = latencies(&self.total);
        self.summary
    }
}

/// Up to an hour in microseconds, to three digits.
#[expect(clippy::expect_used, reason = "invariant: the constructor refuses only bounds that make no sense")]
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("constant bounds are valid")
}

fn latencies(histogram: &Histogram<u64>) -> Latencies {
    if histogram.is_empty() {
        return Latencies::default();
    }
    Latencies {
        count: histogram.len(),
        mean_us: histogram.mean(),
        p50_us: histogram.value_at_quantile(0.5),
        p90_us: histogram.value_at_quantile(0.9),
        p99_us: histogram.value_at_quantile(0.99),
        p999_us: histogram.value_at_quantile(0.999),
        max_us: histogram.max(),
    }
}
