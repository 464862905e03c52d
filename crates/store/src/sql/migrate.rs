//! The schema, in numbered steps that are never edited once they are out: each is recorded with its checksum, and a
//! database whose steps differ from ours is left alone rather than guessed at.

use super::{Cell, Fault, Kind, Sql, transaction};
use sha2::{Digest as _, Sha256};

/// The steps, in order. `{serial}`, `{bytes}` and `{clustered}` stand for the database's own words.
pub(crate) const STEPS: &[(&str, &str)] = &[
    ("ledger", include_str!("../../migrations/0001_ledger.sql")),
    ("clients", include_str!("../../migrations/0002_clients.sql")),
];

/// Where steps are recorded.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS migrations (number BIGINT PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL)";

/// Whether no step was ever made in it.
pub(crate) fn is_new(db: &mut dyn Sql) -> Result<bool, Fault> {
    db.script(TABLE)?;
    Ok(db.rows("SELECT number FROM migrations LIMIT 1", &[])?.is_empty())
}

/// The last step that the database is at. Only reads.
///
/// # Errors
/// [`Kind::Schema`] if one of its steps is not ours.
pub(crate) fn at(db: &mut dyn Sql, steps: &[(&str, &str)]) -> Result<i64, Fault> {
    let mut done = 0;
    for mut row in db.rows("SELECT number, name, checksum FROM migrations ORDER BY number", &[])? {
        let (number, name, checksum) = (row.int()?, row.text()?, row.text()?);
        let step = usize::try_from(number - 1).ok().and_then(|i| steps.get(i));
        let Some((_, text)) = step else {
            let what = format!(
                "the database is at step {number} ({name}), which this version does not know: use a newer one"
            );
            return Err(Fault::new(Kind::Schema, what));
        };
        if checksum != sum(text) {
            let what = format!("step {number} ({name}) of the database is not the one that this version has");
            return Err(Fault::new(Kind::Schema, what));
        }
        done = number;
    }
    Ok(done)
}

/// Brings the database to the last step.
pub(crate) fn migrate(db: &mut dyn Sql, steps: &[(&str, &str)]) -> Result<(), Fault> {
    db.script(TABLE)?;
    let done = at(db, steps)?;
    let words = db.words();
    for (number, (name, text)) in (1..).zip(steps).filter(|(number, _)| *number > done) {
        let sql = text
            .replace("{serial}", words.serial)
            .replace("{bytes}", words.bytes)
            .replace("{clustered}", words.clustered);
        let record = [Cell::Int(number), Cell::Text(name), Cell::Text(&sum(text))];
        transaction(db, |db| {
            db.script(&sql)?;
            db.run("INSERT INTO migrations (number, name, checksum) VALUES ($1, $2, $3)", &record).map(drop)
        })?;
    }
    Ok(())
}

fn sum(text: &str) -> String {
    crate::digest::hex(&Sha256::digest(text.as_bytes()))
}
