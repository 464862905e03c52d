//! What an admitted request holds, and the answers of the scheduler.

use crate::fleet::{AccountId, KeyId, ProviderId};
use crate::refusal::Refusal;
use std::sync::Arc;

/// Everything that an admitted request took: a slot, its reservations, its budget. It must come back through
/// [`crate::Policy::finish`] exactly once, so it can be neither copied nor built outside of this crate.
#[derive(Debug)]
#[must_use = "a lease must be finished, or its slots leak"]
pub struct Lease {
    pub(crate) slot: u64,
    /// The key to use.
    pub key: KeyId,
    /// Whose key it is.
    pub account: AccountId,
    /// Where it goes.
    pub provider: ProviderId,
    /// The upstream's name of the model.
    pub model: Arc<str>,
    /// 1 for the first attempt of a request.
    pub attempt: u32,
    /// Time spent in the waiting room so far.
    pub waited_ns: u64,
    /// This attempt probes a breaker or a bench.
    pub probe: bool,
    /// Its input in tokens, as far as answers of this model told how far guesses are off.
    pub input_tokens: u64,
    /// The adaptive first-byte time-out, where enough is known to have one. Never above the configured one.
    pub first_byte_timeout_ns: Option<u64>,
    /// What kept it waiting, if anything did: of several, the last.
    pub waited_for: Option<WaitedFor>,
    /// Why other targets were passed over, at most eight reasons. One entry speaks for all keys of its account where
    /// the account as a whole is in the way (a limit, a bench of the account), and for all keys of the provider where
    /// that is (its breaker, its capacity for the model).
    pub skipped: Vec<Skipped>,
}

/// What kept a request in the waiting room: of the candidates that were in its way, the one that would be free first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitedFor {
    /// The reason; [`Why::Limit`] names the dimension of the limit.
    pub why: Why,
    /// Whose limit or bench it is, where it is an account's.
    pub account: Option<AccountId>,
    /// When it was expected to go (monotonic), as last computed.
    pub forecast_mono_ns: u64,
}

/// A target that was passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The key.
    pub key: KeyId,
    /// Why.
    pub why: Why,
    /// Until when (monotonic), where that is known.
    pub until_mono_ns: Option<u64>,
}

/// Why a target cannot take a request now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// Switched off.
    Disabled,
    /// Its key or account is benched.
    Benched,
    /// Its breaker is open.
    BreakerOpen,
    /// The breaker of its provider is open.
    ProviderDown,
    /// The provider has no capacity for the model.
    NoCapacity,
    /// A limit is used up.
    Limit(crate::fleet::Dimension),
    /// Nothing is known of its limits yet: few go at first.
    FirstContact,
    /// Already tried in this round.
    Tried,
    /// Ruled out by the caller.
    NotAllowed,
    /// Does not serve the endpoint or the model.
    NotServed,
}

/// A place in the waiting room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub(crate) u64);

impl Ticket {
    /// For tables of waiters.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

/// The answer to a request.
#[derive(Debug)]
pub enum Decision {
    /// Go there now.
    Go(Lease),
    /// Wait for [`crate::Policy::poll`] to name this ticket, or cancel it.
    Wait {
        /// The place.
        ticket: Ticket,
        /// When it will probably go (monotonic).
        forecast_mono_ns: u64,
    },
    /// Not now, and it would not help to wait.
    Refuse(Refusal),
}

/// What to do after an attempt.
#[derive(Debug)]
pub enum Next {
    /// It is over: the client gets (or has) what this attempt brought.
    Done(Settled),
    /// Try again there.
    Go(Lease),
    /// Wait, then try again. The ticket keeps the request's place and deadline.
    Wait {
        /// The place.
        ticket: Ticket,
        /// When it will probably go (monotonic).
        forecast_mono_ns: u64,
    },
    /// Nothing more can be tried, and the last answer is none that a client should see.
    Refuse(Refusal),
}

/// How an attempt was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Whose fault it was (`None`: answered).
    pub blame: Option<crate::blame::Class>,
}

/// A waiter that [`crate::Policy::poll`] let out.
#[derive(Debug)]
pub struct Woken {
    /// Its ticket.
    pub ticket: Ticket,
    /// [`Decision::Go`] or [`Decision::Refuse`].
    pub decision: Decision,
}
