//! What would have been: requests of the past, or of a file, against a fleet in virtual time. The ledger's rows become the
//! traffic of a scenario, and the configuration its providers; what runs is `keymux_sim`, and so the very scheduler that
//! serves. Nothing here sends, writes or decides anything.
//!
//! ```text
//! ledger, export, batch file ──read──▶ rows ──────────traffic──┐
//! keymux.toml, saved levels, or a scenario ──fleet──▶ providers ┴─▶ keymux_sim ──▶ figures, beside those of the past
//! ```
//!
//! What a row does not tell is not made up in silence: the command says what was left out and what was assumed.

pub mod fleet;
pub mod past;
pub mod read;
pub mod row;
pub mod traffic;

/// More rows than this are not looked at: they would not fit into memory.
pub const ROWS_MAX: usize = 2_000_000;

/// No request has more tokens than this: whoever writes so has a mistake in the file, and sums of so many rows stay exact.
pub const TOKENS_MAX: u64 = 1_000_000_000;
