//! Where requests may lead: public model names, their tiers, and what the gateway knows of single keys.

use keymux_policy::fleet::Strategy;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// A public model name.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Route {
    /// Its name.
    pub name: String,
    /// Where it leads, tier by tier.
    pub tiers: Vec<Vec<Place>>,
    /// How to choose (`headroom`, `round_robin`, `weighted`, `least_in_flight`, `fastest`).
    pub strategy: StrategyName,
}

/// Keys of one provider: written as `provider`, as `provider/account` for those of one account, or in full.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// The provider.
    pub provider: String,
    /// Only the keys of this account.
    pub account: Option<String>,
    /// Only these keys (none: all).
    pub keys: Vec<String>,
    /// The provider's name of the model; without it, a model like any other.
    pub model: Option<String>,
    /// Share against the others of the tier.
    pub weight: f64,
}

impl Place {
    /// `provider` or `provider/account`.
    pub fn named(name: &str) -> Self {
        let (provider, account) = name.split_once('/').map_or((name, None), |(p, a)| (p, Some(a)));
        let (provider, account) = (provider.to_owned(), account.map(str::to_owned));
        Self { provider, account, keys: Vec::new(), model: None, weight: 1.0 }
    }
}

/// As it is written in full.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct InFull {
    provider: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    account: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keys: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(default = "one")]
    weight: f64,
}

fn one() -> f64 {
    1.0
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Place;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`provider`, `provider/account`, or { provider, account, keys, model, weight }")
            }
            fn visit_str<E>(self, name: &str) -> Result<Place, E> {
                Ok(Place::named(name))
            }
            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Place, M::Error> {
                let InFull { provider, account, keys, model, weight } =
                    InFull::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Place { provider, account, keys, model, weight })
            }
        }
        from.deserialize_any(Either)
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Self { provider, account, keys, model, weight } = self.clone();
        let plain = account.as_ref().map_or_else(|| provider.clone(), |a| format!("{provider}/{a}"));
        if *self == Self::named(&plain) {
            return to.serialize_str(&plain);
        }
        InFull { provider, account, keys, model, weight }.serialize(to)
    }
}

/// What the gateway's configuration says of a single key.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeyTerms {
    /// Its share against the other keys.
    pub weight: f64,
    /// The only models that it is used for (none: all).
    pub models: Vec<String>,
}

impl Default for KeyTerms {
    fn default() -> Self {
        Self { weight: 1.0, models: Vec::new() }
    }
}

/// The names of the strategies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the configuration's")]
pub enum StrategyName {
    #[default]
    Headroom,
    RoundRobin,
    Weighted,
    LeastInFlight,
    Fastest,
}

impl From<StrategyName> for Strategy {
    fn from(name: StrategyName) -> Self {
        match name {
            StrategyName::Headroom => Self::Headroom,
            StrategyName::RoundRobin => Self::RoundRobin,
            StrategyName::Weighted => Self::Weighted,
            StrategyName::LeastInFlight => Self::LeastInFlight,
            StrategyName::Fastest => Self::Fastest,
        }
    }
}

impl From<Strategy> for StrategyName {
    fn from(strategy: Strategy) -> Self {
        match strategy {
            Strategy::Headroom => Self::Headroom,
            Strategy::RoundRobin => Self::RoundRobin,
            Strategy::Weighted => Self::Weighted,
            Strategy::LeastInFlight => Self::LeastInFlight,
            Strategy::Fastest => Self::Fastest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_written_short_or_in_full_and_a_misspelt_one_is_refused() {
        let read = |tiers: &str| toml::from_str::<Route>(&format!("tiers = [[{tiers}]]"));
        let route = read(r#""p", "p/a", { provider = "p", keys = ["k"], model = "m/1" }"#).unwrap();
        assert_eq!(route.tiers[0][1].account.as_deref(), Some("a"));
        assert_eq!((&*route.tiers[0][2].keys[0], route.tiers[0][2].model.as_deref()), ("k", Some("m/1")));
        let again = toml::from_str::<Route>(&toml::to_string(&route).unwrap()).unwrap();
        assert_eq!(again.tiers, route.tiers);
        assert!(read(r#"{ provider = "p", modle = "m" }"#).unwrap_err().to_string().contains("modle"));
        assert!(read("7").unwrap_err().to_string().contains("provider/account"));
    }
}
