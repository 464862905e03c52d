//! What a request says about providers: which first, which alone, which never, and how dear at most. The header rules
//! every target. The body's `provider` object is `OpenRouter`'s own: there it goes through untouched, and for targets of
//! other dialects it chooses among ours.

use crate::errors::Problem;
use crate::live::Snapshot;
use crate::options::Options;
use crate::plan::{Read, bad_body};
use keymux_config::prices::Kind;
use keymux_policy::fleet::ProviderId;
use keymux_policy::{Destination, Providers};
use keymux_wire::error::Dialect;
use keymux_wire::head::{self, PriceMax, ProviderPrefs};
use std::sync::Arc;

/// The caller's choice of providers, if there is one. `input_tokens` and the instant (Unix seconds) say which of a
/// model's prices counts.
///
/// # Errors
/// The body's wishes cannot be read.
pub fn providers(
    snapshot: &Snapshot,
    (read, options): (&Read<'_>, &Options),
    (to, route): (&Destination, Option<usize>),
    (input_tokens, unix_s): (u64, u64),
) -> Result<Option<Box<Providers>>, Problem> {
    if let Some(prefs) = &options.providers {
        return Ok(Some(Box::new(by_name(snapshot, prefs, false))));
    }
    let Read::Json(head) = read else { return Ok(None) };
    let Some(raw) = &head.provider else { return Ok(None) };
    let others = snapshot.upstreams.iter().flatten().any(|u| u.dialect != Dialect::OpenRouter);
    if !others {
        return Ok(None);
    }
    let prefs = head::parse_provider(raw.raw).map_err(|e| bad_body(&e))?;
    let mut wished = by_name(snapshot, &prefs, true);
    if prefs.price_max != PriceMax::default() {
        let dear = reached(snapshot, to, route)
            .into_iter()
            .filter(|(provider, model)| {
                !is_openrouter(snapshot, *provider)
                    && is_dearer(snapshot, (*provider, model), prefs.price_max, (input_tokens, unix_s))
            })
            .map(|(provider, _)| provider);
        wished.ignore.extend(dear);
    }
    Ok(Some(Box::new(wished)))
}

/// Each provider that may answer, with the name that it knows the model by.
fn reached(snapshot: &Snapshot, to: &Destination, route: Option<usize>) -> Vec<(ProviderId, Arc<str>)> {
    match (to, route.and_then(|route| snapshot.config.routes.get(route))) {
        (_, Some(route)) => {
            let targets = route.tiers.iter().flatten();
            targets.map(|target| (snapshot.provider_ids[target.provider], target.model.clone())).collect()
        }
        (Destination::Adhoc { provider, model }, None) => vec![(*provider, model.clone())],
        (Destination::Route(_), None) => Vec::new(),
    }
}

/// Whether it is, or may be: what is not known to be cheap enough is not.
fn is_dearer(
    snapshot: &Snapshot,
    (provider, model): (ProviderId, &Arc<str>),
    most: PriceMax,
    (input_tokens, unix_s): (u64, u64),
) -> bool {
    let price = snapshot.price(provider, model);
    let listed = |kind| price.as_ref().and_then(|price| price.listed(kind, input_tokens, unix_s));
    let a_million = |nano: Option<u64>| nano.map(|nano| nano.saturating_mul(1_000_000));
    // A price without a rate by the request asks nothing for it.
    let by_request = price.as_ref().map(|_| listed(Kind::Requests).unwrap_or(0));
    let asked = [
        (most.prompt, listed(Kind::Input)),
        (most.completion, listed(Kind::Output)),
        (a_million(most.request), by_request),
    ];
    asked.into_iter().any(|(most, asked)| most.is_some_and(|most| asked.is_none_or(|asked| asked > most)))
}

fn is_openrouter(snapshot: &Snapshot, provider: ProviderId) -> bool {
    snapshot.upstream(provider).is_some_and(|upstream| upstream.dialect == Dialect::OpenRouter)
}

fn by_name(snapshot: &Snapshot, prefs: &ProviderPrefs, spare_openrouter: bool) -> Providers {
    let spared = |id: &ProviderId| spare_openrouter && is_openrouter(snapshot, *id);
    let named =
        |names: &[String]| names.iter().filter_map(|n| snapshot.provider_named(n)).collect::<Vec<_>>();
    let order = named(&prefs.order);
    let only = (!prefs.only.is_empty()).then(|| {
        let mut only = named(&prefs.only);
        only.extend(snapshot.provider_ids.iter().filter(|id| spared(id)));
        only
    });
    let ignore = named(&prefs.ignore).into_iter().filter(|id| !spared(id)).collect();
    // Without a name of ours in `order` there is nothing that a fallback could leave.
    let no_fallbacks = prefs.allow_fallbacks == Some(false) && (!spare_openrouter || !order.is_empty());
    Providers { order, only, ignore, no_fallbacks }
}
