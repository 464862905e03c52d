//! The fields of a head: one piece of memory, and where in it names and values stand.

use super::Garbage;
use bytes::Bytes;

/// Most fields of a head.
pub(crate) const HEAD_FIELDS_MAX: usize = 100;

/// The fields of a head. Names are in lower case.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    text: Bytes,
    fields: Vec<Field>,
}

/// Where a field stands in the head's text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    name: Place,
    value: Place,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    start: u32,
    end: u32,
}

impl Place {
    fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// Where the fields that were read in `input` stand.
pub(crate) fn places(input: &[u8], headers: &[httparse::Header<'_>]) -> Result<Vec<Field>, Garbage> {
    let base = input.as_ptr().addr();
    let place = |part: &[u8]| {
        // An empty value may point anywhere.
        let start = if part.is_empty() { 0 } else { part.as_ptr().addr() - base };
        let to_u32 = |n: usize| u32::try_from(n).map_err(|_| Garbage("its head is too long"));
        Ok(Place { start: to_u32(start)?, end: to_u32(start + part.len())? })
    };
    let field =
        |h: &httparse::Header<'_>| Ok(Field { name: place(h.name.as_bytes())?, value: place(h.value)? });
    headers.iter().map(field).collect()
}

/// Puts the names of these fields into lower case.
pub(crate) fn lowered(text: &mut [u8], fields: &[Field]) {
    for field in fields {
        text[field.name.range()].make_ascii_lowercase();
    }
}

impl Fields {
    /// These places in this text, whose names are in lower case.
    pub(crate) fn new(text: Bytes, fields: Vec<Field>) -> Self {
        Self { text, fields }
    }

    /// Fields with these names, which are in lower case, and values.
    pub fn of(pairs: &[(&str, &[u8])]) -> Self {
        let mut text = Vec::new();
        let mut place = |part: &[u8]| {
            let start = u32::try_from(text.len()).unwrap_or(u32::MAX);
            text.extend_from_slice(part);
            Place { start, end: u32::try_from(text.len()).unwrap_or(u32::MAX) }
        };
        let fields =
            pairs.iter().map(|(n, v)| Field { name: place(n.as_bytes()), value: place(v) }).collect();
        Self { text: text.into(), fields }
    }

    /// All fields, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        self.fields.iter().map(|field| (&self.text[field.name.range()], &self.text[field.value.range()]))
    }

    /// All fields, in order; each with the line that it was written in, where that is as we would write it.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8], Option<&[u8]>)> {
        self.fields.iter().map(|field| {
            let (name, value) = (field.name.range(), field.value.range());
            let is_plain = value.start == name.end + 2
                && self.text[name.end..].starts_with(b": ")
                && self.text[value.end..].starts_with(b"\r\n");
            let line = is_plain.then(|| &self.text[name.start..value.end + 2]);
            (&self.text[name], &self.text[value], line)
        })
    }

    /// The values of this name, which is in lower case.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let named = move |field: &&Field| self.text[field.name.range()] == *name.as_bytes();
        self.fields.iter().filter(named).map(|field| &self.text[field.value.range()])
    }

    /// The first value of this name, which is in lower case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// The first value of this name, if it is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok()).filter(|text| text.is_ascii())
    }

    /// Whether there is such a field.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}

/// Whether a comma-separated list, such as the one of `Connection`, has this word, which is in lower case.
pub(crate) fn is_listed(list: &[u8], word: &[u8]) -> bool {
    list.split(|b| *b == b',').any(|w| w.trim_ascii().eq_ignore_ascii_case(word))
}

/// A length: digits and nothing else, or `+5` and `0x5` would mean different bodies to different readers.
pub(crate) fn length(text: &[u8]) -> Result<u64, Garbage> {
    let wrong = Garbage("its Content-Length is not a length");
    if text.is_empty() {
        return Err(wrong);
    }
    text.iter().try_fold(0_u64, |n, digit| match digit {
        b'0'..=b'9' => n.checked_mul(10).and_then(|n| n.checked_add(u64::from(digit - b'0'))).ok_or(wrong),
        _ => Err(wrong),
    })
}
