//! Names of models become routes. LiteLLM's `order` and its fallbacks become tiers: a fallback serves there after an
//! error, a later tier here also while no earlier one has room.

use super::deployment::{Deployment, is_route_name};
use super::fields::Found;
use super::fleet::Fleet;
use super::notes::Notes;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// A route to be written.
#[derive(Default)]
pub(super) struct Route {
    pub(super) model: String,
    pub(super) tiers: Vec<Tier>,
    /// Whether LiteLLM chose by weights.
    pub(super) weighted: bool,
    pub(super) timeout_ms: Option<u64>,
    pub(super) stream_timeout_ms: Option<u64>,
    /// Where it comes from, if it is not a name of `model_list`.
    pub(super) remark: Option<String>,
}

/// Targets that are tried side by side.
#[derive(Clone)]
pub(super) struct Tier {
    pub(super) targets: Vec<Target>,
    /// Why it is a tier of its own.
    pub(super) remark: Option<String>,
}

/// One of them.
#[derive(Clone, PartialEq)]
pub(super) struct Target {
    pub(super) server: usize,
    pub(super) model: String,
    pub(super) keys: BTreeSet<usize>,
    pub(super) weight: Option<f64>,
}

/// What the settings say of routing.
#[derive(Default)]
pub(super) struct Routing<'a> {
    pub(super) fallbacks: Vec<Found<'a>>,
    pub(super) default_fallbacks: Option<Found<'a>>,
    pub(super) aliases: Vec<Found<'a>>,
    /// Whether `weight` counts, as it does with `simple-shuffle` alone.
    pub(super) by_weight: bool,
}

/// Builds them.
pub(super) fn build(
    deployments: &[Deployment],
    fleet: &Fleet,
    routing: &Routing<'_>,
    notes: &mut Notes,
) -> Vec<Route> {
    let mut groups: Vec<(&str, Vec<usize>)> = Vec::new();
    for (index, deployment) in deployments.iter().enumerate().filter(|(_, d)| !d.is_wildcard()) {
        match groups.iter_mut().find(|(name, _)| *name == deployment.name) {
            Some((_, members)) => members.push(index),
            None => groups.push((&deployment.name, vec![index])),
        }
    }
    let mut builder =
        Builder { deployments, fleet, by_weight: routing.by_weight, groups, chains: HashMap::new() };
    let default = builder.read_fallbacks(routing, notes);
    let mut names: Vec<String> = builder.groups.iter().map(|(name, _)| (*name).to_owned()).collect();
    let mut chained: Vec<&String> = builder.chains.keys().collect();
    chained.sort();
    // Names that only a wildcard knows get a route by having fallbacks.
    let extra: Vec<String> = chained.into_iter().filter(|n| !names.contains(n)).cloned().collect();
    names.extend(extra);
    let mut routes: Vec<Route> = names.iter().map(|name| builder.route(name, &default, notes)).collect();
    for aliases in &routing.aliases {
        read_aliases(aliases, &mut routes, notes);
    }
    routes
}

struct Builder<'a> {
    deployments: &'a [Deployment],
    fleet: &'a Fleet,
    by_weight: bool,
    groups: Vec<(&'a str, Vec<usize>)>,
    /// Fallbacks by name.
    chains: HashMap<String, Vec<String>>,
}

impl Builder<'_> {
    /// Reads all fallbacks; returns those of names that have none of their own.
    fn read_fallbacks(&mut self, routing: &Routing<'_>, notes: &mut Notes) -> Vec<String> {
        const FORM: &str = "write tiers = [[…], […]] in the route";
        let mut default = Vec::new();
        for found in &routing.fallbacks {
            let Some(items) = found.node.list() else {
                notes.setting(found.spot.clone(), "is no list", FORM);
                continue;
            };
            for (index, item) in items.iter().enumerate() {
                let spot = found.spot.item(index, item.line);
                let Some(entries) = item.map() else {
                    notes.setting(spot, "is no mapping of a name to its fallbacks", FORM);
                    continue;
                };
                for entry in entries {
                    let spot = spot.below(&entry.name, entry.line);
                    let names = self.names(&Found { node: &entry.node, spot: spot.clone() }, notes);
                    if entry.name == "*" {
                        default = names;
                    } else if self.own_tiers(&entry.name).is_none() {
                        let why = "is for a name that leads to no deployment that was carried over";
                        notes.setting(spot, why, "add a [[route]] of that name");
                    } else {
                        self.chains.entry(entry.name.clone()).or_default().extend(names);
                    }
                }
            }
        }
        if let Some(found) = &routing.default_fallbacks {
            default = self.names(found, notes);
        }
        default
    }

    /// The names of a list of fallbacks that lead somewhere.
    fn names(&self, found: &Found<'_>, notes: &mut Notes) -> Vec<String> {
        let one = std::slice::from_ref(found.node);
        let items = found.node.list().unwrap_or(one);
        let mut names = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let spot = found.spot.item(index, item.line);
            match item.text() {
                Some(name) if self.own_tiers(name).is_some() => names.push(name.to_owned()),
                Some(_) => {
                    let why = "names a model that leads to no deployment that was carried over";
                    notes.setting(spot, why, "add its target as a tier of the route");
                }
                None => {
                    let why = "changes the request for a fallback, and requests go out byte for byte";
                    notes.setting(spot, why, "add its target as a tier of the route");
                }
            }
        }
        names
    }

    /// Where a name leads by itself: its deployments, one by its id, or what a wildcard makes of it.
    fn own_tiers(&self, name: &str) -> Option<Vec<Tier>> {
        if let Some((_, members)) = self.groups.iter().find(|(group, _)| *group == name) {
            return Some(self.ordered(members));
        }
        if let Some(index) =
            self.deployments.iter().position(|d| d.id.as_deref() == Some(name) && !d.is_wildcard())
        {
            return Some(vec![Tier { targets: vec![self.target(index, None)?], remark: None }]);
        }
        if !is_route_name(name) {
            return None;
        }
        let mut targets = Vec::new();
        for (index, deployment) in self.deployments.iter().enumerate().filter(|(_, d)| d.is_wildcard()) {
            if let Some(model) = filled(&deployment.name, &deployment.model, name) {
                targets.push(self.target(index, Some(model))?);
            }
        }
        (!targets.is_empty()).then(|| vec![Tier { targets: joined(targets), remark: None }])
    }

    fn target(&self, index: usize, model: Option<String>) -> Option<Target> {
        let deployment = self.deployments.get(index)?;
        let (server, key) = *self.fleet.places.get(index)?;
        let weight = deployment.weight.filter(|w| self.by_weight && *w > 0.0);
        let model = model.unwrap_or_else(|| deployment.model.clone());
        Some(Target { server, model, keys: BTreeSet::from([key]), weight })
    }

    /// LiteLLM takes those with the least `order` that are healthy, and of those with weights none without.
    fn ordered(&self, members: &[usize]) -> Vec<Tier> {
        let order = |index: &usize| self.deployments.get(*index).and_then(|d| d.order);
        let mut orders: Vec<Option<f64>> = members.iter().map(order).collect();
        orders.sort_by(|a, b| a.unwrap_or(f64::INFINITY).total_cmp(&b.unwrap_or(f64::INFINITY)));
        orders.dedup();
        let mut tiers = Vec::new();
        for wanted in &orders {
            let here = members.iter().filter(|index| order(index) == *wanted);
            let targets: Vec<Target> = here.filter_map(|index| self.target(*index, None)).collect();
            let weighted = targets.iter().any(|t| t.weight.is_some());
            let (first, standby): (Vec<_>, Vec<_>) =
                targets.into_iter().partition(|t| !weighted || t.weight.is_some());
            let remark = match wanted {
                Some(n) if orders.len() > 1 => Some(format!("order: {n}")),
                None if orders.len() > 1 => Some("no order: LiteLLM takes them last".to_owned()),
                _ => None,
            };
            tiers.push(Tier { targets: joined(first), remark });
            if !standby.is_empty() {
                let remark = Some("no weight: LiteLLM takes them only without the others".to_owned());
                tiers.push(Tier { targets: joined(standby), remark });
            }
        }
        tiers
    }

    fn route(&self, name: &str, default: &[String], notes: &mut Notes) -> Route {
        let mut route = Route { model: name.to_owned(), ..Route::default() };
        for tier in self.own_tiers(name).unwrap_or_default() {
            add(&mut route.tiers, tier, None);
        }
        let mut seen = HashSet::from([name.to_owned()]);
        let chain = self.chains.get(name).map_or(default, Vec::as_slice);
        self.follow(chain, &mut seen, &mut route);
        route.weighted = route.tiers.iter().flat_map(|t| &t.targets).any(|t| t.weight.is_some());
        self.time_outs(name, &mut route, notes);
        if !self.groups.iter().any(|(group, _)| *group == name) {
            route.remark = Some("a wildcard in LiteLLM; it has a route because it has fallbacks".to_owned());
        }
        route
    }

    /// Each fallback with its own fallbacks before the next, as LiteLLM asks them.
    fn follow(&self, chain: &[String], seen: &mut HashSet<String>, route: &mut Route) {
        for name in chain {
            if !seen.insert(name.clone()) {
                continue;
            }
            for tier in self.own_tiers(name).unwrap_or_default() {
                add(&mut route.tiers, tier, Some(name));
            }
            if let Some(chain) = self.chains.get(name) {
                self.follow(chain, seen, route);
            }
        }
    }

    /// One route has one time-out.
    fn time_outs(&self, name: &str, route: &mut Route, notes: &mut Notes) {
        type Get = fn(&Deployment) -> Option<u64>;
        let members = self.groups.iter().find(|(group, _)| *group == name).map(|(_, m)| m.as_slice());
        let members: Vec<&Deployment> =
            members.unwrap_or_default().iter().filter_map(|i| self.deployments.get(*i)).collect();
        let of: [(&str, Get); 2] =
            [("timeout", |d| d.timeout_ms), ("stream_timeout", |d| d.stream_timeout_ms)];
        for (setting, get) in of {
            let longest = members.iter().filter_map(|d| get(d)).max();
            for deployment in members.iter().filter(|d| longest.is_some() && get(d) != longest) {
                let spot = deployment.param(setting);
                let why = "differs from that of other deployments of the name: a route has one, so the longest counts";
                notes.setting(spot, why, "`timeouts` in [[provider]] differ by provider");
            }
            match setting {
                "timeout" => route.timeout_ms = longest,
                _ => route.stream_timeout_ms = longest,
            }
        }
    }
}

/// Adds what of a tier is not there yet.
fn add(tiers: &mut Vec<Tier>, mut tier: Tier, fallback: Option<&str>) {
    for target in &mut tier.targets {
        for known in tiers.iter().flat_map(|t| &t.targets) {
            if known.server == target.server && known.model == target.model {
                target.keys.retain(|key| !known.keys.contains(key));
            }
        }
    }
    tier.targets.retain(|target| !target.keys.is_empty());
    if tier.targets.is_empty() {
        return;
    }
    if let Some(name) = fallback {
        let more = tier.remark.take().map_or_else(String::new, |remark| format!(", {remark}"));
        tier.remark = Some(format!("fallback: {name}{more}"));
    }
    tiers.push(tier);
}

/// The same model at the same server with several keys is one target; weights of one key add up.
fn joined(targets: Vec<Target>) -> Vec<Target> {
    let mut list: Vec<Target> = Vec::new();
    for target in targets {
        let same = |t: &&mut Target| t.server == target.server && t.model == target.model;
        let known = list.iter_mut().filter(same).find(|t| match (t.weight, target.weight) {
            (None, None) => true,
            (Some(_), Some(_)) => t.keys == target.keys,
            _ => false,
        });
        match known {
            Some(known) => {
                known.keys.extend(&target.keys);
                known.weight = known.weight.zip(target.weight).map(|(a, b)| a + b);
            }
            None => list.push(target),
        }
    }
    list
}

/// What a wildcard makes of a name: what stands for its `*` is put into the `*` of the model.
pub(super) fn filled(pattern: &str, model: &str, name: &str) -> Option<String> {
    let (before, after) = pattern.split_once('*')?;
    let middle = name.strip_prefix(before)?.strip_suffix(after)?;
    (!middle.is_empty() && !middle.contains('*')).then(|| model.replacen('*', middle, 1))
}

/// Other names for the same.
fn read_aliases(found: &Found<'_>, routes: &mut Vec<Route>, notes: &mut Notes) {
    let Some(entries) = found.node.map() else {
        notes.setting(found.spot.clone(), "is no mapping of names", "add a [[route]] for each name");
        return;
    };
    let by_name: BTreeMap<String, usize> =
        routes.iter().enumerate().map(|(i, route)| (route.model.clone(), i)).collect();
    for entry in entries {
        let spot = found.spot.below(&entry.name, entry.line);
        let inner = |name: &str| entry.node.map()?.iter().find(|e| e.name == name).map(|e| &e.node);
        let target = entry.node.text().or_else(|| inner("model").and_then(|n| n.text()));
        let route = target.and_then(|t| by_name.get(t)).and_then(|i| routes.get(*i));
        let name = entry.name.as_str();
        let Some(route) = route.filter(|_| is_route_name(name) && !routes.iter().any(|r| r.model == name))
        else {
            let why = "leads to no name that was carried over, or is the name of another route";
            notes.setting(spot, why, "add a [[route]] of that name");
            continue;
        };
        if inner("hidden").is_some_and(|n| n.flag() == Some(true)) {
            let spot = spot.below("hidden", entry.line);
            notes.setting(
                spot,
                "routes are listed by GET /v1/models",
                "`models` in [[client]] bounds who sees it",
            );
        }
        let alias = Route {
            model: name.to_owned(),
            tiers: route.tiers.clone(),
            weighted: route.weighted,
            timeout_ms: route.timeout_ms,
            stream_timeout_ms: route.stream_timeout_ms,
            remark: Some(format!("an alias of {}", route.model)),
        };
        routes.push(alias);
    }
}
