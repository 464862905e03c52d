//! Periods of budgets in UTC: the day from midnight, the week from Monday, the month from the first, or all of time.
//! The civil calendar is computed after Howard Hinnant, "chrono-compatible low-level date algorithms".

use crate::time::{DAY, Now};

/// When a budget is whole again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Reset {
    /// Never: what is spent stays spent.
    #[default]
    Never,
    /// At midnight UTC.
    Daily,
    /// At midnight UTC on Mondays.
    Weekly,
    /// At midnight UTC on the first of the month.
    Monthly,
}

/// A budget's period, told by its first day (days since 1970-01-01). Later periods are greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(u64);

impl Period {
    /// When it began (nanoseconds since 1970-01-01 UTC).
    pub fn start_unix_ns(self) -> u64 {
        self.0.saturating_mul(DAY)
    }
}

impl Reset {
    /// The period that an instant lies in.
    pub fn period(self, now: Now) -> Period {
        let day = now.unix_ns / DAY;
        Period(match self {
            Self::Never => 0,
            Self::Daily => day,
            // The first day of all was a Thursday.
            Self::Weekly => day.saturating_sub((day + 3) % 7),
            Self::Monthly => first_of_month(day),
        })
    }

    /// When the period after this one begins (nanoseconds since 1970-01-01 UTC); `None`: never.
    pub fn end_unix_ns(self, period: Period) -> Option<u64> {
        let day = match self {
            Self::Never => return None,
            Self::Daily => period.0 + 1,
            // The week in which the count of days begins is a short one.
            Self::Weekly => period.0 + 7 - (period.0 + 3) % 7,
            // The 32nd day from the first lies in the next month, whatever its length.
            Self::Monthly => first_of_month(period.0 + 31),
        };
        Some(day.saturating_mul(DAY))
    }
}

/// The first day of a day's month. Years begin in March here, so that the odd day of a leap year comes last.
fn first_of_month(day: u64) -> u64 {
    let shifted = day + 719_468;
    let of_era = shifted % 146_097;
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    day.saturating_sub(of_year - (153 * month + 2) / 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(day: u64) -> Now {
        Now { mono_ns: 0, unix_ns: day * DAY + 5 }
    }

    #[test]
    fn weeks_begin_on_monday() {
        // 2026-11-23 is a Monday.
        let monday = 20_780;
        for day in monday..monday + 7 {
            assert_eq!(Reset::Weekly.period(on(day)), Period(monday));
        }
        assert_eq!(Reset::Weekly.period(on(monday - 1)), Period(monday - 7));
        assert_eq!(Reset::Weekly.end_unix_ns(Period(monday)), Some((monday + 7) * DAY));
        assert_eq!(Reset::Weekly.period(on(3)), Period(0));
        assert_eq!(Reset::Weekly.end_unix_ns(Period(0)), Some(4 * DAY));
    }

    /// Against a calendar that is counted on the fingers: 400 years, each leap rule once.
    #[test]
    fn months_begin_on_the_first() {
        let (mut day, mut year) = (0, 1970);
        while year < 2370 {
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            for length in [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
                for within in [0, 1, length - 1] {
                    assert_eq!(Reset::Monthly.period(on(day + within)), Period(day), "{year}");
                }
                assert_eq!(Reset::Monthly.end_unix_ns(Period(day)), Some((day + length) * DAY), "{year}");
                day += length;
            }
            year += 1;
        }
    }

    #[test]
    fn a_day_ends_at_midnight_and_never_never_does() {
        let last = Now { mono_ns: 0, unix_ns: 8 * DAY - 1 };
        assert_eq!(Reset::Daily.period(last), Period(7));
        assert_eq!(Reset::Daily.end_unix_ns(Period(7)), Some(8 * DAY));
        assert_eq!(Reset::Never.period(last), Reset::Never.period(on(99_999)));
        assert_eq!(Reset::Never.end_unix_ns(Period(0)), None);
    }
}
