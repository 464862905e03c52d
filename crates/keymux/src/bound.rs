//! State that lives at a provider: a stored response can be built on only with the account that made it. Ids that did
//! not come through here are unknown; they are tried only where a single account could hold them.

use crate::errors::{Kind, Problem};
use crate::plan::Read;
use keymux_policy::fleet::AccountId;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Ids kept at once; the oldest give way.
const IDS_MAX: usize = 200_000;

/// Which account made which response.
#[derive(Default)]
pub struct Bound {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    accounts: HashMap<Box<str>, AccountId>,
    order: VecDeque<Box<str>>,
}

impl Bound {
    /// An answer came from this account.
    pub fn remember(&self, id: &str, account: AccountId) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.accounts.insert(id.into(), account).is_none() {
            inner.order.push_back(id.into());
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
        let known = self.inner.lock().unwrap_or_else(PoisonError::into_inner).accounts.get(id).copied();
        if let Some(account) = known.or_else(only) {
            return Ok(Some(account));
        }
        let message = format!(
            "`{field}` names something that was not made through this gateway, or too long ago, and several accounts could hold it."
        );
        Err(Problem::new(Kind::StateUnknown, message).at("state_not_found", Some(field)))
    }
}
