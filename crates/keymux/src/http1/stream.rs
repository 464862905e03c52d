//! The bytes of a connection, whatever they travel in.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// A connection by any means.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

/// What a connection travels in: the two usual ways by name, anything else behind a pointer.
pub(crate) enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Other(Box<dyn Duplex>),
}

impl Stream {
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, buf),
            Self::Other(stream) => Pin::new(&mut **stream).poll_read(cx, buf),
        }
    }

    /// Writes from these parts, in their order. A lone one is not set up as a list: that costs more than a copy of a
    /// few kilobytes does.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, parts: [&[u8]; 3]) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]), IoSlice::new(&[]), IoSlice::new(&[])];
        let mut count = 0;
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            slices[count] = IoSlice::new(part);
            count += 1;
        }
        let written = match &slices[..count] {
            [only] => match self {
                Self::Tcp(stream) => Pin::new(stream).poll_write(cx, only),
                Self::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, only),
                Self::Other(stream) => Pin::new(&mut **stream).poll_write(cx, only),
            },
            several => match self {
                Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, several),
                Self::Tls(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, several),
                Self::Other(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, several),
            },
        };
        match ready!(written) {
            Ok(0) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            written => Poll::Ready(written),
        }
    }

    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            // TCP holds nothing back.
            Self::Tcp(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
            Self::Other(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    /// Ends our side.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
            Self::Other(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}
