//! Events on their way out: a bounded ring. When nobody takes them, the oldest give way, and are counted.

use crate::event::{Event, What};
use crate::time::Now;
use std::collections::VecDeque;

const CAP: usize = 1_024;

#[derive(Debug, Default)]
pub(crate) struct EventRing {
    events: VecDeque<Event>,
    pub(crate) dropped: u64,
}

impl EventRing {
    pub(crate) fn push(&mut self, at: Now, what: What) {
        if self.events.len() == CAP {
            self.events.pop_front();
            self.dropped += 1;
        }
        self.events.push_back(Event { at, what });
    }

    pub(crate) fn take(&mut self, out: &mut Vec<Event>) {
        out.extend(self.events.drain(..));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_give_way_and_are_counted() {
        let mut ring = EventRing::default();
        for i in 0..CAP as u64 + 5 {
            ring.push(Now { mono_ns: i, unix_ns: 0 }, What::Reconfigured);
        }
        let mut out = Vec::new();
        ring.take(&mut out);
        assert_eq!((out.len(), out[0].at.mono_ns, ring.dropped), (CAP, 5, 5));
    }
}
