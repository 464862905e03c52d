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

/// The caller's headers without what stays here, with room for what a provider asks for.
pub fn from_caller(headers: &HeaderMap) -> HeaderMap {
    let hop = hop_by_hop(headers);
    let mut out = HeaderMap::with_capacity(headers.len() + 6);
    for (name, value) in headers {
        if !stays_here(name) && !hop.contains(name) {
            out.append(name.clone(), value.clone());
        }
    }
    out
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

/// A provider's headers without what stays there, with room for what the caller is told of the gateway.
pub fn to_caller(headers: &HeaderMap) -> HeaderMap {
    let hop = hop_by_hop(headers);
    let mut out = HeaderMap::with_capacity(headers.len() + 6);
    for (name, value) in headers {
        if !stays_there(name) && !hop.contains(name) {
            out.append(name.clone(), value.clone());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn credentials_and_hop_headers_of_the_caller_stay_here() {
        let out = from_caller(&map(&[
            ("authorization", "Bearer km-1"),
            ("x-api-key", "km-1"),
            ("api-key", "km-1"),
            ("x-goog-api-key", "km-1"),
            ("cookie", "a=b"),
            ("connection", "close, x-secret-hop"),
            ("x-secret-hop", "1"),
            ("openai-organization", "org"),
            ("openai-project", "p"),
            ("x-openrouter-cache", "true"),
            ("x-openrouter-cache-clear", "true"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-keymux-session", "s"),
            ("transfer-encoding", "chunked"),
            ("content-length", "3"),
            ("host", "here"),
            ("expect", "100-continue"),
            ("anthropic-version", "2023-06-01"),
            ("anthropic-beta", "a,b"),
            ("http-referer", "https://my.app"),
            ("x-title", "app"),
            ("x-session-id", "s"),
            ("content-type", "application/json"),
            ("x-stainless-lang", "python"),
        ]));
        let mut names: Vec<&str> = out.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "anthropic-beta",
                "anthropic-version",
                "content-type",
                "http-referer",
                "x-session-id",
                "x-stainless-lang",
                "x-title"
            ]
        );
    }

    #[test]
    fn what_tells_of_the_providers_account_stays_there() {
        let headers = map(&[
            ("x-ratelimit-remaining-requests", "1"),
            ("anthropic-ratelimit-tokens-limit", "1"),
            ("openai-organization", "org"),
            ("anthropic-organization-id", "org"),
            ("set-cookie", "a=b"),
            ("retry-after", "9"),
            ("x-request-id", "upstream"),
            ("content-type", "application/json"),
            ("openai-processing-ms", "12"),
            ("x-generation-id", "gen-1"),
            ("request-id", "req_1"),
        ]);
        let headers = to_caller(&headers);
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-type", "openai-processing-ms", "request-id", "x-generation-id"]);
    }
}
