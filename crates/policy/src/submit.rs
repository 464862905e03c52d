//! A request arrives.

use crate::Policy;
use crate::ask::{Ask, Destination};
use crate::lease::{Decision, Ticket};
use crate::pick::Line;
use crate::refusal::{Refusal, RefusalKind};
use crate::time::Now;

impl Policy {
    /// A request arrives. `Go`: send it there; the lease must come back through [`Policy::finish`]. `Wait`: until
    /// [`Policy::poll`] names the ticket. `Refuse`: with the true time to come back, where there is one.
    pub fn submit(&mut self, now: Now, mut ask: Ask) -> Decision {
        let now = self.tick(now);
        self.regroup(now);
        ask.bound_to = ask.bound_to.map(|account| self.home(account));
        self.totals.submitted += 1;
        self.budget.request(now.mono_ns);
        if self.draining {
            return self.turn_away(RefusalKind::Draining);
        }
        let Some(route) = self.route_of(&ask) else { return self.turn_away(RefusalKind::NoKey) };
        let at = &mut self.routes.all[route];
        at.used_at = now.mono_ns;
        at.busy += 1;
        let mut request = self.requests.open(ask, route);
        request.arrived = now.mono_ns;
        (request.place.pool, request.place.among) =
            (self.routes.all[route].pool, self.routes.all[route].among);
        if !self.ghosts.is_empty() {
            self.claim(now, &mut request);
        }
        let behind = self.room.has_before(&request);
        let mut try_at = 0;
        if !behind {
            let scan = self.look(now, &request, Line::New, None);
            if let Some(best) = scan.best {
                self.pay_at_once(now, &mut request, &best);
                return Decision::Go(self.admit(now, request, &best, scan.skipped));
            }
            try_at = scan.try_at;
        }
        let scan = self.look_ahead(now, &request);
        match self.sit_down(now, request, &scan, try_at) {
            Ok((id, forecast_mono_ns)) => Decision::Wait { ticket: Ticket(id), forecast_mono_ns },
            Err((request, refusal)) => {
                self.totals.refused += 1;
                self.close(request);
                Decision::Refuse(refusal)
            }
        }
    }

    fn turn_away(&mut self, kind: RefusalKind) -> Decision {
        self.totals.refused += 1;
        Decision::Refuse(Refusal { kind, retry_after_ns: None })
    }

    fn route_of(&mut self, ask: &Ask) -> Option<usize> {
        match &ask.to {
            Destination::Route(id) => self.routes.named.get(id).copied(),
            Destination::Adhoc { provider, model } => self.routes.adhoc(&mut self.pool, *provider, model),
        }
    }

    /// A waiter goes away. Unknown tickets (already let out) are no error.
    pub fn cancel(&mut self, now: Now, ticket: Ticket) {
        let now = self.tick(now);
        let Some(mut request) = self.requests.take(ticket.0) else { return };
        if !request.place.waiting {
            self.requests.put_back(request);
            return;
        }
        self.stand_up(now, &mut request, None);
        self.totals.cancelled += 1;
        self.close(request);
    }
}
