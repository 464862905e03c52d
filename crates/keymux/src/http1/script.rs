//! The other side of a connection in tests, by a script.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// These chunks as a chunked body.
pub(crate) fn chunked(chunks: &[Vec<u8>]) -> Vec<u8> {
    let mut framed = Vec::new();
    for chunk in chunks {
        framed.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
        framed.extend_from_slice(chunk);
        framed.extend_from_slice(b"\r\n");
    }
    framed.extend_from_slice(b"0\r\n\r\n");
    framed
}

/// What the other side does next.
#[derive(Clone, Debug)]
pub(crate) enum Does {
    Says(Vec<u8>),
    /// Nothing, once; the reader is woken.
    Pauses,
    Breaks,
}

/// A connection whose other side follows a script, then closes (or stays silent), and takes a few bytes a write.
pub(crate) struct Script {
    pub(crate) does: VecDeque<Does>,
    pub(crate) stays: bool,
    pub(crate) takes: usize,
    pub(crate) taken: Arc<Mutex<Vec<u8>>>,
    pub(crate) write_fails: bool,
}

impl Script {
    pub(crate) fn new(does: impl IntoIterator<Item = Does>) -> Self {
        let does = does.into_iter().collect();
        Self { does, stays: false, takes: usize::MAX, taken: Arc::default(), write_fails: false }
    }

    pub(crate) fn pieces(text: &[u8], sizes: &[usize]) -> Self {
        let mut does = Vec::new();
        let mut rest = text;
        for index in 0.. {
            if rest.is_empty() {
                break;
            }
            let (piece, tail) = rest.split_at(sizes[index % sizes.len()].clamp(1, rest.len()));
            does.extend([Does::Says(piece.to_vec()), Does::Pauses]);
            rest = tail;
        }
        Self::new(does)
    }
}

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.does.pop_front() {
            Some(Does::Says(mut bytes)) => {
                let rest = bytes.split_off(bytes.len().min(buf.remaining()));
                buf.put_slice(&bytes);
                if !rest.is_empty() {
                    self.does.push_front(Does::Says(rest));
                }
                Poll::Ready(Ok(()))
            }
            Some(Does::Pauses) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Does::Breaks) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            None if self.stays => Poll::Pending,
            None => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Script {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.write_fails {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let taken = buf.len().min(self.takes);
        if taken == 0 && !buf.is_empty() {
            return Poll::Pending;
        }
        self.taken.lock().unwrap().extend_from_slice(&buf[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
