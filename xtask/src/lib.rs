//! The architecture as tests: which room may know which, what may be linked, how long a file may be, what no tracked
//! file may say. Compilers and lints check the rest; what stands here is what they cannot see.
//!
//! A rule is a pure function from facts to violations, so that a test can feed it a bad sample. Gathering the facts
//! (`cargo metadata`, `git ls-files`) is [`facts`]; it judges nothing.

pub mod facts;
pub mod rules;

use std::path::Path;

/// Runs every rule over the workspace at `root` and returns what it found, one line each, ready to print.
///
/// # Errors
/// When `cargo metadata` or `git ls-files` cannot be run or read: a rule that sees nothing must not pass.
pub fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let graph = facts::graph(root)?;
    let files = facts::files(root)?;
    let mut found = rules::rooms::check(&graph);
    found.extend(rules::supply::check(&graph));
    found.extend(rules::length::check(&files));
    found.extend(rules::purity::check(&files));
    found.extend(rules::manners::check(&files));
    found.extend(rules::sabotages::check(&files));
    Ok(found)
}
