//! How fast it goes: what the last second did, the ten minutes before it, and the day before that in minutes, so that a
//! page that opens now has a past. Requests add to counters without a lock; one task reads them once a second. It knows
//! numbers alone: no names, no keys.

use crate::explain::Told;
use crate::observe::CLASSES;
use crate::story::Outcome;
use keymux_policy::Now;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Seconds that are remembered one by one.
const SECONDS: usize = 600;
/// Minutes that are remembered after that.
const MINUTES: usize = 1440;
const MINUTE_MS: u64 = 60_000;
/// Times are told apart by a sixteenth of themselves.
const STEPS: u64 = 16;
/// Up to 2^20 ms; what takes longer counts as that.
const BUCKETS: usize = 16 * 17;

/// What one span of time did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// Its end, in milliseconds since 1970.
    pub at_unix_ms: u64,
    /// How long it is.
    pub span_ms: u64,
    /// Requests that ended.
    pub requests: u64,
    /// Of those, answered whole.
    pub answered: u64,
    /// Tokens of prompts, as providers reported them.
    pub input_tokens: u64,
    /// Tokens of answers.
    pub output_tokens: u64,
    /// What answers cost, where that is known.
    pub cost_nano_usd: u64,
    /// Answers whose cost nobody said.
    pub unpriced: u64,
    /// Attempts that failed, by whose fault it was, in the order of [`CLASSES`].
    pub failed: [u64; CLASSES.len()],
    /// Time to the first output, of those that had one: the median.
    pub first_output_p50_ms: Option<u64>,
    /// And what one in twenty exceeded.
    pub first_output_p95_ms: Option<u64>,
    /// Requests in the waiting room at the end.
    pub waiting: u64,
    /// Requests being served at the end.
    pub in_flight: u64,
}

/// Counts since they were last taken.
struct Counters {
    /// Requests, answered, input, output, cost, unpriced.
    sums: [AtomicU64; 6],
    failed: [AtomicU64; CLASSES.len()],
    first_output: [AtomicU32; BUCKETS],
}

/// The same, added up over a minute.
#[derive(Clone)]
struct Sum {
    from_unix_ms: u64,
    point: Point,
    first_output: Box<[u32; BUCKETS]>,
}

struct Past {
    seconds: VecDeque<Point>,
    minutes: VecDeque<Point>,
    minute: Sum,
    last_mono_ns: u64,
}

/// Counts, and remembers.
pub struct Pulse {
    counters: Counters,
    past: Mutex<Past>,
}

impl Default for Pulse {
    fn default() -> Self {
        let counters = Counters {
            sums: Default::default(),
            failed: Default::default(),
            first_output: [const { AtomicU32::new(0) }; BUCKETS],
        };
        let past =
            Past { seconds: VecDeque::new(), minutes: VecDeque::new(), minute: Sum::new(0), last_mono_ns: 0 };
        Self { counters, past: Mutex::new(past) }
    }
}

impl Sum {
    fn new(from_unix_ms: u64) -> Self {
        Self { from_unix_ms, point: Point::default(), first_output: Box::new([0; BUCKETS]) }
    }

    fn add(&mut self, second: &Point, first_output: &[u32; BUCKETS]) {
        let point = &mut self.point;
        for (all, one) in [
            (&mut point.span_ms, second.span_ms),
            (&mut point.requests, second.requests),
            (&mut point.answered, second.answered),
            (&mut point.input_tokens, second.input_tokens),
            (&mut point.output_tokens, second.output_tokens),
            (&mut point.cost_nano_usd, second.cost_nano_usd),
            (&mut point.unpriced, second.unpriced),
        ] {
            *all += one;
        }
        for (all, one) in point.failed.iter_mut().zip(second.failed) {
            *all += one;
        }
        for (all, one) in self.first_output.iter_mut().zip(first_output) {
            *all += one;
        }
        (point.at_unix_ms, point.waiting, point.in_flight) =
            (second.at_unix_ms, second.waiting, second.in_flight);
    }

    fn done(&self) -> Point {
        Point {
            first_output_p50_ms: quantile(&self.first_output, 50),
            first_output_p95_ms: quantile(&self.first_output, 95),
            ..self.point
        }
    }
}

impl Pulse {
    /// A request is over.
    pub fn ended(&self, told: &Told, outcome: Outcome) {
        let used = &told.record.used;
        let answered = outcome == Outcome::Answered;
        let unpriced = answered && used.cost_nano_usd.is_none();
        let ones = [
            1,
            u64::from(answered),
            used.input_tokens,
            used.output_tokens,
            used.cost_nano_usd.unwrap_or(0),
            u64::from(unpriced),
        ];
        for (sum, one) in self.counters.sums.iter().zip(ones) {
            if one > 0 {
                sum.fetch_add(one, Ordering::Relaxed);
            }
        }
        for class in told.steps.iter().filter_map(|step| step.blame) {
            self.counters.failed[class as usize].fetch_add(1, Ordering::Relaxed);
        }
        if let Some(ns) = told.record.first_output_ns {
            self.counters.first_output[bucket(ns / 1_000_000)].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A second is over: takes the counts, and says what it did, and what the minute before it did if one ended.
    pub fn take(&self, now: Now, waiting: u64, in_flight: u64) -> (Point, Option<Point>) {
        let mut first_output = [0; BUCKETS];
        for (taken, counter) in first_output.iter_mut().zip(&self.counters.first_output) {
            *taken = counter.swap(0, Ordering::Relaxed);
        }
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = |at: usize| self.counters.sums[at].swap(0, Ordering::Relaxed);
        let at_unix_ms = now.unix_ns / 1_000_000;
        let span_ms = now.mono_ns.saturating_sub(past.last_mono_ns) / 1_000_000;
        let point = Point {
            at_unix_ms,
            span_ms,
            requests: sum(0),
            answered: sum(1),
            input_tokens: sum(2),
            output_tokens: sum(3),
            cost_nano_usd: sum(4),
            unpriced: sum(5),
            failed: std::array::from_fn(|class| self.counters.failed[class].swap(0, Ordering::Relaxed)),
            first_output_p50_ms: quantile(&first_output, 50),
            first_output_p95_ms: quantile(&first_output, 95),
            waiting,
            in_flight,
        };
        past.last_mono_ns = now.mono_ns;
        push(&mut past.seconds, point, SECONDS);
        let from = at_unix_ms - at_unix_ms % MINUTE_MS;
        let mut ended = None;
        if from != past.minute.from_unix_ms {
            let done = std::mem::replace(&mut past.minute, Sum::new(from));
            ended = (done.point.span_ms > 0).then(|| done.done());
        }
        if let Some(minute) = ended {
            push(&mut past.minutes, minute, MINUTES);
        }
        past.minute.add(&point, &first_output);
        (point, ended)
    }

    /// The seconds that are remembered, and the minutes, the one that runs included; oldest first.
    pub fn past(&self) -> (Vec<Point>, Vec<Point>) {
        let past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let running = (past.minute.point.span_ms > 0).then(|| past.minute.done());
        (past.seconds.iter().copied().collect(), past.minutes.iter().copied().chain(running).collect())
    }
}

fn push(ring: &mut VecDeque<Point>, point: Point, most: usize) {
    if ring.len() == most {
        ring.pop_front();
    }
    ring.push_back(point);
}

/// Buckets as in an HDR histogram: exact below sixteen, then sixteen for each doubling.
fn bucket(ms: u64) -> usize {
    let octave = u64::from((ms / STEPS).checked_ilog2().map_or(0, |log| log + 1));
    let at = if octave == 0 { ms } else { octave * STEPS + (ms >> (octave - 1)) - STEPS };
    usize::try_from(at).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// The middle of a bucket.
fn middle(bucket: usize) -> u64 {
    let (octave, step) = (bucket as u64 / STEPS, bucket as u64 % STEPS);
    if octave == 0 {
        return step;
    }
    let width = 1 << (octave - 1);
    (STEPS + step) * width + width / 2
}

/// The time that `percent` of all did not exceed.
fn quantile(buckets: &[u32; BUCKETS], percent: u64) -> Option<u64> {
    let all: u64 = buckets.iter().map(|n| u64::from(*n)).sum();
    let rank = (all * percent).div_ceil(100).max(1);
    let mut seen = 0;
    let at = buckets.iter().position(|n| {
        seen += u64::from(*n);
        seen >= rank
    })?;
    Some(middle(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::Step;
    use keymux_policy::blame::Class;

    fn told(first_output_ms: Option<u64>) -> Told {
        let mut told = Told::default();
        told.record.first_output_ns = first_output_ms.map(|ms| ms * 1_000_000);
        told.record.used.output_tokens = 7;
        told
    }

    fn at(ms: u64) -> Now {
        Now { mono_ns: ms * 1_000_000, unix_ns: (1_000 * MINUTE_MS + ms) * 1_000_000 }
    }

    #[test]
    fn a_bucket_holds_what_is_within_a_sixteenth_of_it() {
        for ms in (0..5_000).chain([99_999, 600_000, 1 << 19]) {
            let shown = middle(bucket(ms));
            assert!(shown.abs_diff(ms) * 16 <= ms, "{ms} is shown as {shown}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert!((0..100_000).map(bucket).is_sorted());
    }

    #[test]
    fn a_second_is_counted_once_and_its_quantiles_are_those_of_its_requests() {
        let pulse = Pulse::default();
        (1..=100).for_each(|ms| pulse.ended(&told(Some(ms)), Outcome::Answered));
        pulse.ended(&told(None), Outcome::Refused);
        let (point, _) = pulse.take(at(1_000), 3, 4);
        assert_eq!((point.requests, point.answered, point.unpriced), (101, 100, 100));
        assert_eq!((point.span_ms, point.waiting, point.in_flight), (1_000, 3, 4));
        assert_eq!(point.output_tokens, 707);
        assert!(point.first_output_p50_ms.unwrap().abs_diff(50) <= 3, "{point:?}");
        assert!(point.first_output_p95_ms.unwrap().abs_diff(95) <= 5, "{point:?}");
        let (next, _) = pulse.take(at(2_500), 0, 0);
        assert_eq!((next.requests, next.span_ms, next.first_output_p50_ms), (0, 1_500, None));
    }

    #[test]
    fn each_failed_attempt_counts_for_whose_fault_it_was() {
        let pulse = Pulse::default();
        let step = |blame| Step {
            provider: "p".into(),
            key: "k".into(),
            model: "m".into(),
            begun_ns: 0,
            ended_ns: None,
            waited_ns: 0,
            probe: false,
            skipped: Vec::new(),
            blame,
            sign: None,
            status: None,
            detail: None,
        };
        let steps = vec![step(Some(Class::Quota)), step(Some(Class::Key)), step(None)];
        pulse.ended(&Told { steps, ..told(Some(5)) }, Outcome::Answered);
        let failed = pulse.take(at(1_000), 0, 0).0.failed;
        assert_eq!((failed[Class::Quota as usize], failed[Class::Key as usize]), (1, 1));
        assert_eq!(failed.iter().sum::<u64>(), 2);
    }

    #[test]
    fn minutes_add_up_their_seconds_and_both_forget_the_oldest() {
        let pulse = Pulse::default();
        for second in 1..=(MINUTES as u64 + 2) * 60 {
            pulse.ended(&told(Some(if second % 2 == 0 { 10 } else { 1_000 })), Outcome::Answered);
            pulse.take(at(second * 1_000), 0, 0);
        }
        let (seconds, minutes) = pulse.past();
        assert_eq!((seconds.len(), minutes.len()), (SECONDS, MINUTES + 1));
        assert_eq!(seconds[0].requests, 1);
        assert!(minutes[1..MINUTES].iter().all(|m| m.requests == 60 && m.span_ms == MINUTE_MS));
        assert!(
            minutes[5].first_output_p95_ms.unwrap() > 900 && minutes[5].first_output_p50_ms.unwrap() < 20
        );
        assert_eq!(minutes[MINUTES].requests, 1, "the minute that runs");
    }
}
