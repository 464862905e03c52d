//! `keymux keys`: all keys checked side by side at their providers, as a table or as JSON, once or again and again.

mod choice;
mod table;

use super::{Failure, say, say_error, serve, world};
use crate::attempt::Dialer;
use crate::checks::{Checked, Checker, Probe, accounts, all, report};
use crate::clock::Clock;
use crate::live::{Names, Snapshot};
use crate::observe::Metrics;
use crate::rt;
use crate::upstream::{Connector, Pool, client_config};
use serde_json::{Value, json};
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "Examples:
  keymux keys                                      the keys of the environment
  keymux keys --config keymux.toml                 those of a file
  keymux keys --provider openrouter                of one provider
  keymux keys main openai/org-a-1                  these alone
  keymux keys --watch                              again and again, until Ctrl-C
  keymux keys --json | jq '.keys[] | select(.usable != true)'
  keymux keys --provider openai --probe gpt-5-nano one paid token with each key

Nothing is paid for unless --probe asks for it: OpenRouter is asked for `GET /key`, DeepSeek for its
balance, others whether they list their models for this key. A key that works may still lack the
money for a call where the free call does not tell; --probe finds out.

Exit codes: 0 every key works, as far as its provider says; 1 one cannot be used, or could not be
checked; 2 something to mend in the command or the configuration";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Only these keys, by name or as PROVIDER/NAME.
    #[arg(value_name = "KEY")]
    keys: Vec<String>,
    /// The configuration (TOML); without it, keys come from the environment, as for `keymux serve`.
    #[arg(long, short, value_name = "PATH")]
    config: Option<PathBuf>,
    /// Only keys of this provider; may be given again.
    #[arg(long, value_name = "NAME")]
    provider: Vec<String>,
    /// Print JSON; with --watch one line each time.
    #[arg(long)]
    json: bool,
    /// Check again every so often, and draw the table anew; 60s if no time is given.
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "60s", value_parser = time)]
    watch: Option<Duration>,
    /// How long the check of one key may take.
    #[arg(long, value_name = "TIME", default_value = "10s", allow_negative_numbers = true, value_parser = time)]
    timeout: Duration,
    /// Send one paid call of one token to this model as well; `PROVIDER:MODEL` for the keys of that provider alone. May be
    /// given again.
    #[arg(long, value_name = "MODEL")]
    probe: Vec<String>,
}

/// `30s`, `500ms`, `5m`, or plain seconds.
fn time(text: &str) -> Result<Duration, String> {
    let wrong = || "give a time such as 30s, 500ms or 5m".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit.trim() {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        _ => return Err(wrong()),
    };
    let seconds = number.parse::<f64>().map_err(|_| wrong())? * scale;
    if !(0.001..=86_400.0).contains(&seconds) {
        return Err("give a time between 1ms and 24h".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let (config, _) = serve::configuration(args.config.as_ref())?;
    let probes = choice::probes(&args.probe, &config, &args.provider).map_err(Failure::Mend)?;
    let keys = choice::keys(&args.keys, &args.provider, &config).map_err(Failure::Mend)?;
    let connector = Connector::new(client_config(config.server.ca_file.as_deref()).map_err(Failure::Mend)?);
    for warning in &config.warnings {
        say_error(&format!("warning: {}", warning.message));
    }
    let (snapshot, _) =
        Snapshot::new(config, &mut Names::default(), &Metrics::default()).map_err(Failure::Mend)?;
    let dialer = Dialer { pool: Pool::default(), connector, clock: Clock::start() };
    let look = Look { args, snapshot, dialer, probes, keys };
    let runtime = rt::single().map_err(|e| Failure::Failed(e.to_string()))?;
    runtime.block_on(look.until_told())
}

struct Look<'a> {
    args: &'a Args,
    snapshot: Snapshot,
    dialer: Dialer,
    probes: Vec<Probe>,
    keys: Vec<(usize, usize)>,
}

impl Look<'_> {
    /// Looks once, or until Ctrl-C. How it ends is told by the last look.
    async fn until_told(&self) -> Result<(), Failure> {
        let Some(every) = self.args.watch else {
            let checked = self.check().await;
            self.show(&checked);
            return verdict(&checked);
        };
        let mut last = Ok(());
        loop {
            tokio::select! {
                checked = self.check() => {
                    self.show(&checked);
                    last = verdict(&checked);
                }
                _ = tokio::signal::ctrl_c() => return last,
            }
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                _ = tokio::signal::ctrl_c() => return last,
            }
        }
    }

    async fn check(&self) -> Vec<Checked> {
        let Self { args, snapshot, dialer, probes, keys } = self;
        dialer.clock.set_calendar();
        dialer.pool.sweep(dialer.clock.mono_ns());
        all(&Checker { dialer, snapshot, patience: args.timeout, probes }, keys).await
    }

    fn show(&self, checked: &[Checked]) {
        if self.args.json {
            let told = as_json(checked, self.dialer.clock.now().unix_ns);
            let text = if self.args.watch.is_some() {
                told.to_string()
            } else {
                serde_json::to_string_pretty(&told).unwrap_or_default()
            };
            return say(&text);
        }
        let eyes = std::io::stdout().is_terminal();
        let text = table::text(checked, eyes && world::variable("NO_COLOR").is_none());
        match self.args.watch {
            None => say(&text),
            Some(every) => {
                let at = report::date(self.dialer.clock.now().unix_ns).replace('T', " ");
                let text = format!("{text}\n\nchecked at {at}, again in {} s", every.as_secs_f64());
                if eyes { redraw(&text) } else { say(&format!("{text}\n")) }
            }
        }
    }
}

/// Draws over what was drawn before: line by line, so that nothing flickers.
fn redraw(text: &str) {
    let drawn = text.replace('\n', "\u{1b}[K\n");
    let mut out = std::io::stdout();
    // Who closed the terminal does not look any more.
    let _ = write!(out, "\u{1b}[H{drawn}\u{1b}[K\n\u{1b}[J").and_then(|()| out.flush());
}

/// How the command ends: well if each key works, or was not to be asked.
fn verdict(checked: &[Checked]) -> Result<(), Failure> {
    use crate::checks::Verdict;
    let count = |fits: fn(&Verdict) -> bool| checked.iter().filter(|c| fits(&c.verdict)).count();
    let unusable = count(|v| v.is_usable() == Some(false));
    let unknown = count(|v| matches!(v, Verdict::Unknown(_)));
    let of = |n: usize, what: &str| format!("{n} of {} keys {what}", checked.len());
    let told = match (unusable, unknown) {
        (0, 0) => return Ok(()),
        (unusable, 0) => of(unusable, "cannot be used"),
        (0, unknown) => of(unknown, "could not be checked"),
        (unusable, unknown) => {
            format!("{}, {unknown} could not be checked", of(unusable, "cannot be used"))
        }
    };
    Err(Failure::Failed(told))
}

fn as_json(checked: &[Checked], unix_ns: u64) -> Value {
    let groups = accounts::shared(checked);
    let keys = checked.iter().enumerate().map(|(at, one)| {
        let group = groups.iter().find(|group| group.contains(&at));
        let others = group.into_iter().flatten().filter(|other| **other != at);
        let shares: Vec<String> = others.map(|other| checked[*other].path()).collect();
        let mut told = report::json(one, &shares);
        told["owner"] = json!(one.facts.as_ref().map(|facts| report::owner(&facts.owner)));
        told
    });
    json!({ "checked_at": report::date(unix_ns), "keys": keys.collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_nonsense_is_not() {
        for (text, ms) in [("30s", 30_000), ("500ms", 500), ("5m", 300_000), ("2", 2_000), ("1.5s", 1_500)] {
            assert_eq!(time(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "-1s", "0s", "1y", "25h", "1e9", "NaN", "∞"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
