//! The state of everything in rows, so that a page that looks gets only those that changed. What seldom changes (names,
//! the sizes of limits) and what always does (counts, levels) are rows of their own. Times are on the gateway's
//! monotonic clock, so that a row stays the same while nothing happens.
//!
//! | row | holds |
//! | --- | --- |
//! | `P3` | `[name]` |
//! | `A5` | `[provider id, name, limits]` |
//! | `K7` | `[account id, name, limits]` |
//! | `p3` | `[in flight, out until, [[model, out until]…], keys that are not switched off, those of them that are benched]` |
//! | `a5` | `[in flight, why benched, benched until, limited until, levels, queued]` |
//! | `c7` | `[state, detail, checked at, left $, of $, resets, expires at, warnings]` of the last check; times since 1970 |
//! | `k7` | `[state, in flight, answered, {blame: failed}, why benched, until, first output ms, levels, [[model, why, until]…]]` |
//!
//! A limit is `[dimension, size, source, daily, models]`; its level, and what waiting requests need of it, stand at the
//! same place in `levels` and `queued`.

use super::state::{source, state_word};
use crate::checks::verdict::notes;
use crate::checks::{Checked, Known};
use crate::happening::dimension;
use crate::observe::{CLASSES, class_label};
use keymux_policy::View;
use keymux_policy::view::{AccountView, KeyView, LimitView, ModelView, Out, ProviderView};
use keymux_wire::key::Reset;
use serde::Serialize;
use std::collections::BTreeMap;

/// The rows of a view, as JSON, by their names.
pub(super) fn rows(view: &View, checks: &Known) -> BTreeMap<String, String> {
    let mut rows = BTreeMap::new();
    let mut put = |kind: char, id: u32, row: String| rows.insert(format!("{kind}{id}"), row);
    for p in &view.providers {
        put('P', p.id.0, text(&(&*p.name,)));
        put('p', p.id.0, provider(p));
        for a in &p.accounts {
            put('A', a.id.0, text(&(p.id.0, &*a.name, limits(&a.limits))));
            put('a', a.id.0, account(a));
            for k in &a.keys {
                put('K', k.id.0, text(&(a.id.0, &*k.name, limits(&k.limits))));
                put('k', k.id.0, key(k, a));
                if let Some(checked) = checks.of(k.id) {
                    put('c', k.id.0, check(&checked));
                }
            }
        }
    }
    rows
}

/// What changed since `before`, as one JSON object: rows that are gone are null.
pub(super) fn changes(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> String {
    let changed = now.iter().filter(|(name, row)| before.get(*name) != Some(row));
    let gone = before.keys().filter(|name| !now.contains_key(*name));
    let pairs: Vec<String> = changed
        .map(|(name, row)| format!("\"{name}\":{row}"))
        .chain(gone.map(|name| format!("\"{name}\":null")))
        .collect();
    format!("{{{}}}", pairs.join(","))
}

fn text(row: &impl Serialize) -> String {
    // Numbers, words and lists of them always have a form in JSON.
    serde_json::to_string(row).unwrap_or_default()
}

fn ms(ns: u64) -> u64 {
    ns / 1_000_000
}

fn provider(view: &ProviderView) -> String {
    let shut: Vec<(&str, u64)> = view.no_capacity.iter().map(|(m, until)| (&**m, ms(*until))).collect();
    text(&(view.in_flight, view.open_until.map(ms), shut, view.tally.keys, view.tally.out))
}

fn account(view: &AccountView) -> String {
    let (why, until) = out(view.benched);
    let queued: Vec<f64> = view.limits.iter().map(|l| l.queued.round() + 0.0).collect();
    let limited = view.quota.map(|o| ms(o.until_mono_ns));
    text(&(view.in_flight, why, until, limited, levels(&view.limits), queued))
}

fn key(view: &KeyView, account: &AccountView) -> String {
    let (why, until) = out(view.benched);
    let counts = CLASSES.iter().map(|class| (class_label(*class), view.counts.failed[*class as usize]));
    let failed: BTreeMap<&str, u64> = counts.filter(|(_, n)| *n > 0).collect();
    let first_output = view.models.iter().filter_map(|m| m.first_output_ns).max().map(|ns| coarse(ms(ns)));
    let models: Vec<_> = view.models.iter().filter_map(model).collect();
    text(&(
        state_word(view, account),
        view.in_flight,
        view.counts.ok,
        failed,
        why,
        until,
        first_output,
        levels(&view.limits),
        models,
    ))
}

fn check(checked: &Checked) -> String {
    let facts = checked.facts.as_deref();
    let binding = facts.and_then(|f| f.binding.as_ref());
    let usd = |nano: Option<u64>| nano.map(|nano| nano as f64 / 1e9);
    let warnings: Vec<String> = notes(checked).iter().map(|note| note.text(checked.at_unix_ns)).collect();
    text(&(
        checked.verdict.word(),
        checked.verdict.detail(),
        ms(checked.at_unix_ns),
        usd(binding.and_then(|b| b.remaining)),
        usd(binding.and_then(|b| b.limit)),
        binding.and_then(|b| b.reset).map(Reset::word),
        facts.and_then(|f| f.expires_at_unix_ns).map(ms),
        warnings,
    ))
}

/// A model of a key, if the key may not use it now.
fn model(view: &ModelView) -> Option<(&str, &str, u64)> {
    let shut = |o: Out| (class_label(o.why), o.until_mono_ns);
    let (why, until) = match (view.breaker_open_until, view.benched, view.quota) {
        (Some(until), _, _) => ("breaker", until),
        (None, Some(benched), _) => shut(benched),
        (None, None, quota) => shut(quota?),
    };
    Some((&view.model, why, ms(until)))
}

fn out(out: Option<Out>) -> (Option<&'static str>, Option<u64>) {
    (out.map(|o| class_label(o.why)), out.map(|o| ms(o.until_mono_ns)))
}

/// Two digits are enough for an average that fades all the time.
fn coarse(ms: u64) -> u64 {
    let digits = ms.checked_ilog10().unwrap_or(0);
    let unit = 10_u64.pow(digits.saturating_sub(1));
    ms / unit * unit
}

/// Dimension, size, source, daily, models.
type Limit<'a> = (&'static str, f64, &'static str, bool, Vec<&'a str>);

fn limits(limits: &[LimitView]) -> Vec<Limit<'_>> {
    // Sizes that were learned have fractions that nobody reads.
    let limit = |l| {
        let LimitView { dimension: counted, size, source: from, daily, models, .. }: &LimitView = l;
        let models = models.iter().map(|m| &**m).collect();
        (dimension(*counted), size.round(), source(*from), *daily, models)
    };
    limits.iter().map(limit).collect()
}

fn levels(limits: &[LimitView]) -> Vec<f64> {
    // Whole units; never "-0".
    limits.iter().map(|l| l.level.round() + 0.0).collect()
}
