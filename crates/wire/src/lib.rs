//! Bytes in, neutral facts out: everything keymux reads from clients and providers, and the little it writes to them.
//!
//! Why a crate: these parsers face whatever the network sends, so they are pure (no clock, no I/O, no configuration),
//! never panic, work in linear time and bounded memory, and are fuzzed. They refuse to know what follows from a fact:
//! [`error::Sign`] says "no money", not "bench the account".
//!
//! On a request's way: [`head`] reads its body once, [`affinity`] and [`estimate`] look at what the head points to,
//! [`stored`] sees what lives at a provider, [`splice`] edits it. On an answer's way: [`limits`], [`owner`] and [`error`] read heads and refusals, [`sse`] finds events,
//! [`stream`] says what they mean, [`answer`] reads whole answers, [`usage`] what they cost. [`body`] writes our own
//! errors. [`key`] reads what a provider says of a key. Particulars of one dialect stand together in `dialect/`.

pub mod affinity;
pub mod answer;
pub mod beside;
pub mod body;
pub mod charges;
mod decimal;
mod dialect;
pub mod error;
pub mod estimate;
pub mod head;
pub mod key;
pub mod limits;
pub mod owner;
mod scan;
pub mod splice;
pub mod sse;
pub mod stored;
pub mod stream;
mod text;
pub mod usage;
mod when;
