//! One HTTP/1.1 connection of the load generator, opened when it is needed.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::load::Shot;
use crate::rt;

const CONNECT: Duration = Duration::from_secs(10);

/// Where load goes.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// `host:port`.
    pub(crate) authority: String,
    /// What stands before every path.
    base: String,
    token: Option<HeaderValue>,
}

impl Target {
    /// Errors: not an `http` URL, a token that is no header.
    pub(crate) fn new(url: &str, token: Option<&str>) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("'{url}' is no URL"))?;
        if uri.scheme_str() != Some("http") {
            return Err(anyhow!("'{url}': only http is supported"));
        }
        let host = uri.host().ok_or_else(|| anyhow!("'{url}' names no host"))?;
        let token = token.map(|token| HeaderValue::from_str(&format!("Bearer {token}"))).transpose()?;
        Ok(Target {
            authority: format!("{host}:{}", uri.port_u16().unwrap_or(80)),
            base: uri.path().trim_end_matches('/').to_owned(),
            token,
        })
    }

    /// The request for a shot.
    pub(crate) fn request(&self, shot: &Shot) -> anyhow::Result<Request<Full<Bytes>>> {
        let mut request = Request::post(format!("{}{}", self.base, shot.path))
            .header(HOST, &self.authority)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(shot.body.clone())))?;
        if let Some(token) = &self.token {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
        }
        for (name, value) in &shot.headers {
            request.headers_mut().insert(HeaderName::try_from(name)?, HeaderValue::from_str(value)?);
        }
        Ok(request)
    }
}

/// A connection that is opened again whenever it is found closed.
pub(crate) struct Connection {
    target: Target,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Connection {
    pub(crate) fn new(target: Target) -> Self {
        Connection { target, sender: None }
    }

    pub(crate) async fn send(&mut self, shot: &Shot) -> anyhow::Result<Response<Incoming>> {
        let request = self.target.request(shot)?;
        let idle = match self.sender.take() {
            Some(mut sender) => sender.ready().await.is_ok().then_some(sender),
            None => None,
        };
        let mut sender = match idle {
            Some(sender) => sender,
            None => self.open().await?,
        };
        let response = sender.send_request(request).await?;
        self.sender = Some(sender);
        Ok(response)
    }

    /// Not to be used again: an answer was left half read.
    pub(crate) fn drop_it(&mut self) {
        self.sender = None;
    }

    async fn open(&self) -> anyhow::Result<SendRequest<Full<Bytes>>> {
        let socket = timeout(CONNECT, TcpStream::connect(&self.target.authority)).await??;
        socket.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(socket)).await?;
        rt::spawn(async move {
            // What went wrong shows at the request that it hit.
            let _ = connection.await;
        });
        Ok(sender)
    }
}
