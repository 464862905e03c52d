//! Says when requests are due. It ticks on a thread of its own: a runtime's timer is a millisecond coarse,
//! which is more than the latencies that are measured here.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::clock::instant;
use crate::load::{Load, Shape};
use crate::rt;

/// Requests that are due and not yet taken.
pub(crate) struct Due {
    waiting: Mutex<VecDeque<Instant>>,
    ready: Semaphore,
    stopped: AtomicBool,
}

impl Due {
    /// Starts ticking. The thread ends after the last tick, or when [`Due::stop`] was called.
    pub(crate) fn start(load: &Load) -> std::io::Result<Arc<Due>> {
        let due = Arc::new(Due {
            waiting: Mutex::new(VecDeque::new()),
            ready: Semaphore::new(0),
            stopped: AtomicBool::new(false),
        });
        let beats = Beats::new(load);
        let ticking = Arc::clone(&due);
        rt::thread("metronome", move || ticking.tick(beats))?;
        Ok(due)
    }

    fn tick(&self, beats: Beats) {
        let start = instant();
        for offset in beats {
            let at = start + offset;
            let now = instant();
            if at > now {
                std::thread::sleep(at - now);
            }
            if self.stopped.load(Ordering::Relaxed) {
                break;
            }
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(at);
            self.ready.add_permits(1);
        }
        // Whoever waits after the last beat finds the queue empty and ends.
        self.ready.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    /// The next request that is due; None when there will be no more.
    pub(crate) async fn next(&self) -> Option<Instant> {
        let permit = self.ready.acquire().await.ok()?;
        permit.forget();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// No more requests become due; those that wait are still taken.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

/// Offsets from the start.
struct Beats {
    gap_ns: f64,
    shape: Shape,
    end_ns: f64,
    left: u64,
    sent: u64,
    at_ns: f64,
    seed: u64,
}

impl Beats {
    fn new(load: &Load) -> Self {
        Beats {
            gap_ns: 1e9 / load.rate.max(1e-6),
            shape: load.shape,
            end_ns: load.duration.as_secs_f64() * 1e9,
            left: load.count.unwrap_or(u64::MAX),
            sent: 0,
            at_ns: 0.0,
            seed: load.seed,
        }
    }
}

impl Iterator for Beats {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        self.at_ns = match self.shape {
            Shape::Steady => self.sent as f64 * self.gap_ns,
            Shape::Burst { size } => {
                (self.sent / u64::from(size.max(1))) as f64 * self.gap_ns * f64::from(size.max(1))
            }
            Shape::Random if self.sent == 0 => 0.0,
            Shape::Random => self.at_ns - (1.0 - unit(&mut self.seed)).ln() * self.gap_ns,
        };
        self.sent += 1;
        (self.at_ns < self.end_ns).then(|| Duration::from_secs_f64(self.at_ns / 1e9))
    }
}

/// Uniform in `[0, 1)`; `SplitMix64`.
pub(crate) fn unit(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beats(shape: Shape, rate: f64, count: Option<u64>) -> Vec<f64> {
        let load = Load { shape, rate, count, duration: Duration::from_secs(1), ..Load::default() };
        Beats::new(&load).map(|beat| beat.as_secs_f64()).collect()
    }

    #[test]
    fn all_shapes_have_the_same_mean_rate() {
        assert_eq!(beats(Shape::Steady, 4.0, None), [0.0, 0.25, 0.5, 0.75]);
        assert_eq!(beats(Shape::Burst { size: 2 }, 4.0, None), [0.0, 0.0, 0.5, 0.5]);
        let random = beats(Shape::Random, 10_000.0, None);
        assert!((9_600..10_400).contains(&random.len()), "{}", random.len());
        assert!(random.is_sorted());
    }

    #[test]
    fn a_count_ends_it_early() {
        assert_eq!(beats(Shape::Steady, 100.0, Some(3)).len(), 3);
    }
}
