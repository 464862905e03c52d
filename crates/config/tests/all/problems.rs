//! Bad files and what is said of them: all mistakes at once, each at its line, with a reason and a mend.

use crate::world::{Table, bad};

/// The problems of a bad file as a terminal without colours shows them.
fn shown(text: &str) -> String {
    let table = Table::vars(&[
        ("OPENROUTER_KEY_1", "sk-test-1"),
        ("OPENROUTER_KEY_2", "sk-test-2"),
        ("BROKEN", "sk-test\nx"),
        ("EMPTY", " "),
    ])
    .file("/run/secrets/empty", "\n");
    let problems = table.toml(text).expect_err("the file is bad");
    problems.render("keymux.toml", text, false)
}

macro_rules! snapshot {
    ($name:ident, $text:expr) => {
        #[test]
        fn $name() {
            insta::assert_snapshot!(shown($text));
        }
    };
}

snapshot!(
    misspelt_settings_at_every_depth,
    r#"
default_provder = "openrouter"
[sever]
x = 1
[server]
lisen = "127.0.0.1:4000"
[[provider]]
name = "openrouter"
keys = [{ name = "a", secert = "sk-test-abcdefgh", secret = "env:OPENROUTER_KEY_1" }]
limits = [{ rmp = 5 }]
[provider.timeouts]
conect = "5s"
[[route]]
model = "m"
tiers = [[{ taget = "openrouter:x" }]]
"#
);

snapshot!(
    wrong_types_and_units,
    r#"
[server]
listen = 4000
body_bytes_max = "32 megabytes"
drain = 30
header_timeout = "10"
keep_alive = "0s"
workers = 5000
expose_keys = "yes"
[breaker]
failure_ratio = 1.5
failures_min = 0
cooldown_min = "2m"
[checks]
every = "20ms"
timeout = "0s"
[[provider]]
name = "openrouter"
keys = { name = "a" }
"#
);

snapshot!(
    secrets_that_are_none,
    r#"
[[provider]]
name = "openrouter"
keys = [
  { name = "a", secret = "env:OPENROUTER_KEY_3" },
  { name = "b", secret = "file:/run/secrets/none" },
  { name = "c", secret = "file:/run/secrets/empty" },
  { name = "d", secret = "sk-test-0123456789abcdef" },
  { name = "e", secret = "env:BROKEN" },
  { name = "f", secret = "env:EMPTY" },
  { name = "g", secret = "cmd:fails now" },
  { name = "h", secret = "literal:" },
  { name = "i" },
  { name = "j", secret = "literal:sk-test-j", auth = "none" },
]
"#
);

snapshot!(
    two_of_everything,
    r#"
[[provider]]
name = "openrouter"
keys = [
  { name = "a", secret = "env:OPENROUTER_KEY_1" },
  { name = "a", secret = "env:OPENROUTER_KEY_2" },
  { name = "b", secret = "env:OPENROUTER_KEY_1" },
]
[[provider.account]]
name = "acc"
[[provider.account]]
name = "acc"
[[provider]]
name = "openrouter"
keys = [{ name = "a", secret = "env:OPENROUTER_KEY_1" }]
headers = { "X-Title" = "a", "x-title" = "b" }
[[route]]
model = "m"
tiers = [["openrouter:x"]]
[[route]]
model = "m"
tiers = [["openrouter:y"]]
"#
);

snapshot!(
    accounts_that_do_not_fit,
    r#"
[[provider]]
name = "openai"
keys = [
  { name = "a", account = "orga", secret = "env:OPENROUTER_KEY_1" },
  { name = "b", account = "elsewhere", secret = "env:OPENROUTER_KEY_2" },
  { name = "org-a", secret = "literal:sk-test-3" },
]
[[provider.account]]
name = "org-a"
[[provider.account]]
limits = []
"#
);

snapshot!(
    providers_that_cannot_be_reached,
    r#"
[[provider]]
name = "opnrouter"
keys = [{ name = "a", secret = "env:OPENROUTER_KEY_1" }]
[[provider]]
name = "azure"
keys = [{ name = "a", secret = "env:OPENROUTER_KEY_1" }]
[[provider]]
name = "lab"
dialect = "opneai"
base_url = "ftp://h/v1"
keys = [{ name = "a", auth = "none" }]
[[provider]]
name = "lab 2"
dialect = "openai"
base_url = "https://user:hunter2@h/v1"
auth = "x-api-key"
keys = []
[[provider]]
preset = "mystery"
"#
);

snapshot!(
    limits_that_limit_nothing,
    r#"
[[provider]]
name = "openrouter"
keys = [{ name = "a", secret = "env:OPENROUTER_KEY_1" }]
limits = [
  { rpm = 0 },
  { rpm = -5 },
  {},
  { requests = 5 },
  { rpm = 5, per = "10s" },
  { concurrent = 1.5 },
  { rpm = 5, models = ["gpt-[45]", ""] },
  { rpm = 5, shape = "windw" },
  { rpd = 5, day_begins = "08:00" },
  { rpd = 5, shape = "window", day_begins = "8am" },
]
"#
);

snapshot!(
    routes_that_lead_nowhere,
    r#"
default_provider = "openruter"
[[provider]]
name = "openrouter"
keys = [{ name = "main", secret = "env:OPENROUTER_KEY_1" }]
[[route]]
model = "a"
tiers = [["opnrouter:x"], ["gpt-4o"], [], ["openrouter:"]]
[[route]]
model = "b"
[[route]]
tiers = [[{ target = "openrouter:x", keys = ["mian"], weight = 0 }]]
strategy = "round-robin"
provider_defaults = "sort = price"
"#
);

snapshot!(
    headers_that_cannot_be_sent,
    r#"
[[provider]]
name = "openrouter"
keys = [{ name = "a", secret = "env:OPENROUTER_KEY_1" }]
headers = { "X Title" = "a", "X-Name" = "café", "Host" = "h", "Authorization" = "Bearer sk-test-abc", "X-B" = "a\nb" }
"#
);

snapshot!(
    listeners_that_are_not_safe,
    r#"
[server]
listen = "0.0.0.0:4000"
admin = "0.0.0.0:4000"
cors_origins = ["*", "app.example.com"]
allowed_hosts = ["https://h"]
ca_file = "/etc/none.pem"
proxy = "socks5://user:hunter2@h:1"
[server.tls]
cert = "/c.pem"
[[provider]]
name = "openrouter"
keys = [{ name = "a", secret = "env:OPENROUTER_KEY_1" }]
"#
);

snapshot!(
    broken_grammar,
    "
[server
listen = \"127.0.0.1:4000
[[provider]]
name = openrouter
name = \"twice\"
keys = [{ name = \"a\", secret = literal:sk-test-0123456789abcdef }
"
);

snapshot!(no_provider, "[server]\nlisten = \"127.0.0.1:4000\"\n");

snapshot!(empty_file, "");

snapshot!(
    a_long_line_is_cut_around_the_caret,
    r#"
[[provider]]
name = "openrouter"
keys = [{ name = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", secret = "env:OPENROUTER_KEY_1" }, { name = "bbbbbbbbbbbbbbbb", secret = "env:OPENROUTER_KEY_2", weigth = 3, enabled = true, models = ["a", "b", "c"] }]
"#
);

#[test]
fn colours_only_where_asked() {
    let text = "[server]\nlisen = 1\n[[provider]]\nname = \"ollama\"\n";
    let problems = Table::default().toml(text).unwrap_err();
    assert!(problems.render("f", text, true).contains("\x1b[1;31merror\x1b[0m"));
    assert!(!problems.render("f", text, false).contains('\x1b'));
}

#[test]
fn terminal_escapes_in_a_file_do_not_reach_the_terminal() {
    let text = "[server]\n\"\\u001b[2J\" = 1\n[[provider]]\nname = \"\\u001b[2J\"\n";
    let problems = Table::default().toml(text).unwrap_err();
    let rendered = problems.render("f", text, false);
    assert!(!rendered.contains('\x1b'), "{rendered}");
    assert!(!problems.to_string().contains('\x1b'));
}

#[test]
fn places_count_characters_not_bytes() {
    let text = "# äöü\n[server]\nallowed_hosts = [\"ä\", \"b c\"]\n[[provider]]\nname = \"ollama\"\n";
    let problems = Table::default().toml(text).unwrap_err();
    let places: Vec<_> = problems.list.iter().map(|p| (p.line, p.column)).collect();
    assert_eq!(places, [(Some(3), Some(18)), (Some(3), Some(23))]);
}

/// Each way to write a secret wrongly, in a line that a problem shows.
#[test]
fn no_report_repeats_a_secret() {
    const MARK: &str = "Zx9Qw7Er5Ty3Ui1Op0As8Df6";
    let lines = [
        "secret = \"{}\"",
        "secrt = \"{}\"",
        "secret = \"literal:{}\", auth = \"none\"",
        "secret = \"sk-or-v1-{}\"",
        "secret = {}",
        "secret = \"literal:{}\", nonsense = 1",
        "secret = [\"{}\"]",
        "key = \"{}\"",
        "apikey = \"Bearer {}\"",
        "name = \"{}\", nonsense = 1",
        "secret = \"{}\\\"x\"",
        "secret = '{}",
        "secret = \"{}",
        "secret = \"literal:a b {}\"",
    ];
    for line in lines {
        let line = line.replace("{}", MARK);
        let text = format!("[[provider]]\nname = \"openai\"\nkeys = [{{ name = \"a\", {line} }}]\n");
        let problems = Table::default().toml(&text).unwrap_err();
        let all = format!("{}{problems}{problems:?}", problems.render("f", &text, false));
        assert!(!all.contains(MARK), "{line}:\n{all}");
    }
    // Without the looks of a key, the setting's name tells.
    for line in [
        "secret = \"hunter-two\"",
        "secrets = \"hunter-two\"",
        "password = 'hunter-two'",
        "api_key = \"hunter-two\"",
    ] {
        let text = format!("[[provider]]\nname = \"openai\"\nkeys = [{{ name = \"a\", {line} }}]\n");
        let problems = Table::default().toml(&text).unwrap_err();
        assert!(!problems.render("f", &text, false).contains("hunter"), "{line}");
    }
    for line in [
        "auth = {}",
        "dialect = {}",
        "preset = {}",
        "proxy = {}",
        "base_url = {}",
        "keys = [{ name = {} }]",
        "limit_headers = {}",
        "endpoints = [{}]",
        "keys = [{ name = \"a\", account = {}, auth = {} }]",
        "{} = {}",
    ] {
        for key in [format!("\"sk-or-v1-{MARK}\""), format!("\"{MARK}\"")] {
            let text = format!("[[provider]]\nname = \"lab\"\n{}\n", line.replace("{}", &key));
            let problems = Table::default().toml(&text).unwrap_err();
            let all = format!("{}{problems}{problems:?}", problems.render("f", &text, false));
            assert!(!all.contains(MARK), "{text}:\n{all}");
        }
    }
    for line in [
        format!("base_url = \"https://user:{MARK}@h/v1\""),
        format!("proxy = \"ftp://user:{MARK}@h\""),
        format!("headers = {{ \"Authorization\" = \"Bearer {MARK}\" }}"),
        format!("headers = {{ \"x-api-key\" = \"{MARK}\" }}"),
    ] {
        let text = format!("[[provider]]\nname = \"openai\"\n{line}\nkeys = []\n");
        let problems = Table::default().toml(&text).unwrap_err();
        let all = format!("{}{problems}{problems:?}", problems.render("f", &text, false));
        assert!(!all.contains(MARK), "{line}:\n{all}");
    }
}

#[test]
fn warnings_come_with_the_errors_and_alone_do_not_refuse() {
    let text = "[[provider]]\nname = \"x\"\ndialect = \"openai\"\nbase_url = \"http://h\"\nkeys = [{ name = \"k\", auth = \"none\", enabled = false }]\n";
    let config = crate::world::good(text);
    let lines: Vec<_> = config.warnings.iter().map(|w| w.line).collect();
    assert_eq!(lines, [Some(1), Some(4)]);
    assert_eq!(bad(&format!("{text}nonsense = 1")).len(), 3);
}

#[test]
fn budgets_without_a_ledger_are_warned_of() {
    let provider = "[[provider]]\nname = \"x\"\ndialect = \"openai\"\nbase_url = \"http://h/v1\"\nkeys = [{ name = \"k\", auth = \"none\" }]\n";
    let digest = "0".repeat(64);
    let client = format!("[[client]]\nname = \"c\"\nsecret = \"sha256:{digest}\"\n");
    let off = "[ledger]\ndatabase = \"off\"\n";
    let warned = |text: &str| {
        let config = crate::world::good(text);
        config.warnings.iter().filter(|w| w.message.contains("no ledger")).map(|w| w.line).collect::<Vec<_>>()
    };
    let budgeted = format!("{client}budget = 5\n");
    assert_eq!(warned(&format!("{off}{provider}{budgeted}")), [Some(1)]);
    let team = "[[team]]\nname = \"t\"\nbudget = 5\n";
    assert_eq!(warned(&format!("{off}{provider}{team}{client}")), [Some(1)]);
    assert_eq!(warned(&format!("{off}{provider}{client}")), []);
    assert_eq!(warned(&format!("{provider}{budgeted}")), []);
}
