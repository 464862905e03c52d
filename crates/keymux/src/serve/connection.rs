//! One connection of a client: from accept to its last answer. Slow heads, idle connections and too many of them are
//! ended here, so that nobody can hold a descriptor for nothing.

use super::{Gateway, Worker};
use crate::body::Body;
use crate::request;
use crate::upstream::gather;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
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

/// How a connection is served.
#[derive(Clone)]
pub(super) struct Manner {
    pub tls: Option<TlsAcceptor>,
    pub head_bytes_max: usize,
    pub header_timeout_ns: u64,
    pub keep_alive_ns: u64,
    /// A client that takes no byte of its answer for so long is gone, or holds a key's slot on purpose.
    pub body_timeout_ns: u64,
}

/// Accepts and serves until the listener is dropped.
pub(super) async fn accept(worker: Arc<Worker>, listener: TcpListener, manner: Manner) {
    let watched = Arc::new(Watched::default());
    crate::rt::spawn(sweep(Arc::downgrade(&watched), worker.clone(), manner.clone()));
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
        let (worker, manner, watched) = (worker.clone(), manner.clone(), watched.clone());
        crate::rt::spawn(async move {
            let _seat = seat;
            match manner.tls.clone() {
                None => serve(worker, stream, &manner, &watched).await,
                Some(tls) => {
                    // Boxed, or every plain connection would have room for a TLS one.
                    Box::pin(async move {
                        if let Ok(Ok(stream)) = tokio::time::timeout(TLS_HANDSHAKE, tls.accept(stream)).await
                        {
                            serve(worker, stream, &manner, &watched).await;
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
    let manner = Manner {
        tls: None,
        head_bytes_max: 64 << 10,
        header_timeout_ns: u64::MAX,
        keep_alive_ns: u64::MAX,
        body_timeout_ns: u64::MAX,
    };
    serve(worker, stream, &manner, &Watched::default()).await;
}

async fn serve<S>(worker: Arc<Worker>, stream: S, manner: &Manner, watched: &Watched)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let watch = Arc::new(Watch::new(worker.gateway.clock.mono_ns()));
    watched.add(&watch);
    let io = TokioIo::new(WatchedIo { stream, watch: watch.clone(), gateway: worker.gateway.clone() });
    let service = Serving { worker, watch: watch.clone() };
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .max_header_size(manner.head_bytes_max)
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

/// What a connection is doing, for the sweep.
struct Watch {
    /// Since when it is in this state (monotonic).
    since_ns: AtomicU64,
    state: AtomicU32,
    end: Notify,
}

const IDLE: u32 = 0;
const HEAD: u32 = 1;
const BUSY: u32 = 2;
/// Busy, but the client takes no bytes.
const STALLED: u32 = 3;

impl Watch {
    fn new(now_ns: u64) -> Self {
        // A fresh connection that says nothing is as slow as a slow head.
        Self { since_ns: AtomicU64::new(now_ns), state: AtomicU32::new(HEAD), end: Notify::new() }
    }

    fn enter(&self, state: u32, now_ns: u64) {
        self.since_ns.store(now_ns, Ordering::Relaxed);
        self.state.store(state, Ordering::Release);
    }

    /// A write was tried: did the client take anything?
    fn wrote<T>(&self, polled: &Poll<T>, gateway: &Gateway) {
        match (polled, self.state.load(Ordering::Relaxed)) {
            (Poll::Pending, BUSY) => self.enter(STALLED, gateway.clock.mono_ns()),
            (Poll::Ready(_), STALLED) => self.enter(BUSY, gateway.clock.mono_ns()),
            _ => {}
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

async fn sweep(watched: Weak<Watched>, worker: Arc<Worker>, manner: Manner) {
    let mut every = tokio::time::interval(SWEEP);
    loop {
        every.tick().await;
        let Some(watched) = watched.upgrade() else { return };
        let now_ns = worker.gateway.clock.mono_ns();
        worker.dialer.pool.sweep(now_ns);
        watched.all.lock().unwrap_or_else(PoisonError::into_inner).retain(|watch| {
            let Some(watch) = watch.upgrade() else { return false };
            let allowed = match watch.state.load(Ordering::Acquire) {
                HEAD => manner.header_timeout_ns,
                IDLE => manner.keep_alive_ns,
                STALLED => manner.body_timeout_ns,
                _ => return true,
            };
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
    gateway: Arc<Gateway>,
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
            self.watch.enter(HEAD, self.gateway.clock.mono_ns());
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WatchedIo<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch.wrote(&polled, &self.gateway);
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
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
        self.watch.wrote(&polled, &self.gateway);
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

/// The connection is busy while this lives.
struct Busy {
    watch: Arc<Watch>,
    gateway: Arc<Gateway>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.watch.enter(IDLE, self.gateway.clock.mono_ns());
    }
}

impl Service<http::Request<Incoming>> for Serving {
    type Response = http::Response<WatchedBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: http::Request<Incoming>) -> Self::Future {
        let gateway = self.worker.gateway.clone();
        self.watch.state.store(BUSY, Ordering::Release);
        let busy = Busy { watch: self.watch.clone(), gateway };
        let worker = self.worker.clone();
        Box::pin(async move {
            let response = request::handle(worker, request).await;
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
