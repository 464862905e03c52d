use super::*;
use crate::fleet::Dimension;
use crate::outcome::LimitScope;

pub(crate) const PHASES: [Phase; 5] = [Phase::Connect, Phase::Send, Phase::Head, Phase::Hold, Phase::Stream];

pub(crate) fn signs() -> Vec<Sign> {
    let mut signs = vec![
        Sign::BadRequest,
        Sign::ModelUnknown,
        Sign::TooDear,
        Sign::ClientGone,
        Sign::ClientTimeout,
        Sign::TooLargeForLimit,
        Sign::KeyRefused,
        Sign::KeyForbidden,
        Sign::KeyCap,
        Sign::NoMoney,
        Sign::InFlightMoney,
        Sign::Overloaded,
        Sign::ServerError,
        Sign::ConnectFailed,
        Sign::TlsFailed,
        Sign::Reset,
        Sign::FirstByteTimeout,
        Sign::IdleTimeout,
        Sign::TotalTimeout,
        Sign::Truncated,
        Sign::ErrorInAnswer,
        Sign::Garbage,
        Sign::Local,
    ];
    let scopes = [
        LimitScope::AccountModel,
        LimitScope::Account,
        LimitScope::AccountFreeModels,
        LimitScope::Key,
        LimitScope::Unknown,
    ];
    for scope in scopes {
        for dimension in [None, Some(Dimension::Requests), Some(Dimension::TotalTokens)] {
            for daily in [false, true] {
                signs.push(Sign::RateLimited { dimension, scope, daily });
            }
        }
    }
    signs
}

/// The table written a second time, the other way round: class by class.
fn expected(sign: Sign, phase: Phase, relayed: bool) -> Class {
    let name = format!("{sign:?}");
    let name = name.split([' ', '{']).next().unwrap_or_default();
    let classes: [(&str, Class, Class); 24] = [
        // sign, class, class when relayed
        ("BadRequest", Class::Request, Class::Request),
        ("ModelUnknown", Class::Request, Class::Request),
        ("TooDear", Class::Request, Class::Request),
        ("TooLargeForLimit", Class::Request, Class::Request),
        ("ClientGone", Class::Client, Class::Client),
        ("ClientTimeout", Class::Client, Class::Client),
        ("KeyRefused", Class::Key, Class::Target),
        ("KeyForbidden", Class::Key, Class::Target),
        ("KeyCap", Class::Key, Class::Target),
        ("NoMoney", Class::Account, Class::Target),
        ("InFlightMoney", Class::Quota, Class::Capacity),
        ("RateLimited", Class::Quota, Class::Capacity),
        ("Overloaded", Class::Capacity, Class::Capacity),
        ("ServerError", Class::Target, Class::Target),
        ("ConnectFailed", Class::Target, Class::Target),
        ("TlsFailed", Class::Target, Class::Target),
        ("Reset", Class::Target, Class::Target),
        ("FirstByteTimeout", Class::Target, Class::Target),
        ("IdleTimeout", Class::Target, Class::Target),
        ("TotalTimeout", Class::Target, Class::Target),
        ("Truncated", Class::Target, Class::Target),
        ("ErrorInAnswer", Class::Target, Class::Target),
        ("Garbage", Class::Target, Class::Target),
        ("Local", Class::Local, Class::Local),
    ];
    if name == "TotalTimeout" && phase == Phase::Stream {
        return Class::Request;
    }
    let row = classes.iter().find(|row| row.0 == name).expect("every sign has a row");
    if relayed { row.2 } else { row.1 }
}

#[test]
fn every_sign_in_every_phase_has_its_class_and_the_status_decides_nothing() {
    for sign in signs() {
        for phase in PHASES {
            for relayed in [false, true] {
                for status in [None, Some(200), Some(401), Some(402), Some(429), Some(500)] {
                    let evidence = Evidence {
                        phase,
                        status,
                        sign,
                        relayed,
                        retry_after_ns: None,
                        limit: None,
                        requested: None,
                    };
                    assert_eq!(judge(&evidence), expected(sign, phase, relayed), "{evidence:?}");
                }
            }
        }
    }
}

#[test]
fn only_a_reset_before_any_answer_is_a_stale_connection() {
    for sign in signs() {
        for phase in PHASES {
            for status in [None, Some(502)] {
                let evidence = Evidence {
                    phase,
                    status,
                    sign,
                    relayed: false,
                    retry_after_ns: None,
                    limit: None,
                    requested: None,
                };
                let stale = sign == Sign::Reset && status.is_none() && phase <= Phase::Head;
                assert_eq!(is_stale(&evidence), stale);
            }
        }
    }
}
