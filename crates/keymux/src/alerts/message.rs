//! A message as each kind of webhook takes it, and its signature. Generic ones are signed as Standard Webhooks 1.0 has
//! it (HMAC-SHA256 of `id.timestamp.body`), Feishu's as its custom bots check it (HMAC-SHA256 of nothing, by
//! `timestamp\nsecret`). Names come from clients and configurations, so nothing of a text may be read as markup.

use super::conditions::{End, Message, News, Notice};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use keymux_config::{Gravity, HookKind, Topic, Webhook};
use serde_json::{Value, json};
use sha2::Sha256;

/// Lines of a message for people; the page shows the rest.
const LINES_MAX: usize = 20;
/// Characters of a line: what a provider or a file says may be long.
const LINE_MAX: usize = 400;
/// Events of a message for programs.
const EVENTS_MAX: usize = 500;

/// A message, ready to be sent.
pub(super) struct Written {
    pub(super) body: String,
    /// Headers that sign it.
    pub(super) headers: Vec<(&'static str, String)>,
}

/// Who speaks, and when.
pub(super) struct From<'a> {
    /// The machine.
    pub(super) instance: &'a str,
    pub(super) unix_ms: u64,
    /// Tells messages apart.
    pub(super) id: &'a str,
}

/// What a test says.
pub(super) fn test(unix_ms: u64) -> Message {
    let notice = Notice {
        news: News::Notes,
        topic: Topic::Webhook,
        gravity: Gravity::Warning,
        subject: "test".to_owned(),
        text: "a test: messages of this gateway come through".to_owned(),
        since_unix_ms: unix_ms,
        lasted_ns: 0,
        times: 1,
        end: End::Well,
    };
    Message { notices: vec![notice], ..Message::default() }
}

/// Puts a message into the form that this webhook takes.
pub(super) fn written(message: &Message, hook: &Webhook, from: &From<'_>) -> Written {
    let seconds = from.unix_ms / 1_000;
    let key = hook.signing_key();
    let mut headers = Vec::new();
    let body = match hook.kind {
        HookKind::Slack => json!({ "text": slack(message, from) }).to_string(),
        HookKind::Feishu => {
            let mut body = feishu(message, from);
            if let Some(key) = key {
                let secret = String::from_utf8_lossy(&key);
                body["timestamp"] = json!(seconds.to_string());
                body["sign"] = json!(signature(format!("{seconds}\n{secret}").as_bytes(), b""));
            }
            body.to_string()
        }
        HookKind::Json => {
            let body = generic(message, from).to_string();
            headers.push(("webhook-id", from.id.to_owned()));
            headers.push(("webhook-timestamp", seconds.to_string()));
            if let Some(key) = key {
                let signed = format!("{}.{seconds}.{body}", from.id);
                headers.push(("webhook-signature", format!("v1,{}", signature(&key, signed.as_bytes()))));
            }
            body
        }
    };
    Written { body, headers }
}

fn signature(key: &[u8], text: &[u8]) -> String {
    // HMAC takes a key of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
    mac.update(text);
    STANDARD.encode(mac.finalize().into_bytes())
}

fn generic(message: &Message, from: &From<'_>) -> Value {
    let events: Vec<Value> = message
        .notices
        .iter()
        .take(EVENTS_MAX)
        .map(|notice| {
            json!({
                "event": notice.topic.word(),
                "state": state(notice.news),
                "severity": notice.gravity.word(),
                "subject": notice.subject,
                "text": sentence(notice),
                "since_unix_ms": notice.since_unix_ms,
                "lasted_s": notice.lasted_ns / 1_000_000_000,
            })
        })
        .collect();
    let beyond = message.notices.len().saturating_sub(EVENTS_MAX) as u64;
    json!({
        "source": "keymux",
        "version": env!("CARGO_PKG_VERSION"),
        "instance": from.instance,
        "sent_unix_ms": from.unix_ms,
        "events": events,
        "left_out": message.left_out + beyond,
    })
}

fn state(news: News) -> &'static str {
    match news {
        News::Begins => "begins",
        News::Reminds => "still",
        News::Flaps => "flaps",
        News::Ends => "over",
        News::Notes => "happened",
    }
}

fn slack(message: &Message, from: &From<'_>) -> String {
    let escaped = |text: String| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let lines = lines(message).into_iter().map(escaped).collect::<Vec<_>>().join("\n");
    format!("*{}*\n{lines}", escaped(title(message, from)))
}

fn feishu(message: &Message, from: &From<'_>) -> Value {
    // Paragraphs of plain text: nothing in them is read as markup.
    let paragraphs: Vec<Value> =
        lines(message).into_iter().map(|line| json!([{ "tag": "text", "text": line }])).collect();
    let post = json!({ "title": title(message, from), "content": paragraphs });
    json!({ "msg_type": "post", "content": { "post": { "en_us": post } } })
}

fn title(message: &Message, from: &From<'_>) -> String {
    let over = message.notices.iter().filter(|notice| notice.news == News::Ends).count();
    let begun = message.notices.len() - over;
    let counted = [(begun, "to know"), (over, "over")];
    let counted: Vec<String> =
        counted.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    format!("keymux on {}: {}", from.instance, counted.join(", "))
}

fn lines(message: &Message) -> Vec<String> {
    let mut lines: Vec<String> = message
        .notices
        .iter()
        .take(LINES_MAX)
        .map(|notice| {
            let mark = match (notice.news, notice.gravity) {
                (News::Ends, _) => "🟢",
                (_, Gravity::Critical) => "🔴",
                (_, Gravity::Warning) => "🟠",
            };
            // One line each, whatever is in it.
            let text: String = sentence(notice).chars().filter(|c| !c.is_control()).take(LINE_MAX).collect();
            format!("{mark} {text}")
        })
        .collect();
    let beyond = message.notices.len().saturating_sub(LINES_MAX) as u64 + message.left_out;
    if beyond > 0 {
        lines.push(format!("… and {beyond} more; the dashboard shows what is so now"));
    }
    lines
}

fn sentence(notice: &Notice) -> String {
    let (text, lasted) = (&notice.text, duration(notice.lasted_ns / 1_000_000_000));
    match notice.news {
        News::Begins | News::Notes => text.clone(),
        News::Reminds => format!("still so after {lasted}: {text}"),
        News::Flaps => {
            format!("comes and goes, {} times of late; told again when it is calm: {text}", notice.times)
        }
        News::Ends => format!("{} after {lasted}", ended(notice)),
    }
}

fn ended(notice: &Notice) -> String {
    let what = match notice.topic {
        _ if notice.end == End::KeyEnded => "key ended",
        _ if notice.end == End::Gone => "removed or switched off",
        _ if notice.end == End::Unwatched => "no longer checked",
        Topic::KeyOut => "key back",
        Topic::KeyDegraded => "works again",
        Topic::KeyExpiring => "expires no more",
        Topic::CreditLow | Topic::CreditOut => "credit again",
        Topic::AllKeysOut => "a key is back",
        Topic::ProviderDown => "provider back",
        Topic::Budget => "budget well again",
        Topic::Refusing => "nobody refused any more",
        Topic::Ledger => "well again",
        Topic::Reload => "configuration in order again",
        Topic::Webhook => "webhook works again",
    };
    if notice.subject.is_empty() { what.to_owned() } else { format!("{what}: {}", notice.subject) }
}

/// A length of time in its two largest units.
fn duration(seconds: u64) -> String {
    let units = [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)];
    let mut left = seconds;
    let mut parts = Vec::new();
    for (unit, length) in units {
        if left >= length && parts.len() < 2 {
            parts.push(format!("{} {unit}", left / length));
            left %= length;
        } else if !parts.is_empty() {
            break;
        }
    }
    if parts.is_empty() { "a moment".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::conditions::hook;

    fn notice(news: News, text: &str) -> Notice {
        Notice {
            news,
            topic: Topic::KeyOut,
            gravity: Gravity::Critical,
            subject: "lab/main/main".to_owned(),
            text: text.to_owned(),
            since_unix_ms: 1_000,
            lasted_ns: 725_000_000_000,
            times: 4,
            end: End::Well,
        }
    }

    fn sent(notices: Vec<Notice>, settings: &str) -> (Value, Written) {
        let from = From { instance: "gw-1", unix_ms: 1_700_000_000_500, id: "msg_1" };
        let message = Message { notices, left_out: 2, ..Message::default() };
        let letter = written(&message, &hook(settings), &from);
        (serde_json::from_str(&letter.body).unwrap(), letter)
    }

    #[test]
    fn programs_get_facts() {
        let (body, _) =
            sent(vec![notice(News::Begins, "key benched"), notice(News::Ends, "key benched")], "");
        assert_eq!((&body["instance"], &body["left_out"]), (&json!("gw-1"), &json!(2)));
        let events = [("begins", "key benched"), ("over", "key back: lab/main/main after 12 min 5 s")];
        for (at, (state, text)) in events.into_iter().enumerate() {
            let event = json!({
                "event": "key_out", "state": state, "severity": "critical", "subject": "lab/main/main",
                "text": text, "since_unix_ms": 1_000, "lasted_s": 725,
            });
            assert_eq!(body["events"][at], event);
        }
    }

    /// The example of the Standard Webhooks specification's libraries.
    #[test]
    fn generic_messages_are_signed_as_standard_webhooks_has_it() {
        let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = b"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{\"test\": 2432232314}";
        assert_eq!(signature(&key, signed), "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let (_, letter) = sent(
            vec![notice(News::Begins, "x")],
            "secret = \"literal:whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"",
        );
        let expected = signature(&key, format!("msg_1.1700000000.{}", letter.body).as_bytes());
        let expected = [
            ("webhook-id", "msg_1".to_owned()),
            ("webhook-timestamp", "1700000000".to_owned()),
            ("webhook-signature", format!("v1,{expected}")),
        ];
        assert_eq!(letter.headers, expected);
        let (_, unsigned) = sent(vec![notice(News::Begins, "x")], "");
        assert!(unsigned.headers.iter().all(|(name, _)| *name != "webhook-signature"));
    }

    #[test]
    fn slack_gets_lines_in_which_nothing_is_markup() {
        let names = vec![
            notice(News::Begins, "budget 80 % spent: key <!channel> & co\nforged"),
            notice(News::Ends, "x"),
        ];
        let (body, letter) = sent(names, "kind = \"slack\"");
        let lines = "*keymux on gw-1: 1 to know, 1 over*\n\
                     🔴 budget 80 % spent: key &lt;!channel&gt; &amp; coforged\n\
                     🟢 key back: lab/main/main after 12 min 5 s\n\
                     … and 2 more; the dashboard shows what is so now";
        assert_eq!(body, json!({ "text": lines }));
        assert!(letter.headers.is_empty());
    }

    #[test]
    fn feishu_gets_paragraphs_and_its_signature() {
        let (body, _) = sent(
            vec![notice(News::Begins, "<at user_id=\"all\">x</at>")],
            "kind = \"feishu\"\nsecret = \"literal:demo\"",
        );
        let post = &body["content"]["post"]["en_us"];
        assert_eq!(
            (&body["msg_type"], &post["title"]),
            (&json!("post"), &json!("keymux on gw-1: 1 to know"))
        );
        assert_eq!(post["content"][0], json!([{ "tag": "text", "text": "🔴 <at user_id=\"all\">x</at>" }]));
        // By Feishu's own recipe: HMAC-SHA256 with "timestamp\nsecret" as the key, of an empty text, in Base64.
        assert_eq!(body["timestamp"], "1700000000");
        assert_eq!(body["sign"], signature(b"1700000000\ndemo", b""));
        let (unsigned, _) = sent(vec![notice(News::Begins, "x")], "kind = \"feishu\"");
        assert!(unsigned.get("sign").is_none() && unsigned.get("timestamp").is_none());
    }

    #[test]
    fn a_flood_is_cut() {
        let (body, _) = sent(vec![notice(News::Begins, &"x".repeat(5_000)); 600], "kind = \"slack\"");
        let text = body["text"].as_str().unwrap();
        assert!(text.ends_with("and 582 more; the dashboard shows what is so now") && text.len() < 10_000);
        let (body, _) = sent(vec![notice(News::Begins, "x"); 600], "");
        assert_eq!((body["events"].as_array().unwrap().len(), &body["left_out"]), (500, &json!(102)));
    }

    #[test]
    fn what_did_not_get_well_is_not_said_to_be() {
        let of = |topic, end| sentence(&Notice { topic, end, ..notice(News::Ends, "x") });
        assert_eq!(of(Topic::KeyExpiring, End::Well), "expires no more: lab/main/main after 12 min 5 s");
        assert_eq!(of(Topic::KeyExpiring, End::KeyEnded), "key ended: lab/main/main after 12 min 5 s");
        assert_eq!(of(Topic::KeyOut, End::Gone), "removed or switched off: lab/main/main after 12 min 5 s");
        assert_eq!(of(Topic::KeyOut, End::Unwatched), "no longer checked: lab/main/main after 12 min 5 s");
    }

    #[test]
    fn lengths_of_time_are_short() {
        let said = [0, 59, 60, 725, 3_600, 90_061, 864_000].map(duration);
        assert_eq!(said, ["a moment", "59 s", "1 min", "12 min 5 s", "1 h", "1 d 1 h", "10 d"]);
    }
}
