//! From what was typed to what it means: presets merged, names resolved, everything checked.
//!
//! Every step returns something usable even where it found mistakes, so that the steps after it can look for theirs;
//! a [`Config`] leaves this module only if no error was found.

mod clients;
mod keys;
mod ledger;
mod limits;
mod prices;
mod provider;
mod routes;
mod secrets;
mod server;
mod traces;
mod webhooks;

pub(crate) use provider::may_be_header;

use crate::config::{Checks, Config, Provider, Timeouts, TimeoutsPatch};
use crate::ledger::Database;
use crate::lookup::Names;
use crate::problem::{At, Findings, Place, did_you_mean};
use crate::text::file::{self, File};
use crate::world::World;
use keymux_policy::fleet::{BreakerSettings, RetrySettings, RoomSettings, Settings};
use keymux_policy::time::MS;
use std::collections::HashMap;

/// Resolves and checks a whole file. The configuration is `None` if there was any error.
pub(crate) fn resolve(file: File, world: &World<'_>, found: &mut Findings) -> Option<Config> {
    let has_clients = file.client.as_ref().is_some_and(|list| !list.value.is_empty());
    let server = server::resolve(file.server, file.log, (world, has_clients), found);
    let place_of_ledger = file.ledger.as_ref().map_or(Place::NONE, |typed| typed.place);
    let ledger = ledger::resolve(file.ledger, &server.server.data_dir, world, found);
    let timeouts = patch(file.timeouts.as_ref()).over(&Timeouts::default());
    let defaults = provider::Defaults { server: &server.server, http_proxy: &server.http_proxy, timeouts };
    let traces = traces::resolve(file.traces, &defaults, world, found);
    let typed = file.provider.unwrap_or_default();
    if typed.value.is_empty() && !found.has_errors() {
        let hint = "add at least: [[provider]] name = \"openrouter\" and keys = [ { name = \"main\", secret = \"env:OPENROUTER_API_KEY\" } ]";
        found.error(typed.place, "there is no provider", hint);
    }
    let mut providers: Vec<Provider> = Vec::with_capacity(typed.value.len());
    let mut places = Vec::with_capacity(typed.value.len());
    for (i, one) in typed.value.into_iter().enumerate() {
        let place = one.value.name.as_ref().map_or(one.place, |n| n.place);
        let provider = provider::resolve(one, i, &defaults, world, found);
        if providers.iter().any(|p| p.name == provider.name) {
            let message = format!("there are two providers named \"{}\"", provider.name);
            let hint = "put all keys into one, or give the second another name and `preset`";
            found.error(place, message, hint);
        }
        providers.push(provider);
        places.push(place);
    }
    warn_of_same_secret(&providers, &places, found);
    let default_provider = default_provider(file.default_provider, &providers, found);
    let webhooks = webhooks::resolve(file.webhook.unwrap_or_default().value, &defaults, world, found);
    let checks = checks(file.checks, found);
    let (settings, default_strategy) = settings(file.settings, file.breaker, file.retry, file.room, found);
    let server = server.server;
    let defaults = routes::Defaults { strategy: default_strategy, max_wait_ms: server.max_wait_ms };
    let routes = routes::resolve(file.route.unwrap_or_default().value, &providers, &defaults, found);
    let teams = clients::teams(file.team.unwrap_or_default().value, found);
    let around = clients::Around { teams: &teams, providers: &providers, server: &server, world };
    let clients = clients::clients(file.client.unwrap_or_default().value, &around, found);
    let mut budgets = clients.iter().map(|c| &c.budget).chain(teams.iter().map(|t| &t.budget));
    if matches!(ledger.database, Database::Off) && budgets.any(|budget| budget.limit_nano_usd.is_some()) {
        let message = "there are budgets, and no ledger: what was spent is forgotten with each restart";
        found.warning(
            place_of_ledger,
            message,
            "take database = \"off\" out, and budgets hold over restarts",
        );
    }
    let own = file.price.unwrap_or_default().value;
    let (prices, unknown_price) = prices::resolve(file.prices, own, (&providers, world), found);
    if found.has_errors() {
        return None;
    }
    let names = Names::new(&providers, &routes);
    let warnings = Vec::new();
    Some(Config {
        server,
        ledger,
        traces,
        checks,
        providers,
        routes,
        default_provider,
        settings,
        default_strategy,
        teams,
        clients,
        webhooks,
        prices,
        unknown_price,
        warnings,
        names,
    })
}

/// Two providers at one host with the same secret share a quota that each believes to have for itself.
fn warn_of_same_secret(providers: &[Provider], places: &[Place], found: &mut Findings) {
    let mut seen: HashMap<(&str, &str), &Provider> = HashMap::new();
    for (provider, place) in providers.iter().zip(places) {
        for key in &provider.keys {
            let Some(secret) = key.secret.as_ref().filter(|_| !provider.base.host.is_empty()) else {
                continue;
            };
            let Some(first) = seen.insert((&provider.base.host, secret.expose()), provider) else { continue };
            if first.name != provider.name {
                let message = format!(
                    "the key \"{}\" of \"{}\" holds the same secret as one of \"{}\", at the same host",
                    key.name, provider.name, first.name
                );
                found.warning(*place, message, "one key is one quota: use it at one of them");
            }
        }
    }
}

fn default_provider(
    named: Option<At<String>>,
    providers: &[Provider],
    found: &mut Findings,
) -> Option<usize> {
    let Some(named) = named else {
        return (providers.len() == 1).then_some(0);
    };
    let index = providers.iter().position(|p| *p.name == *named.value);
    if index.is_none() && !providers.is_empty() {
        let known: Vec<&str> = providers.iter().map(|p| &*p.name).collect();
        let message = format!("there is no provider \"{}\"", named.value.escape_debug());
        found.error(named.place, message, did_you_mean(&named.value, &known, "there are"));
    }
    index
}

/// Time-outs as typed.
fn patch(typed: Option<&At<file::Timeouts>>) -> TimeoutsPatch {
    let Some(t) = typed else { return TimeoutsPatch::default() };
    TimeoutsPatch {
        connect_ms: t.connect.as_ref().map(|d| d.0),
        first_byte_ms: t.first_byte.as_ref().map(|d| d.0),
        first_byte_plain_ms: t.first_byte_plain.as_ref().map(|d| d.0),
        idle_ms: t.idle.as_ref().map(|d| d.0),
        total_ms: t.total.as_ref().map(|d| d.0),
        hold_ms: t.hold.as_ref().map(|d| d.0),
    }
}

type Strategy = keymux_policy::fleet::Strategy;

fn settings(
    settings: Option<At<file::Settings>>,
    breaker: Option<At<file::Breaker>>,
    retry: Option<At<file::Retry>>,
    room: Option<At<file::Room>>,
    found: &mut Findings,
) -> (Settings, Strategy) {
    let base = Settings::default();
    let typed = settings.unwrap_or_default().value;
    let strategy = typed.strategy.map_or_else(Strategy::default, |s| s.value);
    let adhoc_routes_max = typed.adhoc_routes_max.map_or(base.adhoc_routes_max, |n| size(n.0));
    let breaker = breaker_settings(breaker.unwrap_or_default(), &base.breaker, found);
    let retry = retry.unwrap_or_default().value;
    let retry = RetrySettings {
        rounds_max: retry.rounds_max.map_or(base.retry.rounds_max, |n| small(n.0)),
        attempts_max: retry.attempts_max.map_or(base.retry.attempts_max, |n| small(n.0)),
        overloads_max: base.retry.overloads_max,
        budget_ratio: retry.budget_ratio.map_or(base.retry.budget_ratio, |r| r.0),
        budget_floor_per_s: retry.budget_floor_per_s.map_or(base.retry.budget_floor_per_s, |r| r.0),
    };
    let room = room.unwrap_or_default().value;
    let room = RoomSettings {
        waiters_max: room.waiters_max.map_or(base.room.waiters_max, |n| size(n.0)),
        bytes_max: room.bytes_max.map_or(base.room.bytes_max, |n| n.0),
        per_client_max: room.per_client_max.map_or(base.room.per_client_max, |n| size(n.0)),
        per_route_max: room.per_route_max.map_or(base.room.per_route_max, |n| size(n.0)),
    };
    (Settings { breaker, retry, room, adhoc_routes_max }, strategy)
}

/// More often than once a second would be traffic of its own.
const CHECKS_MS_MIN: u64 = 1_000;

fn checks(typed: Option<At<file::Checks>>, found: &mut Findings) -> Checks {
    let typed = typed.unwrap_or_default();
    let place = typed.value.every.as_ref().map_or(typed.place, |d| d.place);
    let every_ms = typed.value.every.map_or(300_000, |d| d.0);
    if (1..CHECKS_MS_MIN).contains(&every_ms) {
        let message = "providers would be asked for every key more often than once a second";
        found.error(place, message, "write \"5m\", at least \"1s\", or \"0s\" for never");
    }
    Checks {
        every_ms: (every_ms > 0).then_some(every_ms),
        timeout_ms: typed.value.timeout.map_or(10_000, |d| d.0),
    }
}

fn breaker_settings(
    typed: At<file::Breaker>,
    base: &BreakerSettings,
    found: &mut Findings,
) -> BreakerSettings {
    let longest = typed.cooldown_max.as_ref().map_or(typed.place, |d| d.place);
    let place = typed.cooldown_min.as_ref().map_or(longest, |d| d.place);
    let typed = typed.value;
    let breaker = BreakerSettings {
        window_ns: typed.window.map_or(base.window_ns, |d| d.0 * MS),
        failures_min: typed.failures_min.map_or(base.failures_min, |n| small(n.0)),
        failure_ratio: typed.failure_ratio.map_or(base.failure_ratio, |r| r.0),
        consecutive: typed.consecutive.map_or(base.consecutive, |n| small(n.0)),
        consecutive_span_ns: typed.consecutive_span.map_or(base.consecutive_span_ns, |d| d.0 * MS),
        cooldown_min_ns: typed.cooldown_min.map_or(base.cooldown_min_ns, |d| d.0 * MS),
        cooldown_max_ns: typed.cooldown_max.map_or(base.cooldown_max_ns, |d| d.0 * MS),
    };
    if breaker.cooldown_min_ns > breaker.cooldown_max_ns {
        let message = format!(
            "the first cool-down ({}) is longer than the longest ({})",
            crate::describe::duration(breaker.cooldown_min_ns / MS),
            crate::describe::duration(breaker.cooldown_max_ns / MS),
        );
        found.error(place, message, "set `cooldown_min` to at most `cooldown_max`");
    }
    breaker
}

/// A count that is held in 32 bits: beyond, it might as well be infinite.
fn small(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// A count of things in memory.
fn size(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// Letters, digits and `- _ .`, beginning with a letter or digit: what can stand in labels, headers and in front
/// of a colon.
fn check_name(what: &str, name: &str, at: Place, found: &mut Findings) {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(fits) || name.starts_with(['-', '.']) {
        let message = format!("\"{}\" cannot be the name of {what}", name.escape_debug());
        found.error(at, message, "use up to 64 letters, digits, -, _ and .");
    } else if crate::render::is_surely_secret(name) {
        let hint = "names are shown in logs and metrics: choose another, and put the key into `secret`";
        found.error(at, format!("the name of {what} looks like a key"), hint);
    }
}
