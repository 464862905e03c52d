//! No file so long that nobody reads it to the end: 500 lines, inline tests cut off. Functions are clippy's.

use std::path::Path;

use crate::facts::File;

/// Longest source file, in lines.
pub const LINES_MAX: usize = 500;

/// Tables of data, which are looked up and not read. By name, and only while they are in fact longer.
const DATA_TABLES: &[&str] = &[];

const SOURCES: &[&str] = &["rs", "py", "js", "mjs", "ts", "tsx", "sh"];

/// Source files over [`LINES_MAX`], and exceptions that are no longer needed.
pub fn check(files: &[File]) -> Vec<String> {
    check_with(files, DATA_TABLES)
}

/// As [`check`], with a list of exceptions.
pub fn check_with(files: &[File], tables: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files.iter().filter(|f| is_source(&f.path) && !is_test(&f.path)) {
        let lines = code_lines(file);
        let table = tables.contains(&file.path.as_str());
        if lines > LINES_MAX && !table {
            found.push(format!("length: {} has {lines} lines, {LINES_MAX} are allowed", file.path));
        }
        if lines <= LINES_MAX && table {
            found.push(format!("length: {} is short; take it off the list of data tables", file.path));
        }
    }
    for table in tables.iter().filter(|t| !files.iter().any(|f| f.path == **t)) {
        found.push(format!("length: {table} is on the list of data tables and does not exist"));
    }
    found
}

/// Lines before the inline tests.
pub fn code_lines(file: &File) -> usize {
    let lines: Vec<&str> = file.text.lines().collect();
    if !file.is_rust() {
        return lines.len();
    }
    lines
        .windows(2)
        .position(|w| w[0].trim_end() == "#[cfg(test)]" && w[1].starts_with("mod ") && w[1].ends_with('{'))
        .unwrap_or(lines.len())
}

/// Tests may be as long as the cases they list.
fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.split('/').any(|part| part == "tests")
}

fn is_source(path: &str) -> bool {
    Path::new(path).extension().and_then(|e| e.to_str()).is_some_and(|e| SOURCES.contains(&e))
}
