//! Choosing: among the admissible targets of the best tier that has any, one cost decides. This module looks at
//! candidates and says which is best, or until when all are blocked and by what; it takes nothing.
//!
//! Few targets: all are looked at. Many: a few random draws among those not known to be blocked (power of d choices,
//! Mitzenmacher), so that choosing costs the same at ten keys and at ten thousand.

mod cost;
mod scan;
mod verdict;

use self::cost::{Offer, Spot};
pub(crate) use self::scan::{Best, Line, Query, Scan, Wait};
use self::verdict::{Seen, Verdict, best_of};
use crate::fleet::{AccountId, KeyId};
use crate::lease::{Skipped, Why};
use crate::pool::Pool;
use crate::quota::{Need, estimate};
use crate::rng::Rng;
use crate::route::{Member, Park, Route, UNKNOWN, to_u32};

/// Up to so many targets in a tier, all are looked at.
const FEW: usize = 16;
/// Draws that must succeed where there are many.
const DRAWS: usize = 4;
/// Reasons that a lease carries.
const SKIPPED_MAX: usize = 8;

/// Reused between looks, so that choosing allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    offers: Vec<Offer>,
}

/// One look over a route's candidates.
struct Look<'a, 'q> {
    pool: &'a mut Pool,
    rng: &'a mut Rng,
    scratch: &'a mut Scratch,
    q: Query<'q>,
    scan: Scan,
    route: (usize, u64),
    tier: usize,
    few: bool,
    /// Somewhere in this tier nothing but a first contact holds it back.
    held_back: bool,
}

/// Looks at the candidates of a route, best tier first.
pub(crate) fn look(
    pool: &mut Pool,
    route: &mut Route,
    at: usize,
    rng: &mut Rng,
    scratch: &mut Scratch,
    q: Query<'_>,
) -> Scan {
    let order = q.ask.providers.as_deref().map_or(&[][..], |p| &p.order);
    let lone = q.ask.providers.as_deref().is_some_and(|p| p.no_fallbacks);
    let scan = Scan { try_at: u64::MAX, ..Scan::default() };
    let mut l =
        Look { pool, rng, scratch, q, scan, route: (at, route.serial), tier: 0, few: true, held_back: false };
    for rank in 0..=order.len() {
        if lone && rank == order.len() && rank > 0 {
            break;
        }
        let tiers = if lone && order.is_empty() { 1 } else { route.tiers.len() };
        for tier in 0..tiers.min(route.tiers.len()) {
            l.tier = tier;
            l.few = route.tiers[tier].slots <= FEW;
            l.scratch.offers.clear();
            let turn = route.tiers[tier].turn;
            for (m, member) in route.tiers[tier].members.iter_mut().enumerate() {
                let place = order.iter().position(|p| *p == member.provider).unwrap_or(order.len());
                if place == rank {
                    l.member(member, m, turn);
                }
            }
            if let Some(o) = cost::decide(&l.scratch.offers, route.strategy, q.first_attempt, l.rng) {
                l.scan.best = Some(l.chosen(o, &route.tiers[tier].members));
                return l.scan;
            }
            if l.held_back {
                // It is not full: nobody goes to a worse tier for that.
                return l.scan;
            }
        }
    }
    l.scan
}

impl Look<'_, '_> {
    fn chosen(&self, offer: (Spot, bool), members: &[Member]) -> Best {
        let (Spot { member, slot, target }, probe) = offer;
        let (member, slot, target) = (member as usize, slot as usize, target as usize);
        let need = self.need(&members[member]);
        Best { tier: self.tier, member, slot, target, need, probe }
    }

    fn need(&self, member: &Member) -> Need {
        let charging = self.pool.provider(member.provider).charging;
        let stats = &self.pool.models[member.model].stats;
        estimate::need(&self.q.ask.size, charging, stats, self.q.ask.cost_max_nano_usd)
    }

    fn member(&mut self, member: &mut Member, m: usize, turn: f64) {
        let q = self.q;
        self.scan.members += 1;
        if let Some(p) = q.ask.providers.as_deref()
            && (p.ignore.contains(&member.provider)
                || p.only.as_ref().is_some_and(|o| !o.contains(&member.provider)))
        {
            return;
        }
        if !self.may_use(member) {
            return;
        }
        self.scan.allowed += 1;
        if !self.pool.provider(member.provider).endpoints.has(q.ask.endpoint) {
            return;
        }
        self.scan.served += 1;
        if member.layout.keys.is_empty() || q.barred_models.contains(&member.provider_model) {
            return;
        }
        let now = q.now.mono_ns;
        let provider = self.pool.provider(member.provider);
        let pm = &self.pool.provider_models[member.provider_model];
        let mut base = Verdict::new(now);
        base.gate(provider.breaker.pass(now), Why::ProviderDown);
        base.gate(pm.capacity.pass(now), Why::NoCapacity);
        base.gate(pm.breaker.pass(now), Why::NoCapacity);
        let need = self.need(member);
        if let Some(account) = q.ask.bound_to {
            if let Some(group) = member.layout.group_of(account) {
                self.scan.bound += 1;
                self.group(member, m, group, &need, base, turn);
            }
            return;
        }
        if base.blocked() {
            self.block(&base, member.layout.keys[0], None, None, need);
            return;
        }
        if let Some((_, account)) = q.affine.filter(|_| !self.few)
            && let Some(group) = member.layout.group_of(account)
        {
            self.group(member, m, group, &need, base, turn);
        }
        let groups = member.layout.groups.len();
        if let Some(keys) = q.ask.allowed.as_deref().and_then(|a| a.keys.as_ref()) {
            // Draws could miss what is allowed: it is gone through.
            let mut seen = None;
            for key in keys {
                let group = self.account_of(*key).and_then(|account| member.layout.group_of(account));
                // Ids of one account's keys mostly follow each other.
                if let Some(group) = group.filter(|group| seen.replace(*group) != Some(*group)) {
                    self.group(member, m, group, &need, base, turn);
                }
            }
        } else if self.few || groups <= 2 * DRAWS {
            for group in 0..groups {
                self.group(member, m, group, &need, base, turn);
            }
        } else {
            self.draw_groups(member, m, &need, base, turn);
        }
    }

    /// What is charged for nothing, for each token that will probably be used.
    fn over(&self, member: &Member, need: &Need) -> f64 {
        let charging = self.pool.provider(member.provider).charging;
        let stats = &self.pool.models[member.model].stats;
        estimate::overcharge(&self.q.ask.size, charging, stats, need) - 1.0
    }

    /// Whether the client may use a key of this member.
    fn may_use(&self, member: &Member) -> bool {
        let Some(allowed) = self.q.ask.allowed.as_deref() else { return true };
        let has = |key: &KeyId| {
            let group = self.account_of(*key).and_then(|account| member.layout.group_of(account));
            group.is_some_and(|group| member.layout.slot_of(group, *key).is_some())
        };
        allowed.has_provider(member.provider) && allowed.keys.as_ref().is_none_or(|keys| keys.iter().any(has))
    }

    fn account_of(&self, key: KeyId) -> Option<AccountId> {
        self.pool.keys.get(key.0 as usize).map(|key| key.account)
    }

    fn draw_groups(&mut self, member: &mut Member, m: usize, need: &Need, base: Verdict, turn: f64) {
        let now = self.q.now.mono_ns;
        let (mut hits, mut tries) = (0, 0);
        // Those whose time has come are looked at themselves: a due probe would else never be drawn.
        while hits < DRAWS && tries < 4 * DRAWS {
            let due = member.groups_open().due(now);
            let Some(group) = due else { break };
            tries += 1;
            hits += usize::from(self.draw(member, m, group, need, base, turn));
        }
        tries = 0;
        while hits < DRAWS && tries < 2 * DRAWS {
            let open = member.groups_open().open();
            if open.is_empty() {
                break;
            }
            let group = open[self.rng.below(open.len())] as usize;
            let before = open.len();
            let hit = self.draw(member, m, group, need, base, turn);
            hits += usize::from(hit);
            // A draw that parked its group was worth it for all that come after: it does not count.
            tries += usize::from(member.groups_open().open().len() == before);
        }
        if hits == 0 {
            // What is parked was too small for another; it may be enough for this one.
            let parked: Vec<usize> = member.groups_open().blocked().take(2 * DRAWS).collect();
            for group in parked {
                self.group(member, m, group, need, base, turn);
            }
        }
    }

    fn draw(
        &mut self,
        member: &mut Member,
        m: usize,
        group: usize,
        need: &Need,
        base: Verdict,
        turn: f64,
    ) -> bool {
        match self.group(member, m, group, need, base, turn) {
            Seen::Hit => true,
            Seen::Nothing => false,
            Seen::Blocked(until) => {
                member.groups_open().park(group, until);
                let account = member.layout.groups[group].account;
                let park = self.park(m, group, None);
                self.pool.account_mut(account).parked.push(park);
                false
            }
        }
    }

    fn park(&self, member: usize, group: usize, slot: Option<usize>) -> Park {
        Park { route: self.route.0, serial: self.route.1, tier: self.tier, member, group, slot }
    }

    fn group(
        &mut self,
        member: &mut Member,
        m: usize,
        group: usize,
        need: &Need,
        base: Verdict,
        turn: f64,
    ) -> Seen {
        let (q, now) = (self.q, self.q.now.mono_ns);
        let span = member.layout.groups[group];
        if q.barred.contains(&span.account) {
            return Seen::Nothing;
        }
        if member.account_models[group] == UNKNOWN {
            member.account_models[group] = to_u32(self.pool.account_model(span.account, member.model));
        }
        let am = &self.pool.account_models[member.account_models[group] as usize];
        let account = self.pool.account(span.account);
        let model = &self.pool.models[member.model];
        let mut v = base;
        v.gate(account.bench.pass(now), Why::Benched);
        v.gate(account.quota.pass(now), Why::Limit(crate::fleet::Dimension::Requests));
        if model.free {
            v.gate(account.free.pass(now), Why::Limit(crate::fleet::Dimension::Requests));
        }
        v.gate(am.quota.pass(now), Why::Limit(crate::fleet::Dimension::Requests));
        if let Some(watch) = am.watch.as_ref().filter(|_| am.domains.is_empty() && !v.blocked()) {
            v.gate(am.contact.pass(now, watch.in_flight(), q.ask.deadline_mono_ns), Why::FirstContact);
            self.held_back |= v.blocked();
        }
        v.domains(self.pool, &am.domains, need, &q, model.stats.turn());
        if v.blocked() {
            let first = self.first_untried(member, group);
            if first.is_none() {
                self.scan.tried += 1;
                return Seen::Nothing;
            }
            let target = first.map(|slot| self.target(member, slot));
            self.block(
                &v,
                member.layout.keys[first.unwrap_or(span.start)],
                Some(span.account),
                target,
                *need,
            );
            return Seen::Blocked(v.park_until());
        }
        let chosen = self.q.ask.allowed.as_deref().is_some_and(|allowed| allowed.keys.is_some());
        if self.few || chosen || span.len <= DRAWS {
            let mut seen = Seen::Nothing;
            for slot in span.start..span.start + span.len {
                seen = best_of(seen, self.slot(member, m, slot, need, v, turn));
            }
            return seen;
        }
        self.draw_keys(member, m, group, need, v, turn)
    }

    fn draw_keys(
        &mut self,
        member: &mut Member,
        m: usize,
        group: usize,
        need: &Need,
        v: Verdict,
        turn: f64,
    ) -> Seen {
        let (now, span) = (self.q.now.mono_ns, member.layout.groups[group]);
        let mut seen = Seen::Nothing;
        if let Some((key, account)) = self.q.affine
            && account == span.account
            && let Some(slot) = member.layout.slot_of(group, key)
        {
            seen = best_of(seen, self.slot(member, m, slot, need, v, turn));
        }
        let (mut hits, mut tries) = (0, 0);
        while hits < DRAWS && tries < 2 * DRAWS {
            let keys = member.keys_open(group);
            let drawn = match keys.due(now) {
                Some(due) => due,
                None if keys.open().is_empty() => break,
                None => keys.open()[self.rng.below(keys.open().len())] as usize,
            };
            let slot = span.start + drawn;
            let one = self.slot(member, m, slot, need, v, turn);
            match one {
                Seen::Hit => (hits, tries) = (hits + 1, tries + 1),
                Seen::Nothing => tries += 1,
                Seen::Blocked(until) => {
                    member.keys_open(group).park(drawn, until);
                    let park = self.park(m, group, Some(slot));
                    self.pool.key_mut(member.layout.keys[slot]).parked.push(park);
                }
            }
            seen = best_of(seen, one);
        }
        if hits == 0 {
            let parked: Vec<usize> = member.keys_open(group).blocked().take(2 * DRAWS).collect();
            for drawn in parked {
                seen = best_of(seen, self.slot(member, m, span.start + drawn, need, v, turn));
            }
        }
        seen
    }

    /// The first key of a group that this request may still try.
    fn first_untried(&mut self, member: &mut Member, group: usize) -> Option<usize> {
        let span = member.layout.groups[group];
        // More keys than were ever tried: one is left. Looking further than that is not needed.
        let allowed = self.q.ask.allowed.as_deref().filter(|allowed| allowed.keys.is_some());
        let last = match allowed {
            None => span.start + span.len.min(self.q.tried.len() + 1),
            Some(_) => span.start + span.len,
        };
        (span.start..last).find(|slot| {
            if allowed.is_some_and(|allowed| !allowed.has_key(member.layout.keys[*slot])) {
                return false;
            }
            let known = member.slots[*slot].target;
            let wanted = self.q.only.is_none_or(|only| to_u32(only) == known);
            wanted && (known == UNKNOWN || !self.q.tried.contains(&(known as usize)))
        })
    }

    fn target(&mut self, member: &mut Member, slot: usize) -> usize {
        if member.slots[slot].target == UNKNOWN {
            member.slots[slot].target = to_u32(self.pool.target(member.layout.keys[slot], member.model));
        }
        member.slots[slot].target as usize
    }

    fn slot(
        &mut self,
        member: &mut Member,
        m: usize,
        slot: usize,
        need: &Need,
        v: Verdict,
        turn: f64,
    ) -> Seen {
        let (now, mut v) = (self.q.now.mono_ns, v);
        if self.q.ask.allowed.as_deref().is_some_and(|allowed| !allowed.has_key(member.layout.keys[slot])) {
            return Seen::Nothing;
        }
        let target = self.target(member, slot);
        if self.q.only.is_some_and(|only| only != target) {
            return Seen::Nothing;
        }
        if self.q.only.is_none() && self.q.tried.contains(&target) {
            self.scan.tried += 1;
            self.skip(member.layout.keys[slot], Why::Tried, None);
            return Seen::Nothing;
        }
        let t = &self.pool.targets[target];
        let key = self.pool.key(t.key);
        v.gate(key.bench.pass(now), Why::Benched);
        v.gate(t.bench.pass(now), Why::Benched);
        v.gate(key.quota.pass(now), Why::Limit(crate::fleet::Dimension::Requests));
        v.gate(t.breaker.pass(now), Why::BreakerOpen);
        let usual = self.pool.models[t.model].stats.turn();
        v.domains(self.pool, &t.domains, need, &self.q, usual);
        if v.blocked() || self.q.line.waits() {
            self.block(&v, t.key, Some(t.account), Some(target), *need);
            return if v.blocked() { Seen::Blocked(v.park_until()) } else { Seen::Hit };
        }
        let warm = self.q.affine.map_or(1.0, |(key, account)| match () {
            () if key == t.key => 0.2,
            () if account == t.account => 0.24,
            () => 1.0,
        });
        let free = 1.01 - v.utilisation;
        let over = if v.tokens_used > 0.0 { self.over(member, need) * v.tokens_used } else { 0.0 };
        let stream = usize::from(self.q.ask.stream);
        let own = &t.first_output[stream];
        let speed = if own.get().is_some() { own } else { &t.first_output[1 - stream] };
        self.scratch.offers.push(Offer {
            spot: Spot { member: to_u32(m), slot: to_u32(slot), target: to_u32(target) },
            probe: v.probe,
            avoid: self.q.avoid == Some(t.account) || t.breaker.is_suspect(now),
            load: f64::from(key.in_flight),
            first_output: speed.get(),
            halvings: speed.halvings(now, t.asked_at),
            weight: (member.weight * key.weight).max(1e-6),
            ramp: t.breaker.ramp(now),
            errors: t.breaker.dearness(now),
            pressure: (1.0 + over) / (free * free),
            affinity: warm,
            pass: member.slots[slot].pass.max(turn),
        });
        Seen::Hit
    }

    fn skip(&mut self, key: KeyId, why: Why, until: Option<u64>) {
        if self.scan.skipped.len() < SKIPPED_MAX {
            self.scan.skipped.push(Skipped { key, why, until_mono_ns: until });
        }
    }

    fn block(
        &mut self,
        v: &Verdict,
        key: KeyId,
        account: Option<AccountId>,
        target: Option<usize>,
        need: Need,
    ) {
        let why = v.why.unwrap_or(Why::Limit(crate::fleet::Dimension::Requests));
        if v.blocked() {
            self.skip(key, why, (v.at > v.now && v.at != u64::MAX).then_some(v.at));
        }
        if let Some((domain, amount)) = v.too_large {
            let larger =
                |(d, _): &(usize, f64)| self.pool.domains[*d].size() < self.pool.domains[domain].size();
            if self.scan.too_large.as_ref().is_none_or(larger) {
                self.scan.too_large = Some((domain, amount));
            }
        }
        if v.at == u64::MAX {
            self.scan.never = self.scan.never.or(v.domain);
            return;
        }
        if v.at > v.now {
            self.scan.try_at = self.scan.try_at.min(v.at);
        }
        let forecast = v.forecast.max(v.at);
        // Nobody knows when slots come back: half of what experience tells is taken for certain, of a mere guess
        // nothing.
        let sure = v.sure.max(v.at);
        let earliest = if v.soft { v.at.max(v.now + (sure - v.now) / 2) } else { sure };
        if self.scan.wait.is_none_or(|w| (forecast, earliest) < (w.forecast, w.earliest)) {
            let domain = v.domain;
            self.scan.wait = Some(Wait { forecast, earliest, why, domain, target, account, need });
        }
    }
}
