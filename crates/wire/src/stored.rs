//! What a request takes from a provider's store: a response it continues, a conversation, files, items, spoken answers,
//! vector stores and containers by their ids, templates. Whoever keeps such a thing is the only one who can serve the
//! request, and what one client had made is no other's.

mod items;
mod made;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use memchr::memmem;
use serde_json::Value;

use crate::head::{BodyKind, Head, RawSpan};

pub use made::{Items, Watch, made};

/// Something that lives at a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored<'a> {
    /// The field that names it.
    pub field: &'static str,
    /// Whose it is.
    pub whose: Whose<'a>,
}

/// Whose something is, as far as the request shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose<'a> {
    /// Of whoever got the response of this id.
    Response(Cow<'a, str>),
    /// Of whoever got an answer that names this id, as [`made`] finds them.
    Made(String),
    /// Likewise, or of whoever got this sealed content; but it only stands in what was said before, where it may be of
    /// long ago.
    MadeBefore(String),
    /// Somebody's, and no answer says whose.
    Unknown,
    /// The account's own, as its owners made it: templates and skills.
    Account,
}

impl<'a> Stored<'a> {
    fn of(field: &'static str, whose: Whose<'a>) -> Self {
        Self { field, whose }
    }

    /// All that the request builds on.
    pub fn all(head: &'a Head<'_>) -> Vec<Stored<'a>> {
        let mut found = Vec::new();
        if let Some(id) = head.previous_response_id.as_deref() {
            found.push(Self::of("previous_response_id", Whose::Response(id.into())));
        }
        if head.conversation.is_some() {
            found.push(Self::of("conversation", Whose::Unknown));
        }
        if let Some(input) = head.input.as_ref().filter(|_| head.kind == BodyKind::Responses)
            && names(input, &["\"id\"", "\"encrypted_content\""])
        {
            items::taken(input.raw, &mut found);
        }
        if let Some(container) = &head.container {
            within("container", container, &mut found, own_container);
        }
        if let Some(prompt) = head.prompt.as_ref().filter(|prompt| prompt.raw.starts_with('{')) {
            within("prompt", prompt, &mut found, template);
        }
        // A message that was spoken needs no `type`.
        look("messages", head.messages.as_ref(), &["\"audio\""], &mut found, spoken);
        if head.seen.types {
            look("messages", head.messages.as_ref(), &["\"file_id\""], &mut found, named);
            let words = &["\"file_id\"", "\"container_id\"", "\"image_generation_call\""];
            look("input", head.input.as_ref(), words, &mut found, named);
            let words = &["\"vector_store_ids\"", "\"container", "\"file_id", "\"skill_id\""];
            look("tools", head.tools.as_ref(), words, &mut found, kept_by_tools);
        }
        found
    }

    /// It is part of the input, and the request does not show how long it is.
    pub fn is_input(&self) -> bool {
        matches!(
            self.field,
            "previous_response_id"
                | "conversation"
                | "item_reference"
                | "reasoning"
                | "web_search_call"
                | "file_search_call"
        )
    }
}

/// Reads a part of a body. What cannot be read may name anything.
fn within<'a>(
    field: &'static str,
    part: &RawSpan<'_>,
    found: &mut Vec<Stored<'a>>,
    look: fn(&Value, &mut Vec<Stored<'a>>),
) {
    match serde_json::from_str(part.raw) {
        Ok(value) => look(&value, found),
        Err(_) => found.push(Stored::of(field, Whose::Unknown)),
    }
}

/// The words are looked for first: hardly any body has them, and those that do are read once more.
fn look<'a>(
    field: &'static str,
    part: Option<&RawSpan<'_>>,
    words: &[&str],
    found: &mut Vec<Stored<'a>>,
    look: fn(&Value, &mut Vec<Stored<'a>>),
) {
    if let Some(part) = part.filter(|part| names(part, words)) {
        within(field, part, found, look);
    }
}

/// One of the words stands there, or a letter of one may be written as an escape.
fn names(part: &RawSpan<'_>, words: &[&str]) -> bool {
    let has = |word: &str| memmem::find(part.raw.as_bytes(), word.as_bytes()).is_some();
    let is_spelt_out = || has("\\u00") && ["\\u005", "\\u006", "\\u007"].into_iter().any(has);
    words.iter().any(|word| has(word)) || is_spelt_out()
}

/// An answer that was spoken before.
fn spoken(messages: &Value, found: &mut Vec<Stored<'_>>) {
    let by_id = |message: &Value| {
        message.get("audio").and_then(|audio| audio.get("id")).is_some_and(Value::is_string)
    };
    if messages.as_array().is_some_and(|messages| messages.iter().any(by_id)) {
        found.push(Stored::of("audio", Whose::Unknown));
    }
}

/// Anthropic's container: its id, or an object with it and what it is to have of the account's own.
fn own_container(value: &Value, found: &mut Vec<Stored<'_>>) {
    if let Some(id) = value.as_str().or_else(|| value.get("id")?.as_str()) {
        found.push(Stored::of("container", Whose::Made(id.to_owned())));
    }
    skills(value.get("skills"), found);
}

/// Skills that somebody made; those of the vendor are everybody's.
fn skills(skills: Option<&Value>, found: &mut Vec<Stored<'_>>) {
    let own = |skill: &Value| skill.get("skill_id").is_some() && skill["type"] != "anthropic";
    if skills.and_then(Value::as_array).is_some_and(|skills| skills.iter().any(own)) {
        found.push(Stored::of("skills", Whose::Account));
    }
}

/// A template of a prompt, and what is put into it.
fn template(prompt: &Value, found: &mut Vec<Stored<'_>>) {
    found.push(Stored::of("prompt", Whose::Account));
    named(prompt, found);
}

/// What tools that run at the provider keep there.
fn kept_by_tools(tools: &Value, found: &mut Vec<Stored<'_>>) {
    match tools {
        Value::Array(list) => list.iter().for_each(|inner| kept_by_tools(inner, found)),
        Value::Object(object) => {
            skills(object.get("skills"), found);
            for (name, value) in object {
                let is_list = value.as_array().is_some_and(|list| !list.is_empty());
                match (name.as_str(), value) {
                    ("container", Value::String(id)) => {
                        found.push(Stored::of("container", Whose::Made(id.clone())));
                    }
                    ("container_id", Value::String(id)) => {
                        found.push(Stored::of("container_id", Whose::Made(id.clone())));
                    }
                    ("vector_store_ids", _) if is_list => {
                        found.push(Stored::of("vector_store_ids", Whose::Unknown));
                    }
                    ("file_ids", _) if is_list => found.push(Stored::of("file_ids", Whose::Unknown)),
                    ("file_id", Value::String(_)) => found.push(Stored::of("file_id", Whose::Unknown)),
                    // What a tool of the client's takes may be called anything.
                    ("function" | "parameters" | "input_schema", _) => {}
                    _ => kept_by_tools(value, found),
                }
            }
        }
        _ => {}
    }
}

fn named(value: &Value, found: &mut Vec<Stored<'_>>) {
    let object = match value {
        Value::Array(list) => return list.iter().for_each(|inner| named(inner, found)),
        Value::Object(object) => object,
        _ => return,
    };
    let id = |name: &str| object.get(name).and_then(Value::as_str).map(str::to_owned);
    match object.get("type").and_then(Value::as_str).unwrap_or_default() {
        // What a model wrote, or a tool takes, may look like anything.
        "tool_use" | "server_tool_use" | "function_call" | "custom_tool_call" => return,
        "file"
        | "input_file"
        | "document"
        | "image"
        | "input_image"
        | "container_upload"
        | "computer_screenshot" => {
            let places = [Some(value), object.get("file"), object.get("source")];
            if places.into_iter().flatten().any(|part| part.get("file_id").is_some_and(Value::is_string)) {
                return found.push(Stored::of("file_id", Whose::Unknown));
            }
        }
        // A picture that is not in it is fetched by its name.
        "image_generation_call" if !object.get("result").is_some_and(Value::is_string) => {
            found.extend(id("id").map(|id| Stored::of("image_generation_call", Whose::MadeBefore(id))));
        }
        kind if kind.ends_with("_call") || kind == "container_reference" => {
            found.extend(id("container_id").map(|id| Stored::of("container_id", Whose::MadeBefore(id))));
        }
        _ => {}
    }
    object.values().for_each(|inner| named(inner, found));
}
