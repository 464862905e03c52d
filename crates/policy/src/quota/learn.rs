//! What answers say about limits. A header measures some instant between sending the request and receiving the head;
//! our own charges and the refill in between explain an interval of values. Inside it nothing changes; below it,
//! somebody else uses the account, and the level follows at once; above it, the level rises gradually.

use super::bucket::Bucket;
use super::domain::{Domain, Meter, Source};
use super::window::Window;
use crate::fleet::Dimension;
use crate::outcome::Measurement;
use crate::time::{DAY, MINUTE, Now, s_of};

/// The share of the gap by which a level rises when an answer says that more is left than the mirror holds.
const RISE: f64 = 0.1;
/// What is left of a limit, as a share of it, where a refusal is explained by what our mirror missed.
const SLACK: f64 = 0.05;
/// A stated time in which so much of a limit comes back is that limit's own.
const OWN_CLOCK: f64 = 0.25;

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
            w.align(now, reset);
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

/// Applies a measurement by an answer whose request was sent at `sent_ns`, when `before` = (taken, returned) had gone
/// through the domain. Tells whether the limit's size changed.
pub(crate) fn apply(
    domain: &mut Domain,
    now: Now,
    m: &Measurement,
    sent_ns: u64,
    before: (f64, f64),
) -> bool {
    if domain.measured_sent_ns.is_some_and(|last| sent_ns < last) {
        return false;
    }
    let first = domain.measured_sent_ns.is_none() && domain.source == Source::Learned;
    let resized = domain.source == Source::Learned && resize(domain, now, m);
    if domain.source == Source::Learned {
        refine(domain, now, m);
    }
    domain.measured_sent_ns = Some(sent_ns);
    let Some(left) = m.remaining.filter(|r| *r >= 0.0) else { return resized };
    let taken = (domain.taken - before.0).max(0.0);
    let returned = (domain.returned - before.1).max(0.0);
    let size = domain.size();
    let (level, refill) = match &domain.meter {
        Meter::Bucket(b) => (b.level(now.mono_ns), b.rate * s_of(now.mono_ns.saturating_sub(sent_ns))),
        Meter::Window(_) => (domain.level(now), 0.0),
        Meter::Slots { .. } | Meter::Open => return resized,
    };
    // Tokens that are reserved are charged only as they come, at some providers: they explain a lower mirror.
    let reserved = if domain.dimension == Dimension::Requests { 0.0 } else { domain.open };
    let low = left - taken - reserved - m.rounding;
    let high = left + refill + returned + m.rounding;
    let carried = (left + refill - taken + returned).min(size);
    let target = if first || level > high {
        carried.min(high)
    } else if level < low {
        level + RISE * (low - level)
    } else {
        return resized;
    };
    set_level(domain, now, target);
    resized
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
    if (limit - domain.size()).abs() <= 1e-9 * limit {
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

/// The stated reset tells how fast a bucket refills, or when a window ends. Instants in headers are known to a second
/// at best, and `remaining` to its rounding.
fn refine(domain: &mut Domain, now: Now, m: &Measurement) {
    let Some(reset_ns) = m.reset_ns else { return };
    match &mut domain.meter {
        Meter::Bucket(b) if m.reset_means_full => {
            let Some(left) = m.remaining else { return };
            let (used, off, reset) = (b.capacity - left, m.rounding.max(1.0), s_of(reset_ns));
            let slowest = (used - off) / (reset + 1.0);
            if slowest > b.rate {
                b.resize(now.mono_ns, b.capacity, slowest);
            } else if reset > 1.0 && (used + off) / (reset - 1.0) < b.rate {
                b.resize(now.mono_ns, b.capacity, (used + off) / (reset - 1.0));
            }
        }
        Meter::Window(w) => {
            let ends = w.end(now).map_or(0, |end| end - now.mono_ns);
            if ends.abs_diff(reset_ns) > 2 * crate::time::SECOND + w.period_ns / 100 {
                w.period_ns = w.period_ns.max(reset_ns);
                w.align(now, reset_ns);
            }
        }
        _ => {}
    }
}

/// A refusal that this limit may explain: it named it, or its level here is nearly used up. A request of this size
/// fits at the stated time, and not before. Only ever lowers. False: there was room here, it must have been another.
pub(crate) fn refused(domain: &mut Domain, now: Now, need: f64, named: bool, stated_ns: Option<u64>) -> bool {
    let (level, size) = (domain.level(now), domain.size());
    let spent = level < 2.0 * need + SLACK * size;
    let until = now.mono_ns.saturating_add(stated_ns.unwrap_or(0));
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
            w.set_used(now, w.limit);
            if domain.source == Source::Learned && w.end(now).is_none_or(|end| end < until) {
                w.align(now, until.saturating_sub(now.mono_ns));
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
    use crate::time::SECOND;

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

    fn answer(d: &mut Domain, now: Now, remaining: f64, sent: Now) {
        let before = (d.taken, d.returned);
        apply(d, now, &says(remaining), sent.mono_ns, before);
    }

    fn learned(now: Now, m: &Measurement) -> Domain {
        let meter = meter(now, m).unwrap();
        Domain::new(AccountId(0), m.dimension, ModelSet::default(), Source::Learned, meter, 0)
    }

    #[test]
    fn the_first_answer_sets_the_level_and_our_own_charges_explain_the_next() {
        let mut d = learned(at(0.0), &says(100.0));
        apply(&mut d, at(0.0), &says(100.0), 0, (0.0, 0.0));
        assert!((d.level(at(0.0)) - 100.0).abs() < 1e-6);
        // Sent at 1 s (level 110); 20 more of ours go out before the head comes at 2 s saying 109.
        d.take(at(1.0), 1.0);
        let before = (d.taken, d.returned);
        for _ in 0..20 {
            d.take(at(1.5), 1.0);
        }
        let mirror = d.level(at(2.0));
        apply(&mut d, at(2.0), &says(109.0), at(1.0).mono_ns, before);
        assert!((d.level(at(2.0)) - mirror).abs() < 1e-9, "explained by what is in flight");
    }

    #[test]
    fn a_stranger_lowers_the_level_at_once_and_a_surplus_raises_it_slowly() {
        let mut d = learned(at(0.0), &says(600.0));
        apply(&mut d, at(0.0), &says(600.0), 0, (0.0, 0.0));
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
        apply(&mut d, at(0.0), &m, 0, (0.0, 0.0));
        let Meter::Bucket(b) = &d.meter else { panic!("a bucket") };
        assert!((45.0..60.0).contains(&b.rate), "600 in ten seconds, not in a minute: {}", b.rate);
        m = Measurement { reset_means_full: false, ..m };
        let mut d = learned(at(0.0), &m);
        apply(&mut d, at(0.0), &Measurement { remaining: Some(0.0), ..m }, 0, (0.0, 0.0));
        assert_eq!(d.fit(at(1.0), 1.0, 0, (0, 0)).at, 5 * SECOND);
    }

    #[test]
    fn a_named_refusal_makes_this_size_fit_at_the_stated_time() {
        let mut d = learned(at(0.0), &says(600.0));
        assert!(refused(&mut d, at(0.0), 100.0, true, Some(20 * SECOND)));
        assert!(d.fit(at(0.0), 100.0, 0, (0, 0)).at.abs_diff(20 * SECOND) < SECOND / 10);
        assert!(refused(&mut d, at(0.0), 100.0, true, Some(5 * SECOND)), "a shorter time later");
        assert!(d.fit(at(0.0), 100.0, 0, (0, 0)).at >= 20 * SECOND, "never shortens");
    }
}
