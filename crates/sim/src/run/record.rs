//! What a run leaves behind: every request, what each key was asked, and counts of all that was met.

use super::Run;
use crate::fleet::Sides;
use crate::spec::Traffic;
use crate::time::MS;
use crate::traffic::Arrival;
use keymux_policy::blame::{self, Class};
use keymux_policy::event::{Event, What};
use keymux_policy::{End, Lease, Outcome, RefusalKind, Ticket};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What became of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It has not come yet.
    #[default]
    Coming,
    Waiting,
    InFlight,
    Answered,
    /// Told to come back.
    Refused,
    /// The caller got an error.
    Error(Option<Class>),
    /// The caller went away.
    Left,
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Req {
    pub(crate) source: usize,
    pub(crate) route: u32,
    pub(crate) client: u64,
    pub(crate) input: u64,
    pub(crate) output: u64,
    /// The cap that its caller states.
    pub(crate) max_tokens: Option<u64>,
    /// How long it waits for its turn.
    pub(crate) patience_ns: u64,
    /// Of the line of a replay.
    pub(crate) tag: u32,
    pub(crate) came_ns: u64,
    pub(crate) deadline_ns: u64,
    /// First attempt.
    pub(crate) sent_ns: u64,
    /// The attempt that was answered.
    pub(crate) last_sent_ns: u64,
    /// First output, or zero.
    pub(crate) output_ns: u64,
    pub(crate) ended_ns: u64,
    pub(crate) attempts: u32,
    /// How often its caller came back before.
    pub(crate) returns: u32,
    pub(crate) ticket: Option<Ticket>,
    pub(crate) fate: Fate,
    /// The key that answered, and its provider's name of the model.
    pub(crate) key: usize,
    pub(crate) model: Option<Arc<str>>,
}

impl Req {
    pub(super) fn new(source: usize, route: u32, client: u64, arrival: &Arrival, traffic: &Traffic) -> Self {
        let max_tokens = arrival.max_tokens.or(traffic.max_tokens);
        Self {
            source,
            route: arrival.route.unwrap_or(route),
            client,
            input: arrival.input,
            output: max_tokens.map_or(arrival.output, |cap| cap.min(arrival.output)).max(1),
            max_tokens,
            patience_ns: arrival.deadline_ms.unwrap_or(traffic.deadline_ms) * MS,
            tag: arrival.tag,
            came_ns: arrival.at_ns,
            deadline_ns: 0,
            sent_ns: 0,
            last_sent_ns: 0,
            output_ns: 0,
            ended_ns: 0,
            attempts: 0,
            returns: 0,
            ticket: None,
            fate: Fate::Coming,
            key: 0,
            model: None,
        }
    }

    /// The conversation that the request belongs to: each client has so many at a time.
    pub(super) fn conversation(&self, req: u32, traffic: &Traffic) -> Option<u64> {
        let of = u64::from(req).checked_rem(u64::from(traffic.conversation))?;
        Some((self.client << 32) | of)
    }

    /// The same request, from a caller who comes back.
    pub(super) fn again(&self) -> Self {
        Self {
            returns: self.returns + 1,
            attempts: 0,
            fate: Fate::Coming,
            ticket: None,
            output_ns: 0,
            ..self.clone()
        }
    }
}

/// What a key was asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyTally {
    pub(crate) name: String,
    pub(crate) calls: u64,
    pub(crate) accepted: u64,
    pub(crate) limited: u64,
    pub(crate) failed: u64,
    /// Requests accepted, by slice of the run.
    pub(crate) over_time: Vec<u32>,
}

/// What a client asked and got.
#[derive(Clone, Debug)]
pub(crate) struct ClientTally {
    pub(crate) name: String,
    pub(crate) route: usize,
    pub(crate) offered: u64,
    pub(crate) answered: u64,
    pub(crate) refused: u64,
    pub(crate) errors: u64,
    pub(crate) wait_ns: u64,
}

impl ClientTally {
    pub(super) fn new(name: String, route: usize) -> Self {
        Self { name, route, offered: 0, answered: 0, refused: 0, errors: 0, wait_ns: 0 }
    }

    pub(super) fn offered(&mut self) {
        self.offered += 1;
    }
}

/// Slices of a run in charts.
pub(crate) const SLICES: usize = 60;

/// Counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) clients: Vec<ClientTally>,
    pub(crate) keys: Vec<KeyTally>,
    /// What strangers took of each account: when, input, output.
    pub(crate) strangers: Vec<(usize, u64, u64, u64)>,
    pub(crate) submitted: u64,
    pub(crate) waits: u64,
    pub(crate) heads: u64,
    pub(crate) outputs: u64,
    pub(crate) refused_late: u64,
    /// Waiters whose forecast missed their deadline from the beginning.
    pub(crate) hopeful: u64,
    pub(crate) cancelled_waiting: u64,
    pub(crate) polls: u64,
    pub(crate) limited: u64,
    /// Since counting began.
    pub(crate) limited_counted: u64,
    pub(crate) count_from_ns: u64,
    pub(crate) attempts: u64,
    pub(crate) timeouts: u64,
    pub(crate) probes: u64,
    /// Tokens of prompts that reached providers, and of these from their caches.
    pub(crate) input: u64,
    pub(crate) cached: u64,
    pub(crate) errors: u64,
    pub(crate) poison_errors: u64,
    pub(crate) wrong_relayed: u64,
    pub(crate) benches: u64,
    /// Classes of blame, kinds of refusals, events: how often each was met.
    pub(crate) met: BTreeMap<String, u64>,
    /// A digest of all decisions, to compare two runs.
    pub(crate) digest: u64,
    pub(crate) slice_ns: u64,
}

impl Tally {
    pub(super) fn new(sides: &Sides) -> Self {
        let keys = sides.keys.iter().map(|k| KeyTally { name: k.name.clone(), ..KeyTally::default() });
        Self { keys: keys.collect(), slice_ns: 1, ..Self::default() }
    }

    fn meet(&mut self, what: &str) {
        if let Some(n) = self.met.get_mut(what) {
            *n += 1;
        } else {
            self.met.insert(what.to_owned(), 1);
        }
    }

    fn digest(&mut self, n: u64) {
        self.digest = (self.digest ^ n).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(17);
    }

    pub(super) fn decided(&mut self, lease: &Lease) {
        self.attempts += 1;
        self.probes += u64::from(lease.probe);
        self.digest(u64::from(lease.key.0) << 32 | u64::from(lease.attempt));
    }

    pub(super) fn reached(&mut self, key: usize, now: u64, reply: &keymux_provider::Reply) {
        let accepted = reply.open && reply.status != 0;
        let slice = usize::try_from(now / self.slice_ns.max(1)).unwrap_or(usize::MAX).min(4 * SLICES);
        let k = &mut self.keys[key];
        k.calls += 1;
        if accepted {
            k.accepted += 1;
            if k.over_time.len() <= slice {
                k.over_time.resize(slice + 1, 0);
            }
            k.over_time[slice] += 1;
            self.input += reply.course.input_tokens;
            self.cached += reply.course.cached_tokens;
        }
        self.digest(now ^ u64::from(reply.status));
    }

    pub(super) fn failed_at(&mut self, now: u64, key: usize, outcome: &Outcome) {
        let End::Failed(e) = &outcome.end else { return };
        match blame::judge(e) {
            Class::Quota => {
                self.keys[key].limited += 1;
                self.limited += 1;
                self.limited_counted += u64::from(now >= self.count_from_ns);
            }
            Class::Request | Class::Client => {}
            _ => self.keys[key].failed += 1,
        }
    }

    pub(super) fn ended(&mut self, outcome: &Outcome) {
        match &outcome.end {
            End::Done => self.meet("answered"),
            End::Dropped => self.meet("dropped"),
            End::Failed(e) => {
                let class = format!("blame {:?}", blame::judge(e));
                self.meet(&class);
            }
        }
    }

    pub(super) fn note_refusal(&mut self, kind: &RefusalKind) {
        let name = format!("{kind:?}");
        let end = name.find([' ', '{']).unwrap_or(name.len());
        self.meet(&format!("refusal {}", &name[..end]));
        self.digest(end as u64);
    }

    pub(super) fn closed(&mut self, r: &Req, poison: bool, wrong: bool) {
        let Some(client) = usize::try_from(r.client).ok().and_then(|c| self.clients.get_mut(c)) else {
            return;
        };
        match r.fate {
            Fate::Answered => {
                client.answered += 1;
                client.wait_ns += r.sent_ns.saturating_sub(r.came_ns);
            }
            Fate::Refused => client.refused += 1,
            Fate::Error(Some(Class::Request)) if wrong => self.wrong_relayed += 1,
            Fate::Error(_) if poison => self.poison_errors += 1,
            Fate::Error(_) => {
                client.errors += 1;
                self.errors += 1;
            }
            _ => {}
        }
        self.digest(r.ended_ns);
    }

    pub(super) fn stranger(&mut self, account: usize, now: u64, input: u64, output: u64) {
        self.strangers.push((account, now, input, output));
    }

    /// Takes note of the scheduler's own events.
    pub(crate) fn events(&mut self, events: &[Event]) {
        for event in events {
            let name = format!("{:?}", event.what);
            let end = name.find([' ', '{']).unwrap_or(name.len());
            self.meet(&format!("event {}", &name[..end]));
            self.benches += u64::from(matches!(
                event.what,
                What::BreakerOpened { .. }
                    | What::KeyBenched { .. }
                    | What::AccountBenched { .. }
                    | What::ProviderOpened { .. }
            ));
        }
    }
}

/// A finished run.
pub(crate) struct Record {
    pub(crate) sides: Sides,
    pub(crate) reqs: Vec<Req>,
    pub(crate) tally: Tally,
    pub(crate) violations: Vec<String>,
}

impl Record {
    pub(super) fn of(mut run: Run<'_>) -> Self {
        let events = run.watch.take_events(&mut run.policy);
        run.tally.events(&events);
        Self { sides: run.sides, reqs: run.reqs, tally: run.tally, violations: run.watch.violations }
    }
}
