//! TOML as a tree that keeps places, in the order of the file. The parser goes on after a syntax error, so that one
//! run can name all of them, and what could be read is checked as well.

use crate::problem::{At, Findings, Place};
use toml::de::{DeTable, DeValue};

/// A value and where it stands.
pub(crate) type Node = At<Value>;

/// One `name = value`.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: At<String>,
    pub(crate) node: Node,
}

/// What TOML can say.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(String),
    Whole(i64),
    Float(f64),
    Bool(bool),
    List(Vec<Node>),
    Table(Vec<Entry>),
    Date,
}

impl Value {
    /// For messages: "a string", "a table".
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Whole(_) => "a whole number",
            Self::Float(_) => "a number with a fraction",
            Self::Bool(_) => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Date => "a date",
        }
    }
}

/// Reads TOML. Returns what could be read, and whether the text was whole.
pub(crate) fn parse(text: &str, found: &mut Findings) -> (Node, bool) {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let at = error.span().map_or(Place::NONE, |s| Place::of(&s));
        found.error(at, format!("this is not TOML: {}", error.message()), syntax_hint(error.message()));
    }
    let place = Place::of(&table.span());
    let entries = entries(table.into_inner(), found);
    (At { value: Value::Table(entries), place }, errors.is_empty())
}

fn syntax_hint(message: &str) -> &'static str {
    if message.contains("duplicate key") {
        "keep one of them"
    } else if message.contains("string") || message.contains("quote") {
        "strings stand in quotes: \"…\""
    } else {
        "see https://toml.io for the grammar, and examples/ for whole files"
    }
}

fn entries(table: DeTable<'_>, found: &mut Findings) -> Vec<Entry> {
    let mut entries: Vec<Entry> = table
        .into_iter()
        .map(|(name, value)| {
            let place = Place::of(&name.span());
            let name = At { value: name.into_inner().into_owned(), place };
            let span = value.span();
            Entry { name, node: node(value.into_inner(), Place::of(&span), found) }
        })
        .collect();
    entries.sort_by_key(|e| e.name.place);
    entries
}

fn node(value: DeValue<'_>, place: Place, found: &mut Findings) -> Node {
    let value = match value {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => {
            if let Ok(n) = i64::from_str_radix(&number.as_str().replace('_', ""), number.radix()) {
                Value::Whole(n)
            } else {
                found.error(place, "this number is too large", "write a smaller one");
                Value::Whole(1)
            }
        }
        DeValue::Float(number) => Value::Float(number.as_str().replace('_', "").parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(b) => Value::Bool(b),
        DeValue::Datetime(_) => Value::Date,
        DeValue::Array(items) => Value::List(
            items
                .into_iter()
                .map(|item| {
                    let span = item.span();
                    node(item.into_inner(), Place::of(&span), found)
                })
                .collect(),
        ),
        DeValue::Table(table) => Value::Table(entries(table, found)),
    };
    At { value, place }
}
