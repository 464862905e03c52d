//! The usual `usage` object, read without a parser: whole numbers where counts are expected. `None` wherever it says
//! anything else; then serde has its say.

use super::{Count, DetailCounts, Said};
use crate::answer::quick::raw;
use crate::scan::Scan;

pub(super) fn said(text: &str) -> Option<Said<'_>> {
    let mut said = Said::default();
    let mut scan = Scan::new(text);
    scan.object(|scan, name| {
        let slot = match name {
            "prompt_tokens" => &mut said.prompt_tokens,
            "completion_tokens" => &mut said.completion_tokens,
            "total_tokens" => &mut said.total_tokens,
            "prompt_cache_hit_tokens" => &mut said.prompt_cache_hit_tokens,
            "input_tokens" => &mut said.input_tokens,
            "output_tokens" => &mut said.output_tokens,
            "cache_creation_input_tokens" => &mut said.cache_creation_input_tokens,
            "cache_read_input_tokens" => &mut said.cache_read_input_tokens,
            "prompt_tokens_details" => return details(scan, &mut said.prompt_tokens_details.0),
            "completion_tokens_details" => return details(scan, &mut said.completion_tokens_details.0),
            "input_tokens_details" => return details(scan, &mut said.input_tokens_details.0),
            "output_tokens_details" => return details(scan, &mut said.output_tokens_details.0),
            "cost" => return raw(scan, &mut said.cost),
            "cost_details" => return raw(scan, &mut said.cost_details),
            "is_byok" => return raw(scan, &mut said.is_byok),
            "service_tier" => return raw(scan, &mut said.service_tier),
            _ => return scan.value(),
        };
        count(scan, slot)
    })?;
    scan.is_at_end().then_some(said)
}

/// A count; one given twice is the parser's question.
fn count(scan: &mut Scan<'_>, slot: &mut Count) -> Option<()> {
    let (digits, _) = scan.raw()?;
    slot.0.replace(digits.parse().ok()?).is_none().then_some(())
}

fn details(scan: &mut Scan<'_>, counts: &mut DetailCounts) -> Option<()> {
    scan.object(|scan, name| {
        let slot = match name {
            "cached_tokens" => &mut counts.cached,
            "cache_write_tokens" => &mut counts.cache_write,
            "reasoning_tokens" => &mut counts.reasoning,
            "audio_tokens" => &mut counts.audio,
            _ => return scan.value(),
        };
        count(scan, slot)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "prompt_tokens",
            "completion_tokens",
            "total_tokens",
            "prompt_cache_hit_tokens",
            "input_tokens",
            "output_tokens",
            "cache_creation_input_tokens",
            "cache_read_input_tokens",
            "prompt_tokens_details",
            "completion_tokens_details",
            "input_tokens_details",
            "output_tokens_details",
            "cached_tokens",
            "cache_write_tokens",
            "reasoning_tokens",
            "audio_tokens",
            "cost",
            "cost_details",
            "is_byok",
            "service_tier",
            "other",
        ])
    }

    fn value() -> impl Strategy<Value = String> {
        let leaf = prop::sample::select(vec![
            "0",
            "7",
            "12",
            "300",
            "1.5",
            "-1",
            "1e3",
            "18446744073709551616",
            "null",
            "true",
            "\"5\"",
            "\"flex\"",
            "[]",
        ])
        .prop_map(str::to_owned);
        let member = (name(), 0..100_u32).prop_map(|(name, count)| format!("\"{name}\" : {count}"));
        let object = prop::collection::vec(member, 0..4).prop_map(|m| format!("{{{}}}", m.join(" , ")));
        prop_oneof![3 => (0..100_u32).prop_map(|n| n.to_string()), 1 => leaf, 2 => object]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

        #[test]
        fn it_finds_what_the_parser_finds(members in prop::collection::btree_map(name(), value(), 0..8)) {
            let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            let text = format!("{{{}}}", members.join(","));
            if let Some(quick) = said(&text) {
                let slow: Result<Said<'_>, _> = serde_json::from_str(&text);
                let slow = slow.map(|said| said.normalised()).ok();
                prop_assert_eq!(Some(quick.normalised()), slow, "{}", text);
            }
        }
    }

    #[test]
    fn the_usual_ones_need_no_parser() {
        for text in [
            r#"{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}"#,
            r#"{"prompt_tokens":1,"prompt_tokens_details":{"cached_tokens":1,"audio_tokens":0},"queue_time":0.1}"#,
            r#"{"input_tokens":1,"cache_creation":{"a":[1]},"output_tokens":2,"service_tier":"standard"}"#,
            r#"{"prompt_tokens":1,"cost":0.5,"cost_details":{"upstream_inference_cost":null},"is_byok":false}"#,
        ] {
            assert!(said(text).is_some(), "{text}");
        }
        for text in [r#"{"prompt_tokens":1,"prompt_tokens":2}"#, r#"{"prompt_tokens":1.5}"#, "{} ", "null"] {
            assert!(said(text).is_none(), "{text}");
        }
    }
}
