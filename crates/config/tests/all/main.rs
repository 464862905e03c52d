//! The configuration as its users meet it: text or environment in, truth or problems out.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod clients;
mod env;
mod examples;
mod litellm;
mod lookup;
mod problems;
mod random;
mod reload;
mod traces;
mod truth;
mod webhooks;
mod world;
