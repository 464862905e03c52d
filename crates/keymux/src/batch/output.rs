//! Where answers go: through the journal into the output, in the order of the input or as they come, and errors into a
//! file of their own if that is wanted. The only writer of either, on a thread of its own.
//!
//! In order, an answer that comes before its turn stays in the journal and is read from there when its turn comes; only
//! its place is remembered, so memory does not grow with how long the others take.

use super::input::is_gzip;
use super::journal::{Entry, Journal, Kind, Owner, Place, Point};
use super::past::{Look, Past};
use super::terms::Terms;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A file that is written to its end, compressed or not, or standard output.
struct Sink {
    path: PathBuf,
    shown: String,
    to: To,
    bytes: u64,
}

enum To {
    Plain(File),
    /// A part for each stretch between two points, so that it can be cut there.
    Gzip(Box<GzEncoder<File>>),
    Stdout(io::Stdout),
}

impl Sink {
    /// Opens a file and cuts it off behind `bytes`.
    fn open(path: &Path, bytes: u64) -> Result<Self, String> {
        let shown = path.display().to_string();
        let told =
            |error: io::Error| format!("{shown} cannot be written: {error}; give another place with -o");
        let file = OpenOptions::new().append(true).create(true).open(path).map_err(told)?;
        let is_file = file.metadata().map_err(told)?.is_file();
        if is_file {
            file.set_len(bytes).map_err(told)?;
        }
        let to = if is_gzip(path) {
            To::Gzip(Box::new(GzEncoder::new(file, Compression::fast())))
        } else {
            To::Plain(file)
        };
        Ok(Self { path: path.to_owned(), shown, to, bytes })
    }

    fn stdout() -> Self {
        let shown = "standard output".to_owned();
        Self { path: PathBuf::new(), shown, to: To::Stdout(io::stdout()), bytes: 0 }
    }

    fn failed(&self, error: &io::Error) -> String {
        let mend = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room",
            io::ErrorKind::BrokenPipe => "whoever read it has gone",
            _ => "mend that",
        };
        format!("{} cannot be written: {error}; {mend}", self.shown)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let done = match &mut self.to {
            To::Plain(file) => file.write_all(bytes),
            To::Gzip(encoder) => encoder.write_all(bytes),
            To::Stdout(stdout) => stdout.lock().write_all(bytes),
        };
        self.bytes += bytes.len() as u64;
        done.map_err(|error| self.failed(&error))
    }

    /// Whether what stands under its name is what was written, as far as a look at the outside tells.
    fn is_there(&self) -> bool {
        let file = match &self.to {
            To::Plain(file) => file,
            To::Gzip(encoder) => encoder.get_ref(),
            To::Stdout(_) => return true,
        };
        let seen = file.metadata().ok().zip(std::fs::metadata(&self.path).ok());
        seen.is_some_and(|(own, there)| {
            !own.is_file() || (own.dev(), own.ino(), self.bytes) == (there.dev(), there.ino(), there.len())
        })
    }

    fn flush(&mut self) -> Result<(), String> {
        match &mut self.to {
            To::Stdout(stdout) => stdout.lock().flush().map_err(|error| self.failed(&error)),
            _ => Ok(()),
        }
    }

    /// Makes it durable: how many bytes it has then.
    fn sync(&mut self) -> Result<u64, String> {
        let done = match &mut self.to {
            To::Plain(file) => sync(file),
            To::Gzip(encoder) => encoder.try_finish().and_then(|()| {
                let file = encoder.get_ref().try_clone()?;
                sync(&file)?;
                let bytes = file.metadata()?.len();
                **encoder = GzEncoder::new(file, Compression::fast());
                self.bytes = bytes;
                Ok(())
            }),
            To::Stdout(stdout) => stdout.lock().flush(),
        };
        done.map_err(|error| self.failed(&error))?;
        Ok(self.bytes)
    }
}

/// What is no file (a pipe, `/dev/null`) cannot be made durable, and need not be.
fn sync(file: &File) -> io::Result<()> {
    if file.metadata()?.is_file() { file.sync_data() } else { Ok(()) }
}

/// Where a batch goes.
#[derive(Clone, Debug)]
pub struct Target {
    /// The output; `None`: standard output.
    pub out: Option<PathBuf>,
    /// The journal; `None`: the output's own.
    pub journal: Option<PathBuf>,
    /// On what terms.
    pub terms: Terms,
    /// Lines that ended with an error before are done again.
    pub retry_failed: bool,
}

impl Target {
    /// What earlier runs have left, for whoever only wants to know.
    ///
    /// # Errors
    /// As [`Output::open`].
    pub fn past(&self) -> Result<Past, String> {
        match self.journal_path().filter(|path| path.exists()) {
            Some(path) => {
                let look = Look { retry_failed: self.retry_failed, ..Look::default() };
                Ok(Journal::open(&path, &self.terms, look, &self.owner())?.1)
            }
            None => Ok(Past::default()),
        }
    }

    /// Whether no run was before, so that nothing stands anywhere yet.
    pub fn is_fresh(&self) -> bool {
        self.journal_path().is_none_or(|path| !path.exists())
    }

    fn owner(&self) -> Owner {
        let out = self.out.clone().unwrap_or_default();
        Owner { out: real(&out).display().to_string(), is_asked: self.journal.is_some() }
    }

    /// What a run that begins would write over is nobody's.
    fn is_free(&self, journal: Option<&Path>) -> Result<(), String> {
        let errors = self.terms.errors.as_ref().map(PathBuf::from);
        for (path, option) in [(self.out.as_ref(), "-o"), (errors.as_ref(), "--errors")] {
            let Some(path) = path.filter(|path| length(path) > 0 && path.is_file()) else { continue };
            let unknown = journal
                .map(|journal| format!(", and no journal {} says what it is", journal.display()))
                .unwrap_or_default();
            return Err(format!(
                "{} is there already{unknown}; give another {option}, or delete it",
                path.display()
            ));
        }
        Ok(())
    }

    /// A run that began here had nothing to do: of its files, those are deleted in which nothing stands.
    pub fn leave_nothing(&self) {
        let errors = self.terms.errors.as_ref().map(PathBuf::from);
        let empty = [self.out.clone(), errors].into_iter().flatten();
        let empty = empty.filter(|path| path.is_file() && length(path) == 0);
        for path in empty.chain(self.journal_path()) {
            // It is only in the way.
            let _ = std::fs::remove_file(path);
        }
    }

    /// Where the journal stands; `None` where there is none to go on with.
    pub fn journal_path(&self) -> Option<PathBuf> {
        let out = self.out.as_ref()?;
        Some(self.journal.clone().unwrap_or_else(|| {
            let mut name = out.clone().into_os_string();
            name.push(".journal");
            name.into()
        }))
    }
}

/// The one path of a file, which need not be there yet: links are followed, be they to nothing.
pub fn real(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..16 {
        if let Ok(real) = std::fs::canonicalize(&path) {
            return real;
        }
        let Ok(to) = std::fs::read_link(&path) else { break };
        path = path.parent().unwrap_or(Path::new("")).join(to);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = std::fs::canonicalize(folder);
    folder.ok().zip(path.file_name()).map(|(folder, name)| folder.join(name)).unwrap_or(path)
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |seen| seen.len())
}

/// What is known before anything is touched.
pub struct Opening {
    target: Target,
    /// `None`: standard output.
    journal: Option<Journal>,
    is_new: bool,
    /// The output is written anew from its first line.
    is_anew: bool,
    /// What earlier runs have left.
    pub past: Past,
}

impl Opening {
    /// Reads the journal and holds it. An output that stands there is as it was afterwards.
    ///
    /// # Errors
    /// One line that names the file and the mend.
    pub fn of(target: &Target) -> Result<Self, String> {
        let (target, terms) = (target.clone(), target.terms.clone());
        let Some((out, path)) = target.out.as_ref().zip(target.journal_path()) else {
            target.is_free(None)?;
            return Ok(Self { target, journal: None, is_new: true, is_anew: false, past: Past::default() });
        };
        let (is_new, owner) = (!path.exists(), target.owner());
        if length(&path) == 0 {
            target.is_free(Some(&path))?;
        }
        let (mut journal, mut past) = Journal::open(&path, &terms, Look::default(), &owner)?;
        let retry_failed = target.retry_failed && past.counts[1] + past.counts[2] > 0;
        let errors_length = terms.errors.as_ref().map_or(0, |path| length(Path::new(path)));
        let is_short = length(out) < past.point.out_bytes || errors_length < past.point.errors_bytes;
        let is_anew = is_short || retry_failed;
        if is_anew {
            drop(journal);
            (journal, past) = Journal::open(&path, &terms, Look::afresh(retry_failed), &owner)?;
        }
        if past.is_without_texts() {
            return Err(format!(
                "{} was finished, and is not as it was left; its answers are nowhere else. Delete {} to begin anew and pay again",
                out.display(),
                path.display()
            ));
        }
        Ok(Self { target, journal: Some(journal), is_new, is_anew, past })
    }
}

/// Writes.
pub struct Output {
    journal: Journal,
    named: bool,
    terms: Terms,
    out: Sink,
    errors: Option<Sink>,
    /// The line whose turn it is.
    next: u64,
    /// Those that came before their turn.
    early: BTreeMap<u64, Place>,
    /// Something was written since the last point.
    dirty: bool,
    point: Point,
}

impl Output {
    /// Opens everything, as an earlier run left it, and brings the output to where the journal is.
    ///
    /// # Errors
    /// One line that names the file and the mend.
    #[cfg(test)]
    pub fn open(target: &Target) -> Result<(Self, Past), String> {
        let (mut output, past) = Self::begin(Opening::of(target)?)?;
        output.catch_up()?;
        Ok((output, past))
    }

    /// Opens the files; [`Output::catch_up`] writes what the journal has and they have not.
    ///
    /// # Errors
    /// One line that names the file and the mend.
    pub fn begin(opening: Opening) -> Result<(Self, Past), String> {
        let Opening { target, journal, is_new, is_anew, mut past } = opening;
        let terms = target.terms;
        let errors_at =
            |bytes| terms.errors.as_ref().map(|path| Sink::open(Path::new(path), bytes)).transpose();
        let Some((out, mut journal)) = target.out.zip(journal) else {
            let errors = errors_at(0)?;
            let output = Self::over(Journal::nameless()?, false, terms, (Sink::stdout(), errors));
            return Ok((output, past));
        };
        let path = journal.path().to_owned();
        let told = |error: io::Error| format!("{}: {error}", path.display());
        journal.ready(&terms).map_err(told)?;
        if is_anew {
            // Before the first byte is cut off: the points that are there speak of the output as it was.
            journal.anew(target.retry_failed).map_err(told)?;
        }
        let sinks = Sink::open(&out, past.point.out_bytes)
            .and_then(|out| Ok((out, errors_at(past.point.errors_bytes)?)))
            .inspect_err(|_| {
                // What could not begin leaves nothing behind.
                let _ = if is_new { std::fs::remove_file(&path) } else { Ok(()) };
            })?;
        let mut output = Self::over(journal, true, terms.clone(), sinks);
        (output.next, output.point) = (past.point.next, past.point);
        output.early = std::mem::take(&mut past.unwritten);
        Ok((output, past))
    }

    fn over(journal: Journal, named: bool, terms: Terms, (out, errors): (Sink, Option<Sink>)) -> Self {
        Self {
            journal,
            named,
            terms,
            out,
            errors,
            next: 0,
            early: BTreeMap::new(),
            dirty: false,
            point: Point::default(),
        }
    }

    /// Writes what has its turn.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn catch_up(&mut self) -> Result<(), String> {
        while let Some(entry) = self.early.first_entry() {
            if !self.terms.unordered && *entry.key() != self.next {
                break;
            }
            let place = entry.remove();
            let text = self.journal.text(place).map_err(|error| self.unjournalled(&error))?;
            self.put(place.kind, &text)?;
        }
        self.out.flush()
    }

    fn put(&mut self, kind: Kind, text: &[u8]) -> Result<(), String> {
        self.next += 1;
        self.dirty = true;
        match &mut self.errors {
            Some(errors) if kind != Kind::Answered => errors.write(text),
            _ => self.out.write(text),
        }
    }

    fn unjournalled(&self, error: &io::Error) -> String {
        let mend = if error.kind() == io::ErrorKind::StorageFull { "make room" } else { "mend that" };
        format!("{} cannot be written: {error}; {mend}", self.journal.path().display())
    }

    /// Takes lines that are done. When it returns, they are safe from the death of this process.
    pub fn take(&mut self, done: &[Entry]) -> Result<(), String> {
        let mut places = Vec::new();
        if self.named {
            places.extend(done.iter().map(|entry| self.journal.add(entry)));
            self.journal.flush().map_err(|error| self.unjournalled(&error))?;
        }
        self.dirty = true;
        for (index, entry) in done.iter().enumerate() {
            if self.terms.unordered || entry.seq == self.next {
                self.put(entry.kind, &entry.text)?;
                continue;
            }
            let place = if let Some(place) = places.get(index) {
                *place
            } else {
                let place = self.journal.add(entry);
                self.journal.flush().map_err(|error| self.unjournalled(&error))?;
                place
            };
            self.early.insert(entry.seq, place);
        }
        self.catch_up()?;
        if !self.named && self.early.is_empty() {
            self.journal.empty().map_err(|error| self.unjournalled(&error))?;
        }
        Ok(())
    }

    /// Makes all durable, and says so in the journal: the answers first, so that a point never speaks of what is not.
    pub fn sync(&mut self) -> Result<(), String> {
        if !self.dirty {
            return Ok(());
        }
        if self.named {
            self.journal.sync().map_err(|error| self.unjournalled(&error))?;
        }
        let out_bytes = self.out.sync()?;
        let errors_bytes = self.errors.as_mut().map_or(Ok(0), Sink::sync)?;
        self.point = Point { next: self.next, out_bytes, errors_bytes };
        if self.named {
            self.journal.point(self.point);
            self.journal.flush().map_err(|error| self.unjournalled(&error))?;
        }
        self.dirty = false;
        Ok(())
    }

    /// The end. If every line has its answer, the journal needs their texts no more.
    pub fn close(mut self, all_answered: bool) -> Result<(), String> {
        self.sync()?;
        if let Some(lost) =
            [Some(&self.out), self.errors.as_ref()].into_iter().flatten().find(|s| !s.is_there())
        {
            let kept = if self.named { "; its answers are kept in the journal" } else { "" };
            return Err(format!(
                "{} is not what was written: somebody deleted, replaced or changed it meanwhile{kept}",
                lost.shown
            ));
        }
        if !all_answered || !self.named {
            return Ok(());
        }
        let path = self.journal.path().display().to_string();
        self.journal.shrink(&self.terms, self.point).map_err(|error| format!("{path}: {error}"))
    }
}
