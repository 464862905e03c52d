//! Teams, client keys and prices: read in full.

use crate::world::{Table, bad};
use keymux_config::prices::{At, Kind, Usage};
use keymux_config::{Config, Problems, UnknownPrice, diff, from_toml};
use keymux_policy::Priority;
use keymux_policy::budget::{Budget, Reset};

const HEAD: &str = r#"
[[provider]]
name = "openrouter"
keys = [{ name = "main", secret = "env:OR_KEY" }]
[[provider]]
name = "openai"
keys = [{ name = "a", account = "org", secret = "env:OA_KEY" }]
[[provider.account]]
name = "org"
"#;

const WHOLE: &str = r#"
[[team]]
name = "search"
budget = 100
reset = "monthly"
rpm = 600
[[client]]
name = "indexer"
team = "search"
secret = "env:CLIENT_KEY_1"
models = ["sonnet*", "openai:gpt-4o*"]
providers = ["openai"]
accounts = ["openai:org"]
keys = ["openai:a", "openrouter:main"]
rpm = 60
tpm = 100_000
concurrent = 4
budget = 0.000000001
reset = "daily"
priority = "low"
weight = 2
expires = "2027-01-31T13:00:00+01:00"
tags = ["batch", "cost-centre 7"]
max_wait = "1m"
[[client]]
name = "ops"
secret = "sha256:9F86D081884C7D659A2FEAA0C55AD015A3BF4F1B2B0B822CD15D6C15B0F00A08"
expires = "2027-01-31"
[[price]]
model = "openai:gpt-4o*"
input = 2.5
output = 10
cache_read = 1.25
request = 0.01
context = 128_000
above = [{ tokens = 64_000, input = 5.0 }]
[prices]
unknown = "serve"
"#;

fn read(text: &str) -> Result<Config, Problems> {
    let text = format!("{HEAD}{text}");
    Table::plentiful().with(|w| from_toml("keymux.toml", &text, w))
}

fn good(text: &str) -> Config {
    read(text).unwrap_or_else(|e| panic!("{}", e.render("keymux.toml", &format!("{HEAD}{text}"), false)))
}

#[test]
fn a_listener_that_others_reach_needs_a_token_or_a_client() {
    let open = "[server]\nlisten = \"0.0.0.0:4000\"\n";
    assert!(bad(&format!("{open}{HEAD}")).iter().any(|m| m.contains("anyone who does could spend")));
    let keyed = format!("{open}{HEAD}[[client]]\nname = \"a\"\nsecret = \"env:CLIENT_KEY_1\"\n");
    assert!(Table::plentiful().with(|w| from_toml("keymux.toml", &keyed, w)).is_ok());
}

#[test]
fn every_setting_arrives() {
    let config = good(WHOLE);
    let team = &config.teams[0];
    assert_eq!(team.budget, Budget { limit_nano_usd: Some(100_000_000_000), reset: Reset::Monthly });
    assert_eq!(team.limits.len(), 1);
    let [indexer, ops] = config.clients.as_slice() else { panic!("two clients") };
    assert_eq!(indexer.team, Some(0));
    assert_eq!(indexer.budget, Budget { limit_nano_usd: Some(1), reset: Reset::Daily });
    assert_eq!(indexer.limits.len(), 3);
    assert_eq!((indexer.priority, indexer.weight.to_bits()), (Priority::Low, 2.0_f64.to_bits()));
    assert_eq!((indexer.expires_unix_s, ops.expires_unix_s), (Some(1_801_396_800), Some(1_801_353_600)));
    assert_eq!((indexer.tags.len(), indexer.max_wait_ms), (2, Some(60_000)));
    let allow = &indexer.allow;
    assert!(allow.models.matches("sonnet-4") && !allow.models.matches("opus"));
    assert_eq!(allow.providers.as_ref().unwrap()[..], ["openai".into()]);
    assert_eq!(allow.accounts.as_ref().unwrap()[..], [("openai".into(), "org".into())]);
    assert_eq!(allow.keys.as_ref().unwrap().len(), 2);
    // The digest of "test"; nobody has said where the secret itself stands.
    assert_eq!((ops.digest[0], ops.digest[31], ops.source.is_none()), (0x9f, 0x08, true));
    assert_eq!(ops.budget, Budget::default());
    assert!(ops.allow.providers.is_none() && ops.team.is_none());
    assert_ne!(indexer.digest, [0; 32]);
    assert_eq!(config.unknown_price, UnknownPrice::Serve);
}

#[test]
fn own_prices_go_over_the_table_and_another_address_has_none() {
    let config = good(WHOLE);
    let price = config.price(1, "gpt-4o-mini").unwrap();
    assert_eq!(price.context_tokens, Some(128_000));
    let cost = |input_tokens| {
        let usage = Usage { input_tokens, output_tokens: 1, ..Usage::default() };
        price.cost(&usage, &At::default())
    };
    assert_eq!(cost(64_000), Some(160_000_000 + 10_000 + 10_000_000));
    assert_eq!(cost(64_001), Some(320_005_000 + 10_000 + 10_000_000));
    // What has no price of its own comes from the table.
    assert!(config.price(1, "gpt-6-sol").unwrap().standard[0].1.get(Kind::CacheWrite).is_some());
    assert!(config.price(0, "openai/gpt-4o").is_some());
    let keys = "keys = [{ name = \"a\", secret = \"env:EU_KEY\" }]";
    let elsewhere = good(&format!(
        "[[provider]]\nname = \"eu\"\npreset = \"openai\"\nbase_url = \"https://eu.example.com/v1\"\n{keys}"
    ));
    assert!(elsewhere.price(2, "gpt-6-sol").is_none() && elsewhere.price(1, "gpt-6-sol").is_some());
}

#[test]
fn a_table_from_a_file_replaces_the_embedded_one() {
    let table = Table::plentiful()
        .file("/prices", "keymux-prices 1 2030-01-01 mine\np openai\nm 0 only\nr - i1 o2\n")
        .file("/broken", "keymux-prices 1 2030-01-01 mine\np openai\nx\n");
    let read = |file: &str| {
        let text = format!("{HEAD}[prices]\nfile = \"{file}\"");
        table.with(|w| from_toml("keymux.toml", &text, w))
    };
    let config = read("/prices").unwrap();
    assert!(config.price(1, "only").is_some() && config.price(1, "gpt-4o").is_none());
    let problems = read("/broken").unwrap_err();
    assert!(problems.list[0].message.contains("line 3"), "{problems}");
    assert_eq!(problems.list[0].line, Some(11));
}

#[test]
fn all_mistakes_at_once_each_with_its_mend() {
    let text = r#"
[[team]]
name = "a"
reset = "daily"
[[team]]
name = "a"
budget = 0
[[client]]
name = "x"
team = "b"
models = []
providers = ["opnai"]
accounts = ["org", "openai:ogr"]
keys = ["openai:zzz"]
budget = -1
expires = "tomorrow"
priority = "urgent"
[[client]]
secret = "sha256:12"
[[client]]
name = "y"
secret = "literal:short"
[[client]]
name = "z"
secret = "literal:short"
[[price]]
input = 1
[[price]]
model = "nobody:x"
input = 1
above = [{ tokens = 5, output = 1 }, { tokens = 5, input = 1 }]
[[price]]
model = "gpt-4o"
[[price]]
model = "openai:a"
request = 999999999
[prices]
file = "~/nowhere"
unknown = "maybe"
"#;
    let world = Table::vars(&[("OR_KEY", "sk-test-1"), ("OA_KEY", "sk-test-2"), ("HOME", "/home/u")]);
    let text = format!("{HEAD}{text}");
    let found = world.with(|w| from_toml("keymux.toml", &text, w)).unwrap_err();
    insta::assert_snapshot!(found.render("keymux.toml", &text, false));
}

#[test]
fn a_client_must_not_share_the_token() {
    let text = "[server]\ntoken = \"literal:0123456789abcdef0123\"\n[[client]]\nname = \"x\"\nsecret = \"literal:0123456789abcdef0123\"\n";
    let problems = read(text).unwrap_err();
    assert!(problems.list.iter().any(|p| p.message.contains("is server.token")), "{problems}");
}

#[test]
fn a_description_tells_what_each_may() {
    let text = good(WHOLE).describe();
    let (_, clients) = text.split_once("\nprices ").expect("prices");
    insta::assert_snapshot!(clients);
    assert!(!good("").describe().contains("prices "));
}

#[test]
fn a_reload_says_what_changes_for_whom() {
    let old = good(WHOLE);
    let new = WHOLE
        .replace("budget = 100\n", "budget = 200\n")
        .replace("team = \"search\"\n", "")
        .replace("keys = [\"openai:a\", \"openrouter:main\"]\n", "")
        .replace("CLIENT_KEY_1", "CLIENT_KEY_2")
        .replace("name = \"ops\"", "name = \"root\"")
        .replace("output = 10\n", "output = 11\n")
        .replace("\"serve\"", "\"refuse\"");
    let mut changes: Vec<String> = diff(&old, &good(&new)).iter().map(ToString::to_string).collect();
    changes.sort();
    assert_eq!(
        changes,
        [
            "[[price]] changed",
            "client indexer changed: team, secret, where its secret stands, what it may reach",
            "client ops removed",
            "client root added",
            "prices.unknown changed",
            "team search changed: budget",
        ]
    );
    assert!(diff(&old, &good(WHOLE)).is_empty());
}
