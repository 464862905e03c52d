//! Logs: one line a request at its end, events as lines of their own. Never a body, never a credential.

use super::lines::{self, Out};
use crate::happening::Happening;
use keymux_config::{Log, LogFormat, LogLevel};
use std::sync::OnceLock;
use tracing_subscriber::EnvFilter;

/// Puts another filter in force. There is one in a process, as there is one standard error.
type Refilter = Box<dyn Fn(EnvFilter) -> bool + Send + Sync>;
static REFILTER: OnceLock<Refilter> = OnceLock::new();

/// Sends logs to standard error, as text or JSON.
pub fn init(log: &Log, color: bool) {
    let builder = tracing_subscriber::fmt().with_writer(|| Out).with_target(false);
    // A second call (in a test) keeps the first subscriber.
    let begun = match log.format {
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true);
            let builder = builder.with_env_filter(filter(log.level)).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.try_init().map(|()| Box::new(move |f| handle.reload(f).is_ok()) as Refilter)
        }
        LogFormat::Text => {
            let builder = builder.with_ansi(color);
            let builder = builder.with_env_filter(filter(log.level)).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.try_init().map(|()| Box::new(move |f| handle.reload(f).is_ok()) as Refilter)
        }
    };
    lines::init(log.format, color && log.format == LogFormat::Text);
    if let Ok(refilter) = begun {
        // It was the first.
        let _ = REFILTER.set(refilter);
    }
}

/// Logs from this level on, from now on. `false`: nobody logs here.
pub fn set_level(level: LogLevel) -> bool {
    REFILTER.get().is_some_and(|refilter| refilter(filter(level)))
}

fn filter(level: LogLevel) -> EnvFilter {
    // Other crates' noise starts a level later than ours.
    EnvFilter::new(format!("warn,keymux={}", level.label()))
}

/// Tells of requests and of the events of the scheduler and the ledger, for ever, and keeps the calendar true.
pub async fn events(gateway: std::sync::Arc<crate::serve::Gateway>) {
    let mut every = tokio::time::interval(std::time::Duration::from_millis(200));
    let mut events = Vec::new();
    let mut watch = crate::ledger::Watch::default();
    loop {
        every.tick().await;
        lines::flush();
        gateway.clock.set_calendar();
        gateway.scheduler.take_events(&mut events);
        for event in events.drain(..) {
            let happening = Happening::of(&event.what, &gateway.live.load());
            gateway.timeline.tell(event.at.unix_ns, happening);
        }
        if let Some(store) = &gateway.store {
            let without = gateway.live.load().config.ledger.when_unavailable;
            let changes = watch.look(store, &gateway.ledger, without);
            for happening in changes {
                gateway.tell(happening);
            }
        }
    }
}
