//! What is particular to one dialect's refusals, each in its own file: tables of its codes, and the few things that no
//! table can say. Rules that hold everywhere stand in [`crate::error`].

pub(crate) mod anthropic;
pub(crate) mod openai;
pub(crate) mod openrouter;
