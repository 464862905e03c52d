//! How old a table is.

use super::Table;
use crate::problem::{Problem, Severity};
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// After so many days it is likely that prices have changed, and that models are missing. The alert `KeymuxPricesOld` has
/// the same number.
pub const OLD_DAYS: u64 = 90;

const DAY_S: u64 = 86_400;

impl Table {
    /// Seconds since the day began (UTC) that the table was made. `None` if it has none.
    pub fn age_s(&self, now_unix_s: u64) -> Option<u64> {
        let made: Date = self.date.parse().ok()?;
        let made = made.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second();
        Some(now_unix_s.saturating_sub(u64::try_from(made).ok()?))
    }

    /// A warning if it is older than [`OLD_DAYS`].
    pub fn old(&self, now_unix_s: u64) -> Option<Problem> {
        let age_s = self.age_s(now_unix_s).filter(|age_s| *age_s > OLD_DAYS * DAY_S)?;
        Some(Problem {
            severity: Severity::Warning,
            line: None,
            column: None,
            span: None,
            message: format!(
                "the table of prices is of {}, {} days ago: prices may have changed since, and models are missing",
                self.date,
                age_s / DAY_S
            ),
            hint: Some(
                "take a newer keymux, or write a table with scripts/prices --out and name it as [prices] file; \
                 a [[price]] holds for one model"
                    .to_owned(),
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_old_after_its_days_and_tells_its_date_and_age() {
        let table = Table::read("keymux-prices 1 2026-11-23 x\np p\nm 0 m\nr - i1\n").unwrap();
        let made_s = 1_795_392_000;
        assert_eq!(table.age_s(made_s + 5), Some(5));
        assert_eq!(table.age_s(made_s - 5), Some(0), "a clock that is behind");
        assert_eq!(table.old(made_s + OLD_DAYS * DAY_S), None);
        let told = table.old(made_s + OLD_DAYS * DAY_S + 1).unwrap();
        assert_eq!(told.severity, Severity::Warning);
        assert!(told.message.contains("is of 2026-11-23, 90 days ago"), "{}", told.message);
        assert_eq!(Table::default().old(made_s), None);
    }
}
