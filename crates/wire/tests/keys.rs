//! Every file of `corpus/keys`: what a provider says of a key, written by us after its documents, and all that must be
//! read from it. A line that is not understood and a fact that is not expected both fail.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use keymux_wire::key::{Budget, KeyFacts, Owner, Spent, is_list, read, read_balance};
use proptest::prelude::*;

/// 2026-11-23T10:00:00Z, a Monday.
const NOW: u64 = 1_795_428_000_000_000_000;

/// The facts that were read, in the corpus's own words.
fn told(facts: &KeyFacts) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    let mut say =
        |name: &str, value: Option<String>| lines.extend(value.map(|value| format!("{name}: {value}")));
    say("label", facts.label.as_deref().map(str::to_owned));
    say("usage", spent(&facts.usage));
    say("byok", spent(&facts.byok));
    say("byok-in-limit", facts.byok_in_limit.then(|| "yes".to_owned()));
    say("own", facts.own.as_ref().map(budget));
    for layer in &facts.budgets {
        say("budget", Some(budget(layer)));
    }
    say("binds", facts.binding.as_ref().map(budget));
    say("spent-until", facts.spent_budget(NOW).map(|b| seconds(b.whole_again(NOW))));
    let count = |n: Option<u64>| n.map_or("-".to_owned(), |n| n.to_string());
    let free = facts.free_models.map(|f| [f.used, f.limit, f.remaining].map(count).join(" "));
    say("free-models", free);
    say("free-tier", facts.is_free_tier.then(|| "yes".to_owned()));
    say("management", facts.is_management_key.then(|| "yes".to_owned()));
    say("expires", facts.expires_at_unix_ns.map(|at| seconds(Some(at))));
    let Owner { organization, user, workspace } = &facts.owner;
    let ids = [organization, user, workspace].map(|id| id.as_deref().unwrap_or("-"));
    say("owner", (facts.owner != Owner::default()).then(|| ids.join(" ")));
    lines
}

fn seconds(at: Option<u64>) -> String {
    at.map_or("never".to_owned(), |ns| (ns / 1_000_000_000).to_string())
}

fn usd(nano: Option<u64>) -> String {
    nano.map_or("-".to_owned(), |nano| format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000))
}

/// All time, day, week, month.
fn spent(s: &Spent) -> Option<String> {
    (*s != Spent::default()).then(|| [s.all, s.day, s.week, s.month].map(usd).join(" "))
}

/// Scope, limit, spent, remaining, reset, reset as an instant.
fn budget(b: &Budget) -> String {
    let (scope, reset) = (b.scope.as_deref().unwrap_or("-"), b.reset.map_or("-", |r| r.word()));
    let at = b.resets_at_unix_ns.map_or("-".to_owned(), |at| seconds(Some(at)));
    format!("{scope} {} {} {} {reset} {at}", usd(b.limit), usd(b.spent), usd(b.remaining))
}

#[test]
fn every_answer_of_the_corpus_is_read_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/keys");
    let (mut wrong, mut count) = (String::new(), 0);
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read(&path).unwrap();
        let split = memchr::memmem::find(&text, b"---\n").expect("a line of three dashes");
        let wanted: BTreeSet<String> =
            std::str::from_utf8(&text[..split]).unwrap().lines().map(str::to_owned).collect();
        let got = match read(&text[split + 4..]) {
            Some(facts) => told(&facts),
            None => BTreeSet::from(["unreadable: yes".to_owned()]),
        };
        if got != wanted {
            writeln!(wrong, "{name}\n  got  {got:#?}\n  want {wanted:#?}").unwrap();
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(count >= 20, "the corpus has shrunk to {count}");
}

#[test]
fn keys_of_one_account_are_known_by_their_owner_and_workspaces_stay_apart() {
    let owner = |organization: Option<&str>, user: Option<&str>, workspace: Option<&str>| Owner {
        organization: organization.map(Box::from),
        user: user.map(Box::from),
        workspace: workspace.map(Box::from),
    };
    let (a, b, w) = (Some("a"), Some("b"), Some("w"));
    for (one, other, same) in [
        (owner(a, None, None), owner(a, None, None), true),
        (owner(a, b, None), owner(a, Some("c"), None), true),
        (owner(None, b, None), owner(None, b, None), true),
        (owner(a, None, w), owner(a, None, w), true),
        (owner(a, None, w), owner(a, None, None), false),
        (owner(a, None, w), owner(a, None, Some("v")), false),
        (owner(a, b, None), owner(None, b, None), false),
        (owner(None, None, None), owner(None, None, None), false),
        (owner(None, None, w), owner(None, None, w), false),
        (owner(a, None, None), owner(b, None, None), false),
        (owner(a, None, None), owner(None, a, None), false),
    ] {
        let alike = one.digest().is_some() && one.digest() == other.digest();
        assert_eq!(alike, same, "{one:?} {other:?}");
    }
}

#[test]
fn a_balance_is_read_and_anything_else_is_none() {
    let body = br#"{"is_available":true,"balance_infos":[{"currency":"USD","total_balance":"110.00","granted_balance":"10.00","topped_up_balance":"100.00"},{"currency":3}],"new":1}"#;
    let balance = read_balance(body).unwrap();
    assert!(balance.available);
    assert_eq!(balance.amounts, [("USD".into(), "110.00".into())]);
    assert!(!read_balance(br#"{"is_available":false}"#).unwrap().available);
    for other in ["", "{}", "[]", "null", r#"{"is_available":"yes"}"#, "<html>"] {
        assert_eq!(read_balance(other.as_bytes()), None, "{other}");
    }
}

#[test]
fn lists_of_models_are_told_from_other_pages() {
    for list in [r#"{"object":"list","data":[{"id":"m"}]}"#, r#"{"data":[]}"#, "[]", r#"{"models":[{}]}"#] {
        assert!(is_list(list.as_bytes()), "{list}");
    }
    for other in ["", "<html></html>", "{}", r#"{"data":{}}"#, r#"{"error":{"message":"no"}}"#, "null", "[1"]
    {
        assert!(!is_list(other.as_bytes()), "{other}");
    }
}

/// JSON with the names that are read, and anything behind them.
fn answers() -> impl Strategy<Value = String> {
    let names = proptest::sample::select(vec![
        "label",
        "limit",
        "limit_remaining",
        "limit_reset",
        "usage",
        "usage_daily",
        "budgets",
        "effective_budget",
        "expires_at",
        "free_model_daily_requests",
        "organization_id",
    ]);
    let values = proptest::sample::select(vec![
        "null",
        "-1",
        "1e400",
        "-0.0",
        "true",
        r#""""#,
        r#""daily""#,
        r#""9999-99-99T00:00:00Z""#,
        "[]",
        "[[[]]]",
        "{}",
        r#"[{"limit_usd":1,"remaining_usd":-3}]"#,
        r#"{"limit_usd":"x"}"#,
        "18446744073709551616",
        r#""\u0000\ud83d\ude00""#,
    ]);
    proptest::collection::vec((names, values), 0..12).prop_map(|pairs| {
        let pairs: Vec<String> = pairs.iter().map(|(n, v)| format!("\"{n}\":{v}")).collect();
        format!(r#"{{"data":{{{}}}}}"#, pairs.join(","))
    })
}

proptest! {
    #[test]
    fn nothing_that_is_sent_panics(answer in answers(), bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for body in [answer.as_bytes(), &bytes] {
            if let Some(facts) = read(body) {
                let _ = facts.spent_budget(NOW);
                let _ = facts.spent_budget(u64::MAX);
                prop_assert!(facts.label.is_none_or(|l| l.len() <= 400 && !l.chars().any(char::is_control)));
            }
            let _ = (read_balance(body), is_list(body));
        }
    }
}
