//! One message to one webhook, on a connection of its own, and what came of it.

use super::message::Written;
use crate::upstream::{Connector, Letter, Origin, Poster};
use http::StatusCode;
use keymux_config::{HookKind, Webhook};
use std::time::Duration;

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a message was not delivered.
#[derive(Debug)]
pub(super) struct Undelivered {
    /// In words. Holds nothing of the address but its host.
    pub(super) why: String,
    /// When to come back, if the other side said so.
    pub(super) wait_ns: Option<u64>,
}

/// Sends a message.
pub(super) async fn deliver(
    connector: &Connector,
    hook: &Webhook,
    written: Written,
) -> Result<(), Undelivered> {
    let mut headers = vec![("content-type", "application/json; charset=utf-8"), ("connection", "close")];
    headers.extend(written.headers.iter().map(|(name, value)| (*name, value.as_str())));
    let server = &hook.url.server;
    let letter = Letter {
        origin: &Origin::of(server, hook.proxy.as_ref()),
        authority: &server.authority(),
        path: hook.url.target.expose(),
        headers: &headers,
        body: written.body.into(),
    };
    let said = Poster::new(connector.clone()).post(&letter, PATIENCE).await;
    let said = said.map_err(|why| Undelivered { why, wait_ns: None })?;
    let wait_ns = said.pause().map(|pause| u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX));
    judged(hook.kind, said.head.status, &said.body).map_err(|why| Undelivered { why, wait_ns })
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
}
