//! What the outside may see: metrics and the request log. Labels are names of the configuration and fixed words, never
//! anything that a client sent. `table` says which metrics there are, `count` is what requests add to, `scrape` and
//! `keys` say what each metric reads.

mod count;
mod keys;
mod lines;
mod log;
mod process;
mod scrape;
pub mod table;

#[cfg(test)]
mod tests;

pub use count::{CLASSES, Histogram, KeyCounters, Metrics, ModelCounters, OTHER, TargetTimes, class_label};
pub use lines::{flush, request_line};
pub use log::{events, init, set_level};
pub use scrape::scrape;
