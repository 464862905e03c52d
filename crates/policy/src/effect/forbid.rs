//! A key that may not do this: is it the key, or what was asked? A provider that forbids a request for what it says
//! (a region, a rule of its own) forbids it to every key. So the first refusal benches its key for the model; when
//! another key is refused alike, the benches are taken back, and it counts once, against the model at the provider.
//! Should a further key then accept the same request, it was the keys after all.

use super::{KEY, Valve, valve};
use crate::Policy;
use crate::blame::Class;
use crate::correlate::Way;
use crate::event::What;
use crate::outcome::Evidence;
use crate::request::{Forbidden, Probe, Request};
use crate::time::Now;

impl Policy {
    /// The key may not do this with this model: others go on.
    pub(super) fn forbidden(&mut self, now: Now, request: &mut Request, evidence: &Evidence) {
        let target = request.flight.target;
        let alike = self.forbidden_alike(request, target);
        if !request.flight.probes.contains(&Probe::TargetBench)
            && self.is_known_poison(now, request, Way::Forbidden)
        {
            request.forbidden.push(Forbidden { target, benched: false });
            return;
        }
        if request.flight.probes.contains(&Probe::TargetBench) || alike.is_empty() {
            let benched = self.bench_target(now, request, evidence);
            request.forbidden.push(Forbidden { target, benched });
            return;
        }
        request.forbidden.push(Forbidden { target, benched: false });
        for at in &alike {
            let one = &mut request.forbidden[*at];
            if std::mem::take(&mut one.benched)
                && let Valve::Gate(gate) = valve(&mut self.pool, one.target, Probe::TargetBench)
                && gate.open()
            {
                self.restored(now, one.target, Probe::TargetBench);
            }
        }
        let pm = self.pool.targets[target].provider_model;
        let settings = &self.pool.settings.breaker;
        let breaker = &mut self.pool.provider_models[pm].breaker;
        let opened = if request.flight.probes.contains(&Probe::ModelBreaker) {
            request.flight.probes.retain(|p| *p != Probe::ModelBreaker);
            Some(breaker.probe_failed(now.mono_ns, settings, &mut self.rng))
        } else if alike.len() == 1 {
            let print = crate::ghosts::print(&request.ask, request.route);
            self.poisons.note(now.mono_ns, print, pm, Way::Forbidden);
            breaker.failure(now.mono_ns, request.flight.sent, settings, &mut self.rng)
        } else {
            None
        };
        if let Some(until) = opened {
            self.model_opened(now, target, until);
        }
    }

    /// Where among the request's own refusals those of the same model at the same provider stand.
    fn forbidden_alike(&self, request: &Request, target: usize) -> Vec<usize> {
        let pm = self.pool.targets[target].provider_model;
        let same = |one: &Forbidden| {
            one.target != target && self.pool.targets.get(one.target).is_some_and(|t| t.provider_model == pm)
        };
        (0..request.forbidden.len()).filter(|at| same(&request.forbidden[*at])).collect()
    }

    fn bench_target(&mut self, now: Now, request: &mut Request, evidence: &Evidence) -> bool {
        let key = self.pool.targets[request.flight.target].key;
        let until = self.punish(now, request, Probe::TargetBench, evidence.retry_after_ns, &KEY);
        if let Some(until) = until {
            self.events.push(now, What::KeyBenched { key, why: Class::Key, until_mono_ns: until });
        }
        until.is_some()
    }

    /// A key accepted what others may not do: theirs is the fault.
    pub(super) fn forbidden_elsewhere(&mut self, now: Now, request: &mut Request) {
        if request.forbidden.is_empty() {
            return;
        }
        let alike = self.forbidden_alike(request, request.flight.target);
        for at in alike {
            let one = &mut request.forbidden[at];
            if std::mem::replace(&mut one.benched, true) {
                continue;
            }
            let Valve::Gate(gate) = valve(&mut self.pool, one.target, Probe::TargetBench) else { continue };
            let until =
                now.mono_ns.saturating_add(gate.strike(KEY.cooldown.0, KEY.cooldown.1, &mut self.rng));
            if gate.shut_for_probe(now.mono_ns, until, Class::Key) {
                let key = self.pool.targets[one.target].key;
                self.events.push(now, What::KeyBenched { key, why: Class::Key, until_mono_ns: until });
            }
        }
    }
}
