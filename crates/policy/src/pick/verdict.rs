//! What stands against one candidate: gates and limits, until when, and which of them binds.

use super::Query;
use crate::fleet::Dimension;
use crate::gate::{PROBE_EVERY_NS, Pass};
use crate::lease::Why;
use crate::pool::Pool;
use crate::quota::{Meter, Need, Turn};
use crate::time::SECOND;

/// What stands against one candidate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verdict {
    pub(super) now: u64,
    pub(super) at: u64,
    pub(super) soft: bool,
    pub(super) forecast: u64,
    /// The forecast without what is only guessed of slots.
    pub(super) sure: u64,
    pub(super) why: Option<Why>,
    pub(super) domain: Option<usize>,
    pub(super) probe: bool,
    pub(super) utilisation: f64,
    /// Of limits of total tokens.
    pub(super) tokens_used: f64,
    pub(super) too_large: Option<(usize, f64)>,
}

impl Verdict {
    pub(super) fn new(now: u64) -> Self {
        Self {
            now,
            at: now,
            soft: false,
            forecast: now,
            sure: now,
            why: None,
            domain: None,
            probe: false,
            utilisation: 0.0,
            tokens_used: 0.0,
            too_large: None,
        }
    }

    pub(super) fn blocked(&self) -> bool {
        self.soft || self.at > self.now
    }

    pub(super) fn gate(&mut self, pass: Pass, why: Why) {
        match pass {
            Pass::Open => {}
            Pass::Probe => self.probe = true,
            Pass::Shut { until, soft } => {
                if self.why.is_none() || until > self.at {
                    (self.why, self.domain) = (Some(why), None);
                }
                self.soft |= soft;
                self.at = self.at.max(until);
                self.forecast = self.forecast.max(until);
                self.sure = self.sure.max(until);
            }
        }
    }

    pub(super) fn domains(&mut self, pool: &Pool, domains: &[usize], need: &Need, q: &Query<'_>, turn: Turn) {
        for index in domains {
            let domain = &pool.domains[*index];
            let amount = need.of(domain.dimension);
            if !q.line.waits()
                && !self.blocked()
                && let Some(utilisation) = domain.fits_easily(q.now, amount)
            {
                self.uses(domain.dimension, utilisation);
                continue;
            }
            let fit = domain.fit(q.now, amount, q.id, q.order);
            if fit.at == u64::MAX && amount > domain.size() {
                self.too_large = Some((*index, amount));
            }
            if (fit.soft || fit.at > self.now) && (self.why.is_none() || fit.at > self.at) {
                (self.why, self.domain) = (Some(Why::Limit(domain.dimension)), Some(*index));
            }
            self.soft |= fit.soft;
            self.at = self.at.max(fit.at);
            if q.line.waits() || self.blocked() {
                let ahead = (domain.queued * q.ahead.0, q.ahead.1);
                let at = domain.forecast(q.now, ahead, amount, turn.ns);
                if at > self.forecast && self.why.is_none() {
                    (self.why, self.domain) = (Some(Why::Limit(domain.dimension)), Some(*index));
                }
                self.forecast = self.forecast.max(at);
                let guessed = !turn.founded && matches!(domain.meter, Meter::Slots { limit: 1.., .. });
                if !guessed && domain.is_founded() {
                    self.sure = self.sure.max(at);
                }
            }
            self.uses(domain.dimension, domain.utilisation(q.now, amount));
        }
    }

    fn uses(&mut self, dimension: Dimension, utilisation: f64) {
        self.utilisation = self.utilisation.max(utilisation);
        if dimension == Dimension::TotalTokens {
            self.tokens_used = self.tokens_used.max(utilisation);
        }
    }

    /// How long something blocked is not drawn again; what comes back earlier is opened by whoever releases it, and
    /// what is shut for longer may want a probe.
    pub(super) fn park_until(&self) -> u64 {
        if self.at > self.now { self.at.min(self.now + PROBE_EVERY_NS) } else { self.now + SECOND }
    }
}

/// What came of looking at a group.
pub(super) enum Seen {
    Hit,
    Blocked(u64),
    /// Nothing here for this request, whatever the time.
    Nothing,
}

pub(super) fn best_of(a: Seen, b: Seen) -> Seen {
    match (a, b) {
        (Seen::Hit, _) | (_, Seen::Hit) => Seen::Hit,
        (Seen::Blocked(a), Seen::Blocked(b)) => Seen::Blocked(a.min(b)),
        (Seen::Blocked(a), Seen::Nothing) | (Seen::Nothing, Seen::Blocked(a)) => Seen::Blocked(a),
        (Seen::Nothing, Seen::Nothing) => Seen::Nothing,
    }
}
