use proptest::prelude::*;

use super::{Dialect, Profile, Sign, read, read_in_ok};
use crate::answer::{self, is_json_object};
use crate::head::BodyKind;

const NOW: u64 = 1_795_428_000_000_000_000;

#[test]
fn a_good_answer_holds_no_error() {
    for body in [
        r#"{"choices":[{"message":{"content":"\"error\""},"finish_reason":"stop"}]}"#,
        r#"{"id":"resp_1","status":"completed","error":null,"output":[{"error":{"x":1}}]}"#,
        r#"{"choices":[{"message":{"content":"error"},"finish_reason":"stop","error":null}],"usage":{}}"#,
        r#"{"error":null,"data":[]}"#,
        r#"{"tool":{"error":{"message":"inside"}}}"#,
        r#"{"object":"list","data":["error"]}"#,
    ] {
        assert_eq!(read_in_ok(Dialect::OpenRouter, body.as_bytes()), None, "{body}");
    }
}

#[test]
fn a_responses_answer_that_failed_is_an_error() {
    let body = br#"{"id":"resp_1","status":"failed","error":{"code":"server_error","message":"x"}}"#;
    assert_eq!(read_in_ok(Dialect::OpenAi, body).unwrap().sign, Sign::ServerError);
}

#[test]
fn a_whole_answer_is_read_once_for_everything() {
    let body =
        br#" {"id":"gen-1","model":"served","choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],
        "usage":{"prompt_tokens":3,"completion_tokens":4}}"#;
    let got = answer::read(BodyKind::Chat, Dialect::OpenAi, body);
    assert!(got.is_json_object && got.error.is_none());
    assert_eq!((got.id.as_deref(), got.usage.unwrap().output_tokens), (Some("gen-1"), 4));
    for (body, object) in [
        ("<html>", false),
        ("", false),
        ("[{}]", false),
        (r#"{"id":"x""#, false),
        (r#"{"id":"x"} x"#, false),
        (r#"{"usage":1,"usage":2}"#, true),
        (r#"{"choices":"odd"}"#, true),
    ] {
        let got = answer::read(BodyKind::Chat, Dialect::OpenAi, body.as_bytes());
        assert_eq!((got.is_json_object, got.usage), (object, None), "{body}");
        assert_eq!(is_json_object(body.as_bytes()), object, "{body}");
    }
}

#[test]
fn work_on_a_huge_body_is_bounded() {
    let mut body = b"{\"error\":{\"code\":\"insufficient_quota\",\"message\":\"".to_vec();
    body.resize(10 << 20, b'a');
    let facts = read(Dialect::OpenAi, Profile::OpenAi, 500, std::iter::empty::<(&str, &[u8])>(), &body, NOW);
    assert_eq!(facts.sign, Sign::ServerError);
    assert!(facts.message.is_none_or(|message| message.chars().count() <= 300));
}

#[test]
fn nesting_inside_a_200_neither_overflows_nor_takes_for_ever() {
    let deep = format!("{}{}", "{\"error\":1,\"message\":".repeat(100_000), "}".repeat(100_000));
    let _ = read_in_ok(Dialect::OpenAi, deep.as_bytes());
    let _ = answer::read(BodyKind::Messages, Dialect::Anthropic, deep.replace("error", "usagf").as_bytes());
}

proptest! {
    #[test]
    fn arbitrary_bodies_never_panic(status in 0..700_u16, body in proptest::collection::vec(any::<u8>(), 0..200), which in 0..3_usize) {
        let dialect = [Dialect::OpenAi, Dialect::OpenRouter, Dialect::Anthropic][which];
        let headers = [("retry-after", body.as_slice()), ("x-ratelimit-reset", body.as_slice())];
        let facts = read(dialect, Profile::Generic, status, headers.into_iter(), &body, u64::MAX);
        prop_assert_eq!(facts.status, status);
        let _ = read_in_ok(dialect, &body);
    }

    /// Words of real errors in any place and of any type.
    #[test]
    fn shuffled_errors_never_panic(status in 400..600_u16,
                                   text in "(\\{|\\}|\\[|\\]|:|,|\"error\"|\"message\"|\"metadata\"|\"raw\"|\"details\"|\"code\"|\"provider_name\"|\"Provider returned error\"|null|1|\"limit 9999999999999999999999, try again in 1\u{e9}s\"){0,24}") {
        for dialect in [Dialect::OpenAi, Dialect::OpenRouter, Dialect::Anthropic] {
            let _ = read(dialect, Profile::OpenAi, status, std::iter::empty::<(&str, &[u8])>(), text.as_bytes(), NOW);
            let _ = read_in_ok(dialect, text.as_bytes());
        }
    }
}
