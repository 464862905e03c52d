//! What answers say about limits. A header measures some instant between sending the request and receiving the head;
//! our own charges and the refill in between explain an interval of values. Inside it nothing changes; below it,
//! somebody else uses the account, and the level follows at once; above it, the level rises gradually.

use super::bucket::Bucket;
use super::domain::{Domain, Meter, Source};
use super::told::{Answer, Shape, Span};
use super::window::Window;
use crate::fleet::{Dimension, OutputCharge};
use crate::outcome::Measurement;
use crate::time::{DAY, MINUTE, Now, s_of};

/// The share of the gap by which a level rises when an answer says that more is left than the mirror holds.
const RISE: f64 = 0.1;
/// What is left of a limit, as a share of it, where a refusal is explained by what our mirror missed.
const SLACK: f64 = 0.05;
/// A stated time in which so much of a limit comes back is that limit's own.
const OWN_CLOCK: f64 = 0.25;
/// The share by which a refill may differ from what its rate says.
const DRIFT: f64 = 0.02;

/// The meter of a limit that nobody declared. `None` where the answer does not say its size.
pub(crate) fn meter(now: Now, m: &Measurement) -> Option<Meter> {
    let limit = m.limit.filter(|l| *l > 0.0 && l.is_finite())?;
    if m.dimension == Dimension::Concurrent {
        return Some(Meter::Slots { limit: whole(limit), used: 0 });
    }
    if m.daily || (!m.reset_means_full && m.reset_ns.is_some()) {
        let usual = if m.daily { DAY } else { MINUTE };
        let mut w = Window::new(limit, usual.max(m.reset_ns.unwrap_or(0)), None);
        if let Some(reset) = m.reset_ns {
            w.align(now, reset, w.period_ns);
        }
        return Some(Meter::Window(w));
    }
    Some(Meter::Bucket(Bucket::new(limit, limit / 60.0, now.mono_ns)))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the range first")]
fn whole(n: f64) -> u32 {
    n.clamp(0.0, f64::from(u32::MAX)) as u32
}

/// Whether a measurement speaks of this domain: the same dimension and period, and the same size where one is said
/// (a learned domain follows the size that is said).
pub(crate) fn concerns(domain: &Domain, m: &Measurement) -> bool {
    domain.learner.is_none()
        && domain.dimension == m.dimension
        && domain.daily == m.daily
        && (domain.source == Source::Learned
            || m.limit.is_none_or(|l| (l - domain.size()).abs() <= 0.01 * domain.size()))
}

/// What had gone through a domain when a request was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Before {
    /// All that was taken, the request's own included, and all that was given back.
    pub(crate) taken: f64,
    pub(crate) returned: f64,
    /// Of what was taken: for the request itself, and for those just before it, which it may have overtaken.
    pub(crate) own: f64,
    pub(crate) ahead: f64,
}

/// Applies a measurement by an answer whose request was sent at `sent_ns`. Tells whether the limit's size changed.
pub(crate) fn apply(domain: &mut Domain, now: Now, m: &Measurement, sent_ns: u64, before: Before) -> bool {
    if domain.measured_sent_ns.is_some_and(|last| sent_ns < last) {
        return false;
    }
    let first = domain.measured_sent_ns.is_none() && domain.source == Source::Learned;
    let resized = domain.source == Source::Learned && resize(domain, now, m);
    if domain.source == Source::Learned {
        if domain.daily || !m.reset_means_full {
            refine(domain, now, m);
        } else if !reshape(domain, now, m, sent_ns, before.taken) {
            return resized;
        }
    }
    let since = domain.measured_sent_ns.replace(sent_ns).map_or(0, |last| sent_ns.saturating_sub(last));
    let Some(left) = m.remaining.filter(|r| *r >= 0.0) else { return resized };
    let taken = (domain.taken - before.taken).max(0.0);
    let returned = (domain.returned - before.returned).max(0.0);
    let size = domain.size();
    let (level, refill, drift) = match &domain.meter {
        Meter::Bucket(b) => {
            let refill = b.rate * s_of(now.mono_ns.saturating_sub(sent_ns));
            (b.level(now.mono_ns), refill, DRIFT * b.rate * s_of(since))
        }
        Meter::Window(_) => (domain.level(now), 0.0, 0.0),
        Meter::Slots { .. } | Meter::Open => return resized,
    };
    // Counts are cut off to whole ones, and those of a window are whole; larger steps are rounded either way.
    let below = if m.rounding > 1.0 { m.rounding } else { 0.0 };
    let above = if matches!(domain.meter, Meter::Window(_)) { below } else { m.rounding };
    // Tokens that are reserved are charged only as they come, at some providers: they explain a lower mirror.
    let reserved = if domain.dimension == Dimension::Requests { 0.0 } else { domain.open };
    // Less is left than this request needed: it may have been refused, and what it was to be charged is still there.
    let own = if left < before.own { before.own } else { 0.0 };
    let mut off = Span {
        low: left - below - taken - before.ahead - reserved - own - level,
        high: left + above + refill + returned - level,
    };
    let carried = (left + refill - taken + returned).min(size);
    // Only requests are charged what we think that they are: what was known of the offset of tokens is over with them.
    let mut certain = false;
    if domain.dimension == Dimension::Requests && domain.source == Source::Learned {
        let told = domain.told.get_or_insert_default();
        off = told.agree(off, drift);
        certain = told.is_certain();
    }
    let target = if first || off.high < 0.0 {
        // Who else uses the account may have done so all the time since.
        if certain { level + off.high } else { carried.min(level + off.high) }
    } else if off.low > 0.0 && domain.source == Source::Learned {
        // One that is declared is never lifted: what left before this one may arrive behind it, and is not counted yet.
        level + if certain { off.low } else { RISE * off.low }
    } else {
        return resized;
    };
    set_level(domain, now, target);
    let by = domain.level(now) - level;
    if let Some(told) = &mut domain.told {
        told.moved(by);
    }
    resized
}

/// Its tokens are charged by this rule: the level is what that rule's mirror holds, less what is in flight.
pub(crate) fn charged_by(domain: &mut Domain, now: Now, rule: OutputCharge) {
    if let Some(level) = domain.rules.as_mut().and_then(|rules| rules.adopt(rule)) {
        set_level(domain, now, level - domain.open);
    }
}

fn set_level(domain: &mut Domain, now: Now, level: f64) {
    let size = domain.size();
    match &mut domain.meter {
        Meter::Bucket(b) => b.set_level(now.mono_ns, level),
        Meter::Window(w) => w.set_used(now, size - level),
        Meter::Slots { .. } | Meter::Open => {}
    }
}

/// The size as stated now, where it differs.
fn resize(domain: &mut Domain, now: Now, m: &Measurement) -> bool {
    let Some(limit) = m.limit.filter(|l| *l > 0.0 && l.is_finite()) else { return false };
    if matches!(domain.meter, Meter::Open) || (limit - domain.size()).abs() <= 1e-9 * limit {
        return false;
    }
    match &mut domain.meter {
        Meter::Bucket(b) => {
            let rate = b.rate * limit / b.capacity.max(1e-9);
            b.resize(now.mono_ns, limit, rate);
        }
        Meter::Window(w) => w.limit = limit,
        Meter::Slots { limit: slots, .. } => *slots = whole(limit),
        Meter::Open => {}
    }
    true
}

/// Takes the shape that the answers agree on. False: this one speaks of a window that is over.
fn reshape(domain: &mut Domain, now: Now, m: &Measurement, sent: u64, taken_before: f64) -> bool {
    let (Some(left), Some(reset)) = (m.remaining.filter(|r| *r >= 0.0), m.reset_ns) else { return true };
    let (size, level, taken) = (domain.size(), domain.level(now), domain.taken - taken_before);
    let told = domain.told.get_or_insert_default();
    let rounding = m.rounding.max(1.0);
    let shape = told.hear(Answer { sent, now: now.mono_ns, used: size - left, rounding, reset });
    match (shape, &mut domain.meter) {
        (Shape::Bucket(rates), Meter::Bucket(b)) if !rates.holds(b.rate) => {
            // The middle, once it is known within a tenth.
            let rate = if rates.high < 1.1 * rates.low { rates.middle() } else { rates.low };
            b.resize(now.mono_ns, b.capacity, rate);
        }
        // Whichever it is: it is not whole later than was told.
        (Shape::Unknown, Meter::Bucket(b)) if b.rate < told.slowest() => {
            b.resize(now.mono_ns, b.capacity, told.slowest());
        }
        (Shape::Bucket(rates), meter @ Meter::Window(_)) => {
            let mut bucket = Bucket::new(size, rates.low, now.mono_ns);
            bucket.set_level(now.mono_ns, level);
            *meter = Meter::Bucket(bucket);
        }
        (Shape::Window { end, period, .. }, meter @ Meter::Bucket(_)) => {
            let mut window = Window::new(size, period, None);
            window.align(now, end.saturating_sub(now.mono_ns), period);
            window.set_used(now, size - level);
            *meter = Meter::Window(window);
            told.forget_offset();
        }
        (Shape::Window { end, period, fresh }, Meter::Window(w)) => {
            let latest = now.mono_ns.saturating_add(reset);
            if w.end(now).is_some_and(|running| latest < running.saturating_sub(w.period_ns / 2)) {
                return false;
            }
            // Where the mirror went over to this window by itself, it knows all that was sent since; an answer knows
            // nothing of what left before it and arrives behind it.
            let begun = |known: u64| (known + period).abs_diff(end.saturating_add(w.period_ns));
            let foreseen = w.end(now).is_some_and(|known| begun(known) <= period / 4);
            if end > now.mono_ns && (w.end(now), w.period_ns) != (Some(end), period) {
                w.align(now, end - now.mono_ns, period);
            }
            if fresh {
                told.forget_offset();
            }
            if fresh && !foreseen {
                w.set_used(now, size - (left - taken.max(0.0)));
            }
        }
        _ => {}
    }
    true
}

/// What a reset says where its meaning is certain: when a window ends. Instants in headers are known to a second at
/// best.
fn refine(domain: &mut Domain, now: Now, m: &Measurement) {
    let (Some(reset_ns), Meter::Window(w)) = (m.reset_ns, &mut domain.meter) else { return };
    let ends = w.end(now).map_or(0, |end| end - now.mono_ns);
    if ends.abs_diff(reset_ns) > 2 * crate::time::SECOND + w.period_ns / 100 {
        w.align(now, reset_ns, w.period_ns.max(reset_ns));
    }
}

/// A refusal that this limit may explain: it named it, or its level here is nearly used up. A request of this size
/// fits at the stated time, and not before. Only ever lowers. False: there was room here, it must have been another.
pub(crate) fn refused(domain: &mut Domain, now: Now, need: f64, named: bool, stated_ns: Option<u64>) -> bool {
    let (level, size) = (domain.level(now), domain.size());
    let spent = level < 2.0 * need + SLACK * size;
    let until = now.mono_ns.saturating_add(stated_ns.unwrap_or(0));
    // Whatever was known of how far the mirror is off, it was wrong.
    if let Some(told) = &mut domain.told {
        told.forget_offset();
    }
    match &mut domain.meter {
        Meter::Bucket(b) if b.rate > 0.0 && need <= b.capacity => {
            let back = b.rate * s_of(stated_ns.unwrap_or(0));
            // A long time is this limit's own; a short one, while much is left here, is a smaller limit's.
            let own = named && back >= need.max(OWN_CLOCK * size);
            if !spent && !own {
                return false;
            }
            if need - back < level {
                b.set_level(now.mono_ns, need - back);
            }
            // Without a time: as much as this request needs is missing.
            if stated_ns.is_none() {
                b.set_level(now.mono_ns, level.min(0.0));
            }
            true
        }
        Meter::Window(w) if spent && need <= w.limit => {
            // What is used up fits again long before the window's end: it is none, and its headers mean something else.
            let exact = stated_ns.is_some_and(|ns| ns % crate::time::SECOND != 0);
            let early = w.end(now).is_some_and(|end| until.saturating_add(w.period_ns / 4) < end);
            if domain.source == Source::Learned && exact && early && level < need {
                domain.meter = Meter::Open;
                return false;
            }
            if stated_ns.is_some() && w.used_until(now, w.limit, until) {
                return true;
            }
            w.set_used(now, w.limit);
            if domain.source == Source::Learned && w.end(now).is_none_or(|end| end < until) {
                w.align(now, until.saturating_sub(now.mono_ns), w.period_ns);
            }
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{AccountId, ModelSet};
    use crate::time::{MS, SECOND};

    fn at(s: f64) -> Now {
        let ns = crate::time::ns_of(s);
        Now { mono_ns: ns, unix_ns: 1_000 * DAY + ns }
    }

    fn says(remaining: f64) -> Measurement {
        Measurement {
            dimension: Dimension::Requests,
            daily: false,
            account_wide: false,
            limit: Some(600.0),
            remaining: Some(remaining),
            rounding: 1.0,
            reset_ns: None,
            reset_means_full: true,
        }
    }

    fn since((taken, returned): (f64, f64), own: f64) -> Before {
        Before { taken, returned, own, ahead: 0.0 }
    }

    fn answer(d: &mut Domain, now: Now, remaining: f64, sent: Now) {
        let before = (d.taken, d.returned);
        apply(d, now, &says(remaining), sent.mono_ns, since(before, 1.0));
    }

    fn learned(now: Now, m: &Measurement) -> Domain {
        let meter = meter(now, m).unwrap();
        Domain::new(AccountId(0), m.dimension, ModelSet::default(), Source::Learned, meter, 0)
    }

    #[test]
    fn the_first_answer_sets_the_level_and_our_own_charges_explain_the_next() {
        let mut d = learned(at(0.0), &says(100.0));
        apply(&mut d, at(0.0), &says(100.0), 0, since((0.0, 0.0), 1.0));
        assert!((d.level(at(0.0)) - 100.0).abs() < 1e-6);
        // Sent at 1 s (level 110); 20 more of ours go out before the head comes at 2 s saying 109.
        d.take(at(1.0), 1.0);
        let before = (d.taken, d.returned);
        for _ in 0..20 {
            d.take(at(1.5), 1.0);
        }
        let mirror = d.level(at(2.0));
        apply(&mut d, at(2.0), &says(109.0), at(1.0).mono_ns, since(before, 1.0));
        assert!((d.level(at(2.0)) - mirror).abs() < 1e-9, "explained by what is in flight");
    }

    #[test]
    fn a_stranger_lowers_the_level_at_once_and_a_surplus_raises_it_slowly() {
        let mut d = learned(at(0.0), &says(600.0));
        apply(&mut d, at(0.0), &says(600.0), 0, since((0.0, 0.0), 1.0));
        answer(&mut d, at(1.0), 50.0, at(1.0));
        assert!((d.level(at(1.0)) - 50.0).abs() < 1e-6);
        answer(&mut d, at(1.0), 401.0, at(1.0));
        let level = d.level(at(1.0));
        assert!((50.0..100.0).contains(&level), "{level}");
        // An answer to an older request says nothing about now.
        answer(&mut d, at(1.1), 1.0, at(0.5));
        assert!(d.level(at(1.1)) >= level);
    }

    #[test]
    fn reset_times_tell_how_fast_a_bucket_refills_and_when_a_window_ends() {
        let mut m = Measurement { reset_ns: Some(5 * SECOND), ..says(300.0) };
        let mut d = learned(at(0.0), &m);
        apply(&mut d, at(0.0), &m, 0, since((0.0, 0.0), 1.0));
        // One answer may be a window's, too; but whatever it is, it is whole after so long, give or take a second.
        let Meter::Bucket(b) = &d.meter else { panic!("a bucket") };
        assert!((b.rate - 299.0 / 6.0).abs() < 1e-9, "{}", b.rate);
        let more = Measurement { reset_ns: Some(6_500 * crate::time::MS), ..says(210.0) };
        apply(&mut d, at(0.1), &more, at(0.1).mono_ns, since((0.0, 0.0), 1.0));
        let Meter::Bucket(b) = &d.meter else { panic!("a bucket") };
        assert!((59.0..61.0).contains(&b.rate), "600 in ten seconds, not in a minute: {}", b.rate);
        m = Measurement { reset_means_full: false, ..m };
        let mut d = learned(at(0.0), &m);
        apply(&mut d, at(0.0), &Measurement { remaining: Some(0.0), ..m }, 0, since((0.0, 0.0), 1.0));
        assert_eq!(d.fit(at(1.0), 1.0, 0, (0, 0, 0)).at, 5 * SECOND);
    }

    /// A domain of 100 whose answers came 50 ms after they were sent, one each 20 ms, as a provider with `level` says.
    fn told(reset: impl Fn(u64) -> u64, level: impl Fn(u64) -> f64) -> Domain {
        let m = |ms: u64| Measurement {
            limit: Some(100.0),
            remaining: Some(level(ms).floor()),
            reset_ns: Some(reset(ms)),
            ..says(0.0)
        };
        let mut d = learned(at(3.0), &m(3_000));
        for ms in (3_000..3_400).step_by(20) {
            let sent = at(ms as f64 / 1e3);
            d.take(sent, 1.0);
            let before = (d.taken, d.returned);
            apply(&mut d, at((ms + 10) as f64 / 1e3), &m(ms), sent.mono_ns, since(before, 1.0));
        }
        d
    }

    #[test]
    fn a_window_that_is_told_like_a_bucket_gives_nothing_before_its_end_and_all_at_it() {
        let used = |ms: u64| ((ms - 3_000) / 20 + 1) as f64;
        let d = told(|ms| (10_000 - ms) * MS, |ms| 100.0 - used(ms));
        let now = at(3.4);
        assert!((d.level(now) - 80.0).abs() < 1.5, "{}", d.level(now));
        assert!((d.level(at(9.9)) - d.level(now)).abs() < 1e-9, "nothing comes back in between");
        let all = d.fit(now, 100.0, 0, (0, 0, 0)).at;
        assert!((10 * SECOND..10 * SECOND + SECOND / 10).contains(&all), "{all}");
        // The last answer of a window that is over says nothing of the next one.
        let mut d = d;
        let late =
            Measurement { limit: Some(100.0), remaining: Some(3.0), reset_ns: Some(20 * MS), ..says(0.0) };
        d.take(at(9.98), 1.0);
        let before = (d.taken, d.returned);
        apply(&mut d, at(10.2), &late, at(9.98).mono_ns, since(before, 1.0));
        assert!(d.level(at(10.2)) > 98.0, "{}", d.level(at(10.2)));
    }

    /// A window of 100 in ten seconds that was used up; it ends at 10 s, and forty go out at once.
    fn begun_anew() -> Domain {
        let used = |ms: u64| ((ms - 3_000) / 20 + 1) as f64;
        let mut d = told(|ms| (10_000 - ms) * MS, |ms| 100.0 - used(ms));
        set_level(&mut d, at(9.9), 0.0);
        for _ in 0..40 {
            d.just_taken(at(10.01));
            d.take(at(10.01), 1.0);
        }
        d
    }

    #[test]
    fn the_first_answer_of_a_window_that_was_foreseen_forgets_nothing_that_left_before_it() {
        let mut d = begun_anew();
        assert!((d.level(at(10.05)) - 60.0).abs() < 1e-9, "{}", d.level(at(10.05)));
        // The twentieth of them has overtaken the others.
        let m = Measurement {
            limit: Some(100.0),
            remaining: Some(99.0),
            reset_ns: Some(9_970 * MS),
            ..says(0.0)
        };
        let before = Before { taken: d.taken - 20.0, returned: 0.0, own: 1.0, ahead: 19.0 };
        apply(&mut d, at(10.05), &m, at(10.01).mono_ns, before);
        assert!((d.level(at(10.05)) - 60.0).abs() < 1e-9, "{}", d.level(at(10.05)));
        // Without those just before it, it would say that somebody gave nineteen back.
        apply(&mut d, at(10.05), &m, at(10.01).mono_ns, Before { ahead: 0.0, ..before });
        assert!(d.level(at(10.05)) > 60.5, "{}", d.level(at(10.05)));
    }

    #[test]
    fn a_window_has_whole_units_left() {
        let mut d = begun_anew();
        let m = Measurement { limit: Some(100.0), remaining: Some(59.0), ..says(0.0) };
        let before = Before { taken: d.taken, returned: 0.0, own: 1.0, ahead: 39.0 };
        apply(&mut d, at(10.05), &m, at(10.01).mono_ns, before);
        assert!((d.level(at(10.05)) - 59.0).abs() < 1e-9, "{}", d.level(at(10.05)));
    }

    #[test]
    fn what_is_used_up_and_fits_again_long_before_its_window_ends_is_no_window() {
        for (stated_ns, explained) in [(200 * MS, false), (9_500 * MS, true), (SECOND, true)] {
            let mut d = begun_anew();
            set_level(&mut d, at(10.05), 0.0);
            assert_eq!(refused(&mut d, at(10.05), 1.0, true, Some(stated_ns)), explained, "{stated_ns}");
            assert_eq!(matches!(d.meter, Meter::Open), !explained);
        }
    }

    #[test]
    fn answers_that_agree_lift_a_mirror_that_is_too_low_by_less_than_one_of_them_could_tell() {
        let full = |ms: u64| 50.0 - (ms - 3_000) as f64 / 20.0 * 0.8 - 1.0;
        let mut d = told(|ms| crate::time::ns_of((100.0 - full(ms)) / 10.0), full);
        let Meter::Bucket(b) = &d.meter else { panic!("a bucket") };
        assert!((9.0..11.0).contains(&b.rate), "{}", b.rate);
        let truth = full(3_380) + 0.2;
        assert!((d.level(at(3.4)) - truth).abs() < 1.0, "{} is not {truth}", d.level(at(3.4)));
        // Ten units are lost to the mirror; a few quiet answers bring them back.
        set_level(&mut d, at(3.4), truth - 10.0);
        d.told.as_mut().unwrap().forget_offset();
        for n in 0..8_u64 {
            let now = at(3.4 + n as f64 / 10.0);
            let before = (d.taken, d.returned);
            let left = (truth + n as f64).floor();
            let m = Measurement { limit: Some(100.0), ..says(left) };
            apply(&mut d, now, &m, now.mono_ns, since(before, 1.0));
        }
        assert!((d.level(at(4.1)) - truth - 7.0).abs() < 1.5, "{} {truth}", d.level(at(4.1)));
    }

    #[test]
    fn a_refusal_that_was_not_charged_does_not_lift_the_mirror_by_its_own_charge() {
        let nothing = Measurement { limit: Some(6.0), ..says(0.0) };
        let mut d = learned(at(0.0), &nothing);
        apply(&mut d, at(0.0), &nothing, 0, since((0.0, 0.0), 0.0));
        for n in 1..20 {
            let now = at(f64::from(n) * 0.01);
            let epoch = d.take(now, 1.0);
            // Its own charge is in the mirror, and not at the provider, who has nothing left.
            let before = (d.taken, d.returned);
            apply(&mut d, now, &nothing, now.mono_ns, since(before, 1.0));
            d.settle(now, epoch, 1.0, 0.0);
        }
        assert!(d.level(at(0.2)) < 0.5, "{}", d.level(at(0.2)));
    }

    #[test]
    fn a_named_refusal_makes_this_size_fit_at_the_stated_time() {
        let mut d = learned(at(0.0), &says(600.0));
        assert!(refused(&mut d, at(0.0), 100.0, true, Some(20 * SECOND)));
        assert!(d.fit(at(0.0), 100.0, 0, (0, 0, 0)).at.abs_diff(20 * SECOND) < SECOND / 10);
        assert!(refused(&mut d, at(0.0), 100.0, true, Some(5 * SECOND)), "a shorter time later");
        assert!(d.fit(at(0.0), 100.0, 0, (0, 0, 0)).at >= 20 * SECOND, "never shortens");
    }
}
