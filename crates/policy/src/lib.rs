//! The scheduler of keymux: decides where each request goes, who waits, who is refused, and whose fault a failure
//! was. It knows no socket, clock, log or thread; `now` and the seed are arguments, so that a simulator can drive
//! the very same code as the server.
//!
//! The verbs, in the order of a request's life: [`Policy::submit`] → (`Wait` → [`Policy::poll`]) → `Go` →
//! [`Policy::head`] → [`Policy::first_output`] → [`Policy::finish`] → `Done`, or round again.

pub mod ask;
pub mod blame;
pub mod event;
pub mod fleet;
pub mod lease;
pub mod outcome;
pub mod refusal;
pub mod time;

pub use ask::{Ask, Class as Priority, ClientId, Destination, Providers, Size, TeamId};
pub use lease::{Decision, Lease, Next, Settled, Skipped, Ticket, Why, Woken};
pub use outcome::{End, Evidence, Measurement, Outcome, Phase, Sign, Used};
pub use refusal::{Refusal, RefusalKind};
pub use time::Now;

/// The scheduler. One a process, behind one mutex that is never held over an await.
#[derive(Debug)]
pub struct Policy {}

/// Numbers for people: what [`Policy::view`] shows.
#[derive(Clone, Debug, Default)]
pub struct View {}

#[expect(unused_variables, clippy::unused_self, clippy::todo, clippy::needless_pass_by_value, reason = "signatures first")]
impl Policy {
    /// A scheduler for this fleet. The same seed and the same calls give the same decisions.
    pub fn new(now: Now, fleet: fleet::Fleet, seed: u64) -> Self {
        todo!()
    }
    /// A request arrives.
    pub fn submit(&mut self, now: Now, ask: Ask) -> Decision {
        todo!()
    }
    /// The head of an answer came, with what its headers say about limits.
    pub fn head(&mut self, now: Now, lease: &Lease, measured: &[Measurement]) {
        todo!()
    }
    /// The first output came.
    pub fn first_output(&mut self, now: Now, lease: &Lease) {
        todo!()
    }
    /// An attempt ended: settles everything that the lease holds, and says what to do next.
    pub fn finish(&mut self, now: Now, lease: Lease, outcome: Outcome) -> Next {
        todo!()
    }
    /// A waiter goes away. Unknown tickets (already let out) are no error.
    pub fn cancel(&mut self, now: Now, ticket: Ticket) {
        todo!()
    }
    /// Lets out who may go now, and refuses whose time is over.
    pub fn poll(&mut self, now: Now, out: &mut Vec<Woken>) {
        todo!()
    }
    /// When to call [`Policy::poll`] again (monotonic); `None` while nobody waits.
    pub fn next_wake(&self) -> Option<u64> {
        todo!()
    }
    /// Requests in the waiting room; cheap enough to ask after every verb.
    pub fn waiting(&self) -> usize {
        todo!()
    }
    /// Another configuration: what keeps its id keeps its learned state; requests in flight settle as they were.
    pub fn reconfigure(&mut self, now: Now, fleet: fleet::Fleet) {
        todo!()
    }
    /// From now on nobody may wait; waiters are refused by the next [`Policy::poll`].
    pub fn drain(&mut self, now: Now) {
        todo!()
    }
    /// The state of everything, for people.
    pub fn view(&self, now: Now) -> View {
        todo!()
    }
    /// Hands over the events since the last call.
    pub fn take_events(&mut self, out: &mut Vec<event::Event>) {
        todo!()
    }
}
