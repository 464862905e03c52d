//! `keymux demo`: the very gateway of `keymux serve`, in front of simulated providers whose keys have small limits and
//! real faults, with a small load. Shows within seconds what happened, key by key, and stays up to be tried.

use super::{Failure, say, world};
use crate::serve::{Running, start};
use crate::{observe, rt};
use keymux_config::{Config, World, from_toml};
use keymux_testkit::{Handle, Load, Options, Server, Shape, Shot, Summary, preset};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

/// The load that the summary tells of: more than one key could carry, less than all can.
const RATE: f64 = 24.0;
const LOAD: Duration = Duration::from_secs(7);
/// What keeps the status page moving afterwards.
const TRICKLE: f64 = 2.0;
const TRICKLE_LASTS: Duration = Duration::from_hours(8);

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  keymux demo --once        print the summary and end\n\nExit codes: 0 well, 1 if a client saw an error"
)]
pub(super) struct Args {
    /// End after the summary instead of staying up.
    #[arg(long)]
    once: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let failed = |e: &dyn std::fmt::Display| Failure::Failed(format!("the demo could not start: {e}"));
    let spec = preset("demo").map_err(|e| failed(&e))?;
    let provider = Server::start(spec, &Options::default()).map_err(|e| failed(&e))?;
    let dir = std::env::temp_dir().join(format!("keymux-demo-{}", std::process::id()));
    let config = configuration(&provider, &dir)?;
    observe::init(&config.server.log, super::color());
    let token = format!("demo-{:016x}", super::state::seed());
    let running = start(config, token.clone(), super::state::seed()).map_err(Failure::Mend)?;
    say(&format!(
        "keymux demo: a gateway with 4 keys in front of 2 simulated providers.\nSending {RATE} requests a second for {} s. Meanwhile one key is revoked, one account slows down,\none key answers with errors, and every limit is too small for the whole load.\n",
        LOAD.as_secs()
    ));
    let runtime = rt::single().map_err(|e| failed(&e))?;
    let clean = runtime.block_on(show(args, &provider, &running, &token));
    drop(running);
    // What the demo wrote down is of no use to anybody.
    let _ = std::fs::remove_dir_all(&dir);
    let clean = clean?;
    if clean { Ok(()) } else { Err(Failure::Failed("the demo's clients saw errors".to_owned())) }
}

async fn show(args: &Args, provider: &Handle, running: &Running, token: &str) -> Result<bool, Failure> {
    let listen = running.bound.listen;
    let load = Load {
        target: format!("http://{listen}/v1"),
        rate: RATE,
        shape: Shape::Random,
        duration: LOAD,
        mix: vec![
            Shot::chat("demo", "Why do keys of one account share a limit?", 64, true).weight(2),
            Shot::chat("demo", "Say something about load balancing.", 64, false),
        ],
        ..Load::default()
    };
    let trickle = Load { rate: TRICKLE, duration: TRICKLE_LASTS, ..load.clone() };
    let summary = load.run().await.map_err(|e| Failure::Failed(format!("the load failed: {e}")))?;
    say(&table(provider));
    say(&told(&summary));
    if args.once {
        return Ok(summary.errors.is_empty() && summary.ok == summary.sent);
    }
    say(&invitation(running, token));
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = trickle.run() => {}
    }
    Ok(true)
}

/// The demo's configuration, as a newcomer would write it.
fn configuration(provider: &Handle, data_dir: &Path) -> Result<Config, Failure> {
    let text = format!(
        r#"
[server]
listen = "127.0.0.1:0"
admin = "127.0.0.1:0"
data_dir = "{}"
[log]
requests = false
level = "error"
[ledger]
log_bytes = "4MiB"
[checks]
every = "0s"

[[provider]]
name = "openrouter"
base_url = "{}"
keys = [
  {{ name = "north-1", account = "org-north", secret = "literal:sk-test-demo-north-1" }},
  {{ name = "north-2", account = "org-north", secret = "literal:sk-test-demo-north-2" }},
  {{ name = "south-1", account = "org-south", secret = "literal:sk-test-demo-south-1" }},
]

[[provider]]
name = "openai"
base_url = "{}"
keys = [ {{ name = "backup", secret = "literal:sk-test-demo-backup" }} ]

[[route]]
model = "demo"
tiers = [ ["openrouter:demo/small"], ["openai:demo-small"] ]
max_wait = "20s"
"#,
        data_dir.display(),
        provider.base_url("openrouter"),
        provider.base_url("openai"),
    );
    let world = World {
        env: &|_| None,
        env_names: &[],
        read: &world::read,
        run: &|_| Err("no commands here".to_owned()),
    };
    from_toml("demo", &text, &world).map_err(|p| Failure::Failed(p.render("demo", &text, false)))
}

/// What the providers' own books say.
fn table(provider: &Handle) -> String {
    let mut text = format!(
        "{:<22} {:>6} {:>9} {:>7} {:>7} {:>10}\n",
        "provider/key", "calls", "answered", "429s", "failed", "cost"
    );
    for (key, totals) in &provider.summary().keys {
        if totals.calls == 0 {
            continue;
        }
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{key:<22} {:>6} {:>9} {:>7} {:>7} {:>9.4}$",
            totals.calls,
            totals.ok,
            totals.rate_limited,
            totals.failed,
            totals.billed_nano_usd as f64 / 1e9
        );
    }
    text
}

/// What the clients saw.
fn told(summary: &Summary) -> String {
    let refused: u64 = summary.statuses.iter().filter(|(status, _)| **status >= 400).map(|(_, n)| n).sum();
    let broken: u64 = summary.errors.values().sum();
    format!(
        "clients: {} of {} requests answered, {refused} refused, {broken} broken; p50 {} ms, p99 {} ms",
        summary.ok,
        summary.sent,
        summary.total.p50_us / 1_000,
        summary.total.p99_us / 1_000
    )
}

fn invitation(running: &Running, token: &str) -> String {
    let listen = running.bound.listen;
    let status = running.bound.admin.map(|a| format!("http://{a}/?token={token}")).unwrap_or_default();
    format!(
        r#"
Status page:   {status}

Try it:
  curl http://{listen}/v1/chat/completions -H 'content-type: application/json' \
    -d '{{"model":"demo","messages":[{{"role":"user","content":"Hello"}}]}}'

  from openai import OpenAI
  client = OpenAI(base_url="http://{listen}/v1", api_key="unused")
  print(client.chat.completions.create(model="demo", messages=[{{"role": "user", "content": "Hello"}}]))

Ctrl-C ends the demo."#
    )
}
