//! What a page that is open sees, as server-sent events: first everything, then once a second what changed, and what
//! happens as it happens. Each is made once, however many look; while nobody looks, only the pulse is taken.

use super::rows::{changes, rows};
use super::{Admin, clients_waiting};
use crate::observe::{CLASSES, class_label};
use crate::pulse::Point;
use crate::serve::Gateway;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{Stream, unfold};
use keymux_policy::View;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast;

/// How soon something that happened is told.
const LOOK: Duration = Duration::from_millis(200);
/// Looks from one picture of the state to the next.
const LOOKS: u32 = 5;
/// Pages that may look at the same time.
const LOOKERS_MAX: usize = 32;
/// Messages that a slow page may lie behind; then it begins again.
const BEHIND_MAX: usize = 64;

#[derive(Clone)]
struct Message {
    event: &'static str,
    data: Arc<str>,
}

/// The state as it was last told.
#[derive(Default)]
struct Board {
    rows: BTreeMap<String, String>,
    last_event: u64,
}

/// The one source of all that look.
pub(super) struct Feed {
    gateway: Arc<Gateway>,
    board: Mutex<Board>,
    lookers: broadcast::Sender<Message>,
}

impl Feed {
    pub(super) fn new(gateway: Arc<Gateway>) -> Arc<Self> {
        let (lookers, _) = broadcast::channel(BEHIND_MAX);
        Arc::new(Self { gateway, board: Mutex::default(), lookers })
    }

    /// Takes the pulse and tells who looks, for ever.
    pub(super) async fn run(self: Arc<Self>) {
        let mut every = tokio::time::interval(LOOK);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        for look in 1_u32.. {
            every.tick().await;
            self.tell_events();
            if look % LOOKS == 0 {
                self.tick();
            }
        }
    }

    fn tell_events(&self) {
        let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        let new = self.gateway.timeline.after(board.last_event);
        let Some(last) = new.last() else { return };
        board.last_event = last.id;
        self.send("happened", &json!(new));
    }

    fn tick(&self) {
        let gateway = &self.gateway;
        let waiting = gateway.scheduler.waiting() as u64;
        let in_flight = u64::try_from(gateway.metrics.in_flight.get()).unwrap_or(0);
        let (point, minute) = gateway.pulse.take(gateway.clock.now(), waiting, in_flight);
        if self.lookers.receiver_count() == 0 {
            return;
        }
        let view = gateway.scheduler.view();
        let now = rows(&view, &gateway.checks);
        let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = changes(&board.rows, &now);
        board.rows = now;
        let mut told = summary(gateway, &view);
        told["point"] = point_row(&point);
        if let Some(minute) = minute {
            told["minute"] = point_row(&minute);
        }
        self.send("tick", &with_rows(&told, &changed));
    }

    fn send(&self, event: &'static str, data: &impl ToString) {
        // An error says that nobody looks.
        let _ = self.lookers.send(Message { event, data: data.to_string().into() });
    }

    /// Everything as it is now, and all that is told from now on.
    fn join(&self) -> Option<(Message, broadcast::Receiver<Message>)> {
        if self.lookers.receiver_count() >= LOOKERS_MAX {
            return None;
        }
        let gateway = &self.gateway;
        let view = gateway.scheduler.view();
        let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: what is told from here on is what differs from these rows.
        if self.lookers.receiver_count() == 0 {
            board.rows = rows(&view, &gateway.checks);
        }
        let receiver = self.lookers.subscribe();
        let mut told = summary(gateway, &view);
        let (seconds, minutes) = gateway.pulse.past();
        told["version"] = json!(env!("CARGO_PKG_VERSION"));
        told["started_unix_ms"] = json!((view.at.unix_ns.saturating_sub(view.at.mono_ns)) / 1_000_000);
        told["blame"] = json!(CLASSES.map(class_label));
        told["reloadable"] = json!(gateway.reload.possible.load(Ordering::Acquire));
        told["seconds"] = seconds.iter().map(point_row).collect();
        told["minutes"] = minutes.iter().map(point_row).collect();
        told["happened"] =
            json!(gateway.timeline.after(0).iter().filter(|e| e.id <= board.last_event).collect::<Vec<_>>());
        let data = with_rows(&told, &changes(&BTreeMap::new(), &board.rows));
        Some((Message { event: "all", data: data.into() }, receiver))
    }
}

/// The numbers that are not about one key.
fn summary(gateway: &Gateway, view: &View) -> Value {
    json!({
        "mono_ms": view.at.mono_ns / 1_000_000,
        "unix_ms": view.at.unix_ns / 1_000_000,
        "draining": view.draining,
        "in_flight": gateway.metrics.in_flight.get(),
        "waiting": view.waiting,
        "waiting_bytes": view.waiting_bytes,
        "waiting_clients": clients_waiting(gateway, view),
        "totals": [view.totals.submitted, view.totals.done, view.totals.refused, view.totals.cancelled],
        "retry_budget": (view.retry_budget * 10.0).round() / 10.0,
        "keys_left_out": view.keys_left_out,
        "ledger_away": gateway.store.as_ref().and_then(|store| store.health().away).map(|(fault, _)| fault.what),
    })
}

/// Rows are JSON already: they go in as they are.
fn with_rows(told: &Value, rows: &str) -> String {
    let mut text = told.to_string();
    text.truncate(text.len() - 1);
    text.push_str(",\"rows\":");
    text.push_str(rows);
    text.push('}');
    text
}

/// `[at, span, requests, answered, input, output, cost, unpriced, p50, p95, waiting, in flight, failed by blame…]`
fn point_row(p: &Point) -> Value {
    let numbers = (
        (p.at_unix_ms, p.span_ms, p.requests, p.answered),
        (p.input_tokens, p.output_tokens, p.cost_nano_usd, p.unpriced),
    );
    let ((at, span, requests, answered), (input, output, cost, unpriced)) = numbers;
    let mut row = vec![at, span, requests, answered, input, output, cost, unpriced]
        .into_iter()
        .map(Value::from)
        .chain([
            json!(p.first_output_p50_ms),
            json!(p.first_output_p95_ms),
            json!(p.waiting),
            json!(p.in_flight),
        ])
        .collect::<Vec<_>>();
    row.extend(p.failed.map(Value::from));
    Value::from(row)
}

/// The stream for one page. It ends when the page may not look any more, or lies too far behind; the page comes again.
pub(super) fn stream(admin: Admin, headers: HeaderMap) -> Response {
    let Some((first, receiver)) = admin.feed.join() else {
        let told = "Too many pages look at this gateway already; close one.\n";
        return (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "5")], told).into_response();
    };
    let messages = unfold((Some(first), receiver), move |(first, mut receiver)| {
        let (admin, headers) = (admin.clone(), headers.clone());
        async move {
            let message = match first {
                Some(first) => first,
                None => receiver.recv().await.ok()?,
            };
            admin.is_signed_in(&headers).then_some((Ok(event(&message)), (None, receiver)))
        }
    });
    shown(messages)
}

fn event(message: &Message) -> Event {
    Event::default().event(message.event).data(&*message.data)
}

fn shown(messages: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> Response {
    // A proxy in front must not collect what is meant for now.
    ([("x-accel-buffering", "no"), ("cache-control", "no-store")], Sse::new(messages)).into_response()
}
