//! What came of an attempt: the only way in which reports come back, so that a simulator needs to produce nothing
//! else.

use crate::fleet::Dimension;

/// How far an attempt got before it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// No connection yet: nothing reached the provider.
    Connect,
    /// The request was being sent.
    Send,
    /// Sent; no answer yet.
    Head,
    /// The answer has begun, but no output was seen; nothing went to the client.
    Hold,
    /// Output went to the client.
    Stream,
}

/// What was observed, in neutral words. Whose fault it is, is told by [`crate::blame`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sign {
    /// The provider says that the request is wrong (400, 413, 422, context length, moderation …).
    BadRequest,
    /// The provider does not know the model.
    ModelUnknown,
    /// Nobody behind the provider serves the model for the price that the request allows.
    TooDear,
    /// The client went away.
    ClientGone,
    /// The client's own time-out, shorter than ours, ran out.
    ClientTimeout,
    /// Larger than a limit of this account could ever admit.
    TooLargeForLimit,
    /// The key is not accepted.
    KeyRefused,
    /// The key may not do this.
    KeyForbidden,
    /// The key's own spending cap is reached.
    KeyCap,
    /// The account has no money, or reached its spending limit.
    NoMoney,
    /// The money held for requests in flight is too much; it passes.
    InFlightMoney,
    /// A rate limit.
    RateLimited {
        /// Which dimension, where known.
        dimension: Option<Dimension>,
        /// Of which scope.
        scope: LimitScope,
        /// It counts days (or longer), not minutes.
        daily: bool,
    },
    /// The provider, or a provider behind it, has no capacity for this model, whoever asks.
    Overloaded,
    /// A 5xx without a better name.
    ServerError,
    /// No connection (refused, unreachable, name not found).
    ConnectFailed,
    /// The TLS handshake failed.
    TlsFailed,
    /// The connection broke.
    Reset,
    /// No first byte in time.
    FirstByteTimeout,
    /// A pause between two chunks that was too long.
    IdleTimeout,
    /// The whole request took too long.
    TotalTimeout,
    /// The answer ended before it was complete.
    Truncated,
    /// An error inside a stream or inside a 200.
    ErrorInAnswer,
    /// An answer that cannot be understood (HTML in a 200, no HTTP, a redirect, a false length).
    Garbage,
    /// Our own trouble (descriptors, a bug): nobody else's.
    Local,
}

/// What a rate limit covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitScope {
    /// The account, for this model (or its family).
    AccountModel,
    /// The account, for every model.
    Account,
    /// The account, for its free models (`:free`).
    AccountFreeModels,
    /// This key only.
    Key,
    /// Nobody said.
    Unknown,
}

/// A failed attempt, as observed.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// How far it got.
    pub phase: Phase,
    /// The status of the answer, where there was one.
    pub status: Option<u16>,
    /// What was seen.
    pub sign: Sign,
    /// The error came from behind an aggregator, which only relayed it.
    pub relayed: bool,
    /// When to come back, as stated (duration from now).
    pub retry_after_ns: Option<u64>,
    /// The size of the limit, as stated.
    pub limit: Option<f64>,
    /// What the provider would have charged, as stated.
    pub requested: Option<f64>,
}

/// What was really used, as the provider reports it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Used {
    /// All input tokens, cached ones included.
    pub input_tokens: u64,
    /// Input tokens that were read from a cache.
    pub cached_input_tokens: u64,
    /// Output tokens, reasoning included.
    pub output_tokens: u64,
    /// Cost in nano-dollars, where known.
    pub cost_nano_usd: Option<u64>,
    /// Counted by us, not said by the provider.
    pub estimated: bool,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// Answered.
    Done,
    /// Failed.
    Failed(Evidence),
    /// Nobody reported: the lease was dropped (a panic, a cancelled task). Settled as a client that went away.
    Dropped,
}

/// The report on one attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// What it used, where known.
    pub used: Option<Used>,
    /// The client has been sent a byte of the answer, so nothing may be tried again.
    pub committed: bool,
    /// Time from sending to the first byte of output.
    pub first_output_ns: Option<u64>,
}

/// One limit as an answer's headers state it, measured somewhere between sending and receiving.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measurement {
    /// What is counted.
    pub dimension: Dimension,
    /// Per day, not per minute.
    pub daily: bool,
    /// For the whole account, not for one model.
    pub account_wide: bool,
    /// Size of the limit.
    pub limit: Option<f64>,
    /// What is left.
    pub remaining: Option<f64>,
    /// `remaining` is rounded to multiples of this.
    pub rounding: f64,
    /// Time until the reset.
    pub reset_ns: Option<u64>,
    /// The reset means "full again", not "next slot".
    pub reset_means_full: bool,
}

impl Measurement {
    /// Nothing is left, and something comes back then: how much, and in which period, is left open. Such a word fits a
    /// bucket's next unit as well as a window's end, so that refusals have to tell, as if it had not been said.
    pub(crate) fn leaves_the_shape_open(&self) -> bool {
        !self.daily && !self.reset_means_full && self.reset_ns.is_some() && self.remaining == Some(0.0)
    }
}
