//! HTTP/1.1 as a server, on a connection that its own task polls: heads, bodies, and whether the client is still there.
//! Between requests, and while a stream is slow, it holds no buffer. Writing is told in `send`; what a request means is
//! not known here.

use super::head::{self, Parsed, Receiving, RequestHead, Unreadable};
use super::watch::{BUSY, HEAD, IDLE, Watch};
use crate::body::Pieces;
use crate::errors::Kind;
use crate::http1::stream::Stream;
use crate::http1::{unchunked, with_scratch};
use bytes::{Buf, Bytes, BytesMut};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// What a client that waits is told before its body is read.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The client has closed its side, or the connection broke.
#[derive(Debug)]
pub struct Gone;

/// A client's connection.
pub struct Line {
    pub(super) stream: Stream,
    pub(super) watch: Arc<Watch>,
    /// What has come and is not read yet.
    rest: BytesMut,
    /// What of the request's body is still to come.
    receiving: Receiving,
    /// What is left to tell a client that waits before it sends its body.
    interim: &'static [u8],
    is_gone: bool,
    /// How the answer to this request has to look.
    pub(super) answering: Answering,
}

/// What a request asks of the form of its answer.
#[derive(Clone, Copy, Default)]
pub(super) struct Answering {
    /// The connection takes another request.
    pub(super) keeps_alive: bool,
    /// Chunks are not understood.
    pub(super) is_old: bool,
    /// Only the head is asked for.
    pub(super) is_head: bool,
}

/// What comes next on a connection.
pub(super) enum Came {
    Request(RequestHead),
    Unreadable(Unreadable),
    /// The client has left, or nothing came in time.
    Nothing,
}

impl Line {
    pub(super) fn new(stream: Stream, watch: Arc<Watch>) -> Self {
        Self {
            stream,
            watch,
            rest: BytesMut::new(),
            receiving: Receiving::Length(0),
            interim: &[],
            is_gone: false,
            answering: Answering::default(),
        }
    }

    /// The next request's head.
    pub(super) async fn head(&mut self, bytes_max: usize) -> Came {
        // What is left of the last one's body was read, or the connection would have ended.
        let mut known = 0;
        poll_fn(|cx| self.poll_head(cx, bytes_max, &mut known)).await
    }

    fn poll_head(&mut self, cx: &mut Context<'_>, bytes_max: usize, known: &mut usize) -> Poll<Came> {
        loop {
            self.drop_empty_lines(known);
            if worth_reading(&self.rest, *known, bytes_max) {
                match head::parse(&mut self.rest, bytes_max) {
                    Ok(Some(parsed)) => return Poll::Ready(Came::Request(self.begin(parsed))),
                    Ok(None) => {}
                    Err(unreadable) => {
                        self.answering = Answering::default();
                        return Poll::Ready(Came::Unreadable(unreadable));
                    }
                }
            }
            *known = self.rest.len();
            if *known > 0 {
                self.watch.is_in(HEAD);
            }
            match self.poll_more(cx) {
                Poll::Ready(Ok(())) => continue,
                Poll::Ready(Err(Gone)) => return Poll::Ready(Came::Nothing),
                Poll::Pending if !self.watch.is_over(cx) => return Poll::Pending,
                Poll::Pending if self.rest.is_empty() => return Poll::Ready(Came::Nothing),
                Poll::Pending => {}
            }
            self.answering = Answering::default();
            let message = "The head of the request did not come in time (`server.header_timeout`).";
            return Poll::Ready(Came::Unreadable(Unreadable::new(&self.rest, Kind::HeadTimeout, message)));
        }
    }

    /// Some clients send an empty line behind a body. It begins no request (RFC 9112, section 2.2).
    fn drop_empty_lines(&mut self, known: &mut usize) {
        while self.rest.starts_with(b"\r\n") {
            self.rest.advance(2);
            *known = 0;
            self.let_go();
        }
    }

    fn begin(&mut self, parsed: Parsed) -> RequestHead {
        let Parsed { head, receiving, keeps_alive, is_old, waits } = parsed;
        self.watch.is_in(BUSY);
        self.answering = Answering { keeps_alive, is_old, is_head: head.method == http::Method::HEAD };
        self.interim = if waits && self.rest.is_empty() { CONTINUE } else { &[] };
        self.receiving = receiving;
        self.let_go();
        head
    }

    /// An empty rest still holds the memory that it was a part of.
    fn let_go(&mut self) {
        if self.rest.is_empty() {
            self.rest = BytesMut::new();
        }
    }

    /// The next request may come.
    pub(super) fn is_free(&mut self) {
        self.watch.is_in(IDLE);
    }

    /// Reads what has come behind the rest.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        with_scratch(|buf| {
            let read = ready!(self.stream.poll_read(cx, buf));
            if read.is_err() || buf.filled().is_empty() {
                self.is_gone = true;
                return Poll::Ready(Err(Gone));
            }
            self.rest.extend_from_slice(buf.filled());
            Poll::Ready(Ok(()))
        })
    }

    /// Whether the client has left. What it sends in the meantime is kept, up to a limit: behind more than that its
    /// leaving is seen only when it is written to.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        if self.is_gone {
            return Poll::Ready(Gone);
        }
        while self.rest.len() < AHEAD_BYTES_MAX {
            if ready!(self.poll_more(cx)).is_err() {
                return Poll::Ready(Gone);
            }
        }
        Poll::Pending
    }

    /// Waits for `future` as long as the client does.
    pub async fn unless_gone<F: Future>(&mut self, mut future: Pin<&mut F>) -> Result<F::Output, Gone> {
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => self.poll_gone(cx).map(Err),
        })
        .await
    }

    /// The length of the body that is still to come, where it was stated.
    pub fn stated(&self) -> Option<u64> {
        match self.receiving {
            Receiving::Length(bytes) => Some(bytes),
            Receiving::Chunked(_) => None,
        }
    }

    /// The body, if it has come already and its length was stated.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        let bytes = self.stated().and_then(|bytes| usize::try_from(bytes).ok())?;
        if bytes > self.rest.len() {
            return None;
        }
        self.receiving = Receiving::Length(0);
        let body = self.rest.split_to(bytes).freeze();
        self.let_go();
        Some(body)
    }

    /// The data of the body in what has come.
    fn take(&mut self) -> Result<Bytes, String> {
        match &mut self.receiving {
            Receiving::Length(left) => {
                let taken = usize::try_from(*left).map_or(self.rest.len(), |left| left.min(self.rest.len()));
                *left -= taken as u64;
                let data = self.rest.split_to(taken).freeze();
                self.let_go();
                Ok(data)
            }
            Receiving::Chunked(decoder) => {
                let (data, taken) = unchunked(decoder, &self.rest).map_err(|garbage| garbage.to_string())?;
                self.rest.advance(taken);
                self.let_go();
                Ok(data)
            }
        }
    }

    /// Takes the rest of a body that nobody wants, as far as it is there. Whether that was all: if not, the next bytes
    /// are not the next request's.
    pub(super) fn poll_skip(&mut self, cx: &mut Context<'_>) -> bool {
        // Whoever waits to be told to send a body may send it or not.
        let mut left = if self.interim.is_empty() { SKIP_BYTES_MAX } else { 0 };
        while !self.is_over() && left > 0 {
            match self.poll_piece(cx) {
                Poll::Ready(Some(Ok(piece))) => left = left.saturating_sub(piece.len().max(1)),
                _ => break,
            }
        }
        self.is_over()
    }

    /// Ends our side and reads what still comes, for as long as it takes or the task lives: a socket that is closed
    /// while the client still sends is reset, and the reset can overtake the last answer.
    pub(super) async fn linger(&mut self) {
        if self.is_gone || poll_fn(|cx| self.stream.poll_shutdown(cx)).await.is_err() {
            return;
        }
        poll_fn(|cx| {
            while let Poll::Ready(came) = self.poll_more(cx) {
                if came.is_err() {
                    return Poll::Ready(());
                }
                self.rest.clear();
            }
            Poll::Pending
        })
        .await;
    }
}

/// With so much of what a client sends before it is its turn, no more is read.
const AHEAD_BYTES_MAX: usize = 16 << 10;
/// Most of an unwanted body that is taken so that the connection can stay.
const SKIP_BYTES_MAX: usize = 256 << 10;

/// Whether a head may be whole, or be too long, now that there is more of it than the `known` bytes: one that trickles
/// is not read anew at each byte.
fn worth_reading(rest: &[u8], known: usize, bytes_max: usize) -> bool {
    if known == 0 || rest.len() >= bytes_max {
        return !rest.is_empty();
    }
    let seam = &rest[known.saturating_sub(3)..];
    rest.len() / 1024 > known / 1024
        || memchr::memmem::find(seam, b"\n\r\n").is_some()
        || memchr::memmem::find(seam, b"\n\n").is_some()
}

impl Pieces for Line {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, String>>> {
        loop {
            if self.is_over() {
                return Poll::Ready(None);
            }
            if !self.rest.is_empty() {
                match self.take() {
                    Ok(data) if data.is_empty() => continue,
                    data => return Poll::Ready(Some(data)),
                }
            }
            while !self.interim.is_empty() {
                match ready!(self.stream.poll_write(cx, [self.interim, &[], &[]])) {
                    Ok(written) => self.interim = &self.interim[written..],
                    Err(error) => return Poll::Ready(Some(Err(error.to_string()))),
                }
                if self.interim.is_empty()
                    && let Poll::Ready(Err(error)) = self.stream.poll_flush(cx)
                {
                    return Poll::Ready(Some(Err(error.to_string())));
                }
            }
            if ready!(self.poll_more(cx)).is_err() {
                return Poll::Ready(Some(Err("the connection was closed before it was whole".to_owned())));
            }
        }
    }

    fn is_over(&self) -> bool {
        match &self.receiving {
            Receiving::Length(left) => *left == 0,
            Receiving::Chunked(decoder) => decoder.is_over(),
        }
    }
}
