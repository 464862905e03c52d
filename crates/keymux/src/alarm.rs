//! Time limits of one task. A timer of the runtime for each limit of each request would be set and taken back thousands
//! of times a second and hardly ever go off; a task has one instead, which stays set. It is moved only if a limit is
//! nearer than what it is set to, or when it goes off for a limit that has moved on since.

use crate::clock::Clock;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use tokio::time::Sleep;

/// The timer of one task.
pub struct Alarm {
    clock: Clock,
    sleep: Option<Pin<Box<Sleep>>>,
    /// What it is set to (monotonic).
    set_ns: u64,
}

/// A limit has passed.
#[derive(Debug)]
pub struct Late;

impl Alarm {
    /// An alarm that is not set.
    pub fn new(clock: Clock) -> Self {
        Self { clock, sleep: None, set_ns: u64::MAX }
    }

    /// Whether this instant (monotonic) has passed. If not, the task is woken when it has, or earlier.
    pub fn is_past(&mut self, cx: &mut Context<'_>, limit_ns: u64) -> bool {
        loop {
            let sleep = match &mut self.sleep {
                Some(sleep) => sleep,
                none => none.insert(Box::pin(tokio::time::sleep_until(self.clock.at(limit_ns)))),
            };
            if limit_ns < self.set_ns {
                sleep.as_mut().reset(self.clock.at(limit_ns));
                self.set_ns = limit_ns;
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return false;
            }
            if self.clock.mono_ns() >= limit_ns {
                return true;
            }
            // It went off for an earlier limit.
            self.set_ns = u64::MAX;
        }
    }

    /// What `future` brings, if it comes before this instant (monotonic).
    pub async fn before<F: Future>(&mut self, limit_ns: u64, future: F) -> Result<F::Output, Late> {
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending if self.is_past(cx, limit_ns) => Poll::Ready(Err(Late)),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// The clock that it goes by.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    const MS: u64 = 1_000_000;

    #[test]
    fn limits_may_come_in_any_order_and_none_goes_off_early() {
        crate::rt::single().unwrap().block_on(async {
            let mut alarm = Alarm::new(Clock::start());
            // The last ones are nearer than what the alarm is set to, or long past.
            for (after_ms, far_ms) in [(5, 9_000), (5, 60_000), (20, 1_000), (0, 1_000), (5, 20)] {
                let now_ns = alarm.clock().mono_ns();
                assert!(
                    alarm.before(now_ns, ready(())).await.is_ok(),
                    "what is there is taken, however late"
                );
                assert!(!poll_fn(|cx| Poll::Ready(alarm.is_past(cx, now_ns + far_ms * MS))).await);
                let limit_ns = now_ns + after_ms * MS;
                assert!(alarm.before(limit_ns, pending::<()>()).await.is_err());
                assert!(alarm.clock().mono_ns() >= limit_ns);
            }
        });
    }
}
