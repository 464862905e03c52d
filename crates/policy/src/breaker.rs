//! The circuit breaker of one target (key x model), and of one model at one provider: a sliding window of buckets,
//! as in linkerd's and Envoy's outlier detection, with the rules of [`BreakerSettings`]. It opens at enough failures
//! *and* a high enough share of them, or at enough failures in a row that span long enough; then one live probe at a
//! time; success closes it with a slow start, failure doubles the cool-down.
//!
//! Knows neither keys nor requests. The window is allocated at the first failure: most targets never need one.

use crate::blame::Class;
use crate::fleet::BreakerSettings;
use crate::gate::{Gate, Pass};
use crate::rng::Rng;
use crate::time::{MS, SECOND};

const BUCKETS: u64 = 60;
/// Failures closer than this to the last one counted are one failure (a connection that breaks under many requests).
const ONE_NS: u64 = 100 * MS;
/// After a failure the next attempt can wait so long, if there is another target.
const SUSPECT_NS: u64 = 250 * MS;
/// Slow start: until so many requests went well and so much time passed, whichever is later.
const SLOW_REQUESTS: u32 = 10;
const SLOW_NS: u64 = 30 * SECOND;

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    slot: u64,
    ok: u32,
    failed: u32,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Breaker {
    cells: Option<Box<[Cell]>>,
    /// Successes before there is a window: of this half of it and of the one before.
    halves: [(u64, u32); 2],
    gate: Gate,
    run: u32,
    run_since: u64,
    counted_at: Option<u64>,
    /// Attempts sent before this do not count.
    transition: u64,
    slow_since: Option<u64>,
    slow_done: u32,
}

impl Breaker {
    pub(crate) fn pass(&self, now: u64) -> Pass {
        self.gate.pass(now)
    }

    pub(crate) fn is_open(&self, now: u64) -> bool {
        self.gate.is_shut(now)
    }

    pub(crate) fn until(&self) -> u64 {
        self.gate.until()
    }

    pub(crate) fn begin_probe(&mut self) {
        self.gate.begin_probe();
    }

    pub(crate) fn end_probe(&mut self, now: u64) {
        self.gate.end_probe(now);
    }

    /// The share of its weight that it gets: 1, or less after it closed.
    pub(crate) fn ramp(&self, now: u64) -> f64 {
        let Some(since) = self.slow_since else { return 1.0 };
        let time = now.saturating_sub(since) as f64 / SLOW_NS as f64;
        // Where little is asked, ten requests may take for ever: by half as long again, time alone is enough.
        let done = (f64::from(self.slow_done) / f64::from(SLOW_REQUESTS)).max(time - 0.5);
        (0.1 + 0.9 * time.min(done)).min(1.0)
    }

    /// What makes it dearer than its siblings before it opens: failures in a row, forgotten over fifteen seconds, or
    /// a target that failed once would never be tried again while others are free.
    pub(crate) fn dearness(&self, now: u64) -> f64 {
        let age = self.counted_at.map_or(SLOW_NS, |at| now.saturating_sub(at)) as f64 / (15 * SECOND) as f64;
        1.0 + f64::from(self.run) * (1.0 - age).max(0.0)
    }

    /// It failed just now, and nothing went well since: whoever can go elsewhere should. Five failures that far apart
    /// span what it takes to open, so a target that broke costs no more.
    pub(crate) fn is_suspect(&self, now: u64) -> bool {
        self.run > 0 && self.counted_at.is_some_and(|at| now.saturating_sub(at) < SUSPECT_NS)
    }

    /// Failures counted in a row.
    pub(crate) fn run(&self) -> u32 {
        self.run
    }

    /// An attempt sent at `sent` was answered.
    pub(crate) fn success(&mut self, now: u64, sent: u64, settings: &BreakerSettings) {
        if sent < self.transition || self.is_open(now) {
            return;
        }
        self.run = 0;
        if self.slow_since.is_some() {
            self.slow_done = self.slow_done.saturating_add(1);
            if self.ramp(now) >= 1.0 {
                self.slow_since = None;
                self.gate.forgive();
            }
        }
        if self.cells.is_some() {
            self.cell(now, settings).ok += 1;
        } else {
            let half = now / (settings.window_ns / 2).max(1);
            if self.halves[0].0 != half {
                self.halves = [(half, 0), self.halves[0]];
            }
            self.halves[0].1 += 1;
        }
    }

    /// Whether a failure of an attempt sent at `sent` counts: it is not from before the last transition, nor part of the
    /// last failure.
    pub(crate) fn is_news(&self, now: u64, sent: u64) -> bool {
        let part = self.counted_at.is_some_and(|last| now.saturating_sub(last) < ONE_NS);
        sent >= self.transition && !self.is_open(now) && !part
    }

    /// An attempt sent at `sent` failed. `Some(until)`: that opened it.
    pub(crate) fn failure(
        &mut self,
        now: u64,
        sent: u64,
        settings: &BreakerSettings,
        rng: &mut Rng,
    ) -> Option<u64> {
        if !self.is_news(now, sent) {
            return None;
        }
        self.counted_at = Some(now);
        if self.run == 0 {
            self.run_since = now;
        }
        self.run += 1;
        self.cell(now, settings).failed += 1;
        let (failed, total) = self.totals(now, settings);
        let share = f64::from(failed) / f64::from(total.max(1));
        let often = failed >= settings.failures_min.max(1) && share >= settings.failure_ratio;
        let in_a_row = settings.consecutive > 0
            && self.run >= settings.consecutive
            && now - self.run_since >= settings.consecutive_span_ns;
        if !often && !in_a_row {
            return None;
        }
        let wait = self.gate.strike(settings.cooldown_min_ns, settings.cooldown_max_ns, rng);
        Some(self.shut(now, now.saturating_add(wait)))
    }

    fn shut(&mut self, now: u64, until: u64) -> u64 {
        self.gate.shut_for_probe(now, until, Class::Target);
        self.restart(now);
        self.gate.until()
    }

    fn restart(&mut self, now: u64) {
        self.cells = None;
        self.halves = [(0, 0); 2];
        (self.run, self.counted_at, self.slow_since, self.slow_done) = (0, None, None, 0);
        self.transition = now;
    }

    /// The probe went well: closed, with a slow start; until that is over, the next cool-down is still doubled.
    pub(crate) fn probe_ok(&mut self, now: u64) -> bool {
        let was = self.gate.open_on_trial();
        self.restart(now);
        self.slow_since = Some(now);
        was
    }

    /// The probe failed: the cool-down doubles.
    pub(crate) fn probe_failed(&mut self, now: u64, settings: &BreakerSettings, rng: &mut Rng) -> u64 {
        let wait = self.gate.strike(settings.cooldown_min_ns, settings.cooldown_max_ns, rng);
        self.gate.probe_failed(now, now.saturating_add(wait));
        self.transition = now;
        self.gate.until()
    }

    /// Opens without a window's verdict (the provider as a whole is down).
    pub(crate) fn trip(&mut self, now: u64, settings: &BreakerSettings, rng: &mut Rng) -> u64 {
        let wait = self.gate.strike(settings.cooldown_min_ns, settings.cooldown_max_ns, rng);
        self.shut(now, now.saturating_add(wait))
    }

    /// Forgets everything since it was last closed: it was somebody else's trouble. Tells whether it was open.
    pub(crate) fn absolve(&mut self, now: u64) -> bool {
        let was = self.gate.open();
        self.restart(now);
        was
    }

    /// Takes back one failure counted at `at`, if nothing was decided since.
    pub(crate) fn forgive(&mut self, at: u64, settings: &BreakerSettings) {
        if at < self.transition {
            return;
        }
        let slot = at / width(settings);
        if let Some(cell) =
            self.cells.as_mut().and_then(|c| c.iter_mut().find(|c| c.slot == slot && c.failed > 0))
        {
            cell.failed -= 1;
            self.run = self.run.saturating_sub(1);
        }
    }

    fn cell(&mut self, now: u64, settings: &BreakerSettings) -> &mut Cell {
        let width = width(settings);
        let slot = now / width;
        let halves = self.halves;
        let cells = self.cells.get_or_insert_with(|| {
            let mut cells = vec![Cell::default(); usize::try_from(BUCKETS).unwrap_or(60)].into_boxed_slice();
            // What went well before the window existed, as if at the start of each half.
            for (half, ok) in halves {
                let slot = half * (BUCKETS / 2);
                let at = usize::try_from(slot % BUCKETS).unwrap_or(0);
                if ok > 0 && slot >= cells[at].slot {
                    cells[at] = Cell { slot, ok, failed: 0 };
                }
            }
            cells
        });
        let cell = &mut cells[usize::try_from(slot % BUCKETS).unwrap_or(0)];
        if cell.slot != slot {
            *cell = Cell { slot, ..Cell::default() };
        }
        cell
    }

    /// Failures and all attempts inside the window.
    pub(crate) fn totals(&self, now: u64, settings: &BreakerSettings) -> (u32, u32) {
        let first = (now / width(settings)).saturating_sub(BUCKETS - 1);
        let cells = self.cells.iter().flatten().filter(|c| c.slot >= first);
        cells.fold((0, 0), |(f, t), c| (f + c.failed, t + c.failed + c.ok))
    }
}

fn width(settings: &BreakerSettings) -> u64 {
    (settings.window_ns / BUCKETS).max(1)
}

#[cfg(test)]
mod tests;
