//! The sections of the file, each setting with its meaning and its default. This is the one place where a setting
//! is declared: reading, `keymux check --schema` and `docs/configuration.md` follow from it.

use super::leaf::{
    Address, Amount, Bytes, Count, Duration, Glob, Level, MaybeAddress, Pairs, Ratio, SecretText, Wait,
};
use super::ledger::Ledger;
use super::money::{Client, Price, Prices, Team};
use super::names::ShapeName;
use super::read::section;
use super::traces::Traces;
use super::webhook::Webhook;
use crate::config::{Dialect, LimitHeaders, LogFormat, LogLevel, Runtime};
use crate::problem::At;
use crate::text::node::{Node, Value};
use crate::text::read::{Typed, wrong};
use keymux_policy::fleet::{Endpoint, OutputCharge, Strategy};

section! {
    /// The whole file.
    File in "the file" {
        /// Where model names go that no route has: the name of a provider. With one provider, it is that one.
        default_provider: String,
        /// The listeners, who may call, and limits on what callers send.
        server: Server,
        /// What is logged.
        log: Log,
        /// Where requests, client keys and spending are written down.
        ledger: Ledger,
        /// Where traces of requests go.
        traces: Traces,
        /// How keys are checked beside all traffic.
        checks: Checks,
        /// Whom to call, with which keys.
        provider: Vec<At<Provider>>,
        /// Public model names and where they lead.
        route: Vec<At<Route>>,
        /// Client keys that share a budget and limits.
        team: Vec<At<Team>>,
        /// Keys that clients call with.
        client: Vec<At<Client>>,
        /// Whom to tell when something needs a person.
        webhook: Vec<At<Webhook>>,
        /// Prices over the table's.
        price: Vec<At<Price>>,
        /// Where prices come from.
        prices: Prices,
        /// Time-outs of every provider, unless it or a route says otherwise.
        timeouts: Timeouts,
        /// Numbers that rule the choice of keys.
        settings: Settings,
        /// When a key or a provider is given a rest after failures.
        breaker: Breaker,
        /// How often and how much is tried again.
        retry: Retry,
        /// How many requests may wait for a key with room.
        room: Room,
    }
}

section! {
    /// The listeners, who may call, and limits on what callers send.
    Server in "[server]" {
        /// Address for clients. Anything but loopback needs `token`, or `allow_open = true`.
        listen: Address = "\"127.0.0.1:4000\"",
        /// Address for operators: metrics, health, administration. `"none"` switches it off.
        admin: MaybeAddress = "\"127.0.0.1:4001\"",
        /// What clients must present as their API key. Without it, everyone who reaches the listener may call.
        token: SecretText,
        /// What operators must present. Without it, one is generated into a file of mode 0600 in `data_dir`.
        admin_token: SecretText,
        /// Whether a listener on anything but loopback may be open to everyone.
        allow_open: bool = "false",
        /// Origins of web pages that may call, as `"https://app.example.com"`; `"*"` only together with `token`.
        cors_origins: Vec<At<String>> = "[]",
        /// Further `Host` names that an open listener answers to, besides loopback names.
        allowed_hosts: Vec<At<String>> = "[]",
        /// Certificate and key for TLS on the listener for clients.
        tls: Tls,
        /// Where state is kept: databases, journals, the levels of limits, the generated admin token. By default `$XDG_STATE_HOME/keymux`, else `~/.local/state/keymux`; the variable `KEYMUX_DATA_DIR` goes over both.
        data_dir: String,
        /// The largest request body; a larger one is answered with 413.
        body_bytes_max: Bytes = "\"32MiB\"",
        /// Most bytes of request bodies that are held at once, small ones not counted; beyond, 503.
        bodies_bytes_max: Bytes = "\"1GiB\"",
        /// The largest request head; a larger one is answered with 431.
        head_bytes_max: Bytes = "\"64KiB\"",
        /// Most connections of clients at once; beyond, 503. By default derived from the limit on open files.
        connections_max: Count,
        /// Threads that serve. By default one for each core.
        workers: Count,
        /// How the threads are laid out: each its own listener and connections, or one pool that steals work.
        runtime: Runtime = "\"per_core\"",
        /// Whether answers tell the name of the key that served them in `x-keymux-key`.
        expose_keys: bool = "true",
        /// How long requests in flight may go on after SIGTERM.
        drain: Wait = "\"30s\"",
        /// How long a client may take to send its request head.
        header_timeout: Duration = "\"10s\"",
        /// How long a client may pause between two pieces of its body, or take no byte of its answer.
        body_timeout: Duration = "\"30s\"",
        /// How long an idle connection of a client is kept.
        keep_alive: Duration = "\"75s\"",
        /// Further certificate authorities (PEM) to trust when calling providers.
        ca_file: String,
        /// Proxy for calls to providers, as `"http://user:password@host:port"`; `"none"` for no proxy whatever the environment says. By default `HTTPS_PROXY` and `HTTP_PROXY` from the environment.
        proxy: String,
        /// Hosts that are called without a proxy: names with their subdomains, addresses, networks. By default `NO_PROXY`.
        no_proxy: Vec<At<String>>,
        /// How long a request may wait for a key with room, unless its route says otherwise. `"0s"`: never.
        max_wait: Wait = "\"10s\"",
    }
}

section! {
    /// Certificate and key for TLS on the listener for clients.
    Tls in "[server.tls]" {
        /// File with the certificate chain (PEM).
        cert: String,
        /// File with its private key (PEM).
        key: String,
    }
}

section! {
    /// What is logged.
    Log in "[log]" {
        /// Whether each request is logged when it ends.
        requests: bool = "false",
        /// Share of answered requests that are logged. All others are logged whatever it is.
        sample: Ratio = "1.0",
        /// For people or for machines.
        format: LogFormat = "\"text\"",
        /// The least important level that is logged. The admin API changes it until the file's is another, or the process ends.
        level: LogLevel = "\"info\"",
    }
}

section! {
    /// Whom to call, with which keys. The name of a preset brings everything but the keys.
    Provider in "[[provider]]" {
        /// Its name: letters, digits, `-`, `_` and `.`. `name:model` works as a model name.
        name: String,
        /// The preset to start from, where the name is not a preset's.
        preset: String,
        /// The API that it speaks. Needed without a preset.
        dialect: Dialect,
        /// Where it answers, up to and with `/v1`. Needed without a preset, and for `azure` and `vllm`.
        base_url: String,
        /// Headers to send with every call, such as `HTTP-Referer` and `X-Title`; callers can override them.
        headers: Pairs,
        /// How a key is sent: `"bearer"`, `"none"`, or `"header:NAME"`. By default what the dialect wants.
        auth: String,
        /// What its rate-limit headers mean. By default what the dialect suggests.
        limit_headers: LimitHeaders,
        /// The endpoints that it serves. By default those of the preset or the dialect.
        endpoints: Vec<At<Endpoint>>,
        /// Its keys.
        keys: Vec<At<Key>>,
        /// Its accounts, for keys that share limits. A key that names none is an account of its own.
        account: Vec<At<Account>>,
        /// Limits of each of its accounts.
        limits: Vec<At<Limit>>,
        /// Time-outs, where they differ from `[timeouts]`.
        timeouts: Timeouts,
        /// Proxy for calls to it, or `"none"`. By default `server.proxy`.
        proxy: String,
        /// Whether its models are asked for (GET `models`) and listed.
        list_models: bool = "true",
        /// Whether calls to it carry `traceparent`, `tracestate` and `baggage`: for servers of your own. Others learn nothing of your traces.
        trace_context: bool = "false",
        /// How it charges requests against its limits, where that differs from the preset.
        charging: Charging,
    }
}

section! {
    /// How keys are checked beside all traffic, by calls to their providers that cost nothing.
    Checks in "[checks]" {
        /// How often each key is checked, give or take a tenth; the first time at the start. `"0s"`: never.
        every: Wait = "\"5m\"",
        /// How long the check of one key may take.
        timeout: Duration = "\"10s\"",
    }
}

section! {
    /// One key.
    Key in "a key" {
        /// Its name, which may be shown.
        name: String,
        /// Where the secret comes from: `"env:NAME"`, `"file:/path"`, `"cmd:program argument"`, `{ cmd = ["program", "an argument"] }` or `"literal:…"`.
        secret: SecretText,
        /// `"none"` for a server that wants no key.
        auth: String,
        /// The account that owns it, declared by `[[provider.account]]`. Keys of one account share its limits.
        account: String,
        /// Its share against the other keys.
        weight: Amount = "1",
        /// Whether it is used.
        enabled: bool = "true",
        /// The only models it is used for. By default all.
        models: Vec<At<Glob>>,
        /// Limits of this key itself, on top of its account's.
        limits: Vec<At<Limit>>,
    }
}

section! {
    /// Who owns keys: an organisation, project or user at the provider.
    Account in "[[provider.account]]" {
        /// Its name.
        name: String,
        /// Its limits. One for the same dimension, models and period replaces the provider's.
        limits: Vec<At<Limit>>,
    }
}

section! {
    /// What an account or a key may use. Several in one entry are several limits with the same models.
    Limit in "a limit" {
        /// Requests a minute.
        rpm: Amount,
        /// Tokens a minute, input and output together.
        tpm: Amount,
        /// Input tokens a minute.
        itpm: Amount,
        /// Output tokens a minute.
        otpm: Amount,
        /// Requests a day.
        rpd: Amount,
        /// Tokens a day.
        tpd: Amount,
        /// Requests at the same time.
        concurrent: Count,
        /// Requests in each period `per`.
        requests: Amount,
        /// Tokens in each period `per`, input and output together.
        tokens: Amount,
        /// Input tokens in each period `per`.
        input_tokens: Amount,
        /// Output tokens in each period `per`.
        output_tokens: Amount,
        /// US dollars in each period `per`.
        usd: Amount,
        /// The period of `requests`, `tokens`, `input_tokens`, `output_tokens` and `usd`.
        per: Duration,
        /// How it comes back: all the time, up to the whole limit, or all at once when the period ends. A window of one day is the calendar day.
        shape: ShapeName = "\"bucket\"",
        /// When the day of a window of one day begins, in UTC.
        day_begins: String = "\"00:00\"",
        /// The models that share this limit, with `*` for anything. By default all.
        models: Vec<At<Glob>>,
    }
}

section! {
    /// How a provider charges requests against its limits.
    Charging in "charging" {
        /// How output counts: as `max_tokens` with the rest refunded, as the greater of `max_tokens` and the input or as their sum with nothing refunded, or as it is produced. Where answers say what is left of a limit of tokens, and another of these explains it, that one is taken.
        output: OutputCharge,
        /// Whether cached input is free.
        cached_input_free: bool,
        /// Whether refused requests count too.
        refused_count: bool,
        /// Whether a stream that is cancelled goes on at the provider: it keeps its slot, and a budget pays all that was held for it.
        runs_on_after_cancel: bool,
    }
}

section! {
    /// A public model name and where it leads.
    Route in "[[route]]" {
        /// The name that clients use.
        model: String,
        /// Where it leads: a list of tiers, each a list of `"provider:model"`. A later tier serves while no earlier one has room.
        tiers: Vec<At<Tier>>,
        /// How to choose inside a tier. By default `settings.strategy`.
        strategy: Strategy,
        /// How long a request may wait. By default `server.max_wait`.
        max_wait: Wait,
        /// Time-outs, over those of the providers.
        timeouts: Timeouts,
        /// An OpenRouter `provider` object (JSON text) for callers that send none.
        provider_defaults: String,
        /// The output cap to write where the caller sends none and a budget needs one.
        default_max_tokens: Count,
    }
}

section! {
    /// One target with more to say than `"provider:model"`.
    TargetTable in "a target" {
        /// `"provider:model"`.
        target: String,
        /// Only these keys of the provider.
        keys: Vec<At<String>>,
        /// Share against the other targets of the tier.
        weight: Amount = "1",
    }
}

/// Targets that are tried side by side.
pub(crate) type Tier = Vec<At<Target>>;

/// One target: a string, or a table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Target(pub(crate) TargetTable);

impl Typed for Target {
    const WANTED: &'static str =
        "a target: \"provider:model\", or { target = \"provider:model\", weight = 2 }";
    fn kind() -> String {
        "targets".to_owned()
    }
    fn schema() -> serde_json::Value {
        serde_json::json!({ "oneOf": [{ "type": "string" }, TargetTable::schema()] })
    }
    fn read(node: Node, found: &mut crate::problem::Findings) -> Option<Self> {
        match node.value {
            Value::Text(value) => {
                let target = Some(At { value, place: node.place });
                Some(Self(TargetTable { target, ..TargetTable::default() }))
            }
            Value::Table(_) => TargetTable::read(node, found).map(Self),
            _ => wrong(&node, found),
        }
    }
}

section! {
    /// Time-outs of calls to providers.
    Timeouts in "timeouts" {
        /// Until the connection stands, TLS included.
        connect: Duration = "\"5s\"",
        /// From the request sent until the first byte of a stream; of plain answers too, unless `first_byte_plain` is set.
        first_byte: Duration = "\"120s\"",
        /// From the request sent until the first byte of a plain answer, which comes when the model has finished.
        first_byte_plain: Duration = "\"600s\"",
        /// Between two pieces of an answer.
        idle: Duration = "\"60s\"",
        /// The whole request, all attempts together.
        total: Duration = "\"600s\"",
        /// How long the beginning of a stream is held back for the first real output, so that an early error can still fail over.
        hold: Duration = "\"10s\"",
    }
}

section! {
    /// Numbers that rule the choice of keys.
    Settings in "[settings]" {
        /// How to choose among targets that all have room, for routes that do not say.
        strategy: Strategy = "\"headroom\"",
        /// Models without a route that are remembered at once.
        adhoc_routes_max: Count = "1000",
    }
}

section! {
    /// When a key or a provider is given a rest after failures. "3 errors in 60 s" is `failures_min = 3`, `failure_ratio = 0`; "5 in a row" is `consecutive = 5`.
    Breaker in "[breaker]" {
        /// Length of the sliding window.
        window: Duration = "\"60s\"",
        /// Failures in the window before it may open.
        failures_min: Count = "3",
        /// Share of failures in the window at which it opens.
        failure_ratio: Ratio = "0.5",
        /// Failures in a row that open it, whatever the share.
        consecutive: Count = "5",
        /// The least time between the first and the last failure in a row.
        consecutive_span: Wait = "\"1s\"",
        /// First cool-down; each failed probe doubles it.
        cooldown_min: Duration = "\"5s\"",
        /// Longest cool-down.
        cooldown_max: Duration = "\"60s\"",
    }
}

section! {
    /// How often and how much is tried again. The allowances are separate: spending one leaves the others.
    Retry in "[retry]" {
        /// Walks over all keys that one request may take.
        rounds_max: Count = "2",
        /// Attempts of one request in all; those that a rate limit refused do not count.
        attempts_max: Count = "32",
        /// Retries as a share of the requests over the last 10 s.
        budget_ratio: Ratio = "0.2",
        /// Retries a second that are always allowed.
        budget_floor_per_s: Level = "10",
    }
}

section! {
    /// How many requests may wait for a key with room, in one pool of connected routes.
    Room in "[room]" {
        /// Requests.
        waiters_max: Count = "10000",
        /// Bytes of their bodies.
        bytes_max: Bytes = "\"256MiB\"",
        /// Requests of one client.
        per_client_max: Count = "10000",
        /// Requests of one route.
        per_route_max: Count = "10000",
    }
}
