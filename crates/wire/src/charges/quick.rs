//! The usual body, walked without a parser: it looks at the text of messages many bytes at a time. `None` wherever
//! something is unusual (wrong, deep, an escape where a name or a kind stands, a number that may be none); then serde has
//! its say, so that both say the same.

use super::{Charges, Member, Place};
use crate::scan::Scan;

/// Deeper bodies are the parser's, which has a limit of its own.
const DEPTH_MAX: u32 = 100;
/// A number of so many digits is still one to the parser.
const DIGITS_MAX: usize = 300;

pub(super) fn read(text: &str) -> Option<Charges> {
    let mut charges = Charges::default();
    let mut scan = Scan::new(text);
    scan.space();
    walk(&mut scan, &mut charges, Place::Top, 0)?;
    scan.space();
    scan.is_at_end().then_some(charges)
}

fn walk(scan: &mut Scan<'_>, charges: &mut Charges, place: Place, depth: u32) -> Option<()> {
    match scan.peek()? {
        b'"' => string(scan, charges, place),
        b'{' if depth < DEPTH_MAX => {
            let mut object = charges.begins(place);
            scan.object(|scan, name| match charges.member(&mut object, name) {
                Member::Walked(place) => walk(scan, charges, place, depth + 1),
                Member::Whole => scan.raw().map(|(raw, _)| charges.whole(&mut object, name, raw)),
            })?;
            charges.closes(&object);
            Some(())
        }
        b'[' if depth < DEPTH_MAX => {
            let prompts = charges.prompts;
            scan.list(|scan| walk(scan, charges, place, depth + 1))?;
            charges.ends(place, prompts);
            Some(())
        }
        b'{' | b'[' => None,
        b't' | b'f' | b'n' => scan.value(),
        _ => {
            let (number, _) = scan.raw()?;
            let usual = number.len() <= DIGITS_MAX && !number.contains(['e', 'E']);
            usual.then_some(())
        }
    }
}

fn string(scan: &mut Scan<'_>, charges: &mut Charges, place: Place) -> Option<()> {
    let start = scan.at();
    let plain = scan.string()?;
    let (quoted, _) = scan.since(start)?;
    let text = quoted.get(1..quoted.len() - 1)?;
    // Of these the words do not matter.
    let any = matches!(place, Place::Top | Place::Tools | Place::Tool | Place::Elsewhere | Place::Prompt);
    if !plain && (!any || has_surrogates(text)) {
        return None;
    }
    charges.text(place, text);
    Some(())
}

/// Escapes that are a character only in pairs.
fn has_surrogates(text: &str) -> bool {
    text.match_indices("\\u").any(|(at, _)| matches!(text.as_bytes().get(at + 2), Some(b'd' | b'D')))
}

#[cfg(test)]
mod tests {
    use super::super::parsed;
    use super::*;
    use proptest::prelude::*;

    /// Both have to say the same; what quick says by itself.
    fn said(body: &[u8]) -> Option<Charges> {
        let quick = std::str::from_utf8(body).ok().and_then(read);
        if quick.is_some() {
            assert_eq!(quick, parsed(body), "{}", String::from_utf8_lossy(body));
        }
        quick
    }

    #[test]
    fn the_usual_body_needs_no_parser() {
        let text = "all happy families are alike, \u{e9}\\n\\\"".repeat(1000);
        for body in [
            format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{text}"}}],"max_tokens":100}}"#),
            format!(
                r#" {{ "input" : [ {{ "type" : "input_text" , "text" : "{text}" }} , -1.5 , [] , {{}} ] }} "#
            ),
            r#"{"tools":[{"type":"web_search"}],"plugins":[{"id":"web"}],"audio":{},"best_of":2}"#.to_owned(),
            r#"{"prompt":["a","b"],"speed":null,"background":true,"stream":true}"#.to_owned(),
            r#"{"messages":[{"content":"\u4f60\u597d"}]}"#.to_owned(),
        ] {
            assert!(said(body.as_bytes()).is_some(), "{body}");
        }
    }

    #[test]
    fn what_is_unusual_is_the_parsers() {
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        for body in [
            r#"{"\u0074ools":[{"type":"web_search"}]}"#.to_owned(),
            r#"{"tools":[{"type":"web\u005fsearch"}]}"#.to_owned(),
            r#"{"messages":[{"content":"\ud83d\ude00"}]}"#.to_owned(),
            r#"{"messages":[{"content":"\ud83d"}]}"#.to_owned(),
            r#"{"temperature":1e-1}"#.to_owned(),
            r#"{"temperature":1e999}"#.to_owned(),
            format!(r#"{{"temperature":{}}}"#, "9".repeat(400)),
            format!(r#"{{"a":{}}}"#, deep(126)),
            format!(r#"{{"a":{}}}"#, deep(127)),
            format!(r#"{{"plugins":{}}}"#, deep(128)),
            "{\"a\":\"\u{1}\"}".to_owned(),
            r#"{"a":1} x"#.to_owned(),
        ] {
            assert_eq!(said(body.as_bytes()), None, "{body}");
        }
        // Nothing that it passes over may be more than the parser takes.
        for body in [
            format!(r#"{{"audio":{}}}"#, deep(120)),
            format!(r#"{{"a":{}}}"#, deep(98)),
            format!(r#"{{"plugins":{}}}"#, deep(127)),
            r#"{"plugins":["\ud83d"]}"#.to_owned(),
            r#"{"audio":"\ud83d"}"#.to_owned(),
            r#"{"tools":[{"type":"shell","environment":{"type":"loc\u0061l"}}]}"#.to_owned(),
            r#"{"tools":[{"environment":["\ud83d",1e999],"type":"shell"}],"metadata":{"type":"file"}}"#
                .to_owned(),
        ] {
            assert!(said(body.as_bytes()).is_some(), "{body}");
        }
        assert_eq!(said(b"{\"a\":\"\xff\"}"), None);
    }

    /// A word that means something, or nothing.
    fn word() -> impl Strategy<Value = String> {
        const KNOWN: [&str; 42] = [
            "prompt",
            "tools",
            "fallbacks",
            "modalities",
            "audio",
            "speed",
            "best_of",
            "background",
            "plugins",
            "context_management",
            "inference_geo",
            "enable_search",
            "container",
            "input",
            "type",
            "ttl",
            "data",
            "url",
            "image_url",
            "file_data",
            "file_id",
            "file_url",
            "model",
            "id",
            "enabled",
            "edits",
            "function",
            "image",
            "file",
            "web_search",
            "bash_1",
            "5m",
            "1h",
            "global",
            "response-healing",
            "item_reference",
            "clear_x",
            "metadata",
            "environment",
            "local",
            "shell",
            "search_parameters",
        ];
        let base64 = format!("data:image/png;base64,{}", "A".repeat(80));
        prop_oneof![
            12 => prop::sample::select(&KNOWN[..]).prop_map(str::to_owned),
            1 => Just(base64),
            2 => "[a-z\\\\\"é\\x00-\\x20😀]{0,40}",
        ]
    }

    /// A word as JSON: as it is, or with an escape.
    fn quoted() -> impl Strategy<Value = String> {
        (word(), 0..8u8, any::<prop::sample::Index>()).prop_map(|(word, how, at)| {
            let word = if how == 7 { word.to_ascii_uppercase() } else { word };
            let plain = serde_json::to_string(&word).unwrap();
            if !word.is_ascii() || word.is_empty() || how > 0 {
                return plain;
            }
            let at = at.index(word.len());
            let escaped = format!("\\u{:04x}", word.as_bytes()[at]);
            let end = |part: &str| serde_json::to_string(part).unwrap().trim_matches('"').to_owned();
            format!("\"{}{escaped}{}\"", end(&word[..at]), end(&word[at + 1..]))
        })
    }

    fn json() -> impl Strategy<Value = String> {
        let number = "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,3})?";
        let leaf = prop_oneof![
            4 => quoted(),
            2 => prop::sample::select(&["null", "true", "false", "1", "3", "\"\\ud83d\"", "\"\\ud83d\\ude00\""][..]).prop_map(str::to_owned),
            1 => number.prop_map(|number| number),
        ];
        leaf.prop_recursive(6, 60, 6, |inner| {
            let space = prop::sample::select(&["", " ", "\n\t"][..]);
            let member = (quoted(), space.clone(), inner.clone()).prop_map(|(n, space, v)| format!("{n}{space}:{space}{v}"));
            let (members, list) = (prop::collection::vec(member, 0..6), prop::collection::vec(inner, 0..5));
            prop_oneof![
                3 => (members, space.clone()).prop_map(|(all, space)| format!("{{{space}{}{space}}}", all.join(&format!("{space},")))),
                1 => (list, space).prop_map(|(all, space)| format!("[{space}{}{space}]", all.join(&format!(",{space}")))),
            ]
        })
    }

    /// Members that mean something only together, in any order, each also twice, and others between them.
    fn together() -> impl Strategy<Value = String> {
        const SHELLS: [&str; 10] = [
            r#""type":"shell""#,
            r#""type" : "shell""#,
            r#""environment":{"type":"local"}"#,
            r#""environment":{"type":"local","skills":[{"name":"n","path":"p"}]}"#,
            r#""environment" : { "type" : "container_auto" } "#,
            r#""environment":{"type":"container_auto","type":"local"}"#,
            r#""Environment":{"type":"local"}"#,
            r#""environment":null"#,
            r#""env\u0069ronment":{"type":"local"}"#,
            r#""tools":[{"type":"shell"}]"#,
        ];
        const FIELDS: [&str; 9] = [
            r#""search_parameters":{"mode":"off"}"#,
            r#""search_parameters":{"mode":"on"}"#,
            r#""search_parameters":{"mode":"off","mode":"on"}"#,
            r#""extra_body":{"google":{"thinking_config":{"thinking_budget":8}}}"#,
            r#""extra_body":{"google":{"thinking_config":{},"cached_content":"c"}}"#,
            r#""extra_body" : null"#,
            r#""metadata":{"type":"file","data":"d"}"#,
            r#""metadata":[{"file_id":"f"}]"#,
            r#""environment":{"type":"local"}"#,
        ];
        let of = |known: &'static [&str]| {
            let known = prop::sample::select(known).prop_map(str::to_owned);
            let other = (quoted(), json()).prop_map(|(name, value)| format!("{name}:{value}"));
            prop::collection::vec(prop_oneof![4 => known, 1 => other], 0..5)
        };
        (of(&FIELDS), prop::collection::vec(of(&SHELLS), 0..4)).prop_map(|(mut fields, tools)| {
            let tools: Vec<_> = tools.iter().map(|tool| format!("{{{}}}", tool.join(","))).collect();
            fields.push(format!("\"tools\":[{}]", tools.join(" , ")));
            format!("{{{}}}", fields.join(","))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]
        #[test]
        fn it_says_what_the_parser_says(text in prop_oneof![json(), together()], at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in 0..3u8) {
            let mut body = text.into_bytes();
            said(&body);
            // And with a byte that is wrong, or an end that is missing.
            let at = at.index(body.len());
            match cut {
                0 => body.truncate(at),
                1 => body[at] = byte,
                _ => body.insert(at, byte),
            }
            said(&body);
        }
    }
}
