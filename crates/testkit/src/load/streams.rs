//! Many slow streams at once: what each costs in memory, and whether all of them live.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;

use crate::clock::instant;
use crate::load::Shot;
use crate::load::connection::{Connection, Target};
use crate::rt;

/// Streams that are opened, held and counted.
#[derive(Clone, Debug)]
pub struct StreamLoad {
    /// Base URL.
    pub target: String,
    /// Sent as `Authorization: Bearer`.
    pub token: Option<String>,
    /// How many.
    pub count: usize,
    /// How many are being opened at a time.
    pub opening: usize,
    /// How long all are held once the last is open.
    pub hold: Duration,
    /// The request; its answer must be a stream that outlives the hold.
    pub shot: Shot,
    /// How long one stream may take to open.
    pub patience: Duration,
}

/// What became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StreamSummary {
    /// Streams that gave a first byte.
    pub opened: u64,
    /// Streams that were refused or never gave a byte.
    pub refused: u64,
    /// Streams that ended before the hold did.
    pub lost: u64,
    /// Bytes of all.
    pub bytes: u64,
    /// One reason for a refusal or loss.
    pub first_error: Option<String>,
}

enum Event {
    Opened,
    Refused(String),
    Lost(String),
    Bytes(u64),
}

impl StreamLoad {
    /// Opens all, calls `all_open` with what was opened, holds, closes.
    pub async fn run(self, all_open: impl FnOnce(&StreamSummary)) -> anyhow::Result<StreamSummary> {
        let target = Target::new(&self.target, self.token.as_deref())?;
        let release = watch::Sender::new(false);
        let opening = Arc::new(Semaphore::new(self.opening.max(1)));
        let (sender, mut events) = mpsc::channel(1024);
        for _ in 0..self.count {
            let stream = Stream {
                connection: Connection::new(target.clone()),
                shot: self.shot.clone(),
                patience: self.patience,
                opening: Arc::clone(&opening),
                release: release.subscribe(),
            };
            rt::spawn(stream.live(sender.clone()));
        }
        drop(sender);
        let mut summary = StreamSummary::default();
        while summary.opened + summary.refused < self.count as u64 {
            match events.recv().await {
                Some(event) => summary.add(event),
                None => break,
            }
        }
        all_open(&summary);
        let end = instant() + self.hold;
        while let Ok(Some(event)) = tokio::time::timeout_at(end, events.recv()).await {
            summary.add(event);
        }
        release.send_replace(true);
        while let Some(event) = events.recv().await {
            summary.add(event);
        }
        Ok(summary)
    }
}

impl StreamSummary {
    fn add(&mut self, event: Event) {
        match event {
            Event::Opened => self.opened += 1,
            Event::Refused(why) => {
                self.refused += 1;
                self.first_error.get_or_insert(why);
            }
            Event::Lost(why) => {
                self.lost += 1;
                self.first_error.get_or_insert(why);
            }
            Event::Bytes(bytes) => self.bytes += bytes,
        }
    }
}

struct Stream {
    connection: Connection,
    shot: Shot,
    patience: Duration,
    opening: Arc<Semaphore>,
    release: watch::Receiver<bool>,
}

impl Stream {
    async fn live(mut self, events: mpsc::Sender<Event>) {
        let opening = Arc::clone(&self.opening);
        let permit = opening.acquire().await;
        let opened = timeout(self.patience, self.open()).await;
        drop(permit);
        let mut body = match opened {
            Ok(Ok((body, bytes))) => {
                let _ = events.send(Event::Opened).await;
                let _ = events.send(Event::Bytes(bytes)).await;
                body
            }
            Ok(Err(why)) => {
                let _ = events.send(Event::Refused(why)).await;
                return;
            }
            Err(_) => {
                let _ = events.send(Event::Refused("no first byte in time".to_owned())).await;
                return;
            }
        };
        let mut bytes = 0;
        loop {
            let frame = tokio::select! {
                frame = body.frame() => frame,
                () = released(&mut self.release) => break,
            };
            let why = match frame {
                Some(Ok(frame)) => {
                    bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                    continue;
                }
                Some(Err(error)) => error.to_string(),
                None => "the stream ended".to_owned(),
            };
            let _ = events.send(Event::Lost(why)).await;
            break;
        }
        let _ = events.send(Event::Bytes(bytes)).await;
    }

    /// The body after its first bytes, and how many these were.
    async fn open(&mut self) -> Result<(hyper::body::Incoming, u64), String> {
        let response = self.connection.send(&self.shot).await.map_err(|e| e.to_string())?;
        if !response.status().is_success() {
            return Err(format!("status {}", response.status()));
        }
        let mut body = response.into_body();
        match body.frame().await {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                Ok((body, bytes))
            }
            _ => Err("no first byte".to_owned()),
        }
    }
}

async fn released(release: &mut watch::Receiver<bool>) {
    let _ = release.wait_for(|released| *released).await;
}
