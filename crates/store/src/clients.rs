//! Client keys and teams as they are kept: who they are, by which digest they are known, and what they may. What a limit
//! means is the business of others; here terms are values that come back as they went in.
//!
//! Each change takes the next version, in one counter for all, so that a cache asks for what came after the version it
//! has. Nothing is ever deleted that a cache might hold: a revoked key and a removed team stay as such.

use crate::digest::Digest;
use crate::sql::{Cell, Fault, Kind, Row, Sql, transaction};
use serde::{Deserialize, Serialize};

/// What a client or a team may. Empty lists and `None` mean that nothing is limited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Terms {
    /// Models, as patterns.
    pub models: Vec<String>,
    /// Providers, by name.
    pub providers: Vec<String>,
    /// Accounts, by name.
    pub accounts: Vec<String>,
    /// Provider keys, by name.
    pub keys: Vec<String>,
    /// Requests a minute.
    pub requests_a_minute: Option<u64>,
    /// Tokens a minute.
    pub tokens_a_minute: Option<u64>,
    /// Requests at once.
    pub concurrent: Option<u32>,
    /// Money.
    pub budget: Option<Budget>,
    /// Priority class, by name.
    pub priority: Option<String>,
    /// Share among its class.
    pub weight: Option<u32>,
    /// The longest wait where the request names none, in milliseconds.
    pub max_wait_ms: Option<u64>,
    /// Put on every request.
    pub tags: Vec<String>,
}

/// An amount of money and when it is there again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Nano-dollars.
    pub nano_usd: u64,
    /// When it begins anew.
    pub reset: Reset,
}

/// When a budget begins anew, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reset {
    /// At midnight.
    Daily,
    /// On Monday.
    Weekly,
    /// On the first.
    Monthly,
    /// Never.
    Never,
}

/// A client key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its id, which stays when the key is rotated.
    pub id: String,
    /// The key's digest.
    pub digest: Digest,
    /// The digest of the key before the last rotation, and until when it holds (milliseconds since 1970).
    pub previous: Option<(Digest, u64)>,
    /// What people call it.
    pub name: String,
    /// Its team; empty for none.
    pub team: String,
    /// What it may.
    pub terms: Terms,
    /// Switched off for now.
    pub disabled: bool,
    /// When it was made, in milliseconds since 1970.
    pub created_unix_ms: u64,
    /// When it ends.
    pub expires_unix_ms: Option<u64>,
    /// When it was revoked, for ever.
    pub revoked_unix_ms: Option<u64>,
    /// The change that made it what it is. Set by the store.
    pub version: u64,
}

/// A team.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Team {
    /// Its name.
    pub name: String,
    /// What all its clients together may.
    pub terms: Terms,
    /// Switched off for now.
    pub disabled: bool,
    /// It is no more.
    pub removed: bool,
    /// The change that made it what it is. Set by the store.
    pub version: u64,
}

/// What changed after some version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Clients, as they are now, revoked ones included.
    pub clients: Vec<Client>,
    /// Teams, as they are now, removed ones included.
    pub teams: Vec<Team>,
    /// Ask from here on next time.
    pub version: u64,
}

const CLIENT: &str = "SELECT id, digest, previous, previous_until_unix_ms, name, team, terms, disabled,
    created_unix_ms, expires_unix_ms, revoked_unix_ms, version FROM clients";

/// The next version. Its row stays locked until the transaction ends, so versions become visible in their order.
fn next_version(db: &mut dyn Sql) -> Result<u64, Fault> {
    let mut rows = db.rows("UPDATE version SET n = n + 1 RETURNING n", &[])?;
    rows.first_mut().ok_or_else(|| Fault::new(Kind::Schema, "the counter of versions is gone"))?.count()
}

fn terms_text(terms: &Terms) -> Result<String, Fault> {
    serde_json::to_string(terms).map_err(|e| Fault::new(Kind::Other, e.to_string()))
}

fn terms_of(text: &str) -> Result<Terms, Fault> {
    serde_json::from_str(text)
        .map_err(|e| Fault::new(Kind::Schema, format!("terms that cannot be read: {e}")))
}

fn client_of(mut row: Row) -> Result<Client, Fault> {
    let id = row.text()?;
    let bad = || Fault::new(Kind::Schema, "a digest that is none");
    let digest = row.maybe_bytes()?.as_deref().and_then(Digest::from_bytes).ok_or_else(bad)?;
    let previous = row.maybe_bytes()?.as_deref().and_then(Digest::from_bytes);
    let until = row.maybe()?;
    Ok(Client {
        id,
        digest,
        previous: previous.zip(until),
        name: row.text()?,
        team: row.text()?,
        terms: terms_of(&row.text()?)?,
        disabled: row.int()? != 0,
        created_unix_ms: row.count()?,
        expires_unix_ms: row.maybe()?,
        revoked_unix_ms: row.maybe()?,
        version: row.count()?,
    })
}

/// Everything that changed after this version; from 0, everything.
pub(crate) fn changes(db: &mut dyn Sql, after: u64) -> Result<Changes, Fault> {
    // The version first: what changes in between is told twice rather than never.
    let mut version = db.rows("SELECT n FROM version", &[])?;
    let version = version.first_mut().map(Row::count).transpose()?.unwrap_or(0);
    if version == after {
        return Ok(Changes { version, ..Changes::default() });
    }
    let after = [Cell::count(after)];
    let clients = db.rows(&format!("{CLIENT} WHERE version > $1 ORDER BY version"), &after)?;
    let teams = db.rows(
        "SELECT name, terms, disabled, removed, version FROM teams WHERE version > $1 ORDER BY version",
        &after,
    )?;
    let team = |mut row: Row| {
        Ok(Team {
            name: row.text()?,
            terms: terms_of(&row.text()?)?,
            disabled: row.int()? != 0,
            removed: row.int()? != 0,
            version: row.count()?,
        })
    };
    Ok(Changes {
        clients: clients.into_iter().map(client_of).collect::<Result<_, _>>()?,
        teams: teams.into_iter().map(team).collect::<Result<_, _>>()?,
        version,
    })
}

/// Keeps new clients, all or none; their versions are set here.
///
/// # Errors
/// [`Kind::Taken`] if an id or a digest is in use.
pub(crate) fn add(db: &mut dyn Sql, clients: &mut [Client]) -> Result<(), Fault> {
    let terms: Vec<String> = clients.iter().map(|c| terms_text(&c.terms)).collect::<Result<_, _>>()?;
    let version = transaction(db, |db| {
        let version = next_version(db)?;
        let cells: Vec<Vec<Cell<'_>>> = clients
            .iter()
            .zip(&terms)
            .map(|(c, terms)| {
                vec![
                    Cell::Text(&c.id),
                    Cell::Bytes(c.digest.bytes()),
                    Cell::Text(&c.name),
                    Cell::Text(&c.team),
                    Cell::Text(terms),
                    Cell::count(c.disabled.into()),
                    Cell::count(c.created_unix_ms),
                    Cell::maybe(c.expires_unix_ms),
                    Cell::count(version),
                ]
            })
            .collect();
        db.run_many(
            "INSERT INTO clients (id, digest, name, team, terms, disabled, created_unix_ms, expires_unix_ms, version)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            &cells,
        )?;
        Ok(version)
    })?;
    for client in clients {
        client.version = version;
    }
    Ok(())
}

/// One row must have been touched, else it is not there or no longer what the caller saw.
fn changed(touched: u64) -> Result<(), Fault> {
    if touched == 1 {
        return Ok(());
    }
    Err(Fault::new(
        Kind::Changed,
        "there is no such client any more, or somebody else has changed it: look again",
    ))
}

/// Changes name, team, terms, expiry and whether it is disabled, if the client is still the one of this version and not
/// revoked. Returns the new version.
///
/// # Errors
/// [`Kind::Changed`] if it is not.
pub(crate) fn change(db: &mut dyn Sql, client: &Client) -> Result<u64, Fault> {
    let terms = terms_text(&client.terms)?;
    transaction(db, |db| {
        let version = next_version(db)?;
        let touched = db.run(
            "UPDATE clients SET name = $1, team = $2, terms = $3, disabled = $4, expires_unix_ms = $5, version = $6
             WHERE id = $7 AND version = $8 AND revoked_unix_ms IS NULL",
            &[
                Cell::Text(&client.name),
                Cell::Text(&client.team),
                Cell::Text(&terms),
                Cell::count(client.disabled.into()),
                Cell::maybe(client.expires_unix_ms),
                Cell::count(version),
                Cell::Text(&client.id),
                Cell::count(client.version),
            ],
        )?;
        changed(touched).map(|()| version)
    })
}

/// Gives a client a new key; the old one holds until the instant given, or no longer. Returns the new version.
///
/// # Errors
/// [`Kind::Changed`] if there is no such client or it is revoked, [`Kind::Taken`] if the digest is in use.
pub(crate) fn rotate(
    db: &mut dyn Sql,
    id: &str,
    to: Digest,
    old_until_unix_ms: Option<u64>,
) -> Result<u64, Fault> {
    transaction(db, |db| {
        let version = next_version(db)?;
        let keep = Cell::maybe(old_until_unix_ms);
        let touched = db.run(
            "UPDATE clients SET previous = CASE WHEN CAST($1 AS BIGINT) = 1 THEN digest END, previous_until_unix_ms = $2, digest = $3,
             version = $4 WHERE id = $5 AND revoked_unix_ms IS NULL",
            &[
                Cell::count(old_until_unix_ms.is_some().into()),
                keep,
                Cell::Bytes(to.bytes()),
                Cell::count(version),
                Cell::Text(id),
            ],
        )?;
        changed(touched).map(|()| version)
    })
}

/// Ends a key for ever, and the one before it. Returns the new version. A key that is revoked stays as it is.
///
/// # Errors
/// [`Kind::Changed`] if there is no such client.
pub(crate) fn revoke(db: &mut dyn Sql, id: &str, now_unix_ms: u64) -> Result<u64, Fault> {
    transaction(db, |db| {
        let version = next_version(db)?;
        let touched = db.run(
            "UPDATE clients SET revoked_unix_ms = coalesce(revoked_unix_ms, $1), previous = NULL,
             previous_until_unix_ms = NULL, version = $2 WHERE id = $3",
            &[Cell::count(now_unix_ms), Cell::count(version), Cell::Text(id)],
        )?;
        changed(touched).map(|()| version)
    })
}

/// Keeps a team as it is given, new or known. Returns the new version.
pub(crate) fn put_team(db: &mut dyn Sql, team: &Team) -> Result<u64, Fault> {
    let terms = terms_text(&team.terms)?;
    transaction(db, |db| {
        let version = next_version(db)?;
        db.run(
            "INSERT INTO teams (name, terms, disabled, removed, version) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (name) DO UPDATE SET terms = excluded.terms, disabled = excluded.disabled,
             removed = excluded.removed, version = excluded.version",
            &[
                Cell::Text(&team.name),
                Cell::Text(&terms),
                Cell::count(team.disabled.into()),
                Cell::count(team.removed.into()),
                Cell::count(version),
            ],
        )?;
        Ok(version)
    })
}
