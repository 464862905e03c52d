//! What a rate limit does: it is a measurement, which sets a clock, and never a failure of the key.

use super::{Rule, STATED_MIN_NS};
use crate::Policy;
use crate::blame::Class;
use crate::event::What;
use crate::gate::PROBE_EVERY_NS;
use crate::outcome::{Evidence, LimitScope, Sign};
use crate::quota::{Meter, learn};
use crate::request::{Probe, Request};
use crate::time::{DAY, Now, SECOND};

const QUOTA: Rule = Rule { class: Class::Quota, cooldown: (SECOND, 60 * SECOND), by_probe: false };

impl Policy {
    /// A rate limit: a measurement, which sets a clock. A limit that is known and named gets its level set so that
    /// this request fits at the stated time; else the scope that was named is shut until then.
    pub(super) fn over_quota(&mut self, now: Now, request: &mut Request, evidence: &Evidence) {
        let target = request.flight.target;
        let (mut scope, mut named, mut daily) = (LimitScope::Account, None, false);
        if let Sign::RateLimited { dimension, scope: s, daily: d } = evidence.sign {
            (scope, named, daily) = (s, dimension, d);
        }
        let mut stated = evidence.retry_after_ns.filter(|s| *s > 0);
        if let (Some(dimension), Some(after), false) = (named, stated, daily)
            && dimension != crate::fleet::Dimension::Requests
            && after <= PROBE_EVERY_NS
            && self.lower(now, request, dimension, after)
        {
            return;
        }
        if daily && stated.is_none() {
            stated = Some(DAY - now.unix_ns % DAY);
        }
        let probe = match scope {
            LimitScope::Key => Probe::KeyQuota,
            LimitScope::Account => Probe::AccountQuota,
            LimitScope::AccountFreeModels => Probe::AccountFree,
            LimitScope::AccountModel | LimitScope::Unknown => Probe::ModelQuota,
        };
        if let Some(until) = self.punish(now, request, probe, stated, &QUOTA) {
            let t = &self.pool.targets[target];
            let model = matches!(probe, Probe::ModelQuota).then(|| self.pool.models[t.model].name.clone());
            let what = What::QuotaShut { account: t.account, model, dimension: named, until_mono_ns: until };
            self.events.push(now, what);
        }
    }

    fn lower(&mut self, now: Now, request: &Request, dimension: crate::fleet::Dimension, after: u64) -> bool {
        let mut known = false;
        let domains: Vec<usize> = self.pool.domains_of(request.flight.target).collect();
        for at in domains {
            let domain = &mut self.pool.domains[at];
            if domain.dimension == dimension && !domain.daily && matches!(domain.meter, Meter::Bucket(_)) {
                let need = request.flight.need.of(dimension);
                known |=
                    learn::refused(domain, now, need, now.mono_ns.saturating_add(after.max(STATED_MIN_NS)));
            }
        }
        known
    }
}
