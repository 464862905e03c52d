//! Replies: refusals, free answers, and the headers and bodies of admitted calls; each is entered in the books.

use crate::answer::{Answer, Finish, JSON_ANSWER, Words, plain, tokens_of};
use crate::call::{BodyWish, Call, Course, End, Reply};
use crate::compose::{Decided, Headers, instead, plan};
use crate::dialect::{Dialect, Endpoint, HeaderFamily};
use crate::fault::FaultKind;
use crate::headers::rate_limits;
use crate::listing::{self, KeyFacts};
use crate::plan::Plan;
use crate::price;
use crate::record::{Name, Record};
use crate::refusal::{Ctx, Refusal, Why, render};
use crate::rng::mix;
use crate::spec::Dimension;
use crate::time::{DAY, MS, Now, SECOND, ms_f64, rfc3339};
use crate::world::World;
use crate::world::flow::Who;

/// What is known for the books when a call arrives.
pub(super) struct Entry<'a> {
    pub(super) status: u16,
    pub(super) fault: Option<&'static str>,
    /// None: the call ends with its reply.
    pub(super) course: Option<&'a Course>,
    pub(super) answer_id: String,
}

/// The id of an answer, in the vendor's form.
pub(super) fn answer_id(dialect: Dialect, endpoint: Endpoint, seed: u64) -> String {
    let prefix = match (dialect, endpoint) {
        (_, Endpoint::Responses) => "resp_",
        (Dialect::Openrouter, _) => "gen-",
        (_, Endpoint::Messages) => "msg_",
        (_, Endpoint::Completions) => "cmpl-",
        (_, Endpoint::Moderations) => "modr-",
        _ => "chatcmpl-",
    };
    format!("{prefix}{:016x}{:08x}", mix(seed ^ 1), mix(seed ^ 2) >> 32)
}

impl World {
    /// Writes a call down; returns its number.
    pub(super) fn enter(
        &mut self,
        now: Now,
        call: &Call<'_>,
        who: Option<Who>,
        entry: Entry<'_>,
        refusal: Option<&Refusal>,
    ) -> u64 {
        let id = self.books.next_id();
        let model = self.model_name(call.model);
        let Some(provider) = self.providers.get(call.provider) else { return id };
        let key = who.and_then(|who| provider.keys.get(who.key));
        let account = who.and_then(|who| provider.accounts.get(who.account));
        let slot = key.map_or(provider.stranger_slot, |key| key.slot);
        let record = Record {
            id,
            provider: provider.name.clone(),
            account: account.map(|a| a.name.clone()).unwrap_or_default(),
            key: key.map(|k| k.name.clone()).unwrap_or_default(),
            endpoint: call.endpoint,
            model,
            stream: call.stream,
            arrived_ns: now.mono_ns,
            ended_ns: entry.course.is_none().then_some(now.mono_ns),
            status: entry.status,
            refused_by: refusal.map(|refusal| refusal.rule.clone()),
            retry_after_ns: refusal.and_then(|refusal| refusal.wait_ns),
            input_tokens: call.input_tokens,
            cached_tokens: entry.course.map_or(0, |course| course.cached_tokens),
            output_tokens: 0,
            reasoning_tokens: entry.course.map_or(0, |course| course.reasoning_tokens),
            billed_nano_usd: 0,
            cancelled: false,
            fault: entry.fault.map(Name::from),
            answer_id: entry.answer_id,
            note: call.steer.as_ref().map(|steer| steer.note.clone()).unwrap_or_default(),
        };
        self.books.enter(slot, record);
        id
    }

    /// Model names are kept once; strange ones are cut, and forgotten when there are too many.
    fn model_name(&mut self, model: &str) -> Name {
        if let Some(name) = self.names.get(model) {
            return name.clone();
        }
        if self.names.len() >= 10_000 {
            self.names.clear();
        }
        let name = Name::from(model.chars().take(200).collect::<String>());
        self.names.insert(model.to_owned(), name.clone());
        name
    }

    pub(super) fn refuse(&mut self, now: Now, call: &Call<'_>, refusal: Refusal) -> Reply {
        let who = self.who(call.provider, call.secret);
        let seed = self.rng.next();
        let request_id = format!("req_{:016x}", mix(seed));
        let latency = self.providers.get(call.provider).map_or(0, |p| ms_f64(p.latency.refusal_ms));
        let delay = call.steer.as_ref().and_then(|s| s.delay_ms).unwrap_or(0) * MS;
        let at = latency.saturating_add(delay);
        let (status, mut headers, body) = match self.providers.get(call.provider) {
            Some(provider) => {
                let account = who.and_then(|who| provider.accounts.get(who.account));
                let ctx = Ctx {
                    now: now.plus(at),
                    dialect: provider.dialect,
                    family: provider.family,
                    endpoint: call.endpoint,
                    model: call.model,
                    account: account.map_or("", |a| &a.name),
                    request_id: &request_id,
                };
                render(&refusal, &ctx)
            }
            None => (404, Vec::new(), Vec::new()),
        };
        if call.body >= BodyWish::Head {
            let limits = matches!(refusal.why, Why::RateLimit(ref limited) if limited.real);
            let more = self.headers(now, call, who.filter(|_| limits), &request_id);
            let known: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
            let more: Headers = more.into_iter().filter(|(name, _)| !known.contains(name)).collect();
            headers.extend(more);
        }
        let course = Course {
            head_at_ns: Some(at),
            end_at_ns: Some(at),
            input_tokens: call.input_tokens,
            ..Course::default()
        };
        // Refusals come with their few bytes whatever was wished: what they say stands nowhere else.
        let plan = Plan::body(at, body);
        let entry = Entry { status, fault: refusal.fault, course: None, answer_id: String::new() };
        let id = self.enter(now, call, who, entry, Some(&refusal));
        let (rule, wait) = (refusal.rule, refusal.wait_ns);
        Reply { id, status, headers, course, refused_by: Some(rule), retry_after_ns: wait, open: false, plan }
    }

    /// Answers that cost nothing.
    pub(super) fn inform(&mut self, now: Now, call: &Call<'_>, who: Who, fault: Option<&FaultKind>) -> Reply {
        let at = self.providers.get(call.provider).map_or(0, |p| ms_f64(p.latency.refusal_ms));
        let mut headers = self.headers(now, call, Some(who), "");
        headers.push(("content-type", "application/json".to_owned()));
        let status = fault.map_or(200, FaultKind::status);
        let plan = match fault.and_then(|fault| instead(fault, at, &mut headers)) {
            Some(plan) => plan,
            None => match self.information(now, call, who) {
                Ok(body) => Plan::body(at, body),
                Err(refusal) => return self.refuse(now, call, refusal),
            },
        };
        self.informed(now, call, who, status, headers, plan, fault)
    }

    #[expect(clippy::too_many_arguments, reason = "one reply, put together in one place")]
    fn informed(
        &mut self,
        now: Now,
        call: &Call<'_>,
        who: Who,
        status: u16,
        headers: Headers,
        plan: Plan,
        fault: Option<&FaultKind>,
    ) -> Reply {
        let entry =
            Entry { status, fault: fault.map(FaultKind::name), course: None, answer_id: String::new() };
        let id = self.enter(now, call, Some(who), entry, None);
        let course = Course {
            head_at_ns: plan.head_at_ns,
            end_at_ns: plan.end_at_ns,
            end: plan.end,
            ..Course::default()
        };
        Reply { id, status, headers, course, refused_by: None, retry_after_ns: None, open: false, plan }
    }

    fn information(&mut self, now: Now, call: &Call<'_>, who: Who) -> Result<Vec<u8>, Refusal> {
        let missing = || Refusal::new(Why::ModelMissing, "model");
        let provider = self.providers.get(call.provider).ok_or_else(missing)?;
        let account = provider.accounts.get(who.account).ok_or_else(missing)?;
        let id = call.id.unwrap_or_default();
        let body = match call.endpoint {
            Endpoint::Models => listing::models(provider.dialect, &provider.models),
            Endpoint::Model => {
                let model = provider.by_model.get(id).and_then(|i| provider.models.get(*i));
                listing::model(provider.dialect, model.ok_or_else(missing)?)
            }
            Endpoint::CountTokens => {
                if !provider.models.is_empty() && !provider.by_model.contains_key(call.model) {
                    return Err(missing());
                }
                plain::count_tokens(call)
            }
            Endpoint::Credits => return Err(Refusal::new(Why::NeedsManagementKey, "management")),
            Endpoint::Generation => {
                let mine = |record: &&Record| record.answer_id == id && record.account == account.name;
                let found = self.books.records().rev().take(10_000).find(mine);
                let unknown = || Refusal::new(Why::NoResponse { id: id.to_owned() }, "generation");
                let record = found.ok_or_else(unknown)?;
                let age = now.mono_ns.saturating_sub(record.arrived_ns);
                listing::generation(record, &rfc3339(now.unix_ns.saturating_sub(age)))
            }
            Endpoint::StoredResponse => {
                let unknown = || Refusal::new(Why::NoResponse { id: id.to_owned() }, "response");
                return account.stored.get(id).map(<[u8]>::to_vec).ok_or_else(unknown);
            }
            _ => self.key_facts(now, call.provider, who),
        };
        Ok(body.into_bytes())
    }

    /// OpenRouter's `GET /key`.
    fn key_facts(&mut self, now: Now, provider: usize, who: Who) -> String {
        let Some(provider) = self.providers.get(provider) else { return String::new() };
        let (Some(account), Some(key)) = (provider.accounts.get(who.account), provider.keys.get(who.key))
        else {
            return String::new();
        };
        let daily = account.limiters.iter().copied().find(|id| {
            self.limiters.get(*id).is_some_and(|limiter| {
                limiter.dimension == Dimension::Requests
                    && limiter.period_ns >= DAY
                    && limiter.covers("any:free")
            })
        });
        let limiter = daily.and_then(|id| self.limiters.get_mut(id));
        // Without a limit in the spec: what an account with enough purchases has.
        let free_daily = limiter.map_or((0, 1000, 1000), |limiter| {
            let left = limiter.remaining(now);
            (limiter.limit.saturating_sub(left), limiter.limit, left)
        });
        listing::key(&KeyFacts {
            account: &account.name,
            now,
            key,
            free_daily,
            has_credit: account.credit.is_none_or(|credit| credit > 0),
        })
    }

    /// `DELETE responses/{id}`.
    pub(super) fn forget(&mut self, now: Now, call: &Call<'_>) -> Reply {
        let Some(who) = self.who(call.provider, call.secret) else {
            return self.refuse(now, call, Refusal::new(Why::BadKey, "bad_key"));
        };
        let id = call.id.unwrap_or_default();
        let account = self.providers.get_mut(call.provider).and_then(|p| p.accounts.get_mut(who.account));
        if !account.is_some_and(|account| account.stored.remove(id)) {
            return self.refuse(now, call, Refusal::new(Why::NoResponse { id: id.to_owned() }, "response"));
        }
        let body = format!(r#"{{"id":"{id}","object":"response","deleted":true}}"#);
        let mut headers = self.headers(now, call, Some(who), "");
        headers.push(("content-type", "application/json".to_owned()));
        self.informed(now, call, who, 200, headers, Plan::body(MS, body.into_bytes()), None)
    }

    /// The vendor's headers; those of limits only for a known caller.
    pub(super) fn headers(&mut self, now: Now, call: &Call<'_>, who: Option<Who>, id: &str) -> Headers {
        let mut out: Headers = Vec::with_capacity(16);
        let Some(provider) = self.providers.get(call.provider) else { return out };
        let account = who.and_then(|who| provider.accounts.get(who.account));
        let named = account.filter(|_| provider.expose_account).map(|account| account.name.to_string());
        let request_id = format!("req_{:016x}", mix(self.rng.next()));
        match provider.dialect {
            Dialect::Openai => {
                out.push(("x-request-id", request_id));
                if provider.family == HeaderFamily::Openai {
                    out.push(("openai-version", "2020-10-01".to_owned()));
                    out.push(("openai-processing-ms", "12".to_owned()));
                    out.extend(named.map(|name| ("openai-organization", name)));
                }
            }
            Dialect::Openrouter if call.endpoint.charged() && who.is_some() => {
                out.push(("x-generation-id", id.to_owned()));
            }
            Dialect::Openrouter => {}
            Dialect::Anthropic => {
                out.push(("request-id", request_id));
                out.extend(named.map(|name| ("anthropic-organization-id", name)));
            }
        }
        // Vendors sit behind an edge network that sets cookies; nobody's client should ever get one.
        out.push(("set-cookie", "__cf_bm=simulated; path=/; HttpOnly; Secure".to_owned()));
        let charged = call.endpoint.charged();
        let (Some(who), true) = (who, charged) else { return out };
        let (Some(account), Some(key)) = (provider.accounts.get(who.account), provider.keys.get(who.key))
        else {
            return out;
        };
        self.scratch.clear();
        for id in account.limiters.iter().chain(&key.limiters) {
            if self.limiters.get(*id).is_some_and(|limiter| limiter.covers(call.model)) {
                self.scratch.push(*id);
            }
        }
        let family = provider.family;
        let cost = call.input_tokens.saturating_add(call.max_tokens.unwrap_or(0));
        rate_limits(family, &mut self.limiters, &self.scratch, now, cost, &mut out);
        out
    }

    /// Headers and bytes of an admitted call.
    pub(super) fn compose(
        &mut self,
        now: Now,
        call: &Call<'_>,
        who: Who,
        course: &Course,
        fault: Option<&FaultKind>,
        (seed, answer_id): (u64, &str),
    ) -> (Headers, Plan) {
        let mut headers = self.headers(now, call, Some(who), answer_id);
        let Some(provider) = self.providers.get_mut(call.provider) else {
            return (headers, Plan::none(course));
        };
        let model = provider.by_model.get(call.model).and_then(|i| provider.models.get(*i));
        let answer = answer(now, call, course, provider.dialect, model, seed, answer_id);
        let healthy = course.end == End::Complete && !course.error_inside;
        if call.endpoint == Endpoint::Responses
            && call.store
            && provider.dialect == Dialect::Openai
            && healthy
            && fault.is_none_or(|fault| !fault.replaces_answer())
            && let Some(account) = provider.accounts.get_mut(who.account)
        {
            account.stored.keep(answer_id, answer.body().into_bytes());
        }
        let decided = Decided {
            call,
            course,
            answer,
            latency: model.and_then(|m| m.latency.as_ref()).unwrap_or(&provider.latency),
            fault,
            embedding_dimensions: model.map_or(64, |m| m.embedding_dimensions),
        };
        let plan = plan(decided, &mut headers);
        (headers, plan)
    }
}

fn answer(
    now: Now,
    call: &Call<'_>,
    course: &Course,
    dialect: Dialect,
    model: Option<&crate::spec::ModelSpec>,
    seed: u64,
    id: &str,
) -> Answer {
    let steer = call.steer.as_deref();
    let words = if let Some(text) = steer.and_then(|s| s.text.as_deref()) {
        Words::Given(tokens_of(text))
    } else if let Some(tool) = &call.tool {
        Words::Tool { name: tool.name.clone(), arguments: tokens_of(&tool.arguments) }
    } else if call.json_answer {
        Words::Given(tokens_of(JSON_ANSWER))
    } else {
        Words::Generated { tricky: steer.is_some_and(|s| s.tricky) }
    };
    let finish = match &words {
        _ if course.capped => Finish::Length,
        Words::Tool { .. } => Finish::Tool,
        _ => Finish::Stop,
    };
    let n = call.n.max(1);
    let each = course.output_tokens / u64::from(n);
    let reasoning_each = (course.reasoning_tokens / u64::from(n)).min(each);
    let untold = steer.is_some_and(|s| s.untold);
    let fresh = course.input_tokens - course.cached_tokens.min(course.input_tokens);
    let [of_input, of_cached, of_output] = price::rates(model, call);
    let output_cost_nano_usd = course.output_tokens * of_output;
    Answer {
        dialect,
        endpoint: call.endpoint,
        id: id.to_owned(),
        model: call.model.to_owned(),
        created_s: now.unix_ns / SECOND,
        seed,
        words,
        n,
        include_usage: call.include_usage && !untold,
        untold,
        finish,
        input: course.input_tokens,
        cached: course.cached_tokens,
        cache_write: if call.cache_control { fresh } else { 0 },
        output: course.output_tokens,
        reasoning: course.reasoning_tokens,
        visible_each: each - reasoning_each,
        reasoning_each,
        cost_nano_usd: fresh * of_input + course.cached_tokens * of_cached + output_cost_nano_usd,
        output_cost_nano_usd,
        previous: call.previous_response.map(str::to_owned),
        store: call.store,
        failed: course.error_inside,
    }
}
