//! One limit that a provider enforces. Knows its meter, who waits for it and who saves up on it; does not know what a
//! request is.

use super::MARGIN_NS;
use super::bucket::Bucket;
use super::doubt::Doubt;
use super::estimate::Need;
use super::learner::{Heard, Learner, Lesson};
use super::rules::Rules;
use super::told::Told;
use super::window::Window;
use crate::fleet::{AccountId, Dimension, LimitSpec, ModelSet, Shape};
use crate::rng::Rng;
use crate::shares::Shares;
use crate::time::{DAY, Now, SECOND};
use std::collections::BTreeMap;

/// Promises are added up over so long.
const MOMENT_NS: u64 = 2 * SECOND;

/// Where a limit is known from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A preset of the provider.
    Preset,
    /// A person wrote it down.
    Declared,
    /// Headers or refusals said so.
    Learned,
}

#[derive(Clone, Debug)]
pub(crate) enum Meter {
    Bucket(Bucket),
    Window(Window),
    Slots {
        limit: u32,
        used: u32,
    },
    /// Not known yet: everything fits.
    Open,
}

/// When an amount fits. `soft`: besides, something must come back whose time nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fit {
    pub(crate) at: u64,
    pub(crate) soft: bool,
}

/// Who comes before whom: by class, then by turn, then by order of arrival.
pub(crate) type Order = (u8, u64, u64);

/// A waiter that saves up here: others may take only what would overflow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Hold {
    pub(crate) id: u64,
    pub(crate) order: Order,
    pub(crate) need: f64,
    pub(crate) at: u64,
}

/// What those will take who were told to come back at about the same time, the first of them `from` then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Promise {
    from: u64,
    amount: f64,
}

#[derive(Clone, Debug)]
pub(crate) struct Domain {
    pub(crate) account: AccountId,
    pub(crate) dimension: Dimension,
    pub(crate) models: ModelSet,
    pub(crate) source: Source,
    /// Counts days or longer.
    pub(crate) daily: bool,
    pub(crate) meter: Meter,
    /// What the waiters that were placed here will take.
    pub(crate) queued: f64,
    /// What those will take who were told to come back, by the moment in which they are awaited.
    pub(crate) promised: BTreeMap<u64, Promise>,
    /// What each class has had lately.
    pub(crate) shares: Shares,
    pub(crate) hold: Option<Box<Hold>>,
    /// All that was ever taken and given back: differences tell what happened between two instants.
    pub(crate) taken: f64,
    pub(crate) returned: f64,
    /// `taken` as it was at two instants lately, at least a margin apart.
    marks: [(u64, f64); 2],
    /// Reserved by requests in flight.
    pub(crate) open: f64,
    /// When the request was sent whose answer was applied last.
    pub(crate) measured_sent_ns: Option<u64>,
    /// It is known from refusals alone.
    pub(crate) learner: Option<Box<Learner>>,
    /// What the answers said, side by side.
    pub(crate) told: Option<Box<Told>>,
    /// By which rule its tokens are charged.
    pub(crate) rules: Option<Box<Rules>>,
    /// Whether it is the one that refuses.
    pub(crate) doubt: Doubt,
    /// Which domain this is, so that an index that was reused is noticed.
    pub(crate) serial: u64,
}

impl Domain {
    pub(crate) fn declared(account: AccountId, spec: &LimitSpec, now: Now, serial: u64) -> Self {
        let meter = meter(&spec.shape, now);
        let source = if spec.preset { Source::Preset } else { Source::Declared };
        Self::new(account, spec.dimension, spec.models.clone(), source, meter, serial)
    }

    /// It is enforced behind a network, and exactly known here: nothing sent may be refused there.
    pub(crate) fn far_away(mut self) -> Self {
        match &mut self.meter {
            Meter::Bucket(b) => b.far_away(super::WAY_NS),
            Meter::Window(w) => w.far_away(super::WAY_NS),
            Meter::Slots { .. } | Meter::Open => {}
        }
        self
    }

    pub(crate) fn new(
        account: AccountId,
        dimension: Dimension,
        models: ModelSet,
        source: Source,
        meter: Meter,
        serial: u64,
    ) -> Self {
        let daily = matches!(&meter, Meter::Window(w) if w.period_ns >= DAY / 2);
        Self {
            account,
            dimension,
            models,
            source,
            daily,
            meter,
            queued: 0.0,
            promised: BTreeMap::new(),
            shares: Shares::default(),
            hold: None,
            taken: 0.0,
            returned: 0.0,
            marks: [(0, 0.0); 2],
            open: 0.0,
            measured_sent_ns: None,
            learner: None,
            told: None,
            rules: None,
            doubt: Doubt::default(),
            serial,
        }
    }

    /// The most that it ever admits at once.
    pub(crate) fn size(&self) -> f64 {
        match &self.meter {
            Meter::Bucket(b) => b.capacity,
            Meter::Window(w) => w.limit,
            Meter::Slots { limit, .. } => f64::from(*limit),
            Meter::Open => f64::INFINITY,
        }
    }

    /// Whether it is known well enough to refuse somebody for what it will be like later.
    pub(crate) fn is_founded(&self) -> bool {
        self.learner.as_ref().is_none_or(|l| l.is_proven())
    }

    /// Slots taken. What was sent before anything was known of the limit holds nothing of it, but a slot each.
    fn in_use(&self, used: u32) -> u32 {
        self.learner.as_ref().map_or(used, |l| used.max(l.history.in_flight()))
    }

    /// What is left now; below zero where more was used than was known.
    pub(crate) fn level(&self, now: Now) -> f64 {
        match &self.meter {
            Meter::Bucket(b) => b.level(now.mono_ns),
            Meter::Window(w) => w.limit - w.used(now),
            Meter::Slots { limit, used } => f64::from(*limit) - f64::from(self.in_use(*used)),
            Meter::Open => f64::INFINITY,
        }
    }

    /// The common case, looked at first: nobody saves up, and `need` fits with the margin. Tells the utilisation.
    pub(crate) fn fits_easily(&self, now: Now, need: f64) -> Option<f64> {
        let Meter::Bucket(b) = &self.meter else { return None };
        if self.hold.is_some() || self.learner.is_some() || need <= 0.0 {
            return None;
        }
        let level = b.level(now.mono_ns);
        let fits = need + b.margin() <= level;
        fits.then(|| ((b.capacity - level + need) / b.capacity).clamp(0.0, 1.0))
    }

    /// When `need` could go, for a request that comes at `order` in the line.
    pub(crate) fn fit(&self, now: Now, need: f64, id: u64, order: Order) -> Fit {
        let fit = self.fit_by_meter(now, need, id, order);
        let at = self.learner.as_ref().map_or(fit.at, |l| l.no_later(now.mono_ns, fit.at));
        Fit { at, ..fit }
    }

    fn fit_by_meter(&self, now: Now, need: f64, id: u64, order: Order) -> Fit {
        if need <= 0.0 {
            return Fit { at: now.mono_ns, soft: false };
        }
        let open_at = self.learner.as_ref().map_or(0, |l| l.open_at());
        if open_at > now.mono_ns {
            return Fit { at: open_at, soft: false };
        }
        let hold = self.hold.as_deref().filter(|h| h.id != id && h.order < order);
        match &self.meter {
            Meter::Bucket(b) => {
                let at = b.ready_at(now.mono_ns, 0.0, need);
                match hold {
                    Some(h) if at <= now.mono_ns && !b.fits_beside(now.mono_ns, need, h.need, h.at) => {
                        Fit { at: now.mono_ns, soft: true }
                    }
                    _ => Fit { at, soft: false },
                }
            }
            Meter::Window(w) => {
                let at = w.ready_at(now, 0.0, need);
                let blocked =
                    at <= now.mono_ns && hold.is_some_and(|h| w.is_short_of(now, need, h.need, h.at));
                Fit { at, soft: blocked }
            }
            Meter::Slots { limit, used } => {
                if *limit == 0 {
                    return Fit { at: u64::MAX, soft: false };
                }
                Fit { at: now.mono_ns, soft: self.in_use(*used) + u32::from(hold.is_some()) >= *limit }
            }
            Meter::Open => Fit { at: now.mono_ns, soft: false },
        }
    }

    /// When `need` will go behind `ahead` units of others and such a `share` of what was promised, as far as that is
    /// awaited earlier.
    pub(crate) fn forecast(&self, now: Now, (ahead, share): (f64, f64), need: f64, turn_ns: u64) -> u64 {
        let mut at = self.forecast_behind(now, ahead, need, turn_ns);
        if share <= 0.0 || at == u64::MAX {
            return at;
        }
        let mut promised = 0.0;
        for promise in self.promised.values() {
            if promise.from > at {
                break;
            }
            promised += promise.amount * share;
            at = self.forecast_behind(now, ahead + promised, need, turn_ns);
        }
        at
    }

    /// Somebody was told to come back at this time (or came, or did not: a negative amount).
    pub(crate) fn promise(&mut self, at_ns: u64, amount: f64) {
        let moment = at_ns / MOMENT_NS;
        let all = self.promised.entry(moment).or_insert(Promise { from: at_ns, amount: 0.0 });
        all.from = all.from.min(at_ns);
        all.amount += amount;
        if all.amount <= 1e-6 {
            self.promised.remove(&moment);
        }
    }

    /// When `need` will go behind `ahead` units of others, without refunds. Slots come back at times nobody knows:
    /// `turn_ns` is how long one of them is usually taken.
    fn forecast_behind(&self, now: Now, ahead: f64, need: f64, turn_ns: u64) -> u64 {
        if need <= 0.0 {
            return now.mono_ns;
        }
        let open_at = self.learner.as_ref().map_or(0, |l| l.open_at());
        let at = match &self.meter {
            Meter::Bucket(b) => b.ready_at(now.mono_ns, ahead, need),
            Meter::Window(w) => w.ready_at(now, ahead, need),
            Meter::Open => now.mono_ns,
            Meter::Slots { limit: 0, .. } => u64::MAX,
            Meter::Slots { limit, used } => {
                let over = (f64::from(self.in_use(*used)) + ahead + need - f64::from(*limit)).max(0.0);
                let turns = over / f64::from(*limit);
                now.mono_ns.saturating_add(crate::time::ns_of(crate::time::s_of(turn_ns) * turns))
            }
        };
        let at = at.max(open_at);
        let Some(learner) = &self.learner else { return at };
        // As much sooner for those behind as for the first one.
        let first = match &self.meter {
            Meter::Bucket(b) => b.ready_at(now.mono_ns, 0.0, need),
            Meter::Window(w) => w.ready_at(now, 0.0, need),
            Meter::Slots { limit: 0, .. } => u64::MAX,
            Meter::Slots { .. } | Meter::Open => open_at,
        };
        at - first.saturating_sub(learner.no_later(now.mono_ns, first)).min(at)
    }

    /// How long it takes until `need` has come back (seconds), where a slot is usually taken for `turn_ns`.
    pub(crate) fn refill_s(&self, need: f64, turn_ns: u64) -> f64 {
        match &self.meter {
            Meter::Bucket(b) => need / b.rate.max(1e-9),
            Meter::Window(w) => need / w.limit.max(1e-9) * crate::time::s_of(w.period_ns),
            Meter::Slots { limit, .. } => need / f64::from(*limit).max(1e-9) * crate::time::s_of(turn_ns),
            Meter::Open => 0.0,
        }
    }

    /// How full it would be after placing `need`: 0 empty, 1 full. A window that ends soon is worth using up first.
    pub(crate) fn utilisation(&self, now: Now, need: f64) -> f64 {
        let size = self.size();
        if need <= 0.0 || size <= 0.0 || size.is_infinite() {
            return 0.0;
        }
        let used = ((size - self.level(now) + need) / size).clamp(0.0, 1.0);
        match &self.meter {
            Meter::Window(w) => used * (0.25 + 0.75 * w.share_left(now)),
            _ => used,
        }
    }

    /// What was taken so lately that it may arrive behind what is sent now, or a little more.
    pub(crate) fn just_taken(&mut self, now: Now) -> f64 {
        if now.mono_ns.saturating_sub(self.marks[1].0) >= MARGIN_NS {
            self.marks = [self.marks[1], (now.mono_ns, self.taken)];
        }
        let [older, newer] = self.marks;
        let known = if now.mono_ns.saturating_sub(older.0) < 2 * MARGIN_NS { older } else { newer };
        self.taken - known.1
    }

    /// Takes, and says which period was charged, or when.
    pub(crate) fn take(&mut self, now: Now, amount: f64) -> u64 {
        self.taken += amount;
        self.open += amount;
        match &mut self.meter {
            Meter::Bucket(b) => b.take(now.mono_ns, amount),
            Meter::Window(w) => w.take(now, amount),
            Meter::Slots { used, .. } => {
                *used += 1;
                0
            }
            Meter::Open => 0,
        }
    }

    /// A request that took from here goes out; `amount` is what it took.
    pub(crate) fn sent(&mut self, now: Now, need: &Need, amount: f64) -> Option<u32> {
        let meter = &mut self.meter;
        self.learner.as_mut().map(|l| l.sent(now, need, amount, meter))
    }

    /// A refusal that tells of this limit. Who holds something of what it was taken for until now keeps nothing.
    pub(crate) fn refused(&mut self, now: Now, heard: &Heard<'_>, rng: &mut Rng, serial: u64) {
        let Some(learner) = self.learner.as_mut() else { return };
        let (dimension, meter) = match learner.refused(now, heard, rng) {
            Lesson::Nothing => return,
            Lesson::Uncounted => {
                let need = heard.need.of(self.dimension);
                if let Meter::Bucket(b) = &mut self.meter {
                    b.take(now.mono_ns, need);
                }
                return;
            }
            Lesson::UsedUp => {
                let need = heard.need.of(self.dimension);
                super::learn::refused(self, now, need, true, heard.stated_ns);
                return;
            }
            Lesson::Limit(dimension, meter) => (dimension, meter),
        };
        // One request each: what is taken stays taken.
        let single = |d| matches!(d, Dimension::Requests | Dimension::Concurrent);
        if dimension != self.dimension && !(single(dimension) && single(self.dimension)) {
            learner.history.forget_in_flight();
            (self.serial, self.open, self.queued, self.hold) = (serial, 0.0, 0.0, None);
        }
        (self.dimension, self.meter) = (dimension, meter);
        if let Meter::Slots { used, .. } = &mut self.meter {
            *used = whole(self.open);
        }
    }

    /// Settles what was taken in `epoch` from `reserved` to `actual`. A slot comes back.
    pub(crate) fn settle(&mut self, now: Now, epoch: u64, reserved: f64, actual: f64) {
        let more = actual - reserved;
        self.open = (self.open - reserved).max(0.0);
        if more > 0.0 {
            self.taken += more;
        } else {
            self.returned -= more;
        }
        match &mut self.meter {
            Meter::Bucket(b) if more < 0.0 => b.give_back(now.mono_ns, epoch, -more),
            Meter::Bucket(b) => drop(b.take(now.mono_ns, more)),
            Meter::Window(w) => w.adjust(now, epoch, more),
            Meter::Slots { used, .. } => *used = used.saturating_sub(1),
            Meter::Open => {}
        }
    }

    /// The configuration says another size: what was used stays used.
    pub(crate) fn reshape(&mut self, now: Now, shape: &Shape) {
        match (&mut self.meter, meter(shape, now)) {
            (Meter::Bucket(b), Meter::Bucket(new)) => b.resize(now.mono_ns, new.capacity, new.rate),
            (Meter::Window(w), Meter::Window(new)) if w.period_ns == new.period_ns => w.limit = new.limit,
            (Meter::Slots { limit, .. }, Meter::Slots { limit: new, .. }) => *limit = new,
            (meter, new) => *meter = new,
        }
    }

    /// Whether this is the domain that `spec` speaks of, whatever its size.
    pub(crate) fn same_as(&self, spec: &LimitSpec) -> bool {
        let kind = matches!(
            (&self.meter, &spec.shape),
            (Meter::Bucket(_), Shape::Bucket { .. })
                | (Meter::Window(_), Shape::Window { .. } | Shape::Day { .. })
                | (Meter::Slots { .. }, Shape::Slots { .. })
        );
        let period = match (&self.meter, &spec.shape) {
            (Meter::Window(w), Shape::Window { period_ns, .. }) => w.period_ns == *period_ns,
            (Meter::Window(w), Shape::Day { .. }) => w.period_ns == DAY,
            _ => true,
        };
        kind && period
            && self.source != Source::Learned
            && self.dimension == spec.dimension
            && self.models == spec.models
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the range first")]
pub(super) fn whole(n: f64) -> u32 {
    n.round().clamp(0.0, f64::from(u32::MAX)) as u32
}

fn meter(shape: &Shape, now: Now) -> Meter {
    match *shape {
        Shape::Bucket { capacity, refill_per_s } => {
            Meter::Bucket(Bucket::new(capacity, refill_per_s, now.mono_ns))
        }
        Shape::Window { limit, period_ns, anchor_unix_ns } => {
            Meter::Window(Window::new(limit, period_ns, anchor_unix_ns))
        }
        Shape::Day { limit, offset_s } => {
            let behind = i64::from(offset_s).rem_euclid(86_400);
            let anchor = u64::try_from(behind).unwrap_or(0) * crate::time::SECOND;
            Meter::Window(Window::new(limit, DAY, Some(anchor)))
        }
        Shape::Slots { limit } => Meter::Slots { limit, used: 0 },
    }
}
