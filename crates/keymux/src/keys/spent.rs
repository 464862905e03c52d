//! What clients and teams have spent, from the ledger: ever, and in the day, week and month that run.

use super::Trouble;
use crate::serve::Gateway;
use keymux_policy::budget::Reset;
use keymux_policy::time::DAY;
use std::collections::HashMap;

/// Nano-dollars.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    pub(crate) ever: u64,
    pub(crate) month: u64,
    pub(crate) week: u64,
    pub(crate) day: u64,
}

impl Spent {
    /// Of the period of a budget.
    pub(crate) fn of(&self, reset: keymux_store::Reset) -> u64 {
        match reset {
            keymux_store::Reset::Never => self.ever,
            keymux_store::Reset::Monthly => self.month,
            keymux_store::Reset::Weekly => self.week,
            keymux_store::Reset::Daily => self.day,
        }
    }
}

/// The first days (since 1970) of the month, week and day that run.
fn firsts(gateway: &Gateway) -> [u64; 3] {
    let now = gateway.clock.now();
    [Reset::Monthly, Reset::Weekly, Reset::Daily].map(|reset| reset.period(now).start_unix_ns() / DAY)
}

/// Of one client or team.
pub(crate) async fn of_one(gateway: &Gateway, team: bool, name: &str) -> Result<Spent, Trouble> {
    let Some(store) = &gateway.store else { return Ok(Spent::default()) };
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

type Part = fn(&mut Spent) -> &mut u64;

/// Of all clients, or of all teams, by their names in the ledger.
pub(crate) async fn of_all(gateway: &Gateway, teams: bool) -> Result<HashMap<String, Spent>, Trouble> {
    let mut all: HashMap<String, Spent> = HashMap::new();
    let Some(store) = &gateway.store else { return Ok(all) };
    let [month, week, today] = firsts(gateway);
    let parts: [(Option<u64>, Part); 4] = [
        (None, |s| &mut s.ever),
        (Some(month), |s| &mut s.month),
        (Some(week), |s| &mut s.week),
        (Some(today), |s| &mut s.day),
    ];
    for (since, part) in parts {
        for one in store.spend(since).await?.into_iter().filter(|one| one.team == teams) {
            *part(all.entry(one.name).or_default()) = one.cost_nano_usd;
        }
    }
    Ok(all)
}
