//! What is found after a kill, and after damage.

use super::*;
use crate::record::UNKNOWN;

#[test]
fn what_was_written_is_found_whole_and_in_order_after_a_kill() {
    let (disk, log) = Memory::fresh(64 * KIB);
    let hold = reserve(&log, reservation(3, 50)).unwrap();
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
    let first = reserve(&log, reservation(1, 50)).unwrap();
    let second = reserve(&log, reservation(1, 70)).unwrap();
    let other = reserve(&log, reservation(2, 9)).unwrap();
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
