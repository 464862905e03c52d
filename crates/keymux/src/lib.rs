//! keymux: a load balancer for LLM APIs. This crate is HTTP and the wall clock; what is decided is decided in
//! `keymux-policy`, what bytes mean is known in `keymux-wire`. Begin reading in `request`, the story of a request.

pub mod cli;
pub mod clock;
pub mod errors;
pub mod explain;
pub mod observe;
pub mod scheduler;
pub mod serve;

pub mod admin;
pub mod alarm;
pub mod answer;
pub mod attempt;
pub mod batch;
pub mod body;
pub mod bound;
pub mod clients;
pub mod dress;
pub mod evidence;
pub mod guard;
pub mod happening;
pub mod headers;
pub mod http1;
pub mod keepalive;
pub mod keys;
pub mod ledger;
pub mod live;
pub mod models;
pub mod options;
pub mod plan;
pub mod pulse;
pub mod random;
pub mod redact;
pub mod refuse;
pub mod relay;
pub mod reload;
pub mod reply;
pub mod request;
pub mod rt;
pub mod story;
pub mod stream;
pub mod surface;
pub mod timeline;
pub mod traces;
pub mod upstream;
pub mod wishes;
