//! The `[server]` and `[log]` sections.

use super::{secrets, size};
use crate::config::{Log, Server, TlsFiles};
use crate::problem::{At, Findings, Place};
use crate::secret::Secret;
use crate::text::file;
use crate::text::leaf::SecretText;
use crate::text::read::Section as _;
use crate::url::{BaseUrl, ProxyUrl};
use crate::world::World;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// The server's settings, and what only providers behind plain `http` need.
pub(super) struct Resolved {
    pub(super) server: Server,
    pub(super) http_proxy: Option<ProxyUrl>,
}

const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 4000);
const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 4001);
const WORKERS_MAX: u64 = 1_024;

pub(super) fn resolve(
    typed: Option<At<file::Server>>,
    log: Option<At<file::Log>>,
    (world, has_clients): (&World<'_>, bool),
    found: &mut Findings,
) -> Resolved {
    let typed = typed.unwrap_or_default().value;
    let (proxy, http_proxy) = proxies(typed.proxy.as_ref(), world, found);
    let mut token = |text: &Option<At<SecretText>>| -> Option<Secret> {
        text.as_ref().and_then(|t| secrets::fetch(t, world, found).0)
    };
    let (secret, admin_token) = (token(&typed.token), token(&typed.admin_token));
    let has_token = typed.token.is_some() || has_clients;
    let listen = typed.listen.as_ref().map_or(LISTEN, |a| a.0);
    let admin = typed.admin.as_ref().map_or(Some(ADMIN), |a| a.0);
    let allow_open = typed.allow_open.as_ref().is_some_and(|b| b.value);
    check_listeners(&typed, listen, admin, has_token || allow_open, found);
    let server = Server {
        listen,
        admin,
        token: secret,
        admin_token,
        allow_open,
        cors_origins: origins(typed.cors_origins, has_token, found),
        allowed_hosts: hosts(typed.allowed_hosts, found),
        tls: tls(typed.tls, world, found),
        data_dir: data_dir(typed.data_dir, world, found),
        body_bytes_max: bytes(typed.body_bytes_max, 32 << 20),
        bodies_bytes_max: bytes(typed.bodies_bytes_max, 1 << 30),
        head_bytes_max: bytes(typed.head_bytes_max, 64 << 10),
        connections_max: typed.connections_max.map(|n| size(n.0)),
        workers: workers(typed.workers, found),
        runtime: typed.runtime.map(|r| r.value).unwrap_or_default(),
        expose_keys: typed.expose_keys.is_none_or(|b| b.value),
        drain_ms: typed.drain.map_or(30_000, |d| d.0),
        header_timeout_ms: typed.header_timeout.map_or(10_000, |d| d.0),
        body_timeout_ms: typed.body_timeout.map_or(30_000, |d| d.0),
        keep_alive_ms: typed.keep_alive.map_or(75_000, |d| d.0),
        ca_file: typed.ca_file.map(|f| readable(&f, "the CA file", world, found)),
        proxy,
        no_proxy: no_proxy(typed.no_proxy, world),
        log: log_settings(log),
        max_wait_ms: typed.max_wait.map_or(10_000, |d| d.0),
    };
    Resolved { server, http_proxy }
}

fn log_settings(typed: Option<At<file::Log>>) -> Log {
    let typed = typed.unwrap_or_default().value;
    Log {
        requests: typed.requests.is_some_and(|b| b.value),
        sample: typed.sample.map_or(1.0, |ratio| ratio.0),
        format: typed.format.map(|f| f.value).unwrap_or_default(),
        level: typed.level.map(|l| l.value).unwrap_or_default(),
    }
}

fn bytes(typed: Option<At<crate::text::leaf::Bytes>>, default: usize) -> usize {
    typed.map_or(default, |n| size(n.0))
}

fn workers(typed: Option<At<crate::text::leaf::Count>>, found: &mut Findings) -> Option<usize> {
    let typed = typed?;
    if typed.0 > WORKERS_MAX {
        let hint = "leave it out for one a core";
        found.error(typed.place, format!("{} workers are more than any machine can use", typed.0), hint);
        return None;
    }
    Some(size(typed.0))
}

fn check_listeners(
    typed: &file::Server,
    listen: SocketAddr,
    admin: Option<SocketAddr>,
    guarded: bool,
    found: &mut Findings,
) {
    let place = typed.listen.as_ref().map_or(Place::NONE, |a| a.place);
    if !listen.ip().is_loopback() && !guarded {
        let message =
            format!("{listen} can be reached from other machines, and anyone who does could spend your keys");
        let hint = "set `token` (say token = \"env:KEYMUX_TOKEN\"), declare a [[client]], listen on 127.0.0.1, or say allow_open = true";
        found.error(place, message, hint);
    }
    if admin == Some(listen) && listen.port() != 0 {
        let place = typed.admin.as_ref().map_or(place, |a| a.place);
        let message = format!("clients and operators cannot share the address {listen}");
        found.error(place, message, "give `admin` another port, or \"none\"");
    }
}

fn origins(typed: Option<At<Vec<At<String>>>>, has_token: bool, found: &mut Findings) -> Vec<String> {
    let mut origins = Vec::new();
    for origin in typed.unwrap_or_default().value {
        if origin.value == "*" {
            if !has_token {
                let hint = "list the origins, or set `token` as well";
                found.error(origin.place, "\"*\" without a token lets every web page spend your keys", hint);
            }
        } else if BaseUrl::parse(&origin).map_or(true, |url| !url.path.is_empty())
            || origin.value.ends_with('/')
        {
            let message = format!("\"{}\" is not an origin", origin.value.escape_debug());
            found.error(
                origin.place,
                message,
                "write scheme and host, without a path: \"https://app.example.com\"",
            );
        }
        origins.push(origin.value.to_ascii_lowercase());
    }
    origins
}

fn hosts(typed: Option<At<Vec<At<String>>>>, found: &mut Findings) -> Vec<String> {
    let mut hosts = Vec::new();
    for host in typed.unwrap_or_default().value {
        let fits = BaseUrl::parse(&format!("http://{}", host.value)).is_ok_and(|url| url.path.is_empty());
        if !fits || host.value.ends_with('/') {
            let message = format!("\"{}\" is not a host name", host.value.escape_debug());
            found.error(host.place, message, "write the name alone: \"llm.example.com\"");
        }
        hosts.push(host.value.to_ascii_lowercase());
    }
    hosts
}

fn readable(file: &At<String>, what: &str, world: &World<'_>, found: &mut Findings) -> PathBuf {
    let path = world.path(file);
    if let Err(e) = (world.read)(&path) {
        let message = format!("{what} {} cannot be read: {e}", path.display());
        found.error(file.place, message, "correct the path, or let the user that runs keymux read it");
    }
    path
}

fn tls(typed: Option<At<file::Tls>>, world: &World<'_>, found: &mut Findings) -> Option<TlsFiles> {
    let At { value: typed, place } = typed?;
    let (Some(cert), Some(key)) = (&typed.cert, &typed.key) else {
        let hint = "name both files, or leave the section out";
        found.missing(!typed.unread().is_empty(), place, "TLS needs both `cert` and `key`", hint);
        return None;
    };
    let cert = readable(cert, "the certificate", world, found);
    let key = readable(key, "the private key", world, found);
    Some(TlsFiles { cert, key })
}

fn data_dir(typed: Option<At<String>>, world: &World<'_>, found: &mut Findings) -> PathBuf {
    if let Some(path) = world.var("KEYMUX_DATA_DIR") {
        return world.path(&path);
    }
    if let Some(path) = typed {
        if path.value.trim().is_empty() {
            found.error(path.place, "`data_dir` is empty", "name a folder, or leave it out");
        }
        return world.path(&path);
    }
    match (world.var("XDG_STATE_HOME"), world.var("HOME")) {
        (Some(state), _) => PathBuf::from(state).join("keymux"),
        (None, Some(home)) => PathBuf::from(home).join(".local/state/keymux"),
        // A container without a home.
        (None, None) => PathBuf::from("/var/lib/keymux"),
    }
}

/// The proxy for `https` and for `http` providers.
fn proxies(
    typed: Option<&At<String>>,
    world: &World<'_>,
    found: &mut Findings,
) -> (Option<ProxyUrl>, Option<ProxyUrl>) {
    if let Some(typed) = typed {
        let proxy = proxy(typed, found);
        return (proxy.clone(), proxy);
    }
    let mut from_env = |names: [&str; 2]| {
        let (name, value) = names.iter().find_map(|name| Some((name, world.var(name)?)))?;
        match ProxyUrl::parse(&value) {
            Ok(proxy) => Some(proxy),
            Err(e) => {
                let hint = "correct it, unset it, or set server.proxy = \"none\"";
                found.error(Place::NONE, format!("the environment variable {name} is no proxy: {e}"), hint);
                None
            }
        }
    };
    let https = from_env(["HTTPS_PROXY", "https_proxy"]);
    // Upper-case HTTP_PROXY can be set by a caller of a CGI program; this is none, so both are fine.
    (https, from_env(["http_proxy", "HTTP_PROXY"]))
}

/// A proxy as typed; `"none"` is none.
pub(super) fn proxy(typed: &At<String>, found: &mut Findings) -> Option<ProxyUrl> {
    if typed.value == "none" {
        return None;
    }
    match ProxyUrl::parse(typed) {
        Ok(proxy) => Some(proxy),
        Err(e) => {
            let hint = "write \"http://host:port\", \"http://user:password@host:port\", or \"none\"";
            found.error(typed.place, format!("this is no proxy: {e}"), hint);
            None
        }
    }
}

fn no_proxy(typed: Option<At<Vec<At<String>>>>, world: &World<'_>) -> Vec<String> {
    if let Some(list) = typed {
        return list.value.into_iter().map(|rule| rule.value).collect();
    }
    let value = world.var("NO_PROXY").or_else(|| world.var("no_proxy")).unwrap_or_default();
    value.split(',').map(str::trim).filter(|rule| !rule.is_empty()).map(str::to_owned).collect()
}
