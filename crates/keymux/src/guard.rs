//! Who may call. A gateway with a token or client keys asks for one of them; an open one answers only to programs on purpose: a web page
//! that a browser shows must not be able to spend the keys, neither under its own name (`Origin`) nor by a name
//! that it made point here (`Host`).

use crate::clients::{Client, Directory, Found, Status};
use crate::errors::{Kind, Problem};
use crate::http1::Fields;
use crate::reply::Reply;
use keymux_config::{Secret, Server};
use std::net::IpAddr;
use std::sync::Arc;

/// Who calls, if the request may go on. `None`: the holder of the gateway's token, or anybody at an open gateway;
/// neither has limits.
pub fn admit(
    server: &Server,
    directory: &Directory,
    headers: &Fields,
    now_unix_ms: u64,
) -> Result<Option<Arc<Client>>, Problem> {
    let closed = directory.is_closed();
    if server.token.is_none() && closed == Some(false) {
        return open(server, headers).map(|()| None);
    }
    let presented = presented(headers);
    if let (Some(token), Some(presented)) = (&server.token, presented)
        && token.matches(presented.as_bytes())
    {
        return Ok(None);
    }
    let refused = |code, message: String| Err(Problem::new(Kind::Unauthorized, message).at(code, None));
    let Some(presented) = presented else {
        if server.token.is_none() && closed.is_none() {
            return Err(unread());
        }
        let message = "The API key is missing: send yours as `Authorization: Bearer …` or `x-api-key`.";
        return refused(Kind::Unauthorized.row().code, message.to_owned());
    };
    match directory.find(presented, now_unix_ms) {
        Found::Client(client) => Ok(Some(client)),
        Found::Expired(client) => refused("key_expired", format!("The key `{}` has expired.", client.name)),
        Found::Out(client, Status::Revoked) => {
            refused("key_revoked", format!("The key `{}` has been revoked.", client.name))
        }
        Found::Out(client, Status::TeamOff) => refused(
            "key_disabled",
            format!("The team `{}` of the key `{}` is switched off.", client.team, client.name),
        ),
        Found::Out(client, _) => {
            refused("key_disabled", format!("The key `{}` is switched off.", client.name))
        }
        Found::Unknown => refused(
            Kind::Unauthorized.row().code,
            "The API key is not one of this gateway: send yours as `Authorization: Bearer …` or `x-api-key`."
                .to_owned(),
        ),
        Found::Unread => Err(unread()),
    }
}

/// Whether the caller may manage client keys: who shows the admin token may.
pub fn manages(token: Option<&Secret>, headers: &Fields) -> Result<(), Problem> {
    let Some(presented) = presented(headers) else {
        let message = "The admin token is missing: send it as `Authorization: Bearer …`.";
        return Err(Problem::new(Kind::Unauthorized, message));
    };
    if token.is_some_and(|token| token.matches(presented.as_bytes())) {
        return Ok(());
    }
    let message = "Client keys are managed with the admin token alone: it is in the file `admin-token` in the data \
                   directory, unless `server.admin_token` sets it.";
    Err(Problem::new(Kind::Unauthorized, message))
}

fn unread() -> Problem {
    let message = "The client keys of this gateway cannot be read yet, so it is not known whether yours is one of them.";
    Problem::new(Kind::ClientsUnread, message)
}

/// The credential that the caller shows, in the ways of all dialects.
fn presented(headers: &Fields) -> Option<&str> {
    let bearer = headers.text("authorization").and_then(|v| {
        let (scheme, token) = v.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    bearer.or_else(|| headers.text("x-api-key")).or_else(|| headers.text("api-key"))
}

fn open(server: &Server, headers: &Fields) -> Result<(), Problem> {
    if headers.get("origin").is_some_and(|origin| !origin_is_allowed(server, origin)) {
        return Err(Problem::new(
            Kind::ForeignOrigin,
            "Web pages may not use this gateway. If this page may, add its origin to `server.cors_origins`.",
        ));
    }
    if !headers.has("host") {
        return Ok(());
    }
    let host = headers.text("host").unwrap_or_default();
    if host_is_ours(host, server) {
        return Ok(());
    }
    Err(Problem::new(
        Kind::ForeignHost,
        "This gateway has no token, so it answers only under localhost or its address. \
         Set `server.token`, make client keys, or add this host to `server.allowed_hosts`.",
    ))
}

fn origin_is_allowed(server: &Server, origin: &[u8]) -> bool {
    server.cors_origins.iter().any(|o| o == "*" || o.as_bytes().eq_ignore_ascii_case(origin))
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

/// Answers for pages whose origin is allowed: which headers they may read. Whether it is.
pub fn cors(server: &Server, origin: &[u8], reply: &mut Reply) -> bool {
    if !origin_is_allowed(server, origin) {
        return false;
    }
    reply.field("access-control-allow-origin", origin);
    reply.field("vary", b"origin");
    reply.field("access-control-expose-headers", b"*");
    true
}

/// What a page that asks whether it may call is told besides.
pub fn preflight(reply: &mut Reply) {
    reply.field("access-control-allow-methods", b"GET, POST, OPTIONS");
    // `*` does not cover Authorization.
    let headers = "authorization, content-type, x-api-key, anthropic-version, anthropic-beta, http-referer, x-title, x-keymux-priority, x-keymux-max-wait, x-keymux-timeout, x-keymux-session, x-keymux-tags, x-keymux-providers, x-keymux-keepalive";
    reply.field("access-control-allow-headers", headers.as_bytes());
    reply.field("access-control-max-age", b"600");
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
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        admit(server, &Directory::new(false), &Fields::of(&headers), 0).err().map(|problem| problem.kind)
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
}
