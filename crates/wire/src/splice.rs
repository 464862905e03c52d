//! Edits of a body by its bytes, so that everything that need not change stays as the client wrote it.
//!
//! Why not re-serialise: it costs ten times the parse, loses number formats and the order of fields (a prompt cache
//! upstream keys on the very bytes), and drops what we do not know. An edit is a range of the body and what stands
//! there instead; the builders below know where commas go.

use std::ops::Range;

use crate::head::{BodyKind, Field, Head};

mod price;
#[cfg(test)]
mod tests;

pub use price::{Priced, lower_price_max};

/// One change: the bytes in `range` become `with`. An empty range inserts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Bytes of the body that go.
    pub range: Range<usize>,
    /// Bytes that come.
    pub with: Vec<u8>,
}

/// The body with all edits made. Sorts the edits; those at the same place keep their order. Ranges outside the body
/// are cut to it, and of two overlapping edits the later begins where the earlier ends.
pub fn apply(body: &[u8], edits: &mut [Edit]) -> Vec<u8> {
    edits.sort_by_key(|edit| edit.range.start);
    let added: usize = edits.iter().map(|edit| edit.with.len()).sum();
    let mut out = Vec::with_capacity(body.len() + added);
    let mut at = 0;
    for edit in edits.iter() {
        let start = edit.range.start.clamp(at, body.len());
        out.extend_from_slice(&body[at..start]);
        out.extend_from_slice(&edit.with);
        at = edit.range.end.clamp(start, body.len());
    }
    out.extend_from_slice(&body[at..]);
    out
}

/// Names another model. `None` if the head has none (a field put in would be [`insert_field`]'s work).
pub fn set_model(head: &Head<'_>, name: &str) -> Option<Edit> {
    head.model.as_ref().map(|model| Edit { range: model.span.clone(), with: quoted(name) })
}

/// Puts `model` in the place of the list whose head it is, for servers that know no `models`. `None` if the head has
/// a `model` of its own.
pub fn model_for_list(body: &[u8], head: &Head<'_>, name: &str) -> Option<Edit> {
    let list = head.models.as_ref().filter(|_| head.leads_list)?;
    let member = Member::around(body, &list.span)?;
    let with = [br#""model":"#, quoted(name).as_slice()].concat();
    Some(Edit { range: member.start..member.end, with })
}

/// Puts a field in at the end of the object. `value` must be JSON.
///
/// With [`remove_fields`] of every field of the object in the same go the comma would be one too many; heads keep
/// their `model`, so this does not arise for them.
pub fn insert_field(head: &Head<'_>, name: &str, value: &str) -> Edit {
    let mut with = Vec::with_capacity(name.len() + value.len() + 4);
    if !head.is_empty_object {
        with.push(b',');
    }
    with.extend_from_slice(&quoted(name));
    with.push(b':');
    with.extend_from_slice(value.as_bytes());
    Edit { range: head.object_end..head.object_end, with }
}

/// Takes one field out: key, colon, value and exactly one comma. For several use [`remove_fields`], because
/// neighbours share a comma. `None` if the field is not there.
pub fn remove_field(body: &[u8], head: &Head<'_>, field: Field) -> Option<Edit> {
    remove_fields(body, head, &[field]).pop()
}

/// Takes several fields out of the object, with exactly as many commas as needed.
pub fn remove_fields(body: &[u8], head: &Head<'_>, fields: &[Field]) -> Vec<Edit> {
    let mut members: Vec<Member> = fields
        .iter()
        .filter_map(|field| head.field_span(*field))
        .filter_map(|span| Member::around(body, &span.value))
        .collect();
    members.sort_by_key(|member| member.start);
    members.dedup();
    let mut edits: Vec<Edit> = Vec::new();
    // A run of neighbours goes as one: from its first key to the comma after it, or, if it is the end of the object,
    // from the comma before it.
    let mut run: Option<Member> = None;
    for member in members {
        run = match run {
            Some(open) if open.comma_after.is_some_and(|comma| Some(comma) == member.comma_before) => {
                Some(Member { start: open.start, comma_before: open.comma_before, ..member })
            }
            Some(open) => {
                edits.push(open.removal());
                Some(member)
            }
            None => Some(member),
        };
    }
    edits.extend(run.map(Member::removal));
    edits
}

/// Asks for the usage chunk of a stream: `stream_options.include_usage` becomes true, other options stay. `None` if
/// it is already so, or if `stream_options` is no object (the provider shall say what it thinks of that).
pub fn inject_include_usage(head: &Head<'_>, body: &[u8]) -> Option<Edit> {
    let fresh = r#"{"include_usage":true}"#;
    let Some(options) = &head.stream_options else {
        return Some(insert_field(head, "stream_options", fresh));
    };
    if options.is_null() {
        return Some(Edit { range: options.span.clone(), with: fresh.into() });
    }
    if !options.raw.starts_with('{') {
        return None;
    }
    match crate::head::include_usage_span(options.raw) {
        Some((Some(true), _)) => None,
        Some((_, span)) => {
            let start = options.span.start + span.start;
            Some(Edit { range: start..options.span.start + span.end, with: b"true".to_vec() })
        }
        None => {
            let after_brace = options.span.start + 1;
            let first = body.get(after_brace..)?.iter().find(|byte| !byte.is_ascii_whitespace());
            let mut with = br#""include_usage":true"#.to_vec();
            if first != Some(&b'}') {
                with.push(b',');
            }
            Some(Edit { range: after_brace..after_brace, with })
        }
    }
}

/// The field in which a dialect caps the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CapField {
    /// `max_tokens`: Anthropic, the text endpoint, and most servers that speak OpenAI's chat.
    MaxTokens,
    /// `max_completion_tokens`: OpenAI's own chat (its reasoning models refuse the older name) and OpenRouter.
    MaxCompletionTokens,
    /// `max_output_tokens`: Responses.
    MaxOutputTokens,
}

impl CapField {
    /// The field of an endpoint, where the provider has no other wish. `None` where output has no cap.
    pub fn of(kind: BodyKind) -> Option<CapField> {
        match kind {
            BodyKind::Chat => Some(CapField::MaxCompletionTokens),
            BodyKind::Completions | BodyKind::Messages => Some(CapField::MaxTokens),
            BodyKind::Responses => Some(CapField::MaxOutputTokens),
            BodyKind::Embeddings | BodyKind::CountTokens | BodyKind::Other => None,
        }
    }

    fn field(self) -> Field {
        match self {
            CapField::MaxTokens => Field::MaxTokens,
            CapField::MaxCompletionTokens => Field::MaxCompletionTokens,
            CapField::MaxOutputTokens => Field::MaxOutputTokens,
        }
    }
}

/// Makes sure that the output is capped at `cap` tokens: lowers every cap the endpoint knows that is greater or says
/// nothing, and puts `missing` in if there was none. Never raises a cap. No edit if all is well.
pub fn set_max_tokens(body: &[u8], head: &Head<'_>, missing: CapField, cap: u64) -> Vec<Edit> {
    let known: &[(Field, Option<u64>)] = match head.kind {
        BodyKind::Chat => {
            &[(Field::MaxTokens, head.max_tokens), (Field::MaxCompletionTokens, head.max_completion_tokens)]
        }
        BodyKind::Responses => &[(Field::MaxOutputTokens, head.max_output_tokens)],
        BodyKind::Completions | BodyKind::Messages => &[(Field::MaxTokens, head.max_tokens)],
        BodyKind::Embeddings | BodyKind::CountTokens | BodyKind::Other => return Vec::new(),
    };
    let mut edits = Vec::new();
    let mut written = known.iter().any(|(_, number)| number.is_some());
    for (field, number) in known {
        let Some(span) = head.field_span(*field) else { continue };
        let write = match number {
            Some(number) => *number > cap,
            // A negative number says "no limit". A null says nothing, and is the place to write to if nobody else
            // says anything and the provider knows the field.
            None => body.get(span.value.start) != Some(&b'n') || (!written && *field == missing.field()),
        };
        if write {
            edits.push(Edit { range: span.value, with: cap.to_string().into_bytes() });
            written = true;
        }
    }
    if !written {
        edits.push(insert_field(head, missing.field().name(), &cap.to_string()));
    }
    edits
}

/// One member of the object: where it begins and ends, and the commas around it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    /// The opening quote of the key.
    start: usize,
    /// The end of the value.
    end: usize,
    comma_before: Option<usize>,
    comma_after: Option<usize>,
}

impl Member {
    /// Finds the member around a value of a valid JSON object by walking outwards. Going back through the key, a
    /// quote that ends an even run of backslashes is the opening one: inside a JSON string every quote is escaped, so
    /// it follows an odd run, and nothing that can stand before a key is a backslash.
    fn around(body: &[u8], value: &Range<usize>) -> Option<Member> {
        let colon = last_before(body, value.start)?;
        let key_end = last_before(body, colon)?;
        if body[colon] != b':' || body[key_end] != b'"' {
            return None;
        }
        let mut start = key_end;
        loop {
            start = memchr::memrchr(b'"', &body[..start])?;
            let backslashes = body[..start].iter().rev().take_while(|byte| **byte == b'\\').count();
            if backslashes % 2 == 0 {
                break;
            }
        }
        let before = last_before(body, start)?;
        let after = value.end + body.get(value.end..)?.iter().position(|byte| !byte.is_ascii_whitespace())?;
        Some(Member {
            start,
            end: value.end,
            comma_before: (body[before] == b',').then_some(before),
            comma_after: (body[after] == b',').then_some(after),
        })
    }

    fn removal(self) -> Edit {
        let range = match (self.comma_before, self.comma_after) {
            (_, Some(after)) => self.start..after + 1,
            (Some(before), None) => before..self.end,
            (None, None) => self.start..self.end,
        };
        Edit { range, with: Vec::new() }
    }
}

/// The last byte before `end` that is not white space.
fn last_before(body: &[u8], end: usize) -> Option<usize> {
    body.get(..end)?.iter().rposition(|byte| !byte.is_ascii_whitespace())
}

/// A JSON string.
fn quoted(text: &str) -> Vec<u8> {
    // A string always serialises.
    serde_json::to_vec(text).unwrap_or_default()
}
