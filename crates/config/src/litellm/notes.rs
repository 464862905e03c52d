//! What could not be carried over: each thing by its path, why, and what to do instead. Notes name settings, models,
//! hosts and variables; values that may be secrets never come here, and what looks like one is blacked out all the same.

use crate::render::harmless;
use std::fmt;

/// Why something has no counterpart, and what to do instead.
pub(super) type Reason = (&'static str, &'static str);

/// Where something stands: a path such as `model_list[3].litellm_params.rpm`, and its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The file, if it is an included one.
    pub file: Option<String>,
    /// The path in it.
    pub path: String,
    /// Its line, counted from 1.
    pub line: u32,
}

impl Spot {
    /// A section of the main file.
    pub(super) fn top(path: &str) -> Self {
        Self { file: None, path: path.to_owned(), line: 0 }
    }

    /// A setting of it.
    pub(super) fn below(&self, name: &str, line: u32) -> Self {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let name = if !name.is_empty() && name.chars().all(plain) {
            harmless(name)
        } else {
            format!("\"{}\"", harmless(name))
        };
        let path = if self.path.is_empty() { name } else { format!("{}.{name}", self.path) };
        Self { path, line, file: self.file.clone() }
    }

    /// An item of it.
    pub(super) fn item(&self, index: usize, line: u32) -> Self {
        Self { path: format!("{}[{index}]", self.path), line, file: self.file.clone() }
    }
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{} ({}:{})", self.path, harmless(file), self.line),
            None => write!(f, "{} (line {})", self.path, self.line),
        }
    }
}

/// What a note is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A deployment that was left out.
    LeftOut,
    /// A setting of which nothing, or something else, was made.
    Setting,
}

/// One thing without a counterpart, at one or more places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What it is about.
    pub kind: Kind,
    /// Where it stands.
    pub spots: Vec<Spot>,
    /// Why it was not carried over as it is.
    pub why: String,
    /// What to do instead.
    pub instead: String,
}

impl fmt::Display for Note {
    /// The places, a line each, then why and what to do instead.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for spot in &self.spots {
            writeln!(f, "{spot}")?;
        }
        writeln!(f, "    {}", self.why)?;
        write!(f, "    instead: {}", self.instead)
    }
}

/// Notes as they come; the same about several places is one.
#[derive(Debug, Default)]
pub(super) struct Notes {
    list: Vec<Note>,
}

impl Notes {
    /// A deployment is left out.
    pub(super) fn left_out(&mut self, spot: Spot, why: &str, instead: &str) {
        self.push(Kind::LeftOut, spot, why, instead);
    }

    /// A setting is not carried over as it is.
    pub(super) fn setting(&mut self, spot: Spot, why: &str, instead: &str) {
        self.push(Kind::Setting, spot, why, instead);
    }

    fn push(&mut self, kind: Kind, spot: Spot, why: &str, instead: &str) {
        let (why, instead) = (harmless(why), harmless(instead));
        let same = |n: &&mut Note| n.kind == kind && n.why == why && n.instead == instead;
        match self.list.iter_mut().find(same) {
            Some(note) if note.spots.contains(&spot) => {}
            Some(note) => note.spots.push(spot),
            None => self.list.push(Note { kind, spots: vec![spot], why, instead }),
        }
    }

    /// All of them, what was left out first.
    pub(super) fn done(mut self) -> Vec<Note> {
        self.list.sort_by_key(|note| note.kind);
        self.list
    }
}
