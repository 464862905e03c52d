//! One message to one webhook: a connection, a POST, and what came of it. Goes where the configuration says and nowhere
//! else: redirects are not followed.

use super::message::Letter;
use crate::upstream::{Connector, Exchange, Origin, Outgoing, Proxy};
use bytes::Bytes;
use http::StatusCode;
use keymux_config::{HookKind, Webhook};
use std::fmt::Write as _;
use std::future::poll_fn;
use std::time::Duration;

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// So much of an answer is read.
const ANSWER_BYTES_MAX: usize = 4 << 10;

/// Why a message was not delivered.
#[derive(Debug)]
pub(super) struct Undelivered {
    /// In words. Holds nothing of the address but its host.
    pub(super) why: String,
    /// When to come back, if the other side said so.
    pub(super) wait_ns: Option<u64>,
}

impl Undelivered {
    fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), wait_ns: None }
    }
}

/// Sends a message.
pub(super) async fn deliver(
    connector: &Connector,
    hook: &Webhook,
    letter: &Letter,
) -> Result<(), Undelivered> {
    match tokio::time::timeout(PATIENCE, exchange(connector, hook, letter)).await {
        Ok(done) => done,
        Err(_) => Err(Undelivered::new(format!("no answer within {} s", PATIENCE.as_secs()))),
    }
}

async fn exchange(connector: &Connector, hook: &Webhook, letter: &Letter) -> Result<(), Undelivered> {
    let connection = connector.connect(&origin(hook)).await.map_err(|e| Undelivered::new(e.to_string()))?;
    let request = Outgoing::new(head(hook, letter).into_bytes(), Bytes::from(letter.body.clone()));
    let mut exchange = Exchange::new(connection, request);
    let head = exchange.head().await.map_err(|e| Undelivered::new(e.to_string()))?;
    let mut said = Vec::new();
    while said.len() < ANSWER_BYTES_MAX {
        match poll_fn(|cx| exchange.poll_data(cx)).await {
            Some(Ok(piece)) => said.extend_from_slice(&piece),
            // The status alone says whether it was taken.
            None | Some(Err(_)) => break,
        }
    }
    let wait_s =
        head.get("retry-after").and_then(|value| std::str::from_utf8(value).ok()?.trim().parse().ok());
    let wait_ns = wait_s.map(|seconds: u64| seconds.saturating_mul(1_000_000_000));
    judged(hook.kind, head.status, &said).map_err(|why| Undelivered { why, wait_ns })
}

fn origin(hook: &Webhook) -> Origin {
    let server = &hook.url.server;
    let proxy = hook.proxy.as_ref().map(|proxy| Proxy {
        https: proxy.https,
        host: proxy.host.clone(),
        port: proxy.port,
        authorization: proxy.authorization.as_ref().map(|text| format!("Basic {}", text.expose())),
    });
    Origin { https: server.https, host: server.host.clone(), port: server.port, proxy }
}

fn head(hook: &Webhook, letter: &Letter) -> String {
    let (server, target) = (&hook.url.server, hook.url.target.expose());
    // A proxy reads the head of what is not encrypted.
    let read_by = hook.proxy.as_ref().filter(|_| !server.https);
    let base = if read_by.is_some() { format!("http://{}", server.authority()) } else { String::new() };
    let mut head = format!(
        "POST {base}{target} HTTP/1.1\r\nhost: {}\r\nuser-agent: keymux/{}\r\ncontent-type: application/json; \
         charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\n",
        server.authority(),
        env!("CARGO_PKG_VERSION"),
        letter.body.len()
    );
    let proxys = read_by.and_then(|proxy| proxy.authorization.as_ref());
    // Writing to a String cannot fail.
    if let Some(authorization) = proxys {
        let _ = write!(head, "proxy-authorization: Basic {}\r\n", authorization.expose());
    }
    for (name, value) in &letter.headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    head.push_str("\r\n");
    head
}

/// Whether the message was taken. Feishu says it in the body, whatever the status.
fn judged(kind: HookKind, status: StatusCode, said: &[u8]) -> Result<(), String> {
    if status.is_redirection() {
        return Err(format!("it answered {}, and redirects are not followed", status.as_u16()));
    }
    if !status.is_success() {
        return Err(format!("it answered {}", status.as_u16()));
    }
    if kind == HookKind::Feishu {
        let body: serde_json::Value = serde_json::from_slice(said).unwrap_or_default();
        if let Some(code) = body["code"].as_i64().filter(|code| *code != 0) {
            let what = match code {
                9499 => " (it does not understand the message)",
                11232 => " (too many messages)",
                19021 => " (the signature is wrong: check `secret` and this machine's clock)",
                19022 => " (this machine's address is not on the bot's list)",
                19024 => " (none of the bot's keywords is in it; make keymux one of them)",
                _ => "",
            };
            return Err(format!("it answered code {code}{what}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::conditions::hook;

    #[test]
    fn only_a_success_is_one() {
        let judge = |kind, status, said: &str| {
            judged(kind, StatusCode::from_u16(status).unwrap(), said.as_bytes()).map_err(|why| why.clone())
        };
        assert!(judge(HookKind::Json, 204, "").is_ok() && judge(HookKind::Slack, 200, "ok").is_ok());
        assert!(judge(HookKind::Json, 302, "").unwrap_err().contains("redirects are not followed"));
        assert_eq!(judge(HookKind::Slack, 404, "no_service"), Err("it answered 404".to_owned()));
        assert!(judge(HookKind::Feishu, 200, "{\"code\":0,\"msg\":\"success\"}").is_ok());
        assert!(judge(HookKind::Feishu, 200, "{\"code\":19021}").unwrap_err().contains("signature is wrong"));
        assert!(judge(HookKind::Slack, 200, "{\"code\":1}").is_ok());
    }

    #[test]
    fn the_head_says_where_it_goes_and_what_signs_it() {
        let letter = Letter { body: "{}".to_owned(), headers: vec![("webhook-id", "msg_1".to_owned())] };
        let text = head(&hook("kind = \"slack\""), &letter);
        assert!(text.starts_with("POST /x HTTP/1.1\r\nhost: 127.0.0.1:1\r\n"), "{text}");
        assert!(
            text.ends_with("connection: close\r\nwebhook-id: msg_1\r\n\r\n")
                && text.contains("content-length: 2\r\n")
        );
    }
}
