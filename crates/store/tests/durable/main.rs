//! What must be durable, on real databases: the same tests on SQLite and on PostgreSQL. Those on PostgreSQL start a
//! server of their own and need its programs, and those that kill processes take long, so plain `cargo test` leaves them
//! out and `make test` does not.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

/// Each of these tests of the parent module on both databases.
macro_rules! on_both {
    ($($name:ident)*) => {
        mod sqlite {
            $(#[test] fn $name() { super::$name(&crate::place::Place::sqlite()) })*
        }
        mod postgres {
            $(#[test] #[ignore = "needs PostgreSQL: scripts/stores"]
            fn $name() { super::$name(&crate::place::Place::postgres()) })*
        }
    };
}

mod crash;
mod faults;
mod ledger;
mod place;
