//! A refusal of any bytes under any status: what is kept of it is bounded and clean.
#![no_main]

use keymux_wire::answer;
use keymux_wire::error::{self, Dialect, Profile};
use keymux_wire::head::BodyKind;
use libfuzzer_sys::fuzz_target;

/// 2026-11-23T10:00:00Z.
const NOW: u64 = 1_795_428_000_000_000_000;

fuzz_target!(|input: &[u8]| {
    let Some(([high, low], body)) = input.split_first_chunk() else { return };
    let status = 100 + u16::from_be_bytes([*high, *low]) % 500;
    let line = &body[..body.len().min(40)];
    let headers = [("retry-after", line), ("x-ratelimit-reset-tokens", line), ("x-ratelimit-remaining-tokens", line)];
    for dialect in [Dialect::OpenAi, Dialect::OpenRouter, Dialect::Anthropic] {
        let facts = error::read(dialect, Profile::OpenAi, status, headers.into_iter(), body, NOW);
        for text in [&facts.message, &facts.code, &facts.error_type, &facts.upstream].into_iter().flatten() {
            assert!(text.chars().count() <= 300 && !text.chars().any(char::is_control));
        }
        let answer = answer::read(BodyKind::Chat, dialect, body);
        assert_eq!(answer.is_json_object, answer::is_json_object(body));
        let _ = error::read_in_ok(dialect, body);
    }
});
