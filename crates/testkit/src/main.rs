//! `testkit`: the simulated providers, and load for them, from a shell.

mod cli;

fn main() -> anyhow::Result<std::process::ExitCode> {
    cli::run()
}
