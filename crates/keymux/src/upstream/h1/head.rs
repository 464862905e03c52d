//! The head of an answer: read whole, kept as one piece of memory with its fields as places in it, and the framing of
//! the body that it announces. What can be read in two ways is refused: whoever guesses wrong hands one client's
//! answer to the next.

use super::Garbage;
use bytes::Bytes;
use http::StatusCode;
use std::mem::MaybeUninit;

/// Longest head of an answer that is read. Providers send 1 to 4 KB.
pub(super) const HEAD_BYTES_MAX: usize = 64 << 10;
/// Most fields of a head.
const FIELDS_MAX: usize = 100;

/// The head of an answer. Names are in lower case.
#[derive(Clone, Debug)]
pub struct Head {
    /// The status.
    pub status: StatusCode,
    text: Bytes,
    fields: Vec<Field>,
}

/// Where a field stands in the head's text.
#[derive(Clone, Copy, Debug)]
struct Field {
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

impl Head {
    /// Reads a whole head.
    #[cfg(test)]
    pub(crate) fn read(text: &[u8]) -> Option<Self> {
        Some(parse(text).ok()??.head)
    }

    /// All fields, in order.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> + Clone {
        self.fields.iter().map(|field| {
            let name = std::str::from_utf8(&self.text[field.name.range()]).unwrap_or_default();
            (name, &self.text[field.value.range()])
        })
    }

    /// All fields, with their values as parts of the head's memory.
    pub fn shared(&self) -> impl Iterator<Item = (&str, Bytes)> {
        self.fields().zip(&self.fields).map(|((name, _), field)| (name, self.text.slice(field.value.range())))
    }

    /// The first value of this name, which is in lower case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.fields().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether it has no field.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// This many bytes.
    Length(u64),
    /// By chunks.
    Chunked,
    /// By the end of the connection.
    UntilClose,
}

/// A head that was read.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) head: Head,
    pub(super) framing: Framing,
    /// The connection may take another request afterwards.
    pub(super) keeps_alive: bool,
    /// Length of the head with its blank line.
    pub(super) bytes: usize,
}

/// Reads a head from the beginning of `input`; `None` while it is not whole.
pub(super) fn parse(input: &[u8]) -> Result<Option<Parsed>, Garbage> {
    let mut headers = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let bytes = match config.parse_response_with_uninit_headers(&mut response, input, &mut headers) {
        Ok(httparse::Status::Complete(bytes)) if bytes > HEAD_BYTES_MAX => return Err(TOO_LONG),
        Ok(httparse::Status::Complete(bytes)) => bytes,
        Ok(httparse::Status::Partial) if input.len() >= HEAD_BYTES_MAX => return Err(TOO_LONG),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Garbage("its head has too many fields")),
        Err(_) => return Err(Garbage("its head is not HTTP")),
    };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Garbage("its status is no status of HTTP"))?;
    let modern = response.version == Some(1);
    let (framing, keeps_alive) = framing(status, modern, response.headers)?;
    let base = input.as_ptr().addr();
    let place = |part: &[u8]| {
        // An empty value may point anywhere.
        let start = if part.is_empty() { 0 } else { part.as_ptr().addr() - base };
        let to_u32 = |n: usize| u32::try_from(n).map_err(|_| TOO_LONG);
        Ok(Place { start: to_u32(start)?, end: to_u32(start + part.len())? })
    };
    let fields = response
        .headers
        .iter()
        .map(|header| Ok(Field { name: place(header.name.as_bytes())?, value: place(header.value)? }));
    let fields = fields.collect::<Result<Vec<_>, Garbage>>()?;
    let mut text = input[..bytes].to_vec();
    for field in &fields {
        text[field.name.range()].make_ascii_lowercase();
    }
    let head = Head { status, text: text.into(), fields };
    Ok(Some(Parsed { head, framing, keeps_alive, bytes }))
}

const TOO_LONG: Garbage = Garbage("its head is too long");

/// The body's framing (RFC 9112, section 6.3), for answers to requests other than `HEAD` and `CONNECT`.
fn framing(
    status: StatusCode,
    modern: bool,
    headers: &[httparse::Header<'_>],
) -> Result<(Framing, bool), Garbage> {
    let mut length = None;
    let mut chunked = false;
    let mut keeps_alive = modern;
    for header in headers {
        if header.name.eq_ignore_ascii_case("content-length") {
            for text in header.value.split(|b| *b == b',') {
                let stated = number(text.trim_ascii())?;
                if length.is_some_and(|known| known != stated) {
                    return Err(Garbage("its Content-Length contradicts itself"));
                }
                length = Some(stated);
            }
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            if chunked || !modern || !header.value.eq_ignore_ascii_case(b"chunked") {
                return Err(Garbage("its Transfer-Encoding is not `chunked`"));
            }
            chunked = true;
        } else if header.name.eq_ignore_ascii_case("connection") {
            let mut options = header.value.split(|b| *b == b',');
            keeps_alive &= !options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"));
        }
    }
    if chunked && length.is_some() {
        return Err(Garbage("it has both Content-Length and Transfer-Encoding"));
    }
    let bodiless =
        status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    Ok(match (bodiless, chunked, length) {
        (true, ..) => (Framing::Length(0), keeps_alive),
        (_, true, _) => (Framing::Chunked, keeps_alive),
        (_, _, Some(length)) => (Framing::Length(length), keeps_alive),
        _ => (Framing::UntilClose, false),
    })
}

/// A length: digits and nothing else, or `+5` and `0x5` would mean different bodies to different readers.
fn number(text: &[u8]) -> Result<u64, Garbage> {
    let wrong = Garbage("its Content-Length is not a length");
    if text.is_empty() {
        return Err(wrong);
    }
    text.iter().try_fold(0_u64, |n, digit| match digit {
        b'0'..=b'9' => n.checked_mul(10).and_then(|n| n.checked_add(u64::from(digit - b'0'))).ok_or(wrong),
        _ => Err(wrong),
    })
}
