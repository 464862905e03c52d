//! The waiting room: who waits, in which order, and when to look again. It knows places, not targets: whether a
//! waiter may go is asked of `pick`.
//!
//! Waiters that compete for the same candidates stand in one *lane*. Lanes are looked at by class, then by the tags
//! of their heads; inside one, clients take turns and each client's requests go first come, first served. Whose turn
//! it is, `turns` knows.

mod fair;

use crate::ask::ClientId;
use crate::fleet::{AccountId, Endpoint, RoomSettings};
use crate::ghosts::Ghosts;
use crate::hash::Map;
use crate::quota::{Need, Order};
use crate::request::{Request, rank};
use crate::routes::{Market, Markets};
use crate::shares::KEPT;
use crate::slab::Slab;
use crate::turns::{Spot, Turns};
use std::collections::{BTreeMap, BTreeSet};

/// Whose time is over within this goes before the others of its client.
const LAST_CALL_NS: u64 = 2 * crate::time::SECOND;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LaneKey {
    pub(crate) route: usize,
    pub(crate) class: u8,
    endpoint: Endpoint,
    bound: Option<AccountId>,
    /// What else tells its candidates from others': what its client may use, the caller's choice of providers; a request that has tried some
    /// of its targets stands alone.
    choice: u64,
}

impl LaneKey {
    fn of(request: &Request) -> Self {
        let fresh = request.tried.is_empty() && request.barred.is_empty() && request.barred_models.is_empty();
        let choice = match &request.ask.providers {
            _ if !fresh => crate::hash::of(&request.id),
            None if request.ask.allowed.is_none() => 0,
            providers => crate::hash::of(&(providers, &request.ask.allowed)),
        };
        Self {
            route: request.route,
            class: rank(request.ask.class),
            endpoint: request.ask.endpoint,
            bound: request.ask.bound_to,
            choice,
        }
    }
}

/// The requests of one client in one lane, in order of arrival.
#[derive(Clone, Debug, Default)]
struct File {
    /// Identity, and whether it stands in front (its client has paid for it).
    queue: BTreeMap<u64, (u64, bool)>,
    /// The same by deadline.
    due: BTreeSet<(u64, u64)>,
    /// The place of its head among the heads.
    head: Option<(u64, u64)>,
}

#[derive(Clone, Debug)]
pub(crate) struct Lane {
    pub(crate) key: LaneKey,
    files: Map<u64, File>,
    /// Heads of the clients' files: tag, arrival, client.
    heads: BTreeSet<(u64, u64, u64)>,
    /// When time alone may let the head go.
    try_at: u64,
    /// The last change after which the head was looked at.
    looked: u64,
    /// Its clients' turns are those of this pool, in these markets.
    pool: usize,
    among: usize,
    /// Its head is owed a turn before higher classes.
    owed: bool,
}

/// What waits of one class in one pool.
#[derive(Clone, Debug, Default)]
struct Lot {
    turns: Turns,
    /// The cost of those who stand in front: let out before, or come back to a place that was kept.
    front: u64,
}

impl Lot {
    fn total(&self) -> u64 {
        self.turns.total() + self.front
    }
}

/// Whose lanes to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// Those whose class had less than it keeps.
    Owed,
    /// A class.
    Class(u8),
}

#[derive(Debug, Default)]
pub(crate) struct Room {
    lanes: Slab<Lane>,
    index: Map<LaneKey, usize>,
    /// By pool and class.
    lots: Vec<[Lot; 3]>,
    /// By pool: what a request usually takes.
    usual: Vec<Option<Need>>,
    markets: Markets,
    deadlines: BTreeSet<(u64, u64)>,
    /// Those that may not go before a time: a retry's pause.
    later: BTreeSet<(u64, u64)>,
    per_client: Map<ClientId, usize>,
    pub(crate) waiting: usize,
    pub(crate) by_class: [usize; 3],
    pub(crate) bytes: u64,
    /// Counts changes that may let somebody go.
    changes: u64,
    wake: u64,
}

impl Room {
    /// The clients of whom most wait, most first.
    pub(crate) fn clients_most(&self, most: usize) -> Vec<(ClientId, usize)> {
        let mut clients: Vec<_> = self.per_client.iter().map(|(client, n)| (*client, *n)).collect();
        clients.sort_unstable_by_key(|(client, n)| (std::cmp::Reverse(*n), client.0));
        clients.truncate(most);
        clients
    }

    /// Whether somebody stands in front of this request for the same candidates.
    pub(crate) fn has_before(&self, request: &Request) -> bool {
        if self.waiting == 0 {
            return false;
        }
        let key = LaneKey::of(request);
        (0..=key.class).any(|class| self.index.contains_key(&LaneKey { class, ..key }))
    }

    /// Who comes before whom, as far as saving up goes.
    pub(crate) fn order(&self, request: &Request) -> Order {
        let class = rank(request.ask.class);
        if request.place.owed {
            return (0, 0, request.seq);
        }
        let lot = self.lots.get(request.place.pool).filter(|_| request.attempt == 0);
        let among = self.markets.among(request.place.among);
        let tag = |turns: &Turns| turns.tag(request.ask.client, turns.floor(among));
        let tag = lot.map_or(0, |lots| tag(&lots[usize::from(class)].turns));
        (1 + class, tag, if request.place.called { 0 } else { request.seq })
    }

    /// Whether there is no place left for this request.
    pub(crate) fn is_full(&self, request: &Request, on_route: usize, settings: &RoomSettings) -> bool {
        let heavy = self.bytes.saturating_add(request.ask.size.body_bytes) > settings.bytes_max;
        if request.returned {
            // A place was promised, and how many are is bounded.
            return heavy;
        }
        let of_client = self.per_client.get(&request.ask.client).copied().unwrap_or(0);
        self.waiting >= settings.waiters_max
            || heavy
            || of_client >= settings.per_client_max
            || on_route >= settings.per_route_max
    }

    /// The share of what waits, and of what is promised, that will go before this request. `owed`: its class has had
    /// less than it keeps, and is served at that rate at least.
    pub(crate) fn ahead(&self, now: u64, request: &Request, ghosts: &Ghosts, owed: bool) -> (f64, f64) {
        if request.attempt > 0 || (self.waiting == 0 && ghosts.is_empty()) {
            return (0.0, 0.0);
        }
        let (pool, class) = (request.place.pool, usize::from(rank(request.ask.class)));
        let client = request.ask.client;
        let none = <[Lot; 3]>::default();
        let lots = self.lots.get(pool).unwrap_or(&none);
        let standing = request.place.lane.is_some() && !request.place.front;
        let cost = if standing { request.place.cost } else { 0 };
        let likely = ghosts.likely_share();
        let promised = ghosts.own((pool, class), client);
        let higher: u64 = lots[..class].iter().map(Lot::total).sum();
        let spot = match () {
            () if request.returned => Spot::First,
            () if standing => Spot::Last(cost),
            () => Spot::Next(part(promised, likely)),
        };
        let turns = &lots[class].turns;
        let own = lots[class].front as f64
            + turns.ahead(now, client, spot, turns.floor(self.markets.among(request.place.among)));
        // What the lower classes keep goes before, too.
        let lower = (class + 1..3).filter(|c| lots[*c].total() > 0);
        let (lower, kept) = lower.fold((0, 0.0), |(l, k), c| (l + lots[c].total(), k + KEPT[c]));
        let mut ahead = higher as f64 + own;
        ahead += (lower as f64).min(ahead * kept / (1.0 - kept));
        // And so do those of higher classes that will come.
        let rate = |c: usize| lots[c].turns.served_per_s(now);
        let (above, all) = ((0..class).map(rate).sum::<f64>(), (0..3).map(rate).sum::<f64>());
        if above > 0.0 {
            ahead *= all / (all - above).max(0.02 * all);
        }
        if owed && KEPT[class] > 0.0 {
            ahead = ahead.min(own / KEPT[class]);
        }
        let others = lots.iter().map(Lot::total).sum::<u64>() - cost;
        let waiting = if others == 0 { 0.0 } else { ahead / others as f64 };
        if request.returned || ghosts.is_empty() {
            return (waiting, 0.0);
        }
        let start = turns.of(client) + promised;
        let all = (0..3).map(|c| match c.cmp(&class) {
            std::cmp::Ordering::Less => (ghosts.ahead((pool, c), client, u64::MAX).0, true),
            _ => (ghosts.ahead((pool, c), client, start).0, false),
        });
        let (total, before) = all.fold((0, 0), |(t, b), (n, first)| (t + n, b + if first { n } else { 0 }));
        let before = before + ghosts.ahead((pool, class), client, start).1;
        let ghostly = if total == 0 { 0.0 } else { before as f64 / total as f64 * likely };
        (waiting, ghostly.min(1.0))
    }

    /// Takes a place. `try_at`: when time alone may let it go; 0: look at once.
    pub(crate) fn enter(&mut self, now: u64, request: &mut Request, try_at: u64) {
        if self.waiting == 0 {
            self.lots.clear();
            self.wake = u64::MAX;
        }
        self.waiting += 1;
        self.by_class[usize::from(rank(request.ask.class))] += 1;
        self.bytes += request.ask.size.body_bytes;
        *self.per_client.entry(request.ask.client).or_insert(0) += 1;
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
        let (client, cost) = (request.ask.client, request.place.cost);
        let front = request.attempt > 0;
        request.place.front = front;
        let among = self.markets.among(request.place.among);
        let lot = lot_of(&mut self.lots, request.place.pool, key.class);
        if front {
            lot.front += cost;
            lot.turns.ask_again();
        } else {
            let floor = lot.turns.floor(among);
            lot.turns.enter(client, request.seq, request.id, cost, floor);
        }
        let at = if let Some(at) = self.index.get(&key) {
            *at
        } else {
            let at = self.lanes.insert(Lane {
                key,
                files: Map::default(),
                heads: BTreeSet::new(),
                try_at: u64::MAX,
                looked: self.changes,
                pool: request.place.pool,
                among: request.place.among,
                owed: false,
            });
            self.index.insert(key, at);
            at
        };
        let lane = &mut self.lanes[at];
        lane.try_at = lane.try_at.min(try_at);
        let client = request.ask.client.0;
        let file = lane.files.entry(client).or_default();
        file.queue.insert(request.seq, (request.id, front));
        file.due.insert((request.ask.deadline_mono_ns, request.seq));
        lane.set_head(client, &self.lots, &self.markets);
        request.place.lane = Some(at);
        self.wake = self.wake.min(lane.try_at);
    }

    /// Leaves the room: let out to a market, or for another reason.
    pub(crate) fn leave(&mut self, now: u64, request: &mut Request, let_out: Option<Market>) {
        if !std::mem::take(&mut request.place.waiting) {
            return;
        }
        let class = usize::from(rank(request.ask.class));
        self.waiting -= 1;
        self.by_class[class] -= 1;
        self.bytes -= request.ask.size.body_bytes;
        if let Some(n) = self.per_client.get_mut(&request.ask.client) {
            *n -= 1;
            if *n == 0 {
                self.per_client.remove(&request.ask.client);
            }
        }
        self.deadlines.remove(&(request.ask.deadline_mono_ns, request.id));
        request.waited_ns += now.saturating_sub(request.place.since);
        let Some(at) = request.place.lane.take() else {
            self.later.remove(&(request.place.not_before, request.id));
            return;
        };
        let (pool, cost) = (request.place.pool, request.place.cost);
        let lot = self.lot(pool, rank(request.ask.class));
        if request.place.front {
            lot.front = lot.front.saturating_sub(cost);
        } else {
            lot.turns.leave(now, request.ask.client, request.seq, let_out);
        }
        let lane = &mut self.lanes[at];
        let client = request.ask.client.0;
        let first = lane.heads.first().copied();
        if let Some(file) = lane.files.get_mut(&client) {
            file.queue.remove(&request.seq);
            file.due.remove(&(request.ask.deadline_mono_ns, request.seq));
        }
        lane.set_head(client, &self.lots, &self.markets);
        if first.is_some_and(|(_, seq, _)| seq == request.seq) {
            // The next one may be smaller, or was held up by the one that left.
            lane.try_at = 0;
            lane.owed = false;
            self.wake = 0;
        }
        if lane.heads.is_empty() {
            let key = lane.key;
            self.lanes.remove(at);
            self.index.remove(&key);
        }
    }

    /// Something came back or opened: whoever waits may look again.
    pub(crate) fn touch(&mut self) {
        self.changes += 1;
        if self.lanes.len() > 0 {
            self.wake = 0;
        }
    }

    /// The head of a lane: its place and its identity. Turns that were taken in other lanes are taken into account.
    /// Who came back stands in front of those of its client that waited longer: one whose time is nearly over takes the
    /// head's turn, for the others can wait.
    pub(crate) fn head(&mut self, now: u64, at: usize) -> Option<((u64, u64), u64)> {
        let lane = self.lanes.get_mut(at)?;
        loop {
            let (tag, seq, client) = *lane.heads.first()?;
            lane.set_head(client, &self.lots, &self.markets);
            if lane.heads.first() == Some(&(tag, seq, client)) {
                let file = lane.files.get(&client)?;
                let (head, front) = *file.queue.get(&seq)?;
                let due =
                    file.due.first().filter(|(by, _)| !front && *by <= now.saturating_add(LAST_CALL_NS));
                let due = due.and_then(|(_, seq)| file.queue.get(seq));
                return Some(((tag, seq), due.map_or(head, |(id, _)| *id)));
            }
        }
    }

    /// Some of those behind the head of a lane: first the other clients', then the next of each.
    pub(crate) fn behind(&self, at: usize, count: usize) -> Vec<u64> {
        let Some(lane) = self.lanes.get(at) else { return Vec::new() };
        let files = || lane.heads.iter().take(count + 1).filter_map(|(_, _, client)| lane.files.get(client));
        let heads = files().filter_map(|f| f.queue.first_key_value()).skip(1);
        let next = files().flat_map(|f| f.queue.iter().skip(1));
        heads.chain(next).take(count).map(|(_, (id, _))| *id).collect()
    }

    /// Whether the lane is there, and one of these.
    pub(crate) fn is(&self, at: usize, who: Who) -> bool {
        self.lanes.get(at).is_some_and(|lane| lane.is(who))
    }

    /// Whether the head of the lane goes before higher classes.
    pub(crate) fn owe(&mut self, at: usize, owed: bool) {
        if let Some(lane) = self.lanes.get_mut(at) {
            lane.owed = owed;
        }
    }

    fn lot(&mut self, pool: usize, class: u8) -> &mut Lot {
        lot_of(&mut self.lots, pool, class)
    }

    /// The head of a lane could not go; time alone may let it go at `try_at`.
    pub(crate) fn looked(&mut self, at: usize, try_at: u64) {
        let changes = self.changes;
        if let Some(lane) = self.lanes.get_mut(at) {
            (lane.looked, lane.try_at) = (changes, try_at);
        }
    }

    /// Lanes that want a look.
    pub(crate) fn pending(&self, who: Who, now: u64) -> Vec<usize> {
        let wants = |lane: &Lane| lane.is(who) && (lane.looked < self.changes || lane.try_at <= now);
        self.lanes.iter().filter(|(_, lane)| wants(lane)).map(|(at, _)| at).collect()
    }

    /// The last of a class, if somebody went in front of it since this was asked, and how it may be asked again.
    pub(crate) fn overtaken(&mut self, class: u8) -> Option<u64> {
        self.lots.iter_mut().find_map(|lots| lots[usize::from(class)].turns.overtaken())
    }

    /// The one in front of the last may be hopeless, too.
    pub(crate) fn ask_again(&mut self, pool: usize, class: u8) {
        self.lot(pool, class).turns.ask_again();
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

fn lot_of(lots: &mut Vec<[Lot; 3]>, pool: usize, class: u8) -> &mut Lot {
    if lots.len() <= pool {
        lots.resize_with(pool + 1, Default::default);
    }
    &mut lots[pool][usize::from(class)]
}

/// So much of an amount.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a u64 is one")]
fn part(amount: u64, share: f64) -> u64 {
    (amount as f64 * share.clamp(0.0, 1.0)) as u64
}

impl Lane {
    fn is(&self, who: Who) -> bool {
        match who {
            Who::Owed => self.owed,
            Who::Class(class) => self.key.class == class,
        }
    }

    /// Puts the head of a client's file at its place among the heads.
    fn set_head(&mut self, client: u64, lots: &[[Lot; 3]], markets: &Markets) {
        let turns = lots.get(self.pool).map(|l| &l[usize::from(self.key.class)].turns);
        let Some(file) = self.files.get_mut(&client) else { return };
        let head = file.queue.first_key_value().map(|(seq, (_, front))| {
            let tag = |t: &Turns| t.tag(ClientId(client), t.floor(markets.among(self.among)));
            let tag = if *front { 0 } else { turns.map_or(0, tag) };
            (tag, *seq)
        });
        if head != file.head {
            if let Some((tag, seq)) = file.head {
                self.heads.remove(&(tag, seq, client));
            }
            if let Some((tag, seq)) = head {
                self.heads.insert((tag, seq, client));
            }
            file.head = head;
        }
        if head.is_none() {
            self.files.remove(&client);
        }
    }
}
