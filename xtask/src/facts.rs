//! What the rules look at: the resolved dependency graph and the tracked files. Nothing here decides.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use cargo_metadata::{DependencyKind, MetadataCommand};

/// A package of the resolved graph, ours or another's.
#[derive(Clone, Debug, Default)]
pub struct Package {
    /// As in its manifest.
    pub name: String,
    /// As in its manifest.
    pub version: String,
    /// The SPDX expression, if it has one.
    pub licence: Option<String>,
    /// The registry or repository it came from; none for our own.
    pub source: Option<String>,
    /// Whether it belongs to this workspace.
    pub member: bool,
    /// Indices in [`Graph::packages`] of what it links or builds with.
    pub links: Vec<usize>,
    /// Indices of what only its tests need.
    pub tests_with: Vec<usize>,
}

/// The resolved dependency graph.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Every package, in no order that matters.
    pub packages: Vec<Package>,
}

impl Graph {
    /// Everything that the package at `from` links, however far, and everything that its own tests link.
    pub fn reach(&self, from: usize) -> Vec<usize> {
        let mut seen = Vec::new();
        let mut open: Vec<usize> = [&self.packages[from].links[..], &self.packages[from].tests_with].concat();
        while let Some(at) = open.pop() {
            if !seen.contains(&at) {
                seen.push(at);
                open.extend(&self.packages[at].links);
            }
        }
        seen
    }
    /// What is really built: the members and what they reach. `Cargo.lock` also names optional packages that no
    /// feature of ours turns on.
    pub fn built(&self) -> impl Iterator<Item = &Package> {
        let members = (0..self.packages.len()).filter(|&i| self.packages[i].member);
        let mut built: Vec<usize> = members.flat_map(|i| [vec![i], self.reach(i)].concat()).collect();
        built.sort_unstable();
        built.dedup();
        built.into_iter().map(|i| &self.packages[i])
    }
}

/// A tracked file and its text.
#[derive(Clone, Debug)]
pub struct File {
    /// Relative to the root, with `/`.
    pub path: String,
    /// Its content; tracked files that are not UTF-8 are left out of [`files`].
    pub text: String,
}

impl File {
    /// A file for a test.
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.into(), text: text.into() }
    }
    /// Whether it is Rust.
    pub fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|e| e == "rs")
    }
}

/// The graph that `Cargo.lock` resolves to, features of the workspace as they are.
pub fn graph(root: &Path) -> anyhow::Result<Graph> {
    let metadata = MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .other_options(vec!["--locked".into(), "--filter-platform".into(), "x86_64-unknown-linux-gnu".into()])
        .exec()
        .context("cargo metadata")?;
    let resolve = metadata.resolve.as_ref().context("cargo metadata resolved nothing")?;
    let index = |id: &cargo_metadata::PackageId| {
        metadata.packages.iter().position(|p| &p.id == id).context("a resolved package has no entry")
    };
    let mut packages: Vec<Package> = metadata
        .packages
        .iter()
        .map(|p| Package {
            name: p.name.to_string(),
            version: p.version.to_string(),
            licence: p.license.clone(),
            source: p.source.as_ref().map(|s| s.repr.clone()),
            member: metadata.workspace_members.contains(&p.id),
            ..Package::default()
        })
        .collect();
    for node in &resolve.nodes {
        let at = index(&node.id)?;
        for dep in &node.deps {
            let to = index(&dep.pkg)?;
            if !turned_on(&metadata.packages[at], node, &metadata.packages[to].name) {
                continue;
            }
            let only_tests = dep.dep_kinds.iter().all(|k| k.kind == DependencyKind::Development);
            let edges = if only_tests { &mut packages[at].tests_with } else { &mut packages[at].links };
            edges.push(to);
        }
    }
    ensure!(packages.iter().any(|p| p.member), "cargo metadata knows no member");
    Ok(Graph { packages })
}

/// Whether the edge from `package` to its dependency `name` is real. `cargo metadata` also lists optional dependencies
/// that only a weak feature (`name?/feature`) mentions, which never turns one on.
fn turned_on(package: &cargo_metadata::Package, node: &cargo_metadata::Node, name: &str) -> bool {
    let mut declared = package.dependencies.iter().filter(|d| d.name == name).peekable();
    if declared.peek().is_none() || declared.any(|d| !d.optional) {
        return true;
    }
    let known_as = |d: &cargo_metadata::Dependency| d.rename.clone().unwrap_or_else(|| d.name.clone());
    let names: Vec<String> = package.dependencies.iter().filter(|d| d.name == name).map(known_as).collect();
    let active = node.features.iter().filter_map(|f| package.features.get(&**f)).flatten();
    let mut asked = active.map(|a| a.strip_prefix("dep:").unwrap_or(a).split('/').next().unwrap_or(a));
    asked.any(|a| names.iter().any(|n| n == a))
}

/// The tracked files that are text and exist in the work tree.
pub fn files(root: &Path) -> anyhow::Result<Vec<File>> {
    let out =
        Command::new("git").arg("-C").arg(root).args(["ls-files", "-z"]).output().context("git ls-files")?;
    if !out.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&out.stderr));
    }
    let listed = String::from_utf8(out.stdout).context("a tracked path is not UTF-8")?;
    let mut found = Vec::new();
    for path in listed.split('\0').filter(|p| !p.is_empty()) {
        let full: PathBuf = root.join(path);
        // Deleted and not yet committed, or binary: no text to judge.
        let Ok(bytes) = std::fs::read(&full) else { continue };
        if let Ok(text) = String::from_utf8(bytes) {
            found.push(File { path: path.to_owned(), text });
        }
    }
    ensure!(found.iter().any(File::is_rust), "git ls-files lists no Rust file");
    Ok(found)
}
