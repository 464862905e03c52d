//! What an answer to a check says of the key. Pure: bytes in, a judgement out.
//!
//! Careful in one direction: only what speaks of the key itself is held against it. An answer that is late, broken,
//! limited, forbidden (some keys may call models but not list them) or not understood leaves it as it was.

use super::{Checked, Way};
use keymux_wire::error::{self, Dialect, ErrorFacts, Profile, Sign};
use keymux_wire::key::{self, Balance, Budget, KeyFacts};
use keymux_wire::limits::{self, Measurement};
use keymux_wire::owner;

/// A key that ends sooner is told of.
pub const EXPIRY_NS: u64 = 7 * DAY_NS;
const DAY_NS: u64 = 86_400_000_000_000;
/// Less than this share of a limit is little.
const LOW_SHARE: u64 = 10;

/// How a key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its provider takes it.
    Works,
    /// Its provider does not: revoked, disabled, expired, mistyped.
    Refused(String),
    /// What it may spend is used up.
    Capped {
        /// When it may go on, in nanoseconds since 1970, where that is known.
        until_unix_ns: Option<u64>,
        /// Whose limit, in words.
        what: String,
    },
    /// Its account has no money.
    NoMoney {
        /// The provider stated it as a fact, and did not just refuse.
        stated: bool,
        /// In words.
        what: String,
    },
    /// It is of a kind that cannot be used for calls.
    Unfit(&'static str),
    /// Nobody knows: the provider was not reached, or said something else.
    Unknown(String),
    /// It was not asked.
    NotAsked(&'static str),
}

impl Verdict {
    /// All words, each in its place.
    pub const WORDS: [&'static str; 7] =
        ["works", "refused", "used up", "no credit", "unfit", "unknown", "not checked"];

    /// In a word.
    pub fn word(&self) -> &'static str {
        Self::WORDS[self.place()]
    }

    /// Its place among [`Verdict::WORDS`].
    pub fn place(&self) -> usize {
        match self {
            Self::Works => 0,
            Self::Refused(_) => 1,
            Self::Capped { .. } => 2,
            Self::NoMoney { .. } => 3,
            Self::Unfit(_) => 4,
            Self::Unknown(_) => 5,
            Self::NotAsked(_) => 6,
        }
    }

    /// What there is to say beside the word.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Works => None,
            Self::Refused(text) | Self::Unknown(text) => Some(text),
            Self::Capped { what, .. } | Self::NoMoney { what, .. } => Some(what),
            Self::Unfit(text) | Self::NotAsked(text) => Some(text),
        }
    }

    /// Whether calls can go out with it; `None`: nobody knows.
    pub fn is_usable(&self) -> Option<bool> {
        match self {
            Self::Works => Some(true),
            Self::Refused(_) | Self::Capped { .. } | Self::NoMoney { .. } | Self::Unfit(_) => Some(false),
            Self::Unknown(_) | Self::NotAsked(_) => None,
        }
    }
}

/// An answer, as it came.
pub struct Answer<'a, H> {
    /// What was asked.
    pub way: &'a Way,
    /// What its error bodies mean.
    pub dialect: Dialect,
    /// What its limit headers mean.
    pub profile: Profile,
    /// The status.
    pub status: u16,
    /// The headers; names in lower case.
    pub headers: H,
    /// The body, without the key's own secret.
    pub body: &'a [u8],
    /// Now, in nanoseconds since 1970.
    pub unix_ns: u64,
}

/// What an answer says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Of the key, where it could be read.
    pub facts: Option<Box<KeyFacts>>,
    /// Of the account's money.
    pub balance: Option<Balance>,
    /// Whose it is, as a digest.
    pub owner: Option<u64>,
    /// Of limits.
    pub limits: Vec<Measurement>,
}

/// Judges an answer.
pub fn of_answer<'h>(
    answer: &Answer<'_, impl Iterator<Item = (&'h [u8], &'h [u8])> + Clone>,
) -> (Verdict, Said) {
    let Answer { dialect, profile, status, body, unix_ns, .. } = *answer;
    let mut said = Said { owner: owner::read(answer.headers.clone()), ..Said::default() };
    limits::read(profile, answer.headers.clone(), unix_ns, &mut said.limits);
    if !(200..300).contains(&status) {
        let facts = error::read(dialect, profile, status, answer.headers.clone(), body, unix_ns);
        return (of_refusal(answer.way, &facts, unix_ns), said);
    }
    if let Some(facts) = error::read_in_ok(dialect, body) {
        return (of_refusal(answer.way, &facts, unix_ns), said);
    }
    let verdict = match answer.way {
        Way::Key => match key::read(body) {
            Some(facts) => {
                said.owner = facts.owner.digest();
                let verdict = of_facts(&facts, unix_ns);
                said.facts = Some(Box::new(facts));
                verdict
            }
            None => not_understood("GET /key"),
        },
        Way::Balance => match key::read_balance(body) {
            Some(balance) => {
                let verdict = if balance.available {
                    Verdict::Works
                } else {
                    let what = "its account has no balance for calls".to_owned();
                    Verdict::NoMoney { stated: true, what }
                };
                said.balance = Some(balance);
                verdict
            }
            None => not_understood("GET /user/balance"),
        },
        Way::Models if key::is_list(body) => Verdict::Works,
        Way::Models => not_understood("GET /models"),
        Way::Probe(_) if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok() => Verdict::Works,
        Way::Probe(_) => not_understood("the probe"),
        Way::None(why) => Verdict::NotAsked(why),
    };
    (verdict, said)
}

fn not_understood(what: &str) -> Verdict {
    Verdict::Unknown(format!("the answer to {what} is not one that a provider gives"))
}

fn of_facts(facts: &KeyFacts, unix_ns: u64) -> Verdict {
    if facts.is_management_key {
        return Verdict::Unfit("a management key, which its provider refuses on every call to a model");
    }
    if facts.expires_at_unix_ns.is_some_and(|at| at <= unix_ns) {
        return Verdict::Refused("it has expired".to_owned());
    }
    match facts.spent_budget(unix_ns) {
        None => Verdict::Works,
        Some(budget) => {
            let until_unix_ns = budget.whole_again(unix_ns);
            Verdict::Capped { until_unix_ns, what: format!("{} is used up", layer(budget)) }
        }
    }
}

/// A budget in words.
fn layer(budget: &Budget) -> String {
    let of = budget.limit.map(|limit| format!(" of {} $", usd(limit))).unwrap_or_default();
    let every = budget.reset.map(|reset| format!(" {}", reset.word())).unwrap_or_default();
    match budget.scope.as_deref() {
        None | Some("key_limit" | "api_key") => format!("its own{every} limit{of}"),
        Some(scope) => format!("the{every} budget{of} of its {}", scope.replace('_', " ")),
    }
}

/// Nano-dollars as people read them.
pub fn usd(nano: u64) -> String {
    let usd = nano as f64 / 1e9;
    if nano > 0 && usd < 0.01 { format!("{usd:.4}") } else { format!("{usd:.2}") }
}

/// Judges a refusal. What an aggregator relays from behind itself does not speak of this key.
fn of_refusal(way: &Way, facts: &ErrorFacts, unix_ns: u64) -> Verdict {
    let probed = matches!(way, Way::Probe(_));
    let text = told(facts);
    if facts.relayed {
        return Verdict::Unknown(text);
    }
    match facts.sign {
        // Keys of some providers can be barred from all but some calls, and then a list is refused as an unknown key is.
        Sign::KeyRefused if !probed && is_about_rights(facts) => Verdict::Unknown(text),
        Sign::KeyRefused => Verdict::Refused(text),
        Sign::KeyForbidden if probed => Verdict::Refused(text),
        Sign::KeyCap => {
            let wait = facts.retry_after_ns.map(|wait| unix_ns.saturating_add(wait));
            Verdict::Capped { until_unix_ns: facts.ready_at_unix_ns.or(wait), what: text }
        }
        Sign::NoMoney => Verdict::NoMoney { stated: false, what: text },
        // It was let in, and is only told to come later.
        Sign::RateLimited { .. } | Sign::InFlightMoney if probed => Verdict::Works,
        Sign::KeyForbidden
        | Sign::RegionRefused
        | Sign::RateLimited { .. }
        | Sign::InFlightMoney
        | Sign::BadRequest
        | Sign::ModelUnknown
        | Sign::TooDear
        | Sign::ContentRefused
        | Sign::ContextTooLong
        | Sign::TooLargeForLimit
        | Sign::SharedCapacity
        | Sign::UpstreamCapacity
        | Sign::Overloaded
        | Sign::ServerError
        | Sign::TimedOut
        | Sign::ClientClosed
        | Sign::NotSupported
        | Sign::Unrecognised => Verdict::Unknown(text),
    }
}

fn is_about_rights(facts: &ErrorFacts) -> bool {
    let said = facts.message.as_deref().unwrap_or_default().to_ascii_lowercase();
    said.contains("insufficient permission") || said.contains("missing scope")
}

fn told(facts: &ErrorFacts) -> String {
    let status = facts.status;
    match (&facts.message, &facts.code) {
        (Some(message), _) => format!("{message} ({status})"),
        (None, Some(code)) => format!("{code} ({status})"),
        (None, None) => format!("it answered {status}"),
    }
}

/// Something that a person should know, though the key works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// It ends soon, at this instant (in nanoseconds since 1970).
    Expires(u64),
    /// Little is left, in words.
    Low(String),
    /// Its account may ask no free model any more today.
    FreeModelsUsedUp,
}

impl Note {
    /// In words, as of now.
    pub fn text(&self, unix_ns: u64) -> String {
        match self {
            Self::Expires(at) => format!("expires {}", super::report::ahead(*at, unix_ns)),
            Self::Low(text) => text.clone(),
            Self::FreeModelsUsedUp => {
                "the free models of its account are used up until midnight (UTC)".to_owned()
            }
        }
    }
}

/// What else there is to know of a key.
pub fn notes(checked: &Checked) -> Vec<Note> {
    let mut notes = Vec::new();
    let Some(facts) = &checked.facts else { return notes };
    let now = checked.at_unix_ns;
    notes.extend(
        facts
            .expires_at_unix_ns
            .filter(|at| *at > now && at.saturating_sub(now) <= EXPIRY_NS)
            .map(Note::Expires),
    );
    let low = facts.binding.as_ref().filter(|b| is_low(b) && !b.is_spent());
    notes.extend(low.map(|budget| {
        let left = budget.remaining.map(usd).unwrap_or_default();
        Note::Low(format!("{left} $ left: {} binds first", layer(budget)))
    }));
    if facts.free_models.is_some_and(|free| free.remaining == Some(0)) {
        notes.push(Note::FreeModelsUsedUp);
    }
    notes
}

fn is_low(budget: &Budget) -> bool {
    let known = budget.remaining.zip(budget.limit);
    known.is_some_and(|(left, limit)| left.saturating_mul(LOW_SHARE) < limit)
}

#[cfg(test)]
mod tests;
