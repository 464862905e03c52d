//! A thousand random worlds: whatever happens, the invariants hold, and the same seed decides the same. A world that
//! breaks one is printed with its seed, made as small as it goes.

#![expect(clippy::expect_used, clippy::panic, reason = "tests")]

use keymux_sim::{Figures, Scenario, chaos, simulate};
use std::collections::BTreeMap;
use std::io::Write as _;

/// Worlds of each of the four tests.
const WORLDS: u64 = 250;

fn run(scenario: &Scenario, seed: u64) -> Option<Figures> {
    simulate(scenario, seed).ok()
}

/// Says what was met, also where tests that pass are silent: straight to standard error.
fn tell(from: u64, requests: f64, met: &BTreeMap<String, u64>) {
    let mut kinds: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (what, n) in met {
        let (kind, name) = what.split_once(' ').unwrap_or(("end", what));
        kinds.entry(kind).or_default().push(format!("{name} {n}"));
    }
    let mut text = format!("random worlds, seeds {from} to {}: {requests} requests\n", from + WORLDS - 1);
    text.extend(kinds.iter().map(|(kind, met)| format!("  {kind}: {}\n", met.join(", "))));
    // Whoever does not listen misses nothing but this.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn worlds(from: u64) {
    let mut met: BTreeMap<String, u64> = BTreeMap::new();
    let mut requests = 0.0;
    for seed in from..from + WORLDS {
        let scenario = chaos::world(seed);
        let figures = run(&scenario, seed).expect("a world that can be built");
        if let Some(broken) = figures.violations.first() {
            let kind = |text: &str| {
                let said = text.split(" s: ").nth(1).unwrap_or(text);
                said.chars().filter(|c| c.is_alphabetic() || *c == ' ').take(40).collect::<String>()
            };
            let wanted = kind(broken);
            let fails =
                |s: &Scenario| run(s, seed).is_some_and(|f| f.violations.iter().any(|v| kind(v) == wanted));
            let small = chaos::shrink(&scenario, fails);
            let shown = run(&small, seed).map(|f| f.violations).unwrap_or_default();
            panic!("seed {seed}: {broken}\nsmaller: {shown:#?}\n{}", small.write());
        }
        requests += figures.by_name.get("requests").copied().unwrap_or(0.0);
        for (what, n) in figures.met {
            *met.entry(what).or_default() += n;
        }
    }
    tell(from, requests, &met);
    let shapes = [
        "shape Bucket Requests",
        "shape Bucket InputTokens",
        "shape Bucket OutputTokens",
        "shape Bucket TotalTokens",
        "shape Bucket Concurrent",
        "shape Window Requests",
        "shape Window TotalTokens",
        "shape Day Requests",
    ];
    for must in [
        "verb cancel",
        "verb head",
        "verb first_output",
        "verb probe",
        "blame Key",
        "blame Account",
        "blame Quota",
        "blame Capacity",
        "blame Target",
        "blame Request",
        "blame Client",
        "dropped",
    ]
    .into_iter()
    .chain(shapes)
    {
        assert!(met.get(must).copied().unwrap_or(0) > 0, "{must} was never met");
    }
}

#[test]
fn invariants_hold_in_random_worlds_1() {
    worlds(1_000);
}

#[test]
fn invariants_hold_in_random_worlds_2() {
    worlds(2_000);
}

#[test]
fn invariants_hold_in_random_worlds_3() {
    worlds(3_000);
}

#[test]
fn invariants_hold_in_random_worlds_4() {
    worlds(4_000);
}

/// Its only limit is a day's that is enforced in slices of a second.
#[test]
fn a_days_limit_in_slices_draws_no_storm() {
    let figures = run(&chaos::world(4_377), 4_377).expect("a world that can be built");
    assert_eq!(figures.violations, [""; 0]);
}

#[test]
fn the_same_seed_decides_the_same_and_another_does_not() {
    for seed in 0..20 {
        let scenario = chaos::world(seed);
        let digest = |seed| run(&scenario, seed).map(|f| f.digest);
        assert_eq!(digest(seed), digest(seed));
        assert_ne!(digest(seed), digest(seed + 1));
    }
}
