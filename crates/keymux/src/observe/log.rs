//! Logs: one line a request at its end, events as lines of their own. Never a body, never a credential.

use keymux_config::{Log, LogFormat, LogLevel};
use tracing_subscriber::EnvFilter;

/// Sends logs to standard error, as text or JSON.
pub fn init(log: &Log, color: bool) {
    let level = match log.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    // Other crates' noise starts a level later than ours.
    let filter = EnvFilter::new(format!("warn,keymux={level}"));
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // A second call (in a test) keeps the first subscriber.
    let _ = match log.format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder.with_ansi(color).try_init(),
    };
}

/// What the log says of one request.
pub struct Line<'a> {
    /// Its id.
    pub id: &'a str,
    /// The endpoint.
    pub endpoint: &'static str,
    /// The name of the model, as the client wrote it.
    pub model: &'a str,
    /// Who served it last.
    pub provider: &'a str,
    /// With which key.
    pub key: &'a str,
    /// The status that the client saw.
    pub status: u16,
    /// How it ended.
    pub outcome: &'static str,
    /// Attempts.
    pub attempts: u32,
    /// Milliseconds in the waiting room.
    pub queue_ms: u64,
    /// Milliseconds in all.
    pub total_ms: u64,
    /// Tokens in.
    pub input_tokens: u64,
    /// Tokens out.
    pub output_tokens: u64,
}

/// Writes it.
pub fn request_line(line: &Line<'_>) {
    tracing::info!(
        id = line.id,
        endpoint = line.endpoint,
        // Client input: shown escaped and cut, so that it can neither forge lines nor flood.
        model = %line.model.chars().take(120).collect::<String>().escape_debug(),
        provider = line.provider,
        key = line.key,
        status = line.status,
        outcome = line.outcome,
        attempts = line.attempts,
        queue_ms = line.queue_ms,
        total_ms = line.total_ms,
        input_tokens = line.input_tokens,
        output_tokens = line.output_tokens,
        "request"
    );
}

/// Writes the scheduler's events as lines of their own, for ever.
pub async fn events(gateway: std::sync::Arc<crate::serve::Gateway>) {
    let mut every = tokio::time::interval(std::time::Duration::from_millis(200));
    let mut events = Vec::new();
    loop {
        every.tick().await;
        gateway.scheduler.take_events(&mut events);
        for event in events.drain(..) {
            tracing::info!(event = %crate::admin::told(&gateway, &event.what), "event");
        }
    }
}
