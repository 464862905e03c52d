//! The routes: those of the configuration, and those for a provider's model that has none, which come to be when they
//! are first asked for. Model names are the callers' input, so the latter are bounded: the longest idle one gives way.

use crate::fleet::{AccountId, ProviderId, RouteId, Strategy};
use crate::hash::Map;
use crate::pool::Pool;
use crate::route::{Member, Route, Tier};
use crate::slab::Slab;
use std::sync::Arc;

/// Keys in all unnamed routes together, beyond which the longest idle gives way, whatever their number.
const ADHOC_SLOTS_MAX: usize = 1_000_000;

/// Routes over more markets than this are taken to be in all of them.
const MARKETS_MAX: usize = 8;

/// Accounts that are in the same routes: whoever may use one of them may use all, so their clients have one clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Market(u32);

impl Market {
    pub(crate) const fn of(n: u32) -> Self {
        Self(n)
    }
}

/// The markets, and which of them a route is in.
#[derive(Debug, Default)]
pub(crate) struct Markets {
    of_account: Vec<Market>,
    /// By what routes call `among`, from 1 on; 0: all.
    sets: Vec<Vec<Market>>,
    pub(crate) count: u32,
}

impl Markets {
    pub(crate) fn of_account(&self, account: AccountId) -> Market {
        self.of_account.get(account.0 as usize).copied().unwrap_or_default()
    }

    /// Those that a route calls `among`; `None`: all.
    pub(crate) fn among(&self, among: usize) -> Option<&[Market]> {
        among.checked_sub(1).and_then(|at| self.sets.get(at)).map(Vec::as_slice)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Routes {
    pub(crate) all: Slab<Route>,
    pub(crate) named: Map<RouteId, usize>,
    pub(crate) adhoc: Map<(ProviderId, Arc<str>), usize>,
    adhoc_slots: usize,
    pub(crate) default_strategy: Strategy,
    /// The pool of each provider: providers that serve one route are in one, and so are their routes.
    pools: Vec<usize>,
    serial: u64,
}

impl Routes {
    pub(crate) fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// The route for a provider's model, made on first use. `None`: no such provider.
    pub(crate) fn adhoc(&mut self, pool: &mut Pool, provider: ProviderId, model: &Arc<str>) -> Option<usize> {
        if let Some(at) = self.adhoc.get(&(provider, model.clone())) {
            return Some(*at);
        }
        pool.providers.get(provider.0 as usize).filter(|p| p.present)?;
        self.make_room(pool);
        let serial = self.serial();
        let mut route = Route {
            name: model.clone(),
            named: None,
            strategy: self.default_strategy,
            tiers: Vec::new(),
            used_at: 0,
            busy: 0,
            waiting: 0,
            pool: self.pools.get(provider.0 as usize).copied().unwrap_or(0),
            among: 0,
            serial,
        };
        Self::fill_adhoc(pool, &mut route, provider);
        self.adhoc_slots += slots(&route);
        let at = self.all.insert(route);
        self.adhoc.insert((provider, model.clone()), at);
        Some(at)
    }

    /// One tier with all keys of the provider that may use the model.
    pub(crate) fn fill_adhoc(pool: &mut Pool, route: &mut Route, provider: ProviderId) {
        let model = pool.name_model(&route.name.clone());
        let layout = layout(pool, provider, &route.name, &[]);
        let pm = pool.provider_model(provider, model);
        let member = Member::new(provider, model, pm, 1.0, layout);
        route.tiers = vec![Tier { slots: member.slots.len(), members: vec![member], turn: 0.0 }];
    }

    /// Which routes compete: those whose providers are connected by any route.
    pub(crate) fn connect(&mut self, providers: usize) {
        let mut pools: Vec<usize> = (0..providers).collect();
        for (_, route) in self.all.iter() {
            let mut members = route.tiers.iter().flat_map(|t| &t.members).map(|m| m.provider.0 as usize);
            let Some(first) = members.next() else { continue };
            for other in members {
                let (a, b) = (pools[first], pools[other]);
                pools.iter_mut().filter(|p| **p == b).for_each(|p| *p = a);
            }
        }
        for (_, route) in self.all.iter_mut() {
            let first = route.tiers.iter().flat_map(|t| &t.members).next();
            route.pool = first.map_or(0, |m| pools[m.provider.0 as usize]);
        }
        self.pools = pools;
    }

    /// Which accounts are in the same routes of the configuration; the unnamed ones are over all of a provider's.
    pub(crate) fn markets(&mut self) -> Markets {
        let mut marks: Vec<(u64, usize)> = Vec::new();
        let accounts = |route: &Route| -> Vec<usize> {
            let groups = route.tiers.iter().flat_map(|t| &t.members).flat_map(|m| &m.layout.groups);
            groups.map(|g| g.account.0 as usize).collect()
        };
        for (at, route) in self.all.iter().filter(|(_, r)| r.named.is_some()) {
            for account in accounts(route) {
                if marks.len() <= account {
                    marks.resize(account + 1, (0, usize::MAX));
                }
                let (mark, last) = &mut marks[account];
                if std::mem::replace(last, at) != at {
                    *mark = crate::hash::of(&(*mark, at as u64));
                }
            }
        }
        let mut known: Map<u64, Market> = Map::default();
        let mut of_account = Vec::with_capacity(marks.len());
        for (mark, _) in &marks {
            let next = Market::of(crate::route::to_u32(known.len()));
            of_account.push(*known.entry(*mark).or_insert(next));
        }
        let mut markets = Markets { of_account, sets: Vec::new(), count: crate::route::to_u32(known.len()) };
        for (_, route) in self.all.iter_mut() {
            let mut of: Vec<Market> = Vec::new();
            if route.named.is_some() {
                of.extend(accounts(route).into_iter().map(|a| markets.of_account[a]));
                of.sort_unstable();
                of.dedup();
            }
            route.among = 0;
            if (1..=MARKETS_MAX).contains(&of.len()) {
                markets.sets.push(of);
                route.among = markets.sets.len();
            }
        }
        markets
    }

    fn make_room(&mut self, pool: &mut Pool) {
        while self.adhoc.len() >= pool.settings.adhoc_routes_max.max(1) || self.adhoc_slots > ADHOC_SLOTS_MAX
        {
            let idle = self.adhoc.iter().filter(|(_, at)| self.all[**at].busy == 0);
            let oldest =
                idle.min_by_key(|(_, at)| (self.all[**at].used_at, **at)).map(|(key, _)| key.clone());
            let Some(key) = oldest else { return };
            self.forget_adhoc(pool, &key);
        }
    }

    pub(crate) fn forget_adhoc(&mut self, pool: &mut Pool, key: &(ProviderId, Arc<str>)) {
        let Some(route) = self.adhoc.remove(key).and_then(|at| self.all.remove(at)) else { return };
        self.adhoc_slots = self.adhoc_slots.saturating_sub(slots(&route));
        unname(pool, &route);
    }
}

/// The models that a route names are named by one less.
pub(crate) fn unname(pool: &mut Pool, route: &Route) {
    for member in route.tiers.iter().flat_map(|t| &t.members) {
        pool.unname_model(member.model);
    }
}

fn slots(route: &Route) -> usize {
    route.tiers.iter().map(|t| t.slots).sum()
}

/// The keys of a member: those named, or all of the provider, as far as they may use the model. Shared between routes
/// where it is all of them.
pub(crate) fn layout(
    pool: &Pool,
    provider: ProviderId,
    model: &str,
    only: &[crate::fleet::KeyId],
) -> Arc<crate::route::Layout> {
    let p = pool.provider(provider);
    if only.is_empty() && !p.restricted {
        return p.layout.clone();
    }
    let usable = |k: &&crate::fleet::KeyId| {
        (only.is_empty() || only.contains(k)) && pool.key(**k).models.matches(model)
    };
    let keys = p.layout.keys.iter().filter(usable).map(|k| (pool.key(*k).account, *k)).collect();
    Arc::new(crate::route::Layout::of(keys))
}
