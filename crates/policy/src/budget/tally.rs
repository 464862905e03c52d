//! One owner's account: what was spent and what is held, by period.

use super::{Budget, Owner, Period};
use crate::time::Now;

/// A budget has reached a part of its limit; told once in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Whose.
    pub owner: Owner,
    /// Which part: 80 or 100.
    pub percent: u8,
    /// Spent in the period.
    pub spent_nano_usd: u64,
    /// Of so much.
    pub limit_nano_usd: u64,
}

/// A budget as it stands, for people and APIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetView {
    /// What may be spent.
    pub budget: Budget,
    /// Settled in this period.
    pub spent_nano_usd: u64,
    /// Held for attempts of this period that are still open.
    pub held_nano_usd: u64,
    /// Held for attempts of earlier periods; takes nothing from this one.
    pub held_before_nano_usd: u64,
    /// The limit less what is spent: what there is once all open attempts had cost nothing.
    pub left_nano_usd: Option<u64>,
    /// When the period began.
    pub began_unix_ns: u64,
    /// When the next one begins; `None`: never.
    pub resets_unix_ns: Option<u64>,
}

/// How an amount stands to a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// It fits beside what is held.
    Now,
    /// It would fit if open attempts cost less than is held for them.
    AfterRefunds,
    /// It does not fit in this period.
    No,
}

#[derive(Clone, Debug)]
pub(super) struct Tally {
    pub(super) budget: Budget,
    /// The running period; never goes back.
    pub(super) period: Period,
    pub(super) spent: u64,
    /// What is held, in each period that has open holds: their number and their sum.
    held: Vec<(Period, u64, u64)>,
    /// The part of the limit that was last told of, in percent.
    warned: u8,
    /// No longer configured; kept until its last hold is settled.
    pub(super) gone: bool,
}

impl Tally {
    pub(super) fn new(budget: Budget, now: Now) -> Self {
        let period = budget.reset.period(now);
        Self { budget, period, spent: 0, held: Vec::new(), warned: 0, gone: false }
    }

    /// Begins a new period if it is time.
    pub(super) fn roll(&mut self, now: Now) {
        let period = self.budget.reset.period(now);
        if period > self.period {
            self.period = period;
            self.spent = 0;
            self.warned = 0;
        }
    }

    /// Another budget. Tells whether its periods are others: then what is held must be held anew in them, and what
    /// was spent be looked up.
    pub(super) fn change(&mut self, budget: Budget, now: Now) -> bool {
        let other = budget.reset != self.budget.reset;
        self.gone = false;
        self.budget = budget;
        if other {
            self.held.clear();
            self.period = budget.reset.period(now);
        }
        self.warned = self.warned.min(self.reached());
        other
    }

    pub(super) fn is_idle(&self) -> bool {
        self.held.is_empty()
    }

    fn held_in(&self, period: Period) -> u64 {
        self.held.iter().find(|h| h.0 == period).map_or(0, |h| h.2)
    }

    /// How an amount stands to the running period.
    pub(super) fn fit(&self, amount: u64) -> Fit {
        let Some(limit) = self.budget.limit_nano_usd.filter(|_| amount > 0) else { return Fit::Now };
        let settled = u128::from(self.spent) + u128::from(amount);
        if settled + u128::from(self.held_in(self.period)) <= u128::from(limit) {
            Fit::Now
        } else if settled <= u128::from(limit) {
            Fit::AfterRefunds
        } else {
            Fit::No
        }
    }

    /// Holds an amount in a period.
    pub(super) fn hold(&mut self, period: Period, amount: u64) {
        match self.held.iter_mut().find(|h| h.0 == period) {
            Some(held) => {
                held.1 += 1;
                held.2 = held.2.saturating_add(amount);
            }
            None => self.held.push((period, 1, amount)),
        }
    }

    /// Gives back what was held in a period, and charges that period what it came to.
    pub(super) fn settle(&mut self, period: Period, amount: u64, cost: u64) {
        if let Some(held) = self.held.iter_mut().find(|h| h.0 == period) {
            held.1 -= 1;
            held.2 = held.2.saturating_sub(amount);
        }
        self.held.retain(|h| h.1 > 0);
        self.charge(period, cost);
    }

    /// Charges a period; one that is over takes nothing from this one.
    pub(super) fn charge(&mut self, period: Period, cost: u64) {
        if period == self.period {
            self.spent = self.spent.saturating_add(cost);
        }
    }

    /// The part of the limit that is spent, as far as anybody is told: 0, 80 or 100.
    fn reached(&self) -> u8 {
        let Some(limit) = self.budget.limit_nano_usd else { return 0 };
        match (u128::from(self.spent) * 100, u128::from(limit)) {
            (0, _) => 0,
            (spent, limit) if spent >= limit * 100 => 100,
            (spent, limit) if spent >= limit * 80 => 80,
            _ => 0,
        }
    }

    /// The warning that is due, once.
    pub(super) fn warning(&mut self, owner: Owner) -> Option<Warning> {
        let percent = self.reached();
        let limit_nano_usd = self.budget.limit_nano_usd.filter(|_| percent > self.warned)?;
        self.warned = percent;
        Some(Warning { owner, percent, spent_nano_usd: self.spent, limit_nano_usd })
    }

    /// As it stands at an instant, whether or not anything has happened in the period yet.
    pub(super) fn view(&self, now: Now) -> BudgetView {
        let period = self.period.max(self.budget.reset.period(now));
        let spent = if period == self.period { self.spent } else { 0 };
        let held = self.held_in(period);
        let all = self.held.iter().fold(0_u64, |sum, h| sum.saturating_add(h.2));
        BudgetView {
            budget: self.budget,
            spent_nano_usd: spent,
            held_nano_usd: held,
            held_before_nano_usd: all - held.min(all),
            left_nano_usd: self.budget.limit_nano_usd.map(|limit| limit.saturating_sub(spent)),
            began_unix_ns: period.start_unix_ns(),
            resets_unix_ns: self.budget.reset.end_unix_ns(period),
        }
    }
}
