//! The load generator against the simulated provider.

use std::time::Duration;

use keymux_testkit::{Load, Shape, Shot, StreamLoad};
use serde_json::{Value, json};

use crate::wire::server;

fn shot(stream: bool, steer: &Value) -> Shot {
    Shot::chat("m", &format!("sim: {steer}"), 10_000, stream)
}

fn load(server: &keymux_testkit::Handle, count: u64, mix: Vec<Shot>) -> Load {
    Load {
        target: server.base_url("p"),
        token: Some("s".to_owned()),
        rate: 200.0,
        count: Some(count),
        duration: Duration::from_secs(10),
        mix,
        ..Load::default()
    }
}

#[tokio::test]
async fn every_request_is_sent_once_and_every_answer_counted() {
    let server = server(&json!({}));
    let mix = vec![
        shot(false, &json!({ "text": "Whole." })).weight(2),
        shot(true, &json!({ "text": "In pieces." })),
        shot(false, &json!({ "fault": { "rate_limit": {} } })),
    ];
    let mut seen = [0_u64; 3];
    let summary = load(&server, 100, mix).run_observed(|answered| seen[answered.shot] += 1).await.unwrap();
    let records = server.records();
    assert_eq!((summary.sent, records.len()), (100, 100));
    let refused = records.iter().filter(|r| r.status == 429).count() as u64;
    assert!(refused > 5 && seen[0] > seen[1] && seen[2] == refused, "{seen:?}");
    assert_eq!(summary.statuses[&429], refused);
    assert_eq!(summary.ok, 100 - refused);
    assert_eq!(summary.with_retry_after, refused);
    assert_eq!(summary.total.count, summary.ok);
    assert!(summary.errors.is_empty(), "{:?}", summary.errors);
    assert!(summary.samples[0].body.contains("rate_limit_exceeded"));
}

#[tokio::test]
async fn latency_counts_from_the_instant_due_although_the_connection_was_busy() {
    let server = server(&json!({}));
    let slow = shot(false, &json!({ "delay_ms": 50, "output_tokens": 1 }));
    let load = Load { connections: 1, ..load(&server, 10, vec![slow]) };
    let summary = load.run().await.unwrap();
    // Ten requests due within 45 ms, one at a time, 50 ms each: a generator that waits for answers before it
    // counts would call all of them 50 ms.
    assert!(summary.total.max_us > 400_000, "{:?}", summary.total);
    assert!(summary.late >= 8, "{}", summary.late);
}

#[tokio::test]
async fn a_burst_is_sent_at_once() {
    let server = server(&json!({ "limits": [{ "dimension": "concurrent", "limit": 5 }] }));
    let slow = shot(false, &json!({ "delay_ms": 200, "output_tokens": 1 }));
    let load = Load { shape: Shape::Burst { size: 20 }, ..load(&server, 20, vec![slow]) };
    let summary = load.run().await.unwrap();
    assert_eq!((summary.ok, summary.statuses[&429]), (5, 15));
}

#[tokio::test]
async fn broken_answers_are_errors_whatever_their_status() {
    for fault in [
        json!({ "truncate": { "after_events": 2 } }),
        json!({ "truncate": { "after_events": 2, "clean": true } }),
        json!({ "reset": { "after_events": 1 } }),
        json!("half_head"),
    ] {
        let server = server(&json!({}));
        let summary = load(&server, 5, vec![shot(true, &json!({ "fault": fault }))]).run().await.unwrap();
        assert_eq!((summary.sent, summary.ok), (5, 0), "{fault}");
        assert_eq!(summary.errors.values().sum::<u64>(), 5, "{fault}: {:?}", summary.errors);
    }
}

#[tokio::test]
async fn answers_that_never_come_are_given_up() {
    let server = server(&json!({}));
    let load = Load {
        patience: Duration::from_millis(50),
        ..load(&server, 3, vec![shot(false, &json!({ "fault": "hang" }))])
    };
    let summary = load.run().await.unwrap();
    assert_eq!(summary.errors["no patience left"], 3);
    server.wait_for(Duration::from_secs(10), |all| all.iter().all(|r| r.cancelled)).await.unwrap();
}

#[tokio::test]
async fn streams_are_held_and_the_lost_ones_counted() {
    let server = server(&json!({}));
    let run = |steer: Value| {
        let streams = StreamLoad {
            target: server.base_url("p"),
            token: Some("s".to_owned()),
            count: 40,
            opening: 8,
            hold: Duration::from_millis(400),
            shot: shot(true, &steer),
            patience: Duration::from_secs(10),
        };
        streams.run(|open| assert_eq!(open.opened, 40))
    };
    let whole = run(json!({ "output_tokens": 5000, "per_token_ms": 100 })).await.unwrap();
    assert_eq!((whole.opened, whole.lost, whole.refused), (40, 0, 0), "{whole:?}");
    let short = run(json!({ "output_tokens": 3, "per_token_ms": 20 })).await.unwrap();
    assert_eq!(short.lost, 40, "{short:?}");
}

#[tokio::test]
async fn a_target_that_cannot_be_asked_is_an_error_or_counted_as_one() {
    let nonsense = Load { target: "ftp://x".to_owned(), ..Load::default() };
    assert!(nonsense.run().await.unwrap_err().to_string().contains("only http"));
    let address = server(&json!({})).base_url("p");
    let summary =
        Load { target: address, count: Some(2), rate: 100.0, ..Load::default() }.run().await.unwrap();
    assert_eq!(summary.errors.values().sum::<u64>(), 2, "nobody listens there any more");
}
