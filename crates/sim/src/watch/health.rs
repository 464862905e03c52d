//! Who is out, and until when: cool-downs that shorten by themselves.

use crate::time::{of_mono, ours};
use keymux_policy::{Lease, Policy};
use std::collections::BTreeMap;

/// Until when each is out, as last seen; and what was proved since.
#[derive(Default)]
pub(crate) struct Health {
    /// By name: until when (the scheduler's clock), and when it was first seen out.
    out: BTreeMap<String, (u64, u64)>,
    /// Something was answered, or a probe ended: what was out may rightly be back.
    proved: bool,
}

impl Health {
    /// Everything that is not in perfect health, in a form that can be compared.
    pub(crate) fn ill(policy: &Policy, now: u64) -> Vec<String> {
        let view = policy.view(ours(now));
        let mut ill: Vec<String> =
            outs(&view).iter().map(|(name, until)| format!("{name} {until}")).collect();
        for key in view.providers.iter().flat_map(|p| &p.accounts).flat_map(|a| &a.keys) {
            for m in key.models.iter().filter(|m| m.failures.0 + m.failures.1 > 0) {
                ill.push(format!("{} {:?}", key.name, (m.failures.0, m.failures.1)));
            }
        }
        ill
    }

    /// Something came back as it should.
    pub(crate) fn proved(&mut self) {
        self.proved = true;
    }

    pub(crate) fn ended(&mut self, lease: &Lease, answered: bool) {
        if lease.probe || answered {
            self.proved();
        }
    }

    /// Looks for cool-downs that became shorter although nothing was proved.
    pub(crate) fn look(&mut self, policy: &Policy, now: u64) -> Vec<String> {
        let view = policy.view(ours(now));
        let is = outs(&view);
        let mut found = Vec::new();
        let proved = std::mem::take(&mut self.proved);
        // A provider's own verdict undoes the benches of its keys.
        let down = view.providers.iter().any(|p| p.open_until.is_some() || !p.no_capacity.is_empty());
        for (name, (until, since)) in &self.out {
            let left = is.get(name).copied().unwrap_or(0);
            if of_mono(*until) > now && left < *until && !proved && !down {
                let (was, left) = (of_mono(*until) / 1_000_000, of_mono(left) / 1_000_000);
                found.push(format!(
                    "{name} was out since {since} ns until {was} ms, now {left} ms: who proved it?"
                ));
            }
        }
        let old = std::mem::take(&mut self.out);
        self.out = is
            .into_iter()
            .map(|(name, until)| {
                let since = old.get(&name).map_or(now, |(_, since)| *since);
                (name, (until, since))
            })
            .collect();
        found
    }
}

/// Until when each is out (the scheduler's clock).
fn outs(view: &keymux_policy::View) -> BTreeMap<String, u64> {
    let mut out = BTreeMap::new();
    for p in &view.providers {
        if let Some(until) = p.open_until {
            out.insert(format!("provider {}", p.name), until);
        }
        for a in &p.accounts {
            if let Some(o) = a.benched {
                out.insert(format!("account {}/{}", p.name, a.name), o.until_mono_ns);
            }
            for k in &a.keys {
                if let Some(o) = k.benched {
                    out.insert(format!("key {}/{}", p.name, k.name), o.until_mono_ns);
                }
                for m in &k.models {
                    if let Some(until) = m.breaker_open_until {
                        out.insert(format!("breaker {}/{}", p.name, k.name), until);
                    }
                    if let Some(o) = m.benched {
                        out.insert(format!("model of {}/{}", p.name, k.name), o.until_mono_ns);
                    }
                }
            }
        }
    }
    out
}
