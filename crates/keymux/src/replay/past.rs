//! What became of the requests when they really came: the same figures as a run has, so that whoever reads them can judge
//! the model by the past.

use super::row::Row;

/// How it was.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Past {
    /// Requests that came.
    pub requests: u64,
    /// Answered, as a share of them.
    pub answered: f64,
    /// Refused for want of room, as a share.
    pub refused: f64,
    /// Callers that saw another error.
    pub errors: u64,
    /// Attempts for each request.
    pub attempts: f64,
    /// Milliseconds in the waiting room, of those that were answered: half, 95 and 99 of 100 waited no longer.
    pub wait_ms: [f64; 3],
    /// Milliseconds from arrival to the end of the answer; `None` where nobody measured.
    pub latency_ms: Option<[f64; 3]>,
    /// What it cost, in nano-dollars, and of how many answers nobody said.
    pub cost_nano_usd: u64,
    /// Answers whose cost nobody knows.
    pub cost_unknown: u64,
}

impl Past {
    /// Of the rows that would come again.
    pub fn of(rows: &[Row]) -> Self {
        let came: Vec<&Row> = rows.iter().filter(|r| r.comes()).collect();
        let answered: Vec<&&Row> = came.iter().filter(|r| r.answered).collect();
        let share = |n: usize| n as f64 / (came.len().max(1)) as f64;
        let count = |what: fn(&Row) -> bool| came.iter().filter(|r| what(r)).count();
        let times = |of: fn(&Row) -> u64| {
            let mut all: Vec<u64> = answered.iter().map(|r| of(r)).collect();
            all.sort_unstable();
            [50, 95, 99].map(|p| percentile(&all, p))
        };
        let latency_ms = answered.iter().any(|r| r.total_us > 0).then(|| times(|r| r.total_us));
        Self {
            requests: came.len() as u64,
            answered: share(answered.len()),
            refused: share(count(Row::refused)),
            errors: count(|r| !r.answered && !r.refused() && !r.left()) as u64,
            attempts: came.iter().map(|r| f64::from(r.attempts)).sum::<f64>() / came.len().max(1) as f64,
            wait_ms: times(|r| r.queue_us),
            latency_ms,
            cost_nano_usd: came.iter().filter_map(|r| r.cost_nano_usd).fold(0, u64::saturating_add),
            cost_unknown: answered.iter().filter(|r| r.cost_nano_usd.is_none()).count() as u64,
        }
    }
}

/// Of sorted microseconds, in milliseconds.
fn percentile(sorted: &[u64], percent: usize) -> f64 {
    let at = (sorted.len() * percent).div_ceil(100).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(at).map_or(0.0, |us| *us as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use super::super::row::tests::row;
    use super::*;

    #[test]
    fn the_past_is_told_as_it_was() {
        let mut rows: Vec<Row> = (0..100).map(|n| Row { queue_us: n * 1_000, ..row(n) }).collect();
        let lost =
            |status| Row { status, answered: false, cost_nano_usd: None, queue_us: 9_999_000, ..row(200) };
        rows.extend([lost(429), lost(429), lost(503), lost(499), lost(400)]);
        let past = Past::of(&rows);
        assert_eq!((past.requests, past.errors, past.cost_nano_usd), (104, 1, 100_000));
        assert!((past.refused - 2.0 / 104.0).abs() < 1e-9 && (past.answered - 100.0 / 104.0).abs() < 1e-9);
        let whole = |times: [f64; 3]| times.map(|ms| format!("{ms:.0}"));
        assert_eq!(whole(past.wait_ms), ["49", "94", "98"], "of those that were answered");
        assert_eq!(past.latency_ms.map(whole), Some(["1200", "1200", "1200"].map(str::to_owned)));
        assert_eq!(Past::of(&[Row { total_us: 0, ..row(0) }]).latency_ms, None);
        let dear = Row { cost_nano_usd: Some(u64::MAX), ..row(0) };
        assert_eq!(Past::of(&[dear.clone(), dear]).cost_nano_usd, u64::MAX, "no overflow");
        assert_eq!(Past::of(&[]).requests, 0);
    }
}
