//! What a batch would take, without sending anything: every line is planned as it would be carried out, its tokens are
//! guessed, its cost is reckoned with the price of the target that it would reach first, and its time with the limits that
//! are declared. A guess, and told as one: the least and the most.

use super::engine::{Engine, Planned};
use super::files::{self, BAD_SHOWN};
use super::input::{Calls, Item, Lines, Source};
use super::line::Bad;
use super::past::Past;
use super::tell::{counted, dollars, duration};
use crate::live::Snapshot;
use crate::plan::Plan;
use keymux_config::prices::{At, Usage};
use keymux_policy::Destination;
use keymux_policy::fleet::{Dimension, LimitSpec, ProviderId, Shape};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

/// What an answer is taken to be at most where its line names no cap.
const OUTPUT_TOKENS_MAX: u64 = 4_096;

/// What it would take.
#[derive(Debug, Default)]
pub struct Estimate {
    /// Lines that would be sent.
    pub calls: u64,
    /// Lines that are done.
    pub done: u64,
    /// Lines that would end with an error at once: how many, and the first of them.
    pub bad: u64,
    /// The first of them.
    pub first_bad: Vec<(u64, Bad)>,
    /// Input tokens, guessed.
    pub input_tokens: u64,
    /// Output tokens at most.
    pub output_tokens_max: u64,
    /// Lines that name no cap on their output.
    pub uncapped: u64,
    /// Nano-dollars with no output at all, and with all of it.
    pub cost_nano_usd: (u64, u64),
    /// Lines whose price nobody knows.
    pub unpriced: u64,
    /// What is left of the budget, if there is one.
    pub budget_nano_usd: Option<u64>,
    /// The most that is held of it for a line while that is under way.
    pub held_nano_usd_max: u64,
    /// The first line for which it is not enough, if answers cost the most, and if they cost the least.
    pub stops_at: (Option<u64>, Option<u64>),
    /// Why it stops there, where no budget would be enough.
    pub unbounded: Option<String>,
    /// Providers that may be asked.
    reached: BTreeSet<ProviderId>,
    /// Seconds that the declared limits make it last at least, with no output at all, and with all of it; `None`: some
    /// account has no declared limit.
    pub seconds: Option<(f64, f64)>,
}

/// Reckons.
///
/// # Errors
/// The file cannot be read, is empty, or was changed since.
pub fn estimate(
    source: &Source,
    past: &Past,
    model: Option<&str>,
    (engine, budget_nano_usd): (&Engine, Option<u64>),
) -> Result<Estimate, String> {
    let snapshot = engine.snapshot();
    let unix_s = engine.clock().now().unix_ns / 1_000_000_000;
    let mut estimate = Estimate { budget_nano_usd, ..Estimate::default() };
    let mut lines = Lines::new(source.open()?);
    let mut calls = Calls::new(model.map(str::to_owned));
    while let Some(raw) = lines.line().map_err(|e| files::unread(source, lines.number(), &e))? {
        let (done, number) = (past.has(raw.seq), raw.number);
        let Item { what, .. } = calls.read(raw);
        if done {
            estimate.done += 1;
            continue;
        }
        match what.and_then(|call| engine.plan(&snapshot, &call)) {
            Ok(planned) => estimate.count(&snapshot, number, &planned, unix_s),
            Err(bad) => {
                estimate.bad += 1;
                if estimate.first_bad.len() < BAD_SHOWN {
                    estimate.first_bad.push((number, bad));
                }
            }
        }
    }
    estimate.seconds = estimate.time(&snapshot);
    Ok(estimate)
}

impl Estimate {
    fn count(&mut self, snapshot: &Snapshot, number: u64, planned: &Planned, unix_s: u64) {
        let plan = &planned.plan;
        self.hold(number, planned);
        let size = &plan.ask.size;
        let output_max = size.output_tokens_max.unwrap_or(OUTPUT_TOKENS_MAX);
        self.calls += 1;
        self.input_tokens += size.input_tokens;
        self.output_tokens_max += output_max;
        self.uncapped += u64::from(size.output_tokens_max.is_none() || plan.cap.is_some());
        let targets = targets(snapshot, plan);
        self.reached.extend(targets.iter().map(|(provider, _)| *provider));
        let price = targets.first().and_then(|(provider, model)| snapshot.price(*provider, model));
        let cost = |output_tokens| {
            let usage = Usage { input_tokens: size.input_tokens, output_tokens, ..Usage::default() };
            price.as_ref()?.cost(&usage, &At { unix_s, tier: None, fast: false })
        };
        match (cost(0), cost(output_max)) {
            (Some(least), Some(most)) => {
                self.cost_nano_usd.0 += least;
                self.cost_nano_usd.1 += most;
            }
            _ => self.unpriced += 1,
        }
    }

    /// Whether the budget holds for one more line: what those before it cost is spent, and it is held for as at the
    /// gateway.
    fn hold(&mut self, number: u64, planned: &Planned) {
        let Some(budget) = self.budget_nano_usd else { return };
        if let Some(why) = &planned.unbounded {
            let told = || format!("line {number}: {why}");
            self.unbounded = self.unbounded.take().or_else(|| self.stops_at.1.is_none().then(told));
        }
        let bound = planned.plan.ask.cost_max_nano_usd.unwrap_or(0);
        let is_short = |spent: u64| planned.unbounded.is_some() || spent.saturating_add(bound) > budget;
        let (least, most) = self.cost_nano_usd;
        if is_short(most) {
            self.stops_at.0.get_or_insert(number);
        }
        if is_short(least) {
            self.stops_at.1.get_or_insert(number);
        } else if self.stops_at.1.is_none() {
            self.held_nano_usd_max = self.held_nano_usd_max.max(bound);
        }
    }

    /// Lines of this average size pass an account as its tightest limit lets them, what it has at hand at the start
    /// included, and the accounts side by side.
    fn time(&self, snapshot: &Snapshot) -> Option<(f64, f64)> {
        let reached = snapshot.config.providers.iter().zip(&snapshot.provider_ids);
        let reached = reached.filter(|(_, id)| self.reached.contains(id));
        let accounts: Vec<&[LimitSpec]> =
            reached.flat_map(|(provider, _)| &provider.accounts).map(|account| &*account.limits).collect();
        let calls = self.calls.max(1) as f64;
        let input = self.input_tokens as f64 / calls;
        let output = self.output_tokens_max as f64 / calls;
        Some((seconds(&accounts, calls, (input, 0.0))?, seconds(&accounts, calls, (input, output))?))
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = format!("{} lines would be sent", counted(self.calls));
        if self.done > 0 {
            let _ = write!(text, ", {} are done", counted(self.done));
        }
        if self.bad > 0 {
            let _ = write!(text, ", {} would end with an error", counted(self.bad));
        }
        text.push('\n');
        if self.calls > 0 {
            self.tell_costs(&mut text);
        }
        for (number, bad) in &self.first_bad {
            let _ = writeln!(text, "  line {number}: {}", bad.message);
        }
        if self.bad > self.first_bad.len() as u64 {
            let _ = writeln!(text, "  … and {} more", counted(self.bad - self.first_bad.len() as u64));
        }
        text
    }

    fn tell_costs(&self, text: &mut String) {
        let _ = write!(
            text,
            "tokens  about {} input, at most {} output",
            counted(self.input_tokens),
            counted(self.output_tokens_max)
        );
        if self.uncapped > 0 {
            let _ =
                write!(text, " ({} lines name no cap: taken as {OUTPUT_TOKENS_MAX})", counted(self.uncapped));
        }
        text.push('\n');
        let (least, most) = self.cost_nano_usd;
        if self.unpriced == self.calls {
            text.push_str("cost    unknown: no price is known; write them down with [[price]]\n");
        } else {
            let _ = write!(text, "cost    {} to {}", dollars(least), dollars(most));
            if self.unpriced > 0 {
                let _ = write!(text, ", and {} lines whose price is not known", counted(self.unpriced));
            }
            text.push('\n');
        }
        self.tell_budget(text);
        let _ = match self.seconds.map(|(least, most)| (duration(least), duration(most.max(least)))) {
            Some((least, most)) if least == most => writeln!(text, "time    {least} by the declared limits"),
            Some((least, most)) => writeln!(text, "time    {least} to {most} by the declared limits"),
            None => {
                writeln!(
                    text,
                    "time    as fast as the providers answer: not every account has declared limits"
                )
            }
        };
    }

    fn tell_budget(&self, text: &mut String) {
        let Some(budget) = self.budget_nano_usd else { return };
        let does = match self.stops_at {
            (None, _) => "covers all of it".to_owned(),
            (Some(most), None) => {
                format!("covers it if answers are short; stops at line {most} at the earliest")
            }
            (Some(most), Some(least)) if most == least => format!("stops at line {most}"),
            (Some(most), Some(least)) => format!("stops between line {most} and line {least}"),
        };
        let _ = write!(text, "budget  {} left, {does}", dollars(budget));
        if self.held_nano_usd_max > 0 {
            let _ = write!(text, "; holds up to {} for a line under way", dollars(self.held_nano_usd_max));
        }
        text.push('\n');
        if let Some(why) = &self.unbounded {
            let _ = writeln!(text, "  {why}");
        }
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let usd = |nano: u64| nano as f64 / 1e9;
        let bad =
            |(number, bad): &(u64, Bad)| json!({ "line": number, "code": bad.code, "message": bad.message });
        json!({
            "calls": self.calls,
            "done": self.done,
            "bad_lines": self.bad,
            "input_tokens": self.input_tokens,
            "output_tokens_max": self.output_tokens_max,
            "uncapped": self.uncapped,
            "cost_usd_min": usd(self.cost_nano_usd.0),
            "cost_usd_max": usd(self.cost_nano_usd.1),
            "unpriced": self.unpriced,
            "budget_left_usd": self.budget_nano_usd.map(usd),
            "held_usd_max": self.budget_nano_usd.map(|_| usd(self.held_nano_usd_max)),
            "stops_at_line_earliest": self.stops_at.0,
            "stops_at_line_latest": self.stops_at.1,
            "seconds_min": self.seconds.map(|(least, _)| least),
            "seconds_max": self.seconds.map(|(_, most)| most),
            "first_bad": self.first_bad.iter().map(bad).collect::<Vec<_>>(),
        })
    }
}

/// Where a line may go, the first first.
fn targets(snapshot: &Snapshot, plan: &Plan) -> Vec<(ProviderId, Arc<str>)> {
    match (&plan.ask.to, plan.route.and_then(|route| snapshot.config.routes.get(route))) {
        (_, Some(route)) => {
            let targets = route.tiers.iter().flatten();
            targets.map(|target| (snapshot.provider_ids[target.provider], target.model.clone())).collect()
        }
        (Destination::Adhoc { provider, model }, None) => vec![(*provider, model.clone())],
        (Destination::Route(_), None) => Vec::new(),
    }
}

/// How long these accounts need for so many lines of so many tokens; `None`: one of them is not bounded.
fn seconds(accounts: &[&[LimitSpec]], calls: f64, tokens: (f64, f64)) -> Option<f64> {
    let passed = |within_s: f64| -> Option<f64> {
        accounts.iter().map(|limits| lines_within(limits, tokens, within_s)).sum()
    };
    let (mut least, mut most) = (0.0, 1.0);
    while passed(most).is_some_and(|lines| lines < calls) && most < 1e10 {
        (least, most) = (most, most * 2.0);
    }
    for _ in 0..60 {
        let middle = f64::midpoint(least, most);
        let enough = passed(middle)? >= calls;
        if enough { most = middle } else { least = middle }
    }
    Some(most)
}

/// Lines that pass an account's limits in this time; `None`: nothing that is declared bounds them.
fn lines_within(limits: &[LimitSpec], (input, output): (f64, f64), within_s: f64) -> Option<f64> {
    let lines = limits.iter().filter_map(|limit| {
        let units = match limit.dimension {
            Dimension::Requests => 1.0,
            Dimension::InputTokens => input,
            Dimension::OutputTokens => output,
            Dimension::TotalTokens => input + output,
            Dimension::Concurrent | Dimension::NanoUsd => return None,
        };
        let (at_hand, a_second) = match limit.shape {
            Shape::Bucket { capacity, refill_per_s } => (capacity, refill_per_s),
            Shape::Window { limit, period_ns, .. } => (limit, limit * 1e9 / period_ns.max(1) as f64),
            Shape::Day { limit, .. } => (limit, limit / 86_400.0),
            Shape::Slots { .. } => return None,
        };
        (units > 0.0).then(|| (at_hand + a_second * within_s) / units)
    });
    lines.min_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use keymux_policy::fleet::ModelSet;

    fn limit(dimension: Dimension, a_minute: f64) -> LimitSpec {
        let shape = Shape::Bucket { capacity: a_minute, refill_per_s: a_minute / 60.0 };
        LimitSpec { dimension, shape, models: ModelSet::default(), preset: false }
    }

    #[test]
    fn the_tightest_limit_for_lines_of_this_size_counts() {
        let limits = [limit(Dimension::Requests, 600.0), limit(Dimension::TotalTokens, 60_000.0)];
        let lines = |limits: &[LimitSpec], tokens| lines_within(limits, tokens, 60.0);
        assert_eq!(lines(&limits, (50.0, 0.0)), Some(1_200.0));
        assert_eq!(lines(&limits, (150.0, 50.0)), Some(600.0));
        assert_eq!(lines(&limits[1..], (0.0, 0.0)), None);
        let slots = LimitSpec { shape: Shape::Slots { limit: 4 }, ..limit(Dimension::Concurrent, 1.0) };
        assert_eq!(lines(&[slots], (50.0, 0.0)), None);
    }

    #[test]
    fn accounts_work_side_by_side_and_begin_with_what_they_have_at_hand() {
        let fast = [limit(Dimension::Requests, 600.0)];
        let slow = [limit(Dimension::Requests, 60.0)];
        let took = |accounts: &[&[LimitSpec]], calls| seconds(accounts, calls, (10.0, 10.0)).map(f64::round);
        // 660 at once, then 11 a second.
        assert_eq!(took(&[&fast, &slow], 660.0), Some(0.0));
        assert_eq!(took(&[&fast, &slow], 1_760.0), Some(100.0));
        let day = Shape::Day { limit: 1_000.0, offset_s: 0 };
        let day = [LimitSpec { shape: day, ..limit(Dimension::Requests, 1.0) }];
        assert_eq!(took(&[&day], 1_000.0), Some(0.0));
        assert_eq!(took(&[&day], 2_000.0), Some(86_400.0));
        assert_eq!(took(&[&fast, &[]], 9.0), None);
    }
}
