//! Which of the providers the caller wants: OpenRouter's `provider` object, and our header that says the same.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer as _, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::HeadError;

/// How many names one list may hold.
const NAMES_MAX: usize = 64;

/// The caller's wishes. Empty lists and `None` say nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProviderPrefs {
    /// Try these first, in this order.
    pub order: Vec<String>,
    /// Try no others than these.
    pub only: Vec<String>,
    /// Never try these.
    pub ignore: Vec<String>,
    /// Whether others than those in `order` may be tried at all.
    pub allow_fallbacks: Option<bool>,
    /// Try none that is dearer.
    pub price_max: PriceMax,
}

/// The dearest that may be tried. `None` says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PriceMax {
    /// Nano-dollars for a million tokens of input.
    pub prompt: Option<u64>,
    /// Nano-dollars for a million tokens of output.
    pub completion: Option<u64>,
    /// Nano-dollars for a request, whatever its tokens.
    pub request: Option<u64>,
    /// Nano-dollars for an image.
    pub image: Option<u64>,
}

/// Reads the five fields of OpenRouter's `provider` object that choose among providers; the others are not ours.
///
/// # Errors
/// One of the five is given twice or has the wrong type, or the value is no object.
pub fn parse_provider(raw: &str) -> Result<ProviderPrefs, HeadError> {
    if raw.trim() == "null" {
        return Ok(ProviderPrefs::default());
    }
    if !raw.trim_start().starts_with('{') {
        return Err(HeadError::InvalidType { key: "provider".into(), expected: "an object" });
    }
    let mut refusal = None;
    let mut prefs = ProviderPrefs::default();
    let mut json = serde_json::Deserializer::from_str(raw);
    let walked = json
        .deserialize_map(PrefsVisitor { prefs: &mut prefs, refusal: &mut refusal })
        .and_then(|()| json.end());
    match walked {
        Ok(()) => Ok(prefs),
        Err(error) => Err(refusal.unwrap_or_else(|| HeadError::from_json(&error))),
    }
}

/// What of the object chooses among providers.
const OURS: [&str; 5] = ["order", "only", "ignore", "allow_fallbacks", "max_price"];

struct PrefsVisitor<'p> {
    prefs: &'p mut ProviderPrefs,
    refusal: &'p mut Option<HeadError>,
}

impl<'de> Visitor<'de> for PrefsVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a provider object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = [false; OURS.len()];
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            let Some(at) = OURS.iter().position(|name| key == *name) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let value: &RawValue = map.next_value()?;
            let refusal = if std::mem::replace(&mut seen[at], true) {
                Some(HeadError::Duplicate { key: format!("provider.{key}").into() })
            } else {
                self.prefs.take(at, value.get()).err()
            };
            if refusal.is_some() {
                *self.refusal = refusal;
                return Err(A::Error::custom("refused"));
            }
        }
        Ok(())
    }
}

impl ProviderPrefs {
    fn take(&mut self, at: usize, raw: &str) -> Result<(), HeadError> {
        let (list, key) = match at {
            0 => (&mut self.order, "provider.order"),
            1 => (&mut self.only, "provider.only"),
            2 => (&mut self.ignore, "provider.ignore"),
            4 => return self.price_max.take(raw),
            _ => {
                self.allow_fallbacks = serde_json::from_str(raw).map_err(|_| HeadError::InvalidType {
                    key: "provider.allow_fallbacks".into(),
                    expected: "true or false",
                })?;
                return Ok(());
            }
        };
        let names: Option<Vec<String>> = serde_json::from_str(raw)
            .map_err(|_| HeadError::InvalidType { key: key.into(), expected: "a list of names" })?;
        *list = names.unwrap_or_default();
        if list.len() > NAMES_MAX {
            return Err(HeadError::InvalidType { key: key.into(), expected: "a list of at most 64 names" });
        }
        Ok(())
    }
}

/// A price as it is written: a number, or a number in a string.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Usd {
    Number(f64),
    Text(String),
}

impl PriceMax {
    /// What it says of audio is left alone.
    fn take(&mut self, raw: &str) -> Result<(), HeadError> {
        #[derive(serde::Deserialize)]
        struct Typed {
            prompt: Option<Usd>,
            completion: Option<Usd>,
            request: Option<Usd>,
            image: Option<Usd>,
        }
        let wrong = || HeadError::InvalidType {
            key: "provider.max_price".into(),
            expected: "an object of US dollars, such as {\"prompt\": 1, \"completion\": 2.5} (for a million tokens)",
        };
        let typed: Option<Typed> = serde_json::from_str(raw).map_err(|_| wrong())?;
        let Some(typed) = typed else { return Ok(()) };
        let nano = |usd: Option<Usd>| match usd {
            None => Ok(None),
            Some(usd) => usd.nano().ok_or_else(wrong).map(Some),
        };
        *self = Self {
            prompt: nano(typed.prompt)?,
            completion: nano(typed.completion)?,
            request: nano(typed.request)?,
            image: nano(typed.image)?,
        };
        Ok(())
    }
}

impl Usd {
    fn nano(&self) -> Option<u64> {
        let usd = match self {
            Self::Number(usd) => *usd,
            Self::Text(text) => text.trim().parse().ok()?,
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "in range, and not negative"
        )]
        (0.0..=1e9).contains(&usd).then(|| (usd * 1e9).round() as u64)
    }
}

/// Reads the header `x-keymux-providers`: `order=a,b; only=c; ignore=d; fallbacks=no`, each part optional.
///
/// # Errors
/// An unknown or repeated part, a part without a value, or a word for `fallbacks` other than yes, no, true or false.
pub fn parse_providers_header(text: &str) -> Result<ProviderPrefs, HeadError> {
    let refuse = |reason: String| HeadError::ProvidersHeader { reason };
    let mut prefs = ProviderPrefs::default();
    let mut seen = [false; 4];
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let Some((name, value)) = part.split_once('=').map(|(n, v)| (n.trim(), v.trim())) else {
            return Err(refuse("a part has no `=`".to_owned()));
        };
        let Some(at) = ["order", "only", "ignore", "fallbacks"].iter().position(|known| name == *known)
        else {
            return Err(refuse("there is a part other than order, only, ignore and fallbacks".to_owned()));
        };
        if std::mem::replace(&mut seen[at], true) {
            return Err(refuse(format!("`{name}` is given twice")));
        }
        if at == 3 {
            prefs.allow_fallbacks = match value {
                "yes" | "true" => Some(true),
                "no" | "false" => Some(false),
                _ => return Err(refuse("`fallbacks` must be yes or no".to_owned())),
            };
            continue;
        }
        let names: Vec<String> =
            value.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
        if names.is_empty() || names.len() > NAMES_MAX {
            return Err(refuse(format!("`{name}` must list between 1 and {NAMES_MAX} names")));
        }
        match at {
            0 => prefs.order = names,
            1 => prefs.only = names,
            _ => prefs.ignore = names,
        }
    }
    Ok(prefs)
}
