use super::*;
use crate::record::{CostSource, UNKNOWN, Used};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A disk in memory that remembers what is not flushed yet.
#[derive(Clone, Default)]
struct Memory(Arc<Inner>);
#[derive(Default)]
struct Inner {
    now: Mutex<Vec<u8>>,
    flushed: Mutex<Vec<u8>>,
    /// Writes since the last flush.
    loose: Mutex<Vec<(u64, Vec<u8>)>>,
    no_writes: AtomicBool,
    no_flushes: AtomicBool,
    /// What goes on elsewhere during the next write.
    meanwhile: Mutex<Option<Meanwhile>>,
}
type Meanwhile = Box<dyn FnOnce() + Send>;

impl Memory {
    fn of(bytes: Vec<u8>) -> Self {
        let disk = Self::default();
        *disk.0.flushed.lock().unwrap() = bytes.clone();
        *disk.0.now.lock().unwrap() = bytes;
        disk
    }
    /// A log in a fresh ring on this disk.
    fn fresh(capacity: u64) -> (Self, Log) {
        let disk = Self::of(vec![0; usize::try_from(header::SIZE + capacity).unwrap()]);
        Header { log: 7, capacity, turn: 0, tail: 0 }.write(&disk).unwrap();
        disk.sync().unwrap();
        let (log, found) = disk.clone().reopen();
        assert_eq!(found, Recovery::default());
        (disk, log)
    }
    fn reopen(self) -> (Log, Recovery) {
        let header = Header::read(&self).unwrap().expect("a header");
        Log::recover(Box::new(self), header).unwrap()
    }
    /// What another process finds after a kill: everything that was written.
    fn after_kill(&self) -> Self {
        Self::of(self.0.now.lock().unwrap().clone())
    }
    /// What is found after the power went: what was flushed, and of the rest what `keep` says, in blocks of 512 bytes.
    fn after_power_loss(&self, mut keep: impl FnMut() -> bool) -> Self {
        let mut bytes = self.0.flushed.lock().unwrap().clone();
        for (at, written) in &*self.0.loose.lock().unwrap() {
            let mut at = usize::try_from(*at).unwrap();
            let mut rest = &written[..];
            while !rest.is_empty() {
                let (block, more) = rest.split_at(rest.len().min(512 - at % 512));
                if keep() {
                    bytes[at..at + block.len()].copy_from_slice(block);
                }
                at += block.len();
                rest = more;
            }
        }
        Self::of(bytes)
    }
}

impl Disk for Memory {
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        let at = usize::try_from(at).unwrap();
        into.copy_from_slice(&self.0.now.lock().unwrap()[at..at + into.len()]);
        Ok(())
    }
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let meanwhile = if bytes.is_empty() { None } else { self.0.meanwhile.lock().unwrap().take() };
        if let Some(work) = meanwhile {
            work();
        }
        if self.0.no_writes.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let begin = usize::try_from(at).unwrap();
        self.0.now.lock().unwrap()[begin..begin + bytes.len()].copy_from_slice(bytes);
        self.0.loose.lock().unwrap().push((at, bytes.to_vec()));
        Ok(())
    }
    fn sync(&self) -> io::Result<()> {
        if self.0.no_flushes.load(Ordering::Relaxed) {
            // As Linux does: the pages are clean now, and their contents never reached the disk.
            self.0.loose.lock().unwrap().clear();
            return Err(io::Error::other("the disk is gone"));
        }
        let mut flushed = self.0.flushed.lock().unwrap();
        for (at, bytes) in self.0.loose.lock().unwrap().drain(..) {
            let begin = usize::try_from(at).unwrap();
            flushed[begin..begin + bytes.len()].copy_from_slice(&bytes);
        }
        Ok(())
    }
}

fn record(n: u64, holds: Vec<u64>) -> Record {
    Record {
        id: format!("req-{n}").into(),
        generation: n.is_multiple_of(2).then(|| format!("gen-{n}").into()),
        client: "ck-1".into(),
        tags: vec!["a".into(), "b".into()],
        endpoint: "chat/completions".into(),
        model: "sonnet".into(),
        status: 200,
        outcome: "answered".into(),
        started_unix_ms: 1000 + n,
        first_output_ns: Some(n),
        used: Used { cost_nano_usd: Some(n), cost_source: CostSource::Prices, ..Used::default() },
        holds,
        ..Record::default()
    }
}

fn row(n: u64, holds: Vec<u64>) -> Entry {
    Entry::Row(Box::new(record(n, holds)))
}

fn reservation(n: u64, cost: u64) -> Reservation {
    Reservation {
        request: format!("req-{n}").into(),
        cost_nano_usd: cost,
        at_unix_ms: 5,
        ..Reservation::default()
    }
}

/// Takes and writes; how many were taken, and what came of it.
fn append(log: &Log, entries: &[Entry]) -> (usize, Result<(), LogError>) {
    let take = |entry: &Entry| match entry {
        Entry::Row(row) => log.row(row, usize::MAX).map(drop),
        Entry::Settle(hold, cost) => log.settle(*hold, *cost),
        Entry::Reserve(..) => unreachable!(),
    };
    let end =
        entries.iter().map(take).enumerate().find_map(|(n, taken)| taken.err().map(|error| (n, Err(error))));
    let (taken, end) = end.unwrap_or((entries.len(), Ok(())));
    (taken, log.write_out().and(end))
}

fn ids(rows: &[Record]) -> Vec<String> {
    rows.iter().map(|r| r.id.to_string()).collect()
}

const KIB: u64 = 1024;

#[test]
fn what_was_written_is_found_whole_and_in_order_after_a_kill() {
    let (disk, log) = Memory::fresh(64 * KIB);
    let hold = log.reserve(reservation(3, 50)).unwrap();
    let entries = [row(1, vec![]), row(2, vec![])];
    assert_eq!(append(&log, &entries).0, 2);
    let (again, found) = disk.after_kill().reopen();
    assert_eq!((found.rows, found.damaged_bytes), (2, 0));
    let read = again.read(10).unwrap();
    let want: Vec<Record> =
        entries.into_iter().map(|e| if let Entry::Row(r) = e { *r } else { unreachable!() }).collect();
    assert_eq!(read.rows, want);
    assert_eq!(found.unknown.len(), 1);
    assert_eq!(found.unknown[0].holds, [hold]);
    assert_eq!(found.unknown[0].used.cost_nano_usd, Some(50));
    assert_eq!((&*found.unknown[0].outcome, found.unknown[0].attempts), (UNKNOWN, 1));
}

#[test]
fn a_row_closes_its_reservations_and_an_ended_attempt_counts_what_it_cost() {
    let (disk, log) = Memory::fresh(64 * KIB);
    let first = log.reserve(reservation(1, 50)).unwrap();
    let second = log.reserve(reservation(1, 70)).unwrap();
    let other = log.reserve(reservation(2, 9)).unwrap();
    append(&log, &[Entry::Settle(first, 4)]).1.unwrap();
    let unknown = disk.after_kill().reopen().1.unknown;
    assert_eq!(unknown.iter().map(|r| r.used.cost_nano_usd).collect::<Vec<_>>(), [Some(74), Some(9)]);
    assert_eq!(unknown[0].attempts, 2);
    append(&log, &[row(1, vec![first, second])]).1.unwrap();
    assert_eq!((log.fill().open, log.fill().open_nano_usd), (1, 9));
    let unknown = disk.after_kill().reopen().1.unknown;
    assert_eq!(unknown.iter().map(|r| r.holds.clone()).collect::<Vec<_>>(), [vec![other]]);
}

#[test]
fn a_full_ring_refuses_reservations_while_rows_in_flight_still_fit() {
    let (_disk, log) = Memory::fresh(64 * KIB);
    let mut holds = Vec::new();
    let error = loop {
        match log.reserve(reservation(holds.len() as u64, 1)) {
            Ok(hold) => holds.push(hold),
            Err(e) => break e,
        }
    };
    assert!(matches!(error, LogError::Full { .. }), "{error}");
    assert!(log.has_room() || log.fill().bytes > 55 * KIB);
    let rows: Vec<Entry> = (0..20).map(|n| row(n, vec![])).collect();
    assert_eq!(append(&log, &rows).0, 20, "the margin is for them");
    let many: Vec<Entry> = (0..200).map(|n| row(n, vec![])).collect();
    let (taken, end) = append(&log, &many);
    assert!(taken < 200 && matches!(end, Err(LogError::Full { .. })));
    assert!(!log.has_room());
    // What was taken is there, what was not is not.
    assert_eq!(log.fill().rows, 20 + taken as u64);
}

#[test]
fn a_ring_that_rows_filled_lets_go_of_an_old_reservation() {
    let (disk, log) = Memory::fresh(64 * KIB);
    let text: Arc<str> = "y".repeat(200).into();
    let hold = log.reserve(Reservation { client: text.clone(), team: text, ..reservation(1, 77) }).unwrap();
    // To the last byte that they get.
    let small = Record { id: "x".into(), ..Record::default() };
    while log.row(&record(1, vec![]), usize::MAX).or_else(|_| log.row(&small, usize::MAX)).is_ok() {}
    log.write_out().unwrap();
    log.settle(hold, 5).expect("money that comes back has room");
    let full = disk.after_kill().reopen();
    full.0.close(&full.1.unknown).expect("a process can begin with it");
    let batch = log.read(usize::MAX).unwrap();
    log.applied(batch.next, batch.rows.len() as u64).unwrap();
    log.sync().unwrap();
    assert!(log.has_room(), "{:?}", log.fill());
    assert_eq!(disk.after_kill().reopen().1.unknown[0].used.cost_nano_usd, Some(5));
}

#[test]
fn space_is_used_again_only_after_the_tail_is_flushed() {
    let (_disk, log) = Memory::fresh(64 * KIB);
    let rows: Vec<Entry> = (0..10_000).map(|n| row(n, vec![])).collect();
    let (taken, _) = append(&log, &rows);
    let batch = log.read(usize::MAX).unwrap();
    log.applied(batch.next, batch.rows.len() as u64).unwrap();
    assert_eq!(append(&log, &rows[taken..]).0, 0, "a crash now must still find the old header's rows");
    log.sync().unwrap();
    assert!(append(&log, &rows[taken..]).0 > taken / 2);
}

#[test]
fn one_open_reservation_does_not_hold_up_the_ring() {
    let (disk, log) = Memory::fresh(64 * KIB);
    let hold = log.reserve(reservation(1_000_000, 77)).unwrap();
    append(&log, &[Entry::Settle(hold, 5)]).1.unwrap();
    for n in 0..5_000 {
        append(&log, &[row(n, vec![])]).1.unwrap();
        let batch = log.read(100).unwrap();
        log.applied(batch.next, batch.rows.len() as u64).unwrap();
        log.sync().unwrap();
    }
    assert!(log.head() > 8 * 64 * KIB, "it went round");
    let found = disk.after_kill().reopen().1;
    assert_eq!(found.unknown.len(), 1);
    assert_eq!((found.unknown[0].holds[0], found.unknown[0].used.cost_nano_usd), (hold, Some(5)));
    assert_eq!(found.damaged_bytes, 0);
}

#[test]
fn a_reservation_is_not_carried_on_without_the_cost_that_it_settled_at() {
    let (disk, log) = Memory::fresh(64 * KIB);
    let hold = log.reserve(reservation(1, 77)).unwrap();
    let reserve_bytes = log.head();
    let settle = || append(&log, &[Entry::Settle(hold, 5)]).1;
    settle().unwrap();
    let settle_bytes = log.head() - reserve_bytes;
    // Room for the reservation and not for what it cost.
    while log.head() + reserve_bytes + settle_bytes <= 64 * KIB {
        settle().unwrap();
    }
    assert!(log.head() + reserve_bytes <= 64 * KIB);
    assert!(matches!(log.applied(0, 0), Err(LogError::Full { .. })));
    settle().unwrap();
    let found = disk.after_kill().reopen().1;
    assert_eq!(found.unknown[0].used.cost_nano_usd, Some(5));
}

#[test]
fn what_ends_while_its_reservation_is_carried_on_stays_ended() {
    // Before the reservation is looked at for the first time, and while it is written.
    for early in [true, false] {
        for closed in [true, false] {
            let (disk, log) = Memory::fresh(64 * KIB);
            let log = Arc::new(log);
            let hold = log.reserve(reservation(1_000_000, 77)).unwrap();
            while log.head() < 32 * KIB {
                append(&log, &[row(log.head(), vec![])]).1.unwrap();
            }
            let batch = log.read(usize::MAX).unwrap();
            log.row(&record(3, vec![]), 9).unwrap();
            let other = log.clone();
            let ends = move || {
                if closed {
                    other.row(&record(1_000_000, vec![hold]), 9).map(drop).unwrap();
                } else {
                    other.settle(hold, 5).unwrap();
                }
            };
            if early {
                ends();
            } else {
                *disk.0.meanwhile.lock().unwrap() = Some(Box::new(ends));
            }
            log.applied(batch.next, batch.rows.len() as u64).unwrap();
            log.write_out().unwrap();
            log.sync().unwrap();
            let unknown = disk.after_kill().reopen().1.unknown;
            let costs: Vec<_> = unknown.iter().map(|r| r.used.cost_nano_usd).collect();
            assert_eq!(costs, if closed { vec![] } else { vec![Some(5)] }, "early: {early}");
            assert!(closed || log.ring().tail() > 32 * KIB - 500, "it was carried on");
        }
    }
}

#[test]
fn what_is_taken_during_a_write_has_its_place_behind_it() {
    let (disk, log) = Memory::fresh(64 * KIB);
    let log = Arc::new(log);
    let held = log.reserve(reservation(1_000_000, 77)).unwrap();
    // As full as it gets, but for a little: then the old reservation is carried on, and more is taken meanwhile.
    while log.fill().bytes + KIB <= 64 * KIB {
        log.row(&record(100, vec![]), usize::MAX).map(drop).or_else(|_| log.settle(held, 5)).unwrap();
    }
    log.write_out().unwrap();
    let other = log.clone();
    let more = move || while other.settle(held, 5).is_ok() {};
    *disk.0.meanwhile.lock().unwrap() = Some(Box::new(more));
    // Nothing is freed by it.
    let _ = log.applied(0, 0);
    log.write_out().unwrap();
    assert!(log.fill().bytes <= 64 * KIB, "{:?}", log.fill());
    let (_, found) = disk.after_kill().reopen();
    assert_eq!((found.damaged_bytes, &found.unknown[0].holds[..]), (0, &[held][..]));
    assert_eq!(found.rows, log.fill().rows, "nothing is written over");
}

#[test]
fn a_write_that_fails_keeps_what_was_taken_and_no_reservation() {
    let (disk, log) = Memory::fresh(64 * KIB);
    append(&log, &[row(1, vec![])]).1.unwrap();
    disk.0.no_writes.store(true, Ordering::Relaxed);
    log.row(&record(2, vec![]), 2).unwrap();
    assert!(matches!(log.reserve(reservation(1, 1)), Err(LogError::Io(_))));
    log.row(&record(3, vec![]), 2).unwrap();
    assert!(log.row(&record(4, vec![]), 2).is_err(), "more than may wait");
    assert!(log.write_out().is_err());
    assert_eq!((log.fill().open, log.fill().rows, log.coming().0), (0, 1, 2));
    disk.0.no_writes.store(false, Ordering::Relaxed);
    let hold = log.reserve(reservation(5, 1)).unwrap();
    assert_eq!((log.fill().rows, log.coming()), (3, (0, 0)), "written with the reservation");
    let (again, found) = disk.after_kill().reopen();
    assert_eq!((found.damaged_bytes, &found.unknown[0].holds[..]), (0, &[hold][..]));
    assert_eq!(ids(&again.read(9).unwrap().rows), ["req-1", "req-2", "req-3"]);
}

#[test]
fn money_that_came_back_is_written_as_back_before_it_is_held_again() {
    let (disk, log) = Memory::fresh(64 * KIB);
    let first = log.reserve(reservation(1, 10)).unwrap();
    log.settle(first, 1).unwrap();
    assert_eq!(disk.after_kill().reopen().1.unknown[0].used.cost_nano_usd, Some(10), "nobody holds it yet");
    log.reserve(reservation(2, 9)).unwrap();
    let unknown = disk.after_kill().reopen().1.unknown;
    assert_eq!(unknown.iter().map(|r| r.used.cost_nano_usd).collect::<Vec<_>>(), [Some(1), Some(9)]);
}

#[test]
fn after_a_failed_flush_nothing_is_acknowledged_until_all_of_it_is_written_anew() {
    let (disk, log) = Memory::fresh(64 * KIB);
    append(&log, &[row(1, vec![])]).1.unwrap();
    let first = log.sync().unwrap();
    append(&log, &[row(2, vec![])]).1.unwrap();
    disk.0.no_flushes.store(true, Ordering::Relaxed);
    assert!(log.sync().is_err());
    assert_eq!(log.flushed(), first);
    assert!(matches!(log.reserve(reservation(1, 1)), Err(LogError::NotFlushed(_))));
    disk.0.no_flushes.store(false, Ordering::Relaxed);
    assert_eq!(log.sync().unwrap(), log.head());
    let (again, _) = disk.after_power_loss(|| false).reopen();
    assert_eq!(ids(&again.read(9).unwrap().rows), ["req-1", "req-2"], "acknowledged means flushed");
    log.reserve(reservation(1, 1)).unwrap();
}

#[test]
fn a_torn_tail_is_told_and_cut_and_the_log_goes_on() {
    let (disk, log) = Memory::fresh(64 * KIB);
    append(&log, &[row(1, vec![]), row(2, vec![])]).1.unwrap();
    let end = usize::try_from(header::SIZE + log.head()).unwrap();
    let torn = disk.after_kill();
    for bytes in [&torn.0.now, &torn.0.flushed] {
        bytes.lock().unwrap()[end - 20..end].fill(0);
    }
    let (again, found) = torn.clone().reopen();
    assert_eq!(found.rows, 1);
    assert!(found.damaged_bytes > 0);
    append(&again, &[row(3, vec![])]).1.unwrap();
    let (last, found) = torn.after_kill().reopen();
    assert_eq!(ids(&last.read(9).unwrap().rows), ["req-1", "req-3"]);
    assert_eq!(found.damaged_bytes, 0);
}

#[test]
fn damage_in_the_middle_costs_only_what_was_damaged() {
    let (disk, log) = Memory::fresh(64 * KIB);
    append(&log, &[row(1, vec![])]).1.unwrap();
    let second = usize::try_from(header::SIZE + log.head()).unwrap();
    append(&log, &[row(2, vec![]), row(3, vec![])]).1.unwrap();
    disk.0.now.lock().unwrap()[second + 30] ^= 1;
    let (again, found) = disk.after_kill().reopen();
    assert!(found.damaged_bytes > 30, "{}", found.damaged_bytes);
    let batch = again.read(9).unwrap();
    assert_eq!(ids(&batch.rows), ["req-1", "req-3"]);
    assert_eq!(batch.damaged_bytes, found.damaged_bytes);
}

#[test]
fn a_log_of_another_process_is_refused_and_an_unreadable_one_is_put_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.log");
    let (log, _) = Log::open(&path, 1 << 20).unwrap();
    assert!(matches!(Log::open(&path, 1 << 20), Err(LogError::InUse)));
    append(&log, &[row(1, vec![])]).1.unwrap();
    drop(log);
    let (log, found) = Log::open(&path, 2 << 20).unwrap();
    assert_eq!(
        (found.rows, log.fill().capacity),
        (1, 1 << 20),
        "a smaller ring is not thrown away with its rows"
    );
    let batch = log.read(9).unwrap();
    log.applied(batch.next, 1).unwrap();
    log.sync().unwrap();
    drop(log);
    assert_eq!(Log::open(&path, 2 << 20).unwrap().0.fill().capacity, 2 << 20);
    std::fs::write(&path, vec![b'x'; 1 << 20]).unwrap();
    let found = Log::open(&path, 1 << 20).unwrap().1;
    let aside = found.put_aside.expect("told");
    assert_eq!(std::fs::read(aside).unwrap()[0], b'x');
}

#[test]
fn texts_are_made_fit_for_every_database() {
    let (_disk, log) = Memory::fresh(64 * KIB);
    let long = "ü".repeat(4000);
    let record = Record { model: format!("a\0b{long}"), id: "x".into(), ..Record::default() };
    append(&log, &[Entry::Row(Box::new(record))]).1.unwrap();
    let read = log.read(1).unwrap();
    assert!(read.rows[0].model.starts_with("abü") && read.rows[0].model.len() <= codec::TEXT_MAX);
    // The longest record there can be is still an entry.
    let text: Arc<str> = "y".repeat(300).into();
    let record = Record {
        id: text.clone(),
        tags: vec![text; 100],
        holds: vec![u64::MAX; 100],
        used: Used { cost_nano_usd: Some(u64::MAX), ..Used::default() },
        ..Record::default()
    };
    append(&log, &[Entry::Row(Box::new(record))]).1.unwrap();
    assert_eq!(log.read(2).unwrap().rows.len(), 2);
}

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
