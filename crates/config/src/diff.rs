//! What a reload changes, in words for the log, and what it cannot change without a restart.

use crate::clients::{Client, Team};
use crate::config::{Account, Config, Key, Provider, Route, Server};
use crate::ledger::Ledger;
use crate::secret::Secret;
use crate::webhook::Webhook;
use keymux_policy::budget::Budget;
use keymux_policy::fleet::LimitSpec;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// What happened to something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It is another.
    Changed,
    /// It is another, but only a restart makes it so.
    NeedsRestart,
}

/// One difference between two configurations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// To what, in words. Holds no secret.
    pub text: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What differs between the configuration that runs and one that is to follow it. Things are the same if they have
/// the same name; their order is no difference.
pub fn diff(old: &Config, new: &Config) -> Vec<Change> {
    let mut changes = Changes(Vec::new());
    server(&old.server, &new.server, &mut changes);
    ledger(&old.ledger, &new.ledger, &mut changes);
    changes.if_other(&old.traces, &new.traces, "[traces]");
    providers(old, new, &mut changes);
    routes(old, new, &mut changes);
    clients(old, new, &mut changes);
    let default = |c: &Config| c.default_provider.and_then(|i| c.providers.get(i)).map(|p| p.name.clone());
    changes.if_other(&default(old), &default(new), "default_provider");
    changes.if_other(&old.default_strategy, &new.default_strategy, "settings.strategy");
    changes.if_other(
        &old.settings.adhoc_routes_max,
        &new.settings.adhoc_routes_max,
        "settings.adhoc_routes_max",
    );
    changes.if_other(&old.checks, &new.checks, "[checks]");
    changes.if_other(&old.settings.breaker, &new.settings.breaker, "[breaker]");
    changes.if_other(&old.settings.retry, &new.settings.retry, "[retry]");
    changes.if_other(&old.settings.room, &new.settings.room, "[room]");
    changes.0
}

struct Changes(Vec<Change>);

impl Changes {
    fn add(&mut self, kind: ChangeKind, text: String) {
        self.0.push(Change { kind, text });
    }

    fn if_other<T: PartialEq>(&mut self, old: &T, new: &T, name: &str) {
        if old != new {
            self.add(ChangeKind::Changed, format!("{name} changed"));
        }
    }

    fn restart<T: PartialEq>(&mut self, old: &T, new: &T, name: &str) {
        if old != new {
            self.add(ChangeKind::NeedsRestart, format!("{name} changed: needs a restart"));
        }
    }
}

/// Equality of secrets in constant time.
fn same(a: Option<&Secret>, b: Option<&Secret>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => a.matches(b.expose().as_bytes()),
        _ => false,
    }
}

fn ledger(old: &Ledger, new: &Ledger, changes: &mut Changes) {
    changes.restart(&true, &old.database.is(&new.database), "ledger.database");
    changes.restart(&old.log_bytes, &new.log_bytes, "ledger.log_bytes");
    changes.restart(&old.rows_days, &new.rows_days, "ledger.rows_days");
    changes.restart(&old.hours_days, &new.hours_days, "ledger.hours_days");
    changes.if_other(&old.when_unavailable, &new.when_unavailable, "ledger.when_unavailable");
}

fn server(old: &Server, new: &Server, changes: &mut Changes) {
    changes.restart(&old.listen, &new.listen, "server.listen");
    changes.restart(&old.admin, &new.admin, "server.admin");
    changes.restart(&old.workers, &new.workers, "server.workers");
    changes.restart(&old.runtime, &new.runtime, "server.runtime");
    changes.restart(&old.tls, &new.tls, "server.tls");
    changes.restart(&old.data_dir, &new.data_dir, "server.data_dir");
    changes.restart(&old.connections_max, &new.connections_max, "server.connections_max");
    changes.restart(&old.ca_file, &new.ca_file, "server.ca_file");
    changes.restart(&old.log.format, &new.log.format, "log.format");
    if !same(old.token.as_ref(), new.token.as_ref()) {
        changes.add(ChangeKind::Changed, "server.token changed".to_owned());
    }
    if old.admin_token.is_some() && new.admin_token.is_none() {
        // The one in the data directory is read at the start.
        changes.restart(&true, &false, "server.admin_token");
    } else if !same(old.admin_token.as_ref(), new.admin_token.as_ref()) {
        changes.add(ChangeKind::Changed, "server.admin_token changed".to_owned());
    }
    changes.if_other(&old.allow_open, &new.allow_open, "server.allow_open");
    changes.if_other(&old.cors_origins, &new.cors_origins, "server.cors_origins");
    changes.if_other(&old.allowed_hosts, &new.allowed_hosts, "server.allowed_hosts");
    changes.if_other(&old.body_bytes_max, &new.body_bytes_max, "server.body_bytes_max");
    changes.if_other(&old.bodies_bytes_max, &new.bodies_bytes_max, "server.bodies_bytes_max");
    changes.if_other(&old.head_bytes_max, &new.head_bytes_max, "server.head_bytes_max");
    changes.if_other(&old.expose_keys, &new.expose_keys, "server.expose_keys");
    changes.if_other(&old.drain_ms, &new.drain_ms, "server.drain");
    changes.if_other(&old.header_timeout_ms, &new.header_timeout_ms, "server.header_timeout");
    changes.if_other(&old.body_timeout_ms, &new.body_timeout_ms, "server.body_timeout");
    changes.if_other(&old.keep_alive_ms, &new.keep_alive_ms, "server.keep_alive");
    changes.if_other(&old.proxy, &new.proxy, "server.proxy");
    changes.if_other(&old.no_proxy, &new.no_proxy, "server.no_proxy");
    changes.if_other(&old.max_wait_ms, &new.max_wait_ms, "server.max_wait");
    changes.if_other(&old.log.requests, &new.log.requests, "log.requests");
    changes.if_other(&old.log.sample, &new.log.sample, "log.sample");
    changes.if_other(&old.log.level, &new.log.level, "log.level");
}

fn providers(old: &Config, new: &Config, changes: &mut Changes) {
    for provider in &old.providers {
        match new.providers.iter().find(|p| p.name == provider.name) {
            Some(now) => provider_changes(provider, now, changes),
            None => changes.add(ChangeKind::Removed, format!("provider {} removed", provider.name)),
        }
    }
    for provider in &new.providers {
        if !old.providers.iter().any(|p| p.name == provider.name) {
            let keys = provider.keys.len();
            let plural = if keys == 1 { "" } else { "s" };
            let text = format!("provider {} added, with {keys} key{plural}", provider.name);
            changes.add(ChangeKind::Added, text);
        }
    }
}

fn provider_changes(old: &Provider, new: &Provider, changes: &mut Changes) {
    let name = &old.name;
    let mut what = Vec::new();
    let mut note = |other: bool, word: &'static str| {
        if other {
            what.push(word);
        }
    };
    note(old.base != new.base, "base_url");
    note(old.dialect != new.dialect, "dialect");
    note(old.auth != new.auth, "auth");
    note(old.headers != new.headers, "headers");
    note(old.endpoints != new.endpoints, "endpoints");
    note(old.limit_headers != new.limit_headers, "limit_headers");
    note(old.charging != new.charging, "charging");
    note(old.timeouts != new.timeouts, "timeouts");
    note(old.proxy != new.proxy, "proxy");
    note(old.models != new.models, "list_models");
    note(old.trace_context != new.trace_context, "trace_context");
    if !what.is_empty() {
        changes.add(ChangeKind::Changed, format!("provider {name} changed: {}", what.join(", ")));
    }
    // By maps: there may be ten thousand of each.
    let accounts: HashMap<&str, &Account> = new.accounts.iter().map(|a| (&*a.name, a)).collect();
    for account in &old.accounts {
        let now = accounts.get(&*account.name);
        if now.is_some_and(|now| now.limits != account.limits) {
            changes.add(ChangeKind::Changed, format!("account {name}/{} changed: limits", account.name));
        }
    }
    let (old_keys, new_keys) = (by_name(&old.keys), by_name(&new.keys));
    for key in &old.keys {
        match new_keys.get(&*key.name) {
            Some(now) => key_changes(name, (key, &old.accounts), (now, &new.accounts), changes),
            None => changes.add(ChangeKind::Removed, format!("key {name}/{} removed", key.name)),
        }
    }
    for key in &new.keys {
        if !old_keys.contains_key(&*key.name) {
            changes.add(ChangeKind::Added, format!("key {name}/{} added", key.name));
        }
    }
}

fn by_name(keys: &[Key]) -> HashMap<&str, &Key> {
    keys.iter().map(|k| (&*k.name, k)).collect()
}

type Owned<'a> = (&'a Key, &'a [Account]);

fn key_changes(
    provider: &str,
    (old, old_owners): Owned<'_>,
    (new, owners): Owned<'_>,
    changes: &mut Changes,
) {
    let mut what = Vec::new();
    let mut note = |other: bool, word: &'static str| {
        if other {
            what.push(word);
        }
    };
    let account = |key: &Key, owners: &[Account]| owners.get(key.account).map(|a| a.name.clone());
    note(!same(old.secret.as_ref(), new.secret.as_ref()), "secret");
    note(account(old, old_owners) != account(new, owners), "account");
    note((old.weight - new.weight).abs() > f64::EPSILON, "weight");
    note(old.enabled && !new.enabled, "switched off");
    note(!old.enabled && new.enabled, "switched on");
    note(old.models != new.models, "models");
    note(old.limits != new.limits, "limits");
    note(old.source != new.source, "where its secret stands");
    if !what.is_empty() {
        changes.add(ChangeKind::Changed, format!("key {provider}/{} changed: {}", new.name, what.join(", ")));
    }
}

fn routes(old: &Config, new: &Config, changes: &mut Changes) {
    let declared = |c: &'_ Config| -> Vec<Route> {
        c.routes.iter().filter(|r| r.variant_of.is_none()).cloned().collect()
    };
    let (old_routes, new_routes) = (declared(old), declared(new));
    for route in &old_routes {
        match new_routes.iter().find(|r| r.model == route.model) {
            Some(now) => {
                let what = route_changes(old, route, new, now);
                if !what.is_empty() {
                    changes.add(
                        ChangeKind::Changed,
                        format!("route {} changed: {}", route.model, what.join(", ")),
                    );
                }
            }
            None => changes.add(ChangeKind::Removed, format!("route {} removed", route.model)),
        }
    }
    for route in &new_routes {
        if !old_routes.iter().any(|r| r.model == route.model) {
            changes.add(ChangeKind::Added, format!("route {} added", route.model));
        }
    }
}

/// Teams, client keys and prices. Budgets are told without what was spent: that no reload changes.
fn clients(old: &Config, new: &Config, changes: &mut Changes) {
    named(&old.teams, &new.teams, ("team", |team: &Team| &team.name), changes, |a, b| {
        let mut what = Vec::new();
        spending(&mut what, (&a.budget, &a.limits), (&b.budget, &b.limits));
        what
    });
    let team = |config: &Config, client: &Client| {
        client.team.and_then(|i| config.teams.get(i)).map(|team| team.name.clone())
    };
    named(&old.clients, &new.clients, ("client", |client: &Client| &client.name), changes, |a, b| {
        let mut what = Vec::new();
        spending(&mut what, (&a.budget, &a.limits), (&b.budget, &b.limits));
        let mut note = |other: bool, word: &'static str| {
            if other {
                what.push(word);
            }
        };
        note(team(old, a) != team(new, b), "team");
        note(a.digest != b.digest, "secret");
        note(a.source != b.source, "where its secret stands");
        note(a.allow != b.allow, "what it may reach");
        note(a.priority != b.priority, "priority");
        note((a.weight - b.weight).abs() > f64::EPSILON, "weight");
        note(a.expires_unix_s != b.expires_unix_s, "expires");
        note(a.tags != b.tags, "tags");
        note(a.max_wait_ms != b.max_wait_ms, "max_wait");
        what
    });
    named(&old.webhooks, &new.webhooks, ("webhook", |hook: &Webhook| &hook.name), changes, webhook_changes);
    changes.if_other(&old.prices.own, &new.prices.own, "[[price]]");
    let table = |c: &Config| (c.prices.table.source.clone(), c.prices.table.date.clone());
    changes.if_other(&table(old), &table(new), "the table of prices");
    changes.if_other(&old.unknown_price, &new.unknown_price, "prices.unknown");
}

fn webhook_changes(a: &Webhook, b: &Webhook) -> Vec<&'static str> {
    let same_url = a.url.server == b.url.server && same(Some(&a.url.target), Some(&b.url.target));
    let differences = [
        (a.kind != b.kind, "kind"),
        (!same_url, "url"),
        (a.source != b.source, "where its url stands"),
        (!same(a.secret.as_ref(), b.secret.as_ref()), "secret"),
        (a.topics != b.topics, "events"),
        (a.severity != b.severity, "severity"),
        (a.gather_ms != b.gather_ms, "gather"),
        (a.remind_ms != b.remind_ms, "remind"),
        (a.proxy != b.proxy, "proxy"),
    ];
    differences.into_iter().filter_map(|(other, word)| other.then_some(word)).collect()
}

type Spending<'a> = (&'a Budget, &'a Vec<LimitSpec>);

fn spending(what: &mut Vec<&'static str>, (budget, limits): Spending<'_>, (now, limits_now): Spending<'_>) {
    what.extend((budget.limit_nano_usd != now.limit_nano_usd).then_some("budget"));
    what.extend((budget.reset != now.reset).then_some("reset"));
    what.extend((limits != limits_now).then_some("limits"));
}

/// Things with names: which are new, gone, or other than before. By maps: there may be many of them.
fn named<T>(
    old: &[T],
    new: &[T],
    (kind, name): (&str, impl Fn(&T) -> &Arc<str>),
    changes: &mut Changes,
    differences: impl Fn(&T, &T) -> Vec<&'static str>,
) {
    let index = |list: &'_ [T]| -> HashMap<Arc<str>, usize> {
        list.iter().enumerate().map(|(i, thing)| (name(thing).clone(), i)).collect()
    };
    let (before, after) = (index(old), index(new));
    for thing in old {
        let Some(now) = after.get(name(thing)).and_then(|i| new.get(*i)) else {
            changes.add(ChangeKind::Removed, format!("{kind} {} removed", name(thing)));
            continue;
        };
        let what = differences(thing, now);
        if !what.is_empty() {
            changes.add(ChangeKind::Changed, format!("{kind} {} changed: {}", name(thing), what.join(", ")));
        }
    }
    for thing in new.iter().filter(|thing| !before.contains_key(name(thing))) {
        changes.add(ChangeKind::Added, format!("{kind} {} added", name(thing)));
    }
}

/// A target by names, since indices mean nothing across two configurations: provider, model, keys, bits of the weight.
type NamedTarget = (String, String, Vec<String>, u64);

fn route_changes(old: &Config, a: &Route, new: &Config, b: &Route) -> Vec<&'static str> {
    let tiers = |config: &Config, route: &Route| -> Vec<Vec<NamedTarget>> {
        let target = |t: &crate::config::Target| {
            let provider = config.providers.get(t.provider);
            let name = provider.map(|p| p.name.to_string()).unwrap_or_default();
            let keys =
                t.keys.iter().filter_map(|k| provider?.keys.get(*k)).map(|k| k.name.to_string()).collect();
            (name, t.model.to_string(), keys, t.weight.to_bits())
        };
        route.tiers.iter().map(|tier| tier.iter().map(target).collect()).collect()
    };
    let mut what = Vec::new();
    let mut note = |other: bool, word: &'static str| {
        if other {
            what.push(word);
        }
    };
    note(tiers(old, a) != tiers(new, b), "tiers");
    note(a.strategy != b.strategy, "strategy");
    note(a.max_wait_ms != b.max_wait_ms, "max_wait");
    note(a.timeouts != b.timeouts, "timeouts");
    note(a.provider_defaults != b.provider_defaults, "provider_defaults");
    note(a.default_max_tokens != b.default_max_tokens, "default_max_tokens");
    what
}
