//! Threads, runtimes and spawning: the only file that owns them. The data path runs on N single-threaded runtimes
//! that share nothing but the scheduler; the control plane (admin, timers, reload) has one more. A work-stealing
//! runtime is the second layout; which one runs is told by the configuration and known nowhere else.

use std::future::Future;
use std::io;
use std::thread::JoinHandle;
use tokio::runtime::{Builder, Runtime};

/// Starts a task on the current runtime. A task hop costs two context switches, so the data path has one task a
/// connection.
#[expect(clippy::disallowed_methods, reason = "this file owns spawning")]
pub fn spawn<F>(future: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future)
}

/// A runtime of one thread.
pub fn single() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// A work-stealing runtime of `threads` threads.
pub fn shared(threads: usize) -> io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(threads).enable_all().build()
}

/// Runs a task on that runtime and waits for its end.
#[expect(clippy::disallowed_methods, reason = "this file owns spawning")]
pub async fn spawn_on(runtime: &Runtime, future: impl Future<Output = ()> + Send + 'static) {
    if let Err(error) = runtime.spawn(future).await {
        tracing::error!(%error, "a task of the shared runtime failed");
    }
}

/// Starts a named thread that drives `future` on a runtime of its own.
pub fn worker<F>(name: String, future: impl FnOnce() -> F + Send + 'static) -> io::Result<JoinHandle<()>>
where
    F: Future<Output = ()>,
{
    std::thread::Builder::new().name(name).spawn(move || match single() {
        Ok(runtime) => runtime.block_on(future()),
        Err(error) => tracing::error!(%error, "a worker could not start its runtime"),
    })
}

/// Starts a named thread for what may block. Nobody waits for its end.
pub fn aside(name: String, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name).spawn(work).map(drop)
}

/// Processors that this process may use.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
