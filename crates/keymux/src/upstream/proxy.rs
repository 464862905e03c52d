//! `CONNECT` through an HTTP proxy, as in RFC 9110 section 9.3.6.

use super::Proxy;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest answer of a proxy that is read.
const ANSWER_BYTES_MAX: usize = 8 << 10;

/// Asks the proxy for a tunnel to `host:port`.
pub(super) async fn tunnel<S>(stream: &mut S, proxy: &Proxy, host: &str, port: u16) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let mut ask = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
    if let Some(authorization) = &proxy.authorization {
        ask.push_str("Proxy-Authorization: ");
        ask.push_str(authorization);
        ask.push_str("\r\n");
    }
    ask.push_str("\r\n");
    stream.write_all(ask.as_bytes()).await.map_err(|e| e.to_string())?;
    let mut answer = Vec::with_capacity(256);
    // One byte at a time: what follows the blank line belongs to TLS.
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= ANSWER_BYTES_MAX {
            return Err("its answer is too long".to_owned());
        }
        answer.push(stream.read_u8().await.map_err(|e| e.to_string())?);
    }
    let line = answer.split(|b| *b == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let status = line.split(' ').nth(1).unwrap_or_default();
    if line.starts_with("HTTP/1.") && status.starts_with('2') { Ok(()) } else { Err(line.into_owned()) }
}
