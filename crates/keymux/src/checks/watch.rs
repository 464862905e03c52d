//! The gateway's own checks: all keys at the start and every few minutes, new ones as they come, and benched ones when
//! a live request would have to find out whether they are back. What is found goes to the scheduler, to people, and into
//! the state that operators see. One task of the control plane; the data path waits for none of it.

use super::verdict::Verdict;
use super::{Checked, Checker, Way, all};
use crate::attempt::Dialer;
use crate::happening::key_name;
use crate::live::Snapshot;
use crate::random;
use crate::serve::Gateway;
use crate::upstream::{Connector, Pool};
use keymux_policy::checks::{Found, Says};
use keymux_wire::key::Reset;
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked whether something is to be checked before its turn.
const LOOK: Duration = Duration::from_secs(5);
/// A bench that will be probed before the next look but one is checked now.
const AHEAD_NS: u64 = 12_000_000_000;
/// Before its turn, nobody is looked at again sooner: a look that finds nothing out leaves the bench as it is. Less than
/// the shortest bench without a stated time lasts until it is to be looked at.
const AGAIN_NS: u64 = 40_000_000_000;
const MS: u64 = 1_000_000;

/// Checks keys, for ever.
pub async fn run(gateway: Arc<Gateway>, connector: Connector) {
    let clock = gateway.clock.clone();
    let dialer = Dialer { pool: Pool::default(), connector, clock: clock.clone() };
    // How often it was to be, and when the next round is due.
    let mut turn: Option<(u64, u64)> = None;
    loop {
        let snapshot = gateway.live.load_full();
        let mut pause = LOOK;
        gateway.checks.switch(snapshot.config.checks.every_ms.is_some());
        if let Some(every_ms) = snapshot.config.checks.every_ms {
            let now_ns = clock.mono_ns();
            let waits = turn.is_some_and(|(every, at_ns)| every == every_ms && at_ns > now_ns);
            let keys = if waits { early(&gateway, &snapshot) } else { every_key(&snapshot) };
            if !waits {
                turn = Some((every_ms, now_ns.saturating_add(jittered(every_ms.saturating_mul(MS)))));
            }
            round(&gateway, &snapshot, &dialer, keys).await;
            dialer.pool.sweep(clock.mono_ns());
            let left_ns = turn.map_or(0, |(_, at_ns)| at_ns.saturating_sub(clock.mono_ns()));
            pause = pause.min(Duration::from_nanos(left_ns));
        }
        tokio::time::sleep(pause).await;
    }
}

/// A tenth more or less, so that many gateways do not ask at once.
fn jittered(ns: u64) -> u64 {
    let dice = u64::from(u16::from_le_bytes(random::bytes()));
    (ns - ns / 10).saturating_add((ns / 5).saturating_mul(dice) / u64::from(u16::MAX))
}

fn every_key(snapshot: &Snapshot) -> Vec<(usize, usize)> {
    let providers = snapshot.config.providers.iter().enumerate();
    providers.flat_map(|(p, provider)| (0..provider.keys.len()).map(move |k| (p, k))).collect()
}

/// Keys whose turn comes early: those that were never looked at, and those that a request would have to try out.
fn early(gateway: &Gateway, snapshot: &Snapshot) -> Vec<(usize, usize)> {
    let mut due = gateway.scheduler.due_for_check(AHEAD_NS);
    let now_ns = gateway.clock.mono_ns();
    due.retain(|key| gateway.checks.of(*key).is_none_or(|last| is_long_ago(last.sent_ns, now_ns)));
    let wanted = |(p, k): &(usize, usize)| {
        let Some((id, entry)) = snapshot
            .key_ids
            .get(*p)
            .and_then(|keys| keys.get(*k))
            .and_then(|id| Some((*id, snapshot.key(*id)?)))
        else {
            return false;
        };
        let credential = entry.credential.as_ref().map(|(_, value)| value);
        due.contains(&id) || !gateway.checks.has(id, credential)
    };
    every_key(snapshot).into_iter().filter(wanted).collect()
}

/// Whether a key that was asked for then may be asked for again before its turn.
fn is_long_ago(sent_ns: u64, now_ns: u64) -> bool {
    now_ns.saturating_sub(sent_ns) >= AGAIN_NS
}

/// Asks for these keys and hands on what is found.
async fn round(gateway: &Arc<Gateway>, snapshot: &Arc<Snapshot>, dialer: &Dialer, keys: Vec<(usize, usize)>) {
    let in_use = gateway.keys_in_use(snapshot);
    let is_asked = |(p, k): &(usize, usize)| {
        let provider = &snapshot.config.providers[*p];
        in_use.contains(&snapshot.key_ids[*p][*k]) && !matches!(Way::free(provider), Way::None(_))
    };
    let keys: Vec<_> = keys.into_iter().filter(is_asked).collect();
    if keys.is_empty() {
        return;
    }
    let patience = Duration::from_millis(snapshot.config.checks.timeout_ms);
    let checked = all(&Checker { dialer, snapshot, patience, probes: &[] }, &keys).await;
    let now_unix_ns = gateway.clock.now().unix_ns;
    // Whose a key is, first: what follows may be about the account.
    for (key, owner) in checked.iter().filter_map(|c| Some((c.key, c.owner?))) {
        if snapshot.key(key).is_some_and(|entry| entry.tells_owner(owner)) {
            gateway.scheduler.owned_by(key, owner);
        }
    }
    let found: Vec<Found> = checked.iter().map(|checked| found(checked, now_unix_ns)).collect();
    gateway.scheduler.checked(&found);
    // Those that were removed or switched off meanwhile are no news.
    let in_use = gateway.keys_in_use(&gateway.live.load());
    for one in checked.into_iter().filter(|one| in_use.contains(&one.key)) {
        let credential = snapshot.key(one.key).and_then(|entry| Some(entry.credential.as_ref()?.1.clone()));
        let subject = key_name(snapshot, one.key);
        for happening in gateway.checks.take(one, credential, &subject) {
            gateway.tell(happening);
        }
    }
    let in_use = gateway.keys_in_use(&gateway.live.load());
    gateway.checks.keep(|key| in_use.contains(&key));
}

/// What the scheduler is told.
fn found(checked: &Checked, now_unix_ns: u64) -> Found {
    let says = match &checked.verdict {
        Verdict::Works => Says::Works { money: checked.balance.is_some() },
        Verdict::Refused(_) | Verdict::Unfit(_) => Says::Refused,
        Verdict::Capped { until_unix_ns, .. } => {
            Says::Capped { for_ns: until_unix_ns.map(|at| at.saturating_sub(now_unix_ns)) }
        }
        Verdict::NoMoney { stated, .. } => Says::NoMoney { stated: *stated },
        Verdict::Unknown(_) | Verdict::NotAsked(_) => Says::Nothing,
    };
    let free = checked.facts.as_ref().and_then(|facts| facts.free_models?.remaining);
    let midnight = || Reset::Daily.next(now_unix_ns).map(|at| at.saturating_sub(now_unix_ns));
    let free_models_out_ns = if free == Some(0) { midnight() } else { None };
    Found {
        key: checked.key,
        sent_mono_ns: checked.sent_ns,
        says,
        free_models_out_ns,
        by_list: checked.way == Way::Models,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_before_its_turn_is_not_repeated_at_once_and_a_first_bench_is_still_looked_at() {
        const SECOND_NS: u64 = 1_000_000_000;
        assert!(!is_long_ago(SECOND_NS, SECOND_NS) && !is_long_ago(SECOND_NS, 36 * SECOND_NS));
        // Benched for a minute, less a tenth, by a check.
        let bench_ns = 54 * SECOND_NS;
        assert!(is_long_ago(SECOND_NS, SECOND_NS + bench_ns - AHEAD_NS));
    }

    #[test]
    fn rounds_come_a_tenth_sooner_or_later() {
        let all: Vec<u64> = (0..200).map(|_| jittered(1_000)).collect();
        assert!(all.iter().all(|ns| (900..=1_100).contains(ns)), "{all:?}");
        assert!(all.iter().any(|ns| *ns < 950) && all.iter().any(|ns| *ns > 1_050), "{all:?}");
        assert!(jittered(u64::MAX) > u64::MAX / 10 * 8);
    }
}
