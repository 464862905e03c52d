//! A running gateway, as commands ask it: its admin listener, with the admin token. One request a connection, plain
//! HTTP/1.1: the listener speaks nothing else, and is on this machine or behind something that keeps it private.

use super::{Failure, serve, world};
use http::StatusCode;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long it may take to answer: a long export reads a year of sums.
const PATIENCE: Duration = Duration::from_mins(1);
const CONNECT: Duration = Duration::from_secs(3);
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// Where the gateway is, and what it is asked with.
#[derive(Debug, clap::Args)]
pub(super) struct Where {
    /// Address of the admin listener; without it that of --config, `KEYMUX_ADMIN`, else 127.0.0.1:4001.
    #[arg(long, value_name = "URL", global = true)]
    admin: Option<String>,
    /// File with the admin token; without it `KEYMUX_ADMIN_TOKEN`, else `admin-token` in the data directory.
    #[arg(long, value_name = "PATH", global = true)]
    token_file: Option<PathBuf>,
    /// The gateway's configuration: its admin address, token and data directory are taken from it.
    #[arg(long, short, value_name = "PATH", global = true)]
    config: Option<PathBuf>,
}

/// A gateway.
pub(super) struct Gateway {
    address: String,
    token: String,
}

impl Where {
    /// Finds out whom to ask.
    pub(super) fn gateway(&self) -> Result<Gateway, Failure> {
        let config = match &self.config {
            Some(path) => Some(serve::configuration(Some(path))?.0),
            None => None,
        };
        let variable = |name| world::variable(name).filter(|value| !value.trim().is_empty());
        let of_config = || match &config {
            Some(config) => config.server.admin.map(|address| address.to_string()),
            None => variable("KEYMUX_ADMIN"),
        };
        let typed = self.admin.clone().or_else(of_config).unwrap_or_else(|| "127.0.0.1:4001".to_owned());
        if typed.starts_with("https://") {
            let told =
                format!("--admin {typed}: the admin listener speaks plain HTTP; give http://HOST:PORT");
            return Err(Failure::Mend(told));
        }
        let address = typed.strip_prefix("http://").unwrap_or(&typed).trim_end_matches('/').to_owned();
        if address.rsplit_once(':').is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err())
        {
            let told = format!("--admin {typed}: give HOST:PORT, such as 127.0.0.1:4001");
            return Err(Failure::Mend(told));
        }
        let token = match (&self.token_file, &config) {
            (Some(path), _) => read_token(path)?,
            (None, Some(config)) => match &config.server.admin_token {
                Some(token) => token.expose().to_owned(),
                None => read_token(&config.server.data_dir.join("admin-token"))?,
            },
            (None, None) => match variable("KEYMUX_ADMIN_TOKEN") {
                Some(token) => token.trim().to_owned(),
                None => read_token(&data_dir().join("admin-token"))?,
            },
        };
        if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Failure::Mend("the admin token is empty or no token".to_owned()));
        }
        Ok(Gateway { address, token })
    }
}

/// Where a gateway without a configuration keeps its state.
fn data_dir() -> PathBuf {
    let variable = |name| world::variable(name).filter(|value| !value.trim().is_empty()).map(PathBuf::from);
    variable("KEYMUX_DATA_DIR")
        .or_else(|| variable("XDG_STATE_HOME").map(|dir| dir.join("keymux")))
        .or_else(|| variable("HOME").map(|dir| dir.join(".local/state/keymux")))
        .unwrap_or_else(|| PathBuf::from("/var/lib/keymux"))
}

fn read_token(path: &Path) -> Result<String, Failure> {
    let text = world::read(path).map_err(|error| {
        Failure::Mend(format!(
            "the admin token cannot be read: {}: {error}; name its file by --token-file, the gateway's configuration by \
             --config, or set KEYMUX_ADMIN_TOKEN",
            path.display()
        ))
    })?;
    Ok(text.trim().to_owned())
}

/// A part of a path or a query.
pub(super) fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

impl Gateway {
    /// Asks, and returns what a success says.
    pub(super) fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let (status, text) = self.exchange(method, path, body).map_err(|error| {
            Failure::Failed(format!(
                "no keymux answers at {}: {error}; is it running, and is this its admin listener (--admin)?",
                self.address
            ))
        })?;
        let value = serde_json::from_slice(&text).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok(value);
        }
        if status == StatusCode::UNAUTHORIZED {
            let told = format!(
                "the gateway at {} does not take this admin token; name the right one by --token-file, --config or \
                 KEYMUX_ADMIN_TOKEN",
                self.address
            );
            return Err(Failure::Mend(told));
        }
        let told = value["error"]["message"].as_str().map_or_else(
            || {
                format!(
                    "the gateway at {} answered {status}; is this the admin listener of a keymux?",
                    self.address
                )
            },
            str::to_owned,
        );
        Err(if status.is_client_error() { Failure::Mend(told) } else { Failure::Failed(told) })
    }

    fn exchange(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> std::io::Result<(StatusCode, Vec<u8>)> {
        let bad = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what);
        let mut last = bad("it has no address");
        let mut stream = None;
        for socket in self.address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&socket, CONNECT) {
                Ok(open) => {
                    stream = Some(open);
                    break;
                }
                Err(error) => last = error,
            }
        }
        let mut stream = stream.ok_or(last)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let body = body.map(ToString::to_string).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n",
            self.address,
            self.token,
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut fields);
        match response.parse(&answer) {
            Ok(httparse::Status::Complete(begin)) => {
                let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
                let status = status.ok_or_else(|| bad("it does not speak HTTP"))?;
                // Its answers say their length, so one that was cut off is noticed.
                let length = response.headers.iter().find(|f| f.name.eq_ignore_ascii_case("content-length"));
                let length =
                    length.and_then(|f| std::str::from_utf8(f.value).ok()?.trim().parse::<usize>().ok());
                let body = answer.split_off(begin);
                if length.is_some_and(|length| length > body.len()) {
                    return Err(bad("its answer broke off"));
                }
                Ok((status, body))
            }
            _ => Err(bad("it does not speak HTTP")),
        }
    }
}
