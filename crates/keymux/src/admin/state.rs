//! The state of everything, as JSON.

use crate::checks::{Known, report};
use crate::happening::dimension;
use crate::observe::{CLASSES, class_label};
use crate::serve::Gateway;
use keymux_policy::view::{AccountView, EstimateView, KeyView, LimitView, Out, ProviderView, Source};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

/// What operators see.
pub(super) fn json(gateway: &Gateway) -> Value {
    let view = gateway.scheduler.view();
    let providers: Vec<Value> =
        view.providers.iter().map(|p| provider(p, view.at.mono_ns, &gateway.checks)).collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "draining": gateway.draining.load(Ordering::Acquire),
        "in_flight": gateway.metrics.in_flight.get(),
        "waiting": { "high": view.waiting[0], "normal": view.waiting[1], "low": view.waiting[2] },
        "totals": {
            "submitted": view.totals.submitted,
            "done": view.totals.done,
            "refused": view.totals.refused,
            "cancelled": view.totals.cancelled,
        },
        "ledger": crate::ledger::json(gateway.store.as_deref(), &gateway.live.load().config.ledger.database),
        "providers": providers,
        "keys_left_out": view.keys_left_out,
        "models": view.models.iter().map(estimate).collect::<Vec<_>>(),
    })
}

fn estimate(view: &EstimateView) -> Value {
    json!({
        "model": &*view.model,
        "answers": view.answers,
        "input_error": view.input_error,
        "input_ratio": { "ascii": view.input_ratio[0], "other": view.input_ratio[1] },
        "output_tokens": view.output_tokens,
    })
}

fn provider(view: &ProviderView, now_ns: u64, checks: &Known) -> Value {
    let accounts: Vec<Value> = view.accounts.iter().map(|a| account(a, now_ns, checks)).collect();
    let no_capacity = view
        .no_capacity
        .iter()
        .map(|(model, until)| json!({ "model": &**model, "for_ms": left_ms(*until, now_ns) }));
    json!({
        "name": &*view.name,
        "in_flight": view.in_flight,
        "open_for_ms": view.open_until.map(|until| left_ms(until, now_ns)),
        "no_capacity": no_capacity.collect::<Vec<_>>(),
        "keys": view.tally.keys,
        "keys_out": view.tally.out,
        "accounts": accounts,
    })
}

fn account(view: &AccountView, now_ns: u64, checks: &Known) -> Value {
    json!({
        "name": &*view.name,
        "in_flight": view.in_flight,
        "benched": out(view.benched, now_ns),
        "quota_shut": out(view.quota, now_ns),
        "limits": view.limits.iter().map(limit).collect::<Vec<_>>(),
        "keys": view.keys.iter().map(|k| key(k, view, now_ns, checks)).collect::<Vec<_>>(),
    })
}

fn key(view: &KeyView, account: &AccountView, now_ns: u64, checks: &Known) -> Value {
    let models: Vec<Value> = view
        .models
        .iter()
        .map(|m| {
            json!({
                "model": &*m.model,
                "breaker_open_for_ms": m.breaker_open_until.map(|until| left_ms(until, now_ns)),
                "benched": out(m.benched, now_ns),
                "quota_shut": out(m.quota, now_ns),
                "first_output_ms": m.first_output_ns.map(|ns| ns / 1_000_000),
                "in_flight": m.in_flight,
            })
        })
        .collect();
    let failed =
        CLASSES.iter().map(|class| (class_label(*class), json!(view.counts.failed[*class as usize])));
    json!({
        "name": &*view.name,
        "state": state_word(view, account),
        "in_flight": view.in_flight,
        "attempts": view.counts.requests,
        "answered": view.counts.ok,
        "failed": failed.map(|(name, n)| (name.to_owned(), n)).collect::<serde_json::Map<_, _>>(),
        "benched": out(view.benched, now_ns),
        "limits": view.limits.iter().map(limit).collect::<Vec<_>>(),
        "models": models,
        "check": checks.of(view.id).map(|checked| report::json(&checked, &[])),
    })
}

/// How a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyState {
    Ready,
    AtItsLimit,
    Failing,
    Benched,
    Disabled,
}

impl KeyState {
    pub(crate) const ALL: [Self; 5] =
        [Self::Ready, Self::AtItsLimit, Self::Failing, Self::Benched, Self::Disabled];

    /// For people.
    fn word(self) -> &'static str {
        match self {
            Self::AtItsLimit => "at its limit",
            other => other.label(),
        }
    }

    /// For metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::AtItsLimit => "limited",
            Self::Failing => "failing",
            Self::Benched => "benched",
            Self::Disabled => "disabled",
        }
    }
}

/// How a key is, in a word.
pub(super) fn state_word(view: &KeyView, account: &AccountView) -> &'static str {
    key_state(view, account).word()
}

/// How a key is.
pub(crate) fn key_state(view: &KeyView, account: &AccountView) -> KeyState {
    let open = view.models.iter().any(|m| m.breaker_open_until.is_some());
    let shut =
        view.quota.is_some() || account.quota.is_some() || view.models.iter().any(|m| m.quota.is_some());
    match (view.enabled, view.benched.or(account.benched)) {
        (false, _) => KeyState::Disabled,
        (true, Some(_)) => KeyState::Benched,
        (true, None) if open => KeyState::Failing,
        (true, None) if shut => KeyState::AtItsLimit,
        (true, None) => KeyState::Ready,
    }
}

fn limit(view: &LimitView) -> Value {
    json!({
        "dimension": dimension(view.dimension),
        "daily": view.daily,
        "models": view.models.iter().map(|m| &**m).collect::<Vec<&str>>(),
        "size": view.size,
        "left": view.level,
        "source": source(view.source),
    })
}

/// The word for where a limit is known from.
pub(super) fn source(source: Source) -> &'static str {
    match source {
        Source::Preset => "preset",
        Source::Declared => "declared",
        Source::Learned => "learned",
    }
}

fn out(out: Option<Out>, now_ns: u64) -> Value {
    out.map_or(
        Value::Null,
        |out| json!({ "why": class_label(out.why), "for_ms": left_ms(out.until_mono_ns, now_ns) }),
    )
}

fn left_ms(until_ns: u64, now_ns: u64) -> u64 {
    until_ns.saturating_sub(now_ns) / 1_000_000
}
