//! What a provider says of the key that asks: its label, what it used, what it may use, who owns it. `OpenRouter` tells
//! by `GET /key`, `DeepSeek` by `GET /user/balance`; of all others no more is known than that they took the key.
//!
//! Answers of different months have different fields, so each is read by itself: one that is missing, unknown or of
//! another kind leaves a gap and spoils nothing. `rate_limit` is not read: it is deprecated and always -1.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde_json::Value;

use crate::{decimal, text, when};

/// Layers of budgets that are kept.
const BUDGETS_MAX: usize = 16;
/// What a label or an id may hold, in bytes.
const NAME_BYTES_MAX: usize = 96;
/// A masked key is short; longer ones are whole keys.
const MASKED_BYTES_MAX: usize = 32;

/// When a budget is whole again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// At midnight UTC.
    Daily,
    /// On Monday, midnight UTC.
    Weekly,
    /// On the first of the month, midnight UTC.
    Monthly,
}

impl Reset {
    fn named(word: &Value) -> Option<Self> {
        match word.as_str()? {
            "daily" => Some(Self::Daily),
            "weekly" => Some(Self::Weekly),
            "monthly" => Some(Self::Monthly),
            _ => None,
        }
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
        }
    }

    /// The next one after an instant, both in nanoseconds since 1970.
    pub fn next(self, unix_ns: u64) -> Option<u64> {
        match self {
            Self::Daily => when::next_day(unix_ns),
            Self::Weekly => when::next_week(unix_ns),
            Self::Monthly => when::next_month(unix_ns),
        }
    }
}

/// Money by span of time, in nano-dollars.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Ever.
    pub all: Option<u64>,
    /// This day (UTC).
    pub day: Option<u64>,
    /// This week, from Monday.
    pub week: Option<u64>,
    /// This month.
    pub month: Option<u64>,
}

/// One layer of what may be spent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Budget {
    /// Whose: `key_limit`, `workspace`, `member` and so on.
    pub scope: Option<Box<str>>,
    /// The whole of it, in nano-dollars.
    pub limit: Option<u64>,
    /// Used of it.
    pub spent: Option<u64>,
    /// Left of it; nothing where it is overdrawn.
    pub remaining: Option<u64>,
    /// When it is whole again; `None`: never by itself.
    pub reset: Option<Reset>,
    /// The same as an instant, in nanoseconds since 1970.
    pub resets_at_unix_ns: Option<u64>,
}

impl Budget {
    /// Nothing is left.
    pub fn is_spent(&self) -> bool {
        self.remaining == Some(0) || matches!((self.spent, self.limit), (Some(s), Some(l)) if s >= l)
    }

    /// When it is whole again, as stated or by its interval.
    pub fn whole_again(&self, unix_ns: u64) -> Option<u64> {
        let stated = self.resets_at_unix_ns.filter(|at| *at > unix_ns);
        stated.or_else(|| self.reset?.next(unix_ns))
    }
}

/// The account's counter of requests to free models, which begins again at midnight UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreeModels {
    /// Requests today.
    pub used: Option<u64>,
    /// Requests a day.
    pub limit: Option<u64>,
    /// Requests left today.
    pub remaining: Option<u64>,
}

/// Who owns a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owner {
    /// An organisation.
    pub organization: Option<Box<str>>,
    /// The user who made it.
    pub user: Option<Box<str>>,
    /// A workspace or project, which stays apart from others of the same organisation.
    pub workspace: Option<Box<str>>,
}

impl Owner {
    /// A digest that keys of one account have in common, and no others. Members of an organisation share its account.
    /// `None`: nobody is named.
    pub fn digest(&self) -> Option<u64> {
        let who = match &self.organization {
            Some(organization) => ("organization", organization),
            None => ("user", self.user.as_ref()?),
        };
        let mut digest = DefaultHasher::new();
        (who, &self.workspace).hash(&mut digest);
        Some(digest.finish())
    }
}

/// All that is said of a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyFacts {
    /// Its name at the provider, or its masked form.
    pub label: Option<Box<str>>,
    /// Used by it, in nano-dollars.
    pub usage: Spent,
    /// Used by it with keys of other providers that its owner brought along.
    pub byok: Spent,
    /// Whether that counts against its limit.
    pub byok_in_limit: bool,
    /// Its own limit, as the oldest answers have it already; `None`: it has none.
    pub own: Option<Budget>,
    /// All layers that are enforced, its own among them.
    pub budgets: Vec<Budget>,
    /// The one that binds first, as the provider says, else the one of which least is left.
    pub binding: Option<Budget>,
    /// The counter of free models.
    pub free_models: Option<FreeModels>,
    /// The account never bought credits.
    pub is_free_tier: bool,
    /// It manages other keys and is refused on every other call.
    pub is_management_key: bool,
    /// When it ends, in nanoseconds since 1970.
    pub expires_at_unix_ns: Option<u64>,
    /// Who owns it.
    pub owner: Owner,
}

impl KeyFacts {
    /// Of the budgets that are used up, the one that is whole again last; one that never is counts as last.
    pub fn spent_budget(&self, unix_ns: u64) -> Option<&Budget> {
        let all = layers(self.own.as_ref(), &self.budgets).chain(&self.binding);
        all.filter(|b| b.is_spent()).max_by_key(|b| b.whole_again(unix_ns).unwrap_or(u64::MAX))
    }
}

/// Reads the answer to `OpenRouter`'s `GET /key`. `None`: it is no such answer.
pub fn read(body: &[u8]) -> Option<KeyFacts> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let data = answer.get("data").filter(|data| data.is_object())?;
    // An object that has none of these was sent by something else.
    if !["label", "usage", "limit", "is_free_tier"].iter().any(|name| data.get(name).is_some()) {
        return None;
    }
    let (limit, remaining) = (money(&data["limit"]), money(&data["limit_remaining"]));
    let own = limit.or(remaining).map(|_| Budget {
        scope: Some("key_limit".into()),
        limit,
        spent: None,
        remaining,
        reset: Reset::named(&data["limit_reset"]),
        resets_at_unix_ns: None,
    });
    let listed = data["budgets"].as_array().map_or(&[][..], Vec::as_slice);
    let budgets: Vec<Budget> = listed.iter().take(BUDGETS_MAX).filter_map(budget).collect();
    let least = || {
        let known = layers(own.as_ref(), &budgets).filter(|b| b.remaining.is_some());
        known.min_by_key(|b| b.remaining).cloned()
    };
    let is_true = |name: &str| data[name] == Value::Bool(true);
    Some(KeyFacts {
        label: label(&data["label"]),
        usage: spent(data, "usage"),
        byok: spent(data, "byok_usage"),
        byok_in_limit: is_true("include_byok_in_limit"),
        binding: budget(&data["effective_budget"]).or_else(least),
        own,
        budgets,
        free_models: free_models(&data["free_model_daily_requests"]),
        is_free_tier: is_true("is_free_tier"),
        is_management_key: is_true("is_management_key") || is_true("is_provisioning_key"),
        expires_at_unix_ns: instant(&data["expires_at"]),
        owner: Owner {
            organization: id(&data["organization_id"]),
            user: id(&data["creator_user_id"]),
            workspace: id(&data["workspace_id"]),
        },
    })
}

/// What is left of an account's money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balance {
    /// Calls are paid for.
    pub available: bool,
    /// What is left, as the provider writes it, by currency.
    pub amounts: Vec<(Box<str>, Box<str>)>,
}

/// Reads the answer to `DeepSeek`'s `GET /user/balance`. `None`: it is no such answer.
pub fn read_balance(body: &[u8]) -> Option<Balance> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let available = answer.get("is_available")?.as_bool()?;
    let listed = answer["balance_infos"].as_array().map_or(&[][..], Vec::as_slice);
    let amount = |info: &Value| {
        let total = match &info["total_balance"] {
            Value::Number(n) => n.to_string(),
            other => other.as_str()?.to_owned(),
        };
        Some((text::word(info["currency"].as_str()?)?, text::word(&total)?))
    };
    Some(Balance { available, amounts: listed.iter().take(BUDGETS_MAX).filter_map(amount).collect() })
}

/// Whether a body is a list of models, in one of the forms in which servers send it. The list itself is not kept.
pub fn is_list(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct List {
        #[serde(alias = "models")]
        data: Vec<serde::de::IgnoredAny>,
    }
    serde_json::from_slice::<List>(body).map(|List { data }| data.len()).is_ok()
        || serde_json::from_slice::<Vec<serde::de::IgnoredAny>>(body).is_ok()
}

/// Where the layers are listed, they tell of the key's own limit more than the older fields do.
fn layers<'b>(own: Option<&'b Budget>, budgets: &'b [Budget]) -> impl Iterator<Item = &'b Budget> {
    let listed = budgets.iter().any(|b| b.scope.as_deref() == Some("key_limit"));
    own.filter(|_| !listed).into_iter().chain(budgets)
}

fn budget(value: &Value) -> Option<Budget> {
    let object = value.as_object()?;
    let of = |name: &str| object.get(name).unwrap_or(&Value::Null);
    let (limit, spent, remaining) =
        (money(of("limit_usd")), money(of("spend_usd")), money(of("remaining_usd")));
    let left = || Some(limit?.saturating_sub(spent?));
    let budget = Budget {
        scope: of("scope").as_str().and_then(text::word),
        limit,
        spent,
        remaining: remaining.or_else(left),
        reset: Reset::named(of("reset_interval")),
        resets_at_unix_ns: instant(of("resets_at")),
    };
    (budget.limit.is_some() || budget.remaining.is_some()).then_some(budget)
}

fn free_models(value: &Value) -> Option<FreeModels> {
    let count = |name: &str| value[name].as_u64();
    let (used, limit, remaining) = (count("used"), count("limit"), count("remaining"));
    used.or(limit).or(remaining)?;
    Some(FreeModels { used, limit, remaining })
}

fn spent(data: &Value, name: &str) -> Spent {
    let of = |suffix: &str| money(&data[format!("{name}{suffix}")]);
    Spent { all: of(""), day: of("_daily"), week: of("_weekly"), month: of("_monthly") }
}

/// Dollars in nano-dollars. What is below nothing is nothing: a limit can be overdrawn.
fn money(value: &Value) -> Option<u64> {
    let text = match value {
        Value::Number(n) => n.to_string(),
        Value::String(text) => text.trim().to_owned(),
        _ => return None,
    };
    match text.strip_prefix('-') {
        Some(positive) => decimal::scaled(positive, 9).map(|_| 0),
        None => decimal::scaled(&text, 9),
    }
}

/// A date, or seconds or milliseconds since 1970.
fn instant(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => when::instant(text.trim()),
        Value::Number(n) => match n.as_u64()? {
            seconds @ 1_000_000_000..100_000_000_000 => Some(seconds * when::SECOND_NS),
            ms @ 100_000_000_000..10_000_000_000_000 => Some(ms * 1_000_000),
            _ => None,
        },
        _ => None,
    }
}

fn id(value: &Value) -> Option<Box<str>> {
    let text = value.as_str()?.trim();
    (!text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control))
        .then(|| text.into())
}

/// A name that may be shown. What looks like a key is one, unless it is masked.
fn label(value: &Value) -> Option<Box<str>> {
    let text = text::cut(value.as_str()?.trim(), NAME_BYTES_MAX);
    let masked = ["...", "…", "**"].iter().any(|mark| text.contains(mark)) && text.len() <= MASKED_BYTES_MAX;
    if masked {
        let kept: String = text.chars().filter(|c| !c.is_control()).collect();
        return (!kept.is_empty()).then(|| kept.into());
    }
    text::message(text)
}
