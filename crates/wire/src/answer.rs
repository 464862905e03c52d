//! A whole answer, or one event of a stream, read once for everything that is looked for in it: usage, errors hidden
//! behind a 200, whether there is any output.
//!
//! One struct serves every dialect, because their field names do not clash. Values are kept as text or summed up as
//! they pass; nothing of the answer's content is built.

pub(crate) mod quick;

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::{self, Dialect, ErrorFacts};
use crate::head::BodyKind;
use crate::usage::{self, Usage};

/// What a whole answer holds, found in one pass.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// The body is one JSON object. A successful status with anything else is no success.
    pub is_json_object: bool,
    /// What it used.
    pub usage: Option<Usage>,
    /// An error inside the answer.
    pub error: Option<ErrorFacts>,
    /// The answer's own id: state kept at the provider goes by it.
    pub id: Option<Box<str>>,
}

/// Reads a whole answer that came with a successful status.
pub fn read(kind: BodyKind, dialect: Dialect, body: &[u8]) -> Answer {
    let Some(top) = parse(body) else {
        // Not what this dialect answers; it may still be an object (with a field twice, say), which is passed on.
        return Answer { is_json_object: is_json_object(body), ..Answer::default() };
    };
    let usage = if kind == BodyKind::CountTokens { None } else { top.usage() };
    Answer { is_json_object: true, usage, error: top.error(dialect), id: usage::name(top.id.map(Raw::get)) }
}

/// The body is one JSON object and nothing else. One pass; the answer of [`read`] says the same without a second one.
pub fn is_json_object(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(body).is_ok()
}

pub(crate) fn parse(body: &[u8]) -> Option<Top<'_>> {
    if !body.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    let quick = simdutf8::basic::from_utf8(body).ok().and_then(quick::top);
    quick.or_else(|| serde_json::from_slice(body).ok())
}

/// A value as it was written.
#[derive(Clone, Copy)]
pub(crate) struct Raw<'a>(&'a str);

impl<'a> Raw<'a> {
    pub(crate) fn get(self) -> &'a str {
        self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Raw<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(deserializer).map(|raw| Raw(raw.get()))
    }
}

/// The top level of an answer or event.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct Top<'a> {
    /// What kind of event it is (Responses, Messages), or `error`.
    #[serde(borrow, rename = "type")]
    kind: Option<Raw<'a>>,
    #[serde(borrow)]
    object: Option<Raw<'a>>,
    #[serde(borrow)]
    id: Option<Raw<'a>>,
    #[serde(borrow)]
    model: Option<Raw<'a>>,
    #[serde(borrow)]
    service_tier: Option<Raw<'a>>,
    #[serde(borrow)]
    usage: Option<Raw<'a>>,
    #[serde(borrow)]
    error: Option<Raw<'a>>,
    #[serde(borrow)]
    status: Option<Raw<'a>>,
    #[serde(borrow)]
    choices: Option<Choices<'a>>,
    // Groq puts a stream's usage here.
    #[serde(borrow)]
    x_groq: Option<Raw<'a>>,
    // Responses: the response within an event. Messages: the message within message_start.
    #[serde(borrow)]
    response: Option<Raw<'a>>,
    #[serde(borrow)]
    message: Option<Raw<'a>>,
    // The parts of events that carry content.
    pub(crate) delta: Content,
    pub(crate) content_block: Content,
    pub(crate) item: Content,
    pub(crate) part: Content,
}

impl<'a> Top<'a> {
    /// What it used, if it says so, with the model that answered. One level deep, so that nesting costs nothing.
    pub(crate) fn usage(&self) -> Option<Usage> {
        self.own_usage().or_else(|| self.inner().and_then(|inner| inner.own_usage()))
    }

    fn own_usage(&self) -> Option<Usage> {
        let raw = self.usage.or_else(|| self.x_groq.and_then(within).and_then(|groq| groq.usage))?;
        let mut usage = usage::from_raw(raw.get())?;
        usage.model = usage::name(self.model.map(Raw::get));
        usage.service_tier =
            usage.service_tier.take().or_else(|| usage::name(self.service_tier.map(Raw::get)));
        Some(usage)
    }

    /// The type of the event, as it stands between its quotes.
    pub(crate) fn kind(&self) -> Option<&'a str> {
        self.kind?.get().strip_prefix('"')?.strip_suffix('"')
    }

    /// The response or message that an event speaks of.
    pub(crate) fn inner(&self) -> Option<Top<'a>> {
        self.response.or(self.message).and_then(within)
    }

    pub(crate) fn choices(&self) -> Choices<'a> {
        self.choices.unwrap_or_default()
    }

    /// The id of the response or message.
    pub(crate) fn answer_id(&self) -> Option<Box<str>> {
        match self.inner() {
            Some(inner) => usage::name(inner.id.map(Raw::get)),
            None => usage::name(self.id.map(Raw::get)),
        }
    }

    /// The error that hides in it, if any.
    pub(crate) fn error(&self, dialect: Dialect) -> Option<ErrorFacts> {
        if let Some(raw) = self.error.filter(|raw| says_something(raw.get())) {
            return Some(error::from_object(dialect, raw.get()));
        }
        let choices = self.choices();
        if let Some(raw) = choices.error.filter(|raw| says_something(raw.get())) {
            return Some(error::from_object(dialect, raw.get()));
        }
        if choices.finished_in_error {
            return Some(error::from_object(dialect, "{}"));
        }
        let failed = self.status.is_some_and(|raw| raw.get() == "\"failed\"");
        let object_error = self.object.is_some_and(|raw| raw.get() == "\"error\"");
        if object_error || (failed && self.id.is_some()) {
            // vLLM and Mistral write the error's fields at the top.
            let message = self.message.map_or("null", Raw::get);
            let kind = self.kind.map_or("null", Raw::get);
            return Some(error::from_object(dialect, &format!("{{\"message\":{message},\"type\":{kind}}}")));
        }
        None
    }
}

fn within(raw: Raw<'_>) -> Option<Top<'_>> {
    parse(raw.get().as_bytes())
}

/// A value of `error` that means there is one.
pub(crate) fn says_something(raw: &str) -> bool {
    !matches!(raw, "null" | "false" | "\"\"" | "{}" | "0" | "[]")
}

/// What the list of choices amounts to.
#[derive(Clone, Copy, Default)]
pub(crate) struct Choices<'a> {
    pub(crate) count: usize,
    /// Any of them carries output.
    pub(crate) output: bool,
    /// Any of them says that it is finished.
    pub(crate) finished: bool,
    finished_in_error: bool,
    error: Option<Raw<'a>>,
}

impl<'a> Choices<'a> {
    fn add(&mut self, choice: &Choice<'a>) {
        let reason = choice.finish_reason.filter(|raw| !matches!(raw.get(), "null" | "\"\""));
        self.count += 1;
        self.output |= choice.delta.filled || choice.text.filled || choice.message.filled;
        self.finished |= reason.is_some();
        self.finished_in_error |= reason.is_some_and(|raw| raw.get() == "\"error\"");
        self.error = self.error.or(choice.error);
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Choices<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seq;
        impl<'de> Visitor<'de> for Seq {
            type Value = Choices<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of choices")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Choices<'de>, A::Error> {
                let mut sum = Choices::default();
                while let Some(choice) = seq.next_element::<Choice<'de>>()? {
                    sum.add(&choice);
                }
                Ok(sum)
            }
        }
        deserializer.deserialize_seq(Seq)
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Choice<'a> {
    delta: Content,
    message: Content,
    text: Content,
    #[serde(borrow)]
    finish_reason: Option<Raw<'a>>,
    #[serde(borrow)]
    error: Option<Raw<'a>>,
}

/// A part of an event that may carry output.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    /// It holds something that is not mere scaffolding.
    pub(crate) filled: bool,
    /// It says why the answer stopped.
    pub(crate) stopped: bool,
}

impl Content {
    /// Takes in a member, by what its name says of it and how its value is written.
    fn note(&mut self, member: Member, raw: &str) {
        let empty = matches!(raw, "null" | "\"\"" | "[]" | "{}" | "true" | "false")
            || raw.starts_with(|c: char| c == '-' || c.is_ascii_digit());
        self.filled |= !empty && member == Member::Content;
        self.stopped |= !empty && member == Member::StopReason;
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

/// Members such as a role say what a part is, not what is in it. Of the others, filled are a string, list or object that is not empty, numbers and booleans excepted: tool calls, refusals, audio
/// and whatever comes next need no list of names.
struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Content, E> {
        Ok(Content::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Content, E> {
        Ok(Content::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Content, E> {
        Ok(Content::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Content, E> {
        Ok(Content::default())
    }

    fn visit_str<E>(self, text: &str) -> Result<Content, E> {
        Ok(Content { filled: !text.is_empty(), stopped: false })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Content, A::Error> {
        let mut filled = false;
        while seq.next_element::<IgnoredAny>()?.is_some() {
            filled = true;
        }
        Ok(Content { filled, stopped: false })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content, A::Error> {
        let mut content = Content::default();
        while let Some(member) = map.next_key_seed(MemberSeed)? {
            let raw: &'de RawValue = map.next_value()?;
            content.note(member, raw.get());
        }
        Ok(content)
    }
}

/// What a member of a part is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Member {
    Scaffolding,
    StopReason,
    Content,
}

impl Member {
    fn named(name: &str) -> Self {
        match name {
            "stop_reason" => Member::StopReason,
            "role" | "type" | "id" | "index" | "status" | "phase" | "object" | "stop_sequence"
            | "encrypted_content" => Member::Scaffolding,
            _ => Member::Content,
        }
    }
}

struct MemberSeed;

impl<'de> DeserializeSeed<'de> for MemberSeed {
    type Value = Member;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Member, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for MemberSeed {
    type Value = Member;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Member, E> {
        Ok(Member::named(name))
    }
}
