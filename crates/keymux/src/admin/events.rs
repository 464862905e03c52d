//! `GET /admin/events`: what happened lately, as JSON, or as server-sent events for who asks for those: first what came
//! after the last one that it knows, then each as it happens. For programs; the page has a stream of its own, which
//! carries much more.

use super::Admin;
use crate::timeline::Entry;
use axum::Json;
use axum::extract::{Query, State};
use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use serde::Deserialize;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How soon something that happened is told.
const LOOK: Duration = Duration::from_millis(200);
/// Readers at the same time.
const READERS_MAX: usize = 32;

/// Room for so many readers.
pub(super) fn room() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(READERS_MAX))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Only what came after this one.
    after: Option<u64>,
}

pub(super) async fn events(
    State(admin): State<Admin>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Response {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    // A reader that was cut off says by itself where it was.
    let last = text("last-event-id").and_then(|id| id.trim().parse().ok()).or(wanted.after);
    if text(ACCEPT.as_str()).is_some_and(|accept| accept.contains("text/event-stream")) {
        return stream(admin, headers, last.unwrap_or(0));
    }
    Json(serde_json::json!({ "events": admin.gateway.timeline.after(last.unwrap_or(0)) })).into_response()
}

/// It ends when the reader may not look any more.
fn stream(admin: Admin, headers: HeaderMap, last: u64) -> Response {
    let Ok(place) = admin.readers.clone().try_acquire_owned() else {
        let told = "Too many read events already; close one.\n";
        return (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "5")], told).into_response();
    };
    let begin = (admin, headers, last, VecDeque::new(), place);
    let messages = unfold(begin, async |(admin, headers, mut last, mut ready, place)| {
        while ready.is_empty() {
            ready.extend(admin.gateway.timeline.after(last));
            if ready.is_empty() {
                tokio::time::sleep(LOOK).await;
            }
            if !admin.is_signed_in(&headers) {
                return None;
            }
        }
        let entry: Entry = ready.pop_front()?;
        last = entry.id;
        Some((Ok::<_, Infallible>(told(&entry)), (admin, headers, last, ready, place)))
    });
    let kept = Sse::new(messages).keep_alive(KeepAlive::default());
    // A proxy in front must not collect what is meant for now.
    ([("x-accel-buffering", "no"), ("cache-control", "no-store")], kept).into_response()
}

fn told(entry: &Entry) -> Event {
    // Numbers and words always have a form in JSON.
    let data = serde_json::to_string(entry).unwrap_or_default();
    Event::default().id(entry.id.to_string()).event(entry.kind.row().word).data(data)
}
