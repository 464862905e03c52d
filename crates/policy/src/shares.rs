//! What each class has had of a limit lately. Classes are strict, but normal keeps a tenth and low a twentieth of each
//! limit that binds, over the last minute (counted in halves: of the running half minute and the one before).

use crate::time::SECOND;

const HALF_NS: u64 = 30 * SECOND;
/// The share that each class keeps, by its rank: high needs none.
pub(crate) const KEPT: [f64; 3] = [0.0, 0.10, 0.05];

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shares {
    half: u64,
    now: [f64; 3],
    before: [f64; 3],
}

impl Shares {
    fn roll(&self, now: u64) -> ([f64; 3], [f64; 3]) {
        match (now / HALF_NS).saturating_sub(self.half) {
            0 => (self.now, self.before),
            1 => ([0.0; 3], self.now),
            _ => ([0.0; 3], [0.0; 3]),
        }
    }

    /// A request of this class took so much.
    pub(crate) fn add(&mut self, now: u64, class: u8, amount: f64) {
        let half = now / HALF_NS;
        if half > self.half {
            (self.now, self.before) = self.roll(now);
            self.half = half;
        }
        self.now[usize::from(class)] += amount;
    }

    /// Whether this class is served at the rate that it keeps, or about to be: it has not had much more lately.
    pub(crate) fn keeps(&self, now: u64, class: u8, need: f64) -> bool {
        let (new, old) = self.roll(now);
        let class = usize::from(class);
        let total: f64 = new.iter().chain(&old).sum();
        KEPT[class] > 0.0 && new[class] + old[class] < 1.25 * KEPT[class] * total + need
    }

    /// Whether this class has had so much less than it keeps that `need` is owed to it; or, where that is more than
    /// it can ever be owed of a limit that admits `minute` in a minute, nearly all that it can.
    pub(crate) fn owes(&self, now: u64, class: u8, need: f64, minute: f64) -> bool {
        let (new, old) = self.roll(now);
        let class = usize::from(class);
        let total: f64 = new.iter().chain(&old).sum();
        let owed = KEPT[class] * total - new[class] - old[class];
        owed > 0.0 && owed >= need.min(0.8 * KEPT[class] * minute)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_owed_its_share_of_the_last_minute() {
        let owes = |s: &Shares, now, class| s.owes(now, class, 1.0, 1_000.0);
        let mut s = Shares::default();
        assert!(!owes(&s, 0, 1), "nothing was given to anybody");
        s.add(0, 0, 9.0);
        assert!(!owes(&s, 0, 1), "not yet a whole request");
        s.add(0, 0, 86.0);
        assert!(owes(&s, 0, 1) && owes(&s, 0, 2) && !owes(&s, 0, 0));
        s.add(SECOND, 1, 11.0);
        assert!(!owes(&s, SECOND, 1) && owes(&s, SECOND, 2));
        assert!(owes(&s, 40 * SECOND, 2), "half a minute later it still counts");
        assert!(!owes(&s, 90 * SECOND, 2), "a minute later it does not");
        s.add(90 * SECOND, 0, 100.0);
        s.add(90 * SECOND, 1, 8.0);
        assert!(owes(&s, 90 * SECOND, 1));
    }

    #[test]
    fn what_is_larger_than_the_share_of_a_minute_gets_its_turn_too() {
        let mut s = Shares::default();
        s.add(0, 0, 900.0);
        assert!(!s.owes(0, 2, 500.0, 10_000.0));
        s.add(0, 0, 9_000.0);
        assert!(s.owes(0, 2, 5_000.0, 10_000.0), "a twentieth of a minute is 500, and it has had nothing");
    }
}
