//! Stacks of idle connections, one an origin. Taken from the top, so that a quiet hour lets the rest go cold and
//! be closed from the bottom.

use super::h1::Connection;
use std::sync::{Mutex, PoisonError};

/// Idle connections kept for one origin by one worker.
const IDLE_MAX: usize = 1_024;
/// An idle connection older than this is not used again: most servers have closed theirs by then.
const IDLE_NS_MAX: u64 = 50_000_000_000;

/// An idle connection.
struct Idle {
    /// Takes the next request.
    connection: Connection,
    since_ns: u64,
}

impl Idle {
    fn is_cold(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.since_ns) > IDLE_NS_MAX
    }
}

/// The idle connections of one worker.
#[derive(Default)]
pub struct Pool {
    stacks: Mutex<Vec<Vec<Idle>>>,
}

impl Pool {
    /// The most recently used connection that is still open.
    pub fn take(&self, origin: usize, now_ns: u64) -> Option<Connection> {
        let mut stacks = self.stacks.lock().unwrap_or_else(PoisonError::into_inner);
        let stack = stacks.get_mut(origin)?;
        while let Some(mut idle) = stack.pop() {
            if idle.is_cold(now_ns) {
                // What lies below is older still.
                stack.clear();
                return None;
            }
            if idle.connection.is_open() {
                return Some(idle.connection);
            }
        }
        None
    }

    /// Gives a connection back after its answer was read to the end.
    pub fn put(&self, origin: usize, connection: Connection, now_ns: u64) {
        let mut stacks = self.stacks.lock().unwrap_or_else(PoisonError::into_inner);
        if stacks.len() <= origin {
            stacks.resize_with(origin + 1, Vec::new);
        }
        let stack = &mut stacks[origin];
        if stack.len() < IDLE_MAX {
            stack.push(Idle { connection, since_ns: now_ns });
        }
    }

    /// Closes what is too old or was closed by the other side; nobody else watches over idle connections.
    pub fn sweep(&self, now_ns: u64) {
        let mut stacks = self.stacks.lock().unwrap_or_else(PoisonError::into_inner);
        for stack in stacks.iter_mut() {
            stack.retain_mut(|idle| !idle.is_cold(now_ns) && idle.connection.is_open());
        }
    }

    /// Idle connections of all origins.
    pub fn len(&self) -> usize {
        self.stacks.lock().unwrap_or_else(PoisonError::into_inner).iter().map(Vec::len).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
