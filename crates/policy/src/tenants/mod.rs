//! Who may begin now: the limits and budgets of clients and teams, and the line in which each owner's requests wait for
//! them.
//!
//! A request takes everything at once, a pass of its key's and its team's limits and a hold of the greatest cost that
//! it can have, or nothing and waits. It waits in the line of the owner that is short, at the place of its arrival; a
//! newcomer never passes a waiter of an owner that it needs too, so nobody starves, however large. Waiters of one
//! client that is short stand in nobody else's way: their team's line knows them only once the team is what is short.
//!
//! A waiter is called when time brought its limit back, when something of its owner's was given back, or at its
//! deadline, with a refusal. Refused at once is whose time lies beyond the deadline as far as anybody can tell, and
//! who could not pay whatever is refunded.
//!
//! Knows no route, key or provider; the scheduler is asked after this.

mod line;

#[cfg(test)]
mod tests;

use crate::budget::{
    Answer, Books, Budget, BudgetView, Charge, Hold, Owner, Payers, Refused, Settled, Spent, Warning,
};
use crate::fleet::LimitSpec;
use crate::throttle::{Gate, Pass, Short, Standing, Throttle};
use crate::time::{Now, SECOND};
use line::Lines;
use std::collections::{BTreeMap, BTreeSet};

/// Requests that may wait here.
const WAITERS_MAX: usize = 16_384;
/// What is told where nobody knows a time: when a request of the same owner will have ended.
const A_WHILE_NS: u64 = SECOND;

/// What a request needs before it may begin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Want {
    /// Whose limits and budgets.
    pub payers: Payers,
    /// About so many tokens, input and output together.
    pub tokens: f64,
    /// The most that it can cost; `None`: no budget is asked.
    pub bound_nano_usd: Option<u64>,
    /// It waits no longer than this (monotonic). At or before `now`: not at all.
    pub deadline_mono_ns: u64,
}

/// What a request took. It comes back through [`Tenants::leave`] exactly once.
#[derive(Debug)]
#[must_use = "an admission must come back, or its slots and its money are out of reach until a restart"]
pub struct Admission {
    payers: Payers,
    pass: Pass,
    hold: Option<Hold>,
    opened: Now,
}

impl Admission {
    /// When it was granted: the instant whose budget periods bear the cost.
    pub fn opened(&self) -> Now {
        self.opened
    }

    /// Whether money is held for it.
    pub fn holds_money(&self) -> bool {
        self.hold.is_some()
    }
}

/// A place in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Turn(u64);

/// Why a request may not begin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Denial {
    /// A limit has no room before the deadline.
    Limit {
        /// Which.
        short: Short,
        /// When it has, from now.
        retry_after_ns: u64,
    },
    /// It is larger than a limit could ever admit.
    TooLarge(Short),
    /// What is left of a budget is held by requests that are open, until the deadline.
    Held {
        /// Whose budget.
        owner: Owner,
        /// When to come back, from now.
        retry_after_ns: u64,
    },
    /// A budget cannot pay for it, whatever is refunded.
    Unaffordable(Refused),
    /// Too many wait already.
    Full,
    /// Nobody may wait any more.
    Draining,
}

/// The answer to a request.
#[derive(Debug)]
pub enum Entered {
    /// It may begin.
    Go(Admission),
    /// It waits, until [`Tenants::poll`] calls it.
    Wait(Turn),
    /// It may not.
    Refuse(Denial),
}

/// A waiter that is called, and what for.
#[derive(Debug)]
pub struct Called {
    /// Who.
    pub turn: Turn,
    /// It may begin, or not.
    pub said: Result<Admission, Denial>,
}

/// What came of a request's money.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paid {
    /// What was charged: the amount for the ledger.
    pub charged_nano_usd: u64,
    /// What was held, if it cost more than that.
    pub billed_above: Option<u64>,
    /// Budgets that have just reached a part of their limit.
    pub warnings: Vec<Warning>,
}

#[derive(Clone, Copy, Debug)]
struct Waiter {
    want: Want,
    /// In whose line it stands.
    at: Owner,
    /// What it is short of.
    lack: Lack,
}

/// What a request is short of.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lack {
    Limit(Short),
    Money,
    /// Nothing that is known: somebody came before.
    Turn,
}

/// What came of a try.
enum Tried {
    Go(Admission),
    /// Not before `due` (monotonic); `u64::MAX`: when something comes back.
    Short {
        owner: Owner,
        due: u64,
        lack: Lack,
    },
    Never(Denial),
}

/// The limits, budgets and lines of all clients and teams.
#[derive(Debug, Default)]
pub struct Tenants {
    throttle: Throttle,
    books: Books,
    waiters: BTreeMap<u64, Waiter>,
    lines: Lines,
    deadlines: BTreeSet<(u64, u64)>,
    /// Owners of whom something came back, or changed.
    touched: BTreeSet<Owner>,
    next: u64,
    draining: bool,
}

impl Tenants {
    /// Gives an owner its limits and its budget; what it used, spent and holds stays. `None`: it is no more.
    pub fn set(&mut self, now: Now, owner: Owner, limits: &[LimitSpec], budget: Option<Budget>) {
        self.throttle.set(now, owner, limits);
        match budget {
            Some(budget) => self.books.set(now, owner, budget),
            None => self.books.remove(owner),
        }
        self.touched.insert(owner);
    }

    /// At a start: what the ledger says that an owner has spent.
    pub fn restore_spent(&mut self, now: Now, owner: Owner, spent: Spent) {
        self.books.restore_spent(now, owner, spent);
    }

    /// A request wants to begin.
    pub fn enter(&mut self, now: Now, want: Want) -> Entered {
        if self.draining {
            return Entered::Refuse(Denial::Draining);
        }
        let seq = self.next;
        let (owner, due, lack) = match self.attempt(now, &want, seq) {
            Tried::Go(admission) => return Entered::Go(admission),
            Tried::Never(denial) => return Entered::Refuse(denial),
            Tried::Short { owner, due, lack } => (owner, due, lack),
        };
        let at = self.ready_at(now, &want, due);
        if at > want.deadline_mono_ns || want.deadline_mono_ns <= now.mono_ns {
            return Entered::Refuse(self.too_late(now, &want, owner, lack));
        }
        if self.waiters.len() >= WAITERS_MAX {
            return Entered::Refuse(Denial::Full);
        }
        self.next += 1;
        self.waiters.insert(seq, Waiter { want, at: owner, lack });
        self.lines.stand(owner, seq, want.tokens);
        self.lines.due(owner, seq, due);
        self.deadlines.insert((want.deadline_mono_ns, seq));
        Entered::Wait(Turn(seq))
    }

    /// Takes everything that is needed, or nothing.
    fn attempt(&mut self, now: Now, want: &Want, seq: u64) -> Tried {
        if let Some(bound) = want.bound_nano_usd
            && let Some(Answer::Refuse(refused)) = self.books.check(now, want.payers, bound)
        {
            return Tried::Never(Denial::Unaffordable(refused));
        }
        match self.throttle.check(now, want.payers, want.tokens) {
            Some(Gate::TooLarge(short)) => return Tried::Never(Denial::TooLarge(short)),
            Some(Gate::Wait(short)) => {
                // Whoever came before is served first there, so it is no matter that they are asked later.
                let due = short.at_mono_ns.unwrap_or(u64::MAX);
                return Tried::Short { owner: short.owner, due, lack: Lack::Limit(short) };
            }
            Some(Gate::Go(_)) | None => {}
        }
        if let Some(owner) = want.payers.owners().find(|owner| self.lines.has_before(*owner, seq)) {
            return Tried::Short { owner, due: u64::MAX, lack: Lack::Turn };
        }
        let hold = match want.bound_nano_usd {
            None => None,
            Some(bound) => match self.books.reserve(now, want.payers, bound) {
                Answer::Go(hold) => Some(hold),
                Answer::Wait { owner, resets_unix_ns } => {
                    let in_ns = resets_unix_ns.map(|at| at.saturating_sub(now.unix_ns));
                    let due = in_ns.map_or(u64::MAX, |ns| now.mono_ns.saturating_add(ns.max(1)));
                    return Tried::Short { owner, due, lack: Lack::Money };
                }
                Answer::Refuse(refused) => return Tried::Never(Denial::Unaffordable(refused)),
            },
        };
        let pass = self.throttle.take(now, want.payers, want.tokens);
        Tried::Go(Admission { payers: want.payers, pass, hold, opened: now })
    }

    /// When limits alone will let it, behind all who stand before it, as far as time tells.
    fn ready_at(&self, now: Now, want: &Want, due: u64) -> u64 {
        let forecasts = want.payers.owners().filter_map(|owner| {
            let ahead = self.lines.ahead(owner);
            self.throttle.forecast(now, owner, ahead, want.tokens)
        });
        let known = forecasts.max().unwrap_or(now.mono_ns);
        if due == u64::MAX { known } else { known.max(due) }
    }

    /// What is told to a request that has no time to wait.
    fn too_late(&self, now: Now, want: &Want, owner: Owner, lack: Lack) -> Denial {
        let at = self.ready_at(now, want, u64::MAX).saturating_sub(now.mono_ns);
        let retry_after_ns = if at == 0 { A_WHILE_NS } else { at };
        match lack {
            Lack::Limit(short) => Denial::Limit { short, retry_after_ns },
            Lack::Money => Denial::Held { owner, retry_after_ns },
            // It stands behind somebody who is short of the same.
            Lack::Turn => match self.lines.first(owner).and_then(|seq| self.waiters.get(&seq)) {
                Some(Waiter { lack: Lack::Limit(short), .. }) => {
                    Denial::Limit { short: *short, retry_after_ns }
                }
                _ => Denial::Held { owner, retry_after_ns },
            },
        }
    }

    /// Calls everybody whose turn it is. To be asked again at [`Tenants::next_wake`], and after every verb.
    pub fn poll(&mut self, now: Now, called: &mut Vec<Called>) {
        while let Some((_, seq)) = self.deadlines.first().copied().filter(|first| first.0 <= now.mono_ns) {
            let Some(waiter) = self.waiters.get(&seq).copied() else { break };
            // It may be its time just now; that is more than a refusal.
            let said = match self.attempt(now, &waiter.want, seq) {
                Tried::Go(admission) => Ok(admission),
                Tried::Never(denial) => Err(denial),
                Tried::Short { owner, lack, .. } => {
                    self.sit_up(seq);
                    Err(self.too_late(now, &waiter.want, owner, lack))
                }
            };
            self.sit_up(seq);
            called.push(Called { turn: Turn(seq), said });
        }
        loop {
            let owner = match self.touched.pop_first() {
                Some(owner) => owner,
                None => match self.lines.take_due(now.mono_ns) {
                    Some(owner) => owner,
                    None => break,
                },
            };
            self.serve(now, owner, called);
        }
    }

    /// Calls those in front of a line for whom there is room.
    fn serve(&mut self, now: Now, owner: Owner, called: &mut Vec<Called>) {
        while let Some(seq) = self.lines.first(owner) {
            let Some(want) = self.waiters.get(&seq).map(|waiter| waiter.want) else { break };
            let said = match self.attempt(now, &want, seq) {
                Tried::Go(admission) => Ok(admission),
                Tried::Never(denial) => Err(denial),
                Tried::Short { owner: short, due, lack } => {
                    if let Some(waiter) = self.waiters.get_mut(&seq) {
                        (waiter.at, waiter.lack) = (short, lack);
                    }
                    if short != owner {
                        self.lines.leave(owner, seq, want.tokens);
                        self.lines.stand(short, seq, want.tokens);
                    }
                    self.lines.due(short, seq, due);
                    if short != owner {
                        continue;
                    }
                    break;
                }
            };
            self.sit_up(seq);
            called.push(Called { turn: Turn(seq), said });
        }
    }

    /// Takes a waiter out of its line; who stood behind it may be next.
    fn sit_up(&mut self, seq: u64) -> Option<Waiter> {
        let waiter = self.waiters.remove(&seq)?;
        self.deadlines.remove(&(waiter.want.deadline_mono_ns, seq));
        self.lines.leave(waiter.at, seq, waiter.want.tokens);
        self.touched.insert(waiter.at);
        Some(waiter)
    }

    /// A waiter goes away. Unknown turns (already called) are no error.
    pub fn cancel(&mut self, turn: Turn) {
        self.sit_up(turn.0);
    }

    /// From now on nobody waits; who waits is refused by the next [`Tenants::poll`].
    pub fn drain(&mut self, called: &mut Vec<Called>) {
        self.draining = true;
        while let Some((seq, _)) = self.waiters.first_key_value() {
            let seq = *seq;
            self.sit_up(seq);
            called.push(Called { turn: Turn(seq), said: Err(Denial::Draining) });
        }
    }

    /// A request is over: its slots come back, its tokens are settled to what it used (`None`: nobody knows), and it
    /// is charged.
    pub fn leave(
        &mut self,
        now: Now,
        admission: Admission,
        used_tokens: Option<f64>,
        charge: Charge,
    ) -> Paid {
        let Admission { payers, pass, hold, opened } = admission;
        self.throttle.finish(now, pass, used_tokens);
        self.touched.extend(payers.owners());
        let Some(hold) = hold else {
            let Charge::Cost(cost) = charge else { return Paid::default() };
            let warnings = self.books.charge(now, payers, opened, cost);
            return Paid { charged_nano_usd: cost, billed_above: None, warnings };
        };
        let settled = self.books.settle(now, hold, charge);
        settled.map_or_else(Paid::default, |settled| {
            let Settled { charged_nano_usd, billed_above, warnings, .. } = settled;
            Paid { charged_nano_usd, billed_above, warnings }
        })
    }

    /// A request never began: everything that it took comes back, the request itself too.
    pub fn give_back(&mut self, now: Now, admission: Admission) {
        let Admission { payers, pass, hold, .. } = admission;
        self.throttle.undo(now, pass);
        self.touched.extend(payers.owners());
        if let Some(hold) = hold {
            // A hold that nobody charged has nothing to tell.
            let _ = self.books.settle(now, hold, Charge::Nothing);
        }
    }

    /// When to call [`Tenants::poll`] again (monotonic); `None` while nobody waits for a time.
    pub fn next_wake(&self) -> Option<u64> {
        if !self.touched.is_empty() && !self.waiters.is_empty() {
            return Some(0);
        }
        let deadline = self.deadlines.first().map(|first| first.0);
        deadline.into_iter().chain(self.lines.next_due()).min()
    }

    /// How the limits of requests and tokens stand that bind a client first.
    pub fn standing(&self, now: Now, payers: Payers) -> Vec<Standing> {
        self.throttle.standing(now, payers)
    }

    /// How a budget stands; `None`: there is no such owner.
    pub fn budget(&self, now: Now, owner: Owner) -> Option<BudgetView> {
        self.books.view(now, owner)
    }

    /// What all budgets of a client can pay for once everything that is held is refunded; `None`: they have no limit.
    pub fn affordable(&self, now: Now, payers: Payers) -> Option<u64> {
        payers.owners().filter_map(|owner| self.books.view(now, owner)?.left_nano_usd).min()
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.waiters.len()
    }
}
