//! Server-sent events, found in the chunks of a stream as they pass.
//!
//! Why our own: a relay sends the bytes on first and looks at them second, so it needs to know where events begin and
//! end in the stream, not to own them. An event that lies inside one chunk is borrowed from it and costs one pass of
//! memchr; only one that is split over chunks is copied, into a buffer with a cap. Beyond the cap an event is passed
//! on unread ([`Event::oversized`]) rather than kept or refused.
//!
//! The grammar is WHATWG HTML 9.2: lines end in LF, CR LF or CR, a blank line ends an event, a byte order mark may
//! stand at the start. Two things differ, because a relay must account for every byte: blocks without data (comments,
//! blank lines) are reported too, and the raw lengths of all reports add up to what was fed. A CR that ends an event
//! ends it at once, without waiting for an LF; if one follows in the next chunk, it belongs to the next report.
//!
//! What an event means is not known here; see [`crate::stream`].

#[cfg(test)]
mod tests;

use memchr::memchr2;

/// The cap on the buffer for split events, in bytes, unless another is asked for.
pub const CARRY_BYTES_MAX: usize = 1 << 20;

/// A buffer that grew beyond this is given back after use, in bytes.
const CARRY_BYTES_KEPT: usize = 64 << 10;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// One event, or another block of the stream that ends in a blank line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// The name, from the last `event:` line. `None` also if it is not UTF-8.
    pub event: Option<&'a str>,
    /// The data lines, joined by LF; borrowed from the chunk if the event lies in it and has one data line.
    pub data: &'a [u8],
    /// The block holds nothing but comments and blank lines: a sign of life.
    pub comment_only: bool,
    /// Too large to be kept: these bytes are part of an event that is passed on unread. More parts may follow.
    pub oversized: bool,
    /// A blank line ended it. False for what is left when the stream ends, and for parts of an oversized event.
    pub complete: bool,
    /// Where it starts, in bytes from the start of the stream.
    pub start: u64,
    /// How many bytes of the stream it takes, its blank line included.
    pub raw_len: usize,
}

/// Finds events in a stream that is fed chunk by chunk.
#[derive(Debug)]
pub struct Scanner {
    /// The start of an event whose end has not come yet.
    carry: Vec<u8>,
    carry_max: usize,
    /// Several data lines, joined.
    joined: Vec<u8>,
    lines: Lines,
    /// The event at hand follows a CR, so that an LF at its start belongs to that line end.
    after_cr: bool,
    /// In the middle of an event that is too large.
    skipping: bool,
    /// Bytes of the stream that were reported.
    reported: u64,
}

/// How far the search for a blank line got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lines {
    line_is_empty: bool,
    after_cr: bool,
}

/// What the lines of one event say. Ranges are within the event's raw bytes.
#[derive(Debug, Default)]
struct Parsed {
    name: Option<(usize, usize)>,
    /// The first data line.
    data: (usize, usize),
    data_lines: u32,
    /// Any line that is neither blank nor a comment.
    has_field: bool,
    len: usize,
    /// The event ended in a CR at the very end of the bytes.
    ends_in_cr: bool,
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new(CARRY_BYTES_MAX)
    }
}

impl Scanner {
    /// A scanner that keeps at most `carry_max` bytes of an event that is split over chunks.
    pub fn new(carry_max: usize) -> Self {
        Scanner {
            carry: Vec::new(),
            carry_max,
            joined: Vec::new(),
            lines: Lines { line_is_empty: true, after_cr: false },
            after_cr: false,
            skipping: false,
            reported: 0,
        }
    }

    /// Bytes that were fed and not yet reported, because their event has not ended.
    pub fn pending(&self) -> usize {
        self.carry.len()
    }

    /// Takes the next chunk and reports every event that ends in it.
    pub fn feed(&mut self, chunk: &[u8], sink: &mut impl FnMut(Event<'_>)) {
        let mut at = 0;
        if self.skipping || !self.carry.is_empty() {
            at = match self.lines.find_end(chunk) {
                Some(end) => end,
                None => return self.keep(chunk, sink),
            };
            self.finish_split(&chunk[..at], sink);
        }
        while at < chunk.len() {
            let rest = &chunk[at..];
            match parse(rest, self.reported == 0, self.after_cr, false) {
                Ok(parsed) => {
                    at += parsed.len;
                    self.after_cr = parsed.ends_in_cr;
                    report(&parsed, rest, &mut self.reported, &mut self.joined, true, sink);
                }
                Err(lines) => {
                    self.lines = lines;
                    return self.keep(rest, sink);
                }
            }
        }
    }

    /// The stream has ended: reports what is left, which no blank line ended.
    pub fn finish(&mut self, sink: &mut impl FnMut(Event<'_>)) {
        if self.carry.is_empty() {
            return;
        }
        let raw = std::mem::take(&mut self.carry);
        if let Ok(parsed) = parse(&raw, self.reported == 0, self.after_cr, true) {
            report(&parsed, &raw, &mut self.reported, &mut self.joined, false, sink);
        }
    }

    /// The event that was split ends with these bytes.
    fn finish_split(&mut self, last: &[u8], sink: &mut impl FnMut(Event<'_>)) {
        let ends_in_cr = self.lines.after_cr;
        if self.skipping {
            self.skipping = false;
            self.report_oversized(last.len(), true, sink);
        } else {
            self.carry.extend_from_slice(last);
            let raw = std::mem::take(&mut self.carry);
            if let Ok(parsed) = parse(&raw, self.reported == 0, self.after_cr, false) {
                report(&parsed, &raw, &mut self.reported, &mut self.joined, true, sink);
            }
            self.carry = raw;
            self.carry.clear();
            self.carry.shrink_to(CARRY_BYTES_KEPT);
        }
        self.after_cr = ends_in_cr;
    }

    /// Keeps the bytes of an event that has not ended, or passes them on if they are too many.
    fn keep(&mut self, bytes: &[u8], sink: &mut impl FnMut(Event<'_>)) {
        if self.skipping {
            return self.report_oversized(bytes.len(), false, sink);
        }
        if self.carry.len() + bytes.len() > self.carry_max {
            self.skipping = true;
            let len = self.carry.len() + bytes.len();
            self.carry = Vec::new();
            return self.report_oversized(len, false, sink);
        }
        self.carry.extend_from_slice(bytes);
    }

    fn report_oversized(&mut self, raw_len: usize, complete: bool, sink: &mut impl FnMut(Event<'_>)) {
        if raw_len == 0 {
            return;
        }
        let start = self.reported;
        self.reported += raw_len as u64;
        let data = &[];
        sink(Event { event: None, data, comment_only: false, oversized: true, complete, start, raw_len });
    }
}

impl Lines {
    /// The offset after the blank line that ends the event, if it comes in this chunk.
    fn find_end(&mut self, chunk: &[u8]) -> Option<usize> {
        let mut at = 0;
        loop {
            if self.after_cr && at < chunk.len() {
                self.after_cr = false;
                at += usize::from(chunk[at] == b'\n');
            }
            let Some(line) = memchr2(b'\n', b'\r', &chunk[at..]) else {
                self.line_is_empty &= at == chunk.len();
                return None;
            };
            let blank = self.line_is_empty && line == 0;
            let cr = chunk[at + line] == b'\r';
            at += line + 1;
            self.line_is_empty = true;
            self.after_cr = cr;
            if blank {
                if cr && chunk.get(at) == Some(&b'\n') {
                    self.after_cr = false;
                    at += 1;
                }
                return Some(at);
            }
        }
    }
}

/// Reads the lines of one event from the start of `bytes`. If its blank line is not there: how far the search got,
/// or, with `at_end`, the event as far as it came.
fn parse(bytes: &[u8], at_stream_start: bool, after_cr: bool, at_end: bool) -> Result<Parsed, Lines> {
    let mut parsed = Parsed::default();
    let mut at = usize::from(after_cr && bytes.first() == Some(&b'\n'));
    let mut last_cr = false;
    let mut first = at_stream_start;
    loop {
        // The blank line is looked at first: most events have one line.
        let found = if bytes.get(at) == Some(&b'\n') { Some(0) } else { memchr2(b'\n', b'\r', &bytes[at..]) };
        let Some(len) = found else {
            if at_end {
                let skip = if first && bytes[at..].starts_with(BOM) { BOM.len() } else { 0 };
                parsed.line(bytes, at + skip, bytes.len());
                parsed.len = bytes.len();
                return Ok(parsed);
            }
            return Err(Lines { line_is_empty: at == bytes.len(), after_cr: last_cr && at == bytes.len() });
        };
        let end = at + len;
        let mut next = end + 1;
        last_cr = bytes[end] == b'\r';
        if last_cr && bytes.get(next) == Some(&b'\n') {
            next += 1;
            last_cr = false;
        }
        if len == 0 {
            parsed.len = next;
            parsed.ends_in_cr = last_cr;
            return Ok(parsed);
        }
        let skip = if first && bytes[at..end].starts_with(BOM) { BOM.len() } else { 0 };
        first = false;
        parsed.line(bytes, at + skip, end);
        at = next;
    }
}

impl Parsed {
    /// Takes in one line, its end excluded.
    fn line(&mut self, bytes: &[u8], start: usize, end: usize) {
        let line = &bytes[start..end];
        if line.is_empty() || line[0] == b':' {
            return;
        }
        self.has_field = true;
        if let Some(value) = value_of(line, b"data") {
            self.data_lines += 1;
            if self.data_lines == 1 {
                self.data = (start + value, end);
            }
        } else if let Some(value) = value_of(line, b"event") {
            self.name = Some((start + value, end));
        }
    }
}

/// Where the value of the field begins in a line, if the line is that field's.
fn value_of(line: &[u8], field: &[u8]) -> Option<usize> {
    let rest = line.strip_prefix(field)?;
    match rest {
        [] => Some(field.len()),
        [b':', b' ', ..] => Some(field.len() + 2),
        [b':', ..] => Some(field.len() + 1),
        _ => None,
    }
}

fn report(
    parsed: &Parsed,
    bytes: &[u8],
    reported: &mut u64,
    joined: &mut Vec<u8>,
    complete: bool,
    sink: &mut impl FnMut(Event<'_>),
) {
    let raw = &bytes[..parsed.len];
    let data = if parsed.data_lines > 1 {
        join_data(raw, *reported == 0, joined);
        joined.as_slice()
    } else {
        &raw[parsed.data.0..parsed.data.1]
    };
    let event = parsed.name.and_then(|(start, end)| std::str::from_utf8(&raw[start..end]).ok());
    let start = *reported;
    *reported += raw.len() as u64;
    let comment_only = !parsed.has_field;
    sink(Event { event, data, comment_only, oversized: false, complete, start, raw_len: raw.len() });
}

/// Joins the data lines of an event by LF.
fn join_data(raw: &[u8], at_stream_start: bool, joined: &mut Vec<u8>) {
    joined.clear();
    let mut rest = if at_stream_start { raw.strip_prefix(BOM).unwrap_or(raw) } else { raw };
    let mut first = true;
    while !rest.is_empty() {
        let end = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        if let Some(value) = value_of(&rest[..end], b"data") {
            if !std::mem::take(&mut first) {
                joined.push(b'\n');
            }
            joined.extend_from_slice(&rest[value..end]);
        }
        rest = rest.get(end + 1..).unwrap_or_default();
    }
}
