//! From what a caller shows to who it is: one look into a table that is replaced whole.
//!
//! Keys of the store are taken in by [`Directory::take_in`], from its feed of changes; keys of the configuration with
//! each configuration. Until the store was read once, a key that is not known may be one of its, and the gateway does
//! not know whether it is closed: it then says so instead of guessing.

use super::terms::{self, Around, Client, Dues, Status, Team};
use crate::live::Snapshot;
use arc_swap::ArcSwap;
use keymux_policy::budget::{Owner, Payers};
use keymux_policy::{ClientId, TeamId};
use keymux_store as store;
use sha2::{Digest as _, Sha256};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Digest = [u8; 32];

/// Whom a presented key belongs to.
#[derive(Debug)]
pub enum Found {
    /// A client that may call.
    Client(Arc<Client>),
    /// A client whose key may not be used, and why.
    Out(Arc<Client>, Status),
    /// One whose time is over.
    Expired(Arc<Client>),
    /// Nobody.
    Unknown,
    /// Nobody that is known so far: the store could not be read yet.
    Unread,
}

/// All clients.
pub struct Directory {
    table: ArcSwap<Table>,
    kept: Mutex<Kept>,
}

/// What the data path looks at.
#[derive(Clone, Default)]
struct Table {
    seats: HashMap<Digest, Seat>,
    /// A key exists, or existed: without one, nobody may call.
    closed: bool,
    /// The store is known, or there is none.
    read: bool,
}

/// A digest's owner.
#[derive(Clone)]
struct Seat {
    client: Arc<Client>,
    /// The digest was replaced, and holds until then (milliseconds since 1970).
    until_unix_ms: Option<u64>,
}

/// What the table is made from.
#[derive(Default)]
struct Kept {
    clients: HashMap<String, store::Client>,
    teams: HashMap<String, store::Team>,
    version: u64,
    ids: Ids,
    /// Owners of the configuration in force, so that those that go are noticed.
    declared: HashSet<Owner>,
}

/// Gives names their ids, for the life of the process. 0 is whoever calls without a key of its own.
#[derive(Default)]
struct Ids {
    clients: HashMap<Arc<str>, ClientId>,
    teams: HashMap<Arc<str>, TeamId>,
}

impl Ids {
    fn client(&mut self, id: &str) -> ClientId {
        let next = ClientId(self.clients.len() as u64 + 1);
        *self.clients.entry(id.into()).or_insert(next)
    }

    fn team(&mut self, name: &str) -> Option<TeamId> {
        let next = TeamId(self.teams.len() as u64 + 1);
        (!name.is_empty()).then(|| *self.teams.entry(name.into()).or_insert(next))
    }
}

impl Directory {
    /// An empty one. `stored`: there is a store, which is still to be read.
    pub fn new(stored: bool) -> Self {
        let table = Table { read: !stored, ..Table::default() };
        Self { table: ArcSwap::from_pointee(table), kept: Mutex::default() }
    }

    /// Who shows this.
    pub fn find(&self, presented: &str, now_unix_ms: u64) -> Found {
        let table = self.table.load();
        let digest: Digest = Sha256::digest(presented.as_bytes()).into();
        let Some(Seat { client, until_unix_ms }) = table.seats.get(&digest) else {
            return if table.read { Found::Unknown } else { Found::Unread };
        };
        if until_unix_ms.is_some_and(|until| until <= now_unix_ms) {
            return Found::Unknown;
        }
        let client = client.clone();
        match client.status {
            Status::Active if client.expires_unix_ms.is_some_and(|end| end <= now_unix_ms) => {
                Found::Expired(client)
            }
            Status::Active => Found::Client(client),
            status => Found::Out(client, status),
        }
    }

    /// Whether a key exists or ever existed; `None`: nobody knows yet.
    pub fn is_closed(&self) -> Option<bool> {
        let table = self.table.load();
        (table.closed || table.read).then_some(table.closed)
    }

    /// Whether the clients of the store are known, or there is none.
    pub fn is_read(&self) -> bool {
        self.table.load().read
    }

    /// The version of the store up to which its changes are known.
    pub fn version(&self) -> u64 {
        self.kept().version
    }

    /// Whose budget a name of the ledger is, known or not.
    pub fn owner(&self, team: bool, name: &str) -> Owner {
        let ids = &mut self.kept().ids;
        let team = if team { ids.team(name) } else { None };
        team.map_or_else(|| Owner::Client(ids.client(name)), Owner::Team)
    }

    /// Looks at the clients and teams of the store as they are known.
    pub fn stored<T>(
        &self,
        look: impl FnOnce(&HashMap<String, store::Client>, &HashMap<String, store::Team>) -> T,
    ) -> T {
        let kept = self.kept();
        look(&kept.clients, &kept.teams)
    }

    /// The name of a client, for people: it walks over all, and is not for the data path.
    pub fn name(&self, id: ClientId) -> Option<Arc<str>> {
        let table = self.table.load();
        let seat = table.seats.values().find(|seat| seat.client.payers.client == id)?;
        Some(seat.client.name.clone())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another configuration is in force: everything is resolved anew. `due` hears what everybody may use up before
    /// anybody is found by it.
    pub fn configure(&self, snapshot: &Snapshot, due: impl FnOnce(&[Dues])) {
        let mut kept = self.kept();
        let before = self.table.load_full();
        let (table, dues) = self.rebuilt(&mut kept, snapshot, before.read);
        due(&dues);
        self.table.store(Arc::new(table));
    }

    /// Takes in what has changed in the store; `due` hears what those that changed may use up. When it returns, every
    /// request that comes is judged by it.
    pub fn take_in(&self, changes: store::Changes, snapshot: &Snapshot, due: impl FnOnce(&[Dues])) {
        let mut kept = self.kept();
        let before = self.table.load_full();
        if before.read && changes.clients.is_empty() && changes.teams.is_empty() {
            return;
        }
        kept.version = kept.version.max(changes.version);
        let few = before.read && changes.teams.is_empty();
        let mut touched = Vec::new();
        for team in changes.teams {
            // Two that ask at once may be answered out of order.
            if kept.teams.get(&team.name).is_none_or(|known| known.version <= team.version) {
                kept.teams.insert(team.name.clone(), team);
            }
        }
        for client in changes.clients {
            if kept.clients.get(&client.id).is_none_or(|known| known.version <= client.version) {
                let id = client.id.clone();
                let old = kept.clients.insert(id.clone(), client);
                touched.push((id, old));
            }
        }
        if !few {
            let (table, dues) = self.rebuilt(&mut kept, snapshot, true);
            due(&dues);
            self.table.store(Arc::new(table));
            return;
        }
        let mut table = Table::clone(&before);
        table.closed = true;
        let mut dues = Vec::with_capacity(touched.len());
        for (id, old) in touched {
            for digest in old.iter().flat_map(digests) {
                if table.seats.get(&digest).is_some_and(|seat| *seat.client.id == *id) {
                    table.seats.remove(&digest);
                }
            }
            dues.extend(seat_stored(&mut kept, &id, snapshot, &mut table));
        }
        due(&dues);
        self.table.store(Arc::new(table));
    }

    fn rebuilt(&self, kept: &mut Kept, snapshot: &Snapshot, read: bool) -> (Table, Vec<Dues>) {
        let config = &snapshot.config;
        let mut table = Table { read, closed: self.table.load().closed, ..Table::default() };
        table.closed |= !config.clients.is_empty() || !kept.clients.is_empty();
        let mut dues = Vec::new();
        let mut declared = HashSet::new();
        let names: Vec<Arc<str>> = config.teams.iter().map(|team| team.name.clone()).collect();
        let stored: Vec<Arc<str>> = kept.teams.keys().map(|name| name.as_str().into()).collect();
        for name in names.iter().chain(stored.iter().filter(|name| !names.contains(name))) {
            let (Some(id), Some(team)) = (kept.ids.team(name), team(kept, name, snapshot)) else { continue };
            let owner = Owner::Team(id);
            if names.contains(name) {
                declared.insert(owner);
            }
            dues.push(Dues { owner, limits: team.limits, budget: Some(team.budget) });
        }
        let ids: Vec<String> = kept.clients.keys().cloned().collect();
        for id in ids {
            dues.extend(seat_stored(kept, &id, snapshot, &mut table));
        }
        // The file's word over the store's, should both have one digest.
        for client in &config.clients {
            let team_name = client.team.and_then(|i| config.teams.get(i)).map_or("", |team| &*team.name);
            let payers = Payers {
                client: kept.ids.client(&format!("config:{}", client.name)),
                team: kept.ids.team(team_name),
            };
            let team = team(kept, team_name, snapshot);
            let (made, due) = terms::of_config(client, &Around { payers, team: team.as_ref(), snapshot });
            declared.insert(due.owner);
            dues.push(due);
            table.seats.insert(client.digest, Seat { client: Arc::new(made), until_unix_ms: None });
        }
        let known: HashSet<Owner> = dues.iter().map(|due| due.owner).collect();
        let gone = kept.declared.difference(&declared).filter(|owner| !known.contains(owner));
        dues.extend(gone.map(|owner| Dues { owner: *owner, limits: Vec::new(), budget: None }));
        kept.declared = declared;
        (table, dues)
    }
}

/// The team of this name: the configuration's, else the store's.
fn team(kept: &Kept, name: &str, snapshot: &Snapshot) -> Option<Team> {
    let declared = snapshot.config.teams.iter().find(|team| *team.name == *name).map(Team::of_config);
    declared.or_else(|| kept.teams.get(name).map(Team::of_store))
}

/// Gives a client of the store its seats.
fn seat_stored(kept: &mut Kept, id: &str, snapshot: &Snapshot, table: &mut Table) -> Option<Dues> {
    let team_name = kept.clients.get(id)?.team.clone();
    let payers = Payers { client: kept.ids.client(id), team: kept.ids.team(&team_name) };
    let team = team(kept, &team_name, snapshot);
    let stored = kept.clients.get(id)?;
    let (made, due) = terms::of_store(stored, &Around { payers, team: team.as_ref(), snapshot });
    let client = Arc::new(made);
    let of_file = |seat: &Seat| seat.client.id.starts_with("config:");
    let old = stored.previous.map(|(digest, until)| (*digest.bytes(), Some(until)));
    for (digest, until_unix_ms) in old.into_iter().chain([(*stored.digest.bytes(), None)]) {
        if !table.seats.get(&digest).is_some_and(of_file) {
            table.seats.insert(digest, Seat { client: client.clone(), until_unix_ms });
        }
    }
    Some(due)
}

fn digests(client: &store::Client) -> impl Iterator<Item = Digest> + use<> {
    let old = client.previous.map(|(digest, _)| *digest.bytes());
    [Some(*client.digest.bytes()), old].into_iter().flatten()
}
