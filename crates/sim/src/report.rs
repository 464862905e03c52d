//! Figures for people: a page for one scenario, a line for each of many.

use crate::figures::{Figures, Judged};
use crate::spec::{Count, Scenario};
use std::fmt::Write as _;

/// Clients and keys shown at most.
const LINES_MAX: usize = 12;
/// Heights of a bar.
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The page of a scenario: what came out, beside what was possible, by key and client, over time.
pub fn page(scenario: &Scenario, runs: &[Figures], judged: &[Judged]) -> String {
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
    row(&mut out, "of what was possible", share(of("goodput")), share(of("fifo_goodput")));
    row(&mut out, "answered", share(of("answered")), String::new());
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
    keys(&mut out, run);
    clients(&mut out, scenario, run);
    expectations(&mut out, judged);
    for violation in runs.iter().flat_map(|r| r.violations.iter().map(move |v| (r.seed, v))).take(LINES_MAX) {
        let _ = writeln!(out, "broken invariant, seed {}: {}", violation.0, violation.1);
    }
    out
}

fn keys(out: &mut String, run: &Figures) {
    let _ = writeln!(out, "\n{:<20}{:>9}{:>7}{:>8}  accepted over time", "key", "accepted", "429s", "failed");
    let most = run.keys.iter().flat_map(|k| &k.over_time).copied().max().unwrap_or(1).max(1);
    for k in run.keys.iter().take(LINES_MAX) {
        let chart: String = k.over_time.iter().take(72).map(|n| bar(*n, most)).collect();
        let name = clip(&k.name, 19);
        let _ = writeln!(out, "{name:<20}{:>9}{:>7}{:>8}  {chart}", k.accepted, k.limited, k.failed);
    }
    if run.keys.len() > LINES_MAX {
        let _ = writeln!(out, "… and {} more keys", run.keys.len() - LINES_MAX);
    }
}

fn clients(out: &mut String, scenario: &Scenario, run: &Figures) {
    let unit = if scenario.count == Count::Tokens { "tokens" } else { "requests" };
    let head = format!("max-min share, {unit}");
    let _ = writeln!(
        out,
        "\n{:<20}{:>9}{:>9}{:>8}{:>8}{:>10}  {head}",
        "client", "asked", "answered", "refused", "errors", "mean wait"
    );
    for c in run.clients.iter().take(LINES_MAX) {
        let wait = format!("{:.0} ms", c.wait_ms);
        let _ = writeln!(
            out,
            "{:<20}{:>9}{:>9}{:>8}{:>8}{wait:>10}  {:.0}",
            clip(&c.name, 19),
            c.offered,
            c.answered,
            c.refused,
            c.errors,
            c.share
        );
    }
    if run.clients.len() > LINES_MAX {
        let _ = writeln!(out, "… and {} more clients", run.clients.len() - LINES_MAX);
    }
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

/// The head of [`line`].
pub fn head() -> String {
    format!(
        "| {:<22} | {:>15} | {:>7} | {:>13} | {:>6} | {:>22} | {:>25} | {:>13} | {:>6} |\n|{}",
        "scenario",
        "goodput (worst)",
        "FIFO's",
        "429 per 1,000",
        "errors",
        "wait p50/p95/p99, ms",
        "latency p50/p95/p99, ms",
        "p99 over FIFO",
        "cached",
        [22, 15, 7, 13, 6, 22, 25, 13, 6].map(|n| format!("{}|", "-".repeat(n + 2))).concat()
    )
}

/// A scenario in a line: median over its runs, the worst goodput and error count in brackets.
pub fn line(name: &str, runs: &[Figures]) -> String {
    let of = |name: &str| median(runs, name);
    let worst = runs.iter().filter_map(|r| r.by_name.get("goodput")).copied().fold(f64::INFINITY, f64::min);
    let errors = runs.iter().filter_map(|r| r.by_name.get("errors")).copied().fold(0.0, f64::max);
    let three = |what: &str| {
        let at = |p: &str| of(&format!("{what}_{p}_ms"));
        format!("{:.0} / {:.0} / {:.0}", at("p50"), at("p95"), at("p99"))
    };
    format!(
        "| {name:<22} | {:>15} | {:>7.4} | {:>13.1} | {errors:>6.0} | {:>22} | {:>25} | {:>13.2} | {:>6.3} |",
        format!("{:.4} ({worst:.4})", of("goodput")),
        of("fifo_goodput"),
        of("wasted_429") * 1_000.0,
        three("wait"),
        three("latency"),
        of("p99_over_oracle"),
        of("cached"),
    )
}

fn median(runs: &[Figures], name: &str) -> f64 {
    let mut values: Vec<f64> = runs.iter().filter_map(|r| r.by_name.get(name)).copied().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn clip(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

fn bar(n: u32, most: u32) -> char {
    let height = (n as usize * (BARS.len() - 1)).div_ceil(most as usize);
    BARS.get(height).copied().unwrap_or('█')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_empty_for_nothing_and_full_for_the_most() {
        assert_eq!((bar(0, 10), bar(10, 10), bar(1, 1_000)), (' ', '█', '▁'));
    }

    #[test]
    fn the_page_shows_what_broke_and_what_is_not_met() {
        let scenario = crate::Scenario::read("[[provider]]\nname = \"p\"\n[expect]\ngoodput = [0.9, 1.0]\n");
        let scenario = scenario.expect("a scenario");
        let mut run = Figures { violations: vec!["at 1 s: it broke".to_owned()], ..Figures::default() };
        run.by_name.insert("goodput", 0.5);
        let judged = crate::judge(&scenario, std::slice::from_ref(&run));
        let page = page(&scenario, &[run], &judged);
        assert!(page.contains("it broke") && page.contains("NOT MET") && page.contains("50.00 %"), "{page}");
    }
}
