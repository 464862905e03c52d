//! The whole store: what the rest of keymux sees of it, and the three threads behind.

use crate::clients::{self, Changes, Client, Team};
use crate::desk::{self, Desk, Open};
use crate::digest::Digest;
use crate::intake::{self, Intake};
use crate::ledger::{self, Spend};
use crate::log::{Batch, Fill, Log, LogError, Recovery};
use crate::mark::Mark;
use crate::progress::Progress;
use crate::record::{Record, Reservation};
use crate::sql::{self, Fault, Kind, Sql, migrate, postgres::Postgres, sqlite::Sqlite};
use crate::usage::{self, Usage, UsageQuery};
use crate::{drain, sql::migrate::STEPS};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Where the ledger lives.
#[derive(Clone)]
pub enum Target {
    /// A file; its lock and its log of changes lie beside it.
    Sqlite(PathBuf),
    /// A `postgres://` URL. It may hold a password, so it is never shown.
    Postgres(String),
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "Sqlite({})", path.display()),
            Self::Postgres(_) => f.write_str("Postgres(…)"),
        }
    }
}

/// How long what is kept, in days.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Rows, one a request.
    pub rows_days: u32,
    /// Hourly sums.
    pub hours_days: u32,
    /// Spend by day; older days are added up and kept for ever.
    pub days_days: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self { rows_days: 30, hours_days: 400, days_days: 62 }
    }
}

/// Milliseconds since 1970.
pub(crate) type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Settings.
#[derive(Clone)]
pub struct Options {
    /// The database.
    pub target: Target,
    /// Whom a PostgreSQL server must be vouched for by, where its URL asks for an encrypted connection.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// The file of the log.
    pub log: PathBuf,
    /// Its size in bytes.
    pub log_bytes: u64,
    /// Rows that may wait in memory for the log.
    pub buffer: usize,
    /// How long what is kept.
    pub retention: Retention,
    /// The clock, for retention and for saying since when the database is away.
    pub clock: Clock,
    /// Called at each [`Point`]; a crash test ends the process there.
    pub probe: fn(Point),
}

impl Options {
    /// With the sizes that `serve` has: 64 MiB of log (some 250,000 rows), 65,536 of them in memory.
    pub fn new(target: Target, log: PathBuf, clock: Clock) -> Self {
        Self {
            target,
            tls: None,
            log,
            log_bytes: 64 << 20,
            buffer: 65_536,
            retention: Retention::default(),
            clock,
            probe: |_| {},
        }
    }
}

/// Places on the way of a row where a crash is worth a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// A reservation is written, and its attempt does not know yet.
    Reserved,
    /// Rows are in the log, and not flushed.
    Appended,
    /// They are flushed, and not in the database.
    Flushed,
    /// The database has committed, and the log does not know.
    Applied,
    /// The log knows, and its tail is not flushed.
    Released,
}

/// Why the store did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another instance, a schema that is not ours, or a file that is gone. A database that is merely away is no reason.
    #[error(transparent)]
    Database(#[from] Fault),
    /// The log.
    #[error("{path}: {error}")]
    Log {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        error: LogError,
    },
    /// No thread could be started.
    #[error("a thread of the store: {0}")]
    Thread(std::io::Error),
}

/// How the store is.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Why the database takes no rows, and since when (milliseconds since 1970); `None` while all is well.
    pub away: Option<(Fault, u64)>,
    /// The log.
    pub fill: Fill,
    /// Rows in memory, not in the log yet.
    pub buffered: usize,
    /// Rows that were lost since the log and the memory before it were full.
    pub lost: u64,
    /// Bytes of the log that were damaged and cut out.
    pub damaged_bytes: u64,
    /// Rows that the database took since the start.
    pub applied: u64,
}

/// What the threads share.
pub(crate) struct Shared {
    pub log: Log,
    pub intake: Intake,
    pub progress: Progress,
    /// Nothing comes into the log any more.
    pub stop: AtomicBool,
    pub clock: Clock,
    pub retention: Retention,
    pub probe: fn(Point),
    /// Rows that may wait to be written.
    pub buffer: usize,
    open: Box<Open>,
    mark: Mark,
    away: Mutex<Option<(Fault, u64)>>,
    applied: AtomicU64,
    damaged: AtomicU64,
}

impl Shared {
    pub(crate) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// A connection that may write rows, on the schema of this version.
    pub(crate) fn connect(&self) -> Result<Box<dyn Sql>, Fault> {
        let mut db = (self.open)(true)?;
        if migrate::is_new(&mut *db)? {
            self.mark.check_empty()?;
        }
        migrate::migrate(&mut *db, STEPS)?;
        self.mark.keep();
        Ok(db)
    }

    pub(crate) fn away(&self, fault: Fault) {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        let since = away.as_ref().map_or_else(|| (self.clock)(), |(_, since)| *since);
        *away = Some((fault, since));
        drop(away);
        self.progress.tell();
    }

    pub(crate) fn is_away(&self) -> bool {
        self.away.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub(crate) fn back(&self) {
        *self.away.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The database has a batch.
    pub(crate) fn applied(&self, batch: &Batch, new: u64) {
        self.applied.fetch_add(new, Ordering::Relaxed);
        self.damaged.fetch_add(batch.damaged_bytes, Ordering::Relaxed);
        // If a reservation cannot be carried on for want of room it stays where it is, and the tail with it.
        let _ = self.log.applied(batch.next, batch.rows.len() as u64);
        (self.probe)(Point::Released);
        self.back();
        self.intake.stir();
        self.progress.tell();
    }
}

/// The store. Dropping it writes everything that can be written.
pub struct Store {
    shared: Arc<Shared>,
    /// Where the log of this process begins.
    begun_at: u64,
    desk: Option<Desk>,
    threads: Vec<JoinHandle<()>>,
}

fn mark(target: &Target, log: &Path) -> Mark {
    let file = if let Target::Sqlite(path) = target { Some(path.as_path()) } else { None };
    Mark::beside(log, file)
}

fn opener(target: Target, tls: Option<Arc<rustls::ClientConfig>>, mark: Mark) -> Box<Open> {
    Box::new(move |alone| {
        mark.check()?;
        Ok(match &target {
            Target::Sqlite(path) => Box::new(Sqlite::open(path, alone)?),
            Target::Postgres(url) => Box::new(Postgres::open(url, alone, tls.as_ref())?),
        })
    })
}

impl Store {
    /// Opens the log and the database. A database that is away is waited for, by the rows and not by the caller. The
    /// requests that the last process left open are recorded as unknown before this returns.
    ///
    /// # Errors
    /// If another instance has the log or the database, the schema is not ours, or the file of the database was there
    /// the last time and is gone.
    pub fn open(options: Options) -> Result<(Self, Recovery), OpenError> {
        let mark = mark(&options.target, &options.log);
        let open = opener(options.target.clone(), options.tls.clone(), mark);
        Self::open_with(options, open)
    }

    pub(crate) fn open_with(options: Options, open: Box<Open>) -> Result<(Self, Recovery), OpenError> {
        let at = |error| OpenError::Log { path: options.log.clone(), error };
        let (log, found) = Log::open(&options.log, options.log_bytes).map_err(at)?;
        log.close(&found.unknown).map_err(at)?;
        log.sync().map_err(at)?;
        let shared = Arc::new(Shared {
            log,
            intake: Intake::default(),
            progress: Progress::default(),
            stop: AtomicBool::new(false),
            clock: options.clock,
            retention: options.retention,
            probe: options.probe,
            buffer: options.buffer,
            open,
            mark: mark(&options.target, &options.log),
            away: Mutex::new(None),
            applied: AtomicU64::new(0),
            damaged: AtomicU64::new(found.damaged_bytes),
        });
        let db = match shared.connect() {
            Ok(db) => Some(db),
            Err(fault) if matches!(fault.kind, Kind::InUse | Kind::Schema | Kind::Missing) => {
                return Err(fault.into());
            }
            Err(fault) => {
                shared.away(fault);
                None
            }
        };
        let (desk, questions) = Desk::new();
        let mut store = Self {
            begun_at: shared.log.head(),
            shared: shared.clone(),
            desk: Some(desk),
            threads: Vec::new(),
        };
        let (a, b, c) = (shared.clone(), shared.clone(), shared);
        store.thread("ledger-log", move || intake::run(&a))?;
        store.thread("ledger-db", move || drain::run(&b, db))?;
        store.thread("ledger-desk", move || desk::run(&*c.open, questions))?;
        Ok((store, found))
    }

    fn thread(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), OpenError> {
        let thread = std::thread::Builder::new().name(name.to_owned());
        self.threads.push(thread.spawn(work).map_err(OpenError::Thread)?);
        Ok(())
    }

    /// Sets money aside for one attempt, which may go out once that is [`written`](Self::written). The number names the
    /// reservation in [`settle`](Self::settle) and in [`Record::holds`], whose record closes it.
    ///
    /// # Errors
    /// If the log is full or cannot be flushed: then the attempt must not go out on a budget.
    pub fn reserve(&self, reservation: Reservation) -> Result<u64, LogError> {
        self.shared.log.reserve(reservation)
    }

    /// Returns once a reservation is written, in one `write()` with those that other tasks made meanwhile. Whoever drops
    /// this before leaves the reservation to its record.
    ///
    /// # Errors
    /// It could not be written: then the attempt must not go out on a budget, and the reservation is gone.
    pub async fn written(&self, hold: u64) -> Result<(), LogError> {
        self.shared.log.written(hold).await?;
        (self.shared.probe)(Point::Reserved);
        self.shared.intake.stir();
        Ok(())
    }

    /// An attempt is over: it cost so many nano-dollars (0 where nothing was charged). To be told before what it did not
    /// use is given back. It is written with the next reservation, which may be of the money that came back: a crash
    /// never finds the second without the first, and charges both no higher than what is held. `false`: the log is full,
    /// and takes no reservation before it has taken this.
    pub fn settle(&self, hold: u64, cost_nano_usd: u64) -> bool {
        let taken = self.shared.log.settle(hold, cost_nano_usd).is_ok();
        self.shared.intake.stir();
        taken
    }

    /// A request is over. `false`: it is lost, since the log and the memory before it are full.
    pub fn record(&self, record: &Record) -> bool {
        self.shared.intake.row(&self.shared.log, record, self.shared.buffer)
    }

    /// Whether new requests can be taken on; if not, what they leave behind could not be kept.
    pub fn has_room(&self) -> bool {
        self.shared.log.has_room() && self.shared.intake.depth(&self.shared.log).0 < self.shared.buffer / 2
    }

    /// Everything that was reserved before this number is on the disk (see [`Log::flushed`]).
    pub fn flushed(&self) -> u64 {
        self.shared.log.flushed()
    }

    /// Whether everything that the last process left in the log is in the database: only then do its sums tell what was
    /// spent.
    pub fn caught_up(&self) -> bool {
        self.shared.log.rows() == 0 || self.shared.log.applied_to() >= self.begun_at
    }

    /// How the store is.
    pub fn health(&self) -> Health {
        let (buffered, lost) = self.shared.intake.depth(&self.shared.log);
        Health {
            away: self.shared.away.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            fill: self.shared.log.fill(),
            buffered,
            lost,
            damaged_bytes: self.shared.damaged.load(Ordering::Relaxed),
            applied: self.shared.applied.load(Ordering::Relaxed),
        }
    }

    /// Blocks until the health is as wanted, at most so long; says whether it is.
    pub fn wait_until(&self, limit: Duration, wanted: impl Fn(&Health) -> bool) -> bool {
        self.shared.progress.sleep(limit, || wanted(&self.health()))
    }

    /// Blocks until the database has everything that was recorded so far, at most so long; says whether it has.
    pub fn wait_drained(&self, limit: Duration) -> bool {
        self.wait_until(limit, |health| health.buffered == 0 && health.fill.rows == 0)
    }

    async fn ask<T: Send + 'static>(
        &self,
        again: bool,
        work: impl Fn(&mut dyn Sql) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        match &self.desk {
            Some(desk) => desk.ask(again, work).await,
            None => Err(Fault::new(Kind::Away, "the store is closed")),
        }
    }

    /// Sums for exports.
    pub async fn usage(&self, query: UsageQuery) -> Result<Vec<Usage>, Fault> {
        self.ask(true, move |db| usage::usage(db, &query)).await
    }

    /// One request, by the gateway's id or the provider's, if it is this client's.
    pub async fn generation(&self, client: &str, id: &str) -> Result<Option<Record>, Fault> {
        let (client, id) = (client.to_owned(), id.to_owned());
        self.ask(true, move |db| ledger::generation(db, &client, &id)).await
    }

    /// What every client and team has spent from this day on (its number since 1970, in UTC); ever, without one.
    pub async fn spend(&self, since_day: Option<u64>) -> Result<Vec<Spend>, Fault> {
        self.ask(true, move |db| ledger::spend(db, since_day)).await
    }

    /// What one client or team has spent, by day (its number since 1970, in UTC); old days are added up in one without.
    pub async fn spend_by_day(&self, team: bool, name: &str) -> Result<Vec<(Option<u64>, u64)>, Fault> {
        let name = name.to_owned();
        self.ask(true, move |db| ledger::spend_by_day(db, team, &name)).await
    }

    /// Clients and teams that changed after this version; from 0, all.
    pub async fn changes(&self, after: u64) -> Result<Changes, Fault> {
        self.ask(true, move |db| clients::changes(db, after)).await
    }

    /// Keeps new clients, all or none, and returns them with their version.
    ///
    /// # Errors
    /// [`Kind::Taken`] if an id or a digest is in use.
    pub async fn add_clients(&self, new: Vec<Client>) -> Result<Vec<Client>, Fault> {
        self.ask(false, move |db| {
            let mut new = new.clone();
            clients::add(db, &mut new).map(|()| new)
        })
        .await
    }

    /// Changes name, team, terms, expiry or whether a client is disabled, if it is still of the version given.
    ///
    /// # Errors
    /// [`Kind::Changed`] if it is not, or is revoked.
    pub async fn change_client(&self, client: Client) -> Result<u64, Fault> {
        self.ask(false, move |db| clients::change(db, &client)).await
    }

    /// Gives a client a new key; the old one holds until the instant given, or no longer.
    ///
    /// # Errors
    /// [`Kind::Changed`] if there is none or it is revoked, [`Kind::Taken`] if the digest is in use.
    pub async fn rotate_client(
        &self,
        id: &str,
        to: Digest,
        old_until_unix_ms: Option<u64>,
    ) -> Result<u64, Fault> {
        let id = id.to_owned();
        self.ask(false, move |db| clients::rotate(db, &id, to, old_until_unix_ms)).await
    }

    /// Ends a client's keys for ever.
    ///
    /// # Errors
    /// [`Kind::Changed`] if there is none.
    pub async fn revoke_client(&self, id: &str, now_unix_ms: u64) -> Result<u64, Fault> {
        let id = id.to_owned();
        self.ask(false, move |db| clients::revoke(db, &id, now_unix_ms)).await
    }

    /// Keeps a team as given, new or known; `removed` ends it.
    pub async fn put_team(&self, team: Team) -> Result<u64, Fault> {
        self.ask(false, move |db| clients::put_team(db, &team)).await
    }

    /// Bytes of the database.
    pub async fn bytes(&self) -> Result<u64, Fault> {
        self.ask(true, sql::bytes).await
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.desk = None;
        // In the order of the rows' way: what one thread writes the next must still see.
        for (thread, stop) in
            self.threads.drain(..).zip([&self.shared.intake.stop, &self.shared.stop, &self.shared.stop])
        {
            stop.store(true, Ordering::Release);
            self.shared.intake.wake();
            self.shared.progress.tell();
            // A thread that panicked has said so; there is nobody else to tell.
            let _ = thread.join();
        }
        let _ = self.shared.log.sync();
    }
}

#[cfg(test)]
mod tests;
