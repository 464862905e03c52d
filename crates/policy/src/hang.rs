//! Plain calls that wait at a target which is known to hang. A plain answer may take minutes, so it has no adaptive
//! time-out; but once the target's breaker was opened by time-outs, a call that waits there for longer than hardly any
//! answer of its model takes had better be moved.

use crate::Policy;
use crate::correlate::Way;
use crate::lease::Lease;
use crate::time::Now;

impl Policy {
    /// Whether an attempt in flight had better be given up, and when (monotonic; it may have passed). Worth asking
    /// after a [`BreakerOpened`](crate::event::What::BreakerOpened) or
    /// [`ProviderOpened`](crate::event::What::ProviderOpened). Who gives it up reports
    /// [`Sign::FirstByteTimeout`](crate::Sign::FirstByteTimeout), and is told where to go instead.
    pub fn hangs(&self, now: Now, lease: &Lease) -> Option<u64> {
        let request = self.requests.get(lease.slot).filter(|r| r.flight.live)?;
        if request.ask.stream || request.flight.first_output || request.flight.accepted {
            return None;
        }
        let t = self.pool.targets.get(request.flight.target)?;
        let provider = self.pool.provider(t.provider);
        let mono = now.mono_ns.max(self.now.mono_ns);
        let all = provider.breaker.is_open(mono) && provider.down.is_some_and(|(way, _)| way == Way::Hang);
        let one = t.hangs && t.breaker.is_open(mono);
        // A probe is to find out how long it takes.
        if !(all || one) || !request.flight.probes.is_empty() {
            return None;
        }
        let class = crate::health::size_class(request.ask.size.input_tokens);
        let usual = self.pool.provider_models[t.provider_model].plain.as_ref()?[class].p99_ns()?;
        Some(request.flight.sent.saturating_add(usual))
    }
}
