//! Hard budgets: what a client key and its team may spend in a period, in whole nano-dollars.
//!
//! Others count after the fact, so that requests side by side all pass the check before any of them is counted. Here
//! an attempt first takes a hold of the most that it can cost, from all of its budgets or from none, and settles it
//! to its real cost when it ends, however it ends. So at every instant, for each budget: spent + held <= limit. Only
//! a provider that bills above its bound can break that, and then the settlement says so.
//!
//! A hold belongs to the period it was opened in: one that outlives a reset is settled there and takes nothing from
//! the new period. What is short only because of open holds waits for them; refused is what no refund could make
//! affordable.
//!
//! Knows no price, ledger, journal or client's name. Nothing here is written down: before an attempt goes out, its
//! hold is to be in a journal, and at a start the ledger's sums and the journal's open holds come back through
//! [`Books::restore_spent`] and [`Books::restore_open`].

mod books;
mod period;
mod tally;

#[cfg(test)]
mod tests;

pub use books::{Answer, Books, Charge, Hold, Payers, Refused, Settled};
pub use period::{Period, Reset};
pub use tally::{BudgetView, Spent, Warning};

use crate::ask::{ClientId, TeamId};

/// Whose budget it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// A client key.
    Client(ClientId),
    /// A team, over all of its keys.
    Team(TeamId),
}

/// What an owner may spend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Nano-dollars in each period; `None`: as much as it likes, and it is counted all the same.
    pub limit_nano_usd: Option<u64>,
    /// When it is whole again.
    pub reset: Reset,
}
