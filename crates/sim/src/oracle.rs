//! What was possible: an oracle that knows every limit, every size, every fault and every stranger beforehand. It
//! shares no code with the scheduler and none with the providers' limiters, or the proof would prove itself.
//!
//! Three questions, three answers. How much could have been answered at most: a fluid bound from the limits alone. How
//! soon: a clairvoyant FIFO that books each request at the earliest instant at which any account admits it. How much
//! to whom: max-min shares, by filling all clients up evenly (Bertsekas and Gallager, Data Networks, 6.5.2).

pub(crate) mod fifo;
mod limit;

use crate::run::Record;
use crate::spec::{Count, Scenario};
use crate::time::{MS, s_of};
use keymux_provider::{FaultKind, FaultSpec};
pub(crate) use limit::{admits, charge};

/// Instants at which the fluid bound is looked at.
const GRID: usize = 60;
/// Sets of routes are looked at one by one, so there may not be many.
const ROUTES_MAX: usize = 8;

/// Mean size of a request in every dimension.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mean {
    pub(crate) input: f64,
    pub(crate) output: f64,
    pub(crate) cap: f64,
    /// How long one is in flight, in seconds.
    pub(crate) held_s: f64,
}

/// What was possible.
#[derive(Clone, Debug, Default)]
pub(crate) struct Oracle {
    /// The most that could have been answered, in the scenario's units.
    pub(crate) possible: f64,
    /// What each client could have had under max-min fairness.
    pub(crate) shares: Vec<f64>,
    pub(crate) fifo: fifo::Fifo,
}

/// Whether a set of routes holds this one. Routes beyond the first few are in none.
fn holds(set: usize, route: usize) -> bool {
    route < ROUTES_MAX && set >> route & 1 == 1
}

/// One request, as the oracle counts it.
struct Offer {
    at_s: f64,
    route: usize,
    client: usize,
    amount: f64,
}

/// How long a request may wait (for ever, if its caller comes back), and until when sending counts: the scenario's end.
/// What is sent after it only tells how deep the queue was then.
pub(crate) fn horizon_s(scenario: &Scenario) -> (f64, f64) {
    let returns = scenario.traffic.iter().any(|t| t.comes_back > 0);
    let lines = scenario.traffic.iter().flat_map(|t| &t.lines).filter_map(|l| l.deadline_ms);
    let longest = scenario.traffic.iter().map(|t| t.deadline_ms).chain(lines).max().unwrap_or(0);
    (if returns { f64::INFINITY } else { longest as f64 / 1e3 }, scenario.seconds)
}

/// What a request counts.
pub(crate) fn amount(count: Count, input: u64) -> f64 {
    match count {
        Count::Requests => 1.0,
        Count::Tokens => input as f64,
    }
}

/// Asks the oracle.
pub(crate) fn ask(scenario: &Scenario, record: &Record, seed: u64) -> Oracle {
    let counted = |r: &&crate::run::Req| {
        let traffic = &scenario.traffic[r.source];
        let own = traffic.poison || traffic.wrong || r.deadline_ns == 0;
        // Who may still wait when counting begins can be sent after that.
        let from_s = scenario.count_from_s - s_of(r.patience_ns);
        let from_s = if scenario.count_from_s > 0.0 { from_s } else { 0.0 };
        r.returns == 0 && !own && s_of(r.came_ns) >= from_s
    };
    let offers: Vec<Offer> = record
        .reqs
        .iter()
        .filter(counted)
        .map(|r| Offer {
            at_s: s_of(r.came_ns),
            route: r.route as usize,
            client: usize::try_from(r.client).unwrap_or(0),
            amount: amount(scenario.count, r.input),
        })
        .collect();
    let mean = mean(record);
    let per_request = match scenario.count {
        Count::Requests => 1.0,
        Count::Tokens => mean.input.max(1.0),
    };
    let caps = Caps::new(record, mean, per_request);
    Oracle {
        possible: caps.possible(scenario, &offers),
        shares: caps.shares(scenario, record, &offers),
        fifo: fifo::run(scenario, record, seed),
    }
}

fn mean(record: &Record) -> Mean {
    let (mut sum, mut n, mut answered) = (Mean::default(), 0.0_f64, 0.0_f64);
    for r in record.reqs.iter().filter(|r| r.returns == 0) {
        n += 1.0;
        sum.input += r.input as f64;
        sum.output += r.output as f64;
        sum.cap += r.max_tokens.unwrap_or(4_096) as f64;
        if r.fate == crate::run::Fate::Answered {
            answered += 1.0;
            sum.held_s += s_of(r.ended_ns.saturating_sub(r.last_sent_ns));
        }
    }
    let n = n.max(1.0);
    Mean {
        input: sum.input / n,
        output: sum.output / n,
        cap: sum.cap / n,
        held_s: sum.held_s / answered.max(1.0),
    }
}

/// What each account admits over time.
struct Caps<'a> {
    record: &'a Record,
    mean: Mean,
    per_request: f64,
    /// Strangers' requests by account, in order of time: when, and how many requests of ours they weigh.
    strangers: Vec<Vec<f64>>,
    /// The models that each account is asked for.
    models: Vec<Vec<&'a str>>,
}

impl<'a> Caps<'a> {
    fn new(record: &'a Record, mean: Mean, per_request: f64) -> Self {
        let mut strangers = vec![Vec::new(); record.sides.accounts.len()];
        for (account, at, ..) in &record.tally.strangers {
            strangers[*account].push(s_of(*at));
        }
        let mut models = vec![Vec::new(); record.sides.accounts.len()];
        for (account, model) in record.sides.routes.iter().flat_map(|r| &r.accounts) {
            models[*account].push(&**model);
        }
        Self { record, mean, per_request, strangers, models }
    }

    /// What an account admits of ours between two instants, at most, in the scenario's units.
    fn of(&self, account: usize, from_s: f64, to_s: f64) -> f64 {
        let a = &self.record.sides.accounts[account];
        let up = up_s(&a.faults, from_s, to_s);
        let share = (up / (to_s - from_s).max(1e-9)).min(1.0);
        if share <= 0.0 {
            return 0.0;
        }
        let taken = &self.strangers[account];
        let others = taken.partition_point(|t| *t <= to_s) - taken.partition_point(|t| *t < from_s);
        let mut least = f64::INFINITY;
        // A limit of some models bounds what all models get only where there is one.
        for l in a.limits.iter().filter(|l| self.models[account].iter().all(|model| l.applies_to(model))) {
            let need = charge(l.dimension, &a.charging, self.mean);
            if need > 0.0 {
                let all = admits(l, from_s, to_s, share, self.mean.held_s) / need;
                // What a stranger's call takes is told by its own size only roughly; requests are exact.
                least = least.min((all - others as f64).max(0.0));
            }
        }
        least * self.per_request
    }

    fn of_routes(&self, set: usize, from_s: f64, to_s: f64) -> f64 {
        let routes = &self.record.sides.routes;
        let mut accounts: Vec<usize> = (0..routes.len().min(ROUTES_MAX))
            .filter(|r| holds(set, *r))
            .flat_map(|r| routes[r].accounts.iter().map(|(a, _)| *a))
            .collect();
        accounts.sort_unstable();
        accounts.dedup();
        accounts.iter().map(|a| self.of(*a, from_s, to_s)).sum()
    }

    fn sets(&self) -> usize {
        1 << self.record.sides.routes.len().min(ROUTES_MAX)
    }

    /// No more can be answered than, for any set of routes and any span of time, what comes outside of the span or on
    /// other routes, and what the limits admit from the span's begin to the last deadline in it.
    fn possible(&self, scenario: &Scenario, offers: &[Offer]) -> f64 {
        let (deadline, end) = horizon_s(scenario);
        let begin = scenario.count_from_s;
        let step = (scenario.seconds - begin) / GRID as f64;
        let mut least = f64::INFINITY;
        for set in 0..self.sets() {
            // What comes in each slice on the routes of the set, and on others.
            let mut slices = vec![0.0; GRID];
            let mut others = 0.0;
            for o in offers {
                if holds(set, o.route) {
                    let slice = (0..GRID).rev().find(|i| o.at_s >= begin + *i as f64 * step).unwrap_or(0);
                    slices[slice] += o.amount;
                } else {
                    others += o.amount;
                }
            }
            let total: f64 = slices.iter().sum();
            least = least.min(total + others);
            for from in 0..GRID {
                let mut inside = 0.0;
                for (to, amount) in slices.iter().enumerate().skip(from) {
                    inside += amount;
                    let last = (begin + (to + 1) as f64 * step + deadline).min(end);
                    let admitted = self.of_routes(set, begin + from as f64 * step, last);
                    least = least.min(others + total - inside + admitted.min(inside));
                }
            }
        }
        least
    }

    /// Max-min shares: all clients are filled up evenly until their demand is met or a set of routes that they belong
    /// to is full.
    fn shares(&self, scenario: &Scenario, record: &Record, offers: &[Offer]) -> Vec<f64> {
        let clients = record.tally.clients.len();
        let mut demand = vec![0.0; clients];
        for o in offers {
            demand[o.client] += o.amount;
        }
        let route: Vec<usize> = record.tally.clients.iter().map(|c| c.route).collect();
        let end = scenario.seconds;
        let caps: Vec<f64> =
            (0..self.sets()).map(|set| self.of_routes(set, scenario.count_from_s, end)).collect();
        fill(&demand, &route, &caps)
    }
}

/// Max-min shares of clients with demands, each on a route, where each set of routes (by bits) has a capacity.
fn fill(demand: &[f64], route: &[usize], caps: &[f64]) -> Vec<f64> {
    let mut share = vec![0.0; demand.len()];
    let mut frozen = vec![false; demand.len()];
    while frozen.iter().any(|f| !f) {
        let fits = |level: f64| {
            let got = |c: usize| if frozen[c] { share[c] } else { demand[c].min(level) };
            caps.iter().enumerate().skip(1).all(|(set, cap)| {
                let sum: f64 = (0..demand.len()).filter(|c| holds(set, route[*c])).map(got).sum();
                sum <= cap + 1e-6
            })
        };
        let top = demand.iter().copied().fold(0.0, f64::max);
        let (mut low, mut high) = (0.0, top);
        if fits(top) {
            low = top;
        } else {
            for _ in 0..60 {
                let middle = f64::midpoint(low, high);
                if fits(middle) { low = middle } else { high = middle }
            }
        }
        // Who is content, and who sits on a full set of routes, has its share.
        let got: Vec<f64> =
            (0..demand.len()).map(|c| if frozen[c] { share[c] } else { demand[c].min(low) }).collect();
        let full = |set: usize| {
            let sum: f64 = (0..demand.len()).filter(|c| holds(set, route[*c])).map(|c| got[c]).sum();
            sum >= caps[set] * (1.0 - 1e-6) - 1e-6
        };
        let tight: Vec<usize> = (1..caps.len()).filter(|set| full(*set)).collect();
        let mut moved = false;
        for c in 0..demand.len() {
            let stuck = demand[c] <= low || tight.iter().any(|set| holds(*set, route[c]));
            if !frozen[c] && stuck {
                (share[c], frozen[c], moved) = (got[c], true, true);
            }
        }
        if !moved {
            return got;
        }
    }
    share
}

/// Seconds of a span in which an account is of use: a fault that always strikes takes it away, one that strikes
/// sometimes takes its share.
fn up_s(faults: &[FaultSpec], from_s: f64, to_s: f64) -> f64 {
    let mut lost = 0.0;
    for f in faults.iter().filter(|f| is_deadly(&f.kind) && f.from_call.is_none() && f.to_call.is_none()) {
        let begin = s_of(f.from_ms.saturating_mul(MS)).max(from_s);
        let end = f.to_ms.map_or(f64::INFINITY, |ms| s_of(ms.saturating_mul(MS))).min(to_s);
        lost += (end - begin).max(0.0) * f.probability;
    }
    (to_s - from_s - lost).max(0.0)
}

/// Whether a call that meets the fault is never answered.
pub(crate) fn is_deadly(kind: &FaultKind) -> bool {
    !matches!(
        kind,
        FaultKind::Slow { .. } | FaultKind::Queued { .. } | FaultKind::Drip { .. } | FaultKind::Gzip
    )
}

/// The instant after an account's deadly faults, from `ns` on; `None` if it never comes back.
pub(crate) fn up_again(faults: &[FaultSpec], ns: u64) -> Option<u64> {
    let mut at = ns;
    loop {
        let hit = faults.iter().find(|f| {
            let counted = f.from_call.is_some() || f.to_call.is_some() || f.probability < 0.3;
            let from = f.from_ms.saturating_mul(MS);
            !counted
                && is_deadly(&f.kind)
                && from <= at
                && f.to_ms.is_none_or(|to| at < to.saturating_mul(MS))
        });
        match hit {
            None => return Some(at),
            Some(f) => at = f.to_ms?.saturating_mul(MS),
        }
    }
}

/// How many times slower an account is at an instant.
pub(crate) fn slowness(faults: &[FaultSpec], ns: u64) -> f64 {
    let now = |f: &&FaultSpec| {
        f.from_ms.saturating_mul(MS) <= ns && f.to_ms.is_none_or(|to| ns < to.saturating_mul(MS))
    };
    faults
        .iter()
        .filter(now)
        .map(|f| if let FaultKind::Slow { factor } = f.kind { factor } else { 1.0 })
        .fold(1.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_max_min_and_what_one_leaves_goes_to_the_others() {
        // One route with room for 100: small demands are met, the rest is split.
        let near = |got: Vec<f64>, want: [f64; 3]| {
            assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-3), "{got:?}");
        };
        near(fill(&[10.0, 90.0, 90.0], &[0, 0, 0], &[0.0, 100.0]), [10.0, 45.0, 45.0]);
        // Two routes: the first alone has 30, both together 100.
        near(fill(&[90.0, 90.0, 20.0], &[0, 1, 1], &[0.0, 30.0, 100.0, 100.0]), [30.0, 50.0, 20.0]);
        // Nobody is short.
        assert_eq!(fill(&[1.0, 2.0], &[0, 0], &[0.0, 100.0]), [1.0, 2.0]);
    }

    #[test]
    fn a_fault_that_always_strikes_takes_the_account_away_for_its_time() {
        let fault = |kind, from_ms, to_ms, probability| FaultSpec {
            from_ms,
            to_ms,
            probability,
            ..FaultSpec::always(kind)
        };
        let dead = [fault(FaultKind::BadKey, 10_000, Some(20_000), 1.0)];
        assert!((up_s(&dead, 0.0, 30.0) - 20.0).abs() < 1e-9);
        assert_eq!(up_again(&dead, 15_000 * MS), Some(20_000 * MS));
        let half = [fault(FaultKind::Hang, 0, None, 0.5)];
        assert!((up_s(&half, 0.0, 30.0) - 15.0).abs() < 1e-9);
        let slow = [fault(FaultKind::Slow { factor: 10.0 }, 0, Some(5_000), 1.0)];
        assert!((up_s(&slow, 0.0, 30.0) - 30.0).abs() < 1e-9);
        assert!((slowness(&slow, 1) - 10.0).abs() < 1e-9 && (slowness(&slow, 6_000 * MS) - 1.0).abs() < 1e-9);
    }
}
