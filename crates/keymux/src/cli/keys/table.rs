//! The table of `keymux keys`, at most 100 columns wide, and below it what needs a person. A column of which no key
//! tells anything is left out.

use crate::checks::verdict::{notes, usd};
use crate::checks::{Checked, Verdict, accounts, report};
use std::fmt::Write as _;

const WIDTH: usize = 100;
const GAP: usize = 2;
/// No name is cut shorter than this.
const NAME_MIN: usize = 12;

/// One column: its head, whether it holds numbers, and what it says of a key.
type Column = (&'static str, bool, fn(&Checked) -> String);

const COLUMNS: [Column; 10] = [
    ("key", false, Checked::path),
    ("state", false, |c| c.verdict.word().to_owned()),
    ("left $", true, |c| amount(c.facts.as_ref().and_then(|f| f.binding.as_ref()?.remaining)).or_balance(c)),
    ("of $", true, |c| amount(c.facts.as_ref().and_then(|f| f.binding.as_ref()?.limit))),
    ("resets", false, resets),
    ("today $", true, |c| amount(c.facts.as_ref().and_then(|f| f.usage.day))),
    ("week $", true, |c| amount(c.facts.as_ref().and_then(|f| f.usage.week))),
    ("month $", true, |c| amount(c.facts.as_ref().and_then(|f| f.usage.month))),
    ("free left", true, |c| {
        let left = c.facts.as_ref().and_then(|f| f.free_models?.remaining);
        left.map(|n| n.to_string()).unwrap_or_default()
    }),
    ("expires", false, |c| {
        let at = c.facts.as_ref().and_then(|f| f.expires_at_unix_ns);
        at.map(|at| report::distance(at, c.at_unix_ns)).unwrap_or_default()
    }),
];

fn amount(nano: Option<u64>) -> String {
    nano.map(usd).unwrap_or_default()
}

/// A balance stands where a budget's rest would.
trait OrBalance {
    fn or_balance(self, checked: &Checked) -> String;
}

impl OrBalance for String {
    fn or_balance(self, checked: &Checked) -> String {
        let first = checked.balance.as_ref().and_then(|b| b.amounts.first());
        match first {
            Some((currency, total)) if &**currency == "USD" => total.to_string(),
            Some((currency, total)) => format!("{total} {currency}"),
            None => self,
        }
    }
}

fn resets(checked: &Checked) -> String {
    let reset = checked.facts.as_ref().and_then(|f| f.binding.as_ref()?.reset);
    reset.map(|r| r.word().to_owned()).unwrap_or_default()
}

/// The table and what is to be said below it, without a line break at the end.
pub(super) fn text(checked: &[Checked], color: bool) -> String {
    let mut cells: Vec<(Column, Vec<String>)> = COLUMNS
        .into_iter()
        .map(|column| (column, checked.iter().map(|c| clean(&(column.2)(c))).collect()))
        .filter(|(_, cells): &(Column, Vec<String>)| cells.iter().any(|cell| !cell.is_empty()))
        .collect();
    let widths = fit(&mut cells);
    let mut out = String::new();
    let head: Vec<&str> = cells.iter().map(|((head, ..), _)| *head).collect();
    line(&mut out, &head, &cells, &widths, None);
    for (row, key) in checked.iter().enumerate() {
        let row: Vec<&str> = cells.iter().map(|(_, cells)| cells[row].as_str()).collect();
        line(&mut out, &row, &cells, &widths, color.then(|| paint(&key.verdict)));
    }
    let below = below(checked);
    if !below.is_empty() {
        out.push('\n');
    }
    for note in below {
        for (n, part) in wrapped(&note).iter().enumerate() {
            let _ = writeln!(out, "{}{part}", if n == 0 { "" } else { "  " });
        }
    }
    out.truncate(out.trim_end().len());
    out
}

/// The widths of the columns. Where they are too many for the line, names give way, the end of the path being what tells
/// keys apart.
fn fit(cells: &mut [(Column, Vec<String>)]) -> Vec<usize> {
    let width = |((head, ..), cells): &(Column, Vec<String>)| {
        cells.iter().map(String::as_str).chain([*head]).map(chars).max().unwrap_or(0)
    };
    let mut widths: Vec<usize> = cells.iter().map(width).collect();
    let all = widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
    let names = widths[0].saturating_sub(all.saturating_sub(WIDTH)).max(NAME_MIN).min(widths[0]);
    for name in &mut cells[0].1 {
        if chars(name) > names {
            let tail: String = name.chars().skip(chars(name) + 1 - names).collect();
            *name = format!("…{tail}");
        }
    }
    widths[0] = names;
    widths
}

fn line(
    out: &mut String,
    row: &[&str],
    cells: &[(Column, Vec<String>)],
    widths: &[usize],
    paint: Option<&'static str>,
) {
    let mut text = String::new();
    for (at, ((cell, ((_, right, _), _)), width)) in row.iter().zip(cells).zip(widths).enumerate() {
        let pad = " ".repeat(width.saturating_sub(chars(cell)));
        let gap = if at == 0 { "" } else { "  " };
        let cell = match paint {
            Some(paint) if at == 1 => format!("{paint}{cell}\u{1b}[0m"),
            _ => (*cell).to_owned(),
        };
        let _ = if *right { write!(text, "{gap}{pad}{cell}") } else { write!(text, "{gap}{cell}{pad}") };
    }
    let _ = writeln!(out, "{}", text.trim_end());
}

fn paint(verdict: &Verdict) -> &'static str {
    match verdict.is_usable() {
        Some(true) => "\u{1b}[32m",
        Some(false) => "\u{1b}[31m",
        None => "\u{1b}[33m",
    }
}

/// What needs a person, and what is easily misread.
fn below(checked: &[Checked]) -> Vec<String> {
    let mut lines = Vec::new();
    for one in checked {
        if let Some(detail) = one.verdict.detail() {
            let until = match one.verdict {
                Verdict::Capped { until_unix_ns: Some(at), .. } => {
                    format!("; whole again {}", report::ahead(at, one.at_unix_ns))
                }
                Verdict::Capped { until_unix_ns: None, .. } => {
                    "; it does not come back by itself: raise the limit at the provider".to_owned()
                }
                _ => String::new(),
            };
            lines.push(format!("{}: {}{until}", one.path(), clean(detail)));
        }
        for note in notes(one) {
            lines.push(format!("{}: {}", one.path(), note.text(one.at_unix_ns)));
        }
    }
    for group in accounts::shared(checked) {
        let names: Vec<String> = group.iter().map(|at| checked[*at].path()).collect();
        lines.push(format!(
            "{} belong to one account: its limits and its credit are theirs together",
            names.join(", ")
        ));
    }
    lines
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

/// What somebody named must not move the terminal's cursor.
fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// In lines that fit, with room for the indent of all but the first.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if chars(line) + 1 + chars(word) <= WIDTH - 2 => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests;
