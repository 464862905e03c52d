//! What a configuration means, for people (`keymux check`). Keys appear by name and by where their secret stands;
//! the secrets themselves cannot be printed at all.

use crate::clients::{Client, Team, UnknownPrice};
use crate::config::{Auth, Config, Key, LogLevel, ModelsFetch, Provider, Route};
use crate::text::read::Words as _;
use crate::webhook::{Gravity, Topic, Webhook};
use keymux_policy::budget::{Budget, Reset};
use keymux_policy::fleet::{Dimension, Endpoint, EndpointSet, LimitSpec, ModelSet, Shape};
use std::fmt::Write as _;
use std::sync::Arc;

/// The path of an endpoint below `/v1/`.
pub fn endpoint_path(endpoint: Endpoint) -> &'static str {
    endpoint.word()
}

/// The endpoint at this path below `/v1/`.
pub fn endpoint_at(path: &str) -> Option<Endpoint> {
    Endpoint::WORDS.iter().find(|(word, _)| *word == path).map(|(_, endpoint)| *endpoint)
}

impl LogLevel {
    /// The word for it.
    pub fn label(self) -> &'static str {
        self.word()
    }

    /// The level of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(word, _)| *word == name).map(|(_, level)| *level)
    }
}

impl Config {
    /// What it means: listeners, providers with their keys, accounts and limits, routes. No secrets.
    pub fn describe(&self) -> String {
        let mut out = String::new();
        self.describe_server(&mut out);
        for (i, provider) in self.providers.iter().enumerate() {
            provider_lines(provider, self.default_provider == Some(i), &mut out);
        }
        let declared: Vec<&Route> = self.routes.iter().filter(|r| r.variant_of.is_none()).collect();
        for route in &declared {
            self.route_lines(route, &mut out);
        }
        if self.default_provider.is_none() {
            out.push_str("\nother models: only as provider:model; there is no default_provider\n");
        }
        self.client_lines(&mut out);
        for hook in &self.webhooks {
            webhook_lines(hook, &mut out);
        }
        out
    }

    fn client_lines(&self, out: &mut String) {
        if self.teams.is_empty() && self.clients.is_empty() && self.prices.own.is_empty() {
            return;
        }
        let table = &self.prices.table;
        let _ = write!(
            out,
            "\nprices     {} of {}, {} models",
            table.source,
            table.date,
            number(table.len() as f64)
        );
        let own: Vec<&str> = self.prices.own.iter().map(|(model, _)| &**model).collect();
        let _ = writeln!(
            out,
            "{}",
            if own.is_empty() { String::new() } else { format!("; your own for {}", own.join(", ")) }
        );
        let unknown = match self.unknown_price {
            UnknownPrice::Refuse => "refused to clients with a budget",
            UnknownPrice::Serve => "served, and counted as nothing",
        };
        let _ = writeln!(out, "  unknown  {unknown}");
        for team in &self.teams {
            let keys = self
                .clients
                .iter()
                .filter(|c| c.team.and_then(|i| self.teams.get(i)).is_some_and(|t| t.name == team.name));
            let _ = writeln!(out, "\nteam {} ({} keys)", team.name, keys.count());
            spending(&team.budget, &team.limits, out);
        }
        for client in &self.clients {
            client_lines(client, client.team.and_then(|i| self.teams.get(i)), out);
        }
    }

    fn describe_server(&self, out: &mut String) {
        let server = &self.server;
        let scheme = if server.tls.is_some() { "https" } else { "http" };
        let who = match (&server.token, server.listen.ip().is_loopback()) {
            (Some(_), _) => "with the token",
            (None, true) => "anyone on this machine",
            (None, false) => "ANYONE WHO REACHES IT",
        };
        let _ = writeln!(out, "clients    {scheme}://{} ({who})", server.listen);
        match server.admin {
            Some(admin) => {
                let token =
                    if server.admin_token.is_some() { "its token is set" } else { "its token is generated" };
                let _ = writeln!(out, "operators  http://{admin} ({token})");
            }
            None => out.push_str("operators  off\n"),
        }
        let _ = writeln!(out, "state      {}", server.data_dir.display());
        let _ = writeln!(out, "ledger     {}", self.ledger.database);
        if let Some(collector) = &self.traces.collector {
            let share = self.traces.sample * 100.0;
            let _ = writeln!(out, "traces     {} ({share:.0} % of requests)", collector.url);
        }
        if let Some(proxy) = &server.proxy {
            let _ = writeln!(out, "proxy      {proxy}");
        }
    }

    fn route_lines(&self, route: &Route, out: &mut String) {
        let _ = writeln!(
            out,
            "\nroute {} ({}, waits up to {})",
            route.model,
            route.strategy.word(),
            duration(route.max_wait_ms)
        );
        for (i, tier) in route.tiers.iter().enumerate() {
            let targets: Vec<String> = tier
                .iter()
                .filter_map(|t| {
                    let provider = self.providers.get(t.provider)?;
                    let names: Vec<&str> =
                        t.keys.iter().filter_map(|k| provider.keys.get(*k)).map(|k| &*k.name).collect();
                    let only = if names.is_empty() {
                        String::new()
                    } else {
                        format!(" (only {})", names.join(", "))
                    };
                    let weight = if (t.weight - 1.0).abs() < f64::EPSILON {
                        String::new()
                    } else {
                        format!(" x{}", t.weight)
                    };
                    Some(format!("{}:{}{only}{weight}", provider.name, t.model))
                })
                .collect();
            let word = if i == 0 { "first" } else { "then " };
            let _ = writeln!(out, "  {word}  {}", targets.join(", "));
        }
        if self.routes.iter().any(|r| {
            r.variant_of.is_some_and(|of| self.routes.get(of).is_some_and(|d| d.model == route.model))
        }) {
            let _ = writeln!(out, "  also   {0}:nitro, {0}:floor, {0}:free by OpenRouter", route.model);
        }
    }
}

fn provider_lines(provider: &Provider, is_default: bool, out: &mut String) {
    let default = if is_default { ", takes models without a route" } else { "" };
    let _ = writeln!(out, "\nprovider {} ({} dialect{default})", provider.name, provider.dialect.word());
    let _ = writeln!(out, "  at       {}", provider.base);
    if let Some(proxy) = &provider.proxy {
        let _ = writeln!(out, "  through  {proxy}");
    }
    match &provider.auth {
        Auth::Bearer => {}
        Auth::Header(name) => {
            let _ = writeln!(out, "  key in   {name}");
        }
        Auth::None => out.push_str("  key in   nowhere: it wants none\n"),
    }
    let _ = writeln!(out, "  serves   {}", endpoints(provider.endpoints).join(", "));
    if provider.models == ModelsFetch::Off {
        out.push_str("  models   not asked for\n");
    }
    for (i, account) in provider.accounts.iter().enumerate() {
        let keys: Vec<String> = provider.keys.iter().filter(|k| k.account == i).map(key).collect();
        let limits = limits(&account.limits);
        let _ = writeln!(out, "  account  {}: {limits}", account.name);
        for key in keys {
            let _ = writeln!(out, "    key    {key}");
        }
    }
}

fn webhook_lines(hook: &Webhook, out: &mut String) {
    let signed = if hook.secret.is_some() { ", signed" } else { "" };
    let (name, url) = (&hook.name, &hook.url);
    let _ = writeln!(out, "\nwebhook {name} ({}{signed}) {url} from {}", hook.kind.word(), hook.source);
    if let Some(proxy) = &hook.proxy {
        let _ = writeln!(out, "  through  {proxy}");
    }
    let all = hook.topics.len() == Topic::WORDS.len();
    let words: Vec<&str> = hook.topics.iter().map(|topic| topic.word()).collect();
    let what = if all { "everything".to_owned() } else { words.join(", ") };
    let least = if hook.severity == Gravity::Critical { ", critical only" } else { "" };
    let again = hook.remind_ms.map_or("never again".to_owned(), |ms| format!("again every {}", duration(ms)));
    let _ = writeln!(out, "  told     {what}{least}, {again}");
}

fn client_lines(client: &Client, team: Option<&Team>, out: &mut String) {
    let team = team.map_or_else(String::new, |team| format!(" of {}", team.name));
    let source = client.source.as_ref().map_or_else(|| "by its digest".to_owned(), ToString::to_string);
    let _ = writeln!(out, "\nclient {}{team} ({source})", client.name);
    spending(&client.budget, &client.limits, out);
    let allow = &client.allow;
    let pair = |pairs: &[(Arc<str>, Arc<str>)]| {
        pairs.iter().map(|(provider, name)| format!("{provider}:{name}")).collect::<Vec<_>>().join(", ")
    };
    if !allow.models.0.is_empty() {
        let _ = writeln!(out, "  models   only {}", globs(&allow.models));
    }
    for (what, only) in [
        ("reaches", allow.providers.as_ref().map(|names| names.join(", "))),
        ("accounts", allow.accounts.as_deref().map(pair)),
        ("keys", allow.keys.as_deref().map(pair)),
    ] {
        if let Some(only) = only {
            let _ = writeln!(out, "  {what:<8} only {only}");
        }
    }
    let _ = write!(out, "  class    {}", client.priority.word());
    if (client.weight - 1.0).abs() > f64::EPSILON {
        let _ = write!(out, ", weight {}", client.weight);
    }
    if let Some(ms) = client.max_wait_ms {
        let _ = write!(out, ", waits up to {}", duration(ms));
    }
    out.push('\n');
    if let Some(instant) = client.expires_unix_s.and_then(|s| jiff::Timestamp::from_second(s).ok()) {
        let _ = writeln!(out, "  expires  {instant}");
    }
    if !client.tags.is_empty() {
        let _ = writeln!(out, "  tags     {}", client.tags.join(", "));
    }
}

/// What a team or a client may spend and use.
fn spending(budget: &Budget, own: &[LimitSpec], out: &mut String) {
    match budget.limit_nano_usd {
        Some(nano) => {
            let reset = match budget.reset {
                Reset::Never => "in all",
                Reset::Daily => "each day (UTC)",
                Reset::Weekly => "each week (from Monday, UTC)",
                Reset::Monthly => "each month (from the first, UTC)",
            };
            let _ = writeln!(out, "  budget   {} US dollars {reset}", number(nano as f64 / 1e9));
        }
        None => out.push_str("  budget   none: spends as it likes\n"),
    }
    if !own.is_empty() {
        let _ = writeln!(out, "  limits   {}", limits(own));
    }
}

fn key(key: &Key) -> String {
    let mut text = format!("{} ({})", key.name, key.source);
    if !key.enabled {
        text.push_str(", switched off");
    }
    if (key.weight - 1.0).abs() > f64::EPSILON {
        let _ = write!(text, ", weight {}", key.weight);
    }
    if !key.models.0.is_empty() {
        let _ = write!(text, ", only {}", globs(&key.models));
    }
    if !key.limits.is_empty() {
        let _ = write!(text, ", its own limits: {}", limits(&key.limits));
    }
    text
}

/// The paths of a set of endpoints.
pub(crate) fn endpoints(set: EndpointSet) -> Vec<&'static str> {
    Endpoint::WORDS.iter().filter(|(_, e)| set.has(*e)).map(|(word, _)| *word).collect()
}

fn limits(limits: &[LimitSpec]) -> String {
    if limits.is_empty() {
        return "no declared limits; learned from answers".to_owned();
    }
    limits.iter().map(limit).collect::<Vec<_>>().join("; ")
}

fn limit(limit: &LimitSpec) -> String {
    let what = match limit.dimension {
        Dimension::Requests => "requests",
        Dimension::InputTokens => "input tokens",
        Dimension::OutputTokens => "output tokens",
        Dimension::TotalTokens => "tokens",
        Dimension::Concurrent => "at once",
        Dimension::NanoUsd => "US dollars",
    };
    let scale = if limit.dimension == Dimension::NanoUsd { 1e9 } else { 1.0 };
    let amount = |n: f64| number(n / scale);
    let mut text = match limit.shape {
        Shape::Bucket { capacity, refill_per_s } => {
            format!("{} {what} per {}, refilling", amount(capacity), seconds(capacity / refill_per_s))
        }
        Shape::Window { limit, period_ns, .. } => {
            format!("{} {what} in each {}", amount(limit), seconds(period_ns as f64 / 1e9))
        }
        Shape::Day { limit, offset_s } => {
            let (h, m) = (offset_s / 3_600, offset_s % 3_600 / 60);
            format!("{} {what} in each day from {h:02}:{m:02} UTC", amount(limit))
        }
        Shape::Slots { limit } => format!("{limit} {what}"),
    };
    if !limit.models.0.is_empty() {
        let _ = write!(text, " for {}", globs(&limit.models));
    }
    if limit.preset {
        text.push_str(" (preset)");
    }
    text
}

fn globs(models: &ModelSet) -> String {
    models.0.iter().map(|m| &**m).collect::<Vec<_>>().join(", ")
}

fn seconds(s: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "periods are positive and below a year"
    )]
    duration((s * 1_000.0).round() as u64)
}

/// Milliseconds as people write them: `500ms`, `10s`, `1m30s`.
pub(crate) fn duration(ms: u64) -> String {
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut rest = ms;
    let mut text = String::new();
    for (unit, length) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        if rest >= length {
            let _ = write!(text, "{}{unit}", rest / length);
            rest %= length;
        }
    }
    text
}

/// A number with its thousands apart.
fn number(n: f64) -> String {
    if n.fract() != 0.0 || n >= 1e15 {
        return n.to_string();
    }
    let digits = format!("{n:.0}");
    let mut text = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_has_a_path_and_a_place_in_the_list_of_all() {
        let paths = Endpoint::WORDS.iter().map(|(_, endpoint)| *endpoint);
        assert!(
            paths.eq(Endpoint::ALL),
            "keymux_policy::fleet::Endpoint::ALL is not complete, or in another order"
        );
        assert!(Endpoint::ALL.iter().enumerate().all(|(at, endpoint)| *endpoint as usize == at));
    }
}
