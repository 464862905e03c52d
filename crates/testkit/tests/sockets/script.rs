//! A written-down load against the simulated provider.

use keymux_testkit::{Handle, Replies, Script};
use serde_json::{Value, json};

use crate::wire::{chat, server};

fn target(server: &Handle, paths: &[&str]) -> Value {
    json!({ "url": server.base_url("p"), "token": "s", "paths": paths })
}

fn request(at_ms: u64, path: &str, body: &str) -> Value {
    json!({ "at_ms": at_ms, "path": path, "body": body })
}

async fn run(script: &Value) -> Replies {
    let script: Script = serde_json::from_value(script.clone()).unwrap();
    script.run().await.unwrap()
}

const CHAT: &str = "/chat/completions";

#[tokio::test]
async fn requests_are_sent_at_their_instants_whatever_the_answers_do() {
    let server = server(&json!({}));
    let slow = chat(false, &json!({ "delay_ms": 400, "output_tokens": 1 }));
    let requests: Vec<Value> = (0..5).map(|i| request(i * 20, CHAT, &slow)).collect();
    let replies = run(&json!({ "targets": [target(&server, &[])], "requests": requests })).await;
    let statuses: Vec<u16> = replies.replies.iter().map(|r| r.status).collect();
    assert_eq!(statuses, [200; 5]);
    let arrived: Vec<u64> = server.records().iter().map(|r| r.arrived_ns).collect();
    let ends: Vec<u64> = server.records().iter().filter_map(|r| r.ended_ns).collect();
    assert!(arrived[4] < ends[0], "the last was sent before the first was answered");
    assert!(replies.replies.iter().all(|r| r.total_us >= 400_000 && r.tries == 1), "{replies:?}");
}

#[tokio::test]
async fn a_429_is_tried_again_at_the_next_target_after_the_wait_that_it_asked_for() {
    let (first, second) = (server(&json!({})), server(&json!({})));
    let body = chat(false, &json!({ "output_tokens": 1 }));
    let steer = json!({ "fault": { "rate_limit": { "time": "retry_after_ms", "wait_ms": 300 } } });
    let refused = chat(false, &steer);
    let targets = [target(&first, &[CHAT]), target(&second, &[])];
    let script = json!({
        "targets": targets, "retry_429": true, "patience_ms": 1_000,
        "requests": [request(0, CHAT, &body), request(20, CHAT, &refused)],
    });
    let replies = run(&script).await.replies;
    assert_eq!((replies[0].status, replies[0].tries), (200, 1));
    // Refused wherever it goes: at 20, 320, 620 ms and so on until its patience ends, the targets in turn.
    let tries = replies[1].tries;
    assert_eq!((replies[1].status, replies[1].error.as_deref()), (429, Some("no patience left")));
    assert!((2..=4).contains(&tries), "{replies:?}");
    assert_eq!(first.records().len() + second.records().len(), 1 + tries as usize);
    assert!(first.records().len().abs_diff(second.records().len()) <= 1);

    let once = json!({ "targets": [target(&second, &[])], "requests": [request(0, CHAT, &refused)] });
    let reply = run(&once).await.replies.remove(0);
    assert_eq!((reply.status, reply.tries, reply.error), (429, 1, None));
    assert!(reply.body.unwrap().contains("rate_limit_exceeded"));
}

#[tokio::test]
async fn only_targets_that_serve_the_path_are_asked() {
    let (a, b) = (server(&json!({})), server(&json!({})));
    let body = chat(false, &json!({ "output_tokens": 1 }));
    let script = json!({
        "targets": [target(&a, &["/responses"]), target(&b, &[CHAT])],
        "requests": [request(0, CHAT, &body), request(1, CHAT, &body)],
    });
    run(&script).await;
    assert_eq!((a.records().len(), b.records().len()), (0, 2));
    let nobody = json!({ "targets": [target(&a, &["/responses"])], "requests": [request(0, CHAT, &body)] });
    let script: Script = serde_json::from_value(nobody).unwrap();
    assert!(script.run().await.unwrap_err().to_string().contains("no target serves"));
}
