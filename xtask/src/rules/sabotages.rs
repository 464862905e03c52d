//! A sabotage that no longer fits its code breaks nothing, and one whose test is gone is noticed by nobody. Both are
//! found here in a moment, not at the end of the long run that applies them all.

use crate::facts::File;

/// Where they stand.
const LIST: &str = "mutants/mutants.toml";

/// Sabotages whose text does not stand exactly once in the file that they name, whose test is not there, or whose name
/// is another's too.
pub fn check(files: &[File]) -> Vec<String> {
    let Some(list) = files.iter().find(|f| f.path == LIST) else { return Vec::new() };
    let all = match list.text.parse::<toml::Table>() {
        Ok(table) => table.get("mutant").and_then(toml::Value::as_array).cloned().unwrap_or_default(),
        Err(error) => return vec![format!("sabotages: {LIST} cannot be read: {error}")],
    };
    let mut found = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    for one in &all {
        let say = |key: &str| one.get(key).and_then(toml::Value::as_str).unwrap_or_default();
        let (name, file) = (say("name"), say("file"));
        let text = files.iter().find(|f| f.path == file).map_or("", |f| &f.text);
        let times = if say("find").is_empty() { 0 } else { text.matches(say("find")).count() };
        if times != 1 {
            found.push(format!("sabotages: {name:?}: what it replaces stands {times} times in {file:?}"));
        }
        if !has_test(files, file, say("test")) {
            found.push(format!("sabotages: {name:?}: no test {:?} stands in that crate", say("test")));
        }
        if names.contains(&name) {
            found.push(format!("sabotages: two have the name {name:?}"));
        }
        names.push(name);
    }
    found
}

/// Whether the crate of `file` has a test function of that name; its module is cargo's to resolve.
fn has_test(files: &[File], file: &str, test: &str) -> bool {
    let room = file.split("/src/").next().unwrap_or_default();
    let function = format!("fn {}(", test.rsplit("::").next().unwrap_or_default());
    files.iter().any(|f| f.is_rust() && f.path.starts_with(room) && f.text.contains(&function))
}
