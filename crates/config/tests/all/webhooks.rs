//! Whom to tell: what is taken, what is refused and how, and that the token in an address is shown nowhere.

use crate::world::Table;
use keymux_config::{Config, Gravity, HookKind, Problems, Topic, diff};

const PROVIDER: &str = "[[provider]]\nname = \"lab\"\ndialect = \"openai\"\nbase_url = \"http://127.0.0.1:1/v1\"\nkeys = [{ name = \"k\", auth = \"none\" }]\n";
const TOKEN: &str = "T0KEN-IN-THE-PATH";

fn read(hook: &str) -> Result<Config, Problems> {
    let url = format!("https://hooks.example.com:8443/services/{TOKEN}?key={TOKEN}");
    Table::vars(&[("HOOK", &url), ("KEY", "whsec_c2lnbmluZyBrZXk="), ("BAD", "whsec_!")])
        .toml(&format!("{PROVIDER}[[webhook]]\n{hook}"))
}

fn taken(hook: &str) -> Config {
    read(hook).unwrap_or_else(|problems| panic!("{problems}"))
}

fn refused(hook: &str) -> String {
    read(hook).expect_err(hook).to_string()
}

#[test]
fn a_name_and_an_address_are_enough() {
    let config = taken("name = \"ops\"\nurl = \"env:HOOK\"");
    let hook = &config.webhooks[0];
    assert_eq!((hook.kind, hook.gather_ms, hook.remind_ms), (HookKind::Json, 5_000, Some(14_400_000)));
    assert_eq!((hook.url.server.port, hook.secret.is_none()), (8443, true));
    assert_eq!(hook.url.target.expose(), format!("/services/{TOKEN}?key={TOKEN}"));
    assert!(
        hook.wants(Topic::KeyDegraded, Gravity::Warning) && hook.wants(Topic::Webhook, Gravity::Critical)
    );
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn what_is_chosen_holds() {
    let config = taken(
        "name = \"ops\"\nkind = \"feishu\"\nurl = \"env:HOOK\"\nsecret = \"env:KEY\"\nevents = [\"budget\", \"key_out\"]\n\
         severity = \"critical\"\nremind = \"0s\"",
    );
    let hook = &config.webhooks[0];
    assert_eq!((&hook.topics[..], hook.remind_ms), (&[Topic::KeyOut, Topic::Budget][..], None));
    assert!(!hook.wants(Topic::Budget, Gravity::Warning) && !hook.wants(Topic::Ledger, Gravity::Critical));
    // Only Standard Webhooks decode their secret.
    assert_eq!(&**hook.signing_key().unwrap(), b"whsec_c2lnbmluZyBrZXk=");
    let json = taken("name = \"ops\"\nurl = \"env:HOOK\"\nsecret = \"env:KEY\"");
    assert_eq!(&**json.webhooks[0].signing_key().unwrap(), b"signing key");
}

#[test]
fn mistakes_name_the_thing_and_the_mend() {
    for (hook, said) in [
        ("url = \"env:HOOK\"", "a webhook has no name"),
        (
            "name = \"ops\"",
            "a webhook has no url (say where its address stands: url = \"env:KEYMUX_WEBHOOK\")",
        ),
        ("name = \"a b\"\nurl = \"env:HOOK\"", "\"a b\" cannot be the name of a webhook"),
        ("name = \"ops\"\nurl = \"env:HOK\"", "did you mean \"env:HOOK\"?"),
        ("name = \"ops\"\nurl = \"literal:ftp://h/x\"", "must begin with https://"),
        ("name = \"ops\"\nurl = \"literal:https://h/x#y\"", "a fragment"),
        ("name = \"ops\"\nurl = \"literal:https://u:p@h/x\"", "credentials do not belong"),
        ("name = \"ops\"\nurl = \"env:HOOK\"\nkind = \"slak\"", "did you mean \"slack\"?"),
        ("name = \"ops\"\nurl = \"env:HOOK\"\nkind = \"slack\"\nsecret = \"env:KEY\"", "are not signed"),
        ("name = \"ops\"\nurl = \"env:HOOK\"\nsecret = \"env:BAD\"", "what follows whsec_ is not Base64"),
        ("name = \"ops\"\nurl = \"env:HOOK\"\nevents = []", "tells nothing (leave it out"),
        ("name = \"ops\"\nurl = \"env:HOOK\"\nevents = [\"key_outt\"]", "did you mean \"key_out\"?"),
        ("name = \"ops\"\nurl = \"env:HOOK\"\nremind = \"1s\"", "noise"),
        ("name = \"ops\"\nurl = \"env:HOOK\"\ngather = \"2h\"", "no news"),
        (
            "name = \"ops\"\nurl = \"env:HOOK\"\n[[webhook]]\nname = \"ops\"\nurl = \"env:HOOK\"",
            "two webhooks named",
        ),
    ] {
        let told = refused(hook);
        assert!(told.contains(said), "{hook}\n{told}");
    }
}

#[test]
fn the_token_in_an_address_is_shown_nowhere() {
    let config = taken("name = \"ops\"\nkind = \"slack\"\nurl = \"env:HOOK\"");
    let shown = format!("{}{:?}", config.describe(), config.webhooks);
    assert!(shown.contains("webhook ops (slack) https://hooks.example.com:8443/… from env:HOOK"), "{shown}");
    assert!(!shown.contains(TOKEN), "{shown}");
    let literal = format!("name = \"ops\"\nurl = \"literal:https://h/{TOKEN} x\"");
    let text = format!("{PROVIDER}[[webhook]]\n{literal}");
    let problems = read(&literal).unwrap_err();
    let all = format!("{problems}{problems:?}{}", problems.render("f", &text, false));
    assert!(!all.contains(TOKEN), "{all}");
}

#[test]
fn plain_http_off_this_machine_is_warned_of() {
    let warned = |url: &str| {
        let config = taken(&format!("name = \"ops\"\nurl = \"literal:{url}\""));
        config.warnings.iter().any(|w| w.message.contains("in the clear"))
    };
    assert!(warned("http://chat.example.com/x") && !warned("http://127.0.0.1:1/x") && !warned("https://h/x"));
}

#[test]
fn a_reload_says_what_changed() {
    let before = Table::vars(&[]).toml(PROVIDER).unwrap();
    let after = taken("name = \"ops\"\nurl = \"env:HOOK\"");
    let other =
        taken("name = \"ops\"\nkind = \"slack\"\nurl = \"literal:https://h/x\"\nseverity = \"critical\"");
    let told = |a, b| diff(a, b).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(told(&before, &after), ["webhook ops added"]);
    assert_eq!(told(&after, &other), ["webhook ops changed: kind, url, where its url stands, severity"]);
    assert_eq!(told(&after, &after), Vec::<String>::new());
}
