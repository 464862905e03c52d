//! What a good file means.

use crate::world::{Table, bad, good};
use keymux_config::{Auth, Dialect, Endpoint, LimitHeaders, ModelsFetch, SecretSource, Strategy, Timeouts};
use keymux_policy::fleet::{Dimension, LimitSpec, OutputCharge, Shape};
use std::path::PathBuf;

const ONE: &str = r#"
[[provider]]
name = "openrouter"
keys = [{ name = "main", secret = "env:OPENROUTER_KEY_1" }]
"#;

/// The file of the design document, word for word.
const GATEWAY: &str = r#"
[server]
listen = "127.0.0.1:4000"
admin  = "127.0.0.1:4001"

[[provider]]
name    = "openrouter"                     # a preset: base URL, headers, dialect, endpoints, limit shapes
headers = { "HTTP-Referer" = "https://my-app.com", "X-Title" = "my-app" }
keys = [
  { name = "main",  secret = "env:OPENROUTER_KEY_1" },
  { name = "spare", secret = "file:/run/secrets/or2", weight = 2 },
]

[[provider]]
name = "openai"
keys = [
  { name = "org-a-1", account = "org-a", secret = "env:OPENAI_KEY_A1" },   # same account: same limits
  { name = "org-a-2", account = "org-a", secret = "env:OPENAI_KEY_A2" },
  { name = "org-b",   secret = "env:OPENAI_KEY_B" },                       # an account of its own
]
[[provider.account]]
name   = "org-a"
limits = [ { rpm = 500, tpm = 200_000, models = ["gpt-4o*"] } ]

[[provider]]                                # any other server that speaks a known dialect
name     = "lab"
dialect  = "openai"                         # openai | openrouter | anthropic
base_url = "http://10.0.0.7:8000/v1"
keys     = [ { name = "lab", auth = "none" } ]
limits   = [ { requests = 60, tokens = 40_000, per = "10s", shape = "window" }, { concurrent = 8, models = ["llama-*"] } ]

[[route]]
model = "sonnet"
tiers = [ ["openrouter:anthropic/claude-sonnet-4.5"], ["lab:llama-70b"] ]
strategy = "headroom"
max_wait = "10s"
"#;

fn limit(dimension: Dimension, shape: Shape, models: &[&str]) -> LimitSpec {
    let models = keymux_config::ModelSet(models.iter().map(|m| Box::from(*m)).collect());
    LimitSpec { dimension, shape, models, preset: false }
}

fn bucket(n: f64, seconds: f64) -> Shape {
    Shape::Bucket { capacity: n, refill_per_s: n / seconds }
}

#[test]
fn the_designs_own_file_means_what_it_says() {
    let config = good(GATEWAY);
    let [openrouter, openai, lab] = &config.providers[..] else { panic!("three providers") };
    assert_eq!(openrouter.dialect, Dialect::OpenRouter);
    assert_eq!(openrouter.base.to_string(), "https://openrouter.ai/api/v1");
    assert_eq!(openrouter.headers[1], ("X-Title".to_owned(), "my-app".to_owned()));
    assert_eq!(openrouter.keys[0].secret.as_ref().unwrap().expose(), "sk-test-OPENROUTER_KEY_1");
    assert_eq!(openrouter.keys[1].secret.as_ref().unwrap().expose(), "/run/secrets/or2");
    assert_eq!(openrouter.keys[1].source, SecretSource::File(PathBuf::from("/run/secrets/or2")));
    assert!((openrouter.keys[1].weight - 2.0).abs() < 1e-9);
    assert_eq!(openrouter.accounts.len(), 2, "each key is an account of its own");

    let owners: Vec<&str> = openai.keys.iter().map(|k| &*openai.accounts[k.account].name).collect();
    assert_eq!(owners, ["org-a", "org-a", "org-b"]);
    let (a, b) = (&openai.accounts[openai.keys[0].account], &openai.accounts[openai.keys[2].account]);
    let models = &["gpt-4o*"];
    assert_eq!(
        a.limits,
        [
            limit(Dimension::Requests, bucket(500.0, 60.0), models),
            limit(Dimension::TotalTokens, bucket(200_000.0, 60.0), models),
        ]
    );
    assert_eq!(b.limits, []);

    assert_eq!((&*lab.base.host, lab.base.port, lab.base.https), ("10.0.0.7", 8000, false));
    assert!(lab.keys[0].secret.is_none());
    let window = |limit| Shape::Window { limit, period_ns: 10_000_000_000, anchor_unix_ns: None };
    assert_eq!(
        lab.accounts[0].limits,
        [
            limit(Dimension::Requests, window(60.0), &[]),
            limit(Dimension::TotalTokens, window(40_000.0), &[]),
            limit(Dimension::Concurrent, Shape::Slots { limit: 8 }, &["llama-*"]),
        ]
    );
    let route = &config.routes[0];
    assert_eq!((&*route.model, route.tiers.len(), route.max_wait_ms), ("sonnet", 2, 10_000));
    assert_eq!(&*route.tiers[0][0].model, "anthropic/claude-sonnet-4.5");
    assert_eq!(route.tiers[1][0].provider, 2);
    assert_eq!(config.default_provider, None, "with three providers, none is the default by itself");
    // The lab serves no messages: told, not refused.
    assert_eq!(config.warnings.len(), 1);
    assert!(config.warnings[0].message.ends_with("messages only by tier 1"));
    assert_eq!(config.warnings[0].line, Some(33));
}

#[test]
fn defaults_are_those_of_the_design() {
    let config = good(ONE);
    let server = &config.server;
    assert_eq!(server.listen.to_string(), "127.0.0.1:4000");
    assert_eq!(server.admin.unwrap().to_string(), "127.0.0.1:4001");
    assert_eq!((server.body_bytes_max, server.head_bytes_max), (32 << 20, 64 << 10));
    assert_eq!((server.drain_ms, server.header_timeout_ms), (30_000, 10_000));
    assert_eq!((server.body_timeout_ms, server.keep_alive_ms, server.max_wait_ms), (30_000, 75_000, 10_000));
    assert!(server.expose_keys && !server.allow_open && server.token.is_none());
    assert_eq!(config.providers[0].timeouts, Timeouts::default());
    assert_eq!(config.settings, keymux_config::Settings::default());
    assert_eq!(config.default_strategy, Strategy::Headroom);
    assert_eq!(config.default_provider, Some(0));
    assert_eq!(config.warnings, []);
}

#[test]
fn time_outs_are_laid_over_each_other() {
    let config = good(&format!(
        "[timeouts]\nidle = \"7s\"\nconnect = \"1s\"\n{ONE}\n[provider.timeouts]\nidle = \"1m30s\"\n\
         [[route]]\nmodel = \"m\"\ntiers = [[\"openrouter:x/y\"]]\ntimeouts = {{ hold = \"250ms\" }}\n"
    ));
    let provider = config.providers[0].timeouts;
    assert_eq!(provider, Timeouts { connect_ms: 1_000, idle_ms: 90_000, ..Timeouts::default() });
    let merged = config.routes[0].timeouts.over(&provider);
    assert_eq!(merged, Timeouts { hold_ms: 250, ..provider });
}

#[test]
fn three_errors_in_a_minute_can_be_written() {
    let config = good(&format!(
        "[breaker]\nfailures_min = 3\nfailure_ratio = 0\nwindow = \"60s\"\nconsecutive = 7\n[retry]\nbudget_floor_per_s = 0\nbudget_ratio = 0\n{ONE}"
    ));
    let breaker = &config.settings.breaker;
    assert_eq!((breaker.failures_min, breaker.consecutive, breaker.window_ns), (3, 7, 60_000_000_000));
    assert!(breaker.failure_ratio.abs() < 1e-12);
    assert!(config.settings.retry.budget_floor_per_s.abs() < 1e-12);
}

#[test]
fn an_accounts_limit_replaces_the_providers_of_the_same_kind_only() {
    let config = good(
        r#"
[[provider]]
name = "openai"
limits = [{ rpm = 100, tpm = 1000 }, { rpm = 5, models = ["o1*"] }]
keys = [
  { name = "a", account = "big", secret = "env:KEY_A" },
  { name = "b", secret = "env:KEY_B", limits = [{ concurrent = 2 }] },
]
[[provider.account]]
name = "big"
limits = [{ rpm = 900 }, { rpd = 50 }]
"#,
    );
    let provider = &config.providers[0];
    assert_eq!(
        provider.accounts[0].limits,
        [
            limit(Dimension::TotalTokens, bucket(1000.0, 60.0), &[]),
            limit(Dimension::Requests, bucket(5.0, 60.0), &["o1*"]),
            limit(Dimension::Requests, bucket(900.0, 60.0), &[]),
            limit(Dimension::Requests, bucket(50.0, 86_400.0), &[]),
        ]
    );
    assert_eq!(provider.accounts[1].limits.len(), 3);
    assert_eq!(provider.keys[1].limits, [limit(Dimension::Concurrent, Shape::Slots { limit: 2 }, &[])]);
}

#[test]
fn an_accounts_limit_leaves_the_providers_of_another_period() {
    let config = good(
        "[[provider]]\nname = \"openai\"\nlimits = [{ rpm = 100, rpd = 5000 }, { tpm = 7, models = [\"o1\"] }]\n\
         keys = [{ name = \"a\", account = \"acc\", secret = \"env:KEY_A\" }]\n\
         [[provider.account]]\nname = \"acc\"\nlimits = [{ rpm = 900 }, { tpm = 9 }]\n",
    );
    assert_eq!(
        config.providers[0].accounts[0].limits,
        [
            limit(Dimension::Requests, bucket(5000.0, 86_400.0), &[]),
            limit(Dimension::TotalTokens, bucket(7.0, 60.0), &["o1"]),
            limit(Dimension::Requests, bucket(900.0, 60.0), &[]),
            limit(Dimension::TotalTokens, bucket(9.0, 60.0), &[]),
        ]
    );
}

#[test]
fn headers_keep_the_order_of_the_file() {
    let config = good(&ONE.replace("keys =", "headers = { z = \"1\", a = \"2\", M = \"3\" }\nkeys ="));
    let names: Vec<&str> = config.providers[0].headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["z", "a", "M"]);
}

#[test]
fn a_key_cannot_join_another_key_that_has_an_account_of_its_own() {
    let messages = bad(
        "[[provider]]\nname = \"openai\"\nkeys = [{ name = \"a\", secret = \"env:KEY_A\" }, { name = \"b\", account = \"a\", secret = \"env:KEY_B\" }]",
    );
    assert_eq!(messages, ["there is no account \"a\""]);
}

#[test]
fn the_same_secret_at_two_providers_of_one_host_is_told() {
    let provider = |name: &str, url: &str| {
        format!(
            "[[provider]]\nname = \"{name}\"\ndialect = \"openai\"\nbase_url = \"{url}\"\nkeys = [{{ name = \"k\", secret = \"env:KEY\" }}]\n"
        )
    };
    let one = provider("one", "https://h/v1");
    let told = good(&format!("{one}{}", provider("two", "https://h/v2"))).warnings;
    assert_eq!(told.len(), 1);
    assert!(told[0].message.contains("\"k\" of \"two\" holds the same secret as one of \"one\""));
    assert_eq!(good(&format!("{one}{}", provider("two", "https://g/v1"))).warnings, []);
}

#[test]
fn a_window_of_a_day_is_a_calendar_day() {
    let config = good(&format!(
        "{ONE}limits = [{{ rpd = 1000, shape = \"window\", day_begins = \"08:30\" }}, {{ usd = 2.5, per = \"1d\" }}]"
    ));
    let limits: Vec<&LimitSpec> =
        config.providers[0].accounts[0].limits.iter().filter(|l| !l.preset).collect();
    assert_eq!(limits[0].shape, Shape::Day { limit: 1000.0, offset_s: 30_600 });
    assert_eq!(limits[1].dimension, Dimension::NanoUsd);
    assert_eq!(limits[1].shape, bucket(2.5e9, 86_400.0));
}

#[test]
fn presets_carry_what_the_vendors_document() {
    let mut lines: Vec<String> = Vec::new();
    for name in [
        "openai",
        "anthropic",
        "groq",
        "mistral",
        "deepseek",
        "together",
        "fireworks",
        "xai",
        "cerebras",
        "gemini",
    ] {
        lines.push(format!("[[provider]]\nname = \"{name}\""));
        lines.push(format!("keys = [{{ name = \"k\", secret = \"env:KEY_{name}\" }}]"));
    }
    let text = lines.join("\n");
    let config = good(&text);
    let provider = |name: &str| config.providers.iter().find(|p| &*p.name == name).unwrap();
    assert_eq!(provider("openai").charging.output, OutputCharge::MaxOfBoth);
    assert!(provider("openai").charging.refused_count);
    let anthropic = provider("anthropic");
    assert_eq!(anthropic.auth, Auth::Header("x-api-key".to_owned()));
    assert_eq!(anthropic.base.path, "/v1");
    assert!(
        anthropic.endpoints.has(Endpoint::CountTokens) && !anthropic.endpoints.has(Endpoint::ChatCompletions)
    );
    assert!(anthropic.charging.cached_input_free);
    assert_eq!(anthropic.charging.output, OutputCharge::AsProduced);
    let groq = provider("groq");
    assert_eq!(groq.limit_headers, LimitHeaders::Groq);
    assert!(groq.charging.cached_input_free && groq.charging.runs_on_after_cancel);
    assert_eq!(provider("cerebras").charging.output, OutputCharge::MaxTokensRefunded);
    assert!(provider("deepseek").accounts[0].limits.iter().all(|l| l.preset));
    assert_eq!(provider("gemini").base.path, "/v1beta/openai");
    assert_eq!(config.warnings, []);
}

#[test]
fn keyless_servers_need_no_key_and_get_one_by_name() {
    let config = good("[[provider]]\nname = \"ollama\"\n");
    let ollama = &config.providers[0];
    assert_eq!((&*ollama.keys[0].name, &ollama.auth), ("ollama", &Auth::None));
    assert!(ollama.keys[0].secret.is_none());
    let config = good(
        "[[provider]]\nname = \"gpu\"\npreset = \"vllm\"\nbase_url = \"http://h:8000/v1\"\nkeys = [{ name = \"k\", secret = \"env:KEY\" }]\n",
    );
    assert_eq!(config.providers[0].auth, Auth::Bearer);
    assert_eq!(config.providers[0].preset, Some("vllm"));
    let config = good("[[provider]]\nname = \"ollama\"\nkeys = [{ name = \"k\", secret = \"env:KEY\" }]\n");
    assert_eq!(config.providers[0].auth, Auth::Bearer, "a key that is given is sent");
}

#[test]
fn anthropics_address_means_the_same_with_and_without_v1() {
    for url in
        ["https://h.example/anthropic", "https://h.example/anthropic/", "https://h.example/anthropic/v1"]
    {
        let config = good(&format!(
            "[[provider]]\nname = \"a\"\ndialect = \"anthropic\"\nbase_url = \"{url}\"\nlist_models = false\nkeys = [{{ name = \"k\", secret = \"env:KEY\" }}]"
        ));
        assert_eq!(config.providers[0].base.path, "/anthropic/v1");
        assert_eq!(config.providers[0].models, ModelsFetch::Off);
    }
}

#[test]
fn secrets_come_from_programs_with_arguments_and_lose_their_line_break() {
    let config = good(
        r#"
[[provider]]
name = "openai"
keys = [
  { name = "a", secret = { cmd = ["pass", "show", "a b"] } },
  { name = "b", secret = "cmd:pass  show b" },
  { name = "c", secret = "literal:sk-test-c" },
]"#,
    );
    let shown: Vec<&str> =
        config.providers[0].keys.iter().map(|k| k.secret.as_ref().unwrap().expose()).collect();
    assert_eq!(shown, ["pass|show|a_b", "pass|show|b", "sk-test-c"]);
}

#[test]
fn the_data_folder_follows_the_environment() {
    let folder = |vars: &[(&str, &str)], line: &str| {
        let mut vars = vars.to_vec();
        vars.push(("K", "sk-test"));
        let text = format!(
            "[server]\n{line}\n[[provider]]\nname = \"openai\"\nkeys = [{{ name = \"a\", secret = \"env:K\" }}]"
        );
        Table::vars(&vars).toml(&text).unwrap().server.data_dir
    };
    assert_eq!(folder(&[("HOME", "/h")], ""), PathBuf::from("/h/.local/state/keymux"));
    assert_eq!(folder(&[("HOME", "/h"), ("XDG_STATE_HOME", "/x")], ""), PathBuf::from("/x/keymux"));
    assert_eq!(folder(&[("HOME", "/h")], "data_dir = \"~/d\""), PathBuf::from("/h/d"));
    let both = folder(&[("HOME", "/h"), ("KEYMUX_DATA_DIR", "/over")], "data_dir = \"/d\"");
    assert_eq!(both, PathBuf::from("/over"));
}

#[test]
fn proxies_follow_the_environment_and_its_exceptions() {
    let proxies = |vars: &[(&str, &str)], extra: &str| -> Vec<Option<String>> {
        let mut vars = vars.to_vec();
        vars.push(("K", "sk-test"));
        let provider = |name: &str, url: &str, more: &str| {
            format!(
                "[[provider]]\nname = \"{name}\"\ndialect = \"openai\"\nbase_url = \"{url}\"\n{more}\nkeys = [{{ name = \"a\", secret = \"env:K\" }}]\n"
            )
        };
        let text = format!(
            "{extra}\n{}{}{}{}",
            provider("far", "https://api.far.example/v1", ""),
            provider("near", "https://llm.corp.example/v1", ""),
            provider("plain", "http://10.1.2.3/v1", ""),
            provider("own", "http://127.0.0.1:9/v1", "proxy = \"http://u:p%40w@own:1\"")
        );
        let config = Table::vars(&vars).toml(&text).unwrap();
        config.providers.iter().map(|p| p.proxy.as_ref().map(ToString::to_string)).collect()
    };
    let some = |s: &str| Some(s.to_owned());
    let env = [
        ("HTTPS_PROXY", "http://s:3128"),
        ("HTTP_PROXY", "h:80"),
        ("NO_PROXY", "corp.example,192.168.0.0/16"),
    ];
    assert_eq!(proxies(&env, ""), [some("http://s:3128"), None, some("http://h:80"), some("http://own:1")]);
    assert_eq!(proxies(&env, "[server]\nproxy = \"none\"")[..3], [None, None, None]);
    assert_eq!(
        proxies(&env, "[server]\nproxy = \"http://t:1\"\nno_proxy = [\"10.0.0.0/8\"]")[..3],
        [some("http://t:1"), some("http://t:1"), None]
    );
    assert_eq!(proxies(&[], "")[0], None);
    let local = "[[provider]]\nname = \"ollama\"\n";
    let config = Table::vars(&[("http_proxy", "http://h:80")]).toml(local).unwrap();
    assert_eq!(
        config.providers[0].proxy, None,
        "this machine is never called through a proxy of the environment"
    );
}

#[test]
fn a_listener_off_loopback_needs_a_token_or_a_word() {
    let listen = |line: &str| format!("[server]\nlisten = \"0.0.0.0:4000\"\n{line}\n{ONE}");
    assert!(bad(&listen(""))[0].contains("can be reached from other machines"));
    assert!(good(&listen("allow_open = true")).server.token.is_none());
    assert_eq!(good(&listen("token = \"env:TOKEN\"")).server.token.unwrap().expose(), "sk-test-TOKEN");
    assert_eq!(good(&format!("[server]\nlisten = \"[::1]:0\"\nadmin = \"none\"\n{ONE}")).server.admin, None);
}

#[test]
fn a_description_names_everything_but_secrets() {
    let config = good(GATEWAY);
    let text = config.describe();
    for part in [
        "openrouter",
        "org-a",
        "org-b",
        "spare",
        "weight 2",
        "500 requests per 1m",
        "for gpt-4o*",
        "8 at once",
        "route sonnet",
        "lab:llama-70b",
        "env:OPENAI_KEY_A1",
        "sonnet:nitro",
    ] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
    for provider in &config.providers {
        for key in &provider.keys {
            if let Some(secret) = &key.secret {
                // The invented secrets of this world end in the variable's name; their beginning is the tell-tale.
                assert!(!text.contains("sk-test-"), "{text}");
                assert!(!format!("{config:?}").contains("sk-test-"), "debug output");
                assert_eq!(format!("{secret:?}"), "Secret(…)");
            }
        }
    }
    insta::assert_snapshot!(text);
}

#[test]
fn ten_thousand_keys_are_read_in_no_time_worth_noting() {
    let keys: Vec<String> =
        (0..10_000).map(|i| format!("  {{ name = \"k{i}\", secret = \"env:KEY_{i}\" }},")).collect();
    let keys = keys.join("\n");
    let config = good(&format!("[[provider]]\nname = \"openai\"\nkeys = [\n{keys}]\n"));
    assert_eq!(config.providers[0].accounts.len(), 10_000);
}
