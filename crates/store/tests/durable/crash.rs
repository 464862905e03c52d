//! Kill -9, at named places and at random ones, while requests go on. A provider's own bill is written by the process
//! that dies, in the order in which a gateway would meet it: first the reservation, then the provider charges, then the
//! record. Afterwards the ledger is compared with the bill, row by row.

use crate::place::{LONG, NOON, Place, ask, reserve};
use keymux_store::*;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// What each attempt sets aside; the bill is never above it.
const BOUND: u64 = 1000;
const POINTS: [Point; 5] =
    [Point::Reserved, Point::Appended, Point::Flushed, Point::Applied, Point::Released];

/// What a child is told: where its ledger and its bill are, from which request on, and where to die.
#[derive(serde::Serialize, serde::Deserialize)]
struct Order {
    url: Option<String>,
    folder: std::path::PathBuf,
    first: u64,
    /// The point, and how many times it is passed before.
    die: Option<(usize, u64)>,
}

static DIE: OnceLock<(Point, AtomicU64)> = OnceLock::new();

fn probe(point: Point) {
    if let Some((there, left)) = DIE.get()
        && *there == point
        && left.fetch_sub(1, Ordering::AcqRel) == 0
    {
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
        // The signal is on its way; not one step more.
        loop {
            std::thread::park();
        }
    }
}

/// The process that is killed. On its own it is no test: it does nothing without an order.
#[test]
#[ignore = "started by the tests below"]
fn child() {
    let Some(order) = std::env::var_os("KEYMUX_CRASH_ORDER") else { return };
    let order: Order = serde_json::from_str(order.to_str().unwrap()).unwrap();
    if let Some((point, passed)) = order.die {
        DIE.get_or_init(|| (POINTS[point], AtomicU64::new(passed)));
    }
    let target = order.url.map_or_else(|| Target::Sqlite(order.folder.join("ledger.db")), Target::Postgres);
    let mut options = Options::new(target, order.folder.join("ledger.log"), std::sync::Arc::new(|| NOON));
    options.log_bytes = 8 << 20;
    options.probe = probe;
    let (store, _) = Store::open(options).unwrap();
    let mut bill =
        std::fs::File::options().append(true).create(true).open(order.folder.join("bill")).unwrap();
    let mut out = std::io::stdout();
    for n in order.first.. {
        let reserve = |provider: &str| {
            let reservation = Reservation {
                request: format!("req-{n}").into(),
                client: format!("ck-{}", n % 7).into(),
                team: "blue".into(),
                provider: provider.into(),
                at_unix_ms: NOON,
                cost_nano_usd: BOUND,
                ..Reservation::default()
            };
            reserve(&store, reservation).unwrap()
        };
        // Each third request fails first at another provider, which charges for half of it.
        let mut holds = Vec::new();
        let mut cost = 0;
        if n % 3 == 0 {
            let hold = reserve("first");
            charge(&mut bill, n, n % 11);
            assert!(store.settle(hold, n % 11));
            holds.push(hold);
            cost += n % 11;
        }
        holds.push(reserve("second"));
        charge(&mut bill, n, n % 997);
        cost += n % 997;
        let record = Record {
            id: format!("req-{n}").into(),
            client: format!("ck-{}", n % 7).into(),
            team: "blue".into(),
            provider: "second".into(),
            status: 200,
            outcome: "answered".into(),
            started_unix_ms: NOON,
            used: Used { cost_nano_usd: Some(cost), cost_source: CostSource::Provider, ..Used::default() },
            holds,
            ..Record::default()
        };
        assert!(store.record(&record));
        if n % 16 == 0 {
            // As fast as the database, so that every thread is busy when the end comes.
            assert!(store.wait_until(LONG, |h| h.fill.rows + (h.buffered as u64) < 2000));
        }
        writeln!(out, "tick {n}").unwrap();
    }
}

/// One line of the provider's bill, in one write: a provider is not killed half way.
fn charge(bill: &mut std::fs::File, n: u64, cost: u64) {
    bill.write_all(format!("{n} {cost}\n").as_bytes()).unwrap();
}

/// Runs a child until it dies: where it was told to, or after that many ticks.
fn run(place: &Place, first: u64, die: Option<(usize, u64)>, ticks: u64) -> u64 {
    let url = if let Target::Postgres(url) = place.target() { Some(url) } else { None };
    let order = Order { url, folder: place.folder.path().to_owned(), first, die };
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["crash::child", "--exact", "--ignored", "--nocapture"])
        .env("KEYMUX_CRASH_ORDER", serde_json::to_string(&order).unwrap())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut seen = 0;
    let mut last = first;
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        // The harness says things of its own before the first.
        let Some((_, n)) = line.split_once("tick ") else { continue };
        last = n.parse().unwrap();
        seen += 1;
        if seen == ticks {
            child.kill().unwrap();
        }
    }
    let status = child.wait().unwrap();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(9),
        "{die:?} after {ticks}: {status}"
    );
    // What it did between its last tick and its death has numbers too.
    last + 10
}

#[derive(Default, Debug)]
struct Toll {
    requests: u64,
    unknown: u64,
    /// Unknown requests that the provider never charged: the reservation was written and the attempt did not go out.
    never_sent: u64,
}

/// The ledger against the bill.
fn compare(place: &Place) -> Toll {
    let mut bill: BTreeMap<u64, u64> = BTreeMap::new();
    for line in std::fs::read_to_string(place.folder.path().join("bill")).unwrap().lines() {
        let (n, cost) = line.split_once(' ').unwrap();
        *bill.entry(n.parse().unwrap()).or_default() += cost.parse::<u64>().unwrap();
    }
    let (store, found) = place.open();
    assert_eq!(found.damaged_bytes, 0, "a kill tears nothing");
    assert!(store.wait_drained(LONG), "{:?}", store.health());
    assert_eq!(store.health().fill.open, 0, "no reservation leaks");
    let mut toll = Toll::default();
    let mut sum = 0;
    let last = bill.keys().max().copied().unwrap_or(0) + 10;
    let mut lost = BTreeSet::new();
    for n in 0..=last {
        let row = ask(store.generation(&format!("ck-{}", n % 7), &format!("req-{n}"))).unwrap();
        let Some(row) = row else {
            lost.extend(bill.contains_key(&n).then_some(n));
            continue;
        };
        toll.requests += 1;
        let cost = row.used.cost_nano_usd.unwrap();
        sum += cost;
        let billed = bill.get(&n).copied().unwrap_or(0);
        if row.outcome == UNKNOWN {
            toll.unknown += 1;
            toll.never_sent += u64::from(!bill.contains_key(&n));
            assert!(cost >= billed && cost <= 2 * BOUND, "request {n}: {cost} for {billed}");
            assert_eq!(row.used.cost_source, CostSource::Reserved);
        } else {
            assert_eq!(cost, billed, "request {n}");
        }
    }
    assert!(lost.is_empty(), "billed and not in the ledger: {lost:?}");
    let usage = &ask(store.usage(UsageQuery::default())).unwrap()[0];
    assert_eq!((usage.requests, usage.cost_nano_usd, usage.unknown), (toll.requests, sum, toll.unknown));
    for team in [true, false] {
        let spend = ask(store.spend(None)).unwrap();
        assert_eq!(spend.iter().filter(|s| s.team == team).map(|s| s.cost_nano_usd).sum::<u64>(), sum);
    }
    toll
}

#[expect(clippy::print_stdout, reason = "the toll is worth seeing")]
fn killed_again_and_again(place: &Place, rounds: u64) {
    let mut first = 0;
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..rounds {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(round | 1);
        let dice = seed >> 33;
        first = if round % 2 == 0 {
            let point = usize::try_from(round / 2).unwrap() % POINTS.len();
            // Reservations come by the thousand, batches by the dozen.
            let passed = if point == 0 { dice % 1500 } else { dice % 8 };
            run(place, first, Some((point, passed)), u64::MAX)
        } else {
            run(place, first, None, 1 + dice % 1000)
        };
    }
    let toll = compare(place);
    println!("{rounds} kills: {toll:?}, 0 lost, 0 leaked");
    assert!(toll.requests > 50 * rounds, "{toll:?}");
    assert!(toll.unknown >= rounds / 4, "somebody was caught in the act: {toll:?}");
}

#[test]
#[ignore = "takes a quarter of a minute: scripts/stores"]
fn sqlite() {
    killed_again_and_again(&Place::sqlite(), 20);
}

#[test]
#[ignore = "needs PostgreSQL: scripts/stores"]
fn postgres() {
    killed_again_and_again(&Place::postgres(), 20);
}
