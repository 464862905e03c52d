//! The line of each request. Thousands a second end here, so lines are gathered and written together: by the fifth of a
//! second, before any other line so that all stay in order, and when the process ends.

use keymux_config::LogFormat;
use keymux_store::Record;
use serde::Serialize;
use std::io::{self, Write as _};
use std::sync::{Mutex, OnceLock, PoisonError};
use tracing::Level;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

/// So many bytes are written at once.
const GATHERED_MAX: usize = 16 * 1024;
/// Client input is cut here.
const MODEL_CHARS_MAX: usize = 120;

/// How lines are written, and whether in colour, once logs are kept.
static FORMAT: OnceLock<(LogFormat, bool)> = OnceLock::new();
static GATHERED: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Lines are written like this from now on.
pub(super) fn init(format: LogFormat, color: bool) {
    // A second call (in a test) keeps the first.
    let _ = FORMAT.set((format, color));
}

/// Standard error, for all other lines. It never fails: `tracing` would complain there too, and a complaint that
/// cannot be written is a panic.
pub(super) struct Out;

impl io::Write for Out {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut gathered = GATHERED.lock().unwrap_or_else(PoisonError::into_inner);
        gathered.extend_from_slice(line);
        write(&mut gathered);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes what was gathered.
pub fn flush() {
    write(&mut GATHERED.lock().unwrap_or_else(PoisonError::into_inner));
}

fn write(gathered: &mut Vec<u8>) {
    if !gathered.is_empty() {
        // Whoever closed standard error, or has no room for it, gets no lines.
        let _ = io::stderr().write_all(gathered);
        gathered.clear();
    }
}

/// What is told of a request.
#[derive(Serialize)]
struct Line<'a> {
    timestamp: &'a str,
    level: &'static str,
    message: &'static str,
    id: &'a str,
    client: &'a str,
    endpoint: &'a str,
    model: &'a str,
    provider: &'a str,
    key: &'a str,
    status: u16,
    outcome: &'a str,
    attempts: u32,
    queue_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_output_ms: Option<u64>,
    total_ms: u64,
    input_tokens: u64,
    output_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_nano_usd: Option<u64>,
}

/// Writes the line of one request, soon.
pub fn request_line(record: &Record) {
    let (Some(format), true) = (FORMAT.get(), tracing::enabled!(Level::INFO)) else { return };
    let mut timestamp = String::new();
    // A text takes everything.
    let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
    let model = shown(&record.model);
    let line = Line {
        timestamp: &timestamp,
        level: "INFO",
        message: "request",
        id: &record.id,
        client: &record.client,
        endpoint: &record.endpoint,
        model: &model,
        provider: &record.provider,
        key: &record.key,
        status: record.status,
        outcome: &record.outcome,
        attempts: record.attempts,
        queue_ms: record.queue_ns / 1_000_000,
        first_output_ms: record.first_output_ns.map(|ns| ns / 1_000_000),
        total_ms: record.total_ns / 1_000_000,
        input_tokens: record.used.input_tokens,
        output_tokens: record.used.output_tokens,
        cost_nano_usd: record.used.cost_nano_usd,
    };
    let mut gathered = GATHERED.lock().unwrap_or_else(PoisonError::into_inner);
    put(&mut gathered, &line, *format);
    if gathered.len() >= GATHERED_MAX {
        write(&mut gathered);
    }
}

/// Client input, escaped and cut, so that it can neither forge lines nor flood.
fn shown(model: &str) -> String {
    let end = model.char_indices().nth(MODEL_CHARS_MAX).map_or(model.len(), |(at, _)| at);
    model[..end].escape_debug().to_string()
}

fn put(out: &mut Vec<u8>, line: &Line<'_>, (format, color): (LogFormat, bool)) {
    match format {
        // A line of texts and numbers can be written, and memory takes it.
        LogFormat::Json => drop(serde_json::to_writer(&mut *out, line)),
        LogFormat::Text => drop(text(out, line, color)),
    }
    out.push(b'\n');
}

/// As `tracing` writes its events.
fn text(out: &mut Vec<u8>, line: &Line<'_>, color: bool) -> io::Result<()> {
    let (dim, green, plain) = if color { ("\x1b[2m", "\x1b[32m", "\x1b[0m") } else { ("", "", "") };
    let Line { timestamp, level, message, id, client, endpoint, model, provider, key, .. } = line;
    write!(
        out,
        "{dim}{timestamp}{plain}  {green}{level}{plain} {message} id={id:?} client={client:?} endpoint={endpoint:?} model={model} \
         provider={provider:?} key={key:?} status={} outcome={:?} attempts={} queue_ms={}",
        line.status, line.outcome, line.attempts, line.queue_ms
    )?;
    for (name, value) in [
        ("first_output_ms", line.first_output_ms),
        ("total_ms", Some(line.total_ms)),
        ("input_tokens", Some(line.input_tokens)),
        ("output_tokens", Some(line.output_tokens)),
        ("cost_nano_usd", line.cost_nano_usd),
    ] {
        if let Some(value) = value {
            write!(out, " {name}={value}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: Line<'static> = Line {
        timestamp: "2026-11-29T12:00:00.000001Z",
        level: "INFO",
        message: "request",
        id: "req-1",
        client: "ck_1",
        endpoint: "chat/completions",
        model: "a\\nb",
        provider: "one",
        key: "a",
        status: 200,
        outcome: "answered",
        attempts: 1,
        queue_ms: 0,
        first_output_ms: Some(3),
        total_ms: 5,
        input_tokens: 7,
        output_tokens: 8,
        cost_nano_usd: None,
    };

    fn written(format: LogFormat) -> String {
        let mut out = Vec::new();
        put(&mut out, &LINE, (format, false));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_is_as_tracing_writes_it() {
        let text = r#"2026-11-29T12:00:00.000001Z  INFO request id="req-1" client="ck_1" endpoint="chat/completions" model=a\nb provider="one" key="a" status=200 outcome="answered" attempts=1 queue_ms=0 first_output_ms=3 total_ms=5 input_tokens=7 output_tokens=8"#;
        assert_eq!(written(LogFormat::Text), format!("{text}\n"));
        let json = r#"{"timestamp":"2026-11-29T12:00:00.000001Z","level":"INFO","message":"request","id":"req-1","client":"ck_1","endpoint":"chat/completions","model":"a\\nb","provider":"one","key":"a","status":200,"outcome":"answered","attempts":1,"queue_ms":0,"first_output_ms":3,"total_ms":5,"input_tokens":7,"output_tokens":8}"#;
        assert_eq!(written(LogFormat::Json), format!("{json}\n"));
    }

    #[test]
    fn what_a_client_wrote_can_neither_forge_a_line_nor_flood() {
        assert_eq!(shown("m\n2026 INFO \u{1b}[2J\""), r#"m\n2026 INFO \u{1b}[2J\""#);
        assert_eq!(shown(&"é".repeat(500)).chars().count(), MODEL_CHARS_MAX);
    }
}
