//! The `[[webhook]]` sections.

use super::provider::{Defaults, inherited_proxy};
use super::{check_name, secrets};
use crate::problem::{At, Findings, Place};
use crate::text::read::{Section as _, Words as _};
use crate::text::webhook;
use crate::url::is_loopback;
use crate::webhook::{HookKind, HookUrl, Topic, Webhook};
use crate::world::World;

/// More than anybody watches.
const WEBHOOKS_MAX: usize = 16;
/// Gathered longer, a message is no news.
const GATHER_MS_MAX: u64 = 3_600_000;

pub(super) fn resolve(
    typed: Vec<At<webhook::Webhook>>,
    defaults: &Defaults<'_>,
    world: &World<'_>,
    found: &mut Findings,
) -> Vec<Webhook> {
    if let Some(first_too_many) = typed.get(WEBHOOKS_MAX) {
        let message = format!("there are more than {WEBHOOKS_MAX} webhooks");
        found.error(first_too_many.place, message, "let one of them tell several people");
    }
    let mut hooks: Vec<Webhook> = Vec::new();
    for one in typed {
        let place = one.value.name.as_ref().map_or(one.place, |name| name.place);
        let Some(hook) = webhook(one, defaults, world, found) else { continue };
        if hooks.iter().any(|other| other.name == hook.name) {
            let message = format!("there are two webhooks named \"{}\"", hook.name);
            found.error(place, message, "give one of them another name");
        }
        hooks.push(hook);
    }
    hooks
}

fn webhook(
    typed: At<webhook::Webhook>,
    defaults: &Defaults<'_>,
    world: &World<'_>,
    found: &mut Findings,
) -> Option<Webhook> {
    let At { value: typed, place } = typed;
    let unread = |name: &str| typed.unread().contains(&name);
    match &typed.name {
        Some(name) => check_name("a webhook", name, name.place, found),
        None => found.missing(unread("name"), place, "a webhook has no name", "say name = \"ops\""),
    }
    let kind = typed.kind.as_ref().map(|kind| kind.value).unwrap_or_default();
    let hint = "say where its address stands: url = \"env:KEYMUX_WEBHOOK\"";
    let Some(written) = &typed.url else {
        found.missing(unread("url"), place, "a webhook has no url", hint);
        return None;
    };
    let (text, source) = secrets::fetch(written, world, found);
    let url = text.and_then(|text| parsed(text.expose(), written.place, found));
    let secret = typed.secret.as_ref().and_then(|secret| {
        let fetched = secrets::fetch(secret, world, found).0;
        if kind == HookKind::Slack {
            let hint = "leave it out: the address itself is what Slack goes by";
            found.error(secret.place, "Slack's webhooks are not signed", hint);
        }
        fetched
    });
    let topics = topics(typed.events, found);
    let gather_ms = typed.gather.as_ref().map_or(5_000, |wait| wait.0);
    if let Some(gather) = typed.gather.filter(|wait| wait.0 > GATHER_MS_MAX) {
        found.error(gather.place, "gathered for over an hour, a message is no news", "5s is usual");
    }
    let remind_ms = typed.remind.as_ref().map_or(4 * 3_600_000, |wait| wait.0);
    if let Some(remind) = typed.remind.filter(|wait| (1..60_000).contains(&wait.0)) {
        let hint = "write \"4h\", or \"0s\" for no reminders";
        found.error(remind.place, "reminders more than once a minute are noise", hint);
    }
    let url = url?;
    let hook = Webhook {
        name: typed.name?.value.into(),
        kind,
        proxy: inherited_proxy(&url.server, defaults),
        url,
        source,
        secret,
        topics,
        severity: typed.severity.map(|severity| severity.value).unwrap_or_default(),
        gather_ms,
        remind_ms: (remind_ms > 0).then_some(remind_ms),
    };
    if let (Some(secret), None) = (&typed.secret, hook.signing_key())
        && hook.secret.is_some()
    {
        let hint = "take it as its issuer shows it, or choose a text of your own without whsec_ in front";
        found.error(secret.place, "what follows whsec_ is not Base64", hint);
    }
    Some(hook)
}

fn parsed(text: &str, at: Place, found: &mut Findings) -> Option<HookUrl> {
    match HookUrl::parse(text) {
        Ok(url) => {
            if !url.server.https && !is_loopback(&url.server.host) {
                let message = format!("messages to {url} go over the network in the clear, with the token");
                found.warning(at, message, "write https:// if it understands that");
            }
            Some(url)
        }
        Err(error) => {
            let hint = "it looks like https://hooks.slack.com/services/…";
            found.error(at, format!("this is no address of a webhook: {error}"), hint);
            None
        }
    }
}

fn topics(typed: Option<At<Vec<At<Topic>>>>, found: &mut Findings) -> Vec<Topic> {
    let Some(typed) = typed else { return Topic::WORDS.iter().map(|(_, topic)| *topic).collect() };
    if typed.value.is_empty() {
        let words: Vec<&str> = Topic::WORDS.iter().map(|(word, _)| *word).collect();
        let hint = format!("leave it out for everything, or choose from {}", words.join(", "));
        found.error(typed.place, "a webhook without events tells nothing", hint);
    }
    let mut topics: Vec<Topic> = typed.value.iter().map(|topic| topic.value).collect();
    topics.sort_unstable();
    topics.dedup();
    topics
}
