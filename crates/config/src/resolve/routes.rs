//! Routes: public model names and where they lead, with the variants that `OpenRouter`'s suffixes make of them.

use super::patch;
use crate::config::{Dialect, Provider, Route, Target};
use crate::problem::{At, Findings, Place, did_you_mean};
use crate::text::file;
use crate::text::read::{Section as _, Words as _};
use keymux_policy::fleet::{Endpoint, Strategy};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What holds for routes that do not say otherwise.
pub(super) struct Defaults {
    pub(super) strategy: Strategy,
    pub(super) max_wait_ms: u64,
}

/// Suffixes that mean something to `OpenRouter` whatever the model: sorted by throughput, by price, only free.
pub(crate) const VARIANTS: &[&str] = &[":nitro", ":floor", ":free"];

/// All routes as declared, then their variants.
pub(super) fn resolve(
    typed: Vec<At<file::Route>>,
    providers: &[Provider],
    defaults: &Defaults,
    found: &mut Findings,
) -> Vec<Route> {
    let mut names: HashSet<Arc<str>> = HashSet::new();
    let by_name: HashMap<&str, usize> = providers.iter().enumerate().map(|(i, p)| (&*p.name, i)).collect();
    let targets = Targets { providers, by_name: &by_name };
    let mut routes = Vec::with_capacity(typed.len());
    for At { value: typed, place } in typed {
        let at = typed.model.as_ref().map_or(place, |m| m.place);
        let told = |setting| typed.unread().contains(&setting);
        let (told_of_model, told_of_tiers) = (told("model"), told("tiers"));
        let model = model_name(typed.model.as_ref(), (place, told_of_model), found);
        if !names.insert(model.clone()) && !model.is_empty() {
            let message = format!("there are two routes for \"{model}\"");
            found.error(at, message, "put the targets of both into one");
        }
        let tiers = tiers(typed.tiers, (at, told_of_tiers), &targets, found);
        warn_of_endpoints(&model, &tiers, providers, at, found);
        let provider_defaults = typed.provider_defaults.map(|json| {
            check_provider_defaults(&json, found);
            json.value
        });
        routes.push(Route {
            model,
            tiers,
            strategy: typed.strategy.map_or(defaults.strategy, |s| s.value),
            max_wait_ms: typed.max_wait.map_or(defaults.max_wait_ms, |d| d.0),
            timeouts: patch(typed.timeouts.as_ref()),
            provider_defaults,
            default_max_tokens: typed.default_max_tokens.map(|n| n.0),
            variant_of: None,
        });
    }
    let variants: Vec<Route> =
        routes.iter().enumerate().flat_map(|(i, route)| variants(i, route, &names, providers)).collect();
    routes.extend(variants);
    routes
}

fn model_name(typed: Option<&At<String>>, (place, told): (Place, bool), found: &mut Findings) -> Arc<str> {
    let Some(name) = typed else {
        let hint = "add model = \"…\", the name that clients use";
        found.missing(told, place, "this route has no model", hint);
        return "".into();
    };
    if name.is_empty() || name.len() > 256 || name.chars().any(char::is_control) || name.trim() != name.value
    {
        let message = format!("\"{}\" cannot be the name of a model", name.value.escape_debug());
        found.error(name.place, message, "use 1 to 256 characters without blanks around them");
    }
    name.value.as_str().into()
}

struct Targets<'a> {
    providers: &'a [Provider],
    by_name: &'a HashMap<&'a str, usize>,
}

fn tiers(
    typed: Option<At<Vec<At<file::Tier>>>>,
    (at, told): (Place, bool),
    targets: &Targets<'_>,
    found: &mut Findings,
) -> Vec<Vec<Target>> {
    let typed = typed.unwrap_or_else(|| At { value: Vec::new(), place: at });
    if typed.value.is_empty() {
        let hint = "add tiers = [ [\"provider:model\"] ]";
        found.missing(told, typed.place, "this route leads nowhere", hint);
    }
    let mut tiers = Vec::with_capacity(typed.value.len());
    for At { value: typed, place } in typed.value {
        if typed.is_empty() {
            found.error(place, "this tier is empty", "name a target, or take the tier out");
        }
        tiers.push(typed.into_iter().filter_map(|t| target(t, targets, found)).collect());
    }
    tiers
}

fn target(
    At { value: typed, place }: At<file::Target>,
    targets: &Targets<'_>,
    found: &mut Findings,
) -> Option<Target> {
    const FORM: &str = "write \"provider:model\"";
    let Some(written) = &typed.0.target else {
        let hint = "add target = \"provider:model\"";
        found.missing(
            typed.0.unread().contains(&"target"),
            place,
            "this target does not say where it leads",
            hint,
        );
        return None;
    };
    // At the first colon: names of providers have none, names of models may.
    let Some((name, model)) = written.split_once(':') else {
        found.error(written.place, format!("\"{}\" names no provider", written.value.escape_debug()), FORM);
        return None;
    };
    let Some(&provider) = targets.by_name.get(name) else {
        let known: Vec<&str> = targets.providers.iter().map(|p| &*p.name).collect();
        let message = format!("there is no provider \"{}\"", name.escape_debug());
        found.error(written.place, message, did_you_mean(name, &known, "there are"));
        return None;
    };
    if model.is_empty() || model.trim() != model {
        found.error(written.place, "the target names no model", FORM);
        return None;
    }
    let mut keys = Vec::new();
    for key in typed.0.keys.unwrap_or_default().value {
        let known = &targets.providers.get(provider)?.keys;
        if let Some(index) = known.iter().position(|k| *k.name == *key.value) {
            keys.push(index);
        } else {
            let known: Vec<&str> = known.iter().map(|k| &*k.name).collect();
            let message = format!("\"{name}\" has no key \"{}\"", key.value.escape_debug());
            found.error(key.place, message, did_you_mean(&key, &known, "it has"));
        }
    }
    Some(Target { provider, model: model.into(), keys, weight: typed.0.weight.map_or(1.0, |w| w.0) })
}

/// A request for an endpoint that a tier does not serve can never use it. Told of the three ways to ask a model for
/// an answer only: that one provider transcribes speech and the other does not is seldom news to anyone.
fn warn_of_endpoints(
    model: &str,
    tiers: &[Vec<Target>],
    providers: &[Provider],
    at: Place,
    found: &mut Findings,
) {
    const ANSWERS: &[Endpoint] = &[Endpoint::ChatCompletions, Endpoint::Responses, Endpoint::Messages];
    let serves = |tier: &[Target], endpoint: Endpoint| {
        tier.iter().any(|t| providers.get(t.provider).is_some_and(|p| p.endpoints.has(endpoint)))
    };
    if tiers.iter().any(Vec::is_empty) {
        return;
    }
    let mut uneven = Vec::new();
    for endpoint in ANSWERS {
        let serving: Vec<String> = (1..=tiers.len())
            .zip(tiers)
            .filter(|(_, tier)| serves(tier, *endpoint))
            .map(|(number, _)| number.to_string())
            .collect();
        if !serving.is_empty() && serving.len() < tiers.len() {
            uneven.push(format!("{} only by tier {}", endpoint.word(), serving.join(" and ")));
        }
    }
    if !uneven.is_empty() {
        let message = format!("the tiers of \"{model}\" serve different endpoints: {}", uneven.join(", "));
        let hint = "requests use only the tiers that serve them (keymux does not translate between dialects)";
        found.warning(at, message, hint);
    }
}

fn check_provider_defaults(json: &At<String>, found: &mut Findings) {
    match serde_json::from_str::<serde_json::Value>(json) {
        Ok(serde_json::Value::Object(_)) => {}
        Ok(_) => {
            found.error(json.place, "provider_defaults is no JSON object", "write '{ \"sort\": \"price\" }'");
        }
        Err(e) => {
            let message = format!("provider_defaults is no JSON: {e}");
            found.error(json.place, message, "write '{ \"sort\": \"price\" }'");
        }
    }
}

/// `sonnet:nitro` and its like, for a route `sonnet` with an `OpenRouter` target: the suffix moves to the upstream's
/// name there. Other targets stay as fallbacks, except for `:free`, which must never lead to anything that costs.
/// Declared routes of such a name go first, and a target whose model has a variant already keeps it.
fn variants(index: usize, route: &Route, names: &HashSet<Arc<str>>, providers: &[Provider]) -> Vec<Route> {
    let is_openrouter =
        |t: &Target| providers.get(t.provider).is_some_and(|p| p.dialect == Dialect::OpenRouter);
    let plain = |t: &Target| !t.model.rsplit('/').next().unwrap_or("").contains(':');
    let suffixed = |t: &Target| is_openrouter(t) && plain(t);
    if !route.tiers.iter().flatten().any(suffixed) {
        return Vec::new();
    }
    let with = |suffix: &str| {
        let tiers = route.tiers.iter().map(|tier| {
            let free = |t: &Target| suffixed(t) || (is_openrouter(t) && t.model.ends_with(":free"));
            let kept = tier.iter().filter(|t| suffix != ":free" || free(t));
            let renamed = kept.map(|t| {
                let model = if suffixed(t) { format!("{}{suffix}", t.model).into() } else { t.model.clone() };
                Target { model, ..t.clone() }
            });
            renamed.collect::<Vec<_>>()
        });
        let tiers = tiers.filter(|tier| !tier.is_empty()).collect();
        Route {
            model: format!("{}{suffix}", route.model).into(),
            tiers,
            variant_of: Some(index),
            ..route.clone()
        }
    };
    let free = VARIANTS.iter().filter(|suffix| !names.contains(format!("{}{suffix}", route.model).as_str()));
    free.map(|suffix| with(suffix)).collect()
}
