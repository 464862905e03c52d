//! Writes and flushes, and their failures.

use super::*;

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
