//! What a rate limit does: it is a measurement, which sets a clock, and never a failure of the key. A limit that is
//! known and explains the refusal is lowered; else there is one that nobody told of, which is learned.

use super::{Rule, STATED_MIN_NS};
use crate::Policy;
use crate::blame::Class;
use crate::event::What;
use crate::fleet::{Dimension, ModelSet};
use crate::gate::PROBE_EVERY_NS;
use crate::outcome::{Evidence, LimitScope, Sign};
use crate::quota::{Domain, Heard, Learner, Meter, Need, Source, learn};
use crate::request::{Probe, Request};
use crate::time::{DAY, Now, SECOND};

const QUOTA: Rule = Rule { class: Class::Quota, cooldown: (SECOND, 60 * SECOND), by_probe: false };

/// A limit that a refusal told of.
#[derive(Clone, Copy, Debug)]
struct Told {
    scope: LimitScope,
    dimension: Option<Dimension>,
    /// The size that it named.
    size: Option<f64>,
    stated_ns: Option<u64>,
}

impl Policy {
    /// Notes a request where no limit is known, for the case that one comes to light. Tells how many are in flight
    /// beside it.
    pub(crate) fn watch(&mut self, now: Now, target: usize, need: &Need) -> Option<u32> {
        let at = self.pool.targets[target].account_model;
        let am = &mut self.pool.account_models[at];
        if !am.domains.is_empty() {
            return None;
        }
        let beside = am.watch.get_or_insert_default().sent(now.mono_ns, need);
        am.contact.sent(now.mono_ns, beside);
        Some(beside)
    }

    /// A request ended: what it was charged in truth is noted wherever it was noted.
    pub(crate) fn note_end(&mut self, request: &Request, actual: &Need, refused: bool) {
        let f = &request.flight;
        for held in &request.held {
            let Some(domain) = self.pool.domain_mut(held.domain, held.serial) else { continue };
            if !refused {
                domain.doubt.answered();
            }
            if let Some(learner) = &mut domain.learner {
                learner.history.ended(f.sent, &f.need, actual, f.beside, refused);
            }
        }
        if !f.watched {
            return;
        }
        let am = self.pool.targets[f.target].account_model;
        let am = &mut self.pool.account_models[am];
        if let Some(watch) = &mut am.watch {
            watch.ended(f.sent, &f.need, actual, f.beside, refused);
            return;
        }
        // Its watch became a learner's history.
        let domains = &mut self.pool.domains;
        let heir = am.domains.iter().find(|d| domains[**d].learner.is_some()).copied();
        if let Some(learner) = heir.and_then(|d| domains[d].learner.as_mut()) {
            learner.history.ended(f.sent, &f.need, actual, f.beside, refused);
        }
    }

    pub(super) fn over_quota(&mut self, now: Now, request: &mut Request, evidence: &Evidence) {
        let target = request.flight.target;
        let (mut scope, mut dimension, mut daily, mut money) = (LimitScope::Account, None, false, true);
        if let Sign::RateLimited { dimension: named, scope: s, daily: d } = evidence.sign {
            (scope, dimension, daily, money) = (s, named, d, false);
        }
        if let (Some(charge), Some(dimension)) = (evidence.requested, dimension) {
            let t = &self.pool.targets[target];
            let (model, provider) = (t.model, self.pool.provider(t.provider));
            let charging = provider.charging;
            // By a rule that was found out, somebody else's use may look like ours.
            if charging == provider.charging_told {
                self.pool.models[model].stats.learn_charge(&request.ask.size, charging, dimension, charge);
            }
        }
        let mut stated = evidence.retry_after_ns.filter(|s| *s > 0);
        if daily && stated.is_none() {
            stated = Some(DAY - now.unix_ns % DAY);
        }
        let far = stated.is_some_and(|after| after > PROBE_EVERY_NS);
        let told =
            Told { scope, dimension, size: evidence.limit, stated_ns: stated.map(|s| s.max(STATED_MIN_NS)) };
        // A day's limit that gives again in a moment is enforced in slices of it: those are the limit.
        if !(money || far) && scope != LimitScope::Key {
            // Where one is known already that only refusals tell of, it hears of this one too.
            if !self.lower(now, request, &told) || self.learner_of(target, scope).is_some() {
                self.learn_refusal(now, request, &told);
            }
            return;
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
            let what = What::QuotaShut { account: t.account, model, dimension, until_mono_ns: until };
            self.events.push(now, what);
        }
    }

    /// Lowers the known limits that explain the refusal. False: none does.
    fn lower(&mut self, now: Now, request: &Request, told: &Told) -> bool {
        let mut explained = false;
        let domains: Vec<usize> = self.pool.domains_of(request.flight.target).collect();
        for at in domains {
            let domain = &mut self.pool.domains[at];
            let named = told.dimension.is_none_or(|d| d == domain.dimension);
            if !named || domain.daily || domain.learner.is_some() {
                continue;
            }
            let need = request.flight.need.of(domain.dimension);
            if learn::refused(domain, now, need, told.dimension.is_some(), told.stated_ns) {
                let doubtful = domain.doubt.refused(now.mono_ns, request.flight.sent);
                explained |= domain.source != Source::Learned || !doubtful;
            }
        }
        explained
    }

    /// A limit that nobody told of: what is known of it grows with each refusal.
    fn learn_refusal(&mut self, now: Now, request: &Request, told: &Told) {
        let f = &request.flight;
        let at = match self.learner_of(f.target, told.scope) {
            Some(at) => at,
            None => self.new_learner(f.target, told.scope),
        };
        let serial = self.pool.serial();
        let heard = Heard {
            sent: f.sent,
            need: &f.need,
            beside: f.beside,
            dimension: told.dimension,
            size: told.size,
            stated_ns: told.stated_ns,
            whole_seconds: told.stated_ns.is_some_and(|ns| ns % SECOND == 0),
        };
        let domain = &mut self.pool.domains[at];
        let was = domain.learner.as_ref().and_then(|l| l.shut_until(now.mono_ns));
        domain.refused(now, &heard, &mut self.rng, serial);
        let (account, dimension, size) = (domain.account, domain.dimension, domain.size());
        let shut = domain.learner.as_ref().and_then(|l| l.shut_until(now.mono_ns));
        if domain.is_founded() && size.is_finite() {
            self.events.push(now, What::LimitLearned { account, dimension, size });
        }
        if let Some(until_mono_ns) = shut.filter(|until| Some(*until) != was) {
            let t = &self.pool.targets[f.target];
            let wide = matches!(told.scope, LimitScope::Account | LimitScope::AccountFreeModels);
            let model = (!wide).then(|| self.pool.models[t.model].name.clone());
            let what = What::QuotaShut { account, model, dimension: told.dimension, until_mono_ns };
            self.events.push(now, what);
        }
    }

    fn learner_of(&self, target: usize, scope: LimitScope) -> Option<usize> {
        let t = &self.pool.targets[target];
        let models = self.learned_for(target, scope);
        let mut domains = self.pool.account_models[t.account_model].domains.iter().copied();
        domains.find(|d| self.pool.domains[*d].learner.is_some() && self.pool.domains[*d].models == models)
    }

    /// The models that a limit of this scope covers.
    fn learned_for(&self, target: usize, scope: LimitScope) -> ModelSet {
        let name = &self.pool.models[self.pool.targets[target].model].name;
        match scope {
            LimitScope::Account => ModelSet::default(),
            LimitScope::AccountFreeModels => ModelSet(vec!["*:free".into()]),
            LimitScope::AccountModel | LimitScope::Unknown | LimitScope::Key => {
                ModelSet(vec![Box::from(&**name)])
            }
        }
    }

    fn new_learner(&mut self, target: usize, scope: LimitScope) -> usize {
        let t = &self.pool.targets[target];
        let (am, account) = (t.account_model, t.account);
        let models = self.learned_for(target, scope);
        let wide = matches!(scope, LimitScope::Account | LimitScope::AccountFreeModels);
        let history = self.pool.account_models[am].watch.take().map_or_else(Default::default, |w| *w);
        let serial = self.pool.serial();
        let dimension = Dimension::Requests;
        let mut domain = Domain::new(account, dimension, models, Source::Learned, Meter::Open, serial);
        domain.learner = Some(Box::new(Learner::new(history)));
        let at = self.pool.domains.insert(domain);
        if wide {
            self.pool.account_mut(account).domains.push(at);
            self.pool.rematch_account(account);
        } else {
            self.pool.account_models[am].domains.push(at);
        }
        at
    }
}
