//! The `[ledger]` section, and the grammar of where a database is.

use super::leaf::{Bytes, Count, SecretText};
use super::node::{Node, Value};
use super::read::{Typed, section};
use crate::ledger::Unavailable;
use crate::problem::Findings;
use serde_json::json;

section! {
    /// Where requests, client keys and spending are written down. Prompts and answers never are.
    Ledger in "[ledger]" {
        /// The database: `"sqlite"` for `ledger.db` in `server.data_dir`, `"sqlite:/path"` for another file, `"off"`, or for PostgreSQL the place of its `postgres://…` URL: `"env:NAME"`, `"file:/path"`, `"cmd:program argument"` or `"literal:…"`; with `?sslmode=verify-full` in it the connection is encrypted and the server verified, also by `server.ca_file`.
        database: DatabaseText = "\"sqlite\"",
        /// The size of the log in `server.data_dir` where rows wait while the database is away. It is taken from the disk at the start. A row needs about 250 bytes.
        log_bytes: Bytes = "\"64MiB\"",
        /// How many days a request's row is kept.
        rows_days: Count = "30",
        /// How many days sums by the hour are kept, which `keymux usage` reads.
        hours_days: Count = "400",
        /// Whether requests are served while the database is away and the log has room for their rows. Without room none is.
        when_unavailable: Unavailable = "\"serve\"",
    }
}

/// Where the database is.
#[derive(Clone, Debug)]
pub(crate) enum DatabaseText {
    /// The file in the data directory.
    Default,
    Sqlite(String),
    /// The place of a URL.
    From(SecretText),
    Off,
}

const HINT: &str = "write \"sqlite\", \"sqlite:/path/ledger.db\", \"env:NAME\" with a postgres:// URL in that variable, or \"off\"";

impl Typed for DatabaseText {
    const WANTED: &'static str = "\"sqlite\", \"sqlite:/path\", \"off\", or where a postgres:// URL stands";
    fn kind() -> String {
        "database".to_owned()
    }
    fn schema() -> serde_json::Value {
        json!({ "oneOf": [
            { "enum": ["sqlite", "off"] },
            { "type": "string", "pattern": "^sqlite:." },
            SecretText::schema(),
        ] })
    }
    fn read(node: Node, found: &mut Findings) -> Option<Self> {
        let Value::Text(text) = &node.value else {
            return SecretText::read(node, found).map(Self::From);
        };
        match text.split_once(':').unwrap_or((text, "")) {
            ("off", "") => Some(Self::Off),
            ("sqlite", "") if !text.ends_with(':') => Some(Self::Default),
            ("sqlite", path) if !path.trim().is_empty() && !path.contains('\0') => {
                Some(Self::Sqlite(path.to_owned()))
            }
            ("env" | "file" | "cmd" | "literal", _) => SecretText::read(node, found).map(Self::From),
            ("postgres" | "postgresql", _) => {
                let hint = "keep it out of this file: \"env:KEYMUX_DATABASE_URL\"; or write \"literal:postgres://…\"";
                found.error(
                    node.place,
                    "a database URL can hold a password, so it must say where it stands",
                    hint,
                );
                None
            }
            _ => {
                // It may hold a password: it is not repeated.
                found.error(node.place, "this is not where a database is", HINT);
                None
            }
        }
    }
}
