//! What is written to the log, byte by byte: frames that prove themselves by a checksum, and in them one entry each.
//!
//! A frame is `length u32 | crc32 u32 | position u64 | entry`, little-endian, padded to eight bytes. The checksum covers
//! the log's identity, length, position and entry, so a frame of an older log or of an earlier round of the ring is never
//! taken for one of this. Entries are a kind and then fields in a fixed order: numbers as LEB128, texts with their
//! length. A kind never changes its fields; a new set of fields is a new kind.
//!
//! Texts are made fit for every database here, once: no NUL (PostgreSQL refuses it, and a client can write one into a
//! model's name), and no more than [`TEXT_MAX`] bytes, so that an entry has a greatest length.

use crate::record::{CostSource, Record, Reservation, Used};
use std::sync::Arc;

/// Bytes of a frame's head.
pub(crate) const HEAD: usize = 16;
/// The longest text, in bytes.
pub(crate) const TEXT_MAX: usize = 255;
/// The most tags of a record, and the most holds that it closes.
pub(crate) const LIST_MAX: usize = 64;
/// The most tokens or nano-dollars of one row, far beyond what any answer takes: what a provider says may be anything,
/// and sums over a million such rows must still be numbers to a database.
const AMOUNT_MAX: u64 = 1 << 43;
/// No entry is longer: ten texts, the tags and the numbers of a record.
pub(crate) const ENTRY_MAX: usize = 32 * 1024;

const ROW: u8 = 1;
const RESERVE: u8 = 2;
const SETTLE: u8 = 3;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A request is over.
    Row(Box<Record>),
    /// Money was set aside under this number.
    Reserve(u64, Box<Reservation>),
    /// An attempt ended and cost this many nano-dollars; its request goes on.
    Settle(u64, u64),
}

/// What stands at a place of the log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    /// An entry, and the bytes of the whole frame.
    Whole(&'a [u8], usize),
    /// The buffer ends before the frame does; it would need this many bytes.
    Short(usize),
    /// No frame of this log and position.
    Bad,
}

fn checksum(log: u64, head: &[u8], at: u64, entry: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&log.to_le_bytes());
    crc.update(head);
    crc.update(&at.to_le_bytes());
    crc.update(entry);
    crc.finalize()
}

/// Puts a frame with this entry at the end of `out`. It has its place and its checksum once it is [`seal`]ed.
pub(crate) fn put_frame(out: &mut Vec<u8>, entry: impl FnOnce(&mut Vec<u8>)) {
    let begin = out.len();
    out.extend_from_slice(&[0; HEAD]);
    entry(out);
    let len = u32::try_from(out.len() - begin - HEAD).unwrap_or(u32::MAX);
    out[begin..begin + 4].copy_from_slice(&len.to_le_bytes());
    out.resize(begin + (out.len() - begin).next_multiple_of(8), 0);
}

/// Completes the frames, of which the first will stand at `at` of the log.
pub(crate) fn seal(frames: &mut [u8], log: u64, mut at: u64) {
    let mut rest = frames;
    while rest.len() >= HEAD {
        let len: [u8; 4] = array(rest, 0);
        let entry = HEAD..HEAD + u32::from_le_bytes(len) as usize;
        let whole = entry.end.next_multiple_of(8).min(rest.len());
        let (frame, behind) = rest.split_at_mut(whole);
        let crc = checksum(log, &len, at, &frame[entry]);
        frame[4..8].copy_from_slice(&crc.to_le_bytes());
        frame[8..HEAD].copy_from_slice(&at.to_le_bytes());
        at += whole as u64;
        rest = behind;
    }
}

fn array<const N: usize>(bytes: &[u8], from: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[from..from + N]);
    out
}

/// The position that a frame claims, if there are bytes enough to say one.
pub(crate) fn claimed(bytes: &[u8]) -> Option<u64> {
    (bytes.len() >= HEAD).then(|| u64::from_le_bytes(array(bytes, 8)))
}

/// The frame at the beginning of `bytes`, which stand at `at` of the log.
pub(crate) fn frame(bytes: &[u8], log: u64, at: u64) -> Frame<'_> {
    if bytes.len() < HEAD {
        return Frame::Short(HEAD);
    }
    let len: [u8; 4] = array(bytes, 0);
    let size = u32::from_le_bytes(len) as usize;
    if size == 0 || size > ENTRY_MAX || claimed(bytes) != Some(at) {
        return Frame::Bad;
    }
    let whole = (HEAD + size).next_multiple_of(8);
    if bytes.len() < whole {
        return Frame::Short(whole);
    }
    let entry = &bytes[HEAD..HEAD + size];
    if checksum(log, &len, at, entry).to_le_bytes() == array(bytes, 4) {
        Frame::Whole(entry, whole)
    } else {
        Frame::Bad
    }
}

fn put(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    out.push((n & 0x7f) as u8);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let cut = text.floor_char_boundary(TEXT_MAX);
    let text = &text[..cut];
    let clean = if text.contains('\0') { &*text.replace('\0', "") } else { text };
    put(out, clean.len() as u64);
    out.extend_from_slice(clean.as_bytes());
}

fn put_option(out: &mut Vec<u8>, n: Option<u64>) {
    out.push(u8::from(n.is_some()));
    put(out, n.unwrap_or(0));
}

/// Writes a record as an entry.
pub(crate) fn put_row(out: &mut Vec<u8>, r: &Record) {
    out.push(ROW);
    for text in
        [&*r.id, &r.client, &r.team, &r.endpoint, &r.model, &r.provider, &r.key, &r.account, &r.outcome]
    {
        put_text(out, text);
    }
    out.push(u8::from(r.generation.is_some()));
    put_text(out, r.generation.as_deref().unwrap_or(""));
    put(out, r.tags.len().min(LIST_MAX) as u64);
    r.tags.iter().take(LIST_MAX).for_each(|t| put_text(out, t));
    put(out, r.holds.len().min(LIST_MAX) as u64);
    r.holds.iter().take(LIST_MAX).for_each(|h| put(out, *h));
    let u = &r.used;
    for n in [
        u64::from(r.status),
        u64::from(r.attempts),
        r.queue_ns,
        r.total_ns,
        r.started_unix_ms,
        r.charged_unix_ms,
    ] {
        put(out, n);
    }
    put_option(out, r.first_output_ns);
    for n in [
        u.input_tokens,
        u.cached_input_tokens,
        u.cache_write_tokens,
        u.input_audio_tokens,
        u.output_tokens,
        u.reasoning_tokens,
        u.output_audio_tokens,
    ] {
        put(out, n);
    }
    put_option(out, u.cost_nano_usd);
    out.push(u.cost_source.code());
    out.push(u8::from(u.estimated));
}

/// Writes a reservation under its number as an entry.
pub(crate) fn put_reserve(out: &mut Vec<u8>, hold: u64, r: &Reservation) {
    out.push(RESERVE);
    put(out, hold);
    for text in [&*r.request, &r.client, &r.team, &r.model, &r.provider, &r.key, &r.account, &r.endpoint] {
        put_text(out, text);
    }
    put(out, r.at_unix_ms);
    put(out, r.cost_nano_usd);
}

/// Writes the end of an attempt as an entry.
pub(crate) fn put_settle(out: &mut Vec<u8>, hold: u64, cost_nano_usd: u64) {
    out.push(SETTLE);
    put(out, hold);
    put(out, cost_nano_usd);
}

/// Reads an entry; `None` if it is none that this version knows.
pub(crate) fn entry(bytes: &[u8]) -> Option<Entry> {
    let mut fields = Fields { rest: bytes };
    match fields.byte()? {
        ROW => fields.row().map(|r| Entry::Row(Box::new(r))),
        RESERVE => Some(Entry::Reserve(fields.number()?, Box::new(fields.reservation()?))),
        SETTLE => Some(Entry::Settle(fields.number()?, fields.number()?)),
        _ => None,
    }
}

struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            n |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(n);
            }
        }
        None
    }

    fn text(&mut self) -> Option<&'a str> {
        let len = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        std::str::from_utf8(text).ok()
    }

    fn shared(&mut self) -> Option<Arc<str>> {
        self.text().map(Arc::from)
    }

    #[expect(clippy::option_option, reason = "outside: whether it can be read; inside: what was written")]
    fn option(&mut self) -> Option<Option<u64>> {
        let some = self.byte()? == 1;
        let n = self.number()?;
        Some(some.then_some(n))
    }

    fn list<T>(&mut self, one: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let len = usize::try_from(self.number()?).ok().filter(|n| *n <= LIST_MAX)?;
        (0..len).map(|_| one(self)).collect()
    }

    fn row(&mut self) -> Option<Record> {
        Some(Record {
            id: self.shared()?,
            client: self.shared()?,
            team: self.shared()?,
            endpoint: self.text()?.to_owned().into(),
            model: self.text()?.to_owned(),
            provider: self.shared()?,
            key: self.shared()?,
            account: self.shared()?,
            outcome: self.text()?.to_owned().into(),
            generation: {
                let some = self.byte()? == 1;
                let text = self.shared()?;
                some.then_some(text)
            },
            tags: self.list(Self::shared)?,
            holds: self.list(Self::number)?,
            status: u16::try_from(self.number()?).ok()?,
            attempts: u32::try_from(self.number()?).ok()?,
            queue_ns: self.number()?,
            total_ns: self.number()?,
            started_unix_ms: self.number()?,
            charged_unix_ms: self.number()?,
            first_output_ns: self.option()?,
            used: self.used()?,
        })
    }

    fn amount(&mut self) -> Option<u64> {
        self.number().map(|n| n.min(AMOUNT_MAX))
    }

    fn used(&mut self) -> Option<Used> {
        Some(Used {
            input_tokens: self.amount()?,
            cached_input_tokens: self.amount()?,
            cache_write_tokens: self.amount()?,
            input_audio_tokens: self.amount()?,
            output_tokens: self.amount()?,
            reasoning_tokens: self.amount()?,
            output_audio_tokens: self.amount()?,
            cost_nano_usd: self.option()?.map(|cost| cost.min(AMOUNT_MAX)),
            cost_source: CostSource::from_code(u64::from(self.byte()?))?,
            estimated: self.byte()? == 1,
        })
    }

    fn reservation(&mut self) -> Option<Reservation> {
        Some(Reservation {
            request: self.shared()?,
            client: self.shared()?,
            team: self.shared()?,
            model: self.shared()?,
            provider: self.shared()?,
            key: self.shared()?,
            account: self.shared()?,
            endpoint: self.text()?.to_owned().into(),
            at_unix_ms: self.number()?,
            cost_nano_usd: self.number()?,
        })
    }
}
