use super::*;
use crate::http1::Fields;
use keymux_policy::fleet::KeyId;

/// 2026-11-23T10:00:00Z.
const NOW: u64 = 1_795_428_000_000_000_000;

fn judged(way: &Way, status: u16, headers: &[(&str, &str)], body: &str) -> (Verdict, Said) {
    let headers: Vec<(&str, &[u8])> = headers.iter().map(|(n, v)| (*n, v.as_bytes())).collect();
    let dialect = if *way == Way::Key { Dialect::OpenRouter } else { Dialect::OpenAi };
    let (profile, body) = (Profile::Generic, body.as_bytes());
    let fields = Fields::of(&headers);
    of_answer(&Answer { way, dialect, profile, status, headers: fields.iter(), body, unix_ns: NOW })
}

fn verdict(way: &Way, status: u16, body: &str) -> Verdict {
    judged(way, status, &[], body).0
}

#[test]
fn only_what_speaks_of_the_key_is_held_against_it() {
    let probe = Way::Probe("m".into());
    let nobody_knows = |way: &Way, status, body: &str| {
        let verdict = verdict(way, status, body);
        assert!(matches!(verdict, Verdict::Unknown(_)), "{way:?} {status} {body}: {verdict:?}");
    };
    for way in [Way::Key, Way::Models, Way::Balance, probe.clone()] {
        for status in [408, 500, 502, 503, 504, 524, 529] {
            nobody_knows(&way, status, "");
        }
        nobody_knows(&way, 403, "<html>blocked</html>");
        nobody_knows(&way, 200, "<html>Sign in to the hotel's network</html>");
        nobody_knows(&way, 200, r#"{"error":{"message":"broken","code":500}}"#);
        assert!(matches!(verdict(&way, 401, ""), Verdict::Refused(_)), "{way:?}");
        assert!(matches!(verdict(&way, 402, ""), Verdict::NoMoney { stated: false, .. }), "{way:?}");
    }
    for way in [Way::Key, Way::Models, Way::Balance] {
        nobody_knows(&way, 429, "");
        nobody_knows(&way, 404, "");
        // Some keys may call models and not list them.
        nobody_knows(&way, 403, r#"{"error":{"message":"no"}}"#);
        nobody_knows(
            &way,
            401,
            r#"{"error":{"message":"You have insufficient permissions for this operation. Missing scopes: api.model.read"}}"#,
        );
        nobody_knows(&way, 200, "{}");
    }
    let relayed = r#"{"error":{"message":"Provider returned error","code":401,"metadata":{"provider_name":"Far","raw":"no"}}}"#;
    nobody_knows(&Way::Key, 401, relayed);
    nobody_knows(&probe, 404, r#"{"error":{"code":"model_not_found","message":"no"}}"#);
    nobody_knows(&probe, 400, r#"{"error":{"message":"bad"}}"#);
    assert!(matches!(verdict(&probe, 403, r#"{"error":{"message":"no"}}"#), Verdict::Refused(_)));
    // Whoever is told to come later was let in.
    assert_eq!(verdict(&probe, 429, ""), Verdict::Works);
    assert_eq!(verdict(&Way::Models, 200, r#"{"data":[]}"#), Verdict::Works);
    assert_eq!(verdict(&probe, 200, r#"{"choices":[]}"#), Verdict::Works);
    let spent = r#"{"error":{"message":"x","code":"credit_balance_exhausted","type":"insufficient_quota"}}"#;
    assert!(matches!(verdict(&probe, 429, spent), Verdict::NoMoney { .. }));
}

#[test]
fn a_key_that_may_spend_nothing_more_says_until_when() {
    let body = r#"{"data":{"usage":5,"limit":5,"limit_remaining":0,"limit_reset":"daily"}}"#;
    let (told, said) = judged(&Way::Key, 200, &[], body);
    let Verdict::Capped { until_unix_ns, what } = &told else { panic!("{told:?}") };
    assert_eq!(*until_unix_ns, Some(1_795_478_400_000_000_000), "midnight UTC");
    assert_eq!(what, "its own daily limit of 5.00 $ is used up");
    assert!(said.facts.is_some());
    let body = r#"{"data":{"usage":5,"budgets":[{"scope":"workspace_default_key","limit_usd":9,"remaining_usd":0}]}}"#;
    let (told, _) = judged(&Way::Key, 200, &[], body);
    let what = "the budget of 9.00 $ of its workspace default key is used up".to_owned();
    assert_eq!(told, Verdict::Capped { until_unix_ns: None, what });
}

#[test]
fn keys_that_are_no_use_are_told_from_keys_that_are() {
    let of = |body: &str| verdict(&Way::Key, 200, body);
    assert_eq!(of(r#"{"data":{"usage":1,"limit":null}}"#), Verdict::Works);
    assert!(matches!(of(r#"{"data":{"usage":1,"is_management_key":true}}"#), Verdict::Unfit(_)));
    let past = r#"{"data":{"usage":1,"expires_at":"2026-11-23T10:00:00Z"}}"#;
    assert_eq!(of(past), Verdict::Refused("it has expired".to_owned()));
    let out = verdict(&Way::Balance, 200, r#"{"is_available":false,"balance_infos":[]}"#);
    assert!(matches!(out, Verdict::NoMoney { stated: true, .. }));
    assert_eq!(verdict(&Way::Balance, 200, r#"{"is_available":true}"#), Verdict::Works);
}

#[test]
fn headers_name_the_owner_and_the_limits() {
    let headers = [
        ("openai-organization", "org-a"),
        ("x-ratelimit-limit-requests", "60"),
        ("x-ratelimit-remaining-requests", "59"),
    ];
    let (_, said) = judged(&Way::Models, 200, &headers, "[]");
    assert!(said.owner.is_some());
    assert_eq!((said.limits.len(), said.limits[0].remaining), (1, Some(59)));
    assert_eq!(judged(&Way::Models, 200, &[], "[]").1.owner, None);
    let body = r#"{"data":{"usage":0,"organization_id":"org-a"}}"#;
    assert!(judged(&Way::Key, 200, &[], body).1.owner.is_some());
}

#[test]
fn a_person_is_told_of_what_ends_soon() {
    let noted = |body: &str| {
        let (verdict, said) = judged(&Way::Key, 200, &[], body);
        let checked = Checked {
            key: KeyId(0),
            provider: "p".into(),
            name: "k".into(),
            account: "k".into(),
            way: Way::Key,
            sent_ns: 0,
            at_unix_ns: NOW,
            verdict,
            facts: said.facts,
            balance: None,
            owner: said.owner,
            limits: Vec::new(),
        };
        notes(&checked)
    };
    let expires = |at: &str| noted(&format!(r#"{{"data":{{"usage":0,"expires_at":"{at}"}}}}"#));
    assert_eq!(expires("2026-11-30T10:00:00Z"), [Note::Expires(NOW + EXPIRY_NS)]);
    assert!(expires("2026-11-30T10:00:01Z").is_empty(), "later than in a week");
    let left = |left: &str| {
        let body = format!(r#"{{"data":{{"usage":0,"limit":10,"limit_remaining":{left}}}}}"#);
        !noted(&body).is_empty()
    };
    assert_eq!([left("1"), left("0.99"), left("10"), left("0")], [false, true, false, false]);
    let free = r#"{"data":{"usage":0,"free_model_daily_requests":{"remaining":0}}}"#;
    assert_eq!(noted(free), [Note::FreeModelsUsedUp]);
}
