//! What the directory and the budgets know from the database, fetched beside the data path: client keys at the start and
//! after each change, and once what was spent before this process.

use crate::serve::Gateway;
use keymux_policy::Now;
use keymux_policy::budget::{Owner, Reset, Spent};
use keymux_store::Fault;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// How often changes are looked for: a change through this gateway is taken in at once, and this is for those whose
/// fetching failed.
const LOOK: Duration = Duration::from_secs(1);
/// How long the start waits for what it can do without.
const START: Duration = Duration::from_secs(5);
/// How often it looks meanwhile.
const SOON: Duration = Duration::from_millis(10);
const DAY_NS: u64 = 86_400_000_000_000;

impl Gateway {
    /// Takes in what changed in the store. When it returns well, every request that comes is judged by it.
    ///
    /// # Errors
    /// The database could not be asked; it is asked again by itself.
    pub async fn refresh_clients(&self) -> Result<(), Fault> {
        let Some(store) = &self.store else { return Ok(()) };
        let changes = store.changes(self.directory.version()).await?;
        let snapshot = self.live.load_full();
        self.directory.take_in(changes, &snapshot, |dues| self.turnstile.set(dues));
        // A reload in between was resolved by its own configuration, and may just have been undone by the one before.
        let mut used = snapshot;
        loop {
            let live = self.live.load_full();
            if Arc::ptr_eq(&live, &used) {
                return Ok(());
            }
            self.directory.configure(&live, |dues| self.turnstile.set(dues));
            used = live;
        }
    }

    /// Takes in what was spent before this process, if that is not known yet. Whether it is.
    async fn restore_spend(&self) -> Result<bool, Fault> {
        let Some(store) = self.store.as_ref().filter(|_| !self.turnstile.knows_spend()) else {
            return Ok(true);
        };
        // Rows of the last process may still be on their way into the database.
        if !store.caught_up() {
            return Ok(false);
        }
        let now = self.clock.now();
        let since = |reset: Reset| Some(reset.period(now).start_unix_ns() / DAY_NS);
        let mut spent: HashMap<Owner, Spent> = HashMap::new();
        for (reset, since_day) in [
            (Reset::Never, None),
            (Reset::Daily, since(Reset::Daily)),
            (Reset::Weekly, since(Reset::Weekly)),
            (Reset::Monthly, since(Reset::Monthly)),
        ] {
            for row in store.spend(since_day).await? {
                let of = spent.entry(self.directory.owner(row.team, &row.name)).or_default();
                *of.of(reset) = row.cost_nano_usd;
            }
        }
        if crosses_midnight(now, self.clock.now()) {
            return Ok(false);
        }
        let spent: Vec<_> = spent.into_iter().collect();
        self.turnstile.restore(&spent);
        Ok(true)
    }
}

/// Sums that were read on two days do not belong together.
fn crosses_midnight(before: Now, after: Now) -> bool {
    before.unix_ns / DAY_NS != after.unix_ns / DAY_NS
}

/// At the start: everything, as far as the database answers soon.
pub(crate) async fn first(gateway: &Gateway) {
    let all = async {
        while gateway.refresh_clients().await.is_ok() {
            if !matches!(gateway.restore_spend().await, Ok(false)) {
                return;
            }
            tokio::time::sleep(SOON).await;
        }
    };
    let _ = tokio::time::timeout(START, all).await;
    if gateway.store.is_some() && !gateway.turnstile.knows_spend() {
        tracing::warn!(
            "event: what clients spent before is not known yet: those with a budget are refused until it is"
        );
    }
}

/// While it serves: changes, and what could not be had at the start.
pub(crate) async fn follow(gateway: Arc<Gateway>) {
    let mut every = tokio::time::interval(LOOK);
    let mut well = true;
    loop {
        every.tick().await;
        let looked = match gateway.refresh_clients().await {
            Ok(()) => gateway.restore_spend().await.map(drop),
            Err(fault) => Err(fault),
        };
        if let (Err(fault), true) = (&looked, well) {
            tracing::warn!(%fault, "client keys cannot be read; those that are known go on");
        }
        well = looked.is_ok();
    }
}
