//! The gateway without a socket in front: the same scheduler, clients, connections and stories, asked by lines of a file
//! instead of connections. To the scheduler a batch is a client like any other, with a class and a budget of its own.

use super::journal::{Entry, Kind};
use super::line::{Bad, Call};
use super::record;
use crate::alarm::Alarm;
use crate::attempt::Dialer;
use crate::body::{Body, Taken};
use crate::clients::{Client, Dues, Status};
use crate::clock::Clock;
use crate::errors::{self, Problem};
use crate::http1::Fields;
use crate::live::Snapshot;
use crate::options::Options;
use crate::reply::Reply;
use crate::request::{self, Asked};
use crate::serve::{Gateway, Worker};
use crate::story::Story;
use crate::upstream::{Connector, Pool, client_config};
use crate::{observe, rt};
use bytes::{Bytes, BytesMut};
use keymux_config::{Config, TimeoutsPatch};
use keymux_policy::budget::{Budget, Owner, Payers, Reset};
use keymux_policy::fleet::ModelSet;
use keymux_policy::{ClientId, Priority, View};
use keymux_store::Record;
use std::future::poll_fn;
use std::sync::{Arc, OnceLock};

/// As long as a line may wait for room: limits of a day come back within one.
const WAIT_MS: u64 = 86_400_000 + 3_600_000;
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
}

/// What became of a line.
#[derive(Debug)]
pub enum Done {
    /// It is over, one way or the other.
    Over(Box<Over>),
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
}

/// Carries lines out.
pub struct Engine {
    worker: Arc<Worker>,
    client: Arc<Client>,
    fields: Fields,
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
        };
        let budget = Budget { limit_nano_usd: payer.budget_nano_usd, reset: Reset::Never };
        let owner = Owner::Client(BATCH);
        gateway.turnstile.set(&[Dues { owner, limits: Vec::new(), budget: Some(budget) }]);
        let worker = Worker::new(gateway, Dialer { pool: Pool::default(), connector, clock }, seed);
        let fields = Fields::of(&[("content-type", b"application/json"), ("accept", b"application/json")]);
        Ok(Arc::new(Self { worker, client: Arc::new(client), fields }))
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

    /// The configuration as it is used.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.worker.gateway.live.load_full()
    }

    /// Closes connections that nobody uses any more. Called once in a while.
    pub fn sweep(&self) {
        self.worker.dialer.pool.sweep(self.clock().mono_ns());
    }

    /// From now on nothing waits: what is at a provider finishes, all else comes back as [`NotNow::Stopping`].
    pub fn drain(&self) {
        self.worker.gateway.turnstile.drain();
        self.worker.gateway.scheduler.drain();
    }

    /// Carries a line out.
    pub async fn carry_out(self: Arc<Self>, job: Job) -> Done {
        let Job { seq, number, mark, call } = job;
        let Call { custom_id, endpoint, envelope, body } = call;
        let (gateway, id) = (&self.worker.gateway, self.worker.next_id());
        let witness = Arc::new(OnceLock::new());
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
        let record = witness.get().cloned().unwrap_or_default();
        if let Err(Unanswered::Refused(problem)) = &answered
            && let Some(why) = not_now(problem, &record)
        {
            return Done::NotNow { seq, number, why };
        }
        let (kind, text, error) = match answered {
            Ok((status, body)) => {
                let text = record::answered(&id, &custom_id, status, &body);
                let failed = !(200..300).contains(&status);
                let error = failed.then(|| format!("{status} {}", record::message(&body)));
                (if failed { Kind::Failed } else { Kind::Answered }, text, error)
            }
            Err(unanswered) => {
                let (code, message) = unanswered.told();
                let text = record::refused(&id, Some(&custom_id), number, (code, &message));
                (Kind::Failed, text, Some(message))
            }
        };
        let entry = Entry { seq, mark, kind, cost_nano_usd: record.used.cost_nano_usd, text };
        Done::Over(Box::new(Over { entry, record, number, error }))
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
    // How many lines are out at once is settled before they come here.
    let room = &mut config.settings.room;
    (room.waiters_max, room.per_client_max, room.per_route_max) = (1 << 30, 1 << 30, 1 << 30);
    room.bytes_max = 1 << 50;
    config
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
        Kind::CostNotBounded => {
            Some(NotNow::Budget(told.replace("This key has a budget", "There is a --budget")))
        }
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
