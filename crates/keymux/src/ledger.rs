//! The ledger of this process: opened at the start, watched while it serves, emptied into its database at the end. What
//! it holds is the business of `keymux-store`; here is what operators and clients notice of it.

use crate::clock::Clock;
use crate::errors::{Kind, Problem};
use crate::happening::{self, Happening};
use keymux_config::{Config, Database, Unavailable};
use keymux_store::{
    Fault, Health, Kind as Why, LogError, OpenError, Options, Point, Recovery, Store, Target,
};
use serde_json::{Value, json};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// How long the end waits for a database that takes rows. One that is away is not waited for: the rows are in the log.
const LAST_ROWS: Duration = Duration::from_secs(10);
/// Shares of the log, in percent, at which an event tells that it fills.
const FILLING: [u64; 4] = [25, 50, 75, 90];
/// What events of the ledger are about.
const DATABASE: &str = "ledger database";
const LOG: &str = "ledger log";
const ROOM: &str = "room in the ledger log";
/// When to come back: a database is asked again within two seconds.
const COME_BACK_NS: u64 = 2_000_000_000;

/// Opens what the configuration names; `None` if it is switched off. `probe` is for crash tests.
///
/// # Errors
/// One line that names the setting and the mend.
pub fn open(
    config: &Config,
    clock: &Clock,
    tls: &Arc<rustls::ClientConfig>,
    probe: fn(Point),
) -> Result<Option<Arc<Store>>, String> {
    let ledger = &config.ledger;
    let target = match &ledger.database {
        Database::Off => return Ok(None),
        Database::Sqlite(path) => Target::Sqlite(path.clone()),
        Database::Postgres { url, .. } => Target::Postgres(url.expose().to_owned()),
    };
    let folder = &config.server.data_dir;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| cannot_write(folder, &error))?;
    let clock = clock.clone();
    let now = Arc::new(move || clock.now().unix_ns / 1_000_000);
    let mut options = Options::new(target, folder.join("ledger.log"), now);
    options.log_bytes = ledger.log_bytes;
    options.probe = probe;
    let mut trust = (**tls).clone();
    // A database does not speak HTTP.
    trust.alpn_protocols.clear();
    options.tls = Some(Arc::new(trust));
    options.retention.rows_days = ledger.rows_days;
    options.retention.hours_days = ledger.hours_days;
    let (store, found) = Store::open(options).map_err(|error| not_open(&error, folder, &ledger.database))?;
    tell(&found);
    Ok(Some(Arc::new(store)))
}

fn cannot_write(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!(
        "ledger: {}: {error}; set server.data_dir or KEYMUX_DATA_DIR to a folder that this user may write, or \
         ledger.database = \"off\"",
        path.display()
    )
}

fn not_open(error: &OpenError, folder: &Path, database: &Database) -> String {
    match error {
        OpenError::Log { error: LogError::InUse, .. } => format!(
            "ledger: another keymux uses {}; stop it, or give each instance a server.data_dir of its own",
            folder.display()
        ),
        OpenError::Log { path, error: LogError::Io(error) } => cannot_write(path, error),
        OpenError::Database(Fault { kind: Why::InUse, .. }) => format!(
            "ledger: another keymux works on its database ({database}); stop it, or give each instance a \
             ledger.database and a server.data_dir of its own"
        ),
        OpenError::Database(Fault { kind: Why::Missing, what }) => format!("ledger: {what}"),
        OpenError::Database(fault) => {
            format!("ledger: {fault}; or name another database in ledger.database")
        }
        other => format!("ledger: {other}"),
    }
}

/// What the last process left behind.
fn tell(found: &Recovery) {
    if let Some(path) = &found.put_aside {
        tracing::error!(path = %path.display(), "ledger: the log could not be read; it was put aside, and a new one begun");
    }
    if found.damaged_bytes > 0 {
        tracing::error!(bytes = found.damaged_bytes, "ledger: damaged bytes were cut out of the log");
    }
    if !found.unknown.is_empty() {
        let nano_usd: u64 = found.unknown.iter().filter_map(|row| row.used.cost_nano_usd).sum();
        let (requests, usd) = (found.unknown.len(), nano_usd as f64 / 1e9);
        tracing::warn!(
            requests,
            usd,
            "ledger: requests were open when the last process ended: charged as reserved"
        );
    }
}

/// Lets the last rows into the database, once nothing more can come.
pub(crate) fn empty(store: &Store) {
    let done = |health: &Health| health.buffered == 0 && (health.fill.rows == 0 || health.away.is_some());
    store.wait_until(LAST_ROWS, done);
    let health = store.health();
    if health.fill.rows > 0 {
        tracing::warn!(rows = health.fill.rows, "ledger: rows wait in the log for the next start");
    }
}

/// Whether requests are let in, as far as the ledger is concerned. Looked at by each request, set by [`Watch`].
#[derive(Debug, Default)]
pub struct Gate(AtomicU8);

const OPEN: u8 = 0;
const AWAY: u8 = 1;
const FULL: u8 = 2;

impl Gate {
    /// # Errors
    /// What a request would leave behind cannot be written down.
    pub fn admit(&self) -> Result<(), Problem> {
        let message = match self.0.load(Ordering::Relaxed) {
            OPEN => return Ok(()),
            AWAY => "The ledger's database is away, and this gateway serves nobody without it.",
            _ => "The ledger's database is away, and its log is full: requests could not be accounted for.",
        };
        Err(Problem::new(Kind::LedgerUnavailable, message).after(Some(COME_BACK_NS)))
    }
}

/// Looks at the ledger's health now and then, sets the gate, and finds what changed.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    away: bool,
    trouble: bool,
    /// How many of [`FILLING`] were told.
    filled: usize,
    lost: u64,
    damaged: u64,
}

impl Watch {
    /// Returns what there is to tell.
    pub(crate) fn look(&mut self, store: &Store, gate: &Gate, without: Unavailable) -> Vec<Happening> {
        let health = store.health();
        let unavailable = health.away.is_some() || health.fill.trouble.is_some();
        let state = if !store.has_room() {
            FULL
        } else if unavailable && without == Unavailable::Refuse {
            AWAY
        } else {
            OPEN
        };
        gate.0.store(state, Ordering::Relaxed);
        self.changes(&health)
    }

    fn changes(&mut self, health: &Health) -> Vec<Happening> {
        use happening::Kind as Is;
        let mut told = Vec::new();
        let mut tell = |kind, subject, text: String| told.push(Happening::new(kind, subject, text));
        let fill = &health.fill;
        match (&health.away, self.away) {
            (Some((fault, _)), false) => {
                tell(Is::LedgerAway, DATABASE, format!("ledger away: {fault}; rows wait in the log"));
            }
            (None, true) => tell(Is::LedgerBack, DATABASE, "ledger back".to_owned()),
            _ => {}
        }
        self.away = health.away.is_some();
        match (&fill.trouble, self.trouble) {
            (Some(why), false) => {
                let text = format!("ledger log cannot be written: {why}; clients with a budget are refused");
                tell(Is::LedgerLogFails, LOG, text);
            }
            (None, true) => tell(Is::LedgerLogWrites, LOG, "ledger log writes again".to_owned()),
            _ => {}
        }
        self.trouble = fill.trouble.is_some();
        let percent = fill.bytes * 100 / fill.capacity.max(1);
        let filled = FILLING.iter().filter(|share| percent >= **share).count();
        if filled > self.filled {
            let text = format!("ledger log filling: {percent} % full, {} rows wait", fill.rows);
            tell(Is::LedgerLogFills, ROOM, text);
            self.filled = filled;
        } else if filled == 0 && self.filled > 0 {
            // Told again only once it was nearly empty, or a level that swings would flood the log.
            self.filled = 0;
            tell(Is::LedgerLogEmpties, ROOM, "ledger log has room again".to_owned());
        }
        if health.lost > self.lost {
            let text = format!("ledger entries lost: {} since the start", health.lost);
            tell(Is::LedgerLost, LOG, text);
            self.lost = health.lost;
        }
        if health.damaged_bytes > self.damaged {
            let text = format!("ledger log damaged: {} bytes were cut out", health.damaged_bytes);
            tell(Is::LedgerDamaged, LOG, text);
            self.damaged = health.damaged_bytes;
        }
        told
    }
}

/// Its health, for operators.
pub(crate) fn json(store: Option<&Store>, database: &Database) -> Value {
    let Some(store) = store else { return json!({ "state": "off" }) };
    let health = store.health();
    let fill = &health.fill;
    json!({
        "state": if health.away.is_some() { "away" } else { "open" },
        "database": database.to_string(),
        "away": health.away.as_ref().map(|(fault, since)| json!({ "why": fault.what, "since_unix_ms": since })),
        "rows_written": health.applied,
        "buffered": health.buffered,
        "lost": health.lost,
        "log": {
            "bytes": fill.bytes,
            "capacity_bytes": fill.capacity,
            "rows": fill.rows,
            "oldest_unix_ms": fill.oldest_unix_ms,
            "open_reservations": fill.open,
            "open_nano_usd": fill.open_nano_usd,
            "damaged_bytes": health.damaged_bytes,
            "trouble": fill.trouble,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use keymux_store::Fill;

    fn health(bytes: u64) -> Health {
        Health { fill: Fill { bytes, capacity: 1000, ..Fill::default() }, ..Health::default() }
    }

    #[test]
    fn each_change_is_told_once() {
        struct Said(Watch);
        impl Said {
            fn changes(&mut self, health: &Health) -> Vec<String> {
                self.0.changes(health).into_iter().map(|told| told.text).collect()
            }
        }
        let mut watch = Said(Watch::default());
        assert_eq!(watch.changes(&health(0)), Vec::<String>::new());
        let fault = Fault { kind: Why::Away, what: "no route to it".to_owned() };
        let away = Health { away: Some((fault, 1)), ..health(100) };
        assert_eq!(watch.changes(&away), ["ledger away: no route to it; rows wait in the log"]);
        assert!(watch.changes(&away).is_empty());
        let filling = Health { lost: 0, ..away.clone() };
        let at = |bytes| Health { fill: health(bytes).fill, ..filling.clone() };
        assert_eq!(watch.changes(&at(510)).len(), 1, "two shares at once are one event");
        assert!(watch.changes(&at(490)).is_empty() && watch.changes(&at(510)).is_empty(), "a swinging level");
        assert_eq!(watch.changes(&at(760)).len(), 1);
        assert_eq!(watch.changes(&Health { lost: 3, ..at(760) }), ["ledger entries lost: 3 since the start"]);
        let room = "ledger log has room again";
        assert_eq!(watch.changes(&Health { lost: 3, ..health(10) }), ["ledger back", room]);
        assert_eq!(watch.changes(&Health { lost: 3, ..health(300) }).len(), 1, "and from the beginning");
    }
}
