//! A ring that is nearly full, and reservations that stay open while it goes round.

use super::*;

#[test]
fn a_full_ring_refuses_reservations_while_rows_in_flight_still_fit() {
    let (_disk, log) = Memory::fresh(64 * KIB);
    let mut holds = Vec::new();
    let error = loop {
        match reserve(&log, reservation(holds.len() as u64, 1)) {
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
    let hold = reserve(&log, Reservation { client: text.clone(), team: text, ..reservation(1, 77) }).unwrap();
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
fn a_full_ring_lets_go_of_more_open_reservations_than_it_has_room_for_at_once() {
    let (disk, log) = Memory::fresh(64 * KIB);
    let holds: Vec<u64> = (0..100).map(|n| reserve(&log, reservation(n, 1)).unwrap()).collect();
    while log.row(&record(1, vec![]), usize::MAX).is_ok() {}
    while log.settle(holds[0], 1).is_ok() {}
    log.write_out().unwrap();
    // All that the database lacks, at once: nothing will be asked of the ring after it.
    let batch = log.read(usize::MAX).unwrap();
    log.applied(batch.next, batch.rows.len() as u64).unwrap();
    log.sync().unwrap();
    assert!(log.has_room(), "{:?}", log.fill());
    let (_, found) = disk.after_kill().reopen();
    assert_eq!((found.unknown.len(), found.damaged_bytes), (holds.len(), 0));
}

#[test]
fn a_cost_that_finds_no_room_is_written_before_the_money_is_held_again() {
    let (disk, log) = Memory::fresh(64 * KIB);
    let first = reserve(&log, reservation(1, 100)).unwrap();
    let other = reserve(&log, reservation(2, 100)).unwrap();
    while log.row(&record(0, vec![]), usize::MAX).is_ok() {}
    while log.settle(other, 7).is_ok() {}
    assert!(log.settle(first, 1).is_err(), "the ring is full");
    log.write_out().unwrap();
    assert!(reserve(&log, reservation(3, 99)).is_err());
    // The database comes back, and whoever was refused tries again before the first one's row is written.
    let batch = log.read(usize::MAX).unwrap();
    log.applied(batch.next, batch.rows.len() as u64).expect("open reservations are carried on");
    log.sync().unwrap();
    reserve(&log, reservation(4, 99)).unwrap();
    let (_, found) = disk.after_kill().reopen();
    let charged: Vec<_> = found.unknown.iter().map(|row| (&*row.id, row.used.cost_nano_usd)).collect();
    assert_eq!(charged, [("req-1", Some(1)), ("req-2", Some(7)), ("req-4", Some(99))]);
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
    let hold = reserve(&log, reservation(1_000_000, 77)).unwrap();
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
    let hold = reserve(&log, reservation(1, 77)).unwrap();
    let reserve_bytes = log.head();
    let settle = || append(&log, &[Entry::Settle(hold, 5)]).1;
    settle().unwrap();
    let settle_bytes = log.head() - reserve_bytes;
    // Room for the reservation and not for what it cost.
    while settle().is_ok() {}
    let mut filler = record(0, vec![]);
    let size = |row: &Record| {
        let mut frame = Vec::new();
        codec::put_frame(&mut frame, |out| codec::put_row(out, row));
        frame.len() as u64
    };
    let room = || 64 * KIB - log.head() - reserve_bytes;
    while room() >= settle_bytes + 2 * size(&filler) {
        log.close(std::slice::from_ref(&filler)).unwrap();
    }
    while room() >= settle_bytes + size(&filler) {
        filler.model.push('x');
    }
    log.close(&[filler]).unwrap();
    assert!(log.head() + reserve_bytes <= 64 * KIB);
    assert!(matches!(log.applied(0, 0), Err(LogError::Full { .. })));
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
            let hold = reserve(&log, reservation(1_000_000, 77)).unwrap();
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
    let held = reserve(&log, reservation(1_000_000, 77)).unwrap();
    // As full as it gets, but for a little: then the old reservation is carried on, and more is taken meanwhile.
    while log.row(&record(100, vec![]), usize::MAX).is_ok() {}
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
