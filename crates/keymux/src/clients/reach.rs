//! Where a client's requests may go: its models by the names that it uses, fallbacks included, and the providers and
//! keys behind them. A request for something else is refused by name; whatever the scheduler chooses later, for a
//! retry too, it chooses among what is allowed.

use super::Client;
use crate::errors::{Kind, Problem};
use crate::live::Snapshot;
use crate::plan::Read;
use keymux_config::Route;
use keymux_policy::Destination;
use keymux_policy::fleet::{KeyId, ProviderId};
use keymux_wire::{beside, charges};

/// The providers and keys that a destination leads to, as the configuration has them.
pub fn targets<'a>(
    snapshot: &'a Snapshot,
    to: &'a Destination,
    route: Option<usize>,
) -> Box<dyn Iterator<Item = (ProviderId, KeyId)> + 'a> {
    match (to, route.and_then(|route| snapshot.config.routes.get(route))) {
        (_, Some(route)) => Box::new(of_route(snapshot, route)),
        (Destination::Adhoc { provider, .. }, None) => {
            let index = snapshot.provider_ids.iter().position(|id| id == provider);
            let keys = index.map_or(&[][..], |index| &snapshot.key_ids[index]);
            Box::new(keys.iter().map(|key| (*provider, *key)))
        }
        (Destination::Route(_), None) => Box::new(std::iter::empty()),
    }
}

fn of_route<'a>(snapshot: &'a Snapshot, route: &'a Route) -> impl Iterator<Item = (ProviderId, KeyId)> + 'a {
    route.tiers.iter().flatten().flat_map(|target| {
        let (provider, all) = (snapshot.provider_ids[target.provider], &snapshot.key_ids[target.provider]);
        let named = target.keys.iter().map(|key| all[*key]);
        let every = all.iter().copied().filter(|_| target.keys.is_empty());
        named.chain(every).map(move |key| (provider, key))
    })
}

impl Client {
    /// Whether it may use a route of the configuration at all.
    pub fn may_ask_for_route(&self, snapshot: &Snapshot, route: &Route) -> bool {
        self.models.matches(&route.model)
            && of_route(snapshot, route).any(|(provider, key)| self.may_use(provider, key))
    }

    /// Whether it may use a provider's model that has no route: under its own name, or behind the provider's.
    pub fn may_ask_for(&self, snapshot: &Snapshot, provider: usize, model: &str) -> bool {
        let id = snapshot.provider_ids[provider];
        let default = snapshot.config.default_provider == Some(provider);
        let by_name = self.models.matches(&format!("{}:{model}", snapshot.config.providers[provider].name))
            || (default && self.models.matches(model));
        by_name && snapshot.key_ids[provider].iter().any(|key| self.may_use(id, *key))
    }

    /// Refuses what it may not have.
    pub fn check(
        &self,
        snapshot: &Snapshot,
        (read, body): (&Read<'_>, &[u8]),
        (to, route): (&Destination, Option<usize>),
    ) -> Result<(), Problem> {
        if !self.models.0.is_empty() {
            self.check_model(snapshot, read.model(), to)?;
            for name in listed(read)? {
                self.check_model(snapshot, &name, to)?;
            }
            self.check_hidden(snapshot, (read, body), to)?;
        }
        if self.allowed.is_none() || targets(snapshot, to, route).any(|(p, k)| self.may_use(p, k)) {
            return Ok(());
        }
        let mut names: Vec<&str> = Vec::new();
        for (provider, _) in targets(snapshot, to, route) {
            let name = snapshot.upstream(provider).map_or("", |upstream| &*upstream.name);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let message = format!(
            "The key `{}` may use no provider, account or key that serves this model (it is served by {}).",
            self.name,
            names.join(", ")
        );
        Err(Problem::new(Kind::NotAllowed, message).at("not_allowed", Some("model")))
    }

    /// Models that a provider would choose by other fields than `model` and `models`.
    fn check_hidden(
        &self,
        snapshot: &Snapshot,
        (read, body): (&Read<'_>, &[u8]),
        to: &Destination,
    ) -> Result<(), Problem> {
        let Read::Json(_) = read else { return Ok(()) };
        let Some(charges) = charges::read(body) else {
            let message = format!(
                "The key `{}` may use certain models only, and this body is nested too deep to see which it names.",
                self.name
            );
            return Err(Problem::new(Kind::NotAllowed, message).at("model_not_allowed", None));
        };
        for name in &charges.fallbacks {
            self.check_model(snapshot, name, to)?;
        }
        if charges.unbounded.iter().any(|name| name == "preset") {
            return Err(self.may_be_any("a preset", "preset"));
        }
        if charges.unbounded.is_empty() {
            // No plug-in, and no tool but the client's own.
            return Ok(());
        }
        let beside = beside::read(body).ok_or_else(|| self.may_be_any("a field given twice", "tools"))?;
        // Of a type given twice, the other one.
        let hidden = |name: &&String| !charges::is_field(name) && !beside.kinds.contains(name);
        if let Some(tool) = charges.unbounded.iter().find(hidden) {
            return Err(self.may_be_any(&format!("`{}`", shown(tool)), "tools"));
        }
        for name in &beside.models {
            self.check_model(snapshot, name, to)?;
        }
        match beside.choosers.first() {
            Some(tool) => Err(self.may_be_any(&format!("`{}`", shown(tool)), "tools")),
            None => Ok(()),
        }
    }

    fn may_be_any(&self, what: &str, field: &'static str) -> Problem {
        let message = format!("The key `{}` may use certain models only, and {what} may use any.", self.name);
        Problem::new(Kind::NotAllowed, message).at("model_not_allowed", Some(field))
    }

    fn check_model(&self, snapshot: &Snapshot, name: &str, to: &Destination) -> Result<(), Problem> {
        // Another name for the same thing.
        let behind_provider = || match to {
            Destination::Adhoc { provider, .. } if !name.contains(':') => {
                let upstream = snapshot.upstream(*provider);
                upstream.is_some_and(|upstream| self.models.matches(&format!("{}:{name}", upstream.name)))
            }
            _ => false,
        };
        // A preset may name any model, so it has to be allowed as such.
        let preset = name.contains("@preset")
            && !self.models.0.iter().any(|allowed| allowed.contains("@preset") || &**allowed == "*");
        if !preset && (self.models.matches(name) || behind_provider()) {
            return Ok(());
        }
        let message = format!("The key `{}` may not use the model `{}`.", self.name, shown(name));
        Err(Problem::new(Kind::NotAllowed, message).at("model_not_allowed", Some("model")))
    }
}

fn shown(name: &str) -> String {
    name.chars().take(120).collect()
}

/// The fallbacks that the request names itself.
fn listed(read: &Read<'_>) -> Result<Vec<String>, Problem> {
    let Read::Json(head) = read else { return Ok(Vec::new()) };
    let Some(models) = head.models.as_ref().filter(|models| !models.is_null()) else { return Ok(Vec::new()) };
    serde_json::from_str(models.raw).map_err(|_| {
        let message = "`models` must be a list of names: what it allows cannot be checked otherwise.";
        Problem::new(Kind::InvalidBody, message).at("invalid_models", Some("models"))
    })
}
