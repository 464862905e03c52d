//! What is durable: the ledger, the log on disk that feeds it, and the client keys, on SQLite or on PostgreSQL. The only
//! crate that knows SQL. It refuses to know HTTP, the scheduler, and the clock: instants come in as arguments.
//!
//! ```text
//! reserve ───────one write()──────▶ ┌─────┐
//! record ─▶ intake ──every 50 ms──▶ │ log │ ──▶ drain ──▶ database ◀── desk ◀── admin, exports
//!           (bounded)   one fsync   └─────┘     batches               (a second connection)
//! ```
//!
//! Every row goes through the log, also while all is well: a database that is locked, full, corrupt or gone only makes
//! the log longer, and the way back from a failure is the way that is used every day.

mod clients;
mod codec;
mod desk;
mod digest;
mod drain;
mod intake;
mod ledger;
mod log;
mod mark;
mod past;
mod progress;
mod record;
mod sql;
mod store;
mod usage;

pub use clients::{Budget, Changes, Client, Reset, Team, Terms};
pub use digest::Digest;
pub use ledger::Spend;
pub use log::{Fill, Log, LogError, Recovery};
pub use past::{Span, past};
pub use record::{CostSource, Record, Reservation, UNKNOWN, Used};
pub use sql::{Fault, Kind};
pub use store::{Health, OpenError, Options, Point, Retention, Store, Target};
pub use usage::{By, Usage, UsageQuery};
