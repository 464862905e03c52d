//! The most that a budgeted client's request can cost, over every target that it may reach: what is held of its budget
//! before it begins. Where it names no cap on its output, it gets one, or nothing would bound it.

use super::Client;
use crate::errors::{Kind, Problem};
use crate::live::Snapshot;
use crate::plan::{Plan, Read, bad_body};
use crate::serve::Gateway;
use keymux_config::UnknownPrice;
use keymux_config::prices::{self, Ceiling, Dearest, Price, Request};
use keymux_policy::fleet::{Endpoint, ProviderId};
use keymux_policy::{Destination, Now};
use keymux_wire::charges::{self, Charges};
use keymux_wire::error::Dialect;
use keymux_wire::head::{BodyKind, Head, PriceMax};
use keymux_wire::splice::{self, Priced};
use keymux_wire::stored::Stored;
use std::sync::Arc;

/// The cap on output where neither the request nor its route names one.
const DEFAULT_MAX_TOKENS: u64 = 4_096;

/// What a request is worth.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Worth {
    /// The most that it can cost, in nano-dollars; `None`: no budget is asked.
    pub bound_nano_usd: Option<u64>,
    /// The cap on the output of each of its answers that has to be written into it.
    pub cap: Option<u64>,
    /// It is made, and billed, also if nobody waits for it.
    pub background: bool,
    /// Its `provider` object as `OpenRouter` has to get it, for the bound to hold whomever it chooses there.
    pub priced: Option<Box<Priced>>,
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
    let left_nano_usd = Some(client.payers).filter(|_| client.shortens);
    let left_nano_usd =
        left_nano_usd.and_then(|payers| gateway.turnstile.affordable(payers)).unwrap_or(u64::MAX);
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
    let routed = known(snapshot, targets(snapshot, client, plan, head, &charges), unix_s)?;
    if routed.is_empty() {
        // Served although nobody knows what it costs.
        return Ok(Worth::default());
    }
    if !charges.unbounded.is_empty() {
        let names: Vec<&str> = charges.unbounded.iter().map(String::as_str).take(4).collect();
        let shown: String = names.join(", ").chars().take(120).collect();
        let mend = match names[0] {
            "shell" => " A shell that the client runs says so: \"environment\": {\"type\": \"local\"}.",
            "extra_body" => " Of `extra_body`, `google.thinking_config` alone has a bound.",
            _ => "",
        };
        return Err(unbounded(&format!("It asks for {shown}, which may cost anything.{mend}")));
    }
    let makes = match head.kind {
        BodyKind::Embeddings => false,
        BodyKind::Other => return Err(unbounded("This endpoint has no cap on what it makes.")),
        _ => true,
    };
    let request = Request { output_tokens_max: Some(u64::from(makes)), ..request(head, body, &charges) };
    let costs = costs(&routed, &request, unix_s)?;
    let each = head.n.max(charges.best_of).unwrap_or(1).max(1);
    let texts = if head.kind == BodyKind::Completions { charges.prompts.max(1) } else { 1 };
    let answers = each.saturating_mul(texts);
    let given = if makes { head.output_cap() } else { Some(0) };
    let written = match given {
        Some(_) => None,
        None => Some(cap(snapshot, plan, &costs.each, answers, left_nano_usd)),
    };
    let output = given.or(written).unwrap_or(0).saturating_mul(answers);
    Ok(Worth {
        bound_nano_usd: costs.each.iter().map(|cost| cost.bound(output)).max(),
        cap: written,
        background: charges.background,
        priced: costs.ceiling.map(|most| priced(snapshot, plan, head, most)).transpose()?.map(Box::new),
    })
}

fn unbounded(why: &str) -> Problem {
    let message = format!("This key has a budget, and what the request could cost has no bound. {why}");
    Problem::new(Kind::CostNotBounded, message)
}

/// Prices of those that may answer.
#[derive(Default)]
struct Routed {
    /// One for each provider that is asked for one model.
    alone: Vec<Arc<Price>>,
    /// Of all that `OpenRouter` may choose among.
    chosen_there: Vec<Arc<Price>>,
    /// One of those is not known, and is served all the same: no price can be told it that would leave that one.
    unknown_there: bool,
}

impl Routed {
    fn is_empty(&self) -> bool {
        self.alone.is_empty() && self.chosen_there.is_empty()
    }
}

/// Names at `OpenRouter` that ask for more than a model: a search of the web, somebody's preset, several models at once.
fn does_more(model: &str) -> bool {
    // Variants may follow each other.
    [":online", "@preset", "openrouter/fusion"].iter().any(|part| model.contains(part))
}

/// Models that search of their own accord, which costs more than their tokens: not without a price for the request.
fn searches(model: &str) -> bool {
    let name = model.rsplit_once('/').map_or(model, |(_, name)| name);
    ["search-preview", "search-api", "deep-research"].iter().any(|part| name.contains(part))
        || ["sonar", "compound"].iter().any(|start| name.starts_with(start))
}

/// Looks the prices up.
fn known(snapshot: &Snapshot, names: Vec<(ProviderId, Arc<str>)>, unix_s: u64) -> Result<Routed, Problem> {
    let mut routed = Routed::default();
    for (provider, model) in names {
        let upstream = snapshot.upstream(provider);
        let chooses = upstream.is_some_and(|upstream| upstream.dialect == Dialect::OpenRouter);
        match snapshot.price(provider, &model) {
            Some(price)
                if chooses && does_more(&model)
                    || searches(&model) && price.listed(prices::Kind::Requests, 0, unix_s).is_none() =>
            {
                let shown: String = model.chars().take(120).collect();
                return Err(unbounded(&format!("`{shown}` does more than a model, and may cost anything.")));
            }
            Some(price) if chooses => routed.chosen_there.push(price),
            Some(price) => routed.alone.push(price),
            None if snapshot.config.unknown_price == UnknownPrice::Serve => routed.unknown_there |= chooses,
            None => {
                let at = upstream.map_or("", |upstream| &*upstream.name);
                let shown: String = model.chars().take(120).collect();
                return Err(unbounded(&format!(
                    "The price of `{shown}` at {at} is not known; the operator can write it down with [[price]]."
                )));
            }
        }
    }
    Ok(routed)
}

/// What the request can cost at each that may answer.
struct Costs {
    each: Vec<Dearest>,
    /// What `OpenRouter` may take at most, if the request may come there.
    ceiling: Option<Ceiling>,
}

fn costs(routed: &Routed, request: &Request<'_>, unix_s: u64) -> Result<Costs, Problem> {
    let of = |price: &Arc<Price>| {
        price.dearest(request, unix_s).ok_or_else(|| {
            unbounded(if request.files > 0 || request.continues {
                "Part of its input lies in files or at the provider, and its length is not known."
            } else {
                "A price that it needs is not known."
            })
        })
    };
    let mut each = routed.alone.iter().map(of).collect::<Result<Vec<_>, _>>()?;
    let there = routed.chosen_there.iter().map(of).collect::<Result<Vec<_>, _>>()?;
    // One ceiling holds for all models there: the dearest of each price may come together.
    let there = there.into_iter().map(Dearest::with_a_hair).reduce(Dearest::or);
    each.extend(there);
    let ceiling = there.filter(|_| !routed.unknown_there).map(|there| there.ceiling());
    Ok(Costs { each, ceiling })
}

/// The route's cap, or what the budget still affords if that is less.
fn cap(snapshot: &Snapshot, plan: &Plan, costs: &[Dearest], answers: u64, left_nano_usd: u64) -> u64 {
    let route = plan.route.and_then(|route| snapshot.config.routes[route].default_max_tokens);
    let affordable =
        costs.iter().map(|cost| cost.output_tokens_affordable(left_nano_usd).unwrap_or(0) / answers).min();
    // Where not even one token can be paid for, the budget says so, and not the provider.
    route.unwrap_or(DEFAULT_MAX_TOKENS).min(affordable.unwrap_or(0)).max(1)
}

/// The caller's `provider` object, or the route's where it has none, with the ceiling in it.
fn priced(snapshot: &Snapshot, plan: &Plan, head: &Head<'_>, ceiling: Ceiling) -> Result<Priced, Problem> {
    let most = PriceMax {
        prompt: Some(ceiling.input),
        completion: ceiling.output,
        request: Some(ceiling.request),
        image: ceiling.image,
    };
    let given = head.provider.as_ref().map(|provider| provider.raw);
    let defaults = || snapshot.config.routes[plan.route?].provider_defaults.as_deref();
    splice::lower_price_max(given.or_else(defaults).unwrap_or("{}"), &most).map_err(|e| bad_body(&e))
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
    // These may be taken instead, whatever the target was: `models` by `OpenRouter`, `fallbacks` by Anthropic too.
    let listed = head.models.as_ref().and_then(|m| serde_json::from_str::<Vec<String>>(m.raw).ok());
    let asked: Vec<ProviderId> = found.iter().map(|(provider, _)| *provider).collect();
    for provider in asked {
        let others = match snapshot.upstream(provider).map(|upstream| upstream.dialect) {
            Some(Dialect::OpenRouter) => listed.as_deref().unwrap_or_default(),
            Some(Dialect::Anthropic) => &[],
            _ => continue,
        };
        found.extend(others.iter().chain(&charges.fallbacks).map(|name| (provider, name.as_str().into())));
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
        continues: charges.continues || Stored::all(head).iter().any(Stored::is_input),
        output_tokens_max: None,
        web_searches_max: Some(0),
        tier: head.service_tier.as_deref(),
        fast: charges.fast,
        cache_hour: charges.cache_hour,
        audio_out: charges.audio_out,
    }
}
