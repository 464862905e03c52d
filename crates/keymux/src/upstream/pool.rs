//! Stacks of idle connections, one an origin. Taken from the top, so that a quiet hour lets the rest go cold and
//! be closed from the bottom.

use super::Sender;
use std::sync::{Mutex, PoisonError};

/// Idle connections kept for one origin by one worker.
const IDLE_MAX: usize = 1_024;
/// An idle connection older than this is not used again: most servers have closed theirs by then.
const IDLE_NS_MAX: u64 = 50_000_000_000;

/// An idle connection.
struct Idle {
    /// Takes the next request.
    sender: Sender,
    since_ns: u64,
}

/// The idle connections of one worker.
#[derive(Default)]
pub struct Pool {
    stacks: Mutex<Vec<Vec<Idle>>>,
}

impl Pool {
    /// The most recently used connection that is still open.
    pub fn take(&self, origin: usize, now_ns: u64) -> Option<Sender> {
        let mut stacks = self.stacks.lock().unwrap_or_else(PoisonError::into_inner);
        let stack = stacks.get_mut(origin)?;
        while let Some(idle) = stack.pop() {
            if now_ns.saturating_sub(idle.since_ns) > IDLE_NS_MAX {
                // What lies below is older still.
                stack.clear();
                return None;
            }
            if !idle.sender.is_closed() {
                return Some(idle.sender);
            }
        }
        None
    }

    /// Gives a connection back after its answer was read to the end.
    pub fn put(&self, origin: usize, sender: Sender, now_ns: u64) {
        if sender.is_closed() {
            return;
        }
        let mut stacks = self.stacks.lock().unwrap_or_else(PoisonError::into_inner);
        if stacks.len() <= origin {
            stacks.resize_with(origin + 1, Vec::new);
        }
        let stack = &mut stacks[origin];
        if stack.first().is_some_and(|oldest| now_ns.saturating_sub(oldest.since_ns) > IDLE_NS_MAX) {
            let cold = stack.partition_point(|idle| now_ns.saturating_sub(idle.since_ns) > IDLE_NS_MAX);
            stack.drain(..cold);
        }
        if stack.len() < IDLE_MAX {
            stack.push(Idle { sender, since_ns: now_ns });
        }
    }
}
