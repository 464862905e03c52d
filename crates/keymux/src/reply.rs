//! An answer on its way to the client: a head that is written once, straight into the memory it leaves from, and a body.
//! How the body is framed, and whether the connection stays, is the business of the connection.

use crate::body::Body;
use bytes::Bytes;
use http::StatusCode;

/// Room for a usual head, with what the connection adds to it.
const HEAD_BYTES: usize = 768;

/// An answer.
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: Body,
    /// The connection is closed behind it.
    pub closes: bool,
    /// Its first line and its fields so far.
    head: Vec<u8>,
    dated: bool,
}

impl Reply {
    /// An answer without fields.
    pub fn new(status: StatusCode, body: Body) -> Self {
        let mut head = Vec::with_capacity(HEAD_BYTES + body.small());
        head.extend_from_slice(b"HTTP/1.1 ");
        head.extend_from_slice(status.as_str().as_bytes());
        head.push(b' ');
        head.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
        head.extend_from_slice(b"\r\n");
        Self { status, body, closes: false, head, dated: false }
    }

    /// An answer that is known whole, of this media type.
    pub fn whole(status: StatusCode, media_type: &str, body: impl Into<Bytes>) -> Self {
        let mut reply = Self::new(status, Body::Whole(body.into()));
        reply.field("content-type", media_type.as_bytes());
        reply
    }

    /// Adds a field. Its name is in lower case; the framing of the body has no field here.
    pub fn field(&mut self, name: impl AsRef<[u8]>, value: &[u8]) {
        let name = name.as_ref();
        self.dated |= name == b"date";
        crate::headers::field(&mut self.head, name, value);
    }

    /// Adds a field of another head, see [`crate::headers::passed`].
    pub(crate) fn passed(&mut self, came: (&[u8], &[u8], Option<&[u8]>)) {
        self.dated |= came.0 == b"date";
        crate::headers::passed(&mut self.head, came);
    }

    /// Adds a field with a number.
    pub fn number(&mut self, name: &str, n: u64) {
        crate::headers::number_field(&mut self.head, name, n);
    }

    /// The first line and the fields, and whether there is a date among them. They are taken.
    pub fn take_head(&mut self) -> (Vec<u8>, bool) {
        (std::mem::take(&mut self.head), self.dated)
    }

    /// The first value of a field.
    #[cfg(test)]
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let head = std::str::from_utf8(&self.head).unwrap();
        head.lines()
            .skip(1)
            .filter_map(|line| line.split_once(": "))
            .find(|(n, _)| *n == name)
            .map(|(_, v)| v)
    }
}
