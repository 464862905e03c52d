//! What was used and spent, from the ledger's sums by the hour: `GET /admin/usage?by=team,model&since=…&until=…`.

use super::Admin;
use super::api::Routes;
use crate::keys::{Trouble, shown};
use axum::Json;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use keymux_store::{By, Usage, UsageQuery};
use serde::Deserialize;
use serde_json::{Map, Value, json};

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// Where the beginning is not said.
const DAYS: u64 = 7;

pub(super) fn routes() -> Routes {
    Routes::default().route("/admin/usage", get(usage))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    by: Option<String>,
    since: Option<String>,
    until: Option<String>,
    client: Option<String>,
    team: Option<String>,
}

async fn usage(
    State(admin): State<Admin>,
    query: Result<Query<Wanted>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Trouble> {
    let wanted = query.map_err(|error| invalid("query", &error.body_text()))?.0;
    let gateway = &admin.gateway;
    let now_unix_ms = gateway.clock.now().unix_ns / 1_000_000;
    let by = by(wanted.by.as_deref().unwrap_or_default())?;
    let instant =
        |field, text: &Option<String>| text.as_deref().map(|t| instant(field, t, now_unix_ms)).transpose();
    let since = instant("since", &wanted.since)?.unwrap_or(now_unix_ms.saturating_sub(DAYS * DAY_MS));
    let until = instant("until", &wanted.until)?;
    let some = |text: Option<String>| text.filter(|text| !text.is_empty());
    let Some(store) = &gateway.store else {
        return Err(Trouble::new(
            409,
            "ledger_off",
            "This gateway writes nothing down: `ledger.database` is \"off\".",
        ));
    };
    let query = UsageQuery {
        by: by.clone(),
        since_unix_ms: since,
        until_unix_ms: until,
        client: some(wanted.client),
        team: some(wanted.team),
    };
    let lines = store.usage(query).await?;
    let names: Vec<&str> = by.iter().map(|by| by.label()).collect();
    let rows: Vec<Value> = lines.into_iter().map(|usage| line(&by, usage)).collect();
    let until = until.unwrap_or(now_unix_ms);
    Ok(Json(json!({
        // Hours count whole.
        "since": shown::instant(since / HOUR_MS * HOUR_MS),
        "until": shown::instant(until.div_ceil(HOUR_MS) * HOUR_MS),
        "by": names,
        "rows": rows,
    }))
    .into_response())
}

fn invalid(field: &str, message: &str) -> Trouble {
    Trouble::new(400, "invalid_field", format!("{field}: {message}"))
}

fn by(text: &str) -> Result<Vec<By>, Trouble> {
    let one = |word: &str| {
        By::ALL.into_iter().find(|by| by.label() == word).ok_or_else(|| {
            let all = By::ALL.map(By::label);
            let hint = keymux_config::did_you_mean(word, &all, "there are");
            invalid("by", &format!("nothing is told apart by \"{}\"; {hint}", word.escape_debug()))
        })
    };
    text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(one).collect()
}

fn instant(field: &str, text: &str, now_unix_ms: u64) -> Result<u64, Trouble> {
    shown::when(text, now_unix_ms).ok_or_else(|| invalid(field, &format!("must be {}", shown::WHEN)))
}

fn line(by: &[By], usage: Usage) -> Value {
    let mut row = Map::new();
    for (by, name) in by.iter().zip(usage.names) {
        let number = || name.parse::<u64>().unwrap_or(0);
        let name = match by {
            By::Hour => shown::instant(number() * HOUR_MS),
            By::Day => shown::instant(number() * DAY_MS)[..10].to_owned(),
            _ => name,
        };
        row.insert(by.label().to_owned(), name.into());
    }
    let numbers = [
        ("requests", usage.requests),
        ("answered", usage.answered),
        ("attempts", usage.attempts),
        ("input_tokens", usage.input_tokens),
        ("cached_input_tokens", usage.cached_input_tokens),
        ("cache_write_tokens", usage.cache_write_tokens),
        ("output_tokens", usage.output_tokens),
        ("reasoning_tokens", usage.reasoning_tokens),
    ];
    row.extend(numbers.map(|(name, n)| (name.to_owned(), n.into())));
    row.insert("cost_usd".to_owned(), shown::usd(usage.cost_nano_usd).into());
    let rest = [
        ("cost_nano_usd", usage.cost_nano_usd),
        ("cost_unknown", usage.cost_unknown),
        ("estimated", usage.estimated),
        ("unknown", usage.unknown),
        ("queue_ms", usage.queue_us / 1_000),
        ("total_ms", usage.total_us / 1_000),
    ];
    row.extend(rest.map(|(name, n)| (name.to_owned(), n.into())));
    Value::Object(row)
}
