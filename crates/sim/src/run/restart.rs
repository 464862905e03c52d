//! The gateway is stopped and comes back: what it had saved is all that the next process knows. Who waited or was being
//! served is cut off; such callers, and those who come meanwhile, come again as soon as it listens.

use super::{Event, Fate, Run};
use crate::time::{SECOND, ours};
use keymux_policy::Policy;

/// How long nobody listens.
const DOWN_NS: u64 = SECOND;

impl Run<'_> {
    pub(super) fn restart(&mut self) {
        let now = ours(self.now);
        let saved = self.policy.save(now);
        let events = self.watch.take_events(&mut self.policy);
        self.tally.events(&events);
        self.policy = Policy::new(now, self.sides.fleet.clone(), self.luck.next());
        self.hung = self.policy.hung();
        self.up_ns = self.now + DOWN_NS;
        self.saved = Some(saved);
        self.at(self.up_ns, Event::Up);
        let mut cut: Vec<u32> = self.tickets.drain().map(|(_, req)| req).collect();
        for req in &cut {
            self.watch.stood_up(*req, self.reqs[*req as usize].deadline_ns);
        }
        let flights: Vec<u32> = self.flights.keys().copied().collect();
        for req in &flights {
            self.cut_off(*req);
        }
        cut.extend(flights);
        cut.sort_unstable();
        for req in cut {
            let r = &mut self.reqs[req as usize];
            (r.fate, r.ticket) = (Fate::Left, None);
            self.at(self.up_ns, Event::Come(req));
        }
        self.watch.restarted();
    }

    pub(super) fn up(&mut self) {
        if let Some(saved) = self.saved.take() {
            self.policy.resume(ours(self.now), &saved);
        }
    }
}
