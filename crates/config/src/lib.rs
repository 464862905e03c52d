//! From text to truth: what the user typed → what it means → what is wrong with it, all mistakes at once, each with
//! its line, a reason and a mend. Two truths can be compared, so that a reload can say what it changes.
//!
//! It knows no socket and no clock, and reads no environment or file by itself: the outside world is an argument,
//! [`World`]. It starts nothing and decides nothing about requests; limits and strategies are only named here, in
//! the scheduler's own types.

mod clients;
mod config;
mod describe;
mod diff;
mod env;
mod ledger;
pub mod litellm;
mod lookup;
mod presets;
pub mod prices;
mod problem;
mod render;
mod resolve;
mod schema;
mod secret;
mod text;
mod traces;
mod url;
mod webhook;
mod world;

pub use clients::{Allow, Client, Team, UnknownPrice};
pub use config::{
    Account, Auth, Checks, Config, Dialect, Key, LimitHeaders, Log, LogFormat, LogLevel, ModelsFetch,
    Provider, Route, Runtime, Server, Target, Timeouts, TimeoutsPatch, TlsFiles,
};
pub use describe::{endpoint_at, endpoint_path};
pub use diff::{Change, ChangeKind, diff};
pub use env::from_env;
pub use keymux_policy::fleet::{Charging, Endpoint, EndpointSet, LimitSpec, ModelSet, Settings, Strategy};
pub use ledger::{Database, Ledger, Unavailable};
pub use lookup::Resolution;
pub use problem::{Problem, Problems, Severity, did_you_mean};
pub use schema::{reference, schema};
pub use secret::{NotASecret, Secret, SecretSource};
pub use traces::{Collector, SpanNames, Traces};
pub use url::{BadUrl, BaseUrl, ProxyUrl};
pub use webhook::{Gravity, HookKind, HookUrl, Topic, Webhook};
pub use world::World;

use problem::Findings;
use text::read::Typed as _;

/// Reads a configuration file. `path_shown` is how the file is called in messages that do not concern a line of it.
/// Errors come together with the warnings, in the order of the file; warnings alone are in [`Config::warnings`].
pub fn from_toml(path_shown: &str, text: &str, world: &World<'_>) -> Result<Config, Problems> {
    let mut grammar = Findings::default();
    let (node, whole) = text::node::parse(text, &mut grammar);
    let mut found = Findings::default();
    let file = text::file::File::read(node, &mut found);
    // With the grammar broken, parts of the file are missing: what does not fit together then is no news, nor what
    // else is wrong with a broken line.
    found.follow(grammar, text);
    let config = match file {
        Some(file) if whole => resolve::resolve(file, world, &mut found),
        _ => None,
    };
    let problems = found.located(text);
    match config {
        Some(config) => Ok(Config { warnings: problems.list, ..config }),
        None if problems.list.is_empty() => Err(Problems::single(format!("{path_shown} cannot be used"), "")),
        None => Err(problems),
    }
}
