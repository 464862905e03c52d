//! Figures for people: the page of a scenario.

use crate::figures::{Figures, Judged};
use crate::run::SLICES;
use crate::spec::{Count, Scenario};
use std::fmt::Write as _;

/// Clients and keys shown at most.
const LINES_MAX: usize = 12;
/// Columns of a chart at least.
const CHART_MIN: usize = 12;
/// Heights of a bar.
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The page of a scenario: what came out, beside what was possible, by key and client, over time. Charts are as wide as
/// `width` leaves room for.
pub fn page(scenario: &Scenario, runs: &[Figures], judged: &[Judged], width: usize) -> String {
    let mut out = format!("{}\n", scenario.title);
    let Some(run) = runs.first() else { return out };
    let seeds = if runs.len() > 1 { format!(" (median of {} seeds)", runs.len()) } else { String::new() };
    let of = |name: &str| median(runs, name);
    let _ = writeln!(out, "\n{:.0} requests in {} s{seeds}", of("requests"), scenario.seconds);
    let _ = writeln!(out, "{:<22}{:>12}{:>20}", "", "keymux", "clairvoyant FIFO");
    let row = |out: &mut String, name: &str, ours: String, oracle: String| {
        let _ = writeln!(out, "{name:<22}{ours:>12}{oracle:>20}");
    };
    let share = |v: f64| format!("{:.2} %", v * 100.0);
    let ms = |v: f64| format!("{v:.0} ms");
    // The bound goes by requests of mean size; what was recorded may be answered in a better choice of sizes.
    if scenario.traffic.iter().all(|t| t.lines.is_empty()) {
        row(&mut out, "of what was possible", share(of("goodput")), share(of("fifo_goodput")));
    }
    row(&mut out, "answered", share(of("answered")), share(of("fifo_answered")));
    row(&mut out, "refused", share(of("refused")), String::new());
    row(&mut out, "errors", format!("{:.0}", of("errors")), "0".to_owned());
    row(&mut out, "429s drawn", format!("{:.0}", of("limited")), "0".to_owned());
    row(&mut out, "failed attempts", format!("{:.0}", of("failed")), "0".to_owned());
    row(&mut out, "wait p99", ms(of("wait_p99_ms")), ms(of("oracle_wait_p99_ms")));
    row(&mut out, "latency p50", ms(of("latency_p50_ms")), ms(of("oracle_latency_p50_ms")));
    row(&mut out, "latency p99", ms(of("latency_p99_ms")), ms(of("oracle_latency_p99_ms")));
    if of("cached") > 0.0 {
        row(&mut out, "prompts from caches", share(of("cached")), String::new());
        row(&mut out, "cost of prompts", share(of("prompt_cost")), String::new());
    }
    keys(&mut out, run, width);
    clients(&mut out, scenario, run);
    expectations(&mut out, judged);
    for violation in runs.iter().flat_map(|r| r.violations.iter().map(move |v| (r.seed, v))).take(LINES_MAX) {
        let _ = writeln!(out, "broken invariant, seed {}: {}", violation.0, violation.1);
    }
    out
}

fn keys(out: &mut String, run: &Figures, width: usize) {
    let shown = &run.keys[..run.keys.len().min(LINES_MAX)];
    let name = name_width(shown.iter().map(|k| &*k.name));
    // Where nothing is known of limits, there is only what came to it, against what came to the busiest.
    let full = shown.iter().any(|k| k.utilisation.is_some());
    let what = if full { "how full, over time" } else { "accepted over time" };
    let (key, answered, failed, wait) = ("key", "answered", "failed", "mean wait");
    let _ =
        writeln!(out, "\n{key:<name$}{answered:>9}{:>7}{failed:>7}{wait:>11}{:>7}  {what}", "429s", "full");
    let columns = width.saturating_sub(name + 43).clamp(CHART_MIN, SLICES);
    let most = f64::from(run.keys.iter().flat_map(|k| &k.over_time).copied().max().unwrap_or(1).max(1));
    for k in shown {
        let (mean, over_time) = match &k.utilisation {
            Some(u) => (format!("{:.0} %", u.mean * 100.0), u.over_time.clone()),
            None => ("-".to_owned(), k.over_time.iter().map(|n| f64::from(*n) / most).collect()),
        };
        let wait = format!("{:.0} ms", k.wait_ms);
        let _ = writeln!(
            out,
            "{:<name$}{:>9}{:>7}{:>7}{wait:>11}{mean:>7}  {}",
            clip(&k.name, name - 1),
            k.answered,
            k.limited,
            k.failed,
            chart(&over_time, columns).trim_end()
        );
    }
    if run.keys.len() > LINES_MAX {
        let _ = writeln!(out, "… and {} more keys", run.keys.len() - LINES_MAX);
    }
}

fn clients(out: &mut String, scenario: &Scenario, run: &Figures) {
    let mut all: Vec<_> = run.clients.iter().collect();
    if all.len() > LINES_MAX {
        // Those that can be shown are those that ask most.
        all.sort_by_key(|c| std::cmp::Reverse(c.offered));
    }
    let shown = &all[..all.len().min(LINES_MAX)];
    let name = name_width(shown.iter().map(|c| &*c.name));
    let unit = if scenario.count == Count::Tokens { ", tokens" } else { "" };
    let heads = ["asked", "answered", "refused", "errors", "mean wait", "p95", "fair share"];
    let [asked, answered, refused, errors, wait, p95, share] = heads;
    let _ = writeln!(
        out,
        "\n{:<name$}{asked:>9}{answered:>9}{refused:>8}{errors:>7}{wait:>11}{p95:>10}{share:>12}{unit}",
        "client"
    );
    for c in shown {
        let (wait, p95) = (format!("{:.0} ms", c.wait_ms), format!("{:.0} ms", c.wait_p95_ms));
        let _ = writeln!(
            out,
            "{:<name$}{:>9}{:>9}{:>8}{:>7}{wait:>11}{p95:>10}{:>12.0}",
            clip(&c.name, name - 1),
            c.offered,
            c.answered,
            c.refused,
            c.errors,
            c.share
        );
    }
    if all.len() > LINES_MAX {
        let _ = writeln!(out, "… and {} more clients", all.len() - LINES_MAX);
    }
}

/// Of the first column, with a space behind the longest name.
fn name_width<'a>(names: impl Iterator<Item = &'a str>) -> usize {
    names.map(|name| name.chars().count() + 1).max().unwrap_or(0).clamp(12, 24)
}

fn expectations(out: &mut String, judged: &[Judged]) {
    if judged.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{:<22}{:>12}{:>12}  expected", "expectation", "worst", "median");
    for j in judged {
        let met = match (j.met, &j.known) {
            (true, _) => "met".to_owned(),
            (false, None) => "NOT MET".to_owned(),
            (false, Some(why)) => format!("NOT MET YET: {why}"),
        };
        let [low, high] = j.wanted;
        let _ = writeln!(out, "{:<22}{:>12.4}{:>12.4}  {low} to {high}: {met}", j.name, j.worst, j.median);
    }
}

/// The middle one of a figure over some runs; 0 where there is none.
pub fn median(runs: &[Figures], name: &str) -> f64 {
    let mut values: Vec<f64> = runs.iter().filter_map(|r| r.by_name.get(name)).copied().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn clip(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

/// Shares over time, in so many columns: each shows the mean of what falls into it.
fn chart(shares: &[f64], columns: usize) -> String {
    let of = |column: usize| {
        let slices = column * SLICES / columns..(column + 1) * SLICES / columns;
        let n = slices.len() as f64;
        bar(shares.iter().skip(slices.start).take(slices.len()).sum::<f64>() / n.max(1.0))
    };
    (0..columns).map(of).collect()
}

/// A bar so high; what is more than nothing is seen.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the range first")]
fn bar(share: f64) -> char {
    let most = (BARS.len() - 1) as f64;
    BARS[(share.clamp(0.0, 1.0) * most - 1e-9).ceil() as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_empty_for_nothing_and_full_for_the_most() {
        assert_eq!((bar(0.0), bar(1.0), bar(0.001), bar(0.5)), (' ', '█', '▁', '▄'));
        let half: Vec<f64> = (0..60).map(|n| if n < 30 { 1.0 } else { 0.0 }).collect();
        assert_eq!((chart(&half, 6), chart(&[], 3)), ("███   ".to_owned(), "   ".to_owned()));
        assert_eq!(chart(&half, 60).chars().filter(|c| *c == '█').count(), 30);
    }

    #[test]
    fn the_page_shows_what_broke_and_what_is_not_met() {
        let scenario = crate::Scenario::read("[[provider]]\nname = \"p\"\n[expect]\ngoodput = [0.9, 1.0]\n");
        let scenario = scenario.expect("a scenario");
        let mut run = Figures { violations: vec!["at 1 s: it broke".to_owned()], ..Figures::default() };
        run.by_name.insert("goodput", 0.5);
        let judged = crate::judge(&scenario, std::slice::from_ref(&run));
        let page = page(&scenario, &[run], &judged, 80);
        assert!(page.contains("it broke") && page.contains("NOT MET") && page.contains("50.00 %"), "{page}");
    }
}
