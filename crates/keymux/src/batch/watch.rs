//! What the state of the keys means to a batch: what its lines wait for, and whether waiting is of any use.

use super::patience::FIRST_NS;
use keymux_policy::Why;
use keymux_policy::blame::Class;
use keymux_policy::fleet::Dimension;
use keymux_policy::view::{AccountView, KeyView, LimitView, ProviderView, View};
use std::fmt::Write as _;

/// How long nothing can be sent before that is believed.
const STUCK_NS: u64 = 2_000_000_000;
/// Names that are told.
const NAMES_MAX: usize = 5;

/// What keeps a key from being used.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Out {
    /// Somebody has to mend it: the key or its account.
    Mend { told: String, worked: bool },
    /// Somebody has to mend it, for one model.
    MendModel(String),
    /// It comes back by itself, or somebody else brings it back.
    Down(String),
    /// A rate limit.
    Limited(String),
}

/// Nothing can be sent until somebody mends it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stuck {
    /// Which keys, and why.
    told: String,
    /// One of them was refused that had been accepted before: it may be a mistake of its provider's that passes.
    may_pass: bool,
}

/// Whether no key can be used until somebody mends it. Asked where lines wait and none is under way, so that a key to which
/// nothing was sent is none that these lines could go to.
fn stuck(view: &View) -> Option<Stuck> {
    let (mut told, mut more, mut may_pass) = (Vec::new(), 0, false);
    if view.waits.is_empty() || view.waits.iter().any(|why| *why != Why::Benched) {
        return None;
    }
    for (provider, account, key) in keys(view) {
        let why = match out(provider, account, key) {
            None => continue,
            Some(Out::Down(_) | Out::Limited(_)) => return None,
            Some(Out::Mend { told, worked }) => {
                may_pass |= worked;
                told
            }
            Some(Out::MendModel(told)) => told,
        };
        if told.len() < NAMES_MAX {
            told.push(why);
        } else {
            more += 1;
        }
    }
    if told.is_empty() {
        return None;
    }
    let mut text = told.join(", ");
    if more > 0 {
        // Writing to a String cannot fail.
        let _ = write!(text, " and {more} more");
    }
    Some(Stuck { told: text, may_pass })
}

/// For how long no key could be used.
#[derive(Debug)]
pub struct Standstill {
    since_ns: Option<u64>,
    /// How long a refusal is waited for that may pass.
    most_ns: u64,
}

impl Standstill {
    /// None so far. It waits for no longer than a batch that is given so much patience.
    pub fn new(patience_ns: Option<u64>) -> Self {
        let most_ns = patience_ns.unwrap_or(u64::MAX).clamp(STUCK_NS, FIRST_NS);
        Self { since_ns: None, most_ns }
    }

    /// A line was answered.
    pub fn is_over(&mut self) {
        self.since_ns = None;
    }

    /// Whether no key can be used until somebody mends it, for longer than a moment: which ones, and why.
    pub fn look(&mut self, now_ns: u64, view: &View) -> Option<String> {
        if view.totals.in_flight > 0 {
            // Perhaps a key is being probed.
            return None;
        }
        let Some(stuck) = stuck(view) else {
            self.since_ns = None;
            return None;
        };
        let since_ns = *self.since_ns.get_or_insert(now_ns);
        let most_ns = if stuck.may_pass { self.most_ns } else { STUCK_NS };
        (now_ns - since_ns >= most_ns).then_some(stuck.told)
    }
}

fn keys(view: &View) -> impl Iterator<Item = (&ProviderView, &AccountView, &KeyView)> {
    view.providers.iter().flat_map(|provider| {
        provider.accounts.iter().flat_map(move |account| {
            account.keys.iter().filter(|key| key.enabled).map(move |key| (provider, account, key))
        })
    })
}

/// What keeps a key out that was used.
fn out(provider: &ProviderView, account: &AccountView, key: &KeyView) -> Option<Out> {
    let place = format!("{}/{}", provider.name, key.name);
    let mend = |what: &str, worked| Some(Out::Mend { told: format!("{place} {what}"), worked });
    if account.benched.is_some_and(|out| out.why == Class::Account) {
        return mend("has no money left", false);
    }
    if key.benched.is_some_and(|out| out.why == Class::Key) {
        return mend("was refused", key.counts.ok > 0);
    }
    if key.counts.requests == 0 {
        return None;
    }
    if provider.open_until.is_some() {
        return Some(Out::Down(format!("{} is down", provider.name)));
    }
    if account.quota.or(key.quota).is_some() || key.models.iter().any(|model| model.quota.is_some()) {
        return Some(Out::Limited(format!("{place} is at its rate limit")));
    }
    if let Some((model, _)) = provider.no_capacity.first() {
        return Some(Out::Down(format!("{} has no capacity for {model}", provider.name)));
    }
    if key.models.iter().any(|model| model.breaker_open_until.is_some()) {
        return Some(Out::Down(format!("{place} keeps failing")));
    }
    let forbidden = key.models.iter().find(|model| model.benched.is_some())?;
    Some(Out::MendModel(format!("{place} may not use {}", forbidden.model)))
}

/// What waiting lines wait for that is no limit: who is down, refused or forbidden.
pub fn shut(view: &View) -> Option<String> {
    let limits = |why: &Why| matches!(why, Why::Limit(_) | Why::FirstContact);
    if view.waits.is_empty() || view.waits.iter().all(limits) {
        return None;
    }
    keys(view).find_map(|(provider, account, key)| match out(provider, account, key)? {
        Out::Mend { told, .. } | Out::MendModel(told) | Out::Down(told) => Some(told),
        Out::Limited(_) => None,
    })
}

/// Whether lines wait for a limit.
pub fn is_limited(view: &View) -> bool {
    view.waits.iter().any(|why| matches!(why, Why::Limit(_)))
        || keys(view).any(|(p, account, key)| matches!(out(p, account, key), Some(Out::Limited(_))))
}

/// What waiting lines wait for, in a few words.
pub fn what_is_waited_for(view: &View) -> Option<String> {
    if let Some(told) = shut(view) {
        return Some(told);
    }
    let mut tightest: Option<(f64, String)> = None;
    let mut closed = None;
    for provider in &view.providers {
        for account in &provider.accounts {
            let place = format!("{}/{}", provider.name, account.name);
            if account.quota.is_some() {
                closed.get_or_insert(format!("{place} is at its rate limit"));
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

fn counted(limit: &LimitView) -> String {
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
