//! The lines of a batch, as they stand in a file, a compressed file or a pipe: numbered as an editor numbers them, with
//! all that can be wrong with bytes told by that number. Reads ahead of nothing and holds one line at a time.

use super::line::{self, Bad, Call};
use flate2::read::MultiGzDecoder;
use std::collections::HashSet;
use std::fs::File;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Longest line. What is longer is told of and skipped, never held.
pub const LINE_BYTES_MAX: usize = 32 << 20;
const BUFFER_BYTES: usize = 128 << 10;

/// Where a batch comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Standard input.
    Stdin,
    /// A file; compressed if its name ends in `.gz`.
    File(PathBuf),
}

/// By what a change of a file is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
}

impl Source {
    /// What `-` and paths mean.
    pub fn of(path: &Path) -> Self {
        if path.as_os_str() == "-" { Self::Stdin } else { Self::File(path.to_owned()) }
    }

    /// Its name, for people.
    pub fn shown(&self) -> String {
        match self {
            Self::Stdin => "standard input".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }

    /// Opens it. Errors name it.
    pub fn open(&self) -> Result<Box<dyn BufRead + Send>, String> {
        match self {
            Self::Stdin => Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, io::stdin()))),
            Self::File(path) => {
                let shown = |error: io::Error| {
                    format!("{}: {error}; give a file of one JSON object a line", path.display())
                };
                let file = File::open(path).map_err(shown)?;
                if file.metadata().map_err(shown)?.is_dir() {
                    return Err(format!(
                        "{} is a folder; give a file of one JSON object a line",
                        path.display()
                    ));
                }
                Ok(reader(file, is_gzip(path)))
            }
        }
    }

    /// Whether it can be opened, as far as that can be known without taking anything of it.
    ///
    /// # Errors
    /// It names it.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Stdin => Ok(()),
            // Who opens a pipe and leaves it ends its writer.
            Self::File(path) if !self.is_lasting() && path.exists() && !path.is_dir() => Ok(()),
            Self::File(_) => self.open().map(drop),
        }
    }

    /// How the file looks from outside; `None` for what is no file, where nothing can be told.
    pub fn stamp(&self) -> Option<Stamp> {
        let Self::File(path) = self else { return None };
        let seen = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
        Some(Stamp { bytes: seen.len(), modified: seen.modified().ok() })
    }

    /// Whether it is decompressed.
    pub fn is_gzip(&self) -> bool {
        matches!(self, Self::File(path) if is_gzip(path))
    }

    /// Whether it can be read more than once.
    pub fn is_lasting(&self) -> bool {
        self.stamp().is_some()
    }
}

/// Whether a file of this name is compressed.
pub fn is_gzip(path: &Path) -> bool {
    path.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("gz"))
}

fn reader(input: impl Read + Send + 'static, gzip: bool) -> Box<dyn BufRead + Send> {
    let input = BufReader::with_capacity(BUFFER_BYTES, input);
    if gzip {
        Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(input)))
    } else {
        Box::new(input)
    }
}

/// A line before it is understood.
#[derive(Debug)]
pub struct Raw {
    /// Its place among the lines that are not blank, from 0.
    pub seq: u64,
    /// Its number in the file, from 1.
    pub number: u64,
    /// A mark of its bytes, by which a changed one is known; never 0.
    pub mark: u32,
    /// Its text, or why it is none.
    pub text: Result<String, Bad>,
}

/// A line.
#[derive(Debug)]
pub struct Item {
    /// Its place among the lines that are not blank, from 0.
    pub seq: u64,
    /// Its number in the file, from 1.
    pub number: u64,
    /// A mark of its bytes.
    pub mark: u32,
    /// What it asks for.
    pub what: Result<Call, Bad>,
}

/// Reads lines.
pub struct Lines<R> {
    input: R,
    bytes_max: usize,
    number: u64,
    seq: u64,
}

impl<R: BufRead> Lines<R> {
    /// The lines of this input.
    pub fn new(input: R) -> Self {
        Self { input, bytes_max: LINE_BYTES_MAX, number: 0, seq: 0 }
    }

    /// Lines that were seen, blank ones included.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The next line that is not blank.
    pub fn line(&mut self) -> io::Result<Option<Raw>> {
        loop {
            let mut bytes = Vec::new();
            let Some((length, mark)) = self.piece(&mut bytes)? else { return Ok(None) };
            self.number += 1;
            if self.number == 1 && bytes.starts_with(b"\xef\xbb\xbf") {
                bytes.drain(..3);
            }
            let text = if length > self.bytes_max {
                let told = format!("it is {length} bytes long; {} is the most", self.bytes_max);
                Err(Bad::new("line_too_long", told))
            } else {
                String::from_utf8(bytes).map_err(|error| not_text(self.number, &error))
            };
            let text = text.map(|mut text| {
                text.truncate(text.trim_end().len());
                text.drain(..text.len() - text.trim_start().len());
                text
            });
            if text.as_ref().is_ok_and(String::is_empty) {
                continue;
            }
            let mark = text.as_ref().map_or(mark, |text| crc32fast::hash(text.as_bytes())).max(1);
            let raw = Raw { seq: self.seq, number: self.number, mark, text };
            self.seq += 1;
            return Ok(Some(raw));
        }
    }

    /// Takes the bytes up to the end of the line, as far as they are wanted: how many there were, and their mark.
    fn piece(&mut self, bytes: &mut Vec<u8>) -> io::Result<Option<(usize, u32)>> {
        let (mut length, mut hasher) = (0, crc32fast::Hasher::new());
        loop {
            let come = match self.input.fill_buf() {
                Ok(come) => come,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if come.is_empty() {
                return Ok((length > 0).then(|| (length, hasher.finalize())));
            }
            let end = memchr::memchr(b'\n', come);
            let taken = &come[..end.unwrap_or(come.len())];
            length += taken.len();
            if length <= self.bytes_max {
                bytes.extend_from_slice(taken);
            } else {
                hasher.update(taken);
                *bytes = Vec::new();
            }
            let used = taken.len() + usize::from(end.is_some());
            self.input.consume(used);
            if end.is_some() {
                return Ok(Some((length, hasher.finalize())));
            }
        }
    }
}

fn not_text(number: u64, error: &std::string::FromUtf8Error) -> Bad {
    let bytes = error.as_bytes();
    if number == 1 && (bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff")) {
        return Bad::new("invalid_utf8", "the file is UTF-16; save it as UTF-8");
    }
    let at = error.utf8_error().valid_up_to() + 1;
    Bad::new("invalid_utf8", format!("byte {at} is no UTF-8; save the file as UTF-8"))
}

/// Makes calls of lines, and sees to it that no two have the same name.
pub struct Calls {
    model: Option<String>,
    /// Hashes of the names that lines gave themselves: 8 bytes each, whatever their length.
    named: HashSet<u64>,
}

impl Calls {
    /// `model` is for lines that name none.
    pub fn new(model: Option<String>) -> Self {
        Self { model, named: HashSet::new() }
    }

    /// Reads a line.
    pub fn read(&mut self, raw: Raw) -> Item {
        let Raw { seq, number, mark, text } = raw;
        let what = text.and_then(|text| line::read(&text, number, self.model.as_deref()));
        let what = what.and_then(|call| self.once(number, call));
        Item { seq, number, mark, what }
    }

    fn once(&mut self, number: u64, call: Call) -> Result<Call, Bad> {
        if call.custom_id.strip_prefix("line-").is_some_and(|n| n.parse() == Ok(number)) {
            return Ok(call);
        }
        let mut hasher = DefaultHasher::new();
        hasher.write(call.custom_id.as_bytes());
        if self.named.insert(hasher.finish()) {
            return Ok(call);
        }
        let shown: String = call.custom_id.chars().take(120).collect();
        let told =
            format!("its custom_id `{shown}` is that of an earlier line; give each line one of its own");
        Err(Bad { custom_id: Some(call.custom_id), ..Bad::new("duplicate_custom_id", told) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> Vec<Raw> {
        let mut lines = Lines { bytes_max: 40, ..Lines::new(BufReader::with_capacity(7, bytes)) };
        std::iter::from_fn(|| lines.line().unwrap()).collect()
    }

    fn texts(bytes: &[u8]) -> Vec<(u64, u64, String)> {
        let told = |raw: Raw| (raw.seq, raw.number, raw.text.unwrap_or_else(|bad| bad.code.to_owned()));
        lines(bytes).into_iter().map(told).collect()
    }

    #[test]
    fn lines_have_the_numbers_of_an_editor_and_blank_ones_are_none() {
        let bytes = b"\xef\xbb\xbf{\"a\":1}\r\n\r\n  \n {\"b\":2}\n{\"c\":3}";
        let expected = [(0, 1, "{\"a\":1}"), (1, 4, "{\"b\":2}"), (2, 5, "{\"c\":3}")];
        assert_eq!(texts(bytes), expected.map(|(s, n, t)| (s, n, t.to_owned())));
        assert!(texts(b"").is_empty() && texts(b"\n\n").is_empty());
    }

    #[test]
    fn a_line_that_is_no_text_or_too_long_does_not_hide_the_next() {
        let mut bytes = vec![b'x'; 41];
        bytes.extend_from_slice(b"\nab\xff\n{}\n");
        let found = lines(&bytes);
        assert_eq!(found[0].text.as_ref().unwrap_err().message, "it is 41 bytes long; 40 is the most");
        assert!(found[1].text.as_ref().unwrap_err().message.starts_with("byte 3 is no UTF-8"));
        assert_eq!(found[2].text.as_deref(), Ok("{}"));
        assert!(lines(b"\xff\xfe{\x00")[0].text.as_ref().unwrap_err().message.contains("UTF-16"));
        let longest = vec![b'x'; 40];
        assert!(lines(&longest)[0].text.is_ok());
    }

    #[test]
    fn the_mark_of_a_line_is_that_of_its_text_and_of_nothing_else() {
        let of = |bytes: &[u8]| lines(bytes).remove(0).mark;
        assert_eq!(of(b"{\"a\":1}\r\n"), of(b"\n {\"a\":1}"));
        assert_ne!(of(b"{\"a\":1}"), of(b"{\"a\":2}"));
        assert_ne!(of(&[b'x'; 50]), of(&[b'x'; 51]), "one that is too long has a mark too");
    }

    #[test]
    fn the_second_line_of_a_name_is_kept_out_and_names_that_we_gave_are_no_twins() {
        let bytes = b"{\"id\":\"a\",\"prompt\":\"\"}\n{\"prompt\":\"\"}\n{\"id\":\"a\",\"prompt\":\"x\"}\n{\"prompt\":\"\"}\n{\"id\":\"line-2\",\"prompt\":\"\"}";
        let mut calls = Calls::new(Some("m".to_owned()));
        let mut lines = Lines::new(&bytes[..]);
        let found: Vec<Item> =
            std::iter::from_fn(|| lines.line().unwrap().map(|raw| calls.read(raw))).collect();
        let bad = found[2].what.as_ref().unwrap_err();
        assert_eq!((bad.code, bad.custom_id.as_deref()), ("duplicate_custom_id", Some("a")));
        assert_eq!(found.iter().filter(|item| item.what.is_ok()).count(), 4);
    }

    #[test]
    fn a_compressed_file_is_read_over_all_its_parts() {
        use std::io::Write as _;
        let mut packed = Vec::new();
        for part in ["{\"a\":1}\n{\"b\"", ":2}\n"] {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(part.as_bytes()).unwrap();
            packed.extend(encoder.finish().unwrap());
        }
        let mut lines = Lines::new(reader(io::Cursor::new(packed.clone()), true));
        let texts: Vec<String> =
            std::iter::from_fn(|| lines.line().unwrap()).map(|raw| raw.text.unwrap()).collect();
        assert_eq!(texts, ["{\"a\":1}", "{\"b\":2}"]);
        packed.truncate(packed.len() - 5);
        let mut lines = Lines::new(reader(io::Cursor::new(packed), true));
        assert!(std::iter::from_fn(|| lines.line().transpose()).any(|line| line.is_err()), "a cut is no end");
    }
}
