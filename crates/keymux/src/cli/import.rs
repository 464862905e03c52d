//! `keymux import`: moving in. Another gateway's configuration becomes one of ours; what has no counterpart is told on
//! standard error and, as comments, at the end of what is written.

use super::{Failure, color, say_error, world};
use keymux_config::Problems;
use keymux_config::litellm::{Import, Kind, Note, Refused, import};
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "Examples:
  keymux import litellm config.yaml -o keymux.toml
  keymux import litellm config.yaml | less
  keymux check --config keymux.toml

Keys stay in the environment: a key that stands in the file is not copied, and the variable that it
has to be put into is named. Addresses that LiteLLM takes from the environment (os.environ/…) are
looked up in it now, so import where LiteLLM's variables are set.

Exit codes: 0 written; 1 it could not be read or written; 2 something to mend in the command or in
the file, or nothing of it can be carried over.";

/// What is to be carried over.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    from: Source,
}

#[derive(Debug, clap::Subcommand)]
enum Source {
    /// The configuration of LiteLLM's proxy.
    Litellm(Litellm),
}

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
struct Litellm {
    /// The file that LiteLLM is started with; `-` is standard input.
    #[arg(value_name = "CONFIG.yaml")]
    input: PathBuf,
    /// Where to write the configuration; `-`, or nothing, is standard output.
    #[arg(long, short, value_name = "keymux.toml")]
    output: Option<PathBuf>,
    /// Replace the output if it is there.
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let Source::Litellm(args) = &args.from;
    let output = args.output.as_deref().filter(|path| path.as_os_str() != "-");
    if let Some(path) = output {
        check_output(args, path)?;
    }
    let (shown, text) = text(&args.input)?;
    let folder = args.input.parent().filter(|_| args.input.as_os_str() != "-").unwrap_or(Path::new("."));
    let made = world::with(|machine| import(&shown, &text, folder, machine));
    let made = made.map_err(|refused| Failure::Mend(explained(*refused)))?;
    match output {
        Some(path) => write(path, &made.toml)?,
        None => io::stdout()
            .write_all(made.toml.as_bytes())
            .map_err(|e| Failure::Failed(format!("standard output: {e}")))?,
    }
    say_error(&told(&made, output));
    Ok(())
}

/// What can be known before anything is read.
fn check_output(args: &Litellm, path: &Path) -> Result<(), Failure> {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    let shown = path.display();
    if real(path).is_some_and(|path| Some(path) == real(&args.input)) {
        return Err(Failure::Mend(format!("{shown} is the input; give -o another name")));
    }
    if path.is_dir() {
        return Err(Failure::Mend(format!("{shown} is a folder; name a file in it")));
    }
    if path.is_file() && !args.force {
        return Err(Failure::Mend(format!("{shown} is there already; --force replaces it")));
    }
    Ok(())
}

fn text(path: &Path) -> Result<(String, String), Failure> {
    let shown =
        if path.as_os_str() == "-" { "standard input".to_owned() } else { path.display().to_string() };
    let read = if path.as_os_str() == "-" {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        world::read(path)
    };
    match read {
        Ok(text) => Ok((shown, text)),
        Err(e) if e.kind() == io::ErrorKind::InvalidData => Err(Failure::Mend(format!(
            "{shown} is not text in UTF-8; name LiteLLM's configuration, a YAML file"
        ))),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory) => {
            Err(Failure::Mend(format!("{shown}: {e}; name LiteLLM's configuration, a YAML file")))
        }
        Err(e) => Err(Failure::Failed(format!("{shown}: {e}"))),
    }
}

/// A new file is whole or not there; one that is to be replaced keeps its place and its mode.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let fresh = !path.exists();
    let opened = OpenOptions::new().write(true).create_new(fresh).truncate(!fresh).open(path);
    let written = opened.and_then(|mut file| file.write_all(text.as_bytes()));
    if written.is_err() && fresh {
        // There may be nothing to remove: it could not be made.
        let _ = std::fs::remove_file(path);
    }
    written.map_err(|e| Failure::Failed(format!("{}: {e}", path.display())))
}

fn explained(refused: Refused) -> String {
    let problems = Problems { list: vec![refused.problem] };
    let mut text = problems.render(&refused.file, "", color());
    list(&mut text, &refused.notes);
    text
}

/// What came of it, what is left to do.
fn told(made: &Import, output: Option<&Path>) -> String {
    let mut text = String::new();
    list(&mut text, &made.notes);
    let (total, carried) = made.deployments;
    let [providers, keys, routes] = made.made;
    let of = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let shown = output.map_or_else(|| "standard output".to_owned(), |path| path.display().to_string());
    let _ = writeln!(
        text,
        "{carried} of {} became {} with {} and {}: {shown}",
        of(total, "deployment"),
        of(providers, "provider"),
        of(keys, "key"),
        of(routes, "route"),
    );
    if !made.notes.is_empty() {
        let places: usize = made.notes.iter().map(|note| note.spots.len()).sum();
        let _ = writeln!(
            text,
            "Listed above and at its end: {} left out, or with another meaning here.",
            of(places, "thing")
        );
    }
    let unset: Vec<&str> =
        made.variables.iter().map(String::as_str).filter(|name| world::variable(name).is_none()).collect();
    if !unset.is_empty() {
        let _ = writeln!(text, "To be set before it starts: {}", unset.join(", "));
    }
    if let Some(path) = output {
        let _ = writeln!(text, "Next: keymux check --config {}", path.display());
    }
    text
}

fn list(text: &mut String, notes: &[Note]) {
    for (kind, title) in [
        (Kind::LeftOut, "Deployments that were left out:"),
        (Kind::Setting, "Settings without a counterpart, or that mean something else here:"),
    ] {
        let of_kind: Vec<&Note> = notes.iter().filter(|note| note.kind == kind).collect();
        if !of_kind.is_empty() {
            let _ = writeln!(text, "{title}\n");
        }
        for note in of_kind {
            let _ = writeln!(text, "{note}\n");
        }
    }
}
