//! The webhooks over HTTP: how they stand, and a test for one of them.

use super::Admin;
use super::api::Routes;
use crate::alerts;
use crate::keys::Trouble;
use axum::Json;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use serde_json::{Value, json};

pub(super) fn routes() -> Routes {
    Routes::default().route("/admin/webhooks", get(list)).route("/admin/webhooks/{name}/test", post(test))
}

async fn list(State(admin): State<Admin>) -> Json<Value> {
    Json(admin.gateway.alerts.json(&admin.gateway.live.load().config.webhooks))
}

async fn test(State(admin): State<Admin>, Path(name): Path<String>) -> Result<Json<Value>, Trouble> {
    let snapshot = admin.gateway.live.load_full();
    let Some(hook) = snapshot.config.webhooks.iter().find(|hook| *hook.name == *name) else {
        let known: Vec<&str> = snapshot.config.webhooks.iter().map(|hook| &*hook.name).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let name: String = name.chars().take(120).collect();
        let message = format!("There is no webhook `{name}`; the configuration has {known}.");
        return Err(Trouble::new(404, "not_found", message));
    };
    match alerts::test(&admin.gateway, &admin.connector, hook).await {
        Ok(()) => Ok(Json(json!({ "done": format!("delivered to {}", hook.url) }))),
        Err(why) => {
            let message = format!("The webhook `{name}` at {} did not take the test: {why}.", hook.url);
            Err(Trouble::new(502, "undelivered", message))
        }
    }
}
