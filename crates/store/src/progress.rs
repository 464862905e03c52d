//! How the threads of the store hear of each other.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Something has moved on: rows came, rows went, the end came.
#[derive(Default)]
pub(crate) struct Progress {
    lock: Mutex<()>,
    wake: Condvar,
}

impl Progress {
    pub(crate) fn tell(&self) {
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_all();
    }

    /// Sleeps until there is cause, at most so long; says whether there was.
    pub(crate) fn sleep(&self, limit: Duration, cause: impl Fn() -> bool) -> bool {
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let slept = self.wake.wait_timeout_while(lock, limit, |()| !cause());
        !slept.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}
