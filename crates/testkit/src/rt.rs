//! Threads and tasks: the one file of this crate that starts any.

use std::future::Future;
use std::thread::{Builder, JoinHandle};

use tokio::runtime::Runtime;

/// A runtime of one thread, with sockets and timers.
pub(crate) fn current_thread() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Runs a future to its end on a thread and a runtime of its own.
pub(crate) fn on_own_thread<F>(name: &str, future: F) -> std::io::Result<JoinHandle<()>>
where
    F: Future<Output = ()> + Send + 'static,
{
    let runtime = current_thread()?;
    Builder::new().name(name.to_owned()).spawn(move || {
        runtime.block_on(future);
        // Connections that are still open are dropped with the runtime, which ends their calls.
        runtime.shutdown_background();
    })
}

/// Runs something that blocks on a thread of its own.
pub(crate) fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

/// Raises this process's soft limit of open descriptors to its hard one; returns what it is then. Thousands of
/// streams need thousands of sockets, and the soft limit is mostly 1,024.
pub fn raise_descriptor_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limits = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limits.maximum, maximum: limits.maximum };
    match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => limits.maximum.unwrap_or(u64::MAX),
        Err(_) => limits.current.unwrap_or(u64::MAX),
    }
}

/// Starts a task on the runtime that is running.
#[expect(clippy::disallowed_methods, reason = "a connection is a task; rt.rs owns spawning")]
pub(crate) fn spawn<F>(future: F)
where
    F: Future<Output = ()> + Send + 'static,
{
    drop(tokio::spawn(future));
}
