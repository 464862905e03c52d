//! Letting waiters out.

use crate::Policy;
use crate::lease::{Decision, Skipped, Ticket, Why, Woken};
use crate::pick::{Best, Line, Scan};
use crate::queue::Who;
use crate::refusal::{Refusal, RefusalKind};
use crate::request::Request;
use crate::time::Now;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Lanes looked at in one call; the rest wants another call at once.
const LOOKS_MAX: usize = 256;
/// Waiters behind a head that is too large for now, which may be small enough, or that had better not probe.
const AHEAD: usize = 8;

/// What became of the head of a lane.
enum Tried {
    /// It left.
    Left,
    /// It stays.
    Stays,
    /// It would probe, and failed already: after the others.
    Suspect,
}

impl Policy {
    /// Lets out who may go now, and refuses whose time is over.
    pub fn poll(&mut self, now: Now, out: &mut Vec<Woken>) {
        let now = self.tick(now);
        while self.draining
            && let Some(id) = self.room.anyone()
        {
            self.expel(now, id, Some(RefusalKind::Draining), out);
        }
        while let Some(id) = self.room.expired(now.mono_ns, false) {
            self.expel(now, id, None, out);
        }
        self.rested(now);
        self.serve(now, Who::Owed, out);
        for class in 0..3 {
            self.serve(now, Who::Class(class), out);
            self.refuse_hopeless(now, class, out);
        }
        while let Some(id) = self.room.expired(now.mono_ns, true) {
            self.expel(now, id, None, out);
        }
        self.room.rest(now.mono_ns);
    }

    /// Those whose pause is over stand in line again; a retry draws on the budget now.
    fn rested(&mut self, now: Now) {
        while let Some(id) = self.room.rested(now.mono_ns) {
            let Some(mut request) = self.requests.take(id) else { continue };
            if request.place.new_round {
                request.tried.clear();
                request.tried.extend(request.forbidden.iter().map(|f| f.target));
                request.round += 1;
                request.place.new_round = false;
            }
            if request.last.is_some_and(|l| draws_on_budget(l.class))
                && let Err(at) = self.budget.draw(now.mono_ns, &self.pool.settings.retry)
            {
                request.place.not_before = at;
            }
            self.room.resume(now.mono_ns, &mut request);
            self.requests.put_back(request);
        }
    }

    fn serve(&mut self, now: Now, who: Who, out: &mut Vec<Woken>) {
        let mut lanes = BinaryHeap::new();
        for lane in self.room.pending(who, now.mono_ns) {
            lanes.extend(self.room.head(now.mono_ns, lane).map(|(place, _)| Reverse((place, lane))));
        }
        let (mut looks, mut suspects) = (0, VecDeque::new());
        loop {
            let last = lanes.is_empty();
            let Some(Reverse((place, lane))) = lanes.pop().or_else(|| suspects.pop_front()) else { break };
            let Some((at, id)) = self.room.head(now.mono_ns, lane) else { continue };
            if at != place {
                lanes.push(Reverse((at, lane)));
                continue;
            }
            if looks == LOOKS_MAX {
                break;
            }
            looks += 1;
            match self.try_head(now, lane, ((place.1, id), last), out) {
                Tried::Left if self.room.is(lane, who) => {
                    lanes.extend(self.room.head(now.mono_ns, lane).map(|(place, _)| Reverse((place, lane))));
                }
                Tried::Left | Tried::Stays => {}
                Tried::Suspect => suspects.push_back(Reverse((place, lane))),
            }
        }
    }

    /// What became of the head of a lane; `last`: nobody else is left who could go in its stead.
    fn try_head(
        &mut self,
        now: Now,
        lane: usize,
        ((seq, id), last): ((u64, u64), bool),
        out: &mut Vec<Woken>,
    ) -> Tried {
        let Some(mut request) = self.requests.take(id) else { return Tried::Stays };
        request.place.called = request.seq != seq;
        let mut scan = self.look(now, &request, Line::Front, None);
        let is_suspect = request.may_be_why() && scan.best.as_ref().is_some_and(|best| best.probe);
        if is_suspect && self.probe_behind(now, lane, out) {
            scan = self.look(now, &request, Line::Front, None);
        } else if is_suspect && !last {
            self.requests.put_back(request);
            return Tried::Suspect;
        }
        if let Some(best) = scan.best {
            self.let_go(now, request, &best, scan.skipped, out);
            return Tried::Left;
        }
        let Some(wait) = scan.wait.filter(|w| w.earliest <= request.ask.deadline_mono_ns) else {
            // Its last chance has passed.
            self.dismiss(now, request, &scan, out);
            return Tried::Left;
        };
        self.unplace(now, &mut request);
        request.place.owed = self.owes(now, &request, &wait);
        request.place.waits_for = Some(wait.in_words());
        self.room.owe(lane, request.place.owed);
        self.place(now, &mut request, &wait, true);
        self.requests.put_back(request);
        let sized = matches!(wait.why, Why::Limit(d) if !matches!(d, crate::fleet::Dimension::Requests | crate::fleet::Dimension::Concurrent));
        let mut try_at = scan.try_at;
        if sized {
            try_at = try_at.min(self.look_behind(now, lane, out));
        }
        self.room
            .looked(lane, if try_at <= now.mono_ns { now.mono_ns + 10 * crate::time::MS } else { try_at });
        Tried::Stays
    }

    /// Who goes in front of others may push the last ones past their deadlines: they hear of it at once.
    fn refuse_hopeless(&mut self, now: Now, class: u8, out: &mut Vec<Woken>) {
        while let Some(mut request) = self.room.overtaken(class).and_then(|id| self.requests.take(id)) {
            self.unplace(now, &mut request);
            let scan = self.look_ahead(now, &request);
            if let Some(wait) = scan.wait.filter(|w| w.earliest <= request.ask.deadline_mono_ns) {
                self.place(now, &mut request, &wait, false);
                self.requests.put_back(request);
                return;
            }
            let pool = request.place.pool;
            self.dismiss(now, request, &scan, out);
            self.room.ask_again(pool, class);
        }
    }

    /// Backfill: those behind a head that is too large for now may go where they do not delay it.
    fn look_behind(&mut self, now: Now, lane: usize, out: &mut Vec<Woken>) -> u64 {
        let behind = self.room.behind(lane, AHEAD);
        let mut try_at = u64::MAX;
        for id in behind {
            let Some(request) = self.requests.take(id) else { continue };
            let scan = self.look(now, &request, Line::Front, None);
            if let Some(best) = scan.best {
                self.let_go(now, request, &best, scan.skipped, out);
            } else {
                try_at = try_at.min(scan.try_at);
                self.requests.put_back(request);
            }
        }
        try_at
    }

    /// A request that failed already may be its own reason, and would keep shut what it probes: somebody else finds out more.
    /// Whether somebody behind it does.
    fn probe_behind(&mut self, now: Now, lane: usize, out: &mut Vec<Woken>) -> bool {
        for id in self.room.behind(lane, AHEAD) {
            let Some(request) = self.requests.take(id) else { continue };
            if !request.may_be_why() {
                let scan = self.look(now, &request, Line::Front, None);
                if let Some(best) = scan.best.filter(|best| best.probe) {
                    self.let_go(now, request, &best, scan.skipped, out);
                    return true;
                }
            }
            self.requests.put_back(request);
        }
        false
    }

    /// A waiter goes where its look found room.
    fn let_go(
        &mut self,
        now: Now,
        mut request: Box<Request>,
        best: &Best,
        skipped: Vec<Skipped>,
        out: &mut Vec<Woken>,
    ) {
        let ticket = Ticket(request.id);
        self.stand_up(now, &mut request, Some(best));
        let lease = self.admit(now, request, best, skipped);
        out.push(Woken { ticket, decision: Decision::Go(lease) });
    }

    fn expel(&mut self, now: Now, id: u64, kind: Option<RefusalKind>, out: &mut Vec<Woken>) {
        let Some(mut request) = self.requests.take(id) else { return };
        let Some(kind) = kind else {
            // While it still stands: nobody's work is counted twice.
            self.unplace(now, &mut request);
            let scan = self.look(now, &request, Line::Behind, None);
            return self.dismiss(now, request, &scan, out);
        };
        self.stand_up(now, &mut request, None);
        self.totals.refused += 1;
        let refusal = Refusal { kind, retry_after_ns: None };
        out.push(Woken { ticket: Ticket(request.id), decision: Decision::Refuse(refusal) });
        self.close(request);
    }

    /// Tells a waiter no, and when to come back.
    fn dismiss(&mut self, now: Now, mut request: Box<Request>, scan: &Scan, out: &mut Vec<Woken>) {
        self.stand_up(now, &mut request, None);
        let refusal = self.refuse(now, &mut request, scan);
        self.totals.refused += 1;
        out.push(Woken { ticket: Ticket(request.id), decision: Decision::Refuse(refusal) });
        self.close(request);
    }
}

/// Retries after real failures are what the budget bounds; limits and benches bound themselves.
pub(crate) fn draws_on_budget(class: crate::blame::Class) -> bool {
    use crate::blame::Class;
    matches!(class, Class::Target | Class::Provider | Class::Local | Class::Request)
}
