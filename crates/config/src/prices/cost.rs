//! What an answer cost, from what it used.

use super::price::{At, Kind, Price};

/// Prices are for so many.
pub(super) const MILLION: u128 = 1_000_000;

/// What an answer used. Special tokens are parts of `input_tokens` and `output_tokens`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All input tokens, cached ones included.
    pub input_tokens: u64,
    /// All output tokens, reasoning included.
    pub output_tokens: u64,
    /// Of the input: read from the cache.
    pub cache_read_tokens: u64,
    /// Of the input: written to the cache, for however long.
    pub cache_write_tokens: u64,
    /// Of those written to the cache: to be kept an hour.
    pub cache_write_hour_tokens: u64,
    /// Of the input: audio.
    pub input_audio_tokens: u64,
    /// Of the input: images.
    pub input_image_tokens: u64,
    /// Of the input: video.
    pub input_video_tokens: u64,
    /// Of the input: audio that was read from the cache (counted in both of them as well).
    pub cached_audio_tokens: u64,
    /// Of the input: images that were read from the cache (counted in both of them as well).
    pub cached_image_tokens: u64,
    /// Of the output: audio.
    pub output_audio_tokens: u64,
    /// Of the output: images.
    pub output_image_tokens: u64,
    /// Of the output: video.
    pub output_video_tokens: u64,
    /// Of the output: reasoning.
    pub reasoning_tokens: u64,
    /// Searches of the web by the provider's own tool.
    pub web_searches: u64,
}

impl Usage {
    /// Parts of the input, each token once, dearer kinds first: each with the rates to look for, in order.
    fn input_parts(&self) -> [(u64, &'static [Kind]); 8] {
        use Kind::{
            CacheRead, CacheWrite, CacheWriteHour, CachedAudio, CachedImage, Input, InputAudio, InputImage,
            InputVideo,
        };
        let audio = self.input_audio_tokens.saturating_sub(self.cached_audio_tokens);
        let images = self.input_image_tokens.saturating_sub(self.cached_image_tokens);
        let cached_media = self.cached_audio_tokens.saturating_add(self.cached_image_tokens);
        let short = self.cache_write_tokens.saturating_sub(self.cache_write_hour_tokens);
        [
            (self.cached_audio_tokens, &[CachedAudio, InputAudio, CacheRead, Input]),
            (self.cached_image_tokens, &[CachedImage, InputImage, CacheRead, Input]),
            (audio, &[InputAudio, Input]),
            (images, &[InputImage, Input]),
            (self.input_video_tokens, &[InputVideo, Input]),
            (self.cache_write_hour_tokens, &[CacheWriteHour, CacheWrite, Input]),
            (short, &[CacheWrite, Input]),
            (self.cache_read_tokens.saturating_sub(cached_media), &[CacheRead, Input]),
        ]
    }

    fn output_parts(&self) -> [(u64, &'static [Kind]); 4] {
        use Kind::{Output, OutputAudio, OutputImage, OutputVideo, Reasoning};
        [
            (self.output_audio_tokens, &[OutputAudio, Output]),
            (self.output_image_tokens, &[OutputImage, Output]),
            (self.output_video_tokens, &[OutputVideo, Output]),
            (self.reasoning_tokens, &[Reasoning, Output]),
        ]
    }
}

impl Price {
    /// What the usage costs, in nano-dollars: exact, rounded up once. `None` if something was used that has no known
    /// price.
    pub fn cost(&self, usage: &Usage, at: &At<'_>) -> Option<u64> {
        if self.is_unmetered(at) {
            return None;
        }
        let mut sum = Sum { price: self, at, input_tokens: usage.input_tokens, total: 0 };
        let mut rest = usage.input_tokens;
        for (count, kinds) in usage.input_parts() {
            let count = count.min(rest);
            rest -= count;
            sum.add(count, kinds)?;
        }
        sum.add(rest, &[Kind::Input])?;
        let mut rest = usage.output_tokens;
        for (count, kinds) in usage.output_parts() {
            let count = count.min(rest);
            rest -= count;
            sum.add(count, kinds)?;
        }
        sum.add(rest, &[Kind::Output])?;
        sum.add(usage.web_searches, &[Kind::WebSearches])?;
        if self.rate(Kind::Requests, at).is_some() {
            sum.add(1, &[Kind::Requests])?;
        }
        Some(rounded_up(sum.total))
    }
}

struct Sum<'a> {
    price: &'a Price,
    at: &'a At<'a>,
    input_tokens: u64,
    total: u128,
}

impl Sum<'_> {
    /// Adds so many at the first rate there is.
    fn add(&mut self, count: u64, kinds: &[Kind]) -> Option<()> {
        if count > 0 {
            let rate = kinds.iter().find_map(|kind| self.price.rate(*kind, self.at))?;
            let amount = u128::from(count) * u128::from(rate.at(self.input_tokens));
            self.total = self.total.saturating_add(amount);
        }
        Some(())
    }
}

/// Millionths of a nano-dollar as nano-dollars.
pub(super) fn rounded_up(millionths: u128) -> u64 {
    u64::try_from(millionths.div_ceil(MILLION)).unwrap_or(u64::MAX)
}
