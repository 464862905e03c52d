//! Who is found by which key, before and after changes.

use super::*;
use crate::guard;
use crate::http1::Fields;
use crate::live::{Names, Snapshot};
use crate::observe::Metrics;
use keymux_config::{Config, World, from_toml};
use keymux_policy::Priority;
use keymux_policy::budget::Owner;
use keymux_store as store;
use keymux_store::{Changes, Terms};

const PROVIDERS: &str = r#"
[server]
data_dir = "unused"
[[provider]]
name = "one"
dialect = "openai"
base_url = "http://one.test/v1"
keys = [ { name = "a", account = "x", auth = "none" }, { name = "b", account = "y", auth = "none" } ]
[[provider]]
name = "two"
dialect = "openai"
base_url = "http://two.test/v1"
keys = [ { name = "a", auth = "none" } ]
[[route]]
model = "both"
tiers = [ ["one:m"], ["two:m"] ]
"#;

const DECLARED: &str = "[[client]]\nname = \"file\"\nsecret = \"literal:declared-key-0123456789\"\n";

fn config(more: &str) -> Config {
    let text = format!("{PROVIDERS}{more}");
    let world = World {
        env: &|_| None,
        env_names: &[],
        read: &|_| Err(std::io::ErrorKind::NotFound.into()),
        run: &|_| Err(String::new()),
    };
    from_toml("test", &text, &world).map_err(|p| p.render("test", &text, false)).unwrap()
}

pub(super) fn snapshot(more: &str) -> Snapshot {
    Snapshot::new(config(more), &mut Names::default(), &Metrics::default()).unwrap().0
}

fn stored(id: &str, key: &str, version: u64) -> store::Client {
    store::Client {
        id: id.to_owned(),
        digest: store::Digest::of(key),
        previous: None,
        name: format!("name of {id}"),
        team: String::new(),
        terms: Terms::default(),
        disabled: false,
        created_unix_ms: 0,
        expires_unix_ms: None,
        revoked_unix_ms: None,
        version,
    }
}

fn changes(clients: Vec<store::Client>, teams: Vec<store::Team>) -> Changes {
    let version = clients.iter().map(|c| c.version).chain(teams.iter().map(|t| t.version)).max().unwrap_or(0);
    Changes { clients, teams, version }
}

#[track_caller]
fn client(directory: &Directory, key: &str, at: u64) -> std::sync::Arc<Client> {
    match directory.find(key, at) {
        Found::Client(client) => client,
        other => panic!("{other:?}"),
    }
}

fn out(directory: &Directory, key: &str) -> Option<Status> {
    match directory.find(key, 0) {
        Found::Out(_, status) => Some(status),
        _ => None,
    }
}

#[test]
fn a_key_is_found_by_its_digest_until_it_is_switched_off_revoked_or_over() {
    let (directory, snapshot) = (Directory::new(true), snapshot(""));
    let mut one = store::Client { expires_unix_ms: Some(1_000), ..stored("1", "key-one", 1) };
    directory.take_in(changes(vec![one.clone()], vec![]), &snapshot, |_| ());
    assert_eq!(&*client(&directory, "key-one", 999).name, "name of 1");
    assert!(matches!(directory.find("key-one", 1_000), Found::Expired(_)));
    assert!(matches!(directory.find("key-two", 0), Found::Unknown));
    (one.disabled, one.version) = (true, 2);
    directory.take_in(changes(vec![one.clone()], vec![]), &snapshot, |_| ());
    assert_eq!(out(&directory, "key-one"), Some(Status::Disabled));
    (one.revoked_unix_ms, one.version) = (Some(5), 3);
    directory.take_in(changes(vec![one.clone()], vec![]), &snapshot, |_| ());
    assert_eq!(out(&directory, "key-one"), Some(Status::Revoked));
    // An answer that was overtaken changes nothing.
    (one.revoked_unix_ms, one.disabled, one.version) = (None, false, 1);
    directory.take_in(changes(vec![one], vec![]), &snapshot, |_| ());
    assert_eq!(out(&directory, "key-one"), Some(Status::Revoked));
}

#[test]
fn a_rotated_key_holds_for_its_grace_and_its_client_stays_the_same() {
    let (directory, snapshot) = (Directory::new(true), snapshot(""));
    directory.take_in(changes(vec![stored("1", "old", 1)], vec![]), &snapshot, |_| ());
    let before = client(&directory, "old", 0).payers;
    let mut rotated = stored("1", "new", 2);
    rotated.previous = Some((store::Digest::of("old"), 500));
    directory.take_in(changes(vec![rotated], vec![]), &snapshot, |_| ());
    assert_eq!(client(&directory, "new", 0).payers, before);
    assert_eq!(client(&directory, "old", 499).payers, before);
    assert!(matches!(directory.find("old", 500), Found::Unknown));
    directory.take_in(changes(vec![stored("1", "newest", 3)], vec![]), &snapshot, |_| ());
    assert!(matches!(directory.find("old", 0), Found::Unknown));
    assert!(matches!(directory.find("new", 0), Found::Unknown));
}

#[test]
fn a_team_that_is_switched_off_takes_its_keys_along() {
    let (directory, snapshot) = (Directory::new(true), snapshot(""));
    let member = store::Client { team: "t".to_owned(), ..stored("1", "key", 1) };
    let mut team = store::Team { name: "t".to_owned(), version: 1, ..store::Team::default() };
    directory.take_in(changes(vec![member, stored("2", "other", 1)], vec![team.clone()]), &snapshot, |_| ());
    assert!(client(&directory, "key", 0).payers.team.is_some());
    (team.disabled, team.version) = (true, 2);
    directory.take_in(changes(vec![], vec![team]), &snapshot, |_| ());
    assert_eq!(out(&directory, "key"), Some(Status::TeamOff));
    client(&directory, "other", 0);
}

#[test]
fn names_become_ids_and_a_name_that_is_gone_allows_nothing() {
    let directory = Directory::new(true);
    let mut one = stored("1", "key", 1);
    one.terms = Terms {
        accounts: vec!["one:x".to_owned()],
        priority: Some("low".to_owned()),
        requests_a_minute: Some(60),
        ..Terms::default()
    };
    let mut two = stored("2", "bare", 1);
    two.terms.keys = vec!["a".to_owned()];
    let mut gone = stored("3", "gone", 1);
    gone.terms.providers = vec!["three".to_owned()];
    let whole = snapshot("");
    let mut dues = Vec::new();
    directory.take_in(changes(vec![one, two, gone], vec![]), &whole, |due| dues = due.to_vec());
    let keys = |key: &str| {
        let client = client(&directory, key, 0);
        let all = whole.provider_ids.iter().zip(&whole.key_ids);
        let may = all.flat_map(|(p, keys)| keys.iter().map(|k| client.may_use(*p, *k)).collect::<Vec<_>>());
        may.collect::<Vec<_>>()
    };
    assert_eq!(keys("key"), [true, false, false]);
    assert_eq!(keys("bare"), [true, false, true]);
    assert_eq!(keys("gone"), [false, false, false]);
    let one = client(&directory, "key", 0);
    assert_eq!(one.class, Priority::Low);
    let due = dues.iter().find(|due| due.owner == Owner::Client(one.payers.client)).unwrap();
    assert_eq!(due.limits.len(), 1);
}

#[test]
fn clients_of_the_file_come_and_go_with_it_and_the_gateway_stays_closed() {
    let directory = Directory::new(false);
    directory.configure(&snapshot(""), |_| ());
    assert_eq!(directory.is_closed(), Some(false));
    directory.configure(&snapshot(DECLARED), |_| ());
    let one = client(&directory, "declared-key-0123456789", 0);
    assert_eq!((&*one.id, one.budgeted), ("config:file", false));
    let mut dues = Vec::new();
    directory.configure(&snapshot(""), |due| dues = due.to_vec());
    assert!(dues.iter().any(|d| d.owner == Owner::Client(one.payers.client) && d.budget.is_none()));
    assert!(matches!(directory.find("declared-key-0123456789", 0), Found::Unknown));
    // Who takes out the last key does not mean to let everybody in.
    assert_eq!(directory.is_closed(), Some(true));
}

#[test]
fn before_the_store_is_read_nobody_is_turned_away_for_good() {
    let directory = Directory::new(true);
    let snapshot = snapshot(DECLARED);
    directory.configure(&snapshot, |_| ());
    client(&directory, "declared-key-0123456789", 0);
    assert!(matches!(directory.find("key-one", 0), Found::Unread));
    directory.take_in(changes(vec![stored("1", "key-one", 1)], vec![]), &snapshot, |_| ());
    client(&directory, "key-one", 0);
    assert!(matches!(directory.find("key-two", 0), Found::Unknown));
}

#[test]
fn the_guard_lets_in_who_has_a_key_and_says_why_it_does_not() {
    let whole = snapshot("");
    let server = &whole.config.server;
    let directory = Directory::new(true);
    let ask = |directory: &Directory, key: Option<&str>| {
        let value = key.map(|key| format!("Bearer {key}"));
        let fields: Vec<(&str, &[u8])> =
            value.iter().map(|value| ("authorization", value.as_bytes())).collect();
        let admitted = guard::admit(server, directory, &Fields::of(&fields), 10);
        admitted.map(|client| client.map(|c| c.id.to_string())).map_err(|p| (p.kind.row().status, p.code))
    };
    // Nobody knows yet whether there are keys.
    assert_eq!(ask(&directory, None), Err((503, None)));
    assert_eq!(ask(&directory, Some("key-one")), Err((503, None)));
    directory.take_in(changes(vec![], vec![]), &whole, |_| ());
    assert_eq!(ask(&directory, None), Ok(None), "an open gateway");
    let mut one = stored("1", "key-one", 1);
    one.revoked_unix_ms = Some(1);
    directory.take_in(changes(vec![one], vec![]), &whole, |_| ());
    assert_eq!(ask(&directory, None), Err((401, Some("invalid_api_key"))), "the last key was revoked");
    assert_eq!(ask(&directory, Some("key-one")), Err((401, Some("key_revoked"))));
    let over = store::Client { expires_unix_ms: Some(10), ..stored("2", "key-two", 2) };
    let off = store::Client { disabled: true, ..stored("3", "key-three", 2) };
    directory.take_in(changes(vec![over, off, stored("4", "key-four", 2)], vec![]), &whole, |_| ());
    assert_eq!(ask(&directory, Some("key-two")), Err((401, Some("key_expired"))));
    assert_eq!(ask(&directory, Some("key-three")), Err((401, Some("key_disabled"))));
    assert_eq!(ask(&directory, Some("key-four")), Ok(Some("4".to_owned())));
    assert_eq!(ask(&directory, Some("key-five")), Err((401, Some("invalid_api_key"))));
}

pub(super) const PRICED: &str = r#"
[[provider]]
name = "agg"
dialect = "openrouter"
base_url = "http://agg.test/api/v1"
keys = [ { name = "a", auth = "none" } ]
[[price]]
model = "one:*"
input = 1
output = 10
[[price]]
model = "two:*"
input = 2
output = 5
[[price]]
model = "agg:dear"
input = 100
output = 100
[[price]]
model = "agg:*"
input = 1
output = 1
"#;

fn worth(snapshot: &Snapshot, terms: Terms, body: &str, left: u64) -> Result<worth::Worth, &'static str> {
    worth_at(keymux_config::Endpoint::ChatCompletions, snapshot, terms, body, left)
}

fn worth_at(
    endpoint: keymux_config::Endpoint,
    snapshot: &Snapshot,
    terms: Terms,
    body: &str,
    left: u64,
) -> Result<worth::Worth, &'static str> {
    let directory = Directory::new(true);
    let one = store::Client { terms, ..stored("1", "key", 1) };
    directory.take_in(changes(vec![one], vec![]), snapshot, |_| ());
    let client = client(&directory, "key", 0);
    let body = bytes::Bytes::from(body.to_owned());
    let told = |problem: crate::errors::Problem| problem.kind.row().code;
    let read = crate::plan::read(endpoint, &Fields::default(), &body).map_err(told)?;
    let options = crate::options::Options::default();
    let now = keymux_policy::Now::default();
    let plan = crate::plan::Plan::new(snapshot, endpoint, &read, &body, (Some(&client), &options), now);
    worth::of(snapshot, &client, &plan.map_err(told)?, (&read, &body), (1_795_392_000, left)).map_err(told)
}

#[test]
fn a_request_is_worth_the_dearest_of_all_that_may_answer_it() {
    let snapshot = snapshot(PRICED);
    let body = |more: &str| format!(r#"{{"model":"both","max_tokens":1000{more},"messages":[]}}"#);
    let of = |terms: Terms, body: &str| {
        worth(&snapshot, terms, body, u64::MAX).map(|w| (w.bound_nano_usd.unwrap(), w.cap))
    };
    // The whole body and what a provider may add, at one dollar or two a million; the output at ten or five.
    let input = |bytes: usize, rate: u64| (4_096 + bytes as u64) * rate * 1_000;
    let plain = body("");
    assert_eq!(of(Terms::default(), &plain), Ok((input(plain.len(), 1) + 10_000_000, None)));
    let only_two = Terms { providers: vec!["two".to_owned()], ..Terms::default() };
    assert_eq!(of(only_two, &plain), Ok((input(plain.len(), 2) + 5_000_000, None)));
    let twice = body(r#","n":2"#);
    assert_eq!(of(Terms::default(), &twice), Ok((input(twice.len(), 1) + 20_000_000, None)));
    // What an aggregator may take instead counts there, and nowhere else.
    let listed = r#"{"model":"agg:cheap","models":["dear"],"max_tokens":1000,"messages":[]}"#;
    // A hair above its prices, which is a part of a nano-dollar.
    assert_eq!(of(Terms::default(), listed), Ok((input(listed.len(), 100) + 100_000_000 + 1, None)));
    let ignored = body(r#","models":["dear"]"#);
    assert_eq!(of(Terms::default(), &ignored), Ok((input(ignored.len(), 1) + 10_000_000, None)));
}

#[test]
fn input_that_a_request_only_names_is_not_bounded_by_its_bytes() {
    let snapshot = snapshot(PRICED);
    let of = |item: &str| {
        let body = format!(r#"{{"model":"one:m","max_output_tokens":9,"input":[{item}]}}"#);
        let found =
            worth_at(keymux_config::Endpoint::Responses, &snapshot, Terms::default(), &body, u64::MAX);
        found.map(|worth| worth.bound_nano_usd.is_some())
    };
    for named in [
        r#"{"type":"item_reference","id":"msg_1"}"#,
        r#"{"id":"msg_1"}"#,
        r#"{"type":"reasoning","id":"rs_1","summary":[]}"#,
        r#"{"type":"web_search_call","id":"ws_1"}"#,
    ] {
        assert_eq!(of(named), Err("cost_not_bounded"), "{named}");
    }
    for whole in [
        r#"{"role":"user","content":"x"}"#,
        r#"{"type":"message","id":"msg_1","role":"assistant","content":[]}"#,
        r#"{"type":"reasoning","encrypted_content":"gAAAA","summary":[]}"#,
        r#"{"type":"reasoning","id":"rs_1","encrypted_content":"gAAAA"}"#,
    ] {
        assert_eq!(of(whole), Ok(true), "{whole}");
    }
}

#[test]
fn fallbacks_count_at_anthropic_and_its_models_do_not() {
    let snapshot = snapshot(&PRICED.replace("\"openrouter\"", "\"anthropic\""));
    let bound = |more: &str| {
        let body = format!(r#"{{"model":"agg:cheap","max_tokens":1000{more},"messages":[]}}"#);
        let bound = worth(&snapshot, Terms::default(), &body, u64::MAX).unwrap().bound_nano_usd.unwrap();
        // All tokens have one price.
        bound / (4_096 + 1_000 + body.len() as u64)
    };
    assert_eq!(bound(r#","fallbacks":[{"model":"dear"}]"#), 100_000);
    assert_eq!(bound(r#","models":["dear"]"#), 1_000);
}

#[test]
fn a_provider_that_chooses_is_told_the_prices_of_the_bound() {
    // The first that fits counts.
    let long = "[[price]]\nmodel = \"agg:long\"\ninput = 3\noutput = 2\n[[price]]";
    let route = r#"
[[route]]
model = "routed"
tiers = [ ["agg:cheap"], ["one:m"] ]
provider_defaults = '{"sort":"price","max_price":{"prompt":0.5}}'
"#;
    let snapshot = snapshot(&format!("{}{route}", PRICED.replacen("[[price]]", long, 1)));
    let of =
        |body: &str| worth(&snapshot, Terms::default(), body, u64::MAX).map(|w| (w.priced, w.bound_nano_usd));
    let told = |body: &str| of(body).unwrap().0.map(|priced| (priced.provider, priced.told));
    let ours = |provider: &str, told: &str| Some((provider.to_owned(), told.to_owned()));
    assert_eq!(told(r#"{"model":"one:m","max_tokens":9,"messages":[]}"#), None);
    assert_eq!(
        told(r#"{"model":"agg:long","max_tokens":9,"messages":[]}"#),
        ours(
            r#"{"max_price":{"completion":2.000000001,"prompt":3.000000001,"request":0}}"#,
            "prompt=3.000000001; completion=2.000000001; request=0"
        )
    );
    // Several models: one ceiling for all, and a bound that holds for the dearest of each.
    let several = r#"{"model":"agg:long","models":["cheap"],"max_tokens":1000,"provider":{"max_price":{"completion":1}},"messages":[]}"#;
    let (priced, bound) = of(several).unwrap();
    assert_eq!(priced.unwrap().told, "prompt=3.000000001; completion=1; request=0");
    assert_eq!(bound, Some((4_096 + several.len() as u64) * 3_000 + 2_000_000 + 1));
    // The operator's own defaults are lowered too, where they are what goes out.
    let routed = told(r#"{"model":"routed","max_tokens":9,"messages":[]}"#).unwrap();
    assert_eq!(
        routed.0,
        r#"{"sort":"price","max_price":{"completion":1.000000001,"prompt":0.5,"request":0}}"#
    );
    let wrong = r#"{"model":"agg:long","max_tokens":9,"provider":{"max_price":{"prompt":1,"prompt":9}},"messages":[]}"#;
    assert_eq!(of(wrong).unwrap_err(), "invalid_body");
}

#[test]
fn a_ceiling_does_not_leave_out_what_is_served_without_a_price() {
    let served = snapshot(&format!("[prices]\nunknown = \"serve\"\n{}", PRICED.replace("agg:*", "agg:m")));
    let of = |body: &str| worth(&served, Terms::default(), body, u64::MAX).unwrap();
    let known = of(r#"{"model":"agg:dear","max_tokens":9,"messages":[]}"#);
    assert!(known.priced.is_some() && known.bound_nano_usd.is_some());
    let either = of(r#"{"model":"agg:dear","models":["odd"],"max_tokens":9,"messages":[]}"#);
    assert!(either.priced.is_none() && either.bound_nano_usd.is_some());
}

#[test]
fn where_no_cap_is_named_the_budget_decides_and_what_has_no_bound_is_refused() {
    let snapshot = snapshot(PRICED);
    let body = r#"{"model":"one:m","messages":[]}"#;
    let cap = |left| worth(&snapshot, Terms::default(), body, left).unwrap().cap.unwrap();
    assert_eq!(cap(u64::MAX), 4_096);
    let input = (4_096 + body.len() as u64) * 1_000;
    assert_eq!(cap(input + 123 * 10_000), 123);
    // Too little even for one: the budget says so, and no cap of nothing goes out.
    assert_eq!(cap(0), 1);
    for body in [
        r#"{"model":"one:m","max_tokens":5,"plugins":[{"id":"web"}],"messages":[]}"#,
        r#"{"model":"one:m","max_tokens":5,"previous_response_id":"r","messages":[]}"#,
        r#"{"model":"one:m","max_tokens":5,"best_of":1e3,"messages":[]}"#,
    ] {
        assert_eq!(worth(&snapshot, Terms::default(), body, u64::MAX), Err("cost_not_bounded"), "{body}");
    }
    // What is too deep to be walked hides nothing.
    let (open, close) = ("[".repeat(200), "]".repeat(200));
    let deep = format!(
        r#"{{"model":"one:m","max_tokens":5,"messages":[],"x":{open}{close},"plugins":[{{"id":"web"}}]}}"#
    );
    assert_eq!(worth(&snapshot, Terms::default(), &deep, u64::MAX), Err("cost_not_bounded"));
    let background = r#"{"model":"one:m","max_tokens":5,"background":true,"messages":[]}"#;
    assert!(worth(&snapshot, Terms::default(), background, u64::MAX).unwrap().background);
    let unpriced = self::snapshot("");
    let body = r#"{"model":"one:m","max_tokens":5,"messages":[]}"#;
    assert_eq!(worth(&unpriced, Terms::default(), body, u64::MAX), Err("cost_not_bounded"));
    let served = self::snapshot("[prices]\nunknown = \"serve\"\n");
    assert_eq!(worth(&served, Terms::default(), body, u64::MAX), Ok(worth::Worth::default()));
}

#[test]
fn who_waits_in_a_line_and_leaves_takes_nothing_along() {
    use keymux_policy::budget::{Charge, Payers};
    use keymux_policy::fleet::{Dimension, LimitSpec, ModelSet, Shape};
    use keymux_policy::tenants::Want;
    crate::rt::single().unwrap().block_on(async {
        let clock = crate::clock::Clock::start();
        let turnstile = Turnstile::new(clock.clone(), false);
        let payers = Payers { client: keymux_policy::ClientId(1), team: None };
        let slot = LimitSpec {
            dimension: Dimension::Concurrent,
            shape: Shape::Slots { limit: 1 },
            models: ModelSet::default(),
            preset: false,
        };
        let budget = keymux_policy::budget::Budget { limit_nano_usd: Some(100), ..Default::default() };
        turnstile.set(&[Dues {
            owner: Owner::Client(payers.client),
            limits: vec![slot],
            budget: Some(budget),
        }]);
        let want = Want {
            payers,
            tokens: 1.0,
            bound_nano_usd: Some(60),
            deadline_mono_ns: clock.mono_ns() + 60_000_000_000,
        };
        let (Entry::Go(passed), Entry::Wait(gone), Entry::Wait(next)) =
            (turnstile.enter(want), turnstile.enter(want), turnstile.enter(want))
        else {
            panic!("one goes, two wait")
        };
        drop(gone);
        assert_eq!(turnstile.waiting(), 1);
        assert_eq!(passed.leave(Some(1.0), Charge::Cost(40)).charged_nano_usd, 40);
        let Ok(next) = next.called().await else { panic!("it was its turn") };
        let held = || turnstile.budget(Owner::Client(payers.client)).unwrap().held_nano_usd;
        assert_eq!(held(), 60);
        // A word that nobody takes gives back what it holds.
        let Entry::Wait(unread) = turnstile.enter(Want { bound_nano_usd: Some(10), ..want }) else {
            panic!()
        };
        drop(next);
        assert_eq!((held(), turnstile.waiting()), (10, 0));
        drop(unread);
        assert_eq!(held(), 0);
    });
}
