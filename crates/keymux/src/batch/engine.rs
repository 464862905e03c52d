//! The gateway without a socket in front: the same scheduler, clients, connections and stories, asked by lines of a file
//! instead of connections. To the scheduler a batch is a client like any other, with a class and a budget of its own.

use super::journal::{Entry, Kind};
use super::line::{Bad, Call};
use super::patience::Trials;
use super::record;
use crate::alarm::Alarm;
use crate::attempt::Dialer;
use crate::body::{Body, Taken};
use crate::clients::{Client, Dues, Status, worth};
use crate::clock::Clock;
use crate::errors::{self, Problem};
use crate::explain::Step;
use crate::http1::Fields;
use crate::live::Snapshot;
use crate::options::Options;
use crate::plan::{self, Plan};
use crate::reply::Reply;
use crate::request::{self, Asked};
use crate::serve::{Gateway, Worker};
use crate::story::{Seen, Story, Witness};
use crate::upstream::{Connector, Pool, client_config};
use crate::{observe, rt};
use bytes::{Bytes, BytesMut};
use keymux_config::{Config, TimeoutsPatch};
use keymux_policy::blame::Class;
use keymux_policy::budget::{Budget, Owner, Payers, Reset};
use keymux_policy::fleet::ModelSet;
use keymux_policy::{ClientId, Priority, Sign, View};
use keymux_store::Record;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};

/// As long as a line may wait for room: limits of a day come back within one.
const WAIT_MS: u64 = 86_400_000 + 3_600_000;
/// Attempts without capacity before a line is kept and others are sent.
const OVERLOADS_MAX: u32 = 4;
/// Answers above this are not kept.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// No client of a configuration has this one.
const BATCH: ClientId = ClientId(u64::MAX);

/// What a batch is to the scheduler.
#[derive(Clone, Debug)]
pub struct Payer {
    /// Its class.
    pub class: Priority,
    /// What it may spend, in nano-dollars.
    pub budget_nano_usd: Option<u64>,
}

/// A line to be carried out.
#[derive(Debug)]
pub struct Job {
    /// Its place among the lines.
    pub seq: u64,
    /// Its number in the file.
    pub number: u64,
    /// Of its bytes.
    pub mark: u32,
    /// What it asks for.
    pub call: Call,
    /// What came of it before.
    pub trials: Trials,
}

/// What became of a line.
#[derive(Debug)]
pub enum Done {
    /// It is over, one way or the other.
    Over(Box<Over>),
    /// It failed for a reason of the moment.
    Failed {
        /// The line, to be sent again.
        job: Box<Job>,
        /// How it ends if it is not.
        over: Box<Over>,
        /// Nothing came in time.
        hung: bool,
    },
    /// Nothing can be sent now, and this line was not: for this reason.
    NotNow {
        /// Its place among the lines.
        seq: u64,
        /// Its number in the file.
        number: u64,
        /// Why.
        why: NotNow,
    },
}

/// A line that is over.
#[derive(Debug)]
pub struct Over {
    /// What is written down.
    pub entry: Entry,
    /// What is told of it.
    pub record: Record,
    /// Its number in the file.
    pub number: u64,
    /// In short, why it failed.
    pub error: Option<String>,
}

/// Why nothing can be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotNow {
    /// The batch is being stopped.
    Stopping,
    /// The budget does not pay for it, in these words.
    Budget(String),
    /// No key can be used, or no limit has room, in these words.
    NoRoom(String),
    /// Nothing was answered for too long, in these words.
    Silence(String),
}

/// What a line would come to.
pub struct Planned {
    /// Its plan.
    pub plan: Plan,
    /// Why a budget cannot hold for it.
    pub unbounded: Option<String>,
}

/// Carries lines out.
pub struct Engine {
    worker: Arc<Worker>,
    client: Arc<Client>,
    fields: Fields,
    trouble: Arc<Mutex<String>>,
}

impl Engine {
    /// An engine over the keys of this configuration.
    ///
    /// # Errors
    /// One line that names the setting and the mend.
    pub fn new(config: Config, payer: &Payer, seed: u64) -> Result<Arc<Self>, String> {
        let config = patient(config);
        let connector = Connector::new(client_config(config.server.ca_file.as_deref())?);
        let clock = Clock::start();
        let gateway = Gateway::new(config, 0, seed, (clock.clone(), None))?;
        let payers = Payers { client: BATCH, team: None };
        let client = Client {
            id: "batch".into(),
            name: "batch".into(),
            team: "".into(),
            payers,
            status: Status::Active,
            expires_unix_ms: None,
            models: ModelSet::default(),
            allowed: None,
            class: payer.class,
            weight: 1.0,
            max_wait_ms: Some(WAIT_MS),
            tags: Vec::new(),
            budgeted: payer.budget_nano_usd.is_some(),
            // A line that what is left does not cover is left undone, and not answered in part.
            shortens: false,
        };
        let budget = Budget { limit_nano_usd: payer.budget_nano_usd, reset: Reset::Never };
        let owner = Owner::Client(BATCH);
        gateway.turnstile.set(&[Dues { owner, limits: Vec::new(), budget: Some(budget) }]);
        let worker = Worker::new(gateway, Dialer { pool: Pool::default(), connector, clock }, seed);
        let fields = Fields::of(&[("content-type", b"application/json"), ("accept", b"application/json")]);
        Ok(Arc::new(Self { worker, client: Arc::new(client), fields, trouble: Arc::default() }))
    }

    /// Starts what runs beside the lines, on the runtime that calls this.
    pub fn start(&self) {
        let gateway = &self.worker.gateway;
        rt::spawn(gateway.scheduler.clone().alarm());
        rt::spawn(gateway.turnstile.clone().alarm());
        rt::spawn(observe::events(gateway.clone()));
    }

    /// The clock that it goes by.
    pub fn clock(&self) -> &Clock {
        &self.worker.gateway.clock
    }

    /// The state of all keys.
    pub fn view(&self) -> View {
        self.worker.gateway.scheduler.view()
    }

    /// The last attempt that failed by no fault of its line's: where, and what was seen.
    pub fn trouble(&self) -> String {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The configuration as it is used.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.worker.gateway.live.load_full()
    }

    /// Closes connections that nobody uses any more. Called once in a while.
    pub fn sweep(&self) {
        self.worker.dialer.pool.sweep(self.clock().mono_ns());
    }

    /// What a line would come to: whom it asks, and with a budget what is held for it. Nothing is sent.
    ///
    /// # Errors
    /// Why it cannot be sent.
    pub fn plan(&self, snapshot: &Snapshot, call: &Call) -> Result<Planned, Bad> {
        let refused = |problem: Problem| {
            let code = problem.code.unwrap_or(problem.kind.row().code);
            Bad { custom_id: Some(call.custom_id.clone()), code, message: problem.message }
        };
        let now = self.clock().now();
        let read = plan::read(call.endpoint, &Fields::default(), &call.body).map_err(refused)?;
        let (client, options) = (Some(&*self.client), Options::default());
        let mut plan = Plan::new(snapshot, call.endpoint, &read, &call.body, (client, &options), now)
            .map_err(refused)?;
        let mut unbounded = None;
        if self.client.budgeted {
            let unix_s = now.unix_ns / 1_000_000_000;
            match worth::of(snapshot, &self.client, &plan, (&read, &call.body), (unix_s, u64::MAX)) {
                Ok(worth) => plan.worth(worth, &read),
                Err(problem) => unbounded = Some(of_budget(&problem.message)),
            }
        }
        Ok(Planned { plan, unbounded })
    }

    /// From now on nothing waits: what is at a provider finishes, all else comes back as [`NotNow::Stopping`].
    pub fn drain(&self) {
        self.worker.gateway.turnstile.drain();
        self.worker.gateway.scheduler.drain();
    }

    /// Carries a line out.
    pub async fn carry_out(self: Arc<Self>, job: Job) -> Done {
        let Job { seq, number, mark, call, trials } = &job;
        let (seq, number, mark) = (*seq, *number, *mark);
        let Call { custom_id, endpoint, envelope, body } = call.clone();
        let (gateway, id) = (&self.worker.gateway, self.worker.next_id());
        let witness = Arc::new(Witness { trouble: self.trouble.clone(), ..Witness::default() });
        let caller = Some(self.client.clone());
        let mut story = Story::begin(gateway, id.clone(), (endpoint, caller), gateway.clock.now());
        story.witnessed(&witness);
        let body = Taken::whole(body);
        let asked = Asked { endpoint, query: None, fields: self.fields.clone(), envelope, body };
        let mut alarm = Alarm::new(gateway.clock.clone());
        let options = Options::default();
        let snapshot = gateway.live.load_full();
        let carried = request::carry_out(&self.worker, &snapshot, &asked, &options, story, &mut alarm).await;
        let answered = match carried {
            Ok(reply) => read(reply, &mut alarm).await,
            Err(problem) => Err(Unanswered::Refused(problem)),
        };
        // The story has ended with the answer.
        let seen = Arc::into_inner(witness).and_then(|witness| witness.seen.into_inner());
        let Seen { mut record, failure } = seen.unwrap_or_default();
        if let Err(Unanswered::Refused(problem)) = &answered
            && let Some(why) = not_now(problem, &record)
        {
            return Done::NotNow { seq, number, why };
        }
        let (kind, text, error) = match answered {
            Ok((status, body)) => {
                let text = record::answered(&id, &custom_id, status, &body);
                // An error in an answer of status 200 is one.
                let failed = failure.is_some() || !(200..300).contains(&status);
                let error = failed.then(|| format!("{status} {}", record::message(&body)));
                (if failed { Kind::Failed } else { Kind::Answered }, text, error)
            }
            Err(unanswered) => {
                let (code, message) = unanswered.told();
                let text = record::refused(&id, Some(&custom_id), number, (code, &message));
                (Kind::Failed, text, Some(message))
            }
        };
        record.attempts += trials.attempts;
        if trials.cost_nano_usd > 0 {
            record.used.cost_nano_usd = Some(record.used.cost_nano_usd.unwrap_or(0) + trials.cost_nano_usd);
        }
        let entry = Entry { seq, mark, kind, cost_nano_usd: record.used.cost_nano_usd, text };
        let over = Box::new(Over { entry, record, number, error });
        match failure.as_ref().filter(|_| kind == Kind::Failed).and_then(of_the_moment) {
            Some(hung) => {
                let mut job = Box::new(job);
                job.trials.attempts = over.record.attempts;
                job.trials.cost_nano_usd = over.record.used.cost_nano_usd.unwrap_or(0);
                Done::Failed { job, over, hung }
            }
            None => Done::Over(over),
        }
    }

    /// What is written down of a line that cannot be sent.
    pub fn keep_out(&self, (seq, number, mark): (u64, u64, u32), bad: &Bad) -> Over {
        let id = self.worker.next_id();
        let text = record::refused(&id, bad.custom_id.as_deref(), number, (bad.code, &bad.message));
        let entry = Entry { seq, mark, kind: Kind::Bad, cost_nano_usd: None, text };
        Over { entry, record: Record::default(), number, error: Some(bad.message.clone()) }
    }
}

/// A batch has time: a line waits for its room as long as that can take, and the clock of a call runs while it is at a
/// provider, not while it waits.
fn patient(mut config: Config) -> Config {
    for provider in &mut config.providers {
        provider.timeouts.total_ms = WAIT_MS;
    }
    for route in &mut config.routes {
        route.timeouts = TimeoutsPatch { total_ms: None, ..route.timeouts };
    }
    // Longer waits are the batch's own: by them it tells a line that nobody has room for from the rest.
    config.settings.retry.overloads_max = OVERLOADS_MAX;
    // How many lines are out at once is settled before they come here.
    let room = &mut config.settings.room;
    (room.waiters_max, room.per_client_max, room.per_route_max) = (1 << 30, 1 << 30, 1 << 30);
    room.bytes_max = 1 << 50;
    config
}

/// Whether a failed attempt says nothing of the line that was sent; then, whether nothing came in time.
fn of_the_moment(step: &Step) -> Option<bool> {
    let hung = matches!(step.sign, Some(Sign::FirstByteTimeout | Sign::IdleTimeout | Sign::TotalTimeout));
    (!matches!(step.blame?, Class::Request | Class::Client)).then_some(hung)
}

enum Unanswered {
    Refused(Problem),
    Broken(String),
}

impl Unanswered {
    fn told(self) -> (&'static str, String) {
        match self {
            Self::Refused(problem) => (problem.code.unwrap_or(problem.kind.row().code), problem.message),
            Self::Broken(detail) => ("answer_broken", detail),
        }
    }
}

/// What is said of a client key's budget, of the command's.
fn of_budget(told: &str) -> String {
    told.replace("This key has a budget", "There is a --budget")
}

/// Whether it says nothing of the line, but of the moment.
fn not_now(problem: &Problem, record: &Record) -> Option<NotNow> {
    use errors::Kind;
    let told = problem.message.clone();
    match problem.kind {
        Kind::Draining => Some(NotNow::Stopping),
        Kind::BudgetSpent | Kind::BudgetHeld => {
            let told = "what is left of --budget does not cover what this line could cost; give a larger one, or \
                        ask for fewer `max_tokens`";
            Some(NotNow::Budget(told.to_owned()))
        }
        Kind::CostNotBounded => Some(NotNow::Budget(of_budget(&told))),
        Kind::AllOut | Kind::QuotaExhausted | Kind::RoomFull if record.attempts == 0 => {
            Some(NotNow::NoRoom(told))
        }
        _ => None,
    }
}

/// Reads an answer to its end.
async fn read(reply: Reply, alarm: &mut Alarm) -> Result<(u16, Bytes), Unanswered> {
    let (status, mut body) = (reply.status.as_u16(), reply.body);
    if let Body::Whole(bytes) = body {
        return Ok((status, bytes));
    }
    let mut whole = BytesMut::new();
    while let Some(piece) = poll_fn(|cx| body.poll_piece(cx, alarm)).await {
        let piece = piece.map_err(|broken| Unanswered::Broken(broken.to_string()))?;
        whole.extend_from_slice(&piece);
        if whole.len() > ANSWER_BYTES_MAX {
            let told = format!("the answer is over {ANSWER_BYTES_MAX} bytes long and was not kept");
            return Err(Unanswered::Broken(told));
        }
    }
    Ok((status, whole.freeze()))
}
