//! Whose fault was it? One table from what was observed to who answers for it.

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
