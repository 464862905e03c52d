//! Deployments become providers and keys: those at the same address with the same headers are one provider, and those
//! with the same key are one key, since one key is one quota however many models it is used for.

use super::address::{Address, prefix_of};
use super::deployment::{Credential, Deployment, Limits};
use super::notes::{Notes, Spot};
use crate::presets;
use crate::render::is_surely_secret;
use crate::resolve::may_be_header;
use crate::url::BaseUrl;
use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use zeroize::Zeroizing;

/// A provider to be written.
pub(super) struct Server {
    pub(super) name: String,
    pub(super) address: Address,
    pub(super) headers: Vec<(String, String)>,
    pub(super) keys: Vec<Key>,
    /// Its keys belong to one organisation, and so share its limits.
    pub(super) one_account: bool,
}

/// One of its keys.
pub(super) struct Key {
    pub(super) name: String,
    /// The variable that holds it; `None`: it wants none.
    pub(super) variable: Option<String>,
    pub(super) kind: Origin,
    /// The deployments that use it.
    pub(super) spots: Vec<Spot>,
    /// Limits by model.
    pub(super) limits: Vec<(String, Limits)>,
}

/// How the variable came to its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The file names it.
    Named,
    /// LiteLLM looks there by itself.
    Implied,
    /// The key stands in the file, and has to be moved there.
    Moved,
    /// There is no key.
    Keyless,
}

/// A price to be written.
pub(super) struct Price {
    pub(super) model: String,
    pub(super) rates: BTreeMap<&'static str, f64>,
}

/// All of it.
#[derive(Default)]
pub(super) struct Fleet {
    pub(super) servers: Vec<Server>,
    pub(super) prices: Vec<Price>,
    /// Server and key of each deployment.
    pub(super) places: Vec<(usize, usize)>,
    /// Variables for keys that stood in the file.
    moved: Vec<(Zeroizing<String>, String)>,
    taken: HashSet<String>,
}

/// Builds it. `taken` are variables that mean something else.
pub(super) fn build(deployments: &[Deployment], taken: HashSet<String>, notes: &mut Notes) -> Fleet {
    let mut fleet = Fleet { taken, ..Fleet::default() };
    for deployment in deployments {
        if let Credential::Env { name, .. } = &deployment.key {
            fleet.taken.insert(name.clone());
        }
    }
    for deployment in deployments {
        let server = fleet.server(deployment, notes);
        let key = fleet.key(server, deployment);
        fleet.limit(server, key, deployment, notes);
        fleet.price(server, deployment, notes);
        fleet.places.push((server, key));
    }
    fleet
}

/// Whether a name of models can stand in a glob.
fn is_glob(model: &str) -> bool {
    !model.chars().any(|c| c.is_whitespace() || c.is_control() || "?[]{}\\".contains(c))
}

impl Fleet {
    fn server(&mut self, deployment: &Deployment, notes: &mut Notes) -> usize {
        let mut headers = deployment.headers.clone();
        let mut one_account = false;
        if let Some(organization) = &deployment.organization {
            let name = "OpenAI-Organization";
            if may_be_header(name, organization) && !headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name))
            {
                headers.push((name.to_owned(), organization.clone()));
                one_account = true;
            } else {
                let spot = deployment.param("organization");
                notes.setting(spot, "cannot be sent as a header", "write it into `headers` of the provider");
            }
        }
        let same = |s: &Server| s.address == deployment.address && s.headers == headers;
        if let Some(index) = self.servers.iter().position(same) {
            return index;
        }
        if self.servers.iter().any(|s| s.address == deployment.address) {
            let why = "has other headers or another organisation than a deployment above at the same address: headers \
                       belong to a provider here, so it is one of its own, and a key used at both counts as two quotas";
            notes.setting(
                deployment.param("model"),
                why,
                "if the headers are not needed, put the keys into one provider",
            );
        }
        let name = unique(&label(&deployment.address), |name| self.servers.iter().any(|s| s.name == name));
        let address = deployment.address.clone();
        self.servers.push(Server { name, address, headers, keys: Vec::new(), one_account });
        self.servers.len() - 1
    }

    fn key(&mut self, server: usize, deployment: &Deployment) -> usize {
        let (variable, kind) = match &deployment.key {
            Credential::Env { name, implied: false } => (Some(name.clone()), Origin::Named),
            Credential::Env { name, implied: true } => (Some(name.clone()), Origin::Implied),
            Credential::Literal(secret) => (Some(self.variable(server, secret)), Origin::Moved),
            Credential::None => (None, Origin::Keyless),
        };
        let Some(server) = self.servers.get_mut(server) else { return 0 };
        if let Some(index) = server.keys.iter().position(|k| k.variable == variable) {
            if let Some(key) = server.keys.get_mut(index) {
                key.spots.push(deployment.spot.clone());
            }
            return index;
        }
        let wished = match (&variable, kind) {
            (None, _) => "none".to_owned(),
            (Some(_), Origin::Moved) => format!("key-{}", server.keys.len() + 1),
            (Some(name), _) => name.to_ascii_lowercase().replace('_', "-"),
        };
        let name = unique(&named(&wished, "key"), |name| server.keys.iter().any(|k| k.name == name));
        server.keys.push(Key {
            name,
            variable,
            kind,
            spots: vec![deployment.spot.clone()],
            limits: Vec::new(),
        });
        server.keys.len() - 1
    }

    /// A variable for a key that stands in the file; the same one for the same key.
    fn variable(&mut self, server: usize, secret: &Zeroizing<String>) -> String {
        if let Some((_, name)) = self.moved.iter().find(|(known, _)| known == secret) {
            return name.clone();
        }
        let server = self.servers.get(server).map_or("", |s| s.name.as_str());
        let name = free_variable(server, &self.taken);
        self.taken.insert(name.clone());
        self.moved.push((secret.clone(), name.clone()));
        name
    }

    fn limit(&mut self, server: usize, key: usize, deployment: &Deployment, notes: &mut Notes) {
        if deployment.limits.is_empty() {
            return;
        }
        let said =
            ["rpm", "tpm", "itpm", "otpm"].into_iter().find(|n| deployment.limits.amounts.contains_key(n));
        let spot = deployment.param(said.unwrap_or("max_parallel_requests"));
        if !is_glob(&deployment.model) {
            let why = "has limits, and a model whose name cannot stand in a list of models";
            notes.setting(spot, why, "write the limits without `models`, for all models of the key");
            return;
        }
        let Some(key) = self.servers.get_mut(server).and_then(|s| s.keys.get_mut(key)) else { return };
        let Some((_, known)) = key.limits.iter_mut().find(|(model, _)| *model == deployment.model) else {
            key.limits.push((deployment.model.clone(), deployment.limits.clone()));
            return;
        };
        if *known == deployment.limits && said.is_none() {
            // The same for all, by default.
            return;
        }
        let why = "is a limit of a model and key that stand above already: one key is one quota, so the larger one \
                   holds for both together";
        notes.setting(spot, why, "change it at the key if the provider's limit is another");
        for (name, amount) in &deployment.limits.amounts {
            let known = known.amounts.entry(name).or_insert(*amount);
            *known = known.max(*amount);
        }
        if known.usd.is_none() {
            known.usd = deployment.limits.usd;
        }
    }

    fn price(&mut self, server: usize, deployment: &Deployment, notes: &mut Notes) {
        if deployment.prices.is_empty() {
            return;
        }
        let spot = deployment.param("input_cost_per_token");
        if !is_glob(&deployment.model) {
            let why = "has a price, and a model whose name cannot stand in a [[price]]";
            notes.setting(spot, why, "write one whose `model` has a * for that sign");
            return;
        }
        let server = self.servers.get(server).map_or("", |s| s.name.as_str());
        let model = format!("{server}:{}", deployment.model);
        match self.prices.iter().find(|p| p.model == model) {
            None => self.prices.push(Price { model, rates: deployment.prices.clone() }),
            Some(known) if known.rates == deployment.prices => {}
            Some(_) => {
                let why = "has another price than the same model above, whose price counts";
                notes.setting(spot, why, "correct the [[price]]");
            }
        }
    }
}

/// A variable of the environment that means nothing yet.
pub(super) fn free_variable(server: &str, taken: &HashSet<String>) -> String {
    let upper: String = server
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
        .collect();
    let digit = upper.starts_with(|c: char| c.is_ascii_digit());
    let stem = if digit { format!("LLM_{upper}") } else { upper };
    let mut n = 1_usize;
    loop {
        let name = format!("{stem}_KEY_{n}");
        if !taken.contains(&name) {
            return name;
        }
        n += 1;
    }
}

/// What to call a server.
fn label(address: &Address) -> String {
    let host = address.base.as_ref().map(host_label);
    let wished = match (address.preset, host, &address.base) {
        (Some(preset), None, _) => preset.to_owned(),
        (Some(preset), Some(host), _) => format!("{preset}-{host}"),
        (None, Some(host), Some(base)) => prefix_of(base).map_or(host, str::to_owned),
        (None, ..) => "provider".to_owned(),
    };
    let name = named(&wished, "provider");
    // The name of a preset would bring the preset.
    if address.preset.is_none() && presets::find(&name).is_some() { format!("{name}-server") } else { name }
}

fn host_label(base: &BaseUrl) -> String {
    if base.host.parse::<IpAddr>().is_ok() || base.host == "localhost" {
        return format!("{}-{}", base.host, base.port);
    }
    let parts: Vec<&str> = base.host.split('.').collect();
    match parts.as_slice() {
        ["api" | "www", name, _, ..] | [name, ..] => (*name).to_owned(),
        [] => String::new(),
    }
}

/// A name as the file wants it: up to 64 letters, digits, `-`, `_` and `.`, and nothing that looks like a key.
fn named(wished: &str, otherwise: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let name: String = wished.chars().map(|c| if fits(c) { c } else { '-' }).take(48).collect();
    let name = name.trim_start_matches(['-', '.']);
    if name.is_empty() || is_surely_secret(name) { otherwise.to_owned() } else { name.to_owned() }
}

/// The name, or with a number if it is taken.
fn unique(name: &str, taken: impl Fn(&str) -> bool) -> String {
    let mut n = 1_usize;
    let mut candidate = name.to_owned();
    while taken(&candidate) {
        n += 1;
        candidate = format!("{name}-{n}");
    }
    candidate
}
