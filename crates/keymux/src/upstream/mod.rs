//! Connections to providers. Each worker keeps its own stacks of idle ones (the most recently used is taken first),
//! so that no two workers meet over a connection. Knows hosts, TLS and proxies, nothing of models or keys.

mod connect;
pub mod gather;
mod pool;
mod proxy;
mod tls;

pub use connect::{ConnectError, Connector};
pub use pool::Pool;
pub use tls::client_config;

use bytes::Bytes;
use http_body_util::Full;

/// The body of a request that goes out: whole, since its head was read and it may be sent again.
pub type OutBody = Full<Bytes>;
/// A connection that takes requests.
pub type Sender = hyper::client::conn::http1::SendRequest<OutBody>;

/// Where connections of one kind go. Two providers at one host with the same proxy share them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// By TLS.
    pub https: bool,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Through this proxy.
    pub proxy: Option<Proxy>,
}

/// An HTTP proxy. HTTPS goes through it by `CONNECT`, plain HTTP by absolute request targets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proxy {
    /// By TLS.
    pub https: bool,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// `Proxy-Authorization`, ready to send.
    pub authorization: Option<String>,
}
