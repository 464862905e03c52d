//! YAML as a tree that keeps lines, as LiteLLM's own parser (`PyYAML`) would read it: anchors and merge keys work, words
//! such as `yes` are truth values. What that parser takes without a word although it is a mistake (a name twice in one
//! mapping) is refused here.
//!
//! The parser is `saphyr-parser`: maintained, small, and it gives events with their places, where those on serde
//! (`serde_yaml_ng`, `serde-saphyr`) give values that know neither their line nor that a name came twice.
//!
//! A tree may hold secrets, so nothing of it can be printed, and errors name lines, never what stands there.

use crate::problem::{Problem, Severity};
use crate::render::harmless;
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};
use std::collections::HashMap;

/// Deeper than any configuration.
const DEPTH_MAX: usize = 64;
/// More values than any configuration has: aliases of aliases could make of a few lines more than memory holds.
const NODES_MAX: usize = 200_000;

/// A value and the line on which it begins.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) value: Yaml,
    pub(super) line: u32,
}

/// What YAML can say. What a scalar is depends on who asks, as in LiteLLM, where `"100"` is a number, too.
#[derive(Clone)]
pub(super) enum Yaml {
    Scalar { text: String, plain: bool },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One `name: value`.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) line: u32,
    pub(super) node: Node,
}

impl Node {
    /// Whether it says nothing: LiteLLM takes that for "not set".
    pub(super) fn is_null(&self) -> bool {
        let word = |text: &str| matches!(text, "" | "~" | "null" | "Null" | "NULL");
        matches!(&self.value, Yaml::Scalar { text, plain: true } if word(text))
    }

    /// The text of a scalar.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Yaml::Scalar { text, .. } if !self.is_null() => Some(text),
            _ => None,
        }
    }

    /// A finite number, in quotes or not.
    pub(super) fn number(&self) -> Option<f64> {
        let text = self.text()?.trim().replace('_', "");
        let digits = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
        text.parse().ok().filter(|n: &f64| digits && n.is_finite())
    }

    /// A truth value, in quotes or not.
    pub(super) fn flag(&self) -> Option<bool> {
        match self.text()?.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => Some(true),
            "false" | "no" | "off" => Some(false),
            _ => None,
        }
    }

    /// The values of a list.
    pub(super) fn list(&self) -> Option<&[Self]> {
        match &self.value {
            Yaml::List(items) => Some(items),
            _ => None,
        }
    }

    /// The entries of a mapping.
    pub(super) fn map(&self) -> Option<&[Entry]> {
        match &self.value {
            Yaml::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// For messages.
    pub(super) fn kind(&self) -> &'static str {
        match &self.value {
            Yaml::Scalar { .. } if self.is_null() => "nothing",
            Yaml::Scalar { .. } => "a single value",
            Yaml::List(_) => "a list",
            Yaml::Map(_) => "a mapping",
        }
    }

    fn size(&self) -> usize {
        1 + match &self.value {
            Yaml::Scalar { .. } => 0,
            Yaml::List(items) => items.iter().map(Self::size).sum(),
            Yaml::Map(entries) => entries.iter().map(|e| e.node.size()).sum(),
        }
    }
}

/// Reads one YAML document; `None` if there is nothing in it.
pub(super) fn parse(text: &str) -> Result<Option<Node>, Problem> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event
            .map_err(|e| trouble(place(e.marker()), &said(e.info()), &hint(text, e.marker(), e.info())))?;
        builder.take(event, span)?;
    }
    Ok(builder.root.filter(|root| !root.is_null()))
}

fn said(info: &str) -> String {
    format!("this is not YAML: {info}")
}

fn hint(text: &str, marker: &Marker, info: &str) -> String {
    let tabbed = |line: Option<&str>| {
        line.is_some_and(|l| l.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t'))
    };
    let line = marker.line();
    // Not `contains`: "unprintable" has a tab in it.
    let speaks_of_tabs = info.split(|c: char| !c.is_alphabetic()).any(|word| matches!(word, "tab" | "tabs"));
    if info.contains("unprintable") {
        "take it out: a configuration has no control characters, such as NUL".to_owned()
    } else if speaks_of_tabs || tabbed(text.lines().nth(line.saturating_sub(1))) {
        "indent with spaces: YAML takes no tabs".to_owned()
    } else if info.contains("anchor") {
        "an alias (*name) needs its anchor (&name) above it".to_owned()
    } else {
        "look at the indentation, colons, brackets and quotes of this line and the one above it".to_owned()
    }
}

fn place(marker: &Marker) -> (u32, u32) {
    let whole = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    (whole(marker.line()), whole(marker.col().saturating_add(1)))
}

fn trouble((line, column): (u32, u32), message: &str, hint: &str) -> Problem {
    Problem {
        severity: Severity::Error,
        line: Some(line),
        column: Some(column),
        // Without bytes no line of the file is shown: it may hold a key.
        span: None,
        message: harmless(message),
        hint: Some(harmless(hint)),
    }
}

/// Something that is not finished.
struct Open {
    line: u32,
    anchor: usize,
    inside: Inside,
}

enum Inside {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, name: Option<(String, (u32, u32))>, merged: Vec<Node> },
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    documents: usize,
    root: Option<Node>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Problem> {
        let at = place(&span.start);
        let line = at.0;
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    let hint = "LiteLLM reads one: split the file, or take the `---` out";
                    return Err(trouble(at, "a second document begins here", hint));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = tagged(tag.as_deref(), at)?;
                let plain = matches!(style, ScalarStyle::Plain) && !is_text;
                let value = Yaml::Scalar { text: text.into_owned(), plain };
                self.done(Node { value, line }, anchor, at)?;
            }
            Event::SequenceStart(anchor, tag) => {
                tagged(tag.as_deref(), at)?;
                self.begin(Open { line, anchor, inside: Inside::List(Vec::new()) }, at)?;
            }
            Event::MappingStart(anchor, tag) => {
                tagged(tag.as_deref(), at)?;
                let inside = Inside::Map { entries: Vec::new(), name: None, merged: Vec::new() };
                self.begin(Open { line, anchor, inside }, at)?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open { line, anchor, inside }) = self.open.pop() else { return Ok(()) };
                let value = match inside {
                    Inside::List(items) => Yaml::List(items),
                    Inside::Map { entries, merged, .. } => Yaml::Map(merge(entries, &merged, at)?),
                };
                self.done(Node { value, line }, anchor, at)?;
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    let hint = "write out what it stands for";
                    return Err(trouble(at, "this alias stands inside of what it stands for", hint));
                };
                self.count(node.size(), at)?;
                self.done(node, 0, at)?;
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn begin(&mut self, open: Open, at: (u32, u32)) -> Result<(), Problem> {
        if self.open.len() >= DEPTH_MAX {
            return Err(trouble(at, "this is nested too deeply", "64 levels are read"));
        }
        self.open.push(open);
        Ok(())
    }

    fn count(&mut self, more: usize, at: (u32, u32)) -> Result<(), Problem> {
        self.nodes = self.nodes.saturating_add(more);
        if self.nodes > NODES_MAX {
            let hint = "200,000 values are read, those that aliases stand for included";
            return Err(trouble(at, "this is too large for a configuration", hint));
        }
        Ok(())
    }

    /// Puts a finished value where it belongs.
    fn done(&mut self, node: Node, anchor: usize, at: (u32, u32)) -> Result<(), Problem> {
        self.count(1, at)?;
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.inside) {
            None => self.root = Some(node),
            Some(Inside::List(items)) => items.push(node),
            Some(Inside::Map { entries, name, merged }) => match name.take() {
                None => {
                    let Yaml::Scalar { text, .. } = node.value else {
                        let hint = "a name is a word: `name: value`";
                        return Err(trouble(at, "the name of a setting is a list or a mapping", hint));
                    };
                    *name = Some((text, at));
                }
                Some((name, _)) if name == "<<" => merged.push(node),
                Some((name, at)) => {
                    if let Some(first) = entries.iter().find(|e| e.name == name) {
                        let message =
                            format!("`{name}` stands twice in one mapping, first in line {}", first.line);
                        let hint = "keep one of them; LiteLLM takes the last without a word";
                        return Err(trouble(at, &message, hint));
                    }
                    entries.push(Entry { name, line: at.0, node });
                }
            },
        }
        Ok(())
    }
}

/// What `<<` brings in, unless the mapping says it itself.
fn merge(mut entries: Vec<Entry>, merged: &[Node], at: (u32, u32)) -> Result<Vec<Entry>, Problem> {
    for node in merged {
        let sources = node.list().unwrap_or(std::slice::from_ref(node));
        for source in sources {
            let Some(more) = source.map() else {
                return Err(trouble(at, "`<<` merges something that is no mapping", "write `<<: *name`"));
            };
            for entry in more {
                if !entries.iter().any(|e| e.name == entry.name) {
                    entries.push(entry.clone());
                }
            }
        }
    }
    Ok(entries)
}

/// What a value can be said to be.
const CORE: &[&str] = &["str", "int", "float", "bool", "null", "seq", "map"];

/// Whether a tag says that this is a text. Tags that are not of YAML's core are for other programs, or make objects of
/// Python (`!!python/object/apply:…`), which stand under YAML's own prefix.
fn tagged(tag: Option<&Tag>, at: (u32, u32)) -> Result<bool, Problem> {
    match tag {
        None => Ok(false),
        Some(tag) if tag.is_yaml_core_schema() && CORE.contains(&tag.suffix.as_str()) => {
            Ok(tag.suffix == "str")
        }
        Some(tag) => {
            let shown = if tag.is_yaml_core_schema() { format!("!!{}", tag.suffix) } else { tag.to_string() };
            let message = format!("the tag {shown} is none of YAML's own");
            Err(trouble(at, &message, "take it out, and write a plain value, list or mapping"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> (u32, String) {
        let problem = parse(text).err().unwrap();
        (problem.line.unwrap(), problem.message + " / " + &problem.hint.unwrap())
    }

    fn at<'a>(node: &'a Node, path: &[&str]) -> &'a Node {
        path.iter()
            .fold(node, |node, name| &node.map().unwrap().iter().find(|e| e.name == *name).unwrap().node)
    }

    #[test]
    fn anchors_and_merge_keys_are_read() {
        let text =
            "base: &b\n  rpm: 5\n  tpm: 1_000\na:\n  <<: *b\n  rpm: 7\nb: {<<: [*b, {x: 1, rpm: 9}]}\n";
        let root = parse(text).ok().flatten().unwrap();
        assert_eq!(at(&root, &["a", "rpm"]).number(), Some(7.0));
        assert_eq!(at(&root, &["a", "tpm"]).number(), Some(1000.0));
        assert_eq!(at(&root, &["b", "rpm"]).number(), Some(5.0));
        assert_eq!(at(&root, &["b", "x"]).line, 7);
    }

    #[test]
    fn scalars_are_what_they_are_asked_for() {
        let text = "a: yes\nb: 'off'\nc: 1e-6\nd: \"12\"\ne: ~\nf: nan\ng: inf\nh: !!str 4\ni: ''\n";
        let root = parse(text).ok().flatten().unwrap();
        assert_eq!(at(&root, &["a"]).flag(), Some(true));
        assert_eq!(at(&root, &["b"]).flag(), Some(false));
        assert_eq!(at(&root, &["c"]).number(), Some(1e-6));
        assert_eq!(at(&root, &["d"]).number(), Some(12.0));
        assert!(at(&root, &["e"]).is_null() && !at(&root, &["i"]).is_null());
        assert_eq!(at(&root, &["f"]).number(), None);
        assert_eq!(at(&root, &["g"]).number(), None);
        assert_eq!(at(&root, &["h"]).text(), Some("4"));
    }

    #[test]
    fn mistakes_have_their_line() {
        let (line, told) = wrong("a:\n  x: 1\n  y: 2\n  x: 3\n");
        assert_eq!(
            (line, told.contains("`x` stands twice in one mapping, first in line 2")),
            (4, true),
            "{told}"
        );
        let (line, told) = wrong("a:\n\tb: 1\n");
        assert!(line == 2 && told.contains("no tabs"), "{line} {told}");
        let (line, told) = wrong("a: 1\nb: *nobody\n");
        assert!(line == 2 && told.contains("needs its anchor"), "{line} {told}");
        let (line, told) = wrong("a: 1\n---\nb: 2\n");
        assert!((2..=3).contains(&line) && told.contains("second document"), "{line} {told}");
        assert!(wrong("a: !vault x\n").1.contains("tag !vault"));
        for text in [
            "a: !!python/object/apply:os.system [\"id\"]\n",
            "a: !!python/name:os.system x\n",
            "a: !!set {x}\n",
        ] {
            let told = wrong(text).1;
            assert!(told.contains("tag !!") && told.contains("none of YAML's own"), "{text}: {told}");
        }
        assert!(parse("a: !!int 1\nb: !!map {c: !!seq [!!null ~, !!bool yes, !!float 1]}\n").is_ok());
        let told = wrong("a: 1\nb: m\u{0}\n").1;
        assert!(told.contains("NUL") && !told.contains("tabs"), "{told}");
        assert!(wrong("a: [1, 2\nb: 3\n").1.contains("not YAML"));
        assert!(wrong("[a]: 1\n").1.contains("name of a setting"));
        assert!(wrong("a: &a [1, *a]\n").1.contains("inside of what it stands for"));
        assert!(wrong(&"[".repeat(100)).1.contains("too deeply"));
    }

    #[test]
    fn aliases_cannot_blow_up() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..9 {
            let before = format!("*a{}, ", i - 1).repeat(10);
            text = format!("{text}a{i}: &a{i} [{before}]\n");
        }
        assert!(wrong(&text).1.contains("too large"));
    }

    #[test]
    fn nothing_is_nothing() {
        for text in ["", "\u{feff}", "# only a comment\n", "---\n", "~", "   \n\n"] {
            assert!(parse(text).ok().unwrap().is_none(), "{text:?}");
        }
    }
}
