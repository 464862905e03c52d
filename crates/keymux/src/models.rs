//! `GET /v1/models`: what can be asked for here. The names of the routes, and each provider's own list behind its
//! name, fetched side by side and kept for a minute.

use crate::alarm::Alarm;
use crate::attempt::Patience;
use crate::body::Pauses;
use crate::clients::Client;
use crate::errors::{Kind, Problem};
use crate::headers;
use crate::http1::Fields;
use crate::live::{KeyEntry, Snapshot, Upstream};
use crate::reply::Reply;
use crate::serve::{RequestHead, Worker};
use crate::surface;
use crate::upstream::Outgoing;
use bytes::Bytes;
use http::StatusCode;
use keymux_config::Route;
use keymux_wire::body::Envelope;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

/// A list younger than this is not fetched again.
const FRESH_NS: u64 = 60_000_000_000;
/// A provider that does not list its models in this time is left out.
const PATIENCE: Duration = Duration::from_secs(5);
/// `OpenRouter`'s list has about 2 MB.
const LIST_BYTES_MAX: usize = 16 << 20;

/// A provider whose list did not come is asked again after this.
const AGAIN_NS: u64 = 10_000_000_000;

/// Lists that were fetched, by provider.
#[derive(Default)]
pub struct Lists {
    inner: Mutex<HashMap<u32, Known>>,
}

/// What is known of a provider's list.
#[derive(Clone, Default)]
struct Known {
    /// The last one that came.
    list: Option<Arc<Vec<Listed>>>,
    /// Not to be fetched again before (monotonic).
    good_until_ns: u64,
    /// Somebody has tried: nobody waits for it again.
    tried: bool,
}

impl Lists {
    fn with<T>(&self, provider: u32, act: impl FnOnce(&mut Known) -> T) -> T {
        let mut all = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        act(all.entry(provider).or_default())
    }
}

/// One model of a provider.
pub struct Listed {
    id: String,
    /// The provider's own words on it.
    raw: Box<RawValue>,
}

#[derive(serde::Deserialize)]
struct List {
    data: Vec<Box<RawValue>>,
}

#[derive(serde::Deserialize)]
struct Id {
    id: String,
}

/// All models.
pub async fn list(
    worker: &Arc<Worker>,
    snapshot: &Snapshot,
    asked: &RequestHead,
    caller: Option<&Client>,
) -> Result<Reply, Problem> {
    let items = items(worker, snapshot, asked, caller).await;
    let mut text = String::from(r#"{"object":"list","data":["#);
    for (index, (_, item)) in items.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(item);
    }
    // `has_more` is for OpenAI's and Anthropic's clients, the rest for OpenRouter's, which refuse a list without it.
    let ends = format!(r#"],"has_more":false,"total_count":{},"links":{{"next":null}}}}"#, items.len());
    text.push_str(&ends);
    Ok(json_of(text))
}

/// One model.
pub async fn one(
    worker: &Arc<Worker>,
    snapshot: &Snapshot,
    asked: &RequestHead,
    (name, caller): (&str, Option<&Client>),
) -> Result<Reply, Problem> {
    let name = percent_decoded(name);
    let items = items(worker, snapshot, asked, caller).await;
    if let Some(item) = named(&items, &name, snapshot) {
        return Ok(json_of(item.to_owned()));
    }
    let shown: String = name.chars().take(120).collect();
    if let Some(provider) = unlisted(worker, snapshot, &name, caller) {
        let message = format!(
            "The models of `{provider}` cannot be listed at the moment, so whether there is `{shown}` is not known."
        );
        return Err(Problem::new(Kind::UpstreamFailed, message));
    }
    let message = format!("There is no model `{shown}` here; GET /v1/models lists what there is.");
    Err(Problem::new(Kind::ModelUnknown, message))
}

/// The provider whose list would have told of this name, if it has one and none ever came.
fn unlisted<'a>(
    worker: &Worker,
    snapshot: &'a Snapshot,
    name: &str,
    caller: Option<&Client>,
) -> Option<&'a str> {
    let providers = &snapshot.config.providers;
    let behind = name
        .split_once(':')
        .and_then(|(prefix, model)| Some((providers.iter().position(|p| *p.name == *prefix)?, model)));
    let (index, model) = behind.or(snapshot.config.default_provider.map(|index| (index, name)))?;
    if caller.is_some_and(|c| !c.may_ask_for(snapshot, index, model)) {
        return None;
    }
    let listed = worker.gateway.lists.with(snapshot.provider_ids[index].0, |known| known.list.is_some());
    let lists = providers[index].models != keymux_config::ModelsFetch::Off;
    (lists && !listed).then(|| &*providers[index].name)
}

/// The item of this name. Models of the default provider are listed by their bare names, but are asked for behind the
/// provider's as well.
fn named<'a>(items: &'a [(String, String)], name: &str, snapshot: &Snapshot) -> Option<&'a str> {
    let find = |name: &str| items.iter().find(|(id, _)| id == name).map(|(_, item)| item.as_str());
    let behind_default = || {
        let (prefix, rest) = name.split_once(':')?;
        let default = snapshot.config.providers.get(snapshot.config.default_provider?)?;
        // A route of that name is another thing.
        let routed = snapshot.config.routes.iter().any(|route| *route.model == *rest);
        (*default.name == *prefix && !routed).then(|| find(rest))?
    };
    find(name).or_else(behind_default)
}

/// Names and JSON texts of what the caller may use: routes first, then each provider's models under the name that
/// reaches them from here.
async fn items(
    worker: &Arc<Worker>,
    snapshot: &Snapshot,
    asked: &RequestHead,
    caller: Option<&Client>,
) -> Vec<(String, String)> {
    let lists = side_by_side(
        (0..snapshot.config.providers.len())
            .map(|index| Box::pin(async move { list_of(worker, snapshot, index, &asked.fields).await })),
    )
    .await;
    let mut items: Vec<(String, String)> = Vec::new();
    let may_route = |route: &&Route| caller.is_none_or(|c| c.may_ask_for_route(snapshot, route));
    for route in snapshot.config.routes.iter().filter(|route| route.variant_of.is_none()).filter(may_route) {
        items.push((route.model.to_string(), of_route(route, &lists)));
    }
    let default = snapshot.config.default_provider;
    for (index, list) in lists.iter().enumerate() {
        let name = &snapshot.config.providers[index].name;
        let may = |model: &&Listed| caller.is_none_or(|c| c.may_ask_for(snapshot, index, &model.id));
        for model in list.iter().flat_map(|list| list.iter()).filter(may) {
            if Some(index) == default {
                items.push((model.id.clone(), model.raw.get().to_owned()));
            } else {
                let id = format!("{name}:{}", model.id);
                items.push((id.clone(), renamed(model, &id)));
            }
        }
    }
    let mut known = std::collections::HashSet::new();
    items.retain(|(id, _)| known.insert(id.clone()));
    if surface::envelope(asked.path()) == Envelope::OpenRouter {
        for (id, text) in &mut items {
            completed(id, text);
        }
    }
    items
}

/// The models of one provider, unless it lists none.
async fn list_of(
    worker: &Arc<Worker>,
    snapshot: &Snapshot,
    index: usize,
    headers: &Fields,
) -> Option<Arc<Vec<Listed>>> {
    let provider = &snapshot.config.providers[index];
    let upstream = snapshot.upstream(snapshot.provider_ids[index])?;
    if provider.models == keymux_config::ModelsFetch::Off {
        return None;
    }
    let enabled = provider.keys.iter().position(|k| k.enabled)?;
    let entry = snapshot.key(snapshot.key_ids[index][enabled])?;
    fetched(worker, upstream, entry, headers).await
}

/// Waits for all of them at once: a slow provider costs its own time, not the sum.
async fn side_by_side<F: Future + Unpin>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut waits: Vec<Result<F::Output, F>> = futures.map(Err).collect();
    poll_fn(|cx| {
        let mut all = true;
        for wait in &mut waits {
            if let Err(future) = wait {
                match Pin::new(future).poll(cx) {
                    Poll::Ready(output) => *wait = Ok(output),
                    Poll::Pending => all = false,
                }
            }
        }
        if all { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    waits.into_iter().filter_map(Result::ok).collect()
}

/// A route is described as its first target is, where that one's provider lists it.
fn of_route(route: &Route, lists: &[Option<Arc<Vec<Listed>>>]) -> String {
    let listed =
        route.tiers.iter().flatten().find_map(|target| {
            lists[target.provider].as_ref()?.iter().find(|model| *model.id == *target.model)
        });
    match listed {
        Some(model) => renamed(model, &route.model),
        None => {
            json!({"id": &*route.model, "object": "model", "created": 0, "owned_by": "keymux"}).to_string()
        }
    }
}

/// Adds what `OpenRouter`'s SDKs refuse a model without, as unknown: a price that is not known is `-1` there.
fn completed(id: &str, text: &mut String) {
    if text.contains("\"canonical_slug\"") && text.contains("\"links\"") {
        return;
    }
    let Ok(mut object) = serde_json::from_str::<Map<String, Value>>(text) else { return };
    let unknown = json!({
        "name": id,
        "canonical_slug": id,
        "created": 0,
        "context_length": null,
        "architecture": {"modality": null, "input_modalities": ["text"], "output_modalities": ["text"]},
        "pricing": {"prompt": "-1", "completion": "-1"},
        "top_provider": {"context_length": null, "max_completion_tokens": null, "is_moderated": false},
        "per_request_limits": null,
        "supported_parameters": [],
        "supported_voices": null,
        "default_parameters": null,
        "links": {"details": format!("/api/v1/models/{id}")},
    });
    if let Value::Object(unknown) = unknown {
        for (field, value) in unknown {
            object.entry(field).or_insert(value);
        }
    }
    *text = Value::Object(object).to_string();
}

/// The provider's object under another id.
fn renamed(model: &Listed, id: &str) -> String {
    match serde_json::from_str::<Map<String, Value>>(model.raw.get()) {
        Ok(mut object) => {
            object.insert("id".to_owned(), id.into());
            Value::Object(object).to_string()
        }
        Err(_) => model.raw.get().to_owned(),
    }
}

/// A provider's list. Only the very first call waits for it: later ones get the last that came, if any did, and a new
/// one is fetched beside them, so that a provider that hangs costs nobody its time again.
async fn fetched(
    worker: &Arc<Worker>,
    upstream: &Arc<Upstream>,
    key: &Arc<KeyEntry>,
    headers: &Fields,
) -> Option<Arc<Vec<Listed>>> {
    let lists = &worker.gateway.lists;
    let now_ns = worker.gateway.clock.mono_ns();
    let known = lists.with(upstream.id.0, |known| {
        let was = known.clone();
        if was.good_until_ns <= now_ns {
            // Who comes next does not fetch the same.
            known.good_until_ns = now_ns.saturating_add(AGAIN_NS);
        }
        was
    });
    if known.good_until_ns > now_ns && known.tried {
        return known.list;
    }
    let headers = passed(headers, upstream);
    let refreshed = refresh(worker.clone(), upstream.clone(), key.clone(), headers);
    if !known.tried {
        return refreshed.await;
    }
    // It ends by its own patience; nobody waits for it.
    drop(crate::rt::spawn(refreshed));
    known.list
}

/// Fetches a provider's list and notes what came of it.
async fn refresh(
    worker: Arc<Worker>,
    upstream: Arc<Upstream>,
    key: Arc<KeyEntry>,
    headers: Vec<(&'static str, Vec<u8>)>,
) -> Option<Arc<Vec<Listed>>> {
    let fetched = fetch(&worker, &upstream, &key, &headers).await;
    let now_ns = worker.gateway.clock.mono_ns();
    worker.gateway.lists.with(upstream.id.0, |known| {
        known.tried = true;
        match fetched {
            Ok(list) => {
                known.list = Some(Arc::new(list));
                known.good_until_ns = now_ns.saturating_add(FRESH_NS);
            }
            // The one that came last is better than none.
            Err(detail) => {
                known.good_until_ns = now_ns.saturating_add(AGAIN_NS);
                tracing::warn!(provider = %upstream.name, detail, "the provider's models cannot be listed");
            }
        }
        known.list.clone()
    })
}

/// Headers of the caller that the provider has to see.
fn passed(asked: &Fields, upstream: &Upstream) -> Vec<(&'static str, Vec<u8>)> {
    let names = ["anthropic-version", "anthropic-beta"];
    let mut out: Vec<_> = names.iter().filter_map(|name| Some((*name, asked.get(name)?.to_vec()))).collect();
    // Anthropic answers nothing without a version.
    if upstream.dialect == keymux_wire::error::Dialect::Anthropic && !asked.has("anthropic-version") {
        out.push(("anthropic-version", b"2023-06-01".to_vec()));
    }
    out
}

async fn fetch(
    worker: &Arc<Worker>,
    upstream: &Arc<Upstream>,
    key: &KeyEntry,
    passed: &[(&'static str, Vec<u8>)],
) -> Result<Vec<Listed>, String> {
    let out: Vec<_> = passed.iter().map(|(name, value)| (*name, value.as_slice())).collect();
    let mut head = Vec::with_capacity(512);
    headers::begin(&mut head, "GET", &[&upstream.target_base, "/models"], upstream);
    headers::to_provider(&mut head, &Fields::of(&out), upstream, key);
    headers::end(&mut head, upstream);
    let request = Outgoing::new(head, Bytes::new());
    let from_ns = worker.gateway.clock.mono_ns();
    let patience = Patience { from_ns, connect: PATIENCE, first_byte: PATIENCE, clients_wish: false };
    let mut alarm = Alarm::new(worker.gateway.clock.clone());
    let mut answered = worker
        .dialer
        .send(upstream, request, patience, (None, &mut false), &mut alarm)
        .await
        .map_err(|f| f.detail)?;
    let status = answered.head.status;
    let idle_ns = crate::clock::nanos(PATIENCE);
    let pauses = Pauses { alarm: &mut alarm, idle_ns, until_ns: u64::MAX };
    let body = crate::body::collect(&mut *answered.exchange, LIST_BYTES_MAX, pauses).await;
    let body: Bytes = body.map_err(|_| "the list broke off".to_owned())?;
    worker.dialer.give_back(upstream, answered.exchange.into_connection(), worker.gateway.clock.mono_ns());
    if !status.is_success() {
        return Err(format!("status {}", status.as_u16()));
    }
    let list: List = serde_json::from_slice(&body).map_err(|e| format!("not a list of models: {e}"))?;
    let named = |raw: Box<RawValue>| {
        let Id { id } = serde_json::from_str(raw.get()).ok()?;
        Some(Listed { id, raw })
    };
    Ok(list.data.into_iter().filter_map(named).collect())
}

fn json_of(text: String) -> Reply {
    Reply::whole(StatusCode::OK, "application/json", text)
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail
            .get(..2)
            .and_then(|h| std::str::from_utf8(h).ok())
            .and_then(|h| u8::from_str_radix(h, 16).ok());
        if let (b'%', Some(byte)) = (first, hex) {
            bytes.push(byte);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
