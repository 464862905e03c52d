//! The waiting room: who waits, in which order, and when to look again. It knows places, not targets: whether a
//! waiter may go is asked of `pick`.
//!
//! Waiters that compete for the same candidates stand in one *lane*; inside it the order is start-time fair queueing
//! between clients (Goyal, Vin, Cheng 1996; each request costs one over its client's weight) and first come first
//! served inside one client. Lanes are looked at by class, then by the tags of their heads.

use crate::ask::ClientId;
use crate::fleet::{AccountId, Endpoint, RoomSettings};
use crate::hash::Map;
use crate::request::{Request, rank};
use crate::slab::Slab;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LaneKey {
    pub(crate) route: usize,
    pub(crate) class: u8,
    endpoint: Endpoint,
    bound: Option<AccountId>,
    /// Requests with candidates of their own (the caller chose providers, some targets were tried) stand alone.
    alone: Option<u64>,
}

impl LaneKey {
    fn of(request: &Request) -> Self {
        let plain = request.ask.providers.is_none()
            && request.tried.is_empty()
            && request.barred.is_empty()
            && request.barred_models.is_empty();
        Self {
            route: request.route,
            class: rank(request.ask.class),
            endpoint: request.ask.endpoint,
            bound: request.ask.bound_to,
            alone: (!plain).then_some(request.id),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Lane {
    pub(crate) key: LaneKey,
    pub(crate) queue: BTreeMap<(u64, u64), u64>,
    /// When time alone may let the head go.
    pub(crate) try_at: u64,
    /// The last change after which the head was looked at.
    pub(crate) looked: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Room {
    lanes: Slab<Lane>,
    index: Map<LaneKey, usize>,
    deadlines: BTreeSet<(u64, u64)>,
    /// Those that may not go before a time: a retry's pause.
    later: BTreeSet<(u64, u64)>,
    per_client: Map<ClientId, usize>,
    finish_tags: Map<(u8, ClientId), u64>,
    virtual_time: [u64; 3],
    pub(crate) waiting: usize,
    pub(crate) by_class: [usize; 3],
    pub(crate) bytes: u64,
    /// Counts changes that may let somebody go.
    changes: u64,
    wake: u64,
}

impl Room {
    /// Whether somebody stands in front of this request for the same candidates.
    pub(crate) fn has_before(&self, request: &Request) -> bool {
        if self.waiting == 0 {
            return false;
        }
        let key = LaneKey::of(request);
        (0..=key.class).any(|class| self.index.contains_key(&LaneKey { class, ..key }))
    }

    /// Whether there is no place left for this request.
    pub(crate) fn is_full(&self, request: &Request, on_route: usize, settings: &RoomSettings) -> bool {
        let of_client = self.per_client.get(&request.ask.client).copied().unwrap_or(0);
        self.waiting >= settings.waiters_max
            || self.bytes.saturating_add(request.ask.size.body_bytes) > settings.bytes_max
            || of_client >= settings.per_client_max
            || on_route >= settings.per_route_max
    }

    /// Takes a place. `try_at`: when time alone may let it go; 0: look at once.
    pub(crate) fn enter(&mut self, now: u64, request: &mut Request, try_at: u64) {
        if self.waiting == 0 {
            self.finish_tags.clear();
            self.virtual_time = [0; 3];
            self.wake = u64::MAX;
        }
        let client = request.ask.client;
        self.waiting += 1;
        self.by_class[usize::from(rank(request.ask.class))] += 1;
        self.bytes += request.ask.size.body_bytes;
        *self.per_client.entry(client).or_insert(0) += 1;
        self.deadlines.insert((request.ask.deadline_mono_ns, request.id));
        self.wake = self.wake.min(request.ask.deadline_mono_ns);
        request.place.waiting = true;
        request.place.since = now;
        if request.place.not_before > now {
            self.later.insert((request.place.not_before, request.id));
            self.wake = self.wake.min(request.place.not_before);
        } else {
            self.stand(request, try_at);
        }
    }

    /// Stands in its lane.
    fn stand(&mut self, request: &mut Request, try_at: u64) {
        let key = LaneKey::of(request);
        let tag = self.tag(request);
        let at = if let Some(at) = self.index.get(&key) {
            *at
        } else {
            let at = self.lanes.insert(Lane {
                key,
                queue: BTreeMap::new(),
                try_at: u64::MAX,
                looked: self.changes,
            });
            self.index.insert(key, at);
            at
        };
        let lane = &mut self.lanes[at];
        lane.try_at = lane.try_at.min(try_at);
        lane.queue.insert((tag, request.seq), request.id);
        request.place.lane = Some(at);
        self.wake = self.wake.min(lane.try_at);
    }

    fn tag(&mut self, request: &mut Request) -> u64 {
        if let Some(tag) = request.place.tag {
            return tag;
        }
        let class = rank(request.ask.class);
        if request.attempt > 0 {
            // It was let out once: its client has paid for it already, and it comes back in front.
            let tag = self.virtual_time[usize::from(class)];
            request.place.tag = Some(tag);
            return tag;
        }
        let cost = crate::time::ns_of(1e-3 / request.ask.weight.clamp(1e-3, 1e3));
        let finish = self.finish_tags.entry((class, request.ask.client)).or_insert(0);
        let start = (*finish).max(self.virtual_time[usize::from(class)]);
        *finish = start + cost.max(1);
        request.place.tag = Some(start);
        start
    }

    /// Leaves the room, for whatever reason.
    pub(crate) fn leave(&mut self, now: u64, request: &mut Request) {
        if !std::mem::take(&mut request.place.waiting) {
            return;
        }
        let client = request.ask.client;
        self.waiting -= 1;
        self.by_class[usize::from(rank(request.ask.class))] -= 1;
        self.bytes -= request.ask.size.body_bytes;
        if let Some(n) = self.per_client.get_mut(&client) {
            *n -= 1;
            if *n == 0 {
                self.per_client.remove(&client);
            }
        }
        self.deadlines.remove(&(request.ask.deadline_mono_ns, request.id));
        request.waited_ns += now.saturating_sub(request.place.since);
        match request.place.lane.take() {
            None => {
                self.later.remove(&(request.place.not_before, request.id));
            }
            Some(at) => {
                let class = usize::from(rank(request.ask.class));
                let tag = request.place.tag.unwrap_or(0);
                let lane = &mut self.lanes[at];
                let was_head = lane.queue.first_key_value().is_some_and(|(_, id)| *id == request.id);
                lane.queue.remove(&(tag, request.seq));
                if was_head {
                    // The next one may be smaller, or be held up by the one that left.
                    lane.try_at = 0;
                    self.wake = 0;
                }
                self.virtual_time[class] = self.virtual_time[class].max(tag);
                if lane.queue.is_empty() {
                    let key = lane.key;
                    self.lanes.remove(at);
                    self.index.remove(&key);
                }
            }
        }
    }

    /// Something came back or opened: whoever waits may look again.
    pub(crate) fn touch(&mut self) {
        self.changes += 1;
        if self.lanes.len() > 0 {
            self.wake = 0;
        }
    }

    pub(crate) fn lane(&self, at: usize) -> Option<&Lane> {
        self.lanes.get(at)
    }

    /// The head of a lane could not go; time alone may let it go at `try_at`.
    pub(crate) fn looked(&mut self, at: usize, try_at: u64) {
        let changes = self.changes;
        if let Some(lane) = self.lanes.get_mut(at) {
            (lane.looked, lane.try_at) = (changes, try_at);
        }
    }

    /// Lanes of a class that want a look, with the places of their heads.
    pub(crate) fn pending(&self, class: u8, now: u64) -> Vec<((u64, u64), usize)> {
        let wants =
            |lane: &Lane| lane.key.class == class && (lane.looked < self.changes || lane.try_at <= now);
        let lanes = self.lanes.iter().filter(|(_, lane)| wants(lane));
        lanes.filter_map(|(at, lane)| Some((*lane.queue.first_key_value()?.0, at))).collect()
    }

    /// One whose deadline is before (or with `reached`, at) this instant.
    pub(crate) fn expired(&self, now: u64, reached: bool) -> Option<u64> {
        let (deadline, id) = self.deadlines.first()?;
        (*deadline < now || (reached && *deadline == now)).then_some(*id)
    }

    /// Anyone at all.
    pub(crate) fn anyone(&self) -> Option<u64> {
        self.deadlines.first().map(|(_, id)| *id)
    }

    /// One whose pause is over.
    pub(crate) fn rested(&mut self, now: u64) -> Option<u64> {
        let (at, id) = *self.later.first()?;
        if at > now {
            return None;
        }
        self.later.pop_first();
        Some(id)
    }

    /// After its pause: stands in its lane, or pauses again until `not_before`.
    pub(crate) fn resume(&mut self, now: u64, request: &mut Request) {
        if request.place.not_before > now {
            self.later.insert((request.place.not_before, request.id));
        } else {
            self.stand(request, 0);
        }
    }

    /// Computes when to look again, after everything due was done.
    pub(crate) fn rest(&mut self, now: u64) {
        let lanes = self.lanes.iter().map(|(_, l)| if l.looked < self.changes { now } else { l.try_at });
        let wake = lanes.min().unwrap_or(u64::MAX);
        let later = self.later.first().map_or(u64::MAX, |(at, _)| *at);
        let deadline = self.deadlines.first().map_or(u64::MAX, |(at, _)| *at);
        self.wake = wake.min(later).min(deadline);
    }

    pub(crate) fn wake(&self) -> Option<u64> {
        (self.waiting > 0).then_some(self.wake)
    }
}
