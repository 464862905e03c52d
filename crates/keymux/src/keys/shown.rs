//! Keys and teams as the admin API shows them: the fields of the configuration, then what became of them.

use super::{Spent, in_period};
use crate::serve::Gateway;
use keymux_config as config;
use keymux_policy::Priority;
use keymux_policy::fleet::{Dimension, LimitSpec, Shape};
use keymux_store::{Client, Reset, Team, Terms};
use serde_json::{Value, json};

pub(crate) fn usd(nano_usd: u64) -> f64 {
    nano_usd as f64 / 1e9
}

/// An instant as RFC 3339 writes it.
pub(crate) fn instant(unix_ms: u64) -> String {
    let at = jiff::Timestamp::from_millisecond(i64::try_from(unix_ms).unwrap_or(i64::MAX));
    at.unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// What [`when`] reads.
pub(crate) const WHEN: &str = "how long ago (\"7d\", \"36h\"), a day in UTC (\"2027-01-31\") or an instant \
                               (\"2027-01-31T12:00:00Z\")";

/// An instant as people write it, in milliseconds since 1970.
pub(crate) fn when(text: &str, now_unix_ms: u64) -> Option<u64> {
    const HOUR_MS: u64 = 3_600_000;
    let ago = |unit: char, ms: u64| {
        let n = text.strip_suffix(unit)?.parse::<u64>().ok()?;
        Some(now_unix_ms.saturating_sub(n.saturating_mul(ms)))
    };
    if let Some(at) = ago('d', 24 * HOUR_MS).or_else(|| ago('h', HOUR_MS)).or_else(|| ago('m', HOUR_MS / 60))
    {
        return Some(at);
    }
    let parsed: Result<jiff::Timestamp, _> =
        if text.len() == 10 { format!("{text}T00:00:00Z").parse() } else { text.parse() };
    parsed.ok().and_then(|at| u64::try_from(at.as_millisecond()).ok())
}

pub(crate) fn reset_word(reset: Reset) -> &'static str {
    match reset {
        Reset::Daily => "daily",
        Reset::Weekly => "weekly",
        Reset::Monthly => "monthly",
        Reset::Never => "never",
    }
}

fn list(names: &[String]) -> Value {
    if names.is_empty() { Value::Null } else { json!(names) }
}

/// What was spent; `None`, and so null: nobody knows now.
type Money = Option<Spent>;

fn spent(spent: Money) -> Value {
    let shown = |spent: Spent| {
        json!({
            "today": usd(spent.day),
            "this_week": usd(spent.week),
            "this_month": usd(spent.month),
            "ever": usd(spent.ever),
        })
    };
    spent.map_or(Value::Null, shown)
}

/// What is left of a budget.
pub(crate) fn left(terms: &Terms, spent: Spent) -> Option<u64> {
    terms.budget.map(|b| b.nano_usd.saturating_sub(in_period(spent, b.reset)))
}

fn limits(terms: &Terms, spent: Money) -> Value {
    json!({
        "rpm": terms.requests_a_minute,
        "tpm": terms.tokens_a_minute,
        "concurrent": terms.concurrent,
        "budget": terms.budget.map(|b| usd(b.nano_usd)),
        "reset": terms.budget.map(|b| reset_word(b.reset)),
        "budget_left": spent.and_then(|spent| left(terms, spent)).map(usd),
    })
}

fn merged(mut into: Value, more: Value) -> Value {
    if let (Some(into), Value::Object(more)) = (into.as_object_mut(), more) {
        into.extend(more);
    }
    into
}

/// A key of the store.
pub(crate) fn client(gateway: &Gateway, of: &Client, money: Money) -> Value {
    let now_unix_ms = gateway.clock.now().unix_ns / 1_000_000;
    let team_off = || {
        let declared = gateway.live.load().config.teams.iter().any(|team| *team.name == *of.team);
        let on = |team: &Team| !team.disabled && !team.removed;
        !of.team.is_empty()
            && !declared
            && !gateway.directory.stored(|_, teams| teams.get(&of.team).is_some_and(on))
    };
    let status = match () {
        () if of.revoked_unix_ms.is_some() => "revoked",
        () if of.expires_unix_ms.is_some_and(|end| end <= now_unix_ms) => "expired",
        () if of.disabled => "disabled",
        () if team_off() => "team_off",
        () => "active",
    };
    let old_key = of.previous.filter(|(_, until)| *until > now_unix_ms);
    let shown = json!({
        "id": of.id,
        "name": of.name,
        "team": if of.team.is_empty() { Value::Null } else { json!(of.team) },
        "origin": "api",
        "status": status,
        "disabled": of.disabled,
        "models": list(&of.terms.models),
        "providers": list(&of.terms.providers),
        "accounts": list(&of.terms.accounts),
        "keys": list(&of.terms.keys),
        "priority": of.terms.priority.as_deref().unwrap_or("normal"),
        "weight": of.terms.weight.unwrap_or(1),
        "max_wait_ms": of.terms.max_wait_ms,
        "tags": of.terms.tags,
        "spent": spent(money),
        "created": instant(of.created_unix_ms),
        "expires": of.expires_unix_ms.map(instant),
        "revoked": of.revoked_unix_ms.map(instant),
        "old_key_until": old_key.map(|(_, until)| instant(until)),
        "hash": of.digest.to_string(),
        "version": of.version,
    });
    merged(shown, limits(&of.terms, money))
}

/// A team of the store.
pub(crate) fn team(of: &Team, money: Money) -> Value {
    let shown = json!({
        "name": of.name,
        "origin": "api",
        "disabled": of.disabled,
        "spent": spent(money),
        "version": of.version,
    });
    merged(shown, limits(&of.terms, money))
}

/// The limits of the configuration, as the store would say them.
fn terms(limits: &[LimitSpec], budget: keymux_policy::budget::Budget) -> Terms {
    use keymux_policy::budget::Reset as Of;
    let size = |wanted: Dimension| {
        limits.iter().find(|limit| limit.dimension == wanted).map(|limit| match limit.shape {
            Shape::Bucket { capacity, .. } => {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "shown, and not counted with"
                )]
                {
                    capacity as u64
                }
            }
            Shape::Slots { limit } => u64::from(limit),
            _ => 0,
        })
    };
    let reset = match budget.reset {
        Of::Never => Reset::Never,
        Of::Daily => Reset::Daily,
        Of::Weekly => Reset::Weekly,
        Of::Monthly => Reset::Monthly,
    };
    Terms {
        requests_a_minute: size(Dimension::Requests),
        tokens_a_minute: size(Dimension::TotalTokens),
        concurrent: size(Dimension::Concurrent).and_then(|n| u32::try_from(n).ok()),
        budget: budget.limit_nano_usd.map(|nano_usd| keymux_store::Budget { nano_usd, reset }),
        ..Terms::default()
    }
}

/// A key of the configuration.
pub(crate) fn declared(
    of: &config::Client,
    team: Option<&config::Team>,
    money: Money,
    now_unix_ms: u64,
) -> Value {
    let names = |list: &Option<Vec<std::sync::Arc<str>>>| {
        json!(list.as_ref().map(|l| l.iter().map(|name| &**name).collect::<Vec<_>>()))
    };
    let pairs = |list: &Option<Vec<(std::sync::Arc<str>, std::sync::Arc<str>)>>| {
        json!(list.as_ref().map(|l| l.iter().map(|(p, n)| format!("{p}:{n}")).collect::<Vec<_>>()))
    };
    let expires_unix_ms = of.expires_unix_s.map(|s| u64::try_from(s).unwrap_or(0).saturating_mul(1_000));
    let expired = expires_unix_ms.is_some_and(|end| end <= now_unix_ms);
    let models: Vec<&str> = of.allow.models.0.iter().map(|m| &**m).collect();
    let shown = json!({
        "id": format!("config:{}", of.name),
        "name": &*of.name,
        "team": team.map(|team| team.name.to_string()),
        "origin": "configuration",
        "status": if expired { "expired" } else { "active" },
        "disabled": false,
        "models": if models.is_empty() { Value::Null } else { json!(models) },
        "providers": names(&of.allow.providers),
        "accounts": pairs(&of.allow.accounts),
        "keys": pairs(&of.allow.keys),
        "priority": match of.priority {
            Priority::High => "high",
            Priority::Normal => "normal",
            Priority::Low => "low",
        },
        "weight": of.weight,
        "max_wait_ms": of.max_wait_ms,
        "tags": of.tags.iter().map(|tag| &**tag).collect::<Vec<_>>(),
        "spent": spent(money),
        "expires": expires_unix_ms.map(instant),
        "hash": keymux_store::Digest::from_bytes(&of.digest).map(|d| d.to_string()),
    });
    merged(shown, limits(&terms(&of.limits, of.budget), money))
}

/// A team of the configuration.
pub(crate) fn declared_team(of: &config::Team, money: Money) -> Value {
    let shown = json!({
        "name": &*of.name,
        "origin": "configuration",
        "disabled": false,
        "spent": spent(money),
    });
    merged(shown, limits(&terms(&of.limits, of.budget), money))
}
