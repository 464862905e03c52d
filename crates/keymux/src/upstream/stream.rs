//! The bytes of a connection, whatever they travel in.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// A connection by any means.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

/// What a connection travels in: the two usual ways by name, anything else behind a pointer.
pub(super) enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Other(Box<dyn Duplex>),
}

impl Stream {
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, buf),
            Self::Other(stream) => Pin::new(&mut **stream).poll_read(cx, buf),
        }
    }

    /// Writes from two slices, the first first.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = if first.is_empty() || second.is_empty() {
            let only = if first.is_empty() { second } else { first };
            match self {
                Self::Tcp(stream) => Pin::new(stream).poll_write(cx, only),
                Self::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, only),
                Self::Other(stream) => Pin::new(&mut **stream).poll_write(cx, only),
            }
        } else {
            let both = [io::IoSlice::new(first), io::IoSlice::new(second)];
            match self {
                Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, &both),
                Self::Tls(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, &both),
                Self::Other(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, &both),
            }
        };
        match ready!(written) {
            Ok(0) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            written => Poll::Ready(written),
        }
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            // TCP holds nothing back.
            Self::Tcp(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
            Self::Other(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }
}
