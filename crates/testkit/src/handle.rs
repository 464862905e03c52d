//! Starting a server, and what a test in Rust holds in its hand while it runs.

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use keymux_provider::{FaultScope, FaultSpec, Record, Summary, World, WorldError, WorldSpec};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::capture::Captured;
use crate::connection::accept;
use crate::rt;
use crate::shared::Shared;
use crate::socket::{Acceptor, Identity};

/// How a server runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Seed of the world's randomness.
    pub seed: u64,
    /// How many exchanges are kept with their bytes; 0 keeps none and costs nothing.
    pub captures: usize,
    /// Serves TLS with this certificate.
    pub tls: Option<Identity>,
}

impl Default for Options {
    fn default() -> Self {
        Options { listen: SocketAddr::from(([127, 0, 0, 1], 0)), seed: 1, captures: 256, tls: None }
    }
}

/// The simulated providers of a world on a socket.
#[derive(Debug)]
pub struct Server;

impl Server {
    /// Listens and serves on a thread of its own until the handle is dropped. Errors: a spec that makes no
    /// sense, an address that is taken, a certificate that cannot be read.
    pub fn start(spec: WorldSpec, options: &Options) -> anyhow::Result<Handle> {
        let shared = Arc::new(Shared::new(spec, options.seed, options.captures)?);
        let acceptor = Acceptor::new(options.tls.as_ref())?;
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        let listener = TcpListener::bind(options.listen)
            .with_context(|| format!("cannot listen on {}", options.listen))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let stop = watch::Sender::new(false);
        let serving = {
            let (shared, stop) = (Arc::clone(&shared), stop.subscribe());
            async move {
                if let Ok(listener) = tokio::net::TcpListener::from_std(listener) {
                    accept(listener, acceptor, shared, stop).await;
                }
            }
        };
        let thread = rt::on_own_thread("testkit", serving)?;
        Ok(Handle { shared, address, scheme, stop, thread: Some(thread) })
    }
}

/// What was waited for did not happen.
#[derive(Debug)]
pub struct NotInTime {
    /// The totals when patience ran out.
    pub summary: Summary,
}

impl fmt::Display for NotInTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "did not happen in time; the provider's books: {:?}", self.summary)
    }
}

impl std::error::Error for NotInTime {}

/// A running server. Dropping it closes every connection and waits for its thread.
#[derive(Debug)]
pub struct Handle {
    shared: Arc<Shared>,
    address: SocketAddr,
    scheme: &'static str,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

impl Handle {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// The base URL of a provider, such as a gateway or an SDK of OpenAI's wants it: with `/v1`.
    pub fn base_url(&self, provider: &str) -> String {
        format!("{}/v1", self.mount(provider))
    }

    /// Where a provider is mounted: what Anthropic's SDK wants (it adds `/v1` itself).
    pub fn mount(&self, provider: &str) -> String {
        format!("{}://{}/{provider}", self.scheme, self.address)
    }

    /// Looks at (or changes) the world. It serves nobody meanwhile.
    pub fn with_world<T>(&self, look: impl FnOnce(&mut World) -> T) -> T {
        let result = look(&mut self.shared.age().world);
        self.shared.tell();
        result
    }

    /// A copy of the books.
    pub fn records(&self) -> Vec<Record> {
        self.shared.age().world.records().cloned().collect()
    }

    /// Totals by key.
    pub fn summary(&self) -> Summary {
        self.shared.age().world.summary()
    }

    /// Nanoseconds since the world began, as its records count them.
    pub fn now_ns(&self) -> u64 {
        self.shared.age().now().mono_ns
    }

    /// The last exchanges, oldest first.
    pub fn captured(&self) -> Vec<Captured> {
        self.shared.captures().iter().map(|capture| capture.copy()).collect()
    }

    /// Puts a fault in; its times count from now.
    pub fn inject(&self, scope: &FaultScope, fault: FaultSpec) -> Result<(), WorldError> {
        let mut age = self.shared.age();
        let now = age.now();
        age.world.inject(now, scope, fault)
    }

    /// Removes every fault at exactly this place.
    pub fn clear_faults(&self, scope: &FaultScope) -> Result<(), WorldError> {
        self.shared.age().world.clear_faults(scope)
    }

    /// The world begins again: empty books, full limits, the spec's faults, time 0.
    pub fn reset(&self) -> Result<(), WorldError> {
        self.shared.reset()
    }

    /// Waits, without polling, until the books fulfil a condition; returns them as they then were.
    pub async fn wait_for(
        &self,
        patience: Duration,
        mut condition: impl FnMut(&[Record]) -> bool,
    ) -> Result<Vec<Record>, NotInTime> {
        let mut changes = self.shared.changes();
        let reached = async {
            loop {
                let records = self.records();
                if condition(&records) || changes.changed().await.is_err() {
                    return records;
                }
            }
        };
        timeout(patience, reached).await.map_err(|_| NotInTime { summary: self.summary() })
    }

    /// The same for a test without a runtime; blocks its thread.
    pub fn wait_for_blocking(
        &self,
        patience: Duration,
        mut condition: impl FnMut(&[Record]) -> bool,
    ) -> Result<Vec<Record>, NotInTime> {
        let age = self.shared.age();
        let unmet = |age: &mut crate::shared::Age| {
            let records: Vec<Record> = age.world.records().cloned().collect();
            !condition(&records)
        };
        let waited = self.shared.happened().wait_timeout_while(age, patience, unmet);
        let (age, result) = waited.unwrap_or_else(PoisonError::into_inner);
        if result.timed_out() {
            return Err(NotInTime { summary: age.world.summary() });
        }
        Ok(age.world.records().cloned().collect())
    }

    /// Stops and waits for the end. Dropping the handle does the same.
    pub fn shutdown(self) {}
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A server thread that panicked has nothing more to say here.
            let _ = thread.join();
        }
    }
}
