//! The one pass over the members of the body's object.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::field::{self, Field, FieldSpans, Key};
use super::{BodyKind, Head, HeadError, RawSpan, Seen, Text, raw_span, unescape};
use crate::affinity;
use crate::scan::Scan;

/// Fills a [`Head`]; a refusal of ours goes to `refusal`, because serde's errors carry only text.
pub(super) struct HeadVisitor<'h, 'a> {
    pub(super) head: &'h mut Head<'a>,
    pub(super) refusal: &'h mut Option<HeadError>,
    pub(super) body: &'a str,
}

/// A head of which nothing is known yet, for a body that begins with an opening brace.
pub(super) fn empty(kind: BodyKind, body: &str) -> Head<'_> {
    Head {
        kind,
        model: None,
        stream: false,
        stream_options: None,
        max_tokens: None,
        max_completion_tokens: None,
        max_output_tokens: None,
        n: None,
        provider: None,
        models: None,
        leads_list: false,
        previous_response_id: None,
        conversation: None,
        session_id: None,
        prompt_cache_key: None,
        user: None,
        store: None,
        service_tier: None,
        messages: None,
        input: None,
        prompt: None,
        system: None,
        instructions: None,
        tools: None,
        container: None,
        // The parse refuses anything after the object, so its brace is the last byte that is not white space.
        object_end: body.trim_ascii_end().len().saturating_sub(1),
        is_empty_object: true,
        seen: Seen { types: true, opening: 0 },
        fields: FieldSpans::default(),
    }
}

/// The refusal for a body that does not begin as an object.
pub(super) fn not_an_object(text: &str) -> HeadError {
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        return HeadError::from_json(&error);
    }
    let found = match text.trim_ascii_start().as_bytes().first() {
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b'n') => "null",
        Some(b't' | b'f') => "a boolean",
        _ => "a number",
    };
    HeadError::NotAnObject { found }
}

/// Fills the head of a body in which nothing is wrong or unusual.
pub(super) fn quickly<'a>(head: &mut Head<'a>, body: &'a str) -> Option<()> {
    let mut scan = Scan::new(body);
    scan.space();
    scan.object(|scan, name| {
        head.is_empty_object = false;
        let (start, key) = (scan.at(), field::key(name));
        match key {
            Key::Known(Field::Messages | Field::Input | Field::Prompt) if scan.peek()? == b'[' => {
                head.seen.opening ^= affinity::opening(scan)?;
            }
            _ => scan.value()?,
        }
        let (raw, span) = scan.since(start)?;
        match key {
            Key::Unknown => Some(()),
            Key::Known(field) if !head.fields.has(field) => {
                head.fields.note(field, &span);
                take(head, field, RawSpan { raw, span }).ok()
            }
            Key::Known(_) | Key::Lookalike(..) => None,
        }
    })?;
    scan.space();
    head.seen.types = scan.has_types();
    scan.is_at_end().then_some(())
}

impl<'a> Visitor<'a> for HeadVisitor<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(KeySeed)? {
            self.head.is_empty_object = false;
            let field = match key {
                Key::Unknown => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
                Key::Lookalike(key, known) => {
                    *self.refusal = Some(HeadError::Lookalike { key, known: known.name() });
                    return Err(A::Error::custom("refused"));
                }
                Key::Known(field) if self.head.fields.has(field) => {
                    *self.refusal = Some(HeadError::Duplicate { key: field.name().into() });
                    return Err(A::Error::custom("refused"));
                }
                Key::Known(field) => field,
            };
            let value = raw_span(self.body, map.next_value::<&'a RawValue>()?);
            if matches!(field, Field::Messages | Field::Input | Field::Prompt) && value.raw.starts_with('[') {
                self.head.seen.opening ^= affinity::opening_slowly(value.raw);
            }
            self.head.fields.note(field, &value.span);
            if let Err(refusal) = take(self.head, field, value) {
                *self.refusal = Some(refusal);
                return Err(A::Error::custom("refused"));
            }
        }
        Ok(())
    }
}

/// Puts one known field into the head.
fn take<'a>(head: &mut Head<'a>, field: Field, value: RawSpan<'a>) -> Result<(), HeadError> {
    match field {
        Field::Model => head.model = Some(model(value)?),
        Field::Stream => head.stream = boolean(field, value.raw)?.unwrap_or(false),
        Field::Store => head.store = boolean(field, value.raw)?,
        Field::StreamOptions => {
            // A doubled `include_usage` would be read one way by us and another way by the provider.
            include_usage(value.raw)?;
            head.stream_options = Some(value);
        }
        Field::MaxTokens => head.max_tokens = count(field, value.raw)?,
        Field::MaxCompletionTokens => head.max_completion_tokens = count(field, value.raw)?,
        Field::MaxOutputTokens => head.max_output_tokens = count(field, value.raw)?,
        Field::N => head.n = count(field, value.raw)?,
        Field::Provider => head.provider = Some(value),
        Field::Models => head.models = present(value),
        Field::PreviousResponseId => head.previous_response_id = string(field, value.raw)?,
        Field::ServiceTier => head.service_tier = string(field, value.raw)?,
        Field::Conversation => head.conversation = present(value),
        Field::SessionId => head.session_id = unescape(value.raw),
        Field::PromptCacheKey => head.prompt_cache_key = unescape(value.raw),
        Field::User => head.user = unescape(value.raw),
        Field::Messages => head.messages = present(value),
        Field::Input => head.input = present(value),
        Field::Prompt => head.prompt = present(value),
        Field::System => head.system = present(value),
        Field::Instructions => head.instructions = present(value),
        Field::Tools => head.tools = present(value),
        Field::Container => head.container = present(value),
    }
    Ok(())
}

fn present(value: RawSpan<'_>) -> Option<RawSpan<'_>> {
    (!value.is_null()).then_some(value)
}

fn model(value: RawSpan<'_>) -> Result<Text<'_>, HeadError> {
    let Some(name) = unescape(value.raw) else {
        return Err(invalid(Field::Model, "a string"));
    };
    if name.trim().is_empty() {
        return Err(HeadError::EmptyModel);
    }
    Ok(Text { value: name, span: value.span })
}

/// The first of a list of models, where it is one.
pub(super) fn first_of<'a>(body: &str, models: &RawSpan<'a>) -> Option<Text<'a>> {
    let list: Vec<&'a RawValue> = serde_json::from_str(models.raw).ok()?;
    model(raw_span(body, list.first()?)).ok()
}

fn string(field: Field, raw: &str) -> Result<Option<Cow<'_, str>>, HeadError> {
    match raw {
        "null" => Ok(None),
        _ => unescape(raw).map(Some).ok_or_else(|| invalid(field, "a string")),
    }
}

fn boolean(field: Field, raw: &str) -> Result<Option<bool>, HeadError> {
    match raw {
        "null" => Ok(None),
        "true" => Ok(Some(true)),
        "false" => Ok(Some(false)),
        _ => Err(invalid(field, "true or false")),
    }
}

/// A number of tokens or answers. The raw text is known to be JSON, so digits alone are a whole number.
fn count(field: Field, raw: &str) -> Result<Option<u64>, HeadError> {
    if raw == "null" {
        return Ok(None);
    }
    let digits = raw.strip_prefix('-').unwrap_or(raw);
    match digits.parse::<u64>() {
        Ok(_) if raw.len() != digits.len() => Ok(None),
        Ok(number) => Ok(Some(number)),
        Err(_) => Err(invalid(field, "a whole number")),
    }
}

fn invalid(field: Field, expected: &'static str) -> HeadError {
    HeadError::InvalidType { key: field.name().into(), expected }
}

/// The value of `include_usage`, if it is a boolean, and its span within the options.
pub(super) type IncludeUsage = (Option<bool>, Range<usize>);

/// `include_usage` inside the raw text of `stream_options`: its value (`None` if it is no boolean) and the span of
/// that value within `raw`. `Ok(None)` if it is absent or the options are no object.
pub(super) fn include_usage(raw: &str) -> Result<Option<IncludeUsage>, HeadError> {
    if !raw.starts_with('{') {
        return Ok(None);
    }
    let mut found = Vec::new();
    let visitor = MembersNamed { name: "include_usage", found: &mut found };
    // The text was already walked as JSON.
    let _ = serde_json::Deserializer::from_str(raw).deserialize_map(visitor);
    match found.as_slice() {
        [] => Ok(None),
        [one] => {
            let span = raw_span(raw, one).span;
            let value = match one.get() {
                "true" => Some(true),
                "false" => Some(false),
                _ => None,
            };
            Ok(Some((value, span)))
        }
        _ => Err(HeadError::Duplicate { key: "stream_options.include_usage".into() }),
    }
}

/// Collects the values of all members of one name.
struct MembersNamed<'f, 'a> {
    name: &'static str,
    found: &'f mut Vec<&'a RawValue>,
}

impl<'a> Visitor<'a> for MembersNamed<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'a, str>>()? {
            if key == self.name {
                self.found.push(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for KeySeed {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Key, E> {
        Ok(field::key(name))
    }
}
