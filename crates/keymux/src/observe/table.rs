//! Every metric of the process, defined once: what a scrape says and `docs/metrics.md` are made from this table, so
//! they cannot part. Labels are names of the configuration and fixed words. Where each value comes from stands in
//! `scrape`, which cannot leave one out.

use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// A state.
    Gauge,
    /// How often which time was seen.
    Histogram,
}

/// One row of the table.
#[derive(Debug)]
pub struct Definition {
    /// Which.
    pub metric: Metric,
    /// Its name, without unit and suffix.
    stem: &'static str,
    /// What it is.
    pub kind: Kind,
    /// The unit that its name ends with; empty for plain numbers.
    unit: &'static str,
    /// The labels of its series, in order.
    pub labels: &'static [&'static str],
    /// What it says, for people.
    pub help: &'static str,
}

macro_rules! table {
    ($($metric:ident = $stem:literal, $kind:ident, $unit:literal, [$($label:literal),*], $help:literal;)*) => {
        /// The metrics.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Metric { $(#[doc = $help] $metric),* }

        /// All rows, in the order in which they are told.
        pub const TABLE: &[Definition] = &[$(Definition {
            metric: Metric::$metric, stem: $stem, kind: Kind::$kind, unit: $unit, labels: &[$($label),*], help: $help,
        }),*];
    };
}

table! {
    Requests = "keymux_requests", Counter, "", ["model", "endpoint", "outcome"], "Requests that are over, by route and how they ended.";
    Refusals = "keymux_refusals", Counter, "", ["reason"], "Requests that keymux itself refused, by the error's code.";
    InFlight = "keymux_in_flight_requests", Gauge, "", [], "Requests being served, those that wait included.";
    RequestSeconds = "keymux_request", Histogram, "seconds", ["model"], "Whole requests, from their arrival to their end.";
    FirstOutputSeconds = "keymux_first_output", Histogram, "seconds", ["model"], "From a request's arrival to its first output.";
    Attempts = "keymux_attempts", Counter, "", ["provider", "key", "outcome"], "Attempts that are over: answered, or whose fault it was that they were not. A class of blame appears with its first failure.";
    AttemptSeconds = "keymux_attempt", Histogram, "seconds", ["provider", "model"], "Attempts that were answered whole, from their beginning to their end, by the provider's name of the model.";
    AttemptFirstOutputSeconds = "keymux_attempt_first_output", Histogram, "seconds", ["provider", "model"], "From an attempt's beginning to its first output.";
    Retries = "keymux_retries", Counter, "", [], "Attempts after a request's first.";
    RetryBudget = "keymux_retry_budget_left", Gauge, "", [], "Retries that the share of recent requests allows now; below one, only those that each second has in any case are left.";
    Tokens = "keymux_tokens", Counter, "", ["provider", "key", "direction", "kind"], "Tokens used, each counted in one kind; with the ledger's figures, estimates included.";
    Cost = "keymux_cost", Counter, "usd", ["provider", "key", "source"], "What requests cost, by who says so: the provider, the price table, or what was reserved since nobody knows.";
    Unpriced = "keymux_unpriced_requests", Counter, "", ["provider", "key"], "Requests whose cost nobody knows; it is in no sum.";
    Waiting = "keymux_waiting_requests", Gauge, "", ["class"], "Requests in the waiting room, by priority.";
    WaitingTurn = "keymux_waiting_turn_requests", Gauge, "", [], "Requests that wait for a limit or budget of their own client or team.";
    WaitingBytes = "keymux_waiting", Gauge, "bytes", [], "Bodies of the requests in the waiting room.";
    WaitSeconds = "keymux_wait", Histogram, "seconds", ["class"], "Time that requests waited before an attempt, of those that did, by priority.";
    Headroom = "keymux_limit_headroom_ratio", Gauge, "", ["provider", "account", "key", "limit", "models"], "What is left of a limit, as a share of its size; of several that look alike, the least. Without a key it is the account's, without models it is for all of them.";
    KeyState = "keymux_key_state", Gauge, "", ["provider", "account", "key", "state"], "1 for the state that a key is in at this moment, else 0. A state that ends by time ends here by itself.";
    KeyCooldown = "keymux_key_cooldown", Gauge, "seconds", ["provider", "account", "key"], "Time until a benched key is tried again; 0 for one that is not.";
    KeyInFlight = "keymux_key_in_flight_attempts", Gauge, "", ["provider", "account", "key"], "Attempts in flight with a key.";
    KeyBreakers = "keymux_key_breakers_open", Gauge, "", ["provider", "account", "key"], "Models for which a key's breaker is open.";
    KeyCheckAge = "keymux_key_check_age", Gauge, "seconds", ["provider", "account", "key"], "Time since a check last found out how a key is.";
    Checks = "keymux_checks", Counter, "", ["result"], "Free calls of the gateway's own that ask how keys are, by what they found.";
    AccountBenched = "keymux_account_benched", Gauge, "", ["provider", "account"], "1 while an account as a whole is out, for want of credit as a rule, else 0.";
    ProviderKeys = "keymux_provider_keys", Gauge, "", ["provider"], "Keys of a provider that are not switched off, those whose state is not told too.";
    ProviderKeysOut = "keymux_provider_keys_out", Gauge, "", ["provider"], "Those of them that are benched, or whose account is.";
    ProviderOut = "keymux_provider_out", Gauge, "", ["provider"], "1 while a provider's own breaker is open, else 0.";
    ProviderNoCapacity = "keymux_provider_models_without_capacity", Gauge, "", ["provider"], "Models that a provider has no capacity for, or that fail there with every key.";
    KeysLeftOut = "keymux_keys_left_out", Gauge, "", [], "Keys beyond the first thousand, whose state is not told.";
    Events = "keymux_events", Counter, "", ["event"], "What happened, by kind; each stands in the log and on the page too.";
    EventsDropped = "keymux_events_dropped", Counter, "", [], "Events that came faster than they could be told.";
    EstimateError = "keymux_input_estimate_error_ratio", Gauge, "", [], "By how much calibrated estimates of input tokens were off lately, as a share of what was reported.";
    BudgetSpent = "keymux_budget_spent_ratio", Gauge, "", ["owner", "name"], "What is spent of a budget in its running period, as a share of it, of the clients and teams that the configuration declares.";
    PriceTableAge = "keymux_price_table_age", Gauge, "seconds", [], "Age of the table of prices.";
    ConfigGood = "keymux_config_last_reload_successful", Gauge, "", [], "0 while the configuration as it stands in its file is refused, else 1.";
    LedgerUp = "keymux_ledger_up", Gauge, "", [], "1 if the ledger's database takes rows, else 0.";
    LedgerBuffered = "keymux_ledger_buffered_entries", Gauge, "", [], "Entries in memory, not in the ledger's log yet.";
    LedgerLog = "keymux_ledger_log", Gauge, "bytes", [], "The ledger's log: what waits for the database or is open.";
    LedgerCapacity = "keymux_ledger_log_capacity", Gauge, "bytes", [], "The size of the log.";
    LedgerLogRows = "keymux_ledger_log_rows", Gauge, "", [], "Rows in the log that the database lacks.";
    LedgerOldest = "keymux_ledger_oldest_row_age", Gauge, "seconds", [], "Age of the oldest row that the database lacks; 0 if there is none.";
    LedgerWritable = "keymux_ledger_log_writable", Gauge, "", [], "1 if the log can be written, else 0.";
    LedgerOpen = "keymux_ledger_open_reservations", Gauge, "", [], "Reservations of money that are open.";
    LedgerRows = "keymux_ledger_rows", Counter, "", [], "Rows that the database took.";
    LedgerLost = "keymux_ledger_lost_entries", Counter, "", [], "Entries that were lost: log and memory were full.";
    LedgerDamaged = "keymux_ledger_damaged", Counter, "bytes", [], "Damaged bytes that were cut out of the log.";
    TracesSent = "keymux_traces_sent", Counter, "", [], "Requests whose spans a collector took.";
    TracesDropped = "keymux_traces_dropped", Counter, "", [], "Requests whose spans no collector took.";
    Connections = "keymux_connections", Gauge, "", [], "Open connections of clients.";
    HeldBytes = "keymux_held_bodies", Gauge, "bytes", [], "Bodies of requests that are held in memory.";
    Draining = "keymux_draining", Gauge, "", [], "1 while the gateway is stopping, else 0.";
    BuildInfo = "keymux_build_info", Gauge, "", ["version"], "Always 1; the version that runs.";
    ProcessCpu = "process_cpu", Counter, "seconds", [], "CPU time of the process, user and system.";
    ProcessResident = "process_resident_memory", Gauge, "bytes", [], "Resident memory of the process.";
    ProcessOpenFds = "process_open_fds", Gauge, "", [], "Open file descriptors.";
    ProcessMaxFds = "process_max_fds", Gauge, "", [], "File descriptors that may be open.";
    ProcessThreads = "process_threads", Gauge, "", [], "Threads of the process.";
    ProcessStart = "process_start_time", Gauge, "seconds", [], "When the process started, in seconds since 1970.";
}

impl Definition {
    /// The name and the unit apart, as an encoder wants them.
    pub(super) fn parts(&self) -> (&'static str, Option<Unit>) {
        let unit = match self.unit {
            "" => None,
            "seconds" => Some(Unit::Seconds),
            "bytes" => Some(Unit::Bytes),
            other => Some(Unit::Other(other.to_owned())),
        };
        (self.stem, unit)
    }

    /// The kind, as an encoder wants it.
    pub(super) fn metric_type(&self) -> MetricType {
        match self.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        }
    }

    /// The name of its series, as they are queried; a histogram's have `_bucket`, `_sum` or `_count` behind it.
    pub fn name(&self) -> String {
        let unit = if self.unit.is_empty() { String::new() } else { format!("_{}", self.unit) };
        let suffix = if self.kind == Kind::Counter { "_total" } else { "" };
        format!("{}{unit}{suffix}", self.stem)
    }
}

/// `docs/metrics.md`, generated so that it cannot drift from the table.
pub fn docs() -> String {
    use std::fmt::Write as _;
    let mut text = String::from(INTRODUCTION);
    for row in TABLE {
        let kind = match row.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<String> = row.labels.iter().map(|label| format!("`{label}`")).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| `{}` | {kind} | {} | {} |", row.name(), labels.join(", "), row.help);
    }
    text
}

const INTRODUCTION: &str = "# Metrics

Generated from `crates/keymux/src/observe/table.rs`; a test keeps it fresh.

`GET /metrics` on the admin listener, with the admin token as `Authorization: Bearer …`, in the OpenMetrics format:

```yaml
scrape_configs:
  - job_name: keymux
    authorization: { credentials_file: /etc/prometheus/keymux-token }
    static_configs: [{ targets: [\"127.0.0.1:4001\"] }]
```

The file is a copy of the token that Prometheus may read, the generated one being its owner's alone:
`sudo install -o prometheus -m 400 /var/lib/keymux/admin-token /etc/prometheus/keymux-token`.

`packaging/prometheus/alerts.yml` has alerts over these, each with a section in `docs/operations.md`;
`packaging/grafana/keymux.json` is a dashboard.

- Labels are names of the configuration and fixed words, never what a client sent. `model` is a route's name (for
  attempts, the provider's name of a model that a route leads to), and `other` for every name besides.
- State (keys, limits, breakers, the waiting room) is read when it is asked for: what ends by time is over here at that
  time, and what a reload removed is gone. Counters of a key go on where they were if it comes back.
- `endpoint` is the path, such as `chat/completions`. A request's `outcome` is `answered`, `provider_error` (relayed),
  `refused` (by keymux; see `keymux_refusals_total`), `broken` (after its first bytes) or `client_gone`; an attempt's is
  `answered` or a class of blame: `request`, `key`, `account`, `quota`, `capacity`, `target`, `provider`, `client`, `local`.
- `direction` and `kind` of tokens: `input` is `plain`, `cached`, `cache_write` or `audio`, `output` is `plain`, `reasoning`
  or `audio`; together they are all tokens.
- `state` of a key: `ready`, `limited` (a limit is used up), `failing` (a breaker is open), `benched` (refused or out of
  credit), `disabled`. `limit` is what is counted: `requests`, `tokens`, `input_tokens`, `output_tokens`, `concurrent` or `usd`,
  with `_day` for those of a day.
- `result` of checks: `works`, `refused`, `used_up`, `no_credit`, `unfit` or `unknown` (its provider was not reached, or said
  nothing of the key), as `keymux keys` [tells it](keys.md). With `checks.every = \"0s\"` nobody asks.
- Without a ledger (`ledger.database = \"off\"`) there are no `keymux_ledger_…` series, and none for what is not known yet.

| metric | kind | labels | meaning |
| --- | --- | --- | --- |
";

#[cfg(test)]
mod tests {
    use super::*;

    const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");

    #[test]
    fn the_documentation_is_fresh() {
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(DOCS, docs()).unwrap();
        }
        let written = std::fs::read_to_string(DOCS).unwrap_or_default();
        assert!(written == docs(), "docs/metrics.md is stale: run this test once with UPDATE_DOCS=1");
    }

    #[test]
    fn names_are_told_once_and_labels_are_words() {
        let mut names: Vec<String> = TABLE.iter().map(Definition::name).collect();
        names.sort();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all, "two metrics of one name");
        for row in TABLE {
            assert!(!row.stem.ends_with("_total") && !row.stem.ends_with("_seconds"), "{}", row.stem);
            assert!(row.stem.starts_with("keymux_") || row.stem.starts_with("process_"), "{}", row.stem);
            assert!(row.labels.iter().all(|l| l.bytes().all(|b| b.is_ascii_lowercase())), "{}", row.stem);
            assert!(row.kind != Kind::Histogram || row.unit == "seconds", "{}", row.stem);
        }
    }
}
