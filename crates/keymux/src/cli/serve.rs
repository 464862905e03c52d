//! `keymux serve`: the gateway, until SIGTERM or Ctrl-C.

use super::{Failure, color, levels, say, state, world};
use crate::happening::{Happening, Kind};
use crate::reload::{Looked, Reloader};
use crate::serve::{BoundAddresses, Gateway, Running, start};
use crate::{observe, rt};
use keymux_config::{Config, World, from_env, from_toml};
use std::mem::take;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without --config, keys come from the environment: OPENROUTER_API_KEY, OPENROUTER_API_KEYS \
(comma-separated), OPENROUTER_KEY_1 …, and likewise OPENAI_…, ANTHROPIC_…, GROQ_… and so on.\n\n\
Example:\n  keymux serve --config keymux.toml\n\nSignals: SIGTERM or Ctrl-C finish what is in flight and stop; SIGHUP reads the file again."
)]
pub(super) struct Args {
    /// The configuration (TOML). With it, only the file counts.
    #[arg(long, short, value_name = "PATH")]
    config: Option<PathBuf>,
    /// Print the addresses as one line of JSON once the gateway listens.
    #[arg(long)]
    print_addr: bool,
}

/// Reads the configuration, with every mistake told at once.
pub(super) fn configuration(path: Option<&PathBuf>) -> Result<(Config, String), Failure> {
    let Some(path) = path else {
        let config = world::with(from_env);
        return config
            .map(|c| (c, String::new()))
            .map_err(|p| Failure::Mend(p.render("environment", "", color())));
    };
    let shown = path.display().to_string();
    let text = world::read(path)
        .map_err(|e| Failure::Mend(format!("{shown}: {e}; give the path of a TOML file with --config")))?;
    match world::with(|w| from_toml(&shown, &text, w)) {
        Ok(config) => Ok((config, text)),
        Err(problems) => Err(Failure::Mend(problems.render(&shown, &text, color()))),
    }
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let (config, text) = configuration(args.config.as_ref())?;
    observe::init(&config.server.log, color());
    for warning in &config.warnings {
        tracing::warn!("{}", warning.message);
    }
    let admin_token =
        if config.server.admin.is_some() { state::admin_token(&config)? } else { String::new() };
    let reloader = args.config.clone().map(|path| Reloader::new(path, text, config.clone()));
    let runtime = rt::single().map_err(|e| Failure::Failed(e.to_string()))?;
    // Heard before anybody can know that we are there: unheard, the first SIGHUP would end the process.
    let signals = {
        let _entered = runtime.enter();
        Signals::hear()?
    };
    let levels_path = levels::path(&config.server.data_dir);
    let running = start(config, admin_token, state::seed()).map_err(Failure::Mend)?;
    if let Some(saved) = levels::read(&levels_path) {
        running.gateway.scheduler.resume(&saved);
    }
    running.gateway.reload.possible.store(reloader.is_some(), Ordering::Release);
    if args.print_addr {
        say(&addresses(&running.bound));
    }
    tracing::info!(listen = %running.bound.listen, "keymux serves");
    runtime.block_on(until_told(running, reloader, signals, levels::Kept::at(levels_path)))
}

/// One line that a script can read.
fn addresses(bound: &BoundAddresses) -> String {
    let admin = bound.admin.map(|a| a.to_string());
    serde_json::json!({ "listen": bound.listen.to_string(), "admin": admin }).to_string()
}

fn on(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|e| Failure::Failed(format!("signals cannot be heard: {e}")))
}

/// What operators say.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn hear() -> Result<Self, Failure> {
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            hang_up: on(SignalKind::hangup())?,
        })
    }
}

async fn until_told(
    running: Running,
    mut reloader: Option<Reloader>,
    signals: Signals,
    mut levels: levels::Kept,
) -> Result<(), Failure> {
    let Signals { mut terminate, mut interrupt, mut hang_up } = signals;
    let mut every = tokio::time::interval(LOOK);
    // A look runs programs and reads files, so it has a thread of its own, and the signals are heard meanwhile.
    let mut save_every = tokio::time::interval(levels::EVERY);
    let (looked, mut looks) = tokio::sync::mpsc::channel(1);
    let mut hung_up = false;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => hung_up = true,
            () = running.gateway.reload.wanted.notified() => hung_up = true,
            Some(back) = looks.recv() => {
                reloader = Some(back);
                // A signal that came during the look means what stands there now.
                if !hung_up {
                    continue;
                }
            }
            _ = every.tick() => {}
            _ = save_every.tick() => {
                levels.save(running.gateway.scheduler.save());
                continue;
            }
        }
        if let Some(mut reloader) = reloader.take() {
            let (gateway, looked, always) = (running.gateway.clone(), looked.clone(), take(&mut hung_up));
            let look = move || {
                look(&mut reloader, &gateway, always);
                // Nobody waits for it any more if the gateway is stopping.
                let _ = looked.blocking_send(reloader);
            };
            rt::aside("reload".to_owned(), look).map_err(|e| Failure::Failed(e.to_string()))?;
        }
    }
    let drain = Duration::from_millis(running.gateway.live.load().config.server.drain_ms);
    tracing::info!(seconds = drain.as_secs(), "stopping: finishing what is in flight");
    let gateway = running.gateway.clone();
    let left = tokio::select! {
        left = running.drain(drain) => left,
        // A second signal is meant.
        _ = terminate.recv() => 0,
        _ = interrupt.recv() => 0,
    };
    levels.save(gateway.scheduler.save());
    if left > 0 {
        tracing::warn!(requests = left, "stopped with requests in flight");
    }
    Ok(())
}

fn look(reloader: &mut Reloader, gateway: &Arc<Gateway>, always: bool) {
    let shown = reloader.path.display().to_string();
    let parse = |text: &str, w: &World<'_>| from_toml(&shown, text, w);
    let note = |kind, text| gateway.tell(Happening::new(kind, "configuration", text));
    let looked = world::with(|w| reloader.look(gateway, w, parse, always));
    gateway.metrics.config_refused(reloader.is_refused());
    match looked {
        Looked::Same if always => note(Kind::Reloaded, "reload: nothing has changed".to_owned()),
        Looked::Same => {}
        Looked::Mended => {
            note(Kind::Reloaded, "reload: the file says again what is in force".to_owned());
        }
        Looked::Changed(changes) => {
            for change in changes {
                note(Kind::Reloaded, format!("reload: {change}"));
            }
        }
        Looked::Refused(why) => {
            tracing::error!("reload refused, the old configuration stays in force:\n{why}");
            // The whole of it, with the lines that it is about, is in the log.
            let first = why.lines().next().unwrap_or_default();
            note(Kind::ReloadRefused, format!("reload refused, the old configuration stays: {first}"));
        }
    }
}
