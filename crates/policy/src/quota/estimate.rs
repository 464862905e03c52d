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

/// Tokens guessed, and tokens counted for the same requests. Old ones fade, so that traffic that changes is learned
/// anew.
#[derive(Clone, Copy, Debug, Default)]
struct Ratio {
    guessed: f64,
    counted: f64,
}

impl Ratio {
    fn add(&mut self, guessed: u64, counted: f64, keep: f64) {
        self.guessed = self.guessed * keep + guessed as f64;
        self.counted = self.counted * keep + counted;
    }

    /// Tokens in truth for each one guessed, with so many guessed tokens' worth of belief in `prior`.
    fn of(&self, prior: f64, belief: f64) -> f64 {
        ((self.counted + prior * belief) / (self.guessed + belief)).clamp(0.1, 10.0)
    }
}

/// How far off the estimates were for the answers that told their input.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Off {
    pub(crate) answers: u64,
    /// Tokens by which the estimate was off, either way, as a share of what was reported; the last hundred count most.
    pub(crate) share: f64,
}

/// What is learned about one upstream model from the usage that its answers report, and from refusals that say what
/// they would have charged.
#[derive(Clone, Debug)]
pub(crate) struct ModelStats {
    /// By script: mostly ASCII, and not.
    reported: [Ratio; 2],
    /// Likewise, as charged at admission.
    told: [Ratio; 2],
    off: Off,
    output_mean: f64,
    output_var: f64,
    outputs: f64,
    turn_ns: u64,
    turns: u32,
}

impl Default for ModelStats {
    fn default() -> Self {
        Self {
            reported: [Ratio::default(); 2],
            told: [Ratio::default(); 2],
            off: Off::default(),
            output_mean: 0.0,
            output_var: 0.0,
            outputs: 0.0,
            turn_ns: TURN_PRIOR_NS,
            turns: 0,
        }
    }
}

impl ModelStats {
    /// Input tokens in truth for each one guessed, as answers report them.
    fn usage_ratio(&self, wide: bool) -> f64 {
        // Two thousand tokens' worth of belief in the guess before anything was seen.
        self.reported[usize::from(wide)].of(1.0, 2_000.0)
    }

    /// A request's input, as answers would report it.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a guess of tokens is small")]
    pub(crate) fn input_tokens(&self, size: &Size) -> u64 {
        (size.input_tokens as f64 * self.usage_ratio(size.wide)).ceil() as u64
    }

    /// Input tokens that are charged at admission for each one guessed: as refusals told, else as answers report.
    pub(crate) fn input_ratio(&self, wide: bool) -> f64 {
        let told = self.told[usize::from(wide)];
        if told.guessed > 0.0 { told.of(1.0, 0.0) } else { self.usage_ratio(wide) }
    }

    /// How far off the estimates were.
    pub(crate) fn off(&self) -> Off {
        self.off
    }

    /// Output that a request will probably have, without a cap.
    pub(crate) fn usual_output(&self) -> f64 {
        self.output(None)
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

    /// A refusal said what the request would have been charged of a limit of tokens.
    pub(crate) fn learn_charge(
        &mut self,
        size: &Size,
        charging: Charging,
        dimension: Dimension,
        charge: f64,
    ) {
        let cap = size.output_tokens_max.map(|n| n as f64);
        let input = match (dimension, charging.output, cap) {
            (Dimension::InputTokens, ..) => charge,
            (
                Dimension::TotalTokens,
                OutputCharge::MaxTokensRefunded | OutputCharge::SumOfBoth,
                Some(cap),
            ) => charge - cap,
            // The larger of both: it is the input only if it is more than the other.
            (Dimension::TotalTokens, OutputCharge::MaxOfBoth, cap) if charge > cap.unwrap_or(0.0) => charge,
            _ => return,
        };
        if input >= 1.0 && size.input_tokens > 0 {
            self.told[usize::from(size.wide)].add(size.input_tokens, input, 0.9);
        }
    }

    pub(crate) fn learn(&mut self, size: &Size, used: &Used) {
        if used.estimated {
            return;
        }
        if size.input_tokens > 0 && used.input_tokens > 0 {
            let reported = used.input_tokens as f64;
            let off = (size.input_tokens as f64 * self.usage_ratio(size.wide) - reported).abs() / reported;
            self.off.answers += 1;
            self.off.share += (off - self.off.share) / self.off.answers.min(100) as f64;
            self.reported[usize::from(size.wide)].add(size.input_tokens, reported, 0.99);
        }
        self.outputs = (self.outputs + 1.0).min(100.0);
        let off = used.output_tokens as f64 - self.output_mean;
        self.output_mean += off / self.outputs;
        self.output_var += (off * off - self.output_var) / self.outputs;
    }
}

/// What the request takes before it is sent.
pub(crate) fn need(size: &Size, charging: Charging, stats: &ModelStats, cost_nano_usd: Option<u64>) -> Need {
    let input = size.input_tokens as f64 * stats.input_ratio(size.wide);
    let cap = size.output_tokens_max.map(|n| n as f64);
    let (output, total) = match charging.output {
        OutputCharge::MaxTokensRefunded | OutputCharge::SumOfBoth => {
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

/// How often over a limit of total tokens is charged what the request will probably use: more than once only where
/// `max_tokens` is charged and what is unused stays charged.
pub(crate) fn overcharge(size: &Size, charging: Charging, stats: &ModelStats, need: &Need) -> f64 {
    let Some(cap) = size.output_tokens_max.filter(|_| charging.output.keeps()) else { return 1.0 };
    let used = need.of(Dimension::InputTokens) + stats.output(Some(cap as f64));
    (need.of(Dimension::TotalTokens) / used.max(1.0)).max(1.0)
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
            if !charging.output.keeps() {
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
    if !charging.output.keeps() {
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
    const SIZE: Size =
        Size { body_bytes: 0, input_tokens: 1_000, wide: false, output_tokens_max: Some(4_000) };
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
        assert!((total(OutputCharge::SumOfBoth) - 5_000.0).abs() < 1e-9);
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
        assert!((answered(OutputCharge::SumOfBoth) - 5_000.0).abs() < 1e-9, "never refunded");
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
        assert!((stats.input_ratio(false) - 2.0).abs() < 0.05, "{}", stats.input_ratio(false));
        let n = need(&SIZE, charging(OutputCharge::AsProduced), &stats, None);
        assert!((n.of(Dimension::OutputTokens) - 100.0).abs() < 10.0, "{n:?}");
        // What we counted ourselves teaches nothing.
        let before = stats.input_ratio(false);
        stats.learn(&SIZE, &Used { input_tokens: 9, estimated: true, ..USED });
        assert!((stats.input_ratio(false) - before).abs() < 1e-12);
    }

    #[test]
    fn each_script_has_a_ratio_of_its_own_and_the_error_is_known() {
        let mut stats = ModelStats::default();
        let wide = Size { wide: true, ..SIZE };
        for _ in 0..300 {
            stats.learn(&SIZE, &Used { input_tokens: 800, ..USED });
            stats.learn(&wide, &Used { input_tokens: 2_500, ..USED });
        }
        assert!((stats.input_ratio(false) - 0.8).abs() < 0.02, "{}", stats.input_ratio(false));
        assert!((stats.input_ratio(true) - 2.5).abs() < 0.05, "{}", stats.input_ratio(true));
        let guess = stats.input_tokens(&Size { input_tokens: 200, ..wide });
        assert!((490..=500).contains(&guess), "{guess}");
        assert!(stats.off().answers == 600 && stats.off().share < 0.02, "{:?}", stats.off());
        (0..100).for_each(|_| stats.learn(&SIZE, &Used { input_tokens: 1_600, ..USED }));
        assert!((0.1..0.5).contains(&stats.off().share), "what is asked changed: {:?}", stats.off());
    }

    #[test]
    fn what_a_refusal_says_that_it_would_have_charged_is_what_the_next_one_takes() {
        let refunded = charging(OutputCharge::MaxTokensRefunded);
        let total = |stats: &ModelStats| need(&SIZE, refunded, stats, None).of(Dimension::TotalTokens);
        let mut stats = ModelStats::default();
        (0..50).for_each(|_| stats.learn(&SIZE, &Used { input_tokens: 500, ..USED }));
        stats.learn_charge(&SIZE, refunded, Dimension::TotalTokens, 5_300.0);
        assert!((total(&stats) - 5_300.0).abs() < 1e-6, "input of 1,300 and the cap: {}", total(&stats));
        stats.learn(&SIZE, &Used { input_tokens: 500, ..USED });
        assert!(
            (total(&stats) - 5_300.0).abs() < 1e-6,
            "what is used is refunded, not charged less at first"
        );
        // What says nothing of the input changes nothing.
        stats.learn_charge(&SIZE, refunded, Dimension::Requests, 1.0);
        stats.learn_charge(&SIZE, refunded, Dimension::TotalTokens, 12.0);
        stats.learn_charge(&SIZE, charging(OutputCharge::AsProduced), Dimension::TotalTokens, 9_999.0);
        stats.learn_charge(&SIZE, charging(OutputCharge::MaxOfBoth), Dimension::TotalTokens, 4_000.0);
        assert!((total(&stats) - 5_300.0).abs() < 1e-6);
    }
}
