//! What operators do by the page or the API: take a key out, put it back, have a benched one tried again, read the
//! configuration again. A switch outlives every reload and ends with the process: what is to last belongs in the file.

use crate::happening::{Happening, Kind};
use crate::serve::Gateway;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use keymux_config::LogLevel;
use keymux_policy::fleet::KeyId;
use serde::Deserialize;
use serde_json::json;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a drain waits for what is in flight, at most.
const DRAIN_MAX: Duration = Duration::from_mins(5);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(50);

/// How to do something to a key.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct How {
    /// For `restore`: this model alone, by the provider's name of it.
    model: Option<String>,
    /// For `drain`: how many seconds to wait for what is in flight.
    wait_s: Option<u64>,
}

/// Does to a key what the address says.
pub(super) async fn on_key(
    gateway: &Gateway,
    (provider, key, verb): (&str, &str, &str),
    how: &How,
) -> Response {
    let Some(id) = key_id(gateway, provider, key) else {
        let told = format!("There is no key {key:?} at a provider {provider:?}; /admin/state lists them.\n");
        return (StatusCode::NOT_FOUND, told).into_response();
    };
    let misplaced = match verb {
        _ if how.model.is_some() && verb != "restore" => Some("`model` is for restore alone.\n"),
        _ if how.wait_s.is_some() && verb != "drain" => Some("`wait_s` is for drain alone.\n"),
        _ => None,
    };
    if let Some(told) = misplaced {
        return (StatusCode::BAD_REQUEST, told).into_response();
    }
    let off = "switched off; what is in flight finishes";
    let said = match (verb, &how.model) {
        ("disable" | "drain", _) => gateway.switch(id, false).map(|()| off.to_owned()),
        ("enable", _) => gateway.switch(id, true).map(|()| "switched on".to_owned()),
        ("restore", None) => {
            gateway.scheduler.restore(id);
            Ok("bench and breaker lifted; it is tried again".to_owned())
        }
        ("restore", Some(model)) if gateway.scheduler.restore_model(id, model) => {
            Ok(format!("bench and breaker of {model} lifted; it is tried again"))
        }
        ("restore", Some(model)) => {
            let told = format!("The key {provider}/{key} has had nothing to do with a model {model:?}.\n");
            return (StatusCode::NOT_FOUND, told).into_response();
        }
        _ => {
            let told = "A key can be told to disable, drain, enable or restore.\n";
            return (StatusCode::NOT_FOUND, told).into_response();
        }
    };
    match said {
        Ok(what) => {
            let text = format!("by an operator: {provider}/{key}: {what}");
            gateway.tell(Happening::new(Kind::ByOperator, format!("{provider}/{key}"), text));
            if verb == "drain" {
                return drained(gateway, id, how.wait_s.unwrap_or(0)).await;
            }
            Json(json!({ "done": what })).into_response()
        }
        Err(why) => (StatusCode::CONFLICT, why + "\n").into_response(),
    }
}

/// Waits until nothing of a key that takes nothing new is in flight, for so long at most. 202: something still is.
async fn drained(gateway: &Gateway, key: KeyId, wait_s: u64) -> Response {
    let within = Duration::from_secs(wait_s).min(DRAIN_MAX);
    let empty = async {
        while gateway.scheduler.in_flight(key) > 0 {
            tokio::time::sleep(LOOK).await;
        }
    };
    // What is left then is told.
    let _ = tokio::time::timeout(within, empty).await;
    let left = gateway.scheduler.in_flight(key);
    let (status, done) = match left {
        0 => (StatusCode::OK, "switched off, and nothing of it is in flight"),
        _ => (StatusCode::ACCEPTED, "switched off; what is in flight finishes"),
    };
    (status, Json(json!({ "done": done, "in_flight": left }))).into_response()
}

fn key_id(gateway: &Gateway, provider: &str, key: &str) -> Option<KeyId> {
    let snapshot = gateway.live.load();
    let p = snapshot.config.providers.iter().position(|p| &*p.name == provider)?;
    let k = snapshot.config.providers[p].keys.iter().position(|k| &*k.name == key)?;
    snapshot.key_ids.get(p)?.get(k).copied()
}

/// Asks whoever owns the configuration's file to read it again. What comes of it is an event.
pub(super) fn reload(gateway: &Gateway) -> Response {
    if !gateway.reload.possible.load(Ordering::Acquire) {
        let told = "This gateway was started without a file: there is nothing to read again.\n";
        return (StatusCode::CONFLICT, told).into_response();
    }
    gateway.reload.wanted.notify_one();
    (StatusCode::ACCEPTED, Json(json!({ "done": "asked; what comes of it is an event" }))).into_response()
}

/// Logs from another level on: until the configuration names another one, or the process ends.
pub(super) fn log_level(gateway: &Gateway, name: &str) -> Response {
    let Some(level) = LogLevel::named(name) else {
        let told = "The level must be error, warn, info, debug or trace.\n";
        return (StatusCode::BAD_REQUEST, told).into_response();
    };
    gateway.logs().set_level(level);
    let text = format!("by an operator: the log tells from {name} on");
    gateway.tell(Happening::new(Kind::ByOperator, "log", text));
    Json(json!({ "level": level.label() })).into_response()
}
