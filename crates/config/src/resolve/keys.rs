//! The keys and accounts of a provider.

use super::{check_name, limits, secrets};
use crate::config::{Account, Key};
use crate::problem::{At, Findings, Place, did_you_mean};
use crate::secret::SecretSource;
use crate::text::file;
use crate::text::leaf::SecretText;
use crate::text::read::Section as _;
use crate::world::World;
use keymux_policy::fleet::LimitSpec;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Whose keys they are.
pub(super) struct Owners<'a> {
    pub(super) provider: &'a Arc<str>,
    pub(super) place: Place,
    /// Whether the provider may be used without any key.
    pub(super) keyless: bool,
    /// Whether its keys were written, but could not be read.
    pub(super) told_of_keys: bool,
    /// Limits of each account.
    pub(super) limits: &'a [LimitSpec],
}

/// Accounts by name, as they come to be.
struct Accounts {
    list: Vec<Account>,
    index: HashMap<Arc<str>, usize>,
    /// Accounts that exist only because a key names them: where none is declared, nobody needs to.
    named: HashSet<usize>,
}

pub(super) fn resolve(
    typed: Option<At<Vec<At<file::Key>>>>,
    declared: Option<At<Vec<At<file::Account>>>>,
    owners: &Owners<'_>,
    world: &World<'_>,
    found: &mut Findings,
) -> (Vec<Account>, Vec<Key>) {
    let mut accounts = accounts(declared, owners, found);
    let declared = accounts.list.len();
    let mut entries = typed.unwrap_or_default();
    if entries.value.is_empty() {
        if owners.keyless {
            entries.value.push(At::nowhere(file::Key {
                name: Some(At::nowhere(owners.provider.to_string())),
                auth: Some(At::nowhere("none".to_owned())),
                ..file::Key::default()
            }));
        } else {
            let place = if entries.place == Place::NONE { owners.place } else { entries.place };
            let hint = "add keys = [ { name = \"main\", secret = \"env:…\" } ], or auth = \"none\" if it wants no key";
            let message = format!("the provider \"{}\" has no key", owners.provider);
            found.missing(owners.told_of_keys, place, message, hint);
        }
    }
    let mut names: HashSet<Arc<str>> = HashSet::new();
    let mut keys: Vec<Key> = Vec::with_capacity(entries.value.len());
    let mut places = Vec::with_capacity(entries.value.len());
    for (i, At { value: key, place }) in entries.value.into_iter().enumerate() {
        let at = key.name.as_ref().map_or(place, |n| n.place);
        let told = |setting| key.unread().contains(&setting);
        let may_lack = owners.keyless || told("secret") || told("auth");
        let name = key_name(key.name.as_ref(), i, (place, told("name")), found);
        if !names.insert(name.clone()) {
            let message = format!("there are two keys named \"{name}\"");
            found.error(at, message, "names tell keys apart in logs and metrics: give each its own");
        }
        let account = account_of(key.account.as_ref(), &name, at, declared, &mut accounts, owners, found);
        places.push(key.secret.as_ref().map_or(at, |s| s.place));
        let (secret, source) = credential(key.secret, key.auth.as_ref(), (place, may_lack), world, found);
        keys.push(Key {
            name,
            account,
            secret,
            weight: key.weight.map_or(1.0, |w| w.0),
            enabled: key.enabled.is_none_or(|b| b.value),
            models: limits::models(key.models),
            limits: limits::resolve(key.limits, found),
            source,
        });
    }
    check_same_secret(&keys, &places, found);
    if !keys.is_empty() && keys.iter().all(|k| !k.enabled) {
        let message = format!("every key of \"{}\" is switched off", owners.provider);
        found.warning(owners.place, message, "set enabled = true for one of them");
    }
    (accounts.list, keys)
}

fn accounts(
    declared: Option<At<Vec<At<file::Account>>>>,
    owners: &Owners<'_>,
    found: &mut Findings,
) -> Accounts {
    let mut accounts = Accounts { list: Vec::new(), index: HashMap::new(), named: HashSet::new() };
    for At { value: account, place } in declared.unwrap_or_default().value {
        let told = account.unread().contains(&"name");
        let own = limits::resolve(account.limits, found);
        let Some(name) = account.name else {
            let hint = "add name = \"…\", the one that keys mention";
            found.missing(told, place, "this account has no name", hint);
            continue;
        };
        check_name("an account", &name, name.place, found);
        let shared: Arc<str> = name.value.as_str().into();
        if accounts.index.insert(shared.clone(), accounts.list.len()).is_some() {
            let message = format!("there are two accounts named \"{shared}\"");
            found.error(name.place, message, "put all limits into one");
        }
        accounts.list.push(Account { name: shared, named: true, limits: limits::over(owners.limits, own) });
    }
    accounts
}

fn key_name(
    typed: Option<&At<String>>,
    index: usize,
    (place, told): (Place, bool),
    found: &mut Findings,
) -> Arc<str> {
    let Some(name) = typed else {
        let hint = "add name = \"…\": it stands for the secret in logs and metrics";
        found.missing(told, place, "this key has no name", hint);
        return format!("key-{}", index + 1).into();
    };
    check_name("a key", name, name.place, found);
    name.value.as_str().into()
}

/// Index of the key's account; without one, an account of its own.
fn account_of(
    named: Option<&At<String>>,
    key: &Arc<str>,
    at: Place,
    declared: usize,
    accounts: &mut Accounts,
    owners: &Owners<'_>,
    found: &mut Findings,
) -> usize {
    if let Some(named) = named {
        let index = accounts.index.get(named.value.as_str()).copied();
        if let Some(index) = index.filter(|i| *i < declared || accounts.named.contains(i)) {
            return index;
        }
        if declared == 0 && index.is_none() {
            check_name("an account", named, named.place, found);
            let index = accounts.add(named.value.as_str().into(), owners);
            accounts.named.insert(index);
            accounts.list[index].named = true;
            return index;
        }
        let known: Vec<&str> = accounts.list.iter().take(declared).map(|a| &*a.name).collect();
        let near = crate::problem::nearest(named, known.iter().copied());
        let hint = match near {
            Some(_) => did_you_mean(named, &known, ""),
            None => format!("declare it: [[provider.account]] name = \"{}\"", named.value.escape_debug()),
        };
        found.error(named.place, format!("there is no account \"{}\"", named.value.escape_debug()), hint);
        return 0;
    }
    if let Some(&index) = accounts.index.get(key) {
        if index < declared || accounts.named.contains(&index) {
            let message = format!(
                "the key \"{key}\" has the name of an account, but does not say whether it belongs to it"
            );
            found.error(at, message, format!("add account = \"{key}\", or give the key another name"));
        }
        return index;
    }
    accounts.add(key.clone(), owners)
}

impl Accounts {
    /// An account that nobody declared, with the limits of its provider.
    fn add(&mut self, name: Arc<str>, owners: &Owners<'_>) -> usize {
        let index = self.list.len();
        self.index.insert(name.clone(), index);
        self.list.push(Account { name, named: false, limits: owners.limits.to_vec() });
        index
    }
}

fn credential(
    secret: Option<At<SecretText>>,
    auth: Option<&At<String>>,
    (place, may_lack): (Place, bool),
    world: &World<'_>,
    found: &mut Findings,
) -> (Option<crate::secret::Secret>, SecretSource) {
    let none = match auth {
        Some(auth) if auth.value == "none" => true,
        Some(auth) => {
            let message = format!("unknown auth \"{}\" of a key", auth.value.escape_debug());
            found.error(
                auth.place,
                message,
                "a key knows only \"none\"; how keys are sent is `auth` of the provider",
            );
            true
        }
        None => false,
    };
    match (secret, none) {
        (Some(secret), true) => {
            found.error(secret.place, "this key has a secret and auth = \"none\"", "leave one of them out");
            (None, SecretSource::None)
        }
        (Some(secret), false) => secrets::fetch(&secret, world, found),
        (None, false) if !may_lack => {
            let hint = "add secret = \"env:NAME\", or auth = \"none\" if the server wants no key";
            found.error(place, "this key has no secret", hint);
            (None, SecretSource::None)
        }
        (None, _) => (None, SecretSource::None),
    }
}

/// The same secret twice would be counted as two quotas where there is one.
fn check_same_secret(keys: &[Key], places: &[Place], found: &mut Findings) {
    let mut seen: HashMap<&str, &Key> = HashMap::new();
    for (key, place) in keys.iter().zip(places) {
        let Some(secret) = &key.secret else { continue };
        if let Some(first) = seen.insert(secret.expose(), key) {
            let message = format!("the keys \"{}\" and \"{}\" hold the same secret", first.name, key.name);
            found.error(*place, message, "one key is one quota: drop one of them");
        }
    }
}
