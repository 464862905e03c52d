//! Requests of the gateway's own, on nobody's behalf, to who is no provider: a collector of traces, a webhook. One after
//! the other to one place, on a connection that is kept unless the letter closes it. Goes where it is told and nowhere
//! else: redirects are not followed. Nothing here tries again.

use super::{Connection, Connector, Exchange, Head, Origin, Outgoing};
use crate::headers;
use bytes::Bytes;
use std::future::poll_fn;
use std::time::Duration;
use tokio::time::timeout;

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
    /// Headers beside those that every letter has.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body.
    pub body: Bytes,
}

/// What was answered, whatever it says.
pub struct Said {
    /// Its head.
    pub head: Head,
    /// Its body, as far as it came and is read.
    pub body: Vec<u8>,
}

impl Said {
    /// The pause that the other side asks for.
    pub fn pause(&self) -> Option<Duration> {
        let seconds = std::str::from_utf8(self.head.get("retry-after")?).ok()?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds))
    }
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

    /// Posts a letter, which may take so long.
    ///
    /// # Errors
    /// Why there is no answer, in words without a secret.
    pub async fn post(&mut self, letter: &Letter<'_>, patience: Duration) -> Result<Said, String> {
        let said = timeout(patience, self.send(letter)).await;
        said.unwrap_or_else(|_| Err(format!("no answer within {} s", patience.as_secs())))
    }

    async fn send(&mut self, letter: &Letter<'_>) -> Result<Said, String> {
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

    /// The answer; or why there is none, and whether the connection may just have been too old.
    async fn exchange(
        &mut self,
        connection: Connection,
        letter: &Letter<'_>,
    ) -> Result<Said, (String, bool)> {
        let mut exchange = Exchange::new(connection, outgoing(letter));
        let head = match exchange.head().await {
            Ok(head) => head,
            Err(fault) => return Err((fault.to_string(), exchange.was_idle())),
        };
        let mut body = Vec::new();
        while let Some(piece) = poll_fn(|cx| exchange.poll_data(cx)).await {
            // The head has said what matters most.
            let Ok(piece) = piece else { return Ok(Said { head, body }) };
            body.extend_from_slice(&piece);
            if body.len() > ANSWER_BYTES_MAX {
                return Ok(Said { head, body });
            }
        }
        self.kept = exchange.into_connection().map(|connection| (letter.origin.clone(), connection));
        Ok(Said { head, body })
    }
}

fn outgoing(letter: &Letter<'_>) -> Outgoing {
    Outgoing::new(head(letter), letter.body.clone())
}

fn head(letter: &Letter<'_>) -> Vec<u8> {
    let mut head = Vec::with_capacity(512);
    // A proxy reads the head of what is not encrypted: it is told the whole address.
    let read_by = letter.origin.proxy.as_ref().filter(|_| !letter.origin.https);
    head.extend_from_slice(b"POST ");
    if read_by.is_some() {
        head.extend_from_slice(b"http://");
        head.extend_from_slice(letter.authority.as_bytes());
    }
    // The root is a path, too.
    head.extend_from_slice(if letter.path.is_empty() { b"/" } else { letter.path.as_bytes() });
    head.extend_from_slice(b" HTTP/1.1\r\n");
    headers::field(&mut head, "host", letter.authority.as_bytes());
    headers::field(&mut head, "user-agent", concat!("keymux/", env!("CARGO_PKG_VERSION")).as_bytes());
    headers::field(&mut head, "accept-encoding", b"identity");
    for (name, value) in letter.headers {
        headers::field(&mut head, name, value.as_bytes());
    }
    headers::number_field(&mut head, "content-length", letter.body.len() as u64);
    if let Some(authorization) = read_by.and_then(|proxy| proxy.authorization.as_ref()) {
        headers::field(&mut head, "proxy-authorization", authorization.as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    head
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Proxy;

    fn written(https: bool, proxied: bool) -> String {
        let authorization = Some("Basic eDp5".to_owned());
        let proxy =
            proxied.then(|| Proxy { https: false, host: "proxy.test".to_owned(), port: 1, authorization });
        let origin = Origin { https, host: "a.test".to_owned(), port: 80, proxy };
        let headers = [("webhook-id", "msg_1")];
        let body = Bytes::from_static(b"{}");
        let letter = Letter { origin: &origin, authority: "a.test", path: "/x?y=1", headers: &headers, body };
        String::from_utf8(head(&letter)).unwrap()
    }

    #[test]
    fn the_head_says_where_it_goes_and_what_is_in_it() {
        let text = written(true, false);
        assert!(text.starts_with("POST /x?y=1 HTTP/1.1\r\nhost: a.test\r\n"), "{text}");
        assert!(text.ends_with("webhook-id: msg_1\r\ncontent-length: 2\r\n\r\n"), "{text}");
    }

    #[test]
    fn only_a_proxy_that_reads_the_head_is_told_the_address_and_who_sends() {
        let read = written(false, true);
        assert!(read.starts_with("POST http://a.test/x?y=1 HTTP/1.1\r\n"), "{read}");
        assert!(read.contains("\r\nproxy-authorization: Basic eDp5\r\n"), "{read}");
        // Through a tunnel, the other side would read it.
        assert_eq!(written(true, true), written(true, false));
    }
}
