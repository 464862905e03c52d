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
        let Some(file) = self.file.as_ref().filter(|file| !file.exists()) else { return Ok(()) };
        match std::fs::read_to_string(&self.note) {
            Ok(was) if was.trim() == self.says => {
                let what = format!(
                    "{} is gone, and the ledger was in it: put it back (is its volume there?), or remove {} to begin \
                     an empty one, in which all budgets are whole and no client key is known",
                    file.display(),
                    self.note.display()
                );
                Err(Fault::new(Kind::Missing, what))
            }
            _ => Ok(()),
        }
    }

    /// The database is open.
    pub(crate) fn keep(&self) {
        if std::fs::read_to_string(&self.note).is_ok_and(|was| was.trim() == self.says) {
            return;
        }
        // Without the note a loss goes unnoticed; a disk that refuses these bytes is told of by the log.
        let _ = std::fs::write(&self.note, format!("{}\n", self.says));
    }
}
