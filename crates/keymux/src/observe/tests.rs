//! What is counted where, what the configuration's end takes along, and that nothing of a client's is shown.

use super::*;
use crate::happening::{self, Happening};
use crate::scheduler::{Answer, Held};
use crate::serve::Gateway;
use crate::story::{Outcome, Story};
use keymux_config::{Config, World, from_toml};
use keymux_policy::budget::Spent;
use keymux_policy::fleet::{Dimension, Endpoint};
use keymux_policy::outcome::LimitScope;
use keymux_policy::{
    Ask, ClientId, Destination, End, Evidence, Measurement, Phase, Priority, Sign, Size, TeamId, Used,
};
use std::sync::Arc;

const FILE: &str = r#"
[server]
data_dir = "unused"
[ledger]
database = "off"
[[provider]]
name = "one"
dialect = "openai"
base_url = "http://one.test/v1"
keys = [
  { name = "a", account = "x", auth = "none" },
  { name = "b", account = "x", auth = "none", limits = [{ concurrent = 4 }] },
]
limits = [{ rpm = 60, models = ["m*"] }]
[[route]]
model = "plain"
tiers = [["one:m"]]
[[team]]
name = "crew"
budget = 2.0
[[client]]
name = "file"
team = "crew"
secret = "literal:declared-key-0123456789"
budget = 1.0
"#;

fn config(text: &str) -> Config {
    let world = World {
        env: &|_| None,
        env_names: &[],
        read: &|_| Err(std::io::ErrorKind::NotFound.into()),
        run: &|_| Err(String::new()),
    };
    from_toml("test", text, &world).map_err(|p| p.render("test", text, false)).unwrap()
}

fn gateway(text: &str) -> Arc<Gateway> {
    Gateway::new(config(text), 10, 1, (crate::clock::Clock::start(), None)).unwrap()
}

/// The value of a series, as it stands in a scrape.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

fn lease(gateway: &Arc<Gateway>, model: &str) -> Held {
    let snapshot = gateway.live.load_full();
    let ask = Ask {
        to: Destination::Adhoc { provider: snapshot.provider_ids[0], model: model.into() },
        endpoint: Endpoint::ChatCompletions,
        client: ClientId::default(),
        team: TeamId::default(),
        class: Priority::Normal,
        weight: 1.0,
        deadline_mono_ns: gateway.clock.mono_ns(),
        size: Size::default(),
        cost_max_nano_usd: None,
        session: None,
        bound_to: None,
        allowed: None,
        providers: None,
        stream: false,
    };
    match gateway.scheduler.submit(gateway.clock.now(), ask) {
        Answer::Go(held) => held,
        _ => panic!("no lease"),
    }
}

/// A request for a model that is answered, having used this.
fn answered(gateway: &Arc<Gateway>, model: &str, route: Option<usize>, used: Used) {
    let snapshot = gateway.live.load_full();
    let now = gateway.clock.now();
    let mut story = Story::begin(gateway, "id".into(), (Endpoint::ChatCompletions, None), now);
    story.asks_for(model, false);
    story.planned(snapshot.counters(route), Priority::Normal);
    let held = lease(gateway, model);
    let lease = held.lease().unwrap();
    let (upstream, key) = (snapshot.upstream(lease.provider).unwrap(), snapshot.key(lease.key).unwrap());
    story.attempt(upstream, key, lease, now.mono_ns);
    key.counters.attempt(None);
    story.first_output(now.mono_ns + 7_000_000);
    story.end(Outcome::Answered, 200, Some(used));
    drop(held.finish(done(used)));
}

fn done(used: Used) -> keymux_policy::Outcome {
    keymux_policy::Outcome { end: End::Done, used: Some(used), committed: true, first_output_ns: None }
}

#[test]
fn a_client_cannot_make_series() {
    let gateway = gateway(FILE);
    let headers = Measurement {
        dimension: Dimension::TotalTokens,
        daily: false,
        account_wide: false,
        limit: Some(1_000.0),
        remaining: Some(250.0),
        rounding: 0.0,
        reset_ns: Some(60_000_000_000),
        reset_means_full: true,
    };
    for model in ["sly-1", "sly-2"] {
        let held = lease(&gateway, model);
        held.head(&[headers]);
        let sign = Sign::Overloaded;
        let evidence = Evidence {
            phase: Phase::Head,
            status: Some(503),
            sign,
            relayed: false,
            retry_after_ns: None,
            limit: None,
            requested: None,
        };
        let end = End::Failed(evidence);
        drop(held.finish(keymux_policy::Outcome { end, used: None, committed: true, first_output_ns: None }));
        answered(&gateway, &format!("{model}-more"), None, Used::default());
    }
    let text = scrape(&gateway);
    assert!(!text.contains("sly"), "{text}");
    let of_x = "keymux_limit_headroom_ratio{provider=\"one\",account=\"x\"";
    let left = value(&text, &format!("{of_x},key=\"\",limit=\"tokens\",models=\"other\"}}"));
    assert!(left.is_some_and(|left| (0.2..0.3).contains(&left)), "{text}");
    assert!(value(&text, &format!("{of_x},key=\"\",limit=\"requests\",models=\"m*\"}}")).is_some(), "{text}");
    assert_eq!(
        value(&text, &format!("{of_x},key=\"b\",limit=\"concurrent\",models=\"\"}}")),
        Some(1.0),
        "{text}"
    );
    let asked = "keymux_requests_total{model=\"other\",endpoint=\"chat/completions\",outcome=\"answered\"}";
    assert_eq!(value(&text, asked), Some(2.0), "{text}");
    let times = "keymux_attempt_first_output_seconds_count{provider=\"one\",model=\"other\"}";
    assert_eq!(value(&text, times), Some(2.0), "{text}");
    assert_eq!(
        value(&text, "keymux_provider_models_without_capacity{provider=\"one\"}"),
        Some(2.0),
        "{text}"
    );
}

#[test]
fn a_route_may_be_called_as_the_rest_is() {
    let more = "[[route]]\nmodel = \"other\"\ntiers = [[\"one:other\"]]\n";
    let gateway = gateway(&format!("{FILE}{more}"));
    answered(&gateway, "other", Some(1), Used::default());
    answered(&gateway, "unheard-of", None, Used::default());
    answered(&gateway, "m", Some(0), Used::default());
    let text = scrape(&gateway);
    let series: Vec<&str> = text.lines().filter_map(|line| line.rsplit_once(' ').map(|(s, _)| s)).collect();
    let told = |part: &str| series.iter().filter(|s| s.contains(part)).count();
    assert_eq!(told("keymux_request_seconds_count{model=\"other\"}"), 1, "{text}");
    assert_eq!(told("keymux_attempt_seconds_count{provider=\"one\",model=\"other\"}"), 1, "{text}");
    assert_eq!(value(&text, "keymux_request_seconds_count{model=\"other\"}"), Some(2.0), "{text}");
    assert_eq!(value(&text, "keymux_request_seconds_count{model=\"plain\"}"), Some(1.0), "{text}");
    let fast = "keymux_first_output_seconds_bucket{le=\"0.005\",model=\"plain\"}";
    let slow = "keymux_first_output_seconds_bucket{le=\"0.02\",model=\"plain\"}";
    assert_eq!(
        (value(&text, fast), value(&text, slow)),
        (Some(0.0), Some(1.0)),
        "buckets are cumulative: {text}"
    );
}

#[test]
fn what_a_reload_removed_is_gone_and_what_it_kept_counts_on() {
    let gateway = gateway(FILE);
    let used = Used { input_tokens: 10, cached_input_tokens: 4, output_tokens: 5, ..Used::default() };
    answered(&gateway, "m", Some(0), used);
    // In flight while it is removed.
    let held: Vec<Held> = (0..3).map(|_| lease(&gateway, "m")).collect();
    let sum = |text: &str, name: &str| -> u64 {
        let of = |line: &str| line.starts_with(name).then(|| line.rsplit_once(' ')?.1.parse::<u64>().ok())?;
        text.lines().filter_map(of).sum()
    };
    let text = scrape(&gateway);
    assert_eq!(sum(&text, "keymux_tokens_total"), 15, "each token once: {text}");
    assert_eq!(sum(&text, "keymux_key_in_flight_attempts"), 3, "{text}");
    assert!(text.contains("key=\"b\"") && text.contains("model=\"plain\""), "{text}");
    let without_b = FILE.replace(
        "  { name = \"b\", account = \"x\", auth = \"none\", limits = [{ concurrent = 4 }] },\n",
        "",
    );
    let without = without_b.replace("model = \"plain\"", "model = \"renamed\"");
    gateway.reconfigure(config(&without)).unwrap();
    let text = scrape(&gateway);
    assert!(!text.contains("key=\"b\"") && !text.contains("model=\"plain\""), "{text}");
    gateway.reconfigure(config(FILE)).unwrap();
    let text = scrape(&gateway);
    assert_eq!(sum(&text, "keymux_attempts_total"), 1, "{text}");
    assert_eq!(value(&text, "keymux_request_seconds_count{model=\"plain\"}"), Some(1.0), "{text}");
    drop(held);
}

#[test]
fn a_state_is_one_and_ends_by_time() {
    let gateway = gateway(FILE);
    let held = lease(&gateway, "m");
    let key = gateway.live.load().key(held.lease().unwrap().key).unwrap().name.clone();
    let refused = |sign, retry_after_ns| {
        let evidence = Evidence {
            phase: Phase::Head,
            status: Some(429),
            sign,
            relayed: false,
            retry_after_ns,
            limit: None,
            requested: None,
        };
        let end = End::Failed(evidence);
        keymux_policy::Outcome { end, used: None, committed: true, first_output_ns: None }
    };
    let own = Sign::RateLimited { dimension: None, scope: LimitScope::Key, daily: false };
    drop(held.finish(refused(own, Some(400_000_000))));
    let states = |text: &str| -> Vec<String> {
        let of_key = format!("keymux_key_state{{provider=\"one\",account=\"x\",key=\"{key}\",state=\"");
        text.lines()
            .filter_map(|l| l.strip_prefix(&of_key)?.strip_suffix("\"} 1").map(str::to_owned))
            .collect()
    };
    assert_eq!(states(&scrape(&gateway)), ["limited"]);
    // Nothing happens but time.
    while states(&scrape(&gateway)) != ["ready"] {
        std::thread::yield_now();
    }
    let held = lease(&gateway, "m");
    let key = gateway.live.load().key(held.lease().unwrap().key).unwrap().name.clone();
    drop(held.finish(refused(Sign::KeyRefused, None)));
    let text = scrape(&gateway);
    let of_key = format!("{{provider=\"one\",account=\"x\",key=\"{key}\"");
    assert_eq!(value(&text, &format!("keymux_key_state{of_key},state=\"benched\"}}")), Some(1.0), "{text}");
    assert!(
        value(&text, &format!("keymux_key_cooldown_seconds{of_key}}}")).is_some_and(|s| s > 1.0),
        "{text}"
    );
    assert_eq!(value(&text, "keymux_account_benched{provider=\"one\",account=\"x\"}"), Some(0.0), "{text}");
}

#[test]
fn budgets_of_the_configuration_are_told() {
    let gateway = gateway(FILE);
    let owner = gateway.directory.owner(true, "crew");
    gateway.turnstile.restore(&[(owner, Spent { ever: 1_500_000_000, ..Spent::default() })]);
    let text = scrape(&gateway);
    assert_eq!(value(&text, "keymux_budget_spent_ratio{owner=\"team\",name=\"crew\"}"), Some(0.75), "{text}");
    assert_eq!(
        value(&text, "keymux_budget_spent_ratio{owner=\"client\",name=\"file\"}"),
        Some(0.0),
        "{text}"
    );
    let age_s = value(&text, "keymux_price_table_age_seconds").unwrap();
    let year_s = 365.0 * 86_400.0;
    assert!((0.0..50.0 * year_s).contains(&age_s), "{age_s}");
}

#[test]
fn tokens_and_money_are_counted_by_kind_and_what_is_unknown_apart() {
    use keymux_store::{CostSource, Used};
    let key = KeyCounters::default();
    key.used(&Used {
        input_tokens: 100,
        cached_input_tokens: 30,
        cache_write_tokens: 20,
        input_audio_tokens: 10,
        output_tokens: 50,
        reasoning_tokens: 40,
        output_audio_tokens: 1,
        cost_nano_usd: Some(2_500_000_000),
        cost_source: CostSource::Prices,
        estimated: false,
    });
    key.used(&Used { input_tokens: 1, ..Used::default() });
    let tokens: Vec<u64> = key.tokens().map(|(_, n)| n).collect();
    assert_eq!(tokens, [41, 30, 20, 10, 9, 40, 1]);
    let cost: Vec<(&str, f64)> = key.cost_usd().collect();
    assert_eq!(cost, [("provider", 0.0), ("prices", 2.5), ("reserved", 0.0)]);
    assert_eq!(key.unpriced(), 1);
}

#[test]
fn a_scrape_that_tells_of_an_event_shows_the_state_after_it() {
    let gateway = gateway(FILE);
    let earlier = scrape::Scrape::of(gateway.clone());
    let without_b = FILE.replace("  { name = \"b\", account", "  { name = \"c\", account");
    gateway.reconfigure(config(&without_b)).unwrap();
    gateway.tell(Happening::new(happening::Kind::Reloaded, "configuration", String::new()));
    gateway.metrics.config_refused(true);
    // What it shows is of before, so it may tell neither.
    let earlier = scrape::write(earlier);
    assert!(earlier.contains(r#"key="b""#), "{earlier}");
    assert_eq!(value(&earlier, r#"keymux_events_total{event="reloaded"}"#), Some(0.0));
    assert_eq!(value(&earlier, "keymux_config_last_reload_successful"), Some(1.0));
    let later = scrape::write(scrape::Scrape::of(gateway));
    assert!(!later.contains(r#"key="b""#), "{later}");
    assert_eq!(value(&later, r#"keymux_events_total{event="reloaded"}"#), Some(1.0));
    assert_eq!(value(&later, "keymux_config_last_reload_successful"), Some(0.0));
}

#[test]
fn prices_are_old_for_the_alert_when_they_are_for_the_check() {
    let alerts = include_str!("../../../../packaging/prometheus/alerts.yml");
    let days = keymux_config::prices::OLD_DAYS;
    assert!(alerts.contains(&format!("keymux_price_table_age_seconds > {days} * 86400\n")), "{alerts}");
}
