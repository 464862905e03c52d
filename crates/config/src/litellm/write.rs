//! The text of the configuration: TOML with comments that say where each thing comes from and what is different now.

use super::deployment::Limits;
use super::fleet::{Fleet, Key, Origin, Price, Server};
use super::notes::{Kind, Note, Spot};
use super::routes::{Route, Target};
use super::settings::{SLACK_VARIABLE, Settings};
use crate::render::harmless;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// All that is to be written.
pub(super) struct Page<'a> {
    pub(super) shown: &'a str,
    pub(super) settings: &'a Settings<'a>,
    pub(super) fleet: &'a Fleet,
    pub(super) routes: &'a [Route],
    pub(super) default_provider: Option<&'a Server>,
    pub(super) notes: &'a [Note],
}

/// Comments are wrapped here.
const WIDTH: usize = 116;

const DIFFERENT: &[&str] = &[
    "Nothing is translated: a request goes out byte for byte, to targets that serve its endpoint. OpenAI-compatible \
     providers serve chat/completions, Anthropic serves messages.",
    "Limits (rpm, tpm, concurrent) are kept exactly and before a call goes out, whatever the strategy. When no key has \
     room a request waits, up to [server] max_wait; then it is refused with a Retry-After that is true.",
    "A failure counts against whoever's fault it is: a bad request, a refused content or a client's own short time-out \
     rests no key, a single failure neither; a revoked key is not tried again.",
    "Before a request fails, every key and tier that may answer is tried, not only num_retries of them. A later tier \
     serves also while the earlier ones are merely full.",
    "A stream that breaks ends with an error, never with a clean [DONE]. A client that hangs up ends the call at the \
     provider, and what came until then is charged.",
    "Keys stay in the environment; everything else stands in this file, and a mistake in it is refused whole.",
];

/// Writes it.
pub(super) fn write(page: &Page<'_>) -> String {
    let mut out = String::new();
    comment(&mut out, &format!("Made by `keymux import litellm` from {}.", harmless(page.shown)));
    out.push_str("#\n# What works differently from LiteLLM:\n");
    for line in DIFFERENT {
        bullet(&mut out, line);
    }
    let here = page.notes.iter().map(|n| n.spots.len()).sum::<usize>();
    if here > 0 {
        bullet(&mut out, "What has no counterpart is listed at the end.");
    }
    default_provider(&mut out, page);
    general(&mut out, page.settings);
    numbers(&mut out, page.settings);
    for server in &page.fleet.servers {
        provider(&mut out, server);
    }
    for route in page.routes {
        self::route(&mut out, route, page.fleet);
    }
    client(&mut out, page.settings);
    if page.settings.slack {
        let _ = writeln!(
            out,
            "\n[[webhook]] # general_settings.alerting; `events` and `severity` say what is told (docs/webhooks.md)\n\
             name = \"slack\"\nkind = \"slack\"\nurl = \"env:{SLACK_VARIABLE}\""
        );
    }
    for price in &page.fleet.prices {
        self::price(&mut out, price);
    }
    notes(&mut out, page.notes);
    out
}

/// A text in TOML's quotes.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// One paragraph.
fn comment(out: &mut String, text: &str) {
    wrapped(out, "#", "#", text);
}

fn bullet(out: &mut String, text: &str) {
    wrapped(out, "# -", "#  ", text);
}

fn wrapped(out: &mut String, first: &str, then: &str, text: &str) {
    let mut line = first.to_owned();
    for word in text.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH && line.len() > then.len() {
            let _ = writeln!(out, "{line}");
            then.clone_into(&mut line);
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(out, "{line}");
}

/// A name or a model behind a `#`.
fn remark(text: &str) -> String {
    harmless(text)
}

/// Milliseconds as a duration.
fn duration(ms: u64) -> String {
    match ms {
        ms if ms % 86_400_000 == 0 => format!("\"{}d\"", ms / 86_400_000),
        ms if ms % 3_600_000 == 0 => format!("\"{}h\"", ms / 3_600_000),
        ms if ms % 1_000 == 0 => format!("\"{}s\"", ms / 1_000),
        ms => format!("\"{ms}ms\""),
    }
}

fn paths(spots: &[Spot]) -> String {
    let path = |spot: &Spot| match &spot.file {
        Some(file) => format!("{} in {}", spot.path, harmless(file)),
        None => spot.path.clone(),
    };
    let mut paths: Vec<String> = spots.iter().map(path).collect();
    paths.dedup();
    paths.join(", ")
}

fn default_provider(out: &mut String, page: &Page<'_>) {
    out.push('\n');
    if let Some(server) = page.default_provider {
        comment(out, "Names that no route has go here as they are: a wildcard in LiteLLM.");
        let _ = writeln!(out, "default_provider = {}", quoted(&server.name));
    } else if let [server] = page.fleet.servers.as_slice() {
        comment(
            out,
            &format!(
                "Names that no route has go to {} as they are, since it is the only provider; `models` in [[client]] bounds \
                 what a caller may ask for.",
                server.name
            ),
        );
    } else {
        comment(
            out,
            "A name that no route has is answered with 404; provider:MODEL reaches any model of a provider.",
        );
    }
}

fn general(out: &mut String, settings: &Settings<'_>) {
    out.push_str("\n[server]\n");
    comment(out, "LiteLLM listens on every network. Here that needs a token or client keys.");
    out.push_str("# listen = \"0.0.0.0:4000\"\n");
    if let Some(key) = settings.master_key.as_ref().filter(|_| settings.budget.is_none()) {
        if let Some(spot) = &key.moved {
            comment(
                out,
                &format!("{}: the key that stands in {spot}. Set it in the environment.", key.variable),
            );
        }
        comment(
            out,
            "What callers present: general_settings.master_key. Operators have a token of their own (admin_token), by \
             default generated into data_dir. With client keys (docs/clients.md) this one knows no budget: take it out.",
        );
        let _ = writeln!(out, "token = {}", quoted(&format!("env:{}", key.variable)));
    }
    if let Some(size) = settings.body_mebibytes_max {
        let _ = writeln!(out, "body_bytes_max = \"{size}MiB\" # general_settings.max_request_size_mb");
    }
    if settings.json_logs {
        out.push_str("\n[log]\nformat = \"json\" # litellm_settings.json_logs\nrequests = true\n");
    }
    if settings.rows_days.is_some() || settings.when_unavailable.is_some() {
        out.push_str("\n[ledger]\n");
        if let Some(days) = settings.rows_days {
            let _ =
                writeln!(out, "rows_days = {days} # general_settings.maximum_spend_logs_retention_period");
        }
        if let Some(word) = settings.when_unavailable {
            let _ = writeln!(
                out,
                "when_unavailable = \"{word}\" # general_settings.allow_requests_on_db_unavailable"
            );
        }
    }
}

fn numbers(out: &mut String, settings: &Settings<'_>) {
    let time_outs = time_outs(settings.timeout_ms, settings.stream_timeout_ms);
    if !time_outs.is_empty() {
        out.push_str("\n[timeouts]\n");
        comment(
            out,
            "`timeout`, `request_timeout` and `stream_timeout`. `total` is for all attempts together.",
        );
        for (name, value) in time_outs {
            let _ = writeln!(out, "{name} = {value}");
        }
    }
    if let Some((ours, theirs)) = &settings.strategy {
        let _ = writeln!(out, "\n[settings]\nstrategy = \"{ours}\" # {theirs}");
    }
    if settings.failures_min.is_none() && settings.cooldown_ms.is_none() {
        return;
    }
    out.push_str("\n[breaker]\n");
    if let Some(failures) = settings.failures_min {
        comment(
            out,
            "`allowed_fails` and one more, in a minute. Half of all calls must have failed as well, so that a busy key is \
             not rested for a few; `failure_ratio = 0` counts as LiteLLM does.",
        );
        let _ = writeln!(out, "failures_min = {failures}");
    }
    if let Some(ms) = settings.cooldown_ms {
        comment(
            out,
            "`cooldown_time`, doubled each time that a probe fails. A refusal that says when to come back is kept to instead.",
        );
        let _ = writeln!(out, "cooldown_min = {}", duration(ms));
        if ms > 60_000 {
            let _ = writeln!(out, "cooldown_max = {}", duration(ms));
        }
    }
}

/// LiteLLM's time-outs as ours.
fn time_outs(timeout_ms: Option<u64>, stream_timeout_ms: Option<u64>) -> Vec<(&'static str, String)> {
    const TOTAL_MS: u64 = 600_000;
    let longest = timeout_ms.max(stream_timeout_ms).filter(|ms| *ms > TOTAL_MS);
    let list = [
        ("first_byte", stream_timeout_ms.or(timeout_ms)),
        ("first_byte_plain", timeout_ms),
        ("total", longest),
    ];
    list.into_iter().filter_map(|(name, ms)| Some((name, duration(ms?)))).collect()
}

fn provider(out: &mut String, server: &Server) {
    out.push_str("\n[[provider]]\n");
    let _ = writeln!(out, "name = {}", quoted(&server.name));
    match server.address.preset {
        Some(preset) if preset != server.name => {
            let _ = writeln!(out, "preset = \"{preset}\"");
        }
        Some(_) => {}
        None => out.push_str("dialect = \"openai\"\n"),
    }
    if let Some(base) = &server.address.base {
        let _ = writeln!(out, "base_url = {}", quoted(&base.to_string()));
    }
    match server.address.preset {
        Some("anthropic") => comment(
            out,
            "LiteLLM translates chat/completions for Anthropic; here these models are asked by messages. For clients that \
             cannot, Anthropic has an OpenAI-compatible address: add a provider of another name with dialect = \"openai\", \
             base_url = \"https://api.anthropic.com/v1\" and these keys, and name it in the routes instead.",
        ),
        Some("azure") => comment(
            out,
            "The API at /openai/v1, which names the deployment in `model` and takes no api_version.",
        ),
        Some("gemini") => comment(out, "Google's OpenAI-compatible API, where LiteLLM calls Google's own."),
        _ => {}
    }
    if !server.headers.is_empty() {
        let pairs =
            server.headers.iter().map(|(name, value)| format!("{} = {}", quoted(name), quoted(value)));
        let _ = writeln!(out, "headers = {{ {} }}", pairs.collect::<Vec<_>>().join(", "));
    }
    if server.one_account && server.keys.len() > 1 {
        comment(out, "Keys of one organisation share its limits.");
    }
    out.push_str("keys = [\n");
    for key in &server.keys {
        self::key(out, key, server.one_account && server.keys.len() > 1);
    }
    out.push_str("]\n");
}

fn key(out: &mut String, key: &Key, one_account: bool) {
    let from = paths(&key.spots);
    let told = match (key.kind, &key.variable) {
        (Origin::Moved, Some(name)) => {
            format!("The key that stands in litellm_params.api_key of {from}: set {name} to it.")
        }
        (Origin::Implied, Some(_)) => {
            format!("{from}: no api_key is written, so LiteLLM takes this variable.")
        }
        (Origin::Keyless, _) => format!("{from}: without a key."),
        _ => from,
    };
    wrapped(out, "  #", "  #", &told);
    let mut parts = vec![format!("name = {}", quoted(&key.name))];
    match &key.variable {
        Some(variable) => parts.push(format!("secret = {}", quoted(&format!("env:{variable}")))),
        None => parts.push("auth = \"none\"".to_owned()),
    }
    if one_account {
        parts.push("account = \"organization\"".to_owned());
    }
    let limits: Vec<String> =
        key.limits.iter().flat_map(|(model, limits)| self::limits(model, limits)).collect();
    match limits.as_slice() {
        [] => {}
        [one] => parts.push(format!("limits = [{one}]")),
        several => {
            // A line each: an inline table may not break, its lists may.
            let _ = writeln!(out, "  {{ {}, limits = [", parts.join(", "));
            for limit in several {
                let _ = writeln!(out, "    {limit},");
            }
            out.push_str("  ] },\n");
            return;
        }
    }
    let _ = writeln!(out, "  {{ {} }},", parts.join(", "));
}

fn limits(model: &str, limits: &Limits) -> Vec<String> {
    let models = if model == "*" { String::new() } else { format!(", models = [{}]", quoted(model)) };
    let mut list = Vec::new();
    if !limits.amounts.is_empty() {
        let amounts: Vec<String> = limits.amounts.iter().map(|(name, n)| format!("{name} = {n}")).collect();
        list.push(format!("{{ {}{models} }}", amounts.join(", ")));
    }
    if let Some((usd, seconds)) = limits.usd {
        let per = duration(seconds.saturating_mul(1_000));
        list.push(format!("{{ usd = {usd}, per = {per}, shape = \"window\"{models} }}"));
    }
    list
}

fn route(out: &mut String, route: &Route, fleet: &Fleet) {
    out.push_str("\n[[route]]\n");
    let about = route.remark.as_ref().map_or_else(String::new, |text| format!(" # {}", remark(text)));
    let _ = writeln!(out, "model = {}{about}", quoted(&route.model));
    if route.weighted {
        out.push_str("strategy = \"weighted\" # by `weight`, as simple-shuffle does\n");
    }
    out.push_str("tiers = [\n");
    for tier in &route.tiers {
        let targets: Vec<String> = tier.targets.iter().map(|t| target(t, fleet)).collect();
        let about = tier.remark.as_ref().map_or_else(String::new, |text| format!(" # {}", remark(text)));
        let _ = writeln!(out, "  [{}],{about}", targets.join(", "));
    }
    out.push_str("]\n");
    let time_outs = time_outs(route.timeout_ms, route.stream_timeout_ms);
    if !time_outs.is_empty() {
        let pairs: Vec<String> = time_outs.into_iter().map(|(name, ms)| format!("{name} = {ms}")).collect();
        let _ = writeln!(out, "timeouts = {{ {} }}", pairs.join(", "));
    }
}

fn target(target: &Target, fleet: &Fleet) -> String {
    let Some(server) = fleet.servers.get(target.server) else { return String::new() };
    let name = quoted(&format!("{}:{}", server.name, target.model));
    let all: BTreeSet<usize> = (0..server.keys.len()).collect();
    if target.keys == all && target.weight.is_none() {
        return name;
    }
    let mut parts = vec![format!("target = {name}")];
    if target.keys != all {
        let keys = target.keys.iter().filter_map(|k| server.keys.get(*k)).map(|k| quoted(&k.name));
        parts.push(format!("keys = [{}]", keys.collect::<Vec<_>>().join(", ")));
    }
    parts.extend(target.weight.map(|weight| format!("weight = {weight}")));
    format!("{{ {} }}", parts.join(", "))
}

fn client(out: &mut String, settings: &Settings<'_>) {
    let (Some(key), Some((usd, reset))) = (&settings.master_key, &settings.budget) else { return };
    out.push_str("\n[[client]]\n");
    comment(
        out,
        "general_settings.master_key with litellm_settings.max_budget. Further client keys have budgets of their own; a \
         [[team]] bounds several together.",
    );
    if let Some(spot) = &key.moved {
        comment(out, &format!("{}: the key that stands in {spot}. Set it in the environment.", key.variable));
    }
    let _ = writeln!(out, "name = \"master\"\nsecret = {}", quoted(&format!("env:{}", key.variable)));
    let _ = writeln!(out, "budget = {usd}\nreset = \"{reset}\"");
}

fn price(out: &mut String, price: &Price) {
    let _ = writeln!(out, "\n[[price]] # US dollars for a million tokens\nmodel = {}", quoted(&price.model));
    for (name, usd) in &price.rates {
        let digits = format!("{usd:.9}");
        let digits = digits.trim_end_matches('0').trim_end_matches('.');
        let _ = writeln!(out, "{name} = {digits}");
    }
}

fn notes(out: &mut String, notes: &[Note]) {
    for (kind, title) in [
        (Kind::LeftOut, "Deployments that were left out:"),
        (Kind::Setting, "Settings without a counterpart, or that mean something else here:"),
    ] {
        let mut of_kind = notes.iter().filter(|n| n.kind == kind).peekable();
        if of_kind.peek().is_some() {
            let _ = writeln!(out, "\n# {title}");
        }
        for note in of_kind {
            out.push_str("#\n");
            for spot in &note.spots {
                let _ = writeln!(out, "# {spot}");
            }
            wrapped(out, "#    ", "#    ", &note.why);
            wrapped(out, "#     instead:", "#    ", &note.instead);
        }
    }
}
