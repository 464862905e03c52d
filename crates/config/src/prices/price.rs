//! A model's price: rates by kind, by context length, by date and time of day, by service tier.

/// What is priced. Special tokens are parts of the whole input or output; what has no rate of its own is charged as
/// what it is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Input tokens without a rate of their own.
    Input,
    /// Output tokens without a rate of their own.
    Output,
    /// Input read from the provider's cache.
    CacheRead,
    /// Input written to the provider's cache.
    CacheWrite,
    /// Input written to the cache to be kept an hour.
    CacheWriteHour,
    /// Audio heard.
    InputAudio,
    /// Audio spoken.
    OutputAudio,
    /// Images seen.
    InputImage,
    /// Images drawn.
    OutputImage,
    /// Audio read from the cache.
    CachedAudio,
    /// Images read from the cache.
    CachedImage,
    /// Video seen.
    InputVideo,
    /// Video made.
    OutputVideo,
    /// Reasoning.
    Reasoning,
    /// The request itself.
    Requests,
    /// Searches of the web by the provider's own tool.
    WebSearches,
}

impl Kind {
    /// By its letter in the table.
    pub(super) fn of_letter(letter: char) -> Option<Self> {
        Some(match letter {
            'i' => Self::Input,
            'o' => Self::Output,
            'c' => Self::CacheRead,
            'w' => Self::CacheWrite,
            'W' => Self::CacheWriteHour,
            'a' => Self::InputAudio,
            'A' => Self::OutputAudio,
            'g' => Self::InputImage,
            'G' => Self::OutputImage,
            'x' => Self::CachedAudio,
            'y' => Self::CachedImage,
            'v' => Self::InputVideo,
            'V' => Self::OutputVideo,
            'r' => Self::Reasoning,
            'q' => Self::Requests,
            's' => Self::WebSearches,
            _ => return None,
        })
    }
}

/// Nano-dollars for a million, by the length of the whole input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rate {
    /// For short input.
    pub base: u64,
    /// For input of more than so many tokens: the rate of everything, not only of what is beyond. Ascending.
    pub above: Vec<(u64, u64)>,
}

impl Rate {
    /// The same for any length.
    pub fn flat(base: u64) -> Self {
        Self { base, above: Vec::new() }
    }

    /// For a whole input of this many tokens.
    pub fn at(&self, input_tokens: u64) -> u64 {
        self.above.iter().rev().find(|(start, _)| input_tokens > *start).map_or(self.base, |(_, rate)| *rate)
    }

    /// The dearest that an input of at most so many tokens can meet.
    pub fn dearest(&self, input_tokens_max: u64) -> u64 {
        let reached = self.above.iter().filter(|(start, _)| input_tokens_max > *start);
        reached.map(|(_, rate)| *rate).fold(self.base, u64::max)
    }
}

/// Rates by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// At most one for each kind.
    pub list: Vec<(Kind, Rate)>,
    /// Something is priced by what no usage tells (hours of audio, pages, characters): neither a cost nor a bound
    /// can be computed.
    pub unmetered: bool,
}

impl Rates {
    /// The rate of a kind, if it has one.
    pub fn get(&self, kind: Kind) -> Option<&Rate> {
        self.list.iter().find(|(k, _)| *k == kind).map(|(_, rate)| rate)
    }
}

/// When a price holds, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At any time.
    Always,
    /// From this day on (days since 1970-01-01).
    From(u64),
    /// Each day from one minute to another, over midnight if the second is the smaller one.
    Daily(u64, u64),
}

/// Seconds in a day.
const DAY_S: u64 = 86_400;

impl When {
    pub(super) fn holds(self, unix_s: u64) -> bool {
        match self {
            Self::Always => true,
            Self::From(day) => unix_s / DAY_S >= day,
            Self::Daily(from, to) => {
                let minute = unix_s % DAY_S / 60;
                if to < from { minute >= from || minute < to } else { from <= minute && minute < to }
            }
        }
    }

    /// Whether it holds during the whole day that begins at this instant, and whether at any moment of it.
    fn over_a_day(self, unix_s: u64) -> (bool, bool) {
        match self {
            Self::Always => (true, true),
            Self::From(_) => (self.holds(unix_s), self.holds(unix_s + DAY_S)),
            Self::Daily(..) => (false, true),
        }
    }
}

/// Which of a model's prices applies.
#[derive(Clone, Copy, Debug, Default)]
pub struct At<'a> {
    /// When the attempt was sent (seconds since 1970-01-01 UTC).
    pub unix_s: u64,
    /// The service tier that the answer names.
    pub tier: Option<&'a str>,
    /// The answer came at the dearer speed that Anthropic calls fast.
    pub fast: bool,
}

/// What a model costs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// The most tokens that its input can have, where that is known.
    pub context_tokens: Option<u64>,
    /// The last whose time it is counts; if it is nobody's, the first.
    pub standard: Vec<(When, Rates)>,
    /// Rates over the standard ones, by service tier (or `speed=fast`, `route=…`): for each kind the first that
    /// applies.
    pub variants: Vec<(Box<str>, When, Rates)>,
}

/// The variant of Anthropic's fast mode.
pub(super) const FAST: &str = "speed=fast";

impl Price {
    /// The same rates always.
    pub fn of_rates(rates: Rates) -> Self {
        Self { context_tokens: None, standard: vec![(When::Always, rates)], variants: Vec::new() }
    }

    /// The standard rates at an instant.
    pub(super) fn standard_at(&self, unix_s: u64) -> Option<&Rates> {
        let holds = self.standard.iter().rev().find(|(when, _)| when.holds(unix_s));
        holds.or(self.standard.first()).map(|(_, rates)| rates)
    }

    /// What is asked for a kind at the standard tier, in nano-dollars for a million, for a whole input of so many tokens.
    pub fn listed(&self, kind: Kind, input_tokens: u64, unix_s: u64) -> Option<u64> {
        Some(self.standard_at(unix_s)?.get(kind)?.at(input_tokens))
    }

    /// The rates of variants that apply.
    fn variants_at<'a>(&'a self, at: &'a At<'a>) -> impl Iterator<Item = &'a Rates> {
        let named = |name: &str| at.tier == Some(name) || (at.fast && name == FAST);
        self.variants.iter().filter(move |(name, when, _)| named(name) && when.holds(at.unix_s)).map(|v| &v.2)
    }

    /// The rate of a kind.
    pub(super) fn rate<'a>(&'a self, kind: Kind, at: &'a At<'a>) -> Option<&'a Rate> {
        let special = self.variants_at(at).find_map(|rates| rates.get(kind));
        special.or_else(|| self.standard_at(at.unix_s)?.get(kind))
    }

    /// Whether something that no usage tells is charged.
    pub(super) fn is_unmetered(&self, at: &At<'_>) -> bool {
        self.standard_at(at.unix_s).is_none_or(|r| r.unmetered) || self.variants_at(at).any(|r| r.unmetered)
    }

    /// Every standard price that may hold at some moment of the day that begins now.
    pub(super) fn within_a_day(&self, unix_s: u64) -> impl Iterator<Item = &Rates> {
        let last_sure = self.standard.iter().rposition(|(when, _)| when.over_a_day(unix_s).0).unwrap_or(0);
        let possible = self.standard.iter().enumerate().skip(last_sure);
        possible
            .filter(move |(i, (when, _))| *i == last_sure || when.over_a_day(unix_s).1)
            .map(|(_, (_, rates))| rates)
    }
}
