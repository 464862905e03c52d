//! Moving in from LiteLLM: what comes out is a good configuration, each deployment is routed or listed, no setting gets
//! lost, and no secret gets out. Checked by a walk over the YAML that knows nothing of how it is read.

use crate::world::Table;
use keymux_config::litellm::{Import, Kind, Refused, import};
use keymux_config::{Config, Resolution, SecretSource};
use proptest::prelude::*;
use saphyr_parser::{Event, Parser};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/litellm")
}

/// Configurations, without those that others include.
fn samples() -> Vec<(String, String)> {
    let mut samples = Vec::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.starts_with("included-") {
            let text = std::fs::read_to_string(folder().join(&name)).unwrap();
            samples.push((name, text));
        }
    }
    samples.sort();
    samples
}

/// Every key is set, each to something else; and two addresses.
fn world() -> Table {
    let models = std::fs::read_to_string(folder().join("included-models.yaml")).unwrap();
    Table::plentiful()
        .var("AZURE_API_BASE", "https://corp-west.openai.azure.com/")
        .file("included-models.yaml", &models)
}

fn imported(name: &str, text: &str) -> Result<Import, Box<Refused>> {
    world().with(|world| import(name, text, Path::new(""), world))
}

/// The configuration, where the variables are set that the import names, and no others.
fn good(name: &str, import: &Import) -> Config {
    let mut world = Table::vars(&[("HOME", "/home/u")]);
    for (at, variable) in import.variables.iter().enumerate() {
        let url = variable.ends_with("_URL");
        let value =
            if url { "https://hooks.example.com/x" } else { &format!("sk-test-{at}-of-at-least-twenty") };
        world = world.var(variable, value);
    }
    match world.toml(&import.toml) {
        Ok(config) => config,
        Err(problems) => panic!("{name}\n{}\n{}", import.toml, problems.render(name, &import.toml, false)),
    }
}

/// Single values by their paths, as they are written; what aliases stand for is not followed.
fn leaves(text: &str) -> BTreeMap<String, String> {
    enum Level {
        Map(Option<String>),
        List(usize),
    }
    fn path(levels: &[Level]) -> String {
        let mut path = String::new();
        for level in levels {
            match level {
                Level::Map(name) => {
                    let name = name.clone().unwrap_or_default();
                    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
                    let name = if plain { name } else { format!("\"{name}\"") };
                    path = if path.is_empty() { name } else { format!("{path}.{name}") };
                }
                Level::List(at) => path = format!("{path}[{at}]"),
            }
        }
        path
    }
    fn ended(levels: &mut [Level]) {
        match levels.last_mut() {
            Some(Level::Map(name)) => *name = None,
            Some(Level::List(at)) => *at += 1,
            None => {}
        }
    }
    let mut levels: Vec<Level> = Vec::new();
    let mut leaves = BTreeMap::new();
    for event in Parser::new_from_str(text) {
        match event.unwrap().0 {
            Event::Scalar(value, ..) => {
                if let Some(Level::Map(name @ None)) = levels.last_mut() {
                    *name = Some(value.into_owned());
                    continue;
                }
                leaves.insert(path(&levels), value.into_owned());
                ended(&mut levels);
            }
            Event::Alias(_) => ended(&mut levels),
            Event::MappingStart(..) => levels.push(Level::Map(None)),
            Event::SequenceStart(..) => levels.push(Level::List(0)),
            Event::MappingEnd | Event::SequenceEnd => {
                levels.pop();
                ended(&mut levels);
            }
            _ => {}
        }
    }
    leaves
}

/// Whether a note is about this path, or about something that it stands in.
fn listed(import: &Import, file: Option<&str>, path: &str, kinds: &[Kind]) -> bool {
    let within = |spot: &str| {
        path.strip_prefix(spot).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let of_kind = import.notes.iter().filter(|note| kinds.contains(&note.kind));
    of_kind.flat_map(|note| &note.spots).any(|spot| spot.file.as_deref() == file && within(&spot.path))
}

/// What becomes of settings that are in what is written, by the end of their path, without numbers.
const CARRIED: &[&str] = &[
    "model_list.model_name",
    "model_list.litellm_params.model",
    "model_list.litellm_params.api_key",
    "model_list.litellm_params.api_base",
    "model_list.litellm_params.custom_llm_provider",
    "model_list.litellm_params.litellm_credential_name",
    "model_list.litellm_params.organization",
    "model_list.litellm_params.rpm",
    "model_list.litellm_params.tpm",
    "model_list.litellm_params.itpm",
    "model_list.litellm_params.otpm",
    "model_list.litellm_params.max_parallel_requests",
    "model_list.litellm_params.max_budget",
    "model_list.litellm_params.budget_duration",
    "model_list.litellm_params.weight",
    "model_list.litellm_params.order",
    "model_list.litellm_params.timeout",
    "model_list.litellm_params.stream_timeout",
    "model_list.litellm_params.extra_headers.X-Team",
    "model_list.litellm_params.input_cost_per_token",
    "model_list.litellm_params.output_cost_per_token",
    "model_list.litellm_params.cache_read_input_token_cost",
    "model_list.model_info.id",
    "model_list.model_info.input_cost_per_token",
    "model_list.model_info.output_cost_per_token",
    "credential_list.credential_name",
    "credential_list.credential_info.description",
    "credential_list.credential_values.api_key",
    "credential_list.credential_values.api_base",
    "credential_list.credential_values.api_version",
    "router_settings.fallbacks.*",
    "router_settings.model_group_alias.*",
    "router_settings.routing_strategy",
    "router_settings.timeout",
    "router_settings.stream_timeout",
    "router_settings.allowed_fails",
    "router_settings.cooldown_time",
    "router_settings.default_max_parallel_requests",
    "litellm_settings.default_fallbacks",
    "litellm_settings.model_alias_map.*",
    "litellm_settings.json_logs",
    "litellm_settings.request_timeout",
    "litellm_settings.max_budget",
    "litellm_settings.budget_duration",
    "general_settings.master_key",
    "general_settings.alerting",
    "general_settings.max_parallel_requests",
    "general_settings.max_request_size_mb",
    "general_settings.maximum_spend_logs_retention_period",
    "general_settings.allow_requests_on_db_unavailable",
    "include",
];

fn is_carried(path: &str) -> bool {
    let mut plain = String::new();
    let mut depth = 0;
    for c in path.chars() {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            c if depth == 0 => plain.push(c),
            _ => {}
        }
    }
    CARRIED.iter().any(|known| match known.strip_suffix('*') {
        Some(begin) => plain.starts_with(begin),
        None => plain == *known,
    })
}

/// The model's name at its provider, told by the test's own rules.
fn upstream(model: &str) -> String {
    match model.split_once('/') {
        Some(("fireworks_ai", rest)) => format!("accounts/fireworks/models/{rest}"),
        Some(("azure", rest)) => rest.trim_start_matches("o_series/").to_owned(),
        // No provider in front, but an address that says whose it is.
        Some(("meta" | "nobody", _)) | None => model.to_owned(),
        Some((_, rest)) => rest.to_owned(),
    }
}

/// Each deployment is left out by name, or a wildcard that is told of, or a target of its route with its key.
fn check_deployments(name: &str, text: &str, file: Option<&str>, import: &Import, config: &Config) -> usize {
    let leaves = leaves(text);
    let mut seen = 0;
    for index in 0.. {
        let entry = format!("model_list[{index}]");
        let of = |rest: &str| leaves.get(&format!("{entry}.{rest}"));
        let (Some(model_name), model) = (of("model_name"), of("litellm_params.model")) else {
            let inside = |path: &String| path.starts_with(&entry);
            if !leaves.keys().any(inside) {
                break;
            }
            assert!(listed(import, file, &entry, &[Kind::LeftOut, Kind::Setting]), "{name}: {entry}");
            continue;
        };
        seen += 1;
        if listed(import, file, &entry, &[Kind::LeftOut]) {
            continue;
        }
        let model = model.unwrap_or_else(|| panic!("{name}: {entry} has no model, and is not listed"));
        if model_name.contains('*') {
            assert!(
                listed(import, file, &format!("{entry}.model_name"), &[Kind::Setting]),
                "{name}: {entry}"
            );
            continue;
        }
        let Resolution::Route(route) = config.resolve(model_name) else {
            panic!("{name}: {entry} ({model_name}) has no route")
        };
        let wanted = upstream(model);
        let variable = of("litellm_params.api_key").and_then(|key| key.strip_prefix("os.environ/"));
        // A key by mistake.
        let variable = variable.filter(|name| !name.contains("hunter"));
        let found = config.routes[route].tiers.iter().flatten().any(|target| {
            let keys = &config.providers[target.provider].keys;
            let used = |at: &usize| target.keys.is_empty() || target.keys.contains(at);
            let fits = |source: &SecretSource| {
                variable.is_none_or(|v| matches!(source, SecretSource::Env { name, .. } if name == v))
            };
            *target.model == *wanted && (0..keys.len()).filter(used).any(|at| fits(&keys[at].source))
        });
        assert!(
            found,
            "{name}: {entry} ({model_name}) leads not to {wanted} by {variable:?}\n{}",
            import.toml
        );
    }
    seen
}

fn check_leaves(name: &str, text: &str, file: Option<&str>, import: &Import) {
    for (path, value) in leaves(text) {
        let said = !matches!(value.as_str(), "" | "~" | "null");
        let known = is_carried(&path) || listed(import, file, &path, &[Kind::LeftOut, Kind::Setting]);
        assert!(known || !said, "{name}: {path} is neither carried over nor listed");
    }
}

/// The notes as they are shown.
fn told(import: &Import) -> String {
    let notes: Vec<String> = import.notes.iter().map(ToString::to_string).collect();
    notes.join("\n\n")
}

fn check_secrets(name: &str, import: &Import) {
    let all = format!("{}{}{import:?}", import.toml, told(import));
    assert!(!all.contains("hunter"), "{name}: a secret came out\n{all}");
}

#[test]
fn every_sample_becomes_a_good_configuration_with_nothing_lost() {
    let (mut files, mut deployments) = (0, 0);
    for (name, text) in samples() {
        let import = imported(&name, &text).unwrap_or_else(|e| panic!("{name}: {e:?}"));
        let config = good(&name, &import);
        deployments += check_deployments(&name, &text, None, &import, &config);
        check_leaves(&name, &text, None, &import);
        check_secrets(&name, &import);
        files += 1;
    }
    assert!(files >= 14 && deployments >= 80, "{files} {deployments}");
}

#[test]
fn included_files_are_carried_over_and_told_of_by_name() {
    let text = std::fs::read_to_string(folder().join("include.yaml")).unwrap();
    let models = std::fs::read_to_string(folder().join("included-models.yaml")).unwrap();
    let import = imported("include.yaml", &text).unwrap();
    let config = good("include.yaml", &import);
    let file = Some("included-models.yaml");
    assert_eq!(check_deployments("include.yaml", &models, file, &import, &config), 2);
    check_leaves("include.yaml", &models, file, &import);
    // The later file's mapping counts alone, as in LiteLLM.
    assert!(listed(&import, None, "litellm_settings.drop_params", &[Kind::Setting]));
}

#[test]
fn a_page_as_it_is_written() {
    let text = std::fs::read_to_string(folder().join("load-balancing.yaml")).unwrap();
    insta::assert_snapshot!(imported("load-balancing.yaml", &text).unwrap().toml);
}

#[test]
fn a_list_of_what_was_left_out() {
    let text = std::fs::read_to_string(folder().join("unspoken.yaml")).unwrap();
    insta::assert_snapshot!(told(&imported("unspoken.yaml", &text).unwrap()));
}

/// Targets of a route, tier by tier, with keys and weights where they are said.
fn tiers(config: &Config, name: &str) -> Vec<Vec<String>> {
    let Resolution::Route(route) = config.resolve(name) else { panic!("no route {name}") };
    let told = |target: &keymux_config::Target| {
        let provider = &config.providers[target.provider];
        let keys: Vec<&str> = target.keys.iter().map(|k| &*provider.keys[*k].name).collect();
        let keys = if keys.is_empty() { String::new() } else { format!(" by {}", keys.join("+")) };
        format!("{}:{}{keys} x{}", provider.name, target.model, target.weight)
    };
    config.routes[route].tiers.iter().map(|tier| tier.iter().map(told).collect()).collect()
}

fn sample(name: &str) -> (Import, Config) {
    let text = std::fs::read_to_string(folder().join(name)).unwrap();
    let import = imported(name, &text).unwrap();
    let config = good(name, &import);
    (import, config)
}

#[test]
fn fallbacks_become_tiers_each_with_its_own_before_the_next() {
    let (_, config) = sample("fallbacks.yaml");
    let first = ["openai:gpt-4.1 by openai-key-a+openai-key-b x1", "openai:gpt-4.1 x1"];
    let tiers_of = |name: &str| tiers(&config, name).concat();
    assert!(first.contains(&tiers_of("first")[0].as_str()), "{:?}", tiers_of("first"));
    assert_eq!(
        tiers_of("first")[1..],
        ["groq:llama-3.3-70b-versatile x1", "mistral:mistral-large-latest x1"],
        "its fallback, then that one's own"
    );
    // By the id of a deployment: that key alone.
    assert_eq!(tiers_of("third"), ["mistral:mistral-large-latest x1", "openai:gpt-4.1 by openai-key-b x1"]);
    // Those of router_settings count; who has none gets the default ones.
    assert_eq!(tiers_of("alone"), ["xai:grok-4 x1", "openrouter:google/gemini-2.5-pro x1"]);
    assert_eq!(tiers_of("large"), ["openrouter:google/gemini-2.5-pro x1"]);
}

#[test]
fn orders_and_missing_weights_become_tiers() {
    let (_, config) = sample("order.yaml");
    assert_eq!(
        tiers(&config, "m"),
        [
            vec!["openai:gpt-5 by cheap-key x1"],
            vec!["openai:gpt-5 by paid-key x3", "openai:gpt-5 by other-key x1"],
            vec!["openai:gpt-5 by standby-key x1"],
            vec!["deepseek:deepseek-chat x1"],
        ]
    );
    assert_eq!(
        tiers(&config, "w"),
        [vec!["openai:gpt-5-mini by paid-key x0.5"], vec!["openai:gpt-5-mini by cheap-key x1"]]
    );
}

#[test]
fn what_only_a_wildcard_knows_gets_a_route_by_its_fallbacks() {
    let (import, config) = sample("wildcards.yaml");
    assert_eq!(
        tiers(&config, "openai/gpt-5.1").concat(),
        ["openai:gpt-5.1 x1", "openai:gpt-5 x1", "openai:gpt-5-mini x1", "anthropic:claude-opus-4-5 x1"]
    );
    assert!(listed(&import, None, "model_list[3]", &[Kind::LeftOut]), "a star for every provider");
    assert!(listed(&import, None, "model_list[5]", &[Kind::LeftOut]), "a star in the model alone");
    assert_eq!(config.resolve("openai:any"), Resolution::Adhoc { provider: 0, model: "any".to_owned() });
    // Names that one wildcard passes on unchanged need no provider in front.
    let (_, config) = {
        let text = "model_list:\n- {model_name: 'gpt-*', litellm_params: {model: 'openai/gpt-*'}}\n\
                    - {model_name: c, litellm_params: {model: groq/c}}\n";
        let import = imported("one.yaml", text).unwrap();
        let config = good("one.yaml", &import);
        (import, config)
    };
    assert_eq!(config.resolve("gpt-5"), Resolution::Adhoc { provider: 0, model: "gpt-5".to_owned() });
}

#[test]
fn one_key_is_one_quota_whoever_names_it() {
    let (import, config) = sample("load-balancing.yaml");
    let openai = config.providers.iter().find(|p| &*p.name == "openai").unwrap();
    assert_eq!(openai.keys.len(), 1, "three deployments with one literal key");
    // 300 is the larger of the two that are written for the model; each of the five has its 25 or 40 at once.
    assert!(
        import.toml.contains("{ concurrent = 25, itpm = 90000, rpm = 300, models = [\"gpt-4.1\"] }"),
        "{}",
        import.toml
    );
    assert!(
        import.toml.contains("{ concurrent = 40, rpm = 900, tpm = 150000, models = [\"house-eu\"] }"),
        "{}",
        import.toml
    );
    assert_eq!(import.variables.iter().filter(|name| name.starts_with("OPENAI")).count(), 1);
    let azure: Vec<String> =
        config.providers.iter().filter(|p| p.name.starts_with("azure")).map(|p| p.base.to_string()).collect();
    assert_eq!(
        azure,
        ["https://corp-eu.openai.azure.com/openai/v1", "https://corp-us.openai.azure.com/openai/v1"]
    );
    assert_eq!(
        (config.providers[0].timeouts.first_byte_ms, config.providers[0].timeouts.first_byte_plain_ms),
        (7_500, 45_000)
    );
    assert_eq!(config.settings.breaker.failures_min, 3);
    assert_eq!(config.settings.breaker.cooldown_min_ns, 90_000_000_000);
}

#[test]
fn money_keeps_its_bounds() {
    let (_, config) = sample("budgets.yaml");
    assert_eq!(config.clients.len(), 1);
    assert_eq!(config.clients[0].budget.limit_nano_usd, Some(400_000_000_000));
    assert!(config.server.token.is_none(), "a token knows no budget");
    assert_eq!(config.webhooks.len(), 1, "alerting: [slack]");
    let (import, config) = sample("prices.yaml");
    let price = |model: &str| {
        let at = config.providers.iter().position(|p| &*p.name == "openai").unwrap();
        config.price(at, model).cloned()
    };
    assert!(price("ft:gpt-4.1-mini:corp::abc").is_some());
    assert!(import.toml.contains("input = 0.8\noutput = 3.2\n"), "{}", import.toml);
    assert!(import.toml.contains("model = \"vllm-gpu:free\"\ninput = 0\noutput = 0\n"), "{}", import.toml);
}

#[test]
fn what_is_no_configuration_of_litellm_is_told_by_line() {
    let cases = [
        ("", None, "there is nothing in it"),
        ("# nothing\n", None, "there is nothing in it"),
        ("hello", Some(1), "is a single value, and no configuration"),
        ("- a\n- b\n", Some(1), "is a list, and no configuration"),
        ("services:\n  web: {image: x}\n", None, "has none of its sections"),
        ("model_lst: []\n", None, "has none of its sections"),
        ("model_list: []\n", None, "model_list is empty"),
        ("litellm_settings: {cache: true}\n", None, "model_list is empty"),
        (
            "model_list:\n  - model_name: a\n    litellm_params: {model: bedrock/x}\n",
            None,
            "none of the 1 entries",
        ),
        ("model_list:\n\t- a\n", Some(2), "not YAML"),
        ("model_list: [\n", Some(2), "not YAML"),
        ("model_list:\n  - model_name: a\n    model_name: b\n", Some(3), "stands twice"),
        ("model_list: *gone\n", Some(1), "not YAML"),
        ("include: x.yaml\nmodel_list: []\n", Some(1), "no list of files"),
        ("include: [gone.yaml]\n", Some(1), "cannot be read"),
        ("include: [bad.yaml]\nmodel_list: []\n", Some(2), "not YAML"),
        ("model_list: []\n---\nmodel_list: []\n", Some(2), "second document"),
    ];
    let world = Table::vars(&[]).file("bad.yaml", "a: 1\nb: : :\n- x\n");
    for (text, line, told) in cases {
        let refused = world.with(|w| import("c.yaml", text, Path::new(""), w)).expect_err(text);
        assert_eq!(refused.problem.line, line, "{text:?}: {}", refused.problem.message);
        assert!(refused.problem.message.contains(told), "{text:?}: {}", refused.problem.message);
        assert!(refused.problem.hint.is_some(), "{text:?} has no mend");
    }
    let refused = imported("c.yaml", "model_lst: []\n").unwrap_err();
    assert_eq!(refused.problem.hint.as_deref(), Some("did you mean \"model_list\"?"));
}

#[test]
fn a_broken_line_with_a_key_in_it_is_not_shown() {
    let text = "model_list:\n  - litellm_params: {api_key: sk-hunter-2, : : }\n  bad\n";
    let refused = imported("c.yaml", text).unwrap_err();
    assert!(!format!("{refused:?}").contains("hunter"), "{refused:?}");
}

const NAMES: &[&str] =
    &["a", "b", "gpt-4o", "openai/gpt-4o", "a:free", "two words", "é", "x*", "*", "", " edge", "openai:x"];
const MODELS: &[&str] = &[
    "openai/gpt-4o",
    "gpt-4o",
    "azure/dep",
    "anthropic/claude-x",
    "openrouter/a/b:free",
    "groq/llama",
    "hosted_vllm/q",
    "ollama/l",
    "bedrock/b",
    "vertex_ai/v",
    "nobody/n",
    "openai/*",
    "*",
    "x*",
    "openai/",
    "fireworks_ai/f",
    "openai/two words",
    "deepinfra/[odd]",
    "gemini/g",
    "os.environ/NOT_SET",
    "os.environ/SET_KEY",
    "custom/\\\"q\\\"",
    "lm_studio/s",
];
const KEYS: &[&str] = &[
    "",
    "os.environ/A_KEY",
    "os.environ/B_KEY",
    "os.environ/a_key",
    "sk-hunter-1",
    "sk-hunter-2",
    "none",
    "os.environ/",
    "os.environ/hunter x",
    "os.environ/SK_A_VERY_LONG_NAME_OF_A_KEY_1",
    "os.environ/sk-1234567890123456789hunter0123",
];
const BASES: &[&str] = &[
    "",
    "https://r.openai.azure.com",
    "http://127.0.0.1:8000/v1",
    "http://localhost:11434",
    "https://api.openai.com/v1",
    "https://api.groq.com/openai/v1",
    "ftp://x",
    "https://u:hunter@h/v1",
    "http://vllm:1/v1",
    "http://openai/v1",
    "not a url",
    "os.environ/BASE_NOT_SET",
    "https://0123456789abcdef0123456789abcdef.example.com/v1",
    "http://[::1]:1/v1",
    "https://h/a//b",
];
const NUMBERS: &[&str] =
    &["", "1", "0", "-3", "2.5", "1e3", "\"70\"", "many", "~", "[1]", "1e300", ".inf", "os.environ/N_KEY"];

prop_compose! {
    fn entry()(
        name in prop::sample::select(NAMES),
        model in prop::sample::select(MODELS),
        key in prop::sample::select(KEYS),
        base in prop::sample::select(BASES),
        numbers in prop::collection::vec((prop::sample::select(&[
            "rpm", "tpm", "max_parallel_requests", "weight", "order", "timeout", "stream_timeout", "max_retries",
            "input_cost_per_token", "output_cost_per_token", "max_budget", "budget_duration", "organization", "unknown_thing",
        ][..]), prop::sample::select(NUMBERS)), 0..5),
    ) -> String {
        let mut text = format!("  - model_name: \"{name}\"\n    litellm_params:\n      model: \"{model}\"\n");
        for (field, value) in [("api_key", key), ("api_base", base)] {
            if !value.is_empty() {
                text = format!("{text}      {field}: \"{value}\"\n");
            }
        }
        let mut seen = Vec::new();
        for (field, value) in numbers {
            if !value.is_empty() && !seen.contains(&field) {
                text = format!("{text}      {field}: {value}\n");
                seen.push(field);
            }
        }
        text
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn any_model_list_becomes_a_good_configuration_with_nothing_lost(
        entries in prop::collection::vec(entry(), 1..8),
        chains in prop::collection::vec((prop::sample::select(NAMES), prop::collection::vec(prop::sample::select(NAMES), 0..4)), 0..4),
        strategy in prop::sample::select(&["simple-shuffle", "least-busy", "other"][..]),
    ) {
        let mut text = format!("model_list:\n{}router_settings:\n  routing_strategy: {strategy}\n  fallbacks:\n", entries.concat());
        for (name, to) in &chains {
            let to: Vec<String> = to.iter().map(|name| format!("\"{name}\"")).collect();
            text = format!("{text}    - {{\"{name}\": [{}]}}\n", to.join(", "));
        }
        match imported("any.yaml", &text) {
            Ok(import) => {
                let config = good("any.yaml", &import);
                let seen = check_any(&text, &import, &config);
                prop_assert_eq!(seen, entries.len());
                check_leaves("any.yaml", &text, None, &import);
                check_secrets("any.yaml", &import);
                prop_assert_eq!(import.deployments.0, entries.len());
            }
            Err(refused) => {
                prop_assert!(refused.problem.message.contains("none of the"), "{:?}", refused);
                let told = format!("{refused:?}");
                prop_assert!(!told.contains("hunter"), "{}", told);
            }
        }
    }

    #[test]
    fn a_sample_with_a_piece_cut_out_never_panics_or_leaks(which in 0_usize..15, at in 0_usize..3_000, length in 0_usize..60, noise in "\\PC{0,4}") {
        let samples = samples();
        let (name, whole) = &samples[which % samples.len()];
        let at = at.min(whole.len());
        let end = (at + length).min(whole.len());
        if let (Some(before), Some(after)) = (whole.get(..at), whole.get(end..)) {
            match imported(name, &format!("{before}{noise}{after}")) {
                Ok(import) => drop(good(name, &import)),
                Err(refused) => prop_assert!(!refused.problem.message.is_empty()),
            }
        }
    }
}

/// As [`check_deployments`], where a model may be a reference to the environment.
fn check_any(text: &str, import: &Import, config: &Config) -> usize {
    let text = text.replace("os.environ/SET_KEY", "sk-test-SET_KEY");
    check_deployments("any.yaml", &text, None, import, config)
}
