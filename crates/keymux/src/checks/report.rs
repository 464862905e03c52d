//! What was found out about keys, as JSON for programs and in the words that tables and pages share.

use super::verdict::{Note, Verdict, notes};
use super::{Checked, Way};
use keymux_wire::key::{Budget, KeyFacts, Owner, Reset, Spent};
use keymux_wire::limits::{Dimension, Measurement, Period};
use serde_json::{Value, json};

const SECOND_NS: u64 = 1_000_000_000;

/// One key. `shares` are the keys that its provider says belong to the same account.
pub fn json(checked: &Checked, shares: &[String]) -> Value {
    let facts = checked.facts.as_deref();
    let until = match &checked.verdict {
        Verdict::Capped { until_unix_ns, .. } => *until_unix_ns,
        _ => None,
    };
    let warnings: Vec<String> =
        notes(checked).iter().map(|note: &Note| note.text(checked.at_unix_ns)).collect();
    let balance = checked.balance.as_ref().map(|b| {
        let amounts = b.amounts.iter().map(|(currency, total)| json!({"currency": currency, "total": total}));
        json!({ "available": b.available, "amounts": amounts.collect::<Vec<_>>() })
    });
    let mut told = json!({
        "provider": &*checked.provider,
        "key": &*checked.name,
        "account": &*checked.account,
        "state": checked.verdict.word(),
        "usable": checked.verdict.is_usable(),
        "detail": checked.verdict.detail(),
        "again_at": until.map(date),
        "warnings": warnings,
        "shares_account_with": shares,
        "asked": match &checked.way { Way::None(_) => None, way => Some(way.shown()) },
        "checked_at": date(checked.at_unix_ns),
        "rate_limits": checked.limits.iter().map(limit).collect::<Vec<_>>(),
        "balance": balance,
    });
    for (name, value) in facts.into_iter().flat_map(of_facts) {
        told[name] = value;
    }
    told
}

/// The ids of a key's owner: for the operator's own eyes.
pub fn owner(owner: &Owner) -> Value {
    json!({ "organization": owner.organization, "user": owner.user, "workspace": owner.workspace })
}

fn of_facts(facts: &KeyFacts) -> [(&'static str, Value); 11] {
    let own = facts.own.as_ref();
    let usd_of = |amount: Option<u64>| amount.map(usd);
    [
        ("label", json!(facts.label)),
        ("usage_usd", spent(&facts.usage)),
        ("byok_usage_usd", spent(&facts.byok)),
        ("byok_in_limit", json!(facts.byok_in_limit)),
        ("limit_usd", json!(usd_of(own.and_then(|b| b.limit)))),
        ("remaining_usd", json!(usd_of(own.and_then(|b| b.remaining)))),
        ("limit_reset", json!(own.and_then(|b| b.reset).map(Reset::word))),
        ("budgets", json!(facts.budgets.iter().map(budget).collect::<Vec<_>>())),
        ("binds_first", json!(facts.binding.as_ref().map(budget))),
        (
            "free_models",
            json!(
                facts
                    .free_models
                    .map(|f| json!({"used": f.used, "limit": f.limit, "remaining": f.remaining}))
            ),
        ),
        ("expires_at", json!(facts.expires_at_unix_ns.map(date))),
    ]
}

fn budget(b: &Budget) -> Value {
    json!({
        "scope": b.scope,
        "limit_usd": b.limit.map(usd),
        "spent_usd": b.spent.map(usd),
        "remaining_usd": b.remaining.map(usd),
        "reset": b.reset.map(Reset::word),
        "resets_at": b.resets_at_unix_ns.map(date),
    })
}

fn spent(s: &Spent) -> Value {
    json!({ "all": s.all.map(usd), "day": s.day.map(usd), "week": s.week.map(usd), "month": s.month.map(usd) })
}

fn limit(m: &Measurement) -> Value {
    let counted = match m.dimension {
        Dimension::Requests => "requests",
        Dimension::InputTokens => "input tokens",
        Dimension::OutputTokens => "output tokens",
        Dimension::TotalTokens => "tokens",
        Dimension::Concurrent => "concurrent",
    };
    let period = match m.period {
        Period::Second => Some("second"),
        Period::Minute => Some("minute"),
        Period::Hour => Some("hour"),
        Period::Day => Some("day"),
        Period::Month => Some("month"),
        Period::Unknown => None,
    };
    let reset_ms = m.reset_ns.map(|ns| ns / 1_000_000);
    json!({ "counts": counted, "per": period, "limit": m.limit, "remaining": m.remaining, "resets_in_ms": reset_ms })
}

fn usd(nano: u64) -> f64 {
    nano as f64 / 1e9
}

/// An instant as RFC 3339.
pub fn date(unix_ns: u64) -> String {
    let seconds = i64::try_from(unix_ns / SECOND_NS).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| "never".to_owned(), |at| at.to_string())
}

/// An instant ahead, as a distance and as a date.
pub fn ahead(at_unix_ns: u64, now_unix_ns: u64) -> String {
    let date = date(at_unix_ns).replace('T', " ");
    format!("in {} ({} UTC)", distance(at_unix_ns, now_unix_ns), date.get(..16).unwrap_or(&date))
}

/// How long until an instant, in its largest unit.
pub fn distance(at_unix_ns: u64, now_unix_ns: u64) -> String {
    let minutes = at_unix_ns.saturating_sub(now_unix_ns).div_ceil(60 * SECOND_NS);
    let several = |n: u64, one: &str| if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") };
    match minutes {
        0..120 => several(minutes, "minute"),
        120..2_880 => several(minutes / 60, "hour"),
        _ => several(minutes / 1_440, "day"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_ahead_are_told_as_people_tell_them() {
        let now = 1_795_428_000 * SECOND_NS;
        let after = |s: u64| ahead(now + s * SECOND_NS, now);
        assert_eq!(after(60), "in 1 minute (2026-11-23 10:01 UTC)");
        assert_eq!(after(7_200), "in 2 hours (2026-11-23 12:00 UTC)");
        assert_eq!(after(3 * 86_400 + 5), "in 3 days (2026-11-26 10:00 UTC)");
        assert_eq!(distance(now, now + SECOND_NS), "0 minutes");
    }
}
