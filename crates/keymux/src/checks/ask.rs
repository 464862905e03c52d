//! Asking: the one call to the provider that tells how a key is, and all keys side by side.

use super::Checked;
use super::verdict::{Answer, Said, Verdict, of_answer};
use crate::alarm::Alarm;
use crate::attempt::{Dialer, Patience};
use crate::body::{Pauses, collect};
use crate::clock::nanos;
use crate::http1::Fields;
use crate::live::{KeyEntry, Snapshot, Upstream};
use crate::upstream::Outgoing;
use crate::{headers, redact};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http::StatusCode;
use keymux_config::{Dialect, ModelsFetch, Provider};
use keymux_policy::fleet::KeyId;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// Keys that are asked for at the same time.
const AT_ONCE: usize = 16;
/// `OpenRouter`'s list of models has about 2 MB, what a key is told of itself a few KB.
const ANSWER_BYTES_MAX: usize = 16 << 20;
const USER_AGENT: &str = concat!("keymux/", env!("CARGO_PKG_VERSION"));

/// How a key is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// `OpenRouter`'s `GET /key`.
    Key,
    /// `DeepSeek`'s `GET /user/balance`.
    Balance,
    /// `GET /models`: whoever may list them has a key that is known.
    Models,
    /// Beside the free call, one of one token to this model, which is paid for.
    Probe(Arc<str>),
    /// Not at all, for this reason.
    None(&'static str),
}

impl Way {
    /// The free call of a provider. At `OpenRouter` the list of models is open to everybody and tells nothing.
    pub fn free(provider: &Provider) -> Self {
        match (provider.dialect, provider.preset) {
            (Dialect::OpenRouter, _) => Self::Key,
            (_, Some("deepseek")) => Self::Balance,
            _ if provider.models == ModelsFetch::Off => {
                Self::None("it has no free call (`list_models = false`)")
            }
            _ => Self::Models,
        }
    }

    /// For people.
    pub fn shown(&self) -> String {
        match self {
            Self::Key => "GET /key".to_owned(),
            Self::Balance => "GET /user/balance".to_owned(),
            Self::Models => "GET /models".to_owned(),
            Self::Probe(model) => format!("one token of {model}"),
            Self::None(_) => "-".to_owned(),
        }
    }
}

/// A paid call after the free one, for the keys of one provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Index of the provider.
    pub provider: usize,
    /// What to ask.
    pub model: Arc<str>,
}

/// Asks providers for keys.
pub struct Checker<'a> {
    /// Connections of its own.
    pub dialer: &'a Dialer,
    /// The configuration.
    pub snapshot: &'a Snapshot,
    /// How long one key may take.
    pub patience: Duration,
    /// Paid calls, where they are wished for.
    pub probes: &'a [Probe],
}

/// Asks for these keys (indices of providers and their keys) side by side; the answers come in the same order.
pub async fn all(checker: &Checker<'_>, keys: &[(usize, usize)]) -> Vec<Checked> {
    let mut asked: Vec<Pin<Box<dyn Future<Output = Checked> + Send + '_>>> = Vec::with_capacity(keys.len());
    for (provider, key) in keys {
        if let Some(subject) = checker.subject(*provider, *key) {
            asked.push(Box::pin(checker.check(subject)));
        }
    }
    stream::iter(asked).buffered(AT_ONCE).collect().await
}

/// Who is asked for what.
struct Subject<'a> {
    provider: &'a Provider,
    index: usize,
    key: &'a keymux_config::Key,
    id: KeyId,
    upstream: &'a Arc<Upstream>,
    entry: &'a Arc<KeyEntry>,
}

impl<'a> Checker<'a> {
    fn subject(&self, index: usize, key: usize) -> Option<Subject<'a>> {
        let provider = self.snapshot.config.providers.get(index)?;
        let id = *self.snapshot.key_ids.get(index)?.get(key)?;
        Some(Subject {
            provider,
            index,
            key: provider.keys.get(key)?,
            id,
            upstream: self.snapshot.upstream(*self.snapshot.provider_ids.get(index)?)?,
            entry: self.snapshot.key(id)?,
        })
    }

    async fn check(&self, subject: Subject<'_>) -> Checked {
        let clock = &self.dialer.clock;
        let enabled = subject.key.enabled;
        let mut way = if enabled { Way::free(subject.provider) } else { Way::None("it is switched off") };
        let sent_ns = clock.mono_ns();
        let (mut verdict, mut said) = self.asked(&subject, &way).await;
        let probe = self.probes.iter().find(|p| p.provider == subject.index && enabled);
        // Nothing is paid for to hear again that a key cannot be used.
        if let Some(probe) = probe.filter(|_| verdict.is_usable() != Some(false)) {
            way = Way::Probe(probe.model.clone());
            let (told, by_probe) = self.asked(&subject, &way).await;
            verdict = told;
            said.limits = by_probe.limits;
        }
        let Said { facts, balance, owner, limits } = said;
        let account = subject.provider.accounts[subject.key.account].name.clone();
        Checked {
            key: subject.id,
            provider: subject.provider.name.clone(),
            name: subject.key.name.clone(),
            account,
            way,
            sent_ns,
            at_unix_ns: clock.now().unix_ns,
            verdict,
            facts,
            balance,
            owner,
            limits,
        }
    }

    async fn asked(&self, subject: &Subject<'_>, way: &Way) -> (Verdict, Said) {
        if let Way::None(why) = way {
            return (Verdict::NotAsked(why), Said::default());
        }
        let detail = match tokio::time::timeout(self.patience, self.exchange(subject, way)).await {
            Ok(Ok(told)) => return told,
            Ok(Err(detail)) => detail,
            Err(_) => format!("no answer within {} ms", self.patience.as_millis()),
        };
        (Verdict::Unknown(detail), Said::default())
    }

    /// Sends the one call and judges its answer. An error is what went wrong on the way.
    async fn exchange(&self, subject: &Subject<'_>, way: &Way) -> Result<(Verdict, Said), String> {
        let Subject { upstream, entry, .. } = subject;
        let clock = &self.dialer.clock;
        let (from_ns, limit) = (clock.mono_ns(), self.patience);
        let patience = Patience { from_ns, connect: limit, first_byte: limit, clients_wish: false };
        let mut alarm = Alarm::new(clock.clone());
        let request = request(subject, way);
        let sent = self.dialer.send(upstream, request, patience, (None, &mut false), &mut alarm).await;
        let mut answered = sent.map_err(|failed| failed.detail)?;
        let pauses = Pauses { alarm: &mut alarm, idle_ns: nanos(limit), until_ns: u64::MAX };
        let body = collect(&mut *answered.exchange, ANSWER_BYTES_MAX, pauses).await;
        let mut body: Bytes = body.map_err(|_| "the answer broke off".to_owned())?;
        self.dialer.give_back(upstream, answered.exchange.into_connection(), clock.mono_ns());
        if let Some((_, credential)) = &entry.credential {
            body = redact::credential(body, credential);
        }
        let head = &answered.head;
        if head.status.is_redirection() && head.status != StatusCode::NOT_MODIFIED {
            return Err(format!("it answered {} and sends callers elsewhere", head.status.as_u16()));
        }
        Ok(of_answer(&Answer {
            way,
            dialect: upstream.dialect,
            profile: upstream.profile,
            status: head.status.as_u16(),
            headers: head.fields(),
            body: &body,
            unix_ns: clock.now().unix_ns,
        }))
    }
}

fn request(subject: &Subject<'_>, way: &Way) -> Outgoing {
    let Subject { provider, upstream, entry, .. } = subject;
    let base = upstream.target_base.as_str();
    let anthropic = provider.dialect == Dialect::Anthropic;
    let (method, base, path, body) = match way {
        Way::Key => ("GET", base, "/key", String::new()),
        // It stands beside the API that copies OpenAI's, not in it.
        Way::Balance => ("GET", base.strip_suffix("/v1").unwrap_or(base), "/user/balance", String::new()),
        Way::Models | Way::None(_) => ("GET", base, "/models", String::new()),
        Way::Probe(model) => {
            let path = if anthropic { "/messages" } else { "/chat/completions" };
            ("POST", base, path, probe(provider, model))
        }
    };
    let mut own: Vec<(&str, &[u8])> =
        vec![("accept", b"application/json"), ("user-agent", USER_AGENT.as_bytes())];
    if anthropic {
        // It answers nothing without a version.
        own.push(("anthropic-version", b"2023-06-01"));
    }
    if !body.is_empty() {
        own.push(("content-type", b"application/json"));
    }
    let mut head = Vec::with_capacity(512);
    headers::begin(&mut head, method, &[base, path], upstream);
    headers::to_provider(&mut head, &Fields::of(&own), upstream, entry);
    if !body.is_empty() {
        headers::number_field(&mut head, "content-length", body.len() as u64);
    }
    headers::end(&mut head, upstream);
    Outgoing::new(head, Bytes::from(body))
}

/// The least that a model can be asked for.
fn probe(provider: &Provider, model: &str) -> String {
    // Newer models of these refuse the older name.
    let renamed = matches!(provider.preset, Some("openai" | "azure"));
    let cap = if renamed { "max_completion_tokens" } else { "max_tokens" };
    let message = serde_json::json!({ "role": "user", "content": "1" });
    serde_json::json!({ "model": model, "messages": [message], cap: 1 }).to_string()
}
