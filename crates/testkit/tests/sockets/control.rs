//! The control plane that tests in other languages use.

use serde_json::{Value, json};

use crate::wire::{Wire, server};

#[test]
fn faults_are_put_in_and_taken_out_and_mistakes_are_told() {
    let server = server(&json!({}));
    let status = || {
        let mut wire = Wire::to(&server);
        wire.chat(false, &json!({}));
        wire.answer().0[9..12].to_owned()
    };
    let fault = json!({ "provider": "p", "key": "k", "fault": { "to_call": 1, "kind": "bad_key" } });
    assert_eq!(Wire::control(&server, "POST", "faults", &fault).0, "HTTP/1.1 200 OK");
    assert_eq!([status(), status()], ["401", "200"]);
    let fault = json!({ "provider": "p", "fault": { "kind": { "status": { "code": 503 } } } });
    Wire::control(&server, "POST", "faults", &fault);
    assert_eq!(status(), "503");
    Wire::control(&server, "DELETE", "faults", &json!({ "provider": "p" }));
    assert_eq!(status(), "200");
    for wrong in [
        json!({ "provider": "q", "fault": { "kind": "hang" } }),
        json!({ "provider": "p", "fault": { "kind": "nonsense" } }),
        json!({ "provider": "p", "faults": [] }),
    ] {
        let (head, body) = Wire::control(&server, "POST", "faults", &wrong);
        assert!(head.contains("400") && body["error"].is_string(), "{body}");
    }
}

#[test]
fn records_summary_and_requests_tell_what_happened() {
    let server = server(&json!({}));
    let mut wire = Wire::to(&server);
    wire.chat(false, &json!({ "text": "Hello." }));
    wire.answer();
    let (_, waited) = Wire::control(&server, "GET", "wait?calls=1&open=0&timeout_ms=10000", &Value::Null);
    assert_eq!(waited[0]["key"], "k");
    assert_eq!(waited[0]["status"], 200);
    let (_, none) = Wire::control(&server, "GET", "records?after=1", &Value::Null);
    assert_eq!(none, json!([]));
    let (_, summary) = Wire::control(&server, "GET", "summary", &Value::Null);
    assert_eq!(summary["keys"]["p/k"]["ok"], 1);
    let (_, requests) = Wire::control(&server, "GET", "requests?last=1", &Value::Null);
    assert!(requests[0]["body"].as_str().unwrap().contains("Hello."));
    assert!(requests[0]["sent"].as_str().unwrap().contains("Hello."));
    let (head, _) = Wire::control(&server, "GET", "wait?calls=9&timeout_ms=30", &Value::Null);
    assert!(head.contains("408"), "{head}");
    assert!(Wire::control(&server, "GET", "nothing", &Value::Null).0.contains("404"));
}

#[test]
fn a_reset_begins_a_new_world_that_old_calls_cannot_touch() {
    let server = server(&json!({}));
    let mut old = Wire::to(&server);
    old.chat(true, &json!({ "output_tokens": 1000, "per_token_ms": 1000 }));
    old.until("\"content\":\"");
    Wire::control(&server, "POST", "reset", &Value::Null);
    assert!(server.records().is_empty());
    let mut new = Wire::to(&server);
    new.chat(true, &json!({ "output_tokens": 1000, "per_token_ms": 1000 }));
    new.until("\"content\":\"");
    drop(old);
    // The old call has the same number as the new one; a third call proves that its end was not taken for it.
    let mut third = Wire::to(&server);
    third.chat(false, &json!({}));
    third.answer();
    let records = server.records();
    assert_eq!(records.iter().map(|r| r.ended_ns.is_some()).collect::<Vec<_>>(), [false, true]);
}
