//! The simulated provider over real sockets, looked at by a client that reads bytes and trusts nothing.

#[cfg(test)]
mod control;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod load;
#[cfg(test)]
mod script;
#[cfg(test)]
mod serving;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod wire;
