//! Ordinary answers: framing, pace, who went away and when.

use std::time::Duration;

use serde_json::json;

use crate::wire::{Ending, PATIENCE, Wire, server};

#[test]
fn answers_follow_each_other_on_one_connection() {
    let server = server(&json!({}));
    let mut wire = Wire::to(&server);
    for text in ["One.", "Two."] {
        wire.chat(false, &json!({ "text": text }));
        let (head, body) = wire.answer();
        assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
        assert!(body.contains(text));
    }
    let records = server.records();
    assert_eq!(records.len(), 2);
    assert!(records.iter().all(|r| r.ended_ns.is_some() && !r.cancelled), "{records:?}");
}

#[test]
fn a_refusal_is_followed_by_the_next_answer_on_the_same_connection() {
    let server = server(&json!({}));
    let mut wire = Wire::to(&server);
    wire.chat(false, &json!({ "fault": { "rate_limit": { "wait_ms": 1500 } } }));
    let (head, _) = wire.answer();
    assert!(head.starts_with("HTTP/1.1 429") && head.contains("retry-after: 2\r\n"), "{head}");
    wire.chat(false, &json!({ "text": "Now." }));
    assert!(wire.answer().1.contains("Now."));
}

#[test]
fn a_stream_comes_event_by_event_and_not_at_its_end() {
    let server = server(&json!({}));
    let mut wire = Wire::to(&server);
    let asked_ns = server.now_ns();
    wire.chat(true, &json!({ "output_tokens": 6, "ttft_ms": 10, "per_token_ms": 100 }));
    let mut seen = wire.until("\"content\":\"\"");
    let first = Duration::from_nanos(server.now_ns() - asked_ns);
    seen += &wire.until("[DONE]");
    let last = Duration::from_nanos(server.now_ns() - asked_ns);
    assert!(seen.contains("transfer-encoding: chunked") && seen.contains("text/event-stream"), "{seen}");
    assert!(last >= Duration::from_millis(500), "five gaps of 100 ms: {last:?}");
    assert!(first < last / 2, "{first:?} of {last:?}");
}

#[test]
fn a_client_that_leaves_a_stream_is_noticed_at_once() {
    let server = server(&json!({ "model": [{ "id": "m", "output_nano_usd": 1 }] }));
    let mut wire = Wire::to(&server);
    wire.chat(true, &json!({ "output_tokens": 1000, "per_token_ms": 1000 }));
    wire.until("\"content\":\"");
    let left_ns = server.now_ns();
    drop(wire);
    let records = server.wait_for_blocking(PATIENCE, |all| all[0].ended_ns.is_some()).unwrap();
    let after = Duration::from_nanos(records[0].ended_ns.unwrap() - left_ns);
    assert!(records[0].cancelled && after < Duration::from_millis(100), "{after:?}");
    assert_eq!(records[0].output_tokens, 1, "billed for what was produced");
}

#[test]
fn a_client_that_leaves_before_the_head_is_noticed_at_once() {
    for steer in [json!({ "delay_ms": 60_000 }), json!({ "fault": "hang" })] {
        let server = server(&json!({}));
        let mut wire = Wire::to(&server);
        wire.chat(false, &steer);
        server.wait_for_blocking(PATIENCE, |all| all.len() == 1).unwrap();
        let left_ns = server.now_ns();
        drop(wire);
        let records = server.wait_for_blocking(PATIENCE, |all| all[0].ended_ns.is_some()).unwrap();
        let after = Duration::from_nanos(records[0].ended_ns.unwrap() - left_ns);
        assert!(records[0].cancelled && after < Duration::from_millis(100), "{steer} {after:?}");
    }
}

#[test]
fn what_was_sent_and_what_came_is_kept_byte_for_byte() {
    let server = server(&json!({}));
    let mut wire = Wire::to(&server);
    wire.chat(false, &json!({ "text": "Bytes — 🦀." }));
    let (_, body) = wire.answer();
    let captured = server.captured();
    assert_eq!(captured.len(), 1);
    assert_eq!(captured[0].sent, body.as_bytes());
    assert_eq!(captured[0].path, "/v1/chat/completions");
    assert_eq!(captured[0].header("authorization"), Some("Bearer s"));
    assert_eq!(captured[0].id, server.records()[0].id);
}

#[test]
fn an_unknown_provider_is_a_plain_404_and_in_nobodys_books() {
    let server = server(&json!({}));
    let mut wire = Wire::to(&server);
    wire.ask("POST", "/nobody/v1/chat/completions", "{}");
    assert!(wire.answer().0.starts_with("HTTP/1.1 404"));
    assert!(server.records().is_empty());
}

#[test]
fn dropping_the_handle_closes_connections_and_frees_the_port() {
    let server = server(&json!({}));
    let address = server.addr();
    let mut wire = Wire::to(&server);
    wire.chat(true, &json!({ "output_tokens": 1000, "per_token_ms": 1000 }));
    wire.until("\"content\":\"");
    drop(server);
    assert_eq!(wire.rest(PATIENCE).1, Ending::Closed);
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[tokio::test]
async fn waiting_in_a_task_ends_with_the_event_or_with_patience() {
    let server = server(&json!({}));
    let mut wire = Wire::to(&server);
    wire.chat(false, &json!({ "text": "Soon.", "delay_ms": 30 }));
    let records = server.wait_for(PATIENCE, |all| all.iter().any(|r| r.ended_ns.is_some())).await.unwrap();
    assert_eq!(records[0].status, 200);
    let never = server.wait_for(Duration::from_millis(20), |all| all.len() > 7).await.unwrap_err();
    assert_eq!(never.summary.total().calls, 1);
}
