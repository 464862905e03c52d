//! What every tracked file owes its reader: a head that says why a module exists, workspace lints in each crate, and no
//! trace of the machine it was written on.

use crate::facts::File;

/// Missing module heads and lints, machine paths, registry hosts, and what looks like a real secret.
pub fn check(files: &[File]) -> Vec<String> {
    files.iter().flat_map(|f| [head(f), lints(f), traces(f), secrets(f)].concat()).collect()
}

/// Each Rust file of a `src` folder begins with `//!`, but for files of tests.
fn head(file: &File) -> Vec<String> {
    let module = file.is_rust() && file.path.contains("src/") && !file.path.ends_with("/tests.rs");
    let first = file.text.lines().map(str::trim).find(|l| !l.is_empty() && !l.starts_with("#!["));
    if module && !first.is_some_and(|l| l.starts_with("//! ")) {
        return vec![format!("manners: {} does not say why it exists (begin with //!)", file.path)];
    }
    Vec::new()
}

/// Each crate of ours takes the workspace's lints; without the line it silently has none.
fn lints(file: &File) -> Vec<String> {
    let manifest = file.path.ends_with("/Cargo.toml") && file.text.contains("\n[package]")
        || file.path.ends_with("/Cargo.toml") && file.text.starts_with("[package]");
    // The fuzz targets are a workspace of their own, for cargo-fuzz.
    if manifest && !file.path.starts_with("fuzz/") && !file.text.contains("[lints]\nworkspace = true") {
        return vec![format!("manners: {} does not take the workspace's lints", file.path)];
    }
    Vec::new()
}

/// Words that only make sense on one machine. Written in halves, so that this file does not say them.
fn machine_words() -> Vec<String> {
    [
        ("/wo", "rk/"),
        ("/ro", "ot/"),
        ("/tm", "p/"),
        ("/opt/wh", "eels"),
        ("pypi.", "org"),
        ("pythonhosted.", "org"),
        ("registry.npmjs.", "org"),
        ("registry.yarnpkg.", "com"),
        ("index.crates.", "io"),
        ("static.crates.", "io"),
        ("deb.debian.", "org"),
        ("proxy.golang.", "org"),
    ]
    .iter()
    .map(|(a, b)| [*a, *b].concat())
    .collect()
}

fn traces(file: &File) -> Vec<String> {
    let mut found = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        for word in machine_words() {
            // `$dir/tmp/x` is another path; one of the machine begins after something that is not part of a name.
            let begins =
                |i: usize| !line[..i].ends_with(|c: char| c.is_alphanumeric() || "_-.}~".contains(c));
            if line.match_indices(&word).any(|(i, _)| !word.starts_with('/') || begins(i)) {
                found.push(format!("manners: {}:{}: says {word}", file.path, at + 1));
            }
        }
    }
    found
}

/// Provider keys are `sk-` and a long random rest; ours for tests say so. Private keys are made when they are needed.
fn secrets(file: &File) -> Vec<String> {
    let mut found = Vec::new();
    let private = ["PRIVATE", " KEY-----"].concat();
    for (at, line) in file.text.lines().enumerate() {
        let key = line.match_indices("sk-").any(|(i, _)| {
            let joined = line[..i].ends_with(|c: char| c.is_alphanumeric() || c == '-');
            let rest: String =
                line[i..].chars().take_while(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect();
            !joined && rest.len() >= 36 && !rest.contains("test") && rest.chars().any(|c| c.is_ascii_digit())
        });
        if key || line.contains(&private) {
            found.push(format!("manners: {}:{}: looks like a real secret", file.path, at + 1));
        }
    }
    found
}
