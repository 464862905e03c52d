//! Another configuration while serving: on SIGHUP, or when the file's content (not its time stamp: Kubernetes swaps
//! links) or one of its secrets has changed. Whole or not at all: with a mistake, the old one stays in force.

use crate::serve::Gateway;
use keymux_config::{Change, Config, Problems, SecretSource, World, diff, read_again};
use std::path::PathBuf;
use std::sync::Arc;

/// Reads configurations again.
pub struct Reloader {
    /// The file.
    pub path: PathBuf,
    /// Its content when it was last read.
    text: String,
    /// What it said, to tell what changes.
    config: Config,
}

/// What a look at the file brought.
pub enum Looked {
    /// Nothing new.
    Same,
    /// These changes are in force, but for those that need a restart.
    Changed(Vec<Change>),
    /// It cannot be used; the old one stays.
    Refused(String),
}

impl Reloader {
    /// A reloader that starts from what is in force.
    pub fn new(path: PathBuf, text: String, config: Config) -> Self {
        Self { path, text, config }
    }

    /// Reads the file and its secrets. Takes what is new into force; `always` also if the text is the same.
    pub fn look(
        &mut self,
        gateway: &Arc<Gateway>,
        world: &World<'_>,
        parse: impl Fn(&str) -> Result<Config, Problems>,
        always: bool,
    ) -> Looked {
        let shown = self.path.display().to_string();
        let text = match (world.read)(&self.path) {
            Ok(text) => text,
            Err(error) => return Looked::Refused(format!("{shown}: {error}")),
        };
        if !always && text == self.text && !self.secret_file_changed(world) {
            return Looked::Same;
        }
        self.text = text;
        let config = match parse(&self.text) {
            Ok(config) => config,
            Err(problems) => return Looked::Refused(problems.render(&shown, &self.text, false)),
        };
        let changes = diff(&self.config, &config);
        if changes.is_empty() {
            return Looked::Same;
        }
        match gateway.reconfigure(config.clone()) {
            Ok(()) => {
                self.config = config;
                Looked::Changed(changes)
            }
            Err(error) => Looked::Refused(error),
        }
    }

    /// Whether a file that holds a secret holds another one. Commands are run again only on SIGHUP.
    fn secret_file_changed(&self, world: &World<'_>) -> bool {
        let keys = self.config.providers.iter().flat_map(|p| &p.keys);
        keys.filter(|key| matches!(key.source, SecretSource::File(_))).any(|key| {
            match (read_again(&key.source, world), &key.secret) {
                (Ok(Some(now)), Some(before)) => !before.matches(now.expose().as_bytes()),
                // A file that is gone for a moment is being replaced.
                _ => false,
            }
        })
    }
}
