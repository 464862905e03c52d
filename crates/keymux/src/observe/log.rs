//! Logs: one line a request at its end, events as lines of their own. Never a body, never a credential.

use crate::happening::Happening;
use keymux_config::{Log, LogFormat, LogLevel};
use keymux_store::Record;
use std::sync::OnceLock;
use tracing_subscriber::EnvFilter;

/// Puts another filter in force. There is one in a process, as there is one standard error.
type Refilter = Box<dyn Fn(EnvFilter) -> bool + Send + Sync>;
static REFILTER: OnceLock<Refilter> = OnceLock::new();

/// Sends logs to standard error, as text or JSON.
pub fn init(log: &Log, color: bool) {
    let builder = tracing_subscriber::fmt().with_writer(std::io::stderr).with_target(false);
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

/// Writes the line of one request.
pub fn request_line(record: &Record) {
    tracing::info!(
        id = &*record.id,
        client = &*record.client,
        endpoint = &*record.endpoint,
        // Client input: shown escaped and cut, so that it can neither forge lines nor flood.
        model = %record.model.chars().take(120).collect::<String>().escape_debug(),
        provider = &*record.provider,
        key = &*record.key,
        status = record.status,
        outcome = &*record.outcome,
        attempts = record.attempts,
        queue_ms = record.queue_ns / 1_000_000,
        first_output_ms = record.first_output_ns.map(|ns| ns / 1_000_000),
        total_ms = record.total_ns / 1_000_000,
        input_tokens = record.used.input_tokens,
        output_tokens = record.used.output_tokens,
        cost_nano_usd = record.used.cost_nano_usd,
        "request"
    );
}

/// Tells of the events of the scheduler and the ledger, for ever, and keeps the calendar true.
pub async fn events(gateway: std::sync::Arc<crate::serve::Gateway>) {
    let mut every = tokio::time::interval(std::time::Duration::from_millis(200));
    let mut events = Vec::new();
    let mut watch = crate::ledger::Watch::default();
    loop {
        every.tick().await;
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
