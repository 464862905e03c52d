//! What an answer tells while it is still coming: limits in its head, and how long its first output took.

use crate::Policy;
use crate::event::What;
use crate::fleet::{Dimension, ModelSet, OutputCharge};
use crate::lease::Lease;
use crate::outcome::Measurement;
use crate::quota::learn::{self, Before};
use crate::quota::rules::{Rules, Said};
use crate::quota::{Domain, Meter, Source};
use crate::request::Request;
use crate::time::Now;

impl Policy {
    /// The head of an answer came, with what its headers say about limits.
    pub fn head(&mut self, now: Now, lease: &Lease, measured: &[Measurement]) {
        let now = self.tick(now);
        let Some(request) = self.requests.take(lease.slot) else { return };
        if request.flight.live {
            for m in measured {
                self.measure(now, &request, &m.within_reason());
            }
        }
        self.requests.put_back(request);
    }

    fn measure(&mut self, now: Now, request: &Request, m: &Measurement) {
        let target = request.flight.target;
        let found = self.pool.domains_of(target).find(|d| learn::concerns(&self.pool.domains[*d], m));
        let before = found.and_then(|d| {
            let held =
                request.held.iter().find(|h| h.domain == d && h.serial == self.pool.domains[d].serial)?;
            Some(Before { taken: held.taken, returned: held.returned, own: held.amount, ahead: held.ahead })
        });
        let (at, new) = match found {
            Some(at) => (at, false),
            None => match self.learn_domain(now, target, m) {
                Some(at) => (at, true),
                None => return,
            },
        };
        // A domain younger than the request: all that went through it went after the request.
        let before = before.unwrap_or_default();
        let other_rule = self.other_rule(now, request, at, m, &before);
        let domain = &mut self.pool.domains[at];
        let was = domain.level(now);
        let resized = learn::apply(domain, now, m, request.flight.sent, before);
        let (account, dimension, size) = (domain.account, domain.dimension, domain.size());
        let rose = domain.level(now) > was;
        if new || resized {
            self.events.push(now, What::LimitLearned { account, dimension, size });
        }
        if let Some(rule) = other_rule {
            self.charges_otherwise(now, target, rule);
        }
        // What is known at last holds nobody back who waited to hear of it.
        if rose || new {
            self.release(account, None);
        }
    }

    /// The rule by which tokens of this limit are charged, where its answers show that it is another than is in force.
    fn other_rule(
        &mut self,
        now: Now,
        request: &Request,
        at: usize,
        m: &Measurement,
        before: &Before,
    ) -> Option<OutputCharge> {
        let target = &self.pool.targets[request.flight.target];
        let in_force = self.pool.provider(target.provider).charging.output;
        let domain = &mut self.pool.domains[at];
        let left = m.remaining.filter(|r| *r >= 0.0)?;
        let sent_ns = request.flight.sent;
        if domain.dimension != Dimension::TotalTokens
            || domain.measured_sent_ns.is_some_and(|last| sent_ns < last)
        {
            return None;
        }
        let Meter::Bucket(bucket) = &domain.meter else {
            domain.rules = None;
            return None;
        };
        let since = (domain.taken - before.taken).max(0.0);
        let reset_ns = m.reset_ns.filter(|_| m.reset_means_full);
        let said = Said { left, rounding: m.rounding, reset_ns, sent_ns, open: domain.open, since };
        let rules = domain.rules.get_or_insert_with(|| Box::new(Rules::new(now)));
        rules.heard(now, bucket, in_force, &said)
    }

    /// A provider charges by another rule than was known: the mirrors of its limits go over to it.
    fn charges_otherwise(&mut self, now: Now, target: usize, rule: OutputCharge) {
        let provider = self.pool.targets[target].provider;
        let of = self.pool.provider_mut(provider);
        let told = of.charging_told.output;
        // What is charged as it is produced and what is refunded cost the same in the end.
        let output = if !rule.keeps() && !told.keeps() { told } else { rule };
        of.charging.output = output;
        let mut changed = Vec::new();
        for (_, domain) in self.pool.domains.iter_mut() {
            let account = self.pool.accounts.get(domain.account.0 as usize);
            if account.is_some_and(|a| a.provider == provider) {
                learn::charged_by(domain, now, rule);
                changed.push(domain.account);
            }
        }
        for account in changed {
            self.release(account, None);
        }
        self.events.push(now, What::ChargingLearned { provider, output });
    }

    /// A limit that nobody declared.
    fn learn_domain(&mut self, now: Now, target: usize, m: &Measurement) -> Option<usize> {
        if m.leaves_the_shape_open() {
            return None;
        }
        let meter = learn::meter(now, m)?;
        let (am, account) = (self.pool.targets[target].account_model, self.pool.targets[target].account);
        let model = self.pool.models[self.pool.targets[target].model].name.clone();
        let models = if m.account_wide { ModelSet::default() } else { ModelSet(vec![Box::from(&*model)]) };
        let serial = self.pool.serial();
        let mut domain = Domain::new(account, m.dimension, models, Source::Learned, meter, serial);
        domain.daily = m.daily;
        let at = self.pool.domains.insert(domain);
        if m.account_wide {
            self.pool.account_mut(account).domains.push(at);
            self.pool.rematch_account(account);
        } else {
            self.pool.account_models[am].domains.push(at);
        }
        Some(at)
    }

    /// The first output came: the key, the account, their quotas and the model's capacity are proven.
    pub fn first_output(&mut self, now: Now, lease: &Lease) {
        let now = self.tick(now);
        let Some(mut request) = self.requests.take(lease.slot) else { return };
        if request.flight.live && !request.flight.first_output {
            let took = now.mono_ns.saturating_sub(request.flight.sent);
            self.accepted(now, &mut request);
            self.time_first_output(now, &mut request, took);
        }
        self.requests.put_back(request);
    }

    pub(crate) fn time_first_output(&mut self, now: Now, request: &mut Request, took_ns: u64) {
        request.flight.first_output = true;
        let target = &mut self.pool.targets[request.flight.target];
        target.first_output[usize::from(request.ask.stream)].add(now.mono_ns, took_ns);
        let class = crate::health::size_class(request.ask.size.input_tokens);
        let pm = &mut self.pool.provider_models[target.provider_model];
        let times = if request.ask.stream { &mut pm.first_byte } else { &mut pm.plain };
        times.get_or_insert_default()[class].answered(took_ns);
    }
}
