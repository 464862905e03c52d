//! What each connection of a worker is doing, so that slow heads, idle connections and clients that take no bytes are
//! ended. One look at all of them twice a second costs a request less than a timer of its own would.

use super::{Gateway, Worker};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::{Context, Waker};
use std::time::Duration;

/// How often a worker looks for connections, of clients and to providers, that have been slow or idle for too long.
const SWEEP: Duration = Duration::from_millis(500);

/// What a connection is doing.
pub(super) struct Watch {
    gateway: Arc<Gateway>,
    /// Since when it is in this state (monotonic).
    since_ns: AtomicU64,
    state: AtomicU32,
    /// The state that began then has lasted for too long. Not a mere flag: what came while the sweep looked is
    /// another state, with time of its own.
    over_since_ns: AtomicU64,
    /// Of the task that serves it.
    waker: OnceLock<Waker>,
}

/// Between two requests.
pub(super) const IDLE: u32 = 0;
/// A head has begun.
pub(super) const HEAD: u32 = 1;
/// A head is whole, and its answer not yet.
pub(super) const BUSY: u32 = 2;
/// Busy, but the client takes no bytes.
pub(super) const STALLED: u32 = 3;

impl Watch {
    pub(super) fn new(gateway: Arc<Gateway>) -> Self {
        // A fresh connection that says nothing is as slow as a slow head.
        Self {
            since_ns: AtomicU64::new(gateway.clock.mono_ns()),
            gateway,
            state: AtomicU32::new(HEAD),
            over_since_ns: AtomicU64::new(u64::MAX),
            waker: OnceLock::new(),
        }
    }

    /// The connection is in this state, perhaps since before.
    pub(super) fn is_in(&self, state: u32) {
        if self.state.load(Ordering::Relaxed) == state {
            return;
        }
        // Nobody asks how long it is busy.
        if state != BUSY {
            self.since_ns.store(self.gateway.clock.mono_ns(), Ordering::Relaxed);
        }
        self.state.store(state, Ordering::Release);
    }

    /// Whether it has been in its state for too long. The task is woken when it has.
    pub(super) fn is_over(&self, cx: &Context<'_>) -> bool {
        self.waker.get_or_init(|| cx.waker().clone());
        self.over_since_ns.load(Ordering::Acquire) == self.since_ns()
    }

    pub(super) fn since_ns(&self) -> u64 {
        self.since_ns.load(Ordering::Relaxed)
    }

    /// The state that began then is over.
    pub(super) fn end(&self, since_ns: u64) {
        self.over_since_ns.store(since_ns, Ordering::Release);
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }
}

/// All connections of one worker.
#[derive(Default)]
pub(super) struct Watched {
    all: Mutex<Vec<Weak<Watch>>>,
}

impl Watched {
    pub(super) fn add(&self, watch: &Arc<Watch>) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(watch));
    }
}

/// Looks at them until they are gone.
pub(super) async fn sweep(watched: Weak<Watched>, worker: Arc<Worker>) {
    let mut every = tokio::time::interval(SWEEP);
    loop {
        every.tick().await;
        let Some(watched) = watched.upgrade() else { return };
        let now_ns = worker.gateway.clock.mono_ns();
        worker.dialer.pool.sweep(now_ns);
        // Read anew each time: a reload may have changed them.
        let live = worker.gateway.live.load_full();
        let server = &live.config.server;
        watched.all.lock().unwrap_or_else(PoisonError::into_inner).retain(|watch| {
            let Some(watch) = watch.upgrade() else { return false };
            let allowed_ms = match watch.state.load(Ordering::Acquire) {
                HEAD => server.header_timeout_ms,
                IDLE => server.keep_alive_ms,
                // A client that takes no byte for so long is gone, or holds a key's slot on purpose.
                STALLED => server.body_timeout_ms,
                _ => return true,
            };
            let allowed_ns = allowed_ms.saturating_mul(1_000_000);
            let since_ns = watch.since_ns();
            if now_ns.saturating_sub(since_ns) > allowed_ns {
                watch.end(since_ns);
            }
            true
        });
    }
}
