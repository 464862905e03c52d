//! A refusal is a value that answers "which limit, and when could I?".

use crate::blame::Class;
use crate::fleet::Dimension;
use crate::outcome::Sign;
use std::sync::Arc;

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq)]
pub enum RefusalKind {
    /// No limit will have room before the deadline.
    QuotaExhausted {
        /// The limit that binds, in words for people: provider, account, dimension.
        limit: Option<BindingLimit>,
    },
    /// The waiting room is full.
    RoomFull,
    /// Every candidate is out (broken, benched, without capacity) for longer than the deadline.
    AllOut {
        /// The first few, with what is wrong with each.
        out: Vec<Out>,
    },
    /// Larger than any limit could ever admit.
    TooLarge {
        /// The limit.
        limit: BindingLimit,
        /// What the request would take.
        size: f64,
    },
    /// No candidate serves this endpoint.
    EndpointNotServed {
        /// The providers that were asked for, with what they do not serve.
        providers: Vec<Arc<str>>,
    },
    /// The caller's choice of providers leaves no candidate.
    NoProviderLeft,
    /// The account that holds the request's state is not there any more, or not among the candidates.
    BoundElsewhere,
    /// Every candidate was tried and failed, and no allowance is left.
    Exhausted {
        /// The blame of the last attempt.
        last: Class,
        /// What was seen of it.
        sign: Sign,
        /// Its provider's name, where that still exists.
        provider: Option<Arc<str>>,
    },
    /// The gateway is shutting down.
    Draining,
    /// No candidate has ever been configured for this (no key).
    NoKey,
}

/// A limit, by the names that may be shown.
#[derive(Clone, Debug, PartialEq)]
pub struct BindingLimit {
    /// The provider's name.
    pub provider: Arc<str>,
    /// The account's name.
    pub account: Arc<str>,
    /// What it counts.
    pub dimension: Dimension,
    /// How much it admits at most, where known.
    pub size: Option<f64>,
}

/// A candidate that is out, by the names that may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Out {
    /// The provider's name.
    pub provider: Arc<str>,
    /// The account's name.
    pub account: Arc<str>,
    /// The key's name; one of them where all keys of the account are out.
    pub key: Arc<str>,
    /// Whose fault it is. `Class::Key` speaks of the key, `Class::Account` of its account, others of the provider.
    pub why: Class,
    /// When it may be tried again, from now, where that is known.
    pub after_ns: Option<u64>,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// Why.
    pub kind: RefusalKind,
    /// When it makes sense to come back, from now. `None`: never (by itself).
    pub retry_after_ns: Option<u64>,
}
