//! What the ledger does on `SQLite`, measured: rows a second from requests to the database, its bytes a request, what
//! retention leaves, and how fast client keys load. `cargo run --profile quick -p keymux-store --example ledger`; more or
//! fewer rows as the argument, and as another one a folder in which the ledger stays. CPU time is that of the whole
//! process, so it counts the log and the database alike.

#![expect(clippy::print_stdout, reason = "an example prints")]
#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

use keymux_store::{Client, CostSource, Digest, Fault, Options, Record, Store, Target, Terms, Used};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const KEYS: u64 = 100_000;
const DAY_MS: u64 = 86_400_000;
const START_MS: u64 = 1_700_049_600_000;
const LONG: Duration = Duration::from_mins(10);

type Error = Box<dyn std::error::Error>;

fn ask<T>(answer: impl Future<Output = Result<T, Fault>>) -> Result<T, Error> {
    Ok(tokio::runtime::Builder::new_current_thread().build()?.block_on(answer)?)
}

/// The n-th of `rows` requests, which spread over a day and over 200 clients, 20 teams, 8 models and 10 keys.
fn request(n: u64, rows: u64) -> Record {
    Record {
        id: format!("req-{n:016x}").into(),
        generation: Some(format!("gen-{n:016x}").into()),
        client: format!("ck-{}", n % 200).into(),
        team: format!("team-{}", n % 20).into(),
        endpoint: "/v1/chat/completions".into(),
        model: format!("model-{}", n % 8),
        provider: "openrouter".into(),
        key: format!("key-{}", n % 10).into(),
        account: "org".into(),
        status: 200,
        outcome: "answered".into(),
        attempts: 1,
        queue_ns: 3_000_000,
        first_output_ns: Some(400_000_000),
        total_ns: 2_000_000_000,
        started_unix_ms: START_MS + n * DAY_MS / rows,
        used: Used {
            input_tokens: 1200,
            cached_input_tokens: 1000,
            output_tokens: 250,
            cost_nano_usd: Some(1_250_000 + n % 9973),
            cost_source: CostSource::Provider,
            ..Used::default()
        },
        ..Record::default()
    }
}

fn client(n: u64) -> Client {
    Client {
        id: format!("ck-{n}"),
        digest: Digest::of(&format!("km-example-{n}")),
        previous: None,
        name: format!("client {n}"),
        team: String::new(),
        terms: Terms { models: vec!["gpt-*".into()], requests_a_minute: Some(60), ..Terms::default() },
        disabled: false,
        created_unix_ms: START_MS,
        expires_unix_ms: None,
        revoked_unix_ms: None,
        version: 0,
    }
}

/// Seconds of CPU that this process has taken.
fn cpu() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

fn main() -> Result<(), Error> {
    let rows: u64 = std::env::args().nth(1).map_or(Ok(500_000), |n| n.parse())?;
    let passing = tempfile::tempdir()?;
    let folder =
        std::env::args_os().nth(2).map_or_else(|| passing.path().to_owned(), std::path::PathBuf::from);
    let now = Arc::new(AtomicU64::new(START_MS));
    let clock = now.clone();
    let target = Target::Sqlite(folder.join("ledger.db"));
    let log = folder.join("ledger.log");
    let options = Options::new(target, log, Arc::new(move || clock.load(Ordering::Relaxed)));

    let (store, _) = Store::open(options.clone())?;
    let empty = ask(store.bytes())?;
    let records: Vec<Record> = (0..rows).map(|n| request(n, rows)).collect();
    let (began, cpu_before) = (Instant::now(), cpu());
    for record in records {
        // As a gateway under back-pressure: nothing is offered that there is no room for.
        while !store.has_room() {
            store.wait_until(LONG, |_| store.has_room());
        }
        if !store.record(&record) {
            return Err("a row was lost".into());
        }
    }
    if !store.wait_drained(LONG) {
        return Err(format!("not drained: {:?}", store.health()).into());
    }
    let (wall, cpu_used) = (began.elapsed().as_secs_f64(), cpu() - cpu_before);
    let per_row = |bytes: u64| bytes.saturating_sub(empty) as f64 / rows as f64;
    println!(
        "rows: {rows} in {wall:.2} s, {:.0} a second, {:.0} a CPU second",
        rows as f64 / wall,
        rows as f64 / cpu_used
    );
    println!("database: {:.0} bytes a request", per_row(ask(store.bytes())?));
    drop(store);

    // Two months on; what is left are the hourly sums and the spend.
    now.fetch_add(60 * DAY_MS, Ordering::Relaxed);
    let began = Instant::now();
    let (store, _) = Store::open(options)?;
    let last = request(rows - 1, rows);
    while ask(store.generation(&last.client, &last.id))?.is_some() {
        std::thread::sleep(Duration::from_millis(10));
    }
    println!("retention: the rows gone in {:.2} s", began.elapsed().as_secs_f64());
    println!("database: {:.1} bytes a request after retention", per_row(ask(store.bytes())?));

    for first in (0..KEYS).step_by(10_000) {
        ask(store.add_clients((first..first + 10_000).map(client).collect()))?;
    }
    let began = Instant::now();
    let loaded = ask(store.changes(0))?.clients.len();
    println!("clients: {loaded} loaded in {:.3} s", began.elapsed().as_secs_f64());
    Ok(())
}
