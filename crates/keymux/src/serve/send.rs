//! Writing an answer: its head, and its body piece by piece as it comes. What is ready together leaves together, in one
//! call where that is possible; what the client does not take yet is not asked for from the provider either.

use super::line::{Gone, Line};
use super::watch::{BUSY, STALLED};
use crate::alarm::Alarm;
use crate::body::{Body, TOGETHER_BYTES_MAX};
use crate::headers;
use crate::reply::Reply;
use bytes::Bytes;
use http::StatusCode;
use std::future::poll_fn;
use std::task::{Context, Poll};

/// With so much to write, no more is asked for.
const READY_BYTES_MAX: usize = 64 << 10;

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// By its length, or there is none.
    Length,
    Chunked,
    /// By the end of the connection.
    Close,
}

/// An answer that is being written.
struct Sending {
    out: Out,
    body: Body,
    framing: Framing,
    /// Nothing more comes from the body.
    is_over: bool,
    /// The body broke off; no end may be told.
    is_cut: bool,
}

/// What waits to be written: small pieces in front, one large piece as it is, and what was ready behind that.
#[derive(Default)]
struct Out {
    front: Vec<u8>,
    large: Bytes,
    back: Vec<u8>,
    written: usize,
}

impl Out {
    fn len(&self) -> usize {
        self.front.len() + self.large.len() + self.back.len()
    }

    /// The piece that bytes can be added to.
    fn end(&mut self) -> &mut Vec<u8> {
        if self.large.is_empty() { &mut self.front } else { &mut self.back }
    }

    /// Adds a piece, with what goes before and after it.
    fn add(&mut self, before: &[u8], piece: Bytes, after: &[u8]) {
        let apart = piece.len() > TOGETHER_BYTES_MAX && self.large.is_empty();
        let end = self.end();
        if apart {
            end.extend_from_slice(before);
            self.large = piece;
            self.back.extend_from_slice(after);
            return;
        }
        end.reserve(before.len() + piece.len() + after.len());
        end.extend_from_slice(before);
        end.extend_from_slice(&piece);
        end.extend_from_slice(after);
    }

    /// What is not written yet.
    fn parts(&self) -> [&[u8]; 3] {
        let mut written = self.written;
        [&self.front[..], &self.large, &self.back].map(|part| {
            let skipped = written.min(part.len());
            written -= skipped;
            &part[skipped..]
        })
    }

    /// So many bytes more were written. Nothing is held once all are.
    fn wrote(&mut self, bytes: usize) {
        self.written += bytes;
        if self.written >= self.len() {
            *self = Self::default();
        }
    }
}

impl Sending {
    /// Takes what the body has ready.
    fn fill(&mut self, cx: &mut Context<'_>, alarm: &mut Alarm) {
        while !self.is_over && self.out.len() < READY_BYTES_MAX {
            let Poll::Ready(piece) = self.body.poll_piece(cx, alarm) else { return };
            match (piece, self.framing) {
                (Some(Ok(piece)), _) if piece.is_empty() => {}
                (Some(Ok(piece)), Framing::Chunked) => {
                    let mut digits = [0; 18];
                    self.out.add(size_line(piece.len(), &mut digits), piece, b"\r\n");
                }
                (Some(Ok(piece)), _) => self.out.add(b"", piece, b""),
                (Some(Err(broken)), _) => {
                    tracing::debug!(%broken, "an answer is cut");
                    (self.is_over, self.is_cut) = (true, true);
                }
                (None, framing) => {
                    self.is_over = true;
                    if framing == Framing::Chunked {
                        self.out.end().extend_from_slice(b"0\r\n\r\n");
                    }
                }
            }
        }
    }
}

/// The line before a chunk: its size in hexadecimal digits.
fn size_line(mut size: usize, line: &mut [u8; 18]) -> &[u8] {
    let mut start = line.len() - 2;
    line[start..].copy_from_slice(b"\r\n");
    loop {
        start -= 1;
        line[start] = b"0123456789abcdef"[size % 16];
        size /= 16;
        if size == 0 {
            return &line[start..];
        }
    }
}

impl Line {
    /// Writes an answer. Whether another request can follow on this connection.
    pub(super) async fn send(&mut self, reply: Reply, alarm: &mut Alarm) -> Result<bool, Gone> {
        let mut sending = None;
        let mut reply = Some(reply);
        let mut keeps_alive = false;
        poll_fn(|cx| {
            if let Some(reply) = reply.take() {
                keeps_alive = self.poll_skip(cx) && self.answering.keeps_alive && !reply.closes;
                sending = Some(self.begin_answer(reply, &mut keeps_alive, alarm));
            }
            match &mut sending {
                Some(sending) => self.poll_send(cx, sending, alarm),
                None => Poll::Ready(Ok(())),
            }
        })
        .await?;
        Ok(keeps_alive && !sending.is_some_and(|sending| sending.is_cut))
    }

    /// Ends the head of an answer, and decides how its body ends.
    fn begin_answer(&self, mut reply: Reply, keeps_alive: &mut bool, alarm: &Alarm) -> Sending {
        let bodiless = self.answering.is_head
            || matches!(reply.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let length = reply.body.length();
        let (mut front, is_dated) = reply.take_head();
        let framing = match length {
            Some(length) => {
                if reply.status != StatusCode::NO_CONTENT {
                    headers::number_field(&mut front, "content-length", length);
                }
                Framing::Length
            }
            None if bodiless => Framing::Length,
            None if self.answering.is_old => Framing::Close,
            None => {
                front.extend_from_slice(b"transfer-encoding: chunked\r\n");
                Framing::Chunked
            }
        };
        *keeps_alive &= framing != Framing::Close;
        match (*keeps_alive, self.answering.is_old) {
            (false, _) => front.extend_from_slice(b"connection: close\r\n"),
            (true, true) => front.extend_from_slice(b"connection: keep-alive\r\n"),
            (true, false) => {}
        }
        if !is_dated {
            headers::date(&mut front, alarm.clock().now().unix_ns);
        }
        front.extend_from_slice(b"\r\n");
        let body = if bodiless { Body::EMPTY } else { reply.body };
        let out = Out { front, ..Out::default() };
        Sending { out, body, framing, is_over: bodiless, is_cut: false }
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        sending: &mut Sending,
        alarm: &mut Alarm,
    ) -> Poll<Result<(), Gone>> {
        loop {
            sending.fill(cx, alarm);
            if sending.out.len() == 0 {
                // By TLS some may still wait inside.
                let flushed = match self.stream.poll_flush(cx) {
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Gone)),
                    Poll::Ready(Ok(())) => true,
                    Poll::Pending => false,
                };
                return match (sending.is_over, flushed) {
                    (true, true) => Poll::Ready(Ok(())),
                    (false, true) => {
                        self.watch.is_in(BUSY);
                        self.poll_gone(cx).map(Err)
                    }
                    (_, false) => self.stalled(cx),
                };
            }
            match self.stream.poll_write(cx, sending.out.parts()) {
                Poll::Ready(Ok(bytes)) => {
                    self.watch.is_in(BUSY);
                    sending.out.wrote(bytes);
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Gone)),
                Poll::Pending => return self.stalled(cx),
            }
        }
    }

    /// The client takes nothing: for how long, and is it still there?
    fn stalled(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        self.watch.is_in(STALLED);
        if self.watch.is_over(cx) {
            return Poll::Ready(Err(Gone));
        }
        self.poll_gone(cx).map(Err)
    }
}
