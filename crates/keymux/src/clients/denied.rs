//! What a client is told that may not begin: whose limit or budget, how much is left, when to come back.

use super::Client;
use crate::errors::{Kind, Problem};
use keymux_policy::budget::{Owner, Refused};
use keymux_policy::fleet::Dimension;
use keymux_policy::tenants::Denial;
use keymux_policy::throttle::Short;

/// The answer to a client's request.
pub fn problem(denial: &Denial, client: &Client, now_unix_ns: u64) -> Problem {
    match denial {
        Denial::Limit { short, retry_after_ns } => {
            let message = format!(
                "{} is used up. Come back in {} s.",
                capital(&limit(short, client)),
                seconds(*retry_after_ns)
            );
            Problem::new(Kind::ClientLimit, message).after(Some(*retry_after_ns))
        }
        Denial::TooLarge(short) => {
            let message = format!(
                "This request is larger than {} could ever admit. Send a smaller one, or fewer `max_tokens`.",
                limit(short, client)
            );
            Problem::new(Kind::TooLargeForLimit, message)
        }
        Denial::Held { owner, retry_after_ns } => {
            let message = format!(
                "What is left of {} is held for requests that are still running. Come back in {} s.",
                budget(*owner, client),
                seconds(*retry_after_ns)
            );
            Problem::new(Kind::BudgetHeld, message).after(Some(*retry_after_ns))
        }
        Denial::Unaffordable(refused) => {
            Problem::new(Kind::BudgetSpent, unaffordable(refused, client, now_unix_ns))
        }
        Denial::Full => Problem::new(Kind::RoomFull, "Too many requests wait here already.").after(None),
        Denial::Draining => Problem::new(Kind::Draining, "This gateway is shutting down; try another one."),
    }
}

fn unaffordable(refused: &Refused, client: &Client, now_unix_ns: u64) -> String {
    let whose = budget(refused.owner, client);
    let left = format!("{} has {} left", capital(&whose), dollars(refused.left_nano_usd));
    let reset = match refused.resets_unix_ns {
        Some(at) => {
            let at_s = at / 1_000_000_000;
            format!(
                "it resets in {} s (at {at_s}, in seconds since 1970)",
                seconds(at.saturating_sub(now_unix_ns))
            )
        }
        None => "it never resets".to_owned(),
    };
    let ever = if refused.ever_affordable {
        ""
    } else {
        " This request could cost more than the whole budget: ask for fewer `max_tokens`, or a larger budget."
    };
    format!("{left}, less than this request could cost; {reset}.{ever}")
}

/// Money without false precision: as many digits as it needs.
pub fn dollars(nano_usd: u64) -> String {
    let text = format!("{}.{:09}", nano_usd / 1_000_000_000, nano_usd % 1_000_000_000);
    let short = text.trim_end_matches('0');
    let cents = text.find('.').map_or(text.len(), |dot| dot + 3);
    format!("${}", &text[..short.len().max(cents)])
}

fn budget(owner: Owner, client: &Client) -> String {
    match owner {
        Owner::Client(_) => format!("the budget of the key `{}`", client.name),
        Owner::Team(_) => format!("the budget of the team `{}`", client.team),
    }
}

fn limit(short: &Short, client: &Client) -> String {
    let counted = match short.dimension {
        Dimension::Requests => format!("{:.0} requests a minute", short.limit),
        Dimension::Concurrent => format!("{:.0} requests at once", short.limit),
        _ => format!("{:.0} tokens a minute", short.limit),
    };
    match short.owner {
        Owner::Client(_) => format!("the limit of {counted} of the key `{}`", client.name),
        Owner::Team(_) => format!("the limit of {counted} of the team `{}`", client.team),
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn seconds(ns: u64) -> u64 {
    ns.div_ceil(1_000_000_000).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_told_exactly_and_shortly() {
        for (nano, told) in [
            (0, "$0.00"),
            (1, "$0.000000001"),
            (1_500_000_000, "$1.50"),
            (12_345_000_000, "$12.345"),
            (100_000_000_000, "$100.00"),
        ] {
            assert_eq!(dollars(nano), told);
        }
    }
}
