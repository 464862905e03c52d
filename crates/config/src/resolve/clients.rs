//! Teams and client keys: names resolved, allow-lists checked, secrets turned into digests.

use super::{check_name, secrets, small};
use crate::clients::{Allow, Client, Team};
use crate::config::{Provider, Server};
use crate::problem::{At, Findings, Place, did_you_mean};
use crate::text::leaf::{Amount, Count};
use crate::text::money::{self, ClientSecret, Usd};
use crate::text::read::Section as _;
use crate::world::World;
use keymux_policy::Priority;
use keymux_policy::budget::{Budget, Reset};
use keymux_policy::fleet::{Dimension, LimitSpec, ModelSet, Shape};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

pub(super) fn teams(typed: Vec<At<money::Team>>, found: &mut Findings) -> Vec<Team> {
    let mut seen = HashSet::new();
    let mut teams = Vec::with_capacity(typed.len());
    for At { value: typed, place } in typed {
        let told = typed.unread().contains(&"name");
        let name = unique_name("team", (typed.name.as_ref(), told), place, &mut seen, found);
        let budget = budget(typed.budget.as_ref(), typed.reset.as_ref(), found);
        let limits = limits(typed.rpm.as_ref(), typed.tpm.as_ref(), typed.concurrent.as_ref());
        teams.push(Team { name, budget, limits });
    }
    teams
}

/// What the allow-lists and secrets of clients are checked against.
pub(super) struct Around<'a> {
    pub(super) teams: &'a [Team],
    pub(super) providers: &'a [Provider],
    pub(super) server: &'a Server,
    pub(super) world: &'a World<'a>,
}

pub(super) fn clients(
    typed: Vec<At<money::Client>>,
    around: &Around<'_>,
    found: &mut Findings,
) -> Vec<Client> {
    let mut seen = HashSet::new();
    let mut digests: HashMap<[u8; 32], Arc<str>> = HashMap::new();
    let mut clients = Vec::with_capacity(typed.len());
    for At { value: typed, place } in typed {
        let told = |setting| typed.unread().contains(&setting);
        let (told_of_name, told_of_secret) = (told("name"), told("secret"));
        let name = unique_name("client", (typed.name.as_ref(), told_of_name), place, &mut seen, found);
        let at = typed.name.as_ref().map_or(place, |n| n.place);
        let allow = allow(&typed, around, found);
        let budget = budget(typed.budget.as_ref(), typed.reset.as_ref(), found);
        let limits = limits(typed.rpm.as_ref(), typed.tpm.as_ref(), typed.concurrent.as_ref());
        let team = typed.team.as_ref().and_then(|team| team_of(team, around.teams, found));
        let (digest, source) = match &typed.secret {
            None => {
                let hint = "add secret = \"env:NAME\", or \"sha256:…\" with its digest";
                found.missing(told_of_secret, at, "this client has no secret", hint);
                (None, None)
            }
            Some(At { value: ClientSecret::Digest(digest), .. }) => (Some(*digest), None),
            Some(At { value: ClientSecret::From(text), place }) => {
                let text = At { value: text.clone(), place: *place };
                let (secret, source) = secrets::fetch(&text, around.world, found);
                if let Some(secret) = secret.as_ref().filter(|s| s.expose().len() < SECRET_BYTES_MIN) {
                    let message =
                        format!("the secret of \"{name}\" has {} characters", secret.expose().len());
                    found.warning(*place, message, "who can guess it can spend: take 32 random bytes");
                }
                (secret.map(|s| s.digest()), Some(source))
            }
        };
        if let Some(digest) = digest {
            check_digest(digest, &name, at, (&mut digests, around.server), found);
        }
        clients.push(Client {
            name,
            team,
            digest: digest.unwrap_or_default(),
            source,
            allow,
            budget,
            limits,
            priority: typed.priority.as_ref().map_or(Priority::Normal, |p| p.value),
            weight: typed.weight.as_ref().map_or(1.0, |w| w.0),
            expires_unix_s: typed.expires.as_ref().map(|at| at.0),
            tags: typed.tags.iter().flat_map(|t| &t.value).map(|tag| tag.as_str().into()).collect(),
            max_wait_ms: typed.max_wait.as_ref().map(|wait| wait.0),
        });
    }
    clients
}

/// Shorter secrets can be guessed.
const SECRET_BYTES_MIN: usize = 20;

fn check_digest(
    digest: [u8; 32],
    name: &Arc<str>,
    at: Place,
    (digests, server): (&mut HashMap<[u8; 32], Arc<str>>, &Server),
    found: &mut Findings,
) {
    if let Some(other) = digests.insert(digest, name.clone()) {
        let message = format!("the clients \"{other}\" and \"{name}\" have the same secret");
        found.error(at, message, "who calls must be told apart: give each its own");
    }
    if server.token.as_ref().is_some_and(|token| token.digest() == digest) {
        let message = format!("the secret of \"{name}\" is server.token");
        found.error(at, message, "the token knows no budget: give the client a secret of its own");
    }
}

fn unique_name(
    what: &'static str,
    (typed, told): (Option<&At<String>>, bool),
    place: Place,
    seen: &mut HashSet<Arc<str>>,
    found: &mut Findings,
) -> Arc<str> {
    let Some(typed) = typed else {
        found.missing(told, place, format!("this {what} has no name"), "add name = \"…\"");
        return "".into();
    };
    check_name(&format!("a {what}"), typed, typed.place, found);
    let name: Arc<str> = typed.as_str().into();
    if !seen.insert(name.clone()) {
        let message = format!("there are two {what}s named \"{}\"", name.escape_debug());
        found.error(typed.place, message, "give one of them another name");
    }
    name
}

fn team_of(typed: &At<String>, teams: &[Team], found: &mut Findings) -> Option<usize> {
    let index = teams.iter().position(|team| *team.name == *typed.value);
    if index.is_none() {
        let known: Vec<&str> = teams.iter().map(|team| &*team.name).collect();
        let message = format!("there is no team \"{}\"", typed.value.escape_debug());
        let hint = match known.as_slice() {
            [] => "declare it: [[team]] name = \"…\"".to_owned(),
            known => did_you_mean(typed, known, "there are"),
        };
        found.error(typed.place, message, hint);
    }
    index
}

fn budget(typed: Option<&At<Usd>>, reset: Option<&At<Reset>>, found: &mut Findings) -> Budget {
    match (typed, reset) {
        (None, Some(reset)) => {
            found.error(reset.place, "there is no budget to reset", "add budget = 50.0, in US dollars");
        }
        (Some(budget), _) if budget.0 == 0 => {
            let hint =
                "write how much; leave it out for no limit, or take the key out to let it spend nothing";
            found.error(budget.place, "a budget of nothing lets nobody spend", hint);
        }
        _ => {}
    }
    Budget { limit_nano_usd: typed.map(|usd| usd.0), reset: reset.map_or(Reset::Never, |reset| reset.value) }
}

/// In the scheduler's own shapes, so that one code limits providers' accounts and clients.
fn limits(
    rpm: Option<&At<Amount>>,
    tpm: Option<&At<Amount>>,
    concurrent: Option<&At<Count>>,
) -> Vec<LimitSpec> {
    let spec = |dimension, shape| LimitSpec { dimension, shape, models: ModelSet::default(), preset: false };
    let bucket = |amount: &At<Amount>| Shape::Bucket { capacity: amount.0, refill_per_s: amount.0 / 60.0 };
    let mut limits = Vec::new();
    limits.extend(rpm.map(|amount| spec(Dimension::Requests, bucket(amount))));
    limits.extend(tpm.map(|amount| spec(Dimension::TotalTokens, bucket(amount))));
    limits.extend(concurrent.map(|n| spec(Dimension::Concurrent, Shape::Slots { limit: small(n.0) })));
    limits
}

fn allow(typed: &money::Client, around: &Around<'_>, found: &mut Findings) -> Allow {
    let providers = around.providers;
    let models = typed.models.as_ref().map(|list| {
        nothing_allowed("models", list, found);
        list.iter().map(|glob| glob.value.0.clone()).collect()
    });
    let names = typed.providers.as_ref().map(|list| {
        nothing_allowed("providers", list, found);
        list.iter().filter_map(|name| provider_of(name, name.place, providers, found)).collect::<Vec<_>>()
    });
    let accounts = |provider: &Provider| provider.accounts.iter().map(|a| a.name.clone()).collect();
    let keys = |provider: &Provider| provider.keys.iter().map(|k| k.name.clone()).collect();
    Allow {
        models: ModelSet(models.unwrap_or_default()),
        providers: names.map(|list| list.into_iter().map(|p| p.name.clone()).collect()),
        accounts: typed.accounts.as_ref().map(|list| pairs("account", list, (providers, accounts), found)),
        keys: typed.keys.as_ref().map(|list| pairs("key", list, (providers, keys), found)),
    }
}

fn nothing_allowed<T>(setting: &str, list: &At<Vec<At<T>>>, found: &mut Findings) {
    if list.is_empty() {
        let message = format!("`{setting}` is empty: this client may reach nothing");
        found.error(list.place, message, "name some, or leave it out to allow all");
    }
}

fn provider_of<'a>(
    name: &str,
    at: Place,
    providers: &'a [Provider],
    found: &mut Findings,
) -> Option<&'a Provider> {
    let provider = providers.iter().find(|p| *p.name == *name);
    if provider.is_none() {
        let known: Vec<&str> = providers.iter().map(|p| &*p.name).collect();
        let message = format!("there is no provider \"{}\"", name.escape_debug());
        found.error(at, message, did_you_mean(name, &known, "there are"));
    }
    provider
}

/// `provider:name`, where the provider has one of that name.
fn pairs(
    what: &str,
    list: &At<Vec<At<String>>>,
    (providers, names): (&[Provider], impl Fn(&Provider) -> Vec<Arc<str>>),
    found: &mut Findings,
) -> Vec<(Arc<str>, Arc<str>)> {
    nothing_allowed(&format!("{what}s"), list, found);
    let mut pairs = Vec::new();
    for typed in &list.value {
        let Some((provider, name)) = typed.split_once(':') else {
            let message = format!("\"{}\" names no provider", typed.value.escape_debug());
            found.error(typed.place, message, format!("write \"provider:{what}\""));
            continue;
        };
        let Some(provider) = provider_of(provider, typed.place, providers, found) else { continue };
        let known = names(provider);
        if let Some(name) = known.iter().find(|k| ***k == *name) {
            pairs.push((provider.name.clone(), name.clone()));
        } else {
            let known: Vec<&str> = known.iter().map(|k| &**k).collect();
            let message = format!("\"{}\" has no {what} \"{}\"", provider.name, name.escape_debug());
            found.error(typed.place, message, did_you_mean(name, &known, "it has"));
        }
    }
    pairs
}
