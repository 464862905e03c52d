//! What a request takes from each dimension before it is sent, and what it is settled to when it ends: the one table
//! of settling rules ([`Charging`]), with estimates that calibrate themselves by what providers report.

use crate::ask::Size;
use crate::fleet::{Charging, Dimension, OutputCharge};
use crate::outcome::Used;
use crate::time::SECOND;

/// Amounts by dimension.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Need([f64; 6]);

impl Need {
    pub(crate) fn of(&self, dimension: Dimension) -> f64 {
        self.0[slot(dimension)]
    }
    pub(crate) fn set(&mut self, dimension: Dimension, amount: f64) {
        self.0[slot(dimension)] = amount;
    }

    /// A moving mean: goes so much of the way to another.
    pub(crate) fn drift(&mut self, to: &Self, share: f64) {
        for (mean, new) in self.0.iter_mut().zip(&to.0) {
            *mean += share * (new - *mean);
        }
    }
}

fn slot(dimension: Dimension) -> usize {
    match dimension {
        Dimension::Requests => 0,
        Dimension::InputTokens => 1,
        Dimension::OutputTokens => 2,
        Dimension::TotalTokens => 3,
        Dimension::Concurrent => 4,
        Dimension::NanoUsd => 5,
    }
}

/// What became of an attempt, as far as charging goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It never reached the provider.
    Unsent,
    /// Turned away by a limit.
    Refused,
    /// Turned away, or failed before any output.
    Failed,
    /// Answered to the end.
    Answered,
    /// Broken off after it had begun, by whomever.
    Broken,
}

/// So many requests must have ended before the guess of how long one takes refuses anybody. The average follows the
/// last so many.
const TURNS_MIN: u32 = 8;
/// The guess before any has.
const TURN_PRIOR_NS: u64 = 2 * SECOND;

/// How long a request holds what it holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    pub(crate) ns: u64,
    /// Enough was seen to refuse somebody for it; before that it is a hint for the client alone.
    pub(crate) founded: bool,
}

/// What is learned about one upstream model from the usage that its answers report.
#[derive(Clone, Debug)]
pub(crate) struct ModelStats {
    guessed: f64,
    reported: f64,
    output_mean: f64,
    output_var: f64,
    outputs: f64,
    turn_ns: u64,
    turns: u32,
}

impl Default for ModelStats {
    fn default() -> Self {
        Self {
            guessed: 0.0,
            reported: 0.0,
            output_mean: 0.0,
            output_var: 0.0,
            outputs: 0.0,
            turn_ns: TURN_PRIOR_NS,
            turns: 0,
        }
    }
}

impl ModelStats {
    /// Input tokens in truth for each one guessed.
    pub(crate) fn input_ratio(&self) -> f64 {
        // Two thousand tokens' worth of belief in the guess before anything was seen.
        ((self.reported + 2_000.0) / (self.guessed + 2_000.0)).clamp(0.1, 10.0)
    }

    /// Output that a request will probably have: the mean plus two standard errors, at most the caller's cap.
    fn output(&self, cap: Option<f64>) -> f64 {
        let guess = if self.outputs < 1.0 {
            512.0
        } else {
            self.output_mean + 2.0 * (self.output_var / self.outputs).sqrt()
        };
        cap.map_or(guess, |cap| guess.min(cap))
    }

    /// How long a request usually takes.
    pub(crate) fn turn(&self) -> Turn {
        Turn { ns: self.turn_ns, founded: self.turns >= TURNS_MIN }
    }

    pub(crate) fn learn_turn(&mut self, took_ns: u64) {
        // The plain mean of the first ones: the prior has no say once anything was seen.
        self.turns = (self.turns + 1).min(TURNS_MIN);
        let n = u64::from(self.turns);
        self.turn_ns = (self.turn_ns / n).saturating_mul(n - 1).saturating_add(took_ns / n);
    }

    pub(crate) fn learn(&mut self, size: &Size, used: &Used) {
        if used.estimated {
            return;
        }
        if size.input_tokens > 0 && used.input_tokens > 0 {
            // Old requests fade, so that a model whose traffic changes is learned anew.
            self.guessed = self.guessed * 0.99 + size.input_tokens as f64;
            self.reported = self.reported * 0.99 + used.input_tokens as f64;
        }
        self.outputs = (self.outputs + 1.0).min(100.0);
        let off = used.output_tokens as f64 - self.output_mean;
        self.output_mean += off / self.outputs;
        self.output_var += (off * off - self.output_var) / self.outputs;
    }
}

/// What the request takes before it is sent.
pub(crate) fn need(size: &Size, charging: Charging, stats: &ModelStats, cost_nano_usd: Option<u64>) -> Need {
    let input = size.input_tokens as f64 * stats.input_ratio();
    let cap = size.output_tokens_max.map(|n| n as f64);
    let (output, total) = match charging.output {
        OutputCharge::MaxTokensRefunded => {
            let out = cap.unwrap_or_else(|| stats.output(None));
            (out, input + out)
        }
        OutputCharge::MaxOfBoth => (cap.unwrap_or_else(|| stats.output(None)), input.max(cap.unwrap_or(0.0))),
        OutputCharge::AsProduced => {
            let out = stats.output(cap);
            (out, input + out)
        }
    };
    let mut need = Need::default();
    need.set(Dimension::Requests, 1.0);
    need.set(Dimension::InputTokens, input);
    need.set(Dimension::OutputTokens, output);
    need.set(Dimension::TotalTokens, total);
    need.set(Dimension::Concurrent, 1.0);
    need.set(Dimension::NanoUsd, cost_nano_usd.map_or(0.0, |n| n as f64));
    need
}

/// What it is settled to. Where nothing is known of what was used, the reservation stands: a limit is better
/// underused than overrun.
pub(crate) fn settled(need: &Need, charging: Charging, fate: Fate, used: Option<&Used>) -> Need {
    let mut out = *need;
    out.set(Dimension::Concurrent, 0.0);
    match fate {
        Fate::Unsent => return Need::default(),
        Fate::Refused => {
            out = Need::default();
            out.set(Dimension::Requests, if charging.refused_count { 1.0 } else { 0.0 });
            return out;
        }
        Fate::Failed if used.is_none() => {
            out.set(Dimension::NanoUsd, 0.0);
            if charging.output != OutputCharge::MaxOfBoth {
                out.set(Dimension::OutputTokens, 0.0);
                out.set(Dimension::TotalTokens, need.of(Dimension::InputTokens));
            }
            return out;
        }
        Fate::Failed | Fate::Answered | Fate::Broken => {}
    }
    let Some(used) = used else { return out };
    let cached = if charging.cached_input_free { used.cached_input_tokens } else { 0 };
    let input = used.input_tokens.saturating_sub(cached) as f64;
    let output = used.output_tokens as f64;
    out.set(Dimension::InputTokens, input);
    out.set(Dimension::OutputTokens, output);
    if charging.output != OutputCharge::MaxOfBoth {
        out.set(Dimension::TotalTokens, input + output);
    }
    if let Some(cost) = used.cost_nano_usd {
        out.set(Dimension::NanoUsd, cost as f64);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn charging(output: OutputCharge) -> Charging {
        Charging { output, cached_input_free: true, refused_count: true, runs_on_after_cancel: false }
    }
    const SIZE: Size = Size { body_bytes: 0, input_tokens: 1_000, output_tokens_max: Some(4_000) };
    const USED: Used = Used {
        input_tokens: 900,
        cached_input_tokens: 300,
        output_tokens: 50,
        cost_nano_usd: None,
        estimated: false,
    };

    #[test]
    fn output_is_charged_as_each_provider_does() {
        let stats = ModelStats::default();
        let total = |o| need(&SIZE, charging(o), &stats, None).of(Dimension::TotalTokens);
        assert!((total(OutputCharge::MaxTokensRefunded) - 5_000.0).abs() < 1e-9);
        assert!((total(OutputCharge::MaxOfBoth) - 4_000.0).abs() < 1e-9);
        assert!((total(OutputCharge::AsProduced) - 1_512.0).abs() < 1e-9);
    }

    #[test]
    fn settling_refunds_what_the_provider_refunds() {
        let stats = ModelStats::default();
        let settle =
            |o, fate, used| settled(&need(&SIZE, charging(o), &stats, None), charging(o), fate, used);
        let answered = |o| settle(o, Fate::Answered, Some(&USED)).of(Dimension::TotalTokens);
        assert!((answered(OutputCharge::MaxTokensRefunded) - 650.0).abs() < 1e-9);
        assert!((answered(OutputCharge::AsProduced) - 650.0).abs() < 1e-9);
        assert!((answered(OutputCharge::MaxOfBoth) - 4_000.0).abs() < 1e-9, "never refunded");
        let refused = settle(OutputCharge::MaxTokensRefunded, Fate::Refused, None);
        assert!(
            (refused.of(Dimension::Requests) - 1.0).abs() < 1e-9 && refused.of(Dimension::TotalTokens) == 0.0
        );
        assert_eq!(settle(OutputCharge::MaxOfBoth, Fate::Unsent, None), Need::default());
        let cut = settle(OutputCharge::AsProduced, Fate::Broken, None);
        assert!(
            (cut.of(Dimension::TotalTokens) - 1_512.0).abs() < 1e-9,
            "nobody knows: the reservation stands"
        );
    }

    #[test]
    fn the_first_turn_replaces_the_guess_and_eight_found_it() {
        let mut stats = ModelStats::default();
        stats.learn_turn(SECOND / 20);
        assert!(stats.turn().ns.abs_diff(SECOND / 20) < 100, "{:?}", stats.turn());
        stats.learn_turn(SECOND / 10);
        assert!(stats.turn().ns.abs_diff(SECOND * 3 / 40) < 100, "the mean: {:?}", stats.turn());
        for _ in 0..5 {
            stats.learn_turn(SECOND / 10);
            assert!(!stats.turn().founded);
        }
        stats.learn_turn(SECOND / 10);
        assert!(stats.turn().founded);
        (0..100).for_each(|_| stats.learn_turn(SECOND));
        assert!(stats.turn().ns.abs_diff(SECOND) < SECOND / 100, "it follows: {:?}", stats.turn());
    }

    #[test]
    fn estimates_calibrate_themselves() {
        let mut stats = ModelStats::default();
        for _ in 0..500 {
            stats.learn(&SIZE, &Used { input_tokens: 2_000, output_tokens: 100, ..USED });
        }
        assert!((stats.input_ratio() - 2.0).abs() < 0.05, "{}", stats.input_ratio());
        let n = need(&SIZE, charging(OutputCharge::AsProduced), &stats, None);
        assert!((n.of(Dimension::OutputTokens) - 100.0).abs() < 10.0, "{n:?}");
        // What we counted ourselves teaches nothing.
        let before = stats.input_ratio();
        stats.learn(&SIZE, &Used { input_tokens: 9, estimated: true, ..USED });
        assert!((stats.input_ratio() - before).abs() < 1e-12);
    }
}
