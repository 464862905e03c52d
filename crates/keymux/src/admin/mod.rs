//! The listener for operators: health, metrics, and the state of everything as JSON and as a page. Whatever tells
//! more than "alive" asks for the admin token; a client's token never suffices here.

mod actions;
mod api;
mod assets;
mod clients;
mod events;
mod feed;
mod requests;
mod rows;
mod session;
mod state;
mod usage;
mod webhooks;

pub(crate) use state::{KeyState, key_state};

use crate::serve::Gateway;
use crate::upstream::Connector;
use api::Routes;
use axum::Json;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, LOCATION, SET_COOKIE};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use feed::Feed;
use keymux_config::Secret;
use keymux_policy::ClientId;
use session::Sessions;
use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::Semaphore;

#[derive(Clone)]
struct Admin {
    gateway: Arc<Gateway>,
    /// For messages that are tests.
    connector: Connector,
    sessions: Arc<Sessions>,
    feed: Arc<Feed>,
    /// Room for readers of events.
    readers: Arc<Semaphore>,
}

impl Admin {
    /// The token in force. Without one nobody may look.
    fn token(&self) -> Option<Secret> {
        self.gateway.admin_token()
    }

    fn unix_s(&self) -> u64 {
        self.gateway.clock.now().unix_ns / 1_000_000_000
    }

    /// Whether the caller may look: by the token as a bearer, or by the ticket of a page that signed in.
    fn is_signed_in(&self, headers: &HeaderMap) -> bool {
        let Some(token) = self.token() else { return false };
        bearer(headers).is_some_and(|shown| token.matches(shown.as_bytes()))
            || self.sessions.holds(headers, &token, self.unix_s())
    }

    /// The header that signs a page in, if it shows the token.
    fn ticket(&self, shown: &str) -> Option<[(HeaderName, String); 1]> {
        let token = self.token().filter(|token| token.matches(shown.as_bytes()))?;
        Some([(SET_COOKIE, self.sessions.begin(&token, self.unix_s(), crate::random::bytes()))])
    }
}

/// Serves operators until the runtime ends.
pub async fn serve(gateway: Arc<Gateway>, connector: Connector, listener: TcpListener) {
    let port = listener.local_addr().map_or(0, |address| address.port());
    let feed = Feed::new(gateway.clone());
    crate::rt::spawn(feed.clone().run());
    let sessions = Arc::new(Sessions::new(port));
    let admin = Admin { gateway, connector, sessions, feed, readers: events::room() };
    let guard = axum::middleware::from_fn_with_state(admin.clone(), guard);
    let router = open().router.merge(guarded().router.layer(guard)).with_state(admin);
    let served = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => axum::serve(listener, router).await,
        Err(error) => Err(error),
    };
    if let Err(error) = served {
        tracing::error!(%error, "the admin listener ended");
    }
}

/// What asks for the token.
fn guarded() -> Routes {
    Routes::default()
        .route("/metrics", get(metrics))
        .route("/admin/openapi.json", get(openapi))
        .route("/admin/feed", get(feed_of))
        .route("/admin/events", get(events::events))
        .route("/admin/log-level", get(log_level).put(set_log_level).post(set_log_level))
        .route("/admin/keys/{provider}/{key}/{verb}", post(act_on_key))
        .route("/admin/reload", post(reload))
        .route("/admin/state", get(state_of))
        .route("/admin/requests", get(requests_of))
        .route("/admin/requests/{id}", get(request_of))
        .merge(clients::routes())
        .merge(usage::routes())
        .merge(webhooks::routes())
}

/// What anybody may ask, and what gives or takes a page's session.
fn open() -> Routes {
    Routes::default()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/", get(page))
        .route("/assets/{name}", get(asset))
        .route("/admin/session", get(session).post(sign_in).delete(sign_out))
}

async fn openapi() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], api::DOCUMENT)
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Level {
    level: String,
}

async fn log_level(State(admin): State<Admin>) -> Json<serde_json::Value> {
    Json(serde_json::json!({ "level": admin.gateway.logs().level().label() }))
}

async fn set_log_level(State(admin): State<Admin>, Json(wanted): Json<Level>) -> Response {
    actions::log_level(&admin.gateway, &wanted.level)
}

async fn readyz(State(admin): State<Admin>) -> (StatusCode, &'static str) {
    if admin.gateway.draining.load(Ordering::Acquire) {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

/// Lets in who shows the token: as a bearer, in the cookie of a page that signed in, or once in the address, which
/// is then left behind.
async fn guard(
    State(admin): State<Admin>,
    Query(query): Query<HashMap<String, String>>,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    if admin.is_signed_in(headers) {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        // A browser sends its cookie along with what another site makes it ask for; a program's token it does not have.
        if !reads && bearer(headers).is_none() && !session::same_origin(headers) {
            return (StatusCode::FORBIDDEN, "This was asked for by another site.\n").into_response();
        }
        return next.run(request).await;
    }
    if request.method() == Method::GET
        && let Some(signed_in) = by_address(&admin, &query, request.uri().path())
    {
        return signed_in;
    }
    let told = "Send the admin token as `Authorization: Bearer …`, or open this page with `?token=…`.\n\
                It is in the file `admin-token` in the data directory, unless `server.admin_token` sets it.\n";
    (StatusCode::UNAUTHORIZED, told).into_response()
}

/// Signs in who shows the token in the address, and leaves it behind.
fn by_address(admin: &Admin, query: &HashMap<String, String>, path: &str) -> Option<Response> {
    let ticket = admin.ticket(query.get("token")?)?;
    Some((StatusCode::SEE_OTHER, ticket, [(LOCATION, local(path))]).into_response())
}

/// The path to go on with. A browser reads two slashes at its start as the name of another host, and a backslash as
/// a slash.
fn local(path: &str) -> String {
    format!("/{}", path.trim_start_matches(['/', '\\']))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ").map(str::trim)
}

/// The page itself holds nothing secret: it asks for the token if there is no session.
async fn page(
    State(admin): State<Admin>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    by_address(&admin, &query, "/").unwrap_or_else(|| assets::file("index.html", &headers).into_response())
}

async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    assets::file(&format!("assets/{name}"), &headers).into_response()
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct SignIn {
    token: String,
}

async fn session(State(admin): State<Admin>, headers: HeaderMap) -> Json<serde_json::Value> {
    Json(serde_json::json!({ "signed_in": admin.is_signed_in(&headers) }))
}

async fn sign_in(State(admin): State<Admin>, headers: HeaderMap, Json(shown): Json<SignIn>) -> Response {
    if !session::same_origin(&headers) {
        return (StatusCode::FORBIDDEN, "This was asked for by another site.\n").into_response();
    }
    match admin.ticket(shown.token.trim()) {
        Some(ticket) => (StatusCode::NO_CONTENT, ticket).into_response(),
        None => (StatusCode::UNAUTHORIZED, "That is not the admin token.\n").into_response(),
    }
}

async fn sign_out(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    if !session::same_origin(&headers) {
        return (StatusCode::FORBIDDEN, "This was asked for by another site.\n").into_response();
    }
    (StatusCode::NO_CONTENT, [(SET_COOKIE, admin.sessions.end(&headers))]).into_response()
}

async fn feed_of(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    feed::stream(admin, headers)
}

async fn act_on_key(
    State(admin): State<Admin>,
    Path((provider, key, verb)): Path<(String, String, String)>,
    Query(how): Query<actions::How>,
) -> Response {
    actions::on_key(&admin.gateway, (&provider, &key, &verb), &how).await
}

async fn reload(State(admin): State<Admin>) -> Response {
    actions::reload(&admin.gateway)
}

/// Requests that wait, by client, most first.
fn clients_waiting(gateway: &Gateway, view: &keymux_policy::View) -> Vec<(String, usize)> {
    let name = |id| match gateway.directory.name(id) {
        Some(name) => name.to_string(),
        None if id == ClientId::default() => "without a key of its own".to_owned(),
        None => "a removed client".to_owned(),
    };
    view.waiting_clients.iter().map(|(client, n)| (name(*client), *n)).collect()
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    let text = crate::observe::scrape(&admin.gateway);
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
}

async fn state_of(State(admin): State<Admin>) -> Json<serde_json::Value> {
    Json(state::json(&admin.gateway))
}

async fn requests_of(
    State(admin): State<Admin>,
    Query(wanted): Query<requests::Wanted>,
) -> Json<serde_json::Value> {
    Json(requests::list(&admin.gateway, &wanted))
}

async fn request_of(State(admin): State<Admin>, Path(id): Path<String>) -> Response {
    if let Some(told) = requests::one(&admin.gateway, &id) {
        return Json(told).into_response();
    }
    let told = "No request of this id is remembered: only the last thousand that are over are.\n";
    (StatusCode::NOT_FOUND, told).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_leads_nowhere_but_here() {
        assert_eq!(local("/"), "/");
        assert_eq!(local("/admin/state"), "/admin/state");
        for path in ["//evil.test/", "///evil.test/", "/\\evil.test/", "//"] {
            let went = local(path);
            assert!(went.starts_with('/') && !went[1..].starts_with(['/', '\\']), "{path} -> {went}");
        }
    }
}
