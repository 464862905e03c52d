//! Who calls: the client keys of the configuration and of the store, by the digests of their secrets, with what each
//! may. The data path looks here and never waits for a database; what is changed there is fetched beside it.

pub mod bill;
pub mod dear;
pub mod denied;
mod directory;
pub mod feed;
pub mod headers;
pub mod reach;
mod terms;
mod turnstile;
pub mod worth;

#[cfg(test)]
mod tests;

pub use directory::{Directory, Found};
pub use terms::{Client, Dues, Status};
pub use turnstile::{Entry, Passed, Turnstile, Waiting};
