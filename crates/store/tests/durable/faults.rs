//! The database is locked, damaged or gone: rows wait in the log, in order, and nothing is lost or counted twice when it
//! is back.

use crate::place::{LONG, NOON, Place, ask, request, reserve};
use keymux_store::*;

fn all(store: &Store) -> (u64, u64) {
    let usage = ask(store.usage(UsageQuery::default())).unwrap();
    (usage[0].requests, usage[0].cost_nano_usd)
}

fn record(store: &Store, numbers: std::ops::Range<u64>) {
    for n in numbers {
        assert!(store.record(&request(n, NOON + n)));
    }
}

fn wait_for(store: &Store, kind: Kind) {
    let there = store.wait_until(LONG, |h| h.away.as_ref().is_some_and(|(fault, _)| fault.kind == kind));
    assert!(there, "{:?}", store.health());
}

#[test]
fn rows_wait_while_somebody_else_locks_the_database() {
    let place = Place::sqlite();
    let (store, _) = place.open();
    record(&store, 0..10);
    assert!(store.wait_drained(LONG));
    let other = rusqlite::Connection::open(place.db()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    record(&store, 10..2010);
    wait_for(&store, Kind::Busy);
    assert!(store.wait_until(LONG, |h| h.buffered == 0), "they are in the log");
    let health = store.health();
    assert_eq!((health.fill.rows, health.fill.oldest_unix_ms), (2000, Some(NOON + 10)));
    assert_eq!(health.away.map(|(_, since)| since), Some(NOON));
    // Money can still be set aside: the log needs no database.
    reserve(&store, Reservation::default()).expect("a reservation");
    assert_eq!(all(&store).0, 10, "and what is there can be read");
    other.execute_batch("COMMIT").unwrap();
    assert!(store.wait_drained(LONG));
    assert!(store.wait_until(LONG, |h| h.away.is_none()));
    assert_eq!(all(&store), (2010, (0..2010).sum()));
    let mut ids = other.prepare("SELECT id FROM requests ORDER BY n").unwrap();
    let ids: Vec<String> = ids.query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(ids, (0..2010).map(|n| format!("req-{n}")).collect::<Vec<_>>(), "in order");
}

#[test]
fn rows_wait_while_the_database_is_damaged_and_nothing_is_started_afresh() {
    let place = Place::sqlite();
    let (store, _) = place.open();
    record(&store, 0..10);
    assert!(store.wait_drained(LONG));
    drop(store);
    let good = std::fs::read(place.db()).unwrap();
    std::fs::write(place.db(), vec![b'?'; 100_000]).unwrap();
    let (store, _) = place.open();
    record(&store, 10..20);
    wait_for(&store, Kind::Corrupt);
    assert_eq!(ask(store.spend(None)).unwrap_err().kind, Kind::Corrupt, "not zero: unknown");
    drop(store);
    assert_eq!(std::fs::read(place.db()).unwrap(), vec![b'?'; 100_000], "left for whoever mends it");
    let (store, found) = place.open();
    assert_eq!(found.rows, 10);
    record(&store, 20..25);
    // Whole at once: an empty file would be a new database.
    let mended = place.folder.path().join("mended");
    std::fs::write(&mended, good).unwrap();
    std::fs::rename(mended, place.db()).unwrap();
    assert!(store.wait_drained(LONG), "{:?}", store.health());
    assert_eq!(all(&store), (25, (0..25).sum()));
}

#[test]
fn a_database_that_is_gone_is_not_begun_anew() {
    let place = Place::sqlite();
    let (store, _) = place.open();
    record(&store, 0..10);
    assert!(store.wait_drained(LONG));
    drop(store);
    let aside = place.folder.path().join("elsewhere");
    std::fs::rename(place.db(), &aside).unwrap();
    let Err(OpenError::Database(fault)) = Store::open(place.options()) else { panic!("it began at zero") };
    assert_eq!(fault.kind, Kind::Missing);
    let note = place.folder.path().join("ledger.place");
    assert!(fault.what.contains(&*note.to_string_lossy()), "{fault}");
    assert!(!place.db().exists());
    // Put back, it is the one it was.
    std::fs::rename(aside, place.db()).unwrap();
    let (store, _) = place.open();
    assert_eq!(all(&store).0, 10);
    drop(store);
    // Who means it may begin anew.
    std::fs::remove_file(place.db()).unwrap();
    std::fs::remove_file(note).unwrap();
    assert_eq!(all(&place.open().0).0, 0);
}

#[test]
fn a_file_that_was_emptied_is_not_begun_anew() {
    let place = Place::sqlite();
    let (store, _) = place.open();
    record(&store, 0..10);
    assert!(store.wait_drained(LONG));
    drop(store);
    // What is left of a file after some crashes of a file system, and a database for SQLite.
    std::fs::write(place.db(), b"").unwrap();
    for suffix in ["db-wal", "db-shm"] {
        let _ = std::fs::remove_file(place.db().with_extension(suffix));
    }
    let Err(OpenError::Database(fault)) = Store::open(place.options()) else { panic!("it began at zero") };
    assert_eq!(fault.kind, Kind::Missing);
    assert!(fault.what.contains("is empty") && fault.what.contains("ledger.place"), "{fault}");
    std::fs::remove_file(place.folder.path().join("ledger.place")).unwrap();
    assert_eq!(all(&place.open().0).0, 0, "who means it may begin anew");
}

#[test]
#[ignore = "needs PostgreSQL: scripts/stores"]
fn a_database_on_a_server_that_was_emptied_is_not_begun_anew() {
    let place = Place::postgres();
    let (store, _) = place.open();
    record(&store, 0..10);
    assert!(store.wait_drained(LONG));
    drop(store);
    place.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
    let Err(OpenError::Database(fault)) = Store::open(place.options()) else { panic!("it began at zero") };
    assert_eq!(fault.kind, Kind::Missing, "{fault}");
    std::fs::remove_file(place.folder.path().join("ledger.place")).unwrap();
    assert_eq!(all(&place.open().0).0, 0, "who means it may begin anew");
}

#[test]
fn another_file_and_a_folder_that_was_moved_are_no_loss() {
    let place = Place::sqlite();
    drop(place.open());
    let mut other = place.options();
    other.target = Target::Sqlite(place.folder.path().join("other.db"));
    drop(Store::open(other).unwrap());
    let moved = tempfile::tempdir().unwrap();
    let to = moved.path().join("whole");
    std::fs::rename(place.folder.path(), &to).unwrap();
    std::fs::remove_file(to.join("other.db")).unwrap();
    let mut options = place.options();
    options.log = to.join("ledger.log");
    options.target = Target::Sqlite(to.join("other.db"));
    let Err(OpenError::Database(fault)) = Store::open(options) else { panic!("it began at zero") };
    assert_eq!(fault.kind, Kind::Missing, "the note is of the folder, not of its place");
}

#[test]
fn a_full_log_refuses_money_and_then_requests_and_keeps_what_it_took() {
    let place = Place::sqlite();
    std::fs::write(place.db(), vec![b'?'; 100_000]).unwrap();
    let mut options = place.options();
    options.log_bytes = 1 << 20;
    options.buffer = 1000;
    let (store, _) = Store::open(options).unwrap();
    let mut taken = 0;
    while store.has_room() {
        assert!(store.record(&request(taken, NOON)), "there was room");
        taken += 1;
        store.wait_until(LONG, |h| h.buffered < 500);
    }
    assert!(matches!(reserve(&store, Reservation::default()), Err(LogError::Full { .. })));
    // Those in flight are still taken; a flood of them is not, and that is told.
    while store.record(&request(taken, NOON)) {
        taken += 1;
        assert!(taken < 50_000, "the log has a cap");
        // A thirty-second is kept from rows.
        store.wait_until(LONG, |h| h.buffered < 500 || h.fill.bytes + 1000 > h.fill.capacity / 32 * 31);
    }
    assert_eq!(store.health().lost, 1);
    std::fs::remove_file(place.db()).unwrap();
    assert!(store.wait_drained(LONG), "{:?}", store.health());
    assert_eq!(all(&store), (taken, (0..taken).sum()), "what was taken was kept");
    assert!(store.wait_until(LONG, |_| store.has_room()));
}

#[test]
#[ignore = "needs PostgreSQL: scripts/stores"]
fn rows_wait_while_postgresql_is_gone_also_over_a_restart() {
    let place = Place::postgres();
    let (store, _) = place.open();
    record(&store, 0..100);
    assert!(store.wait_drained(LONG));
    assert_eq!(all(&store).0, 100, "the desk has its connection too");
    place.server().down();
    record(&store, 100..600);
    wait_for(&store, Kind::Away);
    assert!(store.wait_until(LONG, |h| h.buffered == 0));
    assert_eq!(store.health().fill.rows, 500);
    let open = Reservation { request: "req-600".into(), at_unix_ms: NOON, ..Reservation::default() };
    let hold = reserve(&store, open).unwrap();
    assert_eq!(ask(store.usage(UsageQuery::default())).unwrap_err().kind, Kind::Away);
    drop(store);
    let (store, found) = place.open();
    assert_eq!((found.rows, found.unknown.len(), found.unknown[0].holds[0]), (500, 1, hold));
    record(&store, 601..700);
    place.server().up();
    assert!(store.wait_drained(LONG), "{:?}", store.health());
    assert_eq!(all(&store), (700, (0..700).sum::<u64>() - 600));
    // Again, under the same store.
    place.server().down();
    record(&store, 700..800);
    wait_for(&store, Kind::Away);
    place.server().up();
    assert!(store.wait_drained(LONG));
    assert_eq!(all(&store).0, 800);
}
