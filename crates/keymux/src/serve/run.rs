//! From a configuration to a running gateway, and back to nothing: bind, start the workers and the control plane,
//! drain, stop.

use super::connection::accept;
use super::{Gateway, Worker, listener, tls};
use crate::attempt::Dialer;
use crate::clients::feed;
use crate::clock::Clock;
use crate::upstream::{Connector, Pool, client_config};
use crate::{admin, checks, ledger, rt, traces};
use keymux_config::{Config, Runtime, Secret};
use keymux_store::Point;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// Descriptors that are kept for files, the admin listener and the standard streams.
const DESCRIPTORS_KEPT: u64 = 128;

/// Where a gateway listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// For clients.
    pub listen: SocketAddr,
    /// For operators.
    pub admin: Option<SocketAddr>,
}

/// Tells the threads of a gateway to end.
pub type Stop = watch::Receiver<bool>;

/// A gateway that runs. Dropped, it stops at once; [`Running::drain`] first lets requests finish.
pub struct Running {
    /// What it is made of.
    pub gateway: Arc<Gateway>,
    /// Where it listens.
    pub bound: Bound,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

/// Starts a gateway on threads of its own. `admin_token` opens the admin listener.
///
/// # Errors
/// One line that names the setting and the mend.
pub fn start(config: Config, admin_token: String, seed: u64) -> Result<Running, String> {
    start_with(config, admin_token, seed, |_| {})
}

/// The same, with somebody who is called at each [`Point`] of a ledger row's way. Crash tests end the process there;
/// nothing that can be configured comes here.
///
/// # Errors
/// As [`start`].
pub fn start_with(
    config: Config,
    admin_token: String,
    seed: u64,
    probe: fn(Point),
) -> Result<Running, String> {
    let server = config.server.clone();
    let count = server.workers.unwrap_or_else(rt::processors).max(1);
    let listeners = match server.runtime {
        Runtime::PerCore => count,
        Runtime::Shared => 1,
    };
    let listeners = listener::bind_all(server.listen, listeners)
        .map_err(|e| cannot_listen("listen", server.listen, &e))?;
    let admin = match server.admin {
        Some(address) => {
            let bound = listener::bind(address, false).map_err(|e| cannot_listen("admin", address, &e))?;
            Some(bound)
        }
        None => None,
    };
    let address = |l: &TcpListener| l.local_addr().map_err(|e| format!("a listener has no address: {e}"));
    let bound = Bound { listen: address(&listeners[0])?, admin: admin.as_ref().map(address).transpose()? };
    let tls = server.tls.as_ref().map(|files| tls::acceptor(&files.cert, &files.key)).transpose()?;
    let trust = client_config(server.ca_file.as_deref())?;
    let connector = Connector::new(trust.clone());
    let connections_max = connections_max(server.connections_max);
    let clock = Clock::start();
    let store = ledger::open(&config, &clock, &trust, probe)?;
    let gateway = Gateway::new(config, connections_max, seed, (clock, store))?;
    if let Ok(token) = Secret::new(admin_token) {
        // It is new, so nobody else has set it.
        let _ = gateway.admin_token.set(token);
    }
    let starting = rt::single().map_err(|e| format!("no runtime: {e}"))?;
    starting.block_on(feed::first(&gateway));
    drop(starting);
    let (stop, stopped) = watch::channel(false);
    let dialer = |_: usize| Dialer {
        pool: Pool::default(),
        connector: connector.clone(),
        clock: gateway.clock.clone(),
    };
    let mut threads = Vec::new();
    match server.runtime {
        Runtime::PerCore => {
            for (index, listener) in listeners.into_iter().enumerate() {
                let worker = Worker::new(gateway.clone(), dialer(index), seed.wrapping_add(index as u64));
                let serve = worker_future(worker, listener, tls.clone(), stopped.clone());
                threads.push(spawned(&format!("worker-{index}"), serve)?);
            }
        }
        Runtime::Shared => {
            let worker = Worker::new(gateway.clone(), dialer(0), seed);
            let runtime = rt::shared(count).map_err(|e| format!("no runtime: {e}"))?;
            let (listener, stopped) = (listeners.into_iter().next(), stopped.clone());
            let serve = move || async move {
                if let Some(listener) = listener {
                    // This thread only waits for the shared runtime's.
                    rt::spawn_on(&runtime, worker_future(worker, listener, tls, stopped)()).await;
                }
                runtime.shutdown_background();
            };
            threads.push(spawned("workers", serve)?);
        }
    }
    threads.push(spawned("control", control(gateway.clone(), admin, (connector, stopped)))?);
    Ok(Running { gateway, bound, stop, threads })
}

fn spawned<F>(name: &str, future: impl FnOnce() -> F + Send + 'static) -> Result<JoinHandle<()>, String>
where
    F: Future<Output = ()>,
{
    rt::worker(format!("keymux-{name}"), future).map_err(|e| format!("a thread could not be started: {e}"))
}

fn cannot_listen(setting: &str, address: SocketAddr, error: &io::Error) -> String {
    let mend = match error.kind() {
        io::ErrorKind::AddrInUse => "another program has this port; stop it, or choose another port",
        io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege; choose a higher one",
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address",
        _ => "choose another address",
    };
    format!("server.{setting}: cannot listen on {address}: {error}; {mend}")
}

fn worker_future(
    worker: Arc<Worker>,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    mut stopped: Stop,
) -> impl FnOnce() -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> + Send {
    move || {
        Box::pin(async move {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => tokio::select! {
                    () = accept(worker, listener, tls) => {}
                    _ = stopped.wait_for(|stop| *stop) => {}
                },
                Err(error) => tracing::error!(%error, "a listener could not be used"),
            }
        })
    }
}

/// The control plane: the alarm of the waiting room, checks of keys, events to the log and to people, the
/// admin listener.
fn control(
    gateway: Arc<Gateway>,
    admin: Option<TcpListener>,
    (connector, stopped): (Connector, Stop),
) -> impl FnOnce() -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> + Send {
    move || {
        Box::pin(async move {
            rt::spawn(gateway.scheduler.clone().alarm());
            rt::spawn(gateway.turnstile.clone().alarm());
            rt::spawn(feed::follow(gateway.clone()));
            rt::spawn(checks::watch::run(gateway.clone(), connector.clone()));
            rt::spawn(crate::observe::events(gateway.clone()));
            rt::spawn(crate::alerts::run(gateway.clone(), connector.clone()));
            if let Some(listener) = admin {
                rt::spawn(admin::serve(gateway.clone(), connector.clone(), listener));
            }
            // It ends when the gateway stops, after what is left to send.
            traces::export(gateway, connector, stopped).await;
        })
    }
}

/// Leaves each connection of a client room for its provider's.
fn connections_max(configured: Option<usize>) -> usize {
    configured.unwrap_or((descriptors() / 2).max(8))
}

/// Raises the soft limit of open files to the hard one; how many connections that leaves room for.
pub fn descriptors() -> usize {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || limit.maximum.is_none() {
        let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            limit = raised;
        }
    }
    let descriptors = limit.current.unwrap_or(1 << 20);
    usize::try_from(descriptors.saturating_sub(DESCRIPTORS_KEPT)).unwrap_or(usize::MAX)
}

impl Running {
    /// Refuses new requests, lets those in flight finish for at most `within`, then stops. Says how many were cut.
    /// A request is finished when the last byte of its answer is written, not when it is known.
    pub async fn drain(self, within: Duration) -> usize {
        let gateway = self.gateway.clone();
        gateway.draining.store(true, Ordering::Release);
        gateway.turnstile.drain();
        gateway.scheduler.drain();
        let _ = tokio::time::timeout(within, gateway.writes.none()).await;
        gateway.writes.count()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        for thread in self.threads.drain(..) {
            // A worker that panicked has said so already.
            let _ = thread.join();
        }
        // Not by the drop of the store: a thread that stands aside may hold the gateway longer than the process lasts.
        if let Some(store) = &self.gateway.store {
            ledger::empty(store);
        }
    }
}
