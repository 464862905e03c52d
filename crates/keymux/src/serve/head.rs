//! The head of a request: read whole, kept as one piece of memory, with the framing of the body that it announces. Two
//! readers that take one request for two different ones let somebody smuggle a third past the first of them, so what
//! could be read in two ways is refused here, before anybody asks what it is about.

use crate::errors::{Kind, Problem};
use crate::http1::chunked::Decoder;
use crate::http1::{Fields, Garbage, HEAD_FIELDS_MAX, is_listed, length, lowered, places};
use bytes::{Bytes, BytesMut};
use http::Method;
use std::mem::MaybeUninit;
use std::ops::Range;

/// The head of a request.
pub struct RequestHead {
    /// Its method.
    pub method: Method,
    /// Its fields.
    pub fields: Fields,
    target: Bytes,
    path: Range<usize>,
}

impl RequestHead {
    /// The path, without the query. In the form of `OPTIONS *` it is the star.
    pub fn path(&self) -> &str {
        match std::str::from_utf8(&self.target[self.path.clone()]) {
            Ok(path) if !path.is_empty() => path,
            _ => "/",
        }
    }

    /// What follows the question mark.
    pub fn query(&self) -> Option<&str> {
        let query = self.target.get(self.path.end + 1..)?;
        std::str::from_utf8(query).ok()
    }
}

/// What of a body is still to come.
#[derive(Debug)]
pub(super) enum Receiving {
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Decoder),
}

/// A head that was read, and what it says about the connection.
pub(super) struct Parsed {
    pub(super) head: RequestHead,
    pub(super) receiving: Receiving,
    /// The client takes another answer on this connection.
    pub(super) keeps_alive: bool,
    /// It speaks HTTP/1.0.
    pub(super) is_old: bool,
    /// It waits for `100 Continue` before it sends the body.
    pub(super) waits: bool,
}

/// Bytes that are no request. What follows them is none either.
pub(super) struct Unreadable {
    pub(super) problem: Box<Problem>,
    /// As far as it can be told, for the dialect of the answer.
    pub(super) path: String,
}

impl Unreadable {
    pub(super) fn new(input: &[u8], kind: Kind, message: impl Into<String>) -> Self {
        let first = input.trim_ascii_start().split(|b| matches!(b, b'\r' | b'\n')).next().unwrap_or_default();
        let target = first.split(|b| *b == b' ').find(|word| word.starts_with(b"/")).unwrap_or_default();
        let path = target.split(|b| *b == b'?').next().unwrap_or_default();
        let path = String::from_utf8_lossy(path).into_owned();
        Self { problem: Box::new(Problem::new(kind, message)), path }
    }

    fn framing(input: &[u8], what: &str) -> Self {
        Self::new(
            input,
            Kind::BadFraming,
            format!("This is not a request that can be read in one way: {what}."),
        )
    }
}

/// Reads a head from the beginning of `input` and takes it out; `None` while it is not whole.
pub(super) fn parse(input: &mut BytesMut, bytes_max: usize) -> Result<Option<Parsed>, Unreadable> {
    let mut headers = [const { MaybeUninit::uninit() }; HEAD_FIELDS_MAX];
    let mut request = httparse::Request::new(&mut []);
    let bytes = match request.parse_with_uninit_headers(input, &mut headers) {
        Ok(httparse::Status::Complete(bytes)) if bytes <= bytes_max => bytes,
        Ok(httparse::Status::Partial) if input.len() < bytes_max => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(too_large(input, bytes_max)),
        Err(error) => return Err(Unreadable::framing(input, &error.to_string())),
    };
    let (target, headers) = (request.path.unwrap_or_default(), &*request.headers);
    let Ok(method) = Method::from_bytes(request.method.unwrap_or_default().as_bytes()) else {
        return Err(Unreadable::framing(input, "its method is none"));
    };
    let is_old = request.version == Some(0);
    let read = || {
        if has_bare_line_feed(&input[..bytes]) {
            return Err(Garbage("a line of its head ends without a carriage return"));
        }
        let says = Says::read(headers, is_old)?;
        let path = path(target, method == Method::OPTIONS, says.host)?;
        let start = target.as_ptr().addr() - input.as_ptr().addr();
        Ok((
            says.receiving()?,
            says.keeps_alive,
            says.waits,
            path,
            start..start + target.len(),
            places(input, headers)?,
        ))
    };
    let (receiving, keeps_alive, waits, path, target, places) = match read() {
        Ok(read) => read,
        Err(Garbage(what)) => return Err(Unreadable::framing(input, what)),
    };
    lowered(input, &places);
    let text = input.split_to(bytes).freeze();
    let head = RequestHead { method, target: text.slice(target), path, fields: Fields::new(text, places) };
    Ok(Some(Parsed { head, receiving, keeps_alive, is_old, waits }))
}

fn too_large(input: &[u8], bytes_max: usize) -> Unreadable {
    let message = format!(
        "The head of the request is over {bytes_max} bytes (`server.head_bytes_max`) or {HEAD_FIELDS_MAX} fields."
    );
    Unreadable::new(input, Kind::HeadTooLarge, message)
}

/// Some readers end a line there, others do not.
fn has_bare_line_feed(head: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', head).any(|at| at == 0 || head[at - 1] != b'\r')
}

/// What the fields say of the message itself.
#[derive(Default)]
struct Says<'a> {
    length: Option<u64>,
    is_chunked: bool,
    keeps_alive: bool,
    waits: bool,
    host: Option<&'a [u8]>,
}

impl<'a> Says<'a> {
    fn read(headers: &[httparse::Header<'a>], is_old: bool) -> Result<Self, Garbage> {
        let mut says = Self { keeps_alive: !is_old, ..Self::default() };
        let mut closes = false;
        for httparse::Header { name, value } in headers {
            // Few names have these lengths.
            match name.len() {
                4 if name.eq_ignore_ascii_case("host") => {
                    once(&mut says.host, *value, "it has more than one Host")?;
                }
                6 if name.eq_ignore_ascii_case("expect") => {
                    says.waits = !is_old && value.eq_ignore_ascii_case(b"100-continue");
                }
                10 if name.eq_ignore_ascii_case("connection") => {
                    closes |= is_listed(value, b"close");
                    says.keeps_alive |= is_listed(value, b"keep-alive");
                }
                14 if name.eq_ignore_ascii_case("content-length") => {
                    once(&mut says.length, length(value)?, "it has more than one Content-Length")?;
                }
                17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                    if says.is_chunked || is_old || !value.eq_ignore_ascii_case(b"chunked") {
                        return Err(Garbage("its Transfer-Encoding is not `chunked`, once"));
                    }
                    says.is_chunked = true;
                }
                _ => {}
            }
        }
        says.keeps_alive &= !closes;
        if says.host.is_none() && !is_old {
            return Err(Garbage("it has no Host, of which HTTP/1.1 asks exactly one"));
        }
        Ok(says)
    }

    /// The framing of the body (RFC 9112, section 6.3).
    fn receiving(&self) -> Result<Receiving, Garbage> {
        match (self.is_chunked, self.length) {
            (true, Some(_)) => Err(Garbage("it has both Content-Length and Transfer-Encoding")),
            (true, None) => Ok(Receiving::Chunked(Decoder::new())),
            (false, length) => Ok(Receiving::Length(length.unwrap_or(0))),
        }
    }
}

/// Notes what may be said once.
fn once<T>(known: &mut Option<T>, said: T, twice: &'static str) -> Result<(), Garbage> {
    known.replace(said).map_or(Ok(()), |_| Err(Garbage(twice)))
}

/// Where the path stands in the target.
fn path(target: &str, is_options: bool, host: Option<&[u8]>) -> Result<Range<usize>, Garbage> {
    if !target.is_ascii() || target.contains('#') {
        return Err(Garbage("its target has characters that a target cannot have"));
    }
    let start = match target.find("://") {
        _ if target.starts_with('/') => 0,
        Some(scheme) if matches!(&*target[..scheme].to_ascii_lowercase(), "http" | "https") => {
            let authority = &target[scheme + 3..];
            let authority = &authority[..authority.find(['/', '?']).unwrap_or(authority.len())];
            // One of two names would be checked, and the other be meant.
            if host.is_some_and(|host| !host.eq_ignore_ascii_case(authority.as_bytes())) {
                return Err(Garbage("its target names another host than its Host"));
            }
            scheme + 3 + authority.len()
        }
        _ if target == "*" && is_options => 0,
        _ => return Err(Garbage("its target is neither a path nor a URL")),
    };
    let end = target[start..].find('?').map_or(target.len(), |length| start + length);
    Ok(start..end)
}
