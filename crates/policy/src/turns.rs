//! Whose turn it is: start-time fair queueing between the clients of one class in one pool (Goyal, Vin, Cheng 1996),
//! over all lanes. A request costs what it is worth in requests of the usual size, over its client's weight, wherever it
//! goes: so all that a client gets counts, and what has had least goes next (max-min). Only the head of a client's line
//! has a tag; a request that leaves without having been served gives its turn to the next, so that refusals cost a
//! client nothing.
//!
//! Each market (accounts that are in the same routes) has a clock of its own, at which newcomers begin: what goes fast
//! elsewhere must not push them back behind those who are served slowly here.
//!
//! Knows costs and clients, not requests: how long a cost really takes is told by the quota clocks.

use crate::ask::ClientId;
use crate::hash::Map;
use crate::routes::Market;
use crate::time::s_of;
use std::collections::{BTreeMap, BTreeSet};

/// Lines that are looked at one by one when the work ahead is summed; the others are taken at their mean.
const LINES_EXACT: usize = 32;

/// Rates are means over about so many seconds.
const RATE_S: f64 = 10.0;

/// Work that will come later and go before: of each of some clients so much a second, and so much at most.
#[derive(Debug)]
struct Later {
    sources: [(f64, f64); LINES_EXACT + 1],
    len: usize,
}

impl Default for Later {
    fn default() -> Self {
        Self { sources: [(0.0, 0.0); LINES_EXACT + 1], len: 0 }
    }
}

impl Later {
    fn add(&mut self, per_s: f64, most: f64) {
        if per_s > 0.0 && most > 0.0 && self.len < self.sources.len() {
            self.sources[self.len] = (per_s, most);
            self.len += 1;
        }
    }

    /// The work ahead until it is done at `all` units a second, with what comes meanwhile.
    fn with(&self, ahead: f64, all: f64) -> f64 {
        if ahead <= 0.0 || all <= 0.0 {
            return ahead;
        }
        let sources = &self.sources[..self.len];
        let mut after_s = f64::INFINITY;
        // From above: each round takes those at their most that would bring more in that time.
        for _ in 0..4 {
            let (mut work, mut rate) = (ahead, all);
            for (per_s, most) in sources {
                if per_s * after_s < *most || (after_s.is_infinite() && *per_s < 0.5 * all) {
                    rate -= per_s;
                } else {
                    work += most;
                }
            }
            let next = if rate > 0.01 * all { work / rate } else { after_s };
            if next >= after_s {
                break;
            }
            after_s = next;
        }
        let most: f64 = ahead + sources.iter().map(|(_, most)| most).sum::<f64>();
        (after_s * all).min(most)
    }
}

/// A place in a client's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spot {
    First,
    /// The last, which costs this.
    Last(u64),
    /// Behind the last, and behind so much that was promised to the client.
    Next(u64),
}

/// What a client has in line.
#[derive(Clone, Debug, Default)]
struct Line {
    /// The tag of its head; of its next request when none waits.
    base: u64,
    /// Sum of the costs of those waiting.
    total: u64,
    /// Identity and cost by order of arrival.
    waiting: BTreeMap<u64, (u64, u64)>,
}

impl Line {
    fn end(&self) -> u64 {
        self.base.saturating_add(self.total)
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Turns {
    lines: Map<ClientId, Line>,
    /// The clock of each market: the greatest tag that was served there.
    clocks: Map<Market, u64>,
    /// The greatest of them.
    latest: u64,
    /// All that waits.
    total: u64,
    /// Clients with somebody waiting, by the end of their lines.
    ends: BTreeSet<(u64, ClientId)>,
    overtaken: bool,
    /// Work a second that was served lately: of each client, and of all.
    served: Map<ClientId, Rate>,
    served_in_all: Rate,
}

/// A rate over the last ten seconds or so.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    per_s: f64,
    at: u64,
}

impl Rate {
    fn now(self, now: u64) -> f64 {
        self.per_s * (-s_of(now.saturating_sub(self.at)) / RATE_S).exp()
    }

    fn add(&mut self, now: u64, work: u64) {
        self.per_s = self.now(now) + work as f64 / RATE_S;
        self.at = now;
    }
}

impl Turns {
    /// Where a client begins that comes new and may go to these markets (`None`: to all): no earlier than those who
    /// were served there last. Of several the latest, for who has had as much as the others of one market has no claim
    /// to more in the next.
    pub(crate) fn floor(&self, markets: Option<&[Market]>) -> u64 {
        let clock = |m: &Market| self.clocks.get(m).copied().unwrap_or(0);
        markets.map_or(self.latest, |of| of.iter().map(clock).max().unwrap_or(0))
    }

    /// The tag of a client's head.
    pub(crate) fn tag(&self, client: ClientId, floor: u64) -> u64 {
        match self.lines.get(&client) {
            Some(line) if !line.waiting.is_empty() => line.base,
            Some(line) => line.base.max(floor),
            None => floor,
        }
    }

    /// The cost of all that a client has in line.
    pub(crate) fn of(&self, client: ClientId) -> u64 {
        self.lines.get(&client).map_or(0, |line| line.total)
    }

    /// The cost of all that waits.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    pub(crate) fn enter(&mut self, client: ClientId, seq: u64, id: u64, cost: u64, floor: u64) {
        let line = self.lines.entry(client).or_default();
        if line.waiting.is_empty() {
            line.base = line.base.max(floor);
        } else {
            self.ends.remove(&(line.end(), client));
        }
        line.waiting.insert(seq, (id, cost));
        line.total += cost;
        self.total += cost;
        let end = line.end();
        self.ends.insert((end, client));
        self.overtaken |= self.ends.last().is_some_and(|(last, _)| *last > end);
    }

    /// Served in a market: the client's next turn comes later. Not served: the turn is the next one's.
    pub(crate) fn leave(&mut self, now: u64, client: ClientId, seq: u64, served: Option<Market>) {
        let Some(line) = self.lines.get_mut(&client) else { return };
        let end = line.end();
        let Some((_, cost)) = line.waiting.remove(&seq) else { return };
        self.ends.remove(&(end, client));
        line.total -= cost;
        self.total -= cost;
        let start = line.base;
        if served.is_some() {
            line.base = line.base.saturating_add(cost);
        }
        if !line.waiting.is_empty() {
            self.ends.insert((line.end(), client));
        }
        if let Some(market) = served {
            self.serve(now, client, market, start, cost);
        }
        self.sweep();
    }

    /// Served without having waited, while others do: it pays like them.
    pub(crate) fn at_once(&mut self, now: u64, client: ClientId, market: Market, cost: u64, floor: u64) {
        let line = self.lines.entry(client).or_default();
        if line.waiting.is_empty() {
            line.base = line.base.max(floor);
        } else {
            self.ends.remove(&(line.end(), client));
        }
        let start = line.base;
        line.base = line.base.saturating_add(cost);
        if !line.waiting.is_empty() {
            self.ends.insert((line.end(), client));
        }
        self.serve(now, client, market, start, cost);
        self.sweep();
    }

    fn serve(&mut self, now: u64, client: ClientId, market: Market, start: u64, cost: u64) {
        let clock = self.clocks.entry(market).or_insert(0);
        *clock = start.max(*clock);
        self.latest = self.latest.max(start);
        self.served.entry(client).or_default().add(now, cost);
        self.served_in_all.add(now, cost);
    }

    /// The markets are others from now on: who comes new begins behind all that were served.
    pub(crate) fn new_markets(&mut self, count: u32) {
        let latest = self.latest;
        self.clocks = (0..count).map(|m| (Market::of(m), latest)).collect();
    }

    fn sweep(&mut self) {
        if self.lines.len() > 1_024 && self.lines.len() > 4 * self.ends.len() {
            let time = self.latest;
            self.lines.retain(|_, line| !line.waiting.is_empty() || line.base > time);
        }
        if self.served.len() > 4_096 {
            let lines = &self.lines;
            self.served.retain(|client, _| lines.contains_key(client));
        }
    }

    /// Where a request would start: its client's tag, and the client's own work before it.
    fn start(&self, client: ClientId, at: Spot, floor: u64) -> (u64, u64) {
        let (base, own) = (self.tag(client, floor), self.of(client));
        match at {
            Spot::First => (base, 0),
            Spot::Last(cost) => (base, own.saturating_sub(cost)),
            Spot::Next(promised) => (base, own.saturating_add(promised)),
        }
    }

    /// The work that goes before a request at this spot: what waits, and what will come later and go before it, for
    /// clients whose lines end earlier come again.
    pub(crate) fn ahead(&self, now: u64, client: ClientId, at: Spot, floor: u64) -> f64 {
        let (base, own) = self.start(client, at, floor);
        let start = base.saturating_add(own);
        let line = self.lines.get(&client).filter(|l| !l.waiting.is_empty());
        let mut rest = self.total.saturating_sub(line.map_or(0, |l| l.total));
        let mut ahead = own.min(line.map_or(0, |l| l.total));
        let mut later = Later::default();
        let all = self.served_in_all.now(now);
        let mut light = all - self.rate(now, client);
        let others = self.ends.iter().filter(|(_, other)| *other != client);
        for (seen, (end, other)) in others.enumerate() {
            let Some(line) = self.lines.get(other) else { continue };
            if seen == LINES_EXACT {
                // The others' lines are longer: each has about the same to be served before this one.
                let others = (self.ends.len() - usize::from(line.total > 0)).saturating_sub(seen) as u64;
                let each = start.saturating_sub(floor);
                ahead += rest.min(each.saturating_mul(others));
                light = 0.0;
                break;
            }
            ahead += start.min(*end).saturating_sub(line.base);
            rest = rest.saturating_sub(line.total);
            let rate = self.rate(now, *other);
            light -= rate;
            later.add(rate, start.saturating_sub(*end) as f64);
        }
        let absent = self.served.len().saturating_sub(self.ends.len()) as f64;
        later.add(light, absent * start.saturating_sub(floor) as f64);
        later.with(ahead as f64, all)
    }

    /// Work a second that was let out of this line lately.
    pub(crate) fn served_per_s(&self, now: u64) -> f64 {
        self.served_in_all.now(now)
    }

    fn rate(&self, now: u64, client: ClientId) -> f64 {
        self.served.get(&client).map_or(0.0, |r| r.now(now))
    }

    /// The last request of the longest line, if somebody went in front of it since this was asked.
    pub(crate) fn overtaken(&mut self) -> Option<u64> {
        if !std::mem::take(&mut self.overtaken) || self.ends.is_empty() {
            return None;
        }
        let (_, client) = self.ends.last()?;
        self.lines.get(client)?.waiting.last_key_value().map(|(_, (id, _))| *id)
    }

    /// Somebody went in front of all that stand here, or one who was hopeless left and the next may be, too.
    pub(crate) fn ask_again(&mut self) {
        self.overtaken = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Market = Market::of(0);
    const THERE: Market = Market::of(1);

    fn enter(turns: &mut Turns, client: ClientId, seq: u64, id: u64, cost: u64) {
        turns.enter(client, seq, id, cost, turns.floor(None));
    }

    fn ahead(turns: &Turns, now: u64, client: ClientId, at: Spot) -> f64 {
        turns.ahead(now, client, at, turns.floor(None))
    }

    #[track_caller]
    fn assert_near(ahead: f64, expected: u64) {
        assert!((ahead - expected as f64).abs() < 1e-6, "{ahead} is not {expected}");
    }

    /// Serves the client with the least tag until nobody waits.
    fn served(turns: &mut Turns, lines: &mut BTreeMap<u64, Vec<u64>>) -> Vec<u64> {
        let mut order = Vec::new();
        while let Some(client) = lines
            .iter()
            .filter(|(_, l)| !l.is_empty())
            .min_by_key(|(c, l)| (turns.tag(ClientId(**c), turns.floor(None)), l[0]))
            .map(|(c, _)| *c)
        {
            let seq = lines.get_mut(&client).unwrap().remove(0);
            turns.leave(0, ClientId(client), seq, Some(HERE));
            order.push(client);
        }
        order
    }

    fn line_up(costs: &[(u64, u64)]) -> (Turns, BTreeMap<u64, Vec<u64>>) {
        let (mut turns, mut lines) = (Turns::default(), BTreeMap::<u64, Vec<u64>>::new());
        for (seq, (client, cost)) in costs.iter().enumerate() {
            enter(&mut turns, ClientId(*client), seq as u64, seq as u64, *cost);
            lines.entry(*client).or_default().push(seq as u64);
        }
        (turns, lines)
    }

    #[test]
    fn the_same_work_and_not_the_same_number_is_each_clients_share() {
        // Client 1 asks for ten units at a time, client 2 for one.
        let mut costs = vec![(1, 10); 4];
        costs.extend([(2, 1); 30]);
        let (mut turns, mut lines) = line_up(&costs);
        let order = served(&mut turns, &mut lines);
        let small = order[..22].iter().filter(|c| **c == 2).count();
        assert!((19..=20).contains(&small), "two large ones and as much work of small ones: {order:?}");
    }

    #[test]
    fn the_work_ahead_is_what_is_served_before() {
        let (turns, _) = line_up(&[(1, 10), (1, 10), (1, 10), (2, 4), (3, 4), (3, 4), (3, 4)]);
        // A newcomer: everybody's first one starts at the same tag; nothing is before it but chance.
        assert_near(ahead(&turns, 0, ClientId(9), Spot::Next(0)), 0);
        // One more of client 2 starts at 4: four units of each other go before it, and its own four.
        assert_near(ahead(&turns, 0, ClientId(2), Spot::Next(0)), 4 + 4 + 4);
        assert_near(ahead(&turns, 0, ClientId(2), Spot::First), 0);
        // One more of client 1 comes after everything.
        assert_near(ahead(&turns, 0, ClientId(1), Spot::Next(0)), turns.total());
        assert_near(ahead(&turns, 0, ClientId(1), Spot::Last(10)), turns.total() - 10);
        // What was promised to it does not stand in line, but lets as much of the others go before.
        assert_near(ahead(&turns, 0, ClientId(9), Spot::Next(6)), 6 + 4 + 6);
    }

    #[test]
    fn with_many_clients_the_work_ahead_is_about_right() {
        let costs: Vec<(u64, u64)> = (0..1_000).flat_map(|c| [(c, 3), (c, 3)]).collect();
        let (turns, _) = line_up(&costs);
        assert_near(ahead(&turns, 0, ClientId(7), Spot::Next(0)), turns.total());
        let (turns, _) = line_up(&(0..1_000).map(|c| (c, 3)).chain([(7, 3), (7, 3)]).collect::<Vec<_>>());
        assert!(ahead(&turns, 0, ClientId(7), Spot::Next(0)) <= turns.total() as f64);
        assert_near(ahead(&turns, 0, ClientId(5_000), Spot::Next(0)), 0);
    }

    #[test]
    fn who_comes_later_and_goes_before_makes_a_long_line_longer() {
        let mut turns = Turns::default();
        // Client 1 has a long line; three of four that are served are other clients' newcomers.
        (0..150).for_each(|seq| enter(&mut turns, ClientId(1), seq, seq, 10));
        for i in 0..400u64 {
            let (now, seq) = (i * crate::time::SECOND / 10, 1_000 + i);
            if i % 4 == 0 {
                enter(&mut turns, ClientId(1), seq, seq, 10);
                turns.leave(now, ClientId(1), i / 4, Some(HERE));
            } else {
                enter(&mut turns, ClientId(2 + i % 7), seq, seq, 10);
                turns.leave(now, ClientId(2 + i % 7), seq, Some(HERE));
            }
        }
        let now = 40 * crate::time::SECOND;
        let behind = ahead(&turns, now, ClientId(1), Spot::Next(0));
        let waits = turns.total() as f64;
        assert!((3.3..4.7).contains(&(behind / waits)), "{behind} of {waits}");
        assert_near(ahead(&turns, now, ClientId(2), Spot::First), 0);
    }

    #[test]
    fn who_is_almost_as_far_back_lets_little_more_go_before() {
        let mut turns = Turns::default();
        // Twenty clients alike, each with a line of twenty.
        for seq in 0..400u64 {
            enter(&mut turns, ClientId(seq % 20), seq, seq, 10);
        }
        for i in 0..400u64 {
            let now = i * crate::time::SECOND / 10;
            enter(&mut turns, ClientId(i % 20), 400 + i, 400 + i, 10);
            turns.leave(now, ClientId(i % 20), i, Some(HERE));
        }
        let ahead = ahead(&turns, 40 * crate::time::SECOND, ClientId(7), Spot::Next(0));
        let waits = turns.total() as f64;
        assert!((0.99..1.06).contains(&(ahead / waits)), "{ahead} of {waits}");
    }

    #[test]
    fn who_leaves_unserved_has_paid_nothing() {
        let (mut turns, mut lines) = line_up(&[(1, 5), (2, 5), (1, 5), (2, 5)]);
        turns.leave(0, ClientId(1), 0, None);
        lines.get_mut(&1).unwrap().remove(0);
        assert_eq!(served(&mut turns, &mut lines), [2, 1, 2], "its second stands where the first stood");
        assert_eq!(turns.total(), 0);
    }

    #[test]
    fn what_is_served_elsewhere_does_not_push_newcomers_back() {
        let mut turns = Turns::default();
        // Client 1 stands in a long line here; client 2 is served there, much faster.
        (0..50).for_each(|seq| turns.enter(ClientId(1), seq, seq, 10, 0));
        (0..5).for_each(|seq| turns.leave(0, ClientId(1), seq, Some(HERE)));
        for seq in 100..200 {
            turns.enter(ClientId(2), seq, seq, 10, turns.floor(Some(&[THERE])));
            turns.leave(0, ClientId(2), seq, Some(THERE));
        }
        let floor = turns.floor(Some(&[HERE]));
        assert!(turns.tag(ClientId(3), floor) < turns.tag(ClientId(1), floor), "a newcomer goes next");
        let both = turns.floor(Some(&[HERE, THERE]));
        assert_eq!(both, turns.floor(Some(&[THERE])), "who may go there, too, had a chance there");
        assert!(turns.tag(ClientId(2), floor) > turns.tag(ClientId(1), floor), "it has had more");
    }

    #[test]
    fn who_goes_at_once_while_others_wait_pays_like_them() {
        let mut turns = Turns::default();
        (0..9).for_each(|seq| turns.enter(ClientId(1), seq, seq, 10, 0));
        (0..9).for_each(|_| turns.at_once(0, ClientId(2), HERE, 10, 0));
        turns.leave(0, ClientId(1), 0, Some(HERE));
        let floor = turns.floor(None);
        assert_eq!((turns.tag(ClientId(1), floor), turns.tag(ClientId(2), floor)), (10, 90));
    }
}
