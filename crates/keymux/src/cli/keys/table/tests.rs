use super::*;
use crate::checks::Way;
use keymux_policy::fleet::KeyId;
use keymux_wire::key;

const NOW: u64 = 1_795_428_000_000_000_000;

fn checked(name: &str, verdict: Verdict, facts: Option<&str>) -> Checked {
    let facts = facts.and_then(|text| key::read(format!(r#"{{"data":{text}}}"#).as_bytes()));
    Checked {
        key: KeyId(0),
        provider: "openrouter".into(),
        name: name.into(),
        account: name.into(),
        way: Way::Key,
        sent_ns: 0,
        at_unix_ns: NOW,
        verdict,
        owner: facts.as_ref().and_then(|f| f.owner.digest()),
        facts: facts.map(Box::new),
        balance: None,
        limits: Vec::new(),
    }
}

const FULL: &str = r#"{"label":"l","usage":123456.78,"usage_daily":12345.67,"usage_weekly":23456.78,
    "usage_monthly":123456.78,"limit":200000,"limit_remaining":76543.22,"limit_reset":"monthly",
    "organization_id":"org","expires_at":"2026-11-25T10:00:00Z",
    "free_model_daily_requests":{"used":1,"limit":1000,"remaining":999}}"#;

#[test]
fn the_widest_table_fits_a_hundred_columns_and_tells_keys_apart() {
    let long = "a-key-with-a-name-that-somebody-thought-about-for-a-long-time";
    let keys: Vec<Checked> =
        ["one", "two"].map(|end| checked(&format!("{long}-{end}"), Verdict::Works, Some(FULL))).into();
    let text = text(&keys, false);
    for line in text.lines() {
        assert!(chars(line) <= WIDTH, "{} columns: {line}", chars(line));
    }
    assert!(text.contains("-one  works") && text.contains("-two  works"), "{text}");
    for shown in ["76543.22", "200000.00", "monthly", "12345.67", "23456.78", "123456.78", "999", "2 days"] {
        assert!(text.contains(shown), "{shown}: {text}");
    }
    let whole = text.replace("\n  ", " ");
    assert!(whole.contains("belong to one account: its limits and its credit are theirs together"), "{text}");
    assert!(whole.contains("expires in 2 days (2026-11-25 10:00 UTC)"), "{text}");
    assert!(!text.contains('\u{1b}'), "no colour unless it is asked for");
}

#[test]
fn columns_of_which_nobody_tells_anything_are_left_out() {
    let keys = [
        checked("a", Verdict::Works, None),
        checked("b", Verdict::Refused("no \u{1b}[2Jsuch key (401)".to_owned()), None),
    ];
    let text = text(&keys, false);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "key           state",
            "openrouter/a  works",
            "openrouter/b  refused",
            "",
            "openrouter/b: no [2Jsuch key (401)"
        ]
    );
}

#[test]
fn colour_says_how_a_key_is_and_moves_no_column() {
    let unknown = Verdict::Unknown("gone".to_owned());
    let keys = [
        checked("a", Verdict::Works, Some(FULL)),
        checked("b", Verdict::Refused("no".to_owned()), None),
        checked("c", unknown, None),
    ];
    let (plain, colored) = (text(&keys, false), text(&keys, true));
    for (row, code) in [(1, 32), (2, 31), (3, 33)] {
        let line = colored.lines().nth(row).unwrap();
        assert!(line.contains(&format!("\u{1b}[{code}m")), "{line}");
        let bare = line.replace(&format!("\u{1b}[{code}m"), "").replace("\u{1b}[0m", "");
        assert_eq!(Some(bare.trim_end()), plain.lines().nth(row));
    }
}
