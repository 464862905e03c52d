//! The dearest that `OpenRouter` may choose, in its `provider` object.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::value::RawValue;

use super::quoted;
use crate::head::{HeadError, PriceMax, offset_in, parse_provider};

/// A `provider` object with a `max_price`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Priced {
    /// The whole object.
    pub provider: String,
    /// What it says now, as `prompt=2.5; completion=10`, in numbers of ours alone.
    pub told: String,
    /// Its caller wants some of it for less than that.
    pub is_lower: bool,
}

/// Lowers the `max_price` of a `provider` object (`null` is an empty one) to `most`: of each price what is lower, and
/// what it does not name is put in. All else stays as it was written.
///
/// # Errors
/// As [`parse_provider`].
pub fn lower_price_max(provider: &str, most: &PriceMax) -> Result<Priced, HeadError> {
    let given = parse_provider(provider)?.price_max;
    let object = match provider.trim() {
        "null" => "{}",
        object => object,
    };
    let wrong = |error: serde_json::Error| HeadError::from_json(&error);
    let members: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(object).map_err(wrong)?;
    let old = members.get("max_price").map(|value| value.get());
    let prices: Option<BTreeMap<Cow<'_, str>, &RawValue>> =
        old.map_or(Ok(None), serde_json::from_str).map_err(wrong)?;
    let mut prices: BTreeMap<Cow<'_, str>, Cow<'_, str>> =
        prices.into_iter().flatten().map(|(name, value)| (name, Cow::Borrowed(value.get()))).collect();
    let (mut told, mut is_lower) = (String::new(), false);
    for (name, most, given) in [
        ("prompt", most.prompt, given.prompt),
        ("completion", most.completion, given.completion),
        ("request", most.request, given.request),
        ("image", most.image, given.image),
    ] {
        let Some(most) = most else { continue };
        if given.is_none_or(|given| given > most) {
            prices.insert(name.into(), dollars(most).into());
        }
        is_lower |= given.is_some_and(|given| given < most);
        let mark = if told.is_empty() { "" } else { "; " };
        let _ = write!(told, "{mark}{name}={}", dollars(given.map_or(most, |given| given.min(most))));
    }
    let max_price = written(&prices);
    let with = if let Some(old) = old {
        let start = offset_in(object, old);
        [&object[..start], &max_price, &object[start + old.len()..]].concat()
    } else {
        let comma = if members.is_empty() { "" } else { "," };
        let inner = object.strip_suffix('}').unwrap_or(object);
        format!("{inner}{comma}\"max_price\":{max_price}}}")
    };
    Ok(Priced { provider: with, told, is_lower })
}

fn written(prices: &BTreeMap<Cow<'_, str>, Cow<'_, str>>) -> String {
    let mut text = String::from("{");
    for (name, price) in prices {
        let comma = if text.len() > 1 { "," } else { "" };
        let name = String::from_utf8(quoted(name)).unwrap_or_default();
        let _ = write!(text, "{comma}{name}:{price}");
    }
    text.push('}');
    text
}

/// Nano-dollars as dollars, exactly.
fn dollars(nano: u64) -> String {
    let text = format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: PriceMax = PriceMax {
        prompt: Some(2_500_000_000),
        completion: Some(10_000_000_000),
        request: Some(0),
        image: None,
    };

    fn lowered(provider: &str) -> String {
        lower_price_max(provider, &MOST).unwrap().provider
    }

    #[test]
    fn of_two_prices_the_lower_one_stays_as_it_was_written() {
        let ours = r#"{"completion":10,"prompt":2.5,"request":0}"#;
        for (given, becomes) in [
            ("{}", format!(r#"{{"max_price":{ours}}}"#)),
            ("null", format!(r#"{{"max_price":{ours}}}"#)),
            (r#"{ "sort": "price" }"#, format!(r#"{{ "sort": "price" ,"max_price":{ours}}}"#)),
            (r#"{"max_price": null, "x": 1e400}"#, format!(r#"{{"max_price": {ours}, "x": 1e400}}"#)),
            (r#"{"max_price":{"prompt":99,"completion":null}}"#, format!(r#"{{"max_price":{ours}}}"#)),
            (
                r#"{"m\u0061x_price":{"prompt":"1.50","audio":7,"request":3},"zdr":true}"#,
                r#"{"m\u0061x_price":{"audio":7,"completion":10,"prompt":"1.50","request":0},"zdr":true}"#
                    .into(),
            ),
        ] {
            assert_eq!(lowered(given), becomes);
            assert_eq!(lowered(&becomes), becomes, "once is enough");
        }
        let image = PriceMax { image: Some(1), ..PriceMax::default() };
        let priced = lower_price_max("{}", &image).unwrap();
        assert_eq!(priced.provider, r#"{"max_price":{"image":0.000000001}}"#);
        assert!(!priced.is_lower);
        // Nothing of what the caller wrote is told: it goes into a header.
        let odd = "{\"max_price\":{\"prompt\":\" 1.50\",\"completion\":99,\"audio\":[1,\r\n2]}}";
        let priced = lower_price_max(odd, &MOST).unwrap();
        assert_eq!(priced.told, "prompt=1.5; completion=10; request=0");
        assert!(priced.is_lower);
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for given in [
            r#"{"max_price":{"prompt":1},"max_price":{"prompt":99}}"#,
            r#"{"max_price":{"prompt":1},"max\u005fprice":{"prompt":99}}"#,
            r#"{"max_price":{"prompt":1,"prompt":99}}"#,
            r#"{"max_price":{"prompt":1,"pr\u006fmpt":99}}"#,
            r#"{"max_price":[1]}"#,
            r#"{"max_price":{"prompt":true}}"#,
            "[]",
        ] {
            assert!(lower_price_max(given, &MOST).is_err(), "{given}");
        }
    }
}
