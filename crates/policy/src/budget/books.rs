//! All budgets and all open holds. One `&mut self`, so a hold is taken from every budget or from none, and nobody
//! sees half of it.

use super::tally::{Fit, Tally};
use super::{Budget, BudgetView, Owner, Period, Spent, Warning};
use crate::ask::{ClientId, TeamId};
use crate::time::Now;
use std::collections::BTreeMap;

/// Who pays for an attempt: both, and each in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payers {
    /// The client key.
    pub client: ClientId,
    /// Its team.
    pub team: Option<TeamId>,
}

impl Payers {
    pub(crate) fn owners(self) -> impl Iterator<Item = Owner> {
        std::iter::once(Owner::Client(self.client)).chain(self.team.map(Owner::Team))
    }
}

/// What an attempt holds of its budgets. It comes back through [`Books::settle`] exactly once, so it can be neither
/// copied nor built outside.
#[derive(Debug)]
#[must_use = "a hold must be settled, or its money is out of reach until a restart"]
pub struct Hold {
    id: u64,
}

impl Hold {
    /// Names it in a journal: unique, also over restarts if [`Books::new`] was told where to go on.
    pub fn id(&self) -> u64 {
        self.id
    }
}

/// The answer to an attempt that wants to go out.
#[derive(Debug)]
pub enum Answer {
    /// It may.
    Go(Hold),
    /// Short only because of open holds: to be asked again when one of this owner's is settled, or when its budget
    /// resets.
    Wait {
        /// Whose budget is short.
        owner: Owner,
        /// When it resets (nanoseconds since 1970-01-01 UTC); `None`: never.
        resets_unix_ns: Option<u64>,
    },
    /// Not in this period, whatever the open holds come to.
    Refuse(Refused),
}

/// A budget that cannot afford an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Whose.
    pub owner: Owner,
    /// What there is once all open attempts had cost nothing, in nano-dollars.
    pub left_nano_usd: u64,
    /// When it is whole again (nanoseconds since 1970-01-01 UTC); `None`: never.
    pub resets_unix_ns: Option<u64>,
    /// It is less than the whole limit that is asked for; if not, no reset ever makes it affordable.
    pub ever_affordable: bool,
}

/// What an attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// Its cost in nano-dollars, also where that is more than was held.
    Cost(u64),
    /// Nothing: it failed, or never went out.
    Nothing,
    /// Nobody knows: all that was held.
    Unknown,
}

/// A hold that was settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Whom it was charged to. Those of them who wait are to be asked again.
    pub payers: Payers,
    /// What was charged, to each of them: the amount for the ledger.
    pub charged_nano_usd: u64,
    /// What was held, if the provider billed more than that.
    pub billed_above: Option<u64>,
    /// What was charged is not known to be the cost.
    pub unknown: bool,
    /// Budgets that have just reached a part of their limit.
    pub warnings: Vec<Warning>,
}

#[derive(Clone, Debug)]
struct Open {
    payers: Payers,
    amount: u64,
    opened: Now,
    /// The period of each owner, in the order of [`Payers::owners`].
    periods: [Period; 2],
}

/// All budgets of a process.
#[derive(Clone, Debug, Default)]
pub struct Books {
    pub(super) tallies: BTreeMap<Owner, Tally>,
    open: BTreeMap<u64, Open>,
    next: u64,
}

impl Books {
    /// Empty books whose first hold has this id.
    pub fn new(first_hold: u64) -> Self {
        Self { next: first_hold, ..Self::default() }
    }

    /// Makes an owner known, or gives it another budget; what it spent and holds stays.
    pub fn set(&mut self, now: Now, owner: Owner, budget: Budget) {
        let Some(tally) = self.tallies.get_mut(&owner) else {
            self.tallies.insert(owner, Tally::new(budget, now));
            return;
        };
        tally.roll(now);
        if !tally.change(budget) {
            return;
        }
        for open in self.open.values_mut() {
            for (owns, period) in open.payers.owners().zip(&mut open.periods) {
                if owns == owner {
                    *period = budget.reset.period(open.opened);
                    tally.hold(*period, open.amount);
                }
            }
        }
    }

    /// Takes an owner out: from now on it is refused. What it holds is settled all the same, and what it spent is known
    /// should it come back.
    pub fn remove(&mut self, owner: Owner) {
        if let Some(tally) = self.tallies.get_mut(&owner) {
            tally.gone = true;
        }
        self.sweep(owner);
    }

    /// Whether an attempt of at most this cost may go out now. Asked from all budgets or from none.
    pub fn reserve(&mut self, now: Now, payers: Payers, amount_nano_usd: u64) -> Answer {
        self.check(now, payers, amount_nano_usd)
            .unwrap_or_else(|| Answer::Go(self.open(now, payers, amount_nano_usd)))
    }

    /// What [`Books::reserve`] would say, if it is not yes.
    pub(crate) fn check(&mut self, now: Now, payers: Payers, amount_nano_usd: u64) -> Option<Answer> {
        let mut waits = None;
        let mut refused: Option<Refused> = None;
        for owner in payers.owners() {
            let Some(tally) = self.tallies.get_mut(&owner).filter(|t| !t.gone) else {
                // Nobody knows what it may spend: nothing.
                let none = Refused { owner, left_nano_usd: 0, resets_unix_ns: None, ever_affordable: false };
                return Some(Answer::Refuse(none));
            };
            tally.roll(now);
            let view = tally.view(now);
            match tally.fit(amount_nano_usd) {
                Fit::Now => {}
                Fit::AfterRefunds => {
                    waits = waits.or(Some(Answer::Wait { owner, resets_unix_ns: view.resets_unix_ns }));
                }
                Fit::No => {
                    let limit = view.budget.limit_nano_usd.unwrap_or(u64::MAX);
                    let ever_affordable = amount_nano_usd <= limit && view.resets_unix_ns.is_some();
                    let left_nano_usd = view.left_nano_usd.unwrap_or(u64::MAX);
                    let resets_unix_ns = view.resets_unix_ns;
                    let this = Refused { owner, left_nano_usd, resets_unix_ns, ever_affordable };
                    // The one that is out for longest says when to come back.
                    let until = |r: &Refused| {
                        if r.ever_affordable { r.resets_unix_ns.unwrap_or(u64::MAX) } else { u64::MAX }
                    };
                    refused = Some(refused.filter(|r| until(r) >= until(&this)).unwrap_or(this));
                }
            }
        }
        match (refused, waits) {
            (Some(refused), _) => Some(Answer::Refuse(refused)),
            (None, wait) => wait,
        }
    }

    pub(crate) fn open(&mut self, now: Now, payers: Payers, amount: u64) -> Hold {
        let id = self.next;
        self.next += 1;
        let mut periods = [Period::default(); 2];
        for (owner, period) in payers.owners().zip(&mut periods) {
            if let Some(tally) = self.tallies.get_mut(&owner) {
                *period = tally.period();
                tally.hold(*period, amount);
            }
        }
        self.open.insert(id, Open { payers, amount, opened: now, periods });
        Hold { id }
    }

    /// Ends a hold. `None` if these books never opened it, which cannot be unless it came from other ones.
    #[expect(clippy::needless_pass_by_value, reason = "a hold that was settled must be gone")]
    pub fn settle(&mut self, now: Now, hold: Hold, charge: Charge) -> Option<Settled> {
        let open = self.open.remove(&hold.id)?;
        let cost = match charge {
            Charge::Cost(cost) => cost,
            Charge::Nothing => 0,
            Charge::Unknown => open.amount,
        };
        let mut warnings = Vec::new();
        for (owner, period) in open.payers.owners().zip(open.periods) {
            if let Some(tally) = self.tallies.get_mut(&owner) {
                // First rolled: nobody is warned of a period that is over.
                tally.roll(now);
                tally.give_back(period, open.amount);
                tally.charge(open.opened, cost);
                warnings.extend(tally.warning(owner));
            }
            self.sweep(owner);
        }
        Some(Settled {
            payers: open.payers,
            charged_nano_usd: cost,
            billed_above: (cost > open.amount).then_some(open.amount),
            unknown: charge == Charge::Unknown,
            warnings,
        })
    }

    /// Charges what was begun at an instant without a hold, since it had no bound or nobody has a limit.
    pub fn charge(&mut self, now: Now, payers: Payers, opened: Now, cost_nano_usd: u64) -> Vec<Warning> {
        let mut warnings = Vec::new();
        for owner in payers.owners() {
            if let Some(tally) = self.tallies.get_mut(&owner) {
                tally.roll(now);
                tally.charge(opened, cost_nano_usd);
                warnings.extend(tally.warning(owner));
            }
        }
        warnings
    }

    /// At a start: what the ledger says that an owner has spent in the running periods, whether it is known already or
    /// comes back later.
    pub fn restore_spent(&mut self, now: Now, owner: Owner, spent: Spent) {
        let tally = self.tallies.entry(owner).or_insert_with(|| {
            let mut unknown = Tally::new(Budget::default(), now);
            unknown.gone = true;
            unknown
        });
        tally.roll(now);
        tally.restore(spent);
    }

    /// At a start: an attempt that was open when the process died. Nobody knows what it came to, so it is charged in
    /// full, to the period in which it was opened. After [`Books::restore_spent`], and only for holds that the ledger
    /// does not have; what is returned belongs there, marked unknown.
    pub fn restore_open(&mut self, now: Now, payers: Payers, opened: Now, amount_nano_usd: u64) -> Settled {
        let warnings = self.charge(now, payers, opened, amount_nano_usd);
        Settled { payers, charged_nano_usd: amount_nano_usd, billed_above: None, unknown: true, warnings }
    }

    /// How a budget stands; `None`: there is no such owner.
    pub fn view(&self, now: Now, owner: Owner) -> Option<BudgetView> {
        self.tallies.get(&owner).filter(|t| !t.gone).map(|tally| tally.view(now))
    }

    /// The id of the next hold: where books after a restart go on.
    pub fn next_hold(&self) -> u64 {
        self.next
    }

    /// Holds that are open.
    pub fn open_holds(&self) -> usize {
        self.open.len()
    }

    /// Forgets an owner that is gone, holds nothing and spent nothing.
    fn sweep(&mut self, owner: Owner) {
        if self.tallies.get(&owner).is_some_and(|tally| tally.gone && tally.is_idle()) {
            self.tallies.remove(&owner);
        }
    }
}
