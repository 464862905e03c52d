//! `router_settings`, `litellm_settings` and `general_settings`: what of them has a counterpart.

use super::deployment::{SECONDS, millis, seconds};
use super::fields::{Env, Fields, Found, variable};
use super::notes::{Notes, Spot};
use super::reasons;
use super::routes::Routing;

/// Where LiteLLM looks for the address of a Slack channel.
pub(super) const SLACK_VARIABLE: &str = "SLACK_WEBHOOK_URL";

/// What they come to.
#[derive(Default)]
pub(super) struct Settings<'a> {
    pub(super) routing: Routing<'a>,
    /// A strategy for all routes, and LiteLLM's name of it.
    pub(super) strategy: Option<(&'static str, String)>,
    pub(super) timeout_ms: Option<u64>,
    pub(super) stream_timeout_ms: Option<u64>,
    pub(super) failures_min: Option<u64>,
    pub(super) cooldown_ms: Option<u64>,
    /// Requests at once for deployments that do not say it.
    pub(super) parallel: Option<f64>,
    pub(super) json_logs: bool,
    pub(super) master_key: Option<MasterKey>,
    pub(super) body_mebibytes_max: Option<u64>,
    pub(super) rows_days: Option<u64>,
    pub(super) when_unavailable: Option<&'static str>,
    /// Whether a Slack channel is told what is wrong.
    pub(super) slack: bool,
    /// Dollars, and when they are whole again.
    pub(super) budget: Option<(f64, &'static str)>,
}

/// What all callers may present.
pub(super) struct MasterKey {
    pub(super) variable: String,
    /// Where it stands, if it has to be moved into the variable.
    pub(super) moved: Option<Spot>,
}

/// The three sections; those that are missing are empty.
pub(super) struct Sections<'a> {
    pub(super) router: Fields<'a>,
    pub(super) litellm: Fields<'a>,
    pub(super) general: Fields<'a>,
}

const COUNT: (&str, fn(f64) -> bool) =
    ("a whole number, 0 or more", |n| (0.0..=1e9).contains(&n) && n.fract() == 0.0);
const SLOTS: (&str, fn(f64) -> bool) =
    ("a whole number of at least 1", |n| (1.0..=1e9).contains(&n) && n.fract() == 0.0);
const SIZE: (&str, fn(f64) -> bool) = ("a size in MB", |n| (1.0..=1e6).contains(&n));
const USD: (&str, fn(f64) -> bool) = ("US dollars", |n| n > 0.0 && n <= 1e9);

/// Reads them, and lists what is left.
pub(super) fn read<'a>(mut all: Sections<'a>, env: &Env<'_>, notes: &mut Notes) -> Settings<'a> {
    let mut settings = Settings { routing: routing(&mut all, notes), ..Settings::default() };
    strategy(&mut all, &mut settings, env, notes);
    time_outs(&mut all, &mut settings, env, notes);
    failures(&mut all, &mut settings, env, notes);
    for (fields, name) in
        [(&mut all.router, "default_max_parallel_requests"), (&mut all.general, "max_parallel_requests")]
    {
        let slots = fields.number(name, SLOTS, env, notes).map(|(n, _)| n);
        settings.parallel = settings.parallel.or(slots);
    }
    settings.json_logs = all.litellm.flag("json_logs", notes).is_some_and(|(on, _)| on);
    general(&mut all, &mut settings, env, notes);
    budget(&mut all, &mut settings, env, notes);
    all.router.rest(&reasons::of_router, notes);
    all.litellm.rest(&reasons::of_litellm, notes);
    all.general.rest(&reasons::of_general, notes);
    settings
}

/// What may stand in either section; LiteLLM prefers the router's.
fn either<'a>(all: &mut Sections<'a>, name: &str, notes: &mut Notes) -> Option<Found<'a>> {
    let router = all.router.take(name);
    let litellm = all.litellm.take(name);
    if let (Some(_), Some(other)) = (&router, &litellm) {
        let why = "is set in router_settings, too, which counts";
        notes.setting(other.spot.clone(), why, "take one of them out");
    }
    router.or(litellm)
}

fn routing<'a>(all: &mut Sections<'a>, notes: &mut Notes) -> Routing<'a> {
    let aliases = [all.router.take("model_group_alias"), all.litellm.take("model_alias_map")];
    Routing {
        fallbacks: either(all, "fallbacks", notes).into_iter().collect(),
        default_fallbacks: either(all, "default_fallbacks", notes),
        aliases: aliases.into_iter().flatten().collect(),
        by_weight: true,
    }
}

fn strategy(all: &mut Sections<'_>, settings: &mut Settings<'_>, env: &Env<'_>, notes: &mut Notes) {
    let Some((name, spot)) = all.router.text("routing_strategy", env, notes) else { return };
    settings.routing.by_weight = name == "simple-shuffle";
    let ours = match name.as_str() {
        "simple-shuffle" => return,
        "least-busy" => "least_in_flight",
        "usage-based-routing" | "usage-based-routing-v2" => "headroom",
        "latency-based-routing" => "fastest",
        "cost-based-routing" => {
            let why = "there is no choice by price among targets side by side";
            notes.setting(spot, why, "put the cheaper target into an earlier tier");
            return;
        }
        _ => {
            let instead = "`keymux check --schema` lists the strategies; without one, the target with the most room is taken";
            notes.setting(spot, "is a strategy that is not known here", instead);
            return;
        }
    };
    settings.strategy = Some((ours, name));
}

fn time_outs(all: &mut Sections<'_>, settings: &mut Settings<'_>, env: &Env<'_>, notes: &mut Notes) {
    let router = all.router.number("timeout", SECONDS, env, notes);
    let litellm = all.litellm.number("request_timeout", SECONDS, env, notes);
    if let (Some(_), Some((_, spot))) = (&router, &litellm) {
        notes.setting(spot.clone(), "router_settings.timeout counts", "take one of them out");
    }
    settings.timeout_ms = router.or(litellm).map(|(n, _)| millis(n));
    settings.stream_timeout_ms =
        all.router.number("stream_timeout", SECONDS, env, notes).map(|(n, _)| millis(n));
}

fn failures(all: &mut Sections<'_>, settings: &mut Settings<'_>, env: &Env<'_>, notes: &mut Notes) {
    for fields in [&mut all.router, &mut all.litellm] {
        // It rests after more than so many failures in a minute.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number up to 10^9"
        )]
        let failures = fields.number("allowed_fails", COUNT, env, notes).map(|(n, _)| n as u64 + 1);
        let cooldown = fields.number("cooldown_time", SECONDS, env, notes).map(|(n, _)| millis(n));
        settings.failures_min = settings.failures_min.or(failures);
        settings.cooldown_ms = settings.cooldown_ms.or(cooldown);
    }
}

fn general(all: &mut Sections<'_>, settings: &mut Settings<'_>, env: &Env<'_>, notes: &mut Notes) {
    settings.master_key = all.general.take("master_key").and_then(|found| master_key(found, notes));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and a million")]
    let size = all.general.number("max_request_size_mb", SIZE, env, notes).map(|(n, _)| n.ceil() as u64);
    settings.body_mebibytes_max = size;
    if let Some((text, spot)) = all.general.text("maximum_spend_logs_retention_period", env, notes) {
        settings.rows_days = seconds(&text).map(|s| s.div_ceil(86_400));
        if settings.rows_days.is_none() {
            notes.setting(spot, "is a period that is not understood", "[ledger] rows_days");
        }
    }
    let unavailable = all.general.flag("allow_requests_on_db_unavailable", notes);
    settings.when_unavailable = unavailable.map(|(serve, _)| if serve { "serve" } else { "refuse" });
    let alerting = all.general.take("alerting");
    settings.slack = alerting.is_some_and(|found| slack(&found, notes));
}

/// Whether Slack is among those that are told; others are listed.
fn slack(found: &Found<'_>, notes: &mut Notes) -> bool {
    let one = std::slice::from_ref(found.node);
    let mut slack = false;
    for (index, item) in found.node.list().unwrap_or(one).iter().enumerate() {
        if item.text() == Some("slack") {
            slack = true;
        } else {
            let why = "is told in a way that there is none of here";
            let instead = "[[webhook]] with kind = \"json\", \"slack\" or \"feishu\" (docs/webhooks.md)";
            notes.setting(found.spot.item(index, item.line), why, instead);
        }
    }
    slack
}

fn master_key(found: Found<'_>, notes: &mut Notes) -> Option<MasterKey> {
    let Some(text) = found.node.text() else {
        notes.setting(found.spot, "is no text", "write [server] token = \"env:NAME\"");
        return None;
    };
    let named = variable(text);
    Some(match named {
        Some(name) => MasterKey { variable: name.to_owned(), moved: None },
        None => MasterKey { variable: "LITELLM_MASTER_KEY".to_owned(), moved: Some(found.spot) },
    })
}

/// A budget of the whole proxy is one of the only caller that the file knows: who has the master key.
fn budget(all: &mut Sections<'_>, settings: &mut Settings<'_>, env: &Env<'_>, notes: &mut Notes) {
    let usd = all.litellm.number("max_budget", USD, env, notes);
    let period = all.litellm.text("budget_duration", env, notes);
    let reset = match period.as_ref().map(|(text, _)| seconds(text)) {
        None => "never",
        Some(Some(86_400)) => "daily",
        Some(Some(604_800)) => "weekly",
        // Thirty days are what LiteLLM has for a month.
        Some(Some(2_592_000 | 2_678_400)) => "monthly",
        Some(_) => {
            if let Some((_, spot)) = period {
                let why = "is no day, week or month, after which budgets are whole again here";
                notes.setting(spot, why, "`reset` in the [[client]]");
            }
            "never"
        }
    };
    match usd {
        Some((usd, _)) if settings.master_key.is_some() => settings.budget = Some((usd, reset)),
        Some((_, spot)) => {
            let why = "is a budget of everybody together, and budgets here belong to client keys and teams";
            notes.setting(
                spot,
                why,
                "give a [[team]] the budget and each [[client]] that team (docs/clients.md)",
            );
        }
        None => {}
    }
}
