//! State that lives at a provider: a stored response can be built on only by the client that had it made, and only with
//! the account that made it; so can the items of its output, a container in which its code ran, and a picture that is
//! kept there. A response that was made before this process began is found in the ledger; items, and containers, which
//! live for minutes, are forgotten. What did not come through here (files, conversations) is unknown: a caller with a key
//! of its own does not get it, because it may be another's; without such keys it is tried where a single account could
//! hold it. Templates of prompts and skills are the account's own, made by its owners and no client's: whoever may use
//! the account may use them, where it is the only one in question.

use crate::clients::Client;
use crate::errors::{Kind, Problem};
use crate::live::Snapshot;
use crate::plan::{Plan, Read};
use crate::serve::Gateway;
use keymux_policy::ClientId;
use keymux_policy::fleet::AccountId;
use keymux_wire::stored::{Stored, Whose};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};

/// Responses kept at once; the oldest give way.
const RESPONSES_MAX: usize = 200_000;

/// Likewise what else was made. An answer has some items, each of which may be named: about 20 MB.
const THINGS_MAX: usize = 450_000;

/// Which account made which response, and what else it made.
#[derive(Default)]
pub struct Bound {
    /// By a secret hash: short whatever the id is, and nobody can look for two ids that share one.
    hasher: RandomState,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// By client and id.
    responses: Recent,
    /// Items, containers and pictures: whoever was first told of one has it.
    things: Recent,
}

/// Whose what is, and where.
#[derive(Default)]
struct Recent {
    of: HashMap<u64, (ClientId, AccountId)>,
    order: VecDeque<u64>,
}

impl Recent {
    /// One more, in whose place the oldest of more than `most` go.
    fn push(&mut self, hash: u64, whose: (ClientId, AccountId), most: usize) {
        if let Entry::Vacant(place) = self.of.entry(hash) {
            place.insert(whose);
            self.order.push_back(hash);
        }
        while self.order.len() > most {
            if let Some(oldest) = self.order.pop_front() {
                self.of.remove(&oldest);
            }
        }
    }
}

impl Bound {
    /// A client's answer came from this account.
    pub fn remember(&self, client: ClientId, id: &str, account: AccountId) {
        let hash = self.hasher.hash_one((client, id));
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.responses.push(hash, (client, account), RESPONSES_MAX);
    }

    /// A client's answer from this account names these as made for it.
    pub fn made(&self, client: ClientId, ids: &[String], account: AccountId) {
        if ids.is_empty() {
            return;
        }
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            inner.things.push(self.hasher.hash_one(id.as_str()), (client, account), THINGS_MAX);
        }
    }

    /// Whose it is, and where.
    fn thing(&self, id: &str) -> Option<(ClientId, AccountId)> {
        let hash = self.hasher.hash_one(id);
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).things.of.get(&hash).copied()
    }

    fn account(&self, client: ClientId, id: &str) -> Option<AccountId> {
        let hash = self.hasher.hash_one((client, id));
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.responses.of.get(&hash).map(|(_, account)| *account)
    }
}

/// Binds a request that builds on something stored to the account that keeps it.
///
/// # Errors
/// Nobody can tell which account that is, it is not this caller's, or there are several.
pub async fn bind(
    gateway: &Gateway,
    snapshot: &Snapshot,
    read: &Read<'_>,
    plan: &mut Plan,
    caller: Option<&Client>,
) -> Result<(), Problem> {
    let Read::Json(head) = read else { return Ok(()) };
    for Stored { field, whose } in Stored::all(head) {
        let client = plan.ask.client;
        let only = || plan.only_account(snapshot);
        let open = || caller.is_none().then(only).flatten();
        let account = match whose {
            Whose::Response(id) => match gateway.bound.account(client, &id) {
                None => Box::pin(written(gateway, snapshot, caller, &id)).await.or_else(open),
                known => known,
            },
            Whose::Made(id) => match gateway.bound.thing(&id) {
                Some((whose, account)) => (whose == client).then_some(account),
                None => open(),
            },
            Whose::MadeBefore(id) => match gateway.bound.thing(&id) {
                // To an account that knows nothing of it, what was said before may be said all the same.
                Some((whose, account)) if whose == client && !plan.may_come_to(snapshot, account) => continue,
                Some((whose, account)) => (whose == client).then_some(account),
                // Forgotten, or of another gateway.
                None => continue,
            },
            Whose::Unknown => open(),
            Whose::Account => match only() {
                None => return Err(unknown(field, "belongs to one account, and several could serve this")),
                known => known,
            },
        };
        let Some(account) = account else {
            return Err(match caller {
                Some(client) => {
                    let name = &client.name;
                    unknown(
                        field,
                        &format!("was not made by the key `{name}` through this gateway, or too long ago"),
                    )
                }
                None => unknown(
                    field,
                    "was not made through this gateway, or too long ago, and several accounts could hold it",
                ),
            });
        };
        if plan.ask.bound_to.replace(account).is_some_and(|other| other != account) {
            return Err(unknown(
                field,
                "lies at another account than something else that the request builds on",
            ));
        }
    }
    Ok(())
}

fn unknown(field: &'static str, why: &str) -> Problem {
    // That says it without the provider's memory.
    let instead = if field == "item_reference" { " Send the item itself." } else { "" };
    let message = format!("`{field}` names something that {why}.{instead}");
    Problem::new(Kind::StateUnknown, message).at("state_not_found", Some(field))
}

/// The account that made an answer of which this process knows nothing, by the ledger: made before a restart, or long
/// ago. A ledger that cannot be read knows nothing either.
async fn written(
    gateway: &Gateway,
    snapshot: &Snapshot,
    caller: Option<&Client>,
    id: &str,
) -> Option<AccountId> {
    let store = gateway.store.as_ref()?;
    let row = store.generation(caller.map_or("", |client| &client.id), id).await.ok()??;
    let name = format!("{}/{}", row.provider, row.account);
    snapshot.account_names.iter().find(|(_, known)| **known == name).map(|(account, _)| *account)
}
