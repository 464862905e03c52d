//! How a batch stands, while people watch: one line that is drawn over and over on a terminal, and elsewhere a plain
//! line every few seconds, for logs.

use crate::batch::run::Standing;
use crate::batch::tell::{self, Meter};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;

/// Between two plain lines.
const EVERY_NS: u64 = 5_000_000_000;

/// Shows how it stands.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    meter: Meter,
    spent_before_nano_usd: u64,
    said_ns: u64,
    quiet: bool,
    /// As it stood last.
    pub(super) elapsed_ns: u64,
}

impl Progress {
    pub(super) fn new(quiet: bool, spent_before_nano_usd: u64) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new(1);
            bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(5));
            // It is well formed, or a test would say so.
            if let Ok(style) = ProgressStyle::with_template("{bar:24.cyan/dim} {percent:>3} % {wide_msg}") {
                bar.set_style(style.progress_chars("━━╌"));
            }
            bar
        });
        Self { bar, meter: Meter::default(), spent_before_nano_usd, said_ns: 0, quiet, elapsed_ns: 0 }
    }

    pub(super) fn show(&mut self, standing: &Standing<'_>) {
        self.elapsed_ns = standing.elapsed_ns;
        let rates = self.meter.look(standing);
        if let Some(bar) = &self.bar {
            let tally = standing.tally;
            let done = standing.before + tally.total.answered + tally.total.failed + tally.bad;
            bar.set_length(standing.lines.unwrap_or(done).max(1));
            bar.set_position(done);
            bar.set_message(tell::standing(standing, rates, self.spent_before_nano_usd));
        } else if !self.quiet && standing.elapsed_ns >= self.said_ns + EVERY_NS {
            self.said_ns = standing.elapsed_ns;
            super::say_error(&tell::standing(standing, rates, self.spent_before_nano_usd));
        }
    }

    /// Makes room for what is said at the end.
    pub(super) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_well_formed() {
        assert!(ProgressStyle::with_template("{bar:24.cyan/dim} {percent:>3} % {wide_msg}").is_ok());
    }
}
