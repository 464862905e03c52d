//! Items of an answer of Responses that come back in the input of a later request: named by their ids alone, or sealed,
//! so that only the account that made them can read them.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Stored, Whose};

/// An item, as far as it shows whose it is.
#[derive(Deserialize)]
pub(super) struct Item<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    role: Option<&'a RawValue>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    encrypted_content: Option<&'a RawValue>,
}

impl Item<'_> {
    pub(super) fn id(&self) -> Option<String> {
        text(self.id)
    }

    /// What only its account can read.
    pub(super) fn sealed(&self) -> Option<String> {
        text(self.encrypted_content).filter(|sealed| !sealed.is_empty())
    }

    /// What it takes from a provider's store. An item that has all its content with it takes nothing.
    fn takes(&self, found: &mut Vec<Stored<'_>>) {
        let sealed = self.sealed();
        let has_content = sealed.is_some() || self.content.is_some_and(|content| content.get() != "[]");
        let whole = sealed.map(|sealed| Stored::of("encrypted_content", Whose::MadeBefore(sealed)));
        found.extend(whole);
        let (Some(id), kind) = (self.id(), text(self.kind)) else { return };
        found.extend(match kind.as_deref() {
            Some("item_reference") => Some(Stored::of("item_reference", Whose::Made(id))),
            // So may a reference be written, and nothing else.
            None if self.kind.is_none() && self.role.is_none() => {
                Some(Stored::of("item_reference", Whose::Made(id)))
            }
            Some("reasoning") if !has_content => Some(Stored::of("reasoning", Whose::MadeBefore(id))),
            // What was found is not in them.
            Some("web_search_call") => Some(Stored::of("web_search_call", Whose::MadeBefore(id))),
            Some("file_search_call") => Some(Stored::of("file_search_call", Whose::MadeBefore(id))),
            _ => None,
        });
    }
}

fn text(value: Option<&RawValue>) -> Option<String> {
    serde_json::from_str(value?.get()).ok()
}

/// What the items of an input take from a provider's store.
pub(super) fn taken(input: &str, found: &mut Vec<Stored<'_>>) {
    if !input.starts_with('[') {
        return;
    }
    match serde_json::from_str::<Vec<Item<'_>>>(input) {
        Ok(items) => items.iter().for_each(|item| item.takes(found)),
        Err(_) => found.push(Stored::of("input", Whose::Unknown)),
    }
}
