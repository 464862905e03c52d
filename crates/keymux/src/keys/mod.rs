//! Client keys and teams as people and tools manage them: made, looked at, changed, replaced, ended. Both surfaces stand
//! on this, the admin API and OpenRouter's own; it knows neither. What a key may is judged elsewhere ([`crate::clients`]),
//! which is told of each change before the change is answered.

pub(crate) mod openrouter;
pub(crate) mod shown;
mod spent;
mod typed;

pub(crate) use spent::{All, Spent, in_period, of_one};
pub use typed::Told;
pub(crate) use typed::{COUNT_MAX, WAIT_MS_MAX, WEIGHT_MAX};

use crate::random;
use crate::serve::Gateway;
use keymux_store::{Client, Digest, Fault, Kind, Store, Team};
use serde_json::{Map, Value};
use std::sync::Arc;

/// Fields as somebody sent them.
pub(crate) type Fields = Map<String, Value>;

/// How often a change that somebody else overtook is tried on what is there now.
const AGAIN: usize = 5;
/// The longest that an old key may go on beside a new one: thirty days.
const GRACE_S_MAX: u64 = 30 * 86_400;

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// As HTTP says it.
    pub status: u16,
    /// In one word.
    pub code: &'static str,
    /// What is wrong, with which field, and what to do. Never empty.
    pub told: Vec<Told>,
}

impl Trouble {
    pub(crate) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, told: vec![Told { field: None, message: message.into() }] }
    }

    fn fields(told: Vec<Told>) -> Self {
        Self { status: 400, code: "invalid_field", told }
    }

    pub(crate) fn unknown(what: &str, name: &str) -> Self {
        let name: String = name.chars().take(120).collect();
        Self::new(404, "not_found", format!("There is no {what} `{name}`."))
    }

    fn declared(section: &str, name: &str) -> Self {
        let message = format!(
            "`{name}` is declared in the configuration: change its {section} there, the file is read again by itself."
        );
        Self::new(403, "declared_in_configuration", message)
    }

    /// In one line.
    pub(crate) fn message(&self) -> String {
        let one = |told: &Told| match &told.field {
            Some(field) => format!("{field}: {}", told.message),
            None => told.message.clone(),
        };
        self.told.iter().map(one).collect::<Vec<_>>().join("; ")
    }
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        match fault.kind {
            Kind::Changed => Self::new(409, "version_conflict", "Somebody else has changed it: look again."),
            Kind::Taken => Self::new(409, "taken", "There is such a key already."),
            _ => Self::new(
                503,
                "ledger_unavailable",
                format!(
                    "The database of client keys cannot be reached ({fault}); keys that are known stay in force."
                ),
            ),
        }
    }
}

/// A store that can be changed, and a directory that knows it.
async fn store(gateway: &Gateway) -> Result<&Arc<Store>, Trouble> {
    let Some(store) = &gateway.store else {
        let message = "This gateway keeps no client keys: `ledger.database` is \"off\". Declare them by [[client]] in the \
                       configuration, or give it a database.";
        return Err(Trouble::new(409, "ledger_off", message));
    };
    gateway.refresh_clients().await?;
    Ok(store)
}

fn now_ms(gateway: &Gateway) -> u64 {
    gateway.clock.now().unix_ns / 1_000_000
}

/// Keys of the store, by what `wanted` says, oldest first.
pub(crate) async fn list(
    gateway: &Gateway,
    wanted: impl Fn(&Client) -> bool,
) -> Result<Vec<Client>, Trouble> {
    // Those that are known are shown also while the database is away; those that were never read cannot be.
    if gateway.store.is_some()
        && let Err(fault) = gateway.refresh_clients().await
        && !gateway.directory.is_read()
    {
        return Err(fault.into());
    }
    let mut found: Vec<Client> = gateway
        .directory
        .stored(|clients, _| clients.values().filter(|client| wanted(client)).cloned().collect());
    found.sort_by(|a, b| (a.created_unix_ms, &a.id).cmp(&(b.created_unix_ms, &b.id)));
    Ok(found)
}

/// One key of the store: by its id, or by the digest of its secret in hexadecimal digits.
pub(crate) async fn get(gateway: &Gateway, id: &str) -> Result<Client, Trouble> {
    if let Some(name) = id.strip_prefix("config:")
        && gateway.live.load().config.clients.iter().any(|client| *client.name == *name)
    {
        return Err(Trouble::declared("[[client]]", name));
    }
    if gateway.store.is_some() {
        gateway.refresh_clients().await?;
    }
    known(gateway, id).ok_or_else(|| Trouble::unknown("client key", id))
}

fn known(gateway: &Gateway, id: &str) -> Option<Client> {
    gateway.directory.stored(|clients, _| {
        let by_hash = || {
            let fits = |c: &&Client| id.len() == 64 && c.digest.to_string() == id;
            clients.values().find(fits)
        };
        clients.get(id).or_else(by_hash).cloned()
    })
}

/// Makes a key. Its secret is told here, and never again.
pub(crate) async fn create(gateway: &Gateway, fields: &Fields) -> Result<(Client, String), Trouble> {
    let store = store(gateway).await?;
    let secret = random::client_key();
    let now_unix_ms = now_ms(gateway);
    let mut client = Client {
        id: format!("ck-{}", random::hex::<8>()),
        digest: Digest::of(&secret),
        previous: None,
        name: String::new(),
        team: String::new(),
        terms: keymux_store::Terms::default(),
        disabled: false,
        created_unix_ms: now_unix_ms,
        expires_unix_ms: None,
        revoked_unix_ms: None,
        version: 0,
    };
    typed::client(fields, &mut client, gateway, now_unix_ms).map_err(Trouble::fields)?;
    if client.name.is_empty() {
        let told = Told::of("name", "a key needs a name: say who calls with it");
        return Err(Trouble::fields(vec![told]));
    }
    let made = store.add_clients(vec![client]).await?.pop();
    gateway.refresh_clients().await?;
    let made = made.ok_or_else(|| Trouble::new(500, "internal_error", "The key was not kept."))?;
    Ok((made, secret))
}

fn is_of(version: u64, wanted: Option<u64>) -> Result<(), Trouble> {
    match wanted {
        Some(wanted) if wanted != version => {
            let message = format!(
                "It is of version {version} now, and the change was meant for {wanted}: look again, then repeat it."
            );
            Err(Trouble::new(409, "version_conflict", message))
        }
        _ => Ok(()),
    }
}

fn is_open(client: &Client) -> Result<(), Trouble> {
    if client.revoked_unix_ms.is_none() {
        return Ok(());
    }
    let message = format!("The key `{}` has been revoked, which is for ever: make a new one.", client.name);
    Err(Trouble::new(409, "key_revoked", message))
}

/// Changes a key: fields that are named, `null` taking a limit away. `version` is the one that the change is meant for.
pub(crate) async fn change(
    gateway: &Gateway,
    id: &str,
    fields: &Fields,
    version: Option<u64>,
) -> Result<Client, Trouble> {
    let mut tries = 0;
    loop {
        let store = store(gateway).await?;
        let mut client = get(gateway, id).await?;
        is_of(client.version, version)?;
        is_open(&client)?;
        typed::client(fields, &mut client, gateway, now_ms(gateway)).map_err(Trouble::fields)?;
        if client.name.is_empty() {
            return Err(Trouble::fields(vec![Told::of("name", "a key needs a name: say who calls with it")]));
        }
        tries += 1;
        match store.change_client(client.clone()).await {
            Ok(version) => {
                gateway.refresh_clients().await?;
                return Ok(Client { version, ..client });
            }
            Err(fault) if fault.kind == Kind::Changed && version.is_none() && tries < AGAIN => {}
            Err(fault) => return Err(fault.into()),
        }
    }
}

/// Gives a key another secret; the old one goes on for so many seconds.
pub(crate) async fn rotate(
    gateway: &Gateway,
    id: &str,
    grace_s: u64,
    version: Option<u64>,
) -> Result<(Client, String), Trouble> {
    if grace_s > GRACE_S_MAX {
        let message = format!("the old key can go on for {GRACE_S_MAX} seconds (30 days) at most");
        return Err(Trouble::fields(vec![Told::of("grace_s", message)]));
    }
    let store = store(gateway).await?;
    let client = get(gateway, id).await?;
    is_of(client.version, version)?;
    is_open(&client)?;
    let secret = random::client_key();
    let until = (grace_s > 0).then(|| now_ms(gateway) + grace_s * 1_000);
    store.rotate_client(&client.id, Digest::of(&secret), until).await?;
    gateway.refresh_clients().await?;
    let client = known(gateway, &client.id).ok_or_else(|| Trouble::unknown("client key", id))?;
    Ok((client, secret))
}

/// Ends a key for ever. Once it returns, no request is let in by it.
pub(crate) async fn revoke(gateway: &Gateway, id: &str, version: Option<u64>) -> Result<Client, Trouble> {
    let store = store(gateway).await?;
    let client = get(gateway, id).await?;
    is_of(client.version, version)?;
    if client.revoked_unix_ms.is_some() {
        return Ok(client);
    }
    store.revoke_client(&client.id, now_ms(gateway)).await?;
    gateway.refresh_clients().await?;
    known(gateway, &client.id).ok_or_else(|| Trouble::unknown("client key", id))
}

/// Teams of the store, by name.
pub(crate) async fn teams(gateway: &Gateway) -> Result<Vec<Team>, Trouble> {
    if gateway.store.is_some() {
        gateway.refresh_clients().await?;
    }
    let mut found: Vec<Team> =
        gateway.directory.stored(|_, teams| teams.values().filter(|team| !team.removed).cloned().collect());
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// One team of the store.
pub(crate) async fn team(gateway: &Gateway, name: &str) -> Result<Team, Trouble> {
    if gateway.live.load().config.teams.iter().any(|team| *team.name == *name) {
        return Err(Trouble::declared("[[team]]", name));
    }
    teams(gateway)
        .await?
        .into_iter()
        .find(|team| team.name == name)
        .ok_or_else(|| Trouble::unknown("team", name))
}

/// Makes a team, or changes the fields that are named. Whether it is new.
pub(crate) async fn put_team(
    gateway: &Gateway,
    name: &str,
    fields: &Fields,
    version: Option<u64>,
) -> Result<(Team, bool), Trouble> {
    let store = store(gateway).await?;
    let (mut team, new) = match team(gateway, name).await {
        Ok(team) => (team, false),
        Err(trouble) if trouble.status == 404 => {
            typed::name(name).map_err(|message| Trouble::fields(vec![Told::of("name", message)]))?;
            (Team { name: name.to_owned(), ..Team::default() }, true)
        }
        Err(trouble) => return Err(trouble),
    };
    is_of(team.version, version)?;
    typed::team(fields, &mut team).map_err(Trouble::fields)?;
    team.version = store.put_team(team.clone()).await?;
    gateway.refresh_clients().await?;
    Ok((team, new))
}

/// Ends a team in which no key is left.
pub(crate) async fn remove_team(gateway: &Gateway, name: &str, version: Option<u64>) -> Result<(), Trouble> {
    let store = store(gateway).await?;
    let team = team(gateway, name).await?;
    is_of(team.version, version)?;
    let left = list(gateway, |c| c.team == name && c.revoked_unix_ms.is_none()).await?.len();
    if left > 0 {
        let message =
            format!("{left} keys are still in the team `{name}`: revoke them, or give them another team.");
        return Err(Trouble::new(409, "team_in_use", message));
    }
    store.put_team(Team { removed: true, ..team }).await?;
    gateway.refresh_clients().await?;
    Ok(())
}
