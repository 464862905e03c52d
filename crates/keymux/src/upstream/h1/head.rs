//! The head of an answer: read whole, kept as one piece of memory with its fields as places in it, and the framing of
//! the body that it announces. What can be read in two ways is refused: whoever guesses wrong hands one client's
//! answer to the next.

use crate::http1::{Fields, Garbage, HEAD_FIELDS_MAX, is_listed, length, lowered, places};
use http::StatusCode;
use std::mem::MaybeUninit;

/// Longest head of an answer that is read. Providers send 1 to 4 KB.
pub(super) const HEAD_BYTES_MAX: usize = 64 << 10;

/// The head of an answer. Names are in lower case.
#[derive(Clone, Debug)]
pub struct Head {
    /// The status.
    pub status: StatusCode,
    fields: Fields,
}

impl Head {
    /// Reads a whole head.
    #[cfg(test)]
    pub(crate) fn read(text: &[u8]) -> Option<Self> {
        Some(parse(text).ok()??.head)
    }

    /// All fields, in order.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        self.fields.iter()
    }

    /// All fields, in order; see [`Fields::lines`].
    pub(crate) fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8], Option<&[u8]>)> {
        self.fields.lines()
    }

    /// The first value of this name, which is in lower case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.fields.get(name)
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
    let mut headers = [const { MaybeUninit::uninit() }; HEAD_FIELDS_MAX];
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
    let fields = places(input, response.headers)?;
    let mut text = input[..bytes].to_vec();
    lowered(&mut text, &fields);
    let head = Head { status, fields: Fields::new(text.into(), fields) };
    Ok(Some(Parsed { head, framing, keeps_alive, bytes }))
}

const TOO_LONG: Garbage = Garbage("its head is too long");

/// The body's framing (RFC 9112, section 6.3), for answers to requests other than `HEAD` and `CONNECT`.
fn framing(
    status: StatusCode,
    modern: bool,
    headers: &[httparse::Header<'_>],
) -> Result<(Framing, bool), Garbage> {
    let mut known = None;
    let mut chunked = false;
    let mut keeps_alive = modern;
    for header in headers {
        if header.name.eq_ignore_ascii_case("content-length") {
            for text in header.value.split(|b| *b == b',') {
                let stated = length(text.trim_ascii())?;
                if known.is_some_and(|known| known != stated) {
                    return Err(Garbage("its Content-Length contradicts itself"));
                }
                known = Some(stated);
            }
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            if chunked || !modern || !header.value.eq_ignore_ascii_case(b"chunked") {
                return Err(Garbage("its Transfer-Encoding is not `chunked`"));
            }
            chunked = true;
        } else if header.name.eq_ignore_ascii_case("connection") {
            keeps_alive &= !is_listed(header.value, b"close");
        }
    }
    if chunked && known.is_some() {
        return Err(Garbage("it has both Content-Length and Transfer-Encoding"));
    }
    let bodiless =
        status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    Ok(match (bodiless, chunked, known) {
        (true, ..) => (Framing::Length(0), keeps_alive),
        (_, true, _) => (Framing::Chunked, keeps_alive),
        (_, _, Some(length)) => (Framing::Length(length), keeps_alive),
        _ => (Framing::UntilClose, false),
    })
}
