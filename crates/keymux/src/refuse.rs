//! What a refusal of the scheduler says to a client: which limit, and when to come back.

use crate::errors::{Kind, Problem};
use keymux_policy::blame::Class;
use keymux_policy::fleet::Dimension;
use keymux_policy::refusal::{BindingLimit, Refusal, RefusalKind};

/// The answer to a request that the scheduler refused.
pub fn problem(refusal: &Refusal) -> Problem {
    let (kind, message) = match &refusal.kind {
        RefusalKind::QuotaExhausted { limit: Some(limit) } => (
            Kind::QuotaExhausted,
            format!("No key has room in time: {} is used up.{}", shown(limit), when(refusal)),
        ),
        RefusalKind::QuotaExhausted { limit: None } => {
            (Kind::QuotaExhausted, format!("No key has room in time.{}", when(refusal)))
        }
        RefusalKind::RoomFull => {
            (Kind::RoomFull, format!("Too many requests wait here already.{}", when(refusal)))
        }
        RefusalKind::AllOut => (
            Kind::AllOut,
            format!("Every key that could serve this is out (refused, empty, or failing).{}", when(refusal)),
        ),
        RefusalKind::TooLarge { limit, size } => (
            Kind::TooLargeForLimit,
            format!(
                "This request would take {size:.0}, more than {} could ever admit. Send a smaller one, or fewer `max_tokens`.",
                shown(limit)
            ),
        ),
        RefusalKind::EndpointNotServed { providers } => {
            let names: Vec<&str> = providers.iter().map(AsRef::as_ref).collect();
            let names = if names.is_empty() { "its providers".to_owned() } else { names.join(", ") };
            (
                Kind::EndpointNotServed,
                format!(
                    "This model is not served on this endpoint by {names}. Use an endpoint of their dialect."
                ),
            )
        }
        RefusalKind::NoProviderLeft => (
            Kind::NoProviderLeft,
            "The providers that this request allows leave none that has this model.".to_owned(),
        ),
        RefusalKind::BoundElsewhere => (
            Kind::StateUnknown,
            "The account that holds the state which this request builds on is not here any more.".to_owned(),
        ),
        RefusalKind::Exhausted { last } => (Kind::UpstreamFailed, exhausted(*last)),
        RefusalKind::Draining => {
            (Kind::Draining, "This gateway is shutting down; try another one.".to_owned())
        }
        RefusalKind::NoKey => {
            (Kind::NoKey, "No key that may be used for this model is configured.".to_owned())
        }
    };
    Problem::new(kind, message).after(refusal.retry_after_ns)
}

fn exhausted(last: Class) -> String {
    let why = match last {
        Class::Target => "with an error",
        Class::Provider => "because its provider is down",
        Class::Capacity => "because its provider is overloaded",
        Class::Key | Class::Account => "because its key was refused",
        Class::Quota => "because its quota is used up",
        Class::Request | Class::Client | Class::Local => "before it was answered",
    };
    format!("Every provider that could serve this was tried; the last attempt ended {why}.")
}

fn shown(limit: &BindingLimit) -> String {
    let counted = match limit.dimension {
        Dimension::Requests => "requests",
        Dimension::InputTokens => "input tokens",
        Dimension::OutputTokens => "output tokens",
        Dimension::TotalTokens => "tokens",
        Dimension::Concurrent => "requests in flight",
        Dimension::NanoUsd => "money",
    };
    let size = limit.size.map(|size| format!(" ({size:.0})")).unwrap_or_default();
    format!("the limit of {counted}{size} of {} account {}", limit.provider, limit.account)
}

fn when(refusal: &Refusal) -> String {
    match refusal.retry_after_ns {
        Some(ns) => format!(" Come back in {} s.", ns.div_ceil(1_000_000_000).max(1)),
        None => String::new(),
    }
}
