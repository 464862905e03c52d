//! What a refusal means, as neutral facts.
//!
//! A status alone decides nothing: a 429 can be lasting (no money, a model that the tier lacks) and a 402 can pass
//! (an in-flight budget), and an aggregator relays its own upstream's 401 under that status. So the body's codes come
//! first, then its types, then a few texts that have no code, and the status last. What is general to servers of
//! `OpenAI`'s dialect stands in `dialect/openai.rs`, what is particular to the two others in theirs; a body
//! that has another dialect's shape is read by that one.
//!
//! What follows from a sign (whom to bench, whether to try again) is not known here. The body may be anything: work is
//! bounded, and foreign text is cut and cleaned before it is kept.

mod rules;
mod shape;
mod words;

#[cfg(test)]
mod tests;

use serde_json::Value;

pub use crate::limits::{Dimension, Period, Profile};

pub(crate) use rules::{by_message, by_status, google_quota, limit_named, rate_limited};
pub(crate) use shape::Said;

use crate::limits::{self, Measurement};
use crate::{answer, dialect, text};

/// Which dialect a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `OpenAI`'s, and all servers that follow it.
    OpenAi,
    /// `OpenRouter`'s: `OpenAI`'s with an aggregator's facts in its errors.
    OpenRouter,
    /// Anthropic's.
    Anthropic,
}

/// Whose limit a refusal for rate speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LimitScope {
    /// All models of the account.
    Account,
    /// This key alone.
    Key,
    /// This model at this account.
    Model,
    /// `OpenRouter`'s `:free` models, together, for this account.
    AccountFreeModels,
    /// Not known.
    Unknown,
}

/// What a refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sign {
    /// The request is wrong, whoever would serve it.
    BadRequest,
    /// The model is not there, or not for this account.
    ModelUnknown,
    /// No provider behind an aggregator is as cheap as the request wants it.
    TooDear,
    /// The content was refused.
    ContentRefused,
    /// The prompt (with the output asked for) does not fit into the model.
    ContextTooLong,
    /// The request is larger than this account's whole limit: it can never pass here.
    TooLargeForLimit,
    /// The key is wrong, disabled or expired.
    KeyRefused,
    /// The key is known but may not do this.
    KeyForbidden,
    /// A spend cap of the key (or of its project or workspace) is reached.
    KeyCap,
    /// The account cannot pay.
    NoMoney,
    /// Too much money is held for requests in flight; it passes.
    InFlightMoney,
    /// Too fast.
    RateLimited {
        /// What there was too much of, if it is said.
        dimension: Option<Dimension>,
        /// The time that the limit counts over.
        period: Period,
        /// Whose limit it is.
        scope: LimitScope,
    },
    /// The model is in too high demand, for every account of this provider.
    SharedCapacity,
    /// The provider behind an aggregator is out of capacity for this model, whichever key asks.
    UpstreamCapacity,
    /// The provider is overloaded or still starting.
    Overloaded,
    /// Not served to this part of the world.
    RegionRefused,
    /// The provider failed.
    ServerError,
    /// The provider gave up waiting.
    TimedOut,
    /// The provider saw its client go away.
    ClientClosed,
    /// This endpoint or method is not served.
    NotSupported,
    /// None of these.
    Unrecognised,
}

/// What is known about one refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorFacts {
    /// The status it came with; for an error inside a 200 the one it names, else 500.
    pub status: u16,
    /// What it means.
    pub sign: Sign,
    /// How long it asks to wait, in nanoseconds.
    pub retry_after_ns: Option<u64>,
    /// When the limit is whole again, in nanoseconds since 1970.
    pub ready_at_unix_ns: Option<u64>,
    /// An aggregator relays it from a provider behind itself: it says nothing about our key.
    pub relayed: bool,
    /// The limit that it names.
    pub limit: Option<u64>,
    /// The size of this request as the provider counted it.
    pub requested: Option<u64>,
    /// The error's type, cleaned.
    pub error_type: Option<Box<str>>,
    /// The error's code, cleaned.
    pub code: Option<Box<str>>,
    /// What it says, cleaned, at most 300 characters.
    pub message: Option<Box<str>>,
    /// The provider behind an aggregator that it names, cleaned.
    pub upstream: Option<Box<str>>,
}

/// All that a verdict may draw on.
pub(crate) struct Evidence<'e> {
    pub(crate) status: u16,
    pub(crate) profile: Profile,
    pub(crate) said: &'e Said,
    pub(crate) measured: &'e [Measurement],
    pub(crate) unix_ns: u64,
}

/// Reads a refusal: an answer whose status is no success. Headers in any case; `unix_ns` is now.
pub fn read<'h, N: AsRef<[u8]>>(
    dialect: Dialect,
    profile: Profile,
    status: u16,
    headers: impl Iterator<Item = (N, &'h [u8])> + Clone,
    body: &[u8],
    unix_ns: u64,
) -> ErrorFacts {
    let mut measured = Vec::new();
    limits::read(profile, headers.clone(), unix_ns, &mut measured);
    let said = Said::read(body);
    let mut facts = ErrorFacts::new(status);
    facts.retry_after_ns = limits::retry_after(headers, unix_ns);
    judge(dialect, &Evidence { status, profile, said: &said, measured: &measured, unix_ns }, &mut facts);
    facts
}

/// Finds the error inside a body that came with a successful status, if there is one. Without the word `"error"` in it
/// the body is not parsed.
pub fn read_in_ok(dialect: Dialect, body: &[u8]) -> Option<ErrorFacts> {
    memchr::memmem::find(body, b"\"error\"")?;
    answer::parse(body)?.error(dialect)
}

/// Reads an error object that was found inside an answer or an event.
pub(crate) fn from_object(dialect: Dialect, raw: &str) -> ErrorFacts {
    let said = Said::from_error(raw);
    let status = said.status_named().unwrap_or_else(|| rules::status_of(&said));
    let mut facts = ErrorFacts::new(status);
    judge(
        dialect,
        &Evidence { status, profile: Profile::Generic, said: &said, measured: &[], unix_ns: 0 },
        &mut facts,
    );
    facts
}

impl ErrorFacts {
    pub(crate) fn new(status: u16) -> Self {
        ErrorFacts {
            status,
            sign: Sign::Unrecognised,
            retry_after_ns: None,
            ready_at_unix_ns: None,
            relayed: false,
            limit: None,
            requested: None,
            error_type: None,
            code: None,
            message: None,
            upstream: None,
        }
    }
}

/// Lets the dialects judge, the most particular first.
fn judge(dialect: Dialect, evidence: &Evidence<'_>, facts: &mut ErrorFacts) {
    let said = evidence.said;
    facts.error_type = text::word(&said.kind);
    facts.code = text::word(&said.code);
    facts.message = text::message(&said.message);
    rules::numbers_and_waits(evidence, facts);
    let aggregator = dialect == Dialect::OpenRouter || dialect::openrouter::is_its_shape(said);
    let anthropic = dialect == Dialect::Anthropic || said.anthropic_envelope;
    let sign = aggregator
        .then(|| dialect::openrouter::sign(evidence, facts))
        .flatten()
        .or_else(|| anthropic.then(|| dialect::anthropic::sign(evidence, facts)).flatten())
        .or_else(|| dialect::openai::sign(evidence, facts))
        .unwrap_or_else(|| by_status(evidence));
    facts.sign = sign;
}

/// A member of an object as text, numbers included; empty if there is none.
pub(crate) fn text_of(value: &Value, member: &str) -> String {
    match &value[member] {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    }
}
