//! The record of a request: told once, when it is over. Prompts and answers have no place in it, on purpose, and neither
//! has a secret: keys stand here by their names.

use std::borrow::Cow;
use std::sync::Arc;

/// The outcome of a request of which only the reservation survived: the process ended before the answer did.
pub const UNKNOWN: &str = "unknown";

/// One request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Its id, as the client got it. The gateway makes it, and no two requests share one: a row that comes twice is told
    /// by it, and counts once.
    pub id: Arc<str>,
    /// The provider's own id of the answer, by which a client may ask for it.
    pub generation: Option<Arc<str>>,
    /// The client's id; empty where clients are not told apart.
    pub client: Arc<str>,
    /// Its team; empty where there is none.
    pub team: Arc<str>,
    /// What the caller and its key say about the request, for its own book-keeping.
    pub tags: Vec<Arc<str>>,
    /// The endpoint, such as `chat/completions`.
    pub endpoint: Cow<'static, str>,
    /// The model, as the client wrote it.
    pub model: String,
    /// Who served it last (`-` while nobody has).
    pub provider: Arc<str>,
    /// With which key, by its name.
    pub key: Arc<str>,
    /// Of which account.
    pub account: Arc<str>,
    /// The status that the client saw; 499 if it went away before.
    pub status: u16,
    /// How it ended, in one word; [`UNKNOWN`] where nobody could tell.
    pub outcome: Cow<'static, str>,
    /// Attempts.
    pub attempts: u32,
    /// Nanoseconds in the waiting room.
    pub queue_ns: u64,
    /// Nanoseconds from its arrival to its first output.
    pub first_output_ns: Option<u64>,
    /// Nanoseconds in all.
    pub total_ns: u64,
    /// When it arrived, in milliseconds since 1970 (UTC).
    pub started_unix_ms: u64,
    /// The instant whose budget period bears the cost, in the same unit: that of the last reservation. 0 means the
    /// arrival.
    pub charged_unix_ms: u64,
    /// What it used.
    pub used: Used,
    /// The reservations that this record closes (see [`crate::Log::reserve`]). They are not kept once it is in the
    /// database.
    pub holds: Vec<u64>,
}

impl Record {
    /// The instant whose budget period bears the cost, in milliseconds since 1970.
    pub fn bears_unix_ms(&self) -> u64 {
        if self.charged_unix_ms == 0 { self.started_unix_ms } else { self.charged_unix_ms }
    }
}

/// Tokens and money of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Input tokens, cached ones included.
    pub input_tokens: u64,
    /// Of these, read from a cache.
    pub cached_input_tokens: u64,
    /// Of the input, written to a cache.
    pub cache_write_tokens: u64,
    /// Of the input, audio.
    pub input_audio_tokens: u64,
    /// Output tokens, reasoning included.
    pub output_tokens: u64,
    /// Of these, reasoning.
    pub reasoning_tokens: u64,
    /// Of the output, audio.
    pub output_audio_tokens: u64,
    /// Nano-dollars; `None` where nobody said.
    pub cost_nano_usd: Option<u64>,
    /// Who said so.
    pub cost_source: CostSource,
    /// Counted by keymux, since the provider did not say.
    pub estimated: bool,
}

/// Where the cost of a request comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CostSource {
    /// Nobody knows.
    #[default]
    Unknown,
    /// The provider's own figure.
    Provider,
    /// Tokens times the price table.
    Prices,
    /// What was reserved, since how the attempt ended is not known.
    Reserved,
}

impl CostSource {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 4] = [Self::Unknown, Self::Provider, Self::Prices, Self::Reserved];

    /// Its number in the log and in the database. Numbers are never given to another source.
    pub fn code(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Provider => 1,
            Self::Prices => 2,
            Self::Reserved => 3,
        }
    }

    /// The source with this number.
    pub fn from_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|s| u64::from(s.code()) == code)
    }

    /// Its name in exports.
    pub fn label(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Provider => "provider",
            Self::Prices => "prices",
            Self::Reserved => "reserved",
        }
    }
}

/// Money set aside for one attempt, written down before the attempt goes out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reservation {
    /// The request's id.
    pub request: Arc<str>,
    /// The client's id.
    pub client: Arc<str>,
    /// Its team.
    pub team: Arc<str>,
    /// The model, as the client wrote it.
    pub model: Arc<str>,
    /// To whom the attempt goes.
    pub provider: Arc<str>,
    /// With which key, by its name.
    pub key: Arc<str>,
    /// Of which account.
    pub account: Arc<str>,
    /// The endpoint.
    pub endpoint: Cow<'static, str>,
    /// When, in milliseconds since 1970: the instant whose budget period bears it.
    pub at_unix_ms: u64,
    /// How much, in nano-dollars.
    pub cost_nano_usd: u64,
}
