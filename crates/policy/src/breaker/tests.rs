use super::*;
use crate::fleet::Settings;

fn settings() -> BreakerSettings {
    Settings::default().breaker
}

#[test]
fn one_failure_of_one_request_opens_nothing() {
    let (mut b, mut rng) = (Breaker::default(), Rng::new(1));
    assert_eq!(b.failure(SECOND, 0, &settings(), &mut rng), None);
    assert_eq!(b.failure(2 * SECOND, 0, &settings(), &mut rng), None);
    assert!(b.failure(3 * SECOND, 0, &settings(), &mut rng).is_some(), "the third of three does");
}

#[test]
fn a_few_failures_among_many_successes_open_nothing() {
    let (mut b, mut rng, s) = (Breaker::default(), Rng::new(1), settings());
    let start = 1_000 * SECOND;
    // Successes before the first failure count, although there was no window then.
    for i in 0..100 {
        b.success(start + i * 100 * MS, start, &s);
    }
    for i in 0..4 {
        assert_eq!(b.failure(start + 11 * SECOND + i * SECOND, start, &s, &mut rng), None);
    }
    assert_eq!(b.totals(start + 15 * SECOND, &s), (4, 104));
    // The fifth in a row, spanning a second: open.
    assert!(b.failure(start + 15 * SECOND, start, &s, &mut rng).is_some());
}

#[test]
fn success_resets_the_run_but_not_the_window() {
    let (mut b, mut rng) = (Breaker::default(), Rng::new(1));
    let s = BreakerSettings { failures_min: 100, ..settings() };
    for i in 0..40 {
        assert_eq!(b.failure(i * SECOND, 0, &s, &mut rng), None, "never five in a row");
        if i % 4 == 3 {
            b.success(i * SECOND, 0, &s);
        }
    }
    assert_eq!(b.totals(40 * SECOND, &s), (40, 50));
}

#[test]
fn the_seeds_three_errors_in_a_minute_and_n_in_a_row_are_settings() {
    let s = BreakerSettings { failures_min: 3, failure_ratio: 0.0, consecutive: 0, ..settings() };
    let (mut b, mut rng) = (Breaker::default(), Rng::new(1));
    for i in 0..1_000 {
        b.success(i * 10 * MS, 0, &s);
    }
    assert_eq!(b.failure(11 * SECOND, 0, &s, &mut rng), None);
    assert_eq!(b.failure(12 * SECOND, 0, &s, &mut rng), None);
    assert!(b.failure(13 * SECOND, 0, &s, &mut rng).is_some());
    let s = BreakerSettings { failures_min: u32::MAX, consecutive: 2, consecutive_span_ns: 0, ..settings() };
    let mut b = Breaker::default();
    assert_eq!(b.failure(11 * SECOND, 0, &s, &mut rng), None);
    assert!(b.failure(12 * SECOND, 0, &s, &mut rng).is_some());
}

#[test]
fn failures_slide_out_of_the_window() {
    let (mut b, mut rng, s) = (Breaker::default(), Rng::new(1), settings());
    b.failure(0, 0, &s, &mut rng);
    b.failure(SECOND, 0, &s, &mut rng);
    b.success(2 * SECOND, 0, &s);
    assert_eq!(b.totals(59 * SECOND, &s), (2, 3));
    assert_eq!(b.totals(60 * SECOND, &s), (1, 2));
    assert_eq!(b.failure(62 * SECOND, 0, &s, &mut rng), None, "alone in its minute");
}

#[test]
fn failures_within_a_tenth_of_a_second_are_one() {
    let (mut b, mut rng, s) = (Breaker::default(), Rng::new(1), settings());
    for i in 0..50 {
        assert_eq!(b.failure(SECOND + i * MS, 0, &s, &mut rng), None);
    }
    assert_eq!(b.totals(SECOND, &s), (1, 1));
}

#[test]
fn five_at_once_do_not_count_as_five_in_a_row_over_time() {
    let (mut b, mut rng) = (Breaker::default(), Rng::new(1));
    let s = BreakerSettings { failures_min: 100, ..settings() };
    for i in 0..5 {
        assert_eq!(b.failure(SECOND + i * 150 * MS, 0, &s, &mut rng), None, "span below a second");
    }
    assert!(b.failure(2 * SECOND, 0, &s, &mut rng).is_some());
}

#[test]
fn half_open_lets_one_out_and_the_cool_down_doubles_up_to_its_cap() {
    let (mut b, mut rng, s) = (Breaker::default(), Rng::new(1), settings());
    let mut until = b.trip(0, &s, &mut rng);
    let mut last = until;
    for _ in 0..8 {
        assert_eq!(b.pass(until - 1), Pass::Shut { until, soft: false });
        assert_eq!(b.pass(until), Pass::Probe);
        b.begin_probe();
        assert!(matches!(b.pass(until + 1), Pass::Shut { soft: true, .. }));
        let next = b.probe_failed(until, &s, &mut rng);
        let wait = next - until;
        assert!(wait <= s.cooldown_max_ns && (wait as f64) >= (last as f64 * 1.5).min(54.0 * SECOND as f64));
        (last, until) = (wait, next);
    }
    b.begin_probe();
    assert!(b.probe_ok(until));
    assert_eq!(b.pass(until), Pass::Open);
}

#[test]
fn what_was_sent_before_a_transition_does_not_count_after_it() {
    let (mut b, mut rng, s) = (Breaker::default(), Rng::new(1), settings());
    let until = b.trip(10 * SECOND, &s, &mut rng);
    b.success(11 * SECOND, 9 * SECOND, &s);
    assert!(b.is_open(11 * SECOND), "an old success closes nothing");
    b.begin_probe();
    b.probe_ok(until);
    for i in 0..10 {
        assert_eq!(b.failure(until + i * SECOND, 9 * SECOND, &s, &mut rng), None, "old failures");
    }
    assert_eq!(b.totals(until + 10 * SECOND, &s), (0, 0));
}

#[test]
fn slow_start_ends_by_requests_and_time_whichever_is_later() {
    let (mut b, s) = (Breaker::default(), settings());
    b.probe_ok(0);
    assert!(b.ramp(0) < 0.2);
    for _ in 0..20 {
        b.success(SECOND, 0, &s);
    }
    assert!(b.ramp(SECOND) < 0.2, "requests alone are not enough");
    assert!((b.ramp(30 * SECOND) - 1.0).abs() < 1e-9);
    let mut b = Breaker::default();
    b.probe_ok(0);
    assert!(b.ramp(15 * SECOND) < 0.2 && b.ramp(30 * SECOND) < 0.6, "time alone is not enough");
    assert!((b.ramp(45 * SECOND) - 1.0).abs() < 1e-9, "unless hardly anything comes");
}

#[test]
fn forgiving_takes_back_one_failure() {
    let (mut b, mut rng, s) = (Breaker::default(), Rng::new(1), settings());
    b.failure(SECOND, 0, &s, &mut rng);
    b.failure(2 * SECOND, 0, &s, &mut rng);
    b.forgive(2 * SECOND, &s);
    assert_eq!((b.totals(2 * SECOND, &s), b.run()), ((1, 1), 1));
}

#[test]
fn who_failed_is_suspect_for_a_quarter_of_a_second_or_until_something_goes_well() {
    let (mut b, mut rng, s) = (Breaker::default(), Rng::new(1), settings());
    assert!(!b.is_suspect(SECOND));
    assert_eq!(b.failure(SECOND, 0, &s, &mut rng), None);
    assert!(b.is_suspect(SECOND) && b.is_suspect(SECOND + 249 * MS));
    assert!(!b.is_suspect(SECOND + 250 * MS), "and then it is asked again");
    assert_eq!(b.failure(2 * SECOND, 0, &s, &mut rng), None);
    b.success(2 * SECOND + MS, SECOND, &s);
    assert!(!b.is_suspect(2 * SECOND + 2 * MS));
}
