//! The head of a request: the few fields of its JSON body that decide where it goes and what it may cost.
//!
//! Why: a balancer must know the model, the caps and the state that binds a request to an account, yet must pass
//! everything else on byte for byte. So the body is checked once as UTF-8, walked once as JSON, and only the known
//! fields are kept, as borrowed text with their spans in the body. Unknown fields are skipped, never built.
//!
//! It refuses what two parsers could read differently: a known field given twice, written with escapes or plain, and
//! a field that differs from a known one only in case (servers written in Go match names without regard to case, and
//! take the last). Whoever could make us read the cheap model and the provider the dear one would walk past every
//! allow-list and budget.
//!
//! It knows no policy: whether a model exists or a cap is allowed is somebody else's question.

mod error;
mod field;
mod multipart;
mod provider;
mod walk;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ops::Range;

use serde::de::Deserializer as _;
use serde_json::value::RawValue;

pub use error::HeadError;
pub(crate) use field::folded;
pub use field::{Field, FieldSpan};
pub use multipart::multipart_model;
pub use provider::{PriceMax, ProviderPrefs, parse_provider, parse_providers_header};

/// Which endpoint a body was sent to: it decides which fields mean what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BodyKind {
    /// `chat/completions`.
    Chat,
    /// `completions`, the older text endpoint.
    Completions,
    /// `embeddings`.
    Embeddings,
    /// `responses`.
    Responses,
    /// Anthropic's `messages`.
    Messages,
    /// Anthropic's `messages/count_tokens`.
    CountTokens,
    /// Any pass-through path with a JSON body (moderations, rerank, images …). Here `model` may be missing.
    Other,
}

/// A string of the body: its value with escapes undone, and where the raw JSON string (quotes included) lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text<'a> {
    /// The value, borrowed when it holds no escapes.
    pub value: Cow<'a, str>,
    /// The bytes of the raw JSON value in the body, quotes included.
    pub span: Range<usize>,
}

/// A value of the body that is kept as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawSpan<'a> {
    /// The JSON text, without the white space around it.
    pub raw: &'a str,
    /// Where that text lies in the body.
    pub span: Range<usize>,
}

impl RawSpan<'_> {
    /// The value is `null`.
    pub fn is_null(&self) -> bool {
        self.raw == "null"
    }

    /// Read as `stream_options`: the value of `include_usage`, if it is there and a boolean.
    pub fn include_usage(&self) -> Option<bool> {
        include_usage_span(self.raw).and_then(|(value, _)| value)
    }
}

/// What a request says about itself. Borrowed from the body; fields that were absent or `null` are `None`, unless
/// stated otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head<'a> {
    /// The endpoint that the body was read for.
    pub kind: BodyKind,
    /// The model's name; always there unless the kind is [`BodyKind::Other`]. Without a `model` it is the first of
    /// `models`, see [`Head::leads_list`].
    pub model: Option<Text<'a>>,
    /// The model stands at the head of `models` and nowhere else, as `OpenRouter` allows.
    pub leads_list: bool,
    /// Whether the answer is asked for as a stream.
    pub stream: bool,
    /// `stream_options`; kept even when it is `null`.
    pub stream_options: Option<RawSpan<'a>>,
    /// `max_tokens`, in tokens. A negative number (some local servers read it as "no limit") counts as absent.
    pub max_tokens: Option<u64>,
    /// `max_completion_tokens`, in tokens.
    pub max_completion_tokens: Option<u64>,
    /// `max_output_tokens`, in tokens.
    pub max_output_tokens: Option<u64>,
    /// How many answers are asked for.
    pub n: Option<u64>,
    /// OpenRouter's `provider` object; kept even when it is `null`, because it must be taken out for others.
    pub provider: Option<RawSpan<'a>>,
    /// OpenRouter's list of fallback models.
    pub models: Option<RawSpan<'a>>,
    /// The response that this one continues: state that lives at one account of one provider.
    pub previous_response_id: Option<Cow<'a, str>>,
    /// The conversation object or id of the Responses dialect: likewise bound.
    pub conversation: Option<RawSpan<'a>>,
    /// OpenRouter's `session_id`, a hint for affinity.
    pub session_id: Option<Cow<'a, str>>,
    /// The caller's `prompt_cache_key`, a hint for affinity.
    pub prompt_cache_key: Option<Cow<'a, str>>,
    /// The caller's `user`; ignored if it is not a string.
    pub user: Option<Cow<'a, str>>,
    /// Whether the provider shall keep the response.
    pub store: Option<bool>,
    /// The service tier asked for: it changes the price.
    pub service_tier: Option<Cow<'a, str>>,
    /// `messages`.
    pub messages: Option<RawSpan<'a>>,
    /// `input` of embeddings and responses.
    pub input: Option<RawSpan<'a>>,
    /// `prompt` of the text endpoint (and of Responses, where it is a template).
    pub prompt: Option<RawSpan<'a>>,
    /// Anthropic's `system`.
    pub system: Option<RawSpan<'a>>,
    /// `instructions` of Responses: its system prompt.
    pub instructions: Option<RawSpan<'a>>,
    /// `tools`.
    pub tools: Option<RawSpan<'a>>,
    /// Anthropic's `container`: where its tools run code.
    pub container: Option<RawSpan<'a>>,
    /// Offset of the closing brace of the object: where a field can be put in.
    pub object_end: usize,
    /// The object has no field at all, so that one put in needs no comma.
    pub is_empty_object: bool,
    /// What else the walk over the body saw.
    pub(crate) seen: Seen,
    fields: field::FieldSpans,
}

/// What the walk over a body saw on its way, so that nobody has to walk again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// A member called `type` is somewhere in the body, or may be.
    pub(crate) types: bool,
    /// A hash of what the lists in `messages`, `input` and `prompt` begin with.
    pub(crate) opening: u64,
}

impl Head<'_> {
    /// Where a known field and its value lie in the body, whatever its value is (`null` too).
    pub fn field_span(&self, field: Field) -> Option<FieldSpan> {
        self.fields.get(field)
    }

    /// `stream_options.include_usage`, if it is said.
    pub fn include_usage(&self) -> Option<bool> {
        self.stream_options.as_ref().and_then(RawSpan::include_usage)
    }

    /// The cap on the output that this endpoint obeys, in tokens: the greater one where two are given, because
    /// servers differ in which one they take.
    pub fn output_cap(&self) -> Option<u64> {
        match self.kind {
            BodyKind::Chat => self.max_tokens.max(self.max_completion_tokens),
            BodyKind::Completions | BodyKind::Messages => self.max_tokens,
            BodyKind::Responses => self.max_output_tokens,
            BodyKind::Embeddings | BodyKind::CountTokens | BodyKind::Other => None,
        }
    }
}

/// Reads the head of a request body in one pass, and the whole body as JSON with it.
///
/// # Errors
/// See [`HeadError`]: each says what is wrong and where, in words for the caller.
pub fn parse(body: &[u8], kind: BodyKind) -> Result<Box<Head<'_>>, HeadError> {
    let text =
        simdutf8::compat::from_utf8(body).map_err(|e| HeadError::InvalidUtf8 { offset: e.valid_up_to() })?;
    if !text.trim_ascii_start().starts_with('{') {
        return Err(walk::not_an_object(text));
    }
    // It is large, and is not moved again.
    let mut head = Box::new(walk::empty(kind, text));
    if walk::quickly(&mut head, text).is_none() {
        // Something is wrong with it, or unusual: the parser says what.
        *head = parse_slowly(text, kind)?;
    }
    if head.model.is_none() {
        head.model = head.models.as_ref().and_then(|models| walk::first_of(text, models));
        head.leads_list = head.model.is_some();
    }
    if head.model.is_none() && kind != BodyKind::Other {
        return Err(HeadError::MissingModel { models_given: head.models.is_some() });
    }
    Ok(head)
}

fn parse_slowly(text: &str, kind: BodyKind) -> Result<Head<'_>, HeadError> {
    let mut head = walk::empty(kind, text);
    let mut refusal = None;
    let mut json = serde_json::Deserializer::from_str(text);
    let visitor = walk::HeadVisitor { head: &mut head, refusal: &mut refusal, body: text };
    let walked = json.deserialize_map(visitor).and_then(|()| json.end());
    if let Err(error) = walked {
        return Err(refusal.unwrap_or_else(|| HeadError::from_json(&error)));
    }
    Ok(head)
}

/// The span of `include_usage` inside the raw text of `stream_options`, and its value if that is a boolean.
pub(crate) fn include_usage_span(raw: &str) -> Option<(Option<bool>, Range<usize>)> {
    walk::include_usage(raw).ok().flatten()
}

/// Offset of `part` in `whole`. Both must be the same memory; anything else gives an offset that is out of range, and
/// every user of a span checks that.
pub(crate) fn offset_in(whole: &str, part: &str) -> usize {
    (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize)
}

/// The value of a raw JSON string, borrowed if it holds no escapes. `None` if it is no string (or holds an unpaired
/// surrogate, which no UTF-8 text can say).
pub(crate) fn unescape(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str::<String>(raw).ok().map(Cow::Owned)
}

/// The raw text of a value and its place in the body.
fn raw_span<'a>(body: &str, value: &'a RawValue) -> RawSpan<'a> {
    let raw = value.get();
    let start = offset_in(body, raw);
    RawSpan { raw, span: start..start.wrapping_add(raw.len()) }
}
