//! The most that a budgeted client's request can cost, over every target that it may reach: what is held of its budget
//! before it begins. Where it names no cap on its output, it gets one, or nothing would bound it.

use super::Client;
use crate::errors::{Kind, Problem};
use crate::live::Snapshot;
use crate::plan::{Plan, Read};
use crate::serve::Gateway;
use keymux_config::UnknownPrice;
use keymux_config::prices::{Price, Request};
use keymux_policy::fleet::{Endpoint, ProviderId};
use keymux_policy::{Destination, Now};
use keymux_wire::charges::{self, Charges};
use keymux_wire::error::Dialect;
use keymux_wire::head::{BodyKind, Head};
use std::sync::Arc;

/// The cap on output where neither the request nor its route names one.
const DEFAULT_MAX_TOKENS: u64 = 4_096;

/// What a request is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Worth {
    /// The most that it can cost, in nano-dollars; `None`: no budget is asked.
    pub bound_nano_usd: Option<u64>,
    /// The cap on the output of each of its answers that has to be written into it.
    pub cap: Option<u64>,
    /// It is made, and billed, also if nobody waits for it.
    pub background: bool,
}

/// Works it out for a client with a budget, if its budget can be held to at all.
///
/// # Errors
/// The cost has no bound, or nobody knows what was spent before.
pub fn checked(
    gateway: &Gateway,
    snapshot: &Snapshot,
    client: &Client,
    (plan, read, body): (&Plan, &Read<'_>, &[u8]),
    now: Now,
) -> Result<Worth, Problem> {
    if !gateway.turnstile.knows_spend() {
        let message =
            "What this key has spent before cannot be read yet, and without that its budget would not hold.";
        return Err(Problem::new(Kind::JournalUnavailable, message));
    }
    let left_nano_usd = gateway.turnstile.affordable(client.payers).unwrap_or(u64::MAX);
    of(snapshot, client, plan, (read, body), (now.unix_ns / 1_000_000_000, left_nano_usd))
}

/// Works it out. `left_nano_usd` is what the client's budgets can pay for.
///
/// # Errors
/// The cost has no bound; the message says why.
pub fn of(
    snapshot: &Snapshot,
    client: &Client,
    plan: &Plan,
    (read, body): (&Read<'_>, &[u8]),
    (unix_s, left_nano_usd): (u64, u64),
) -> Result<Worth, Problem> {
    if plan.ask.endpoint == Endpoint::CountTokens {
        return Ok(Worth { bound_nano_usd: Some(0), ..Worth::default() });
    }
    let Read::Json(head) = read else {
        return Err(unbounded("It is a form, and what its files cost is not known before."));
    };
    // What was read as a head and cannot be walked (nested too deep, say) may hide anything.
    let Some(charges) = charges::read(body) else {
        return Err(unbounded("It is nested too deep, or is not JSON throughout."));
    };
    let names = targets(snapshot, client, plan, head, &charges);
    let mut prices = Vec::with_capacity(names.len());
    for (provider, model) in names {
        match snapshot.price(provider, &model) {
            Some(price) => prices.push(price),
            None if snapshot.config.unknown_price == UnknownPrice::Serve => {}
            None => {
                let at = snapshot.upstream(provider).map_or("", |upstream| &*upstream.name);
                let shown: String = model.chars().take(120).collect();
                return Err(unbounded(&format!(
                    "The price of `{shown}` at {at} is not known; the operator can write it down with [[price]]."
                )));
            }
        }
    }
    if prices.is_empty() {
        // Served although nobody knows what it costs.
        return Ok(Worth::default());
    }
    if !charges.unbounded.is_empty() {
        let names: Vec<&str> = charges.unbounded.iter().map(String::as_str).take(4).collect();
        let shown: String = names.join(", ").chars().take(120).collect();
        return Err(unbounded(&format!("It asks for {shown}, which may cost anything.")));
    }
    let request = Request { output_tokens_max: Some(0), ..request(head, body, &charges) };
    let answers = head.n.max(charges.best_of).unwrap_or(1).max(1);
    let given = match head.kind {
        BodyKind::Embeddings => return bounded(&prices, &request, unix_s, Worth::default()),
        BodyKind::Other => None,
        _ => Some(head.output_cap()),
    };
    let Some(given) = given else {
        return Err(unbounded("This endpoint has no cap on what it makes."));
    };
    let written = match given {
        Some(_) => None,
        None => Some(cap(snapshot, plan, (&prices, &request), answers, (unix_s, left_nano_usd))),
    };
    let each = given.or(written).unwrap_or(0);
    let request = Request { output_tokens_max: Some(each.saturating_mul(answers)), ..request };
    let worth = Worth { cap: written, background: charges.background, ..Worth::default() };
    bounded(&prices, &request, unix_s, worth)
}

fn unbounded(why: &str) -> Problem {
    let message = format!("This key has a budget, and what the request could cost has no bound. {why}");
    Problem::new(Kind::CostNotBounded, message)
}

fn bounded(
    prices: &[Arc<Price>],
    request: &Request<'_>,
    unix_s: u64,
    worth: Worth,
) -> Result<Worth, Problem> {
    let bounds: Option<Vec<u64>> = prices.iter().map(|price| price.bound(request, unix_s)).collect();
    match bounds.and_then(|bounds| bounds.into_iter().max()) {
        Some(bound) => Ok(Worth { bound_nano_usd: Some(bound), ..worth }),
        None if request.files > 0 || request.continues => {
            Err(unbounded("Part of its input lies in files or at the provider, and its length is not known."))
        }
        None => Err(unbounded("A price that it needs is not known.")),
    }
}

/// The route's cap, or what the budget still affords if that is less.
fn cap(
    snapshot: &Snapshot,
    plan: &Plan,
    (prices, request): (&[Arc<Price>], &Request<'_>),
    answers: u64,
    (unix_s, left_nano_usd): (u64, u64),
) -> u64 {
    let route = plan.route.and_then(|route| snapshot.config.routes[route].default_max_tokens);
    let affordable = prices
        .iter()
        .map(|price| price.output_tokens_affordable(request, unix_s, left_nano_usd).unwrap_or(0) / answers)
        .min();
    // Where not even one token can be paid for, the budget says so, and not the provider.
    route.unwrap_or(DEFAULT_MAX_TOKENS).min(affordable.unwrap_or(0)).max(1)
}

/// The models that may answer, by the names of their providers.
fn targets(
    snapshot: &Snapshot,
    client: &Client,
    plan: &Plan,
    head: &Head<'_>,
    charges: &Charges,
) -> Vec<(ProviderId, Arc<str>)> {
    let mut found: Vec<(ProviderId, Arc<str>)> = Vec::new();
    match (&plan.ask.to, plan.route.and_then(|route| snapshot.config.routes.get(route))) {
        (_, Some(route)) => {
            for target in route.tiers.iter().flatten() {
                let (id, keys) = (snapshot.provider_ids[target.provider], &snapshot.key_ids[target.provider]);
                if keys.iter().any(|key| client.may_use(id, *key)) {
                    found.push((id, target.model.clone()));
                }
            }
        }
        (Destination::Adhoc { provider, model }, None) => found.push((*provider, model.clone())),
        (Destination::Route(_), None) => {}
    }
    // `OpenRouter` may take these instead, whatever the target was.
    let listed = head.models.as_ref().and_then(|m| serde_json::from_str::<Vec<String>>(m.raw).ok());
    let others = listed.iter().flatten().chain(&charges.fallbacks);
    let others: Vec<Arc<str>> = others.map(|name| name.as_str().into()).collect();
    let mut aggregators: Vec<ProviderId> = found.iter().map(|(provider, _)| *provider).collect();
    aggregators.retain(|id| snapshot.upstream(*id).is_some_and(|u| u.dialect == Dialect::OpenRouter));
    for provider in aggregators {
        found.extend(others.iter().map(|model| (provider, model.clone())));
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn request<'a>(head: &'a Head<'_>, body: &[u8], charges: &Charges) -> Request<'a> {
    Request {
        text_bytes: (body.len() as u64).saturating_sub(charges.media_bytes),
        media_bytes: charges.media_bytes,
        images: charges.images,
        audio: charges.audio,
        files: charges.files,
        continues: charges.continues || head.previous_response_id.is_some() || head.conversation.is_some(),
        output_tokens_max: None,
        web_searches_max: Some(0),
        tier: head.service_tier.as_deref(),
        fast: charges.fast,
        cache_hour: charges.cache_hour,
        audio_out: charges.audio_out,
        image_out: charges.image_out,
    }
}
