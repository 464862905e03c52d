//! One call, from the door to its decision: key, faults, model, money, limits, course, answer.

use crate::admit::{self, Denied, Size, Taken, Used};
use crate::call::{BodyWish, Call, Course, Reply};
use crate::dialect::{Dialect, Endpoint, HeaderFamily};
use crate::fault::{FaultKind, RateLimitTime, pick};
use crate::latency::{Terms, course};
use crate::plan::Plan;
use crate::price;
use crate::refusal::{Limited, Refusal, Why, of_fault};
use crate::rng::hash;
use crate::spec::Dimension;
use crate::time::{Now, SECOND};
use crate::world::reply::{Entry, answer_id};
use crate::world::{Open, World};

/// What was taken from the limits, and how much of the prompt is cached.
type Admitted = (Vec<Taken>, u64);

/// Who calls: a key and its account.
#[derive(Clone, Copy)]
pub(super) struct Who {
    pub(super) key: usize,
    pub(super) account: usize,
}

impl World {
    /// Is this secret one of the provider's keys?
    pub(super) fn knows(&self, provider: usize, secret: &str) -> bool {
        self.who(provider, secret).is_some()
    }

    pub(super) fn who(&self, provider: usize, secret: &str) -> Option<Who> {
        let provider = self.providers.get(provider)?;
        let key = match provider.by_secret.get(secret) {
            Some(key) => *key,
            None if provider.open => 0,
            None => return None,
        };
        Some(Who { key, account: provider.keys.get(key)?.account })
    }

    /// Decides a call. The reply must be ended with [`World::done`] if it says `open`.
    pub fn call(&mut self, now: Now, call: &Call<'_>) -> Reply {
        self.catch_up(now);
        let Some(who) = self.who(call.provider, call.secret) else {
            return self.refuse(now, call, Refusal::new(Why::BadKey, "bad_key"));
        };
        let key = self.providers.get(call.provider).and_then(|p| p.keys.get(who.key));
        if !key.is_some_and(|key| key.lives(now)) {
            return self.refuse(now, call, Refusal::new(Why::BadKey, "dead_key"));
        }
        let fault = match self.fault(now, call, who) {
            Some(FaultKind::Status { code, retry_after_ms }) if code >= 500 && call.endpoint.charged() => {
                // Server errors come after admission: they cost a request.
                let fault = FaultKind::Status { code, retry_after_ms };
                return self.fail(now, call, who, &fault);
            }
            Some(fault) => match of_fault(&fault) {
                Some(refusal) => return self.refuse(now, call, refusal),
                None => Some(fault),
            },
            None => None,
        };
        if !call.endpoint.charged() {
            return self.inform(now, call, who, fault.as_ref());
        }
        match self.admit(now, call, who) {
            Ok(admitted) => self.open_call(now, call, who, admitted, fault.as_ref()),
            Err(refusal) => self.refuse(now, call, refusal),
        }
    }

    /// The fault that hits the call: the prompt's, the key's, the account's or the provider's.
    fn fault(&mut self, now: Now, call: &Call<'_>, who: Who) -> Option<FaultKind> {
        if let Some(steer) = &call.steer {
            if let Some(code) = steer.status {
                return Some(FaultKind::Status { code, retry_after_ms: None });
            }
            if steer.fault.is_some() {
                return steer.fault.clone();
            }
        }
        let provider = self.providers.get_mut(call.provider)?;
        let key = provider.keys.get_mut(who.key)?;
        let account = provider.accounts.get_mut(who.account)?;
        let timelines = [&mut key.faults, &mut account.faults, &mut provider.faults];
        let free = !call.endpoint.charged();
        let mut hit = None;
        for timeline in timelines {
            // Empty timelines draw no random numbers: a fault elsewhere does not change this key's luck.
            if let Some(kind) = pick(timeline, now.mono_ns, call.model, free, &mut self.rng) {
                hit = hit.or(Some(kind));
            }
        }
        hit
    }

    /// Checks model, money and limits, and takes what the call needs.
    fn admit(&mut self, now: Now, call: &Call<'_>, who: Who) -> Result<Admitted, Refusal> {
        self.meter(call.provider, who.account, now);
        let missing = || Refusal::new(Why::ModelMissing, "model");
        let provider = self.providers.get_mut(call.provider).ok_or_else(missing)?;
        let index = provider.by_model.get(call.model).copied();
        // These name no model, or one that is always there.
        let any = matches!(call.endpoint, Endpoint::Moderations | Endpoint::Images);
        if index.is_none() && !provider.models.is_empty() && !any {
            return Err(missing());
        }
        let model = index.and_then(|i| provider.models.get(i));
        if let Some(model) = model.filter(|m| call.input_tokens > m.context) {
            let why = Why::ContextLength { context: model.context, requested: call.input_tokens };
            return Err(Refusal::new(why, "context"));
        }
        let account = provider.accounts.get_mut(who.account).ok_or_else(missing)?;
        if let Some(id) = call.previous_response
            && account.stored.get(id).is_none()
        {
            let why = Why::PreviousResponse { id: id.chars().take(100).collect() };
            return Err(Refusal::new(why, "previous_response"));
        }
        let cap = call.max_tokens.unwrap_or(provider.default_max_tokens);
        let n = u64::from(call.n.max(1));
        if model.is_some_and(|model| price::percent(model, call).is_none()) {
            return Err(Refusal::new(Why::TooDearThere, "max_price"));
        }
        let [input_price, _, output_price] = price::rates(model, call);
        let held_output = cap.min(account.charging.hold_cap_tokens) * n;
        let hold = call.input_tokens * input_price + held_output * output_price;
        let key = provider.keys.get(who.key).ok_or_else(missing)?;
        let cap_left = key.cap_left(now);
        check_money(provider.dialect, account.credit, cap_left, hold, output_price)?;

        let cached = match (&call.steer, call.prompt) {
            (Some(steer), _) if steer.cached_tokens.is_some() => steer.cached_tokens.unwrap_or(0),
            (_, Some(prompt)) if call.endpoint != Endpoint::Messages || call.cache_control => {
                account.cache.read(now, hash(call.model.as_bytes()), prompt, call.input_tokens)
            }
            _ => 0,
        };
        let cached = cached.min(call.input_tokens);
        self.scratch.clear();
        let shared = index.and_then(|i| provider.shared.get(i)).into_iter().flatten();
        for id in account.limiters.iter().chain(&key.limiters).chain(shared) {
            if self.limiters.get(*id).is_some_and(|limiter| limiter.covers(call.model)) {
                self.scratch.push(*id);
            }
        }
        let size = Size { input: call.input_tokens, cached, max_output: cap * n, hold };
        let taken = admit::admit(&mut self.limiters, &self.scratch, now, &size, &account.charging);
        match taken {
            Ok(taken) => Ok((taken, cached)),
            Err(denied) => Err(self.denied(now, call.provider, &denied)),
        }
    }

    /// A limit's refusal, with the time told in the vendor's form.
    fn denied(&mut self, now: Now, provider: usize, denied: &Denied) -> Refusal {
        let family = self.providers.get(provider).map_or(HeaderFamily::None, |p| p.family);
        let openrouter = self.providers.get(provider).is_some_and(|p| p.dialect == Dialect::Openrouter);
        let rule = &denied.label;
        let Some(limiter) = self.limiters.get_mut(denied.limiter) else {
            return Refusal::new(Why::Overloaded, rule);
        };
        if limiter.shared {
            return Refusal::new(Why::Overloaded, rule);
        }
        if limiter.dimension == Dimension::InFlightMoney && openrouter {
            let wait = denied.wait_ns.or(Some(20 * SECOND));
            return Refusal::new(Why::InFlight, rule).after(wait, RateLimitTime::RetryAfter);
        }
        let limited = Limited {
            dimension: limiter.dimension,
            limit: limiter.limit,
            used: limiter.limit.saturating_sub(limiter.remaining(now)),
            requested: denied.requested,
            period_ns: limiter.period_ns,
            never: denied.never,
            source: None,
            real: true,
        };
        let stated = self.providers.get(provider).and_then(|p| p.refusal_time);
        let wait = denied.wait_ns.filter(|_| stated != Some(RateLimitTime::None));
        let form = stated.unwrap_or(match family {
            HeaderFamily::Openrouter => RateLimitTime::ResetHeader,
            HeaderFamily::None | HeaderFamily::Mistral => RateLimitTime::None,
            _ => RateLimitTime::RetryAfter,
        });
        Refusal::new(Why::RateLimit(limited), rule).after(wait, form)
    }

    /// Writes the call down as admitted and works out its course and answer.
    fn open_call(
        &mut self,
        now: Now,
        call: &Call<'_>,
        who: Who,
        (taken, cached): Admitted,
        fault: Option<&FaultKind>,
    ) -> Reply {
        let seed = self.rng.next();
        let course = self.course(call, cached, fault);
        let answer_id = answer_id(self.dialect(call), call.endpoint, seed);
        let status = fault.map_or(200, FaultKind::status);
        let (headers, plan) = match call.body {
            BodyWish::No => (Vec::new(), Plan::none(&course)),
            BodyWish::Head => (self.headers(now, call, Some(who), &answer_id), Plan::none(&course)),
            BodyWish::Yes => self.compose(now, call, who, &course, fault, (seed, &answer_id)),
        };
        let entry = Entry { status, fault: fault.map(FaultKind::name), course: Some(&course), answer_id };
        let id = self.enter(now, call, Some(who), entry, None);
        self.hold(id, now, call, who, taken, &course, status != 200);
        Reply { id, status, headers, course, refused_by: None, retry_after_ns: None, open: true, plan }
    }

    pub(super) fn dialect(&self, call: &Call<'_>) -> Dialect {
        self.providers.get(call.provider).map_or(Dialect::Openai, |p| p.dialect)
    }

    fn course(&mut self, call: &Call<'_>, cached: u64, fault: Option<&FaultKind>) -> Course {
        let Some(provider) = self.providers.get(call.provider) else { return Course::default() };
        let model = provider.by_model.get(call.model).and_then(|i| provider.models.get(*i));
        let terms = Terms {
            latency: model.and_then(|m| m.latency.as_ref()).unwrap_or(&provider.latency),
            model,
            fault,
            cap: call.max_tokens.unwrap_or(provider.default_max_tokens),
            cached,
            early_head: provider.dialect == Dialect::Openrouter,
        };
        course(call, &terms, &mut self.rng)
    }

    /// Remembers what the open call holds.
    #[expect(clippy::too_many_arguments, reason = "one row, written in one place")]
    fn hold(
        &mut self,
        id: u64,
        now: Now,
        call: &Call<'_>,
        who: Who,
        taken: Vec<Taken>,
        course: &Course,
        failed: bool,
    ) {
        let Some(provider) = self.providers.get_mut(call.provider) else { return };
        let model = provider.by_model.get(call.model).and_then(|i| provider.models.get(*i));
        let [input_nano_usd, cached_nano_usd, output_nano_usd] = price::rates(model, call);
        if taken.iter().any(|part| part.metered)
            && let Some(account) = provider.accounts.get_mut(who.account)
        {
            account.producing.push(id);
        }
        let slot = provider.keys.get(who.key).map_or(provider.stranger_slot, |key| key.slot);
        self.open.insert(
            id,
            Open {
                provider: call.provider,
                key: who.key,
                account: who.account,
                slot,
                taken,
                course: course.clone(),
                arrived_ns: now.mono_ns,
                metered: 0,
                input_nano_usd,
                cached_nano_usd,
                output_nano_usd,
                stream: call.stream,
                writes: call.endpoint.writes(),
                failed,
                closed: false,
            },
        );
    }
}

/// Credit, the key's own cap, and whether this call is too dear for what is left.
fn check_money(
    dialect: Dialect,
    credit: Option<i64>,
    cap_left: Option<u64>,
    hold: u64,
    output_price: u64,
) -> Result<(), Refusal> {
    if cap_left == Some(0) {
        return Err(Refusal::new(Why::KeyCap, "key_limit"));
    }
    let Some(credit) = credit else { return Ok(()) };
    let left = u64::try_from(credit).unwrap_or(0);
    if left == 0 {
        return Err(Refusal::new(Why::Credits, "credit"));
    }
    if dialect == Dialect::Openrouter && hold > left {
        let affordable_tokens = left.checked_div(output_price).unwrap_or(0);
        return Err(Refusal::new(Why::TooDear { affordable_tokens }, "credit"));
    }
    Ok(())
}

impl World {
    /// A server error: admitted and charged a request, then nothing.
    fn fail(&mut self, now: Now, call: &Call<'_>, who: Who, fault: &FaultKind) -> Reply {
        match self.admit(now, call, who) {
            Ok((taken, _)) => {
                let account = self.providers.get(call.provider).and_then(|p| p.accounts.get(who.account));
                let refund = account.is_some_and(|a| a.charging.refund_unused);
                let used = Used { input: 0, output: 0, cost_nano_usd: 0 };
                admit::settle(&mut self.limiters, &taken, now, used, refund);
                let refusal =
                    of_fault(fault).unwrap_or_else(|| Refusal::new(Why::Status { code: 500 }, "status"));
                self.refuse(now, call, refusal)
            }
            Err(refusal) => self.refuse(now, call, refusal),
        }
    }
}
