//! The listener for operators: health, metrics, and the state of everything as JSON and as a page. Whatever tells
//! more than "alive" asks for the admin token; a client's token never suffices here.

mod clients;
mod page;
mod requests;
mod state;
mod usage;

pub use state::told;

use crate::serve::Gateway;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HeaderMap, LOCATION, SET_COOKIE};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;

#[derive(Clone)]
struct Admin {
    gateway: Arc<Gateway>,
}

const COOKIE_NAME: &str = "keymux_admin";

/// Serves operators until the runtime ends.
pub async fn serve(gateway: Arc<Gateway>, listener: TcpListener) {
    let admin = Admin { gateway };
    let guarded = Router::new()
        .route("/", get(page_of))
        .route("/metrics", get(metrics))
        .route("/admin/state", get(state_of))
        .route("/admin/requests", get(requests_of))
        .route("/admin/requests/{id}", get(request_of))
        .merge(clients::routes())
        .merge(usage::routes())
        .layer(axum::middleware::from_fn_with_state(admin.clone(), guard));
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .merge(guarded)
        .with_state(admin);
    let served = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => axum::serve(listener, router).await,
        Err(error) => Err(error),
    };
    if let Err(error) = served {
        tracing::error!(%error, "the admin listener ended");
    }
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
    let token = admin.gateway.admin_token();
    let fits = |shown: &str| token.as_ref().is_some_and(|token| token.matches(shown.as_bytes()));
    if bearer(headers).is_some_and(fits) || cookie(headers).is_some_and(fits) {
        return next.run(request).await;
    }
    let shown = query.get("token").filter(|shown| fits(shown));
    if let Some(shown) = shown.filter(|_| request.method() == Method::GET) {
        let cookie = format!("{COOKIE_NAME}={shown}; HttpOnly; SameSite=Strict; Path=/");
        let path = local(request.uri().path());
        return (StatusCode::SEE_OTHER, [(SET_COOKIE, cookie), (LOCATION, path)]).into_response();
    }
    let told = "Send the admin token as `Authorization: Bearer …`, or open this page with `?token=…`.\n\
                It is in the file `admin-token` in the data directory, unless `server.admin_token` sets it.\n";
    (StatusCode::UNAUTHORIZED, told).into_response()
}

/// The path to go on with. A browser reads two slashes at its start as the name of another host, and a backslash as
/// a slash.
fn local(path: &str) -> String {
    format!("/{}", path.trim_start_matches(['/', '\\']))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ").map(str::trim)
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get(COOKIE)?.to_str().ok()?;
    all.split(';').find_map(|one| one.trim().strip_prefix(COOKIE_NAME)?.strip_prefix('='))
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    let gateway = &admin.gateway;
    if let Some(error) = gateway.scheduler.input_error() {
        gateway.metrics.input_estimate_error.set(error);
    }
    let text = gateway.metrics.render();
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

async fn page_of(State(admin): State<Admin>) -> Response {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (axum::http::header::CACHE_CONTROL, "no-store"),
        (axum::http::header::CONTENT_SECURITY_POLICY, page::POLICY),
    ];
    (headers, page::html(&state::json(&admin.gateway))).into_response()
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
