//! The global retry budget: what one failing provider can add to the load of the others is bounded, whatever each
//! request would like. Retries may be a share of the requests over the last 10 s; besides, some are allowed in each
//! second. Quota refusals and benches do not draw on it: they are no failures.

use crate::fleet::RetrySettings;
use crate::time::SECOND;

const SECONDS: usize = 10;

#[derive(Clone, Debug, Default)]
pub(crate) struct RetryBudget {
    cells: [(u64, u32, u32); SECONDS],
}

impl RetryBudget {
    fn cell(&mut self, now: u64) -> &mut (u64, u32, u32) {
        let second = now / SECOND;
        let cell = &mut self.cells[usize::try_from(second % SECONDS as u64).unwrap_or(0)];
        if cell.0 != second {
            *cell = (second, 0, 0);
        }
        cell
    }

    /// A request came.
    pub(crate) fn request(&mut self, now: u64) {
        self.cell(now).1 += 1;
    }

    /// Draws one retry. `Err(at)`: spent, look again then.
    pub(crate) fn draw(&mut self, now: u64, settings: &RetrySettings) -> Result<(), u64> {
        let second = self.cell(now).2;
        if f64::from(second) + 1.0 <= settings.budget_floor_per_s || self.left(now, settings) >= 1.0 {
            self.cell(now).2 += 1;
            return Ok(());
        }
        Err((now / SECOND + 1) * SECOND)
    }

    /// Retries that the share allows now, on top of the floor.
    pub(crate) fn left(&self, now: u64, settings: &RetrySettings) -> f64 {
        let first = (now / SECOND).saturating_sub(SECONDS as u64 - 1);
        let recent = self.cells.iter().filter(|c| c.0 >= first);
        let (requests, retries) = recent.fold((0, 0), |(a, b), c| (a + c.1, b + c.2));
        f64::from(requests) * settings.budget_ratio - f64::from(retries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Settings;

    #[test]
    fn at_most_a_share_of_the_requests_and_a_floor_a_second() {
        let (mut b, s) = (RetryBudget::default(), Settings::default().retry);
        let drawn = |b: &mut RetryBudget, at| (0..1_000).take_while(|_| b.draw(at, &s).is_ok()).count();
        assert_eq!(drawn(&mut b, 100 * SECOND), 10, "the floor");
        assert_eq!(b.draw(100 * SECOND + 1, &s), Err(101 * SECOND));
        assert_eq!(drawn(&mut b, 101 * SECOND), 10, "again in the next second");
        for _ in 0..1_000 {
            b.request(102 * SECOND);
        }
        assert_eq!(drawn(&mut b, 102 * SECOND), 180, "a fifth of a thousand, less what was drawn");
        assert_eq!(drawn(&mut b, 113 * SECOND), 10, "old requests do not count for ever");
    }
}
