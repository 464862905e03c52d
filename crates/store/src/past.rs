//! Rows of the past, for whoever asks what would have been: read beside a gateway that works on the same database, or
//! from a copy of it. Takes no lock, changes nothing and leaves nothing behind; a schema that is not ours is refused
//! rather than guessed at.

use crate::ledger::{self, COLUMNS};
use crate::record::Record;
use crate::sql::{Cell, Fault, Kind, Sql, migrate, postgres::Postgres, sqlite};
use crate::store::Target;
use std::sync::Arc;

/// Rows read at once.
const STEP: u64 = 10_000;
/// Rows stand in the order in which requests ended, but for those of a log that waited: how far apart they may be.
const DISORDER_MS: u64 = 3_600_000;

/// From an instant on, up to another: of the requests' arrival, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first.
    pub since_unix_ms: u64,
    /// The first that is not in it.
    pub until_unix_ms: u64,
}

/// Tells each row of the span, the newest first. `each` says whether it wants more.
///
/// # Errors
/// The database cannot be read, or is no ledger of a version that this one knows.
pub fn past(
    target: &Target,
    tls: Option<&Arc<rustls::ClientConfig>>,
    span: Span,
    each: &mut dyn FnMut(Record) -> bool,
) -> Result<(), Fault> {
    match target {
        Target::Sqlite(path) => {
            let missing = || Fault::new(Kind::Missing, format!("{}: there is no such file", path.display()));
            if !path.exists() {
                return Err(missing());
            }
            let (mut db, quiet) = sqlite::Sqlite::read(path)?;
            let read = rows(&mut db, span, each);
            if quiet && sqlite::has_changes(path) {
                let what =
                    format!("{}: a gateway began to write while it was read; read it again", path.display());
                return Err(Fault::new(Kind::Busy, what));
            }
            read
        }
        Target::Postgres(url) => {
            let mut db = Postgres::open(url, false, tls)?;
            db.script("SET default_transaction_read_only = on")?;
            rows(&mut db, span, each)
        }
    }
}

fn rows(db: &mut dyn Sql, span: Span, each: &mut dyn FnMut(Record) -> bool) -> Result<(), Fault> {
    let done = migrate::at(db, migrate::STEPS).map_err(|fault| match fault.kind {
        Kind::Other => Fault::new(Kind::Schema, format!("it is no ledger of keymux ({fault})")),
        _ => fault,
    })?;
    if done == 0 {
        return Err(Fault::new(Kind::Schema, "it is no ledger of keymux: nothing was ever set up in it"));
    }
    let sql = format!(
        "SELECT {COLUMNS}, r.n FROM requests r JOIN series s ON s.id = r.series
         WHERE r.n < $1 AND r.started_unix_ms < $2 ORDER BY r.n DESC LIMIT $3"
    );
    let mut before = i64::MAX;
    loop {
        let found =
            db.rows(&sql, &[Cell::Int(before), Cell::count(span.until_unix_ms), Cell::count(STEP)])?;
        let last = found.len() < usize::try_from(STEP).unwrap_or(usize::MAX);
        // Whether something ended late enough that what stands before it may have begun in the span.
        let mut near = false;
        for mut row in found {
            let record = ledger::record(&mut row)?;
            before = row.int()?;
            let ended_unix_ms = record.started_unix_ms.saturating_add(record.total_ns / 1_000_000);
            near |= ended_unix_ms.saturating_add(DISORDER_MS) >= span.since_unix_ms;
            if record.started_unix_ms >= span.since_unix_ms && !each(record) {
                return Ok(());
            }
        }
        if last || !near {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::sqlite::Sqlite;
    use std::path::Path;

    fn ledger(path: &Path, rows: &[Record]) -> Sqlite {
        let mut db = Sqlite::open(path, true).unwrap();
        migrate::migrate(&mut db, migrate::STEPS).unwrap();
        ledger::Ledger::default().apply(&mut db, rows).unwrap();
        db
    }

    fn row(n: u64) -> Record {
        let started_unix_ms = 1_800_000_000_000 + n * 1_000;
        Record { id: format!("r{n}").into(), model: "m".to_owned(), started_unix_ms, ..Record::default() }
    }

    fn read(path: &Path, since: u64, until: u64) -> Result<Vec<String>, Fault> {
        let mut ids = Vec::new();
        let at = |n| 1_800_000_000_000 + n * 1_000;
        let span = Span { since_unix_ms: at(since), until_unix_ms: at(until) };
        past(&Target::Sqlite(path.to_owned()), None, span, &mut |r| {
            ids.push(r.id.to_string());
            true
        })?;
        Ok(ids)
    }

    fn beside(path: &Path) -> Vec<(String, Vec<u8>)> {
        let files = std::fs::read_dir(path.parent().unwrap()).unwrap().map(|f| f.unwrap().path());
        let mut seen: Vec<_> = files.map(|f| (f.display().to_string(), std::fs::read(&f).unwrap())).collect();
        seen.sort();
        seen
    }

    #[test]
    fn rows_of_the_span_are_told_beside_a_writer_and_without_one_and_nothing_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        // What is special in a URL is not in a name.
        let path = folder.path().join("led?ger#1%41.db");
        let rows: Vec<Record> = (0..20).map(row).collect();
        let writer = ledger(&path, &rows);
        assert_eq!(read(&path, 3, 6).unwrap(), ["r5", "r4", "r3"]);
        drop(writer);
        let before = beside(&path);
        assert_eq!(read(&path, 17, 100).unwrap(), ["r19", "r18", "r17"]);
        assert_eq!(read(&path, 50, 100).unwrap(), Vec::<String>::new());
        assert_eq!(beside(&path), before, "no byte is another one, and no file is new");
        // Its writer may come while it is read from.
        drop(Sqlite::open(&path, true).unwrap());
    }

    #[test]
    fn rows_beyond_one_step_are_told_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let rows: Vec<Record> = (0..2 * STEP + 5).map(row).collect();
        let _writer = ledger(&path, &rows);
        assert_eq!(read(&path, 0, u64::MAX / 4_000).unwrap().len() as u64, 2 * STEP + 5);
        assert_eq!(read(&path, 2 * STEP, u64::MAX / 4_000).unwrap().len(), 5);
        let mut taken = 0;
        let span = Span { since_unix_ms: 0, until_unix_ms: u64::MAX / 2 };
        past(&Target::Sqlite(path), None, span, &mut |_| {
            taken += 1;
            taken < 3
        })
        .unwrap();
        assert_eq!(taken, 3, "who has enough gets no more");
    }

    #[test]
    fn a_ledger_of_another_version_and_what_is_none_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        assert_eq!(read(&path, 0, 9).unwrap_err().kind, Kind::Missing);
        assert!(!path.exists(), "to ask for it does not make it");
        let mut db = ledger(&path, &[row(1)]);
        db.script("INSERT INTO migrations (number, name, checksum) VALUES (99, 'later', 'x')").unwrap();
        let newer = read(&path, 0, 9).unwrap_err();
        assert!(newer.kind == Kind::Schema && newer.what.contains("use a newer one"), "{newer}");
        let other = folder.path().join("other.db");
        drop(Sqlite::open(&other, true).unwrap());
        let none = read(&other, 0, 9).unwrap_err();
        assert!(none.kind == Kind::Schema && none.what.contains("no ledger"), "{none}");
        std::fs::write(&other, "no database at all, whatever its name says").unwrap();
        assert_eq!(read(&other, 0, 9).unwrap_err().kind, Kind::Corrupt);
    }
}
