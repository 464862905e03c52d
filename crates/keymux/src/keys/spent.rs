//! What clients and teams have spent: ever, and in the day, week and month that run. Budgets are held to what the
//! turnstile knows, so that is what is shown; for those whom it does not know (revoked keys, calls without a key, any
//! before the first reading) the ledger speaks. Where neither can be asked nobody knows: an unknown amount is not zero.

use super::Trouble;
use crate::serve::Gateway;
use keymux_policy::budget::Reset;
pub(crate) use keymux_policy::budget::Spent;
use keymux_policy::time::DAY;
use std::collections::HashMap;

/// In the period of a budget.
pub(crate) fn in_period(mut spent: Spent, reset: keymux_store::Reset) -> u64 {
    *spent.of(match reset {
        keymux_store::Reset::Never => Reset::Never,
        keymux_store::Reset::Monthly => Reset::Monthly,
        keymux_store::Reset::Weekly => Reset::Weekly,
        keymux_store::Reset::Daily => Reset::Daily,
    })
}

/// As the turnstile has it.
fn live(gateway: &Gateway, team: bool, name: &str) -> Option<Spent> {
    if name.is_empty() || !gateway.turnstile.knows_spend() {
        return None;
    }
    gateway.turnstile.budget(gateway.directory.owner(team, name)).map(|view| view.spent)
}

/// The first days (since 1970) of the month, week and day that run.
fn firsts(gateway: &Gateway) -> [u64; 3] {
    let now = gateway.clock.now();
    [Reset::Monthly, Reset::Weekly, Reset::Daily].map(|reset| reset.period(now).start_unix_ns() / DAY)
}

/// Of one client or team that exists, or existed.
///
/// # Errors
/// Nobody knows: the ledger cannot be read, or there is none.
pub(crate) async fn of_one(gateway: &Gateway, team: bool, name: &str) -> Result<Spent, Trouble> {
    if let Some(spent) = live(gateway, team, name) {
        return Ok(spent);
    }
    let Some(store) = &gateway.store else {
        let message = "Nobody keeps what is spent without a client key: `ledger.database` is \"off\".";
        return Err(Trouble::new(409, "ledger_off", message));
    };
    let [month, week, today] = firsts(gateway);
    let mut spent = Spent::default();
    for (day, cost) in store.spend_by_day(team, name).await? {
        let since = |first: u64| if day.is_some_and(|day| day >= first) { cost } else { 0 };
        spent.ever += cost;
        spent.month += since(month);
        spent.week += since(week);
        spent.day += since(today);
    }
    Ok(spent)
}

/// Of all clients, or of all teams.
pub(crate) struct All<'a> {
    gateway: &'a Gateway,
    teams: bool,
    ledger: Result<HashMap<String, Spent>, Trouble>,
}

impl<'a> All<'a> {
    /// Reads what the ledger has.
    pub(crate) async fn read(gateway: &'a Gateway, teams: bool) -> Self {
        Self { gateway, teams, ledger: ledger(gateway, teams).await }
    }

    /// Of one that exists, or existed.
    ///
    /// # Errors
    /// Nobody knows.
    pub(crate) fn of(&self, name: &str) -> Result<Spent, Trouble> {
        if let Some(spent) = live(self.gateway, self.teams, name) {
            return Ok(spent);
        }
        self.ledger.as_ref().map(|all| all.get(name).copied().unwrap_or_default()).map_err(Clone::clone)
    }
}

async fn ledger(gateway: &Gateway, teams: bool) -> Result<HashMap<String, Spent>, Trouble> {
    let mut all: HashMap<String, Spent> = HashMap::new();
    let Some(store) = &gateway.store else { return Ok(all) };
    let [month, week, today] = firsts(gateway);
    let parts = [
        (None, Reset::Never),
        (Some(month), Reset::Monthly),
        (Some(week), Reset::Weekly),
        (Some(today), Reset::Daily),
    ];
    for (since, part) in parts {
        for one in store.spend(since).await?.into_iter().filter(|one| one.team == teams) {
            *all.entry(one.name).or_default().of(part) = one.cost_nano_usd;
        }
    }
    Ok(all)
}
