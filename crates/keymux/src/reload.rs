//! Another configuration while serving: on SIGHUP, or when the file's content (not its time stamp: Kubernetes swaps
//! links) or one of the files that it names has changed. Whole or not at all: with a mistake, the old one stays in
//! force, and every further look tries again, since what was missing may come back; but programs that print a secret
//! are not run again for that.

use crate::serve::Gateway;
use keymux_config::{Change, Config, Problems, World, diff};
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::sync::Notify;

/// An operator's wish, from the admin listener to whoever owns the file.
#[derive(Default)]
pub struct Wish {
    /// There is a file.
    pub possible: AtomicBool,
    /// It is to be read now.
    pub wanted: Notify,
}

/// Reads configurations again.
pub struct Reloader {
    /// The file.
    pub path: PathBuf,
    /// Its content when it was last read.
    text: String,
    /// What is in force, to tell what changes.
    config: Config,
    /// Why the last look was refused, if it was.
    refused: Option<String>,
    /// What this text made of the machine; `None` before the first look.
    seen: Option<Seen>,
}

/// What the machine said while a text was read.
#[derive(Default)]
struct Seen {
    hasher: RandomState,
    /// Digests of the files' content; secrets are not kept twice.
    files: HashMap<PathBuf, u64>,
    /// Until a configuration is accepted.
    commands: HashMap<Vec<String>, Result<String, String>>,
}

/// What a look at the file brought.
pub enum Looked {
    /// Nothing new.
    Same,
    /// It was refused before, and says again what is in force.
    Mended,
    /// These changes are in force, but for those that need a restart.
    Changed(Vec<Change>),
    /// It cannot be used; the old one stays. Told once, not at every look.
    Refused(String),
}

impl Reloader {
    /// A reloader that starts from what is in force.
    pub fn new(path: PathBuf, text: String, config: Config) -> Self {
        Self { path, text, config, refused: None, seen: None }
    }

    /// Reads the file and its secrets. Takes what is new into force; `always` also if nothing has changed.
    pub fn look(
        &mut self,
        gateway: &Arc<Gateway>,
        world: &World<'_>,
        parse: impl Fn(&str, &World<'_>) -> Result<Config, Problems>,
        always: bool,
    ) -> Looked {
        let text = match (world.read)(&self.path) {
            Ok(text) => text,
            Err(error) => {
                return self.refuse(format!("{}: {error}", self.path.display()), always);
            }
        };
        let other_text = text != self.text;
        self.text = text;
        if self.seen.is_none() && !always && !other_text {
            // What is in force was read by somebody else; learn by reading which files it is made of. Its programs
            // have run just now.
            let mut seen = Seen::default();
            let idle = World { run: &|_| Err(String::new()), ..*world };
            let _ = seen.during(&idle, |world| parse(&self.text, world));
            seen.commands.clear();
            self.seen = Some(seen);
            return Looked::Same;
        }
        let mut seen = self.seen.take().unwrap_or_default();
        if !always && !other_text && self.refused.is_none() && !seen.differs(world) {
            self.seen = Some(seen);
            return Looked::Same;
        }
        if always || other_text {
            seen.commands.clear();
        }
        let parsed = seen.during(world, |world| parse(&self.text, world));
        self.seen = Some(seen);
        let config = match parsed {
            Ok(config) => config,
            Err(problems) => {
                let shown = self.path.display().to_string();
                return self.refuse(problems.render(&shown, &self.text, false), always);
            }
        };
        let changes = diff(&self.config, &config);
        if !changes.is_empty() {
            if let Err(error) = gateway.reconfigure(config.clone()) {
                return self.refuse(error, always);
            }
            self.config = config;
        }
        let was_refused = self.refused.take().is_some();
        if let Some(seen) = &mut self.seen {
            // Secrets are not kept twice.
            seen.commands.clear();
        }
        match (changes.is_empty(), was_refused) {
            (true, false) => Looked::Same,
            (true, true) => Looked::Mended,
            (false, _) => Looked::Changed(changes),
        }
    }

    /// Whether the file as it stands is refused.
    pub fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    fn refuse(&mut self, why: String, always: bool) -> Looked {
        if !always && self.refused.as_ref() == Some(&why) {
            return Looked::Same;
        }
        self.refused = Some(why.clone());
        Looked::Refused(why)
    }
}

impl Seen {
    /// Reads through `world`, and keeps what it said. Programs that have run are not run again.
    fn during<T>(&mut self, world: &World<'_>, read: impl FnOnce(&World<'_>) -> T) -> T {
        let (files, commands) = (RefCell::new(HashMap::new()), RefCell::new(&mut self.commands));
        let hasher = &self.hasher;
        let noted = |path: &Path| -> io::Result<String> {
            let text = (world.read)(path)?;
            files.borrow_mut().insert(path.to_owned(), hasher.hash_one(&text));
            Ok(text)
        };
        let run = |words: &[String]| -> Result<String, String> {
            if let Some(said) = commands.borrow().get(words) {
                return said.clone();
            }
            let said = (world.run)(words);
            commands.borrow_mut().insert(words.to_vec(), said.clone());
            said
        };
        let result = read(&World { read: &noted, run: &run, ..*world });
        self.files = files.into_inner();
        result
    }

    /// Whether one of the files holds something else. One that is gone for a moment is being replaced.
    fn differs(&self, world: &World<'_>) -> bool {
        let mut files = self.files.iter();
        files.any(|(path, known)| (world.read)(path).is_ok_and(|text| self.hasher.hash_one(&text) != *known))
    }
}

#[cfg(test)]
mod tests;
