//! The outside world as an argument. This crate reads no environment, file or clock by itself, so a test, the
//! checker and a reload can each show it the world they want.

use std::io;
use std::path::{Path, PathBuf};

/// What a configuration may ask of the machine.
#[derive(Clone, Copy)]
pub struct World<'a> {
    /// An environment variable's value.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The names of all environment variables, for numbered keys and for suggestions.
    pub env_names: &'a [String],
    /// A file's content.
    pub read: &'a dyn Fn(&Path) -> io::Result<String>,
    /// The output of a program with its arguments (no shell; the caller enforces 5 s), or why there is none.
    pub run: &'a dyn Fn(&[String]) -> Result<String, String>,
}

impl std::fmt::Debug for World<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("World")
    }
}

impl World<'_> {
    /// A variable that is set to something.
    pub(crate) fn var(&self, name: &str) -> Option<String> {
        (self.env)(name).filter(|value| !value.trim().is_empty())
    }

    /// A path as people write it: `~/` is the home directory.
    pub(crate) fn path(&self, text: &str) -> PathBuf {
        match (text.strip_prefix("~/"), self.var("HOME")) {
            (Some(rest), Some(home)) => Path::new(&home).join(rest),
            _ => PathBuf::from(text),
        }
    }
}
