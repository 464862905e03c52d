//! State that lives at a provider: a stored response can be built on only by the client that had it made, and only with
//! the account that made it. Ids that did
//! not come through here are unknown; they are tried only where a single account could hold them.

use crate::errors::{Kind, Problem};
use crate::plan::Read;
use keymux_policy::ClientId;
use keymux_policy::fleet::AccountId;
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

    /// The account that a request is bound to, if it builds on something stored: the one that made it, or the `only`
    /// one that it could go to.
    pub fn account_for(
        &self,
        client: ClientId,
        read: &Read<'_>,
        only: impl FnOnce() -> Option<AccountId>,
    ) -> Result<Option<AccountId>, Problem> {
        let Read::Json(head) = read else { return Ok(None) };
        let (id, field) = match (head.previous_response_id.as_deref(), &head.conversation) {
            (Some(id), _) => (id, "previous_response_id"),
            // Conversations are not made through here.
            (None, Some(_)) => ("", "conversation"),
            (None, None) => return Ok(None),
        };
        let made: Made = (client, id.into());
        let known = self.inner.lock().unwrap_or_else(PoisonError::into_inner).accounts.get(&made).copied();
        if let Some(account) = known.or_else(only) {
            return Ok(Some(account));
        }
        let message = format!(
            "`{field}` names something that was not made through this gateway, or too long ago, and several accounts could hold it."
        );
        Err(Problem::new(Kind::StateUnknown, message).at("state_not_found", Some(field)))
    }
}
