//! Moving in from LiteLLM: the configuration of its proxy becomes one of ours, with comments, and a list of what has no
//! counterpart. Nothing gets lost on the way: every setting of the file is either in what is written or in the list, by
//! its path, with the reason and what to do instead. Keys do not pass through: they stay in the environment, or are
//! named there by the operator.
//!
//! The way: `yaml` → `fields` (what is asked for is taken out, the rest is listed) → `deployment` with `address`, and
//! `settings` → `fleet` and `routes` → `write`. What is known of LiteLLM is data, in `vendors` and `reasons`.

mod address;
mod deployment;
mod fields;
mod fleet;
mod load;
mod notes;
mod reasons;
mod routes;
mod settings;
mod telling;
mod vendors;
mod write;
mod yaml;

pub use notes::{Kind, Note, Spot};

use crate::problem::Problem;
use crate::world::World;
use deployment::{Deployment, Reading};
use fields::{Env, Fields, Found};
use fleet::Fleet;
use notes::Notes;
use settings::{Sections, Settings};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

/// A configuration of ours, made of one of LiteLLM's.
#[derive(Clone, Debug)]
pub struct Import {
    /// The text, comments included.
    pub toml: String,
    /// What has no counterpart.
    pub notes: Vec<Note>,
    /// Variables of the environment that it needs.
    pub variables: Vec<String>,
    /// How many entries of `model_list` there were, and how many were carried over.
    pub deployments: (usize, usize),
    /// Providers, keys and routes that came of them.
    pub made: [usize; 3],
}

/// Why nothing was made.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The file that it is about.
    pub file: String,
    /// What is wrong.
    pub problem: Problem,
    /// What was left out, where that is all.
    pub notes: Vec<Note>,
}

/// Reads a configuration of LiteLLM's proxy. `shown` is how the file is called, `folder` where the files that it
/// includes are looked for.
pub fn import(shown: &str, text: &str, folder: &Path, world: &World<'_>) -> Result<Import, Box<Refused>> {
    let mut notes = Notes::default();
    let files = load::Files::read(shown, text, folder, world)?;
    let mut tops = load::load(&files, &mut notes);
    let env = Env { own: own_variables(tops.take("environment_variables"), &mut notes), world };
    let credentials = credentials(tops.take("credential_list"), &env, &mut notes);
    let mut section = |name: &str| {
        let found = tops.take(name).pop();
        found.and_then(|found| Fields::open(found, &mut notes)).unwrap_or_else(|| Fields::none(name))
    };
    let sections = Sections {
        router: section("router_settings"),
        litellm: section("litellm_settings"),
        general: section("general_settings"),
    };
    let settings = settings::read(sections, &env, &mut notes);
    let entries = load::items(tops.take("model_list"), &mut notes);
    let total = entries.len();
    let reading = Reading { env: &env, credentials };
    let mut deployments: Vec<Deployment> =
        entries.into_iter().filter_map(|entry| deployment::read(entry, &reading, &mut notes)).collect();
    for deployment in &mut deployments {
        if let Some(slots) = settings.parallel {
            deployment.limits.amounts.entry("concurrent").or_insert(slots);
        }
    }
    tops.rest(&mut notes);
    if deployments.is_empty() {
        return Err(nothing(shown, total, notes));
    }
    let mut taken: HashSet<String> = settings.master_key.iter().map(|key| key.variable.clone()).collect();
    taken.insert(settings::SLACK_VARIABLE.to_owned());
    let fleet = fleet::build(&deployments, taken, &mut notes);
    let routes = routes::build(&deployments, &fleet, &settings.routing, &mut notes);
    let default_provider = wildcards(&deployments, &fleet, &mut notes);
    let notes = notes.done();
    let page = write::Page {
        shown,
        settings: &settings,
        fleet: &fleet,
        routes: &routes,
        default_provider: default_provider.and_then(|index| fleet.servers.get(index)),
        notes: &notes,
    };
    Ok(Import {
        toml: write::write(&page),
        variables: variables(&settings, &fleet),
        deployments: (total, deployments.len()),
        made: [fleet.servers.len(), fleet.servers.iter().map(|s| s.keys.len()).sum(), routes.len()],
        notes,
    })
}

fn nothing(shown: &str, total: usize, notes: Notes) -> Box<Refused> {
    let (message, hint) = if total == 0 {
        (
            "its model_list is empty, so there is nothing to make a configuration of".to_owned(),
            "models that were added in LiteLLM's UI (store_model_in_db) stand in its database: write them into \
             model_list, and import again",
        )
    } else {
        (
            format!("none of the {total} entries of model_list can be carried over"),
            "see why below; begin with examples/minimal.toml instead",
        )
    };
    load::refused(shown, None, message, hint, notes.done())
}

/// Variables that LiteLLM sets for itself. Their values may be secrets: they are looked into for addresses, and told of
/// by name.
fn own_variables(found: Vec<Found<'_>>, notes: &mut Notes) -> std::collections::HashMap<String, String> {
    let fields = found.into_iter().filter_map(|found| Fields::open(found, notes)).collect::<Vec<_>>();
    let mut own = std::collections::HashMap::new();
    for fields in fields {
        let spot = fields.spot.clone();
        for entry in fields.entries() {
            let why = "a configuration of keymux sets no variables";
            notes.setting(
                spot.below(&entry.name, entry.line),
                why,
                "if a key or a token stands there, set the variable where keymux is started",
            );
            if let Some(value) = entry.node.text().filter(|v| !v.starts_with(fields::REFERENCE)) {
                own.insert(entry.name.clone(), value.to_owned());
            }
        }
    }
    own
}

/// `credential_values` by their names.
fn credentials<'a>(lists: Vec<Found<'a>>, env: &Env<'_>, notes: &mut Notes) -> BTreeMap<String, Found<'a>> {
    let mut credentials = BTreeMap::new();
    for item in load::items(lists, notes) {
        let spot = item.spot.clone();
        let Some(mut fields) = Fields::open(item, notes) else { continue };
        let name = fields.text("credential_name", env, notes);
        let values = fields.take("credential_values");
        // What it is for is told by the models that name it.
        fields.take("credential_info");
        fields.rest(&|_| None, notes);
        let (Some((name, _)), Some(values)) = (name, values) else {
            notes.setting(spot, "has no credential_name or no credential_values", "write both");
            continue;
        };
        if let Some(mut values) = Fields::open(values.clone(), notes) {
            for known in ["api_key", "api_base", "base_url", "custom_llm_provider", "api_version"] {
                values.take(known);
            }
            values.rest(&reasons::of_params, notes);
        }
        credentials.insert(name, values);
    }
    credentials
}

/// A wildcard is a provider whose models are named `provider:model`, or the one for all names that no route has, which is
/// returned.
fn wildcards(deployments: &[Deployment], fleet: &Fleet, notes: &mut Notes) -> Option<usize> {
    let all = || deployments.iter().zip(&fleet.places).filter(|(d, _)| d.is_wildcard());
    let unchanged: BTreeSet<usize> =
        all().filter(|(d, _)| d.name == d.model).map(|(_, (server, _))| *server).collect();
    let default_provider = unchanged.first().copied().filter(|_| unchanged.len() == 1);
    for (deployment, (server, _)) in all() {
        let name = fleet.servers.get(*server).map_or("", |s| s.name.as_str());
        let spot = deployment.spot.below("model_name", deployment.spot.line);
        if default_provider == Some(*server) && deployment.name == deployment.model {
            let why = format!(
                "is a wildcard: names that no route has go to {name} as they are (default_provider), whatever they are"
            );
            notes.setting(spot, &why, "`models` in [[client]] bounds what a caller may ask for");
        } else {
            let why =
                format!("is a wildcard, and routes have none: any model of a provider is named {name}:MODEL");
            notes.setting(spot, &why, "let clients ask for that, or add a [[route]] for each name in use");
        }
    }
    default_provider
}

fn variables(settings: &Settings<'_>, fleet: &Fleet) -> Vec<String> {
    let mut variables: Vec<String> = settings.master_key.iter().map(|key| key.variable.clone()).collect();
    for variable in fleet.servers.iter().flat_map(|s| &s.keys).filter_map(|k| k.variable.as_ref()) {
        if !variables.contains(variable) {
            variables.push(variable.clone());
        }
    }
    variables.extend(settings.slack.then(|| settings::SLACK_VARIABLE.to_owned()));
    variables
}
