//! What is told of one request when it is over: to the log, the metrics and the ring of recent requests, and later to
//! the ledger. It ends with its drop, however the request ends.

use crate::alarm::Alarm;
use crate::clients::bill::{Bill, Call};
use crate::clients::{Client, Passed};
use crate::errors::Problem;
use crate::explain::{Step, Told};
use crate::live::{KeyEntry, Upstream};
use crate::observe::{self, ModelCounters, TargetTimes};
use crate::serve::Gateway;
use crate::traces::Trace;
use keymux_policy::blame::Class;
use keymux_policy::fleet::Endpoint;
use keymux_policy::{Evidence, Lease, Now, Priority, Used};
use keymux_store::Record;
use keymux_wire::usage::Usage;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// How a request ended, as the log and the metrics call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A provider answered, and the whole answer went out.
    Answered,
    /// A provider's error was relayed.
    ProviderError,
    /// keymux refused, or every attempt failed.
    Refused,
    /// The answer broke off after its first bytes were sent.
    Broken,
    /// The client went away.
    ClientGone,
}

impl Outcome {
    /// All of them, in their order.
    pub const ALL: [Self; 5] =
        [Self::Answered, Self::ProviderError, Self::Refused, Self::Broken, Self::ClientGone];

    /// The word for it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::ProviderError => "provider_error",
            Self::Refused => "refused",
            Self::Broken => "broken",
            Self::ClientGone => "client_gone",
        }
    }
}

/// Longest name of a model that is remembered, in bytes: clients write it, and thousands of requests are remembered.
const MODEL_BYTES_MAX: usize = 256;

/// A model's name, in bounds.
fn remembered(model: &str) -> &str {
    &model[..model.floor_char_boundary(MODEL_BYTES_MAX)]
}

/// What is added up when it is over.
#[derive(Default)]
struct Counted {
    /// Of the name that is asked for; `None`: it was not read.
    model: Option<Arc<ModelCounters>>,
    class: Priority,
    /// Of the last attempt.
    target: Option<(Arc<KeyEntry>, Arc<TargetTimes>)>,
}

/// Who sent a request from here, and wants to know more of it than its answer.
#[derive(Debug, Default)]
pub struct Witness {
    /// What became of it.
    pub seen: OnceLock<Seen>,
    /// The last attempt of any request that failed by no fault of its own: where, and what was seen.
    pub trouble: Arc<Mutex<String>>,
}

/// What became of a request.
#[derive(Debug, Default)]
pub struct Seen {
    /// Its record.
    pub record: Record,
    /// Its last attempt, if that failed.
    pub failure: Option<Step>,
}

/// One request's story.
pub struct Story {
    gateway: Arc<Gateway>,
    endpoint: Endpoint,
    outcome: Outcome,
    counted: Counted,
    caller: Option<Arc<Client>>,
    bill: Box<Bill>,
    /// Time in the lines of its client and team.
    line_ns: u64,
    /// Who wants to know what became of it.
    witness: Option<Arc<Witness>>,
    /// The trace that it belongs to, where there are any.
    trace: Option<Box<Trace>>,
    told: Box<Told>,
}

impl Story {
    /// A request has arrived.
    pub fn begin(
        gateway: &Arc<Gateway>,
        id: Arc<str>,
        (endpoint, caller): (Endpoint, Option<Arc<Client>>),
        at: Now,
    ) -> Self {
        gateway.metrics.in_flight.inc();
        let (client, team, tags) = caller
            .as_ref()
            .map(|client| (client.id.clone(), client.team.clone(), client.tags.clone()))
            .unwrap_or_default();
        let record = Record {
            id,
            client,
            team,
            tags,
            started_unix_ms: at.unix_ns / 1_000_000,
            endpoint: keymux_config::endpoint_path(endpoint).into(),
            provider: gateway.nobody.clone(),
            key: gateway.nobody.clone(),
            // Stays so unless another end is told.
            status: 499,
            ..Record::default()
        };
        let told = Box::new(Told { record, at, stream: false, steps: Vec::new(), refusal: None });
        Self {
            gateway: gateway.clone(),
            endpoint,
            outcome: Outcome::ClientGone,
            counted: Counted::default(),
            caller,
            bill: Box::default(),
            line_ns: 0,
            witness: None,
            trace: None,
            told,
        }
    }

    /// Who calls, if it is a client with a key of its own.
    pub fn caller(&self) -> Option<&Arc<Client>> {
        self.caller.as_ref()
    }

    /// It is told here too, when it is over and when an attempt fails.
    pub fn witnessed(&mut self, by: &Arc<Witness>) {
        self.witness = Some(by.clone());
    }

    /// It belongs to this trace.
    pub fn traced(&mut self, trace: Trace) {
        self.trace = Some(Box::new(trace));
    }

    /// The trace that it belongs to.
    pub fn trace(&self) -> Option<&Trace> {
        self.trace.as_deref()
    }

    /// What the request says about itself.
    pub fn tagged(&mut self, tags: &[Arc<str>]) {
        self.told.record.tags.extend_from_slice(tags);
    }

    /// The request's id.
    pub fn id(&self) -> &str {
        &self.told.record.id
    }

    /// The model, as the client wrote it, and whether it is to answer by a stream.
    pub fn asks_for(&mut self, model: &str, stream: bool) {
        self.told.stream = stream;
        remembered(model).clone_into(&mut self.told.record.model);
    }

    /// It is known where it goes and in which class it waits.
    pub fn planned(&mut self, counters: &Arc<ModelCounters>, class: Priority) {
        self.counted.model = Some(counters.clone());
        self.counted.class = class;
    }

    /// The request has passed its client's limits.
    pub fn passed(&mut self, passed: Passed, bound_nano_usd: Option<u64>, waited_ns: u64) {
        self.line_ns = waited_ns;
        self.told.record.queue_ns = waited_ns;
        self.bill.passed(passed, bound_nano_usd);
    }

    /// The attempt that was begun may go out once what it may cost is written down; the instant at which that is so.
    ///
    /// # Errors
    /// It may not.
    pub async fn goes_out(
        &mut self,
        call: Call,
        now_ns: u64,
        (until_ns, alarm): (u64, &mut Alarm),
    ) -> Result<u64, Problem> {
        let waited = self.bill.reserve(&self.gateway, &mut self.told.record, (until_ns, alarm)).await?;
        let now_ns = if waited { self.gateway.clock.mono_ns() } else { now_ns };
        let at = self.told.at;
        let unix_ns = at.unix_ns + now_ns.saturating_sub(at.mono_ns);
        self.bill.begun(call, unix_ns);
        Ok(now_ns)
    }

    /// To be set when the attempt is on its way to its provider.
    pub fn is_sent(&mut self) -> &mut bool {
        self.bill.is_sent()
    }

    /// keymux ends the attempt before its answer has come to its end, for its client or for its own patience.
    pub fn cancelled(&mut self) {
        self.bill.cancelled();
    }

    /// What the provider says that it used, beyond what the scheduler needs to know.
    pub fn billed(&mut self, said: &Usage) {
        self.bill.said(said, &mut self.told.record.used);
    }

    /// The provider's own id of the answer.
    pub fn generation(&mut self, id: Option<&str>) {
        if let (Some(id), None) = (id, &self.told.record.generation) {
            self.told.record.generation = Some(id.into());
        }
    }

    /// An attempt begins.
    pub fn attempt(&mut self, upstream: &Upstream, key: &Arc<KeyEntry>, lease: &Lease, now_ns: u64) {
        self.counted.target = Some((key.clone(), upstream.times.model(&lease.model).clone()));
        if lease.attempt > 1 {
            self.gateway.metrics.retry();
        }
        let record = &mut self.told.record;
        record.account = key.account_name.clone();
        record.generation = None;
        record.provider = upstream.name.clone();
        record.key = key.name.clone();
        record.attempts = lease.attempt;
        record.queue_ns = self.line_ns + lease.waited_ns;
        // Most requests have one.
        self.told.steps.reserve_exact(1);
        self.told.steps.push(Step {
            provider: upstream.name.clone(),
            key: key.name.clone(),
            model: match remembered(&lease.model) {
                short if short.len() < lease.model.len() => short.into(),
                _ => lease.model.clone(),
            },
            begun_ns: now_ns.saturating_sub(self.told.at.mono_ns),
            ended_ns: None,
            waited_ns: lease.waited_ns,
            probe: lease.probe,
            skipped: lease.skipped.clone(),
            blame: None,
            sign: None,
            status: None,
            detail: None,
        });
    }

    /// The attempt failed before anything of it was passed on.
    pub fn failed(&mut self, blame: Class, seen: &Evidence, detail: String) {
        if blame == Class::Client {
            self.bill.cancelled();
        }
        self.bill.heard();
        let ended_ns = self.gateway.clock.mono_ns().saturating_sub(self.told.at.mono_ns);
        if let Some(step) = self.told.steps.last_mut() {
            if let Some(witness) =
                self.witness.as_ref().filter(|_| !matches!(blame, Class::Request | Class::Client))
            {
                let told = format!("{}/{}: {detail}", step.provider, step.key);
                *witness.trouble.lock().unwrap_or_else(PoisonError::into_inner) = told;
            }
            step.ended_ns = Some(ended_ns);
            step.detail = Some(detail);
        }
        self.blamed(Some(blame), Some(seen));
    }

    /// Whose fault the end of the attempt was, and what was seen of it, if it was no answer.
    pub fn blamed(&mut self, blame: Option<Class>, seen: Option<&Evidence>) {
        if let Some(step) = self.told.steps.last_mut() {
            step.blame = blame;
            step.sign = seen.map(|seen| seen.sign);
            step.status = seen.and_then(|seen| seen.status);
        }
    }

    /// The model that the last attempt asked its provider for.
    pub fn target(&self) -> &str {
        self.told.steps.last().map_or("", |step| &step.model)
    }

    /// Attempts so far.
    pub fn attempts(&self) -> u32 {
        self.told.record.attempts
    }

    /// Milliseconds in the waiting room.
    pub fn queue_ms(&self) -> u64 {
        self.told.record.queue_ns / 1_000_000
    }

    /// The first output goes to the client.
    pub fn first_output(&mut self, now_ns: u64) {
        let took_ns = now_ns.saturating_sub(self.told.at.mono_ns);
        self.told.record.first_output_ns = Some(took_ns);
        if let Some(model) = &self.counted.model {
            model.first_output.observe(took_ns);
        }
        if let (Some((_, times)), Some(step)) = (&self.counted.target, self.told.steps.last()) {
            times.first_output.observe(took_ns.saturating_sub(step.begun_ns));
        }
    }

    /// It was over at this instant, of which nobody need ask the clock again.
    pub fn over(&mut self, now_ns: u64) {
        self.told.record.total_ns = now_ns.saturating_sub(self.told.at.mono_ns);
    }

    /// When it arrived.
    pub fn arrived(&self) -> Now {
        self.told.at
    }

    /// How it ended. What is never told ended with the client going away.
    pub fn end(&mut self, outcome: Outcome, status: u16, used: Option<Used>) {
        self.outcome = outcome;
        self.bill.heard();
        let record = &mut self.told.record;
        record.status = status;
        if let Some(used) = used {
            record.used = keymux_store::Used {
                input_tokens: used.input_tokens,
                cached_input_tokens: used.cached_input_tokens,
                output_tokens: used.output_tokens,
                cost_nano_usd: used.cost_nano_usd,
                estimated: used.estimated,
                ..record.used
            };
        }
    }

    /// keymux itself answered, with this error.
    pub fn refused(&mut self, problem: &Problem) {
        self.end(Outcome::Refused, problem.kind.row().status, None);
        self.told.refusal = Some((problem.code.unwrap_or(problem.kind.row().code), problem.message.clone()));
    }
}

impl Counted {
    /// The request is over, and its record is complete.
    fn close(&self, gateway: &Gateway, (endpoint, outcome): (Endpoint, Outcome), told: &Told) {
        let record = &told.record;
        let other = || gateway.live.load().other_counters.clone();
        let model = self.model.clone().unwrap_or_else(other);
        model.ended(endpoint, outcome);
        model.request.observe(record.total_ns);
        if record.queue_ns > 0 {
            gateway.metrics.waited(self.class, record.queue_ns);
        }
        let Some((key, times)) = &self.target else { return };
        key.counters.used(&record.used);
        if let (Outcome::Answered, Some(step)) = (outcome, told.steps.last()) {
            times.answered.observe(record.total_ns.saturating_sub(step.begun_ns));
        }
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        let Self { gateway, endpoint, outcome, counted, told, caller, bill, witness, trace, .. } = self;
        let (arrived_ns, record) = (told.at.mono_ns, &mut told.record);
        gateway.metrics.in_flight.dec();
        record.outcome = outcome.label().into();
        if record.total_ns == 0 {
            record.total_ns = gateway.clock.mono_ns().saturating_sub(arrived_ns);
        }
        if let Some(step) = told.steps.last_mut() {
            step.ended_ns.get_or_insert(record.total_ns);
        }
        bill.close(*outcome, (caller.as_deref(), gateway), record);
        counted.close(gateway, (*endpoint, *outcome), told);
        let record = &mut told.record;
        if let Some(witness) = witness {
            // A story ends once.
            let failure = told.steps.last().filter(|step| step.blame.is_some()).cloned();
            let _ = witness.seen.set(Seen { record: record.clone(), failure });
        }
        if gateway.logs().wants(&record.id, *outcome == Outcome::Answered) {
            observe::request_line(record);
        }
        if let Some(store) = &gateway.store {
            // Whether it was lost is told by the store's health.
            store.record(record);
        }
        if let Some(trace) = trace.take() {
            gateway.traces.over(trace, *endpoint, told);
        }
        gateway.pulse.ended(told, *outcome);
        gateway.recent.push(told);
    }
}
