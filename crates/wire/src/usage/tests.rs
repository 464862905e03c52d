use serde_json::json;

use super::{Usage, from_body, from_raw};
use crate::head::BodyKind;

fn read(value: &serde_json::Value) -> Usage {
    from_raw(&value.to_string()).unwrap()
}

#[test]
fn chat_usage_with_all_its_details() {
    let body = json!({
        "id": "gen-1", "model": "vendor/served", "service_tier": "flex", "choices": [{"message": {"content": "\"usage\""}}],
        "usage": {
            "prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150, "cost": 0.000_14, "is_byok": true,
            "cost_details": {"upstream_inference_cost": 0.002},
            "prompt_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 7, "audio_tokens": 3},
            "completion_tokens_details": {"reasoning_tokens": 20, "audio_tokens": 2}
        }
    });
    let want = Usage {
        input_tokens: 100,
        output_tokens: 50,
        cached_input_tokens: 40,
        cache_write_tokens: 7,
        reasoning_tokens: 20,
        input_audio_tokens: 3,
        output_audio_tokens: 2,
        cost_nano_usd: Some(140_000),
        upstream_cost_nano_usd: Some(2_000_000),
        is_byok: true,
        model: Some("vendor/served".into()),
        service_tier: Some("flex".into()),
    };
    assert_eq!(from_body(BodyKind::Chat, body.to_string().as_bytes()), Some(want));
}

#[test]
fn anthropics_input_gets_back_what_it_leaves_out() {
    let body = json!({"type": "message", "model": "claude", "usage": {
        "input_tokens": 10, "cache_creation_input_tokens": 200, "cache_read_input_tokens": 3000, "output_tokens": 5,
        "service_tier": "standard", "cache_creation": {"ephemeral_5m_input_tokens": 200}}});
    let got = from_body(BodyKind::Messages, body.to_string().as_bytes()).unwrap();
    assert_eq!((got.input_tokens, got.cached_input_tokens, got.cache_write_tokens), (3210, 3000, 200));
    assert_eq!((got.output_tokens, got.service_tier.as_deref()), (5, Some("standard")));
}

#[test]
fn responses_input_includes_what_is_cached() {
    let body = json!({"usage": {"input_tokens": 100, "input_tokens_details": {"cached_tokens": 90}, "output_tokens": 30,
        "output_tokens_details": {"reasoning_tokens": 25}, "total_tokens": 130}});
    let got = from_body(BodyKind::Responses, body.to_string().as_bytes()).unwrap();
    assert_eq!(
        (got.input_tokens, got.cached_input_tokens, got.output_tokens, got.reasoning_tokens),
        (100, 90, 30, 25)
    );
}

#[test]
fn reasoning_that_only_the_total_shows_is_output() {
    let got = read(&json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 215}));
    assert_eq!((got.input_tokens, got.output_tokens), (10, 205));
    // A total that is too small takes nothing away.
    assert_eq!(
        read(&json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 1})).output_tokens,
        5
    );
    assert_eq!(read(&json!({"total_tokens": 8})).input_tokens, 8);
    assert_eq!(read(&json!({"prompt_tokens": 8, "total_tokens": 8})).output_tokens, 0);
    assert_eq!(read(&json!({"prompt_tokens": 8, "prompt_cache_hit_tokens": 6})).cached_input_tokens, 6);
}

#[test]
fn odd_values_are_absent_and_nothing_is_none() {
    for raw in [
        "null",
        "{}",
        "[]",
        "7",
        r#"{"prompt_tokens":null}"#,
        r#"{"prompt_tokens":-1}"#,
        r#"{"prompt_tokens":{}}"#,
        "{",
    ] {
        assert_eq!(from_raw(raw), None, "{raw}");
    }
    let got = from_raw(r#"{"prompt_tokens":"12","completion_tokens":3.0,"prompt_tokens_details":null,"cost":"1e-9","x":[1]}"#).unwrap();
    assert_eq!((got.input_tokens, got.output_tokens, got.cost_nano_usd), (12, 3, Some(1)));
    assert_eq!(from_raw(r#"{"cost":0}"#).unwrap().cost_nano_usd, Some(0));
    assert_eq!(from_raw(r#"{"prompt_tokens":1,"cost":-1}"#).unwrap().cost_nano_usd, None);
    let huge =
        from_raw(r#"{"input_tokens":18446744073709551615,"cache_read_input_tokens":5,"total_tokens":3}"#)
            .unwrap();
    assert_eq!(huge.input_tokens, u64::MAX);
    assert_eq!(from_body(BodyKind::CountTokens, br#"{"input_tokens":5,"usage":{"input_tokens":5}}"#), None);
    assert_eq!(from_body(BodyKind::Chat, b"<html>"), None);
    // Keep-alive lines before the body.
    assert!(from_body(BodyKind::Chat, b"\n\n\r\n {\"usage\":{\"prompt_tokens\":1}}").is_some());
}

#[test]
fn reports_of_a_stream_add_up_to_the_last_word_on_each_count() {
    let mut usage = read(&json!({"input_tokens": 10, "cache_read_input_tokens": 90, "output_tokens": 1}));
    usage.model = Some("served".into());
    usage.merge(&read(&json!({"output_tokens": 20})));
    usage.merge(&read(&json!({"input_tokens": 10, "output_tokens": 55, "cost": 0.5})));
    assert_eq!((usage.input_tokens, usage.cached_input_tokens, usage.output_tokens), (100, 90, 55));
    assert_eq!((usage.cost_nano_usd, usage.model.as_deref()), (Some(500_000_000), Some("served")));
}
