//! The `x-keymux-…` headers of a request: what a caller may ask of the gateway itself.

use crate::errors::{Kind, Problem};
use crate::http1::Fields;
use keymux_policy::Priority;
use keymux_wire::head::{ProviderPrefs, parse_providers_header};
use std::sync::Arc;

/// Labels that one request may bring, and how long each may be.
const TAGS_MAX: usize = 16;
const TAG_BYTES_MAX: usize = 64;

/// What the caller wishes.
#[derive(Debug, Default)]
pub struct Options {
    /// `x-keymux-priority`.
    pub priority: Option<Priority>,
    /// `x-keymux-max-wait`, in nanoseconds.
    pub max_wait_ns: Option<u64>,
    /// `x-keymux-timeout`, in nanoseconds.
    pub timeout_ns: Option<u64>,
    /// `x-keymux-session`.
    pub session: Option<String>,
    /// `x-keymux-providers`.
    pub providers: Option<ProviderPrefs>,
    /// `x-keymux-tags`: labels for the ledger.
    pub tags: Vec<Arc<str>>,
    /// `x-keymux-keepalive: 1`.
    pub keepalive: bool,
}

impl Options {
    /// Reads them.
    pub fn read(headers: &Fields) -> Result<Self, Problem> {
        let mut options = Self::default();
        for (name, value) in headers.iter() {
            let Some(what) = name.strip_prefix(b"x-keymux-") else { continue };
            // Names are made of letters of ASCII.
            let what = std::str::from_utf8(what).unwrap_or_default();
            let text = std::str::from_utf8(value).ok().filter(|text| text.is_ascii()).ok_or_else(|| {
                let message = format!("x-keymux-{what}: give it in visible ASCII characters only.");
                Problem::new(Kind::InvalidHeader, message)
            })?;
            let text = text.trim();
            match what {
                "priority" => {
                    options.priority = Some(match text {
                        "high" => Priority::High,
                        "normal" => Priority::Normal,
                        "low" => Priority::Low,
                        _ => return Err(bad(what, text, "high, normal or low")),
                    });
                }
                "max-wait" => options.max_wait_ns = Some(duration(what, text)?),
                "timeout" => options.timeout_ns = Some(duration(what, text)?),
                "session" => options.session = Some(text.to_owned()),
                "keepalive" => options.keepalive = text == "1",
                "providers" => {
                    let prefs = parse_providers_header(text);
                    let prefs = prefs
                        .map_err(|e| Problem::new(Kind::InvalidHeader, format!("x-keymux-providers: {e}")))?;
                    options.providers = Some(prefs);
                }
                "tags" => options.tags = tags(text)?,
                // Unknown ones may belong to a later version.
                _ => {}
            }
        }
        Ok(options)
    }
}

/// Names with commas between them.
fn tags(text: &str) -> Result<Vec<Arc<str>>, Problem> {
    let tags: Vec<Arc<str>> =
        text.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(Into::into).collect();
    if tags.len() > TAGS_MAX || tags.iter().any(|tag| tag.len() > TAG_BYTES_MAX) {
        let message = format!(
            "x-keymux-tags: give at most {TAGS_MAX} labels of at most {TAG_BYTES_MAX} characters each."
        );
        return Err(Problem::new(Kind::InvalidHeader, message));
    }
    Ok(tags)
}

fn bad(what: &str, got: &str, wanted: &str) -> Problem {
    Problem::new(Kind::InvalidHeader, format!("x-keymux-{what}: `{got}` is not understood; give {wanted}."))
}

/// `10s`, `500ms`, `2m`, or plain seconds.
fn duration(what: &str, text: &str) -> Result<u64, Problem> {
    let wanted = "a time such as 10s, 500ms or 2m";
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| bad(what, text, wanted))?;
    let scale = match unit.trim() {
        "ms" => 1e6,
        "" | "s" => 1e9,
        "m" => 6e10,
        "h" => 3.6e12,
        _ => return Err(bad(what, text, wanted)),
    };
    // A day is longer than anything that waits.
    let ns = (number * scale).clamp(0.0, 8.64e13);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to a day, never negative"
    )]
    Ok(ns as u64)
}
