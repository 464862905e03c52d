//! What was used of a window that nobody knows the beginning of: it begins with a request, but which one that was is
//! known to the provider alone. However it lies, it has admitted no more than was sent in its length; so of no such
//! length more is sent than the limit. Under load that is as much as the window admits.
//!
//! Charges that are close together are kept as one, which counts as long as the last of them.

use std::collections::VecDeque;

/// Charges this share of a period apart are one.
const GRAIN: u64 = 256;

/// It is saved in so many parts.
const PARTS: usize = 32;

#[derive(Clone, Debug, Default)]
pub(crate) struct Slide {
    /// Until when a charge counts (monotonic), and how much, in order of time.
    charges: VecDeque<(u64, f64)>,
    /// All of them together.
    sum: f64,
    /// Number of the first of them.
    first: u64,
    /// How long the first of what is in the last of them counts.
    begun: u64,
}

impl Slide {
    pub(crate) fn used(&self, mono_ns: u64) -> f64 {
        let over = self.charges.iter().take_while(|(until, _)| *until <= mono_ns);
        (self.sum - over.map(|(_, amount)| amount).sum::<f64>()).max(0.0)
    }

    /// When nothing of it counts any more.
    pub(crate) fn end(&self, mono_ns: u64) -> Option<u64> {
        self.charges.back().map(|(until, _)| *until).filter(|until| *until > mono_ns)
    }

    /// Charges until then, and names the charge.
    pub(crate) fn take(&mut self, mono_ns: u64, until: u64, amount: f64) -> u64 {
        while let Some((_, gone)) = self.charges.pop_front_if(|(until, _)| *until <= mono_ns) {
            self.first += 1;
            self.sum -= gone;
        }
        if self.charges.is_empty() {
            self.sum = 0.0;
        }
        self.sum += amount;
        match self.charges.back_mut() {
            Some((last, sum))
                if until.saturating_sub(self.begun) <= until.saturating_sub(mono_ns) / GRAIN =>
            {
                (*last, *sum) = (until.max(*last), *sum + amount);
            }
            _ => {
                self.begun = until;
                self.charges.push_back((until, amount));
            }
        }
        self.first + self.charges.len() as u64 - 1
    }

    /// Gives back of a charge, if it still counts.
    pub(crate) fn give_back(&mut self, charge: u64, amount: f64) {
        let at = charge.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        if let Some((_, sum)) = at.and_then(|at| self.charges.get_mut(at)) {
            let back = amount.min(*sum);
            *sum -= back;
            self.sum -= back;
        }
    }

    /// All is forgotten, and nothing of it can be given back.
    pub(crate) fn clear(&mut self) {
        self.first += self.charges.len() as u64;
        self.charges.clear();
        (self.sum, self.begun) = (0.0, 0);
    }

    /// The oldest are forgotten: so much less is used.
    pub(crate) fn forget(&mut self, mut amount: f64) {
        for (_, sum) in &mut self.charges {
            let part = amount.min(*sum);
            *sum -= part;
            self.sum -= part;
            amount -= part;
        }
    }

    /// What counts, and until when, in few parts: each as long as the last of it.
    pub(crate) fn parts(&self, mono_ns: u64) -> Vec<(Option<u64>, f64)> {
        let charges: Vec<_> = self.charges.iter().filter(|(until, _)| *until > mono_ns).collect();
        let parts = charges.chunks(charges.len().div_ceil(PARTS).max(1));
        parts
            .filter_map(|part| Some((Some(part.last()?.0), part.iter().map(|(_, amount)| amount).sum())))
            .collect()
    }

    /// When no more than so much of it counts.
    pub(crate) fn down_to(&self, mono_ns: u64, level: f64) -> u64 {
        let mut used = self.used(mono_ns);
        let mut at = mono_ns;
        for (until, amount) in self.charges.iter().skip_while(|(until, _)| *until <= mono_ns) {
            if used <= level + 1e-9 {
                break;
            }
            (used, at) = (used - amount, *until);
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SECOND;

    #[test]
    fn each_charge_counts_for_its_time_and_what_is_given_back_is_its_own() {
        let mut s = Slide::default();
        let first = s.take(0, 10 * SECOND, 4.0);
        let second = s.take(5 * SECOND, 15 * SECOND, 5.0);
        assert_ne!(first, second);
        assert_eq!(s.down_to(6 * SECOND, 9.0), 6 * SECOND);
        assert_eq!(s.down_to(6 * SECOND, 8.0), 10 * SECOND);
        assert_eq!(s.down_to(6 * SECOND, 4.0), 15 * SECOND);
        s.give_back(second, 3.0);
        assert!((s.used(11 * SECOND) - 2.0).abs() < 1e-9);
        s.take(11 * SECOND, 21 * SECOND, 1.0);
        s.give_back(first, 4.0);
        assert!((s.used(11 * SECOND) - 3.0).abs() < 1e-9, "the first is over");
        s.forget(2.5);
        assert!((s.used(11 * SECOND) - 0.5).abs() < 1e-9);
        assert_eq!(s.end(11 * SECOND), Some(21 * SECOND));
        let third = s.take(11 * SECOND, 22 * SECOND, 1.0);
        s.clear();
        s.give_back(third, 1.0);
        s.take(11 * SECOND, 12 * SECOND, 2.0);
        s.give_back(third, 1.0);
        assert!((s.used(11 * SECOND) - 2.0).abs() < 1e-9, "what was forgotten is not given back");
        assert_eq!((s.end(11 * SECOND), s.used(12 * SECOND)), (Some(12 * SECOND), 0.0));
    }

    #[test]
    fn many_small_charges_are_few() {
        let mut s = Slide::default();
        for i in 0..100_000u64 {
            s.take(i * SECOND / 1_000, i * SECOND / 1_000 + 10 * SECOND, 1.0);
        }
        assert!(s.charges.len() <= 260 && (s.used(99 * SECOND + SECOND) - 10_000.0).abs() < 50.0);
    }
}
