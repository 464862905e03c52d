//! Runs beside each other, a line each. On a narrow terminal the columns that say least go first.

use super::table::Table;
use keymux_sim::{Figures, report::median};

/// Columns, as they stand.
const HEADS: [&str; 14] = [
    "",
    "requests>",
    "answered>",
    "possible>",
    "FIFO's>",
    "refused>",
    "errors>",
    "429s>",
    "wait, s>",
    "latency, s>",
    "x FIFO's>",
    "full>",
    "cached>",
    "cost, $>",
];
/// Those that may go, the first first.
const DROPPED: [&str; 7] =
    ["x FIFO's>", "FIFO's>", "cached>", "requests>", "latency, s>", "possible>", "errors>"];

/// Three percentiles; on a narrow terminal the outer two.
pub(super) type Times = [f64; 3];

/// A line. What it leaves open is not known.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) requests: Option<f64>,
    /// Share of what came.
    pub(super) answered: Option<f64>,
    /// Answered of what was possible: the middle one, and of several runs the worst.
    pub(super) possible: Option<(f64, Option<f64>)>,
    pub(super) fifo: Option<f64>,
    pub(super) refused: Option<f64>,
    pub(super) errors: Option<f64>,
    pub(super) limited: Option<f64>,
    pub(super) wait_ms: Option<Times>,
    pub(super) latency_ms: Option<Times>,
    pub(super) over_fifo: Option<f64>,
    pub(super) full: Option<f64>,
    pub(super) cached: Option<f64>,
    pub(super) cost: Option<String>,
}

impl Line {
    /// Medians of some runs, and the most errors.
    pub(super) fn of(name: &str, runs: &[Figures]) -> Self {
        let of = |name: &str| median(runs, name);
        let all = |name: &str| runs.iter().filter_map(|r| r.by_name.get(name)).copied().collect::<Vec<_>>();
        let worst = all("goodput").into_iter().fold(f64::INFINITY, f64::min);
        let times = |what: &str| ["p50", "p95", "p99"].map(|p| of(&format!("{what}_{p}_ms")));
        let some = |value: f64| (value > 0.0).then_some(value);
        let limited = runs.iter().any(|r| r.keys.iter().any(|k| k.utilisation.is_some()));
        Self {
            name: name.to_owned(),
            requests: Some(of("requests")),
            answered: Some(of("answered")),
            possible: Some((of("goodput"), (runs.len() > 1).then_some(worst))),
            fifo: some(of("fifo_goodput")),
            refused: Some(of("refused")),
            errors: Some(all("errors").into_iter().fold(0.0, f64::max)),
            limited: Some(of("limited")),
            wait_ms: Some(times("wait")),
            latency_ms: Some(times("latency")),
            over_fifo: some(of("p99_over_oracle")),
            full: limited.then(|| of("utilisation")),
            cached: some(of("cached")),
            cost: None,
        }
    }

    fn cells(&self, wide: bool) -> [Option<String>; 14] {
        let count = |n: Option<f64>| n.map(|n| crate::batch::tell::counted(whole(n)));
        let times = |of: Option<Times>| {
            of.map(|[p50, p95, p99]| {
                let shown = if wide { vec![p50, p95, p99] } else { vec![p50, p99] };
                shown.into_iter().map(seconds).collect::<Vec<_>>().join(" / ")
            })
        };
        let possible = self.possible.map(|(middle, worst)| match worst.filter(|_| wide) {
            Some(worst) => format!("{} (worst {})", share(middle), share(worst)),
            None => share(middle),
        });
        [
            Some(self.name.clone()),
            count(self.requests),
            self.answered.map(share),
            possible,
            self.fifo.map(share),
            self.refused.map(share),
            count(self.errors),
            count(self.limited),
            times(self.wait_ms),
            times(self.latency_ms),
            self.over_fifo.map(|times| format!("{times:.2}")),
            self.full.map(|full| format!("{:.0} %", full * 100.0)),
            self.cached.map(share),
            self.cost.clone(),
        ]
    }
}

fn share(of: f64) -> String {
    format!("{:.1} %", of * 100.0)
}

fn seconds(ms: f64) -> String {
    let s = ms / 1e3;
    match s {
        s if s <= 0.0 => "0".to_owned(),
        s if s < 9.995 => format!("{s:.2}"),
        s if s < 99.95 => format!("{s:.1}"),
        s => format!("{s:.0}"),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
fn whole(n: f64) -> u64 {
    n.round().max(0.0) as u64
}

/// The table, within so many columns as far as that goes.
pub(super) fn table(lines: &[Line], width: usize) -> String {
    let mut heads: Vec<usize> = (0..HEADS.len()).collect();
    let drawn = |heads: &[usize], wide: bool| {
        let cells: Vec<_> = lines.iter().map(|line| line.cells(wide)).collect();
        let known: Vec<usize> =
            heads.iter().copied().filter(|n| cells.iter().any(|line| line[*n].is_some())).collect();
        let mut table = Table::new(&known.iter().map(|n| HEADS[*n]).collect::<Vec<_>>());
        for line in &cells {
            table.row(known.iter().map(|n| line[*n].clone().unwrap_or_else(|| "-".to_owned())).collect());
        }
        table.text()
    };
    let fits = |text: &str| text.lines().all(|line| line.chars().count() <= width);
    let mut text = drawn(&heads, true);
    for dropped in DROPPED {
        if fits(&text) {
            return text;
        }
        text = drawn(&heads, false);
        if fits(&text) {
            return text;
        }
        heads.retain(|n| HEADS[*n] != dropped);
        text = drawn(&heads, false);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str) -> Line {
        Line {
            name: name.to_owned(),
            requests: Some(12_345.0),
            answered: Some(0.987),
            possible: Some((0.99, Some(0.9))),
            fifo: Some(1.0),
            refused: Some(0.013),
            errors: Some(0.0),
            limited: Some(3.0),
            wait_ms: Some([0.0, 1_234.0, 12_345.0]),
            latency_ms: Some([300.0, 2_000.0, 123_456.0]),
            over_fifo: Some(1.02),
            full: Some(0.55),
            cached: None,
            cost: Some("12.35".to_owned()),
        }
    }

    #[test]
    fn a_narrow_terminal_keeps_what_says_most_and_unknown_columns_are_not_there() {
        let lines = [line("past"), Line { full: None, ..line("-key:openai/main") }];
        let wide = table(&lines, usize::MAX);
        assert!(wide.contains("0 / 1.23 / 12.3") && wide.contains("99.0 % (worst 90.0 %)"), "{wide}");
        assert!(!wide.contains("cached"), "{wide}");
        for width in [80, 120] {
            let text = table(&lines, width);
            assert!(text.lines().all(|line| line.chars().count() <= width), "{text}");
            for kept in ["answered", "refused", "429s", "wait", "full", "cost", "12.35", "0 / 12.3"] {
                assert!(text.contains(kept), "{kept}: {text}");
            }
        }
        assert!(table(&lines, 120).contains("latency"));
        assert!(table(&lines, 10).contains("cost"), "what cannot fit is shown all the same");
    }
}
