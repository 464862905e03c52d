//! Who calls: the client keys of the configuration and of the store, by the digests of their secrets, with what each
//! may. The data path looks here and never waits for a database; what is changed there is fetched beside it.

mod directory;
pub mod reach;
mod terms;

#[cfg(test)]
mod tests;

pub use directory::{Directory, Found};
pub use terms::{Client, Dues, Status};
