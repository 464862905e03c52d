//! Sections about who may call and about money: teams, client keys, prices. And the grammar of what stands in them
//! alone: dollars, digests, instants.

use super::leaf::{Amount, Count, Glob, SecretText, Wait};
use super::node::{Node, Value};
use super::read::{Typed, section, wrong};
use crate::clients::UnknownPrice;
use crate::problem::{At, Findings};
use keymux_policy::Priority;
use keymux_policy::budget::Reset;
use serde_json::json;

section! {
    /// Client keys that share a budget and limits above their own.
    Team in "[[team]]" {
        /// Its name.
        name: String,
        /// US dollars that all of its keys may spend together in each period.
        budget: Usd,
        /// When the budget is whole again: at midnight UTC, on Monday, on the first of the month, or never.
        reset: Reset = "\"never\"",
        /// Requests a minute, of all of its keys.
        rpm: Amount,
        /// Tokens a minute, input and output together, of all of its keys.
        tpm: Amount,
        /// Requests at the same time, of all of its keys.
        concurrent: Count,
    }
}

section! {
    /// A key that clients call with.
    Client in "[[client]]" {
        /// Its name.
        name: String,
        /// The team that it belongs to, declared by `[[team]]`.
        team: String,
        /// What it presents as its API key: where that comes from, as for a provider's key, or `"sha256:…"` with its digest in hexadecimal digits.
        secret: ClientSecret,
        /// The only models it may use, by the names that clients use. By default all.
        models: Vec<At<Glob>>,
        /// The only providers it may reach.
        providers: Vec<At<String>>,
        /// The only accounts it may reach, as `"provider:account"`.
        accounts: Vec<At<String>>,
        /// The only keys it may reach, as `"provider:key"`.
        keys: Vec<At<String>>,
        /// Requests a minute.
        rpm: Amount,
        /// Tokens a minute, input and output together.
        tpm: Amount,
        /// Requests at the same time.
        concurrent: Count,
        /// US dollars that it may spend in each period.
        budget: Usd,
        /// When the budget is whole again: at midnight UTC, on Monday, on the first of the month, or never.
        reset: Reset = "\"never\"",
        /// Its class in the waiting room; requests can only ask for a lower one.
        priority: Priority = "\"normal\"",
        /// Its share against the other clients of its class.
        weight: Amount = "1",
        /// From when on it is refused: a day, or an instant with its offset, such as `"2027-01-31T12:00:00Z"`.
        expires: Instant,
        /// Labels for the ledger.
        tags: Vec<At<String>>,
        /// How long its requests may wait; over the route's.
        max_wait: Wait,
    }
}

section! {
    /// Where prices come from, and what becomes of models without one.
    Prices in "[prices]" {
        /// A table to use instead of the embedded one, as `scripts/prices --out` writes it.
        file: String,
        /// Whether clients with a budget are served where the price is unknown.
        unknown: UnknownPrice = "\"refuse\"",
    }
}

section! {
    /// A price over the table's, in US dollars for a million tokens. The first that fits a model counts, and all of it.
    Price in "[[price]]" {
        /// What it is for: `"provider:model"` by the upstream's name, with `*` for anything.
        model: Glob,
        /// Input.
        input: Usd,
        /// Output.
        output: Usd,
        /// Input read from the cache. By default as other input.
        cache_read: Usd,
        /// Input written to the cache. By default as other input.
        cache_write: Usd,
        /// Input written to the cache for an hour. By default as what is written to the cache.
        cache_write_hour: Usd,
        /// Audio in the input. By default as other input.
        input_audio: Usd,
        /// Audio in the output. By default as other output.
        output_audio: Usd,
        /// Images in the input. By default as other input.
        input_image: Usd,
        /// Images in the output. By default as other output.
        output_image: Usd,
        /// Reasoning. By default as other output.
        reasoning: Usd,
        /// US dollars for each request.
        request: Usd,
        /// US dollars for each search of the web by the provider's own tool.
        web_search: Usd,
        /// The most tokens that the input can have.
        context: Count,
        /// Prices of everything in requests with more input.
        above: Vec<At<PriceStep>>,
    }
}

section! {
    /// Prices of requests with more than so much input. What is not named stays as below.
    PriceStep in "an entry of `above`" {
        /// More input tokens than this.
        tokens: Count,
        /// Input.
        input: Usd,
        /// Output.
        output: Usd,
        /// Input read from the cache.
        cache_read: Usd,
        /// Input written to the cache.
        cache_write: Usd,
        /// Input written to the cache for an hour.
        cache_write_hour: Usd,
    }
}

/// US dollars, in nano-dollars.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usd(pub(crate) u64);

/// More than anyone has, and little enough to be multiplied.
const USD_MAX: f64 = 1e9;

impl Typed for Usd {
    const WANTED: &'static str = "US dollars as a number, 0 or more";
    const BARE: bool = true;
    fn kind() -> String {
        "US dollars".to_owned()
    }
    fn schema() -> serde_json::Value {
        json!({ "type": "number", "minimum": 0, "maximum": USD_MAX })
    }
    fn read(node: Node, found: &mut Findings) -> Option<Self> {
        let dollars = match node.value {
            Value::Whole(n) => n as f64,
            Value::Float(n) => n,
            _ => return wrong(&node, found),
        };
        if !(0.0..=USD_MAX).contains(&dollars) {
            found.error(node.place, "expected US dollars from 0 to 10^9", "leave it out for no limit");
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and 10^18, checked above"
        )]
        Some(Self((dollars * 1e9).round() as u64))
    }
}

/// A client's secret: where it comes from, or its digest.
#[derive(Clone, Debug)]
pub(crate) enum ClientSecret {
    From(SecretText),
    Digest([u8; 32]),
}

impl Typed for ClientSecret {
    const WANTED: &'static str = "a secret, or \"sha256:…\" with its digest";
    fn kind() -> String {
        "secret, or its digest".to_owned()
    }
    fn schema() -> serde_json::Value {
        json!({ "oneOf": [
            SecretText::schema(),
            { "type": "string", "pattern": "^sha256:[0-9a-fA-F]{64}$" },
        ] })
    }
    fn read(node: Node, found: &mut Findings) -> Option<Self> {
        let Value::Text(text) = &node.value else {
            return SecretText::read(node, found).map(Self::From);
        };
        let Some(digits) = text.strip_prefix("sha256:") else {
            return SecretText::read(node, found).map(Self::From);
        };
        let digest = digest(digits);
        if digest.is_none() {
            let hint = "write 64 hexadecimal digits; `printf %s KEY | sha256sum` prints them";
            found.error(node.place, "this is not a SHA-256 digest", hint);
        }
        digest.map(Self::Digest)
    }
}

fn digest(digits: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in digest.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()?;
    }
    Some(digest)
}

/// Seconds since 1970-01-01 UTC. A day is its midnight UTC.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instant(pub(crate) i64);

impl Typed for Instant {
    const WANTED: &'static str = "a day or an instant in quotes, such as \"2027-01-31\"";
    fn kind() -> String {
        "day or instant".to_owned()
    }
    fn schema() -> serde_json::Value {
        json!({ "type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}" })
    }
    fn read(node: Node, found: &mut Findings) -> Option<Self> {
        let Value::Text(text) = &node.value else { return wrong(&node, found) };
        let midnight = || text.parse::<jiff::civil::Date>().ok().map(|_| format!("{text}T00:00:00Z"));
        let parsed: Option<jiff::Timestamp> =
            if text.len() == 10 { midnight().and_then(|t| t.parse().ok()) } else { text.parse().ok() };
        if parsed.is_none() {
            let message = format!("\"{}\" is neither a day nor an instant", text.escape_debug());
            found.error(node.place, message, "write \"2027-01-31\" or \"2027-01-31T12:00:00Z\"");
        }
        parsed.map(|instant| Self(instant.as_second()))
    }
}
