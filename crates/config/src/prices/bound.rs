//! The greatest cost that a request can have, before it is sent.
//!
//! The whole input is taken at the dearest rate of any kind of input that the request can contain, the whole output
//! at that of any kind it can ask for, each at every context length, service tier and time of day that it may meet.
//! As the parts of a usage add up to its whole, no usage that fits the request costs more. Tokens are bounded by
//! bytes: each token of a text covers at least one byte of it, and what a chat template adds around a message is
//! shorter than the JSON around it; what tools and a system of the provider's own may add is a constant.

use super::cost::{MILLION, rounded_up};
use super::price::{FAST, Kind, Price, Rate, Rates};

/// What a provider may add to the input that the request does not hold, in tokens: instructions for tools (hundreds
/// at Anthropic), the frame of a chat.
const OVERHEAD_TOKENS: u64 = 4_096;
/// The most that one image is charged as: small `OpenAI` models multiply their tiles to 36,835, no one else comes near.
const IMAGE_TOKENS_MAX: u64 = 40_000;

/// What is known of a request before it is sent.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each read off the request")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// Bytes of the body without the base64 of media.
    pub text_bytes: u64,
    /// Bytes of base64.
    pub media_bytes: u64,
    /// Images.
    pub images: u64,
    /// Pieces of audio; they lie in `media_bytes`.
    pub audio: u64,
    /// Files, documents and videos, or anything else whose size in tokens the request does not show.
    pub files: u64,
    /// The input continues something that lies at the provider (a stored answer or prompt).
    pub continues: bool,
    /// The cap on output tokens times the number of answers; 0 where the endpoint generates none, `None` where no
    /// cap is set.
    pub output_tokens_max: Option<u64>,
    /// The most searches that a tool of the provider's may do; 0 where the request has none, `None` where nothing
    /// bounds them.
    pub web_searches_max: Option<u64>,
    /// The service tier asked for. Without one (or with `auto`) the provider chooses.
    pub tier: Option<&'a str>,
    /// Anthropic's fast mode was asked for.
    pub fast: bool,
    /// Something is to be kept in the cache for an hour.
    pub cache_hour: bool,
    /// The answer may be spoken.
    pub audio_out: bool,
}

impl Request<'_> {
    /// The most input tokens that it can be charged. `None`: neither bytes nor the model's context bound it.
    pub fn input_tokens_max(&self, context_tokens: Option<u64>) -> Option<u64> {
        if self.files > 0 || self.continues {
            return context_tokens;
        }
        let media = if self.audio > 0 { self.media_bytes } else { 0 };
        let images = self.images.checked_mul(IMAGE_TOKENS_MAX)?;
        OVERHEAD_TOKENS.checked_add(self.text_bytes)?.checked_add(media)?.checked_add(images)
    }

    fn input_kinds(&self) -> impl Iterator<Item = Kind> {
        let (audio, images, video) =
            (self.audio + self.files > 0, self.images + self.files > 0, self.files > 0);
        let unseen = self.continues;
        let kinds = [
            (Kind::Input, true),
            (Kind::CacheRead, true),
            (Kind::CacheWrite, true),
            (Kind::CacheWriteHour, self.cache_hour),
            (Kind::InputAudio, audio || unseen),
            (Kind::CachedAudio, audio || unseen),
            (Kind::InputImage, images || unseen),
            (Kind::CachedImage, images || unseen),
            (Kind::InputVideo, video || unseen),
        ];
        kinds.into_iter().filter(|(_, may)| *may).map(|(kind, _)| kind)
    }

    fn output_kinds(&self) -> impl Iterator<Item = Kind> {
        let kinds = [
            (Kind::Output, true),
            (Kind::Reasoning, true),
            (Kind::OutputAudio, self.audio_out),
            // What has a rate for these makes them unasked.
            (Kind::OutputImage, true),
            (Kind::OutputVideo, true),
        ];
        kinds.into_iter().filter(|(_, may)| *may).map(|(kind, _)| kind)
    }

    /// Whether the tier asked for has a price: those that are no dearer than others need none.
    fn is_priced_by(&self, variants: &[(Box<str>, super::When, Rates)]) -> bool {
        let Some(tier) = self.tier else { return true };
        let plain = ["auto", "default", "standard", "standard_only", "on_demand", "flex", "batch"];
        plain.contains(&tier) || variants.iter().any(|(name, ..)| !name.contains('=') && &**name != "flex")
    }

    /// Whether the provider may charge this variant.
    fn may_meet(&self, variant: &str) -> bool {
        match self.tier {
            _ if variant == FAST => self.fast,
            _ if variant.contains('=') => true,
            Some("default" | "standard" | "standard_only" | "on_demand") => false,
            // Which of its tiers a provider means by another word (`fast` is `priority` at OpenRouter) is its own affair.
            Some(tier @ ("flex" | "priority" | "batch")) => tier == variant,
            Some(_) | None => true,
        }
    }
}

/// The dearest that a request can meet: what its whole input costs, and a token of its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dearest {
    /// Millionths of a nano-dollar.
    fixed: u128,
    /// Nano-dollars a million.
    output: u64,
    ceiling: Ceiling,
}

/// What a provider that chooses among others may take, as such prices are listed, so that no choice of its costs more
/// than the bound: those of plain input and output. That what is dearer than those (to be cached, say) is so there by
/// no larger factor than in the table is taken for granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ceiling {
    /// Nano-dollars a million tokens of input.
    pub input: u64,
    /// Nano-dollars a million tokens of output; `None` where there is none.
    pub output: Option<u64>,
    /// Nano-dollars for the request itself.
    pub request: u64,
    /// Nano-dollars for an image; `None` where there is none. The half of what its tokens can cost, which come on top:
    /// far from any price, so it needs no hair.
    pub image: Option<u64>,
}

impl Ceiling {
    fn or(self, other: Self) -> Self {
        Self {
            input: self.input.max(other.input),
            output: self.output.max(other.output),
            request: self.request.max(other.request),
            image: self.image.max(other.image),
        }
    }
}

impl Dearest {
    /// For whoever may meet either: the dearer of each.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            fixed: self.fixed.max(other.fixed),
            output: self.output.max(other.output),
            ceiling: self.ceiling.or(other.ceiling),
        }
    }

    /// The most that it costs with so many tokens of output, in nano-dollars.
    pub fn bound(&self, output_tokens: u64) -> u64 {
        let output = u128::from(output_tokens) * u128::from(self.output);
        rounded_up(self.fixed.saturating_add(output))
    }

    /// The greatest output whose bound `left_nano_usd` affords. `None`: even the input is too dear.
    pub fn output_tokens_affordable(&self, left_nano_usd: u64) -> Option<u64> {
        let left = (u128::from(left_nano_usd) * MILLION).checked_sub(self.fixed)?;
        Some(match self.output {
            0 => u64::MAX,
            rate => u64::try_from(left / u128::from(rate)).unwrap_or(u64::MAX),
        })
    }

    /// What may be taken where the one that is asked chooses among others.
    pub fn ceiling(&self) -> Ceiling {
        self.ceiling
    }

    /// With a ceiling a hair above the prices of the table, and with a bound that holds up to there. Who works with
    /// fractions may come out beside a price that is the same to the digit, and would never be within it.
    #[must_use]
    pub fn with_a_hair(self) -> Self {
        let Self { fixed, output, ceiling } = self;
        let above = |price: u64| price.saturating_add(u64::from(price > 0));
        // What is dearer than a price of the ceiling grows with it.
        let share = |amount: u128, of: u64| if of == 0 { 0 } else { amount.div_ceil(u128::from(of)) };
        let by_request = if ceiling.request > 0 { 2 * MILLION } else { 0 };
        let more = share(u128::from(output), ceiling.output.unwrap_or(0));
        Self {
            fixed: fixed.saturating_add(share(fixed, ceiling.input)).saturating_add(by_request),
            output: output.saturating_add(u64::try_from(more).unwrap_or(u64::MAX)),
            ceiling: Ceiling {
                input: above(ceiling.input),
                output: ceiling.output.map(above),
                request: above(ceiling.request),
                image: ceiling.image,
            },
        }
    }
}

impl Price {
    /// The most that one attempt begun within the day can cost, in nano-dollars. `None`: there is no such bound.
    pub fn bound(&self, request: &Request<'_>, unix_s: u64) -> Option<u64> {
        Some(self.dearest(request, unix_s)?.bound(request.output_tokens_max?))
    }

    /// The dearest that an attempt begun within the day can meet. Of the request's output only counts whether it has
    /// any (`Some(0)`: none). `None`: nothing bounds it.
    pub fn dearest(&self, request: &Request<'_>, unix_s: u64) -> Option<Dearest> {
        let input_max = request.input_tokens_max(self.context_for_bound())?;
        if !request.is_priced_by(&self.variants) {
            return None;
        }
        let mut entries: Vec<&Rates> = self.within_a_day(unix_s).collect();
        // What every standard price must have, for a variant may or may not replace it.
        let priced = |kind| entries.iter().all(|rates| rates.get(kind).is_some());
        let needs_output = request.output_tokens_max != Some(0);
        if entries.is_empty() || !priced(Kind::Input) || (needs_output && !priced(Kind::Output)) {
            return None;
        }
        entries.extend(self.variants.iter().filter(|v| request.may_meet(&v.0)).map(|v| &v.2));
        if entries.iter().any(|rates| rates.unmetered) {
            return None;
        }
        let most = |kind| {
            let rates = entries.iter().filter_map(|rates| rates.get(kind));
            rates.map(|rate: &Rate| rate.dearest(input_max)).max()
        };
        let input = request.input_kinds().filter_map(most).max()?;
        let output = request.output_kinds().filter_map(most).max().unwrap_or(0);
        let searches = match (request.web_searches_max?, most(Kind::WebSearches)) {
            (0, _) => 0,
            (count, rate) => u128::from(count) * u128::from(rate?),
        };
        let by_request = most(Kind::Requests).unwrap_or(0);
        let listed = most(Kind::Input)?;
        let an_image = u128::from(listed) * u128::from(IMAGE_TOKENS_MAX / 2);
        let ceiling = Ceiling {
            input: listed,
            output: most(Kind::Output).filter(|_| needs_output),
            request: rounded_up(u128::from(by_request)),
            image: (request.images > 0).then(|| rounded_up(an_image)),
        };
        let fixed = (u128::from(input_max) * u128::from(input)).checked_add(searches)?;
        Some(Dearest { fixed: fixed.checked_add(u128::from(by_request))?, output, ceiling })
    }

    /// The context as a bound of the input: not where a rate begins beyond it, for then it is not the whole truth.
    fn context_for_bound(&self) -> Option<u64> {
        let all = self.standard.iter().map(|s| &s.1).chain(self.variants.iter().map(|v| &v.2));
        let steps = all.flat_map(|rates| &rates.list).flat_map(|(_, rate)| &rate.above);
        let farthest = steps.map(|(start, _)| *start).max().unwrap_or(0);
        self.context_tokens.filter(|context| *context > farthest)
    }
}
