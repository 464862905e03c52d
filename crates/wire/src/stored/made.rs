//! What an answer says was made for it at the provider: containers in which code ran, pictures, and the items of its
//! output, which a later request may name.

use memchr::memmem;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::items::Item;
use crate::error::Dialect;
use crate::head::{BodyKind, Head, RawSpan};

/// Ids of items that are shorter than this many bytes are not noted: some servers count, and what two clients are told is
/// neither's.
const ID_BYTES_MIN: usize = 20;

/// What of an answer has to be noted, so that it only has to be read where something may be in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Watch {
    /// Containers and pictures.
    pub things: bool,
    /// Items of the output.
    pub items: Items,
}

/// Which items of an output can come back as somebody's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Items {
    /// None: the endpoint has none.
    #[default]
    None,
    /// Those whose content is sealed, by that: nothing is kept there that an id could name.
    Sealed,
    /// All by their ids, and those besides.
    All,
}

impl Watch {
    /// What an answer to the request may name. Who hides the tool that makes a container behind escapes has nothing of it.
    pub fn of(head: &Head<'_>) -> Self {
        let has =
            |part: &RawSpan<'_>, word: &str| memmem::find(part.raw.as_bytes(), word.as_bytes()).is_some();
        let (words, items): (&[&str], _) = match head.kind {
            // Searches run code on what they find.
            BodyKind::Messages => (&["code_execution", "web_search_", "web_fetch_"], Items::None),
            BodyKind::Responses => (
                &["code_interpreter", "shell", "image_generation"],
                if head.store == Some(false) { Items::Sealed } else { Items::All },
            ),
            _ => return Self::default(),
        };
        let things = head.container.is_some()
            || head.prompt.is_some()
            || head.tools.as_ref().is_some_and(|tools| words.iter().any(|word| has(tools, word)));
        Self { things, items }
    }

    /// Where the answer comes from a provider of this dialect: `OpenRouter` keeps no items, and what it seals any of its
    /// accounts can read.
    #[must_use]
    pub fn at(self, dialect: Dialect) -> Self {
        match dialect {
            Dialect::OpenRouter => Self { items: Items::None, ..self },
            Dialect::OpenAi | Dialect::Anthropic => self,
        }
    }
}

/// The ids of what was made, in a whole answer or one event of a stream, and sealed contents. Only where the provider
/// itself says so: what a model wrote and what is echoed of the request may name what is others'.
pub fn made(data: &[u8], watch: Watch) -> Vec<String> {
    let mut ids = if watch.things { things(data) } else { Vec::new() };
    let has = |word: &str| memmem::find(data, word.as_bytes()).is_some();
    let may_have_items = match watch.items {
        Items::None => false,
        Items::Sealed => has("\"encrypted_content\""),
        Items::All => has("\"output\"") || has("\"item\""),
    };
    if may_have_items && let Ok(told) = serde_json::from_slice::<Told<'_>>(data) {
        let inner = told.response.and_then(|inner| serde_json::from_str::<Told<'_>>(inner.get()).ok());
        let outputs = [told.output, inner.and_then(|inner| inner.output)].into_iter().flatten();
        let listed = outputs.filter_map(|list| serde_json::from_str::<Vec<Item<'_>>>(list.get()).ok());
        let alone = told.item.and_then(|item| serde_json::from_str::<Item<'_>>(item.get()).ok());
        for item in listed.flatten().chain(alone) {
            let named = item.id().filter(|_| watch.items == Items::All);
            ids.extend([named, item.sealed()].into_iter().flatten().filter(|id| id.len() >= ID_BYTES_MIN));
        }
    }
    ids
}

/// Where an answer or an event has its items.
#[derive(Deserialize)]
struct Told<'a> {
    #[serde(borrow)]
    item: Option<&'a RawValue>,
    #[serde(borrow)]
    output: Option<&'a RawValue>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
}

/// Containers and pictures.
fn things(data: &[u8]) -> Vec<String> {
    let mut ids = Vec::new();
    let has = |word: &str| memmem::find(data, word.as_bytes()).is_some();
    if !has("\"container") && !has("\"image_generation_call\"") {
        return ids;
    }
    let Ok(top) = serde_json::from_slice::<Value>(data) else { return ids };
    for holder in [Some(&top), top.get("message"), top.get("delta")].into_iter().flatten() {
        let container = holder.get("container").and_then(|container| container.get("id"));
        ids.extend(container.and_then(Value::as_str).map(str::to_owned));
    }
    let outputs =
        [Some(&top), top.get("response")].into_iter().flatten().filter_map(|r| r["output"].as_array());
    for item in outputs.flatten().chain(top.get("item")) {
        let kind = item["type"].as_str().unwrap_or_default();
        let id = match kind {
            "image_generation_call" => &item["id"],
            "function_call" | "custom_tool_call" => &Value::Null,
            _ if !kind.ends_with("_call") => &Value::Null,
            _ if item["container_id"].is_string() => &item["container_id"],
            _ => &item["environment"]["container_id"],
        };
        ids.extend(id.as_str().map(str::to_owned));
    }
    ids
}
