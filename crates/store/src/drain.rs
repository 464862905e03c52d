//! From the log to the database: one thread, one connection, batches in order. Batches wait for each other a little, since
//! a page of the database costs the same whether one row or twenty came into it. While the database is away it asks again
//! ever less often; between batches it deletes what is too old, a little at a time.

use crate::ledger::{Cutoffs, Ledger};
use crate::sql::{Fault, Kind, Sql};
use crate::store::{Point, Retention, Shared};
use std::time::Duration;

/// Rows of one transaction.
const ROWS: usize = 4000;
/// A batch begins no sooner after the one before, unless so many rows wait.
const PACE: Duration = Duration::from_millis(200);
/// Rows of each kind that one step of retention deletes.
const STEP: u32 = 1000;
/// Between two looks for rows that are too old.
const PRUNE_EVERY: Duration = Duration::from_mins(10);
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// The thread, with the connection that opened already if one did.
pub(crate) fn run(shared: &Shared, mut db: Option<Box<dyn Sql>>) {
    behind_requests();
    let mut ledger = Ledger::default();
    let mut backoff = BACKOFF_MIN;
    let mut prune_at_unix_ms = 0;
    loop {
        let stop = shared.stopping();
        let done = match &mut db {
            None => shared.connect().map(|opened| {
                ledger = Ledger::default();
                db = Some(opened);
                Step::More
            }),
            Some(open) => step(shared, &mut **open, &mut ledger, &mut prune_at_unix_ms),
        };
        match done {
            Ok(Step::More) => backoff = BACKOFF_MIN,
            Ok(Step::Applied) => {
                backoff = BACKOFF_MIN;
                shared.progress.sleep(PACE, || shared.log.rows() >= ROWS as u64 || shared.stopping());
            }
            Ok(Step::Idle) if stop => return,
            Ok(Step::Idle) => {
                shared.progress.sleep(PRUNE_EVERY, || shared.log.rows() > 0 || shared.stopping());
            }
            Err(fault) => {
                if fault.kind != Kind::Busy {
                    // A connection that failed in any other way is not trusted again, and a file may be another now.
                    db = None;
                }
                shared.away(fault);
                if stop {
                    return;
                }
                shared.progress.sleep(backoff, || shared.stopping());
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
    }
}

/// Lets requests go first where this thread and they want the same core. Not so far that it would starve: on a machine
/// that is busy throughout, a fifth of a core carries more rows than the rest makes.
pub(crate) fn behind_requests() {
    // The calling thread; elsewhere this would be the process. Where it is not allowed, all are alike.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, 5);
}

/// What a step has done.
enum Step {
    /// There is more to do at once.
    More,
    /// All rows that were there are in the database.
    Applied,
    /// There was nothing to do.
    Idle,
}

fn step(
    shared: &Shared,
    db: &mut dyn Sql,
    ledger: &mut Ledger,
    prune_at_unix_ms: &mut u64,
) -> Result<Step, Fault> {
    let batch = shared.log.read(ROWS).map_err(|e| Fault::new(Kind::Other, e.to_string()))?;
    let mut done = Step::Idle;
    if !batch.rows.is_empty() || batch.damaged_bytes > 0 {
        let new = ledger.apply(db, &batch.rows)?;
        (shared.probe)(Point::Applied);
        shared.applied(&batch, new);
        done = if batch.rows.len() < ROWS { Step::Applied } else { Step::More };
    }
    let now = (shared.clock)();
    shared.back();
    // An end does not wait for what may as well go after the next start.
    if now >= *prune_at_unix_ms && !shared.stopping() {
        if ledger.prune(db, cutoffs(now, &shared.retention), STEP)? > 0 {
            return Ok(Step::More);
        }
        *prune_at_unix_ms = now + u64::try_from(PRUNE_EVERY.as_millis()).unwrap_or(0);
    }
    Ok(done)
}

fn cutoffs(now_unix_ms: u64, retention: &Retention) -> Cutoffs {
    let before = |days: u32| now_unix_ms.saturating_sub(u64::from(days) * 24 * 3_600_000);
    Cutoffs {
        rows: before(retention.rows_days),
        hours: before(retention.hours_days),
        days: before(retention.days_days),
    }
}
