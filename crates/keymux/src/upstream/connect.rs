//! Opening a connection: name, TCP, proxy, TLS.

use super::h1::Connection;
use super::{Origin, proxy};
use crate::http1::stream::{Duplex, Stream};
use rustls::pki_types::ServerName;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Opens connections.
#[derive(Clone)]
pub struct Connector {
    tls: Arc<rustls::ClientConfig>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No TCP connection.
    #[error("cannot reach {host}:{port}: {source}")]
    Tcp {
        /// Host, or the proxy's.
        host: String,
        /// Port.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// The proxy refused.
    #[error("the proxy refused: {0}")]
    Proxy(String),
    /// No TLS.
    #[error("TLS with {host} failed: {source}")]
    Tls {
        /// Whom.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// This machine has no descriptor, port or memory left: nobody else's fault.
    #[error("this machine is out of sockets: {0}")]
    Local(io::Error),
}

impl Connector {
    /// Opens connections with this TLS configuration.
    pub fn new(tls: Arc<rustls::ClientConfig>) -> Self {
        Self { tls }
    }

    /// Opens a connection. The caller bounds the time.
    pub async fn connect(&self, origin: &Origin) -> Result<Connection, ConnectError> {
        let (host, port) = match &origin.proxy {
            Some(proxy) => (proxy.host.as_str(), proxy.port),
            None => (origin.host.as_str(), origin.port),
        };
        let tcp = TcpStream::connect((host, port)).await.map_err(|source| tcp_error(host, port, source))?;
        // Small requests go out at once; a failure to say so costs only latency.
        let _ = tcp.set_nodelay(true);
        keep_alive(&tcp);
        let Some(proxy) = &origin.proxy else {
            return Ok(Connection::new(if origin.https {
                Stream::Tls(Box::new(self.secured(&origin.host, tcp).await?.into()))
            } else {
                Stream::Tcp(tcp)
            }));
        };
        let mut hop: Box<dyn Duplex> =
            if proxy.https { Box::new(self.secured(&proxy.host, tcp).await?) } else { Box::new(tcp) };
        if !origin.https {
            return Ok(Connection::new(Stream::Other(hop)));
        }
        proxy::tunnel(&mut hop, proxy, &origin.host, origin.port).await.map_err(ConnectError::Proxy)?;
        Ok(Connection::over(self.secured(&origin.host, hop).await?))
    }

    async fn secured<S>(
        &self,
        host: &str,
        stream: S,
    ) -> Result<tokio_rustls::client::TlsStream<S>, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let tls_error = |source| ConnectError::Tls { host: host.to_owned(), source };
        let name = ServerName::try_from(host.to_owned()).map_err(|e| tls_error(io::Error::other(e)))?;
        TlsConnector::from(self.tls.clone()).connect(name, stream).await.map_err(tls_error)
    }
}

fn tcp_error(host: &str, port: u16, source: io::Error) -> ConnectError {
    use rustix::io::Errno;
    let local = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
    match source.raw_os_error() {
        Some(code) if local.iter().any(|e| e.raw_os_error() == code) => ConnectError::Local(source),
        _ => ConnectError::Tcp { host: host.to_owned(), port, source },
    }
}

/// A provider that vanishes without a word must not hold a slow stream for ever.
fn keep_alive(tcp: &TcpStream) {
    let probes = socket2::TcpKeepalive::new()
        .with_time(std::time::Duration::from_secs(30))
        .with_interval(std::time::Duration::from_secs(10))
        .with_retries(3);
    // Without it the idle time-out still ends the stream, only later.
    let _ = socket2::SockRef::from(tcp).set_tcp_keepalive(&probes);
}
