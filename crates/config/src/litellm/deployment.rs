//! One entry of `model_list`: a model at a provider, with a key. What it says is read here; which provider it is stands
//! in `address`, and what becomes of all of them together in `fleet` and `routes`.

use super::address::{self, Address, No, no};
use super::fields::{Env, Fields, Found, REFERENCE, variable};
use super::notes::{Notes, Spot};
use super::reasons;
use super::telling::may_hold_secret;
use crate::render::is_surely_secret;
use crate::resolve::may_be_header;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// What is known of a deployment that can be carried over.
pub(super) struct Deployment {
    pub(super) spot: Spot,
    /// The name that clients use.
    pub(super) name: String,
    /// By which fallbacks may name it, too.
    pub(super) id: Option<String>,
    pub(super) address: Address,
    pub(super) headers: Vec<(String, String)>,
    pub(super) organization: Option<String>,
    /// The upstream's name; with a `*` for a wildcard.
    pub(super) model: String,
    pub(super) key: Credential,
    pub(super) limits: Limits,
    pub(super) weight: Option<f64>,
    pub(super) order: Option<f64>,
    pub(super) timeout_ms: Option<u64>,
    pub(super) stream_timeout_ms: Option<u64>,
    /// Settings of a `[[price]]`, in dollars for a million tokens.
    pub(super) prices: BTreeMap<&'static str, f64>,
}

impl Deployment {
    /// Where one of its parameters stands.
    pub(super) fn param(&self, name: &str) -> Spot {
        self.spot.below("litellm_params", self.spot.line).below(name, self.spot.line)
    }

    /// Whether it stands for a family of models.
    pub(super) fn is_wildcard(&self) -> bool {
        self.name.contains('*')
    }
}

/// How it proves who it is. Holds a secret, so it cannot be printed.
#[derive(Clone, PartialEq)]
pub(super) enum Credential {
    /// A variable of the environment; whether LiteLLM looks there by itself.
    Env { name: String, implied: bool },
    /// Written into the file.
    Literal(Zeroizing<String>),
    /// It needs none.
    None,
}

/// What a deployment may use: settings of an entry of `limits`.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Limits {
    pub(super) amounts: BTreeMap<&'static str, f64>,
    /// Dollars and the seconds that they are for.
    pub(super) usd: Option<(f64, u64)>,
}

impl Limits {
    pub(super) fn is_empty(&self) -> bool {
        self.amounts.is_empty() && self.usd.is_none()
    }
}

/// What entries of `model_list` are read with.
pub(super) struct Reading<'a> {
    pub(super) env: &'a Env<'a>,
    /// `credential_values` of `credential_list`, by name.
    pub(super) credentials: BTreeMap<String, Found<'a>>,
}

const LEAST: (&str, fn(f64) -> bool) = ("a number greater than 0", |n| n > 0.0 && n <= 1e15);
const WHOLE: (&str, fn(f64) -> bool) =
    ("a whole number of at least 1", |n| (1.0..=1e15).contains(&n) && n.fract() == 0.0);
const SHARE: (&str, fn(f64) -> bool) = ("a number, 0 or more", |n| (0.0..=1e15).contains(&n));
const ANY: (&str, fn(f64) -> bool) = ("a number", |_| true);
const PRICE: (&str, fn(f64) -> bool) = ("a price for one token", |n| (0.0..=100.0).contains(&n));
/// Seconds, up to a year.
pub(super) const SECONDS: (&str, fn(f64) -> bool) =
    ("a number of seconds", |n| (0.001..=31_536_000.0).contains(&n));

/// LiteLLM's names of prices and ours.
const PRICES: &[(&str, &str)] = &[
    ("input_cost_per_token", "input"),
    ("output_cost_per_token", "output"),
    ("cache_read_input_token_cost", "cache_read"),
    ("cache_creation_input_token_cost", "cache_write"),
    ("input_cost_per_audio_token", "input_audio"),
    ("output_cost_per_audio_token", "output_audio"),
    ("output_cost_per_reasoning_token", "reasoning"),
];

/// Reads an entry; one that cannot be carried over is listed.
pub(super) fn read(found: Found<'_>, with: &Reading<'_>, notes: &mut Notes) -> Option<Deployment> {
    let spot = found.spot.clone();
    match whole(found, with, notes) {
        Ok(deployment) => Some(deployment),
        Err((why, instead)) => {
            notes.left_out(spot, &why, &instead);
            None
        }
    }
}

fn whole(found: Found<'_>, with: &Reading<'_>, notes: &mut Notes) -> Result<Deployment, No> {
    let spot = found.spot.clone();
    if found.node.map().is_none() {
        return Err(no("is no mapping", "write model_name and litellm_params, and import again"));
    }
    let mut entry = Fields::open(found, notes).unwrap_or_else(|| Fields::none("model_list"));
    let name = entry.text("model_name", with.env, notes).map(|(name, _)| name);
    let params = entry.take("litellm_params").and_then(|found| Fields::open(found, notes));
    let info = entry.take("model_info").and_then(|found| Fields::open(found, notes));
    entry.rest(&|_| None, notes);
    let mut info = info.unwrap_or_else(|| Fields::none("model_info"));
    let (Some(name), Some(mut params)) = (name, params) else {
        return Err(no("says no model_name, or no litellm_params", "write both, and import again"));
    };
    if !is_route_name(&name) {
        let instead = "use 1 to 256 characters without blanks around them";
        return Err(no("has a model_name that no route can have", instead));
    }
    if info.flag("blocked", notes).is_some_and(|(blocked, _)| blocked) {
        return Err(no("is blocked in LiteLLM", "nothing is needed; unblock it there and import again"));
    }
    let credential = credential_named(&mut params, with, notes);
    let mut both = Both { params: &mut params, credential };
    let address = address::read(&mut both, with.env, notes)?;
    if address.model.contains('*') && !name.contains('*') {
        let instead = "write one in both, or in neither, and import again";
        return Err(no("has a wildcard for its model, and none in its model_name", instead));
    }
    let key = credential_of(&mut both, &address)?;
    let read = Deployment {
        spot,
        name,
        id: info.text("id", with.env, notes).map(|(id, _)| id),
        headers: headers(&mut params, notes),
        organization: params.text("organization", with.env, notes).map(|(text, _)| text),
        address: address.address,
        model: address.model,
        key,
        limits: limits(&mut params, with.env, notes),
        weight: params.number("weight", SHARE, with.env, notes).map(|(n, _)| n),
        order: params.number("order", ANY, with.env, notes).map(|(n, _)| n),
        timeout_ms: params.number("timeout", SECONDS, with.env, notes).map(|(n, _)| millis(n)),
        stream_timeout_ms: params.number("stream_timeout", SECONDS, with.env, notes).map(|(n, _)| millis(n)),
        prices: prices(&mut params, &mut info, with.env, notes),
    };
    if read.address.preset == Some("anthropic") {
        let why = "is asked by messages alone: LiteLLM translates chat/completions for Anthropic, and nothing is \
                   translated here";
        notes.setting(
            read.param("model"),
            why,
            "see the comment at the provider, if clients ask by chat/completions",
        );
    }
    params.rest(&reasons::of_params, notes);
    info.rest(&reasons::of_model_info, notes);
    Ok(read)
}

/// The values of the credential that it names.
fn credential_named<'a>(
    params: &mut Fields<'a>,
    with: &Reading<'a>,
    notes: &mut Notes,
) -> Option<Fields<'a>> {
    let (name, at) = params.text("litellm_credential_name", with.env, notes)?;
    let Some(values) = with.credentials.get(&name).cloned() else {
        notes.setting(at, "names a credential that credential_list does not have", "mend the name");
        return None;
    };
    Fields::open(values, notes)
}

/// Whether a route can have this name.
pub(super) fn is_route_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 256 && name.trim() == name && !name.chars().any(char::is_control)
}

/// Seconds as whole milliseconds.
pub(super) fn millis(seconds: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 ms and a year")]
    let ms = (seconds * 1_000.0).round() as u64;
    ms
}

/// `litellm_params`, and below it the credential that it names.
pub(super) struct Both<'a, 'b> {
    pub(super) params: &'b mut Fields<'a>,
    pub(super) credential: Option<Fields<'a>>,
}

impl<'a> Both<'a, '_> {
    pub(super) fn take(&mut self, name: &str) -> Option<Found<'a>> {
        let own = self.params.take(name);
        own.or_else(|| self.credential.as_mut().and_then(|c| c.take(name)))
    }
}

/// What people write where a server wants no key.
fn is_placeholder(key: &str) -> bool {
    const WORDS: &[&str] = &[
        "",
        "-",
        "none",
        "null",
        "empty",
        "fake",
        "fake-key",
        "fake_key",
        "sk-fake",
        "dummy",
        "dummy-key",
        "anything",
        "na",
        "n/a",
        "no-key",
        "nokey",
        "not-needed",
        "not_needed",
        "sk-no-key-required",
        "no-key-required",
        "unused",
        "ollama",
        "lm-studio",
        "placeholder",
        "token-abc123",
    ];
    WORDS.contains(&key.trim().to_ascii_lowercase().as_str())
}

fn credential_of(both: &mut Both<'_, '_>, at: &address::Read) -> Result<Credential, No> {
    let implied = || match at.variable {
        Some(name) => Credential::Env { name: name.to_owned(), implied: true },
        None => Credential::None,
    };
    let signs_in = ["azure_ad_token", "tenant_id", "client_secret", "azure_username"];
    let Some(found) = both.take("api_key") else {
        if signs_in.iter().any(|name| both.take(name).is_some()) {
            return Err(no(
                "signs in at Azure by a token, and keymux fetches none",
                "use an API key; or let something else keep a fresh token in a file, secret = \"file:/path\", which is \
                 read again when it changes, with auth = \"bearer\"",
            ));
        }
        return Ok(implied());
    };
    let Some(text) = found.node.text() else {
        return Err(no("has an api_key that is no text", "write one entry of model_list for each key"));
    };
    match (variable(text), text.strip_prefix(REFERENCE)) {
        _ if is_placeholder(text) => Ok(if at.official { implied() } else { Credential::None }),
        (Some(name), _) => Ok(Credential::Env { name: name.to_owned(), implied: false }),
        // A key by mistake.
        (None, Some(secret)) if is_surely_secret(secret) => {
            Ok(Credential::Literal(Zeroizing::new(secret.to_owned())))
        }
        (None, Some(_)) => Err(no("has an api_key that names no variable", "write os.environ/NAME")),
        _ if text.starts_with("oidc/") => Err(no(
            "signs in with a token that LiteLLM fetches (oidc/…)",
            "use an API key, or let something else keep a fresh token in a file: secret = \"file:/path\"",
        )),
        _ => Ok(Credential::Literal(Zeroizing::new(text.trim().to_owned()))),
    }
}

fn limits(params: &mut Fields<'_>, env: &Env<'_>, notes: &mut Notes) -> Limits {
    let mut limits = Limits::default();
    for name in ["rpm", "tpm", "itpm", "otpm"] {
        if let Some((amount, _)) = params.number(name, LEAST, env, notes) {
            limits.amounts.insert(name, amount);
        }
    }
    if let Some((slots, _)) = params.number("max_parallel_requests", WHOLE, env, notes) {
        limits.amounts.insert("concurrent", slots);
    }
    let budget = params.number("max_budget", LEAST, env, notes);
    let period = params.text("budget_duration", env, notes);
    match (budget, period) {
        (Some((usd, at)), Some((text, _))) => {
            limits.usd = seconds(&text).map(|period| (usd, period));
            if limits.usd.is_none() {
                let why = "is for a period that is not understood";
                notes.setting(
                    at,
                    why,
                    "limits = [{ usd = 10, per = \"1d\", shape = \"window\" }] at the key",
                );
            }
        }
        (Some((_, at)), None) | (None, Some((_, at))) => {
            let why = "is a budget without a period, or a period without a budget";
            notes.setting(at, why, "limits = [{ usd = 10, per = \"1d\", shape = \"window\" }] at the key");
        }
        (None, None) => {}
    }
    limits
}

/// LiteLLM's periods (`30s`, `24h`, `7d`, `1mo`) in seconds.
pub(super) fn seconds(period: &str) -> Option<u64> {
    let period = period.trim();
    let digits = period.find(|c: char| !c.is_ascii_digit()).unwrap_or(period.len());
    let (number, unit) = period.split_at_checked(digits)?;
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        "mo" => 30 * 86_400,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor).filter(|s| (1..=31_536_000).contains(s))
}

fn prices(
    params: &mut Fields<'_>,
    info: &mut Fields<'_>,
    env: &Env<'_>,
    notes: &mut Notes,
) -> BTreeMap<&'static str, f64> {
    let mut prices = BTreeMap::new();
    for (theirs, ours) in PRICES {
        let own = params.number(theirs, PRICE, env, notes);
        let mirrored = info.number(theirs, PRICE, env, notes);
        if let (Some((own, _)), Some((other, at))) = (&own, &mirrored)
            && own.total_cmp(other).is_ne()
        {
            let why = "litellm_params says another price, which counts";
            notes.setting(at.clone(), why, "take one of them out");
        }
        if let Some((price, _)) = own.or(mirrored) {
            prices.insert(*ours, price * 1e6);
        }
    }
    prices
}

/// Headers that may stand in a file.
fn headers(params: &mut Fields<'_>, notes: &mut Notes) -> Vec<(String, String)> {
    const TELLING: &[&str] =
        &["key", "token", "secret", "auth", "passw", "credential", "cookie", "signature"];
    let mut headers: Vec<(String, String)> = Vec::new();
    for name in ["extra_headers", "headers"] {
        let Some(found) = params.take(name) else { continue };
        let spot = found.spot.clone();
        for entry in Fields::open(found, notes).map(Fields::entries).unwrap_or_default() {
            let spot = spot.below(&entry.name, entry.line);
            let value = entry.node.text().unwrap_or_default();
            let lower = entry.name.to_ascii_lowercase();
            let telling = TELLING.iter().any(|word| lower.contains(word))
                || value.starts_with(REFERENCE)
                || may_hold_secret(value);
            if telling {
                let why = "may carry a credential, which must not stand in this file";
                let instead = "if it is the key, say auth = \"header:NAME\" in the provider and put the secret into `keys`; \
                               if it is none, write it into `headers` by hand";
                notes.setting(spot, why, instead);
            } else if !may_be_header(&entry.name, value)
                || headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(&lower))
            {
                notes.setting(
                    spot,
                    "cannot be sent as a header",
                    "mend it, and write it into `headers` by hand",
                );
            } else {
                headers.push((entry.name.clone(), value.to_owned()));
            }
        }
    }
    headers.sort();
    headers
}
