//! Who may call. A gateway with a token asks for it; an open one answers only to programs on purpose: a web page
//! that a browser shows must not be able to spend the keys, neither under its own name (`Origin`) nor by a name
//! that it made point here (`Host`).

use crate::errors::{Kind, Problem};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, HeaderMap, HeaderValue, ORIGIN, TRANSFER_ENCODING};
use http::{Request, Version};
use keymux_config::Server;
use std::net::IpAddr;

/// Whether the request may go on.
pub fn admit<B>(server: &Server, request: &Request<B>) -> Result<(), Problem> {
    framing(request)?;
    let headers = request.headers();
    match &server.token {
        Some(token) => {
            let presented = presented(headers);
            if presented.is_some_and(|p| token.matches(p.as_bytes())) {
                return Ok(());
            }
            let what = if presented.is_some() { "is not the one of this gateway" } else { "is missing" };
            Err(Problem::new(
                Kind::Unauthorized,
                format!(
                    "The API key {what}: send the gateway's token as `Authorization: Bearer …` or `x-api-key`."
                ),
            ))
        }
        None => open(server, headers),
    }
}

/// Requests whose length can be read in two ways smuggle a second one past somebody.
fn framing<B>(request: &Request<B>) -> Result<(), Problem> {
    let headers = request.headers();
    if headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH) {
        return Err(Problem::new(
            Kind::BadFraming,
            "The request has both Content-Length and Transfer-Encoding; send only one of them.",
        ));
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let strange = codings.next().is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    if strange || codings.next().is_some() {
        return Err(Problem::new(
            Kind::BadFraming,
            "The only Transfer-Encoding that is understood here is `chunked`, once.",
        ));
    }
    let hosts = headers.get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && request.version() == Version::HTTP_11) {
        return Err(Problem::new(Kind::BadFraming, "An HTTP/1.1 request has exactly one Host header."));
    }
    Ok(())
}

/// The credential that the caller shows, in the ways of all dialects.
fn presented(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok()).and_then(|v| {
        let (scheme, token) = v.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    let plain = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok());
    bearer.or_else(|| plain("x-api-key")).or_else(|| plain("api-key"))
}

fn open(server: &Server, headers: &HeaderMap) -> Result<(), Problem> {
    if headers.get(ORIGIN).is_some_and(|origin| !origin_is_allowed(server, origin)) {
        return Err(Problem::new(
            Kind::ForeignOrigin,
            "Web pages may not use this gateway. If this page may, add its origin to `server.cors_origins`.",
        ));
    }
    let Some(host) = headers.get(HOST) else { return Ok(()) };
    let host = host.to_str().unwrap_or_default();
    if host_is_ours(host, server) {
        return Ok(());
    }
    Err(Problem::new(
        Kind::ForeignHost,
        "This gateway has no token, so it answers only under localhost or its address. \
         Set `server.token`, or add this host to `server.allowed_hosts`.",
    ))
}

fn origin_is_allowed(server: &Server, origin: &HeaderValue) -> bool {
    server.cors_origins.iter().any(|o| o == "*" || o.as_bytes().eq_ignore_ascii_case(origin.as_bytes()))
}

/// An address cannot be made to point elsewhere, a name can.
fn host_is_ours(host: &str, server: &Server) -> bool {
    let name = without_port(host);
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || server
            .allowed_hosts
            .iter()
            .any(|allowed| allowed.eq_ignore_ascii_case(host) || allowed.eq_ignore_ascii_case(name))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

/// Answers for pages whose origin is allowed: which headers they may send and read.
pub fn cors(server: &Server, request_origin: Option<&HeaderValue>, answer: &mut HeaderMap) {
    let Some(origin) = request_origin else { return };
    if !origin_is_allowed(server, origin) {
        return;
    }
    answer.insert("access-control-allow-origin", origin.clone());
    answer.insert("vary", HeaderValue::from_static("origin"));
    answer.insert("access-control-expose-headers", HeaderValue::from_static("*"));
}

/// The answer to a page's question whether it may call.
pub fn preflight(server: &Server, request_origin: Option<&HeaderValue>, answer: &mut HeaderMap) {
    cors(server, request_origin, answer);
    if answer.contains_key("access-control-allow-origin") {
        answer.insert("access-control-allow-methods", HeaderValue::from_static("GET, POST, OPTIONS"));
        // `*` does not cover Authorization.
        let headers = "authorization, content-type, x-api-key, anthropic-version, anthropic-beta, http-referer, x-title, x-keymux-priority, x-keymux-max-wait, x-keymux-timeout, x-keymux-session, x-keymux-tags, x-keymux-providers, x-keymux-keepalive";
        answer.insert("access-control-allow-headers", HeaderValue::from_static(headers));
        answer.insert("access-control-max-age", HeaderValue::from_static("600"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keymux_config::{World, from_toml};

    fn server(settings: &str) -> Server {
        let text = format!(
            "[server]\ndata_dir = \"unused\"\n{settings}\n[[provider]]\nname = \"ollama\"\nkeys = [{{ name = \"k\", auth = \"none\" }}]\n"
        );
        let world = World {
            env: &|_| None,
            env_names: &[],
            read: &|_| Err(std::io::ErrorKind::NotFound.into()),
            run: &|_| Err(String::new()),
        };
        from_toml("test", &text, &world).map_err(|p| p.render("test", &text, false)).unwrap().server
    }

    fn ask(server: &Server, headers: &[(&str, &str)]) -> Option<Kind> {
        let mut request = Request::builder().version(Version::HTTP_11);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        admit(server, &request.body(()).unwrap()).err().map(|problem| problem.kind)
    }

    #[test]
    fn an_open_gateway_answers_only_under_names_that_nobody_can_point_here() {
        let server = server("allowed_hosts = [\"gateway.test\"]");
        for host in [
            "localhost",
            "LOCALHOST:4000",
            "127.0.0.1:4000",
            "[::1]:4000",
            "10.0.0.7",
            "gateway.test",
            "Gateway.Test:80",
        ] {
            assert_eq!(ask(&server, &[("host", host)]), None, "{host}");
        }
        for host in ["evil.test", "localhost.evil.test", "127.0.0.1.evil.test:4000", "gateway.test.evil", ""]
        {
            assert_eq!(ask(&server, &[("host", host)]), Some(Kind::ForeignHost), "{host}");
        }
    }

    #[test]
    fn a_page_may_call_only_if_its_origin_is_allowed() {
        let server = server("cors_origins = [\"https://app.test\"]");
        assert_eq!(ask(&server, &[("host", "localhost"), ("origin", "https://app.test")]), None);
        for origin in ["https://evil.test", "null", "https://app.test.evil", "http://app.test"] {
            let asked = ask(&server, &[("host", "localhost"), ("origin", origin)]);
            assert_eq!(asked, Some(Kind::ForeignOrigin), "{origin}");
        }
    }

    #[test]
    fn a_token_is_taken_in_the_ways_of_all_dialects_and_no_other_is() {
        let server = server("token = \"literal:km-test-token\"");
        let good = [
            ("authorization", "Bearer km-test-token"),
            ("authorization", "bearer km-test-token"),
            ("x-api-key", "km-test-token"),
            ("api-key", "km-test-token"),
        ];
        for header in good {
            assert_eq!(ask(&server, &[("host", "any.test"), header]), None, "{header:?}");
        }
        let bad = [
            ("authorization", "Bearer km-test-toke"),
            ("authorization", "Bearer km-test-token2"),
            ("authorization", "Basic km-test-token"),
            ("x-api-key", ""),
            ("cookie", "km-test-token"),
        ];
        for header in bad {
            assert_eq!(
                ask(&server, &[("host", "localhost"), header]),
                Some(Kind::Unauthorized),
                "{header:?}"
            );
        }
    }

    #[test]
    fn a_request_with_two_lengths_or_two_hosts_goes_nowhere() {
        let server = server("");
        let two_lengths = [("host", "localhost"), ("content-length", "3"), ("transfer-encoding", "chunked")];
        assert_eq!(ask(&server, &two_lengths), Some(Kind::BadFraming));
        for coding in ["chunked, chunked", "gzip, chunked", "identity", ""] {
            let coded = [("host", "localhost"), ("transfer-encoding", coding)];
            assert_eq!(ask(&server, &coded), Some(Kind::BadFraming), "{coding}");
        }
        let twice =
            [("host", "localhost"), ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")];
        assert_eq!(ask(&server, &twice), Some(Kind::BadFraming));
        assert_eq!(ask(&server, &[("host", "localhost"), ("transfer-encoding", "Chunked")]), None);
        assert_eq!(ask(&server, &[("host", "localhost"), ("host", "localhost")]), Some(Kind::BadFraming));
        assert_eq!(ask(&server, &[]), Some(Kind::BadFraming));
    }
}
