//! The file and those that it includes, put together as LiteLLM does it: lists are appended, anything else replaces what
//! stood there before.

use super::fields::Found;
use super::notes::{Note, Notes, Spot};
use super::yaml::{self, Node};
use super::{Refused, reasons};
use crate::problem::{Problem, Problems, did_you_mean};
use crate::world::World;
use std::path::Path;

/// More files than anyone includes.
const FILES_MAX: usize = 100;

/// What makes it a configuration of LiteLLM's proxy.
const SECTIONS: &[&str] = &["model_list", "litellm_settings", "router_settings", "general_settings"];

/// Sections at the top, from whichever file.
pub(super) struct Tops<'a> {
    list: Vec<(String, Vec<Found<'a>>)>,
}

impl<'a> Tops<'a> {
    /// Takes a section out: one mapping, or several lists.
    pub(super) fn take(&mut self, name: &str) -> Vec<Found<'a>> {
        let index = self.list.iter().position(|(n, _)| n == name);
        index.map(|index| self.list.swap_remove(index).1).unwrap_or_default()
    }

    /// Lists what nobody took.
    pub(super) fn rest(self, notes: &mut Notes) {
        for (name, found) in self.list {
            let (why, instead) = reasons::of_top(&name).unwrap_or((
                "is not known here, so nothing was made of it",
                "look for its purpose in docs/configuration.md; if it is a fault of spelling, mend it and import again",
            ));
            for found in found {
                notes.setting(found.spot, why, instead);
            }
        }
    }
}

/// A refusal.
pub(super) fn refused(
    file: &str,
    line: Option<u32>,
    message: impl Into<String>,
    hint: &str,
    notes: Vec<Note>,
) -> Box<Refused> {
    let mut problem = Problems::single(message, hint).list.pop();
    if let Some(problem) = &mut problem {
        problem.line = line;
        problem.column = line.map(|_| 1);
    }
    let problem = problem.unwrap_or(Problem {
        severity: crate::problem::Severity::Error,
        line,
        column: None,
        span: None,
        message: String::new(),
        hint: None,
    });
    Box::new(Refused { file: file.to_owned(), problem, notes })
}

/// The values of lists, each with its place.
pub(super) fn items<'a>(lists: Vec<Found<'a>>, notes: &mut Notes) -> Vec<Found<'a>> {
    let mut items = Vec::new();
    for list in lists {
        let Some(nodes) = list.node.list() else {
            let why = format!("is {}, where LiteLLM wants a list", list.node.kind());
            notes.setting(list.spot, &why, "put a `- ` in front of each entry");
            continue;
        };
        let found = nodes
            .iter()
            .enumerate()
            .map(|(index, node)| Found { node, spot: list.spot.item(index, node.line) });
        items.extend(found);
    }
    items
}

/// Reads everything.
pub(super) fn load<'a>(files: &'a Files, notes: &mut Notes) -> Tops<'a> {
    let mut tops = Tops { list: Vec::new() };
    for (file, root) in &files.list {
        for entry in root.map().unwrap_or_default() {
            if entry.name == "include" || entry.node.is_null() {
                continue;
            }
            let spot = Spot { file: file.clone(), ..Spot::top("") }.below(&entry.name, entry.line);
            let found = Found { node: &entry.node, spot };
            match tops.list.iter_mut().find(|(name, _)| *name == entry.name) {
                None => tops.list.push((entry.name.clone(), vec![found])),
                Some((_, known)) if entry.node.list().is_some() => known.push(found),
                Some((_, known)) => {
                    for old in std::mem::replace(known, vec![found]) {
                        let why = "is replaced as a whole by that of an included file, as in LiteLLM";
                        notes.setting(old.spot, why, "put both into one file, and import again");
                    }
                }
            }
        }
    }
    tops
}

/// The files, parsed; all but the first with their names.
pub(super) struct Files {
    list: Vec<(Option<String>, Node)>,
}

impl Files {
    pub(super) fn read(
        shown: &str,
        text: &str,
        folder: &Path,
        world: &World<'_>,
    ) -> Result<Self, Box<Refused>> {
        let root = root(shown, text)?;
        known(shown, &root)?;
        let mut list = vec![(None, root)];
        let mut at = 0;
        while let Some((file, root)) = list.get(at) {
            let from = file.clone().unwrap_or_else(|| shown.to_owned());
            for (name, line) in included(&from, root)? {
                if list.len() >= FILES_MAX {
                    return Err(refused(
                        &from,
                        Some(line),
                        "more than 100 files are included",
                        "",
                        Vec::new(),
                    ));
                }
                if list.iter().any(|(known, _)| known.as_deref() == Some(&name)) {
                    continue;
                }
                let text = (world.read)(&folder.join(&name)).map_err(|e| {
                    let message = format!("the included file {name} cannot be read: {e}");
                    refused(
                        &from,
                        Some(line),
                        message,
                        "LiteLLM looks for it beside the main file",
                        Vec::new(),
                    )
                })?;
                let root = self::root(&name, &text)?;
                list.push((Some(name), root));
            }
            at += 1;
        }
        Ok(Self { list })
    }
}

fn root(shown: &str, text: &str) -> Result<Node, Box<Refused>> {
    let hint = "name the file that LiteLLM is started with (`litellm --config …`)";
    let root = yaml::parse(text)
        .map_err(|problem| Box::new(Refused { file: shown.to_owned(), problem, notes: Vec::new() }))?
        .ok_or_else(|| refused(shown, None, "there is nothing in it", hint, Vec::new()))?;
    if root.map().is_none() {
        let message = format!("this is {}, and no configuration of LiteLLM's proxy", root.kind());
        return Err(refused(shown, Some(root.line), message, hint, Vec::new()));
    }
    Ok(root)
}

/// Whether it is what it should be.
fn known(shown: &str, root: &Node) -> Result<(), Box<Refused>> {
    let names: Vec<&str> = root.map().unwrap_or_default().iter().map(|e| e.name.as_str()).collect();
    if names.iter().any(|name| SECTIONS.contains(name) || *name == "include") {
        return Ok(());
    }
    let near = names.iter().find_map(|name| crate::problem::nearest(name, SECTIONS.iter().copied()));
    let hint = match near {
        Some(near) => did_you_mean(near, &[near], ""),
        None => "it has a model_list; name the file that LiteLLM is started with (`litellm --config …`)"
            .to_owned(),
    };
    let message = "this is no configuration of LiteLLM's proxy: it has none of its sections";
    Err(refused(shown, None, message, &hint, Vec::new()))
}

/// Names of included files.
fn included(shown: &str, root: &Node) -> Result<Vec<(String, u32)>, Box<Refused>> {
    let Some(entry) = root.map().unwrap_or_default().iter().find(|e| e.name == "include") else {
        return Ok(Vec::new());
    };
    let names = entry.node.list().unwrap_or_default().iter();
    let names: Option<Vec<(String, u32)>> =
        names.map(|node| node.text().map(|text| (text.to_owned(), node.line))).collect();
    names.filter(|_| entry.node.list().is_some() || entry.node.is_null()).ok_or_else(|| {
        let message = "`include` is no list of files";
        refused(shown, Some(entry.line), message, "write `include:` and below it `- file.yaml`", Vec::new())
    })
}
