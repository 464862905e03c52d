//! The truth: what a checked configuration means, with every name resolved, every preset merged and every default
//! filled in. Plain data that the gateway reads; it knows neither TOML nor where a value came from.

use crate::clients::{Client, Team, UnknownPrice};
use crate::ledger::Ledger;
use crate::lookup::Names;
use crate::prices::Prices;
use crate::problem::Problem;
use crate::secret::{Secret, SecretSource};
use crate::traces::Traces;
use crate::url::{BaseUrl, ProxyUrl};
use crate::webhook::Webhook;
use keymux_policy::fleet::{Charging, EndpointSet, LimitSpec, ModelSet, Settings, Strategy};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// A whole configuration. Only [`crate::from_toml`] and [`crate::from_env`] make one, so it is always consistent.
#[derive(Clone, Debug)]
pub struct Config {
    /// Listeners, who may call, limits, logging.
    pub server: Server,
    /// Where requests are written down.
    pub ledger: Ledger,
    /// Where traces of them go.
    pub traces: Traces,
    /// How keys are checked beside all traffic.
    pub checks: Checks,
    /// Whom to call. Never empty.
    pub providers: Vec<Provider>,
    /// Public model names, as declared. Then follow their variants (see [`Route::variant_of`]).
    pub routes: Vec<Route>,
    /// Index of the provider that takes names which no route has.
    pub default_provider: Option<usize>,
    /// Numbers that rule breakers, retries and the waiting room.
    pub settings: Settings,
    /// The strategy of names without a route.
    pub default_strategy: Strategy,
    /// Teams of clients.
    pub teams: Vec<Team>,
    /// Keys that clients call with.
    pub clients: Vec<Client>,
    /// Whom to tell when something needs a person.
    pub webhooks: Vec<Webhook>,
    /// What models cost.
    pub prices: Prices,
    /// What becomes of clients with a budget where the price is unknown.
    pub unknown_price: UnknownPrice,
    /// What is probably not what was meant.
    pub warnings: Vec<Problem>,
    pub(crate) names: Names,
}

/// How keys are checked beside all traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checks {
    /// How often; `None`: never.
    pub every_ms: Option<u64>,
    /// How long the check of one key may take.
    pub timeout_ms: u64,
}

/// Listeners, who may call, limits on what they send, logging.
#[derive(Clone, Debug)]
pub struct Server {
    /// Address for clients.
    pub listen: SocketAddr,
    /// Address for operators; `None` switches it off.
    pub admin: Option<SocketAddr>,
    /// What clients must present.
    pub token: Option<Secret>,
    /// What operators must present; `None`: generate one.
    pub admin_token: Option<Secret>,
    /// A listener off loopback may be open.
    pub allow_open: bool,
    /// Origins of web pages that may call, lower case, without a path; `*` is any.
    pub cors_origins: Vec<String>,
    /// Further `Host` names, lower case, that an open listener answers to.
    pub allowed_hosts: Vec<String>,
    /// TLS for clients.
    pub tls: Option<TlsFiles>,
    /// Where state is kept.
    pub data_dir: PathBuf,
    /// Largest request body.
    pub body_bytes_max: usize,
    /// Most bytes of request bodies that are held at once.
    pub bodies_bytes_max: usize,
    /// Largest request head.
    pub head_bytes_max: usize,
    /// Most connections of clients; `None`: derived from the limit on open files.
    pub connections_max: Option<usize>,
    /// Serving threads; `None`: one a core.
    pub workers: Option<usize>,
    /// How the threads are laid out.
    pub runtime: Runtime,
    /// Answers name the key that served them.
    pub expose_keys: bool,
    /// How long requests in flight may go on at the end.
    pub drain_ms: u64,
    /// How long a request head may take.
    pub header_timeout_ms: u64,
    /// Longest pause between two pieces of a request body, or in which a client takes no byte of its answer.
    pub body_timeout_ms: u64,
    /// How long an idle connection of a client is kept.
    pub keep_alive_ms: u64,
    /// Further certificate authorities to trust upstream (PEM).
    pub ca_file: Option<PathBuf>,
    /// Proxy for providers behind `https`, as declared or from `HTTPS_PROXY`. What a provider really uses is in
    /// [`Provider::proxy`].
    pub proxy: Option<ProxyUrl>,
    /// Hosts that are called without a proxy.
    pub no_proxy: Vec<String>,
    /// What is logged.
    pub log: Log,
    /// How long a request may wait for room, unless its route says otherwise.
    pub max_wait_ms: u64,
}

/// Files for TLS towards clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain (PEM).
    pub cert: PathBuf,
    /// Its private key (PEM).
    pub key: PathBuf,
}

/// How the serving threads are laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Runtime {
    /// One single-threaded runtime a core, each with its own listener.
    #[default]
    PerCore,
    /// One runtime whose threads steal work.
    Shared,
}

/// What is logged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Log {
    /// Each request, when it ends.
    pub requests: bool,
    /// Of those that were answered, this share; from 0 to 1.
    pub sample: f64,
    /// For people or machines.
    pub format: LogFormat,
    /// The least important level.
    pub level: LogLevel,
}

/// For people or machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Importance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

/// The API that a provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Dialect {
    OpenAi,
    OpenRouter,
    Anthropic,
}

/// What a provider's rate-limit headers mean: the same name means minutes here and days there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum LimitHeaders {
    OpenAi,
    Azure,
    Anthropic,
    Groq,
    Mistral,
    Cerebras,
    OpenRouter,
    /// Recognised by name only; a period is taken from the header itself.
    Generic,
}

/// How a key is presented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// `Authorization: Bearer …`.
    Bearer,
    /// In a header of this name (lower case).
    Header(String),
    /// Not at all.
    None,
}

/// A provider.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Its name, unique.
    pub name: Arc<str>,
    /// What it speaks.
    pub dialect: Dialect,
    /// What its limit headers mean.
    pub limit_headers: LimitHeaders,
    /// Where it answers: an endpoint's path is appended to the base's.
    pub base: BaseUrl,
    /// Headers for every call; names as typed, unique without regard to case.
    pub headers: Vec<(String, String)>,
    /// How a key is presented.
    pub auth: Auth,
    /// What it serves.
    pub endpoints: EndpointSet,
    /// How it charges.
    pub charging: Charging,
    /// Its accounts. Each has at least one key, or was declared.
    pub accounts: Vec<Account>,
    /// Its keys. Never empty.
    pub keys: Vec<Key>,
    /// Time-outs, all merged.
    pub timeouts: Timeouts,
    /// The proxy to use, with `server.proxy`, the environment and `no_proxy` taken into account.
    pub proxy: Option<ProxyUrl>,
    /// Whether `GET base/models` lists its models.
    pub models: ModelsFetch,
    /// Whether calls to it carry the trace that they belong to.
    pub trace_context: bool,
    /// The preset that it came from.
    pub preset: Option<&'static str>,
}

/// How a provider's models are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelsFetch {
    /// By `GET base/models`.
    List,
    /// Not at all: only routes are listed.
    Off,
}

/// An account at a provider.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    /// Its name, unique at its provider. A key without an account has one of its own name.
    pub name: Arc<str>,
    /// A person gave it: what its provider says of who owns its keys does not count.
    pub named: bool,
    /// Its limits: the preset's, the provider's and its own.
    pub limits: Vec<LimitSpec>,
}

/// A key.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its name, unique at its provider; may be shown.
    pub name: Arc<str>,
    /// Index in the provider's accounts.
    pub account: usize,
    /// What is presented; `None` where the server wants nothing.
    pub secret: Option<Secret>,
    /// Its share, 1.0 by default.
    pub weight: f64,
    /// Whether it is used.
    pub enabled: bool,
    /// The only models it is used for (empty: all).
    pub models: ModelSet,
    /// Limits of its own, on top of its account's.
    pub limits: Vec<LimitSpec>,
    /// Where the secret came from, to read it again.
    pub source: SecretSource,
}

/// A public model name.
#[derive(Clone, Debug)]
pub struct Route {
    /// The name that clients use, unique.
    pub model: Arc<str>,
    /// Tried in order; no tier is empty.
    pub tiers: Vec<Vec<Target>>,
    /// How to choose inside a tier.
    pub strategy: Strategy,
    /// How long a request may wait.
    pub max_wait_ms: u64,
    /// Time-outs over those of the target's provider: `route.timeouts.over(&provider.timeouts)`.
    pub timeouts: TimeoutsPatch,
    /// JSON text of an `OpenRouter` provider object for callers that send none.
    pub provider_defaults: Option<String>,
    /// Output cap where the caller names none and a budget needs one.
    pub default_max_tokens: Option<u64>,
    /// For a variant such as `sonnet:nitro`, made by itself for every route with an `OpenRouter` target: the index
    /// of the declared route. Lists for people leave variants out.
    pub variant_of: Option<usize>,
}

/// A provider's model, over all of its keys or some.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Index in [`Config::providers`].
    pub provider: usize,
    /// The upstream's name.
    pub model: Arc<str>,
    /// Indices in the provider's keys (empty: all).
    pub keys: Vec<usize>,
    /// Share against the other targets of the tier.
    pub weight: f64,
}

/// Time-outs of calls to providers, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the connection stands.
    pub connect_ms: u64,
    /// Until the first byte of a stream.
    pub first_byte_ms: u64,
    /// Until the first byte of a plain answer, which comes when the model has finished.
    pub first_byte_plain_ms: u64,
    /// Between two pieces of the answer.
    pub idle_ms: u64,
    /// All attempts together.
    pub total_ms: u64,
    /// How long the beginning of a stream is held back.
    pub hold_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect_ms: 5_000,
            first_byte_ms: 120_000,
            first_byte_plain_ms: 600_000,
            idle_ms: 60_000,
            total_ms: 600_000,
            hold_ms: 10_000,
        }
    }
}

/// Some time-outs, to be laid over others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in Timeouts")]
pub struct TimeoutsPatch {
    pub connect_ms: Option<u64>,
    pub first_byte_ms: Option<u64>,
    pub first_byte_plain_ms: Option<u64>,
    pub idle_ms: Option<u64>,
    pub total_ms: Option<u64>,
    pub hold_ms: Option<u64>,
}

impl TimeoutsPatch {
    /// What is said here, and `base` for the rest.
    pub fn over(&self, base: &Timeouts) -> Timeouts {
        Timeouts {
            connect_ms: self.connect_ms.unwrap_or(base.connect_ms),
            first_byte_ms: self.first_byte_ms.unwrap_or(base.first_byte_ms),
            // Who sets only `first_byte` means every call.
            first_byte_plain_ms: self
                .first_byte_plain_ms
                .or(self.first_byte_ms)
                .unwrap_or(base.first_byte_plain_ms),
            idle_ms: self.idle_ms.unwrap_or(base.idle_ms),
            total_ms: self.total_ms.unwrap_or(base.total_ms),
            hold_ms: self.hold_ms.unwrap_or(base.hold_ms),
        }
    }
}
