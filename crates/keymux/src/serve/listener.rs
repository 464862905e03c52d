//! Listening sockets. Every worker has one of its own on the same address (`SO_REUSEPORT`), so that the kernel spreads
//! connections and no thread hands one to another.

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4_096;

/// A listener that others may share its address with.
pub(super) fn bind(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Listeners on one address, one a worker. The first one is bound alone, so that a port in use is seen: with
/// `SO_REUSEPORT` a second process of the same user would silently get a share of the connections.
pub(super) fn bind_all(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    let port_is_free = bind(address, false)?;
    let address = SocketAddr::new(address.ip(), port_is_free.local_addr()?.port());
    drop(port_is_free);
    (0..count.max(1)).map(|_| bind(address, count > 1)).collect()
}
