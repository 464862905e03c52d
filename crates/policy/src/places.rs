//! Places in the waiting room: taking one, saving up from there, leaving it; and the promise of one to who is refused.

use crate::Policy;
use crate::ghosts::{self, Booking};
use crate::lease::WaitedFor;
use crate::pick::{Best, Line, Scan, Wait};
use crate::quota::Need;
use crate::refusal::{Refusal, RefusalKind};
use crate::request::{Request, Reservation, rank};
use crate::time::{MINUTE, MS, Now, SECOND};

/// Places are kept for who is told to come back within this time: clients give up on longer ones.
const KEPT_MAX_NS: u64 = 4 * MINUTE;
/// What a request of the usual size costs its client.
const PRICE_NS: u64 = 100 * MS;

impl Wait {
    pub(crate) fn in_words(&self) -> WaitedFor {
        WaitedFor { why: self.why, account: self.account, forecast_mono_ns: self.forecast }
    }
}

impl Policy {
    /// Looks over the candidates of a request that will have to wait, and says when it will go. Where a lower class
    /// has had less than it keeps of the limit that binds, it goes at that rate, whoever else waits.
    pub(crate) fn look_ahead(&mut self, now: Now, request: &Request) -> Scan {
        let scan = self.look(now, request, Line::Behind, None);
        let late = scan.wait.as_ref().is_none_or(|w| w.earliest > request.ask.deadline_mono_ns);
        if late && scan.wait.as_ref().is_some_and(|w| self.keeps(now, request, w)) {
            return self.look(now, request, Line::Kept, None);
        }
        scan
    }

    /// Whether the request's class is served at the rate that it keeps of the limit that binds.
    fn keeps(&self, now: Now, request: &Request, wait: &Wait) -> bool {
        let class = rank(request.ask.class);
        let domain = wait.domain.and_then(|d| self.pool.domains.get(d)).filter(|_| class > 0);
        domain.is_some_and(|d| d.shares.keeps(now.mono_ns, class, wait.need.of(d.dimension)))
    }

    /// Whether the limit that binds owes the request's class a turn.
    pub(crate) fn owes(&self, now: Now, request: &Request, wait: &Wait) -> bool {
        let class = rank(request.ask.class);
        let Some(domain) = wait.domain.and_then(|d| self.pool.domains.get(d)).filter(|_| class > 0) else {
            return false;
        };
        let need = wait.need.of(domain.dimension);
        // What the limit brings back in a minute; slots are counted in requests.
        let minute = 60.0 / domain.refill_s(1.0, SECOND).max(1e-9);
        domain.shares.owes(now.mono_ns, class, need, minute)
    }

    /// The price of a turn: how many requests of the usual size it is worth, as the limits see it that are in its way
    /// there, over the weight of its client. So the same request costs the same wherever it goes, at an account with
    /// much or with little quota.
    fn price(&mut self, request: &mut Request, to: Option<(usize, Need)>) {
        let mut worth = 1.0;
        if let Some((target, need)) = to {
            let usual = self.room.usual_need(request.place.pool, &need);
            let turn = self.pool.models[self.pool.targets[target].model].stats.turn().ns;
            let longest = |of: &Need| {
                let domains = self.pool.domains_of(target).map(|d| &self.pool.domains[d]);
                domains.map(|d| d.refill_s(of.of(d.dimension), turn)).fold(0.0, f64::max)
            };
            let (this, other) = (longest(&need), longest(&usual));
            if this > 0.0 && other > 0.0 {
                worth = this / other;
            }
        }
        let ns = PRICE_NS as f64 * worth / request.ask.weight.clamp(1e-3, 1e3);
        request.place.cost = crate::time::ns_of(ns.clamp(1e3, 1e15) * 1e-9);
    }

    /// Goes without having waited. While others wait that is a turn, too.
    pub(crate) fn pay_at_once(&mut self, now: Now, request: &mut Request, best: &Best) {
        if self.room.is_contended(request) {
            self.price(request, Some((best.target, best.need)));
            let market = self.room.market_of(self.pool.targets[best.target].account);
            self.room.served_at_once(now.mono_ns, request, market);
        }
    }

    /// No; and where a limit is in the way, a place is kept for when the caller was told to come back.
    pub(crate) fn refuse(&mut self, now: Now, request: &mut Request, scan: &Scan) -> Refusal {
        let refusal = self.refusal(now, request, scan);
        let (Some(after), Some(wait)) = (refusal.retry_after_ns, &scan.wait) else { return refusal };
        let lot = (request.place.pool, usize::from(rank(request.ask.class)));
        let limited = matches!(refusal.kind, RefusalKind::QuotaExhausted { .. }) && after <= KEPT_MAX_NS;
        if limited && !self.draining && self.ghosts.has_room(lot, request.ask.client) {
            let at = now.mono_ns.saturating_add(after);
            self.price(request, wait.target.map(|t| (t, wait.need)));
            self.place(now, request, wait, false);
            let placed = std::mem::take(&mut request.placed);
            for p in &placed {
                let domain = &mut self.pool.domains[p.domain];
                domain.queued = (domain.queued - p.amount).max(0.0);
                domain.promise(at, p.amount);
            }
            let print = ghosts::print(&request.ask, request.route);
            let place = Booking { seq: request.seq, cost: request.place.cost, placed };
            self.ghosts.book(at, print, (request.ask.client, lot), place);
        }
        refusal
    }

    /// Places that nobody came for are given up.
    pub(crate) fn give_up_ghosts(&mut self) {
        while let Some(ghost) = self.ghosts.expired(self.now.mono_ns) {
            self.lift(ghost.at, &ghost.placed);
        }
    }

    /// A request comes back to the place that was kept for it.
    pub(crate) fn claim(&mut self, now: Now, request: &mut Request) {
        let print = ghosts::print(&request.ask, request.route);
        if let Some(ghost) = self.ghosts.claim(now.mono_ns, print) {
            self.lift(ghost.at, &ghost.placed);
            (request.seq, request.place.cost, request.returned) = (ghost.seq, ghost.cost, true);
        }
    }

    fn lift(&mut self, at: u64, placed: &[Reservation]) {
        for p in placed {
            if let Some(domain) = self.pool.domain_mut(p.domain, p.serial) {
                domain.promise(at, -p.amount);
            }
        }
    }

    /// Takes a place in the waiting room, if it helps to wait. `Ok`: the ticket and the forecast.
    pub(crate) fn sit_down(
        &mut self,
        now: Now,
        mut request: Box<Request>,
        scan: &Scan,
        try_at: u64,
    ) -> Result<(u64, u64), (Box<Request>, Refusal)> {
        let pause = request.place.not_before;
        let deadline = request.ask.deadline_mono_ns;
        let (forecast, earliest) = match (&scan.wait, pause > now.mono_ns) {
            (_, true) => (pause, pause),
            (Some(wait), false) => (wait.forecast, wait.earliest),
            (None, false) => (u64::MAX, u64::MAX),
        };
        if self.draining || deadline <= now.mono_ns || earliest > deadline {
            let refusal = self.refuse(now, &mut request, scan);
            return Err((request, refusal));
        }
        self.price(&mut request, scan.wait.as_ref().and_then(|w| Some((w.target?, w.need))));
        let on_route = self.routes.all[request.route].waiting;
        // Who has a place already keeps it over a retry; so does who was promised one.
        if request.attempt == 0 && self.room.is_full(&request, on_route, &self.pool.settings.room) {
            let refusal = self.refuse(now, &mut request, scan);
            return Err((request, Refusal { kind: RefusalKind::RoomFull, ..refusal }));
        }
        request.place.waits_for = scan.wait.as_ref().map(Wait::in_words);
        if let Some(wait) = &scan.wait {
            self.place(now, &mut request, wait, false);
        }
        self.routes.all[request.route].waiting += 1;
        self.room.enter(now.mono_ns, &mut request, try_at);
        let id = request.id;
        self.requests.put_back(request);
        Ok((id, forecast.max(now.mono_ns)))
    }

    /// Leaves the waiting room (let out, or for another reason), and what it saved up for.
    pub(crate) fn stand_up(&mut self, now: Now, request: &mut Request, let_out: Option<&Best>) {
        if request.place.waiting {
            self.routes.all[request.route].waiting -= 1;
            let market = let_out.map(|b| self.room.market_of(self.pool.targets[b.target].account));
            self.room.leave(now.mono_ns, request, market);
        }
        self.unplace(now, request);
    }

    /// Counts a waiter's need in the domains where it will go first, for the forecasts of those behind it; the head of
    /// a lane also saves up there.
    pub(crate) fn place(&mut self, now: Now, request: &mut Request, wait: &Wait, head: bool) {
        let Some(target) = wait.target else { return };
        self.unplace(now, request);
        let order = self.room.order(request);
        let domains = self.pool.domains_of(target);
        let needs =
            domains.map(|d| (d, wait.need.of(self.pool.domains[d].dimension))).filter(|(_, n)| *n > 0.0);
        let needs: Vec<(usize, f64)> = needs.collect();
        for (at, amount) in needs {
            let domain = &mut self.pool.domains[at];
            domain.queued += amount;
            if head && domain.hold.as_ref().is_none_or(|h| h.order > order) {
                let hold = crate::quota::Hold { id: request.id, order, need: amount, at: wait.earliest };
                domain.hold = Some(Box::new(hold));
            }
            let serial = domain.serial;
            request.placed.push(Reservation {
                domain: at,
                serial,
                amount,
                epoch: 0,
                taken: 0.0,
                returned: 0.0,
                ahead: 0.0,
            });
        }
    }

    pub(crate) fn unplace(&mut self, _now: Now, request: &mut Request) {
        let mut held = None;
        for placed in request.placed.drain(..) {
            let Some(domain) = self.pool.domain_mut(placed.domain, placed.serial) else { continue };
            domain.queued = (domain.queued - placed.amount).max(0.0);
            if domain.hold.as_ref().is_some_and(|h| h.id == request.id) {
                domain.hold = None;
                held = Some(domain.account);
            }
        }
        if let Some(account) = held {
            // Not a change for the waiters themselves: the lane of the one who held looks on anyway.
            let parked = std::mem::take(&mut self.pool.account_mut(account).parked);
            for park in parked {
                if let Some(route) = self.routes.all.get_mut(park.route).filter(|r| r.serial == park.serial) {
                    route.unpark(&park);
                }
            }
        }
    }
}
