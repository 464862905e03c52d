//! From fields as somebody sent them to a key or a team: the names and meanings are those of the configuration's
//! `[[client]]` and `[[team]]`. All mistakes are told at once, each with its field and what to do.

use super::Fields;
use crate::serve::Gateway;
use keymux_config::{Provider, did_you_mean};
use keymux_store::{Budget, Client, Reset, Team, Terms};
use serde_json::Value;

/// A mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The field at fault.
    pub field: Option<String>,
    /// What is wrong, and the mend.
    pub message: String,
}

impl Told {
    pub(super) fn of(field: &str, message: impl Into<String>) -> Self {
        Self { field: Some(field.to_owned()), message: message.into() }
    }
}

const OF_TEAMS: &[&str] = &["rpm", "tpm", "concurrent", "budget", "reset", "disabled"];
const OF_CLIENTS: &[&str] = &[
    "name",
    "team",
    "models",
    "providers",
    "accounts",
    "keys",
    "rpm",
    "tpm",
    "concurrent",
    "budget",
    "reset",
    "priority",
    "weight",
    "expires",
    "tags",
    "max_wait_ms",
    "disabled",
];

const NAME_CHARS_MAX: usize = 100;
const LIST_MAX: usize = 200;
const TAGS_MAX: usize = 16;
const TAG_CHARS_MAX: usize = 64;
pub(crate) const WAIT_MS_MAX: u64 = 24 * 3_600_000;
pub(crate) const WEIGHT_MAX: u64 = 1_000_000;
pub(crate) const COUNT_MAX: u64 = 1_000_000_000_000;
/// More dollars than anyone has.
const USD_MAX: f64 = 1e9;

/// Applies fields to a key.
pub(super) fn client(
    fields: &Fields,
    client: &mut Client,
    gateway: &Gateway,
    now_unix_ms: u64,
) -> Result<(), Vec<Told>> {
    let mut form = Form { fields, told: Vec::new() };
    form.only(OF_CLIENTS);
    let snapshot = gateway.live.load();
    let config = &snapshot.config;
    let teams = || {
        let mut names: Vec<String> = config.teams.iter().map(|team| team.name.to_string()).collect();
        names.extend(gateway.directory.stored(|_, teams| {
            teams.values().filter(|team| !team.removed).map(|team| team.name.clone()).collect::<Vec<_>>()
        }));
        names
    };
    form.set("name", &mut client.name, String::new(), |value| {
        let text = text(value)?;
        name(&text).map(|()| text)
    });
    form.set("team", &mut client.team, String::new(), |value| {
        let name = text(value)?;
        let known = teams();
        if name.is_empty() || known.contains(&name) {
            return Ok(name);
        }
        Err(format!("{}; `keymux teams set NAME` makes one", no_such("team", &name, &known)))
    });
    let terms = &mut client.terms;
    form.set("models", &mut terms.models, Vec::new(), |value| {
        list(value, |text| pattern(&text).map(|()| text))
    });
    let providers = &config.providers;
    form.set("providers", &mut terms.providers, Vec::new(), |value| {
        list(value, |text| provider(&text, providers).map(|_| text))
    });
    let accounts = |p: &Provider| p.accounts.iter().map(|a| a.name.to_string()).collect();
    form.set("accounts", &mut terms.accounts, Vec::new(), |value| {
        list(value, |text| pair("account", &text, providers, accounts).map(|()| text))
    });
    let keys = |p: &Provider| p.keys.iter().map(|k| k.name.to_string()).collect();
    form.set("keys", &mut terms.keys, Vec::new(), |value| {
        list(value, |text| pair("key", &text, providers, keys).map(|()| text))
    });
    limits(&mut form, terms);
    form.set("priority", &mut terms.priority, None, |value| {
        one_of(value, &["high", "normal", "low"]).map(|word| Some(word.to_owned()))
    });
    form.set("weight", &mut terms.weight, None, |value| {
        whole(value, 1, WEIGHT_MAX).map(|n| Some(u32::try_from(n).unwrap_or(u32::MAX)))
    });
    form.set("max_wait_ms", &mut terms.max_wait_ms, None, |value| whole(value, 0, WAIT_MS_MAX).map(Some));
    form.set("tags", &mut terms.tags, Vec::new(), tags);
    form.set("expires", &mut client.expires_unix_ms, None, |value| instant(value, now_unix_ms).map(Some));
    form.set("disabled", &mut client.disabled, false, flag);
    form.end()
}

/// Applies fields to a team.
pub(super) fn team(fields: &Fields, team: &mut Team) -> Result<(), Vec<Told>> {
    let mut form = Form { fields, told: Vec::new() };
    form.only(OF_TEAMS);
    limits(&mut form, &mut team.terms);
    form.set("disabled", &mut team.disabled, false, flag);
    form.end()
}

/// What keys and teams have in common.
fn limits(form: &mut Form<'_>, terms: &mut Terms) {
    form.set("rpm", &mut terms.requests_a_minute, None, |value| whole(value, 1, COUNT_MAX).map(Some));
    form.set("tpm", &mut terms.tokens_a_minute, None, |value| whole(value, 1, COUNT_MAX).map(Some));
    form.set("concurrent", &mut terms.concurrent, None, |value| {
        whole(value, 1, u32::MAX.into()).map(|n| Some(u32::try_from(n).unwrap_or(u32::MAX)))
    });
    let (mut nano_usd, mut reset) =
        (terms.budget.map(|b| b.nano_usd), terms.budget.map_or(Reset::Never, |b| b.reset));
    form.set("budget", &mut nano_usd, None, |value| usd(value).map(Some));
    form.set("reset", &mut reset, Reset::Never, |value| {
        let words = ["never", "daily", "weekly", "monthly"];
        let resets = [Reset::Never, Reset::Daily, Reset::Weekly, Reset::Monthly];
        let word = one_of(value, &words)?;
        Ok(words.iter().position(|w| *w == word).map_or(Reset::Never, |at| resets[at]))
    });
    let says_reset = form.fields.get("reset").is_some_and(|value| !value.is_null());
    if nano_usd.is_none() && says_reset && reset != Reset::Never {
        form.told.push(Told::of("reset", "there is no budget to reset: add `budget`, in US dollars"));
    }
    terms.budget = nano_usd.map(|nano_usd| Budget { nano_usd, reset });
}

/// Fields on their way, and what is wrong with them.
struct Form<'a> {
    fields: &'a Fields,
    told: Vec<Told>,
}

impl Form<'_> {
    /// Refuses fields that there are not: a limit that is misspelt would limit nothing.
    fn only(&mut self, known: &[&str]) {
        for name in self.fields.keys().filter(|name| !known.contains(&name.as_str())) {
            let shown: String = name.chars().take(60).collect();
            let hint = did_you_mean(&shown, known, "there are");
            self.told.push(Told { field: Some(shown), message: format!("there is no such field; {hint}") });
        }
    }

    /// Reads a field that was sent; `null` stands for `none`.
    fn set<T>(&mut self, field: &str, into: &mut T, none: T, read: impl FnOnce(&Value) -> Result<T, String>) {
        match self.fields.get(field) {
            None => {}
            Some(Value::Null) => *into = none,
            Some(value) => match read(value) {
                Ok(value) => *into = value,
                Err(message) => self.told.push(Told::of(field, message)),
            },
        }
    }

    fn end(self) -> Result<(), Vec<Told>> {
        if self.told.is_empty() { Ok(()) } else { Err(self.told) }
    }
}

fn text(value: &Value) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| "must be a text in quotes".to_owned())
}

/// Whether a key or a team can be called so.
pub(super) fn name(text: &str) -> Result<(), String> {
    let fits = !text.trim().is_empty()
        && text.chars().count() <= NAME_CHARS_MAX
        && !text.chars().any(char::is_control);
    if fits { Ok(()) } else { Err(format!("must be 1 to {NAME_CHARS_MAX} characters, on one line")) }
}

fn list(value: &Value, one: impl Fn(String) -> Result<String, String>) -> Result<Vec<String>, String> {
    let Some(values) = value.as_array() else { return Err("must be a list of texts".to_owned()) };
    match values.len() {
        0 => Err("is empty, which would allow nothing: name some, or send null to allow all".to_owned()),
        n if n > LIST_MAX => Err(format!("has {n} entries; {LIST_MAX} are the most")),
        _ => values.iter().map(|value| text(value).and_then(&one)).collect(),
    }
}

fn pattern(text: &str) -> Result<(), String> {
    let fits = !text.is_empty() && text.len() <= 200 && text.bytes().all(|b| b.is_ascii_graphic());
    if fits {
        Ok(())
    } else {
        Err(format!("\"{}\" is no name of a model, nor one with `*` for anything", text.escape_debug()))
    }
}

fn no_such(what: &str, name: &str, known: &[String]) -> String {
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let shown: String = name.chars().take(100).collect();
    let instead = if known.is_empty() {
        "there is none at all".to_owned()
    } else {
        did_you_mean(&shown, &known, "there are")
    };
    format!("there is no {what} \"{}\"; {instead}", shown.escape_debug())
}

fn provider<'a>(name: &str, providers: &'a [Provider]) -> Result<&'a Provider, String> {
    let known = || providers.iter().map(|p| p.name.to_string()).collect::<Vec<_>>();
    providers.iter().find(|p| *p.name == *name).ok_or_else(|| no_such("provider", name, &known()))
}

fn pair(
    what: &str,
    text: &str,
    providers: &[Provider],
    names: impl Fn(&Provider) -> Vec<String>,
) -> Result<(), String> {
    let Some((of, name)) = text.split_once(':') else {
        return Err(format!("\"{}\" names no provider: write \"provider:{what}\"", text.escape_debug()));
    };
    let provider = provider(of, providers)?;
    let known = names(provider);
    if known.iter().any(|k| k == name) {
        Ok(())
    } else {
        Err(no_such(&format!("{what} of \"{of}\""), name, &known))
    }
}

fn whole(value: &Value, min: u64, max: u64) -> Result<u64, String> {
    let told = || format!("must be a whole number from {min} to {max}, or null for no limit");
    value.as_u64().filter(|n| (min..=max).contains(n)).ok_or_else(told)
}

/// Dollars as nano-dollars.
fn usd(value: &Value) -> Result<u64, String> {
    let told = || "must be US dollars as a number from 0 to 10^9, or null for no limit".to_owned();
    let dollars = value.as_f64().filter(|usd| (0.0..=USD_MAX).contains(usd)).ok_or_else(told)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and 10^18, checked above"
    )]
    Ok((dollars * 1e9).round() as u64)
}

fn one_of<'a>(value: &Value, words: &[&'a str]) -> Result<&'a str, String> {
    let found = value.as_str().and_then(|text| words.iter().find(|word| **word == text));
    found.copied().ok_or_else(|| format!("must be one of: {}", words.join(", ")))
}

fn tags(value: &Value) -> Result<Vec<String>, String> {
    let told = || format!("must be a list of at most {TAGS_MAX} texts of at most {TAG_CHARS_MAX} characters");
    let values = value.as_array().filter(|values| values.len() <= TAGS_MAX).ok_or_else(told)?;
    let tag = |value: &Value| {
        let text = value.as_str().filter(|t| !t.is_empty() && t.chars().count() <= TAG_CHARS_MAX);
        text.filter(|t| !t.chars().any(char::is_control)).map(str::to_owned).ok_or_else(told)
    };
    values.iter().map(tag).collect()
}

fn flag(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| "must be true or false".to_owned())
}

fn instant(value: &Value, now_unix_ms: u64) -> Result<u64, String> {
    let told = || {
        "must be a day (its midnight in UTC) or an instant: \"2027-01-31\", \"2027-01-31T12:00:00Z\""
            .to_owned()
    };
    let text = value.as_str().ok_or_else(told)?;
    let parsed: Result<jiff::Timestamp, _> =
        if text.len() == 10 { format!("{text}T00:00:00Z").parse() } else { text.parse() };
    let ms = u64::try_from(parsed.map_err(|_| told())?.as_millisecond()).unwrap_or(0);
    if ms <= now_unix_ms {
        return Err("is in the past: name a later instant, or revoke the key".to_owned());
    }
    Ok(ms)
}
