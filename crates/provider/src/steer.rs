//! Tests steer single calls from inside the prompt: a user message with a line `sim: {…}`.

use serde::{Deserialize, Serialize};

use crate::fault::FaultKind;

/// Overrides for one call. Unknown fields are a 400, so that a typo cannot pass for a test.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Steer {
    /// Length of the answer.
    pub output_tokens: Option<u64>,
    /// Input tokens that are reported and charged.
    pub input_tokens: Option<u64>,
    /// Input tokens reported as read from the cache.
    pub cached_tokens: Option<u64>,
    /// Reasoning tokens before the first visible one.
    pub reasoning_tokens: Option<u64>,
    /// An error status in the dialect's form.
    pub status: Option<u16>,
    /// More time before anything happens.
    pub delay_ms: Option<u64>,
    /// Time to the first token.
    pub ttft_ms: Option<f64>,
    /// Time between tokens.
    pub per_token_ms: Option<f64>,
    /// Tokens in one stream event.
    pub tokens_per_event: Option<u32>,
    /// The exact text of the answer.
    pub text: Option<String>,
    /// Text full of words that a careless parser stumbles over (`"usage"`, `data: [DONE]`, `"error"`).
    pub tricky: bool,
    /// Tell nothing of what was used (chat and completions): `"usage":null`.
    pub untold: bool,
    /// Call this tool of the request.
    pub tool: Option<String>,
    /// Any words; they stand in the call's record, by which a test finds it again.
    pub note: String,
    /// Any fault.
    pub fault: Option<FaultKind>,
}

impl Steer {
    /// Finds the steering line in a user's text. `Some(Err)` is a line that cannot be read.
    pub(crate) fn find(text: &str) -> Option<Result<Steer, String>> {
        let line = text.lines().find_map(|line| line.trim().strip_prefix("sim:"))?;
        Some(serde_json::from_str(line.trim()).map_err(|e| format!("sim: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_anywhere_in_the_text_steers_and_a_typo_is_told() {
        let steer =
            Steer::find("hello\n  sim: {\"output_tokens\": 5, \"fault\": \"hang\"}\nbye").unwrap().unwrap();
        assert_eq!(steer.output_tokens, Some(5));
        assert_eq!(steer.fault, Some(FaultKind::Hang));
        assert!(Steer::find("sim: {\"outputtokens\": 5}").unwrap().is_err());
        assert!(Steer::find("a simple question: why?").is_none());
    }
}
