//! A note beside the log of where the database was, so that a lost one is noticed: a volume that is not mounted looks
//! like a new start, in which every budget is whole and no client key is known.

use crate::sql::{Fault, Kind};
use std::path::{Path, PathBuf};

/// Stands in the note for a database that is no file.
const SERVER: &str = "postgres";

/// The note.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    note: PathBuf,
    /// What it says once the database is open.
    says: String,
    file: Option<PathBuf>,
}

impl Mark {
    /// The note beside this log, for a database in this file or, without one, on a server.
    pub(crate) fn beside(log: &Path, file: Option<&Path>) -> Self {
        let says = match file {
            // A folder that is moved whole is no loss.
            Some(file) => file
                .strip_prefix(log.parent().unwrap_or(Path::new("")))
                .map_or_else(|_| std::path::absolute(file).unwrap_or_else(|_| file.into()), Path::to_path_buf)
                .display()
                .to_string(),
            None => SERVER.to_owned(),
        };
        Self { note: log.with_extension("place"), says, file: file.map(Path::to_path_buf) }
    }

    /// Before the database is opened, and perhaps made.
    ///
    /// # Errors
    /// [`Kind::Missing`] if it was there and is gone.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        match &self.file {
            Some(file) if !file.exists() => self.lost(
                &format!("{} is gone, and the ledger was in it", file.display()),
                "is its volume there?",
            ),
            _ => Ok(()),
        }
    }

    /// Before tables are made in a database that has none.
    ///
    /// # Errors
    /// [`Kind::Missing`] if it had them.
    pub(crate) fn check_empty(&self) -> Result<(), Fault> {
        let what = match &self.file {
            Some(file) => format!("{} is empty, and the ledger was in it", file.display()),
            None => "the database is empty, and the ledger was in it".to_owned(),
        };
        self.lost(&what, "is it the right one?")
    }

    fn lost(&self, what: &str, perhaps: &str) -> Result<(), Fault> {
        if !self.stands() {
            return Ok(());
        }
        let what = format!(
            "{what}: put it back ({perhaps}), or remove {} to begin an empty one, in which all budgets are whole and no \
             client key is known",
            self.note.display()
        );
        Err(Fault::new(Kind::Missing, what))
    }

    /// Whether the ledger is known to have been where it is now looked for.
    fn stands(&self) -> bool {
        std::fs::read_to_string(&self.note).is_ok_and(|was| was.trim() == self.says)
    }

    /// The ledger is in the database.
    pub(crate) fn keep(&self) {
        if self.stands() {
            return;
        }
        // Without the note a loss goes unnoticed; a disk that refuses these bytes is told of by the log.
        let _ = std::fs::write(&self.note, format!("{}\n", self.says));
    }
}
