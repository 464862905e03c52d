//! No text makes it panic, and no report leaks what a secret's place holds.

use crate::world::Table;
use proptest::prelude::*;

const LINES: &[&str] = &[
    "[server]",
    "[[provider]]",
    "[[route]]",
    "[[provider.account]]",
    "[provider.timeouts]",
    "[breaker]",
    "[nonsense]",
    "name = \"openrouter\"",
    "name = \"x y\"",
    "name = 3",
    "preset = \"vllm\"",
    "dialect = \"anthropic\"",
    "base_url = \"http://[::1]:99999/\"",
    "base_url = \"https://h/v1\"",
    "listen = \"0.0.0.0:1\"",
    "listen = 4000",
    "keys = [{ name = \"a\", secret = \"env:KEY\" }, { name = \"a\" }]",
    "keys = 4",
    "keys = [[]]",
    "keys = [{}]",
    "limits = [{ rpm = 0 }, { per = \"10s\" }, { requests = 1e300, per = \"1ms\" }]",
    "limits = [{ rpm = 9223372036854775807 }]",
    "limits = [{ rpd = 1, shape = \"window\", day_begins = \"99:99\" }]",
    "window = \"9999999999999d\"",
    "window = \"1.5.5s\"",
    "model = \"m\"",
    "model = \"\"",
    "tiers = [[\"openrouter:x\"], []]",
    "tiers = [[{ weight = -1 }]]",
    "tiers = \"x\"",
    "auth = \"header:ö\"",
    "account = \"é\"",
    "default_provider = \"ä\"",
    "timeouts = { hold = \"0s\" }",
    "headers = { \"a b\" = \"c\\nd\", host = \"x\" }",
    "\u{feff}",
    "= =",
    "\"",
    "'''",
    "a.b.c = 1",
    "name = \"\\uD800\"",
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
        check(&text)?;
    }

    #[test]
    fn arbitrary_lines_never_panic(lines in prop::collection::vec(prop::sample::select(LINES), 0..14)) {
        check(&lines.join("\n"))?;
    }

    #[test]
    fn a_good_file_with_a_piece_cut_out_never_panics(at in 0_usize..4_000, length in 0_usize..40, noise in "\\PC{0,5}") {
        let whole = include_str!("../../../../examples/everything.toml");
        let at = at.min(whole.len());
        let end = (at + length).min(whole.len());
        if let (Some(before), Some(after)) = (whole.get(..at), whole.get(end..)) {
            check(&format!("{before}{noise}{after}"))?;
        }
    }
}

fn check(text: &str) -> Result<(), TestCaseError> {
    match Table::plentiful().toml(text) {
        Ok(config) => {
            config.describe();
            prop_assert!(!config.providers.is_empty());
            prop_assert!(config.providers.iter().all(|p| !p.keys.is_empty()));
            prop_assert!(keymux_config::diff(&config, &config).is_empty());
        }
        Err(problems) => {
            prop_assert!(problems.errors() > 0);
            for problem in &problems.list {
                prop_assert!(!problem.message.is_empty());
                prop_assert_eq!(problem.line.is_some(), problem.span.is_some());
            }
            let rendered = problems.render("f.toml", text, false);
            prop_assert!(!rendered.chars().any(|c| c.is_control() && c != '\n'));
        }
    }
    Ok(())
}
