//! Writes and flushes, and their failures.

use super::*;
use crate::codec::Frame;

#[test]
fn a_write_that_fails_keeps_what_was_taken_and_no_reservation() {
    let (disk, log) = Memory::fresh(64 * KIB);
    append(&log, &[row(1, vec![])]).1.unwrap();
    disk.takes(Some(0));
    log.row(&record(2, vec![]), 2).unwrap();
    assert!(matches!(reserve(&log, reservation(1, 1)), Err(LogError::Io(_))));
    log.row(&record(3, vec![]), 2).unwrap();
    assert!(log.row(&record(4, vec![]), 2).is_err(), "more than may wait");
    assert!(log.write_out().is_err());
    assert_eq!((log.fill().open, log.fill().rows, log.coming().0), (0, 1, 2));
    disk.takes(None);
    let hold = reserve(&log, reservation(5, 1)).unwrap();
    assert_eq!((log.fill().rows, log.coming()), (3, (0, 0)), "written with the reservation");
    let (again, found) = disk.after_kill().reopen();
    assert_eq!((found.damaged_bytes, &found.unknown[0].holds[..]), (0, &[hold][..]));
    assert_eq!(ids(&again.read(9).unwrap().rows), ["req-1", "req-2", "req-3"]);
}

#[test]
fn money_that_came_back_is_written_as_back_before_it_is_held_again() {
    let (disk, log) = Memory::fresh(64 * KIB);
    let first = reserve(&log, reservation(1, 10)).unwrap();
    log.settle(first, 1).unwrap();
    assert_eq!(disk.after_kill().reopen().1.unknown[0].used.cost_nano_usd, Some(10), "nobody holds it yet");
    reserve(&log, reservation(2, 9)).unwrap();
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
    assert!(matches!(reserve(&log, reservation(1, 1)), Err(LogError::NotFlushed(_))));
    disk.0.no_flushes.store(false, Ordering::Relaxed);
    assert_eq!(log.sync().unwrap(), log.head());
    let (again, _) = disk.after_power_loss(|| false).reopen();
    assert_eq!(ids(&again.read(9).unwrap().rows), ["req-1", "req-2"], "acknowledged means flushed");
    reserve(&log, reservation(1, 1)).unwrap();
}

#[test]
fn a_header_that_cannot_be_flushed_leaves_the_one_before_as_it_is() {
    let (disk, log) = Memory::fresh(64 * KIB);
    let flushed = Header::read(&disk).unwrap().unwrap();
    disk.0.no_flushes.store(true, Ordering::Relaxed);
    for n in 1..4 {
        append(&log, &[row(n, vec![])]).1.unwrap();
        log.applied(log.head(), 1).unwrap();
        assert!(log.sync().is_err());
        let slot = usize::try_from(flushed.turn % 2 * (header::SIZE / 2)).unwrap();
        let now = disk.0.now.lock().unwrap();
        assert_eq!(
            now[slot..][..flushed.bytes().len()],
            flushed.bytes(),
            "it may be all there is after a power loss"
        );
    }
}

/// Counts how often its task is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn reservations_of_one_turn_are_written_together() {
    let (disk, log) = Memory::fresh(64 * KIB);
    let woken = Arc::new(Woken::default());
    let (waker, n) = (Waker::from(woken.clone()), 20);
    let cx = &mut Context::from_waker(&waker);
    let holds: Vec<u64> = (0..n).map(|n| log.reserve(reservation(n, 1)).unwrap()).collect();
    let mut turn: Vec<_> = holds.iter().map(|hold| Box::pin(log.written(*hold))).collect();
    assert!(turn.iter_mut().all(|written| written.as_mut().poll(cx).is_pending()));
    assert_eq!((writes(&disk), woken.0.load(Ordering::Relaxed)), (0, turn.len()), "the next turn is theirs");
    for written in &mut turn {
        assert!(matches!(written.as_mut().poll(cx), Poll::Ready(Ok(()))));
        assert_eq!((writes(&disk), disk.after_kill().reopen().1.unknown.len()), (1, holds.len()));
    }
}

#[test]
fn who_comes_during_a_write_waits_for_it_and_is_written_behind_it() {
    let (disk, log) = Memory::fresh(64 * KIB);
    let log = Arc::new(log);
    let woken = Arc::new(Woken::default());
    let (early, other, waker) = (log.reserve(reservation(1, 1)).unwrap(), log.clone(), woken.clone());
    let (to, late) = sync_channel(1);
    *disk.0.meanwhile.lock().unwrap() = Some(Box::new(move || {
        let waker = Waker::from(waker);
        let cx = &mut Context::from_waker(&waker);
        let hold = other.reserve(reservation(2, 2)).unwrap();
        for hold in [early, hold] {
            let mut written = pin!(other.written(hold));
            assert!((0..3).all(|_| written.as_mut().poll(cx).is_pending()), "nothing of it is in the file");
        }
        to.send(hold).unwrap();
    }));
    // Whoever writes, a reservation or a thread.
    log.write_out().unwrap();
    let late = late.recv().unwrap();
    assert_eq!(woken.0.load(Ordering::Relaxed), 2 + 2, "once in the beginning, and when it was over");
    let cx = &mut Context::from_waker(Waker::noop());
    for (hold, open) in [(early, 1), (late, 2)] {
        let mut written = pin!(log.written(hold));
        assert!(written.as_mut().poll(cx).is_pending());
        assert!(matches!(written.poll(cx), Poll::Ready(Ok(()))));
        let found = disk.after_kill().reopen().1;
        assert_eq!((found.unknown.len(), found.damaged_bytes, writes(&disk)), (open, 0, open));
    }
}

/// Runs on a thread that nobody joins: where a test has failed, it may wait for ever.
fn apart(work: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().spawn(work).unwrap();
}

#[test]
fn threads_that_reserve_at_once_write_one_after_the_other_and_none_too_early() {
    let (disk, log) = Memory::fresh(256 * KIB);
    let log = Arc::new(log);
    let (to, ends) = sync_channel(3);
    for thread in 0..3 {
        let (log, disk, to) = (log.clone(), disk.clone(), to.clone());
        apart(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            for n in 0..100 {
                // A slow disk: what is in its hands is not in the file yet.
                *disk.0.meanwhile.lock().unwrap() = Some(Box::new(std::thread::yield_now));
                let hold = log.reserve(reservation(thread * 1000 + n, 1)).unwrap();
                if n % 10 == 0 {
                    log.write_out().unwrap();
                }
                runtime.block_on(log.written(hold)).unwrap();
                let at = log.ring().open[&hold].at;
                let bytes = disk.0.now.lock().unwrap().clone();
                let frame = codec::frame(&bytes[usize::try_from(header::SIZE + at).unwrap()..], log.id, at);
                let Frame::Whole(entry, _) = frame else { panic!("{hold} is not in the file: {frame:?}") };
                assert!(matches!(codec::entry(entry), Some(Entry::Reserve(of, _)) if of == hold));
            }
            to.send(()).unwrap();
        });
    }
    (0..3).for_each(|_| ends.recv_timeout(LONG).expect("a thread has failed, or waits for ever"));
    let found = disk.after_kill().reopen().1;
    assert_eq!((found.unknown.len(), found.damaged_bytes), (300, 0));
}

#[test]
fn a_thread_does_not_wait_for_what_is_written_after_what_it_came_for() {
    let (disk, log) = Memory::fresh(64 * KIB);
    let log = Arc::new(log);
    log.row(&record(1, vec![]), 9).unwrap();
    // The reservation that will come next: whoever waits for it writes twice, and lets go of nothing between the two.
    let next = log.ring().end() + 1;
    let (other, disk_then) = (log.clone(), disk.clone());
    let during_first = move || {
        let (to, end) = sync_channel(1);
        let thread = other.clone();
        apart(move || to.send(thread.write_out().is_ok()).unwrap());
        while other.ring().threads == 0 {
            assert!(end.try_recv().is_err(), "its row is not written yet");
            std::thread::yield_now();
        }
        assert_eq!(other.reserve(reservation(2, 1)).unwrap(), next);
        let during_second =
            move || assert_eq!(end.recv_timeout(LONG), Ok(true), "its row was written by the first");
        *disk_then.0.meanwhile.lock().unwrap() = Some(Box::new(during_second));
    };
    *disk.0.meanwhile.lock().unwrap() = Some(Box::new(during_first));
    let cx = &mut Context::from_waker(Waker::noop());
    let mut written = pin!(log.written(next));
    assert!(written.as_mut().poll(cx).is_pending());
    assert!(matches!(written.poll(cx), Poll::Ready(Ok(()))));
    assert_eq!((writes(&disk), disk.after_kill().reopen().1.rows), (2, 1));
}

#[test]
fn of_a_write_that_breaks_off_those_reservations_fail_that_are_not_in_the_file() {
    let (disk, log) = Memory::fresh(64 * KIB);
    let one = {
        reserve(&log, reservation(1, 1)).unwrap();
        usize::try_from(log.head()).unwrap()
    };
    let cx = &mut Context::from_waker(Waker::noop());
    let reserve_next = |n| log.reserve(reservation(n, 1)).unwrap();
    let holds = [reserve_next(2), reserve_next(3), reserve_next(4)];
    log.row(&record(1, vec![]), 9).unwrap();
    // The first is in it, and most of the second.
    disk.takes(Some(2 * one - 8));
    let mut turn: Vec<_> = holds.iter().map(|hold| Box::pin(log.written(*hold))).collect();
    assert!(turn.iter_mut().all(|written| written.as_mut().poll(cx).is_pending()));
    let done: Vec<_> = turn.iter_mut().map(|written| written.as_mut().poll(cx)).collect();
    let refused = |done: &Poll<_>| matches!(done, Poll::Ready(Err(LogError::Io(e))) if e.kind() == io::ErrorKind::StorageFull);
    assert!(matches!(done[0], Poll::Ready(Ok(()))) && done[1..].iter().all(refused), "{done:?}");
    let requests = |disk: &Memory| {
        let (log, found) = disk.after_kill().reopen();
        let unknown = found.unknown.iter().map(|r| r.id.to_string()).collect::<Vec<_>>();
        (unknown, ids(&log.read(9).unwrap().rows))
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(requests(&disk), (names(&["req-1", "req-2"]), vec![]));
    assert_eq!((log.fill().open, log.coming().0), (2, 1), "the row is still to come");
    // One that is as long as those that were refused, in the place of the first of them.
    disk.takes(None);
    reserve(&log, reservation(5, 1)).unwrap();
    assert_eq!(requests(&disk), (names(&["req-1", "req-2", "req-5"]), names(&["req-1"])));
}

#[test]
fn a_reservation_that_nobody_waits_for_any_more_is_closed_by_its_row() {
    let (disk, log) = Memory::fresh(64 * KIB);
    let hold = log.reserve(reservation(1, 10)).unwrap();
    assert!(pin!(log.written(hold)).poll(&mut Context::from_waker(Waker::noop())).is_pending());
    log.row(&record(1, vec![hold]), 9).unwrap();
    log.write_out().unwrap();
    let found = disk.after_kill().reopen().1;
    assert_eq!((found.unknown.len(), found.rows, log.fill().open), (0, 1, 0));
}
