//! `keymux serve` that ends itself, as `kill -9` would, when it passes a named place on a ledger row's way for the n-th
//! time. The crash tests of `e2e` drive it. It is a program of its own so that the real one has no such switch.
//!
//! `crashing <configuration> <reserved|appended|flushed|applied|released> <passes that it survives>`

#![expect(clippy::expect_used, reason = "a test's program that cannot run must stop")]

use keymux_store::Point;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where to end, and how many passes are left.
static END: OnceLock<(Point, AtomicU64)> = OnceLock::new();

fn probe(point: Point) {
    if let Some((there, left)) = END.get()
        && *there == point
        && left.fetch_sub(1, Ordering::AcqRel) == 0
    {
        let ended = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        ended.expect("it may end itself");
        // The signal is on its way; not one step more.
        loop {
            std::thread::park();
        }
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().expect("a configuration");
    let point = match arguments.next().as_deref() {
        Some("reserved") => Some(Point::Reserved),
        Some("appended") => Some(Point::Appended),
        Some("flushed") => Some(Point::Flushed),
        Some("applied") => Some(Point::Applied),
        Some("released") => Some(Point::Released),
        _ => None,
    };
    let point = point.expect("the name of a place");
    let passes = arguments.next().and_then(|n| n.parse().ok()).expect("a number of passes");
    END.get_or_init(|| (point, AtomicU64::new(passes)));
    let text = std::fs::read_to_string(&path).expect("it can be read");
    let world = keymux_config::World {
        env: &|_| None,
        env_names: &[],
        read: &|_| Err(std::io::ErrorKind::NotFound.into()),
        run: &|_| Err("no".to_owned()),
    };
    let config = keymux_config::from_toml(&path, &text, &world)
        .map_err(|problems| problems.render(&path, &text, false))
        .expect("a configuration");
    keymux::observe::init(&config.server.log, false);
    // Each life has ids of its own, or the ledger would take a request for one that it knows.
    let seed = std::hash::RandomState::new().build_hasher().finish();
    let running = keymux::serve::start_with(config, "unused".to_owned(), seed, probe).expect("it starts");
    let mut out = std::io::stdout();
    writeln!(out, r#"{{"listen":"{}"}}"#, running.bound.listen).expect("somebody listens");
    out.flush().expect("somebody listens");
    loop {
        std::thread::park();
    }
}
