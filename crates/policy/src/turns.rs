//! Whose turn it is: start-time fair queueing between the clients of one class (Goyal, Vin, Cheng 1996), over all
//! lanes. A request costs one over its client's weight. Only the head of a client's line has a tag; a request that
//! leaves without having been served gives its turn to the next, so that refusals cost a client nothing.
//!
//! The i-th request of a client stands at turn `base + i x cost`. Counting turns tells how many go before a place.

use crate::ask::ClientId;
use crate::hash::Map;
use crate::request::Request;
use std::collections::{BTreeMap, BTreeSet};

/// The cost of a request with weight 1.
const TURN: u64 = 1_000_000;

/// What a client has in line.
#[derive(Clone, Debug, Default)]
struct Line {
    /// The tag of its head; of its next request when none waits.
    base: u64,
    cost: u64,
    waiting: BTreeMap<u64, u64>,
}

impl Line {
    fn end(&self) -> u64 {
        self.base + self.cost * self.waiting.len() as u64
    }
    fn last(&self) -> u64 {
        self.end().saturating_sub(self.cost) / TURN
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Turns {
    lines: Map<ClientId, Line>,
    /// Tag of the one served last.
    virtual_time: u64,
    /// How many stand at each turn.
    counts: BTreeMap<u64, usize>,
    waiting: usize,
    /// Clients by the end of their lines.
    ends: BTreeSet<(u64, ClientId)>,
    overtaken: bool,
}

impl Turns {
    /// The tag of a client's head.
    pub(crate) fn tag(&self, client: ClientId) -> u64 {
        self.lines.get(&client).map_or(self.virtual_time, |line| line.base)
    }

    pub(crate) fn enter(&mut self, request: &Request) {
        let client = request.ask.client;
        let line = self.lines.entry(client).or_default();
        if line.waiting.is_empty() {
            line.base = line.base.max(self.virtual_time);
            let weight = request.ask.weight.clamp(1e-3, 1e3);
            line.cost = crate::time::ns_of(TURN as f64 / 1e9 / weight).max(1);
        }
        self.ends.remove(&(line.end(), client));
        line.waiting.insert(request.seq, request.id);
        let (end, turn) = (line.end(), line.last());
        self.ends.insert((end, client));
        *self.counts.entry(turn).or_insert(0) += 1;
        self.waiting += 1;
        self.overtaken |= self.ends.last().is_some_and(|(last, _)| *last > end);
    }

    /// Served: the client's next turn comes later. Not served: the turn is the next one's.
    pub(crate) fn leave(&mut self, request: &Request, served: bool) {
        let client = request.ask.client;
        let Some(line) = self.lines.get_mut(&client) else { return };
        self.ends.remove(&(line.end(), client));
        let turn = if served { line.base / TURN } else { line.last() };
        if line.waiting.remove(&request.seq).is_none() {
            return;
        }
        if served {
            self.virtual_time = self.virtual_time.max(line.base);
            line.base += line.cost;
        }
        if !line.waiting.is_empty() {
            self.ends.insert((line.end(), client));
        } else if line.base <= self.virtual_time {
            self.lines.remove(&client);
        }
        self.waiting -= 1;
        if let Some(n) = self.counts.get_mut(&turn) {
            *n -= 1;
            if *n == 0 {
                self.counts.remove(&turn);
            }
        }
        if self.lines.len() > 1_024 && self.lines.len() > 4 * self.ends.len() {
            let time = self.virtual_time;
            self.lines.retain(|_, line| !line.waiting.is_empty() || line.base > time);
        }
    }

    /// How many go before the last request of this client (`standing`), or before one that it would add.
    pub(crate) fn ahead(&self, client: ClientId, standing: bool) -> usize {
        let turn = match self.lines.get(&client) {
            Some(line) if standing => line.last(),
            Some(line) if line.waiting.is_empty() => line.base.max(self.virtual_time) / TURN,
            Some(line) => line.end() / TURN,
            None => self.virtual_time / TURN,
        };
        let before = self.count_to(turn);
        if standing { before.saturating_sub(1) } else { before }
    }

    /// How many stand at this turn or an earlier one, counted from the nearer end.
    fn count_to(&self, turn: u64) -> usize {
        let mut front = self.counts.range(..=turn).map(|(_, n)| *n);
        let mut back = self.counts.range(turn + 1..).map(|(_, n)| *n);
        let (mut before, mut after) = (0, 0);
        loop {
            match front.next() {
                Some(n) => before += n,
                None => return before,
            }
            match back.next() {
                Some(n) => after += n,
                None => return self.waiting - after,
            }
        }
    }

    /// The last request of the longest line, if somebody went in front of it since this was asked.
    pub(crate) fn overtaken(&mut self) -> Option<u64> {
        if !std::mem::take(&mut self.overtaken) || self.waiting < 2 {
            return None;
        }
        let (_, client) = self.ends.last()?;
        self.lines.get(client)?.waiting.last_key_value().map(|(_, id)| *id)
    }

    pub(crate) fn ask_again(&mut self) {
        self.overtaken = true;
    }
}
