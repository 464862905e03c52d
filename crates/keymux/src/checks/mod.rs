//! Whether keys work, found out by calls that cost nothing: at `OpenRouter` all that `GET /key` tells, at `DeepSeek` the
//! balance, elsewhere whether `GET /models` is answered to this key. `keymux keys` shows it, the gateway looks by itself
//! every few minutes ([`watch`]); both ask by [`all`] and judge by [`verdict`], so that they never tell two stories.
//!
//! A check runs beside the data path, with connections of its own; only `watch` knows of the scheduler.

pub mod accounts;
pub mod ask;
mod known;
pub mod report;
pub mod verdict;
pub mod watch;

pub use ask::{Checker, Probe, Way, all};
pub use known::Known;
pub use verdict::{Note, Verdict};

use keymux_policy::fleet::KeyId;
use keymux_wire::key::{Balance, KeyFacts};
use keymux_wire::limits::Measurement;
use std::sync::Arc;

/// What was found out about one key.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Which key.
    pub key: KeyId,
    /// Its provider's name.
    pub provider: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its account's name, as the configuration has it.
    pub account: Arc<str>,
    /// How it was asked for.
    pub way: Way,
    /// When, on the monotonic clock.
    pub sent_ns: u64,
    /// When it was known, in nanoseconds since 1970.
    pub at_unix_ns: u64,
    /// How it is.
    pub verdict: Verdict,
    /// What the provider tells of it.
    pub facts: Option<Box<KeyFacts>>,
    /// What is left of its account's money.
    pub balance: Option<Balance>,
    /// A digest of whose it is.
    pub owner: Option<u64>,
    /// Limits that the answer's headers tell of.
    pub limits: Vec<Measurement>,
}

impl Checked {
    /// Its name for people.
    pub fn path(&self) -> String {
        format!("{}/{}", self.provider, self.name)
    }
}
