//! Runs a load: workers take what is due, one connection each.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{HeaderMap, Response};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::clock::instant;
use crate::load::connection::{Connection, Target};
use crate::load::metronome::{Due, unit};
use crate::load::summary::Tally;
use crate::load::{Load, Shot, Summary};
use crate::rt;

/// Bytes of a failing body that are kept.
const KEPT: usize = 4096;

/// One answer, or what came instead.
#[derive(Clone, Debug, Default)]
pub struct Answered {
    /// Its place in the mix.
    pub shot: usize,
    /// HTTP status; 0 if there was none.
    pub status: u16,
    /// What went wrong, if the answer is not whole.
    pub error: Option<String>,
    /// From due to the first byte of the body, in microseconds.
    pub first_us: u64,
    /// From due to the last byte.
    pub total_us: u64,
    /// Bytes of the body.
    pub bytes: u64,
    /// Sent over a millisecond after it was due.
    pub late: bool,
    /// `x-keymux-key` of the answer.
    pub key: Option<String>,
    /// The answer had a `Retry-After`.
    pub retry_after: bool,
    /// The beginning of the body.
    pub body: Vec<u8>,
}

impl Load {
    /// Runs to the end of the last answer.
    pub async fn run(self) -> anyhow::Result<Summary> {
        self.run_observed(|_| {}).await
    }

    /// The same; `each` sees every answer as it comes.
    pub async fn run_observed(self, mut each: impl FnMut(&Answered)) -> anyhow::Result<Summary> {
        anyhow::ensure!(!self.mix.is_empty(), "a load without a mix asks nothing");
        anyhow::ensure!(self.rate.is_finite() && self.rate > 0.0, "the rate must be positive");
        let target = Target::new(&self.target, self.token.as_deref())?;
        let started = instant();
        let due = Due::start(&self)?;
        let stop = StopOnDrop(Arc::clone(&due));
        let workers = self.connections.max(1);
        let (sender, mut answers) = mpsc::channel(workers);
        let load = Arc::new(self);
        let dice = Arc::new(Mutex::new(load.seed ^ 0x5eed));
        for _ in 0..workers {
            let worker = Worker {
                load: Arc::clone(&load),
                due: Arc::clone(&due),
                dice: Arc::clone(&dice),
                connection: Connection::new(target.clone()),
            };
            rt::spawn(worker.work(sender.clone()));
        }
        drop(sender);
        let mut tally = Tally::new();
        while let Some(answered) = answers.recv().await {
            each(&answered);
            tally.add(&answered);
        }
        drop(stop);
        Ok(tally.close((instant() - started).as_secs_f64()))
    }
}

/// A load that is dropped half-way makes no more requests due.
struct StopOnDrop(Arc<Due>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

struct Worker {
    load: Arc<Load>,
    due: Arc<Due>,
    dice: Arc<Mutex<u64>>,
    connection: Connection,
}

impl Worker {
    async fn work(mut self, answers: mpsc::Sender<Answered>) {
        while let Some(due) = self.due.next().await {
            let answered = self.shoot(due).await;
            if answers.send(answered).await.is_err() {
                return;
            }
        }
    }

    async fn shoot(&mut self, due: Instant) -> Answered {
        let index = self.choose();
        let late = instant().saturating_duration_since(due) > Duration::from_millis(1);
        let mut answered = Answered { shot: index, late, ..Answered::default() };
        let Some(shot) = self.load.mix.get(index).cloned() else { return answered };
        let give_up = instant() + self.load.patience;
        let outcome = timeout_at(give_up, self.exchange(&shot, due, &mut answered)).await;
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => answered.error = Some(error),
            Err(_) => answered.error = Some("no patience left".to_owned()),
        }
        if answered.error.is_some() {
            self.connection.drop_it();
        }
        answered.total_us = micros(due);
        answered
    }

    async fn exchange(&mut self, shot: &Shot, due: Instant, answered: &mut Answered) -> Result<(), String> {
        let response = self.connection.send(shot).await.map_err(|e| plain(&e))?;
        answered.status = response.status().as_u16();
        read_head(response.headers(), answered);
        read_body(response, shot, due, answered).await
    }

    fn choose(&self) -> usize {
        let all: u64 = self.load.mix.iter().map(|shot| u64::from(shot.weight)).sum();
        let roll = unit(&mut self.dice.lock().unwrap_or_else(PoisonError::into_inner)) * all as f64;
        let mut sum = 0.0;
        self.load
            .mix
            .iter()
            .position(|shot| {
                sum += f64::from(shot.weight);
                roll < sum
            })
            .unwrap_or(0)
    }
}

pub(crate) fn read_head(headers: &HeaderMap, answered: &mut Answered) {
    answered.key = headers.get("x-keymux-key").and_then(|v| v.to_str().ok()).map(str::to_owned);
    answered.retry_after = headers.contains_key("retry-after");
}

pub(crate) async fn read_body(
    response: Response<Incoming>,
    shot: &Shot,
    due: Instant,
    answered: &mut Answered,
) -> Result<(), String> {
    let streamed = shot.stream && response.status().is_success();
    let mut body = response.into_body();
    let mut tail = Tail::default();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| "the answer broke off".to_owned())?;
        let Ok(data) = frame.into_data() else { continue };
        if answered.bytes == 0 {
            answered.first_us = micros(due);
        }
        answered.bytes += data.len() as u64;
        let room = KEPT.saturating_sub(answered.body.len()).min(data.len());
        answered.body.extend_from_slice(data.get(..room).unwrap_or_default());
        tail.push(&data);
    }
    if answered.bytes == 0 {
        answered.first_us = micros(due);
    }
    if streamed && !tail.terminal {
        return Err("the stream ended without its terminal event".to_owned());
    }
    Ok(())
}

/// Looks for the terminal event of a stream, at the beginning of a line: the same words may stand in a text.
struct Tail {
    /// The last bytes, so that an event in two pieces is seen.
    last: Vec<u8>,
    terminal: bool,
}

const TERMINAL: [&[u8]; 4] = [
    b"\ndata: [DONE]",
    b"\nevent: message_stop",
    b"\nevent: response.completed",
    b"\nevent: response.incomplete",
];

impl Default for Tail {
    fn default() -> Self {
        Tail { last: b"\n".to_vec(), terminal: false }
    }
}

impl Tail {
    fn push(&mut self, data: &[u8]) {
        self.last.extend_from_slice(data);
        self.terminal |= TERMINAL.iter().any(|event| contains(&self.last, event));
        let from = self.last.len().saturating_sub(32);
        self.last.drain(..from);
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

fn micros(since: Instant) -> u64 {
    u64::try_from(instant().saturating_duration_since(since).as_micros()).unwrap_or(u64::MAX)
}

/// The outermost cause, in a few words, so that counting by it makes sense.
fn plain(error: &anyhow::Error) -> String {
    error.chain().last().map_or_else(|| error.to_string(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_event_is_seen_across_pieces_and_inside_large_ones() {
        let ends = |pieces: &[&str]| {
            let mut tail = Tail::default();
            for piece in pieces {
                tail.push(piece.as_bytes());
            }
            tail.terminal
        };
        assert!(ends(&["data: {}\n\ndata: [DO", "NE]\n\n"]));
        assert!(ends(&["event: response.completed\ndata: {", &"x".repeat(5000), "}\n\n"]));
        assert!(!ends(&["data: {\"content\":\"\\n\\ndata: [DONE]\\n\\n\"}\n\n"]), "words in a text");
        assert!(!ends(&[]));
    }
}
