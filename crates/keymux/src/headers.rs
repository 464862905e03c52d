//! Which headers cross the gateway. Credentials, cookies and organisation ids stay on their side, in both
//! directions; hop-by-hop headers end here.

use crate::live::{KeyEntry, Upstream};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// What a caller sends that a provider must not see. Headers of a connection, credentials, and what would let a
/// caller steer the provider's own accounting or caches.
fn stays_here(name: &HeaderName) -> bool {
    let name = name.as_str();
    match name.as_bytes()[0] {
        b'a' => matches!(name, "authorization" | "api-key" | "accept-encoding" | "anthropic-organization-id"),
        b'c' => {
            matches!(name, "connection" | "content-length" | "cookie" | "cookie2" | "cf-connecting-ip")
        }
        b'e' => name == "expect",
        b'f' => name == "forwarded",
        b'h' => name == "host" || name == "http2-settings",
        b'k' => name == "keep-alive",
        b'o' => matches!(name, "openai-organization" | "openai-project" | "origin"),
        b'p' => name.starts_with("proxy-"),
        b'r' => name == "referer",
        b't' => matches!(name, "te" | "trailer" | "transfer-encoding"),
        b'u' => name == "upgrade",
        b'x' => {
            matches!(name, "x-api-key" | "x-goog-api-key" | "x-goog-user-project" | "x-real-ip")
                || name.starts_with("x-keymux-")
                || name.starts_with("x-forwarded-")
                || name.starts_with("x-openrouter-cache")
        }
        _ => false,
    }
}

/// What a provider answers that a caller must not see.
fn stays_there(name: &HeaderName) -> bool {
    let name = name.as_str();
    match name.as_bytes()[0] {
        b'a' => {
            name.starts_with("anthropic-ratelimit-")
                || name.starts_with("anthropic-priority-")
                || matches!(name, "anthropic-organization-id" | "alt-svc" | "apim-request-id")
        }
        b'c' => name == "connection" || name.starts_with("cf-"),
        b'k' => name == "keep-alive",
        b'n' => name == "nel",
        b'o' => matches!(name, "openai-organization" | "openai-project"),
        b'p' => name.starts_with("proxy-"),
        b'r' => matches!(name, "report-to" | "retry-after" | "retry-after-ms"),
        b's' => matches!(name, "set-cookie" | "set-cookie2" | "strict-transport-security" | "server"),
        b't' => matches!(name, "trailer" | "transfer-encoding" | "te"),
        b'u' => name == "upgrade",
        b'v' => name == "via",
        b'w' => name == "www-authenticate",
        b'x' => {
            name.starts_with("x-ratelimit-")
                || name.starts_with("x-rate-limit-")
                || matches!(name, "x-request-id" | "x-should-retry" | "x-ms-region" | "x-powered-by")
        }
        _ => false,
    }
}

/// Names that `Connection` declares to be of this hop only.
fn hop_by_hop(headers: &HeaderMap) -> Vec<HeaderName> {
    let lists = headers.get_all(header::CONNECTION).iter().filter_map(|v| v.to_str().ok());
    lists.flat_map(|list| list.split(',')).filter_map(|name| name.trim().parse().ok()).collect()
}

/// The caller's headers without what stays here.
pub fn from_caller(mut headers: HeaderMap) -> HeaderMap {
    let hop = hop_by_hop(&headers);
    for name in hop {
        headers.remove(name);
    }
    let drop: Vec<HeaderName> = headers.keys().filter(|name| stays_here(name)).cloned().collect();
    for name in drop {
        headers.remove(name);
    }
    headers
}

/// Headers that a caller may set over the provider's own: who gets the credit at `OpenRouter`.
const ATTRIBUTION: [&str; 4] = ["http-referer", "x-title", "x-openrouter-title", "x-openrouter-categories"];

/// Adds what a provider and a key ask for.
pub fn to_provider(headers: &mut HeaderMap, upstream: &Upstream, key: &KeyEntry) {
    for (name, value) in &upstream.headers {
        if ATTRIBUTION.contains(&name.as_str()) && headers.contains_key(name) {
            continue;
        }
        headers.insert(name.clone(), value.clone());
    }
    headers.insert(header::HOST, upstream.authority.clone());
    // The usage has to be read, so the answer must come plain.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some((name, value)) = &key.credential {
        headers.insert(name.clone(), value.clone());
    }
}

/// A provider's headers without what stays there.
pub fn to_caller(headers: &mut HeaderMap) {
    let hop = hop_by_hop(headers);
    for name in hop {
        headers.remove(name);
    }
    let drop: Vec<HeaderName> = headers.keys().filter(|name| stays_there(name)).cloned().collect();
    for name in drop {
        headers.remove(name);
    }
}
