//! Client keys and teams over HTTP, for `keymux clients` and for tools. The version of what is shown is its `ETag`; a
//! change that names another one in `If-Match` is refused, so that two people do not undo each other's work.

use super::Admin;
use super::api::Routes;
use crate::keys::{self, All, Fields, Spent, Trouble, shown};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::header::{ETAG, HeaderMap, IF_MATCH};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use std::collections::HashMap;

pub(super) fn routes() -> Routes {
    Routes::default()
        .route("/admin/clients", get(list).post(create))
        .route("/admin/clients/{id}", get(one).patch(change).delete(revoke))
        .route("/admin/clients/{id}/rotate", post(rotate))
        .route("/admin/teams", get(teams))
        .route("/admin/teams/{name}", get(team).put(put_team).delete(remove_team))
}

type Answer = Result<Response, Trouble>;

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let told: Vec<Value> =
            self.told.iter().map(|t| json!({ "field": t.field, "message": t.message })).collect();
        let body = json!({ "error": { "code": self.code, "message": self.message(), "problems": told } });
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(body)).into_response()
    }
}

fn with_tag(status: StatusCode, version: u64, body: Value) -> Response {
    let mut response = (status, Json(body)).into_response();
    if let Ok(tag) = HeaderValue::try_from(format!("\"{version}\"")) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

/// The version that a change is meant for.
fn meant(headers: &HeaderMap) -> Result<Option<u64>, Trouble> {
    let Some(tag) = headers.get(IF_MATCH) else { return Ok(None) };
    let text = tag.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let number = text.strip_prefix("W/").unwrap_or(text).trim_matches('"').parse();
    number.map(Some).map_err(|_| {
        Trouble::new(
            400,
            "invalid_header",
            "`If-Match` must be the `ETag` that a look at it gave, such as \"7\".",
        )
    })
}

fn fields(body: &Bytes) -> Result<Fields, Trouble> {
    if body.is_empty() {
        return Ok(Fields::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => {
            Err(Trouble::new(400, "invalid_body", "The body must be a JSON object with the fields to set."))
        }
        Err(error) => Err(Trouble::new(400, "invalid_body", format!("The body is not JSON: {error}."))),
    }
}

async fn list(State(admin): State<Admin>, Query(query): Query<HashMap<String, String>>) -> Answer {
    let gateway = &admin.gateway;
    let revoked = query.get("revoked").is_some_and(|v| v == "true");
    let team = query.get("team");
    let name = query.get("name");
    let is = |wanted: Option<&String>, is: &str| wanted.is_none_or(|wanted| wanted == is);
    let stored = keys::list(gateway, |client| {
        (revoked || client.revoked_unix_ms.is_none()) && is(team, &client.team) && is(name, &client.name)
    });
    let stored = stored.await?;
    // A list is worth showing while nobody can say what was spent.
    let spent = All::read(gateway, false).await;
    let of = |id: &str| spent.of(id).ok();
    let snapshot = gateway.live.load_full();
    let config = &snapshot.config;
    let now_unix_ms = gateway.clock.now().unix_ns / 1_000_000;
    let declared = config.clients.iter().filter_map(|client| {
        let its = client.team.and_then(|i| config.teams.get(i));
        let shown = is(name, &client.name) && is(team, its.map_or("", |team| &*team.name));
        shown.then(|| shown::declared(client, its, of(&format!("config:{}", client.name)), now_unix_ms))
    });
    let all: Vec<Value> =
        declared.chain(stored.iter().map(|client| shown::client(gateway, client, of(&client.id)))).collect();
    Ok(Json(json!({ "clients": all })).into_response())
}

/// `None`: nobody knows now.
async fn spent(admin: &Admin, id: &str) -> Option<Spent> {
    keys::of_one(&admin.gateway, false, id).await.ok()
}

async fn one(State(admin): State<Admin>, Path(id): Path<String>) -> Answer {
    let snapshot = admin.gateway.live.load_full();
    let config = &snapshot.config;
    let declared =
        id.strip_prefix("config:").and_then(|name| config.clients.iter().find(|c| *c.name == *name));
    if let Some(client) = declared {
        let now_unix_ms = admin.gateway.clock.now().unix_ns / 1_000_000;
        let team = client.team.and_then(|i| config.teams.get(i));
        return Ok(Json(shown::declared(client, team, spent(&admin, &id).await, now_unix_ms)).into_response());
    }
    let client = keys::get(&admin.gateway, &id).await?;
    let body = shown::client(&admin.gateway, &client, spent(&admin, &client.id).await);
    Ok(with_tag(StatusCode::OK, client.version, body))
}

/// With its secret, this once.
fn with_key(
    admin: &Admin,
    status: StatusCode,
    client: &keymux_store::Client,
    secret: &str,
    spent: Option<Spent>,
) -> Response {
    let mut body = shown::client(&admin.gateway, client, spent);
    body["key"] = json!(secret);
    with_tag(status, client.version, body)
}

async fn create(State(admin): State<Admin>, body: Bytes) -> Answer {
    let (client, secret) = keys::create(&admin.gateway, &fields(&body)?).await?;
    Ok(with_key(&admin, StatusCode::CREATED, &client, &secret, Some(Spent::default())))
}

async fn change(
    State(admin): State<Admin>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let client = keys::change(&admin.gateway, &id, &fields(&body)?, meant(&headers)?).await?;
    let body = shown::client(&admin.gateway, &client, spent(&admin, &client.id).await);
    Ok(with_tag(StatusCode::OK, client.version, body))
}

async fn rotate(
    State(admin): State<Admin>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let fields = fields(&body)?;
    let grace_s = match fields.get("grace_s") {
        None => 0,
        Some(value) => value.as_u64().ok_or_else(|| {
            Trouble::new(
                400,
                "invalid_field",
                "grace_s: must be a whole number of seconds; 0 ends the old key at once",
            )
        })?,
    };
    if let Some(other) = fields.keys().find(|name| *name != "grace_s") {
        let message = format!("{other}: there is no such field; there are: grace_s");
        return Err(Trouble::new(400, "invalid_field", message));
    }
    let (client, secret) = keys::rotate(&admin.gateway, &id, grace_s, meant(&headers)?).await?;
    Ok(with_key(&admin, StatusCode::OK, &client, &secret, spent(&admin, &client.id).await))
}

async fn revoke(State(admin): State<Admin>, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    let client = keys::revoke(&admin.gateway, &id, meant(&headers)?).await?;
    let body = shown::client(&admin.gateway, &client, spent(&admin, &client.id).await);
    Ok(with_tag(StatusCode::OK, client.version, body))
}

async fn teams(State(admin): State<Admin>) -> Answer {
    let gateway = &admin.gateway;
    let stored = keys::teams(gateway).await?;
    let spent = All::read(gateway, true).await;
    let of = |name: &str| spent.of(name).ok();
    let snapshot = gateway.live.load_full();
    let declared = &snapshot.config.teams;
    let shown = declared.iter().map(|team| shown::declared_team(team, of(&team.name)));
    // The file's word over the store's.
    let stored = stored.iter().filter(|team| declared.iter().all(|d| *d.name != *team.name));
    let all: Vec<Value> = shown.chain(stored.map(|team| shown::team(team, of(&team.name)))).collect();
    Ok(Json(json!({ "teams": all })).into_response())
}

async fn team(State(admin): State<Admin>, Path(name): Path<String>) -> Answer {
    let gateway = &admin.gateway;
    let snapshot = gateway.live.load_full();
    if let Some(team) = snapshot.config.teams.iter().find(|team| *team.name == *name) {
        let spent = keys::of_one(gateway, true, &name).await.ok();
        return Ok(Json(shown::declared_team(team, spent)).into_response());
    }
    let team = keys::team(gateway, &name).await?;
    let spent = keys::of_one(gateway, true, &name).await.ok();
    Ok(with_tag(StatusCode::OK, team.version, shown::team(&team, spent)))
}

async fn put_team(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let (team, new) = keys::put_team(&admin.gateway, &name, &fields(&body)?, meant(&headers)?).await?;
    let spent = keys::of_one(&admin.gateway, true, &name).await.ok();
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    Ok(with_tag(status, team.version, shown::team(&team, spent)))
}

async fn remove_team(State(admin): State<Admin>, Path(name): Path<String>, headers: HeaderMap) -> Answer {
    keys::remove_team(&admin.gateway, &name, meant(&headers)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
