//! One owner's account: what was spent and what is held, by period.

use super::{Budget, Owner, Period, Reset};
use crate::time::Now;

/// What an owner has spent in the running period of each kind, in nano-dollars. All are kept, so that a budget can be
/// given another reset at any time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Ever.
    pub ever: u64,
    /// Since midnight.
    pub day: u64,
    /// Since Monday.
    pub week: u64,
    /// Since the first of the month.
    pub month: u64,
}

impl Spent {
    /// The one of a budget that is reset like this.
    pub fn of(&mut self, reset: Reset) -> &mut u64 {
        match reset {
            Reset::Never => &mut self.ever,
            Reset::Daily => &mut self.day,
            Reset::Weekly => &mut self.week,
            Reset::Monthly => &mut self.month,
        }
    }
}

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
    /// Settled in the running periods of all kinds.
    pub spent: Spent,
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

const RESETS: [Reset; 4] = [Reset::Never, Reset::Daily, Reset::Weekly, Reset::Monthly];

#[derive(Clone, Debug)]
pub(super) struct Tally {
    pub(super) budget: Budget,
    /// The running period of each kind, and what was spent in it; never goes back.
    sums: [(Period, u64); RESETS.len()],
    /// What is held, in each period that has open holds: their number and their sum.
    held: Vec<(Period, u64, u64)>,
    /// The part of the limit that was last told of, in percent.
    warned: u8,
    /// No longer configured; kept until its last hold is settled.
    pub(super) gone: bool,
}

impl Tally {
    pub(super) fn new(budget: Budget, now: Now) -> Self {
        let sums = RESETS.map(|reset| (reset.period(now), 0));
        Self { budget, sums, held: Vec::new(), warned: 0, gone: false }
    }

    /// The running period of the budget's own kind, and what was spent in it.
    fn own(&self) -> (Period, u64) {
        let at = RESETS.iter().position(|reset| *reset == self.budget.reset).unwrap_or(0);
        self.sums[at]
    }

    pub(super) fn period(&self) -> Period {
        self.own().0
    }

    fn spent(&self) -> u64 {
        self.own().1
    }

    /// What was spent is told from elsewhere.
    pub(super) fn restore(&mut self, mut spent: Spent) {
        for (reset, sum) in RESETS.iter().zip(&mut self.sums) {
            sum.1 = *spent.of(*reset);
        }
    }

    /// Begins a new period if it is time.
    pub(super) fn roll(&mut self, now: Now) {
        for (reset, sum) in RESETS.iter().zip(&mut self.sums) {
            let period = reset.period(now);
            if period > sum.0 {
                *sum = (period, 0);
                if *reset == self.budget.reset {
                    self.warned = 0;
                }
            }
        }
    }

    /// Another budget. Tells whether its periods are others: then what is held must be held anew in them.
    pub(super) fn change(&mut self, budget: Budget) -> bool {
        let other = budget.reset != self.budget.reset;
        self.gone = false;
        self.budget = budget;
        if other {
            self.held.clear();
        }
        self.warned = self.warned.min(self.reached());
        other
    }

    /// Nothing would be lost with it.
    pub(super) fn is_idle(&self) -> bool {
        self.held.is_empty() && self.sums.iter().all(|sum| sum.1 == 0)
    }

    fn held_in(&self, period: Period) -> u64 {
        self.held.iter().find(|h| h.0 == period).map_or(0, |h| h.2)
    }

    /// How an amount stands to the running period.
    pub(super) fn fit(&self, amount: u64) -> Fit {
        let Some(limit) = self.budget.limit_nano_usd.filter(|_| amount > 0) else { return Fit::Now };
        let settled = u128::from(self.spent()) + u128::from(amount);
        if settled + u128::from(self.held_in(self.period())) <= u128::from(limit) {
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

    /// Gives back what was held in a period.
    pub(super) fn give_back(&mut self, period: Period, amount: u64) {
        if let Some(held) = self.held.iter_mut().find(|h| h.0 == period) {
            held.1 -= 1;
            held.2 = held.2.saturating_sub(amount);
        }
        self.held.retain(|h| h.1 > 0);
    }

    /// Charges what was begun at an instant to its periods; one that is over takes nothing from the running one.
    pub(super) fn charge(&mut self, opened: Now, cost: u64) {
        for (reset, (period, spent)) in RESETS.iter().zip(&mut self.sums) {
            if reset.period(opened) == *period {
                *spent = spent.saturating_add(cost);
            }
        }
    }

    /// The part of the limit that is spent, as far as anybody is told: 0, 80 or 100.
    fn reached(&self) -> u8 {
        let Some(limit) = self.budget.limit_nano_usd else { return 0 };
        match (u128::from(self.spent()) * 100, u128::from(limit)) {
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
        Some(Warning { owner, percent, spent_nano_usd: self.spent(), limit_nano_usd })
    }

    /// As it stands at an instant, whether or not anything has happened in the period yet.
    pub(super) fn view(&self, now: Now) -> BudgetView {
        let period = self.period().max(self.budget.reset.period(now));
        let mut all_spent = Spent::default();
        for (reset, (began, sum)) in RESETS.iter().zip(self.sums) {
            *all_spent.of(*reset) = if reset.period(now) > began { 0 } else { sum };
        }
        let spent = *all_spent.of(self.budget.reset);
        let held = self.held_in(period);
        let all = self.held.iter().fold(0_u64, |sum, h| sum.saturating_add(h.2));
        BudgetView {
            budget: self.budget,
            spent_nano_usd: spent,
            spent: all_spent,
            held_nano_usd: held,
            held_before_nano_usd: all - held.min(all),
            left_nano_usd: self.budget.limit_nano_usd.map(|limit| limit.saturating_sub(spent)),
            began_unix_ns: period.start_unix_ns(),
            resets_unix_ns: self.budget.reset.end_unix_ns(period),
        }
    }
}
