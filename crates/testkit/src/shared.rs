//! The world behind its lock, with its clock, and everybody who waits for something to happen in it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use keymux_provider::{How, Now, World, WorldError, WorldSpec};
use tokio::sync::watch;

use crate::capture::Capture;
use crate::clock::Clock;

/// A world and when it began.
pub(crate) struct Age {
    pub(crate) world: World,
    pub(crate) clock: Clock,
    /// Which world since the server started: calls of an earlier one are none of this one's business.
    pub(crate) number: u64,
}

impl Age {
    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }
}

pub(crate) struct Shared {
    age: Mutex<Age>,
    /// Wakes threads that wait for records.
    happened: Condvar,
    /// Wakes tasks that do.
    changed: watch::Sender<u64>,
    captures: Mutex<VecDeque<Arc<Capture>>>,
    keep_captures: usize,
    spec: WorldSpec,
    seed: u64,
}

impl Shared {
    pub(crate) fn new(spec: WorldSpec, seed: u64, keep_captures: usize) -> Result<Self, WorldError> {
        let world = World::new(spec.clone(), seed)?;
        Ok(Shared {
            age: Mutex::new(Age { world, clock: Clock::start(), number: 0 }),
            happened: Condvar::new(),
            changed: watch::Sender::new(0),
            captures: Mutex::new(VecDeque::new()),
            keep_captures,
            spec,
            seed,
        })
    }

    /// The world, for as long as the guard lives. A panic elsewhere does not take the books away.
    pub(crate) fn age(&self) -> MutexGuard<'_, Age> {
        self.age.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells everybody that the books changed.
    pub(crate) fn tell(&self) {
        self.happened.notify_all();
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
    }

    pub(crate) fn happened(&self) -> &Condvar {
        &self.happened
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Ends a call of the world with this number.
    pub(crate) fn done(&self, age_number: u64, id: u64, how: How) {
        let mut age = self.age();
        if age.number == age_number {
            let now = age.now();
            age.world.done(id, now, how);
        }
        drop(age);
        self.tell();
    }

    /// A new world of the same spec and seed; its time begins now.
    pub(crate) fn reset(&self) -> Result<(), WorldError> {
        let world = World::new(self.spec.clone(), self.seed)?;
        let mut age = self.age();
        age.world = world;
        age.clock = Clock::start();
        age.number += 1;
        drop(age);
        self.captures.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.tell();
        Ok(())
    }

    pub(crate) fn captures_wanted(&self) -> bool {
        self.keep_captures > 0
    }

    pub(crate) fn keep(&self, capture: Arc<Capture>) {
        let mut captures = self.captures.lock().unwrap_or_else(PoisonError::into_inner);
        if captures.len() >= self.keep_captures {
            captures.pop_front();
        }
        captures.push_back(capture);
    }

    pub(crate) fn captures(&self) -> Vec<Arc<Capture>> {
        self.captures.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
