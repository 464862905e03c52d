//! What people type. Each command's file says what it prints and how it ends; 0 is well, 1 is a failure while running,
//! 2 is something to mend in the command line or the configuration.

mod amounts;
mod batch;
mod check;
mod clients;
mod compare;
mod demo;
mod gateway;
mod health;
mod import;
mod keys;
mod levels;
mod number;
mod progress;
mod replay;
mod serve;
mod simulate;
mod state;
mod table;
mod usage;
mod webhooks;
mod world;

use clap::{Parser, Subcommand};
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

/// A load balancer for LLM APIs: turns the quota of all your provider keys into answers.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
#[command(
    after_help = "Examples:\n  keymux demo                                   see it work, without any account\n  \
OPENROUTER_API_KEY=… keymux serve             one key from the environment\n  \
keymux serve --config keymux.toml             keys, accounts, limits and routes from a file\n  \
keymux batch prompts.jsonl -o answers.jsonl   many calls at once, as fast as the keys allow\n\n\
Exit codes: 0 well, 1 failed while running, 2 something to mend in the command or the configuration"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway.
    Serve(serve::Args),
    /// Carry out a file of calls, as fast as the keys allow; goes on where it was stopped.
    Batch(Box<batch::Args>),
    /// Run the gateway in front of a simulated provider, with a small load.
    Demo(demo::Args),
    /// Validate a configuration and say what it means, without starting.
    Check(check::Args),
    /// Make a configuration of another gateway's: LiteLLM's proxy.
    Import(import::Args),
    /// Run a scenario in virtual time: what would come of a fleet, a load, a fault.
    Simulate(simulate::Args),
    /// Check all provider keys at their providers, by calls that cost nothing.
    Keys(keys::Args),
    /// Client keys of a running gateway: make, list, change, replace, end.
    Clients(Box<clients::Clients>),
    /// Teams of client keys.
    Teams(clients::Teams),
    /// What was used and spent, by team, client, model, key and time.
    Usage(usage::Args),
    /// Who is told when something needs a person: how they stand, and a test message.
    Webhooks(webhooks::Args),
    /// Ask a running gateway whether it is well.
    Health(health::Args),
}

/// What stops a command.
#[derive(Debug)]
pub enum Failure {
    /// Something to mend: exit code 2.
    Mend(String),
    /// It failed while running: exit code 1.
    Failed(String),
    /// It ended as its own page describes, with this exit code.
    Ended(u8, String),
}

/// Runs the command that was typed.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, and are no error.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    // The one TLS provider that is compiled in. A second call (never here) would keep the first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let done = match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Batch(args) => batch::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Keys(args) => keys::run(&args),
        Command::Clients(args) => clients::clients(&args),
        Command::Teams(args) => clients::teams(&args),
        Command::Usage(args) => usage::run(&args),
        Command::Webhooks(args) => webhooks::run(&args),
        Command::Health(args) => health::run(&args),
    };
    crate::observe::flush();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Mend(told)) => {
            say_error(&told);
            ExitCode::from(2)
        }
        Err(Failure::Failed(told)) => {
            say_error(&told);
            ExitCode::FAILURE
        }
        Err(Failure::Ended(code, told)) => {
            say_error(&told);
            ExitCode::from(code)
        }
    }
}

/// Prints a line for people or scripts. A closed pipe ends the program's interest in printing, not the program.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn say_error(text: &str) {
    let text = text.trim_end();
    let prefix = if text.starts_with("error") || text.contains('\n') { "" } else { "keymux: " };
    let _ = writeln!(std::io::stderr(), "{prefix}{text}");
}

/// Columns of the terminal that standard output is; more than anybody needs where it is none.
fn width() -> usize {
    let out = std::io::stdout();
    let size = out.is_terminal().then(|| rustix::termios::tcgetwinsize(&out).ok()).flatten();
    size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(usize::MAX)
}

/// Whether standard error is for eyes that see colour.
fn color() -> bool {
    std::io::stderr().is_terminal() && world::variable("NO_COLOR").is_none()
}
