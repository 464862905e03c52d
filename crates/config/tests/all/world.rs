//! A world made of tables.

use keymux_config::{Config, Problems, World, from_env, from_toml};
use std::collections::HashMap;
use std::io;
use std::path::Path;

/// Variables and files; programs print their arguments.
#[derive(Default)]
pub(crate) struct Table {
    vars: HashMap<String, String>,
    files: HashMap<String, String>,
    /// Variables that are not in the table are set, too, each to its own name.
    every_var: bool,
}

impl Table {
    pub(crate) fn vars(vars: &[(&str, &str)]) -> Self {
        let vars = vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Self { vars, ..Self::default() }
    }

    /// A world in which every variable and file holds something.
    pub(crate) fn plentiful() -> Self {
        Self { every_var: true, ..Self::vars(&[("HOME", "/home/u")]) }
    }

    pub(crate) fn var(mut self, name: &str, value: &str) -> Self {
        self.vars.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn file(mut self, path: &str, content: &str) -> Self {
        self.files.insert(path.to_owned(), content.to_owned());
        self
    }

    pub(crate) fn with<T>(&self, f: impl FnOnce(&World<'_>) -> T) -> T {
        let names: Vec<String> = self.vars.keys().cloned().collect();
        let env = |name: &str| self.env(name);
        let read = |path: &Path| self.read(path);
        let run = |args: &[String]| {
            if args[0] == "fails" {
                Err("exit code 1".to_owned())
            } else {
                Ok(format!("{}\n", args.join("|").replace(' ', "_")))
            }
        };
        f(&World { env: &env, env_names: &names, read: &read, run: &run })
    }

    fn env(&self, name: &str) -> Option<String> {
        let invented = self.every_var
            && (name.contains("KEY") || name.contains("TOKEN"))
            && !name.starts_with("KEYMUX_D");
        let invent = || match name {
            "KEYMUX_WEBHOOK" => "https://hooks.example.com/t".to_owned(),
            _ => format!("sk-test-{name}"),
        };
        self.vars.get(name).cloned().or_else(|| invented.then(invent))
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        let known = self.files.get(&path.display().to_string()).cloned();
        let known = known.or_else(|| self.every_var.then(|| format!("{}\n", path.display())));
        known.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    pub(crate) fn toml(&self, text: &str) -> Result<Config, Problems> {
        self.with(|world| from_toml("keymux.toml", text, world))
    }

    pub(crate) fn environment(&self) -> Result<Config, Problems> {
        self.with(from_env)
    }
}

/// A configuration that must be good, in a plentiful world.
pub(crate) fn good(text: &str) -> Config {
    match Table::plentiful().toml(text) {
        Ok(config) => config,
        Err(problems) => panic!("{}", problems.render("keymux.toml", text, false)),
    }
}

/// Messages of a configuration that must be bad.
pub(crate) fn bad(text: &str) -> Vec<String> {
    match Table::plentiful().toml(text) {
        Ok(_) => panic!("no problem found in:\n{text}"),
        Err(problems) => problems.list.iter().map(|p| p.message.clone()).collect(),
    }
}
