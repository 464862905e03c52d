//! What is logged of requests, and from which level on. Both change while the gateway serves: by a reload, the level also
//! by hand, until the file names another one.

use crate::{observe, traces};
use keymux_config::{Log, LogLevel};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// What is logged.
pub struct Logs {
    requests: AtomicBool,
    /// The share of answered requests, as the bits of an `f64`.
    share: AtomicU64,
    level: Mutex<LogLevel>,
}

impl Logs {
    pub(super) fn new(log: &Log) -> Self {
        Self {
            requests: AtomicBool::new(log.requests),
            share: AtomicU64::new(log.sample.to_bits()),
            level: Mutex::new(log.level),
        }
    }

    /// Another configuration is in force. A level that was set by hand stays if the file still says what it did.
    pub(super) fn reload(&self, log: &Log, level_before: LogLevel) {
        self.requests.store(log.requests, Ordering::Relaxed);
        self.share.store(log.sample.to_bits(), Ordering::Relaxed);
        if log.level != level_before {
            self.set_level(log.level);
        }
    }

    /// Whether to log a request. Whatever was not answered is worth its line.
    pub fn wants(&self, id: &str, answered: bool) -> bool {
        if !self.requests.load(Ordering::Relaxed) {
            return false;
        }
        let share = f64::from_bits(self.share.load(Ordering::Relaxed));
        share >= 1.0 || !answered || traces::share_of(id) < share
    }

    /// The level in force.
    pub fn level(&self) -> LogLevel {
        *self.level.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts another level in force.
    pub fn set_level(&self, level: LogLevel) {
        let mut now = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        // Where nobody logs, in a test, there is nothing to filter.
        observe::set_level(level);
        *now = level;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keymux_config::LogFormat;

    fn log(requests: bool, sample: f64) -> Log {
        Log { requests, sample, format: LogFormat::Text, level: LogLevel::Info }
    }

    #[test]
    fn a_share_of_what_was_answered_is_logged_and_all_that_was_not() {
        let ids: Vec<String> = (0..2_000).map(|n| format!("km-{n:026x}")).collect();
        for (log, answered, others) in [
            (log(true, 1.0), 2_000..2_001, 2_000),
            (log(true, 0.0), 0..1, 2_000),
            (log(true, 0.5), 900..1_100, 2_000),
            (log(false, 1.0), 0..1, 0),
        ] {
            let logs = Logs::new(&log);
            let count = |answered| ids.iter().filter(|id| logs.wants(id, answered)).count();
            assert!(answered.contains(&count(true)), "{log:?}: {}", count(true));
            assert_eq!(count(false), others, "{log:?}");
        }
    }

    #[test]
    fn a_level_set_by_hand_stays_until_the_file_names_another() {
        let logs = Logs::new(&log(true, 1.0));
        logs.set_level(LogLevel::Debug);
        logs.reload(&log(false, 1.0), LogLevel::Info);
        assert_eq!((logs.level(), logs.wants("km-1", false)), (LogLevel::Debug, false));
        logs.reload(&Log { level: LogLevel::Warn, ..log(true, 1.0) }, LogLevel::Info);
        assert_eq!((logs.level(), logs.wants("km-1", false)), (LogLevel::Warn, true));
    }
}
