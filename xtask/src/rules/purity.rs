//! The rooms that decide and parse stay pure: no clock, environment, thread, socket, file or global in them, and no code
//! that behaves otherwise under test. Clippy bans the calls it can resolve; this bans the modules they live in.

use crate::facts::File;

/// Folders of the pure rooms.
const PURE: &[&str] = &["crates/policy/src/", "crates/wire/src/", "crates/provider/src/"];

/// What a pure room must not say, and why.
const FORBIDDEN: &[(&str, &str)] = &[
    ("Instant::now", "time is an argument"),
    ("SystemTime", "time is an argument"),
    ("std::time::Instant", "time is an argument"),
    ("Zoned::now", "time is an argument"),
    ("Timestamp::now", "time is an argument"),
    ("std::env", "settings are arguments"),
    ("std::thread", "threads belong to the shell"),
    ("thread_local!", "state is in the value, not in the thread"),
    ("std::net::Tcp", "sockets belong to the shell"),
    ("std::net::Udp", "sockets belong to the shell"),
    ("std::fs", "files belong to the shell"),
    ("std::process", "processes belong to the shell"),
    ("static mut", "state is in the value"),
    ("OnceLock", "state is in the value"),
    ("RandomState", "the seed is an argument; and maps of it iterate in another order each run"),
    ("tokio", "sans-IO"),
    ("tracing::", "what happened is returned as a value"),
    ("println!", "what happened is returned as a value"),
    ("cfg!(test)", "logic must not know that it is tested"),
    ("cfg(not(test))", "logic must not know that it is tested"),
    ("cfg_attr(test", "logic must not know that it is tested"),
];

/// Impure words in pure rooms, and `#[cfg(test)]` on anything but a module of tests.
pub fn check(files: &[File]) -> Vec<String> {
    let pure = |f: &&File| f.is_rust() && PURE.iter().any(|p| f.path.starts_with(p));
    let tests: Vec<String> = files.iter().filter(pure).flat_map(test_modules).collect();
    files.iter().filter(pure).filter(|f| !is_test(&f.path, &tests)).flat_map(judge).collect()
}

/// Files that are compiled for tests alone: what `#[cfg(test)] mod NAME;` names, as paths without their ends.
fn test_modules(file: &File) -> Vec<String> {
    let folder = match file.path.rsplit_once('/') {
        Some((folder, "lib.rs" | "mod.rs")) => folder,
        _ => file.path.trim_end_matches(".rs"),
    };
    let lines: Vec<&str> = file.text.lines().map(str::trim).collect();
    let named = lines.windows(2).filter(|w| w[0] == "#[cfg(test)]");
    named
        .filter_map(|w| w[1].strip_prefix("mod ")?.strip_suffix(';'))
        .map(|name| format!("{folder}/{name}"))
        .collect()
}

/// A module of tests, or one below it.
fn is_test(path: &str, tests: &[String]) -> bool {
    let below = |rest: &str| rest == ".rs" || rest.starts_with('/');
    tests.iter().any(|t| path.strip_prefix(t.as_str()).is_some_and(below))
}

fn judge(file: &File) -> Vec<String> {
    let mut found = Vec::new();
    let code = super::length::code_lines(file);
    let lines: Vec<&str> = file.text.lines().map(without_comment).collect();
    for (at, line) in lines.iter().enumerate().take(code) {
        for (word, reason) in FORBIDDEN.iter().filter(|(word, _)| line.contains(word)) {
            found.push(format!("purity: {}:{}: {word}: {reason}", file.path, at + 1));
        }
        let gated = line.contains("#[cfg(test)]") || line.contains("#[cfg(any(test");
        if gated && !lines.get(at + 1).is_some_and(|next| next.trim_start().starts_with("mod ")) {
            found.push(format!(
                "purity: {}:{}: cfg(test) on something that is no module of tests",
                file.path,
                at + 1
            ));
        }
    }
    found
}

/// The line before `//`. A `//` inside a string hides the rest of that line, which only makes the rule milder.
fn without_comment(line: &str) -> &str {
    line.split("//").next().unwrap_or(line)
}
