//! The run itself: as many lines out as the window lets, their answers to the writer as they come, until the input is
//! at its end or something says stop. One task carries all lines; two threads stand at the files.

use super::engine::{Done, Engine, Job, NotNow, Over};
use super::files::{self, Read, Write, Written};
use super::input::{Item, Source, Stamp};
use super::journal::Kind;
use super::line::Call;
use super::output::Output;
use super::pace::Pace;
use super::past::Past;
use super::patience::{self, Patience, Trials};
use super::tally::Tally;
use super::watch::{self, Standstill};
use super::window::Window;
use futures_util::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Interval;

/// How far lines may be ahead of the oldest that is not done, where the output is in order: what has to be remembered
/// of them is bounded by it.
const AHEAD_MAX: u64 = 1 << 18;
/// Bytes of lines that are out at once.
const BYTES_MAX: usize = 48 << 20;
/// How often the state of things is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Looks between two times that the output is made durable.
const LOOKS_A_SYNC: u64 = 10;
/// Lines that are left at the end, of which nothing more can tell whether it is they or the provider.
const LAST_LINES: usize = 16;
/// How long files may take to be closed once it is to end at once.
const LAST: Duration = Duration::from_secs(2);

/// What is to be done.
#[derive(Debug)]
pub struct Batch {
    /// Where lines come from.
    pub source: Source,
    /// The file as it was looked over.
    pub stamp: Option<Stamp>,
    /// For lines that name no model.
    pub model: Option<String>,
    /// What an earlier run has done.
    pub past: Arc<Past>,
    /// How many lines there are, if that is known.
    pub lines: Option<u64>,
    /// Answers have to stand in the order of the lines.
    pub ordered: bool,
    /// Lines out at once, at most.
    pub concurrent_max: usize,
    /// Lines that begin in a second, at most.
    pub rate_max: Option<f64>,
    /// How long nothing may be answered, in nanoseconds; `None`: the usual.
    pub patience_ns: Option<u64>,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Every line is done.
    Complete,
    /// Nothing more could be sent: from this line on, for this reason.
    Stopped {
        /// The number of the first line that was not sent.
        number: u64,
        /// Why.
        why: NotNow,
    },
    /// It was told to end.
    Interrupted,
    /// The input has no line.
    Empty(String),
    /// The input cannot be read on.
    Input(String),
    /// The output cannot be written.
    Output(String),
}

/// How things stand.
#[derive(Debug)]
pub struct Standing<'a> {
    /// What it came to so far.
    pub tally: &'a Tally,
    /// Lines that were done before this run.
    pub before: u64,
    /// All lines, if that is known.
    pub lines: Option<u64>,
    /// Lines that are out.
    pub out: usize,
    /// Of these, waiting for room.
    pub waiting: usize,
    /// What they wait for.
    pub why: Option<String>,
    /// Nothing is answered: why, and for how long.
    pub silence: Option<String>,
    /// Since the start of this run.
    pub elapsed_ns: u64,
    /// It is being stopped.
    pub stopping: bool,
}

/// Who says stop, and who is shown how things stand.
pub struct Outside<'a> {
    /// The first word lets what is out finish, the second ends at once.
    pub stop: mpsc::Receiver<()>,
    /// Called several times a second, and once at the end.
    pub show: &'a mut dyn FnMut(&Standing<'_>),
}

type Flying = FuturesUnordered<Pin<Box<dyn Future<Output = Done>>>>;

/// A batch that runs.
struct Run<'a> {
    engine: Arc<Engine>,
    batch: &'a Batch,
    tally: Tally,
    window: Window,
    pace: Pace,
    from: mpsc::Receiver<Read>,
    ahead: VecDeque<Item>,
    lines: Option<u64>,
    read_all: bool,
    flying: Flying,
    /// Places of the lines that are not safe yet.
    open: BTreeSet<u64>,
    bytes_out: usize,
    /// The lines that are out.
    flying_lines: HashMap<u64, Out>,
    /// How many of these failed before.
    again: usize,
    /// Those that failed and are sent again.
    patience: Patience,
    to: mpsc::Sender<Write>,
    said: mpsc::Receiver<Written>,
    /// Lines that the writer has and did not confirm.
    unsafe_lines: usize,
    end: Option<End>,
    /// How often it was told to stop.
    words: u32,
    waiting: usize,
    standstill: Standstill,
    began_ns: u64,
}

/// A line that is out.
#[derive(Clone, Copy, Debug)]
struct Out {
    bytes: usize,
    number: u64,
    sent_ns: u64,
    /// It failed before.
    again: bool,
}

/// Runs a batch to its end.
pub async fn run(
    engine: &Arc<Engine>,
    batch: &Batch,
    output: Output,
    outside: &mut Outside<'_>,
) -> (End, Tally) {
    engine.start();
    let now_ns = engine.clock().mono_ns();
    let opened = files::read(batch.source.clone(), batch.past.clone(), batch.model.clone(), batch.stamp);
    let from = match opened {
        Ok(from) => from,
        Err(told) => return (End::Input(told), Tally::default()),
    };
    let (to, said) = match files::write(output, batch.concurrent_max) {
        Ok(channels) => channels,
        Err(told) => return (End::Output(told), Tally::default()),
    };
    let mut run = Run {
        engine: engine.clone(),
        batch,
        tally: Tally::default(),
        window: Window::new(batch.concurrent_max, now_ns),
        pace: Pace::new(batch.rate_max),
        from,
        ahead: VecDeque::new(),
        lines: batch.lines,
        read_all: false,
        flying: FuturesUnordered::new(),
        open: BTreeSet::new(),
        bytes_out: 0,
        flying_lines: HashMap::new(),
        again: 0,
        patience: Patience::new(batch.patience_ns),
        to,
        said,
        unsafe_lines: 0,
        end: None,
        words: 0,
        waiting: 0,
        standstill: Standstill::new(batch.patience_ns),
        began_ns: now_ns,
    };
    run.go(outside).await;
    let end = run.close(outside).await;
    run.look(outside, 1);
    (end, run.tally)
}

impl Run<'_> {
    async fn go(&mut self, outside: &mut Outside<'_>) {
        let mut look: Interval = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut looks = 0;
        while !self.is_over() {
            self.feed();
            let wants_lines =
                self.end.is_none() && self.ahead.is_empty() && !self.read_all && self.has_room();
            let paced = self.end.is_none() && !self.ahead.is_empty() && self.has_room();
            let pace_at = self.engine.clock().at(self.pace.next_ns());
            tokio::select! {
                biased;
                Some(()) = outside.stop.recv() => {
                    self.words += 1;
                    if self.end == Some(End::Interrupted) {
                        // What is out is given up: its connections close.
                        self.flying.clear();
                        return;
                    }
                    self.stop(End::Interrupted);
                    self.engine.drain();
                }
                _ = look.tick() => {
                    looks += 1;
                    self.look(outside, looks);
                }
                Some(said) = self.said.recv() => self.heard(said),
                Some(done) = self.flying.next(), if !self.flying.is_empty() => self.ended(done),
                read = self.from.recv(), if wants_lines => self.read(read),
                () = tokio::time::sleep_until(pace_at), if paced && self.pace.is_set() => {}
            }
            // Whatever else is there, without a look at the rest.
            while let Some(Some(done)) = self.flying.next().now_or_never() {
                self.ended(done);
            }
        }
    }

    fn is_over(&self) -> bool {
        let fed = self.end.is_some() || (self.read_all && self.ahead.is_empty() && self.patience.kept() == 0);
        let failed = matches!(self.end, Some(End::Output(_)));
        failed || (fed && self.flying.is_empty() && self.unsafe_lines == 0)
    }

    /// A reason to stop. The first one counts, unless somebody says so himself or nothing can be written any more.
    fn stop(&mut self, end: End) {
        let graver = matches!(end, End::Interrupted | End::Output(_));
        if self.end.is_none() || (graver && !matches!(self.end, Some(End::Output(_)))) {
            self.end = Some(end);
            // They stay undone.
            self.patience.give_up();
        }
    }

    fn has_room(&self) -> bool {
        let span = match (self.open.first(), self.open.last()) {
            (Some(first), Some(last)) => last - first,
            _ => 0,
        };
        self.flying.len() < self.window.limit()
            && self.flying.len() + self.unsafe_lines < self.batch.concurrent_max
            && (span < AHEAD_MAX || !self.batch.ordered)
            && (self.bytes_out + self.patience.bytes() < BYTES_MAX || self.flying.is_empty())
    }

    /// Sends lines as long as they may go.
    fn feed(&mut self) {
        while self.end.is_none() && self.has_room() {
            let now_ns = self.engine.clock().mono_ns();
            if !self.pace.is_open(now_ns) {
                return;
            }
            let others = self.flying.len().saturating_sub(self.again);
            let may_send = self.patience.may_send(self.again, others);
            if let Some(job) = may_send.then(|| self.patience.due(now_ns)).flatten() {
                self.pace.take(now_ns);
                self.send(job);
                continue;
            }
            if !self.patience.has_room() {
                return;
            }
            let Some(item) = self.ahead.pop_front() else {
                if self.read_all {
                    return;
                }
                match self.from.try_recv() {
                    Ok(read) => self.read(Some(read)),
                    Err(_) => return,
                }
                continue;
            };
            let Item { seq, number, mark, what } = item;
            self.open.insert(seq);
            match what {
                Ok(call) => {
                    self.pace.take(now_ns);
                    self.send(Job { seq, number, mark, call, trials: Trials::default() });
                }
                Err(bad) => {
                    let over = self.engine.keep_out((seq, number, mark), &bad);
                    self.over(over);
                }
            }
        }
    }

    fn send(&mut self, job: Job) {
        let Call { body, .. } = &job.call;
        self.bytes_out += body.len();
        let sent_ns = self.engine.clock().mono_ns();
        let again = job.trials.tries > 0;
        self.again += usize::from(again);
        self.flying_lines.insert(job.seq, Out { bytes: body.len(), number: job.number, sent_ns, again });
        self.flying.push(Box::pin(self.engine.clone().carry_out(job)));
    }

    fn read(&mut self, read: Option<Read>) {
        match read {
            Some(Read::Items(items)) => self.ahead.extend(items),
            Some(Read::End(lines)) => {
                self.lines = Some(lines);
                self.read_all = true;
            }
            Some(Read::Empty(told)) => {
                self.read_all = true;
                self.stop(End::Empty(told));
            }
            Some(Read::Failed(told)) => {
                self.read_all = true;
                self.stop(End::Input(told));
            }
            None => {
                self.read_all = true;
                self.stop(End::Input("the reader ended early".to_owned()));
            }
        }
    }

    fn ended(&mut self, done: Done) {
        let (now_ns, out) = (self.engine.clock().mono_ns(), self.flying.len() + 1);
        match done {
            Done::Over(over) => {
                self.window.ended(now_ns, out, self.waiting);
                let landed = self.landed(over.entry.seq);
                if let Some(Out { sent_ns, again, .. }) = landed.filter(|_| over.record.attempts > 0) {
                    let kind = patience::kind(&over.record.endpoint, &over.record.model);
                    self.patience.heard(now_ns, kind, sent_ns, over.entry.kind == Kind::Answered);
                    if again {
                        self.patience.went_well();
                    }
                    self.standstill.is_over();
                }
                self.over(*over);
            }
            Done::Failed { job, over, hung } => self.failed(now_ns, *job, *over, hung),
            Done::NotNow { seq, number, why } => {
                self.landed(seq);
                self.open.remove(&seq);
                match (&mut self.end, why) {
                    (_, NotNow::Stopping) => {}
                    (Some(End::Stopped { number: first, .. }), _) => *first = number.min(*first),
                    (_, why) => self.stop(End::Stopped { number, why }),
                }
            }
        }
    }

    fn landed(&mut self, seq: u64) -> Option<Out> {
        let out = self.flying_lines.remove(&seq);
        self.bytes_out -= out.map_or(0, |out| out.bytes);
        self.again -= usize::from(out.is_some_and(|out| out.again));
        out
    }

    /// A line failed for a reason of the moment: it is sent again, unless it has been too often.
    fn failed(&mut self, now_ns: u64, job: Job, over: Over, hung: bool) {
        let seq = job.seq;
        self.landed(seq);
        if self.end.is_some() {
            self.open.remove(&seq);
            return;
        }
        let left = self.open.len();
        let answered = self.tally.total.answered + self.batch.past.counts[Kind::Answered as usize];
        let is_last = self.read_all && self.ahead.is_empty() && left <= LAST_LINES && left as u64 <= answered;
        let kind = patience::kind(&over.record.endpoint, &over.record.model);
        if !self.patience.keep(now_ns, job, (kind, hung), is_last) {
            self.over(over);
        }
    }

    fn over(&mut self, over: Over) {
        self.tally.add(&over);
        self.unsafe_lines += 1;
        let seq = over.entry.seq;
        // There is room for all lines that can be out.
        if self.to.try_send(Write::Entry(over.entry)).is_err() {
            self.stop(End::Output("the writer ended early".to_owned()));
        }
        self.open.remove(&seq);
    }

    fn heard(&mut self, said: Written) {
        match said {
            Written::Lines(lines) => self.unsafe_lines = self.unsafe_lines.saturating_sub(lines),
            Written::Closed => {}
            Written::Failed(told) => self.stop(End::Output(told)),
        }
    }

    /// Looks how things stand, and shows it.
    fn look(&mut self, outside: &mut Outside<'_>, looks: u64) {
        let view = self.engine.view();
        self.waiting = view.waiting.iter().sum();
        if looks.is_multiple_of(LOOKS_A_SYNC) {
            let _ = self.to.try_send(Write::Sync);
            self.engine.sweep();
        }
        let now_ns = self.engine.clock().mono_ns();
        let troubled = watch::shut(&view).is_some() || self.again > 0;
        self.patience.look(now_ns, troubled, watch::is_limited(&view));
        let trouble = self.engine.trouble();
        let why = self.standstill.look(now_ns, &view).map(NotNow::NoRoom);
        let why = why.or_else(|| self.patience.is_over(now_ns, &trouble).map(NotNow::Silence));
        if let Some(why) = why {
            // What was stopped for another reason does not wait for it either.
            let out = self.flying_lines.values().map(|out| out.number);
            let number = out.chain(self.patience.first()).min().unwrap_or(0);
            self.stop(End::Stopped { number, why });
            self.engine.drain();
        }
        (outside.show)(&Standing {
            tally: &self.tally,
            before: self.batch.past.done(),
            lines: self.lines,
            out: self.flying.len() + self.patience.kept(),
            waiting: self.waiting + self.patience.kept(),
            why: (self.waiting > 0).then(|| watch::what_is_waited_for(&view)).flatten(),
            silence: self.patience.told(now_ns, &trouble),
            elapsed_ns: now_ns.saturating_sub(self.began_ns),
            stopping: self.end.is_some(),
        });
    }

    /// Closes the files. Whoever reads the output may have stopped reading, so a second word counts here too.
    async fn close(&mut self, outside: &mut Outside<'_>) -> End {
        self.flying.clear();
        let mut end = self.end.clone().unwrap_or(End::Complete);
        let counts = self.batch.past.counts;
        let failed = counts[Kind::Failed as usize]
            + counts[Kind::Bad as usize]
            + self.tally.total.failed
            + self.tally.bad;
        if !matches!(end, End::Output(_)) {
            let _ = self.to.send(Write::Close(end == End::Complete && failed == 0)).await;
        }
        loop {
            let said = tokio::select! {
                biased;
                said = self.said.recv() => said,
                Some(()) = outside.stop.recv() => {
                    self.words += 1;
                    continue;
                }
                () = tokio::time::sleep(LAST), if self.words >= 2 => return End::Interrupted,
            };
            match said {
                None | Some(Written::Closed) => break,
                Some(Written::Failed(told)) => {
                    end = End::Output(told);
                    break;
                }
                Some(Written::Lines(_)) => {}
            }
        }
        end
    }
}
