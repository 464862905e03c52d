//! What fairness between clients needs to know of the room besides who waits: which accounts belong together, what a
//! request usually takes, and who goes past those that wait. And who stands first, for those who look.

use super::{Room, lot_of};
use crate::fleet::AccountId;
use crate::quota::Need;
use crate::request::{Request, rank};
use crate::routes::{Market, Markets};

/// The weight of the last request in what is usual.
const USUAL: f64 = 1.0 / 256.0;

impl Room {
    /// The configuration says which accounts are in the same routes.
    pub(crate) fn new_markets(&mut self, markets: Markets) {
        let turns = self.lots.iter_mut().flatten().map(|lot| &mut lot.turns);
        turns.for_each(|turns| turns.new_markets(markets.count));
        self.markets = markets;
    }

    /// The first of each lane, as they were looked at last.
    pub(crate) fn heads(&self) -> impl Iterator<Item = u64> {
        self.lanes.iter().filter_map(|(_, lane)| {
            let (_, seq, client) = lane.heads.first()?;
            lane.files.get(client)?.queue.get(seq).map(|(id, _)| *id)
        })
    }

    pub(crate) fn market_of(&self, account: AccountId) -> Market {
        self.markets.of_account(account)
    }

    /// Whether anybody of its class waits in the pool of this request.
    pub(crate) fn is_contended(&self, request: &Request) -> bool {
        let class = usize::from(rank(request.ask.class));
        self.waiting > 0
            && self.lots.get(request.place.pool).is_some_and(|lots| lots[class].turns.total() > 0)
    }

    /// Goes without having waited, and pays its cost.
    pub(crate) fn served_at_once(&mut self, now: u64, request: &Request, market: Market) {
        let among = self.markets.among(request.place.among);
        let lot = lot_of(&mut self.lots, request.place.pool, rank(request.ask.class));
        let floor = lot.turns.floor(among);
        lot.turns.at_once(now, request.ask.client, market, request.place.cost, floor);
    }

    /// What a request of this pool usually takes, this one included.
    pub(crate) fn usual_need(&mut self, pool: usize, need: &Need) -> Need {
        if self.usual.len() <= pool {
            self.usual.resize(pool + 1, None);
        }
        let usual = self.usual[pool].get_or_insert(*need);
        usual.drift(need, USUAL);
        *usual
    }
}
