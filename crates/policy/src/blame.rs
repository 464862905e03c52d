//! Whose fault was it? One table from what was observed to who answers for it.

use crate::outcome::{Evidence, Phase, Sign};

/// Who answers for a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// The caller's request: none of the keys is touched, nothing is tried elsewhere.
    Request,
    /// The key: benched until a probe.
    Key,
    /// The account's money: all keys of the account are benched.
    Account,
    /// A rate limit: a measurement, not a failure.
    Quota,
    /// No capacity for the model at that provider, whoever asks.
    Capacity,
    /// The target (key x model): a failure in its breaker.
    Target,
    /// The provider as a whole.
    Provider,
    /// The client went away.
    Client,
    /// Our own trouble.
    Local,
}

/// The table: who answers for a failed attempt. A status alone decides nothing, and what an aggregator relays from
/// behind itself says nothing about our key there.
pub fn judge(evidence: &Evidence) -> Class {
    use Sign::{
        BadRequest, ClientGone, ClientTimeout, ConnectFailed, ErrorInAnswer, FirstByteTimeout, Garbage,
        IdleTimeout, InFlightMoney, KeyCap, KeyForbidden, KeyRefused, Local, ModelUnknown, NoMoney,
        Overloaded, RateLimited, Reset, ServerError, TlsFailed, TooDear, TooLargeForLimit, TotalTimeout,
        Truncated,
    };
    match (evidence.sign, evidence.relayed) {
        (BadRequest | ModelUnknown | TooDear | TooLargeForLimit, _) => Class::Request,
        (ClientGone | ClientTimeout, _) => Class::Client,
        (Local, _) => Class::Local,
        (KeyRefused | KeyForbidden | KeyCap, false) => Class::Key,
        (NoMoney, false) => Class::Account,
        (RateLimited { .. } | InFlightMoney, false) => Class::Quota,
        // Relayed from behind an aggregator: somebody else's quota, which all our keys there share.
        (Overloaded, _) | (RateLimited { .. } | InFlightMoney, true) => Class::Capacity,
        // It was answering all the time: a long answer is no fault of the key.
        (TotalTimeout, _) if evidence.phase == Phase::Stream => Class::Request,
        // Relayed: somebody else's key or money. The next attempt may be routed past it.
        (KeyRefused | KeyForbidden | KeyCap | NoMoney, true)
        | (
            ServerError | ConnectFailed | TlsFailed | Reset | FirstByteTimeout | IdleTimeout | TotalTimeout
            | Truncated | ErrorInAnswer | Garbage,
            _,
        ) => Class::Target,
    }
}

/// A connection of the pool that was closed under us, as far as one can tell: nothing of an answer came.
pub(crate) fn is_stale(evidence: &Evidence) -> bool {
    evidence.sign == Sign::Reset && evidence.status.is_none() && evidence.phase <= Phase::Head
}

#[cfg(test)]
mod tests;
