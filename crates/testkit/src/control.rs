//! The control plane under `/_sim/`, for tests that are not written in Rust.
//!
//! | request | does |
//! | --- | --- |
//! | `GET records?provider=P&after=ID` | the books, oldest first |
//! | `GET summary` | totals by key, refusals by rule |
//! | `GET requests?last=N` | the last exchanges, headers and bodies included |
//! | `GET wait?calls=N&open=M&provider=P&timeout_ms=T` | the books, once there are N calls of which at most M are open; 408 if never |
//! | `POST faults` `{provider, account?, key?, fault}` | puts a fault in; its times count from now |
//! | `DELETE faults` `{provider, account?, key?}` | removes all at exactly that place |
//! | `POST reset` | the world begins again |

use std::sync::Arc;
use std::time::Duration;

use hyper::{Response, StatusCode};
use keymux_provider::{FaultScope, FaultSpec, Record};
use serde::Deserialize;
use serde_json::{Value, json as value};
use tokio::time::timeout;

use crate::exchange::{Answer, json};
use crate::shared::Shared;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Inject {
    provider: String,
    #[serde(default)]
    account: Option<String>,
    #[serde(default)]
    key: Option<String>,
    fault: FaultSpec,
}

pub(crate) async fn answer(
    shared: &Arc<Shared>,
    method: &str,
    target: &str,
    body: &[u8],
) -> Response<Answer> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = Query(query);
    match (method, path) {
        ("GET", "records") => json(StatusCode::OK, records(shared, &query)),
        ("GET", "summary") => {
            let summary = shared.age().world.summary();
            json(StatusCode::OK, serde_json::to_string(&summary).unwrap_or_default())
        }
        ("GET", "requests") => json(StatusCode::OK, requests(shared, &query)),
        ("GET", "wait") => wait(shared, &query).await,
        ("POST", "faults") => outcome(inject(shared, body)),
        ("DELETE", "faults") => outcome(clear(shared, body)),
        ("POST", "reset") => outcome(shared.reset().map_err(|e| e.to_string())),
        _ => json(StatusCode::NOT_FOUND, value!({"error": "no such control"}).to_string()),
    }
}

fn outcome(result: Result<(), String>) -> Response<Answer> {
    match result {
        Ok(()) => json(StatusCode::OK, value!({"ok": true}).to_string()),
        Err(error) => json(StatusCode::BAD_REQUEST, value!({"error": error}).to_string()),
    }
}

fn inject(shared: &Shared, body: &[u8]) -> Result<(), String> {
    let Inject { provider, account, key, fault } = serde_json::from_slice(body).map_err(|e| e.to_string())?;
    let mut age = shared.age();
    let now = age.now();
    age.world.inject(now, &FaultScope { provider, account, key }, fault).map_err(|e| e.to_string())
}

fn clear(shared: &Shared, body: &[u8]) -> Result<(), String> {
    let scope: FaultScope = serde_json::from_slice(body).map_err(|e| e.to_string())?;
    shared.age().world.clear_faults(&scope).map_err(|e| e.to_string())
}

fn records(shared: &Shared, query: &Query<'_>) -> String {
    let age = shared.age();
    let after = query.number("after").unwrap_or(0);
    let wanted = |record: &&Record| {
        record.id > after && query.get("provider").is_none_or(|name| record.provider == *name)
    };
    let records: Vec<&Record> = age.world.records().filter(wanted).collect();
    serde_json::to_string(&records).unwrap_or_default()
}

fn requests(shared: &Shared, query: &Query<'_>) -> String {
    let captures = shared.captures();
    let last = query.number("last").and_then(|n| usize::try_from(n).ok()).unwrap_or(captures.len());
    let list: Vec<Value> = captures
        .iter()
        .skip(captures.len().saturating_sub(last))
        .map(|capture| {
            let it = capture.copy();
            value!({
                "id": it.id,
                "provider": it.provider,
                "method": it.method,
                "path": it.path,
                "headers": it.headers,
                "body": String::from_utf8_lossy(&it.body),
                "sent": String::from_utf8_lossy(&it.sent),
            })
        })
        .collect();
    Value::Array(list).to_string()
}

async fn wait(shared: &Arc<Shared>, query: &Query<'_>) -> Response<Answer> {
    let calls = query.number("calls").unwrap_or(0);
    let open = query.number("open").unwrap_or(u64::MAX);
    let patience = Duration::from_millis(query.number("timeout_ms").unwrap_or(10_000));
    let mut changes = shared.changes();
    let reached = async {
        loop {
            {
                let age = shared.age();
                let (mut seen, mut running) = (0, 0);
                for record in age.world.records() {
                    if query.get("provider").is_none_or(|name| record.provider == *name) {
                        seen += 1;
                        running += u64::from(record.ended_ns.is_none());
                    }
                }
                if seen >= calls && running <= open {
                    return;
                }
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    };
    let status = match timeout(patience, reached).await {
        Ok(()) => StatusCode::OK,
        Err(_) => StatusCode::REQUEST_TIMEOUT,
    };
    json(status, records(shared, query))
}

struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.split('&').filter_map(|pair| pair.split_once('=')).find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }
}
