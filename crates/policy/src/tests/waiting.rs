//! The waiting room: order, forecasts, deadlines, fairness.

use super::harness::*;
use crate::fleet::{Dimension, RouteId};
use crate::outcome::LimitScope;
use crate::refusal::RefusalKind;
use crate::time::{MS, SECOND};
use crate::{Ask, ClientId, Decision, Destination, Priority, Size, Ticket};

/// One account that admits one request a second, used up.
fn one_a_second() -> World {
    let mut w = World::new(fleet(1, &[bucket(Dimension::Requests, 1.0, 1.0)]));
    let lease = w.go();
    w.ok(lease);
    w
}

fn enter(w: &mut World, ask: Ask) -> Ticket {
    match w.submit(ask) {
        Decision::Wait { ticket, .. } => ticket,
        other => panic!("{other:?}"),
    }
}

/// Lets everybody out, finishing each at once, and says in which order.
fn order(w: &mut World) -> Vec<Ticket> {
    let mut out = Vec::new();
    while w.policy.waiting() > 0 {
        for woken in w.until_woken() {
            out.push(woken.ticket);
            if let Decision::Go(lease) = woken.decision {
                w.ok(lease);
            }
        }
    }
    out
}

#[test]
fn first_come_first_served_each_at_its_forecast() {
    let mut w = one_a_second();
    let places: Vec<(Ticket, u64)> = (0..8).map(|_| w.wait(20.0)).collect();
    for (ticket, forecast) in places {
        let woken = w.until_woken();
        assert_eq!(woken[0].ticket, ticket);
        assert!(w.ns.abs_diff(forecast) < 100 * MS, "{} {forecast}", w.ns);
        w.ok(let_out(woken));
    }
}

#[test]
fn who_comes_new_does_not_overtake() {
    let mut w = one_a_second();
    let (first, _) = w.wait(20.0);
    // There is room again, but nobody has polled yet.
    w.pass(1.5);
    let (second, _) = w.wait(20.0);
    assert_eq!(w.policy.next_wake(), Some(w.ns));
    let woken = w.poll();
    assert_eq!(woken[0].ticket, first);
    w.ok(let_out(woken));
    assert_eq!(order(&mut w), [second]);
}

#[test]
fn refused_at_once_when_the_line_is_too_long_and_the_time_is_true() {
    let mut w = one_a_second();
    for _ in 0..5 {
        w.wait(20.0);
    }
    let refusal = w.refused(3.0);
    let after = refusal.retry_after_ns.unwrap();
    assert!(after.abs_diff(6 * SECOND) < SECOND / 2, "behind five others: {after}");
    assert!(matches!(refusal.kind, RefusalKind::QuotaExhausted { .. }));
    let come_back = w.ns + after;
    while w.policy.waiting() > 0 && w.policy.next_wake().unwrap() <= come_back {
        let woken = w.until_woken();
        w.ok(let_out(woken));
    }
    w.ns = come_back;
    let lease = w.go();
    w.ok(lease);
}

#[test]
fn nobody_outlives_a_deadline_and_all_hear_a_true_time() {
    let mut w = World::new(fleet(1, &[slots(1)]));
    let lease = w.go();
    let (ticket, _) = w.wait(5.0);
    let deadline = w.ns + 5 * SECOND;
    let woken = w.until_woken();
    assert_eq!((w.ns, woken[0].ticket), (deadline, ticket));
    let Decision::Refuse(refusal) = &woken[0].decision else { panic!() };
    assert!(refusal.retry_after_ns.is_some());
    assert_eq!(w.policy.next_wake(), None);
    w.ok(lease);
    w.conserved();
}

/// Whoever polls late, as a server that is busy does, ends the wait all the same.
#[test]
fn a_deadline_that_passed_between_polls_ends_the_wait_at_the_next() {
    let mut w = World::new(fleet(1, &[slots(1)]));
    let lease = w.go();
    let (ticket, _) = w.wait(3.0);
    w.pass(3.001);
    let told = w.poll();
    assert!(told.len() == 1 && told[0].ticket == ticket, "{told:?}");
    assert!(matches!(told[0].decision, Decision::Refuse(_)), "{told:?}");
    w.ok(lease);
    w.conserved();
}

/// One that fits to the nanosecond is let wait, and goes in time; a millisecond less is too little.
#[test]
fn a_forecast_that_just_meets_the_deadline_is_believed() {
    for (less, waits) in [(0, true), (MS, false)] {
        let mut w = one_a_second();
        w.wait(60.0);
        let (ticket, forecast) = w.wait(60.0);
        w.policy.cancel(w.now(), ticket);
        let ask = Ask { deadline_mono_ns: forecast - less, ..w.ask(0.0) };
        match w.submit(ask) {
            Decision::Wait { ticket, .. } => {
                assert!(waits);
                let mut woken = w.until_woken();
                if woken[0].ticket != ticket {
                    woken = w.until_woken();
                }
                assert!(woken[0].ticket == ticket && w.ns <= forecast, "{woken:?}");
                assert!(matches!(woken[0].decision, Decision::Go(_)), "{woken:?}");
            }
            Decision::Refuse(_) => assert!(!waits),
            other @ Decision::Go(_) => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_burst_on_a_cold_slot_is_served_and_experience_refuses_what_is_hopeless() {
    // One call at a time, of 50 ms each; all of a burst of ten fit into two seconds.
    let mut w = World::new(fleet(1, &[slots(1)]));
    for burst in 0..3 {
        let mut lease = w.go();
        for _ in 0..9 {
            w.wait(2.0);
        }
        for _ in 0..9 {
            w.pass(0.05);
            w.ok(lease);
            let woken = w.poll();
            assert_eq!(woken.len(), 1, "burst {burst}");
            lease = let_out(woken);
        }
        w.pass(0.05);
        w.ok(lease);
    }
    // By now it is known: the hundredth in line comes too late for its two seconds, and hears it at once.
    let lease = w.go();
    let line = (0..150).take_while(|_| {
        let ask = w.ask(2.0);
        matches!(w.submit(ask), Decision::Wait { .. })
    });
    let line = line.count();
    assert!((40..=90).contains(&line), "{line}");
    w.ok(lease);
}

#[test]
fn before_anything_is_known_of_slots_only_the_deadline_refuses() {
    let mut w = World::new(fleet(1, &[slots(1)]));
    let _lease = w.go();
    let deadline = w.ns + 2 * SECOND;
    for _ in 0..50 {
        w.wait(2.0);
    }
    let woken = w.until_woken();
    assert_eq!((w.ns, woken.len()), (deadline, 50));
    assert!(woken.iter().all(|woken| matches!(woken.decision, Decision::Refuse(_))));
}

#[test]
fn a_later_refusal_upstream_ends_a_wait_that_has_become_hopeless() {
    let mut w = one_a_second();
    let (_, _) = w.wait(5.0);
    w.pass(1.2);
    let lease = let_out(w.poll());
    w.wait(4.0);
    w.fail(lease, limited(LimitScope::Account, Some(60.0)));
    let woken = w.until_woken();
    assert!(
        woken
            .iter()
            .all(|x| matches!(&x.decision, Decision::Refuse(r) if r.retry_after_ns.unwrap() > 50 * SECOND))
    );
    assert!(w.ns < 1_000 * SECOND + 2 * SECOND, "at once, not at the deadline");
    w.conserved();
}

#[test]
fn a_refused_attempt_comes_back_to_its_old_place() {
    let mut w = one_a_second();
    w.pass(1.1);
    let lease = w.go();
    let (second, _) = w.wait(30.0);
    let crate::Next::Wait { ticket: first, .. } = w.fail(lease, limited(LimitScope::Account, Some(3.0)))
    else {
        panic!()
    };
    assert_eq!(order(&mut w), [first, second]);
}

#[test]
fn classes_are_strict_and_clients_take_turns() {
    let mut w = one_a_second();
    let ask = |w: &World, client, class| Ask { client: ClientId(client), class, ..w.ask(60.0) };
    let enter = |w: &mut World, client, class| {
        let a = ask(w, client, class);
        enter(w, a)
    };
    let low = enter(&mut w, 1, Priority::Low);
    let flood: Vec<Ticket> = (0..4).map(|_| enter(&mut w, 1, Priority::Normal)).collect();
    let late = [enter(&mut w, 2, Priority::Normal), enter(&mut w, 2, Priority::Normal)];
    let high = enter(&mut w, 3, Priority::High);
    let out = order(&mut w);
    assert_eq!(out, [high, flood[0], late[0], flood[1], late[1], flood[2], flood[3], low]);
}

#[test]
fn a_client_with_twice_the_weight_gets_twice_the_turns() {
    let mut w = one_a_second();
    let mut tickets = Vec::new();
    for i in 0..12 {
        let (client, weight) = if i % 2 == 0 { (1, 1.0) } else { (2, 2.0) };
        let ask = Ask { client: ClientId(client), weight, ..w.ask(60.0) };
        tickets.push((enter(&mut w, ask), client));
    }
    let out = order(&mut w);
    let heavy = out[..6].iter().filter(|t| tickets.iter().any(|(x, c)| x == *t && *c == 2)).count();
    assert_eq!(heavy, 4);
}

#[test]
fn a_blocked_route_does_not_block_another() {
    let mut f = fleet(1, &[bucket(Dimension::Requests, 1.0, 0.01)]);
    f.providers.push(provider(1));
    add_account(&mut f, 1, 1, vec![bucket(Dimension::Requests, 1.0, 1.0)]);
    f.routes.push(route(1, &[&[1]]));
    let mut w = World::new(f);
    let other = |w: &World| Ask { to: Destination::Route(RouteId(1)), ..w.ask(200.0) };
    let _in_flight = w.go();
    let a = other(&w);
    w.submit(a);
    let (stuck, _) = w.wait(200.0);
    let a = other(&w);
    let free = enter(&mut w, a);
    assert_eq!(order(&mut w), [free, stuck]);
}

#[test]
fn a_large_request_is_not_starved_by_small_ones() {
    let mut w = World::new(fleet(1, &[bucket(Dimension::TotalTokens, 1_000.0, 100.0)]));
    let sized = |w: &World, tokens, client| Ask {
        size: Size { body_bytes: 0, wide: false, input_tokens: tokens, output_tokens_max: Some(0) },
        client: ClientId(client),
        ..w.ask(60.0)
    };
    let a = sized(&w, 900, 0);
    let Decision::Go(lease) = w.submit(a) else { panic!() };
    w.policy.finish(w.now(), lease, outcome(crate::End::Done));
    let a = sized(&w, 1_000, 1);
    let large = enter(&mut w, a);
    let start = w.ns;
    let mut answered = None;
    for i in 0..200u32 {
        w.pass(0.1);
        let a = sized(&w, 20, 2 + u64::from(i));
        if let Decision::Go(lease) = w.submit(a) {
            w.policy.finish(w.now(), lease, outcome(crate::End::Done));
        }
        for woken in w.poll() {
            if woken.ticket == large {
                answered = Some(w.ns - start);
            }
            if let Decision::Go(lease) = woken.decision {
                w.policy.finish(w.now(), lease, outcome(crate::End::Done));
            }
        }
        if answered.is_some() {
            break;
        }
    }
    let after = answered.expect("it was let out");
    assert!(after < 10 * SECOND, "nine seconds of refill: {after}");
}

#[test]
fn a_large_head_saves_up_on_one_account_and_small_ones_use_the_other() {
    let mut w = World::new(fleet(2, &[bucket(Dimension::TotalTokens, 1_000.0, 10.0)]));
    let sized = |w: &World, tokens| Ask {
        size: Size { body_bytes: 0, wide: false, input_tokens: tokens, output_tokens_max: Some(0) },
        ..w.ask(200.0)
    };
    for _ in 0..2 {
        let a = sized(&w, 700);
        assert!(matches!(w.submit(a), Decision::Go(_)));
    }
    let a = sized(&w, 900);
    let large = enter(&mut w, a);
    let a = sized(&w, 100);
    let small = enter(&mut w, a);
    let woken = w.poll();
    assert_eq!(woken.len(), 1, "the small one goes at once, to the account where nobody saves up");
    assert_eq!(woken[0].ticket, small);
    let start = w.ns;
    let woken = w.until_woken();
    assert_eq!(woken[0].ticket, large);
    assert!(w.ns - start < 61 * SECOND, "600 tokens at 10 a second: not delayed by the small one");
}

#[test]
fn the_room_is_bounded_in_every_way() {
    let mut f = fleet(1, &[bucket(Dimension::Requests, 1.0, 0.1)]);
    f.settings.room.waiters_max = 3;
    f.settings.room.per_client_max = 2;
    f.settings.room.bytes_max = 1_000;
    f.settings.room.per_route_max = 3;
    let mut w = World::new(f);
    let _in_flight = w.go();
    let ask = |w: &World, client, bytes| Ask {
        client: ClientId(client),
        size: Size { body_bytes: bytes, ..w.ask(0.0).size },
        ..w.ask(500.0)
    };
    let full = |w: &mut World, client, bytes| {
        let a = ask(w, client, bytes);
        match w.submit(a) {
            Decision::Refuse(r) => {
                assert!(r.retry_after_ns.is_some());
                assert_eq!(r.kind, RefusalKind::RoomFull);
                true
            }
            Decision::Wait { .. } => false,
            Decision::Go(_) => panic!(),
        }
    };
    assert!(!full(&mut w, 1, 100) && !full(&mut w, 1, 100) && full(&mut w, 1, 100), "two of one client");
    assert!(full(&mut w, 2, 900), "bytes");
    assert!(!full(&mut w, 2, 100) && full(&mut w, 3, 100), "three in all");
}

#[test]
fn who_goes_away_leaves_at_once_and_late_cancels_are_no_error() {
    let mut w = one_a_second();
    let (a, _) = w.wait(30.0);
    let (b, _) = w.wait(30.0);
    w.policy.cancel(w.now(), a);
    w.policy.cancel(w.now(), a);
    assert_eq!(w.policy.waiting(), 1);
    w.pass(1.1);
    let woken = w.poll();
    assert_eq!(woken[0].ticket, b);
    let lease = let_out(woken);
    w.policy.cancel(w.now(), b);
    w.ok(lease);
    w.conserved();
    assert_eq!(w.policy.view(w.now()).totals.cancelled, 1);
}

#[test]
fn draining_refuses_new_and_waiting_and_lets_what_is_in_flight_end() {
    let mut w = World::new(fleet(1, &[slots(1)]));
    let lease = w.go();
    let (ticket, _) = w.wait(30.0);
    w.policy.drain(w.now());
    assert_eq!(w.policy.next_wake(), Some(w.ns));
    let woken = w.poll();
    assert_eq!(woken[0].ticket, ticket);
    assert!(matches!(&woken[0].decision, Decision::Refuse(r) if r.kind == RefusalKind::Draining));
    assert_eq!(w.refused(9.0).kind, RefusalKind::Draining);
    w.ok(lease);
    w.conserved();
}

#[test]
fn waiters_survive_a_new_configuration_and_a_route_that_is_gone_refuses_them() {
    let mut f = fleet(1, &[slots(1)]);
    f.routes.push(route(1, &[&[0]]));
    let mut w = World::new(f.clone());
    let lease = w.go();
    let (stays, _) = w.wait(60.0);
    let ask = Ask { to: Destination::Route(RouteId(1)), ..w.ask(60.0) };
    let goes = enter(&mut w, ask);
    f.routes.pop();
    add_account(&mut f, 0, 1, vec![]);
    w.policy.reconfigure(w.now(), f);
    let mut woken = w.until_woken();
    woken.sort_by_key(|x| x.ticket != stays);
    assert!(matches!(woken[0].decision, Decision::Go(_)), "the new account has room");
    assert_eq!(woken[1].ticket, goes);
    assert!(matches!(&woken[1].decision, Decision::Refuse(r) if r.kind == RefusalKind::NoKey));
    w.ok(lease);
    w.conserved();
}

#[test]
fn who_is_pushed_past_a_deadline_hears_of_it_at_once() {
    let mut w = one_a_second();
    let ask = |w: &World, client| Ask { client: ClientId(client), ..w.ask(6.5) };
    let flood: Vec<Ticket> = (0..6)
        .map(|_| {
            let a = ask(&w, 1);
            enter(&mut w, a)
        })
        .collect();
    let a = ask(&w, 2);
    enter(&mut w, a);
    let woken = w.poll();
    assert_eq!(woken.len(), 1, "the last of who has most");
    assert_eq!(woken[0].ticket, flood[5]);
    let Decision::Refuse(refusal) = &woken[0].decision else { panic!() };
    assert!(refusal.retry_after_ns.unwrap() > 6 * SECOND);
    assert_eq!(order(&mut w).len(), 6);
}

#[test]
fn who_comes_back_does_not_push_another_of_its_client_past_its_deadline() {
    let mut w = one_a_second();
    let places: Vec<Ticket> = (0..4).map(|_| w.wait(20.0).0).collect();
    // The fifth is told five seconds, and will come back to its place.
    let size = Size { body_bytes: 7, ..w.ask(0.0).size };
    let comes_back = |w: &World, wait_s| Ask { size, ..w.ask(wait_s) };
    let back = comes_back(&w, 1.0);
    let Decision::Refuse(refusal) = w.submit(back) else { panic!() };
    let at = w.ns + refusal.retry_after_ns.unwrap();
    // Another has two and a half seconds to spare, until two of a higher class come.
    w.policy.cancel(w.now(), places[3]);
    w.wait(6.5);
    for _ in 0..2 {
        let high = Ask { class: Priority::High, ..w.ask(20.0) };
        enter(&mut w, high);
    }
    let mut let_out = 0;
    while w.policy.waiting() > 0 {
        for woken in w.until_woken() {
            let Decision::Go(lease) = woken.decision else { panic!("{:?}", woken.decision) };
            w.ok(lease);
            let_out += 1;
        }
        if let_out == 5 && w.ns < at {
            w.ns = at;
            let back = comes_back(&w, 20.0);
            enter(&mut w, back);
        }
    }
    assert_eq!(let_out, 7);
}
