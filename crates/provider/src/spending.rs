//! What a key spent, by the calendar: ever, this day, this week, this month, all in UTC, weeks from Monday.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde::{Deserialize, Serialize};

use crate::time::{DAY, Now, SECOND};

/// When what a key may spend is whole again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SpendReset {
    /// At midnight.
    Daily,
    /// On Monday.
    Weekly,
    /// On the first.
    Monthly,
}

const ALL: [SpendReset; 3] = [SpendReset::Daily, SpendReset::Weekly, SpendReset::Monthly];

impl SpendReset {
    /// As `OpenRouter` writes it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            SpendReset::Daily => "daily",
            SpendReset::Weekly => "weekly",
            SpendReset::Monthly => "monthly",
        }
    }

    /// The first day of the running period.
    fn begin(self, now: Now) -> Date {
        let today = date(now.unix_ns);
        let since_monday = i64::from(today.weekday().to_monday_zero_offset());
        match self {
            SpendReset::Daily => today,
            SpendReset::Weekly => today.saturating_sub(Span::new().days(since_monday)),
            SpendReset::Monthly => today.first_of_month(),
        }
    }

    /// When the next one begins, in nanoseconds since 1970.
    pub(crate) fn next(self, now: Now) -> u64 {
        let step = match self {
            SpendReset::Daily => Span::new().days(1),
            SpendReset::Weekly => Span::new().days(7),
            SpendReset::Monthly => Span::new().months(1),
        };
        let next = self.begin(now).saturating_add(step);
        let at = next.to_zoned(TimeZone::UTC).map_or(0, |zoned| zoned.timestamp().as_second());
        u64::try_from(at).unwrap_or(0).saturating_mul(SECOND)
    }
}

fn date(unix_ns: u64) -> Date {
    let days = i64::try_from(unix_ns / DAY).unwrap_or(0);
    let at = Timestamp::from_second(days * 86_400).unwrap_or_default();
    at.to_zoned(TimeZone::UTC).date()
}

/// Sums of one key, in nano-dollars.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spending {
    all: u64,
    /// By period, with its first day; none before anything is spent in this world.
    lately: [(Option<Date>, u64); 3],
}

impl Spending {
    /// So much was spent before, today.
    pub(crate) fn begun(nano_usd: u64) -> Self {
        Spending { all: nano_usd, lately: [(None, nano_usd); 3] }
    }

    pub(crate) fn add(&mut self, now: Now, nano_usd: u64) {
        self.all += nano_usd;
        for (reset, (begin, sum)) in ALL.into_iter().zip(&mut self.lately) {
            let this = reset.begin(now);
            if begin.replace(this).is_some_and(|last| last != this) {
                *sum = 0;
            }
            *sum += nano_usd;
        }
    }

    /// Since the last reset; ever, where there is none.
    pub(crate) fn since(&self, reset: Option<SpendReset>, now: Now) -> u64 {
        let Some(reset) = reset else { return self.all };
        let (begin, sum) = self.lately[reset as usize];
        if begin.is_none_or(|begin| begin == reset.begin(now)) { sum } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noon of a day of November 2026; the 23rd is a Monday.
    fn noon(day: u64) -> Now {
        Now { mono_ns: 0, unix_ns: 1_793_534_400 * SECOND + (day - 1) * DAY }
    }

    #[test]
    fn each_sum_begins_again_at_its_own_time() {
        let mut s = Spending::begun(1);
        let sums = |s: &Spending, day| {
            let of = |reset| s.since(Some(reset), noon(day));
            [s.since(None, noon(day)), of(SpendReset::Daily), of(SpendReset::Weekly), of(SpendReset::Monthly)]
        };
        assert_eq!(sums(&s, 20), [1, 1, 1, 1], "what was before is of today");
        s.add(noon(20), 10);
        assert_eq!(sums(&s, 20), [11, 11, 11, 11]);
        assert_eq!(sums(&s, 21), [11, 0, 11, 11], "read on another day, nothing is of that day");
        s.add(noon(22), 100);
        assert_eq!(sums(&s, 22), [111, 100, 111, 111], "a Sunday");
        s.add(noon(23), 1_000);
        assert_eq!(sums(&s, 23), [1_111, 1_000, 1_000, 1_111], "a Monday");
        assert_eq!(sums(&s, 31), [1_111, 0, 0, 0], "the first of December");
    }

    #[test]
    fn resets_are_midnights() {
        let at = |reset: SpendReset, day| reset.next(noon(day));
        let midnight = |day: u64| noon(day).unix_ns - 12 * 3_600 * SECOND;
        assert_eq!(at(SpendReset::Daily, 20), midnight(21));
        assert_eq!(at(SpendReset::Weekly, 22), midnight(23));
        assert_eq!(at(SpendReset::Weekly, 23), midnight(30));
        assert_eq!(at(SpendReset::Monthly, 23), midnight(31));
    }
}
