//! A load that is written down request by request, so that two ways to serve it, and whoever computes what could
//! have been, see the very same requests at the very same instants.
//!
//! With several targets there is no gateway: requests go round-robin over them, and one that is turned away with
//! 429 is tried again at the next, after the wait that the answer asked for, as the vendors' SDKs do (OpenAI's and
//! Anthropic's: `retry-after-ms`, else `Retry-After` in seconds, if at most a minute; else half a second, doubling
//! to eight, less up to a quarter). Unlike them it does so until its patience ends. Nothing else is retried.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use hyper::HeaderMap;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::clock::{instant, unix_ns};
use crate::load::Shot;
use crate::load::connection::{Connection, Target};
use crate::load::metronome::unit;
use crate::load::run::{Answered, read_body, read_head};
use crate::rt;

/// A stated wait is kept up to this; a longer one is treated as none.
const STATED_MAX: Duration = Duration::from_mins(1);
const BACKOFF_FIRST: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(8);

/// Requests and whom to ask.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// One gateway, or the keys of some providers.
    pub targets: Vec<ScriptTarget>,
    /// Whether a 429 is tried again, at the next target.
    #[serde(default)]
    pub retry_429: bool,
    /// When the first instant is, in milliseconds since 1970; at once if that is over.
    #[serde(default)]
    pub start_unix_ms: u64,
    /// Give a request up so long after it was due, in milliseconds.
    #[serde(default = "minute")]
    pub patience_ms: u64,
    /// What is asked, in the order of their instants.
    pub requests: Vec<ScriptRequest>,
    /// Seed of the jitter.
    #[serde(default)]
    pub seed: u64,
}

fn minute() -> u64 {
    60_000
}

/// Somebody to ask.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptTarget {
    /// Base URL.
    pub url: String,
    /// Sent as `Authorization: Bearer`.
    #[serde(default)]
    pub token: Option<String>,
    /// The paths that it serves; empty means all.
    #[serde(default)]
    pub paths: Vec<String>,
}

/// One request.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptRequest {
    /// Due, in milliseconds after the first instant.
    pub at_ms: f64,
    /// Path after the target's URL.
    pub path: String,
    /// JSON.
    pub body: String,
    /// The answer is a stream whose terminal event must be seen.
    #[serde(default)]
    pub stream: bool,
    /// More headers.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
}

/// What became of one request.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Reply {
    /// Its place in the script.
    pub request: usize,
    /// HTTP status of the last try; 0 if there was none.
    pub status: u16,
    /// What went wrong, if the last answer is not whole.
    pub error: Option<String>,
    /// From due to the first byte of the last answer's body, in microseconds.
    pub first_us: u64,
    /// From due to its last byte.
    pub total_us: u64,
    /// How often it was sent.
    pub tries: u32,
    /// `x-keymux-key` of the last answer.
    pub key: Option<String>,
    /// The body, where it is a refusal.
    pub body: Option<String>,
}

/// What became of all.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Replies {
    /// When the first instant was, in milliseconds since 1970.
    pub start_unix_ms: u64,
    /// In the order of the script.
    pub replies: Vec<Reply>,
}

impl Script {
    /// Runs to the last answer.
    pub async fn run(self) -> anyhow::Result<Replies> {
        let stage = Arc::new(Stage::new(&self)?);
        let (start, start_unix_ms) = first_instant(self.start_unix_ms);
        let patience = Duration::from_millis(self.patience_ms);
        let (sender, mut answers) = mpsc::channel(self.requests.len().max(1));
        for (index, request) in self.requests.into_iter().enumerate() {
            let due = start + Duration::try_from_secs_f64(request.at_ms / 1e3).context("at_ms")?;
            let shot = Shot {
                weight: 1,
                path: request.path,
                body: request.body,
                headers: request.headers,
                stream: request.stream,
            };
            sleep_until(due).await;
            let (stage, sender) = (Arc::clone(&stage), sender.clone());
            rt::spawn(async move {
                let reply = stage.play(index, &shot, due, due + patience).await;
                // Nobody listens any more only if the whole run was dropped.
                let _ = sender.send(reply).await;
            });
        }
        drop(sender);
        let mut replies = Vec::new();
        while let Some(reply) = answers.recv().await {
            replies.push(reply);
        }
        replies.sort_by_key(|reply| reply.request);
        Ok(Replies { start_unix_ms, replies })
    }
}

/// The instant on our clock for one on everybody's.
fn first_instant(wanted_unix_ms: u64) -> (Instant, u64) {
    let now_ms = unix_ns() / 1_000_000;
    let ahead = Duration::from_millis(wanted_unix_ms.saturating_sub(now_ms));
    (instant() + ahead, now_ms.max(wanted_unix_ms))
}

/// Whom to ask next, with connections that are kept.
struct Stage {
    targets: Vec<Target>,
    /// Idle connections of each target, the last used on top.
    idle: Vec<Mutex<Vec<Connection>>>,
    /// By path: the targets that serve it, and how many tries went to them.
    turns: BTreeMap<String, (Vec<usize>, AtomicUsize)>,
    retry_429: bool,
    dice: Mutex<u64>,
}

impl Stage {
    /// Errors: no such URL, a path that nobody serves.
    fn new(script: &Script) -> anyhow::Result<Self> {
        let mut targets = Vec::new();
        for target in &script.targets {
            targets.push(Target::new(&target.url, target.token.as_deref())?);
        }
        let mut turns = BTreeMap::new();
        for request in &script.requests {
            if turns.contains_key(&request.path) {
                continue;
            }
            let serves = |t: &ScriptTarget| t.paths.is_empty() || t.paths.contains(&request.path);
            let who: Vec<usize> =
                script.targets.iter().enumerate().filter(|(_, t)| serves(t)).map(|(at, _)| at).collect();
            anyhow::ensure!(!who.is_empty(), "no target serves {}", request.path);
            turns.insert(request.path.clone(), (who, AtomicUsize::new(0)));
        }
        Ok(Stage {
            idle: targets.iter().map(|_| Mutex::default()).collect(),
            targets,
            turns,
            retry_429: script.retry_429,
            dice: Mutex::new(script.seed ^ 0x5eed),
        })
    }

    /// Plays a request to its end.
    async fn play(&self, request: usize, shot: &Shot, due: Instant, give_up: Instant) -> Reply {
        let mut reply = Reply { request, ..Reply::default() };
        loop {
            reply.tries += 1;
            let mut answered = Answered::default();
            let outcome = timeout_at(give_up, self.attempt(shot, due, &mut answered)).await;
            reply.status = answered.status;
            reply.key = answered.key.take();
            reply.first_us = answered.first_us;
            reply.total_us =
                u64::try_from(instant().saturating_duration_since(due).as_micros()).unwrap_or(u64::MAX);
            let refused = !(200..300).contains(&reply.status);
            reply.body = refused.then(|| String::from_utf8_lossy(&answered.body).into_owned());
            let wait = match outcome {
                Ok(Ok(wait)) => wait,
                Ok(Err(error)) => {
                    reply.error = Some(error);
                    return reply;
                }
                Err(_) => {
                    reply.error = Some("no patience left".to_owned());
                    return reply;
                }
            };
            if reply.status != 429 || !self.retry_429 {
                return reply;
            }
            let again = instant() + wait.unwrap_or_else(|| self.backoff(reply.tries));
            if again >= give_up {
                reply.error = Some("no patience left".to_owned());
                return reply;
            }
            sleep_until(again).await;
        }
    }

    /// One try at the target whose turn it is; how long its answer asks to wait.
    async fn attempt(
        &self,
        shot: &Shot,
        due: Instant,
        answered: &mut Answered,
    ) -> Result<Option<Duration>, String> {
        let (who, turn) = self.turns.get(&shot.path).ok_or("nobody serves this path")?;
        let at = who[turn.fetch_add(1, Ordering::Relaxed) % who.len()];
        let idle = self.idle[at].lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = idle.unwrap_or_else(|| Connection::new(self.targets[at].clone()));
        let response = connection.send(shot).await.map_err(|e| e.root_cause().to_string())?;
        answered.status = response.status().as_u16();
        read_head(response.headers(), answered);
        let wait = stated_wait(response.headers());
        read_body(response, shot, due, answered).await?;
        self.idle[at].lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        Ok(wait)
    }

    fn backoff(&self, tries: u32) -> Duration {
        let doubled = BACKOFF_FIRST.saturating_mul(1 << (tries - 1).min(8)).min(BACKOFF_MAX);
        let roll = unit(&mut self.dice.lock().unwrap_or_else(PoisonError::into_inner));
        doubled.mul_f64(1.0 - 0.25 * roll)
    }
}

fn stated_wait(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let seconds = number("retry-after-ms").map(|ms| ms / 1e3).or_else(|| number("retry-after"))?;
    let wait = Duration::try_from_secs_f64(seconds).ok()?;
    (wait > Duration::ZERO && wait <= STATED_MAX).then_some(wait)
}
