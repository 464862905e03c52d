//! The cost of an admissible candidate, by strategy. Knows numbers only.

use crate::fleet::Strategy;
use crate::rng::Rng;
use std::cmp::Ordering;

/// Where a candidate stands in its tier, and its target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    pub(super) member: u32,
    pub(super) slot: u32,
    pub(super) target: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Offer {
    pub(super) spot: Spot,
    pub(super) probe: bool,
    pub(super) avoid: bool,
    pub(super) load: f64,
    /// The time to the first output as it was last, and how often that has halved since.
    pub(super) first_output: Option<f64>,
    pub(super) halvings: f64,
    pub(super) weight: f64,
    pub(super) ramp: f64,
    pub(super) errors: f64,
    pub(super) pressure: f64,
    pub(super) affinity: f64,
    pub(super) pass: f64,
}

/// The least cost wins; ties go to who has waited longest for a turn, then to chance.
pub(super) fn decide(
    offers: &[Offer],
    strategy: Strategy,
    first_attempt: bool,
    rng: &mut Rng,
) -> Option<(Spot, bool)> {
    let fastest = offers.iter().filter_map(|o| o.first_output).fold(f64::INFINITY, f64::min);
    let fastest = if fastest.is_finite() { fastest.max(1.0) } else { 1.0 };
    let mut best: Option<(Rank, &Offer)> = None;
    for o in offers {
        let probe = match (o.probe, first_attempt) {
            (false, _) => 1,
            // Somebody has to probe, and a first attempt can still go elsewhere after it.
            (true, true) => 0,
            (true, false) => 2,
        };
        let cost = o.cost(strategy, fastest);
        let rank = Rank { probe, avoid: o.avoid, cost, pass: o.pass, chance: rng.below(1 << 20) };
        if best.as_ref().is_none_or(|(b, _)| rank.is_before(b)) {
            best = Some((rank, o));
        }
    }
    best.map(|(_, o)| (o.spot, o.probe))
}

impl Offer {
    fn cost(&self, strategy: Strategy, fastest: f64) -> f64 {
        // What is not asked is forgiven, but nobody is slower for that.
        let speed = match self.first_output {
            Some(ns) if ns > fastest => (ns * (-self.halvings).exp2()).max(fastest),
            _ => fastest,
        };
        match strategy {
            Strategy::Headroom => {
                // Twice the fastest is the noise of a healthy target.
                let slow = (speed / (2.0 * fastest)).max(1.0);
                // Slow start: its share of what the others carry; where those are idle, one at a time.
                let load = self.load / self.ramp + 1.0;
                load * slow * self.errors / self.weight * self.pressure * self.affinity
            }
            // The stride decides.
            Strategy::RoundRobin | Strategy::Weighted => 0.0,
            Strategy::LeastInFlight => (self.load / self.ramp + 1.0) / self.weight,
            Strategy::Fastest => speed * self.errors / self.ramp,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Rank {
    probe: u8,
    avoid: bool,
    cost: f64,
    pass: f64,
    chance: usize,
}

impl Rank {
    fn is_before(&self, other: &Self) -> bool {
        // Costs that differ by rounding only are equal.
        let near =
            |a: f64, b: f64, off: f64| if (a - b).abs() <= off { Ordering::Equal } else { a.total_cmp(&b) };
        (self.probe, self.avoid)
            .cmp(&(other.probe, other.avoid))
            .then_with(|| near(self.cost, other.cost, 1e-9 * other.cost.abs()))
            .then_with(|| near(self.pass, other.pass, 1e-9))
            .then(self.chance.cmp(&other.chance))
            .is_lt()
    }
}
