//! What the user typed, read into types that keep the place of every value. Knows the grammar of each setting (a
//! duration has a unit, a secret says where it comes from) but not how settings belong together: that is
//! `resolve`'s affair.

pub(crate) mod file;
pub(crate) mod leaf;
pub(crate) mod ledger;
pub(crate) mod money;
pub(crate) mod names;
pub(crate) mod node;
pub(crate) mod read;
pub(crate) mod traces;
pub(crate) mod webhook;
