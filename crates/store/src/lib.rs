//! What is durable. For now the one thing that every ledger will hold: the record of a request. Prompts and answers
//! have no place in it, on purpose.

use std::sync::Arc;

/// One request, told once, when it is over.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Its id, as the client got it.
    pub id: Arc<str>,
    /// The endpoint, such as `chat/completions`.
    pub endpoint: &'static str,
    /// The model, as the client wrote it.
    pub model: String,
    /// Who served it last (`-` while nobody has).
    pub provider: Arc<str>,
    /// With which key.
    pub key: Arc<str>,
    /// The status that the client saw; 499 if it went away before.
    pub status: u16,
    /// How it ended, in one word.
    pub outcome: &'static str,
    /// Attempts.
    pub attempts: u32,
    /// Nanoseconds in the waiting room.
    pub queue_ns: u64,
    /// Nanoseconds from its arrival to its first output.
    pub first_output_ns: Option<u64>,
    /// Nanoseconds in all.
    pub total_ns: u64,
    /// What it used.
    pub used: Used,
}

/// Tokens and money of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Input tokens, cached ones included.
    pub input_tokens: u64,
    /// Of these, read from a cache.
    pub cached_input_tokens: u64,
    /// Output tokens, reasoning included.
    pub output_tokens: u64,
    /// Nano-dollars; `None` where nobody said.
    pub cost_nano_usd: Option<u64>,
    /// Counted by keymux, since the provider did not say.
    pub estimated: bool,
}
