//! One connection of a client: from accept to its last answer, one request after the other.

use super::line::{Came, Gone, Line};
use super::watch::{Watch, Watched, sweep};
use super::{Gateway, Worker};
use crate::alarm::Alarm;
use crate::http1::stream::{Duplex, Stream};
use crate::request;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

const TLS_HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a client that still sends is listened to after its last answer.
const LINGER_NS: u64 = 2_000_000_000;

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
                None => serve(&worker, Stream::Tcp(stream), &watched).await,
                Some(tls) => {
                    // Boxed, or every plain connection would have room for a TLS one.
                    Box::pin(async move {
                        if let Ok(Ok(stream)) = tokio::time::timeout(TLS_HANDSHAKE, tls.accept(stream)).await
                        {
                            serve(&worker, Stream::Tls(Box::new(stream.into())), &watched).await;
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
pub async fn on_stream(worker: Arc<Worker>, stream: impl Duplex + 'static) {
    // Nobody sweeps these, so no time runs out.
    serve(&worker, Stream::Other(Box::new(stream)), &Watched::default()).await;
}

async fn serve(worker: &Arc<Worker>, stream: Stream, watched: &Watched) {
    let watch = Arc::new(Watch::new(worker.gateway.clone()));
    watched.add(&watch);
    let mut line = Line::new(stream, watch);
    let mut alarm = Alarm::new(worker.gateway.clock.clone());
    loop {
        match answer_one(worker, &mut line, &mut alarm).await {
            Ok(true) => {}
            Ok(false) => break,
            Err(Gone) => return,
        }
    }
    let until_ns = alarm.clock().mono_ns().saturating_add(LINGER_NS);
    // Whoever still sends has had its time.
    let _ = alarm.before(until_ns, line.linger()).await;
}

/// Serves the next request. Whether another one can follow.
async fn answer_one(worker: &Arc<Worker>, line: &mut Line, alarm: &mut Alarm) -> Result<bool, Gone> {
    let gateway = &worker.gateway;
    let head_bytes_max = gateway.head_bytes_max.load(Ordering::Relaxed);
    let came = line.head(head_bytes_max).await;
    let _owes = gateway.writes.owe();
    let mut reply = match came {
        // In a box of its own, which is gone when the answer is: a stream that lasts must not hold room for it.
        Came::Request(head) => Box::pin(request::handle(worker, line, alarm, head)).await?,
        Came::Unreadable(unreadable) => request::unreadable(worker, &unreadable.path, &unreadable.problem),
        Came::Nothing => return Err(Gone),
    };
    reply.closes |= gateway.draining.load(Ordering::Relaxed);
    let keeps_alive = line.send(reply, alarm).await?;
    line.is_free();
    Ok(keeps_alive)
}
