//! A small market in virtual time: callers who ask, and providers whose limiters keep books of their own (they share
//! no code with ours). Callers may come back when they were told to.

use super::harness::*;
use crate::fleet::Fleet;
use crate::outcome::{End, LimitScope};
use crate::rng::Rng;
use crate::time::{MS, ns_of};
use crate::{Ask, Decision, Lease, Next, Outcome, Refusal, Used};
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};

/// A limiter as a provider has it: counts when requests arrive, refuses what is too much.
pub(crate) struct Limiter {
    capacity: f64,
    per_s: f64,
    left: f64,
    at: u64,
}

impl Limiter {
    pub(crate) fn new(capacity: f64, per_s: f64) -> Self {
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
    AtProvider(Lease, Ask),
    Answer(Lease, Ask),
}

pub(crate) struct Tally {
    /// New requests, answers, refusals, refusals of who was let wait first, and 429s by the provider.
    pub(crate) arrived: u32,
    pub(crate) answered: u32,
    pub(crate) refused: u32,
    pub(crate) refused_late: u32,
    pub(crate) limited: u32,
    /// Units admitted, by key.
    pub(crate) served: Vec<f64>,
    /// New requests, answers and units answered, by client; answers by class.
    pub(crate) asked: [u32; 128],
    pub(crate) by_client: [u32; 128],
    pub(crate) units: [f64; 128],
    pub(crate) by_class: [u32; 3],
    /// Who came back when told to, and who of them was refused again.
    pub(crate) came_back: u32,
    pub(crate) refused_again: u32,
}

/// How long to stay away, of the time that was stated.
pub(crate) type Stay = fn(&mut Rng, u64) -> u64;

pub(crate) struct Market {
    pub(crate) w: World,
    rng: Rng,
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    what: Vec<Option<What>>,
    limiters: Vec<Limiter>,
    pub(crate) tally: Tally,
    units: fn(&Ask) -> f64,
    /// What was asked, by the identity that tickets and leases carry.
    waiting: HashMap<u64, Ask>,
    come_back: Option<Stay>,
    /// Those that were refused once.
    known: BTreeSet<u64>,
    wait_ns: u64,
}

pub(crate) fn requests(_: &Ask) -> f64 {
    1.0
}

impl Market {
    pub(crate) fn new(fleet: Fleet, limiters: Vec<Limiter>, units: fn(&Ask) -> f64) -> Self {
        let tally = Tally {
            arrived: 0,
            answered: 0,
            refused: 0,
            refused_late: 0,
            limited: 0,
            served: vec![0.0; limiters.len()],
            asked: [0; 128],
            by_client: [0; 128],
            units: [0.0; 128],
            by_class: [0; 3],
            came_back: 0,
            refused_again: 0,
        };
        Self {
            w: World::new(fleet),
            rng: Rng::new(3),
            heap: BinaryHeap::new(),
            what: Vec::new(),
            limiters,
            tally,
            units,
            waiting: HashMap::new(),
            come_back: None,
            known: BTreeSet::new(),
            wait_ns: 0,
        }
    }

    /// Who is refused comes back so long after.
    pub(crate) fn come_back(&mut self, stay: Stay) {
        self.come_back = Some(stay);
    }

    fn at(&mut self, ns: u64, what: What) {
        self.what.push(Some(what));
        self.heap.push(Reverse((ns, self.what.len() as u64 - 1)));
    }

    /// Poisson arrivals over so many seconds.
    pub(crate) fn arrivals(
        &mut self,
        per_s: f64,
        seconds: f64,
        mut ask: impl FnMut(&mut Rng, &World) -> Ask,
    ) {
        let (mut ns, start) = (self.w.ns, self.w.ns);
        loop {
            ns += ns_of(-(1.0 - self.rng.unit()).ln() / per_s);
            if ns > start + ns_of(seconds) {
                return;
            }
            let mut a = ask(&mut self.rng, &self.w);
            self.wait_ns = a.deadline_mono_ns - start;
            a.deadline_mono_ns = self.wait_ns + ns;
            // No two conversations are the same.
            a.session = Some(u64::from(self.tally.arrived));
            self.tally.arrived += 1;
            self.tally.asked[usize::try_from(a.client.0).unwrap()] += 1;
            self.at(ns, What::Arrive(a));
        }
    }

    fn send(&mut self, lease: Lease, ask: Ask) {
        let delay = 5 * MS + self.rng.below(25) as u64 * MS;
        self.at(self.w.ns + delay, What::AtProvider(lease, ask));
    }

    fn refused(&mut self, mut ask: Ask, refusal: &Refusal, late: bool) {
        self.tally.refused += 1;
        self.tally.refused_late += u32::from(late);
        let known = ask.session.unwrap();
        if !self.known.insert(known) {
            self.tally.refused_again += 1;
        }
        if let (Some(stay), Some(after)) = (self.come_back, refusal.retry_after_ns) {
            let at = self.w.ns + stay(&mut self.rng, after);
            ask.deadline_mono_ns = at + self.wait_ns;
            self.at(at, What::Arrive(ask));
        }
    }

    fn polled(&mut self) {
        while self.w.policy.next_wake().is_some_and(|wake| wake <= self.w.ns) {
            for woken in self.w.poll() {
                let ask = self.waiting.remove(&woken.ticket.0).expect("a waiter");
                match woken.decision {
                    Decision::Go(lease) => self.send(lease, ask),
                    Decision::Refuse(refusal) => self.refused(ask, &refusal, true),
                    Decision::Wait { .. } => panic!(),
                }
            }
        }
    }

    /// Until everything is over, or so many seconds have passed.
    pub(crate) fn run_for(&mut self, seconds: f64) {
        let until = self.w.ns.saturating_add(ns_of(seconds));
        loop {
            let next = self.heap.peek().map(|Reverse((ns, _))| *ns);
            let wake = self.w.policy.next_wake();
            let Some(ns) = [next, wake].into_iter().flatten().min().filter(|ns| *ns <= until) else { break };
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

    pub(crate) fn run(&mut self) {
        self.run_for(1e6);
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Arrive(ask) => {
                self.tally.came_back += u32::from(self.known.contains(&ask.session.unwrap()));
                match self.w.submit(ask.clone()) {
                    Decision::Go(lease) => self.send(lease, ask),
                    Decision::Wait { ticket, .. } => drop(self.waiting.insert(ticket.0, ask)),
                    Decision::Refuse(refusal) => self.refused(ask, &refusal, false),
                }
            }
            What::AtProvider(lease, ask) => {
                let (key, units) = (lease.key.0 as usize, (self.units)(&ask));
                if self.limiters[key].admits(self.w.ns, units) {
                    self.tally.served[key] += units;
                    let takes = 200 * MS + self.rng.below(300) as u64 * MS;
                    return self.at(self.w.ns + takes, What::Answer(lease, ask));
                }
                self.tally.limited += 1;
                match self.w.fail(lease, limited(LimitScope::Account, Some(1.0))) {
                    Next::Go(lease) => self.send(lease, ask),
                    Next::Wait { ticket, .. } => drop(self.waiting.insert(ticket.0, ask)),
                    Next::Refuse(refusal) => self.refused(ask, &refusal, true),
                    Next::Done(_) => panic!(),
                }
            }
            What::Answer(lease, ask) => {
                let (client, units) = (usize::try_from(ask.client.0).unwrap(), (self.units)(&ask));
                self.tally.answered += 1;
                self.tally.by_client[client] += 1;
                self.tally.units[client] += units;
                self.tally.by_class[ask.class as usize] += 1;
                let used = Used { input_tokens: ns_of(units / 1e9), ..Used::default() };
                let done = Outcome { used: Some(used), ..outcome(End::Done) };
                assert!(matches!(self.w.policy.finish(self.w.now(), lease, done), Next::Done(_)));
            }
        }
    }
}
