//! Any history, against what must be true kept the simple way.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

#[derive(Clone, Debug)]
enum Step {
    Reserve(u64),
    Settle(usize, u64),
    Row(usize),
    Write,
    Apply(usize),
    Sync,
    /// From here on the disk takes no writes, or takes them again.
    Refuse(bool),
    Kill,
    PowerLoss(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1u64..1000).prop_map(Step::Reserve),
        2 => (any::<usize>(), 0u64..1000).prop_map(|(i, c)| Step::Settle(i, c)),
        6 => any::<usize>().prop_map(Step::Row),
        3 => Just(Step::Write),
        3 => (1usize..20).prop_map(Step::Apply),
        3 => Just(Step::Sync),
        2 => any::<bool>().prop_map(Step::Refuse),
        1 => Just(Step::Kill),
        1 => any::<u64>().prop_map(Step::PowerLoss),
    ]
}

/// What must be true of the log, kept the simple way.
#[derive(Clone, Default)]
struct Model {
    open: BTreeMap<u64, (u64, u64)>,
    rows: Vec<String>,
    /// Taken, and so once it is written.
    coming: Vec<Coming>,
}

#[derive(Clone)]
enum Coming {
    Row(String, Option<u64>),
    Settle(u64, u64),
}

impl Model {
    fn written(&mut self) {
        for coming in std::mem::take(&mut self.coming) {
            match coming {
                Coming::Row(id, hold) => {
                    hold.map(|hold| self.open.remove(&hold));
                    self.rows.push(id);
                }
                Coming::Settle(hold, cost) => {
                    if let Some(open) = self.open.get_mut(&hold) {
                        open.1 = cost;
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn any_history_of_writes_kills_and_power_losses_keeps_the_books(steps in prop::collection::vec(step(), 1..200)) {
        // Small, so that it goes round many times.
        let (mut disk, mut log) = Memory::fresh(8 * KIB);
        let mut model = Model::default();
        let mut flushed = Model::default();
        let mut next = 0;
        // Only a power loss may leave a gap among the frames.
        let mut gaps = false;
        let mut head = log.head();
        for step in steps {
            match step {
                Step::Reserve(cost) => {
                    next += 1;
                    if let Ok(hold) = log.reserve(reservation(next, cost)) {
                        model.open.insert(hold, (next, cost));
                    }
                }
                Step::Settle(pick, cost) => {
                    if let Some(&hold) = model.open.keys().nth(pick % model.open.len().max(1))
                        && log.settle(hold, cost).is_ok()
                    {
                        model.coming.push(Coming::Settle(hold, cost));
                    }
                }
                Step::Row(pick) => {
                    next += 1;
                    let hold = model.open.keys().nth(pick % (model.open.len() + 1)).copied();
                    if log.row(&record(next, hold.into_iter().collect()), usize::MAX).is_ok() {
                        model.coming.push(Coming::Row(format!("req-{next}"), hold));
                    }
                }
                Step::Write => {
                    let written = log.write_out();
                    prop_assert!(written.is_ok() || disk.0.no_writes.load(Ordering::Relaxed));
                    prop_assert!(written.is_err() || log.coming() == (0, 0));
                }
                Step::Refuse(writes) => disk.0.no_writes.store(writes, Ordering::Relaxed),
                Step::Apply(n) => {
                    let batch = log.read(n).unwrap();
                    prop_assert!(gaps || batch.damaged_bytes == 0);
                    prop_assert_eq!(&ids(&batch.rows)[..], &model.rows[..n.min(model.rows.len())]);
                    // A ring without room for an old reservation says so and keeps it where it is.
                    let _ = log.applied(batch.next, batch.rows.len() as u64);
                    model.rows.drain(..batch.rows.len());
                }
                Step::Sync => {
                    let synced = log.sync();
                    prop_assert!(synced.is_ok() || disk.0.no_writes.load(Ordering::Relaxed));
                    if synced.is_ok() {
                        flushed = model.clone();
                    }
                }
                Step::Kill => {
                    disk = disk.after_kill();
                    let (again, found) = disk.clone().reopen();
                    prop_assert!(gaps || found.damaged_bytes == 0);
                    // Rows that the database has may come again; none may be missing, none in another order.
                    let rows = ids(&again.read(usize::MAX).unwrap().rows);
                    prop_assert!(rows.ends_with(&model.rows), "{:?} {:?}", rows, model.rows);
                    model.rows = rows;
                    let open: Vec<(u64, u64)> = found.unknown.iter().map(|r| (r.holds[0], r.used.cost_nano_usd.unwrap())).collect();
                    let mut open: Vec<_> = open; open.sort_unstable();
                    let want: Vec<_> = model.open.iter().map(|(h, (_, c))| (*h, *c)).collect();
                    prop_assert_eq!(open, want);
                    model.coming.clear();
                    log = again;
                    flushed = model.clone();
                }
                Step::PowerLoss(mut seed) => {
                    gaps = true;
                    disk = disk.after_power_loss(|| { seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1); seed >> 63 == 1 });
                    let (again, found) = disk.clone().reopen();
                    let rows = ids(&again.read(usize::MAX).unwrap().rows);
                    let have: BTreeSet<&String> = rows.iter().collect();
                    // Flushed rows are there unless the database had them (and the tail passed them).
                    for id in flushed.rows.iter().filter(|id| model.rows.contains(id)) {
                        prop_assert!(have.contains(id), "{id} was flushed");
                    }
                    let open: BTreeSet<u64> = found.unknown.iter().map(|r| r.holds[0]).collect();
                    for hold in flushed.open.keys().filter(|h| model.open.contains_key(h)) {
                        prop_assert!(open.contains(hold), "reservation {hold} was flushed");
                    }
                    model.open = found.unknown.iter().map(|r| (r.holds[0], (0, r.used.cost_nano_usd.unwrap()))).collect();
                    model.rows = rows;
                    model.coming.clear();
                    log = again;
                    flushed = model.clone();
                }
            }
            // Whatever wrote, wrote all that was taken.
            if log.head() != head {
                model.written();
                head = log.head();
            }
        }
    }
}
