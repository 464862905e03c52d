//! The grammar of single values: durations, sizes, counts, addresses, secrets, globs, header maps.

use super::node::{Node, Value};
use super::read::{Typed, wrong};
use crate::problem::{At, Findings, Place};
use serde_json::json;
use std::net::{Ipv4Addr, SocketAddr};
use zeroize::Zeroizing;

impl Typed for String {
    const WANTED: &'static str = "a string in quotes";
    fn kind() -> String {
        "string".to_owned()
    }
    fn schema() -> serde_json::Value {
        json!({ "type": "string" })
    }
    fn read(node: Node, found: &mut Findings) -> Option<Self> {
        match node.value {
            Value::Text(text) => Some(text),
            _ => wrong(&node, found),
        }
    }
}

impl Typed for bool {
    const WANTED: &'static str = "true or false";
    const BARE: bool = true;
    fn kind() -> String {
        "true or false".to_owned()
    }
    fn schema() -> serde_json::Value {
        json!({ "type": "boolean" })
    }
    fn read(node: Node, found: &mut Findings) -> Option<Self> {
        match node.value {
            Value::Bool(b) => Some(b),
            _ => wrong(&node, found),
        }
    }
}

/// A whole number from 1 to 2^53.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count(pub(crate) u64);

const COUNT_MAX: i64 = 1 << 53;

impl Typed for Count {
    const WANTED: &'static str = "a whole number of at least 1";
    const BARE: bool = true;
    fn kind() -> String {
        "whole number".to_owned()
    }
    fn schema() -> serde_json::Value {
        json!({ "type": "integer", "minimum": 1, "maximum": COUNT_MAX })
    }
    fn read(node: Node, found: &mut Findings) -> Option<Self> {
        match node.value {
            Value::Whole(n @ 1..=COUNT_MAX) => u64::try_from(n).ok().map(Self),
            Value::Whole(_) => out_of_range(&node, "expected a whole number from 1 to 2^53", found),
            _ => wrong(&node, found),
        }
    }
}

/// A finite number greater than zero and at most 10^15.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Amount(pub(crate) f64);

impl Typed for Amount {
    const WANTED: &'static str = "a number greater than 0";
    const BARE: bool = true;
    fn kind() -> String {
        "number".to_owned()
    }
    fn schema() -> serde_json::Value {
        json!({ "type": "number", "exclusiveMinimum": 0, "maximum": 1e15 })
    }
    fn read(node: Node, found: &mut Findings) -> Option<Self> {
        let number = number::<Self>(&node, found)?;
        if number > 0.0 && number <= 1e15 {
            return Some(Self(number));
        }
        out_of_range(&node, "expected a number greater than 0 and at most 10^15", found)
    }
}

/// A finite number that may be zero, at most 10^15.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Level(pub(crate) f64);

impl Typed for Level {
    const WANTED: &'static str = "a number, 0 or more";
    const BARE: bool = true;
    fn kind() -> String {
        "number, may be `0`".to_owned()
    }
    fn schema() -> serde_json::Value {
        json!({ "type": "number", "minimum": 0, "maximum": 1e15 })
    }
    fn read(node: Node, found: &mut Findings) -> Option<Self> {
        let number = number::<Self>(&node, found)?;
        if (0.0..=1e15).contains(&number) {
            return Some(Self(number));
        }
        out_of_range(&node, "expected a number from 0 to 10^15", found)
    }
}

/// A share from 0 to 1.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ratio(pub(crate) f64);

impl Typed for Ratio {
    const WANTED: &'static str = "a share between 0 and 1";
    const BARE: bool = true;
    fn kind() -> String {
        "share, 0 to 1".to_owned()
    }
    fn schema() -> serde_json::Value {
        json!({ "type": "number", "minimum": 0, "maximum": 1 })
    }
    fn read(node: Node, found: &mut Findings) -> Option<Self> {
        let number = number::<Self>(&node, found)?;
        if (0.0..=1.0).contains(&number) {
            return Some(Self(number));
        }
        found.error(node.place, "expected a share from 0 to 1", "write 0.1 for a tenth, 1 for all of them");
        None
    }
}

fn number<T: Typed>(node: &Node, found: &mut Findings) -> Option<f64> {
    match node.value {
        Value::Whole(n) => Some(n as f64),
        Value::Float(n) => Some(n),
        _ => {
            wrong::<T>(node, found);
            None
        }
    }
}

fn out_of_range<T>(node: &Node, message: &str, found: &mut Findings) -> Option<T> {
    found.error(node.place, message, "leave it out for no limit; to switch a key off, say enabled = false");
    None
}

/// Bytes: a whole number, or a string with a unit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bytes(pub(crate) u64);

impl Typed for Bytes {
    const WANTED: &'static str = "a size: bytes as a whole number, or a string such as \"32MiB\"";
    fn kind() -> String {
        "size".to_owned()
    }
    fn schema() -> serde_json::Value {
        json!({ "oneOf": [
            { "type": "integer", "minimum": 1 },
            { "type": "string", "pattern": "^[0-9]+ ?(B|KiB|MiB|GiB)$" },
        ] })
    }
    fn read(node: Node, found: &mut Findings) -> Option<Self> {
        match &node.value {
            Value::Whole(n) if *n > 0 => u64::try_from(*n).ok().map(Self),
            Value::Text(text) => {
                let parsed = parse_bytes(text);
                if parsed.is_none() {
                    let message = format!("\"{}\" is not a size", text.escape_debug());
                    found.error(
                        node.place,
                        message,
                        "write bytes, or a string with KiB, MiB or GiB: \"32MiB\"",
                    );
                }
                parsed.map(Self)
            }
            _ => wrong(&node, found),
        }
    }
}

fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let factor = match unit.trim_start() {
        "B" | "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor).filter(|&n| n > 0)
}

/// A length of time in milliseconds, greater than zero.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Duration(pub(crate) u64);

/// A length of time in milliseconds that may be zero.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wait(pub(crate) u64);

const DURATION_HINT: &str = "a string with a unit (ms, s, m, h or d): \"500ms\", \"10s\", \"1m30s\"";
const DURATION_PATTERN: &str = "^([0-9]+(\\.[0-9]+)?(ms|s|m|h|d))+$";

impl Typed for Duration {
    const WANTED: &'static str = "a duration";
    fn kind() -> String {
        "duration".to_owned()
    }
    fn schema() -> serde_json::Value {
        json!({ "type": "string", "pattern": DURATION_PATTERN })
    }
    fn read(node: Node, found: &mut Findings) -> Option<Self> {
        match read_millis(&node, found)? {
            0 => {
                found.error(node.place, "this duration must be longer than zero", "the least is \"1ms\"");
                None
            }
            ms => Some(Self(ms)),
        }
    }
}

impl Typed for Wait {
    const WANTED: &'static str = "a duration";
    fn kind() -> String {
        "duration, may be `\"0s\"`".to_owned()
    }
    fn schema() -> serde_json::Value {
        json!({ "type": "string", "pattern": DURATION_PATTERN })
    }
    fn read(node: Node, found: &mut Findings) -> Option<Self> {
        read_millis(&node, found).map(Self)
    }
}

fn read_millis(node: &Node, found: &mut Findings) -> Option<u64> {
    let problem = match &node.value {
        Value::Text(text) => match parse_millis(text) {
            Some(ms) => return Some(ms),
            None => format!("\"{}\" is not a duration", text.escape_debug()),
        },
        value => format!("expected a duration, found {}", value.kind()),
    };
    found.error(node.place, problem, format!("write {DURATION_HINT}"));
    None
}

const YEAR_MS: f64 = 366.0 * 86_400_000.0;

/// `1m30s` in milliseconds, up to a year.
pub(crate) fn parse_millis(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let mut sum = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (digits, tail) = rest.split_at_checked(number)?;
        let unit = tail.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(unit)?;
        let factor = match unit {
            "ms" => 1.0,
            "s" => 1_000.0,
            "m" | "min" => 60_000.0,
            "h" => 3_600_000.0,
            "d" => 86_400_000.0,
            _ => return None,
        };
        sum += digits.parse::<f64>().ok()? * factor;
        rest = tail;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and a year in milliseconds"
    )]
    (0.0..=YEAR_MS).contains(&sum).then_some(sum.round() as u64)
}

/// Where to listen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Address(pub(crate) SocketAddr);

impl Typed for Address {
    const WANTED: &'static str = "an address with a port, such as \"127.0.0.1:4000\"";
    fn kind() -> String {
        "address".to_owned()
    }
    fn schema() -> serde_json::Value {
        json!({ "type": "string" })
    }
    fn read(node: Node, found: &mut Findings) -> Option<Self> {
        match &node.value {
            Value::Text(text) => parse_address(text, node.place, found).map(Self),
            _ => wrong(&node, found),
        }
    }
}

/// Where to listen, or `"none"`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MaybeAddress(pub(crate) Option<SocketAddr>);

impl Typed for MaybeAddress {
    const WANTED: &'static str = "an address with a port, such as \"127.0.0.1:4001\", or \"none\"";
    fn kind() -> String {
        "address or `\"none\"`".to_owned()
    }
    fn schema() -> serde_json::Value {
        json!({ "type": "string" })
    }
    fn read(node: Node, found: &mut Findings) -> Option<Self> {
        match &node.value {
            Value::Text(text) if text == "none" => Some(Self(None)),
            Value::Text(text) => parse_address(text, node.place, found).map(|a| Self(Some(a))),
            _ => wrong(&node, found),
        }
    }
}

/// `IP:PORT`; `localhost:PORT` is 127.0.0.1.
pub(crate) fn parse_address(text: &str, at: Place, found: &mut Findings) -> Option<SocketAddr> {
    if let Some(port) = text.strip_prefix("localhost:").and_then(|p| p.parse().ok()) {
        return Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let hint = match text.trim_start_matches(':').parse::<u16>() {
        Ok(port) => {
            format!("write \"127.0.0.1:{port}\" for this machine only, \"0.0.0.0:{port}\" for every network")
        }
        Err(_) => "write an IP address and a port: \"127.0.0.1:4000\", \"[::1]:4000\"".to_owned(),
    };
    found.error(at, format!("\"{}\" is not an address to listen on", text.escape_debug()), hint);
    None
}

/// Where a secret comes from, as typed. Only [`SecretText::Literal`] holds one.
#[derive(Clone)]
pub(crate) enum SecretText {
    Env { name: String, item: Option<usize> },
    File(String),
    Cmd(Vec<String>),
    Literal(Zeroizing<String>),
}

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretText(…)")
    }
}

const SECRET_HINT: &str =
    "write \"env:NAME\", \"file:/path\", \"cmd:program argument\", or \"literal:…\" to put it into this file";

impl Typed for SecretText {
    const WANTED: &'static str =
        "a secret: \"env:NAME\", \"file:/path\", \"cmd:program argument\" or \"literal:…\"";
    fn kind() -> String {
        "secret".to_owned()
    }
    fn schema() -> serde_json::Value {
        json!({ "oneOf": [
            { "type": "string", "pattern": "^(env|file|cmd|literal):." },
            {
                "type": "object",
                "properties": { "cmd": { "type": "array", "items": { "type": "string" }, "minItems": 1 } },
                "required": ["cmd"],
                "additionalProperties": false,
            },
        ] })
    }
    fn read(node: Node, found: &mut Findings) -> Option<Self> {
        match node.value {
            Value::Text(text) => secret_text(text, node.place, found),
            Value::Table(mut entries) if entries.len() == 1 && entries[0].name.value == "cmd" => {
                let entry = entries.remove(0);
                let at = entry.node.place;
                let args = <Vec<At<String>> as Typed>::read(entry.node, found)?;
                let args: Vec<String> = args.into_iter().map(|a| a.value).collect();
                if args.first().is_none_or(String::is_empty) {
                    found.error(
                        at,
                        "there is no program to run",
                        "write { cmd = [\"program\", \"argument\"] }",
                    );
                    return None;
                }
                Some(Self::Cmd(args))
            }
            _ => {
                found.error(node.place, "this is not a secret's source", SECRET_HINT);
                None
            }
        }
    }
}

fn secret_text(text: String, at: Place, found: &mut Findings) -> Option<SecretText> {
    // Wrapped first, so that a bare secret does not stay in memory.
    let text = Zeroizing::new(text);
    let (scheme, rest) = text.split_once(':').unwrap_or(("", &text));
    let problem = match scheme {
        "env" | "file" | "cmd" | "literal" if rest.trim().is_empty() => {
            format!("\"{scheme}:\" names nothing")
        }
        "env" if rest.contains(['=', ' ', '\0']) => "this is not the name of a variable".to_owned(),
        "env" => return Some(SecretText::Env { name: rest.to_owned(), item: None }),
        "file" if rest.contains('\0') => "this is not a path".to_owned(),
        "file" => return Some(SecretText::File(rest.to_owned())),
        "cmd" => return Some(SecretText::Cmd(rest.split_whitespace().map(str::to_owned).collect())),
        "literal" => return Some(SecretText::Literal(Zeroizing::new(rest.to_owned()))),
        // The value itself may be the secret: it is not repeated.
        _ => "a secret must say where it comes from".to_owned(),
    };
    found.error(at, problem, SECRET_HINT);
    None
}

/// A name of models with `*` for anything.
#[derive(Clone, Debug)]
pub(crate) struct Glob(pub(crate) Box<str>);

impl Typed for Glob {
    const WANTED: &'static str = "a model's name in quotes, with * for anything";
    fn kind() -> String {
        "glob".to_owned()
    }
    fn schema() -> serde_json::Value {
        json!({ "type": "string", "minLength": 1 })
    }
    fn read(node: Node, found: &mut Findings) -> Option<Self> {
        let Value::Text(text) = &node.value else { return wrong(&node, found) };
        if text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            let hint = "write a model's name; \"*\" means every model";
            found.error(node.place, "a model's name is neither empty nor holds blanks", hint);
            return None;
        }
        if text.contains(['?', '[', ']', '{', '}', '\\']) {
            let message = format!("\"{}\" holds a sign that no model's name has", text.escape_debug());
            found.error(node.place, message, "only * is a wildcard here; list several names instead");
            return None;
        }
        Some(Self(text.as_str().into()))
    }
}

/// A table of names and strings, such as headers, in the order of the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pairs(pub(crate) Vec<(At<String>, At<String>)>);

impl Typed for Pairs {
    const WANTED: &'static str = "a table of names and strings: { \"X-Title\" = \"my-app\" }";
    fn kind() -> String {
        "table of strings".to_owned()
    }
    fn schema() -> serde_json::Value {
        json!({ "type": "object", "additionalProperties": { "type": "string" } })
    }
    fn read(node: Node, found: &mut Findings) -> Option<Self> {
        let Value::Table(entries) = node.value else { return wrong(&node, found) };
        let mut pairs = Vec::new();
        for entry in entries {
            let place = entry.node.place;
            if let Some(value) = String::read(entry.node, found) {
                pairs.push((entry.name, At { value, place }));
            }
        }
        Some(Self(pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_add_up() {
        let good = [
            ("10s", 10_000),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            ("2d", 172_800_000),
            ("0s", 0),
        ];
        for (text, ms) in good {
            assert_eq!(parse_millis(text), Some(ms), "{text}");
        }
        for text in [
            "",
            "10",
            "s",
            "10 s",
            "-1s",
            "1e3s",
            "1..5s",
            ".s",
            "10S",
            "10sec",
            "400d",
            "99999999999999999999s",
            "1s2",
        ] {
            assert_eq!(parse_millis(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_have_binary_units() {
        let good = [("1", 1), ("64KiB", 65_536), ("32 MiB", 33_554_432), ("1GiB", 1 << 30), ("7B", 7)];
        for (text, bytes) in good {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
        for text in ["", "0", "-1", "32MB", "1.5MiB", "MiB", "99999999999999GiB"] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
    }
}
