//! A simulated LLM provider: the other side of the gateway.
//!
//! It exists so that the gateway can be proved against something that did not come out of the gateway: it is
//! written from the vendors' documents and shares no code with the crates that read its answers. It decides
//! (keys, limits, credit, faults), writes dialect-true answers, and keeps the billing record that a real
//! provider would keep, which is what tests believe when the gateway says something else.
//!
//! It refuses to know sockets, threads and clocks: [`Now`] is an argument, randomness is seeded, and a
//! [`Plan`] says when which bytes are due instead of sending them. `testkit` puts a world on real sockets; the
//! simulator drives the same world under a virtual clock and asks for no bodies, which keeps a call under a
//! microsecond or two.
//!
//! Two doors: [`World::call`] for callers that know what they ask for (the simulator), and [`World::http`] for
//! a request as it came over the wire. Whatever was opened must be ended with [`World::done`].

mod account;
mod admit;
mod answer;
mod call;
mod compose;
mod dialect;
mod fault;
mod gzip;
mod headers;
mod json;
mod latency;
mod limit;
mod listing;
mod plan;
mod price;
mod record;
mod refusal;
mod request;
mod rng;
mod spec;
mod spending;
mod steer;
mod time;
mod world;

pub use call::{BodyWish, Call, Course, End, How, Reply, ToolAsk};
pub use dialect::{Dialect, Endpoint, HeaderFamily};
pub use fault::{FaultKind, FaultSpec, ForbiddenWhy, LimitSource, RateLimitTime};
pub use plan::{Framing, Plan, Step};
pub use record::{KeyTotals, Name, Record, Summary};
pub use request::HttpRequest;
pub use spec::{
    AccountSpec, Anchor, ChargingSpec, Dimension, KeySpec, LatencySpec, LimitShape, LimitSpec, ModelSpec,
    OutputLength, ProviderSpec, TotalTokens, WorldSpec,
};
pub use spending::SpendReset;
pub use steer::Steer;
pub use time::Now;
pub use world::{FaultScope, Level, World, WorldError};
