//! The simulated provider from outside: what a caller sees of it, and what its books say.

#[cfg(test)]
mod books;
#[cfg(test)]
mod kit;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod streams;
