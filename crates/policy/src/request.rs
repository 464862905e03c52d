//! A request between `submit` and its end: what it asked, what it has tried, what it holds. Kept in reused slots, so
//! that a request costs no allocation in the steady state; the number of the slot and its generation are both the
//! lease's and the ticket's identity.

use crate::ask::{Ask, Class as Priority};
use crate::blame::Class;
use crate::correlate::Way;
use crate::fleet::AccountId;
use crate::lease::WaitedFor;
use crate::outcome::Sign;
use crate::quota::Need;

/// An amount taken from (or placed on) a domain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reservation {
    pub(crate) domain: usize,
    pub(crate) serial: u64,
    pub(crate) amount: f64,
    /// The period that was charged.
    pub(crate) epoch: u64,
    /// What had gone through the domain when this was taken, itself included.
    pub(crate) taken: f64,
    pub(crate) returned: f64,
    /// Of what had been taken: for others, just before.
    pub(crate) ahead: f64,
}

/// A gate that an attempt probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    Provider,
    Capacity,
    ModelBreaker,
    AccountBench,
    AccountQuota,
    AccountFree,
    ModelQuota,
    KeyBench,
    KeyQuota,
    TargetBench,
    TargetBreaker,
}

/// The attempt in flight.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each notes one thing that happened to the attempt, in any order"
)]
#[derive(Clone, Debug, Default)]
pub(crate) struct Flight {
    pub(crate) target: usize,
    /// The account that it counts for (a new configuration may move the key to another).
    pub(crate) account: u32,
    pub(crate) sent: u64,
    pub(crate) need: Need,
    pub(crate) probes: Vec<Probe>,
    pub(crate) first_output: bool,
    /// It was seen that the target takes requests.
    pub(crate) accepted: bool,
    /// Its first output closed the breaker of its target: should it still fail, that opens it again.
    pub(crate) closed_breaker: bool,
    pub(crate) live: bool,
    /// Others in flight there, as far as they are counted.
    pub(crate) beside: u32,
    /// It was noted where no limit is known.
    pub(crate) watched: bool,
    /// It has waited for far too long, and counts as such for its target.
    pub(crate) silent: bool,
}

/// A failure of this request that a target's breaker counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crash {
    pub(crate) target: usize,
    pub(crate) sent: u64,
    pub(crate) at: u64,
    pub(crate) way: Way,
    pub(crate) counted: bool,
}

/// A target that may not do what this request asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forbidden {
    pub(crate) target: usize,
    /// That is held against it.
    pub(crate) benched: bool,
}

/// The last failed attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Last {
    pub(crate) class: Class,
    pub(crate) sign: Sign,
    pub(crate) target: usize,
    /// It had an answer that a client may see.
    pub(crate) relayable: bool,
}

/// Its place in the waiting room.
#[expect(clippy::struct_excessive_bools, reason = "each notes one thing about the place, in any order")]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    pub(crate) waiting: bool,
    pub(crate) since: u64,
    /// The lane that it stands in, or `None` while it may not go before `not_before`.
    pub(crate) lane: Option<usize>,
    pub(crate) not_before: u64,
    /// When that comes, a new round begins: all may be tried again.
    pub(crate) new_round: bool,
    /// The pool of its route when it took its place.
    pub(crate) pool: usize,
    /// The markets of its route.
    pub(crate) among: usize,
    /// What it costs its client.
    pub(crate) cost: u64,
    /// It stands in front of those whose clients have not paid yet.
    pub(crate) front: bool,
    /// Its time is nearly over: it takes the turn of its client's head.
    pub(crate) called: bool,
    /// Its class has had less than it keeps: it goes before higher ones.
    pub(crate) owed: bool,
    /// What it waits (or waited last) for.
    pub(crate) waits_for: Option<WaitedFor>,
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "each notes one thing that happened to the request, in any order"
)]
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) id: u64,
    pub(crate) ask: Ask,
    pub(crate) route: usize,
    /// Order of arrival over all requests.
    pub(crate) seq: u64,
    /// When it came.
    pub(crate) arrived: u64,
    /// It came back to a place that was kept for it.
    pub(crate) returned: bool,
    pub(crate) attempt: u32,
    /// Attempts that a rate limit refused: measurements, which use up nothing of what a request may try.
    pub(crate) refusals: u32,
    /// Attempts that found no capacity.
    pub(crate) overloads: u32,
    pub(crate) round: u32,
    pub(crate) waited_ns: u64,
    /// Targets tried in this round.
    pub(crate) tried: Vec<usize>,
    /// Accounts, and models at providers, that are out for this request for good.
    pub(crate) barred: Vec<AccountId>,
    pub(crate) barred_models: Vec<usize>,
    /// The account that failed it last: others are preferred.
    pub(crate) avoid: Option<AccountId>,
    pub(crate) same_key_retried: bool,
    pub(crate) crash: Option<Crash>,
    pub(crate) alike: bool,
    /// The same request failed alike on two targets before.
    pub(crate) poisonous: bool,
    pub(crate) forbidden: Vec<Forbidden>,
    pub(crate) last: Option<Last>,
    pub(crate) held: Vec<Reservation>,
    pub(crate) placed: Vec<Reservation>,
    pub(crate) flight: Flight,
    pub(crate) place: Place,
}

impl Request {
    fn new(id: u64, ask: Ask, route: usize, seq: u64) -> Self {
        Self {
            id,
            ask,
            route,
            seq,
            arrived: 0,
            returned: false,
            attempt: 0,
            refusals: 0,
            overloads: 0,
            round: 1,
            waited_ns: 0,
            tried: Vec::new(),
            barred: Vec::new(),
            barred_models: Vec::new(),
            avoid: None,
            same_key_retried: false,
            crash: None,
            alike: false,
            poisonous: false,
            forbidden: Vec::new(),
            last: None,
            held: Vec::new(),
            placed: Vec::new(),
            flight: Flight::default(),
            place: Place::default(),
        }
    }

    /// Its conversation, apart from those of other clients that begin alike: they must not learn from each other's
    /// answers what was asked.
    pub(crate) fn conversation(&self) -> Option<u64> {
        self.ask.session.map(|session| crate::hash::of(&(session, self.ask.client)))
    }

    /// Makes a used one new; its vectors keep their room.
    fn reuse(&mut self, id: u64, ask: Ask, route: usize, seq: u64) {
        let fresh = Self::new(id, ask, route, seq);
        let old = std::mem::replace(self, fresh);
        let empty = |mut v: Vec<Reservation>| {
            v.clear();
            v
        };
        self.held = empty(old.held);
        self.placed = empty(old.placed);
        self.tried = old.tried;
        self.tried.clear();
        self.flight.probes = old.flight.probes;
        self.flight.probes.clear();
    }

    /// It failed where others may not have: perhaps it is its own reason.
    pub(crate) fn may_be_why(&self) -> bool {
        self.last.is_some_and(|last| matches!(last.class, Class::Target | Class::Capacity))
    }

    /// Attempts that count against those it may have.
    pub(crate) fn spent(&self) -> u32 {
        self.attempt - self.refusals
    }
}

pub(crate) fn rank(class: Priority) -> u8 {
    match class {
        Priority::High => 0,
        Priority::Normal => 1,
        Priority::Low => 2,
    }
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    request: Option<Box<Request>>,
}

/// All requests, by the identity that leases and tickets carry.
#[derive(Debug, Default)]
#[expect(
    clippy::vec_box,
    reason = "requests move between slots and verbs by their box, not by their 600 bytes"
)]
pub(crate) struct Requests {
    slots: Vec<Slot>,
    free: Vec<u32>,
    spare: Vec<Box<Request>>,
    seq: u64,
}

impl Requests {
    /// A new request, not yet put back.
    pub(crate) fn open(&mut self, ask: Ask, route: usize) -> Box<Request> {
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            crate::route::to_u32(self.slots.len() - 1)
        });
        self.seq += 1;
        let id = u64::from(self.slots[at as usize].generation) << 32 | u64::from(at);
        match self.spare.pop() {
            Some(mut request) => {
                request.reuse(id, ask, route, self.seq);
                request
            }
            None => Box::new(Request::new(id, ask, route, self.seq)),
        }
    }

    fn slot(&mut self, id: u64) -> Option<&mut Slot> {
        let at = usize::try_from(id & u64::from(u32::MAX)).ok()?;
        self.slots.get_mut(at).filter(|s| u64::from(s.generation) == id >> 32)
    }

    /// All that are not taken.
    pub(crate) fn each(&mut self) -> impl Iterator<Item = &mut Request> {
        self.slots.iter_mut().filter_map(|slot| slot.request.as_deref_mut())
    }

    pub(crate) fn get(&self, id: u64) -> Option<&Request> {
        let slot = self.slots.get(usize::try_from(id & u64::from(u32::MAX)).ok()?)?;
        slot.request.as_deref().filter(|_| u64::from(slot.generation) == id >> 32)
    }

    pub(crate) fn take(&mut self, id: u64) -> Option<Box<Request>> {
        self.slot(id)?.request.take()
    }

    pub(crate) fn put_back(&mut self, request: Box<Request>) {
        if let Some(slot) = self.slot(request.id) {
            slot.request = Some(request);
        }
    }

    /// The request has ended: its identity is never used again.
    pub(crate) fn close(&mut self, request: Box<Request>) {
        let id = request.id;
        if let Some(slot) = self.slot(id) {
            slot.generation = slot.generation.wrapping_add(1);
            self.free.push((id & u64::from(u32::MAX)).try_into().unwrap_or(0));
        }
        if self.spare.len() < 1_024 {
            self.spare.push(request);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::{ClientId, Destination, Size, TeamId};
    use crate::fleet::{Endpoint, RouteId};

    fn ask() -> Ask {
        Ask {
            to: Destination::Route(RouteId(0)),
            endpoint: Endpoint::ChatCompletions,
            client: ClientId(0),
            team: TeamId(0),
            class: Priority::Normal,
            weight: 1.0,
            deadline_mono_ns: 0,
            size: Size::default(),
            cost_max_nano_usd: None,
            session: None,
            bound_to: None,
            allowed: None,
            providers: None,
            stream: false,
        }
    }

    #[test]
    fn an_identity_is_never_used_twice() {
        let mut all = Requests::default();
        let first = all.open(ask(), 0);
        let id = first.id;
        all.put_back(first);
        let first = all.take(id).unwrap();
        assert!(all.take(id).is_none(), "taken");
        all.close(first);
        let second = all.open(ask(), 0);
        assert_ne!(second.id, id);
        all.put_back(second);
        assert!(all.take(id).is_none(), "a stale identity finds nothing");
    }
}
