//! The configuration as its users meet it: text or environment in, truth or problems out.

mod env;
mod examples;
mod lookup;
mod problems;
mod random;
mod reload;
mod truth;
mod world;
