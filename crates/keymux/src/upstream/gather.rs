//! Small writes in one call. hyper hands over a head and a body as two slices; one `send` of both is cheaper than a
//! `writev`, whose set-up costs more than copying a few kilobytes does.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncWrite, ReadBuf};

/// Slices that add up to no more than this are copied together.
const GATHER_BYTES_MAX: usize = 4 << 10;

/// Writes slices to `stream`, together where they are small.
pub fn write<S: AsyncWrite + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    slices: &[io::IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let total: usize = slices.iter().map(|slice| slice.len()).sum();
    if let [only] = slices {
        return Pin::new(stream).poll_write(cx, only);
    }
    if total > GATHER_BYTES_MAX {
        return Pin::new(stream).poll_write_vectored(cx, slices);
    }
    let mut space = [MaybeUninit::uninit(); GATHER_BYTES_MAX];
    let mut together = ReadBuf::uninit(&mut space);
    for slice in slices {
        together.put_slice(slice);
    }
    Pin::new(stream).poll_write(cx, together.filled())
}
