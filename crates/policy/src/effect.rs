//! What a verdict does to the health of keys, accounts, models and providers. Each class touches exactly what it
//! speaks of; request-class outcomes touch nothing.

mod forbid;
mod quota;

use crate::Policy;
use crate::blame::Class;
use crate::breaker::Breaker;
use crate::correlate::{self, Strike, Way};
use crate::event::What;
use crate::gate::{Gate, Pass};
use crate::health::Ewma;
use crate::outcome::{Evidence, Sign};
use crate::pool::Pool;
use crate::request::{Crash, Probe, Request};
use crate::time::{MINUTE, MS, Now, SECOND};

/// Stated times shorter than this are rounded up to it: a provider that says "now" is not to be hammered.
pub(crate) const STATED_MIN_NS: u64 = 100 * MS;

/// How long a class shuts what it speaks of, and how that opens again.
pub(crate) struct Rule {
    pub(crate) class: Class,
    /// The first cool-down where no time is stated, and the longest.
    pub(crate) cooldown: (u64, u64),
    /// By a probe only, or by itself.
    by_probe: bool,
}

pub(crate) const KEY: Rule = Rule { class: Class::Key, cooldown: (MINUTE, 60 * MINUTE), by_probe: true };
pub(crate) const ACCOUNT: Rule =
    Rule { class: Class::Account, cooldown: (MINUTE, 60 * MINUTE), by_probe: true };
const CAPACITY: Rule = Rule { class: Class::Capacity, cooldown: (SECOND, 30 * SECOND), by_probe: true };

enum Valve<'a> {
    Gate(&'a mut Gate),
    Breaker(&'a mut Breaker),
}

fn valve(pool: &mut Pool, target: usize, probe: Probe) -> Valve<'_> {
    let t = &pool.targets[target];
    let (key, account, provider, am, pm) = (t.key, t.account, t.provider, t.account_model, t.provider_model);
    match probe {
        Probe::Provider => Valve::Breaker(&mut pool.provider_mut(provider).breaker),
        Probe::ModelBreaker => Valve::Breaker(&mut pool.provider_models[pm].breaker),
        Probe::TargetBreaker => Valve::Breaker(&mut pool.targets[target].breaker),
        Probe::Capacity => Valve::Gate(&mut pool.provider_models[pm].capacity),
        Probe::AccountBench => Valve::Gate(&mut pool.account_mut(account).bench),
        Probe::AccountQuota => Valve::Gate(&mut pool.account_mut(account).quota),
        Probe::AccountFree => Valve::Gate(&mut pool.account_mut(account).free),
        Probe::ModelQuota => Valve::Gate(&mut pool.account_models[am].quota),
        Probe::KeyBench => Valve::Gate(&mut pool.key_mut(key).bench),
        Probe::KeyQuota => Valve::Gate(&mut pool.key_mut(key).quota),
        Probe::TargetBench => Valve::Gate(&mut pool.targets[target].bench),
    }
}

impl Policy {
    pub(crate) fn pass_of(&mut self, target: usize, probe: Probe, now: u64) -> Pass {
        let free = self.pool.models[self.pool.targets[target].model].free;
        if probe == Probe::AccountFree && !free {
            return Pass::Open;
        }
        match valve(&mut self.pool, target, probe) {
            Valve::Gate(g) => g.pass(now),
            Valve::Breaker(b) => b.pass(now),
        }
    }

    pub(crate) fn begin_probe(&mut self, now: Now, target: usize, probe: Probe) {
        match valve(&mut self.pool, target, probe) {
            Valve::Gate(g) => g.begin_probe(),
            Valve::Breaker(b) => b.begin_probe(),
        }
        if probe == Probe::TargetBreaker {
            let t = &self.pool.targets[target];
            let what = What::BreakerHalfOpen { key: t.key, model: self.pool.models[t.model].name.clone() };
            self.events.push(now, what);
        }
    }

    /// Probes that proved nothing: the next request may try.
    pub(crate) fn end_probes(&mut self, now: Now, request: &mut Request) {
        for probe in request.flight.probes.drain(..) {
            match valve(&mut self.pool, request.flight.target, probe) {
                Valve::Gate(g) => g.end_probe(now.mono_ns),
                Valve::Breaker(b) => b.end_probe(now.mono_ns),
            }
        }
    }

    /// Output came: whatever stood in the way of this attempt is open. A breaker that closes by it opens again should
    /// the attempt fail after all; waiting for the end of a long answer would keep everybody else out.
    pub(crate) fn accepted(&mut self, now: Now, request: &mut Request) {
        if std::mem::replace(&mut request.flight.accepted, true) {
            return;
        }
        let (target, sent) = (request.flight.target, request.flight.sent);
        self.pool.targets[target].silent = 0;
        for probe in crate::admit::PROBES {
            let probed = request.flight.probes.contains(&probe);
            let opened = match valve(&mut self.pool, target, probe) {
                Valve::Breaker(b) => probed && b.probe_ok(now.mono_ns),
                Valve::Gate(g) if probed => g.open(),
                Valve::Gate(g) => g.went_well(now.mono_ns, sent),
            };
            if opened {
                if probe == Probe::TargetBreaker {
                    request.flight.closed_breaker = true;
                    // It comes back by slow start: what failures made of its speed is not held against it once more.
                    self.pool.targets[target].first_output = <[Ewma; 2]>::default();
                }
                self.restored(now, target, probe);
            }
        }
        request.flight.probes.clear();
        let am = self.pool.targets[target].account_model;
        if request.flight.watched && self.pool.account_models[am].contact.answered(request.flight.beside) {
            self.release(self.pool.targets[target].account, None);
        }
        self.forbidden_elsewhere(now, request);
        let provider = self.pool.targets[target].provider;
        self.pool.provider_mut(provider).trouble.success();
    }

    fn restored(&mut self, now: Now, target: usize, probe: Probe) {
        let t = &self.pool.targets[target];
        let (key, account, model) = (t.key, t.account, self.pool.models[t.model].name.clone());
        let what = match probe {
            Probe::Provider => Some(What::ProviderClosed { provider: t.provider }),
            Probe::TargetBreaker => Some(What::BreakerClosed { key, model }),
            Probe::Capacity | Probe::ModelBreaker => {
                Some(What::CapacityRestored { provider: t.provider, model })
            }
            Probe::AccountBench => Some(What::AccountRestored { account }),
            Probe::KeyBench | Probe::TargetBench => Some(What::KeyRestored { key }),
            Probe::AccountQuota | Probe::AccountFree | Probe::ModelQuota | Probe::KeyQuota => None,
        };
        if let Some(what) = what {
            self.events.push(now, what);
        }
        self.release(account, Some(key));
    }

    /// The attempt was answered to its end.
    pub(crate) fn went_well(&mut self, now: Now, request: &mut Request) {
        self.accepted(now, request);
        if !self.poisons.is_empty() {
            self.poisons.forget(crate::ghosts::print(&request.ask, request.route));
        }
        let (target, sent) = (request.flight.target, request.flight.sent);
        let settings = &self.pool.settings.breaker;
        let t = &mut self.pool.targets[target];
        t.breaker.success(now.mono_ns, sent, settings);
        t.ok_at = Some(now.mono_ns);
        self.pool.provider_models[t.provider_model].breaker.success(now.mono_ns, sent, settings);
        let (key, account, provider) = (t.key, t.account, t.provider);
        let key = self.pool.key_mut(key);
        key.counts.ok += 1;
        key.proven |= sent >= key.secret.1;
        let account = &mut self.pool.accounts[account.0 as usize];
        account.counts.ok += 1;
        let second = &mut account.tried_second;
        let provider = &mut self.pool.providers[provider.0 as usize];
        provider.counts.ok += 1;
        provider.trouble.tried(now.mono_ns, second);
        provider.trouble.success();
    }

    /// The attempt failed. Every class but the request's own leaves its mark where it belongs.
    pub(crate) fn went_badly(&mut self, now: Now, request: &mut Request, class: Class, evidence: &Evidence) {
        let target = request.flight.target;
        let way = correlate::way(class, evidence);
        let of_old_secret = class == Class::Key
            && request.flight.sent < self.pool.key(self.pool.targets[target].key).secret.1;
        if of_old_secret || way.is_some_and(|way| self.is_old_trouble(request, way)) {
            self.end_probes(now, request);
            return;
        }
        if self.provider_probed(now, request, class, way) {
            return;
        }
        match class {
            Class::Request | Class::Client | Class::Local | Class::Provider => {}
            Class::Quota => self.over_quota(now, request, evidence),
            Class::Key if evidence.sign == Sign::KeyForbidden => self.forbidden(now, request, evidence),
            Class::Key => self.bench_key(now, request, evidence),
            Class::Account => self.bench_account(now, request, evidence),
            Class::Capacity => self.shut_capacity(now, request, evidence),
            Class::Target => self.fail_target(now, request, evidence),
        }
        self.end_probes(now, request);
        if let Some(way) = way {
            self.correlate(now, target, way, request);
        }
    }

    /// Every attempt ends in one of the counts, whatever it does to anybody's health.
    pub(crate) fn count_failed(&mut self, target: usize, class: Class) {
        let t = &self.pool.targets[target];
        let (key, account, provider) = (t.key, t.account, t.provider);
        self.pool.key_mut(key).counts.fail(class);
        self.pool.account_mut(account).counts.fail(class);
        self.pool.provider_mut(provider).counts.fail(class);
    }

    /// The provider was found to be down in this way after the attempt was sent: nothing new.
    fn is_old_trouble(&self, request: &Request, way: Way) -> bool {
        let provider = self.pool.targets[request.flight.target].provider;
        let down = self.pool.provider(provider).down;
        down.is_some_and(|(known, since)| known == way && request.flight.sent < since)
    }

    /// The attempt probed its provider's breaker: the same trouble keeps it shut, any answer of another kind shows
    /// that the provider lives. True: nothing is left to judge.
    fn provider_probed(&mut self, now: Now, request: &mut Request, class: Class, way: Option<Way>) -> bool {
        if !request.flight.probes.contains(&Probe::Provider) {
            return false;
        }
        let provider = self.pool.targets[request.flight.target].provider;
        let same = match self.pool.provider(provider).down {
            Some((known, _)) => way == Some(known) || class == Class::Target,
            None => class == Class::Target,
        };
        if same {
            let settings = &self.pool.settings.breaker;
            let p = &mut self.pool.providers[provider.0 as usize];
            let until = p.breaker.probe_failed(now.mono_ns, settings, &mut self.rng);
            p.down = p.down.map(|(known, _)| (known, now.mono_ns));
            request.flight.probes.retain(|p| *p != Probe::Provider);
            self.events.push(now, What::ProviderOpened { provider, until_mono_ns: until });
            self.end_probes(now, request);
            return true;
        }
        if !matches!(class, Class::Client | Class::Local) {
            request.flight.probes.retain(|p| *p != Probe::Provider);
            if self.pool.provider_mut(provider).breaker.probe_ok(now.mono_ns) {
                self.restored(now, request.flight.target, Probe::Provider);
            }
        }
        false
    }

    /// Shuts a gate after a failure: until the stated time, or for a cool-down that doubles from `first` to
    /// `longest`. `None`: it says nothing new.
    fn punish(
        &mut self,
        now: Now,
        request: &mut Request,
        probe: Probe,
        stated: Option<u64>,
        rule: &Rule,
    ) -> Option<u64> {
        let Rule { class, cooldown, by_probe } = *rule;
        let (target, sent, mono) = (request.flight.target, request.flight.sent, now.mono_ns);
        let probed = request.flight.probes.contains(&probe);
        request.flight.probes.retain(|p| *p != probe);
        let Valve::Gate(gate) = valve(&mut self.pool, target, probe) else { return None };
        let stated = stated.filter(|s| *s > 0).map(|s| mono.saturating_add(s.max(STATED_MIN_NS)));
        if probed {
            let until = stated
                .unwrap_or_else(|| mono.saturating_add(gate.strike(cooldown.0, cooldown.1, &mut self.rng)));
            gate.probe_failed(mono, until);
            if stated.is_some() {
                gate.probe_between(mono);
            }
            return Some(gate.until());
        }
        // What was sent before it shut can only extend a stated time.
        if stated.is_none() && !gate.is_news(mono, sent) {
            return None;
        }
        let until =
            stated.unwrap_or_else(|| mono.saturating_add(gate.strike(cooldown.0, cooldown.1, &mut self.rng)));
        let moved = if by_probe {
            gate.shut_for_probe(mono, until, class)
        } else {
            gate.shut_until(mono, until, class)
        };
        if moved && stated.is_some() {
            gate.probe_between(mono);
        }
        moved.then_some(gate.until())
    }

    fn bench_key(&mut self, now: Now, request: &mut Request, evidence: &Evidence) {
        let key = self.pool.targets[request.flight.target].key;
        if let Some(until) = self.punish(now, request, Probe::KeyBench, evidence.retry_after_ns, &KEY) {
            self.events.push(now, What::KeyBenched { key, why: Class::Key, until_mono_ns: until });
        }
    }

    fn bench_account(&mut self, now: Now, request: &mut Request, evidence: &Evidence) {
        let account = self.pool.targets[request.flight.target].account;
        let stated = evidence.retry_after_ns;
        if let Some(until) = self.punish(now, request, Probe::AccountBench, stated, &ACCOUNT) {
            self.events
                .push(now, What::AccountBenched { account, why: Class::Account, until_mono_ns: until });
        }
    }

    fn shut_capacity(&mut self, now: Now, request: &mut Request, evidence: &Evidence) {
        let t = &self.pool.targets[request.flight.target];
        let (provider, model) = (t.provider, self.pool.models[t.model].name.clone());
        let stated = evidence.retry_after_ns;
        if let Some(until) = self.punish(now, request, Probe::Capacity, stated, &CAPACITY) {
            self.events.push(now, What::CapacityShut { provider, model, until_mono_ns: until });
        }
    }

    /// A failure in the breaker of key x model. The same request failing alike on two targets counts once, against
    /// the model at the provider: a poisonous request must not take keys down.
    fn fail_target(&mut self, now: Now, request: &mut Request, evidence: &Evidence) {
        let (target, sent) = (request.flight.target, request.flight.sent);
        let took = now.mono_ns.saturating_sub(sent);
        let way = correlate::way(Class::Target, evidence).unwrap_or(Way::Server);
        let stream = usize::from(request.ask.stream);
        if !request.flight.first_output && self.pool.targets[target].breaker.is_news(now.mono_ns, sent) {
            self.pool.targets[target].first_output[stream].add_failure(now.mono_ns, took);
        }
        if evidence.sign == Sign::FirstByteTimeout && request.ask.stream {
            let class = crate::health::size_class(request.ask.size.input_tokens);
            let pm = self.pool.targets[target].provider_model;
            let learned = self.pool.provider_models[pm].first_byte.get_or_insert_default();
            learned[class].timed_out(now.mono_ns, took);
        }
        let was = self.pool.targets[target].breaker.is_open(now.mono_ns);
        if request.flight.closed_breaker {
            let t = &mut self.pool.targets[target];
            let until = t.breaker.trip(now.mono_ns, &self.pool.settings.breaker, &mut self.rng);
            self.breaker_opened(now, target, until);
        } else if request.flight.probes.contains(&Probe::TargetBreaker) {
            request.flight.probes.retain(|p| *p != Probe::TargetBreaker);
            let t = &mut self.pool.targets[target];
            let until = t.breaker.probe_failed(now.mono_ns, &self.pool.settings.breaker, &mut self.rng);
            self.breaker_opened(now, target, until);
        } else if let Some(first) = request.crash {
            self.fail_again(now, request, first, way);
        } else if self.is_known_poison(now, request, way) {
            request.alike = true;
            request.crash = Some(Crash { target, sent, at: now.mono_ns, way, counted: false });
        } else {
            let settings = &self.pool.settings.breaker;
            let opened =
                self.pool.targets[target].breaker.failure(now.mono_ns, sent, settings, &mut self.rng);
            request.crash = Some(Crash { target, sent, at: now.mono_ns, way, counted: true });
            if let Some(until) = opened {
                self.breaker_opened(now, target, until);
            }
        }
        let t = &mut self.pool.targets[target];
        if !was && t.breaker.is_open(now.mono_ns) {
            t.hangs = way == Way::Hang;
            self.hung += u64::from(t.hangs);
        }
        if request.flight.probes.contains(&Probe::ModelBreaker) {
            request.flight.probes.retain(|p| *p != Probe::ModelBreaker);
            let pm = self.pool.targets[target].provider_model;
            let settings = &self.pool.settings.breaker;
            let until =
                self.pool.provider_models[pm].breaker.probe_failed(now.mono_ns, settings, &mut self.rng);
            self.model_opened(now, target, until);
        }
    }

    /// The same request failed alike on two targets a moment ago: what it does to a third says nothing of that one.
    pub(super) fn is_known_poison(&mut self, now: Now, request: &mut Request, way: Way) -> bool {
        if request.poisonous || self.poisons.is_empty() {
            return request.poisonous;
        }
        let print = crate::ghosts::print(&request.ask, request.route);
        let pm = self.pool.targets[request.flight.target].provider_model;
        let known = self.poisons.knows(request.arrived, print, pm, way);
        if known {
            self.poisons.note(now.mono_ns, print, pm, way);
        }
        request.poisonous = known;
        known
    }

    /// A further failure of one request.
    fn fail_again(&mut self, now: Now, request: &mut Request, first: Crash, way: Way) {
        let (target, sent) = (request.flight.target, request.flight.sent);
        if first.target == target || request.alike {
            return;
        }
        let settings = &self.pool.settings.breaker.clone();
        let known = self.pool.targets.get(first.target).map(|t| t.provider_model);
        let pm = self.pool.targets[target].provider_model;
        if known != Some(pm) || first.way != way {
            let opened =
                self.pool.targets[target].breaker.failure(now.mono_ns, sent, settings, &mut self.rng);
            request.crash = Some(Crash { target, sent, at: now.mono_ns, way, counted: true });
            if let Some(until) = opened {
                self.breaker_opened(now, target, until);
            }
            return;
        }
        request.alike = true;
        let print = crate::ghosts::print(&request.ask, request.route);
        self.poisons.note(now.mono_ns, print, pm, way);
        if first.counted {
            self.pool.targets[first.target].breaker.forgive(first.at, settings);
        }
        if let Some(until) =
            self.pool.provider_models[pm].breaker.failure(now.mono_ns, first.sent, settings, &mut self.rng)
        {
            self.model_opened(now, target, until);
        }
        // Both served others while they failed this one, and hardly fail anybody else: it is the request.
        let fine = |t: &crate::pool::Target, sent: u64| {
            let (failed, total) = t.breaker.totals(now.mono_ns, settings);
            t.ok_at.is_some_and(|at| at > sent) && t.breaker.run() == 0 && failed * 10 <= total
        };
        if way == Way::Server
            && fine(&self.pool.targets[first.target], first.sent)
            && fine(&self.pool.targets[target], sent)
        {
            request.barred_models.push(pm);
        }
    }

    pub(crate) fn breaker_opened(&mut self, now: Now, target: usize, until: u64) {
        let t = &self.pool.targets[target];
        let (key, model) = (t.key, self.pool.models[t.model].name.clone());
        self.events.push(now, What::BreakerOpened { key, model, until_mono_ns: until, last: Class::Target });
    }

    fn model_opened(&mut self, now: Now, target: usize, until: u64) {
        let t = &self.pool.targets[target];
        let (provider, model) = (t.provider, self.pool.models[t.model].name.clone());
        self.events.push(now, What::CapacityShut { provider, model, until_mono_ns: until });
    }

    /// Is it the provider rather than the keys? Then its breaker opens, and what was held against them is undone.
    fn correlate(&mut self, now: Now, target: usize, way: Way, request: &Request) {
        let t = &self.pool.targets[target];
        let (account, provider) = (t.account, t.provider);
        let second = &mut self.pool.accounts[account.0 as usize].tried_second;
        let p = &mut self.pool.providers[provider.0 as usize];
        p.trouble.tried(now.mono_ns, second);
        let print = crate::ghosts::print(&request.ask, request.route);
        let strike = Strike {
            account,
            target,
            request: request.id,
            print,
            arrived: request.arrived,
            way,
            at: now.mono_ns,
        };
        if !p.trouble.failure(strike, p.accounts) || p.breaker.is_open(now.mono_ns) {
            return;
        }
        let until = p.breaker.trip(now.mono_ns, &self.pool.settings.breaker, &mut self.rng);
        p.down = Some((way, now.mono_ns));
        self.hung += u64::from(way == Way::Hang);
        let strikes = p.trouble.take(way);
        self.events.push(now, What::ProviderOpened { provider, until_mono_ns: until });
        for strike in strikes {
            if self.pool.targets.get(strike.target).is_none() {
                continue;
            }
            let probes: &[Probe] = match way {
                Way::Key => &[Probe::KeyBench],
                Way::Forbidden => &[Probe::TargetBench],
                Way::Money => &[Probe::AccountBench],
                Way::Server | Way::Connect | Way::Hang => &[Probe::TargetBreaker, Probe::ModelBreaker],
            };
            for probe in probes {
                let was = match valve(&mut self.pool, strike.target, *probe) {
                    Valve::Gate(g) => g.open(),
                    Valve::Breaker(b) => b.absolve(now.mono_ns),
                };
                if was {
                    self.restored(now, strike.target, *probe);
                }
            }
            if matches!(way, Way::Server | Way::Connect | Way::Hang) {
                self.pool.targets[strike.target].first_output = <[Ewma; 2]>::default();
            }
        }
    }
}
