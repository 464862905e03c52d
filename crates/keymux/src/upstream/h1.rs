//! HTTP/1.1 as a client, on a connection that its user polls: no task, no channel, and no buffer while nothing is
//! there to read. Bytes are copied once, at their exact size. Knows RFC 9112, nothing of what
//! it carries, of time, or of which connection to take.

mod head;
#[cfg(test)]
mod tests;

pub use head::Head;

use crate::http1::chunked::Decoder;
use crate::http1::stream::{Duplex, Stream};
use crate::http1::{Garbage, unchunked, with_scratch};
use bytes::Bytes;
use head::{Framing, HEAD_BYTES_MAX, Parsed};
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::task::{Context, Poll, Waker};
use tokio::io::ReadBuf;

/// Interim answers (`100 Continue`, `103 Early Hints`) before the one that counts.
const INTERIM_MAX: u32 = 16;

/// An open connection without a request on it.
pub struct Connection {
    stream: Stream,
    used: bool,
}

impl Connection {
    pub(in crate::upstream) fn new(stream: Stream) -> Self {
        Self { stream, used: false }
    }

    /// A connection that came some other way than by the connector, such as a pipe in memory.
    pub fn over(stream: impl Duplex + 'static) -> Self {
        Self::new(Stream::Other(Box::new(stream)))
    }

    /// Whether the other side still waits for a request: it has neither closed nor said anything.
    pub fn is_open(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let mut scrap = [MaybeUninit::uninit(); 1];
        self.stream.poll_read(&mut cx, &mut ReadBuf::uninit(&mut scrap)).is_pending()
    }
}

/// A request, ready to be sent.
pub struct Outgoing {
    /// Its head, and its body behind it where that is small.
    first: Vec<u8>,
    /// The rest.
    second: Bytes,
}

impl Outgoing {
    /// Bodies up to this size are copied behind their head and leave with it in one piece.
    pub const TOGETHER_BYTES_MAX: usize = 16 << 10;

    /// A request of this head, which ends in a blank line, and this body.
    pub fn new(mut head: Vec<u8>, body: Bytes) -> Self {
        if body.len() <= Self::TOGETHER_BYTES_MAX {
            head.extend_from_slice(&body);
            return Self { first: head, second: Bytes::new() };
        }
        Self { first: head, second: body }
    }

    /// What is left after `written` bytes.
    fn rest(&self, written: usize) -> (&[u8], &[u8]) {
        match written.checked_sub(self.first.len()) {
            None => (&self.first[written..], &self.second),
            Some(of_second) => (&[], &self.second[of_second..]),
        }
    }

    fn len(&self) -> usize {
        self.first.len() + self.second.len()
    }
}

/// Why an answer does not come, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// What came is not HTTP.
    #[error("the answer cannot be understood: {0}")]
    Garbage(#[from] Garbage),
    /// The connection was closed in the middle.
    #[error("the connection was closed before the answer was whole")]
    Closed,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
}

/// How far the request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    Writes,
    Flushes,
    Sent,
    /// The other side takes no more; it may still answer.
    Stopped,
}

/// What the bytes that come are part of.
#[derive(Debug)]
enum Receiving {
    Head,
    /// So many more bytes.
    Length(u64),
    Chunked(Decoder),
    UntilClose,
    Over,
}

/// One request on a connection, and its answer.
pub struct Exchange {
    stream: Stream,
    request: Outgoing,
    written: usize,
    sending: Sending,
    receiving: Receiving,
    /// The beginning of a head that is not whole.
    partial: Vec<u8>,
    /// The first bytes of the body, which came with its head.
    ready: Bytes,
    interim: u32,
    /// Whether the connection has carried an exchange before.
    pooled: bool,
    /// Bytes of an answer came.
    answered: bool,
    /// The connection may be used again, once the body is over.
    reusable: bool,
}

impl Exchange {
    /// Begins an exchange. Nothing is sent until it is polled.
    pub fn new(connection: Connection, request: Outgoing) -> Self {
        Self {
            stream: connection.stream,
            request,
            written: 0,
            sending: Sending::Writes,
            receiving: Receiving::Head,
            partial: Vec::new(),
            ready: Bytes::new(),
            interim: 0,
            pooled: connection.used,
            answered: false,
            reusable: false,
        }
    }

    /// The request, if not one byte of it was sent.
    pub fn untouched(self) -> Option<Outgoing> {
        (self.written == 0).then_some(self.request)
    }

    /// Whether the connection had been used before and has said nothing since: it may have been closed for being idle.
    pub fn was_idle(&self) -> bool {
        self.pooled && !self.answered
    }

    /// Sends the request and waits for the head of its answer.
    pub async fn head(&mut self) -> Result<Head, Fault> {
        poll_fn(|cx| self.poll_head(cx)).await
    }

    /// See [`Exchange::head`].
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Head, Fault>> {
        with_scratch(|buf| {
            loop {
                let refused = self.poll_send(cx).err();
                buf.clear();
                match (self.stream.poll_read(cx, buf), refused) {
                    (Poll::Pending, None) => return Poll::Pending,
                    (Poll::Pending, Some(error)) | (Poll::Ready(Err(error)), _) => {
                        return Poll::Ready(Err(error.into()));
                    }
                    (Poll::Ready(Ok(())), _) => {}
                }
                let come = buf.filled();
                if come.is_empty() {
                    let fault =
                        if self.answered { Garbage("its head is cut off").into() } else { Fault::Closed };
                    return Poll::Ready(Err(fault));
                }
                self.answered = true;
                if let Some(head) = self.take_head(come)? {
                    return Poll::Ready(Ok(head));
                }
            }
        })
    }

    /// Writes what the connection takes. An error is told once; after it, nothing more is written.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.sending == Sending::Writes {
            let (first, second) = self.request.rest(self.written);
            match self.stream.poll_write(cx, [first, second, &[]]) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(n)) => self.written += n,
                Poll::Ready(Err(error)) => {
                    self.sending = Sending::Stopped;
                    return Err(error);
                }
            }
            if self.written >= self.request.len() {
                self.sending = Sending::Flushes;
                self.request = Outgoing { first: Vec::new(), second: Bytes::new() };
            }
        }
        if self.sending == Sending::Flushes {
            match self.stream.poll_flush(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.sending = Sending::Sent,
                Poll::Ready(Err(error)) => {
                    self.sending = Sending::Stopped;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Reads bytes of a head, and keeps what follows it.
    fn take_head(&mut self, come: &[u8]) -> Result<Option<Head>, Garbage> {
        if self.partial.is_empty() {
            return self.read_heads(come);
        }
        let known = self.partial.len();
        self.partial.extend_from_slice(come);
        // A head that trickles is not read anew at each byte, but at its blank line, or when there is much more of it.
        let seam = known.saturating_sub(3);
        let ends = memchr::memmem::find(&self.partial[seam..], b"\n\r\n").is_some()
            || memchr::memmem::find(&self.partial[seam..], b"\n\n").is_some();
        if !ends && self.partial.len() < HEAD_BYTES_MAX && self.partial.len() / 1024 == known / 1024 {
            return Ok(None);
        }
        let partial = std::mem::take(&mut self.partial);
        self.read_heads(&partial)
    }

    /// Reads the head at the beginning of `input`, after interim ones.
    fn read_heads(&mut self, mut input: &[u8]) -> Result<Option<Head>, Garbage> {
        loop {
            let Some(Parsed { head, framing, keeps_alive, bytes }) = head::parse(input)? else {
                self.partial.extend_from_slice(input);
                return Ok(None);
            };
            input = &input[bytes..];
            if head.status.is_informational() {
                self.interim += 1;
                if head.status.as_u16() == 101 || self.interim > INTERIM_MAX {
                    return Err(Garbage("it is an interim answer that nobody asked for"));
                }
                if input.is_empty() {
                    return Ok(None);
                }
                continue;
            }
            // An answer that did not wait for the request leaves the rest of it in the way of the next one.
            self.reusable = keeps_alive && self.sending == Sending::Sent;
            self.receiving = match framing {
                Framing::Length(0) => Receiving::Over,
                Framing::Length(bytes) => Receiving::Length(bytes),
                Framing::Chunked => Receiving::Chunked(Decoder::new()),
                Framing::UntilClose => Receiving::UntilClose,
            };
            if !input.is_empty() {
                self.ready = self.take(input)?;
            }
            return Ok(Some(head));
        }
    }

    /// The next bytes of the body; `None` at its end.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
        if !self.ready.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.ready))));
        }
        if self.is_over() {
            return Poll::Ready(None);
        }
        with_scratch(|buf| self.poll_body(cx, buf))
    }

    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Option<Result<Bytes, Fault>>> {
        while !self.is_over() {
            // Whoever answers early may still want the rest; that it does not is no fault of the answer.
            let _ = self.poll_send(cx);
            buf.clear();
            match self.stream.poll_read(cx, buf) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            }
            let come = buf.filled();
            if come.is_empty() {
                if matches!(self.receiving, Receiving::UntilClose) {
                    self.receiving = Receiving::Over;
                    return Poll::Ready(None);
                }
                return Poll::Ready(Some(Err(Fault::Closed)));
            }
            match self.take(come) {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Poll::Ready(Some(Ok(data))),
                Err(garbage) => return Poll::Ready(Some(Err(garbage.into()))),
            }
        }
        Poll::Ready(None)
    }

    /// The data in bytes of the body.
    fn take(&mut self, come: &[u8]) -> Result<Bytes, Garbage> {
        let (data, taken) = match &mut self.receiving {
            Receiving::Length(left) => {
                let taken = usize::try_from(*left).map_or(come.len(), |left| left.min(come.len()));
                *left -= taken as u64;
                if *left == 0 {
                    self.receiving = Receiving::Over;
                }
                (Bytes::copy_from_slice(&come[..taken]), taken)
            }
            Receiving::Chunked(decoder) => {
                let (data, taken) = unchunked(decoder, come)?;
                if decoder.is_over() {
                    self.receiving = Receiving::Over;
                }
                (data, taken)
            }
            Receiving::UntilClose => (Bytes::copy_from_slice(come), come.len()),
            Receiving::Head | Receiving::Over => (Bytes::new(), 0),
        };
        // Bytes that nobody asked for would be taken for the answer to the next request.
        self.reusable &= taken == come.len();
        Ok(data)
    }

    /// Nothing of the body is still to come; what has come may be still to be read.
    pub fn has_come(&self) -> bool {
        matches!(self.receiving, Receiving::Over)
    }

    /// The body was read to its end.
    pub fn is_over(&self) -> bool {
        matches!(self.receiving, Receiving::Over) && self.ready.is_empty()
    }

    /// Bytes of the body that are still to come, where the head told.
    pub fn bytes_left(&self) -> Option<u64> {
        match &self.receiving {
            Receiving::Length(left) => Some(left + self.ready.len() as u64),
            Receiving::Over => Some(self.ready.len() as u64),
            _ => None,
        }
    }

    /// The connection, if it may carry another exchange: the body was read to its end and nothing else came.
    pub fn into_connection(self) -> Option<Connection> {
        (self.is_over() && self.reusable).then_some(Connection { stream: self.stream, used: true })
    }
}
