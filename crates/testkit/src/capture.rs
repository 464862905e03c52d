//! What went over the wire, for tests that compare bytes: the last requests as they came, and the bodies that
//! were sent back.

use std::sync::{Mutex, PoisonError};

/// More than that of one body is not kept.
const KEPT_BYTES: usize = 1 << 20;

/// One exchange as the provider saw it.
#[derive(Clone, Debug, Default)]
pub struct Captured {
    /// Number of its record; 0 if it was no call of any provider.
    pub id: u64,
    /// The provider's name.
    pub provider: String,
    /// The method.
    pub method: String,
    /// Path and query after the provider's mount.
    pub path: String,
    /// Headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The request's body, up to 1 MiB.
    pub body: Vec<u8>,
    /// The body sent so far (for raw answers: everything), up to 1 MiB.
    pub sent: Vec<u8>,
}

impl Captured {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// A capture that is still being written.
#[derive(Debug)]
pub(crate) struct Capture(Mutex<Captured>);

impl Capture {
    pub(crate) fn new(mut captured: Captured) -> Self {
        captured.body.truncate(KEPT_BYTES);
        Capture(Mutex::new(captured))
    }

    pub(crate) fn sent(&self, bytes: &[u8]) {
        let mut captured = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = KEPT_BYTES.saturating_sub(captured.sent.len()).min(bytes.len());
        captured.sent.extend_from_slice(bytes.get(..room).unwrap_or_default());
    }

    pub(crate) fn copy(&self) -> Captured {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
