//! The simulated provider on real sockets, and an open-loop load generator.
//!
//! `provider` decides and writes; this crate moves its bytes at the instants it names, notices at once when a
//! caller goes away, and puts a control plane beside it (`/_sim/…`) for tests in other languages. It is what
//! `keymux demo` shows, what the gateway's tests run against and what benches measure with.
//!
//! It refuses to know what the bytes mean, and knows nothing of the gateway. Answers that are HTTP go through
//! hyper; answers that are not (half a head, garbage, a wrong length, a reset) go to the socket as they are.

mod capture;
mod clock;
mod connection;
mod control;
mod exchange;
mod handle;
mod load;
mod paced;
mod presets;
mod raw;
mod rt;
mod shared;
mod socket;

pub use capture::Captured;
pub use handle::{Handle, NotInTime, Options, Server};
pub use keymux_provider as provider;
pub use load::{
    Answered, Latencies, Load, Replies, Reply, Sample, Script, ScriptRequest, ScriptTarget, Shape, Shot,
    StreamLoad, StreamSummary, Summary,
};
pub use presets::{PRESETS, preset, spec_from_text};
pub use rt::raise_descriptor_limit;
pub use socket::Identity;
