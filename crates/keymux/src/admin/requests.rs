//! The last requests as JSON: a list of them, and of each why it went where it went.

use crate::explain::{Step, Told};
use crate::happening::{dimension, key_name};
use crate::live::Snapshot;
use crate::observe::class_label;
use crate::serve::Gateway;
use keymux_policy::Why;
use keymux_policy::lease::Skipped;
use serde::Deserialize;
use serde_json::{Value, json};

/// Requests in a list that does not say how many.
const LIST: usize = 100;

/// Which requests to list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Only those that ended so.
    outcome: Option<String>,
    /// Only those for this model, as the client wrote it.
    model: Option<String>,
    /// Only those that this key served last.
    key: Option<String>,
    /// Only those whose id, model, provider or key contains this.
    search: Option<String>,
    /// Only those with which something went wrong, be it mended by another attempt.
    troubled: Option<bool>,
    /// No more than so many.
    limit: Option<usize>,
}

/// The newest requests, newest first.
pub(super) fn list(gateway: &Gateway, wanted: &Wanted) -> Value {
    let fits = |asked: &Option<String>, is: &str| asked.as_deref().is_none_or(|asked| asked == is);
    let requests = gateway.recent.newest(wanted.limit.unwrap_or(LIST), |told| {
        let record = &told.record;
        let shown = fits(&wanted.outcome, &record.outcome)
            && fits(&wanted.model, &record.model)
            && fits(&wanted.key, &record.key)
            && wanted.troubled.is_none_or(|asked| asked == told.is_troubled())
            && wanted.search.as_ref().is_none_or(|part| has(told, part));
        shown.then(|| line(told))
    });
    json!({ "requests": requests })
}

/// One request, whole.
pub(super) fn one(gateway: &Gateway, id: &str) -> Option<Value> {
    let snapshot = gateway.live.load();
    let whole = |told: &Told| {
        let mut whole = line(told);
        let steps: Vec<Value> = told.steps.iter().map(|s| step(s, told.at.mono_ns, &snapshot)).collect();
        whole["steps"] = steps.into();
        if let Some((code, message)) = &told.refusal {
            whole["refusal"] = json!({ "code": code, "message": message });
        }
        whole
    };
    gateway.recent.newest(1, |told| (*told.record.id == *id).then(|| whole(told))).pop()
}

fn has(told: &Told, part: &str) -> bool {
    let record = &told.record;
    [&*record.id, &*record.model, &*record.provider, &*record.key].iter().any(|text| text.contains(part))
}

fn line(told: &Told) -> Value {
    let record = &told.record;
    json!({
        "id": &*record.id,
        "at_unix_ms": told.at.unix_ns / 1_000_000,
        "endpoint": record.endpoint,
        "model": record.model,
        "outcome": record.outcome,
        "status": record.status,
        "provider": &*record.provider,
        "key": &*record.key,
        "attempts": record.attempts,
        "queue_ms": record.queue_ns / 1_000_000,
        "first_output_ms": record.first_output_ns.map(|ns| ns / 1_000_000),
        "total_ms": record.total_ns / 1_000_000,
        "input_tokens": record.used.input_tokens,
        "output_tokens": record.used.output_tokens,
    })
}

fn step(step: &Step, arrived_ns: u64, snapshot: &Snapshot) -> Value {
    let passed_over: Vec<Value> = step.skipped.iter().map(|s| skipped(s, arrived_ns, snapshot)).collect();
    json!({
        "provider": &*step.provider,
        "key": &*step.key,
        "model": &*step.model,
        "begun_ms": step.begun_ns / 1_000_000,
        "ended_ms": step.ended_ns.map(|ns| ns / 1_000_000),
        "waited_ms": step.waited_ns / 1_000_000,
        "probe": step.probe,
        "outcome": step.blame.map_or("answered", class_label),
        "detail": step.detail,
        "passed_over": passed_over,
    })
}

fn skipped(skipped: &Skipped, arrived_ns: u64, snapshot: &Snapshot) -> Value {
    json!({
        "key": key_name(snapshot, skipped.key),
        "why": why(skipped.why),
        // After the request's arrival, as all times here.
        "until_ms": skipped.until_mono_ns.map(|until| until.saturating_sub(arrived_ns) / 1_000_000),
    })
}

/// Why a key could not take a request, in words.
fn why(why: Why) -> String {
    match why {
        Why::Disabled => "switched off".to_owned(),
        Why::Benched => "benched: refused, or out of money".to_owned(),
        Why::BreakerOpen => "failing: its breaker is open".to_owned(),
        Why::ProviderDown => "its provider is out".to_owned(),
        Why::FirstContact => "its limits are not known yet: few go at first".to_owned(),
        Why::NoCapacity => "the provider has no capacity for the model".to_owned(),
        Why::Limit(counted) => format!("a limit is used up: {}", dimension(counted)),
        Why::Tried => "tried already".to_owned(),
        Why::NotAllowed => "ruled out by the request".to_owned(),
        Why::NotServed => "does not serve this model or endpoint".to_owned(),
    }
}
