//! Takes the chunks of a body apart (RFC 9112, section 7.1), strictly: a line ends in CR LF, a size has digits and no
//! sign. Extensions and trailers mean nothing here; they are read, bounded and dropped.

use super::Garbage;
use std::ops::Range;

/// Bytes of extensions, and of trailers, that one body may have.
const ASIDE_BYTES_MAX: u32 = 16 << 10;

/// Where in the framing the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// In a size; whether it has a digit yet.
    Size {
        begun: bool,
    },
    /// Behind a size, up to the end of its line.
    Extension,
    /// At the line feed behind a size.
    SizeEnd,
    /// In the data.
    Data,
    /// At the line end behind the data.
    DataCr,
    DataLf,
    /// At the beginning of a line of the trailer.
    Trailer,
    /// Within such a line.
    TrailerField,
    /// At its line feed.
    TrailerFieldEnd,
    /// At the very last line feed.
    LastLf,
    /// Behind the body.
    Over,
}

/// Where a body stands.
#[derive(Debug)]
pub(crate) struct Decoder {
    at: At,
    /// The size that is being read, or what is left of the data.
    left: u64,
    aside_bytes: u32,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self { at: At::Size { begun: false }, left: 0, aside_bytes: 0 }
    }

    /// The last byte of the body was read.
    pub(crate) fn is_over(&self) -> bool {
        self.at == At::Over
    }

    /// Reads on; names each piece of data by its place in `input`. Says how many bytes belong to the body.
    pub(crate) fn read(
        &mut self,
        input: &[u8],
        piece: &mut impl FnMut(Range<usize>),
    ) -> Result<usize, Garbage> {
        let mut next = 0;
        while next < input.len() && self.at != At::Over {
            if self.at == At::Data {
                let rest = input.len() - next;
                let taken = usize::try_from(self.left).map_or(rest, |left| left.min(rest));
                piece(next..next + taken);
                next += taken;
                self.left -= taken as u64;
                if self.left == 0 {
                    self.at = At::DataCr;
                }
                continue;
            }
            self.at = self.step(input[next])?;
            next += 1;
        }
        Ok(next)
    }

    /// One byte of the framing.
    fn step(&mut self, byte: u8) -> Result<At, Garbage> {
        match (self.at, byte) {
            (At::Size { .. }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if self.left >> 60 != 0 {
                    return Err(Garbage("a chunk's size is too large"));
                }
                let digit = (byte as char).to_digit(16).unwrap_or_default();
                self.left = self.left << 4 | u64::from(digit);
                Ok(At::Size { begun: true })
            }
            (At::Size { begun: true } | At::Extension, b'\r') => Ok(At::SizeEnd),
            (At::Size { begun: true }, b';' | b' ' | b'\t') => self.aside(At::Extension),
            (At::Extension, byte) if byte != b'\n' => self.aside(At::Extension),
            (At::SizeEnd, b'\n') => Ok(if self.left == 0 { At::Trailer } else { At::Data }),
            (At::DataCr, b'\r') => Ok(At::DataLf),
            (At::DataLf, b'\n') => Ok(At::Size { begun: false }),
            (At::Trailer, b'\r') => Ok(At::LastLf),
            (At::TrailerField, b'\r') => Ok(At::TrailerFieldEnd),
            (At::Trailer | At::TrailerField, byte) if byte != b'\n' => self.aside(At::TrailerField),
            (At::TrailerFieldEnd, b'\n') => Ok(At::Trailer),
            (At::LastLf, b'\n') => Ok(At::Over),
            _ => Err(Garbage("its chunks are not framed as HTTP says")),
        }
    }

    fn aside(&mut self, at: At) -> Result<At, Garbage> {
        self.aside_bytes += 1;
        if self.aside_bytes > ASIDE_BYTES_MAX {
            return Err(Garbage("its chunks have too much beside their data"));
        }
        Ok(at)
    }
}
