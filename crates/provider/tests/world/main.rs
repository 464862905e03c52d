//! The simulated provider from outside: what a caller sees of it, and what its books say.

mod books;
mod kit;
mod limits;
mod refusals;
mod streams;
