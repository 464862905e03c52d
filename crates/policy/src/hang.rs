//! Plain calls that wait where nothing comes any more. A plain answer may take minutes, so it has no adaptive time-out
//! of its own. But once its target is known to hang, a call that has waited there for longer than hardly any answer of
//! its model takes had better be moved; and that a target hangs can be seen without waiting for the configured
//! time-out: several calls at once are silent there for far longer than usual, while its siblings answer.
//! One call alone is never suspected: it may just be long.

use crate::Policy;
use crate::correlate::Way;
use crate::lease::Lease;
use crate::request::{Probe, Request};
use crate::time::{Now, SECOND};

/// Nobody is asked about sooner than this after it was sent.
pub const HANG_ASK_NS: u64 = 2 * SECOND;
/// So many times what hardly any answer takes longer than is far too long.
const FAR: u64 = 4;
/// So many calls that wait for far too long at one target are no accident.
const SILENT_MIN: u8 = 3;

/// What is to be done with a plain call that has had no answer yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hang {
    /// Give it up, with [`Sign::FirstByteTimeout`](crate::Sign::FirstByteTimeout), to be told where to go instead.
    GiveUp,
    /// Wait on, and ask again at this instant (monotonic), or when [`Policy::hung`] rises.
    AskAt(u64),
    /// Too little is known. Ask again when [`Policy::hung`] rises.
    Unknown,
}

impl Policy {
    /// How often something was found to hang so far: when it rises, those who wait may ask again.
    pub fn hung(&self) -> u64 {
        self.hung
    }

    /// Whether an attempt had better be given up that has had no answer for [`HANG_ASK_NS`] or longer.
    pub fn hangs(&mut self, now: Now, lease: &Lease) -> Hang {
        let now = self.tick(now);
        let Some(mut request) = self.requests.take(lease.slot) else { return Hang::Unknown };
        let said = self.silence(now, &mut request);
        self.requests.put_back(request);
        said
    }

    fn silence(&mut self, now: Now, request: &mut Request) -> Hang {
        let flight = &request.flight;
        let begun = flight.first_output || flight.accepted;
        if !flight.live || begun || request.ask.stream || self.pool.targets.get(flight.target).is_none() {
            return Hang::Unknown;
        }
        let class = crate::health::size_class(request.ask.size.input_tokens);
        let t = &self.pool.targets[flight.target];
        let times = self.pool.provider_models[t.provider_model].plain.as_ref();
        let Some(usual) = times.and_then(|times| times[class].p99_ns()) else { return Hang::Unknown };
        let (shut, probes) = self.known_to_hang(now, request);
        let wait = if shut { usual } else { usual.saturating_mul(FAR).max(HANG_ASK_NS) };
        let due = flight.sent.saturating_add(wait);
        if now.mono_ns < due {
            return Hang::AskAt(due);
        }
        if shut || probes || self.suspects(now, request) {
            return Hang::GiveUp;
        }
        Hang::AskAt(due.max(now.mono_ns.saturating_add(now.mono_ns.saturating_sub(request.flight.sent))))
    }

    /// Whether the target is shut for hanging, and whether this attempt probes one that was: whoever probes finds out
    /// how long it takes, but not for as long as was configured.
    fn known_to_hang(&self, now: Now, request: &Request) -> (bool, bool) {
        let flight = &request.flight;
        let t = &self.pool.targets[flight.target];
        let provider = self.pool.provider(t.provider);
        let all = provider.down.is_some_and(|(way, _)| way == Way::Hang);
        let open = all && provider.breaker.is_open(now.mono_ns) || t.hangs && t.breaker.is_open(now.mono_ns);
        let of_hanging = |p: &Probe| match p {
            Probe::TargetBreaker | Probe::ModelBreaker => t.hangs,
            Probe::Provider => all,
            _ => false,
        };
        (open && flight.probes.is_empty(), flight.probes.iter().any(of_hanging))
    }

    /// A call has waited for far too long. If it is one of several, of which none has had an answer, while a sibling
    /// of the target has answered since, the target hangs, and is shut.
    fn suspects(&mut self, now: Now, request: &mut Request) -> bool {
        let (target, sent) = (request.flight.target, request.flight.sent);
        let counted = std::mem::replace(&mut request.flight.silent, true);
        let t = &mut self.pool.targets[target];
        t.silent = t.silent.saturating_add(u8::from(!counted));
        if t.silent < SILENT_MIN {
            return false;
        }
        let (model, provider_model) = (t.model, t.provider_model);
        let others = self.pool.models[model].targets.iter().filter(|other| **other != target);
        let mut siblings = others.filter_map(|other| self.pool.targets.get(*other));
        if !siblings.any(|s| s.provider_model == provider_model && s.ok_at.is_some_and(|at| at > sent)) {
            return false;
        }
        let t = &mut self.pool.targets[target];
        t.silent = 0;
        t.hangs = true;
        let until = t.breaker.trip(now.mono_ns, &self.pool.settings.breaker, &mut self.rng);
        self.hung += 1;
        self.breaker_opened(now, target, until);
        true
    }
}
