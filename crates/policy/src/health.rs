//! How fast targets are: a peak-sensitive moving average of the time to the first token (as in Finagle's and
//! linkerd's balancers: a slow answer raises it at once, fast ones lower it over seconds), and the adaptive
//! first-byte time-out of a model. Knows nothing of failures but their duration.

use crate::time::{MS, SECOND};

/// What is known of a target counts half after this time, beside newer answers, or where nobody asks it, so that one
/// that was slow once is asked again soon. Each time that it is still as slow then, it takes twice as long to be asked
/// again, up to four times.
const HALVES_IN_S: f64 = 5.0;
const FADES_SLOWER_MAX: f64 = 4.0;
/// What fails is at least so slow, and twice as slow as before, up to a limit.
const FAILED_MIN_NS: u64 = 2 * SECOND;
const FAILED_TWICE_MAX_NS: u64 = 30 * SECOND;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ewma {
    ns: f64,
    at: u64,
    /// Times found as slow as before by whoever tried again.
    confirmed: u8,
}

impl Ewma {
    pub(crate) fn add(&mut self, now: u64, sample_ns: u64) {
        let sample = sample_ns as f64;
        let age = now.saturating_sub(self.at) as f64 / 1e9;
        if sample * 2.0 < self.ns || sample >= self.ns * 2.0 {
            self.confirmed = 0;
        } else if age >= self.halves_in_s() {
            self.confirmed = self.confirmed.saturating_add(1);
        }
        if self.ns <= 0.0 || sample > self.ns {
            self.ns = sample;
        } else {
            let keep = (-age.max(0.05) / HALVES_IN_S).exp2();
            self.ns = self.ns * keep + sample * (1.0 - keep);
        }
        self.at = now;
    }

    /// It failed after `took_ns`.
    pub(crate) fn add_failure(&mut self, now: u64, took_ns: u64) {
        let twice = crate::time::ns_of(self.ns * 2e-9).min(FAILED_TWICE_MAX_NS);
        self.add(now, took_ns.max(FAILED_MIN_NS).max(twice));
    }

    /// The average as it was last; `None` before the first sample.
    pub(crate) fn get(&self) -> Option<f64> {
        (self.ns > 0.0).then_some(self.ns)
    }

    /// How often it has halved since the last sample, or since somebody was last sent there to find out (`asked`): who
    /// comes next goes by what was known before, until that one is answered.
    pub(crate) fn halvings(&self, now: u64, asked: u64) -> f64 {
        now.saturating_sub(self.at.max(asked)) as f64 / 1e9 / self.halves_in_s()
    }

    fn halves_in_s(&self) -> f64 {
        HALVES_IN_S * f64::from(1_u32 << self.confirmed.min(8)).min(FADES_SLOWER_MAX)
    }
}

/// The p99 of a model's time to the first token wants this many samples.
const SAMPLES_MIN: usize = 20;
const SAMPLES: usize = 128;
/// Input sizes are told apart by powers of eight tokens above a thousand.
pub(crate) const SIZES: usize = 4;

/// Times to the first token of one model at one provider, for one class of input size.
#[derive(Clone, Debug, Default)]
pub(crate) struct FirstByte {
    samples: Vec<u32>,
    next: usize,
    p99_ms: u32,
    stale: u32,
    /// Of the last fifty or so, how many ran into the time-out.
    timeouts: f64,
    suspended_until: u64,
}

impl FirstByte {
    fn push(&mut self, ms: u32) {
        if self.samples.len() < SAMPLES {
            self.samples.push(ms);
        } else {
            self.samples[self.next] = ms;
        }
        self.next = (self.next + 1) % SAMPLES;
        self.stale += 1;
        if self.samples.len() >= SAMPLES_MIN && (self.stale >= 16 || self.p99_ms == 0 || ms > self.p99_ms) {
            let mut sorted = self.samples.clone();
            let at = (sorted.len() * 99 / 100).min(sorted.len() - 1);
            self.p99_ms = (*sorted.select_nth_unstable(at).1).max(1);
            self.stale = 0;
        }
    }

    pub(crate) fn answered(&mut self, took_ns: u64) {
        self.timeouts *= 0.98;
        self.push(u32::try_from(took_ns / MS).unwrap_or(u32::MAX));
    }

    /// It ran into a time-out after `took_ns`: a censored sample, which enters at twice its value. Over 5 % of
    /// time-outs the adaptive time-out is suspended: it may be what is wrong.
    pub(crate) fn timed_out(&mut self, now: u64, took_ns: u64) {
        self.timeouts = self.timeouts * 0.98 + 0.02;
        self.push(u32::try_from(took_ns / MS).unwrap_or(u32::MAX).saturating_mul(2));
        if self.timeouts > 0.05 {
            self.suspended_until = now.saturating_add(60 * SECOND);
        }
    }

    /// The time that hardly any answer takes longer than, where enough is known.
    pub(crate) fn p99_ns(&self) -> Option<u64> {
        (self.samples.len() >= SAMPLES_MIN).then(|| u64::from(self.p99_ms.max(1)) * MS)
    }

    /// max(2 s, 4 x p99), doubled for each further attempt.
    pub(crate) fn timeout_ns(&self, now: u64, attempt: u32) -> Option<u64> {
        if self.samples.len() < SAMPLES_MIN || now < self.suspended_until {
            return None;
        }
        let first = (u64::from(self.p99_ms) * MS).saturating_mul(4).max(2 * SECOND);
        Some(first.saturating_mul(1 << attempt.saturating_sub(1).min(6)))
    }
}

/// The class of an input size.
pub(crate) fn size_class(input_tokens: u64) -> usize {
    match input_tokens {
        0..1_000 => 0,
        1_000..8_000 => 1,
        8_000..64_000 => 2,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_count_at_once_and_fade_slowly() {
        let mut e = Ewma::default();
        assert_eq!(e.get(), None);
        e.add(0, SECOND);
        e.add(SECOND, 10 * SECOND);
        assert!(e.get().unwrap() > 9.9e9);
        e.add(2 * SECOND, SECOND);
        assert!(e.get().unwrap() > 8e9, "one fast answer does not undo it");
        for i in 3..60 {
            e.add(i * SECOND, SECOND);
        }
        assert!(e.get().unwrap() < 1.2e9);
    }

    #[test]
    fn what_is_not_asked_halves_more_slowly_each_time_it_is_found_as_slow() {
        let (mut e, near) = (Ewma::default(), |a: f64, b: f64| (a - b).abs() < 1e-9);
        e.add(0, 14 * SECOND);
        assert!(near(e.halvings(10 * SECOND, 0), 2.0));
        assert!(near(e.halvings(40 * SECOND, 30 * SECOND), 2.0), "somebody is out to see");
        for (at, halvings) in [(100, 2.0), (200, 1.0), (300, 1.0), (400, 1.0)] {
            e.add(at * SECOND, 14 * SECOND);
            assert!(near(e.halvings((at + 20) * SECOND, 0), halvings), "{at}");
        }
        e.add(500 * SECOND, SECOND / 5);
        assert!(e.get().unwrap() < 0.3e9, "one good answer after so long is believed");
        e.add(501 * SECOND, 14 * SECOND);
        assert!(near(e.halvings(511 * SECOND, 0), 2.0), "that is new");
    }

    #[test]
    fn failures_count_twice_what_was_up_to_a_limit() {
        let mut e = Ewma::default();
        (0..50).for_each(|_| e.add_failure(0, 50 * MS));
        assert!(e.get().unwrap() < 31e9);
        e.add_failure(0, 60 * SECOND);
        assert!(e.get().unwrap() > 59e9, "as long as it took");
    }

    #[test]
    fn the_first_byte_time_out_follows_the_p99_and_suspends_itself() {
        let mut f = FirstByte::default();
        for _ in 0..19 {
            f.answered(SECOND);
        }
        assert_eq!(f.timeout_ns(0, 1), None, "not enough known");
        f.answered(SECOND);
        assert_eq!(f.timeout_ns(0, 1), Some(4 * SECOND));
        assert_eq!(f.timeout_ns(0, 2), Some(8 * SECOND), "the next try gets double");
        f.timed_out(0, 4 * SECOND);
        assert_eq!(f.timeout_ns(0, 1), Some(32 * SECOND), "censored at twice its value");
        f.timed_out(0, 4 * SECOND);
        f.timed_out(0, 4 * SECOND);
        assert_eq!(f.timeout_ns(SECOND, 1), None);
        assert!(f.timeout_ns(61 * SECOND, 1).is_some());
        let mut fast = FirstByte::default();
        (0..50).for_each(|_| fast.answered(50 * MS));
        assert_eq!(fast.timeout_ns(0, 1), Some(2 * SECOND), "never below two seconds");
    }
}
