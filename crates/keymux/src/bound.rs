//! State that lives at a provider: a stored response can be built on only by the client that had it made, and only with
//! the account that made it. What was made before this process began is found in the ledger. What did not come through
//! here (files, conversations) is unknown: a caller with a key of its own does not get it, because it may be another's;
//! without such keys it is tried where a single account could hold it.

use crate::clients::Client;
use crate::errors::{Kind, Problem};
use crate::live::Snapshot;
use crate::plan::{Plan, Read};
use crate::serve::Gateway;
use keymux_policy::ClientId;
use keymux_policy::fleet::AccountId;
use keymux_wire::stored::Stored;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Ids kept at once; the oldest give way.
const IDS_MAX: usize = 200_000;

/// Whose response, and its id.
type Made = (ClientId, Box<str>);

/// Which account made which response.
#[derive(Default)]
pub struct Bound {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    accounts: HashMap<Made, AccountId>,
    order: VecDeque<Made>,
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

    fn account(&self, client: ClientId, id: &str) -> Option<AccountId> {
        let made: Made = (client, id.into());
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).accounts.get(&made).copied()
    }
}

/// Binds a request that builds on something stored to the account that keeps it.
///
/// # Errors
/// Nobody can tell which account that is, or it is not this caller's.
pub async fn bind(
    gateway: &Gateway,
    snapshot: &Snapshot,
    read: &Read<'_>,
    plan: &mut Plan,
    caller: Option<&Client>,
) -> Result<(), Problem> {
    let Read::Json(head) = read else { return Ok(()) };
    let Some(stored) = Stored::of(head) else { return Ok(()) };
    if let Some(id) = stored.response {
        plan.ask.bound_to = gateway.bound.account(plan.ask.client, id);
        if plan.ask.bound_to.is_none() {
            plan.ask.bound_to = Box::pin(written(gateway, snapshot, caller, id)).await;
        }
    }
    if plan.ask.bound_to.is_none() && caller.is_none() {
        plan.ask.bound_to = plan.only_account(snapshot);
    }
    if plan.ask.bound_to.is_some() {
        return Ok(());
    }
    let field = stored.field;
    let message = match caller {
        Some(client) => format!(
            "`{field}` names something that was not made by the key `{}` through this gateway, or too long ago.",
            client.name
        ),
        None => format!(
            "`{field}` names something that was not made through this gateway, or too long ago, and several accounts could hold it."
        ),
    };
    Err(Problem::new(Kind::StateUnknown, message).at("state_not_found", Some(field)))
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
