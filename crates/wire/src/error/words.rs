//! A sign in words, for whoever looks at one request's way.

use super::{Dimension, LimitScope, Period, Sign};
use std::fmt;

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Sign::BadRequest => "the request is wrong",
            Sign::ModelUnknown => "the model is not there for this account",
            Sign::TooDear => "nobody there is as cheap as was asked",
            Sign::ContentRefused => "the content was refused",
            Sign::ContextTooLong => "too long for the model",
            Sign::TooLargeForLimit => "larger than the account's whole limit",
            Sign::KeyRefused => "the key is refused",
            Sign::KeyForbidden => "the key may not do this",
            Sign::KeyCap => "the key's own cap is reached",
            Sign::NoMoney => "the account cannot pay",
            Sign::InFlightMoney => "too much money is held for what is in flight",
            Sign::RateLimited { dimension, period, scope } => return rate(f, *dimension, *period, *scope),
            Sign::SharedCapacity => "the model is in too high demand, for everybody",
            Sign::UpstreamCapacity => "the provider behind it is out of capacity",
            Sign::Overloaded => "the provider is overloaded",
            Sign::RegionRefused => "not served to this part of the world",
            Sign::ServerError => "the provider failed",
            Sign::TimedOut => "the provider gave up waiting",
            Sign::ClientClosed => "the provider saw its client go",
            Sign::NotSupported => "this endpoint is not served there",
            Sign::Unrecognised => "for no reason that is known",
        })
    }
}

fn rate(
    f: &mut fmt::Formatter<'_>,
    dimension: Option<Dimension>,
    period: Period,
    scope: LimitScope,
) -> fmt::Result {
    f.write_str(match dimension {
        None => "too fast",
        Some(Dimension::Requests) => "too many requests",
        Some(Dimension::InputTokens) => "too many input tokens",
        Some(Dimension::OutputTokens) => "too many output tokens",
        Some(Dimension::TotalTokens) => "too many tokens",
        Some(Dimension::Concurrent) => "too many at once",
    })?;
    f.write_str(match period {
        Period::Second => " a second",
        Period::Minute => " a minute",
        Period::Hour => " an hour",
        Period::Day => " a day",
        Period::Month => " a month",
        Period::Unknown => "",
    })?;
    f.write_str(match scope {
        LimitScope::Account => ", of the account",
        LimitScope::Key => ", of the key",
        LimitScope::Model => ", of the model",
        LimitScope::AccountFreeModels => ", of the free models",
        LimitScope::Unknown => "",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_told_as_far_as_it_is_known() {
        let told = |dimension, period, scope| Sign::RateLimited { dimension, period, scope }.to_string();
        assert_eq!(
            told(Some(Dimension::TotalTokens), Period::Minute, LimitScope::Model),
            "too many tokens a minute, of the model"
        );
        assert_eq!(told(None, Period::Unknown, LimitScope::Unknown), "too fast");
    }
}
