//! What may be linked: licences, sources, bans. Advisories need a download and are somebody else's job; these three are
//! facts of the resolved graph, so they hold on a machine without a network.

use crate::facts::{Graph, Package};

/// Licences that ask for nothing but notices. The C code of aws-lc declares Apache-2.0 or ISC, MIT and BSD-3-Clause;
/// CDLA-Permissive-2.0 is the list of root certificates.
const LICENCES: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Where packages come from; our own have no source.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Crates that must not be linked, and why.
const BANS: &[(&str, &str)] = &[
    ("openssl", "TLS is rustls, so that one binary runs everywhere"),
    ("openssl-sys", "TLS is rustls, so that one binary runs everywhere"),
    ("native-tls", "TLS is rustls, so that one binary runs everywhere"),
    ("hyper-tls", "TLS is rustls, so that one binary runs everywhere"),
    ("ring", "one crypto provider is compiled in, and it is aws-lc"),
    ("reqwest", "hides connection reuse and first-byte times, which the policy needs"),
    ("hyper-rustls", "upstream connections are kept by hand, per worker"),
    ("ureq", "one HTTP client is enough"),
    ("curl", "one HTTP client is enough"),
    ("async-std", "one runtime is enough"),
    ("sqlx", "its SQLite cannot be linked beside rusqlite's"),
    ("sonic-rs", "its lookups read the first of two equal keys while an upstream reads the last"),
    ("figment", "layers hide where a setting came from"),
    ("chrono", "dates are jiff's"),
    ("log4rs", "logging is tracing"),
];

/// Packages with a licence, a source or a name that is not wanted.
pub fn check(graph: &Graph) -> Vec<String> {
    graph.built().flat_map(judge).collect()
}

fn judge(package: &Package) -> Vec<String> {
    let who = format!("{} {}", package.name, package.version);
    let mut found = Vec::new();
    match package.licence.as_deref() {
        None => found.push(format!("supply: {who} declares no licence")),
        Some(l) if !permitted(l) => found.push(format!("supply: {who} has the licence {l}")),
        Some(_) => {}
    }
    match package.source.as_deref() {
        Some(REGISTRY) => {}
        None if package.member => {}
        other => found
            .push(format!("supply: {who} comes from {}", other.unwrap_or("a path outside the workspace"))),
    }
    for (name, reason) in BANS.iter().filter(|(name, _)| *name == package.name) {
        found.push(format!("supply: {name} is banned: {reason}"));
    }
    found
}

/// Whether an SPDX expression can be satisfied with [`LICENCES`] alone. The old `/` means `OR`. What cannot be read is
/// not permitted.
pub fn permitted(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words: Vec<&str> = spaced.split_whitespace().rev().collect();
    either(&mut words).unwrap_or(false) && words.is_empty()
}

fn either(words: &mut Vec<&str>) -> Option<bool> {
    let mut ok = both(words)?;
    while take(words, "OR") {
        ok |= both(words)?;
    }
    Some(ok)
}

fn both(words: &mut Vec<&str>) -> Option<bool> {
    let mut ok = one(words)?;
    while take(words, "AND") {
        ok &= one(words)?;
    }
    Some(ok)
}

fn one(words: &mut Vec<&str>) -> Option<bool> {
    if take(words, "(") {
        let ok = either(words)?;
        return take(words, ")").then_some(ok);
    }
    let mut name = words.pop()?.to_owned();
    if take(words, "WITH") {
        name = format!("{name} WITH {}", words.pop()?);
    }
    Some(LICENCES.contains(&name.as_str()))
}

/// Takes the next word if it is this one; the words stand in reverse.
fn take(words: &mut Vec<&str>, word: &str) -> bool {
    let next = words.last() == Some(&word);
    if next {
        words.pop();
    }
    next
}
