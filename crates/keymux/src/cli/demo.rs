//! Being laid.

use super::Failure;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// End with the summary.
    #[arg(long)]
    once: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    Err(Failure::Failed(format!("not laid yet ({})", args.once)))
}
