//! What a batch says to people and programs: how it stands, and what it came to. Only text; who shows it is elsewhere.

use super::run::Standing;
use super::tally::{Row, Sum, Tally};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::fmt::Write as _;

/// Rates are told over this time, so that they follow what happens now.
const RATE_NS: u64 = 15_000_000_000;
/// Looks that are remembered for it.
const LOOKS_MAX: usize = 128;
/// Errors that are told to people.
const ERRORS_SHOWN: usize = 20;
/// Rows that are told to people.
const ROWS_SHOWN: usize = 20;

/// What was seen at a look.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    at_ns: u64,
    done: u64,
    tokens: u64,
}

/// How fast it goes.
#[derive(Debug, Default)]
pub struct Meter {
    seen: VecDeque<Seen>,
}

/// Answers and tokens a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Lines done.
    pub lines: f64,
    /// Tokens of both kinds.
    pub tokens: f64,
}

impl Meter {
    /// Takes note of a look; how fast it goes by then.
    pub fn look(&mut self, standing: &Standing<'_>) -> Rates {
        let total = &standing.tally.total;
        let now = Seen {
            at_ns: standing.elapsed_ns,
            done: done(standing.tally),
            tokens: total.input_tokens + total.output_tokens,
        };
        if self.seen.is_empty() {
            self.seen.push_back(Seen::default());
        }
        self.seen.push_back(now);
        while self.seen.len() > 2 && (self.seen.len() > LOOKS_MAX || self.seen[1].at_ns + RATE_NS < now.at_ns)
        {
            self.seen.pop_front();
        }
        let first = self.seen[0];
        let seconds = now.at_ns.saturating_sub(first.at_ns).max(1) as f64 / 1e9;
        let rate = |n: u64| n as f64 / seconds;
        Rates { lines: rate(now.done - first.done), tokens: rate(now.tokens - first.tokens) }
    }
}

fn done(tally: &Tally) -> u64 {
    tally.total.answered + tally.total.failed + tally.bad
}

/// How it stands, in one line.
pub fn standing(standing: &Standing<'_>, rates: Rates, spent_before_nano_usd: u64) -> String {
    let tally = standing.tally;
    let all = standing.before + done(tally);
    let mut text = counted(all);
    if let Some(lines) = standing.lines {
        let _ = write!(text, "/{}", counted(lines));
    }
    text.push_str(" done");
    let failed = tally.total.failed + tally.bad;
    if failed > 0 {
        let _ = write!(text, ", {} failed", counted(failed));
    }
    let flying = standing.out.saturating_sub(standing.waiting);
    let _ = write!(text, " · {flying} in flight");
    if standing.waiting > 0 {
        let _ = write!(text, ", {} wait", standing.waiting);
        if let Some(why) = &standing.why {
            let _ = write!(text, " ({why})");
        }
    }
    if let Some(silence) = standing.silence.as_ref().filter(|_| !standing.stopping) {
        let _ = write!(text, " · {silence}");
    }
    let _ = write!(text, " · {}/s, {} tokens/s", rate(rates.lines), counted_short(rates.tokens));
    let spent = spent_before_nano_usd + tally.total.cost_nano_usd;
    if spent > 0 {
        let _ = write!(text, " · {}", dollars(spent));
        // What the rest costs, if it is like what was done.
        if let (Some(lines), Some(each)) =
            (standing.lines, tally.total.cost_nano_usd.checked_div(done(tally)))
            && lines > all
        {
            let _ = write!(text, " of ~{}", dollars(spent + each * (lines - all)));
        }
    }
    if standing.stopping {
        text.push_str(" · stopping: finishing what is in flight");
    } else if let Some(lines) = standing.lines.filter(|lines| *lines > all && rates.lines > 0.0) {
        let _ = write!(text, " · {} left", duration((lines - all) as f64 / rates.lines));
    }
    text
}

/// What a run came to.
#[derive(Debug)]
pub struct Summary<'a> {
    /// What it came to.
    pub tally: &'a Tally,
    /// What earlier runs did: answered, failed, could not be sent.
    pub before: [u64; 3],
    /// What they spent.
    pub spent_before_nano_usd: u64,
    /// How many lines there are, if that is known.
    pub lines: Option<u64>,
    /// How long this run took.
    pub elapsed_ns: u64,
    /// How it ended, in a word.
    pub end: &'a str,
    /// Why, where that says more.
    pub why: Option<&'a str>,
    /// The exit code.
    pub exit: u8,
}

impl Summary<'_> {
    fn failed(&self) -> u64 {
        self.tally.total.failed + self.tally.bad
    }

    fn seconds(&self) -> f64 {
        self.elapsed_ns as f64 / 1e9
    }

    /// For people: several lines.
    pub fn text(&self) -> String {
        let Self { tally, .. } = self;
        let total = &tally.total;
        let mut text = format!("{} answered", counted(total.answered));
        if self.failed() > 0 {
            let _ = write!(text, ", {} failed", counted(self.failed()));
        }
        let before: u64 = self.before.iter().sum();
        if before > 0 {
            let _ = write!(text, ", {} done before", counted(before));
        }
        if let Some(lines) = self.lines {
            let _ = write!(text, ", of {} lines", counted(lines));
        }
        let _ = write!(text, "; {}", duration(self.seconds()));
        if done(tally) > 0 {
            let _ = write!(text, ", {}/s", rate(done(tally) as f64 / self.seconds().max(1e-9)));
        }
        text.push('\n');
        if total.answered + total.failed > 0 {
            let _ = writeln!(
                text,
                "{} input and {} output tokens, {}; p50 {}, p95 {}; {} retries",
                counted(total.input_tokens),
                counted(total.output_tokens),
                money(total),
                milliseconds(tally.took_ms.within(0.5)),
                milliseconds(tally.took_ms.within(0.95)),
                counted(total.retries),
            );
            text.push_str(&table(&tally.rows()));
        }
        if self.spent_before_nano_usd > 0 {
            let all = self.spent_before_nano_usd + total.cost_nano_usd;
            let _ = writeln!(text, "{} with earlier runs", dollars(all));
        }
        let errors = tally.errors();
        for (message, count, line) in errors.iter().take(ERRORS_SHOWN) {
            let times = if *count > 1 { format!("{} lines, first ", counted(*count)) } else { String::new() };
            let _ = writeln!(text, "  {times}line {line}: {message}");
        }
        if errors.len() > ERRORS_SHOWN {
            let _ = writeln!(text, "  … and {} other errors", errors.len() - ERRORS_SHOWN);
        }
        text
    }

    /// For programs: one line of JSON.
    pub fn json(&self) -> Value {
        let Self { tally, .. } = self;
        let rows: Vec<Value> = tally
            .rows()
            .iter()
            .map(|row| {
                let mut value = sum(&row.sum);
                value["model"] = row.model.as_str().into();
                value["key"] = row.key.as_str().into();
                value["p50_ms"] = row.took_ms.within(0.5).into();
                value["p95_ms"] = row.took_ms.within(0.95).into();
                value
            })
            .collect();
        let errors: Vec<Value> = tally
            .errors()
            .iter()
            .map(|(message, count, line)| json!({ "message": message, "count": count, "first_line": line }))
            .collect();
        let [answered, failed, bad] = self.before;
        let mut value = sum(&tally.total);
        value["failed"] = self.failed().into();
        value["bad_lines"] = tally.bad.into();
        value["end"] = self.end.into();
        value["why"] = self.why.into();
        value["exit_code"] = self.exit.into();
        value["lines"] = self.lines.into();
        value["before"] = json!({ "answered": answered, "failed": failed + bad,
            "cost_usd": usd(self.spent_before_nano_usd) });
        value["seconds"] = self.seconds().into();
        value["p50_ms"] = tally.took_ms.within(0.5).into();
        value["p95_ms"] = tally.took_ms.within(0.95).into();
        value["by_model_and_key"] = rows.into();
        value["errors"] = errors.into();
        value
    }
}

fn usd(nano_usd: u64) -> f64 {
    nano_usd as f64 / 1e9
}

fn sum(sum: &Sum) -> Value {
    json!({
        "answered": sum.answered,
        "failed": sum.failed,
        "input_tokens": sum.input_tokens,
        "output_tokens": sum.output_tokens,
        "cost_usd": usd(sum.cost_nano_usd),
        "cost_unknown": sum.cost_unknown,
        "retries": sum.retries,
    })
}

/// Money, and for how many lines nobody knows it.
fn money(sum: &Sum) -> String {
    match (sum.cost_nano_usd, sum.cost_unknown) {
        (0, 1..) => "cost unknown".to_owned(),
        (cost, 0) => dollars(cost),
        (cost, unknown) => format!("{} and {} lines of unknown cost", dollars(cost), counted(unknown)),
    }
}

fn table(rows: &[&Row]) -> String {
    let mut lines = vec![
        ["model", "key", "answered", "failed", "in", "out", "cost", "p50", "p95", "retries"]
            .map(str::to_owned),
    ];
    for row in rows.iter().take(ROWS_SHOWN) {
        let sum = &row.sum;
        lines.push([
            row.model.clone(),
            row.key.clone(),
            counted(sum.answered),
            counted(sum.failed),
            counted(sum.input_tokens),
            counted(sum.output_tokens),
            if sum.cost_nano_usd == 0 && sum.cost_unknown > 0 {
                "?".to_owned()
            } else {
                dollars(sum.cost_nano_usd)
            },
            milliseconds(row.took_ms.within(0.5)),
            milliseconds(row.took_ms.within(0.95)),
            counted(sum.retries),
        ]);
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..10).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        text.push_str("  ");
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            // Names to the left, numbers to the right.
            let _ =
                if column < 2 { write!(text, "{cell:<width$}  ") } else { write!(text, "{cell:>width$}  ") };
        }
        text.truncate(text.trim_end_matches(' ').len());
        text.push('\n');
    }
    if rows.len() > ROWS_SHOWN {
        let _ = writeln!(text, "  … and {} more", rows.len() - ROWS_SHOWN);
    }
    text
}

/// 1,234,567.
pub fn counted(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn counted_short(n: f64) -> String {
    match n {
        n if n >= 1e6 => format!("{:.1}M", n / 1e6),
        n if n >= 1e4 => format!("{:.0}k", n / 1e3),
        n if n >= 1e3 => format!("{:.1}k", n / 1e3),
        n => format!("{n:.0}"),
    }
}

fn rate(n: f64) -> String {
    if n < 10.0 { format!("{n:.1}") } else { counted_short(n) }
}

/// Money with as many digits as say something.
pub fn dollars(nano_usd: u64) -> String {
    let usd = usd(nano_usd);
    match nano_usd {
        0 => "$0".to_owned(),
        1..10_000_000 => format!("${usd:.6}"),
        10_000_000..1_000_000_000 => format!("${usd:.4}"),
        _ => format!("${usd:.2}"),
    }
}

fn milliseconds(ms: u64) -> String {
    if ms < 10_000 { format!("{ms} ms") } else { format!("{:.1} s", ms as f64 / 1e3) }
}

/// A time that people can read.
pub fn duration(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
    let whole = seconds.round().clamp(0.0, 1e15) as u64;
    match whole {
        0..10 => format!("{seconds:.1} s"),
        10..100 => format!("{whole} s"),
        100..6_000 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3_600, whole / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(tally: &Tally, elapsed_s: u64) -> Standing<'_> {
        Standing {
            tally,
            before: 100,
            lines: Some(1_300),
            out: 40,
            waiting: 8,
            why: Some("tokens of lab/a".to_owned()),
            silence: None,
            elapsed_ns: elapsed_s * 1_000_000_000,
            stopping: false,
        }
    }

    fn tally(answered: u64) -> Tally {
        let cost_nano_usd = answered * 1_000_000;
        let total = Sum { answered, input_tokens: answered * 50, cost_nano_usd, ..Sum::default() };
        Tally { total, bad: 1, ..Tally::default() }
    }

    #[test]
    fn one_line_says_how_it_stands() {
        let (mut meter, tally) = (Meter::default(), tally(199));
        let rates = meter.look(&at(&tally, 2));
        assert_eq!(
            standing(&at(&tally, 2), rates, 500_000_000),
            "300/1,300 done, 1 failed · 32 in flight, 8 wait (tokens of lab/a) · 100/s, 5.0k tokens/s · $0.6990 of \
             ~$1.69 · 10 s left"
        );
        let stopping = Standing { stopping: true, lines: None, waiting: 0, ..at(&tally, 2) };
        let told = standing(&stopping, rates, 0);
        assert!(
            told.starts_with("300 done") && told.ends_with("stopping: finishing what is in flight"),
            "{told}"
        );
    }

    #[test]
    fn rates_are_those_of_the_last_seconds() {
        let mut meter = Meter::default();
        for second in 1..=100 {
            // A hundred a second for a minute, then one.
            let answered = if second <= 60 { second * 100 } else { 6_000 + second - 60 };
            let rates = meter.look(&at(&tally(answered), second));
            if second == 50 {
                assert!((rates.lines - 100.0).abs() < 1.0, "{rates:?}");
            }
            if second == 100 {
                assert!((rates.lines - 1.0).abs() < 0.1, "{rates:?}");
            }
        }
    }

    #[test]
    fn numbers_are_told_as_people_read_them() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(counted), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0, 5_000, 20_000_000, 3_456_000_000].map(dollars),
            ["$0", "$0.000005", "$0.0200", "$3.46"]
        );
        assert_eq!([0.25, 59.6, 125.0, 7_260.0].map(duration), ["0.2 s", "60 s", "2 min 05 s", "2 h 01 min"]);
    }
}
