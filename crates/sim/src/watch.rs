//! The invariants, looked at after every event: what must hold in every run, whatever the scenario expects of it. They
//! are judged from outside, by what was said and done; a broken one is written down with its time and does not stop
//! the run, so that one report shows them all.

mod health;

use crate::fleet::Sides;
use crate::run::{Fate, Req};
use crate::spec::{Limits, Scenario};
use crate::time::{MS, ours, s_of};
use health::Health;
use keymux_policy::blame::{self, Class};
use keymux_policy::event::Event;
use keymux_policy::{Decision, End, Lease, Next, Outcome, Policy, RefusalKind};
use keymux_provider::{Dimension, FaultKind, Reply, TotalTokens};
use std::collections::BTreeSet;

/// Broken invariants that are written down; a run that breaks more has shown enough.
const SHOWN_MAX: usize = 20;
/// Polls at the same instant that let nobody out and ask for another at once.
const STUCK_MAX: u32 = 64;
/// Attempts for each request, on the average of a run, that nobody could call anything but a storm.
const ATTEMPTS_MAX: u64 = 10;
/// Fleets larger than this have their health looked at no longer: a view of them costs too much.
const HEALTH_KEYS_MAX: usize = 16;
/// Their health is looked at after every so many events.
const HEALTH_EVERY: u32 = 8;

/// What is watched.
pub(crate) struct Watch {
    pub(crate) violations: Vec<String>,
    /// Waiters by deadline.
    waiting: BTreeSet<(u64, u32)>,
    /// Keys that must never be refused by a limit.
    never_limited: Vec<bool>,
    stuck: u32,
    stormy: bool,
    counted: Counted,
    health: Option<Health>,
    before: Option<Vec<String>>,
    ticks: u32,
    events: Vec<Event>,
}

/// Verbs, as they went in and came out.
#[derive(Default)]
struct Counted {
    submitted: u64,
    gone: u64,
}

impl Watch {
    pub(crate) fn new(scenario: &Scenario, sides: &Sides) -> Self {
        let small = sides.keys.len() <= HEALTH_KEYS_MAX;
        Self {
            violations: Vec::new(),
            waiting: BTreeSet::new(),
            never_limited: never_limited(scenario, sides),
            stuck: 0,
            stormy: false,
            counted: Counted::default(),
            health: small.then(Health::default),
            before: None,
            ticks: 0,
            events: Vec::new(),
        }
    }

    pub(crate) fn violation(&mut self, now: u64, text: impl AsRef<str>) {
        if self.violations.len() < SHOWN_MAX {
            self.violations.push(format!("at {:.6} s: {}", s_of(now), text.as_ref()));
        }
    }

    /// Nothing moves any more: the run cannot go on.
    pub(crate) fn is_hopeless(&self) -> bool {
        self.stuck > STUCK_MAX || self.stormy
    }

    /// An attempt goes out: so many for so few requests are a storm, and nothing more is learned from watching it.
    pub(crate) fn attempted(&mut self, now: u64, attempts: u64, submitted: u64) {
        if attempts > ATTEMPTS_MAX * submitted + 10_000 && !self.stormy {
            self.stormy = true;
            self.violation(now, format!("a storm: {attempts} attempts for {submitted} requests"));
        }
    }

    pub(crate) fn sat_down(&mut self, req: u32, deadline_ns: u64) {
        self.waiting.insert((deadline_ns, req));
    }

    pub(crate) fn stood_up(&mut self, req: u32, deadline_ns: u64) {
        self.waiting.remove(&(deadline_ns, req));
    }

    /// None is refused while its forecast meets its deadline.
    pub(crate) fn decided(&mut self, now: u64, r: &Req, decision: &Decision) {
        let Decision::Refuse(refusal) = decision else { return };
        let forecast =
            matches!(refusal.kind, RefusalKind::QuotaExhausted { .. } | RefusalKind::AllOut { .. });
        if let Some(after) = refusal.retry_after_ns.filter(|_| forecast)
            && now + after < r.deadline_ns
        {
            let (after, left) = (after / MS, (r.deadline_ns - now) / MS);
            self.violation(
                now,
                format!("refused although it may come back in {after} ms and would wait {left} ms"),
            );
        }
    }

    /// Another process, which was told nothing of anybody's health.
    pub(crate) fn restarted(&mut self) {
        self.health = self.health.take().map(|_| Health::default());
    }

    pub(crate) fn first_output(&mut self) {
        if let Some(health) = &mut self.health {
            health.proved();
        }
    }

    /// Where limits are known and nobody else uses the account, it refuses nothing.
    pub(crate) fn reached(&mut self, now: u64, key: usize, reply: &Reply, sent_ns: u64) {
        let Some(rule) = reply.refused_by.as_ref().filter(|_| !reply.open) else { return };
        let by_limit = rule.contains('/') && !rule.starts_with("shared") || *rule == *"concurrent";
        if by_limit && self.never_limited[key] {
            let way = (now - sent_ns) / MS;
            self.violation(
                now,
                format!("key {key} drew a 429 from {rule} although it is declared ({way} ms on the way)"),
            );
        }
    }

    pub(crate) fn before_finish(&mut self, now: u64, policy: &Policy, lease: &Lease, outcome: &Outcome) {
        let class = match &outcome.end {
            End::Done => None,
            End::Failed(e) => Some(blame::judge(e)),
            End::Dropped => Some(Class::Client),
        };
        let Some(health) = &mut self.health else { return };
        let harmless = matches!(class, Some(Class::Request | Class::Client)) && !lease.probe;
        self.before = harmless.then(|| Health::ill(policy, now));
        health.ended(lease, class.is_none());
    }

    /// Outcomes of the request's class change nobody's health.
    pub(crate) fn after_finish(&mut self, now: u64, policy: &Policy, next: &Next) {
        let Some(before) = self.before.take() else { return };
        if matches!(next, Next::Done(_)) {
            let after = Health::ill(policy, now);
            if after != before {
                self.violation(now, format!("a request's own fault changed health: {before:?} to {after:?}"));
            }
        }
    }

    /// Each poll at a wake that is due makes progress.
    pub(crate) fn polled(&mut self, now: u64, let_out: bool, due: bool) {
        self.stuck = if due && !let_out { self.stuck + 1 } else { 0 };
        if self.stuck == STUCK_MAX {
            self.violation(now, "polls spin: a wake is due again and again and nobody is let out");
        }
    }

    pub(crate) fn after_event(&mut self, now: u64, policy: &Policy, reqs: &[Req], in_flight: usize) {
        let totals = policy.totals();
        let waiting = policy.waiting() as u64;
        let sum = totals.done + totals.refused + totals.cancelled + totals.in_flight + waiting;
        if totals.submitted != sum {
            self.violation(now, format!("requests are lost: {totals:?}, {waiting} waiting"));
        }
        if totals.in_flight != in_flight as u64 || waiting != self.waiting.len() as u64 {
            let seen = (in_flight, self.waiting.len());
            self.violation(now, format!("{totals:?}, {waiting} waiting, but from outside {seen:?}"));
        }
        if let Some((deadline, req)) = self.waiting.first().copied()
            && deadline < now
        {
            self.waiting.pop_first();
            let r = &reqs[req as usize];
            let late = (now - deadline) / MS;
            if r.fate == Fate::Waiting {
                self.violation(now, format!("a waiter outlived its deadline by {late} ms"));
            }
        }
        self.counted.submitted = totals.submitted;
        self.counted.gone = totals.done + totals.refused + totals.cancelled;
        self.ticks += 1;
        if self.ticks.is_multiple_of(HEALTH_EVERY)
            && let Some(health) = &mut self.health
        {
            let found = health.look(policy, now);
            for text in found {
                self.violation(now, text);
            }
        }
    }

    /// At the end nothing is left behind.
    pub(crate) fn at_end(&mut self, now: u64, policy: &mut Policy, in_flight: usize) {
        if self.is_hopeless() {
            return;
        }
        if policy.waiting() > 0 || in_flight > 0 || self.counted.submitted != self.counted.gone {
            let waiting = policy.waiting();
            self.violation(now, format!("at the end {waiting} still wait and {in_flight} are in flight"));
        }
        if self.health.is_none() {
            return;
        }
        // A day and a half later all is whole again, but for what a probe must prove.
        let later = ours(now + 130_000_000 * MS);
        policy.poll(later, &mut Vec::new());
        let view = policy.view(later);
        for account in view.providers.iter().flat_map(|p| &p.accounts) {
            if account.in_flight > 0 {
                self.violation(
                    now,
                    format!("{} holds {} leases that ended", account.name, account.in_flight),
                );
            }
            let limits = account.limits.iter().chain(account.keys.iter().flat_map(|k| &k.limits));
            // One that is still being learned may know no rate yet.
            for l in limits.filter(|l| l.source != keymux_policy::view::Source::Learned) {
                if l.queued.abs() > 1e-6 || (l.level - l.size).abs() > 1e-6 * l.size.max(1.0) {
                    self.violation(now, format!("{}: {l:?} is not whole again", account.name));
                }
            }
        }
    }

    /// The scheduler's events since the start.
    pub(crate) fn take_events(&mut self, policy: &mut Policy) -> Vec<Event> {
        policy.take_events(&mut self.events);
        std::mem::take(&mut self.events)
    }
}

/// Keys all of whose limits are declared, exactly predictable, and used by nobody else.
fn never_limited(scenario: &Scenario, sides: &Sides) -> Vec<bool> {
    let guessed = scenario.traffic.iter().any(|t| (t.guess - 1.0).abs() > 1e-9);
    // Who states no cap is given the provider's own, which is told nowhere.
    let capped = scenario.traffic.iter().all(|t| t.max_tokens.is_some());
    let leaves = scenario.traffic.iter().any(|t| t.leaves > 0.0);
    let of = |key: &crate::fleet::Key| {
        let provider = &sides.world.providers[key.provider];
        let account = &sides.accounts[key.account];
        let limits = scenario.limits_of.get(&provider.name).copied().unwrap_or(scenario.limits);
        let stranger = scenario.strangers.iter().any(|s| s.account == account.name);
        let told = |kind: &FaultKind| matches!(kind, FaultKind::RateLimit { .. } | FaultKind::Payment { .. });
        let whole = sides.world.providers[key.provider].accounts.iter().all(|a| {
            account.name != format!("{}/{}", provider.name, a.name)
                || a.keys.iter().all(|k| k.faults.is_empty())
        });
        let faulty = account.faults.iter().any(|f| told(&f.kind));
        // Output that is charged as it comes can only be guessed.
        let exact = account.limits.iter().all(|l| match l.dimension {
            Dimension::Requests => true,
            // A call that is broken off ends at the provider only when word of it arrives there.
            Dimension::Concurrent => !leaves && whole && account.faults.is_empty(),
            Dimension::InputTokens => !guessed,
            Dimension::TotalTokens => {
                !guessed && capped && account.charging.total_tokens != TotalTokens::AsProduced
            }
            Dimension::OutputTokens => capped && account.charging.output_reserved,
            Dimension::InFlightMoney => false,
        });
        limits == Limits::Declared && !stranger && !faulty && exact
    };
    sides.keys.iter().map(of).collect()
}
