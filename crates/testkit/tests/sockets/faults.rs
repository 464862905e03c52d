//! Every fault that lives in bytes or in the connection, as a client meets it.

use std::io::Read;
use std::time::Duration;

use serde_json::{Value, json};

use crate::wire::{Ending, PATIENCE, Wire, server};

/// What comes for a chat hit by this fault, and how it ends.
fn hit(stream: bool, fault: &Value, silence: Duration) -> (String, Ending) {
    let server = server(&json!({}));
    let mut wire = Wire::to(&server);
    wire.chat(stream, &json!({ "fault": fault, "output_tokens": 6 }));
    wire.rest(silence)
}

const SOON: Duration = Duration::from_millis(300);

#[test]
fn a_hang_says_nothing_and_keeps_the_connection() {
    assert_eq!(hit(false, &json!("hang"), SOON), (String::new(), Ending::Silence));
}

#[test]
fn a_reset_comes_before_the_head_or_after_some_events() {
    assert_eq!(hit(true, &json!({ "reset": {} }), PATIENCE), (String::new(), Ending::Reset));
    let (text, ending) = hit(true, &json!({ "reset": { "after_events": 2 } }), PATIENCE);
    assert_eq!(ending, Ending::Reset);
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && !text.contains("[DONE]"));
}

#[test]
fn a_cut_stream_has_no_last_chunk_and_a_clean_one_has() {
    let (text, ending) = hit(true, &json!({ "truncate": { "after_events": 2 } }), PATIENCE);
    assert_eq!(ending, Ending::Closed);
    assert_eq!(text.matches("\"content\":\"").count(), 3, "the role and two tokens: {text}");
    assert!(!text.ends_with("0\r\n\r\n") && !text.contains("[DONE]"));
    let (text, _) = hit(true, &json!({ "truncate": { "after_events": 2, "clean": true } }), SOON);
    assert!(text.ends_with("0\r\n\r\n") && !text.contains("[DONE]"), "{text}");
}

#[test]
fn a_stalled_stream_stays_open_and_silent() {
    let (text, ending) = hit(true, &json!({ "stall": { "after_events": 2 } }), SOON);
    assert_eq!(ending, Ending::Silence);
    assert_eq!(text.matches("\"content\":\"").count(), 3, "{text}");
}

#[test]
fn half_a_head_and_bytes_that_are_no_http() {
    let (text, ending) = hit(false, &json!("half_head"), PATIENCE);
    assert_eq!((text.as_str(), ending), ("HTTP/1.1 200 OK\r\ncontent-type: applicat", Ending::Closed));
    let (text, ending) = hit(false, &json!("garbage"), PATIENCE);
    assert!(text.starts_with("SSH-2.0") && ending == Ending::Closed);
}

#[test]
fn wrong_lengths_are_sent_as_they_are() {
    for by in [5_i64, -5] {
        let (text, ending) = hit(false, &json!({ "wrong_length": { "by": by } }), PATIENCE);
        assert_eq!(ending, Ending::Closed);
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let announced: i64 =
            head.split("content-length: ").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
        assert_eq!(announced - i64::try_from(body.len()).unwrap(), by);
    }
}

#[test]
fn a_head_without_end_goes_on_as_long_as_somebody_reads() {
    let server = server(&json!({}));
    let mut wire = Wire::to(&server);
    wire.chat(false, &json!({ "fault": "endless_headers" }));
    let mut head = vec![0; 1 << 20];
    wire.0.read_exact(&mut head).unwrap();
    assert!(!head.windows(4).any(|w| w == b"\r\n\r\n"), "a megabyte and no end");
    drop(wire);
    let records = server.wait_for_blocking(PATIENCE, |all| all[0].ended_ns.is_some()).unwrap();
    assert!(records[0].cancelled);
}

#[test]
fn gzip_nobody_asked_for() {
    let server = server(&json!({}));
    let mut wire = Wire::to(&server);
    wire.chat(false, &json!({ "fault": "gzip", "text": "Stored, not squeezed." }));
    let head = wire.until("\r\n\r\n").to_lowercase();
    assert!(head.contains("content-encoding: gzip"), "{head}");
}

#[test]
fn a_drip_is_one_body_in_many_pieces() {
    let server = server(&json!({}));
    let mut wire = Wire::to(&server);
    wire.chat(false, &json!({ "fault": { "drip": { "bytes": 100, "every_ms": 5 } }, "text": "Slowly." }));
    let (head, body) = wire.answer();
    assert!(head.starts_with("HTTP/1.1 200"));
    let parsed: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(parsed["choices"][0]["message"]["content"], "Slowly.");
    let record = &server.records()[0];
    let took = record.ended_ns.unwrap() - record.arrived_ns;
    assert!(took >= 5_000_000 * (body.len() as u64 / 100), "paced: {took}");
    assert!(!record.cancelled);
}

#[test]
fn a_connection_that_was_spoilt_is_closed_and_the_next_one_works() {
    let server = server(&json!({}));
    let mut wire = Wire::to(&server);
    wire.chat(false, &json!({ "fault": "garbage" }));
    wire.rest(PATIENCE);
    let mut wire = Wire::to(&server);
    wire.chat(false, &json!({ "text": "Well." }));
    assert!(wire.answer().1.contains("Well."));
}
