//! Where a test's ledger lives: SQLite in a folder of its own, or a PostgreSQL server of its own, which is a real one,
//! started here and stopped at the end.

use keymux_store::{CostSource, LogError, Options, Record, Recovery, Reservation, Store, Target, Used};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// Longer than anything takes, so that it ends a test only when something hangs.
pub(crate) const LONG: Duration = Duration::from_mins(1);
/// Noon of a Wednesday.
pub(crate) const NOON: u64 = 1_700_049_600_000;
pub(crate) const DAY: u64 = 86_400_000;

pub(crate) struct Place {
    server: Option<Server>,
    pub(crate) folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn sqlite() -> Self {
        Self { server: None, folder: tempfile::tempdir().expect("a folder") }
    }

    pub(crate) fn postgres() -> Self {
        Self { server: Some(Server::start()), ..Self::sqlite() }
    }

    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().expect("PostgreSQL")
    }

    pub(crate) fn target(&self) -> Target {
        match &self.server {
            Some(server) => Target::Postgres(server.url()),
            None => Target::Sqlite(self.db()),
        }
    }

    pub(crate) fn db(&self) -> PathBuf {
        self.folder.path().join("ledger.db")
    }

    /// Runs statements past the store.
    pub(crate) fn sql(&self, sql: &str) {
        match self.target() {
            Target::Sqlite(path) => {
                rusqlite::Connection::open(path).expect("it opens").execute_batch(sql).expect("it runs");
            }
            Target::Postgres(url) => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime").block_on(async {
                    let connected = tokio_postgres::connect(&url, tokio_postgres::NoTls).await;
                    let (client, connection) = connected.expect("a connection");
                    tokio::select! {
                        done = client.batch_execute(sql) => done.expect("it runs"),
                        _ = connection => panic!("closed"),
                    }
                });
            }
        }
    }

    pub(crate) fn options(&self) -> Options {
        let mut options =
            Options::new(self.target(), self.folder.path().join("ledger.log"), Arc::new(|| NOON));
        options.log_bytes = 4 << 20;
        options
    }

    pub(crate) fn open(&self) -> (Store, Recovery) {
        Store::open(self.options()).expect("the store opens")
    }
}

/// Waits for an answer.
pub(crate) fn ask<T>(
    answer: impl Future<Output = Result<T, keymux_store::Fault>>,
) -> Result<T, keymux_store::Fault> {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(answer)
}

/// Sets money aside, and waits until that is written.
pub(crate) fn reserve(store: &Store, reservation: Reservation) -> Result<u64, LogError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let hold = store.reserve(reservation)?;
    let written = runtime.block_on(async { tokio::time::timeout(LONG, store.written(hold)).await });
    written.expect("whoever wrote it tells").map(|()| hold)
}

/// The n-th request, at this instant.
pub(crate) fn request(n: u64, at_unix_ms: u64) -> Record {
    Record {
        id: format!("req-{n}").into(),
        generation: Some(format!("gen-{n}").into()),
        client: format!("ck-{}", n % 3).into(),
        team: format!("team-{}", n % 2).into(),
        tags: vec!["nightly".into()],
        endpoint: "chat/completions".into(),
        model: "sonnet".into(),
        provider: "openrouter".into(),
        key: format!("key-{}", n % 5).into(),
        account: "org".into(),
        status: 200,
        outcome: "answered".into(),
        attempts: 2,
        queue_ns: 3_000_000,
        first_output_ns: Some(400_000_000),
        total_ns: 2_000_000_000,
        started_unix_ms: at_unix_ms,
        charged_unix_ms: at_unix_ms,
        used: Used {
            input_tokens: 100,
            cached_input_tokens: 40,
            cache_write_tokens: 5,
            input_audio_tokens: 1,
            output_tokens: 20,
            reasoning_tokens: 7,
            output_audio_tokens: 2,
            cost_nano_usd: Some(n),
            cost_source: CostSource::Provider,
            estimated: n.is_multiple_of(10),
        },
        holds: Vec::new(),
    }
}

/// A PostgreSQL server.
pub(crate) struct Server {
    folder: tempfile::TempDir,
    tool: PathBuf,
    root: bool,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let root = Command::new("id").arg("-u").output().expect("id").stdout == b"0\n";
        if root {
            // PostgreSQL refuses to run as root.
            run(Command::new("chown").arg("postgres").arg(folder.path()));
        }
        let server = Self { tool: pg_ctl(), folder, root };
        server.ctl(&["initdb", "-o", "--auth=trust --no-sync --locale=C --encoding=UTF8 --username=keymux"]);
        server.up();
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("host={} user=keymux dbname=postgres", self.folder.path().display())
    }

    pub(crate) fn up(&self) {
        let socket = format!("-k {} -c listen_addresses=''", self.folder.path().display());
        let log = self.folder.path().join("server.log");
        self.ctl(&["start", "-w", "-l", &log.display().to_string(), "-o", &socket]);
    }

    pub(crate) fn down(&self) {
        self.ctl(&["stop", "-w", "-m", "immediate"]);
    }

    fn command(&self, args: &[&str]) -> Command {
        let data = self.folder.path().join("data");
        let mut command = if self.root {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(&self.tool);
            command
        } else {
            Command::new(&self.tool)
        };
        command.args(args).arg("-D").arg(data).current_dir(self.folder.path());
        command.stdout(std::process::Stdio::null());
        command
    }

    fn ctl(&self, args: &[&str]) {
        run(&mut self.command(args));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be down already.
        let _ = self.command(&["stop", "-m", "immediate", "-s"]).stderr(std::process::Stdio::null()).status();
    }
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(status.success(), "{command:?}: {status}");
}

/// The server's tool: Debian keeps it out of the way, by version.
fn pg_ctl() -> PathBuf {
    let debian = Path::new("/usr/lib/postgresql");
    let mut found: Vec<PathBuf> = std::fs::read_dir(debian)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin/pg_ctl")))
        .filter(|path| path.exists())
        .collect();
    found.sort();
    found.pop().unwrap_or_else(|| "pg_ctl".into())
}
