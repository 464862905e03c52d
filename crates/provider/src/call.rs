//! What a caller asks for, and what the provider decides about it.

use crate::dialect::Endpoint;
use crate::plan::Plan;
use crate::record::Name;
use crate::steer::Steer;

/// One call, already read. Everything but the key, the endpoint and the model has a sensible default.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "mirrors the flags of the vendors' requests")]
pub struct Call<'a> {
    /// Which provider: its place in the spec, see [`crate::World::provider`].
    pub provider: usize,
    /// The credential presented, without `Bearer`.
    pub secret: &'a str,
    /// What is asked for.
    pub endpoint: Endpoint,
    /// The model's name.
    pub model: &'a str,
    /// The answer is wanted as a stream of events.
    pub stream: bool,
    /// Tokens of the prompt.
    pub input_tokens: u64,
    /// Cap on the output that the caller names.
    pub max_tokens: Option<u64>,
    /// How long the answer would be without a cap; None draws it from the latency model.
    pub output_tokens: Option<u64>,
    /// How many answers.
    pub n: u32,
    /// OpenAI's `stream_options.include_usage`.
    pub include_usage: bool,
    /// Identity of the conversation's prefix, for the prompt cache; None never hits it.
    pub prompt: Option<u64>,
    /// Anthropic: the request marks a cache breakpoint, without which nothing is cached.
    pub cache_control: bool,
    /// OpenRouter: the dearest prices that the caller takes, in dollars for a million tokens of input and of output.
    pub max_price: [Option<f64>; 2],
    /// A response that this one continues.
    pub previous_response: Option<&'a str>,
    /// Responses: the answer is kept at the account.
    pub store: bool,
    /// Answer with a call of this tool.
    pub tool: Option<ToolAsk>,
    /// The answer must be a JSON object.
    pub json_answer: bool,
    /// Embeddings and moderations: how many inputs.
    pub inputs: u32,
    /// Embeddings: vector length wanted.
    pub dimensions: Option<u32>,
    /// Embeddings: as base64 of little-endian floats (the official Python SDK asks so).
    pub base64: bool,
    /// Id in the path or query.
    pub id: Option<&'a str>,
    /// Whether bytes are wanted; a simulator wants only the course.
    pub body: BodyWish,
    /// Overrides from the prompt.
    pub steer: Option<Box<Steer>>,
}

/// A tool to call, with arguments as JSON text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolAsk {
    /// Its name.
    pub name: String,
    /// Its arguments, a JSON object as text.
    pub arguments: String,
}

/// How much of a reply is wanted in writing. What is decided is the same for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum BodyWish {
    /// Only status and course.
    #[default]
    No,
    /// Headers too.
    Head,
    /// A plan with all bytes.
    Yes,
}

/// How the provider ends a reply, once its bytes are out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// As HTTP wants it.
    #[default]
    Complete,
    /// The connection is closed in the middle.
    Cut,
    /// The connection is reset.
    Reset,
    /// Nothing more ever comes; the connection stays open.
    Hang,
}

/// What becomes of a call if nobody cancels it: offsets in nanoseconds from its arrival.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Course {
    /// When the status line and headers are sent; None is never.
    pub head_at_ns: Option<u64>,
    /// When the first output token exists (in a stream: is sent); None is never.
    pub first_output_at_ns: Option<u64>,
    /// Time between tokens.
    pub token_ns: u64,
    /// When the last byte is sent; None is never.
    pub end_at_ns: Option<u64>,
    /// How it ends.
    pub end: End,
    /// Input tokens, cached included.
    pub input_tokens: u64,
    /// Input tokens from the cache.
    pub cached_tokens: u64,
    /// Output tokens in all, reasoning included.
    pub output_tokens: u64,
    /// Of these, reasoning.
    pub reasoning_tokens: u64,
    /// The cap cut the answer short.
    pub capped: bool,
    /// An error is part of the answer although the status is 200.
    pub error_inside: bool,
}

impl Course {
    /// Output tokens that exist `elapsed_ns` after arrival.
    pub fn produced(&self, elapsed_ns: u64) -> u64 {
        match self.first_output_at_ns {
            Some(first) if elapsed_ns >= first => {
                let more = (elapsed_ns - first).checked_div(self.token_ns).unwrap_or(u64::MAX);
                more.saturating_add(1).min(self.output_tokens)
            }
            _ => 0,
        }
    }
}

/// What the provider decided.
#[derive(Debug)]
pub struct Reply {
    /// Number of the call; what [`crate::World::done`] wants back.
    pub id: u64,
    /// HTTP status; 0 when none will be sent.
    pub status: u16,
    /// Headers, names in lower case; framing and content-length are the transport's.
    pub headers: Vec<(&'static str, String)>,
    /// What becomes of it.
    pub course: Course,
    /// The limit or rule that refused it, if one did.
    pub refused_by: Option<Name>,
    /// When the refusal said to come back, in nanoseconds from now, in whatever form.
    pub retry_after_ns: Option<u64>,
    /// The call holds slots, holds or a running meter until `done` is called. Refusals do not.
    pub open: bool,
    /// The bytes: of a refusal always, else when they were wanted.
    pub plan: Plan,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The reply's course ran to its end.
    Completed,
    /// The caller went away first.
    Cancelled,
}
