//! Which headers cross the gateway. Credentials, cookies and organisation ids stay on their side, in both
//! directions; hop-by-hop headers end here.

use crate::http1::{Fields, is_listed};
use crate::live::{KeyEntry, Upstream};
use crate::reply::Reply;
use crate::traces;
use crate::upstream::Head;
use http::HeaderName;

/// What a caller sends that a provider must not see. Headers of a connection, credentials, what would let a caller steer
/// the provider's own accounting or caches, what some servers take for another method or path (and so would get past the
/// list of paths), and what tells another gateway behind this one where to send our key.
fn stays_here(name: &[u8]) -> bool {
    match name.first().copied().unwrap_or_default() {
        b'a' => {
            matches!(name, b"authorization" | b"api-key" | b"accept-encoding" | b"anthropic-organization-id")
        }
        b'c' => {
            matches!(name, b"connection" | b"content-length" | b"cookie" | b"cookie2" | b"cf-connecting-ip")
                || name.starts_with(b"cf-aig-")
        }
        b'e' => name == b"expect",
        b'f' => name == b"forwarded",
        b'h' => name == b"host" || name == b"http2-settings" || name.starts_with(b"helicone-"),
        b'k' => name == b"keep-alive",
        b'o' => matches!(name, b"openai-organization" | b"openai-project" | b"origin"),
        b'p' => name.starts_with(b"proxy-"),
        b'r' => name == b"referer",
        b't' => matches!(name, b"te" | b"trailer" | b"transfer-encoding"),
        b'u' => name == b"upgrade",
        b'x' => {
            matches!(name, b"x-api-key" | b"x-goog-api-key" | b"x-goog-user-project" | b"x-real-ip")
                || name.starts_with(b"x-keymux-")
                || name.starts_with(b"x-forwarded-")
                || name.starts_with(b"x-openrouter-cache")
                || name.starts_with(b"x-portkey-")
                || name.starts_with(b"x-http-method")
                || name.starts_with(b"x-original-")
                || matches!(name, b"x-method-override" | b"x-rewrite-url")
        }
        _ => false,
    }
}

/// What a provider answers that a caller must not see.
fn stays_there(name: &[u8]) -> bool {
    match name.first().copied().unwrap_or_default() {
        b'a' => {
            name.starts_with(b"anthropic-ratelimit-")
                || name.starts_with(b"anthropic-priority-")
                || name.starts_with(b"access-control-")
                || matches!(name, b"anthropic-organization-id" | b"alt-svc" | b"apim-request-id")
        }
        b'c' => name == b"connection" || name.starts_with(b"cf-"),
        b'k' => name == b"keep-alive",
        b'l' => name == b"location",
        b'n' => name == b"nel",
        b'o' => matches!(name, b"openai-organization" | b"openai-project"),
        b'p' => name.starts_with(b"proxy-"),
        b'r' => {
            matches!(name, b"report-to" | b"retry-after" | b"retry-after-ms" | b"ratelimit")
                || name.starts_with(b"ratelimit-")
        }
        b's' => matches!(name, b"set-cookie" | b"set-cookie2" | b"strict-transport-security" | b"server"),
        b't' => matches!(name, b"trailer" | b"transfer-encoding" | b"te"),
        b'u' => name == b"upgrade",
        b'v' => name == b"via",
        b'w' => name == b"www-authenticate",
        b'x' => {
            name.starts_with(b"x-ratelimit-")
                || name.starts_with(b"x-rate-limit-")
                || name.starts_with(b"x-keymux-")
                || name.starts_with(b"x-envoy-")
                || name.starts_with(b"x-amz")
                || name.starts_with(b"x-ms-")
                || matches!(name, b"x-request-id" | b"x-should-retry" | b"x-powered-by")
        }
        _ => false,
    }
}

/// Whether a `Connection` header declares this name to be of its hop only.
fn is_of_this_hop(lists: &[&[u8]], name: &[u8]) -> bool {
    lists.iter().any(|list| is_listed(list, name))
}

/// Headers that a caller may set over the provider's own: who gets the credit at `OpenRouter`.
const ATTRIBUTION: [&str; 4] = ["http-referer", "x-title", "x-openrouter-title", "x-openrouter-categories"];

/// What the gateway itself says on this connection, whatever anybody configured.
fn is_ours(name: &str) -> bool {
    matches!(
        name,
        "host"
            | "accept-encoding"
            | "content-length"
            | "transfer-encoding"
            | "connection"
            | "proxy-authorization"
    )
}

/// Begins a request's head: its first line, and `Host`.
pub fn begin(out: &mut Vec<u8>, method: &str, target: &[&str], upstream: &Upstream) {
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    for part in target {
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    out.extend_from_slice(upstream.authority.as_bytes());
    // The usage has to be read, so the answer must come plain.
    out.extend_from_slice(b"\r\naccept-encoding: identity\r\n");
}

/// Ends a request's head, with the proxy's credential where the proxy sees the head.
pub fn end(out: &mut Vec<u8>, upstream: &Upstream) {
    if let Some(proxy) = upstream.origin.proxy.as_ref().filter(|_| !upstream.origin.https)
        && let Some(authorization) = &proxy.authorization
    {
        field(out, "proxy-authorization", authorization.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// One header.
pub fn field(out: &mut Vec<u8>, name: impl AsRef<[u8]>, value: &[u8]) {
    out.extend_from_slice(name.as_ref());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// One header that came in, with the line that it was written in, where that is as [`field`] would write it.
pub(crate) fn passed(out: &mut Vec<u8>, (name, value, line): (&[u8], &[u8], Option<&[u8]>)) {
    match line {
        Some(line) => out.extend_from_slice(line),
        None => field(out, name, value),
    }
}

/// One header with a number.
pub fn number_field(out: &mut Vec<u8>, name: &str, mut n: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b"0123456789"[(n % 10) as usize];
        n /= 10;
        if n == 0 {
            return field(out, name, &digits[start..]);
        }
    }
}

/// The date of an answer that has none yet.
pub fn date(out: &mut Vec<u8>, unix_ns: u64) {
    let now = jiff::Timestamp::from_nanosecond(i128::from(unix_ns)).unwrap_or_default();
    let printed = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&now);
    // No year of ours is too large for it.
    field(out, "date", printed.unwrap_or_default().as_bytes());
}

/// The caller's headers without what stays here, then what the provider and the key ask for. Of two headers of one
/// name, the provider's is sent, except where a caller may set its own.
pub fn to_provider(out: &mut Vec<u8>, caller: &Fields, upstream: &Upstream, key: &KeyEntry) {
    let hop: Vec<&[u8]> = caller.all("connection").collect();
    let credential = key.credential.as_ref();
    let overruled = |name: &[u8]| {
        let is_it = |known: &HeaderName| known.as_str().as_bytes() == name;
        credential.is_some_and(|(known, _)| is_it(known))
            || upstream
                .headers
                .iter()
                .any(|(known, _)| is_it(known) && !ATTRIBUTION.contains(&known.as_str()))
    };
    for came in caller.lines() {
        if !stays_here(came.0)
            && !traces::is_context(came.0)
            && !is_of_this_hop(&hop, came.0)
            && !overruled(came.0)
        {
            passed(out, came);
        }
    }
    for (index, (name, value)) in upstream.headers.iter().enumerate() {
        let text = name.as_str();
        let set_by_caller =
            ATTRIBUTION.contains(&text) && caller.has(text) && !is_of_this_hop(&hop, text.as_bytes());
        let set_again = upstream.headers[index + 1..].iter().any(|(later, _)| later == name);
        if !set_by_caller && !set_again && !is_ours(text) && credential.is_none_or(|(known, _)| known != name)
        {
            field(out, text, value.as_bytes());
        }
    }
    if let Some((name, value)) = credential {
        field(out, name.as_str(), value.as_bytes());
    }
}

/// What a provider is told of traces: nothing, unless the operator says that it may know. Whoever sees ids and baggage
/// could tell which calls belong together, and they are of no use to who does not trace into the same collector. The
/// ids are ours where there are spans of ours, else the caller's.
pub fn trace_context(
    out: &mut Vec<u8>,
    caller: &Fields,
    upstream: &Upstream,
    ours: Option<(&traces::Trace, u32)>,
) {
    if !upstream.trace_context {
        return;
    }
    if let Some((trace, attempt)) = ours {
        field(out, "traceparent", trace.traceparent(attempt).as_bytes());
        if let Some(state) = &trace.state {
            field(out, "tracestate", state.as_bytes());
        }
    }
    let hop: Vec<&[u8]> = caller.all("connection").collect();
    for came in caller.lines().filter(|came| traces::is_context(came.0)) {
        let is_replaced = ours.is_some() && came.0 != b"baggage";
        if !is_replaced && !is_of_this_hop(&hop, came.0) {
            passed(out, came);
        }
    }
}

/// A provider's headers without what stays there. The framing of the body is the connection's to tell; its media type
/// may be another one here.
pub fn to_caller(reply: &mut Reply, head: &Head, media_type: Option<&str>) {
    let hop: Vec<&[u8]> =
        head.fields().filter(|(name, _)| *name == b"connection").map(|(_, value)| value).collect();
    for came in head.lines() {
        match came.0 {
            b"content-length" => {}
            b"content-type" if media_type.is_some() => {}
            name if stays_there(name) || is_of_this_hop(&hop, name) => {}
            _ => reply.passed(came),
        }
    }
    if let Some(media_type) = media_type {
        reply.field("content-type", media_type.as_bytes());
    }
}

/// The query without credentials: some clients put theirs there, and it is one of this gateway, not of a provider.
pub fn query_from_caller(query: &str) -> Option<String> {
    let stays = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default().to_ascii_lowercase();
        !matches!(name.as_str(), "key" | "api_key" | "api-key" | "apikey" | "token" | "access_token")
    };
    let rest: Vec<&str> = query.split('&').filter(stays).collect();
    (!rest.is_empty()).then(|| rest.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::Body;
    use crate::live::Times;
    use crate::observe::Metrics;
    use crate::upstream::Origin;
    use http::header::{HeaderName, HeaderValue};
    use keymux_config::Timeouts;
    use keymux_policy::fleet::{AccountId, EndpointSet, ProviderId};

    fn map(pairs: &[(&str, &str)]) -> Fields {
        Fields::of(&pairs.iter().map(|(n, v)| (*n, v.as_bytes())).collect::<Vec<_>>())
    }

    fn upstream() -> Upstream {
        Upstream {
            runs_on_after_cancel: false,
            id: ProviderId(0),
            name: "lab".into(),
            shown: HeaderValue::from_static("lab"),
            origin: Origin { https: false, host: "127.0.0.1".into(), port: 1, proxy: None },
            origin_id: 0,
            authority: HeaderValue::from_static("127.0.0.1:1"),
            target_base: "/v1".into(),
            dialect: keymux_wire::error::Dialect::OpenAi,
            profile: keymux_wire::limits::Profile::OpenAi,
            headers: Vec::new(),
            endpoints: EndpointSet::default(),
            timeouts: Timeouts::default(),
            trace_context: false,
            times: Times::new(&"lab".into(), std::iter::empty(), &Metrics::default()),
        }
    }

    fn key() -> KeyEntry {
        KeyEntry {
            name: "k".into(),
            shown: HeaderValue::from_static("k"),
            account_name: "a".into(),
            account: AccountId(0),
            credential: Some((HeaderName::from_static("x-key"), HeaderValue::from_static("sk-test-1"))),
            counters: Metrics::default().key(&"lab".into(), &"k".into()),
            owner: std::sync::atomic::AtomicU64::default(),
        }
    }

    /// What a provider without wishes is sent of these.
    fn sent(headers: &Fields) -> String {
        let mut out = Vec::new();
        to_provider(&mut out, headers, &upstream(), &key());
        let text = String::from_utf8(out).unwrap();
        text.strip_suffix("x-key: sk-test-1\r\n").unwrap().to_owned()
    }

    fn names(text: &str) -> Vec<&str> {
        let mut names: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once(": ")?.0)).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn credentials_and_hop_headers_of_the_caller_stay_here() {
        let out = sent(&map(&[
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
            ("x-http-method-override", "DELETE"),
            ("x-http-method", "GET"),
            ("x-method-override", "GET"),
            ("x-original-url", "/v1/files"),
            ("x-rewrite-url", "/v1/files"),
            ("x-portkey-custom-host", "https://elsewhere.test"),
            ("helicone-target-url", "https://elsewhere.test"),
            ("cf-aig-cache-ttl", "3600"),
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
        assert_eq!(
            names(&out),
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
        let text = [
            ("x-ratelimit-remaining-requests", "1"),
            ("anthropic-ratelimit-tokens-limit", "1"),
            ("openai-organization", "org"),
            ("anthropic-organization-id", "org"),
            ("set-cookie", "a=b"),
            ("retry-after", "9"),
            ("access-control-allow-origin", "*"),
            ("ratelimit-limit", "9"),
            ("location", "http://10.0.0.1/"),
            ("x-keymux-key", "forged"),
            ("x-envoy-upstream-service-time", "9"),
            ("x-request-id", "upstream"),
            ("connection", "Keep-Alive, X-Hop"),
            ("X-Hop", "1"),
            ("Content-Type", "application/json"),
            ("Content-Length", "0"),
            ("openai-processing-ms", "12"),
            ("x-generation-id", "gen-1"),
            ("request-id", "req_1"),
        ]
        .map(|(name, value)| format!("{name}: {value}\r\n"));
        let head = Head::read(format!("HTTP/1.1 200 OK\r\n{}\r\n", text.concat()).as_bytes()).unwrap();
        let mut reply = Reply::new(head.status, Body::EMPTY);
        to_caller(&mut reply, &head, None);
        let (text, _) = reply.take_head();
        let names = names(std::str::from_utf8(&text).unwrap());
        assert_eq!(names, ["content-type", "openai-processing-ms", "request-id", "x-generation-id"]);
    }

    #[test]
    fn the_providers_own_headers_and_credential_rule_but_for_attribution() {
        let mut upstream = upstream();
        let set = [
            ("x-title", "ours"),
            ("x-plan", "first"),
            ("x-plan", "ours"),
            ("x-key", "ours"),
            ("accept-encoding", "gzip"),
            ("connection", "upgrade"),
            ("transfer-encoding", "chunked"),
        ];
        upstream.headers = set
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .to_vec();
        let caller =
            map(&[("x-title", "theirs"), ("x-plan", "theirs"), ("x-key", "theirs"), ("x-other", "a")]);
        let mut out = Vec::new();
        to_provider(&mut out, &caller, &upstream, &key());
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "x-title: theirs\r\nx-other: a\r\nx-plan: ours\r\nx-key: sk-test-1\r\n"
        );
        let mut out = Vec::new();
        to_provider(&mut out, &Fields::default(), &upstream, &key());
        assert_eq!(String::from_utf8(out).unwrap(), "x-title: ours\r\nx-plan: ours\r\nx-key: sk-test-1\r\n");
    }

    #[test]
    fn a_head_is_begun_and_ended_as_http_says() {
        let mut upstream = upstream();
        let mut out = Vec::new();
        begin(&mut out, "POST", &["/v1", "/", "chat/completions", "?", "a=b"], &upstream);
        end(&mut out, &upstream);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "POST /v1/chat/completions?a=b HTTP/1.1\r\nhost: 127.0.0.1:1\r\naccept-encoding: identity\r\n\r\n"
        );
        // Only a proxy that reads the head is shown its credential.
        upstream.origin.proxy = Some(crate::upstream::Proxy {
            https: false,
            host: "proxy".into(),
            port: 1,
            authorization: Some("Basic abc".into()),
        });
        for (https, wanted) in [(false, "proxy-authorization: Basic abc\r\n\r\n"), (true, "\r\n")] {
            upstream.origin.https = https;
            let mut out = Vec::new();
            end(&mut out, &upstream);
            assert_eq!(String::from_utf8(out).unwrap(), wanted);
        }
    }

    #[test]
    fn a_query_survives_but_for_credentials() {
        assert_eq!(query_from_caller("beta=true").as_deref(), Some("beta=true"));
        assert_eq!(query_from_caller("a=1&KEY=s&b&api_key=s&keys=2").as_deref(), Some("a=1&b&keys=2"));
        assert_eq!(query_from_caller("token=s"), None);
    }
}
