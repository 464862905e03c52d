//! `keymux health`: for containers that have no curl. Exit code 0 if the gateway is ready, 1 if not.

use super::{Failure, say, world};
use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  keymux health --addr 127.0.0.1:4000\n\nExit codes: 0 ready, 1 not ready or not there, 2 usage"
)]
pub(super) struct Args {
    /// Address of either listener; without it `KEYMUX_LISTEN`, else 127.0.0.1:4000.
    #[arg(long, value_name = "HOST:PORT")]
    addr: Option<String>,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let from_env = || world::variable("KEYMUX_LISTEN").filter(|v| !v.is_empty());
    let address = args.addr.clone().or_else(from_env).unwrap_or_else(|| "127.0.0.1:4000".to_owned());
    let mut resolved = address.to_socket_addrs().map_err(|e| {
        Failure::Mend(format!("--addr {address}: {e}; give HOST:PORT, such as 127.0.0.1:4000"))
    })?;
    let socket = resolved.next().ok_or_else(|| Failure::Mend(format!("--addr {address} has no address")))?;
    let status = ask(socket).map_err(|e| Failure::Failed(format!("nobody answers at {address}: {e}")))?;
    if status.contains(" 200 ") {
        say("ready");
        Ok(())
    } else {
        Err(Failure::Failed(format!("not ready: {status}")))
    }
}

fn ask(socket: std::net::SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&socket, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}
