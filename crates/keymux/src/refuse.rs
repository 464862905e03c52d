//! What a refusal of the scheduler says to a client: which limit, and when to come back.

use crate::errors::{Kind, Problem};
use keymux_policy::Sign;
use keymux_policy::blame::Class;
use keymux_policy::fleet::Dimension;
use keymux_policy::refusal::{BindingLimit, Out, Refusal, RefusalKind};

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
        RefusalKind::AllOut { out } => (Kind::AllOut, format!("{}{}", all_out(out), when(refusal))),
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
        RefusalKind::Exhausted { last, sign, provider } => {
            let kind = if hung(*sign) { Kind::UpstreamTimeout } else { Kind::UpstreamFailed };
            (kind, exhausted(*last, *sign, provider.as_deref()))
        }
        RefusalKind::Draining => {
            (Kind::Draining, "This gateway is shutting down; try another one.".to_owned())
        }
        RefusalKind::NoKey => {
            (Kind::NoKey, "No key that may be used for this model is configured.".to_owned())
        }
    };
    Problem::new(kind, message).after(refusal.retry_after_ns)
}

/// Every candidate is out: the first few by name, with what is wrong and when they are tried again.
fn all_out(out: &[Out]) -> String {
    let mut text = "Every key that could serve this is out (refused, empty, or failing).".to_owned();
    for one in out {
        let Out { provider, account, key, why, after_ns } = one;
        let what = match why {
            Class::Key => format!("{provider} key {key} was refused"),
            Class::Account => format!("{provider} account {account} has no money left"),
            Class::Quota => format!("a limit of {provider} account {account} is used up"),
            Class::Capacity => format!("{provider} has no capacity for this model"),
            Class::Provider => format!("{provider} is down"),
            Class::Target | Class::Request | Class::Client | Class::Local => {
                format!("{provider} key {key} keeps failing")
            }
        };
        let next = after_ns.map(|ns| format!(" (tried again in {} s)", seconds(ns))).unwrap_or_default();
        let join = if text.ends_with('.') { " " } else { "; " };
        text.extend([join, &what, &next]);
    }
    if !out.is_empty() {
        text.push('.');
    }
    text
}

/// Whether nothing came in time, rather than something wrong.
fn hung(sign: Sign) -> bool {
    matches!(sign, Sign::FirstByteTimeout | Sign::IdleTimeout | Sign::TotalTimeout)
}

fn exhausted(last: Class, sign: Sign, provider: Option<&str>) -> String {
    let why = match (last, sign) {
        (Class::Target, Sign::FirstByteTimeout) => "without a first byte in time",
        (Class::Target, Sign::IdleTimeout) => "because its answer stopped coming",
        (Class::Target, Sign::TotalTimeout) => "because its answer took too long",
        (Class::Target, Sign::ConnectFailed) => "because no connection could be made",
        (Class::Target, Sign::TlsFailed) => "because the TLS handshake failed",
        (Class::Target, Sign::Reset | Sign::Truncated) => "because the connection broke",
        (Class::Target, Sign::Garbage) => "with an answer that cannot be understood",
        (Class::Target, _) => "with an error",
        (Class::Provider, _) => "because its provider is down",
        (Class::Capacity, _) => "because its provider is overloaded",
        (Class::Key, Sign::KeyForbidden) => "because its key may not do this",
        (Class::Key, Sign::KeyCap) => "because its key has spent what it may",
        (Class::Key, _) => "because its key was refused",
        (Class::Account, _) => "because its account has no money left",
        (Class::Quota, _) => "because its quota is used up",
        (Class::Request | Class::Client | Class::Local, _) => "before it was answered",
    };
    let at = provider.map(|name| format!(", at {name},")).unwrap_or_default();
    format!("Every provider that could serve this was tried; the last attempt{at} ended {why}.")
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
        Some(ns) => format!(" Come back in {} s.", seconds(ns)),
        None => String::new(),
    }
}

fn seconds(ns: u64) -> u64 {
    ns.div_ceil(1_000_000_000).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(kind: RefusalKind) -> Problem {
        problem(&Refusal { kind, retry_after_ns: Some(59_500_000_000) })
    }

    #[test]
    fn a_hang_is_a_time_out_and_every_other_failure_is_not() {
        let after = |sign| {
            refused(RefusalKind::Exhausted { last: Class::Target, sign, provider: Some("one".into()) })
        };
        for sign in [Sign::FirstByteTimeout, Sign::IdleTimeout, Sign::TotalTimeout] {
            assert_eq!(after(sign).kind.row().status, 504, "{sign:?}");
            assert!(after(sign).message.contains("at one"), "{}", after(sign).message);
        }
        for sign in [Sign::ConnectFailed, Sign::Reset, Sign::ServerError, Sign::Truncated, Sign::Garbage] {
            assert_eq!(after(sign).kind, Kind::UpstreamFailed, "{sign:?}");
        }
    }

    #[test]
    fn who_is_out_is_named_with_the_reason_and_the_time() {
        let out = |key: &str, why, after_ns| Out {
            provider: "one".into(),
            account: "main".into(),
            key: key.into(),
            why,
            after_ns,
        };
        let two = vec![out("k1", Class::Key, Some(59_500_000_000)), out("k2", Class::Account, None)];
        let said = refused(RefusalKind::AllOut { out: two });
        assert_eq!(
            said.message,
            "Every key that could serve this is out (refused, empty, or failing). one key k1 was refused (tried \
             again in 60 s); one account main has no money left. Come back in 60 s."
        );
        assert_eq!(said.kind, Kind::AllOut);
        let none = refused(RefusalKind::AllOut { out: Vec::new() });
        assert!(none.message.ends_with("failing). Come back in 60 s."), "{}", none.message);
    }
}
