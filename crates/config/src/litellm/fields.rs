//! Reading a mapping so that nothing in it is lost: what is asked for is taken out, and what is left at the end is
//! listed. What is asked for and cannot be read is listed as well.

use super::notes::{Notes, Reason, Spot};
use super::yaml::{Entry, Node};
use crate::render::is_surely_secret;
use crate::world::World;
use std::collections::HashMap;

/// A value together with where it stands.
#[derive(Clone)]
pub(super) struct Found<'a> {
    pub(super) node: &'a Node,
    pub(super) spot: Spot,
}

/// Entries of one mapping that nobody has asked for yet.
pub(super) struct Fields<'a> {
    pub(super) spot: Spot,
    entries: Vec<Option<&'a Entry>>,
}

impl<'a> Fields<'a> {
    /// Opens a mapping; anything else is listed.
    pub(super) fn open(found: Found<'a>, notes: &mut Notes) -> Option<Self> {
        let Some(entries) = found.node.map() else {
            if !found.node.is_null() {
                let why = format!("is {}, where LiteLLM wants a mapping", found.node.kind());
                notes.setting(found.spot, &why, "write `name: value` lines below it");
            }
            return None;
        };
        Some(Self { spot: found.spot, entries: entries.iter().map(Some).collect() })
    }

    /// A mapping with nothing in it, for a section that is not there.
    pub(super) fn none(path: &str) -> Self {
        Self { spot: Spot::top(path), entries: Vec::new() }
    }

    /// Takes an entry, whatever it is. One that says nothing counts as not there, as in LiteLLM.
    pub(super) fn take(&mut self, name: &str) -> Option<Found<'a>> {
        let slot = self.entries.iter_mut().find(|e| e.is_some_and(|e| e.name == name))?;
        let entry = slot.take()?;
        let spot = self.spot.below(name, entry.line);
        (!entry.node.is_null()).then_some(Found { node: &entry.node, spot })
    }

    /// Takes a text, with references to the environment looked up.
    pub(super) fn text(&mut self, name: &str, env: &Env<'_>, notes: &mut Notes) -> Option<(String, Spot)> {
        let Found { node, spot } = self.take(name)?;
        let Some(text) = node.text() else {
            let why = format!("is {}, where LiteLLM wants a text", node.kind());
            notes.setting(spot, &why, "write one value");
            return None;
        };
        match env.resolve(text) {
            Ok(text) => Some((text, spot)),
            Err(name) => {
                notes.setting(spot, &unset(&name), &set(&name));
                None
            }
        }
    }

    /// Takes a number that `fits`, or lists it.
    pub(super) fn number(
        &mut self,
        name: &str,
        (wanted, fits): (&str, fn(f64) -> bool),
        env: &Env<'_>,
        notes: &mut Notes,
    ) -> Option<(f64, Spot)> {
        let Found { node, spot } = self.take(name)?;
        let number = match node.text().map(|text| env.resolve(text)) {
            Some(Err(name)) => {
                notes.setting(spot, &unset(&name), &set(&name));
                return None;
            }
            // Through a node, so that one rule says what is a number.
            Some(Ok(text)) => {
                Node { value: super::yaml::Yaml::Scalar { text, plain: false }, line: 0 }.number()
            }
            None => None,
        };
        if let Some(number) = number.filter(|n| fits(*n)) {
            return Some((number, spot));
        }
        notes.setting(spot, &format!("is not {wanted}"), "set it by hand, if it was meant");
        None
    }

    /// Takes a truth value, or lists it.
    pub(super) fn flag(&mut self, name: &str, notes: &mut Notes) -> Option<(bool, Spot)> {
        let Found { node, spot } = self.take(name)?;
        if let Some(flag) = node.flag() {
            return Some((flag, spot));
        }
        notes.setting(spot, "is neither true nor false", "set it by hand, if it was meant");
        None
    }

    /// All that nobody has asked for.
    pub(super) fn entries(self) -> Vec<&'a Entry> {
        self.entries.into_iter().flatten().collect()
    }

    /// Lists everything that nobody asked for, with what is known of it.
    pub(super) fn rest(self, reasons: &dyn Fn(&str) -> Option<Reason>, notes: &mut Notes) {
        for entry in self.entries.into_iter().flatten() {
            let (why, instead) = reasons(&entry.name).unwrap_or((
                "is not known here, so nothing was made of it",
                "look for its purpose in docs/configuration.md; if it is a fault of spelling, mend it and import again",
            ));
            notes.setting(self.spot.below(&entry.name, entry.line), why, instead);
        }
    }
}

fn unset(name: &str) -> String {
    format!("is taken from the environment variable {name}, which is not set here")
}

fn set(name: &str) -> String {
    format!("import again with {name} set: only keys can stay in the environment")
}

/// `environment_variables` of the file, over the environment itself.
pub(super) struct Env<'a> {
    pub(super) own: HashMap<String, String>,
    pub(super) world: &'a World<'a>,
}

/// How LiteLLM writes that something stands in the environment.
pub(super) const REFERENCE: &str = "os.environ/";

/// The variable that a reference names, if one can be set by that name and it is no key by mistake.
pub(super) fn variable(text: &str) -> Option<&str> {
    let name = text.strip_prefix(REFERENCE)?;
    let fits = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b'=');
    (fits && !is_surely_secret(name)).then_some(name)
}

impl Env<'_> {
    /// The text, or what the variable holds that it names; else the variable's name.
    pub(super) fn resolve(&self, text: &str) -> Result<String, String> {
        let Some(name) = text.strip_prefix(REFERENCE) else { return Ok(text.to_owned()) };
        self.own.get(name).cloned().or_else(|| self.world.var(name)).ok_or_else(|| name.to_owned())
    }
}
