//! The truth about the ledger: where requests are written down, for how long, and what becomes of clients while that
//! is not possible. Plain data; this crate opens no database.

use crate::secret::{Secret, SecretSource};
use std::path::PathBuf;

/// Where requests are written down.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// The database.
    pub database: Database,
    /// Size of the log that rows wait in, in bytes.
    pub log_bytes: u64,
    /// Days that a request's row is kept.
    pub rows_days: u32,
    /// Days that sums by the hour are kept.
    pub hours_days: u32,
    /// What becomes of requests while the database is away.
    pub when_unavailable: Unavailable,
}

/// A database.
#[derive(Clone, Debug)]
pub enum Database {
    /// A file; its lock lies beside it.
    Sqlite(PathBuf),
    /// A server.
    Postgres {
        /// Its URL, which may hold a password.
        url: Secret,
        /// Where the URL came from.
        source: SecretSource,
    },
    /// None: nothing is written down.
    Off,
}

/// What becomes of requests while the database is away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unavailable {
    /// Served, while the log has room.
    #[default]
    Serve,
    /// Refused.
    Refuse,
}

impl Database {
    /// Whether it is the same place, with the same credential.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Sqlite(a), Self::Sqlite(b)) => a == b,
            (Self::Postgres { url: a, .. }, Self::Postgres { url: b, .. }) => {
                a.matches(b.expose().as_bytes())
            }
            (Self::Off, Self::Off) => true,
            _ => false,
        }
    }
}

impl std::fmt::Display for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "SQLite, {}", path.display()),
            Self::Postgres { source, .. } => write!(f, "PostgreSQL, its URL from {source}"),
            Self::Off => f.write_str("off"),
        }
    }
}
