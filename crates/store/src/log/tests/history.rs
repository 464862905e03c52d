//! Any history, against what must be true kept the simple way.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

#[derive(Clone, Debug)]
enum Step {
    /// So many nano-dollars each, in one turn.
    Reserve(Vec<u64>),
    Settle(usize, u64),
    Row(usize),
    Write,
    Apply(usize),
    Sync,
    /// From here on the disk takes so many bytes more, or all again.
    Refuse(Option<usize>),
    Kill,
    PowerLoss(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(1u64..1000, 1..5).prop_map(Step::Reserve),
        2 => (any::<usize>(), 0u64..1000).prop_map(|(i, c)| Step::Settle(i, c)),
        6 => any::<usize>().prop_map(Step::Row),
        3 => Just(Step::Write),
        3 => (1usize..20).prop_map(Step::Apply),
        3 => Just(Step::Sync),
        2 => prop::option::of(0usize..1000).prop_map(Step::Refuse),
        1 => Just(Step::Kill),
        1 => any::<u64>().prop_map(Step::PowerLoss),
    ]
}

/// What must be true of the log, kept the simple way.
#[derive(Clone, Debug, Default)]
struct Model {
    open: BTreeMap<u64, (u64, u64)>,
    rows: Vec<String>,
    /// Taken, and so once it is written.
    coming: Vec<Coming>,
}

#[derive(Clone, Debug)]
enum Coming {
    Reserve(u64, (u64, u64)),
    Row(String, Option<u64>),
    Settle(u64, u64),
}

impl Model {
    fn written(&mut self) {
        for coming in std::mem::take(&mut self.coming) {
            match coming {
                Coming::Reserve(hold, what) => drop(self.open.insert(hold, what)),
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

    /// Of these costs those that the log no longer keeps for later were taken.
    fn takes_late(&mut self, mut late: BTreeMap<u64, u64>, log: &Log) {
        late.retain(|hold, _| !log.ring().late.contains_key(hold));
        self.coming.extend(late.into_iter().map(|(hold, cost)| Coming::Settle(hold, cost)));
    }

    /// The disk took the first of it only: the rest is still to come, but for reservations. Says whether it can be so.
    fn written_in_part(&mut self, rows: &[String], open: &[(u64, u64)]) -> bool {
        (0..=self.coming.len()).rev().any(|some| {
            let mut then = self.clone();
            let mut rest = then.coming.split_off(some);
            then.written();
            rest.retain(|coming| !matches!(coming, Coming::Reserve(..)));
            then.coming = rest;
            let fits = rows.ends_with(&then.rows) && open == then.costs();
            if fits {
                *self = then;
            }
            fits
        })
    }

    fn costs(&self) -> Vec<(u64, u64)> {
        self.open.iter().map(|(hold, (_, cost))| (*hold, *cost)).collect()
    }
}

/// What a restart would find: rows, and open reservations with their costs.
fn found(disk: &Memory) -> (Vec<String>, Vec<(u64, u64)>) {
    let (log, found) = disk.after_kill().reopen();
    let mut open: Vec<_> =
        found.unknown.iter().map(|r| (r.holds[0], r.used.cost_nano_usd.unwrap())).collect();
    open.sort_unstable();
    (ids(&log.read(usize::MAX).unwrap().rows), open)
}

/// Reserves in one turn; those that were taken, and what came of each.
fn turn(log: &Log, reservations: Vec<Reservation>) -> Vec<(u64, Result<(), LogError>)> {
    let cx = &mut Context::from_waker(Waker::noop());
    let holds: Vec<_> = reservations.into_iter().map_while(|r| log.reserve(r).ok()).collect();
    let mut waiting: Vec<_> = holds.iter().map(|hold| Box::pin(log.written(*hold))).collect();
    assert!(waiting.iter_mut().all(|written| written.as_mut().poll(cx).is_pending()));
    let ends = waiting.iter_mut().map(|written| match written.as_mut().poll(cx) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("nobody else writes"),
    });
    holds.iter().copied().zip(ends).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn any_history_of_writes_kills_and_power_losses_keeps_the_books(steps in prop::collection::vec(step(), 1..200)) {
        // Small, so that it goes round many times.
        let (mut disk, mut log) = Memory::fresh(8 * KIB);
        let mut model = Model::default();
        let mut flushed = Model::default();
        let mut next = 0;
        // Only a power loss may leave a gap among the frames.
        let mut gaps = false;
        // Only a disk that refused half way leaves a frame that is none.
        let mut torn = false;
        for step in steps {
            let (before, head) = (writes(&disk), log.head());
            match step {
                Step::Reserve(costs) => {
                    let first = next + 1;
                    next += costs.len() as u64;
                    let reservations = (first..).zip(&costs).map(|(n, cost)| reservation(n, *cost)).collect();
                    let late = log.ring().late.clone();
                    let done = turn(&log, reservations);
                    model.takes_late(late, &log);
                    let open = found(&disk).1;
                    for ((hold, done), (n, cost)) in done.iter().zip((first..).zip(&costs)) {
                        prop_assert_eq!(done.is_ok(), open.contains(&(*hold, *cost)), "{:?}", done);
                        prop_assert!(done.is_ok() || disk.refuses());
                        model.coming.push(Coming::Reserve(*hold, (n, *cost)));
                    }
                }
                Step::Settle(pick, cost) => {
                    if let Some(&hold) = model.open.keys().nth(pick % model.open.len().max(1)) {
                        let mut late = log.ring().late.clone();
                        late.insert(hold, cost);
                        let taken = log.settle(hold, cost).is_ok();
                        model.takes_late(late, &log);
                        prop_assert_eq!(taken, log.ring().late.is_empty());
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
                    prop_assert!(written.is_ok() || disk.refuses());
                    prop_assert!(written.is_err() || log.coming() == (0, 0));
                }
                Step::Refuse(after) => {
                    torn |= after.is_some();
                    disk.takes(after);
                }
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
                    prop_assert!(synced.is_ok() || disk.refuses());
                    if synced.is_ok() {
                        flushed = model.clone();
                    }
                }
                Step::Kill => {
                    disk = disk.after_kill();
                    let (again, recovery) = disk.clone().reopen();
                    prop_assert!(gaps || torn || recovery.damaged_bytes == 0);
                    let (rows, open) = found(&disk);
                    // Rows that the database has may come again; none may be missing, none in another order.
                    prop_assert!(rows.ends_with(&model.rows), "{:?} {:?}", rows, model.rows);
                    model.rows = rows;
                    prop_assert_eq!(open, model.costs());
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
            if disk.refuses() && writes(&disk) != before {
                let (rows, open) = found(&disk);
                prop_assert!(model.written_in_part(&rows, &open), "{:?} {:?} {:?}", rows, open, model);
            } else if log.head() != head {
                model.written();
            }
        }
    }
}
