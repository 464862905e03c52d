//! The architecture rules as a command: `cargo run -p xtask` prints each violation and fails if there is one.
//! `cargo test -p xtask` runs the same rules, and shows each of them a sample it must refuse.

use std::path::Path;
use std::process::ExitCode;

#[expect(clippy::print_stdout, reason = "the report of a command-line tool")]
fn main() -> anyhow::Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let violations = xtask::check(&root)?;
    for violation in &violations {
        println!("{violation}");
    }
    Ok(if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
