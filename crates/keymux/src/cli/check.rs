//! `keymux check`: what a configuration means, or everything that is wrong with it.

use super::{Failure, color, say, serve};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  keymux check --config keymux.toml\n  keymux check --schema > keymux.schema.json"
)]
pub(super) struct Args {
    /// The configuration (TOML); without it, the environment.
    #[arg(long, short, value_name = "PATH")]
    config: Option<PathBuf>,
    /// Print the JSON Schema of the configuration.
    #[arg(long)]
    schema: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    if args.schema {
        let schema = serde_json::to_string_pretty(&keymux_config::schema());
        say(&schema.map_err(|e| Failure::Failed(e.to_string()))?);
        return Ok(());
    }
    let (config, text) = serve::configuration(args.config.as_ref())?;
    if !config.warnings.is_empty() {
        let shown =
            args.config.as_ref().map_or_else(|| "environment".to_owned(), |p| p.display().to_string());
        let problems = keymux_config::Problems { list: config.warnings.clone() };
        super::say_error(&problems.render(&shown, &text, color()));
    }
    let now_unix_s = jiff::Timestamp::now().as_second().max(0).unsigned_abs();
    if let Some(old) = config.prices.table.old(now_unix_s) {
        // Of the configuration no line is wrong.
        super::say_error(&keymux_config::Problems { list: vec![old] }.render("", "", color()));
    }
    say(config.describe().trim_end());
    Ok(())
}
