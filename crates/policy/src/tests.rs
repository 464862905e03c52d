//! The scheduler as a whole, in virtual time. `harness` builds fleets and plays a provider; the rest is by subject.

mod checks;
mod choosing;
mod contact;
mod failures;
mod hangs;
mod harness;
mod hidden;
mod hostile;
mod market;
mod merging;
mod overload;
mod owners;
mod poison;
mod promises;
mod quotas;
mod random;
mod renewed;
mod restart;
mod retries;
mod returning;
mod troubles;
mod waiting;
