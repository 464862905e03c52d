//! What an answer used, in one shape for every dialect.
//!
//! Dialects disagree on what the numbers include. Here `input_tokens` is the whole prompt, cached parts included (as
//! `OpenAI` counts; Anthropic leaves them out), and `output_tokens` is everything that was generated, reasoning included
//! (some servers leave it out and show it only in their total). Money is nano-dollars, read from decimal text.
//!
//! What a token costs is not known here.

mod quick;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::answer::Raw;
use crate::decimal;
use crate::head::BodyKind;

/// Names longer than this are cut, in bytes.
const NAME_BYTES_MAX: usize = 200;

/// Tokens and money of one answer. What was not said is zero or `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tokens of the whole prompt, cached ones included.
    pub input_tokens: u64,
    /// Tokens generated, reasoning included.
    pub output_tokens: u64,
    /// Of the input: read from the provider's prompt cache.
    pub cached_input_tokens: u64,
    /// Of the input: written to the provider's prompt cache.
    pub cache_write_tokens: u64,
    /// Of the output: reasoning.
    pub reasoning_tokens: u64,
    /// Of the input: audio.
    pub input_audio_tokens: u64,
    /// Of the output: audio.
    pub output_audio_tokens: u64,
    /// What the provider says it charged, in nano-dollars.
    pub cost_nano_usd: Option<u64>,
    /// What the provider behind an aggregator charged its own customer (with `is_byok` it comes on top).
    pub upstream_cost_nano_usd: Option<u64>,
    /// An aggregator used a key that its customer brought along.
    pub is_byok: bool,
    /// The model that answered, which may be another than asked for.
    pub model: Option<Box<str>>,
    /// The tier that served it.
    pub service_tier: Option<Box<str>>,
}

impl Usage {
    /// Takes in a later report of the same answer. Reports of a stream are cumulative, and later ones leave out what
    /// did not change, so every count is the greatest that was seen.
    pub fn merge(&mut self, later: &Usage) {
        self.input_tokens = self.input_tokens.max(later.input_tokens);
        self.output_tokens = self.output_tokens.max(later.output_tokens);
        self.cached_input_tokens = self.cached_input_tokens.max(later.cached_input_tokens);
        self.cache_write_tokens = self.cache_write_tokens.max(later.cache_write_tokens);
        self.reasoning_tokens = self.reasoning_tokens.max(later.reasoning_tokens);
        self.input_audio_tokens = self.input_audio_tokens.max(later.input_audio_tokens);
        self.output_audio_tokens = self.output_audio_tokens.max(later.output_audio_tokens);
        self.cost_nano_usd = self.cost_nano_usd.max(later.cost_nano_usd);
        self.upstream_cost_nano_usd = self.upstream_cost_nano_usd.max(later.upstream_cost_nano_usd);
        self.is_byok |= later.is_byok;
        if later.model.is_some() {
            self.model.clone_from(&later.model);
        }
        if later.service_tier.is_some() {
            self.service_tier.clone_from(&later.service_tier);
        }
    }
}

/// The usage in a whole (not streamed) answer. `None` if the body says nothing of it, or is no JSON object. Counting
/// tokens uses none.
pub fn from_body(kind: BodyKind, body: &[u8]) -> Option<Usage> {
    if kind == BodyKind::CountTokens {
        return None;
    }
    crate::answer::parse(body)?.usage()
}

/// Reads a `usage` object; `None` if it holds no count and no cost that is known.
pub(crate) fn from_raw(raw: &str) -> Option<Usage> {
    let said = quick::said(raw).or_else(|| serde_json::from_str(raw).ok())?;
    said.normalised()
}

/// The name in a raw JSON string, bounded.
pub(crate) fn name(raw: Option<&str>) -> Option<Box<str>> {
    let text = crate::head::unescape(raw?)?;
    if text.is_empty() {
        return None;
    }
    Some(crate::text::cut(&text, NAME_BYTES_MAX).into())
}

/// A `usage` object of any dialect: their field names do not clash.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Said<'a> {
    // OpenAI chat, completions, embeddings.
    prompt_tokens: Count,
    completion_tokens: Count,
    total_tokens: Count,
    prompt_tokens_details: Details,
    completion_tokens_details: Details,
    // DeepSeek.
    prompt_cache_hit_tokens: Count,
    // Responses and Anthropic.
    input_tokens: Count,
    output_tokens: Count,
    input_tokens_details: Details,
    output_tokens_details: Details,
    // Anthropic: what `input_tokens` leaves out.
    cache_creation_input_tokens: Count,
    cache_read_input_tokens: Count,
    // OpenRouter.
    #[serde(borrow)]
    cost: Option<Raw<'a>>,
    #[serde(borrow)]
    cost_details: Option<Raw<'a>>,
    #[serde(borrow)]
    is_byok: Option<Raw<'a>>,
    #[serde(borrow)]
    service_tier: Option<Raw<'a>>,
}

impl Said<'_> {
    fn normalised(&self) -> Option<Usage> {
        let cost = self.cost.and_then(money);
        let counts = [
            self.prompt_tokens,
            self.completion_tokens,
            self.total_tokens,
            self.input_tokens,
            self.output_tokens,
        ];
        if counts.iter().all(|count| count.0.is_none()) && cost.is_none() {
            return None;
        }
        let beside =
            self.cache_creation_input_tokens.get().saturating_add(self.cache_read_input_tokens.get());
        let input = self.prompt_tokens.0.unwrap_or_else(|| self.input_tokens.get().saturating_add(beside));
        let output = self.completion_tokens.or(self.output_tokens).get();
        let reasoning =
            self.completion_tokens_details.0.reasoning.or(self.output_tokens_details.0.reasoning).get();
        // Some servers leave reasoning out of the completion and count it only in the total; billing does not. Where
        // only the total is given (embeddings of some servers), all of it is input.
        let (input, output) = match (self.total_tokens.0, self.prompt_tokens.or(self.input_tokens).0) {
            (Some(total), None) if input == 0 => (total.saturating_sub(output), output),
            (Some(total), _) => (input, output.max(total.saturating_sub(input))),
            (None, _) => (input, output),
        };
        let details = &self.prompt_tokens_details.0;
        let more = &self.input_tokens_details.0;
        let upstream_cost = self
            .cost_details
            .and_then(|raw| serde_json::from_str::<CostDetails<'_>>(raw.get()).ok())
            .and_then(|details| details.upstream_inference_cost.and_then(money));
        Some(Usage {
            input_tokens: input,
            output_tokens: output,
            cached_input_tokens: details
                .cached
                .or(more.cached)
                .or(self.cache_read_input_tokens)
                .or(self.prompt_cache_hit_tokens)
                .get(),
            cache_write_tokens: details
                .cache_write
                .or(more.cache_write)
                .or(self.cache_creation_input_tokens)
                .get(),
            reasoning_tokens: reasoning,
            input_audio_tokens: details.audio.or(more.audio).get(),
            output_audio_tokens: self
                .completion_tokens_details
                .0
                .audio
                .or(self.output_tokens_details.0.audio)
                .get(),
            cost_nano_usd: cost,
            upstream_cost_nano_usd: upstream_cost,
            is_byok: self.is_byok.is_some_and(|raw| raw.get() == "true"),
            model: None,
            service_tier: name(self.service_tier.map(Raw::get)),
        })
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CostDetails<'a> {
    #[serde(borrow)]
    upstream_inference_cost: Option<Raw<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct DetailCounts {
    #[serde(rename = "cached_tokens")]
    cached: Count,
    #[serde(rename = "cache_write_tokens")]
    cache_write: Count,
    #[serde(rename = "reasoning_tokens")]
    reasoning: Count,
    #[serde(rename = "audio_tokens")]
    audio: Count,
}

/// A `…_details` object, or `null`.
#[derive(Default)]
struct Details(DetailCounts);

impl<'de> Deserialize<'de> for Details {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Details(Option::<DetailCounts>::deserialize(deserializer)?.unwrap_or_default()))
    }
}

/// An amount in dollars, as a number or a string, in nano-dollars.
fn money(raw: Raw<'_>) -> Option<u64> {
    decimal::scaled(raw.get().trim_matches('"'), 9)
}

/// A count of tokens; anything that is none (null, a negative number, text) is absent rather than an error.
#[derive(Clone, Copy, Default)]
struct Count(Option<u64>);

impl Count {
    fn get(self) -> u64 {
        self.0.unwrap_or(0)
    }

    fn or(self, other: Count) -> Count {
        Count(self.0.or(other.0))
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CountVisitor)
    }
}

struct CountVisitor;

impl<'de> Visitor<'de> for CountVisitor {
    type Value = Count;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a count")
    }

    fn visit_u64<E>(self, count: u64) -> Result<Count, E> {
        Ok(Count(Some(count)))
    }

    fn visit_i64<E>(self, count: i64) -> Result<Count, E> {
        Ok(Count(u64::try_from(count).ok()))
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked; `as` saturates")]
    fn visit_f64<E>(self, count: f64) -> Result<Count, E> {
        Ok(Count((count.is_finite() && count >= 0.0).then_some(count as u64)))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Count, E> {
        Ok(Count(None))
    }

    fn visit_str<E>(self, text: &str) -> Result<Count, E> {
        Ok(Count(text.parse().ok()))
    }

    fn visit_unit<E>(self) -> Result<Count, E> {
        Ok(Count(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Count, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Count(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Count, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Count(None))
    }
}
