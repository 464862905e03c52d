//! Small worlds with a provider that keeps its own books (its limiters share no code with ours): what overload must
//! look like from both sides. The full scenarios live in the simulator.

use super::harness::*;
use crate::fleet::{Dimension, Fleet};
use crate::outcome::{End, LimitScope};
use crate::rng::Rng;
use crate::time::{MS, ns_of};
use crate::{Ask, ClientId, Decision, Lease, Next, Outcome, Size, Used};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A limiter as a provider has it: counts when requests arrive, refuses what is too much.
struct Limiter {
    capacity: f64,
    per_s: f64,
    left: f64,
    at: u64,
}

impl Limiter {
    fn new(capacity: f64, per_s: f64) -> Self {
        Self { capacity, per_s, left: capacity, at: 0 }
    }
    fn admits(&mut self, ns: u64, units: f64) -> bool {
        self.left = (self.left + (ns - self.at) as f64 * 1e-9 * self.per_s).min(self.capacity);
        self.at = ns;
        let fits = self.left >= units;
        if fits {
            self.left -= units;
        }
        fits
    }
}

enum What {
    Arrive(Ask),
    AtProvider(Lease, f64),
    Answer(Lease, f64),
}

#[derive(Default)]
struct Tally {
    arrived: u32,
    answered: u32,
    refused: u32,
    refused_late: u32,
    limited: u32,
    served: Vec<f64>,
    by_client: Vec<u32>,
}

struct Sim {
    w: World,
    rng: Rng,
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    what: Vec<Option<What>>,
    limiters: Vec<Limiter>,
    tally: Tally,
    units: fn(&Ask) -> f64,
    /// Units, by ticket.
    asks: std::collections::HashMap<u64, f64>,
    clients: std::collections::HashMap<u64, u64>,
}

impl Sim {
    fn new(fleet: Fleet, limiters: Vec<Limiter>, units: fn(&Ask) -> f64) -> Self {
        let served = vec![0.0; limiters.len()];
        Self {
            w: World::new(fleet),
            rng: Rng::new(3),
            heap: BinaryHeap::new(),
            what: Vec::new(),
            limiters,
            tally: Tally { served, by_client: vec![0; 200], ..Tally::default() },
            units,
            asks: std::collections::HashMap::new(),
            clients: std::collections::HashMap::new(),
        }
    }

    fn at(&mut self, ns: u64, what: What) {
        self.what.push(Some(what));
        self.heap.push(Reverse((ns, self.what.len() as u64 - 1)));
    }

    /// Poisson arrivals over so many seconds.
    fn arrivals(&mut self, per_s: f64, seconds: f64, mut ask: impl FnMut(&mut Rng, &World) -> Ask) {
        let (mut ns, start) = (self.w.ns, self.w.ns);
        loop {
            ns += ns_of(-(1.0 - self.rng.unit()).ln() / per_s);
            if ns > start + ns_of(seconds) {
                return;
            }
            let mut a = ask(&mut self.rng, &self.w);
            a.deadline_mono_ns = a.deadline_mono_ns - start + ns;
            self.tally.arrived += 1;
            self.at(ns, What::Arrive(a));
        }
    }

    fn send(&mut self, lease: Lease, units: f64) {
        let delay = 5 * MS + self.rng.below(25) as u64 * MS;
        self.at(self.w.ns + delay, What::AtProvider(lease, units));
    }

    fn polled(&mut self) {
        while self.w.policy.next_wake().is_some_and(|wake| wake <= self.w.ns) {
            for woken in self.w.poll() {
                let units = self.asks.remove(&woken.ticket.as_u64()).expect("a waiter");
                match woken.decision {
                    Decision::Go(lease) => self.send(lease, units),
                    Decision::Refuse(_) => {
                        self.tally.refused += 1;
                        self.tally.refused_late += 1;
                    }
                    Decision::Wait { .. } => panic!(),
                }
            }
        }
    }

    fn run(&mut self) {
        loop {
            let next = self.heap.peek().map(|Reverse((ns, _))| *ns);
            let wake = self.w.policy.next_wake();
            let Some(ns) = [next, wake].into_iter().flatten().min() else { break };
            self.w.ns = self.w.ns.max(ns);
            if next == Some(ns) {
                let Some(Reverse((_, i))) = self.heap.pop() else { break };
                let what = self.what[usize::try_from(i).unwrap()].take().expect("once");
                self.happen(what);
            }
            self.polled();
        }
        self.w.conserved();
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Arrive(ask) => {
                let (units, client) = ((self.units)(&ask), ask.client.0);
                match self.w.submit(ask) {
                    Decision::Go(lease) => {
                        self.clients.insert(lease.slot, client);
                        self.send(lease, units);
                    }
                    Decision::Wait { ticket, .. } => {
                        self.clients.insert(ticket.0, client);
                        self.asks.insert(ticket.0, units);
                    }
                    Decision::Refuse(_) => self.tally.refused += 1,
                }
            }
            What::AtProvider(lease, units) => {
                let key = lease.key.0 as usize;
                if self.limiters[key].admits(self.w.ns, units) {
                    self.tally.served[key] += units;
                    let takes = 200 * MS + self.rng.below(300) as u64 * MS;
                    self.at(self.w.ns + takes, What::Answer(lease, units));
                } else {
                    self.tally.limited += 1;
                    let next = self.w.fail(lease, limited(LimitScope::Account, Some(1.0)));
                    match next {
                        Next::Go(lease) => self.send(lease, units),
                        Next::Wait { ticket, .. } => drop(self.asks.insert(ticket.as_u64(), units)),
                        Next::Refuse(_) => self.tally.refused += 1,
                        Next::Done(_) => panic!(),
                    }
                }
            }
            What::Answer(lease, units) => {
                self.tally.answered += 1;
                self.tally.by_client[usize::try_from(self.clients[&lease.slot]).unwrap()] += 1;
                let used = Used { input_tokens: crate::time::ns_of(units / 1e9), ..Used::default() };
                let done = Outcome { used: Some(used), ..outcome(End::Done) };
                assert!(matches!(self.w.policy.finish(self.w.now(), lease, done), Next::Done(_)));
            }
        }
    }
}

fn requests(_: &Ask) -> f64 {
    1.0
}

#[test]
fn at_130_percent_the_quota_is_used_up_without_one_429_and_refusals_are_immediate() {
    let f = fleet(3, &[bucket(Dimension::Requests, 20.0, 10.0)]);
    let limiters = (0..3).map(|_| Limiter::new(20.0, 10.0)).collect();
    let mut sim = Sim::new(f, limiters, requests);
    sim.arrivals(39.0, 300.0, |_, w| w.ask(20.0));
    sim.run();
    let t = &sim.tally;
    assert_eq!(t.limited, 0, "not one 429");
    // What the limits could admit until the last deadline.
    let possible = (60.0 + 30.0 * 300.0_f64).min(f64::from(t.arrived));
    let goodput = f64::from(t.answered) / possible;
    assert!(goodput >= 0.99, "{goodput}");
    assert_eq!(t.refused_late, 0, "every refusal is immediate");
    let most = t.served.iter().copied().fold(0.0, f64::max);
    let least = t.served.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(most / least < 1.05, "{:?}", t.served);
}

#[test]
fn at_70_percent_everything_is_answered_and_spread_evenly() {
    let f = fleet(3, &[bucket(Dimension::Requests, 20.0, 10.0)]);
    let limiters = (0..3).map(|_| Limiter::new(20.0, 10.0)).collect();
    let mut sim = Sim::new(f, limiters, requests);
    sim.arrivals(21.0, 300.0, |_, w| w.ask(20.0));
    sim.run();
    let t = &sim.tally;
    assert_eq!((t.limited, t.refused), (0, 0));
    assert_eq!(t.answered, t.arrived);
    let most = t.served.iter().copied().fold(0.0, f64::max);
    let least = t.served.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(most / least < 1.05, "{:?}", t.served);
}

#[test]
fn token_bound_with_mixed_sizes_little_is_left_unused() {
    let mut f = fleet(3, &[bucket(Dimension::InputTokens, 100_000.0, 5_000.0)]);
    f.settings.room.waiters_max = 100_000;
    let limiters = (0..3).map(|_| Limiter::new(100_000.0, 5_000.0)).collect();
    let mut sim = Sim::new(f, limiters, |ask| ask.size.input_tokens as f64);
    // Sizes from 100 to 60,000, a hundredth of them large.
    let ask = |rng: &mut Rng, w: &World| {
        let tokens = if rng.below(100) == 0 { 60_000 } else { 100 + rng.below(3_000) as u64 };
        let size = Size { body_bytes: 0, input_tokens: tokens, output_tokens_max: Some(0) };
        Ask { size, ..w.ask(60.0) }
    };
    sim.arrivals(10.0, 600.0, ask);
    sim.run();
    let t = &sim.tally;
    assert_eq!(t.limited, 0);
    let served: f64 = t.served.iter().sum();
    let goodput = served / (300_000.0 + 15_000.0 * 600.0);
    assert!(goodput >= 0.97, "{goodput} late {} refused {}", t.refused_late, t.refused);
}

#[test]
fn quotas_of_1_3_6_are_all_used_up() {
    let mut f = Fleet { providers: vec![provider(0)], ..Fleet::default() };
    for n in [2.0, 6.0, 12.0] {
        add_account(&mut f, 0, 1, vec![bucket(Dimension::Requests, n * 2.0, n)]);
    }
    f.routes.push(route(0, &[&[0]]));
    let limiters = [2.0, 6.0, 12.0].map(|n| Limiter::new(n * 2.0, n)).into();
    let mut sim = Sim::new(f, limiters, requests);
    sim.arrivals(26.0, 300.0, |_, w| w.ask(10.0));
    sim.run();
    let t = &sim.tally;
    assert_eq!(t.limited, 0);
    let goodput = f64::from(t.answered) / (40.0 + 20.0 * 300.0);
    assert!(goodput >= 0.98, "{goodput}");
    assert!(t.refused_late * 100 <= t.refused, "{} of {}", t.refused_late, t.refused);
}

#[test]
fn a_burst_of_ten_times_is_answered_as_far_as_the_deadline_allows() {
    let f = fleet(3, &[bucket(Dimension::Requests, 10.0, 10.0)]);
    let limiters = (0..3).map(|_| Limiter::new(10.0, 10.0)).collect();
    let mut sim = Sim::new(f, limiters, requests);
    sim.arrivals(200.0, 2.0, |_, w| w.ask(20.0));
    sim.run();
    let t = &sim.tally;
    assert_eq!((t.limited, t.refused), (0, 0), "400 requests are less than 22 s of quota");
}

#[test]
fn the_client_who_floods_gets_no_more_than_its_share() {
    let f = fleet(2, &[bucket(Dimension::Requests, 10.0, 10.0)]);
    let limiters = (0..2).map(|_| Limiter::new(10.0, 10.0)).collect();
    let mut sim = Sim::new(f, limiters, requests);
    // Nine clients ask for one a second each, a tenth for eighty: 20 a second are there.
    sim.arrivals(89.0, 120.0, |rng, w| {
        let client = rng.below(89) as u64;
        Ask { client: ClientId(client.min(9)), ..w.ask(10.0) }
    });
    let mut per_client = [0u32; 10];
    for what in sim.what.iter().flatten() {
        if let What::Arrive(ask) = what {
            per_client[usize::try_from(ask.client.0).unwrap()] += 1;
        }
    }
    sim.run();
    let t = &sim.tally;
    assert_eq!(t.limited, 0);
    for (client, (asked, got)) in per_client.iter().zip(&t.by_client).take(9).enumerate() {
        assert!(f64::from(*got) >= 0.98 * f64::from(*asked), "client {client}: {got} of {asked}");
    }
    assert!(f64::from(t.answered) >= 0.99 * 20.0 * 120.0, "{}", t.answered);
}

#[test]
fn with_many_clients_alike_the_quota_is_used_up_and_shared() {
    let f = fleet(3, &[bucket(Dimension::Requests, 20.0, 10.0)]);
    let limiters = (0..3).map(|_| Limiter::new(20.0, 10.0)).collect();
    let mut sim = Sim::new(f, limiters, requests);
    sim.arrivals(39.0, 300.0, |rng, w| Ask { client: ClientId(rng.below(20) as u64), ..w.ask(20.0) });
    sim.run();
    let t = &sim.tally;
    assert_eq!(t.limited, 0);
    assert!(f64::from(t.answered) >= 0.99 * (60.0 + 30.0 * 300.0), "{}", t.answered);
    let (least, most) = (t.by_client[..20].iter().min(), t.by_client[..20].iter().max());
    assert!(f64::from(*most.unwrap()) < 1.1 * f64::from(*least.unwrap()), "{:?}", &t.by_client[..20]);
}
