//! The command line: `serve`, `load`, `script`, `streams`.

mod load;
mod script;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use keymux_testkit::{Identity, Options, Server, preset, raise_descriptor_limit, spec_from_text};
use tokio::signal::unix::{SignalKind, signal};

/// Simulated LLM providers on real sockets, and an open-loop load generator.
#[derive(Parser)]
#[command(name = "testkit", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve a world until SIGTERM or SIGINT. Prints one JSON line with its address.
    Serve(Serve),
    /// Send requests at a fixed rate whatever the answers do; latency counts from the instant due.
    Load(load::LoadArgs),
    /// Send the requests of a file at their instants; through one target, or round-robin over several.
    Script(script::ScriptArgs),
    /// Open many slow streams, hold them, and count those that are lost.
    Streams(load::StreamsArgs),
}

#[derive(clap::Args)]
struct Serve {
    /// A world as TOML or JSON.
    #[arg(long, conflicts_with = "preset")]
    spec: Option<PathBuf>,
    /// A world that comes with the kit: demo or e2e.
    #[arg(long, default_value = "demo")]
    preset: String,
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Seed of all randomness.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many exchanges to keep with their bytes for /_sim/requests.
    #[arg(long, default_value_t = 256)]
    captures: usize,
    /// Serve TLS with this certificate chain (PEM).
    #[arg(long, requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key (PEM).
    #[arg(long, requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Accepted for symmetry with `keymux serve`: the address is always printed.
    #[arg(long)]
    print_addr: bool,
}

/// Parses the arguments and does what they say.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Serve(serve) => serve.run(),
        Command::Load(load) => load.run(),
        Command::Script(script) => script.run(),
        Command::Streams(streams) => streams.run(),
    }
}

impl Serve {
    fn run(self) -> anyhow::Result<ExitCode> {
        let spec = match &self.spec {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                spec_from_text(&text).with_context(|| format!("in {}", path.display()))?
            }
            None => preset(&self.preset)?,
        };
        let read =
            |path: &PathBuf| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => Some(Identity { cert_pem: read(cert)?, key_pem: read(key)? }),
            _ => None,
        };
        let options = Options { listen: self.listen, seed: self.seed, captures: self.captures, tls };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            // Listening to signals comes before the address is out, so that nobody can be too fast.
            let mut term = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            raise_descriptor_limit();
            let server = Server::start(spec, &options)?;
            let line = serde_json::json!({ "listen": server.addr().to_string() });
            writeln!(std::io::stdout(), "{line}")?;
            std::io::stdout().flush()?;
            tokio::select! {
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
            }
            server.shutdown();
            Ok(ExitCode::SUCCESS)
        })
    }
}
