//! What a reload changes.

use crate::world::{Table, good};
use keymux_config::{ChangeKind, diff};

const OLD: &str = r#"
[[provider]]
name = "openai"
limits = [{ rpm = 10 }]
keys = [
  { name = "a", secret = "env:KEY_A" },
  { name = "b", secret = "env:KEY_B" },
]
[[provider]]
name = "groq"
keys = [{ name = "g", secret = "env:KEY_G" }]
[[route]]
model = "fast"
tiers = [["groq:llama"]]
"#;

fn changes(old: &str, new: &str) -> Vec<(ChangeKind, String)> {
    diff(&good(old), &good(new)).into_iter().map(|c| (c.kind, c.text)).collect()
}

fn changed(text: &str) -> (ChangeKind, String) {
    (ChangeKind::Changed, text.to_owned())
}

#[test]
fn nothing_changes_with_order_and_comments() {
    let reordered = r#"
# groq first
[[provider]]
name = "groq"
keys = [{ name = "g", secret = "env:KEY_G" }]
[[provider]]
name = "openai"
limits = [{ rpm = 10 }]
keys = [
  { name = "b", secret = "env:KEY_B" },
  { name = "a", secret = "env:KEY_A" },
]
[[route]]
model = "fast"
tiers = [["groq:llama"]]
"#;
    assert_eq!(changes(OLD, reordered), []);
}

#[test]
fn every_kind_of_change_is_named_once() {
    let new = r#"
default_provider = "openai"
[server]
listen = "127.0.0.1:5000"
max_wait = "3s"
[checks]
every = "0s"
[breaker]
consecutive = 9
[[provider]]
name = "openai"
base_url = "https://eu.example/v1"
limits = [{ rpm = 20 }]
keys = [
  { name = "a", secret = "literal:sk-test-other", enabled = false },
  { name = "c", secret = "env:KEY_C" },
]
[[provider]]
name = "mistral"
keys = [{ name = "m", secret = "env:KEY_M" }]
[[route]]
model = "slow"
tiers = [["mistral:large"]]
"#;
    let expected = [
        (ChangeKind::NeedsRestart, "server.listen changed: needs a restart".to_owned()),
        changed("server.max_wait changed"),
        changed("provider openai changed: base_url"),
        changed("account openai/a changed: limits"),
        changed("key openai/a changed: secret, switched off, where its secret stands"),
        (ChangeKind::Removed, "key openai/b removed".to_owned()),
        (ChangeKind::Added, "key openai/c added".to_owned()),
        (ChangeKind::Removed, "provider groq removed".to_owned()),
        (ChangeKind::Added, "provider mistral added, with 1 key".to_owned()),
        (ChangeKind::Removed, "route fast removed".to_owned()),
        (ChangeKind::Added, "route slow added".to_owned()),
        changed("default_provider changed"),
        changed("[checks] changed"),
        changed("[breaker] changed"),
    ];
    assert_eq!(changes(OLD, new), expected);
}

#[test]
fn a_secret_that_changed_where_it_stands_is_a_change_and_stays_unseen() {
    let file = "[[provider]]\nname = \"openai\"\nkeys = [{ name = \"a\", secret = \"file:/k\" }]";
    let old = Table::vars(&[]).file("/k", "sk-test-1").toml(file).unwrap();
    let new = Table::vars(&[]).file("/k", "sk-test-2").toml(file).unwrap();
    let text: Vec<String> = diff(&old, &new).iter().map(ToString::to_string).collect();
    assert_eq!(text, ["key openai/a changed: secret"]);
}

#[test]
fn a_route_to_the_same_index_of_another_provider_is_a_change() {
    let new = OLD.replace("groq:llama", "openai:llama");
    assert_eq!(changes(OLD, &new), [changed("route fast changed: tiers")]);
}
