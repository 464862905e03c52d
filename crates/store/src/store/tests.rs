use super::*;
use crate::record::Used;
use crate::usage::UsageQuery;

const LONG: Duration = Duration::from_mins(1);

fn ask<T>(answer: impl Future<Output = Result<T, Fault>>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(answer).unwrap()
}

/// `SQLite` itself says that its disk is full, at a page count that the test sets; each connection is opened anew with
/// what holds then.
fn on_a_small_disk(folder: &Path, pages: &Arc<AtomicU64>) -> Store {
    let (path, limit) = (folder.join("ledger.db"), pages.clone());
    let open: Box<Open> = Box::new(move |alone| {
        let mut db = Sqlite::open(&path, alone)?;
        db.script(&format!("PRAGMA max_page_count = {}", limit.load(Ordering::Relaxed)))?;
        Ok(Box::new(db) as Box<dyn Sql>)
    });
    let target = Target::Sqlite(folder.join("ledger.db"));
    let mut options = Options::new(target, folder.join("ledger.log"), Arc::new(|| 1_700_000_000_000));
    options.log_bytes = 1 << 20;
    Store::open_with(options, open).unwrap().0
}

fn record(store: &Store, rows: u64) {
    for n in 0..rows {
        let used = Used { cost_nano_usd: Some(n), ..Used::default() };
        let record = Record {
            id: format!("req-{n}").into(),
            client: "ck".into(),
            started_unix_ms: 1_700_000_000_000,
            used,
            ..Record::default()
        };
        assert!(store.record(&record));
    }
}

fn full(health: &Health) -> bool {
    health.away.as_ref().is_some_and(|(fault, _)| fault.kind == Kind::Full)
}

#[test]
fn rows_wait_while_the_disk_of_the_database_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let pages = Arc::new(AtomicU64::new(40));
    let store = on_a_small_disk(folder.path(), &pages);
    record(&store, 1500);
    assert!(store.wait_until(LONG, full), "{:?}", store.health());
    assert!(store.health().fill.rows > 0);
    let hold = store.reserve(Reservation::default()).expect("the log has its room already");
    let written = ask(async { Ok(store.written(hold).await) });
    written.expect("it needs no more");
    pages.store(100_000, Ordering::Relaxed);
    assert!(store.wait_drained(LONG), "{:?}", store.health());
    let all = ask(store.usage(UsageQuery::default()));
    assert_eq!((all[0].requests, all[0].cost_nano_usd), (1500, (0..1500).sum()));
}

#[test]
fn rows_behind_a_full_log_are_not_given_up_at_the_end_while_the_database_takes_some() {
    let folder = tempfile::tempdir().unwrap();
    let pages = Arc::new(AtomicU64::new(40));
    let store = on_a_small_disk(folder.path(), &pages);
    record(&store, 40_000);
    assert!(store.wait_until(LONG, |h| full(h) && h.buffered > 20_000), "{:?}", store.health());
    pages.store(100_000, Ordering::Relaxed);
    assert!(store.wait_until(LONG, |h| h.away.is_none()), "{:?}", store.health());
    drop(store);
    let store = on_a_small_disk(folder.path(), &pages);
    assert_eq!(store.health().fill.rows, 0);
    assert_eq!(ask(store.usage(UsageQuery::default()))[0].requests, 40_000);
}

#[test]
fn a_disk_without_room_for_the_log_is_told_at_the_start_and_leaves_no_half_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("ledger.log");
    let target = Target::Sqlite(folder.path().join("ledger.db"));
    let mut options = Options::new(target, log, Arc::new(|| 0));
    // More than any disk has.
    options.log_bytes = 1 << 50;
    assert!(matches!(Store::open(options), Err(OpenError::Log { error: LogError::Io(_), .. })));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_password_in_a_connection_string_is_never_shown() {
    for url in ["postgres://u:hunter2@127.0.0.1:1/db", "postgres://u:hunter2@%%%/db?nonsense=hunter2"] {
        let target = Target::Postgres(url.into());
        let fault = Postgres::open(url, false, None).err().expect("nobody is there");
        assert!(!format!("{target:?} {fault:?} {fault}").contains("hunter2"));
    }
}

#[test]
fn what_was_recorded_last_is_in_the_database_when_the_store_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let target = || Target::Sqlite(folder.path().join("ledger.db"));
    let options = || Options::new(target(), folder.path().join("ledger.log"), Arc::new(|| 0));
    for n in 1..=20 {
        let (store, found) = Store::open(Options { log_bytes: 1 << 20, ..options() }).unwrap();
        assert_eq!(found.rows, 0, "the one before left nothing behind");
        assert!(store.record(&Record { id: format!("req-{n}").into(), ..Record::default() }));
    }
}
