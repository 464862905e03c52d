//! What the state of the keys means to a batch: what its lines wait for, and whether waiting is of any use.

use keymux_policy::blame::Class;
use keymux_policy::view::{AccountView, KeyView, LimitView, Out, View};
use std::fmt::Write as _;

/// Names that are told.
const NAMES_MAX: usize = 5;

/// If no key can be used until somebody mends it: which ones, and why.
pub fn all_out(view: &View) -> Option<String> {
    let mut told = Vec::new();
    let mut more = 0;
    for provider in &view.providers {
        for account in &provider.accounts {
            for key in account.keys.iter().filter(|key| key.enabled) {
                let why = why_out(account, key)?;
                if told.len() < NAMES_MAX {
                    told.push(format!("{}/{} {why}", provider.name, key.name));
                } else {
                    more += 1;
                }
            }
        }
    }
    let mut text = if told.is_empty() { "no key is switched on".to_owned() } else { told.join(", ") };
    if more > 0 {
        // Writing to a String cannot fail.
        let _ = write!(text, " and {more} more");
    }
    Some(text)
}

fn why_out(account: &AccountView, key: &KeyView) -> Option<&'static str> {
    let by = |out: &Option<Out>, class| out.as_ref().is_some_and(|out| out.why == class);
    if by(&account.benched, Class::Account) {
        Some("has no money left")
    } else if by(&key.benched, Class::Key) {
        Some("was refused")
    } else {
        None
    }
}

/// What waiting lines wait for, in a few words.
pub fn what_is_waited_for(view: &View) -> Option<String> {
    let mut tightest: Option<(f64, String)> = None;
    let mut closed = None;
    for provider in &view.providers {
        if provider.open_until.is_some() {
            closed = Some(format!("{} is down", provider.name));
        }
        for account in &provider.accounts {
            let place = format!("{}/{}", provider.name, account.name);
            if let Some(out) = account.benched.or(account.quota) {
                closed.get_or_insert(format!("{place} {}", out_for(out.why)));
            }
            let keys = account.keys.iter().flat_map(|key| &key.limits);
            for limit in account.limits.iter().chain(keys).filter(|limit| limit.size > 0.0) {
                let share = limit.level / limit.size;
                if tightest.as_ref().is_none_or(|(least, _)| share < *least) {
                    tightest = Some((share, format!("{} of {place}", counted(limit))));
                }
            }
        }
    }
    tightest.map(|(_, told)| told).or(closed)
}

fn out_for(why: Class) -> &'static str {
    match why {
        Class::Account => "has no money left",
        Class::Key => "was refused",
        Class::Quota => "is at its rate limit",
        Class::Capacity => "has no capacity",
        _ => "keeps failing",
    }
}

fn counted(limit: &LimitView) -> String {
    use keymux_policy::fleet::Dimension;
    let what = match limit.dimension {
        Dimension::Requests => "requests",
        Dimension::InputTokens => "input tokens",
        Dimension::OutputTokens => "output tokens",
        Dimension::TotalTokens => "tokens",
        Dimension::Concurrent => "calls at once",
        Dimension::NanoUsd => "money",
    };
    if limit.daily { format!("the day's {what}") } else { what.to_owned() }
}
