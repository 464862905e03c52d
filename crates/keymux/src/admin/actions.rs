//! What operators do by the page or the API: take a key out, put it back, have a benched one tried again, read the
//! configuration again. A switch outlives every reload and ends with the process: what is to last belongs in the file.

use crate::happening::{Happening, Kind};
use crate::serve::Gateway;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use keymux_policy::fleet::KeyId;
use serde_json::json;
use std::sync::atomic::Ordering;

/// Does to a key what the address says.
pub(super) fn on_key(gateway: &Gateway, provider: &str, key: &str, verb: &str) -> Response {
    let Some(id) = key_id(gateway, provider, key) else {
        let told = format!("There is no key {key:?} at a provider {provider:?}; /admin/state lists them.\n");
        return (StatusCode::NOT_FOUND, told).into_response();
    };
    let said = match verb {
        "disable" => gateway.switch(id, false).map(|()| "switched off; what is in flight finishes"),
        "enable" => gateway.switch(id, true).map(|()| "switched on"),
        "restore" => {
            gateway.scheduler.restore(id);
            Ok("bench and breaker lifted; it is tried again")
        }
        _ => {
            let told = "A key can be told to disable, enable or restore.\n";
            return (StatusCode::NOT_FOUND, told).into_response();
        }
    };
    match said {
        Ok(what) => {
            let text = format!("by an operator: {provider}/{key}: {what}");
            gateway.tell(Happening::new(Kind::ByOperator, format!("{provider}/{key}"), text));
            Json(json!({ "done": what })).into_response()
        }
        Err(why) => (StatusCode::CONFLICT, why + "\n").into_response(),
    }
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
