//! Providers that say nonsense: none of it takes a key away for longer than finding out takes.

use super::harness::*;
use crate::Decision;
use crate::fleet::Dimension;
use crate::outcome::{Evidence, LimitScope, Measurement, Sign};
use crate::saved::{Saved, SavedAccount, SavedLimit, SavedMeter};
use crate::time::{DAY, MINUTE};

fn says(limit: Option<f64>, remaining: Option<f64>, reset_ns: Option<u64>) -> Measurement {
    Measurement {
        dimension: Dimension::Requests,
        daily: false,
        account_wide: true,
        limit,
        remaining,
        rounding: 1.0,
        reset_ns,
        reset_means_full: true,
    }
}

/// Whether somebody who may wait for so long goes now or later.
fn goes_within(w: &mut World, wait_s: f64) -> bool {
    let ask = w.ask(wait_s);
    !matches!(w.submit(ask), Decision::Refuse(_))
}

#[test]
fn headers_that_make_no_sense_shut_a_limit_for_a_day_at_the_most() {
    let (day_s, nonsense) = (86_400.0, [f64::NAN, f64::INFINITY, -5.0, 0.0, 1e30]);
    for reset_ns in [None, Some(0), Some(u64::MAX), Some(200 * 365 * DAY)] {
        for limit in nonsense.into_iter().chain([10.0]).map(Some) {
            for remaining in nonsense.map(Some) {
                for (daily, full) in [(false, true), (false, false), (true, true)] {
                    let m = Measurement { daily, reset_means_full: full, ..says(limit, remaining, reset_ns) };
                    let mut w = World::new(fleet(1, &[]));
                    let lease = w.go();
                    w.policy.head(w.now(), &lease, &[m]);
                    w.ok(lease);
                    assert!(goes_within(&mut w, 1.1 * day_s), "{m:?}");
                }
            }
        }
    }
}

#[test]
fn a_refusal_until_the_year_9999_is_probed_and_believed_for_a_month_at_the_most() {
    for (sign, scope) in [
        (limited(LimitScope::Account, None), "account"),
        (limited(LimitScope::Key, None), "key"),
        (limited(LimitScope::Unknown, None), "unknown"),
        (evidence(Sign::KeyCap, Some(403)), "cap"),
        (evidence(Sign::NoMoney, Some(402)), "money"),
    ] {
        let mut w = World::new(fleet(1, &[]));
        let lease = w.go();
        w.fail(lease, Evidence { retry_after_ns: Some(u64::MAX), ..sign });
        let refused = w.refused(0.0).retry_after_ns;
        assert!(refused.is_none_or(|after| after <= 32 * DAY), "{scope}: {refused:?}");
        let mut waited_ns = 0;
        while !matches!(
            {
                let ask = w.ask(0.0);
                w.submit(ask)
            },
            Decision::Go(_)
        ) {
            w.pass(60.0);
            waited_ns += MINUTE;
            assert!(waited_ns <= 70 * MINUTE, "{scope}: nobody finds out that it was nonsense");
        }
    }
}

#[test]
fn saved_levels_that_make_no_sense_shut_nothing() {
    let limit = |meter, shut| SavedLimit {
        key: None,
        dimension: Dimension::Requests,
        daily: false,
        models: Vec::new(),
        learned: true,
        from_refusals: true,
        meter,
        shut_until_unix_ns: shut,
    };
    let bucket = |capacity, rate, level| SavedMeter::Bucket { capacity, rate, level };
    let window = |limit, period_ns, used, end_unix_ns| SavedMeter::Window {
        limit,
        period_ns,
        used,
        end_unix_ns,
        by_clock: false,
    };
    for (meter, shut) in [
        (bucket(10.0, 1.0, -1e308), None),
        (bucket(1e308, 1e308, 0.0), None),
        (bucket(10.0, 0.0, 0.0), None),
        (bucket(-1.0, -1.0, -1.0), None),
        (window(10.0, MINUTE, 1e308, u64::MAX), None),
        (window(10.0, u64::MAX, 10.0, u64::MAX), None),
        (SavedMeter::Slots { limit: 0 }, None),
        (SavedMeter::Open, Some(u64::MAX)),
    ] {
        for from_refusals in [true, false] {
            let mut w = World::new(fleet(1, &[]));
            let view = w.policy.view(w.now());
            let account = &view.providers[0].accounts[0];
            let saved = Saved {
                at_unix_ns: w.now().unix_ns,
                accounts: vec![SavedAccount {
                    provider: Box::from(&*view.providers[0].name),
                    account: Box::from(&*account.name),
                    also: Vec::new(),
                    shut_until_unix_ns: None,
                    limits: vec![SavedLimit { from_refusals, ..limit(meter, shut) }],
                }],
            };
            w.policy.resume(w.now(), &saved);
            assert!(goes_within(&mut w, 360.0), "{meter:?} {shut:?} {from_refusals}");
        }
    }
}
