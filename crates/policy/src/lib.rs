//! The scheduler of keymux: decides where each request goes, who waits, who is refused, and whose fault a failure
//! was. It knows no socket, clock, log or thread; `now` and the seed are arguments, so that a simulator can drive
//! the very same code as the server.
//!
//! The verbs, in the order of a request's life: [`Policy::submit`] → (`Wait` → [`Policy::poll`]) → `Go` →
//! [`Policy::head`] → [`Policy::first_output`] → [`Policy::finish`] → `Done`, or round again. Each stands in a module
//! of its name; what they share (looking, admitting, refusing) in `admit`.

pub mod ask;
pub mod blame;
pub mod budget;
pub mod checks;
pub mod event;
pub mod fleet;
pub mod glob;
pub mod lease;
pub mod outcome;
pub mod refusal;
pub mod saved;
pub mod tenants;
pub mod throttle;
pub mod time;
pub mod troubles;
pub mod view;

mod admit;
mod affinity;
mod breaker;
mod correlate;
mod effect;
mod event_ring;
mod finish;
mod gate;
mod ghosts;
mod hang;
mod hash;
mod health;
mod measure;
mod merge;
mod owners;
mod pick;
mod places;
mod poison;
mod poll;
mod pool;
mod queue;
mod quota;
mod reconfigure;
mod request;
mod retry;
mod rng;
mod route;
mod routes;
mod sane;
mod shares;
mod slab;
mod submit;
mod turns;

#[cfg(test)]
mod tests;

pub use ask::{Allowed, Ask, Class as Priority, ClientId, Destination, Providers, Size, TeamId};
pub use hang::{HANG_ASK_NS, Hang};
pub use lease::{Decision, Lease, Next, Settled, Skipped, Ticket, Why, Woken};
pub use outcome::{End, Evidence, Measurement, Outcome, Phase, Sign, Used};
pub use refusal::{Refusal, RefusalKind};
pub use time::Now;
pub use troubles::Troubles;
pub use view::View;

/// The scheduler. One a process, behind one mutex that is never held over an await.
#[derive(Debug)]
pub struct Policy {
    now: Now,
    rng: rng::Rng,
    pool: pool::Pool,
    routes: routes::Routes,
    owners: owners::Owners,
    requests: request::Requests,
    room: queue::Room,
    ghosts: ghosts::Ghosts,
    budget: retry::RetryBudget,
    poisons: poison::Poisons,
    budget_said: u64,
    affinity: affinity::Affinity,
    events: event_ring::EventRing,
    scratch: pick::Scratch,
    totals: view::Totals,
    /// How often something was found to hang.
    hung: u64,
    /// Slots that come back by themselves: of calls that go on at the provider after the client left.
    late: std::collections::BinaryHeap<std::cmp::Reverse<(u64, usize, u64)>>,
    draining: bool,
}

impl Policy {
    /// A scheduler for this fleet. The same seed and the same calls give the same decisions.
    pub fn new(now: Now, fleet: fleet::Fleet, seed: u64) -> Self {
        let mut policy = Self {
            now,
            rng: rng::Rng::new(seed),
            pool: pool::Pool::default(),
            routes: routes::Routes::default(),
            owners: owners::Owners::default(),
            requests: request::Requests::default(),
            room: queue::Room::default(),
            ghosts: ghosts::Ghosts::default(),
            budget: retry::RetryBudget::default(),
            poisons: poison::Poisons::default(),
            budget_said: 0,
            affinity: affinity::Affinity::default(),
            events: event_ring::EventRing::default(),
            scratch: pick::Scratch::default(),
            totals: view::Totals::default(),
            hung: 0,
            late: std::collections::BinaryHeap::new(),
            draining: false,
        };
        policy.configure(now, fleet);
        policy
    }

    /// When to call [`Policy::poll`] again (monotonic); `None` while nobody waits.
    pub fn next_wake(&self) -> Option<u64> {
        let late = self.late.peek().map_or(u64::MAX, |r| r.0.0);
        self.room.wake().map(|at| at.min(late).max(self.now.mono_ns))
    }

    /// Requests in the waiting room; cheap enough to ask after every verb.
    pub fn waiting(&self) -> usize {
        self.room.waiting
    }

    /// From now on nobody may wait; waiters are refused by the next [`Policy::poll`].
    pub fn drain(&mut self, now: Now) {
        self.tick(now);
        self.draining = true;
        self.room.touch();
    }

    /// Hands over the events since the last call.
    pub fn take_events(&mut self, out: &mut Vec<event::Event>) {
        self.events.take(out);
    }

    /// Takes note of the time: one that goes backwards is taken as the latest seen. What comes back by itself at its
    /// time, comes back.
    fn tick(&mut self, now: Now) -> Now {
        self.now = self.now.max_mono(now);
        if !self.ghosts.is_empty() {
            self.give_up_ghosts();
        }
        while let Some(std::cmp::Reverse((at, domain, serial))) = self.late.peek().copied() {
            if at > self.now.mono_ns {
                break;
            }
            self.late.pop();
            if let Some(domain) = self.pool.domain_mut(domain, serial) {
                domain.settle(self.now, 0, 1.0, 0.0);
                let account = domain.account;
                self.release(account, None);
            }
        }
        self.now
    }
}
