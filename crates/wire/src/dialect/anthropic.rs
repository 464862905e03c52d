//! Refusals of Anthropic's dialect: `{type:"error", error:{type, message, details?}, request_id}`.
//!
//! The type decides, and `details.error_code` before it; texts do only where there is no code (two refusals for money
//! come as a 400).

use crate::error::{ErrorFacts, Evidence, LimitScope, Sign, by_message, rate_limited};
use crate::when;

/// `details.error_code`, beyond what the type says.
const DETAILS: &[(&str, Sign)] = &[
    ("enforced_spend_limit_reached", Sign::NoMoney),
    ("contract_spend_limit_reached", Sign::NoMoney),
    ("linked_organization_spend_limit_reached", Sign::NoMoney),
    // Not for want of money, but just as much the whole account, until somebody at Anthropic acts.
    ("organization_on_hold", Sign::NoMoney),
    ("request_body_too_large_after_decoding", Sign::BadRequest),
];

/// `error.type`.
const TYPES: &[(&str, Sign)] = &[
    ("authentication_error", Sign::KeyRefused),
    ("billing_error", Sign::NoMoney),
    ("permission_error", Sign::KeyForbidden),
    ("conflict_error", Sign::BadRequest),
    ("request_too_large", Sign::BadRequest),
    ("api_error", Sign::ServerError),
    ("timeout_error", Sign::TimedOut),
    ("overloaded_error", Sign::Overloaded),
];

pub(crate) fn sign(evidence: &Evidence<'_>, facts: &mut ErrorFacts) -> Option<Sign> {
    let said = evidence.said;
    if let Some(code) = said.details["error_code"].as_str() {
        facts.code = crate::text::word(code);
        if code == "ramp_limit_exceeded" {
            return Some(rate_limited(evidence, LimitScope::Account));
        }
        if code == "enforced_spend_limit_reached" && facts.retry_after_ns.is_none() && evidence.unix_ns > 0 {
            facts.ready_at_unix_ns = when::next_month(evidence.unix_ns);
        }
        if let Some((_, sign)) = DETAILS.iter().find(|(known, _)| code == *known) {
            return Some(*sign);
        }
    }
    match said.kind.as_str() {
        "invalid_request_error" => by_message(evidence).or(Some(Sign::BadRequest)),
        "not_found_error" if said.says("model") => Some(Sign::ModelUnknown),
        "not_found_error" => Some(Sign::NotSupported),
        "rate_limit_error" => {
            Some(by_message(evidence).unwrap_or_else(|| rate_limited(evidence, LimitScope::Model)))
        }
        // What stands in front of the API says so to addresses it does not serve.
        "forbidden" if said.says("request not allowed") => Some(Sign::RegionRefused),
        kind => TYPES.iter().find(|(known, _)| kind == *known).map(|(_, sign)| *sign),
    }
}
