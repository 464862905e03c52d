//! The rules, one file for each kind of thing they protect.

pub mod length;
pub mod manners;
pub mod purity;
pub mod rooms;
pub mod sabotages;
pub mod supply;
