//! What both sides of HTTP/1.1 (RFC 9112) have in common: fields of a head, lengths and chunks of a body, and the bytes
//! below them. `upstream/h1` is a client made of it, `serve/line` a server. Whatever can be read in two ways is garbage
//! here: who guesses wrong takes the end of one message for the beginning of the next.

pub(crate) mod chunked;
mod fields;
#[cfg(test)]
pub(crate) mod script;
pub(crate) mod stream;

pub use fields::Fields;
pub(crate) use fields::{HEAD_FIELDS_MAX, is_listed, length, lowered, places};

use bytes::Bytes;
use chunked::Decoder;
use std::cell::RefCell;
use tokio::io::ReadBuf;

/// Most that is read at once.
const READ_BYTES_MAX: usize = 64 << 10;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Has `read` read into memory that all connections of this thread share; what came is copied out of it once, at its
/// exact size, so that a connection that is silent holds no buffer. On the stack, each read, be it of nothing, would
/// touch every page of it.
pub(crate) fn with_scratch<T>(read: impl FnOnce(&mut ReadBuf<'_>) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.resize(READ_BYTES_MAX, 0);
        read(&mut ReadBuf::new(scratch))
    })
}

/// Something that is not HTTP, in words that follow "the answer cannot be understood:".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Garbage(pub(crate) &'static str);

/// The data in bytes of a chunked body, in one piece, and how many of the bytes belong to the body.
pub(crate) fn unchunked(decoder: &mut Decoder, come: &[u8]) -> Result<(Bytes, usize), Garbage> {
    let mut only = 0..0;
    let mut many = Vec::new();
    let taken = decoder.read(come, &mut |piece| {
        if many.is_empty() && only.is_empty() {
            only = piece;
            return;
        }
        if many.is_empty() {
            many.reserve_exact(come.len());
            many.extend_from_slice(&come[only.clone()]);
        }
        many.extend_from_slice(&come[piece]);
    })?;
    let data = if many.is_empty() { Bytes::copy_from_slice(&come[only]) } else { Bytes::from(many) };
    Ok((data, taken))
}
