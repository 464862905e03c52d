//! The truth about traces: where spans go, of which requests, and under which names. Plain data; this crate sends
//! nothing.

use crate::secret::Secret;
use crate::url::{BaseUrl, ProxyUrl};

/// Traces of requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Traces {
    /// Where spans go; `None`: there are none.
    pub collector: Option<Collector>,
    /// Share of requests that are traced, of those without a caller's decision; from 0 to 1.
    pub sample: f64,
    /// Which names attributes have.
    pub names: SpanNames,
    /// The name of the service.
    pub service: String,
    /// What else is said of the service, from `OTEL_RESOURCE_ATTRIBUTES`.
    pub resource: Vec<(String, String)>,
}

/// A collector of spans.
#[derive(Clone, Debug)]
pub struct Collector {
    /// Where spans are posted, its path included.
    pub url: BaseUrl,
    /// Headers, which may hold credentials.
    pub headers: Vec<(String, Secret)>,
    /// The proxy on the way, with `no_proxy` taken into account.
    pub proxy: Option<ProxyUrl>,
}

impl PartialEq for Collector {
    fn eq(&self, other: &Self) -> bool {
        let same = |(a, b): (&(String, Secret), &(String, Secret))| {
            a.0 == b.0 && a.1.matches(b.1.expose().as_bytes())
        };
        (&self.url, &self.proxy) == (&other.url, &other.proxy)
            && self.headers.len() == other.headers.len()
            && self.headers.iter().zip(&other.headers).all(same)
    }
}

/// Which names attributes have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpanNames {
    /// Those of the semantic conventions up to 1.41.
    #[default]
    Known,
    /// The newest.
    Latest,
}
