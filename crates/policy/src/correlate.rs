//! Is it the keys, or is it the provider? When at least two accounts, and at least half of those tried in the last
//! ten seconds, fail the same way with no success in between, it is the provider, and what was held against the keys
//! is taken back. One request alone proves nothing where it may itself be the reason. With only two accounts a 401 or
//! 402 is believed until a probe: both may well be out; with more, as long as one of the first five was not asked.

use crate::blame::Class;
use crate::fleet::AccountId;
use crate::outcome::{Evidence, Sign};
use crate::time::SECOND;

const SECONDS: u64 = 10;
const STRIKES_MAX: usize = 256;
/// So many accounts that refuse their keys one after the other are not believed any more.
const BELIEVED: usize = 5;

/// Ways to fail that can be a provider's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Key,
    /// This key may not do this; or nobody may.
    Forbidden,
    Money,
    Server,
    Connect,
    Hang,
}

impl Way {
    /// What was asked may be the reason: a request can crash, hang or be forbidden wherever it goes.
    fn may_be_the_request(self) -> bool {
        matches!(self, Self::Forbidden | Self::Server | Self::Hang)
    }
}

/// How an attempt failed, if that can be a provider's fault.
pub(crate) fn way(class: Class, evidence: &Evidence) -> Option<Way> {
    match class {
        Class::Key if evidence.sign == Sign::KeyForbidden => Some(Way::Forbidden),
        Class::Key if evidence.sign != Sign::KeyCap => Some(Way::Key),
        Class::Account => Some(Way::Money),
        Class::Target => Some(match evidence.sign {
            Sign::ConnectFailed | Sign::TlsFailed | Sign::Reset => Way::Connect,
            Sign::FirstByteTimeout | Sign::IdleTimeout | Sign::TotalTimeout => Way::Hang,
            _ => Way::Server,
        }),
        _ => None,
    }
}

/// One failure, with what it was held against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strike {
    pub(crate) account: AccountId,
    pub(crate) target: usize,
    pub(crate) request: u64,
    /// What the request looks like, and when it came.
    pub(crate) print: u64,
    pub(crate) arrived: u64,
    pub(crate) way: Way,
    pub(crate) at: u64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Trouble {
    /// Accounts by the second of their last attempt.
    tried: [(u64, u32); 11],
    strikes: Vec<Strike>,
}

impl Trouble {
    /// An attempt on an account ended; `last` is the second of the one before, which this one replaces.
    pub(crate) fn tried(&mut self, now: u64, last: &mut Option<u64>) {
        let second = now / SECOND;
        if *last == Some(second) {
            return;
        }
        if let Some(cell) = last.map(|s| self.cell(s)).filter(|c| c.0 == last.unwrap_or(0)) {
            cell.1 = cell.1.saturating_sub(1);
        }
        let cell = self.cell(second);
        if cell.0 != second {
            *cell = (second, 0);
        }
        cell.1 += 1;
        *last = Some(second);
    }

    fn cell(&mut self, second: u64) -> &mut (u64, u32) {
        &mut self.tried[usize::try_from(second % 11).unwrap_or(0)]
    }

    /// Somebody was answered: the provider lives.
    pub(crate) fn success(&mut self) {
        self.strikes.clear();
    }

    /// Records a failure. True: it is the provider; [`Trouble::take`] then says what to take back.
    pub(crate) fn failure(&mut self, strike: Strike, accounts_in_all: usize) -> bool {
        let from = strike.at.saturating_sub(SECONDS * SECOND);
        self.strikes.retain(|s| s.at >= from);
        if self.strikes.len() < STRIKES_MAX {
            self.strikes.push(strike);
        }
        let mut accounts: Vec<AccountId> =
            self.strikes.iter().filter(|s| s.way == strike.way).map(|s| s.account).collect();
        accounts.sort_unstable();
        accounts.dedup();
        let of_keys = matches!(strike.way, Way::Key | Way::Forbidden | Way::Money);
        if accounts.len() < 2 || (of_keys && accounts_in_all <= 2) {
            return false;
        }
        // Each account is believed about its key and its money, as long as there are others to ask.
        if matches!(strike.way, Way::Key | Way::Money) && accounts.len() < accounts_in_all.min(BELIEVED) {
            return false;
        }
        // The same request sent again, after it failed, is the same request.
        let other =
            |s: &Strike| s.request != strike.request && (s.print != strike.print || s.at >= strike.arrived);
        let others = || self.strikes.iter().any(|s| s.way == strike.way && other(s));
        if strike.way.may_be_the_request() && !others() {
            return false;
        }
        let first = (strike.at / SECOND).saturating_sub(SECONDS - 1);
        let tried: u32 = self.tried.iter().filter(|c| c.0 >= first).map(|c| c.1).sum();
        accounts.len() * 2 >= tried as usize
    }

    /// The failures of this way, to be taken back.
    pub(crate) fn take(&mut self, way: Way) -> Vec<Strike> {
        let (same, rest) = self.strikes.drain(..).partition(|s| s.way == way);
        self.strikes = rest;
        same
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strike(account: u32, way: Way, at: u64) -> Strike {
        Strike { account: AccountId(account), target: 0, request: at, print: at, arrived: at, way, at }
    }

    #[test]
    fn two_accounts_failing_alike_without_a_success_are_the_provider() {
        let mut t = Trouble::default();
        let mut last = [None; 4];
        let mut fail = |t: &mut Trouble, a: usize, way, at| {
            t.tried(at, &mut last[a]);
            t.failure(strike(u32::try_from(a).unwrap(), way, at), 4)
        };
        assert!(!fail(&mut t, 0, Way::Server, SECOND), "one account");
        assert!(!fail(&mut t, 0, Way::Server, 2 * SECOND), "still one");
        assert!(!fail(&mut t, 1, Way::Hang, 3 * SECOND), "another way");
        assert!(fail(&mut t, 1, Way::Server, 4 * SECOND));
        assert_eq!(t.take(Way::Server).len(), 3);
        // A success in between, or ten seconds: it starts over.
        assert!(!fail(&mut t, 0, Way::Server, 5 * SECOND));
        t.success();
        assert!(!fail(&mut t, 1, Way::Server, 6 * SECOND));
        assert!(!fail(&mut t, 0, Way::Server, 30 * SECOND));
    }

    #[test]
    fn two_of_five_that_were_tried_are_not_half() {
        let mut t = Trouble::default();
        let mut last = [None; 5];
        for slot in &mut last {
            t.tried(SECOND, slot);
        }
        t.success();
        t.tried(2 * SECOND, &mut last[0]);
        assert!(!t.failure(strike(0, Way::Connect, 2 * SECOND), 5));
        t.tried(2 * SECOND, &mut last[1]);
        assert!(!t.failure(strike(1, Way::Connect, 2 * SECOND), 5));
        t.tried(3 * SECOND, &mut last[2]);
        assert!(t.failure(strike(2, Way::Connect, 3 * SECOND), 5), "three of five are");
    }

    #[test]
    fn one_request_alone_is_no_proof_where_it_may_be_the_reason() {
        let one = |account, way| Strike { request: 7, print: 7, ..strike(account, way, SECOND) };
        for way in [Way::Server, Way::Hang, Way::Forbidden] {
            let mut t = Trouble::default();
            assert!((0..5).all(|account| !t.failure(one(account, way), 5)), "{way:?}");
            let again = Strike { print: 7, ..strike(0, way, 2 * SECOND) };
            assert!(!t.failure(again, 5), "{way:?}: the same one, sent again");
            let beside = Strike { arrived: SECOND / 2, ..again };
            assert!(t.clone().failure(beside, 5), "{way:?}: the same, but somebody else's");
            assert!(t.failure(strike(0, way, 2 * SECOND), 5), "{way:?}: another request says the same");
        }
        let mut t = Trouble::default();
        assert!(!t.failure(one(0, Way::Connect), 5));
        assert!(t.failure(one(1, Way::Connect), 5));
    }

    #[test]
    fn with_two_accounts_a_refused_key_is_believed() {
        let mut t = Trouble::default();
        assert!(!t.failure(strike(0, Way::Key, SECOND), 2));
        assert!(!t.failure(strike(1, Way::Key, SECOND), 2));
    }

    #[test]
    fn of_three_accounts_two_may_be_out_of_money() {
        for way in [Way::Key, Way::Money] {
            let mut t = Trouble::default();
            assert!(!t.failure(strike(0, way, SECOND), 3));
            assert!(!t.failure(strike(1, way, SECOND), 3), "{way:?}: the third was not asked");
            assert!(t.failure(strike(2, way, SECOND), 3), "{way:?}: all three at once");
            let mut t = Trouble::default();
            let failing = (0..100).take_while(|account| !t.failure(strike(*account, way, SECOND), 1_000));
            assert_eq!(failing.count(), 4, "{way:?}: a thousand keys are not all asked");
        }
    }
}
