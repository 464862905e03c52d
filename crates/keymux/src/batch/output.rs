//! Where answers go: through the journal into the output, in the order of the input or as they come, and errors into a
//! file of their own if that is wanted. The only writer of either, on a thread of its own.
//!
//! In order, an answer that comes before its turn stays in the journal and is read from there when its turn comes; only
//! its place is remembered, so memory does not grow with how long the others take.

use super::input::is_gzip;
use super::journal::{Entry, Journal, Kind, Place, Point};
use super::past::{Look, Past};
use super::terms::Terms;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file that is written to its end, compressed or not, or standard output.
struct Sink {
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
        Ok(Self { shown, to, bytes })
    }

    fn stdout() -> Self {
        Self { shown: "standard output".to_owned(), to: To::Stdout(io::stdout()), bytes: 0 }
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
            Some(path) => Ok(Journal::open(&path, &self.terms, Look::dry(self.retry_failed))?.1),
            None => Ok(Past::default()),
        }
    }

    /// Whether no run was before, so that nothing stands anywhere yet.
    pub fn is_fresh(&self) -> bool {
        self.journal_path().is_none_or(|path| !path.exists())
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
    pub fn open(target: &Target) -> Result<(Self, Past), String> {
        let terms = target.terms.clone();
        let Some((out, path)) = target.out.as_ref().zip(target.journal_path()) else {
            let errors = terms.errors.as_ref().map(|path| Sink::open(Path::new(path), 0)).transpose()?;
            let journal = Journal::nameless()?;
            let output = Self::over(journal, false, terms, (Sink::stdout(), errors));
            return Ok((output, Past::default()));
        };
        let is_new = !path.exists();
        let length = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.len());
        if is_new && length(out) > 0 && out.is_file() {
            return Err(format!(
                "{} is there already, and no journal {} says what it is; give another -o, or delete it",
                out.display(),
                path.display()
            ));
        }
        let (mut journal, mut past) = Journal::open(&path, &terms, Look::default())?;
        let retry_failed = target.retry_failed && past.counts[1] + past.counts[2] > 0;
        let errors_length = terms.errors.as_ref().map_or(0, |path| length(Path::new(path)));
        let is_short = length(out) < past.point.out_bytes || errors_length < past.point.errors_bytes;
        let is_anew = is_short || retry_failed;
        if is_anew {
            drop(journal);
            (journal, past) = Journal::open(&path, &terms, Look::afresh(retry_failed))?;
        }
        if past.is_without_texts() {
            return Err(format!(
                "{} was finished, and is not as it was left; its answers are nowhere else. Delete {} to begin anew and pay again",
                out.display(),
                path.display()
            ));
        }
        if is_anew {
            // Before the first byte is cut off: the points that are there speak of the output as it was.
            journal.anew(retry_failed).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        let out = Sink::open(out, past.point.out_bytes)?;
        let errors = terms.errors.as_ref().map(|path| Sink::open(Path::new(path), past.point.errors_bytes));
        let mut output = Self::over(journal, true, terms, (out, errors.transpose()?));
        (output.next, output.point) = (past.point.next, past.point);
        output.early = std::mem::take(&mut past.unwritten);
        output.catch_up()?;
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
    fn catch_up(&mut self) -> Result<(), String> {
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
        if !all_answered || !self.named {
            return Ok(());
        }
        let path = self.journal.path().display().to_string();
        self.journal.shrink(&self.terms, self.point).map_err(|error| format!("{path}: {error}"))
    }
}
