//! Sends spans to the collector, in batches, beside the data path. A collector that is away costs requests nothing: a
//! batch waits and is tried again, what comes meanwhile waits in the queue, and what finds it full is dropped and
//! counted. That it is away is told once, and once that it is back.

use super::otlp::{self, Attribute, Origin as Maker, Value};
use super::{Traced, names, spans};
use crate::happening::{Happening, Kind};
use crate::serve::{Gateway, Stop};
use crate::upstream::{Connector, Letter, Origin, Poster};
use bytes::Bytes;
use keymux_config::{Collector, Config};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;
use tokio::time::{sleep, timeout};

/// Requests whose spans are sent together.
const BATCH_MAX: usize = 256;
/// How long the first of a batch waits for others.
const GATHER: Duration = Duration::from_secs(1);
/// How long a collector may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same, when the gateway stops.
const LAST_PATIENCE: Duration = Duration::from_secs(2);
/// First pause before a batch is tried again; each further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What events are about.
const SUBJECT: &str = "collector of traces";

/// Why a batch was not taken.
enum Trouble {
    /// It may be taken later; not before this has passed, if the collector said so.
    Later(String, Option<Duration>),
    /// It will never be.
    Never(String),
}

/// Sends the spans of all requests until the gateway stops, and then what is left.
pub async fn export(gateway: Arc<Gateway>, connector: Connector, mut stop: Stop) {
    let Some(mut queue) = gateway.traces.take() else { return };
    let mut sender = Sender { gateway, poster: Poster::new(connector), away: None };
    let mut batch = Vec::new();
    while gathered(&mut queue, &mut batch, &mut stop).await {
        sender.deliver(&mut batch, &mut stop).await;
    }
    // What can be taken without waiting, within the time that a stop may take.
    let rest = async {
        loop {
            while batch.len() < BATCH_MAX
                && let Ok(traced) = queue.try_recv()
            {
                batch.push(traced);
            }
            if batch.is_empty() || sender.send(&mut batch).await.is_err() {
                break;
            }
        }
    };
    // What is left then is lost, with the process that would have told.
    let _ = timeout(LAST_PATIENCE, rest).await;
}

/// Fills a batch until it is full or old enough; `false` if the gateway stops instead.
async fn gathered(queue: &mut Receiver<Traced>, batch: &mut Vec<Traced>, stop: &mut Stop) -> bool {
    let fill = async {
        queue.recv_many(batch, BATCH_MAX).await;
        let more = async {
            while batch.len() < BATCH_MAX {
                let room = BATCH_MAX - batch.len();
                queue.recv_many(batch, room).await;
            }
        };
        let _ = timeout(GATHER, more).await;
    };
    tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop) => false,
        () = fill => true,
    }
}

struct Sender {
    gateway: Arc<Gateway>,
    poster: Poster,
    /// The collector does not take spans: how many had been dropped when that began.
    away: Option<u64>,
}

impl Sender {
    /// Sends a batch, again and again until it is taken, can never be taken, or the gateway stops. In the last case it
    /// stays.
    async fn deliver(&mut self, batch: &mut Vec<Traced>, stop: &mut Stop) {
        let mut pause = PAUSE_MIN;
        while !batch.is_empty() {
            // A collector that hangs does not hold up the end.
            let sent = tokio::select! {
                sent = self.send(batch) => sent,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let Err(asked) = sent else { return };
            tokio::select! {
                () = sleep(asked.unwrap_or(pause).clamp(pause, PAUSE_MAX)) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Sends a batch once. It is empty then, unless it is to be tried again: after the pause that the collector asked
    /// for, if it did.
    async fn send(&mut self, batch: &mut Vec<Traced>) -> Result<(), Option<Duration>> {
        let snapshot = self.gateway.live.load_full();
        let traces = self.gateway.clone();
        let (sent, dropped) = (&traces.traces.sent, &traces.traces.dropped);
        let requests = batch.len() as u64;
        // A reload may have taken it away.
        let Some(collector) = &snapshot.config.traces.collector else {
            dropped.inc_by(requests);
            batch.clear();
            return Ok(());
        };
        let body = encoded(batch, &snapshot.config);
        match post(&mut self.poster, collector, body).await {
            Ok(()) => {
                sent.inc_by(requests);
                self.back();
            }
            Err(Trouble::Never(why)) => {
                self.trouble(collector, &why);
                dropped.inc_by(requests);
            }
            Err(Trouble::Later(why, asked)) => {
                self.trouble(collector, &why);
                return Err(asked);
            }
        }
        batch.clear();
        Ok(())
    }

    fn trouble(&mut self, collector: &Collector, why: &str) {
        if self.away.is_some() {
            return;
        }
        self.away = Some(self.gateway.traces.dropped.get());
        let text =
            format!("traces: {} takes no spans: {why}; requests are served all the same", collector.url);
        self.gateway.tell(Happening::new(Kind::TracesAway, SUBJECT, text));
    }

    fn back(&mut self) {
        let Some(before) = self.away.take() else { return };
        let lost = self.gateway.traces.dropped.get().saturating_sub(before);
        let text = format!("traces: the collector takes spans again; those of {lost} requests were dropped");
        self.gateway.tell(Happening::new(Kind::TracesBack, SUBJECT, text));
    }
}

fn encoded(batch: &[Traced], config: &Config) -> Vec<u8> {
    let traces = &config.traces;
    let text = |name: &'static str, value: &str| -> Attribute {
        (Cow::Borrowed(name), Value::Text(value.to_owned()))
    };
    let mut service = vec![
        text("service.name", &traces.service),
        text("service.version", env!("CARGO_PKG_VERSION")),
        text("telemetry.sdk.name", "keymux"),
        text("telemetry.sdk.language", "rust"),
        text("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
    ];
    for (name, value) in &traces.resource {
        service.retain(|(known, _)| known != name);
        service.push((Cow::Owned(name.clone()), Value::Text(value.clone())));
    }
    let schema_url = names::schema_url(traces.names);
    let maker = Maker { service: &service, version: env!("CARGO_PKG_VERSION"), schema_url };
    otlp::request(&maker, batch.iter().flat_map(|traced| spans::spans(traced, config)))
}

async fn post(poster: &mut Poster, collector: &Collector, body: Vec<u8>) -> Result<(), Trouble> {
    let url = &collector.url;
    let mut headers = vec![("content-type", "application/x-protobuf")];
    headers.extend(collector.headers.iter().map(|(name, value)| (name.as_str(), value.expose())));
    let letter = Letter {
        origin: &Origin::of(url, collector.proxy.as_ref()),
        authority: &url.authority(),
        path: &url.path,
        headers: &headers,
        body: Bytes::from(body),
    };
    let said = poster.post(&letter, PATIENCE).await.map_err(|why| Trouble::Later(why, None))?;
    match said.head.status.as_u16() {
        200..=299 => Ok(()),
        status @ (429 | 502 | 503 | 504) => Err(Trouble::Later(format!("it answers {status}"), said.pause())),
        status => Err(Trouble::Never(format!("it answers {status}"))),
    }
}
