//! From what the wire said to what the scheduler is told: the only place that knows both languages. Exhaustive, so
//! that a new sign on either side does not compile until it has a meaning here.

use keymux_policy::fleet::Dimension;
use keymux_policy::outcome::LimitScope;
use keymux_policy::{Evidence, Measurement, Phase, Sign, Used};
use keymux_wire::error::{self, ErrorFacts};
use keymux_wire::limits;
use keymux_wire::usage::Usage;

/// A refusal or error that a provider stated.
pub fn of_error(facts: &ErrorFacts, phase: Phase, in_answer: bool, unix_ns: u64) -> Evidence {
    let stated = facts.ready_at_unix_ns.map(|at| at.saturating_sub(unix_ns));
    let mut sign = sign(facts);
    if in_answer && matches!(sign, Sign::ServerError) {
        sign = Sign::ErrorInAnswer;
    }
    Evidence {
        phase,
        status: Some(facts.status),
        sign,
        relayed: facts.relayed,
        // Both may be given; whoever comes back at the earlier of the two is refused again.
        retry_after_ns: facts.retry_after_ns.max(stated),
        limit: facts.limit.map(|n| n as f64),
        requested: facts.requested.map(|n| n as f64),
    }
}

fn sign(facts: &ErrorFacts) -> Sign {
    use error::Sign as Wire;
    match &facts.sign {
        Wire::BadRequest | Wire::ContentRefused | Wire::ContextTooLong | Wire::NotSupported => {
            Sign::BadRequest
        }
        Wire::ModelUnknown => Sign::ModelUnknown,
        Wire::TooDear => Sign::TooDear,
        Wire::TooLargeForLimit => Sign::TooLargeForLimit,
        Wire::KeyRefused => Sign::KeyRefused,
        // A region is refused to the account that calls from it; another provider may serve.
        Wire::KeyForbidden | Wire::RegionRefused => Sign::KeyForbidden,
        Wire::KeyCap => Sign::KeyCap,
        Wire::NoMoney => Sign::NoMoney,
        Wire::InFlightMoney => Sign::InFlightMoney,
        Wire::RateLimited { dimension: counted, period, scope } => Sign::RateLimited {
            dimension: counted.map(dimension),
            scope: match scope {
                error::LimitScope::Account => LimitScope::Account,
                error::LimitScope::Key => LimitScope::Key,
                error::LimitScope::Model => LimitScope::AccountModel,
                error::LimitScope::AccountFreeModels => LimitScope::AccountFreeModels,
                error::LimitScope::Unknown => LimitScope::Unknown,
            },
            daily: matches!(period, limits::Period::Day),
        },
        Wire::SharedCapacity | Wire::UpstreamCapacity | Wire::Overloaded => Sign::Overloaded,
        Wire::ServerError | Wire::TimedOut => Sign::ServerError,
        Wire::ClientClosed => Sign::ClientGone,
        Wire::Unrecognised => unrecognised(facts.status),
    }
}

/// An error that no table knows: a 4xx is most likely the request's, the rest the target's.
fn unrecognised(status: u16) -> Sign {
    match status {
        400..=499 => Sign::BadRequest,
        500..=599 => Sign::ServerError,
        _ => Sign::Garbage,
    }
}

fn dimension(dimension: limits::Dimension) -> Dimension {
    match dimension {
        limits::Dimension::Requests => Dimension::Requests,
        limits::Dimension::InputTokens => Dimension::InputTokens,
        limits::Dimension::OutputTokens => Dimension::OutputTokens,
        limits::Dimension::TotalTokens => Dimension::TotalTokens,
        limits::Dimension::Concurrent => Dimension::Concurrent,
    }
}

/// A limit as headers state it.
pub fn of_limit(m: &limits::Measurement) -> Measurement {
    Measurement {
        dimension: dimension(m.dimension),
        daily: matches!(m.period, limits::Period::Day),
        account_wide: matches!(m.scope, limits::Scope::Account | limits::Scope::Project),
        limit: m.limit.map(|n| n as f64),
        remaining: m.remaining.map(|n| n as f64),
        rounding: m.rounding as f64,
        reset_ns: m.reset_ns,
        reset_means_full: m.reset_means_full,
    }
}

/// What a provider says was used.
pub fn of_usage(usage: &Usage) -> Used {
    Used {
        input_tokens: usage.input_tokens,
        cached_input_tokens: usage.cached_input_tokens,
        output_tokens: usage.output_tokens,
        // With a key that its customer brought along, an aggregator's own figure is only its fee.
        cost_nano_usd: match (usage.is_byok, usage.upstream_cost_nano_usd) {
            (true, Some(upstream)) => Some(usage.cost_nano_usd.unwrap_or(0).saturating_add(upstream)),
            _ => usage.cost_nano_usd,
        },
        estimated: false,
    }
}
