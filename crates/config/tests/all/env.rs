//! A configuration from the environment alone.

use crate::world::Table;
use keymux_config::{Auth, Config, Severity};

fn keys(config: &Config, provider: &str) -> Vec<(String, String)> {
    let provider = config.providers.iter().find(|p| &*p.name == provider).unwrap();
    let exposed = |k: &keymux_config::Key| k.secret.as_ref().unwrap().expose().to_owned();
    provider.keys.iter().map(|k| (k.name.to_string(), exposed(k))).collect()
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn all_three_ways_to_name_keys_add_up() {
    let config = Table::vars(&[
        ("OPENROUTER_API_KEY", "sk-test-0"),
        ("OPENROUTER_API_KEYS", "sk-test-1, sk-test-2,"),
        ("OPENROUTER_KEY_1", "sk-test-3"),
        ("OPENROUTER_KEY_10", "sk-test-5"),
        ("OPENROUTER_KEY_3", "sk-test-4\n"),
        ("OPENROUTER_KEY_NAME", "no number, no key"),
        ("PATH", "/bin"),
    ])
    .environment()
    .unwrap();
    let expected = [
        ("main", "sk-test-0"),
        ("list-1", "sk-test-1"),
        ("list-2", "sk-test-2"),
        ("key-1", "sk-test-3"),
        ("key-3", "sk-test-4"),
        ("key-10", "sk-test-5"),
    ];
    assert_eq!(keys(&config, "openrouter"), pairs(&expected));
    assert_eq!(config.default_provider, Some(0));
    assert_eq!(config.warnings, [], "gaps in the numbers are fine");
    assert_eq!(config.providers[0].accounts.len(), 6);
}

#[test]
fn each_preset_has_its_variables() {
    let config = Table::vars(&[
        ("OPENAI_API_KEY", "sk-test-a"),
        ("ANTHROPIC_KEY_1", "sk-test-b"),
        ("GROQ_API_KEYS", "sk-test-c"),
        ("XAI_API_KEY_2", "sk-test-d"),
        ("OPENAI_BASE_URL", "https://eu.api.openai.example/v1"),
        ("OLLAMA_BASE_URL", "http://127.0.0.1:11434/v1"),
        ("AZURE_OPENAI_API_KEY", "sk-test-e"),
        ("AZURE_OPENAI_ENDPOINT", "https://res.openai.azure.example/"),
    ])
    .environment()
    .unwrap();
    let names: Vec<&str> = config.providers.iter().map(|p| &*p.name).collect();
    assert_eq!(names, ["openai", "anthropic", "groq", "xai", "azure", "ollama"]);
    assert_eq!(config.providers[0].base.host, "eu.api.openai.example");
    assert_eq!(config.providers[4].base.to_string(), "https://res.openai.azure.example/openai/v1");
    assert_eq!(config.providers[4].auth, Auth::Header("api-key".to_owned()));
    assert_eq!(keys(&config, "xai"), pairs(&[("api-key-2", "sk-test-d")]));
    assert_eq!(config.default_provider, None);
    assert_eq!(config.warnings, []);
}

#[test]
fn the_same_key_twice_is_used_once_and_told() {
    let config = Table::vars(&[
        ("OPENAI_API_KEY", "sk-test-a"),
        ("OPENAI_KEY_2", " sk-test-a "),
        ("OPENAI_KEY_3", "sk-test-b"),
    ])
    .environment()
    .unwrap();
    assert_eq!(keys(&config, "openai"), pairs(&[("main", "sk-test-a"), ("key-3", "sk-test-b")]));
    assert_eq!(config.warnings.len(), 1);
    let warning = &config.warnings[0];
    assert_eq!(warning.severity, Severity::Warning);
    assert!(
        warning.message.contains("OPENAI_API_KEY and OPENAI_KEY_2 hold the same key"),
        "{}",
        warning.message
    );
}

#[test]
fn empty_variables_are_left_out_and_told() {
    let config = Table::vars(&[("OPENAI_API_KEY", ""), ("OPENAI_API_KEYS", "sk-test-a,,sk-test-b")])
        .environment()
        .unwrap();
    assert_eq!(keys(&config, "openai"), pairs(&[("list-1", "sk-test-a"), ("list-3", "sk-test-b")]));
    let messages: Vec<&str> = config.warnings.iter().map(|w| w.message.as_str()).collect();
    assert_eq!(
        messages,
        ["OPENAI_API_KEY is empty: it is left out", "item 2 of OPENAI_API_KEYS is empty: it is left out"]
    );
}

#[test]
fn no_key_at_all_says_what_to_do() {
    let problems = Table::vars(&[("PATH", "/bin")]).environment().unwrap_err();
    assert_eq!(problems.list.len(), 1);
    insta::assert_snapshot!(problems.render("the environment", "", false));
}

#[test]
fn azure_without_an_address_stops_only_itself() {
    let alone = Table::vars(&[("AZURE_OPENAI_API_KEY", "sk-test")]).environment().unwrap_err();
    assert!(alone.list[0].message.contains("AZURE_OPENAI_API_KEY is set, but not where azure answers"));
    assert!(alone.list[0].hint.as_ref().unwrap().contains("AZURE_OPENAI_ENDPOINT="));
    let with = Table::vars(&[("AZURE_OPENAI_API_KEY", "sk-test"), ("GROQ_API_KEY", "sk-test")])
        .environment()
        .unwrap();
    assert_eq!(with.providers.len(), 1);
    assert_eq!(with.warnings.len(), 1);
}

#[test]
fn the_listeners_and_tokens_have_variables() {
    let key = ("OPENAI_API_KEY", "sk-test");
    let server = |vars: &[(&str, &str)]| {
        let mut vars = vars.to_vec();
        vars.push(key);
        Table::vars(&vars).environment().map(|c| c.server)
    };
    let set = server(&[
        ("KEYMUX_LISTEN", "0.0.0.0:80"),
        ("KEYMUX_ADMIN", "none"),
        ("KEYMUX_TOKEN", "t"),
        ("KEYMUX_DATA_DIR", "/d"),
    ])
    .unwrap();
    assert_eq!((set.listen.port(), set.admin), (80, None));
    assert!(set.token.unwrap().matches(b"t"));
    assert_eq!(set.data_dir, std::path::PathBuf::from("/d"));
    let open = server(&[("KEYMUX_LISTEN", "0.0.0.0:80")]).unwrap_err();
    assert!(open.list[0].message.contains("can be reached from other machines"));
    let wrong = server(&[("KEYMUX_LISTEN", "4000")]).unwrap_err();
    assert_eq!(wrong.list[0].message, "KEYMUX_LISTEN: \"4000\" is not an address to listen on");
}

#[test]
fn one_of_several_providers_can_be_the_default() {
    let default = |name: &str| {
        let vars =
            [("OPENAI_API_KEY", "sk-test"), ("GROQ_API_KEY", "sk-test"), ("KEYMUX_DEFAULT_PROVIDER", name)];
        Table::vars(&vars).environment().map(|c| c.default_provider)
    };
    assert_eq!(default("groq").unwrap(), Some(1));
    assert_eq!(default("").unwrap(), None);
    assert!(default("grok").unwrap_err().list[0].message.contains("no provider \"grok\""));
}

#[test]
fn a_key_with_a_line_break_inside_is_refused_without_being_shown() {
    let problems = Table::vars(&[("OPENAI_API_KEY", "sk-test-top\nsecret")]).environment().unwrap_err();
    assert!(problems.list[0].message.contains("OPENAI_API_KEY"));
    assert!(!problems.to_string().contains("sk-test-top"));
}

#[test]
fn a_token_that_is_empty_leaves_the_listener_open_only_on_loopback() {
    let vars = [("OPENAI_API_KEY", "sk-test"), ("KEYMUX_TOKEN", ""), ("KEYMUX_LISTEN", "0.0.0.0:80")];
    assert!(Table::vars(&vars).environment().is_err());
}
