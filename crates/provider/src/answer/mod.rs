//! What a model says, and how each endpoint writes it down.
//!
//! Texts are generated token by token from a seed, so that a stream of any length needs no memory and its
//! full text can be written again at its end. The dialects' modules only format; they decide nothing.

pub(crate) mod chat;
pub(crate) mod messages;
pub(crate) mod plain;
pub(crate) mod responses;

use std::borrow::Cow;

use crate::dialect::{Dialect, Endpoint};
use crate::json::dollars;
use crate::rng::mix;

/// What is answered where the request wants a JSON object.
pub(crate) const JSON_ANSWER: &str = "{\"answer\": \"forty-two\", \"confident\": true}";

/// Why an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    Stop,
    Length,
    Tool,
}

/// Everything that is needed to write an answer in any dialect.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each read off the call")]
pub(crate) struct Answer {
    pub(crate) dialect: Dialect,
    pub(crate) endpoint: Endpoint,
    pub(crate) id: String,
    pub(crate) model: String,
    pub(crate) created_s: u64,
    pub(crate) seed: u64,
    pub(crate) words: Words,
    pub(crate) n: u32,
    pub(crate) include_usage: bool,
    pub(crate) untold: bool,
    pub(crate) finish: Finish,
    pub(crate) input: u64,
    pub(crate) cached: u64,
    pub(crate) cache_write: u64,
    /// Output of all choices together.
    pub(crate) output: u64,
    pub(crate) reasoning: u64,
    /// Visible tokens of one choice.
    pub(crate) visible_each: u64,
    pub(crate) reasoning_each: u64,
    pub(crate) cost_nano_usd: u64,
    /// The part of the cost that is for output.
    pub(crate) output_cost_nano_usd: u64,
    pub(crate) previous: Option<String>,
    pub(crate) store: bool,
    /// Output stops for an error of the provider's.
    pub(crate) failed: bool,
}

/// Where the visible text comes from.
#[derive(Clone, Debug)]
pub(crate) enum Words {
    Generated { tricky: bool },
    Given(Vec<String>),
    Tool { name: String, arguments: Vec<String> },
}

/// What one stream event carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Reasoning,
    Visible,
}

/// One stream event's worth of output.
pub(crate) struct Delta<'a> {
    pub(crate) kind: Kind,
    pub(crate) text: &'a str,
    /// First of its kind.
    pub(crate) first: bool,
    /// Last of its kind.
    pub(crate) last: bool,
}

const PLAIN: [&str; 32] = [
    "the",
    "river",
    "carries",
    "light",
    "over",
    "stones",
    "and",
    "every",
    "morning",
    "someone",
    "counts",
    "boats",
    "naïve",
    "letters",
    "arrive",
    "with",
    "“quoted”",
    "news",
    "of",
    "quiet",
    "harbours",
    "where",
    "gulls",
    "argue",
    "about",
    "tea,",
    "bread",
    "🦀",
    "or",
    "weather",
    "until",
    "noon.",
];

const TRICKY: [&str; 12] = [
    "\"usage\":",
    "{\"error\":{\"message\":\"no\"}}",
    "\n\ndata: [DONE]\n\n",
    "\"usage\":{\"prompt_tokens\":1}",
    "event: error",
    "\r\n",
    "\\u0000",
    ": OPENROUTER PROCESSING",
    "\u{2028}",
    "{\"type\":\"message_stop\"}",
    "\"finish_reason\":\"stop\"",
    "🧵👩‍🚀",
];

impl Answer {
    /// The visible token with this number, of this choice.
    pub(crate) fn token(&self, choice: u32, index: u64) -> Cow<'_, str> {
        let at = usize::try_from(index).unwrap_or(usize::MAX);
        match &self.words {
            Words::Given(pieces) | Words::Tool { arguments: pieces, .. } => {
                Cow::Borrowed(pieces.get(at).map_or("", String::as_str))
            }
            Words::Generated { tricky } => {
                let roll = mix(self.seed ^ mix(index ^ u64::from(choice) << 40));
                let word = if *tricky && roll.is_multiple_of(3) {
                    TRICKY[usize::try_from(roll >> 8).unwrap_or(0) % TRICKY.len()]
                } else {
                    PLAIN[usize::try_from(roll >> 8).unwrap_or(0) % PLAIN.len()]
                };
                if index == 0 { Cow::Borrowed(word) } else { Cow::Owned(format!(" {word}")) }
            }
        }
    }

    /// Visible tokens `from..to` of a choice as text.
    pub(crate) fn text(&self, choice: u32, from: u64, to: u64) -> String {
        (from..to).map(|index| self.token(choice, index)).collect()
    }

    /// The whole visible text of a choice.
    pub(crate) fn whole_text(&self, choice: u32) -> String {
        self.text(choice, 0, self.visible_each)
    }

    /// The reasoning text of tokens `from..to`.
    pub(crate) fn thought(from: u64, to: u64) -> String {
        (from..to).map(|i| if i % 2 == 0 { "hm," } else { " so " }).collect()
    }

    pub(crate) fn tool(&self) -> Option<&str> {
        match &self.words {
            Words::Tool { name, .. } => Some(name),
            _ => None,
        }
    }

    /// An id that belongs to this answer: `call_…`, `msg_…`.
    pub(crate) fn sub_id(&self, prefix: &str, salt: u64) -> String {
        format!("{prefix}{:016x}", mix(self.seed ^ salt))
    }

    /// OpenRouter's `cost_details`. What only BYOK has is null; the parts of prompt and output are always there,
    /// under names that differ between its chat and its Responses skin.
    pub(crate) fn cost_details(&self, prompt: &str, output: &str) -> String {
        format!(
            r#"{{"upstream_inference_cost":null,"{prompt}":{},"{output}":{}}}"#,
            dollars(self.cost_nano_usd - self.output_cost_nano_usd),
            dollars(self.output_cost_nano_usd)
        )
    }

    /// Writes the answer in one piece.
    pub(crate) fn body(&self) -> String {
        match self.endpoint {
            Endpoint::Completions => chat::completion_body(self),
            Endpoint::Responses => responses::body(self),
            Endpoint::Messages => messages::body(self),
            _ => chat::body(self),
        }
    }

    /// Events before the first output.
    pub(crate) fn open(&self, seq: &mut u64, out: &mut String) {
        match self.endpoint {
            Endpoint::Completions => {}
            Endpoint::Responses => responses::open(self, seq, out),
            Endpoint::Messages => messages::open(self, out),
            _ => chat::open(self, out),
        }
    }

    /// One event of output (one for each choice).
    pub(crate) fn delta(&self, choice: u32, delta: &Delta<'_>, seq: &mut u64, out: &mut String) {
        match self.endpoint {
            Endpoint::Completions => chat::completion_delta(self, choice, delta, out),
            Endpoint::Responses => responses::delta(self, delta, seq, out),
            Endpoint::Messages => messages::delta(self, delta, out),
            _ => chat::delta(self, choice, delta, out),
        }
    }

    /// Events after the last output.
    pub(crate) fn close(&self, seq: &mut u64, out: &mut String) {
        match self.endpoint {
            Endpoint::Completions => chat::completion_close(self, out),
            Endpoint::Responses => responses::close(self, seq, out),
            Endpoint::Messages => messages::close(self, out),
            _ => chat::close(self, out),
        }
    }

    /// The error event that ends a broken stream. `early`: before any output.
    pub(crate) fn error_event(&self, early: bool, seq: &mut u64, out: &mut String) {
        match self.endpoint {
            Endpoint::Responses => responses::error_event(self, early, seq, out),
            Endpoint::Messages => messages::error_event(out),
            _ => chat::error_event(self, out),
        }
    }
}

/// Splits a text into what counts as its tokens here: words with the blank before them, four bytes at most
/// for long runs without blanks.
pub(crate) fn tokens_of(text: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    let mut piece = String::new();
    for c in text.chars() {
        if (c == ' ' && !piece.trim().is_empty()) || piece.len() >= 8 {
            pieces.push(std::mem::take(&mut piece));
        }
        piece.push(c);
    }
    if !piece.is_empty() {
        pieces.push(piece);
    }
    pieces
}

/// How many tokens [`tokens_of`] finds.
pub(crate) fn token_count(text: &str) -> u64 {
    tokens_of(text).len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_put_together_are_the_text() {
        for text in ["", "a", "hello wide world", JSON_ANSWER, "  two  blanks ", "ünïcödé-without-any-blank"]
        {
            assert_eq!(tokens_of(text).concat(), text);
        }
        assert_eq!(token_count("hello wide world"), 3);
    }
}
