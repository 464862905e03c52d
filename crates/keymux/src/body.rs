//! Bodies on the side of the client: reading a request's, and the one type of an answer's.

use crate::alarm::{Alarm, Late};
use crate::errors::{Kind, Problem};
use crate::http1::Fields;
use crate::relay::Relay;
use crate::serve::{Gateway, Line};
use crate::upstream::Exchange;
use bytes::{Bytes, BytesMut};
use keymux_config::Server;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

/// How long a request's body may take altogether: a byte now and then would hold a connection for ever.
const UPLOAD_NS: u64 = 600_000_000_000;
/// A body that came with its head and is no larger is not counted: their number is bounded by that of connections.
const UNCOUNTED_BYTES_MAX: usize = 16 << 10;
/// Pieces of an answer up to this size are copied behind what goes before them and leave with it in one piece; a list
/// of larger ones is cheaper to hand over as it is.
pub const TOGETHER_BYTES_MAX: usize = 4 << 10;

/// The body of an answer.
pub enum Body {
    /// Known whole.
    Whole(Bytes),
    /// Relayed as it comes.
    Relay(Box<Relay>),
    /// Begun before it is decided who answers.
    Deferred(Box<crate::keepalive::Deferred>),
}

/// Why an answer breaks off. The connection is closed without a proper end, so that the client sees the cut.
#[derive(Debug, thiserror::Error)]
#[error("the provider's answer broke off: {0}")]
pub struct Broken(pub String);

impl Body {
    /// A body without a byte.
    pub const EMPTY: Self = Self::Whole(Bytes::new());

    /// The next piece, which may be empty; `None` at the end.
    pub fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        alarm: &mut Alarm,
    ) -> Poll<Option<Result<Bytes, Broken>>> {
        match self {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(std::mem::take(bytes)))),
            Self::Relay(relay) => relay.poll(cx, alarm),
            Self::Deferred(deferred) => deferred.poll(cx, alarm),
        }
    }

    /// Bytes still to come, where that is known.
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::Whole(bytes) => Some(bytes.len() as u64),
            Self::Relay(relay) => relay.length(),
            Self::Deferred(_) => None,
        }
    }

    /// Its size, if it is known whole and leaves together with its head.
    pub fn small(&self) -> usize {
        match self {
            Self::Whole(bytes) if bytes.len() <= TOGETHER_BYTES_MAX => bytes.len(),
            _ => 0,
        }
    }
}

/// A request's body and its share of the bytes that all of them may have.
pub struct Taken {
    bytes: Bytes,
    share: Option<Share>,
}

impl Taken {
    /// One that is at hand, and counted by whoever has it.
    pub fn whole(bytes: Bytes) -> Self {
        Self { bytes, share: None }
    }

    /// It came with its head, so that no time passed over it.
    pub fn came_at_once(&self) -> bool {
        self.share.is_none()
    }
}

impl std::ops::Deref for Taken {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        &self.bytes
    }
}

/// Bytes that are counted among those held until it is dropped.
struct Share {
    gateway: Arc<Gateway>,
    bytes: usize,
    bytes_max: usize,
}

impl Share {
    /// Whether there is room for as many more.
    fn grow(&mut self, by: usize) -> bool {
        self.bytes += by;
        self.gateway.held_bytes.fetch_add(by, Ordering::Relaxed) + by <= self.bytes_max
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.gateway.held_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A body whose bytes are counted while they come.
struct Counted<'a> {
    line: &'a mut Line,
    share: Share,
    over: bool,
}

impl Pieces for Counted<'_> {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, String>>> {
        let piece = ready!(self.line.poll_piece(cx));
        let come = piece.as_ref().and_then(|piece| piece.as_ref().ok()).map_or(0, Bytes::len);
        self.over = !self.share.grow(come);
        Poll::Ready(if self.over { Some(Err(String::new())) } else { piece })
    }

    fn is_over(&self) -> bool {
        self.line.is_over()
    }
}

/// Reads a request's body.
pub async fn read(
    fields: &Fields,
    line: &mut Line,
    alarm: &mut Alarm,
    gateway: &Arc<Gateway>,
    server: &Server,
) -> Result<Taken, Problem> {
    if let Some(coding) = fields.all("content-encoding").find(|c| !c.eq_ignore_ascii_case(b"identity")) {
        let coding = String::from_utf8_lossy(coding).into_owned();
        let message =
            format!("The body is encoded ({coding}); send it plain, the gateway has to read the model.");
        return Err(Problem::new(Kind::EncodedBody, message));
    }
    let bytes_max = server.body_bytes_max;
    if line.stated().is_some_and(|bytes| bytes > bytes_max as u64) {
        return Err(too_large(bytes_max));
    }
    let share = || Share { gateway: gateway.clone(), bytes: 0, bytes_max: server.bodies_bytes_max };
    // Most have come with their heads.
    if let Some(bytes) = line.take_whole() {
        let mut counted = (bytes.len() > UNCOUNTED_BYTES_MAX).then(share);
        if counted.as_mut().is_some_and(|share| !share.grow(bytes.len())) {
            return Err(full());
        }
        return Ok(Taken { bytes, share: counted });
    }
    let idle_ns = server.body_timeout_ms.saturating_mul(1_000_000);
    let until_ns = alarm.clock().mono_ns().saturating_add(UPLOAD_NS);
    let share = share();
    let mut counted = Counted { line, share, over: false };
    match collect(&mut counted, bytes_max, Pauses { alarm, idle_ns, until_ns }).await {
        Ok(bytes) => Ok(Taken { bytes, share: Some(counted.share) }),
        Err(_) if counted.over => Err(full()),
        Err(Stopped::TooLarge(_)) => Err(too_large(bytes_max)),
        Err(Stopped::Idle) => Err(Problem::new(
            Kind::BodyTimeout,
            format!(
                "The body stopped coming for {} s, or was not whole after {} s; send it whole, and faster.",
                idle_ns / 1_000_000_000,
                UPLOAD_NS / 1_000_000_000
            ),
        )),
        Err(Stopped::Broken(detail)) => {
            Err(Problem::new(Kind::InvalidBody, format!("The body broke off: {detail}."))
                .at("invalid_body", None))
        }
    }
}

fn full() -> Problem {
    Problem::new(
        Kind::BodiesFull,
        "This gateway holds as many bytes of requests as it may (`server.bodies_bytes_max`); come back in a moment.",
    )
}

fn too_large(bytes_max: usize) -> Problem {
    let message =
        format!("The body is over {bytes_max} bytes, the limit of this gateway (`server.body_bytes_max`).");
    Problem::new(Kind::BodyTooLarge, message)
}

/// Why a body could not be read whole.
pub enum Stopped {
    /// It is larger than asked for; this is what came, and the rest is still to come.
    TooLarge(Vec<Bytes>),
    /// No byte for too long.
    Idle,
    /// The connection broke, or the framing is wrong.
    Broken(String),
}

/// A body, piece by piece: a client's or a provider's.
pub trait Pieces {
    /// The next piece, which may be empty; `None` at the end.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, String>>>;
    /// It is known that nothing more comes.
    fn is_over(&self) -> bool;
}

impl Pieces for Exchange {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, String>>> {
        self.poll_data(cx).map(|data| data.map(|data| data.map_err(|fault| fault.to_string())))
    }

    fn is_over(&self) -> bool {
        Exchange::is_over(self)
    }
}

/// How long a body may take.
pub struct Pauses<'a> {
    /// Tells.
    pub alarm: &'a mut Alarm,
    /// Between two pieces, in nanoseconds.
    pub idle_ns: u64,
    /// Altogether (monotonic).
    pub until_ns: u64,
}

impl Pauses<'_> {
    /// Waits for the next piece. Most are there already, and cost no look at the clock.
    async fn next(&mut self, body: &mut impl Pieces) -> Result<Option<Result<Bytes, String>>, Late> {
        let mut limit_ns = None;
        poll_fn(|cx| match body.poll_piece(cx) {
            Poll::Ready(piece) => Poll::Ready(Ok(piece)),
            Poll::Pending => {
                let limit_ns = *limit_ns.get_or_insert_with(|| {
                    self.alarm.clock().mono_ns().saturating_add(self.idle_ns).min(self.until_ns)
                });
                if self.alarm.is_past(cx, limit_ns) { Poll::Ready(Err(Late)) } else { Poll::Pending }
            }
        })
        .await
    }
}

/// Reads a body to its end: into one piece, without a copy where it came in one. It stays with the caller, who may go
/// on reading after [`Stopped::TooLarge`].
pub async fn collect(
    body: &mut impl Pieces,
    bytes_max: usize,
    mut pauses: Pauses<'_>,
) -> Result<Bytes, Stopped> {
    let mut pile = Pile::default();
    while !body.is_over() {
        let Ok(piece) = pauses.next(body).await else { return Err(Stopped::Idle) };
        match piece {
            None => break,
            Some(Err(detail)) => return Err(Stopped::Broken(detail)),
            Some(Ok(piece)) => {
                if pile.bytes == 0 && body.is_over() && piece.len() <= bytes_max {
                    return Ok(piece);
                }
                pile.add(piece);
                if pile.bytes > bytes_max {
                    return Err(Stopped::TooLarge(pile.pieces()));
                }
            }
        }
    }
    let total = pile.bytes;
    let mut pieces = pile.pieces();
    if pieces.len() == 1 {
        return Ok(pieces.swap_remove(0));
    }
    let mut whole = BytesMut::with_capacity(total);
    for piece in &pieces {
        whole.extend_from_slice(piece);
    }
    Ok(whole.freeze())
}

/// Pieces in their order. Small ones are copied behind one another: each would cost more than its bytes otherwise, and
/// whoever sends a body byte by byte would take many times the memory that is counted.
#[derive(Default)]
struct Pile {
    large: Vec<Bytes>,
    small: BytesMut,
    bytes: usize,
}

impl Pile {
    fn add(&mut self, piece: Bytes) {
        self.bytes += piece.len();
        if piece.len() <= TOGETHER_BYTES_MAX {
            self.small.extend_from_slice(&piece);
        } else {
            self.seal();
            self.large.push(piece);
        }
    }

    fn seal(&mut self) {
        if !self.small.is_empty() {
            self.large.push(self.small.split().freeze());
        }
    }

    fn pieces(mut self) -> Vec<Bytes> {
        self.seal();
        self.large
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A byte now and then, for ever.
    struct Trickle(u32);

    impl Pieces for Trickle {
        fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, String>>> {
            self.0 += 1;
            if self.0.is_multiple_of(3) {
                return Poll::Ready(Some(Ok(Bytes::from_static(b"x"))));
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }

        fn is_over(&self) -> bool {
            false
        }
    }

    #[test]
    fn pieces_keep_their_order_and_small_onesshare_their_memory() {
        let mut pile = Pile::default();
        for byte in 0..100_u8 {
            pile.add(Bytes::copy_from_slice(&[byte]));
        }
        pile.add(Bytes::from(vec![200; TOGETHER_BYTES_MAX + 1]));
        pile.add(Bytes::from_static(b"end"));
        assert_eq!(pile.bytes, 100 + TOGETHER_BYTES_MAX + 1 + 3);
        let pieces = pile.pieces();
        assert_eq!(pieces.iter().map(Bytes::len).collect::<Vec<_>>(), [100, TOGETHER_BYTES_MAX + 1, 3]);
        assert!(pieces[0].iter().copied().eq(0..100) && pieces[2] == b"end"[..]);
    }

    #[test]
    fn a_body_that_trickles_ends_at_its_deadline() {
        let stopped = crate::rt::single().unwrap().block_on(async {
            let mut alarm = Alarm::new(crate::clock::Clock::start());
            let pauses = Pauses { alarm: &mut alarm, idle_ns: 60_000_000_000, until_ns: 0 };
            collect(&mut Trickle(0), 1_000_000, pauses).await
        });
        assert!(matches!(stopped, Err(Stopped::Idle)));
    }
}
