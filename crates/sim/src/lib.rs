//! The same policy under a virtual clock: traffic, simulated providers behind a network that delays and reorders,
//! strangers, faults; invariants looked at after every event, an oracle to compare with, and scenarios with what must
//! come out of them. Hours pass in seconds, and the same seed gives the same run.
//!
//! It drives the scheduler through the verbs that the server uses, in the server's order, and refuses to know the
//! server, its wire formats and its configuration. The providers' limiters and the oracle share no code with the
//! scheduler, or the proof would prove itself.

pub mod chaos;
mod figures;
mod fleet;
mod oracle;
mod reader;
pub mod report;
mod rng;
mod run;
mod shelf;
pub mod spec;
mod time;
mod traffic;
mod utilisation;
mod variant;
mod watch;

pub use figures::{ClientLine, Figures, Judged, KeyLine, MEANINGS, Range, Served, judge, replay, simulate};
pub use shelf::SHELF;
pub use spec::{Scenario, SpecError};
pub use utilisation::Utilisation;
pub use variant::variant;
