//! Accepts connections and serves each with hyper, until an answer is due that hyper refuses to give.

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::exchange::{Takeover, answer};
use crate::raw;
use crate::rt;
use crate::shared::Shared;
use crate::socket::Acceptor;

/// Accepts until told to stop. A failing accept (descriptors used up) is not the end.
pub(crate) async fn accept(
    listener: TcpListener,
    acceptor: Acceptor,
    shared: Arc<Shared>,
    mut stop: watch::Receiver<bool>,
) {
    let stopped = stop.clone();
    loop {
        let accepted = tokio::select! {
            () = stopping(&mut stop) => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((socket, _)) = accepted else {
            // The queue stays ready while nothing can be accepted: wait until somebody has closed.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let _ = socket.set_nodelay(true);
        let (shared, acceptor, mut stopped) = (Arc::clone(&shared), acceptor.clone(), stopped.clone());
        rt::spawn(async move {
            tokio::select! {
                () = stopping(&mut stopped) => {}
                () = serve(socket, &acceptor, shared) => {}
            }
        });
    }
}

async fn stopping(stop: &mut watch::Receiver<bool>) {
    // An error is a handle that is gone: the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn serve(socket: TcpStream, acceptor: &Acceptor, shared: Arc<Shared>) {
    // Whoever fails to shake hands has been told so by TLS itself.
    let Ok(socket) = acceptor.accept(socket).await else { return };
    let takeover = Arc::new(Takeover::default());
    let service = {
        let takeover = Arc::clone(&takeover);
        service_fn(move |request| answer(Arc::clone(&shared), Arc::clone(&takeover), request))
    };
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .max_headers(256)
        .serve_connection(TokioIo::new(socket), service);
    let taken = tokio::select! {
        // An error is a caller who went away or does not speak HTTP: nobody is left to tell.
        _ = &mut connection => None,
        answer = takeover.taken() => Some(answer),
    };
    if let Some(answer) = taken {
        let socket = connection.into_parts().io.into_inner();
        raw::play(socket, answer).await;
    }
}
