//! Questions and changes that come from people and tools: on a connection of their own, so that an export over a year
//! does not keep a single row waiting. A thread, because both databases block.

use crate::sql::{Fault, Kind, Sql};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use tokio::sync::oneshot;

/// Questions that may wait.
const QUEUE: usize = 64;

type Job = Box<dyn FnOnce(&mut Line<'_>) + Send>;

/// Opens a connection.
pub(crate) type Open = dyn Fn(bool) -> Result<Box<dyn Sql>, Fault> + Send + Sync;

/// The connection of the desk: opened when it is needed, and anew after it broke.
struct Line<'a> {
    open: &'a Open,
    db: Option<Box<dyn Sql>>,
}

impl Line<'_> {
    fn ask<T>(&mut self, work: impl Fn(&mut dyn Sql) -> Result<T, Fault>, again: bool) -> Result<T, Fault> {
        let fresh = self.db.is_none();
        let db = match &mut self.db {
            Some(db) => db,
            none => none.insert((self.open)(false)?),
        };
        let done = work(&mut **db);
        let Err(fault) = &done else { return done };
        if matches!(fault.kind, Kind::Away | Kind::Corrupt | Kind::Other) {
            self.db = None;
            // A connection that slept may have died in its sleep. What only reads can be asked twice.
            if again && !fresh {
                return self.ask(work, false);
            }
        }
        done
    }
}

/// The desk's counter: takes questions from any thread.
#[derive(Clone)]
pub(crate) struct Desk(SyncSender<Job>);

impl Desk {
    /// A counter, and where its thread gets the questions.
    pub(crate) fn new() -> (Self, Questions) {
        let (to, from) = sync_channel(QUEUE);
        (Self(to), Questions(from))
    }

    /// Asks, and waits for the answer. `again`: asking twice does no harm.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        again: bool,
        work: impl Fn(&mut dyn Sql) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let (to, from) = oneshot::channel();
        let job: Job = Box::new(move |line| {
            // Whoever asked may have gone away.
            let _ = to.send(line.ask(work, again));
        });
        match self.0.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                return Err(Fault::new(Kind::Busy, "too many questions to the database wait already"));
            }
            Err(TrySendError::Disconnected(_)) => return Err(closed()),
        }
        from.await.unwrap_or_else(|_| Err(closed()))
    }
}

fn closed() -> Fault {
    Fault::new(Kind::Away, "the store is closed")
}

/// Questions on their way to the thread.
pub(crate) struct Questions(Receiver<Job>);

/// The thread. It ends when nobody can ask any more.
pub(crate) fn run(open: &Open, questions: Questions) {
    crate::drain::behind_requests();
    let mut line = Line { open, db: None };
    for job in questions.0 {
        job(&mut line);
    }
}
