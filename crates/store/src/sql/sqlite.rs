//! SQLite: one file beside the log. Its writer takes a lock on a file of its own, because SQLite's locks last only as
//! long as a transaction and two instances would take turns.

use super::{Cell, Fault, Kind, Row, Sql, Table, Value, Words};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::fs::File;
use std::path::Path;
use std::time::Duration;

/// Pages that a shrinking step gives back.
const SHRINK: &str = "PRAGMA incremental_vacuum(256)";

/// A connection.
pub(crate) struct Sqlite {
    db: Connection,
    _alone: Option<File>,
}

impl Sqlite {
    /// Opens the file, as its only writer of rows or beside it.
    pub(crate) fn open(path: &Path, alone: bool) -> Result<Self, Fault> {
        let lock = if alone { Some(lock(path)?) } else { None };
        let db = Connection::open_with_flags(path, OpenFlags::default()).map_err(fault)?;
        db.busy_timeout(Duration::from_secs(if alone { 1 } else { 5 })).map_err(fault)?;
        if alone {
            // These are written into the file, so they would wait for a lock that reading does not need.
            let kept = "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;";
            db.execute_batch(kept).map_err(fault)?;
        }
        // FULL: the log forgets what the database has taken, so it must really have it.
        db.execute_batch(
            "PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 16777216; PRAGMA temp_store = MEMORY;",
        )
        .map_err(fault)?;
        db.set_prepared_statement_cache_capacity(64);
        Ok(Self { db, _alone: lock })
    }
}

impl Sqlite {
    /// Opens the file to read it, and leaves no trace beside it: a file that nobody has open has no log of changes, and to
    /// read it as if it could change would make one. `quiet` says that it was so.
    pub(crate) fn read(path: &Path) -> Result<(Self, bool), Fault> {
        let quiet = !has_changes(path);
        // `?`, `#` and `%` mean something in the URL that says so.
        let escaped: String = path.to_string_lossy().chars().map(escape).collect();
        let url = format!("file:{escaped}?mode=ro{}", if quiet { "&immutable=1" } else { "" });
        let flags =
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(url, flags).map_err(fault)?;
        db.busy_timeout(Duration::from_secs(5)).map_err(fault)?;
        db.execute_batch("PRAGMA query_only = ON; PRAGMA temp_store = MEMORY;").map_err(fault)?;
        Ok((Self { db, _alone: None }, quiet))
    }
}

/// Whether somebody has the file open, or left it in the middle of something: its log of changes is there.
pub(crate) fn has_changes(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    Path::new(&log).exists()
}

fn escape(c: char) -> String {
    if matches!(c, '?' | '#' | '%') { format!("%{:02x}", c as u32) } else { c.to_string() }
}

fn lock(path: &Path) -> Result<File, Fault> {
    let beside = path.with_extension("lock");
    let away = |e: std::io::Error| Fault::new(Kind::Away, format!("{}: {e}", beside.display()));
    let file = File::options().create(true).truncate(false).write(true).open(&beside).map_err(away)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            let what = format!("another keymux works on {}", path.display());
            Err(Fault::new(Kind::InUse, what))
        }
        Err(std::fs::TryLockError::Error(e)) => Err(away(e)),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is passed to map_err")]
fn fault(e: rusqlite::Error) -> Fault {
    let kind = match e.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Kind::Busy,
        Some(ErrorCode::DiskFull) => Kind::Full,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Kind::Corrupt,
        Some(ErrorCode::ConstraintViolation) => Kind::Taken,
        Some(
            ErrorCode::CannotOpen
            | ErrorCode::SystemIoFailure
            | ErrorCode::PermissionDenied
            | ErrorCode::ReadOnly,
        ) => Kind::Away,
        _ => Kind::Other,
    };
    Fault::new(kind, format!("SQLite: {e}"))
}

impl rusqlite::ToSql for Cell<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match *self {
            Cell::Null => ValueRef::Null,
            Cell::Int(n) => ValueRef::Integer(n),
            Cell::Text(text) => ValueRef::Text(text.as_bytes()),
            Cell::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn value(of: ValueRef<'_>) -> Result<Value, Fault> {
    Ok(match of {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(n) => Value::Int(n),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
        ValueRef::Real(_) => return Err(Fault::new(Kind::Other, "SQLite: a fraction where none belongs")),
    })
}

impl Sql for Sqlite {
    fn run(&mut self, sql: &str, with: &[Cell<'_>]) -> Result<u64, Fault> {
        let mut statement = self.db.prepare_cached(sql).map_err(fault)?;
        Ok(statement.execute(rusqlite::params_from_iter(with)).map_err(fault)? as u64)
    }

    fn run_many(&mut self, sql: &str, with: &[Vec<Cell<'_>>]) -> Result<(), Fault> {
        with.iter().try_for_each(|cells| self.run(sql, cells).map(drop))
    }

    fn add(&mut self, to: &Table, rows: &[Vec<Cell<'_>>]) -> Result<Vec<bool>, Fault> {
        let values = to.parameters(|n, _| format!("${n}"));
        let sql = format!("{} VALUES ({values}) {}", to.insert(), to.unless_there());
        let mut statement = self.db.prepare_cached(&sql).map_err(fault)?;
        let mut one = |row| Ok(statement.execute(rusqlite::params_from_iter(row)).map_err(fault)? == 1);
        rows.iter().map(&mut one).collect()
    }

    fn rows(&mut self, sql: &str, with: &[Cell<'_>]) -> Result<Vec<Row>, Fault> {
        let mut statement = self.db.prepare_cached(sql).map_err(fault)?;
        let width = statement.column_count();
        let mut rows = statement.query(rusqlite::params_from_iter(with)).map_err(fault)?;
        let mut out = Vec::new();
        while let Some(row) = rows.next().map_err(fault)? {
            let fields = (0..width).map(|i| row.get_ref(i).map_err(fault).and_then(value));
            out.push(Row::new(fields.collect::<Result<_, _>>()?));
        }
        Ok(out)
    }

    fn script(&mut self, sql: &str) -> Result<(), Fault> {
        self.db.execute_batch(sql).map_err(fault)
    }

    fn begin(&self) -> &'static str {
        // A transaction that reads first and writes later could fail half way against another writer.
        "BEGIN IMMEDIATE"
    }

    fn words(&self) -> Words {
        Words { serial: "INTEGER PRIMARY KEY AUTOINCREMENT", bytes: "BLOB", clustered: "WITHOUT ROWID" }
    }

    fn size(&self) -> &'static str {
        "SELECT p.page_count * s.page_size FROM pragma_page_count p, pragma_page_size s"
    }

    fn shrink(&mut self) -> Result<(), Fault> {
        // It gives back one page for each row that is read.
        let mut pages = self.db.prepare_cached(SHRINK).map_err(fault)?;
        let mut pages = pages.query([]).map_err(fault)?;
        while pages.next().map_err(fault)?.is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_step_of_shrinking_gives_back_all_its_pages() {
        let folder = tempfile::tempdir().unwrap();
        let mut db = Sqlite::open(&folder.path().join("ledger.db"), true).unwrap();
        let pages =
            |db: &Sqlite| db.db.query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0)).unwrap();
        db.script("CREATE TABLE t (b); INSERT INTO t VALUES (zeroblob(800000)); DELETE FROM t").unwrap();
        let before = pages(&db);
        db.shrink().unwrap();
        // Of 196 free pages at 4 KiB; a pragma that is run and not read to its end gives back one.
        assert!(pages(&db) < before - 150, "{before} to {}", pages(&db));
    }
}
