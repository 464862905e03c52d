//! A limit that is known from its refusals alone. After a refusal nothing goes until the stated time (or a pause that
//! doubles); then one request goes first, and twice as many each time that nothing is refused. What the evidence says
//! by then (`shape`) becomes the limit's meter, and once that is proven it is enforced like any other: ahead of
//! sending. A limit that was never put to the test for long may have grown: it is raised a little, ever more rarely.

use super::bucket::Bucket;
use super::domain::Meter;
use super::estimate::Need;
use super::history::{COUNTED, History, column};
use super::shape::{self, Guess, Shape};
use super::window::Window;
use crate::fleet::Dimension;
use crate::rng::Rng;
use crate::time::{MS, Now, SECOND, ns_of};

/// The first pause where no time is stated, and the longest.
const PAUSE_NS: (u64, u64) = (SECOND, 60 * SECOND);
/// What was only learned shuts nobody out for longer than this after the last request: then one goes all the same.
const PROBE_NS: u64 = 120 * SECOND;
/// A limit is raised after so many requests that took the last of it, without a refusal; each refusal doubles that.
const PATIENCE: (f64, f64) = (8.0, 400.0);
/// By how much at first.
const RAISE: f64 = 0.02;
const RAISE_MAX: f64 = 0.5;
/// A bucket's rate falls no lower than this by one refusal after which it gave again.
const DECREASE: f64 = 0.9;
/// Of a window, not before so many were used up.
const WINDOWS_MIN: f64 = 16.0;

/// Lets out one, then two, then four: a step each time that nothing was refused for a while, up to half as much again
/// as had been let in before; from there on it goes slowly.
#[derive(Clone, Copy, Debug)]
struct Ramp {
    /// Nothing before this.
    from: u64,
    step_ns: u64,
    at_once: u32,
    left: u32,
    most: u32,
    /// Steps taken at the most.
    steps: u32,
}

/// A ramp that lets out more at once is none.
const RAMP_MAX: u32 = 1 << 12;
/// After so many steps at the most, it doubles.
const STEPS: u32 = 16;

impl Ramp {
    fn new(from: u64, step_ns: u64, most: u32) -> Self {
        Self { from, step_ns, at_once: 1, left: 1, most: most.max(2), steps: 0 }
    }

    /// Only shut until then.
    fn shut(from: u64) -> Self {
        Self { from, step_ns: 0, at_once: u32::MAX, left: u32::MAX, most: u32::MAX, steps: 0 }
    }

    /// One goes out.
    fn climb(&mut self, now: u64) {
        self.left -= 1;
        if self.left > 0 {
            return;
        }
        self.from = now.saturating_add(self.step_ns);
        if self.at_once < self.most {
            self.at_once = (self.at_once * 2).min(self.most);
        } else {
            self.steps += 1;
        }
        if self.steps == STEPS {
            (self.steps, self.most) = (0, self.most.saturating_mul(2));
        }
        self.left = self.at_once;
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Learner {
    pub(crate) history: History,
    guess: Option<Guess>,
    ramp: Option<Ramp>,
    strikes: u32,
    /// When one goes whatever the meter says.
    probe_at: Option<u64>,
    /// Taken since the limit was last refused or raised, and how often its size that must be.
    calm: f64,
    patience: f64,
    raise: f64,
}

impl Learner {
    pub(crate) fn new(history: History) -> Self {
        Self { history, patience: PATIENCE.0, raise: RAISE, ..Self::default() }
    }

    /// What another process had learned: its meter, and until when it was shut.
    pub(crate) fn resume(&mut self, now: Now, dimension: Dimension, meter: &Meter, shut_until: Option<u64>) {
        let shape = match meter {
            Meter::Bucket(b) => Some(Shape::Bucket { capacity: b.capacity, rate: b.rate }),
            Meter::Window(w) => Some(Shape::Window {
                limit: w.limit,
                period_ns: w.period_ns,
                end: 0,
                by_clock: w.anchor().is_some(),
            }),
            Meter::Slots { limit, .. } => Some(Shape::Slots { limit: *limit }),
            Meter::Open => None,
        };
        self.guess = shape.map(|shape| Guess { dimension, shape, proven: true });
        self.ramp = shut_until.map(|from| Ramp::new(from, SECOND / 10, 8));
        self.probe_at = Some(now.mono_ns.saturating_add(PROBE_NS).max(self.open_at()));
    }

    /// When the next may go, as far as the ramp says.
    pub(crate) fn open_at(&self) -> u64 {
        self.ramp.map_or(0, |r| r.from)
    }

    /// A learned limit promises nothing later than this, for then somebody finds out.
    pub(crate) fn no_later(&self, now: u64, at: u64) -> u64 {
        self.probe_at.map_or(at, |probe| at.min(probe.max(now)))
    }

    /// Whether what the meter says has been proven, so that somebody may be refused for it.
    pub(crate) fn is_proven(&self) -> bool {
        self.guess.is_some_and(|g| g.proven)
    }

    /// Shut until then, by the ramp.
    pub(crate) fn shut_until(&self, now: u64) -> Option<u64> {
        self.ramp.map(|r| r.from).filter(|from| *from > now)
    }

    /// A request goes out, and takes so much. Tells how many others are in flight.
    pub(crate) fn sent(&mut self, now: Now, need: &Need, amount: f64, meter: &mut Meter) -> u32 {
        if let Some(ramp) = &mut self.ramp {
            ramp.climb(now.mono_ns);
            if ramp.most > RAMP_MAX {
                self.ramp = None;
            }
        }
        let overdrawn = match &*meter {
            Meter::Bucket(b) => b.level(now.mono_ns) < 0.0,
            Meter::Window(w) => w.used(now) > w.limit + 1e-9,
            Meter::Slots { .. } | Meter::Open => false,
        };
        if overdrawn && self.probe_at.is_some_and(|probe| probe <= now.mono_ns) {
            // What is so long in coming back is not believed any more, unless this is refused, too.
            (self.guess, *meter) = (None, Meter::Open);
            self.ramp = Some(Ramp::new(now.mono_ns.saturating_add(SECOND), SECOND, 2));
        } else if self.guess.is_some() {
            self.raise(now, amount, meter);
        }
        self.probe_at = Some(now.mono_ns.saturating_add(PROBE_NS).max(self.open_at()));
        self.history.sent(now.mono_ns, need)
    }

    /// After long calm under pressure a limit may be larger than was thought, or have grown.
    fn raise(&mut self, now: Now, amount: f64, meter: &mut Meter) {
        match meter {
            Meter::Bucket(b) if b.level(now.mono_ns) < 2.0 * amount => {
                self.calm += 1.0;
                if self.calm >= self.patience {
                    self.calm = 0.0;
                    b.resize(now.mono_ns, b.capacity, b.rate * (1.0 + self.raise));
                    self.raise = (2.0 * self.raise).min(RAISE_MAX);
                }
            }
            Meter::Window(w) if w.used(now) + amount > w.limit => {
                self.calm += 1.0;
                if self.calm >= self.patience.max(WINDOWS_MIN) {
                    self.calm = 0.0;
                    w.limit += amount.max(w.limit * self.raise);
                    self.raise = (2.0 * self.raise).min(RAISE_MAX);
                }
            }
            Meter::Slots { limit, used } if *used >= *limit => {
                self.calm += 1.0;
                if self.calm >= self.patience * f64::from(*limit) {
                    self.calm = 0.0;
                    *limit += 1;
                }
            }
            _ => {}
        }
    }

    /// A refusal was heard of.
    pub(crate) fn refused(&mut self, now: Now, heard: &Heard<'_>, rng: &mut Rng) -> Lesson {
        let stated = heard.stated_ns.map(|ns| now.mono_ns.saturating_add(ns));
        // Whole seconds are rounded up.
        let earliest = |until: u64| if heard.whole_seconds { until.saturating_sub(SECOND) } else { until };
        let range = stated.map(|until| (earliest(until), until));
        let fresh = self.history.refused(heard.sent, now.mono_ns, heard.need, heard.beside, range);
        (self.calm, self.raise) = (0.0, RAISE);
        let probe_at = now.mono_ns.saturating_add(PROBE_NS).max(stated.unwrap_or(0));
        self.probe_at = self.probe_at.max(Some(probe_at));
        if !fresh {
            if let (Some(until), Some(ramp)) = (stated, &mut self.ramp) {
                ramp.from = ramp.from.max(until);
            }
            // Its charge came back, though the level that was set then did not count it.
            let counted = self.history.refusals.back().is_some_and(|first| heard.sent > first.sent);
            return if counted { Lesson::Nothing } else { Lesson::Uncounted };
        }
        self.patience = (self.patience * 2.0).min(PATIENCE.1);
        if self.history.recovered() {
            self.strikes = 0;
        }
        let named = heard.dimension.filter(|d| COUNTED.contains(d));
        let mut guess = match (heard.dimension, named) {
            (Some(Dimension::Concurrent), _) => Some(self.slots(heard)),
            (_, Some(d)) => shape::guess(&mut self.history, now, &[d]),
            (_, None) => shape::guess(&mut self.history, now, &COUNTED),
        };
        // What came back during a pause may have been more than the bucket holds: the rate was not that much lower.
        if let (Some(old), Some(new)) = (self.guess.map(|g| g.shape), &mut guess)
            && let (Shape::Bucket { rate: old, .. }, Shape::Bucket { rate, .. }) = (old, &mut new.shape)
            && self.strikes == 0
        {
            *rate = rate.max(DECREASE * old);
        }
        // What was known before this process saw anything is not given up for the first refusal.
        if guess.is_none() && self.guess.is_some_and(|g| g.proven) && self.history.refusals.len() == 1 {
            let pause = heard.stated_ns.unwrap_or(PAUSE_NS.0);
            let from = now.mono_ns.saturating_add(pause);
            self.ramp = Some(Ramp::new(from, SECOND / 10, 8));
            return Lesson::UsedUp;
        }
        let kind = |g: Option<Guess>| g.map(|g| std::mem::discriminant(&g.shape));
        if kind(guess) != kind(self.guess) {
            self.patience = PATIENCE.0;
        }
        self.guess = guess;
        let round_trip = now.mono_ns.saturating_sub(heard.sent);
        let step_ns = (2 * round_trip + 20 * MS).clamp(50 * MS, SECOND);
        let strikes = self.strikes.min(16);
        self.strikes += 1;
        if let Some(g) = guess.filter(|g| g.proven) {
            self.strikes = 0;
            self.ramp = stated.map(Ramp::shut);
            return Lesson::Limit(g.dimension, self.meter(now, &g, heard));
        }
        let first = match guess.map(|g| g.shape) {
            Some(Shape::Slots { .. }) => 2 * step_ns,
            Some(Shape::Bucket { rate, .. }) => {
                let need = heard.need.of(guess.map_or(Dimension::Requests, |g| g.dimension));
                ns_of(2.0 * need / rate).clamp(step_ns, PAUSE_NS.0)
            }
            _ => PAUSE_NS.0,
        };
        let pause = rng.jitter(first.saturating_mul(1 << strikes)).min(PAUSE_NS.1);
        let until = stated.unwrap_or_else(|| now.mono_ns.saturating_add(pause));
        self.ramp = Some(Ramp::new(until, step_ns, self.at_once(heard.sent, step_ns)));
        if let Some(g) = guess {
            return Lesson::Limit(g.dimension, self.meter(now, &g, heard));
        }
        Lesson::Limit(named.unwrap_or(Dimension::Requests), Meter::Open)
    }

    /// Half as much again as was let in before a refusal, in so long.
    fn at_once(&self, sent: u64, step_ns: u64) -> u32 {
        let let_in = self.history.before(sent)[0] - self.history.before(sent.saturating_sub(SECOND))[0];
        super::domain::whole(1.5 * let_in * crate::time::s_of(step_ns))
    }

    /// A limit of so many at a time was named: it is as large as it says, or as many as it had let in.
    fn slots(&self, heard: &Heard<'_>) -> Guess {
        let seen = self.history.refusals.back().map_or(heard.beside, |r| r.beside).max(1);
        let said = heard.size.filter(|size| (1.0..1e6).contains(size)).map(super::domain::whole);
        let shape = Shape::Slots { limit: said.unwrap_or(seen) };
        Guess { dimension: Dimension::Concurrent, shape, proven: true }
    }

    /// The meter of a limit that is known so well, as it stands right after a refusal.
    fn meter(&self, now: Now, guess: &Guess, heard: &Heard<'_>) -> Meter {
        let before = |at: u64| self.history.before(at)[column(guess.dimension)];
        match guess.shape {
            Shape::Slots { limit } => Meter::Slots { limit, used: self.history.in_flight().min(limit) },
            Shape::Bucket { capacity, rate } => {
                let mut b = Bucket::new(capacity, rate, now.mono_ns);
                let since = before(now.mono_ns + 1) - before(heard.sent + 1);
                b.set_level(now.mono_ns, rate * crate::time::s_of(now.mono_ns - heard.sent) - since);
                Meter::Bucket(b)
            }
            Shape::Window { limit, period_ns, end, by_clock } => {
                let mut w = Window::new(limit, period_ns, None);
                let end = if end > now.mono_ns {
                    end
                } else {
                    end + (now.mono_ns - end).div_ceil(period_ns).max(1) * period_ns
                };
                let over = heard.sent + period_ns < end;
                let used = if over { before(now.mono_ns + 1) - before(end - period_ns) } else { limit };
                if !over || by_clock {
                    w.begin(now, end, by_clock);
                    w.set_used(now, used);
                }
                Meter::Window(w)
            }
        }
    }
}

/// What a refusal taught.
#[derive(Debug)]
pub(crate) enum Lesson {
    /// Nothing new.
    Nothing,
    /// Nothing new, but what it gave back was never missing.
    Uncounted,
    /// The limit is as it was thought to be, and used up.
    UsedUp,
    /// This is the limit from now on.
    Limit(Dimension, Meter),
}

/// A refusal, as heard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard<'a> {
    pub(crate) sent: u64,
    pub(crate) need: &'a Need,
    pub(crate) beside: u32,
    pub(crate) dimension: Option<Dimension>,
    /// The size that it named.
    pub(crate) size: Option<f64>,
    pub(crate) stated_ns: Option<u64>,
    pub(crate) whole_seconds: bool,
}

#[cfg(test)]
mod tests {
    use super::super::domain::{Domain, Source};
    use super::*;
    use crate::fleet::{AccountId, ModelSet};
    use crate::time::DAY;

    fn at(s: u64) -> Now {
        Now { mono_ns: s * SECOND, unix_ns: 1_000 * DAY + s * SECOND }
    }

    /// What was learned falsely: one in a day, a bucket that hardly refills, one that is too small for the request.
    #[test]
    fn what_was_only_learned_is_tried_again_two_minutes_after_the_last_request_and_given_up_if_it_goes() {
        let meters = [
            Meter::Window(Window::new(1.0, DAY, None)),
            Meter::Bucket(Bucket::new(1.0, 1e-6, 0)),
            Meter::Bucket(Bucket::new(0.5, 10.0, 0)),
        ];
        let mut need = Need::default();
        need.set(Dimension::Requests, 1.0);
        for meter in meters {
            let mut d = Domain::new(
                AccountId(0),
                Dimension::Requests,
                ModelSet::default(),
                Source::Learned,
                meter,
                0,
            );
            let mut learner = Learner::new(History::default());
            learner.resume(at(0), Dimension::Requests, &d.meter, None);
            d.learner = Some(Box::new(learner));
            d.take(at(1), 1.0);
            d.sent(at(1), &need, 1.0);
            for s in [1, 100] {
                assert_eq!(d.fit(at(s), 1.0, 0, (0, 0, 0)).at, at(121).mono_ns, "{:?}", d.meter);
                assert_eq!(d.forecast(at(s), (0.0, 0.0), 1.0, SECOND), at(121).mono_ns, "{:?}", d.meter);
            }
            d.take(at(121), 1.0);
            d.sent(at(121), &need, 1.0);
            let next = d.fit(at(121), 1.0, 0, (0, 0, 0)).at;
            assert_eq!(next, at(122).mono_ns, "one goes first");
            assert_eq!(d.fit(at(122), 1.0, 0, (0, 0, 0)).at, at(122).mono_ns, "and more where it was let in");
        }
    }
}
