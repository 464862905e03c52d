//! Two accounts that turn out to be one: all keys of the one now belong to the other, by a new configuration. What is
//! known of their limits becomes one mirror: the lower level, less all that is in flight at either. The same declared
//! limit is never added up, and no charge in flight is forgotten.

use crate::Policy;
use crate::fleet::AccountId;
use crate::gate::Gate;
use crate::quota::{Domain, Meter, Source};
use crate::time::Now;
use std::cmp::Reverse;

impl Policy {
    /// No key is left to `from`: what it knows goes over to `to`.
    pub(crate) fn merge_account(&mut self, now: Now, from: AccountId, to: AccountId) {
        let gone = self.pool.account_mut(from);
        let (in_flight, counts) = (std::mem::take(&mut gone.in_flight), std::mem::take(&mut gone.counts));
        let gates = [&gone.bench, &gone.quota, &gone.free].map(Gate::clone);
        let (models, mut domains) = (gone.models.clone(), std::mem::take(&mut gone.domains));
        let account = self.pool.account_mut(to);
        account.in_flight += in_flight;
        account.counts.add(&counts);
        for (gate, was) in [&mut account.bench, &mut account.quota, &mut account.free].into_iter().zip(gates)
        {
            keep_shut(gate, &was, now);
        }
        for am in models {
            let model = self.pool.account_models[am].model;
            let was = self.pool.account_models[am].quota.clone();
            domains.append(&mut self.pool.account_models[am].domains);
            let into = self.pool.account_model(to, model);
            keep_shut(&mut self.pool.account_models[into].quota, &was, now);
        }
        domains.sort_unstable();
        domains.dedup();
        for at in domains {
            self.merge_domain(now, at, to);
        }
        for request in self.requests.each() {
            if request.flight.account == from.0 {
                request.flight.account = to.0;
            }
        }
        self.pool.rematch_account(to);
        self.release(from, None);
        self.release(to, None);
    }

    /// A limit of the account that is gone: one with that of the other, or that other's own from now on.
    fn merge_domain(&mut self, now: Now, at: usize, to: AccountId) {
        let Some(old) = self.pool.domains.get(at) else { return };
        let of_models =
            self.pool.account(to).models.iter().flat_map(|am| &self.pool.account_models[*am].domains);
        let mut known = self.pool.account(to).domains.iter().chain(of_models).copied();
        let alike =
            |d: &Domain| d.dimension == old.dimension && d.daily == old.daily && d.models == old.models;
        let same = known.find(|d| *d != at && alike(&self.pool.domains[*d]));
        let Some(into) = same else {
            if old.source == Source::Learned {
                self.pool.domains[at].account = to;
                // One of a single model is found by its name.
                self.pool.account_mut(to).domains.push(at);
            } else {
                self.pool.domains.remove(at);
            }
            return;
        };
        let Some(old) = self.pool.domains.remove(at) else { return };
        let domain = &mut self.pool.domains[into];
        domain.merge(now, &old);
        let serial = domain.serial;
        let epoch = if matches!(domain.meter, Meter::Slots { .. }) { 0 } else { domain.take(now, 0.0) };
        let (taken, returned) = (domain.taken - old.taken, domain.returned - old.returned);
        for request in self.requests.each() {
            for held in request.held.iter_mut().filter(|h| (h.domain, h.serial) == (at, old.serial)) {
                (held.domain, held.serial, held.epoch) = (into, serial, epoch);
                // As much as before has gone through since.
                held.taken += taken;
                held.returned += returned;
            }
        }
        self.late = std::mem::take(&mut self.late)
            .into_iter()
            .map(|Reverse(late)| {
                let moved = (late.1, late.2) == (at, old.serial);
                Reverse(if moved { (late.0, into, serial) } else { late })
            })
            .collect();
    }
}

/// What was shut for the one is shut for both.
fn keep_shut(gate: &mut Gate, was: &Gate, now: Now) {
    if was.is_shut(now.mono_ns) && was.until() > now.mono_ns {
        gate.shut_until(now.mono_ns, was.until(), was.why());
    }
}

impl Domain {
    /// The other was the same limit all the time.
    fn merge(&mut self, now: Now, other: &Domain) {
        let (level, others) = (self.level(now), other.level(now));
        let level = (level + self.open).min(others + other.open) - self.open - other.open;
        self.open += other.open;
        self.measured_sent_ns = self.measured_sent_ns.max(other.measured_sent_ns);
        let size = self.size();
        match (&mut self.meter, &other.meter) {
            (Meter::Slots { used, .. }, Meter::Slots { used: more, .. }) => *used += more,
            (Meter::Bucket(b), Meter::Bucket(_) | Meter::Window(_)) => b.set_level(now.mono_ns, level),
            (Meter::Window(w), Meter::Bucket(_) | Meter::Window(_)) => w.set_used(now, size - level),
            // One of them is not known yet, or they do not agree on what they are: refusals tell.
            _ => {}
        }
        // What the answers of one alone said does not hold for both.
        self.told = None;
    }
}
