//! The `[ledger]` section.

use super::{secrets, small};
use crate::ledger::{Database, Ledger};
use crate::problem::{At, Findings};
use crate::text::leaf::Count;
use crate::text::ledger::{self, DatabaseText};
use crate::world::World;
use std::path::Path;

/// The least log, in bytes: a few requests in flight would fill a smaller one.
const LOG_BYTES_MIN: u64 = 1 << 20;
/// The largest.
const LOG_BYTES_MAX: u64 = 64 << 30;
/// A hundred years.
const DAYS_MAX: u64 = 36_500;

pub(super) fn resolve(
    typed: Option<At<ledger::Ledger>>,
    data_dir: &Path,
    world: &World<'_>,
    found: &mut Findings,
) -> Ledger {
    let typed = typed.unwrap_or_default().value;
    let log_bytes = typed.log_bytes.as_ref().map_or(64 << 20, |bytes| bytes.0);
    if let Some(place) = typed.log_bytes.as_ref().map(|b| b.place)
        && !(LOG_BYTES_MIN..=LOG_BYTES_MAX).contains(&log_bytes)
    {
        found.error(place, "the log must have from 1 MiB to 64 GiB", "leave it out for 64 MiB");
    }
    Ledger {
        database: database(typed.database, data_dir, world, found),
        log_bytes,
        rows_days: days(typed.rows_days, 30, found),
        hours_days: days(typed.hours_days, 400, found),
        when_unavailable: typed.when_unavailable.map(|w| w.value).unwrap_or_default(),
    }
}

fn days(typed: Option<At<Count>>, default: u32, found: &mut Findings) -> u32 {
    let Some(typed) = typed else { return default };
    if typed.0 > DAYS_MAX {
        found.error(typed.place, "this is more than a hundred years", "36500 is the most");
    }
    small(typed.0)
}

fn database(
    typed: Option<At<DatabaseText>>,
    data_dir: &Path,
    world: &World<'_>,
    found: &mut Findings,
) -> Database {
    let Some(At { value, place }) = typed else { return Database::Sqlite(data_dir.join("ledger.db")) };
    match value {
        DatabaseText::Default => Database::Sqlite(data_dir.join("ledger.db")),
        DatabaseText::Sqlite(path) => Database::Sqlite(world.path(&path)),
        DatabaseText::Off => Database::Off,
        DatabaseText::From(text) => {
            let (url, source) = secrets::fetch(&At { value: text, place }, world, found);
            // What could not be fetched was told already.
            let Some(url) = url else { return Database::Off };
            if !["postgres://", "postgresql://"].iter().any(|scheme| url.expose().starts_with(scheme)) {
                let message = format!("what stands in {source} is no postgres:// URL");
                found.error(place, message, "write it as postgres://user:password@host/database");
            }
            Database::Postgres { url, source }
        }
    }
}
