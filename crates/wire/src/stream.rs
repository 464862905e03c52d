//! What an event of a stream means: nothing yet, output, the bill, the end, or an error.
//!
//! A relay holds a stream back until its first output, so that an error in the first events can still fail over. Until
//! then every event is read whole; afterwards only those that can matter. The words looked for (`"usage"` and so on)
//! occur in model text too, but there their quotes are escaped; and a hit is always confirmed by a real parse.

#[cfg(test)]
mod tests;

use serde::Serialize;

use crate::answer::{self, Top};
use crate::body::{Envelope, error_body};
use crate::error::{self, Dialect, ErrorFacts};
use crate::sse::Event;
use crate::usage::Usage;

/// Whose events these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamKind {
    /// `chat/completions` of `OpenAI`'s dialect and `OpenRouter`'s.
    Chat,
    /// `completions`, the older text endpoint.
    Completions,
    /// `responses`.
    Responses,
    /// Anthropic's `messages`.
    Messages,
}

impl StreamKind {
    fn dialect(self) -> Dialect {
        match self {
            StreamKind::Messages => Dialect::Anthropic,
            StreamKind::Chat | StreamKind::Completions | StreamKind::Responses => Dialect::OpenAi,
        }
    }
}

/// What kind of event it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A sign of life, or scaffolding without content: comments, pings, a role, `response.created`.
    Silence,
    /// Something that was generated: text, reasoning, a tool call, a refusal, audio.
    Output,
    /// The chunk that carries usage and no choice at all: what `include_usage` adds to a chat stream.
    UsageOnly,
    /// The well-formed end of the stream.
    Done,
    /// An error. The stream is over, whatever else comes.
    Error(ErrorFacts),
    /// None of these: a finish without content, an event not known, data that cannot be read.
    Other,
}

/// What an event means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meaning {
    /// What it is.
    pub kind: Kind,
    /// The usage that it reports; cumulative, see [`Usage::merge`].
    pub usage: Option<Usage>,
    /// It says why generation stopped: an end that comes after it is not a cut.
    pub finish: bool,
    /// The id of the answer, where the event says it: every chunk of a chat does, else those that introduce the answer
    /// (`response.created`, `message_start`).
    pub answer_id: Option<Box<str>>,
}

impl Meaning {
    fn plain(kind: Kind) -> Self {
        Meaning { kind, usage: None, finish: false, answer_id: None }
    }
}

/// Reads an event whole.
pub fn read(kind: StreamKind, event: &Event<'_>) -> Meaning {
    if event.comment_only {
        return Meaning::plain(Kind::Silence);
    }
    if event.oversized {
        return Meaning::plain(Kind::Output);
    }
    let data = event.data.trim_ascii();
    if data == b"[DONE]" {
        return Meaning::plain(Kind::Done);
    }
    let named_error = event.event.is_some_and(|name| matches!(name, "error" | "response.error"));
    let Some(top) = answer::parse(data) else {
        if named_error {
            return Meaning::plain(Kind::Error(error::from_object(kind.dialect(), &quoted(data))));
        }
        return Meaning::plain(if data.is_empty() { Kind::Silence } else { Kind::Other });
    };
    match kind {
        StreamKind::Chat | StreamKind::Completions => chat(kind, &top, data, named_error),
        StreamKind::Responses | StreamKind::Messages => typed(kind, event, &top, data),
    }
}

/// Whether an event after the first output is more output and nothing else that matters (usage, errors, the end, the
/// finish). Told without a parse; every other one has to be read.
pub fn is_mere_output(kind: StreamKind, event: &Event<'_>) -> bool {
    match kind {
        StreamKind::Chat | StreamKind::Completions => !chat_may_matter(event),
        StreamKind::Responses | StreamKind::Messages => !typed_may_matter(event),
    }
}

/// A chunk of a chat or text stream.
fn chat(kind: StreamKind, top: &Top<'_>, data: &[u8], named_error: bool) -> Meaning {
    let choices = top.choices();
    let usage = top.usage();
    let error = match top.error(kind.dialect()) {
        None if named_error => Some(error::from_object(kind.dialect(), &String::from_utf8_lossy(data))),
        found => found,
    };
    let what = match error {
        Some(facts) => Kind::Error(facts),
        None if choices.output => Kind::Output,
        None if choices.count == 0 && usage.is_some() => Kind::UsageOnly,
        None if choices.finished => Kind::Other,
        None => Kind::Silence,
    };
    Meaning { kind: what, usage, finish: choices.finished, answer_id: top.answer_id() }
}

/// An event of a dialect whose events have types.
fn typed(kind: StreamKind, event: &Event<'_>, top: &Top<'_>, data: &[u8]) -> Meaning {
    let name = top.kind().or(event.event).unwrap_or_default();
    let dialect = kind.dialect();
    let whole = || String::from_utf8_lossy(data);
    let mut introduces = false;
    let mut finish = false;
    let what = match name {
        "ping" | "keepalive" | "content_block_stop" => Kind::Silence,
        "error" | "response.error" => {
            Kind::Error(top.error(dialect).unwrap_or_else(|| error::from_object(dialect, &whole())))
        }
        "message_start" | "response.created" | "response.queued" | "response.in_progress" => {
            introduces = true;
            Kind::Silence
        }
        // Messages.
        "content_block_start" | "content_block_delta" if !(top.content_block.filled || top.delta.filled) => {
            Kind::Silence
        }
        "content_block_start" | "content_block_delta" => Kind::Output,
        "message_delta" => {
            finish = top.delta.stopped;
            Kind::Other
        }
        "message_stop" => Kind::Done,
        // Responses.
        "response.completed" | "response.incomplete" | "response.cancelled" | "response.done" => {
            finish = true;
            Kind::Done
        }
        "response.failed" => {
            let inner = top.inner().and_then(|inner| inner.error(dialect));
            Kind::Error(
                inner.or_else(|| top.error(dialect)).unwrap_or_else(|| error::from_object(dialect, "{}")),
            )
        }
        _ => match top.error(dialect) {
            Some(facts) => Kind::Error(facts),
            None => responses_part(name, top),
        },
    };
    let answer_id = if introduces { top.answer_id() } else { None };
    Meaning { kind: what, usage: top.usage(), finish, answer_id }
}

/// Events of Responses about parts of the answer.
fn responses_part(name: &str, top: &Top<'_>) -> Kind {
    let Some(name) = name.strip_prefix("response.") else { return Kind::Other };
    match name {
        "output_item.added" if top.item.filled => Kind::Output,
        "content_part.added" | "reasoning_summary_part.added" if top.part.filled => Kind::Output,
        "output_item.added" | "content_part.added" | "reasoning_summary_part.added" => Kind::Silence,
        _ if last_word(name) == "delta" && !top.delta.filled => Kind::Silence,
        _ if matches!(last_word(name), "delta" | "done" | "partial_image") => Kind::Output, // A tool that the provider runs itself is under way.
        _ if name.contains("_call.") => Kind::Silence,
        _ => Kind::Other,
    }
}

/// What follows the last dot of an event's type.
fn last_word(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(_, word)| word)
}

fn chat_may_matter(event: &Event<'_>) -> bool {
    let data = event.data;
    // A chunk is an object; the end, an empty block and garbage are not.
    event.oversized || event.event.is_some() || data.first() != Some(&b'{') || says_more_than_content(data)
}

/// How many places are looked at together.
const BLOCK: usize = 64;
/// What a place needs around it: three bytes before, two behind.
const MARGIN: usize = 5;

/// The chunk has a member `usage`, `error` or `finish_reason` that is not null, or says `"error"` of itself.
/// `"finish_reason":"error"` is found as a finish.
///
/// One pass over blocks of bytes, in a form that the compiler turns into a few wide comparisons; only where a block
/// has a place that looks like the end of such a name are its quotes looked at one by one.
fn says_more_than_content(data: &[u8]) -> bool {
    let mut at = 0;
    while let Some(block) = data.get(at..).and_then(|rest| rest.first_chunk()) {
        if block_may_matter(block) && quotes_matter(data, at + 3, at + 3 + BLOCK) {
            return true;
        }
        at += BLOCK;
    }
    // The last bytes once more as a whole block, then those too near to the end to have a margin.
    let tail = match data.last_chunk() {
        Some(block) if !block_may_matter(block) => data.len() - 2,
        Some(_) => at + 3,
        None => 0,
    };
    quotes_matter(data, tail, data.len())
}

/// Some quote follows `g` or `o` (they differ in one bit) and one more byte, as the last ones of `usage`, `error` and
/// `finish_reason` do, and is not that of a member that is null (written without spaces). With an `i` before
/// (`obfuscation`) it is none of them.
#[expect(clippy::needless_bitwise_bool, reason = "without branches many places are compared at once")]
fn block_may_matter(block: &[u8; BLOCK + MARGIN]) -> bool {
    let mut found = 0_u8;
    for i in 0..BLOCK {
        let place =
            (block[i + 3] == b'"') & (block[i + 1] | 8 == b'o') & (block[i] != b'i') & (block[i + 5] != b'n');
        found |= u8::from(place);
    }
    found != 0
}

/// One of the quotes from `from` up to `to` ends a name that matters.
fn quotes_matter(data: &[u8], from: usize, to: usize) -> bool {
    memchr::memchr_iter(b'"', &data[from..to]).any(|at| {
        let (before, rest) = data.split_at(from + at);
        let error = before.ends_with(b"\"error");
        if !(error || before.ends_with(b"\"usage") || before.ends_with(b"\"finish_reason")) {
            return false;
        }
        match rest[1..].trim_ascii_start().strip_prefix(b":") {
            Some(value) => !value.trim_ascii_start().starts_with(b"null"),
            // No name but a value: vLLM's `"object":"error"`.
            None => error,
        }
    })
}

/// The type of the event, from its name or from where the dialects write it, says that it is only content.
fn typed_may_matter(event: &Event<'_>) -> bool {
    let data = event.data;
    let from_data = data.strip_prefix(b"{\"type\":").map(<[u8]>::trim_ascii_start).and_then(|rest| {
        let rest = rest.strip_prefix(b"\"")?;
        memchr::memchr(b'"', rest).map(|end| &rest[..end])
    });
    let name = from_data.or(event.event.map(str::as_bytes)).unwrap_or_default();
    event.oversized
        || !(name == b"content_block_delta" || (name.starts_with(b"response.") && name.ends_with(b".delta")))
}

fn quoted(data: &[u8]) -> String {
    serde_json::to_string(&String::from_utf8_lossy(data)).unwrap_or_default()
}

/// An event that tells the client of a broken stream in its own dialect, for the place where the rest should have
/// come. It is never followed by an end such as `[DONE]`: both official SDKs raise on it.
pub fn error_event(kind: StreamKind, message: &str, type_: &str, code: &str) -> Vec<u8> {
    #[derive(Serialize)]
    struct Messages<'a> {
        r#type: &'a str,
        error: MessagesError<'a>,
    }
    #[derive(Serialize)]
    struct MessagesError<'a> {
        r#type: &'a str,
        message: &'a str,
    }
    #[derive(Serialize)]
    struct Responses<'a> {
        r#type: &'a str,
        code: &'a str,
        message: &'a str,
        param: Option<&'a str>,
    }
    let (name, data) = match kind {
        StreamKind::Chat | StreamKind::Completions => {
            // This envelope has no room for a status.
            ("", error_body(Envelope::OpenAi, 0, type_, code, None, message))
        }
        StreamKind::Messages => {
            let error = MessagesError { r#type: type_, message };
            ("event: error\n", bytes(&Messages { r#type: "error", error }))
        }
        StreamKind::Responses => {
            ("event: error\n", bytes(&Responses { r#type: "error", code, message, param: None }))
        }
    };
    [name.as_bytes(), b"data: ", &data, b"\n\n"].concat()
}

fn bytes(value: &impl Serialize) -> Vec<u8> {
    // Strings always serialise.
    serde_json::to_vec(value).unwrap_or_default()
}
