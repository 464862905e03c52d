//! What clients and their teams may use: requests and tokens a minute, requests at once. The meters are those of the
//! providers' limits ([`crate::quota`]), so both kinds come back, round and refuse alike.
//!
//! A request passes all limits of its payers or none. Who waits for whom stands in [`crate::tenants`]. Knows no route,
//! key or money.

use crate::budget::{Owner, Payers};
use crate::fleet::{AccountId, Dimension, LimitSpec};
use crate::quota::{Domain, Meter};
use crate::time::{Now, ns_of};
use std::collections::BTreeMap;

/// What a request that was let through holds of its limits. It comes back through [`Throttle::finish`] exactly once.
#[derive(Debug)]
#[must_use = "a pass must be finished, or its slots leak"]
pub struct Pass {
    id: u64,
}

/// The answer to a client's request.
#[derive(Debug)]
pub enum Gate {
    /// It may go on.
    Go(Pass),
    /// Not now.
    Wait(Short),
    /// It is larger than the whole limit: it never may.
    TooLarge(Short),
}

/// A limit that is short.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Short {
    /// Whose.
    pub owner: Owner,
    /// Of what.
    pub dimension: Dimension,
    /// The size of the limit.
    pub limit: f64,
    /// When there is room, if nobody else takes it (monotonic): the true time for `Retry-After`. `None`: when one of
    /// this owner's requests ends.
    pub at_mono_ns: Option<u64>,
}

/// A limit as it stands: the numbers of `x-ratelimit-limit-…`, `-remaining-…` and `-reset-…`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing {
    /// Of what.
    pub dimension: Dimension,
    /// Units in a minute.
    pub limit: f64,
    /// Whole units that are left now; never below zero.
    pub remaining: f64,
    /// Until the limit is whole again.
    pub reset_ns: u64,
}

/// What a request held: of whose domain (by serial number), which period, how much.
type Taken = (Owner, u64, u64, f64);

/// The limits of all clients and teams.
#[derive(Debug, Default)]
pub struct Throttle {
    limits: BTreeMap<Owner, Vec<Domain>>,
    open: BTreeMap<u64, Vec<Taken>>,
    next: u64,
    serial: u64,
}

impl Throttle {
    /// Gives an owner these limits. What it used of one that stays, stays used. None: it has no limits.
    pub fn set(&mut self, now: Now, owner: Owner, specs: &[LimitSpec]) {
        let mut old = self.limits.remove(&owner).unwrap_or_default();
        let mut domains = Vec::with_capacity(specs.len());
        for spec in specs {
            let kept = old.iter().position(|domain| domain.same_as(spec)).map(|at| old.swap_remove(at));
            domains.push(if let Some(mut domain) = kept {
                domain.reshape(now, &spec.shape);
                domain
            } else {
                self.serial += 1;
                // Clients have no account at a provider; the number is not looked at here.
                Domain::declared(AccountId(0), spec, now, self.serial)
            });
        }
        if !domains.is_empty() {
            self.limits.insert(owner, domains);
        }
    }

    /// Whether a request of about so many tokens (input and output together) may go on now.
    pub fn admit(&mut self, now: Now, payers: Payers, tokens: f64) -> Gate {
        self.check(now, payers, tokens).unwrap_or_else(|| Gate::Go(self.take(now, payers, tokens)))
    }

    /// What [`Throttle::admit`] would say, if it is not yes.
    pub(crate) fn check(&self, now: Now, payers: Payers, tokens: f64) -> Option<Gate> {
        let mut short: Option<Short> = None;
        for owner in payers.owners() {
            for domain in self.limits.get(&owner).into_iter().flatten() {
                let need = need(domain.dimension, tokens);
                let fit = domain.fit(now, need, 0, (0, 0, 0));
                if fit.at <= now.mono_ns && !fit.soft {
                    continue;
                }
                let (dimension, limit) = (domain.dimension, domain.size());
                let at_mono_ns = (!fit.soft).then_some(fit.at);
                let this = Short { owner, dimension, limit, at_mono_ns };
                if fit.at == u64::MAX {
                    return Some(Gate::TooLarge(this));
                }
                // The last of them to have room; one whose time nobody knows counts as the last.
                let last = |s: &Short| s.at_mono_ns.unwrap_or(u64::MAX);
                short = Some(short.filter(|s| last(s) >= last(&this)).unwrap_or(this));
            }
        }
        short.map(Gate::Wait)
    }

    /// When an owner's limits have room for a request behind `ahead` others that need so many tokens together
    /// (monotonic), as far as time tells; `None`: it has no limit that comes back with time.
    pub(crate) fn forecast(&self, now: Now, owner: Owner, ahead: (f64, f64), tokens: f64) -> Option<u64> {
        let domains = self.limits.get(&owner).into_iter().flatten();
        let timed = domains.filter(|domain| domain.dimension != Dimension::Concurrent);
        timed
            .map(|domain| {
                let before = if domain.dimension == Dimension::Requests { ahead.0 } else { ahead.1 };
                domain.forecast(now, (before, 0.0), need(domain.dimension, tokens), 0)
            })
            .max()
    }

    pub(crate) fn take(&mut self, now: Now, payers: Payers, tokens: f64) -> Pass {
        let mut taken = Vec::new();
        for owner in payers.owners() {
            for domain in self.limits.get_mut(&owner).into_iter().flatten() {
                let need = need(domain.dimension, tokens);
                let epoch = domain.take(now, need);
                taken.push((owner, domain.serial, epoch, need));
            }
        }
        let id = self.next;
        self.next += 1;
        self.open.insert(id, taken);
        Pass { id }
    }

    /// Ends a request: its slots come back, its tokens are settled to what it used. `None`: nobody knows, and what was
    /// taken stays taken. Whoever waits for a slot of its payers is to be asked again.
    #[expect(clippy::needless_pass_by_value, reason = "a pass that was finished must be gone")]
    pub fn finish(&mut self, now: Now, pass: Pass, used_tokens: Option<f64>) {
        for (owner, serial, epoch, taken) in self.open.remove(&pass.id).unwrap_or_default() {
            let domains = self.limits.get_mut(&owner).into_iter().flatten();
            for domain in domains.filter(|domain| domain.serial == serial) {
                let used = match domain.dimension {
                    Dimension::Requests => taken,
                    Dimension::Concurrent => 0.0,
                    _ => used_tokens.unwrap_or(taken),
                };
                domain.settle(now, epoch, taken, used);
            }
        }
    }

    /// A request that never began gives everything back.
    #[expect(clippy::needless_pass_by_value, reason = "a pass that was given back must be gone")]
    pub(crate) fn undo(&mut self, now: Now, pass: Pass) {
        for (owner, serial, epoch, taken) in self.open.remove(&pass.id).unwrap_or_default() {
            let domains = self.limits.get_mut(&owner).into_iter().flatten();
            for domain in domains.filter(|domain| domain.serial == serial) {
                domain.settle(now, epoch, taken, 0.0);
            }
        }
    }

    /// How the limits of requests and tokens stand that bind a client first, its team's included.
    pub fn standing(&self, now: Now, payers: Payers) -> Vec<Standing> {
        let mut list: Vec<Standing> = Vec::new();
        for domain in payers.owners().filter_map(|owner| self.limits.get(&owner)).flatten() {
            let Meter::Bucket(bucket) = &domain.meter else { continue };
            let level = bucket.level(now.mono_ns);
            let reset_ns = ns_of((bucket.capacity - level) / bucket.rate);
            let remaining = level.max(0.0).floor();
            let this = Standing { dimension: domain.dimension, limit: bucket.capacity, remaining, reset_ns };
            match list.iter_mut().find(|s| s.dimension == this.dimension) {
                Some(other) if other.remaining > this.remaining => *other = this,
                Some(_) => {}
                None => list.push(this),
            }
        }
        list
    }
}

fn need(dimension: Dimension, tokens: f64) -> f64 {
    match dimension {
        Dimension::Requests | Dimension::Concurrent => 1.0,
        _ => tokens,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::{ClientId, TeamId};
    use crate::fleet::{ModelSet, Shape};
    use crate::time::SECOND;

    const CLIENT: Owner = Owner::Client(ClientId(1));
    const TEAM: Owner = Owner::Team(TeamId(1));

    fn at(mono_ns: u64) -> Now {
        Now { mono_ns, unix_ns: mono_ns }
    }

    fn who() -> Payers {
        Payers { client: ClientId(1), team: Some(TeamId(1)) }
    }

    fn per_minute(dimension: Dimension, n: f64) -> LimitSpec {
        let shape = Shape::Bucket { capacity: n, refill_per_s: n / 60.0 };
        LimitSpec { dimension, shape, models: ModelSet::default(), preset: false }
    }

    fn slots(limit: u32) -> LimitSpec {
        let shape = Shape::Slots { limit };
        LimitSpec { dimension: Dimension::Concurrent, shape, models: ModelSet::default(), preset: false }
    }

    #[track_caller]
    fn go(throttle: &mut Throttle, now: Now, tokens: f64) -> Pass {
        match throttle.admit(now, who(), tokens) {
            Gate::Go(pass) => pass,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn short(throttle: &mut Throttle, now: Now, tokens: f64) -> Short {
        match throttle.admit(now, who(), tokens) {
            Gate::Wait(short) => short,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_time_that_is_told_is_the_first_at_which_it_goes() {
        let mut throttle = Throttle::default();
        throttle.set(at(0), CLIENT, &[per_minute(Dimension::TotalTokens, 6_000.0)]);
        let pass = go(&mut throttle, at(0), 6_000.0);
        throttle.finish(at(0), pass, None);
        let when = short(&mut throttle, at(0), 500.0).at_mono_ns.unwrap();
        assert!(when.abs_diff(5 * SECOND + 30_000_000) < 1_000, "{when}");
        assert!(matches!(throttle.admit(at(when - 1_000_000), who(), 500.0), Gate::Wait(_)));
        let pass = go(&mut throttle, at(when), 500.0);
        throttle.finish(at(when), pass, None);
        assert!(matches!(throttle.admit(at(when), who(), 6_001.0), Gate::TooLarge(s) if s.owner == CLIENT));
    }

    #[test]
    fn a_team_short_of_room_takes_nothing_from_the_client() {
        let mut throttle = Throttle::default();
        throttle.set(at(0), CLIENT, &[per_minute(Dimension::Requests, 60.0), slots(5)]);
        throttle.set(at(0), TEAM, &[slots(1)]);
        let pass = go(&mut throttle, at(0), 1.0);
        for _ in 0..100 {
            let found = short(&mut throttle, at(0), 1.0);
            assert_eq!((found.owner, found.at_mono_ns), (TEAM, None));
        }
        let standing = throttle.standing(at(0), who());
        assert_eq!((standing.len(), standing[0].remaining.to_bits()), (1, 59.0_f64.to_bits()));
        assert_eq!(standing[0].reset_ns, SECOND);
        throttle.finish(at(0), pass, None);
        let pass = go(&mut throttle, at(0), 1.0);
        throttle.finish(at(0), pass, None);
    }

    #[test]
    fn tokens_are_settled_and_a_reload_forgets_nothing() {
        let mut throttle = Throttle::default();
        throttle.set(at(0), CLIENT, &[per_minute(Dimension::TotalTokens, 6_000.0)]);
        let left = |throttle: &Throttle| throttle.standing(at(0), who())[0].remaining;
        let (one, two) = (go(&mut throttle, at(0), 2_000.0), go(&mut throttle, at(0), 3_000.0));
        throttle.finish(at(0), one, Some(500.0));
        assert!((left(&throttle) - 2_500.0).abs() < 1.0);
        throttle.set(at(0), CLIENT, &[per_minute(Dimension::TotalTokens, 12_000.0), slots(1)]);
        assert!((left(&throttle) - 8_500.0).abs() < 1.0);
        throttle.finish(at(0), two, Some(4_000.0));
        assert!((left(&throttle) - 7_500.0).abs() < 1.0);
        throttle.set(at(0), CLIENT, &[]);
        assert!(throttle.standing(at(0), who()).is_empty());
    }
}
