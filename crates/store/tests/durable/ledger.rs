//! The ledger and the client keys.

use crate::place::{DAY, LONG, NOON, Place, ask, request, reserve};
use keymux_store::*;
use std::sync::Arc;

on_both! {
    rows_come_back_as_they_were_and_only_to_their_client
    odd_rows_by_the_thousand_come_back_as_they_were
    amounts_that_no_provider_can_mean_hold_up_no_row
    a_row_that_comes_twice_counts_once
    a_log_that_is_read_again_counts_once
    sums_of_hours_and_days_go_on_over_a_restart_at_the_turn_of_a_month
    sums_are_told_apart_by_what_is_asked_for
    the_past_is_read_beside_its_writer
    spend_is_by_the_day_that_bears_it
    old_rows_go_while_their_sums_and_all_spend_stay
    new_rows_come_in_between_two_steps_of_retention
    a_second_instance_is_refused
    a_foreign_or_newer_schema_is_left_alone
    clients_live_through_every_change
    two_changes_of_one_client_do_not_overwrite_each_other
}

fn record_all(store: &Store, rows: impl IntoIterator<Item = Record>) {
    for row in rows {
        assert!(store.record(&row));
    }
    assert!(store.wait_drained(LONG), "{:?}", store.health());
}

fn total(store: &Store, by: &[By]) -> Vec<Usage> {
    ask(store.usage(UsageQuery { by: by.to_vec(), ..UsageQuery::default() })).expect("usage")
}

fn rows_come_back_as_they_were_and_only_to_their_client(place: &Place) {
    let (store, _) = place.open();
    let unpriced = Record {
        generation: None,
        tags: vec![],
        first_output_ns: None,
        used: Used::default(),
        model: "a\0b '\"; DROP TABLE requests; --".into(),
        ..request(3, NOON)
    };
    record_all(&store, [request(1, NOON), unpriced.clone()]);
    let found = |client: &str, id: &str| ask(store.generation(client, id)).expect("an answer");
    assert_eq!(found("ck-1", "req-1"), Some(request(1, NOON)));
    assert_eq!(found("ck-1", "gen-1"), Some(request(1, NOON)), "by the provider's id as well");
    assert_eq!(found("ck-0", "gen-1"), None, "it is somebody else's");
    let want = Record { model: unpriced.model.replace('\0', ""), ..unpriced };
    assert_eq!(found("ck-0", "req-3"), Some(want));
}

fn odd_rows_by_the_thousand_come_back_as_they_were(place: &Place) {
    // What arrays and quotes are made of, and a batch and a half of them, with and without what may be missing.
    const ODD: [&str; 6] = ["", "NULL", "{a,\"b\"}", "\\", "a\u{1}\n\t'\u{10ffff}", "\u{fffd}日本\u{202e}"];
    let odd = |n: u64| {
        let text = ODD[usize::try_from(n).unwrap() % ODD.len()];
        let even = n.is_multiple_of(2);
        Record {
            generation: even.then(|| text.into()),
            model: text.into(),
            tags: if even { vec![] } else { vec![text.into(), "b".into()] },
            first_output_ns: even.then_some(n * 1000),
            used: Used { cost_nano_usd: (!n.is_multiple_of(3)).then_some(n), ..request(n, NOON).used },
            ..request(n, NOON)
        }
    };
    let (store, _) = place.open();
    record_all(&store, (0..6000).map(odd));
    for n in (0..12).chain(3990..4010).chain(5994..6000) {
        let found = ask(store.generation(&format!("ck-{}", n % 3), &format!("req-{n}"))).expect("an answer");
        assert_eq!(found, Some(odd(n)));
    }
    let all = &total(&store, &[])[0];
    assert_eq!((all.requests, all.cost_unknown), (6000, 2000));
}

fn amounts_that_no_provider_can_mean_hold_up_no_row(place: &Place) {
    let (store, _) = place.open();
    for n in 0..3 {
        let used = Used { input_tokens: u64::MAX, cost_nano_usd: Some(u64::MAX), ..Used::default() };
        assert!(store.record(&Record { used, queue_ns: u64::MAX, ..request(n * 6, NOON) }));
        let drained = store.wait_until(LONG, |h| h.away.is_some() || h.buffered == 0 && h.fill.rows == 0);
        assert!(drained && store.health().away.is_none(), "{:?}", store.health());
    }
    assert_eq!(total(&store, &[])[0].requests, 3);
    assert_eq!(ask(store.spend(None)).expect("an answer").len(), 2);
}

fn a_row_that_comes_twice_counts_once(place: &Place) {
    let (store, _) = place.open();
    // In one batch, in two batches, and after a restart.
    record_all(&store, [request(1, NOON), request(1, NOON), request(2, NOON)]);
    record_all(&store, [request(2, NOON), request(3, NOON)]);
    drop(store);
    let (store, _) = place.open();
    record_all(&store, [request(1, NOON), request(3, NOON)]);
    let all = &total(&store, &[])[0];
    assert_eq!((all.requests, all.cost_nano_usd, all.input_tokens), (3, 6, 300));
    let spend: u64 = ask(store.spend(None)).unwrap().iter().filter(|s| s.team).map(|s| s.cost_nano_usd).sum();
    assert_eq!(spend, 6);
}

fn a_log_that_is_read_again_counts_once(place: &Place) {
    // All of it, as after a power failure that took what the log knew of the database.
    let mut away = place.options();
    away.target = Target::Sqlite(place.folder.path().join("not there").join("ledger.db"));
    let (store, _) = Store::open(away).unwrap();
    for n in 0..1200 {
        assert!(store.record(&request(n, NOON + n * 10_000)));
    }
    let open = Reservation {
        request: "req-open".into(),
        client: "ck-0".into(),
        at_unix_ms: NOON,
        ..Reservation::default()
    };
    reserve(&store, Reservation { cost_nano_usd: 7, ..open }).unwrap();
    assert!(store.wait_until(LONG, |h| h.buffered == 0 && h.fill.rows == 1200));
    drop(store);
    let (log, copy) = (place.options().log, place.folder.path().join("copy"));
    std::fs::copy(&log, &copy).unwrap();
    let mut seen = Vec::new();
    for again in [false, true] {
        let (store, found) = place.open();
        assert_eq!((found.rows, found.unknown.len()), (1200, 1), "again: {again}");
        assert!(store.wait_drained(LONG), "{:?}", store.health());
        let mut spend = ask(store.spend(None)).unwrap();
        spend.sort_by(|a, b| (a.team, &a.name).cmp(&(b.team, &b.name)));
        seen.push((total(&store, &[By::Hour, By::Client]), spend));
        drop(store);
        std::fs::copy(&copy, &log).unwrap();
    }
    assert_eq!(seen[0], seen[1]);
    let sum = |team: bool| seen[0].1.iter().filter(|s| s.team == team).map(|s| s.cost_nano_usd).sum::<u64>();
    assert_eq!((sum(true), sum(false)), ((0..1200).sum(), (0..1200).sum::<u64>() + 7));
    assert_eq!(seen[0].0.iter().map(|u| u.requests).sum::<u64>(), 1201);
}

fn sums_of_hours_and_days_go_on_over_a_restart_at_the_turn_of_a_month(place: &Place) {
    // Midnight before the first of December 2023, a Friday: another hour, day and month, and the same week.
    const TURN: u64 = 1_701_388_800_000;
    let (store, _) = place.open();
    record_all(&store, [request(3, TURN - 1), request(6, TURN), request(9, TURN - 3_600_001)]);
    drop(store);
    let (store, _) = place.open();
    // One that was held before the turn ends after it, and after the restart.
    let late = Record { started_unix_ms: TURN - 5, charged_unix_ms: TURN - 2, ..request(12, TURN) };
    record_all(&store, [late, request(15, TURN + 1), request(18, TURN + 3_600_000)]);
    drop(store);
    let (store, _) = place.open();
    let sums = |by: By| {
        let all = total(&store, &[by]);
        all.iter()
            .map(|u| (u.names[0].parse().unwrap(), u.requests, u.cost_nano_usd))
            .collect::<Vec<(u64, u64, u64)>>()
    };
    let (hour, day) = (TURN / 3_600_000, TURN / DAY);
    assert_eq!(sums(By::Hour), [(hour - 2, 1, 9), (hour - 1, 2, 15), (hour, 2, 21), (hour + 1, 1, 18)]);
    assert_eq!(sums(By::Day), [(day - 1, 3, 24), (day, 3, 39)]);
    let of =
        |since| ask(store.spend(since)).unwrap().iter().find(|s| s.name == "ck-0").map(|s| s.cost_nano_usd);
    assert_eq!((of(Some(day)), of(Some(day - 1)), of(None)), (Some(39), Some(63), Some(63)));
    assert_eq!(ask(store.spend_by_day(false, "ck-0")).unwrap().len(), 2);
    let month = |since: u64, until: u64| {
        let query = UsageQuery { since_unix_ms: since, until_unix_ms: Some(until), ..UsageQuery::default() };
        ask(store.usage(query)).unwrap()[0].cost_nano_usd
    };
    assert_eq!((month(0, TURN - 1), month(TURN, u64::MAX / 2)), (24, 39));
}

fn sums_are_told_apart_by_what_is_asked_for(place: &Place) {
    let (store, _) = place.open();
    let failed =
        Record { status: 502, outcome: "provider_error".into(), used: Used::default(), ..request(100, NOON) };
    let lost = Record { outcome: UNKNOWN.into(), ..request(101, NOON) };
    record_all(&store, (0..60).map(|n| request(n, NOON + n * 60_000 * 4)).chain([failed, lost]));
    let all = &total(&store, &[])[0];
    assert_eq!((all.requests, all.answered, all.attempts), (62, 60, 124));
    assert_eq!((all.cost_unknown, all.unknown, all.estimated), (1, 1, 6));
    assert_eq!(
        (all.reasoning_tokens, all.cache_write_tokens, all.cached_input_tokens),
        (61 * 7, 61 * 5, 61 * 40)
    );
    assert_eq!((all.queue_us, all.total_us), (62 * 3000, 62 * 2_000_000));
    let by = total(&store, &[By::Team, By::Model, By::Key]);
    assert_eq!(by.len(), 10);
    assert_eq!(by[0].names, ["team-0", "sonnet", "key-0"]);
    assert_eq!(by[0].requests, 7, "0, 10, 20, 30, 40, 50 and the failed one");
    assert_eq!(by.iter().map(|u| u.cost_nano_usd).sum::<u64>(), all.cost_nano_usd);
    let hours = total(&store, &[By::Hour]);
    assert_eq!(hours.iter().map(|u| u.requests).collect::<Vec<_>>(), [17, 15, 15, 15]);
    assert_eq!(total(&store, &[By::Day])[0].names, [(NOON / DAY).to_string()]);
    let query = UsageQuery {
        since_unix_ms: NOON + 3_600_000,
        until_unix_ms: Some(NOON + 2 * 3_600_000),
        client: Some("ck-1".into()),
        team: Some("team-1".into()),
        ..UsageQuery::default()
    };
    let some = &ask(store.usage(query)).unwrap()[0];
    assert_eq!((some.requests, some.cost_nano_usd), (2, 19 + 25), "15 to 29, of client 1, of team 1");
}

fn the_past_is_read_beside_its_writer(place: &Place) {
    let nobody = past(&place.target(), None, Span { since_unix_ms: 0, until_unix_ms: NOON }, &mut |_| true);
    assert!(matches!(nobody.unwrap_err().kind, Kind::Missing | Kind::Schema), "there is no ledger yet");
    let (store, _) = place.open();
    record_all(&store, (0..6).map(|n| request(n, NOON + n * 1_000)));
    let mut seen = Vec::new();
    let span = Span { since_unix_ms: NOON + 2_000, until_unix_ms: NOON + 5_000 };
    past(&place.target(), None, span, &mut |record| {
        seen.push(record);
        true
    })
    .unwrap();
    assert_eq!(seen, [4, 3, 2].map(|n| request(n, NOON + n * 1_000)));
    record_all(&store, [request(7, NOON)]);
}

fn spend_is_by_the_day_that_bears_it(place: &Place) {
    let (store, _) = place.open();
    let today = NOON / DAY;
    // It arrived yesterday, waited over midnight, and its reservation was made today.
    let late =
        Record { started_unix_ms: today * DAY - 5, charged_unix_ms: today * DAY + 5, ..request(3, NOON) };
    record_all(&store, [request(6, NOON - DAY), late, request(12, NOON)]);
    let of = |since| {
        let spend = ask(store.spend(since)).unwrap();
        let named = |team: bool, name: &str| {
            spend.iter().find(|s| s.team == team && s.name == name).map_or(0, |s| s.cost_nano_usd)
        };
        (named(false, "ck-0"), named(true, "team-0"), named(true, "team-1"))
    };
    assert_eq!(of(Some(today)), (15, 12, 3));
    assert_eq!(of(Some(today - 1)), (21, 18, 3));
    assert_eq!(of(None), (21, 18, 3));
}

fn old_rows_go_while_their_sums_and_all_spend_stay(place: &Place) {
    let (store, _) = place.open();
    // More than one step deletes at once.
    record_all(&store, (0..2500).map(|n| request(n, NOON)).chain([request(5000, NOON + 40 * DAY)]));
    let before = total(&store, &[]);
    drop(store);
    let later = |days: u64| {
        let mut options = place.options();
        options.clock = Arc::new(move || NOON + days * DAY);
        let (store, _) = Store::open(options).expect("opens");
        // Retention is over when there is nothing left for it to do: it is the first thing that the drain does.
        store
    };
    let store = later(45);
    record_all(&store, [request(6000, NOON + 45 * DAY)]);
    let gone = |id: &str, client: &str| ask(store.generation(client, id)).unwrap().is_none();
    while !gone("req-2499", "ck-0") {}
    assert!(gone("req-0", "ck-0"));
    assert!(!gone("req-5000", "ck-2"), "younger than thirty days");
    assert_eq!(total(&store, &[])[0].requests, before[0].requests + 1);
    drop(store);
    let store = later(500);
    while total(&store, &[])[0].requests > 0 {}
    let spend: u64 = ask(store.spend(None)).unwrap().iter().filter(|s| s.team).map(|s| s.cost_nano_usd).sum();
    assert_eq!(spend, before[0].cost_nano_usd + 6000, "what was spent in all is never forgotten");
    // Names that were swept may come back.
    record_all(&store, [request(7, NOON + 500 * DAY)]);
    assert_eq!(total(&store, &[By::Key])[0].names, ["key-2"]);
}

fn new_rows_come_in_between_two_steps_of_retention(place: &Place) {
    let (store, _) = place.open();
    record_all(&store, (0..3500).map(|n| request(n, NOON)));
    drop(store);
    // Before each look for old rows the clock is asked, and it answers when it is told to.
    let (go, wait) = std::sync::mpsc::sync_channel::<()>(0);
    let wait = std::sync::Mutex::new(wait);
    let mut options = place.options();
    options.clock = Arc::new(move || {
        // Nobody holds it back any more once the test is over.
        let _ = wait.lock().unwrap().recv();
        NOON + 45 * DAY
    });
    let (store, _) = Store::open(options).unwrap();
    let there =
        |n: u64| ask(store.generation(&format!("ck-{}", n % 3), &format!("req-{n}"))).unwrap().is_some();
    for step in 1..=3 {
        assert!(store.record(&request(6000 + step, NOON + 45 * DAY)));
        assert!(store.wait_until(LONG, |h| h.buffered == 0));
        go.send(()).unwrap();
        assert!(store.wait_drained(LONG), "a new row waits for all the old ones");
        assert!(there(6000 + step) && !there(step * 1000 - 1), "a thousand at a time");
        assert!(there(step * 1000), "one step is small");
    }
    drop(go);
    while there(3499) {}
    let all = &total(&store, &[])[0];
    assert_eq!((all.requests, all.cost_nano_usd), (3503, (0..3500).sum::<u64>() + 6001 + 6002 + 6003));
}

fn a_second_instance_is_refused(place: &Place) {
    let (store, _) = place.open();
    let mut options = place.options();
    assert!(matches!(Store::open(options.clone()), Err(OpenError::Log { error: LogError::InUse, .. })));
    // With a log of its own it is still the same database.
    options.log = place.folder.path().join("other.log");
    let Err(OpenError::Database(fault)) = Store::open(options.clone()) else { panic!("two on one database") };
    assert_eq!(fault.kind, Kind::InUse);
    drop(store);
    Store::open(options).expect("the first one is gone");
}

fn a_foreign_or_newer_schema_is_left_alone(place: &Place) {
    drop(place.open());
    let refused = |part: &str| {
        let Err(OpenError::Database(fault)) = Store::open(place.options()) else { panic!("opened") };
        assert_eq!(fault.kind, Kind::Schema);
        assert!(fault.what.contains(part), "{fault}");
    };
    place.sql("INSERT INTO migrations (number, name, checksum) VALUES (99, 'later', 'x')");
    refused("99");
    place.sql(
        "DELETE FROM migrations WHERE number = 99; UPDATE migrations SET checksum = 'x' WHERE number = 1",
    );
    refused("step 1");
}

fn client(n: u64) -> Client {
    Client {
        id: format!("ck-{n}"),
        digest: Digest::of(&format!("km-test-{n}")),
        previous: None,
        name: format!("client {n}"),
        team: "blue".into(),
        terms: Terms {
            models: vec!["gpt-*".into()],
            requests_a_minute: Some(60),
            budget: Some(Budget { nano_usd: 5_000_000_000, reset: Reset::Weekly }),
            priority: Some("batch".into()),
            ..Terms::default()
        },
        disabled: false,
        created_unix_ms: NOON,
        expires_unix_ms: Some(NOON + DAY),
        revoked_unix_ms: None,
        version: 0,
    }
}

fn clients_live_through_every_change(place: &Place) {
    let (store, _) = place.open();
    let made = ask(store.add_clients(vec![client(1), client(2)])).unwrap();
    let first = ask(store.changes(0)).unwrap();
    assert_eq!(first.clients, made);
    assert_eq!(made[0], Client { version: made[0].version, ..client(1) }, "as it went in");
    assert!(ask(store.changes(first.version)).unwrap().clients.is_empty(), "nothing new");
    // All or none: the second of these has a digest that is taken.
    let taken = Client { id: "ck-9".into(), ..client(2) };
    assert_eq!(ask(store.add_clients(vec![client(3), taken])).unwrap_err().kind, Kind::Taken);
    assert_eq!(ask(store.changes(0)).unwrap().clients.len(), 2);
    // A new key, the old one good for a while.
    let to = Digest::of("km-test-new");
    ask(store.rotate_client("ck-1", to, Some(NOON + 60_000))).unwrap();
    let rotated = ask(store.changes(first.version)).unwrap();
    assert_eq!(rotated.clients.len(), 1, "only what changed");
    assert_eq!(
        (rotated.clients[0].digest, rotated.clients[0].previous),
        (to, Some((client(1).digest, NOON + 60_000)))
    );
    ask(store.rotate_client("ck-1", Digest::of("km-test-newer"), None)).unwrap();
    assert_eq!(ask(store.changes(rotated.version)).unwrap().clients[0].previous, None);
    // Revoked is for ever.
    ask(store.revoke_client("ck-2", NOON + 7)).unwrap();
    ask(store.revoke_client("ck-2", NOON + 9)).unwrap();
    let gone = ask(store.changes(0)).unwrap().clients.into_iter().find(|c| c.id == "ck-2").unwrap();
    assert_eq!(gone.revoked_unix_ms, Some(NOON + 7));
    assert_eq!(ask(store.change_client(gone)).unwrap_err().kind, Kind::Changed);
    assert_eq!(ask(store.rotate_client("ck-2", to, None)).unwrap_err().kind, Kind::Changed);
    assert_eq!(ask(store.revoke_client("nobody", 1)).unwrap_err().kind, Kind::Changed);
    // Teams.
    let team = Team { name: "blue".into(), terms: client(1).terms, ..Team::default() };
    let version = ask(store.put_team(team.clone())).unwrap();
    assert_eq!(ask(store.changes(version - 1)).unwrap().teams, [Team { version, ..team.clone() }]);
    ask(store.put_team(Team { removed: true, ..team })).unwrap();
    drop(store);
    let all = ask(place.open().0.changes(0)).unwrap();
    assert_eq!(
        (all.clients.len(), all.teams.len(), all.teams[0].removed),
        (2, 1, true),
        "kept over a restart"
    );
}

fn two_changes_of_one_client_do_not_overwrite_each_other(place: &Place) {
    let (store, _) = place.open();
    let made = ask(store.add_clients(vec![client(1)])).unwrap().remove(0);
    let disabled = Client { disabled: true, ..made.clone() };
    let version = ask(store.change_client(disabled)).unwrap();
    let renamed = Client { name: "other".into(), ..made };
    assert_eq!(ask(store.change_client(renamed)).unwrap_err().kind, Kind::Changed);
    let now = ask(store.changes(0)).unwrap();
    assert_eq!(
        (now.version, now.clients[0].version),
        (version, version),
        "a change that failed took no version"
    );
    assert!(now.clients[0].disabled && now.clients[0].name == "client 1");
}
