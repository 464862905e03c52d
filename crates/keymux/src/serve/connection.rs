//! One connection of a client: from accept to its last answer. Slow heads, idle connections and too many of them are
//! ended here, so that nobody can hold a descriptor for nothing.

use super::{Gateway, Worker};
use crate::body::Body;
use crate::request;
use crate::upstream::gather;
use http::header::{CONNECTION, HeaderValue};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

/// How often a worker looks for connections, of clients and to providers, that have been slow or idle for too long.
const SWEEP: Duration = Duration::from_millis(500);
const TLS_HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a client that still sends is listened to after its last answer.
const LINGER: Duration = Duration::from_secs(2);

/// Accepts and serves until the listener is dropped.
pub(super) async fn accept(worker: Arc<Worker>, listener: TcpListener, tls: Option<TlsAcceptor>) {
    let watched = Arc::new(Watched::default());
    crate::rt::spawn(sweep(Arc::downgrade(&watched), worker.clone()));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors: wait for one to come back instead of spinning.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let Some(seat) = Seat::take(&worker.gateway) else {
            turn_away(&stream);
            continue;
        };
        // It costs only latency if it fails.
        let _ = stream.set_nodelay(true);
        let (worker, tls, watched) = (worker.clone(), tls.clone(), watched.clone());
        crate::rt::spawn(async move {
            let _seat = seat;
            match tls {
                None => serve(worker, stream, &watched).await,
                Some(tls) => {
                    // Boxed, or every plain connection would have room for a TLS one.
                    Box::pin(async move {
                        if let Ok(Ok(stream)) = tokio::time::timeout(TLS_HANDSHAKE, tls.accept(stream)).await
                        {
                            serve(worker, stream, &watched).await;
                        }
                    })
                    .await;
                }
            }
        });
    }
}

/// A connection's place among those that may be open.
struct Seat(Arc<Gateway>);

impl Seat {
    fn take(gateway: &Arc<Gateway>) -> Option<Self> {
        let before = gateway.connections.fetch_add(1, Ordering::AcqRel);
        gateway.metrics.connections.inc();
        let seat = Self(gateway.clone());
        (before < gateway.connections_max).then_some(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::AcqRel);
        self.0.metrics.connections.dec();
    }
}

/// Says in one write why the connection is not served.
fn turn_away(stream: &TcpStream) {
    let body = r#"{"error":{"message":"The gateway is at its limit of connections.","type":"server_error","param":null,"code":"too_many_connections"}}"#;
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nretry-after-ms: 1000\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    // Who does not read it sees the connection close.
    let _ = stream.try_write(answer.as_bytes());
}

/// Serves one connection that came some other way than by a listener, such as a pipe in memory.
pub async fn on_stream<S>(worker: Arc<Worker>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Nobody sweeps these, so no time runs out.
    serve(worker, stream, &Watched::default()).await;
}

async fn serve<S>(worker: Arc<Worker>, stream: S, watched: &Watched)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let watch = Arc::new(Watch::new(worker.gateway.clone()));
    watched.add(&watch);
    let head_bytes_max = worker.gateway.live.load().config.server.head_bytes_max;
    let io = TokioIo::new(WatchedIo { stream, watch: watch.clone() });
    let service = Serving { worker, watch: watch.clone() };
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .max_header_size(head_bytes_max)
            .serve_connection(io, service)
            .without_shutdown()
    );
    let slow = tokio::select! {
        // An error here is the client's going away, or a head that cannot be read, which hyper has answered.
        ended = &mut connection => {
            if let Ok(parts) = ended {
                linger(parts.io.into_inner().stream).await;
            }
            false
        }
        () = watch.end.notified() => true,
    };
    if slow {
        tracing::debug!("a connection was closed: its head was too slow, or it was idle for too long");
    }
}

/// Closes so that the last answer arrives: a socket that is closed while the client still sends (a body that is too
/// large) is reset, and the reset can overtake the answer that says so.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let _ = stream.shutdown().await;
    let mut scrap = vec![0; 16 << 10];
    let drained = async { while matches!(stream.read(&mut scrap).await, Ok(n) if n > 0) {} };
    let _ = tokio::time::timeout(LINGER, drained).await;
}

/// What a connection is doing, for the sweep and for the drain.
struct Watch {
    gateway: Arc<Gateway>,
    /// Since when it is in this state (monotonic).
    since_ns: AtomicU64,
    state: AtomicU32,
    /// The answer's body has been handed over whole; some of it may still wait to be written.
    over: AtomicBool,
    end: Notify,
}

const IDLE: u32 = 0;
const HEAD: u32 = 1;
const BUSY: u32 = 2;
/// Busy, but the client takes no bytes.
const STALLED: u32 = 3;

impl Watch {
    fn new(gateway: Arc<Gateway>) -> Self {
        // A fresh connection that says nothing is as slow as a slow head.
        Self {
            since_ns: AtomicU64::new(gateway.clock.mono_ns()),
            gateway,
            state: AtomicU32::new(HEAD),
            over: AtomicBool::new(false),
            end: Notify::new(),
        }
    }

    fn is_busy(&self) -> bool {
        matches!(self.state.load(Ordering::Relaxed), BUSY | STALLED)
    }

    fn enter(&self, state: u32) {
        self.since_ns.store(self.gateway.clock.mono_ns(), Ordering::Relaxed);
        self.state.store(state, Ordering::Release);
    }

    /// A request has come whole but for its body.
    fn begin(&self) {
        self.over.store(false, Ordering::Relaxed);
        // A pipelined request comes while the answer before it is still being written.
        if !self.is_busy() {
            self.gateway.writes.begin();
        }
        self.state.store(BUSY, Ordering::Release);
    }

    /// A write was tried: did the client take anything?
    fn wrote<T>(&self, polled: &Poll<T>) {
        match (polled, self.state.load(Ordering::Relaxed)) {
            (Poll::Pending, BUSY) => self.enter(STALLED),
            (Poll::Ready(_), STALLED) => self.enter(BUSY),
            _ => {}
        }
    }

    /// All that hyper had to write is with the operating system.
    fn flushed(&self) {
        if self.is_busy() && self.over.load(Ordering::Relaxed) {
            self.enter(IDLE);
            self.gateway.writes.end();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.is_busy() {
            self.gateway.writes.end();
        }
    }
}

/// All connections of one worker.
#[derive(Default)]
struct Watched {
    all: Mutex<Vec<Weak<Watch>>>,
}

impl Watched {
    fn add(&self, watch: &Arc<Watch>) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(watch));
    }
}

async fn sweep(watched: Weak<Watched>, worker: Arc<Worker>) {
    let mut every = tokio::time::interval(SWEEP);
    loop {
        every.tick().await;
        let Some(watched) = watched.upgrade() else { return };
        let now_ns = worker.gateway.clock.mono_ns();
        worker.dialer.pool.sweep(now_ns);
        // Read anew each time: a reload may have changed them.
        let live = worker.gateway.live.load_full();
        let server = &live.config.server;
        watched.all.lock().unwrap_or_else(PoisonError::into_inner).retain(|watch| {
            let Some(watch) = watch.upgrade() else { return false };
            let allowed_ms = match watch.state.load(Ordering::Acquire) {
                HEAD => server.header_timeout_ms,
                IDLE => server.keep_alive_ms,
                // A client that takes no byte for so long is gone, or holds a key's slot on purpose.
                STALLED => server.body_timeout_ms,
                _ => return true,
            };
            let allowed = allowed_ms.saturating_mul(1_000_000);
            if now_ns.saturating_sub(watch.since_ns.load(Ordering::Relaxed)) > allowed {
                watch.end.notify_one();
            }
            true
        });
    }
}

/// Notices when the first byte of the next head arrives.
struct WatchedIo<S> {
    stream: S,
    watch: Arc<Watch>,
}

impl<S: AsyncRead + Unpin> AsyncRead for WatchedIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before && self.watch.state.load(Ordering::Relaxed) == IDLE {
            self.watch.enter(HEAD);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WatchedIo<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch.wrote(&polled);
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Asked only once everything has been written.
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        if polled.is_ready() {
            self.watch.flushed();
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = gather::write(&mut self.stream, cx, bufs);
        self.watch.wrote(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

struct Serving {
    worker: Arc<Worker>,
    watch: Arc<Watch>,
}

/// The answer is not over while this lives; the connection is busy until it has been flushed as well.
struct Busy(Arc<Watch>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

impl Service<http::Request<Incoming>> for Serving {
    type Response = http::Response<WatchedBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: http::Request<Incoming>) -> Self::Future {
        self.watch.begin();
        let busy = Busy(self.watch.clone());
        let worker = self.worker.clone();
        Box::pin(async move {
            let gateway = worker.gateway.clone();
            let mut response = request::handle(worker, request).await;
            if gateway.draining.load(Ordering::Relaxed) {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response.map(|body| WatchedBody { body, _busy: busy }))
        })
    }
}

/// A body that keeps its connection busy until it is sent or dropped.
pub(super) struct WatchedBody {
    body: Body,
    _busy: Busy,
}

impl http_body::Body for WatchedBody {
    type Data = bytes::Bytes;
    type Error = crate::body::Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, crate::body::Broken>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
