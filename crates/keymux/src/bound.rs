//! State that lives at a provider: a stored response can be built on only by the client that had it made, and only with
//! the account that made it; so can a container in which its code ran, and a picture that is kept there. A response that
//! was made before this process began is found in the ledger; containers, which live for minutes, are forgotten. What did
//! not come through here (files, conversations) is unknown: a caller with a key of its own does not get it, because it
//! may be another's; without such keys it is tried where a single account could hold it. Templates of prompts and skills
//! are the account's own, made by its owners and no client's: whoever may use the account may use them, where it is the
//! only one in question.

use crate::clients::Client;
use crate::errors::{Kind, Problem};
use crate::live::Snapshot;
use crate::plan::{Plan, Read};
use crate::serve::Gateway;
use keymux_policy::ClientId;
use keymux_policy::fleet::AccountId;
use keymux_wire::stored::{Stored, Whose};
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Ids kept at once; the oldest give way.
const IDS_MAX: usize = 200_000;

/// Whose response, and its id.
type Made = (ClientId, Box<str>);

/// Which account made which response, and what else it made.
#[derive(Default)]
pub struct Bound {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    accounts: HashMap<Made, AccountId>,
    order: VecDeque<Made>,
    /// Containers and pictures: whoever was first told of one has it.
    things: HashMap<Box<str>, (ClientId, AccountId)>,
    things_order: VecDeque<Box<str>>,
}

impl Bound {
    /// A client's answer came from this account.
    pub fn remember(&self, client: ClientId, id: &str, account: AccountId) {
        let made: Made = (client, id.into());
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.accounts.insert(made.clone(), account).is_none() {
            inner.order.push_back(made);
        }
        while inner.order.len() > IDS_MAX {
            if let Some(oldest) = inner.order.pop_front() {
                inner.accounts.remove(&oldest);
            }
        }
    }

    /// A client's answer from this account names these as made for it.
    pub fn made(&self, client: ClientId, ids: Vec<String>, account: AccountId) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            let id: Box<str> = id.into();
            if !inner.things.contains_key(&id) {
                inner.things.insert(id.clone(), (client, account));
                inner.things_order.push_back(id);
            }
        }
        while inner.things_order.len() > IDS_MAX {
            if let Some(oldest) = inner.things_order.pop_front() {
                inner.things.remove(&oldest);
            }
        }
    }

    /// Whose it is, and where.
    fn thing(&self, id: &str) -> Option<(ClientId, AccountId)> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).things.get(id).copied()
    }

    fn account(&self, client: ClientId, id: &str) -> Option<AccountId> {
        let made: Made = (client, id.into());
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).accounts.get(&made).copied()
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
                Some((whose, account)) => (whose == client).then_some(account),
                // Forgotten, or of another gateway: what was said before may be said again.
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
    let message = format!("`{field}` names something that {why}.");
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
