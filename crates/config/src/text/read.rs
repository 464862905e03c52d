//! How typed sections are read from the tree, described and documented, all from one declaration: `section!` lists
//! the settings of a table with their meaning and default, `choice!` the words of an enumeration. The JSON Schema
//! and the tables of `docs/configuration.md` come from the same place and cannot drift away from what is read.

use super::node::{Entry, Node, Value};
use crate::problem::{At, Findings, Place, did_you_mean, nearest};
use serde_json::json;

/// A type that a setting can have.
pub(crate) trait Typed: Sized {
    /// What is expected, with its article, for messages.
    const WANTED: &'static str;
    /// Whether it is written without quotes.
    const BARE: bool = false;
    /// For the documentation's tables: `duration`, `list of strings`.
    fn kind() -> String;
    /// The JSON Schema.
    fn schema() -> serde_json::Value;
    /// Reads it, or says why not.
    fn read(node: Node, found: &mut Findings) -> Option<Self>;
}

/// What is known of one setting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static [&'static str],
    /// In TOML's notation.
    pub(crate) default: Option<&'static str>,
    pub(crate) kind: fn() -> String,
    pub(crate) schema: fn() -> serde_json::Value,
}

impl Field {
    /// The meaning in one line.
    pub(crate) fn meaning(&self) -> String {
        sentence(self.doc)
    }
}

/// Doc comment lines as one line of text.
pub(crate) fn sentence(doc: &[&str]) -> String {
    doc.iter().map(|line| line.trim()).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// A table with known settings.
pub(crate) trait Section: Typed {
    /// What it is about.
    const ABOUT: &'static [&'static str];
    /// Its settings, in order.
    fn fields() -> Vec<Field>;
    /// The settings that seem to have been written, but could not be read or were misspelt: that they are missing
    /// is no news.
    fn unread(&self) -> &[&'static str];
}

/// Tells that a value has the wrong type.
pub(crate) fn wrong<T: Typed>(node: &Node, found: &mut Findings) -> Option<T> {
    let hint = match &node.value {
        Value::Text(_) if T::BARE => "write it without quotes",
        Value::Whole(_) | Value::Float(_) | Value::Bool(_) if !T::BARE => "write it in quotes: \"…\"",
        _ => "docs/configuration.md shows what it looks like",
    };
    found.error(node.place, format!("expected {}, found {}", T::WANTED, node.kind()), hint);
    None
}

/// Entries of a table that are still to be read; at the end, what is left is unknown.
pub(crate) struct Table {
    entries: Vec<Option<Entry>>,
    title: &'static str,
    unread: Vec<&'static str>,
}

impl Table {
    /// Opens a node as a table.
    pub(crate) fn open<T: Typed>(node: Node, title: &'static str, found: &mut Findings) -> Option<Self> {
        if let Value::Table(entries) = node.value {
            Some(Self { entries: entries.into_iter().map(Some).collect(), title, unread: Vec::new() })
        } else {
            wrong::<T>(&node, found);
            None
        }
    }

    /// Reads one setting, if it is there.
    pub(crate) fn take<T: Typed>(&mut self, name: &'static str, found: &mut Findings) -> Option<At<T>> {
        let slot = self.entries.iter_mut().find(|e| e.as_ref().is_some_and(|e| e.name.value == name))?;
        let entry = slot.take()?;
        let place = entry.node.place;
        let read = T::read(entry.node, found);
        if read.is_none() {
            self.unread.push(name);
        }
        read.map(|value| At { value, place })
    }

    /// Complains about every entry that nobody asked for. Tells which settings were meant, but not read.
    pub(crate) fn finish(mut self, known: &[&'static str], found: &mut Findings) -> Vec<&'static str> {
        for entry in self.entries.drain(..).flatten() {
            self.unread.extend(nearest(&entry.name.value, known.iter().copied()));
            let hint = did_you_mean(&entry.name.value, known, "it knows");
            found.error(
                entry.name.place,
                format!("unknown setting \"{}\" in {}", entry.name.value.escape_debug(), self.title),
                hint,
            );
        }
        self.unread
    }
}

/// The closed schema of a section.
pub(crate) fn object_schema(about: &[&str], fields: &[Field]) -> serde_json::Value {
    let mut properties = serde_json::Map::new();
    for field in fields {
        let mut schema = (field.schema)();
        if let Some(object) = schema.as_object_mut() {
            object.insert("description".into(), field.meaning().into());
            if let Some(default) = field.default.and_then(default_json) {
                object.insert("default".into(), default);
            }
        }
        properties.insert(field.name.into(), schema);
    }
    json!({
        "type": "object",
        "description": sentence(about),
        "properties": properties,
        "additionalProperties": false,
    })
}

/// A default in TOML's notation as JSON.
fn default_json(toml: &str) -> Option<serde_json::Value> {
    let mut found = Findings::default();
    let (node, whole) = super::node::parse(&format!("x = {toml}"), &mut found);
    let Value::Table(entries) = node.value else { return None };
    whole.then(|| entries.into_iter().next().map(|e| json_of(e.node.value)))?
}

fn json_of(value: Value) -> serde_json::Value {
    match value {
        Value::Text(text) => text.into(),
        Value::Whole(n) => n.into(),
        Value::Float(n) => n.into(),
        Value::Bool(b) => b.into(),
        Value::List(items) => items.into_iter().map(|n| json_of(n.value)).collect::<Vec<_>>().into(),
        Value::Table(entries) => {
            let pairs = entries.into_iter().map(|e| (e.name.value, json_of(e.node.value)));
            serde_json::Value::Object(pairs.collect())
        }
        Value::Date => serde_json::Value::Null,
    }
}

impl<T: Typed> Typed for Vec<At<T>> {
    const WANTED: &'static str = "a list";
    fn kind() -> String {
        format!("list of {}", plural(&T::kind()))
    }
    fn schema() -> serde_json::Value {
        json!({ "type": "array", "items": T::schema() })
    }
    fn read(node: Node, found: &mut Findings) -> Option<Self> {
        if let Value::List(items) = node.value {
            let written = items.len();
            let read: Vec<At<T>> = items
                .into_iter()
                .filter_map(|item| {
                    let place = item.place;
                    T::read(item, found).map(|value| At { value, place })
                })
                .collect();
            // Nothing of it could be read: it is not empty, it is unknown.
            (written == 0 || !read.is_empty()).then_some(read)
        } else {
            let hint = match node.value {
                Value::Table(_) => "put it in brackets: [ … ], or double those of the section: [[ … ]]",
                _ => "put it in brackets: [ … ]",
            };
            found.error(node.place, format!("expected a list, found {}", node.kind()), hint);
            None
        }
    }
}

/// Of the words that kinds begin with.
fn plural(kind: &str) -> String {
    for word in ["string", "table", "glob", "list", "limit"] {
        if let Some(rest) = kind.strip_prefix(word) {
            return format!("{word}s{rest}");
        }
    }
    kind.to_owned()
}

/// Reads the first word of `words` that the text is; else says what there is.
pub(crate) fn one_of<T: Copy>(
    what: &str,
    words: &[(&'static str, T)],
    text: &str,
    at: Place,
    found: &mut Findings,
) -> Option<T> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Some(*value);
    }
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let hint = did_you_mean(text, &known, "choose one of");
    found.error(at, format!("unknown {what} \"{}\"", text.escape_debug()), hint);
    None
}

/// Declares a table: `section! { /// about … Name in "[name]" { /// meaning … field: Type = "default", … } }`.
macro_rules! section {
    ($(#[doc = $about:literal])* $name:ident in $title:literal {
        $( $(#[doc = $doc:literal])* $field:ident : $type:ty $(= $default:literal)? ),* $(,)?
    }) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug, Default)]
        pub(crate) struct $name {
            $( $(#[doc = $doc])* pub(crate) $field: Option<$crate::problem::At<$type>>, )*
            pub(crate) unread: Vec<&'static str>,
        }
        impl $crate::text::read::Typed for $name {
            const WANTED: &'static str = concat!("a table, ", $title);
            fn kind() -> String {
                "table".to_owned()
            }
            fn schema() -> serde_json::Value {
                use $crate::text::read::Section as _;
                $crate::text::read::object_schema(Self::ABOUT, &Self::fields())
            }
            fn read(
                node: $crate::text::node::Node,
                found: &mut $crate::problem::Findings,
            ) -> Option<Self> {
                let mut table = $crate::text::read::Table::open::<Self>(node, $title, found)?;
                let mut read = Self { $( $field: table.take(stringify!($field), found), )* unread: Vec::new() };
                read.unread = table.finish(&[$( stringify!($field) ),*], found);
                Some(read)
            }
        }
        impl $crate::text::read::Section for $name {
            const ABOUT: &'static [&'static str] = &[$($about),*];
            fn fields() -> Vec<$crate::text::read::Field> {
                vec![$(
                    $crate::text::read::Field {
                        name: stringify!($field),
                        doc: &[$($doc),*],
                        default: [$($default)?].first().copied(),
                        kind: <$type as $crate::text::read::Typed>::kind,
                        schema: <$type as $crate::text::read::Typed>::schema,
                    },
                )*]
            }
            fn unread(&self) -> &[&'static str] {
                &self.unread
            }
        }
    };
}
pub(crate) use section;

/// Gives a type its words: `choice! { Type, "what it is", "word" => Type::Variant, … }`.
macro_rules! choice {
    ($type:ty, $what:literal, $( $word:literal => $value:expr ),* $(,)?) => {
        impl $crate::text::read::Words for $type {
            const WORDS: &'static [(&'static str, Self)] = &[$( ($word, $value) ),*];
        }
        impl $crate::text::read::Typed for $type {
            const WANTED: &'static str = concat!("a ", $what, " in quotes");
            fn kind() -> String {
                [$( concat!("`\"", $word, "\"`") ),*].join(", ")
            }
            fn schema() -> serde_json::Value {
                serde_json::json!({ "enum": [$( $word ),*] })
            }
            fn read(
                node: $crate::text::node::Node,
                found: &mut $crate::problem::Findings,
            ) -> Option<Self> {
                use $crate::text::read::Words as _;
                match &node.value {
                    $crate::text::node::Value::Text(text) => {
                        $crate::text::read::one_of($what, Self::WORDS, text, node.place, found)
                    }
                    _ => $crate::text::read::wrong::<Self>(&node, found),
                }
            }
        }
    };
}
pub(crate) use choice;

/// The words of an enumeration, for reading and for showing.
pub(crate) trait Words: Sized + Copy + PartialEq + 'static {
    /// Each word and what it means.
    const WORDS: &'static [(&'static str, Self)];
    /// The word for a value.
    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, value)| *value == self).map_or("?", |(word, _)| *word)
    }
}
