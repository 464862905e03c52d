//! Requests of the gateway's own, on nobody's behalf, to who is no provider: one after the other to one place, on a
//! connection that is kept. Whoever posts says how long it may take; nothing here tries again.

use super::{Connection, Connector, Exchange, Head, Origin, Outgoing};
use crate::headers;
use bytes::Bytes;
use std::future::poll_fn;

/// Most of an answer that is read.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// What is posted, and where to.
pub struct Letter<'a> {
    /// Where connections go.
    pub origin: &'a Origin,
    /// `Host`.
    pub authority: &'a str,
    /// The path.
    pub path: &'a str,
    /// Headers beside those of the connection and the length.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body.
    pub body: Bytes,
}

/// Posts to one place after the other.
pub struct Poster {
    connector: Connector,
    /// The last connection, and where it goes.
    kept: Option<(Origin, Connection)>,
}

impl Poster {
    /// A poster without a connection.
    pub fn new(connector: Connector) -> Self {
        Self { connector, kept: None }
    }

    /// Posts a letter; the head of its answer, whatever it says.
    ///
    /// # Errors
    /// Why there is none, in words without a secret.
    pub async fn post(&mut self, letter: &Letter<'_>) -> Result<Head, String> {
        let kept = self.kept.take().filter(|(origin, _)| origin == letter.origin);
        if let Some((_, mut connection)) = kept
            && connection.is_open()
        {
            match self.exchange(connection, letter).await {
                // It may have been closed for being idle, just when it was taken.
                Err((_, true)) => {}
                said => return said.map_err(|(why, _)| why),
            }
        }
        let connection = self.connector.connect(letter.origin).await.map_err(|error| error.to_string())?;
        self.exchange(connection, letter).await.map_err(|(why, _)| why)
    }

    /// The head of the answer; or why there is none, and whether the connection may just have been too old.
    async fn exchange(
        &mut self,
        connection: Connection,
        letter: &Letter<'_>,
    ) -> Result<Head, (String, bool)> {
        let mut exchange = Exchange::new(connection, outgoing(letter));
        let head = match exchange.head().await {
            Ok(head) => head,
            Err(fault) => return Err((fault.to_string(), exchange.was_idle())),
        };
        let mut read = 0;
        while let Some(piece) = poll_fn(|cx| exchange.poll_data(cx)).await {
            // The head has said what matters.
            let Ok(piece) = piece else { return Ok(head) };
            read += piece.len();
            if read > ANSWER_BYTES_MAX {
                return Ok(head);
            }
        }
        self.kept = exchange.into_connection().map(|connection| (letter.origin.clone(), connection));
        Ok(head)
    }
}

fn outgoing(letter: &Letter<'_>) -> Outgoing {
    let mut head = Vec::with_capacity(512);
    head.extend_from_slice(b"POST ");
    // A proxy that sees the request is told the whole address.
    if letter.origin.proxy.is_some() && !letter.origin.https {
        head.extend_from_slice(b"http://");
        head.extend_from_slice(letter.authority.as_bytes());
    }
    head.extend_from_slice(letter.path.as_bytes());
    head.extend_from_slice(b" HTTP/1.1\r\n");
    headers::field(&mut head, "host", letter.authority.as_bytes());
    headers::field(&mut head, "accept-encoding", b"identity");
    for (name, value) in letter.headers {
        headers::field(&mut head, name, value.as_bytes());
    }
    headers::number_field(&mut head, "content-length", letter.body.len() as u64);
    if let Some(proxy) = letter.origin.proxy.as_ref().filter(|_| !letter.origin.https)
        && let Some(authorization) = &proxy.authorization
    {
        headers::field(&mut head, "proxy-authorization", authorization.as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    Outgoing::new(head, letter.body.clone())
}
