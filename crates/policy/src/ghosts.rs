//! Ghost places: who is refused is told when to come back, and the place that it would have had is kept for it until
//! then and two seconds more. Who comes back in that time stands where it would stand had it waited, so it is not
//! refused again; who comes early or late is new.
//!
//! Ghosts are counted as work ahead of those who come after them, or the promises could not be kept; but as likely as
//! callers turned out to come back at all, or quota would be saved up for nobody.
//!
//! Callers are told apart by what they send: a request that is sent again is the same in every byte.

use crate::ask::{Ask, ClientId};
use crate::hash::Map;
use crate::request::Reservation;
use crate::time::{MS, SECOND};
use std::collections::{BTreeMap, BTreeSet};

/// A place is kept so long after its time.
const KEPT_NS: u64 = 2 * SECOND;
/// Clocks differ, and stated times are rounded: so much before its time a place may be claimed. No more, or those who
/// ask for the first time, and for the same, would take the places of those who come back.
const EARLY_NS: u64 = MS;
/// Places kept of one client, and in all.
const PER_CLIENT_MAX: usize = 10_000;
const GHOSTS_MAX: usize = 20_000;
/// Belief, in callers, that they come back, before any did.
const BELIEF: f64 = 4.0;
/// What is remembered of whether callers came back fades with each of them.
const FADE: f64 = 63.0 / 64.0;

/// The place of a refused request.
#[derive(Clone, Debug)]
pub(crate) struct Ghost {
    /// When it is awaited.
    pub(crate) at: u64,
    pub(crate) client: ClientId,
    pub(crate) lot: (usize, usize),
    /// Its order of arrival.
    pub(crate) seq: u64,
    /// What it costs its client.
    pub(crate) cost: u64,
    /// What it is expected to take, and where.
    pub(crate) placed: Vec<Reservation>,
    print: u64,
}

/// Work that was promised: of one client, and of all in one pool and class.
#[derive(Clone, Copy, Debug, Default)]
struct Promised {
    count: usize,
    cost: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Ghosts {
    /// By the time at which they are awaited.
    places: BTreeMap<(u64, u64), Ghost>,
    by_print: Map<u64, BTreeSet<(u64, u64)>>,
    of_client: Map<((usize, usize), ClientId), Promised>,
    /// By pool and class: what is promised, and to how many clients.
    lots: Map<(usize, usize), (u64, usize)>,
    came: f64,
    stayed_away: f64,
}

/// What makes a request the same as another.
pub(crate) fn print(ask: &Ask, route: usize) -> u64 {
    let size = (ask.size.body_bytes, ask.size.input_tokens, ask.size.output_tokens_max);
    crate::hash::of(&(route, ask.client, ask.class, ask.endpoint, ask.session, size, ask.stream))
}

impl Ghosts {
    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// How likely a place is to be claimed.
    pub(crate) fn likelihood(&self) -> f64 {
        (self.came + BELIEF) / (self.came + self.stayed_away + BELIEF)
    }

    /// The share of all places that will be claimed at most, but for bad luck (two standard deviations).
    pub(crate) fn likely_share(&self) -> f64 {
        let p = self.likelihood();
        let n = self.places.len().max(1) as f64;
        (p + 2.0 * (p * (1.0 - p) / n).sqrt()).min(1.0)
    }

    /// Whether there is room for one more of this client.
    pub(crate) fn has_room(&self, lot: (usize, usize), client: ClientId) -> bool {
        let own = self.of_client.get(&(lot, client)).map_or(0, |p| p.count);
        self.places.len() < GHOSTS_MAX && own < PER_CLIENT_MAX
    }

    /// Keeps a place for who comes back at `at`.
    pub(crate) fn book(&mut self, at: u64, print: u64, place: (ClientId, (usize, usize)), ghost: Booking) {
        let (client, lot) = place;
        let own = self.of_client.entry((lot, client)).or_default();
        let all = self.lots.entry(lot).or_default();
        all.1 += usize::from(own.count == 0);
        all.0 += ghost.cost;
        (own.count, own.cost) = (own.count + 1, own.cost + ghost.cost);
        self.by_print.entry(print).or_default().insert((at, ghost.seq));
        let Booking { seq, cost, placed } = ghost;
        self.places.insert((at, seq), Ghost { at, client, lot, seq, cost, placed, print });
    }

    /// Somebody comes: the place that is kept for it, if it comes at its time.
    pub(crate) fn claim(&mut self, now: u64, print: u64) -> Option<Ghost> {
        let (at, seq) = *self.by_print.get(&print)?.first()?;
        if now.saturating_add(EARLY_NS) < at {
            return None;
        }
        self.remember(true);
        self.remove((at, seq))
    }

    /// One whose caller did not come.
    pub(crate) fn expired(&mut self, now: u64) -> Option<Ghost> {
        let (at, seq) = *self.places.first_key_value()?.0;
        if at.saturating_add(KEPT_NS) >= now {
            return None;
        }
        self.remember(false);
        self.remove((at, seq))
    }

    fn remember(&mut self, came: bool) {
        self.came = self.came * FADE + f64::from(u8::from(came));
        self.stayed_away = self.stayed_away * FADE + f64::from(u8::from(!came));
    }

    fn remove(&mut self, key: (u64, u64)) -> Option<Ghost> {
        let ghost = self.places.remove(&key)?;
        if let Some(same) = self.by_print.get_mut(&ghost.print) {
            same.remove(&key);
            if same.is_empty() {
                self.by_print.remove(&ghost.print);
            }
        }
        let own = self.of_client.entry((ghost.lot, ghost.client)).or_default();
        (own.count, own.cost) = (own.count - 1, own.cost - ghost.cost);
        let gone = own.count == 0;
        if gone {
            self.of_client.remove(&(ghost.lot, ghost.client));
        }
        if let Some(all) = self.lots.get_mut(&ghost.lot) {
            all.0 -= ghost.cost;
            all.1 -= usize::from(gone);
        }
        Some(ghost)
    }

    /// What was promised to this client itself.
    pub(crate) fn own(&self, lot: (usize, usize), client: ClientId) -> u64 {
        self.of_client.get(&(lot, client)).map_or(0, |p| p.cost)
    }

    /// What was promised in all, and how much of it goes before a request of this client whose own work before it is
    /// `start`: each other client's as far as it comes earlier.
    pub(crate) fn ahead(&self, lot: (usize, usize), client: ClientId, start: u64) -> (u64, u64) {
        let Some((total, clients)) = self.lots.get(&lot).copied() else { return (0, 0) };
        let own = self.own(lot, client);
        let others = clients - usize::from(own > 0);
        (total, own + (total - own).min(start.saturating_mul(others as u64)))
    }
}

/// A place to be kept.
pub(crate) struct Booking {
    pub(crate) seq: u64,
    pub(crate) cost: u64,
    pub(crate) placed: Vec<Reservation>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOT: (usize, usize) = (0, 1);

    fn book(g: &mut Ghosts, at: u64, print: u64, client: u64, seq: u64) {
        g.book(at, print, (ClientId(client), LOT), Booking { seq, cost: 10, placed: Vec::new() });
    }

    #[test]
    fn a_place_is_kept_for_two_seconds_and_only_for_the_same_request() {
        let mut g = Ghosts::default();
        book(&mut g, 10 * SECOND, 7, 1, 1);
        book(&mut g, 10 * SECOND, 8, 1, 2);
        assert!(g.claim(9 * SECOND, 7).is_none(), "too early");
        assert!(g.claim(10 * SECOND, 9).is_none(), "another request");
        assert_eq!(g.claim(11 * SECOND, 7).map(|g| g.seq), Some(1));
        assert!(g.claim(11 * SECOND, 7).is_none(), "once");
        assert!(g.expired(12 * SECOND).is_none());
        assert_eq!(g.expired(12 * SECOND + 1).map(|g| g.seq), Some(2));
        assert!(g.is_empty() && g.of_client.is_empty() && g.by_print.is_empty());
        assert_eq!(g.ahead(LOT, ClientId(1), 100), (0, 0));
    }

    #[test]
    fn what_never_comes_back_is_soon_not_expected() {
        let mut g = Ghosts::default();
        assert!((g.likelihood() - 1.0).abs() < 1e-9, "a promise is believed first");
        for seq in 0..20 {
            book(&mut g, SECOND, 7, 1, seq);
        }
        while g.expired(10 * SECOND).is_some() {}
        assert!(g.likelihood() < 0.2, "{}", g.likelihood());
        for seq in 0..200 {
            book(&mut g, SECOND, 7, 1, seq);
            assert!(g.claim(SECOND, 7).is_some());
        }
        assert!(g.likelihood() > 0.9, "{}", g.likelihood());
    }

    #[test]
    fn ones_own_promises_come_before_and_the_others_as_far_as_is_fair() {
        let mut g = Ghosts::default();
        (0..50).for_each(|seq| book(&mut g, SECOND, seq, 1, seq));
        book(&mut g, SECOND, 99, 2, 99);
        assert_eq!(g.ahead(LOT, ClientId(1), 500), (510, 510));
        assert_eq!(g.ahead(LOT, ClientId(2), 10), (510, 20), "its own, and as much of the other's");
        assert_eq!(g.ahead(LOT, ClientId(3), 0), (510, 0));
        assert_eq!(g.ahead((0, 2), ClientId(3), 5), (0, 0), "another class");
    }
}
