//! Connections to providers. Each worker keeps its own stacks of idle ones (the most recently used is taken first),
//! so that no two workers meet over a connection. Knows hosts, TLS and proxies, nothing of models or keys.

mod connect;
mod h1;
mod pool;
mod post;
mod proxy;
mod tls;

pub use connect::{ConnectError, Connector};
pub use h1::{Connection, Exchange, Fault, Head, Outgoing};
pub use pool::Pool;
pub use post::{Letter, Poster, Said};
pub use tls::client_config;

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

impl Origin {
    /// A server of the configuration, through a proxy of the configuration.
    pub fn of(server: &keymux_config::BaseUrl, proxy: Option<&keymux_config::ProxyUrl>) -> Self {
        let proxy = proxy.map(Proxy::of);
        Self { https: server.https, host: server.host.clone(), port: server.port, proxy }
    }
}

/// An HTTP proxy. HTTPS goes through it by `CONNECT`, plain HTTP by absolute request targets.
#[derive(Clone, PartialEq, Eq, Hash)]
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

impl Proxy {
    fn of(proxy: &keymux_config::ProxyUrl) -> Self {
        let authorization = proxy.authorization.as_ref().map(|a| format!("Basic {}", a.expose()));
        Self { https: proxy.https, host: proxy.host.clone(), port: proxy.port, authorization }
    }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { https, host, port, authorization } = self;
        let shown = authorization.as_ref().map(|_| "…");
        f.debug_struct("Proxy")
            .field("https", https)
            .field("host", host)
            .field("port", port)
            .field("authorization", &shown)
            .finish()
    }
}
