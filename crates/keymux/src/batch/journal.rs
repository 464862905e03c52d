//! What a batch has paid for, in an append-only file: each answer as it came, with a mark of the line that it answers.
//! The output is made from it, so that an answer which is not in the output's order yet is safe too.
//!
//! An entry is a line of text that says its length, then that many bytes, under one checksum; whatever a crash cut off at
//! the end is found by it and dropped. Now and then a point is written: the output is on disk up to here. A rerun begins
//! at the last point and writes again what came after it. Before an output is written anew from its first line, that is
//! written too: points before it speak of another output.
//!
//! When is it on disk? Each entry is handed to the kernel before its line counts as done, which outlives the process
//! being killed, and made durable together with the output every two seconds and at the end, which outlives the machine
//! losing its power: an fsync for each line would cost more than the lines.

use super::past::{Look, Past};
use super::terms::Terms;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Form of the file; another one is not read.
const VERSION: u32 = 1;
/// Longest first line of an entry.
const HEAD_BYTES_MAX: u64 = 256;
/// Longest header.
const HEADER_BYTES_MAX: u64 = 64 << 10;

/// How a line ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// With an answer.
    Answered,
    /// With an error, of a provider or of ours.
    Failed,
    /// It could not be sent.
    Bad,
}

impl Kind {
    fn letter(self) -> &'static str {
        match self {
            Self::Answered => "A",
            Self::Failed => "F",
            Self::Bad => "B",
        }
    }

    fn of(letter: &str) -> Option<Self> {
        [Self::Answered, Self::Failed, Self::Bad].into_iter().find(|kind| kind.letter() == letter)
    }
}

/// A line that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place among the lines.
    pub seq: u64,
    /// Of the line's bytes.
    pub mark: u32,
    /// How it ended.
    pub kind: Kind,
    /// What it cost, in nano-dollars, where that is known.
    pub cost_nano_usd: Option<u64>,
    /// What stands in the output, with the end of its line.
    pub text: Vec<u8>,
}

/// Where an entry's text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    offset: u64,
    pub(super) length: u32,
    /// How its line ended.
    pub kind: Kind,
}

/// The output is on disk up to here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Point {
    /// Lines that it holds, where they stand in order.
    pub next: u64,
    /// Bytes of the output.
    pub out_bytes: u64,
    /// Bytes of the file of errors.
    pub errors_bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct Header {
    keymux_batch: u32,
    terms: Terms,
    /// Of which output; older ones do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    out: Option<String>,
}

/// The output that a journal is of.
#[derive(Clone, Debug)]
pub struct Owner {
    /// Its path from the root.
    pub out: String,
    /// The journal does not stand beside it under its name, so that it could be another's.
    pub is_asked: bool,
}

/// The file.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    out: Option<String>,
    file: File,
    length: u64,
    pending: Vec<u8>,
}

impl Journal {
    /// Opens it and reads it; nothing that stands there is touched before [`Journal::ready`].
    ///
    /// # Errors
    /// One line: it is none, is in use, is damaged, or was begun on other terms.
    pub fn open(path: &Path, terms: &Terms, look: Look, owner: &Owner) -> Result<(Self, Past), String> {
        let shown = path.display();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|error| {
                format!("{shown}: {error}; the journal stands beside the output, or where --journal says")
            })?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(format!(
                    "{shown} is in use: another keymux batch writes this output; wait for it, or stop it"
                ));
            }
            Err(TryLockError::Error(error)) => return Err(format!("{shown}: {error}")),
        }
        let (length, past) = match read(&mut file, terms, look, owner) {
            // On other terms, but nothing was answered and nothing paid: what stands there is worth nothing.
            Err(Unread::Terms(then, _))
                if terms.frees_errors_of(&then) && is_worthless(&mut file, &then, owner) =>
            {
                (0, Past::default())
            }
            read => read.map_err(|why| why.told(path))?,
        };
        let out = Some(owner.out.clone());
        Ok((Self { path: path.to_owned(), out, file, length, pending: Vec::new() }, past))
    }

    /// Makes it ready for entries: begins it, or cuts off what a crash left of the last one.
    pub fn ready(&mut self, terms: &Terms) -> io::Result<()> {
        if self.file.metadata()?.len() > self.length {
            self.file.set_len(self.length)?;
        }
        if self.length == 0 {
            self.begin(terms);
            self.flush()?;
        }
        Ok(())
    }

    /// One that nobody can find again, for an output that cannot be gone on with.
    pub fn nameless() -> Result<Self, String> {
        let folder = std::env::temp_dir();
        let path = folder.join(format!("keymux-batch-{}.journal", std::process::id()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file =
            file.map_err(|error| format!("{}: {error}; set TMPDIR to a folder with room", path.display()))?;
        // It lives as long as it is open.
        std::fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { path, out: None, file, length: 0, pending: Vec::new() })
    }

    fn begin(&mut self, terms: &Terms) {
        let header = Header { keymux_batch: VERSION, terms: terms.clone(), out: self.out.clone() };
        self.pending.extend(serde_json::to_string(&header).unwrap_or_default().bytes());
        self.pending.push(b'\n');
    }

    /// Its name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds an entry; it is in the file after [`Journal::flush`].
    pub fn add(&mut self, entry: &Entry) -> Place {
        let cost = entry.cost_nano_usd.map_or_else(|| "-".to_owned(), |cost| cost.to_string());
        let (seq, mark, kind, length) = (entry.seq, entry.mark, entry.kind.letter(), entry.text.len());
        let head = format!("L {seq} {mark:08x} {kind} {cost} {length}");
        let sum = checksum(&head, &entry.text);
        self.pending.extend(format!("{head} {sum:08x}\n").bytes());
        let offset = self.length + self.pending.len() as u64;
        self.pending.extend_from_slice(&entry.text);
        // No answer that is held whole comes near 4 GiB.
        Place { offset, length: u32::try_from(length).unwrap_or(u32::MAX), kind: entry.kind }
    }

    /// Adds a point.
    pub fn point(&mut self, point: Point) {
        let Point { next, out_bytes, errors_bytes } = point;
        let head = format!("P {next} {out_bytes} {errors_bytes}");
        let sum = checksum(&head, &[]);
        self.pending.extend(format!("{head} {sum:08x}\n").bytes());
    }

    /// Says, durably, that the output is written anew from its first line; with `retry_failed`, that lines which ended
    /// without an answer are not done.
    pub fn anew(&mut self, retry_failed: bool) -> io::Result<()> {
        let head = format!("N {}", u8::from(retry_failed));
        let sum = checksum(&head, &[]);
        self.pending.extend(format!("{head} {sum:08x}\n").bytes());
        self.flush()?;
        self.sync()
    }

    /// Hands what was added to the kernel.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.pending, self.length)?;
        self.length += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// Makes it durable.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Forgets all entries: nobody will ask for them.
    pub fn empty(&mut self) -> io::Result<()> {
        self.pending.clear();
        self.length = 0;
        self.file.set_len(0)
    }

    /// The text of an entry, which was flushed.
    pub fn text(&self, place: Place) -> io::Result<Vec<u8>> {
        let mut text = vec![0; place.length as usize];
        self.file.read_exact_at(&mut text, place.offset)?;
        Ok(text)
    }

    /// The batch is whole and every line has its answer in the output: what remains is which lines these were, so that a
    /// rerun finds nothing to do.
    pub fn shrink(mut self, terms: &Terms, point: Point) -> io::Result<()> {
        let mut from = BufReader::new(&self.file);
        from.seek(SeekFrom::Start(0))?;
        let mut entries = Entries { input: from, at: 0 };
        if !matches!(entries.header()?, Some(header) if header.keymux_batch == VERSION) {
            return Ok(());
        }
        let mut beside = self.path.clone().into_os_string();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        // Whatever else stands there is somebody's; the journal is as good at its full length.
        let is_ours = |mut found: Entries<_>| matches!(found.header(), Ok(Some(_)));
        if File::open(&beside).is_ok_and(|file| !is_ours(Entries { input: BufReader::new(file), at: 0 })) {
            return Ok(());
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        let mut small =
            Self { path: beside.clone(), out: self.out.clone(), file, length: 0, pending: Vec::new() };
        small.begin(terms);
        while let Some(found) = entries.next()? {
            if let Found::Entry(entry, _) = found {
                small.add(&Entry { text: Vec::new(), ..entry });
            }
            if small.pending.len() > 1 << 20 {
                small.flush()?;
            }
        }
        small.point(point);
        small.flush()?;
        small.sync()?;
        std::fs::rename(&beside, &self.path)?;
        self.pending.clear();
        Ok(())
    }
}

fn checksum(head: &str, text: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head.as_bytes());
    hasher.update(text);
    hasher.finalize()
}

/// Why a journal cannot be gone on with.
enum Unread {
    Io(io::Error),
    Foreign,
    Version(u32),
    Terms(Terms, Terms),
    /// It is of this output.
    Other(String),
    /// A byte is wrong behind this place, and whole entries follow.
    Damaged(u64),
    /// What was cut down to the marks of lines has lost its end.
    Cut,
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Unread {
    fn told(&self, path: &Path) -> String {
        let path = path.display();
        match self {
            Self::Io(error) => format!("{path}: {error}"),
            Self::Foreign => {
                format!("{path} is no journal of keymux batch; move it away, or give another -o or --journal")
            }
            Self::Version(version) => {
                format!(
                    "{path} was written in form {version}, by another version of keymux; go on with that one, or give another -o"
                )
            }
            Self::Other(out) => {
                format!("{path} is the journal of {out}; give -o as it was then, or another --journal")
            }
            Self::Damaged(at) => format!(
                "{path} is damaged behind byte {at}, and answers stand after it; nothing was touched. Put a sound copy in its \
                 place; or cut it there (truncate -s {at}) to go on, and pay again for what stands after it"
            ),
            Self::Cut => format!(
                "{path} was of a finished batch and has lost its end; nothing was touched. Put a sound copy in its place; or \
                 move the output away and delete the journal to begin anew and pay again"
            ),
            Self::Terms(then, now) => {
                format!(
                    "{path}: this output was begun otherwise: {}. Say the same again to go on; give another -o, or delete the \
                     journal and the output, to begin anew and pay again",
                    then.changed(now)
                )
            }
        }
    }
}

/// What stands at a place of the file.
enum Found {
    Entry(Entry, Place),
    Point(Point),
    /// The output was begun anew, and lines that ended without an answer perhaps forgotten.
    Anew(bool),
}

/// Reads what is whole.
struct Entries<R> {
    input: R,
    at: u64,
}

impl<R: io::BufRead> Entries<R> {
    fn line(&mut self, bytes_max: u64) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        let taken = (&mut self.input).take(bytes_max).read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Ok(None);
        }
        self.at += taken as u64;
        Ok(String::from_utf8(line).ok())
    }

    fn header(&mut self) -> io::Result<Option<Header>> {
        Ok(self.line(HEADER_BYTES_MAX)?.and_then(|line| serde_json::from_str(&line).ok()))
    }

    /// `None`: the end, or what a crash left of it.
    fn next(&mut self) -> io::Result<Option<Found>> {
        let Some(line) = self.line(HEAD_BYTES_MAX)? else { return Ok(None) };
        let Some((head, sum)) = line.rsplit_once(' ') else { return Ok(None) };
        let Ok(sum) = u32::from_str_radix(sum, 16) else { return Ok(None) };
        let words: Vec<&str> = head.split(' ').collect();
        match words[..] {
            ["L", seq, mark, kind, cost, length] => {
                let (Ok(seq), Ok(mark), Some(kind), Ok(length)) =
                    (seq.parse(), u32::from_str_radix(mark, 16), Kind::of(kind), length.parse::<u32>())
                else {
                    return Ok(None);
                };
                let place = Place { offset: self.at, length, kind };
                let mut text = Vec::new();
                let come = (&mut self.input).take(u64::from(length)).read_to_end(&mut text)?;
                if come as u64 != u64::from(length) || checksum(head, &text) != sum {
                    return Ok(None);
                }
                self.at += u64::from(length);
                let entry = Entry { seq, mark, kind, cost_nano_usd: cost.parse().ok(), text };
                Ok(Some(Found::Entry(entry, place)))
            }
            ["P", next, out, errors] => {
                let (Ok(next), Ok(out_bytes), Ok(errors_bytes)) = (next.parse(), out.parse(), errors.parse())
                else {
                    return Ok(None);
                };
                let point = Point { next, out_bytes, errors_bytes };
                Ok((checksum(head, &[]) == sum).then_some(Found::Point(point)))
            }
            ["N", retry_failed] => {
                Ok((checksum(head, &[]) == sum).then_some(Found::Anew(retry_failed == "1")))
            }
            _ => Ok(None),
        }
    }
}

/// Whether no line of it was answered, and no call cost anything.
fn is_worthless(file: &mut File, terms: &Terms, owner: &Owner) -> bool {
    read(file, terms, Look::default(), owner).is_ok_and(|(_, past)| past.counts[0] + past.spent_nano_usd == 0)
}

/// A crash cuts off the last entry. If a whole one stands behind what cannot be read, it was something else.
fn is_followed(file: &mut File, good: u64) -> io::Result<bool> {
    let mut at = good;
    loop {
        file.seek(SeekFrom::Start(at))?;
        let mut entries = Entries { input: BufReader::new(&mut *file), at };
        if at > good && entries.next()?.is_some() {
            return Ok(true);
        }
        file.seek(SeekFrom::Start(at))?;
        match BufReader::new(&mut *file).skip_until(b'\n')? {
            0 => return Ok(false),
            skipped => at += skipped as u64,
        }
    }
}

fn read(file: &mut File, terms: &Terms, look: Look, owner: &Owner) -> Result<(u64, Past), Unread> {
    let whole = file.metadata()?.len();
    let mut past = Past::default();
    if whole == 0 {
        return Ok((0, past));
    }
    file.seek(SeekFrom::Start(0))?;
    let mut entries = Entries { input: BufReader::with_capacity(1 << 20, file), at: 0 };
    let header = entries.header()?.ok_or(Unread::Foreign)?;
    if header.keymux_batch != VERSION {
        return Err(Unread::Version(header.keymux_batch));
    }
    if let Some(out) = header.out.filter(|out| owner.is_asked && *out != owner.out) {
        return Err(Unread::Other(out));
    }
    if header.terms != *terms {
        return Err(Unread::Terms(header.terms, terms.clone()));
    }
    let (mut good, mut anew) = (entries.at, 0);
    while let Some(found) = entries.next()? {
        good = entries.at;
        // What was written before the output was begun anew is not in it.
        let is_kept = look.afresh || good < look.anew_at;
        match found {
            Found::Entry(entry, place) => past.take(&entry, place, look),
            Found::Point(point) => {
                past.point = point;
                past.is_bare = false;
                if !is_kept {
                    // In order, what came early stays until its turn; else all that came was written.
                    past.unwritten.retain(|seq, _| !terms.unordered && *seq >= point.next);
                }
            }
            Found::Anew(retry_failed) => {
                anew = good;
                past.point = Point::default();
                if retry_failed {
                    past.forget_unanswered();
                }
            }
        }
    }
    if anew > look.anew_at && !look.afresh {
        return read(entries.input.into_inner(), terms, Look { anew_at: anew, ..look }, owner);
    }
    if good < whole && is_followed(entries.input.into_inner(), good)? {
        return Err(Unread::Damaged(good));
    }
    if past.is_bare {
        return Err(Unread::Cut);
    }
    if look.afresh {
        past.point = Point::default();
    }
    Ok((good, past))
}
