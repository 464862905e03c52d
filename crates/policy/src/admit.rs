//! What the verbs share: looking for a target, taking all that a request needs there, and saying no with a true
//! time. Taking and leaving a place in the waiting room stands in `places`.

use crate::Policy;
use crate::blame::Class;
use crate::fleet::{AccountId, KeyId};
use crate::gate::Pass;
use crate::lease::{Lease, Skipped, Why};
use crate::pick::{self, Best, Line, Query, Scan, Wait};
use crate::refusal::{BindingLimit, Out, Refusal, RefusalKind};
use crate::request::{Flight, Last, Probe, Request, Reservation, rank};
use crate::time::{MS, Now};
use std::sync::Arc;

/// Candidates that a refusal names.
const OUT_MAX: usize = 3;

pub(crate) const PROBES: [Probe; 11] = [
    Probe::Provider,
    Probe::Capacity,
    Probe::ModelBreaker,
    Probe::AccountBench,
    Probe::AccountQuota,
    Probe::AccountFree,
    Probe::ModelQuota,
    Probe::KeyBench,
    Probe::KeyQuota,
    Probe::TargetBench,
    Probe::TargetBreaker,
];

impl Policy {
    /// Looks over the candidates of a request that stands so in line. `only`: just this target.
    pub(crate) fn look(&mut self, now: Now, request: &Request, line: Line, only: Option<usize>) -> Scan {
        let query = Query {
            now,
            ask: &request.ask,
            id: request.id,
            order: self.room.order(request),
            first_attempt: request.attempt == 0,
            tried: &request.tried,
            barred: &request.barred,
            barred_models: &request.barred_models,
            avoid: request.avoid,
            affine: self.affinity.find(request.conversation(), now.mono_ns),
            only,
            line,
            ahead: if line.waits() {
                self.room.ahead(now.mono_ns, request, &self.ghosts, line == Line::Kept)
            } else {
                (0.0, 0.0)
            },
        };
        let route = &mut self.routes.all[request.route];
        pick::look(&mut self.pool, route, request.route, &mut self.rng, &mut self.scratch, query)
    }

    /// Takes everything that the request needs at the chosen target.
    pub(crate) fn admit(
        &mut self,
        now: Now,
        mut request: Box<Request>,
        best: &Best,
        skipped: Vec<Skipped>,
    ) -> Lease {
        self.take_turn(now, &request, best);
        let target = best.target;
        let mut probes = std::mem::take(&mut request.flight.probes);
        probes.clear();
        for probe in PROBES.into_iter().filter(|_| best.probe) {
            if self.pass_of(target, probe, now.mono_ns) == Pass::Probe {
                self.begin_probe(now, target, probe);
                probes.push(probe);
            }
        }
        let domains = self.pool.domains_of(target);
        let taken =
            domains.map(|d| (d, best.need.of(self.pool.domains[d].dimension))).filter(|(_, n)| *n > 0.0);
        request.held.clear();
        request.held.extend(taken.map(|(domain, amount)| Reservation {
            domain,
            amount,
            serial: 0,
            epoch: 0,
            taken: 0.0,
            returned: 0.0,
            ahead: 0.0,
        }));
        let mut beside = None;
        for held in &mut request.held {
            let domain = &mut self.pool.domains[held.domain];
            held.ahead = domain.just_taken(now);
            held.epoch = domain.take(now, held.amount);
            domain.shares.add(now.mono_ns, rank(request.ask.class), held.amount);
            (held.serial, held.taken, held.returned) = (domain.serial, domain.taken, domain.returned);
            beside = beside.max(domain.sent(now, &best.need, held.amount));
        }
        let watched = self.watch(now, target, &best.need);
        self.count_in(target);
        request.attempt += 1;
        let probe = !probes.is_empty();
        request.flight = Flight {
            target,
            account: self.pool.targets[target].account.0,
            sent: now.mono_ns,
            need: best.need,
            probes,
            first_output: false,
            accepted: false,
            closed_breaker: false,
            live: true,
            beside: watched.or(beside).unwrap_or(0),
            watched: watched.is_some(),
            silent: false,
        };
        let t = &mut self.pool.targets[target];
        t.asked_at = now.mono_ns;
        self.affinity.served(request.conversation(), t.key, t.account, now.mono_ns);
        let model = &self.pool.models[t.model];
        let lease = Lease {
            slot: request.id,
            key: t.key,
            account: t.account,
            provider: t.provider,
            model: model.name.clone(),
            attempt: request.attempt,
            waited_ns: request.waited_ns,
            waited_for: request.place.waits_for,
            probe,
            input_tokens: model.stats.input_tokens(&request.ask.size),
            first_byte_timeout_ns: self.first_byte_timeout(now, &request, target),
            skipped,
        };
        self.requests.put_back(request);
        lease
    }

    fn first_byte_timeout(&self, now: Now, request: &Request, target: usize) -> Option<u64> {
        if !request.ask.stream {
            return None;
        }
        let pm = &self.pool.provider_models[self.pool.targets[target].provider_model];
        let class = crate::health::size_class(request.ask.size.input_tokens);
        pm.first_byte.as_ref()?[class].timeout_ns(now.mono_ns, request.spent().max(1))
    }

    /// Stride scheduling: the chosen one's next turn comes a stride later.
    fn take_turn(&mut self, now: Now, request: &Request, best: &Best) {
        let route = &mut self.routes.all[request.route];
        let weighted = route.strategy != crate::fleet::Strategy::RoundRobin;
        let tier = &mut route.tiers[best.tier];
        let member = &mut tier.members[best.member];
        let slot = &mut member.slots[best.slot];
        let ramp = self.pool.targets[best.target].breaker.ramp(now.mono_ns);
        let weight =
            if weighted { member.weight * self.pool.key(member.layout.keys[best.slot]).weight } else { 1.0 };
        let turn = slot.pass.max(tier.turn);
        slot.pass = turn + 1.0 / (weight * ramp).max(1e-6);
        tier.turn = turn;
    }

    fn count_in(&mut self, target: usize) {
        self.totals.in_flight += 1;
        let t = &mut self.pool.targets[target];
        t.in_flight += 1;
        let (key, account, provider, model) = (t.key, t.account, t.provider, t.model);
        self.pool.models[model].in_flight += 1;
        let key = self.pool.key_mut(key);
        key.in_flight += 1;
        key.counts.requests += 1;
        let account = self.pool.account_mut(account);
        account.in_flight += 1;
        account.counts.requests += 1;
        let provider = self.pool.provider_mut(provider);
        provider.in_flight += 1;
        provider.counts.requests += 1;
    }

    pub(crate) fn count_out(&mut self, flight: &Flight) {
        self.totals.in_flight -= 1;
        let t = &mut self.pool.targets[flight.target];
        t.in_flight -= 1;
        let (key, provider, model) = (t.key, t.provider, t.model);
        self.pool.models[model].in_flight -= 1;
        self.pool.key_mut(key).in_flight -= 1;
        self.pool.accounts[flight.account as usize].in_flight -= 1;
        self.pool.provider_mut(provider).in_flight -= 1;
    }

    /// Something of this account (or key) came back: what was parked for it may be drawn again, and waiters may look.
    pub(crate) fn release(&mut self, account: AccountId, key: Option<KeyId>) {
        let mut parked = std::mem::take(&mut self.pool.account_mut(account).parked);
        if let Some(key) = key {
            parked.append(&mut self.pool.key_mut(key).parked);
        }
        for park in &parked {
            if let Some(route) = self.routes.all.get_mut(park.route).filter(|r| r.serial == park.serial) {
                route.unpark(park);
            }
        }
        if parked.capacity() <= 64 {
            parked.clear();
            self.pool.account_mut(account).parked = parked;
        }
        self.room.touch();
    }

    /// Ends a request: its identity is gone.
    pub(crate) fn close(&mut self, request: Box<Request>) {
        if let Some(route) = self.routes.all.get_mut(request.route) {
            route.busy -= 1;
            let gone = route.busy == 0 && route.tiers.is_empty();
            if gone {
                self.routes.all.remove(request.route);
            }
        }
        self.requests.close(request);
    }

    /// No, and when it makes sense to come back.
    pub(crate) fn refusal(&self, now: Now, request: &Request, scan: &Scan) -> Refusal {
        if let Some(wait) = &scan.wait {
            let kind = match wait.why {
                Why::Limit(dimension) => RefusalKind::QuotaExhausted { limit: self.binding(wait, dimension) },
                _ => self.all_out(now, scan),
            };
            let after = wait.forecast.saturating_sub(now.mono_ns).max(MS);
            return Refusal { kind, retry_after_ns: Some(after) };
        }
        let kind = if let Some((domain, size)) = scan.too_large {
            RefusalKind::TooLarge { limit: self.limit_of(domain), size }
        } else if scan.members == 0 {
            RefusalKind::NoKey
        } else if scan.allowed == 0 {
            RefusalKind::NoProviderLeft
        } else if scan.served == 0 {
            RefusalKind::EndpointNotServed { providers: self.providers_of(request) }
        } else if request.ask.bound_to.is_some() && scan.bound == 0 {
            RefusalKind::BoundElsewhere
        } else if let Some(domain) = scan.never {
            RefusalKind::QuotaExhausted { limit: Some(self.limit_of(domain)) }
        } else if let Some(last) = request.last {
            self.exhausted(last)
        } else if scan.try_at == u64::MAX && self.keyless(request) {
            RefusalKind::NoKey
        } else {
            self.all_out(now, scan)
        };
        Refusal { kind, retry_after_ns: None }
    }

    pub(crate) fn exhausted(&self, last: Last) -> RefusalKind {
        let target = self.pool.targets.get(last.target);
        let provider = target.map(|t| self.pool.provider(t.provider).name.clone());
        RefusalKind::Exhausted { last: last.class, sign: last.sign, provider }
    }

    fn all_out(&self, now: Now, scan: &Scan) -> RefusalKind {
        let out = scan.skipped.iter().filter_map(|skipped| {
            let key = self.pool.key(skipped.key);
            let account = self.pool.account(key.account);
            let why = match skipped.why {
                Why::Benched if account.bench.is_shut(now.mono_ns) => account.bench.why(),
                Why::Benched => Class::Key,
                Why::BreakerOpen => Class::Target,
                Why::ProviderDown => Class::Provider,
                Why::NoCapacity => Class::Capacity,
                Why::Limit(_) | Why::FirstContact => Class::Quota,
                Why::Disabled | Why::Tried | Why::NotAllowed | Why::NotServed => return None,
            };
            Some(Out {
                provider: self.pool.provider(account.provider).name.clone(),
                account: account.name.clone(),
                key: key.name.clone(),
                why,
                after_ns: skipped.until_mono_ns.map(|at| at.saturating_sub(now.mono_ns)),
            })
        });
        RefusalKind::AllOut { out: out.take(OUT_MAX).collect() }
    }

    fn keyless(&self, request: &Request) -> bool {
        self.routes.all[request.route].tiers.iter().all(|t| t.slots == 0)
    }

    fn binding(&self, wait: &Wait, dimension: crate::fleet::Dimension) -> Option<BindingLimit> {
        if let Some(domain) = wait.domain {
            return Some(self.limit_of(domain));
        }
        let account = self.pool.account(wait.account?);
        let provider = self.pool.provider(account.provider).name.clone();
        Some(BindingLimit { provider, account: account.name.clone(), dimension, size: None })
    }

    fn limit_of(&self, domain: usize) -> BindingLimit {
        let domain = &self.pool.domains[domain];
        let account = self.pool.account(domain.account);
        BindingLimit {
            provider: self.pool.provider(account.provider).name.clone(),
            account: account.name.clone(),
            dimension: domain.dimension,
            size: Some(domain.size()).filter(|size| size.is_finite()),
        }
    }

    fn providers_of(&self, request: &Request) -> Vec<Arc<str>> {
        let members = self.routes.all[request.route].tiers.iter().flat_map(|t| &t.members);
        let mut ids: Vec<_> = members.map(|m| m.provider).collect();
        ids.sort_unstable();
        ids.dedup();
        ids.into_iter().map(|id| self.pool.provider(id).name.clone()).collect()
    }
}
