//! Providers that say nothing of their limits in advance: what is learned from their refusals alone, judged from the
//! provider's side. Their limiters share no code with ours.

use super::harness::*;
use crate::fleet::{Dimension, Fleet};
use crate::outcome::{End, Evidence, LimitScope, Sign};
use crate::rng::Rng;
use crate::time::{MS, SECOND, ns_of};
use crate::{Ask, Decision, Lease, Next, Outcome, Used};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// How a provider limits one account.
#[derive(Clone, Copy, Debug)]
pub(super) enum Limit {
    /// Capacity, refill a second.
    Bucket(f64, f64),
    /// Units in each period of so many seconds, by the clock.
    Window(f64, f64),
    /// The same, begun by the first use.
    WindowFromUse(f64, f64),
    /// At the same time.
    Slots(u32),
}

/// When a refusal says to come back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Says {
    Nothing,
    /// Whole seconds, rounded up.
    Seconds,
}

struct Limiter {
    limit: Limit,
    left: f64,
    at: u64,
    end: u64,
    used: u32,
}

impl Limiter {
    fn new(limit: Limit) -> Self {
        let left = match limit {
            Limit::Bucket(n, _) | Limit::Window(n, _) | Limit::WindowFromUse(n, _) => n,
            Limit::Slots(_) => 0.0,
        };
        Self { limit, left, at: 0, end: 0, used: 0 }
    }

    /// `Err`: how long until it would fit, where anybody can say.
    fn admit(&mut self, unix: u64, units: f64) -> Result<(), Option<u64>> {
        match self.limit {
            Limit::Bucket(capacity, rate) => {
                if self.at > 0 {
                    self.left = (self.left + (unix - self.at) as f64 * 1e-9 * rate).min(capacity);
                }
                self.at = unix;
                if self.left < units {
                    return Err(Some(ns_of((units - self.left) / rate)));
                }
                self.left -= units;
            }
            Limit::Window(n, period) => {
                let period = ns_of(period);
                if unix >= self.end {
                    (self.left, self.end) = (n, unix - unix % period + period);
                }
                if self.left < units {
                    return Err(Some(self.end - unix));
                }
                self.left -= units;
            }
            Limit::WindowFromUse(n, period) => {
                if unix >= self.end {
                    (self.left, self.end) = (n, unix + ns_of(period));
                }
                if self.left < units {
                    return Err(Some(self.end - unix));
                }
                self.left -= units;
            }
            Limit::Slots(n) => {
                if self.used >= n {
                    return Err(None);
                }
                self.used += 1;
            }
        }
        Ok(())
    }

    fn taken_for_refused(&mut self) {
        self.left = (self.left - 1.0).max(0.0);
    }
}

enum What {
    Arrive(Ask),
    AtProvider(Lease, f64),
    Refused(Lease, f64, Option<u64>),
    Left(usize),
    Answer(Lease, f64),
}

pub(super) struct Hidden {
    pub(super) w: World,
    rng: Rng,
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    what: Vec<Option<What>>,
    limiters: Vec<Limiter>,
    says: Says,
    pub(super) refused_count: bool,
    pub(super) names: Option<Dimension>,
    units: fn(&Ask) -> f64,
    asks: HashMap<u64, f64>,
    pub(super) start: u64,
    /// Seconds since the start, units.
    pub(super) admitted: Vec<(f64, f64)>,
    /// When the provider said no, and which account's limit it was.
    pub(super) denied: Vec<(f64, usize)>,
    pub(super) arrived: usize,
    pub(super) turned_away: usize,
    /// How long an answer takes, in milliseconds: least, and how much more.
    pub(super) takes_ms: (u64, usize),
}

impl Hidden {
    pub(super) fn over(mut f: Fleet, limits: &[Limit], says: Says, seed: u64) -> Self {
        f.settings.room.waiters_max = 100_000;
        let mut w = World::seeded(f, seed);
        // Somewhere in the middle of everybody's window.
        w.ns += 3_300 * MS;
        Self {
            start: w.ns,
            w,
            rng: Rng::new(seed + 100),
            heap: BinaryHeap::new(),
            what: Vec::new(),
            limiters: limits.iter().map(|l| Limiter::new(*l)).collect(),
            says,
            refused_count: false,
            names: None,
            units: |_| 1.0,
            asks: HashMap::new(),
            admitted: Vec::new(),
            denied: Vec::new(),
            arrived: 0,
            turned_away: 0,
            takes_ms: (40, 60),
        }
    }

    fn at(&mut self, ns: u64, what: What) {
        self.what.push(Some(what));
        self.heap.push(Reverse((ns, self.what.len() as u64 - 1)));
    }

    pub(super) fn arrivals(&mut self, per_s: f64, seconds: f64, wait_s: f64) {
        self.arrivals_of(per_s, seconds, |_, w| w.ask(wait_s));
    }

    pub(super) fn arrivals_of(
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
            a.deadline_mono_ns = a.deadline_mono_ns - start + ns;
            self.arrived += 1;
            self.at(ns, What::Arrive(a));
        }
    }

    fn send(&mut self, lease: Lease, units: f64) {
        let delay = 2 * MS + self.rng.below(20) as u64 * MS;
        self.at(self.w.ns + delay, What::AtProvider(lease, units));
    }

    fn polled(&mut self) {
        while self.w.policy.next_wake().is_some_and(|wake| wake <= self.w.ns) {
            for woken in self.w.poll() {
                let units = self.asks.remove(&woken.ticket.as_u64()).expect("a waiter");
                match woken.decision {
                    Decision::Go(lease) => self.send(lease, units),
                    Decision::Refuse(_) => self.turned_away += 1,
                    Decision::Wait { .. } => panic!(),
                }
            }
        }
    }

    pub(super) fn run(&mut self) {
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

    fn seconds(&self) -> f64 {
        (self.w.ns - self.start) as f64 * 1e-9
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Arrive(ask) => {
                let units = (self.units)(&ask);
                match self.w.submit(ask) {
                    Decision::Go(lease) => self.send(lease, units),
                    Decision::Wait { ticket, .. } => drop(self.asks.insert(ticket.0, units)),
                    Decision::Refuse(_) => self.turned_away += 1,
                }
            }
            What::AtProvider(lease, units) => {
                let (account, unix) = (lease.account.0 as usize, self.w.now().unix_ns);
                match self.limiters[account].admit(unix, units) {
                    Ok(()) => {
                        self.admitted.push((self.seconds(), units));
                        let takes = (self.takes_ms.0 + self.rng.below(self.takes_ms.1) as u64) * MS;
                        self.at(self.w.ns + takes, What::Left(account));
                        self.at(self.w.ns + takes + 5 * MS, What::Answer(lease, units));
                    }
                    Err(wait) => {
                        if self.refused_count {
                            self.limiters[account].taken_for_refused();
                        }
                        self.denied.push((self.seconds(), account));
                        let delay = 4 * MS + self.rng.below(8) as u64 * MS;
                        self.at(self.w.ns + delay, What::Refused(lease, units, wait));
                    }
                }
            }
            What::Refused(lease, units, wait) => {
                let stated = match self.says {
                    Says::Nothing => None,
                    Says::Seconds => wait.map(|ns| ns.div_ceil(SECOND) * SECOND),
                };
                let sign =
                    Sign::RateLimited { dimension: self.names, scope: LimitScope::Unknown, daily: false };
                let said = Evidence { retry_after_ns: stated, ..evidence(sign, Some(429)) };
                match self.w.fail(lease, said) {
                    Next::Go(lease) => self.send(lease, units),
                    Next::Wait { ticket, .. } => drop(self.asks.insert(ticket.as_u64(), units)),
                    Next::Refuse(_) => self.turned_away += 1,
                    Next::Done(_) => panic!(),
                }
            }
            What::Left(account) => {
                let limiter = &mut self.limiters[account];
                limiter.used = limiter.used.saturating_sub(1);
            }
            What::Answer(lease, units) => {
                let used = Used { input_tokens: ns_of(units / 1e9), ..Used::default() };
                let done = Outcome { used: Some(used), ..outcome(End::Done) };
                assert!(matches!(self.w.policy.finish(self.w.now(), lease, done), Next::Done(_)));
            }
        }
    }

    /// Units admitted between two instants.
    pub(super) fn served(&self, from: f64, to: f64) -> f64 {
        self.admitted.iter().filter(|(t, _)| (from..to).contains(t)).map(|(_, u)| u).sum()
    }

    pub(super) fn wasted(&self) -> f64 {
        self.denied.len() as f64 / self.admitted.len() as f64
    }
}

/// What the limits could admit in so many seconds, all together, from the start.
fn possible(limits: &[Limit], start_unix_s: f64, seconds: f64) -> f64 {
    let one = |l: &Limit| match *l {
        Limit::Bucket(n, r) => n + r * seconds,
        Limit::Window(n, p) => {
            n * (((start_unix_s + seconds) / p).floor() - (start_unix_s / p).floor() + 1.0)
        }
        Limit::WindowFromUse(n, p) => n * (seconds / p).ceil(),
        Limit::Slots(_) => f64::INFINITY,
    };
    limits.iter().map(one).sum()
}

/// What came of a trial.
#[derive(Clone, Copy, Debug)]
struct Came {
    /// Of what the limits could admit, from the start, and after the first third.
    cold: f64,
    warm: f64,
    /// Refusals by limits for each answer.
    wasted: f64,
    /// Requests that clients had back.
    away: usize,
}

/// Poisson arrivals over accounts with these limits, with deadlines that nobody can miss.
fn trial(limits: &[Limit], says: Says, per_s: f64, seconds: f64, seed: u64) -> Came {
    let mut h = Hidden::over(fleet(u32::try_from(limits.len()).unwrap(), &[]), limits, says, seed);
    h.arrivals(per_s, seconds, seconds * 2.0);
    h.run();
    let could = |to: f64| possible(limits, 1_003.3, to).min(h.arrived as f64);
    let third = seconds / 3.0;
    let came = Came {
        cold: h.served(0.0, seconds) / could(seconds),
        warm: h.served(third, seconds) / (could(seconds) - could(third)).max(1.0),
        wasted: h.wasted(),
        away: h.turned_away,
    };
    println!("{:?} {says:?} {came:.3?}", limits[0]);
    came
}

/// The worst of some seeds must be as good as this.
#[track_caller]
fn at_least(limits: &[Limit], says: Says, (per_s, seconds): (f64, f64), cold: f64, warm: f64, wasted: f64) {
    for seed in 1..=3 {
        let came = trial(limits, says, per_s, seconds, seed);
        assert!(came.cold >= cold && came.warm >= warm, "{limits:?} {says:?} seed {seed}: {came:?}");
        assert!(came.wasted <= wasted && came.away == 0, "{limits:?} {says:?} seed {seed}: {came:?}");
    }
}

#[test]
fn windows_that_only_say_when_to_come_back_are_used_up_almost_without_refusals() {
    for limit in [Limit::Window(20.0, 10.0), Limit::WindowFromUse(20.0, 10.0)] {
        at_least(&[limit; 3], Says::Seconds, (7.8, 300.0), 0.99, 0.99, 0.015);
    }
    at_least(&[Limit::Window(60.0, 60.0); 3], Says::Seconds, (3.9, 600.0), 0.94, 0.99, 0.01);
}

#[test]
fn buckets_that_only_say_when_to_come_back_are_used_up_almost_without_refusals() {
    at_least(&[Limit::Bucket(20.0, 2.0); 3], Says::Seconds, (7.8, 300.0), 0.98, 0.98, 0.015);
    at_least(&[Limit::Bucket(60.0, 1.0); 3], Says::Seconds, (3.9, 600.0), 0.98, 0.98, 0.015);
}

#[test]
fn limits_that_say_nothing_at_all_are_learned() {
    at_least(&[Limit::Bucket(20.0, 2.0); 3], Says::Nothing, (7.8, 300.0), 0.98, 0.98, 0.015);
    at_least(&[Limit::Window(20.0, 10.0); 3], Says::Nothing, (7.8, 300.0), 0.95, 0.98, 0.02);
    at_least(&[Limit::Window(60.0, 60.0); 3], Says::Nothing, (3.9, 600.0), 0.94, 0.98, 0.015);
}

#[test]
fn unequal_accounts_of_all_shapes_are_learned_side_by_side() {
    let limits = [Limit::Window(10.0, 10.0), Limit::Bucket(30.0, 3.0), Limit::WindowFromUse(60.0, 10.0)];
    at_least(&limits, Says::Seconds, (13.0, 300.0), 0.98, 0.98, 0.01);
}

#[test]
fn a_flood_before_anything_is_known_costs_a_few_refusals_an_account() {
    // Drained in the first second, then 130 % of what comes back: little time to learn in.
    for (says, names) in [(Says::Seconds, Some(Dimension::Requests)), (Says::Nothing, None)] {
        for limit in [Limit::Bucket(100.0, 10.0), Limit::Window(100.0, 10.0)] {
            let mut h = Hidden::over(fleet(3, &[]), &[limit; 3], says, 1);
            h.names = names;
            h.arrivals(300.0, 1.0, 200.0);
            h.w.ns += SECOND;
            h.arrivals(39.0, 20.0, 200.0);
            h.w.ns -= SECOND;
            h.run();
            assert!(h.wasted() <= 0.04 && h.turned_away == 0, "{limit:?} {says:?}: {}", h.denied.len());
        }
    }
}

#[test]
fn so_many_at_a_time_are_learned_without_a_pause() {
    for (n, per_s) in [(8, 99.0), (2, 30.0)] {
        let limits = [Limit::Slots(n); 3];
        let mut h = Hidden::over(fleet(3, &[]), &limits, Says::Nothing, 1);
        h.takes_ms = (250, 60);
        h.arrivals(per_s, 100.0, 200.0);
        h.run();
        // A slot is taken for 0.28 s there, and 0.3 s as seen from here.
        let could = (f64::from(3 * n) / 0.3 * 100.0).min(h.arrived as f64);
        let goodput = h.served(0.0, 100.0) / could;
        assert!(goodput >= 0.85 && h.turned_away == 0, "{n}: {goodput} {}", h.turned_away);
        assert!(h.wasted() <= 0.015, "{n}: {}", h.wasted());
    }
}

#[test]
fn so_many_at_a_time_that_are_named_cost_a_few_refusals_an_account() {
    let mut h = Hidden::over(fleet(3, &[]), &[Limit::Slots(8); 3], Says::Nothing, 1);
    h.names = Some(Dimension::Concurrent);
    h.takes_ms = (278, 1);
    h.arrivals(99.0, 15.0, 200.0);
    h.run();
    assert!(h.denied.len() <= 30, "{}", h.denied.len());
}

#[test]
fn a_restart_in_the_middle_of_overload_draws_no_burst_of_refusals() {
    for limit in [Limit::Window(20.0, 10.0), Limit::Bucket(20.0, 2.0)] {
        let refused = |saves: bool| {
            let f = fleet(3, &[]);
            let mut h = Hidden::over(f.clone(), &[limit; 3], Says::Nothing, 1);
            h.arrivals(7.8, 120.0, 20.0);
            h.run();
            let (before, saved) = (h.denied.len(), h.w.policy.save(h.w.now()));
            let ns = h.w.ns;
            h.w = World::seeded(f, 2);
            h.w.ns = ns;
            if saves {
                h.w.policy.resume(h.w.now(), &saved);
            }
            h.arrivals(7.8, 60.0, 200.0);
            h.run();
            h.denied.len() - before
        };
        let (with, without) = (refused(true), refused(false));
        assert!(with <= 9 && without > with + 5, "{limit:?}: {with} of {without}");
    }
}

#[test]
fn a_bucket_that_only_says_when_to_come_back_is_not_stormed_while_it_is_learned() {
    let mut h = Hidden::over(fleet(1, &[]), &[Limit::Bucket(180.0, 18.0)], Says::Seconds, 1);
    h.arrivals(90.0, 2.0, 200.0);
    h.arrivals(30.0, 18.0, 200.0);
    h.run();
    assert!(h.wasted() <= 0.05, "{:?} of {}", h.denied, h.admitted.len());
}

#[test]
fn what_refusals_that_say_the_same_give_back_is_not_taken_for_room() {
    for seed in 1..=3 {
        let mut h = Hidden::over(fleet(3, &[]), &[Limit::Bucket(100.0, 10.0); 3], Says::Seconds, seed);
        h.takes_ms = (278, 1);
        h.arrivals(150.0, 2.0, 200.0);
        h.arrivals(39.0, 20.0, 200.0);
        h.run();
        assert!(h.wasted() <= 0.035, "{} of {}", h.denied.len(), h.admitted.len());
    }
}
