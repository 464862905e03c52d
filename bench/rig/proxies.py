"""The proxies side by side, each as its own people would set it up for this job: one worker, kept-alive
connections to the upstream, no access log, the upstream's credential written into the request."""

import json
import os
import subprocess
from pathlib import Path

from . import machine, postgres, process, upstream

KEY = "sk-test-1"
# What every client presents.
CLIENT_KEY = "sk-test-client"
# What operators present.
ADMIN_TOKEN = "km-test-admin"
# keymux without a ledger, the same with its other layout of threads, with a line of the log for each request, and with
# everything that belongs to clients: a key, a team, both with a budget and limits, and the ledger on each database.
CLIENTS = ("keymux-sqlite", "keymux-postgres")
KEYMUX = ("keymux", "keymux-shared", "keymux-watched", *CLIENTS)
KINDS = ("nginx", "haproxy", *KEYMUX)
REPOSITORY = process.REPOSITORY

_NGINX = """
user {user};
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {folder}/{name}.pid;
error_log {folder}/{name}-error.log;
events {{ worker_connections 20000; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_timeout 3600s;
    keepalive_requests 100000000;
    client_body_temp_path {folder}/{name}-body;
    proxy_temp_path {folder}/{name}-proxy;
    upstream provider {{
        server 127.0.0.1:{upstream_port};
        keepalive 128;
        keepalive_requests 100000000;
        keepalive_timeout 3600s;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://provider;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Authorization "Bearer {key}";
            proxy_buffering {buffering};
            proxy_read_timeout 600s;
        }}
    }}
}}
"""

_HAPROXY = """
global
    nbthread 1
    maxconn 9900
defaults
    mode http
    timeout connect 5s
    timeout client 600s
    timeout server 600s
    timeout http-keep-alive 3600s
    option http-keep-alive
    http-reuse always
frontend client
    bind 127.0.0.1:{port} backlog 4096
    http-request set-header authorization "Bearer {key}"
    default_backend provider
backend provider
    server one 127.0.0.1:{upstream_port}
"""

# Three keys of accounts without limits: the pool chooses and accounts for each call, nothing refuses.
_KEYMUX = """
[server]
listen = "127.0.0.1:{port}"
admin = "127.0.0.1:{admin_port}"
admin_token = "literal:{admin_token}"
data_dir = "{folder}/{name}-data"
workers = 1
runtime = "{runtime}"

[log]
requests = {log_requests}

[ledger]
database = "{database}"

[checks]
every = "0s"

[[provider]]
name = "bench"
dialect = "openai"
base_url = "http://127.0.0.1:{upstream_port}/v1"
keys = [
    {{ name = "one", secret = "literal:sk-test-1" }},
    {{ name = "two", secret = "literal:sk-test-2" }},
    {{ name = "three", secret = "literal:sk-test-3" }},
]
"""

# Limits and budgets that are never reached: each is asked and settled for each request.
_CLIENTS = """
[[price]]
model = "bench:*"
input = 0.15
output = 0.60

[[team]]
name = "bench"
budget = 1_000_000
reset = "monthly"
rpm = 1_000_000_000

[[client]]
name = "bench"
team = "bench"
secret = "literal:{client_key}"
budget = 1_000_000
reset = "monthly"
rpm = 1_000_000_000
tpm = 1_000_000_000_000
concurrent = 100_000
"""


class Proxy:
    """One proxy in front of one upstream port, on one core."""

    def __init__(self, kind: str, upstream_port: int, streaming: bool, core: int, folder: Path, wrapper: tuple[str, ...] = ()):
        self.kind = kind
        self.port, self.admin_port = process.free_port(), process.free_port()
        name = f"{kind}-{self.port}"
        values = {
            "folder": folder,
            "name": name,
            "port": self.port,
            "admin_port": self.admin_port,
            "admin_token": ADMIN_TOKEN,
            "log_requests": "true" if kind == "keymux-watched" else "false",
            "upstream_port": upstream_port,
            "key": KEY,
            "user": upstream.user_name(),
            # A stream must not wait for a buffer to fill; a body that is there at once may.
            "buffering": "off" if streaming else "on",
            "runtime": "shared" if kind == "keymux-shared" else "per_core",
            "client_key": CLIENT_KEY,
            "database": "sqlite" if kind == "keymux-sqlite" else "off",
        }
        self._server = postgres.Server(folder / f"{name}-postgres") if kind == "keymux-postgres" else None
        if self._server:
            values["database"] = f"literal:{self._server.url}"
        config = folder / f"{name}.conf"
        if kind == "nginx":
            config.write_text(_NGINX.format(**values))
            command = [machine.find("nginx"), "-p", str(folder), "-e", str(folder / "nginx-early.log"), "-c", str(config)]
        elif kind == "haproxy":
            config.write_text(_HAPROXY.format(**values))
            command = [machine.find("haproxy"), "-db", "-f", str(config)]
        elif kind in KEYMUX:
            config = folder / f"{name}.toml"
            text = _KEYMUX + (_CLIENTS if kind in CLIENTS else "")
            config.write_text(text.format(**values))
            (folder / f"{name}-data").mkdir()
            command = [keymux_binary(), "serve", "--config", str(config)]
        else:
            raise ValueError(f"no proxy is called {kind}: {', '.join(KINDS)}")
        self.process = process.Process(name, [*wrapper, *command], core, folder)
        self.process.wait_until_listening(self.port)

    def stop(self) -> None:
        """Ends it."""
        self.process.stop()
        if self._server:
            self._server.stop()


_built: dict[str, str] = {}


def prepare(kinds: list[str]) -> None:
    """Installs and builds what `kinds` need, before anything is pinned or measured."""
    machine.need("nginx", "haproxy", "taskset")
    if set(kinds) & set(KEYMUX):
        keymux_binary()
    if "keymux-postgres" in kinds:
        postgres.prepare()


def keymux_binary() -> str:
    """The binary under test: $KEYMUX_BIN, or built once from this checkout with the bench profile."""
    return os.environ.get("KEYMUX_BIN") or cargo_build("keymux", "bin", "keymux")


def cargo_build(package: str, kind: str, target: str) -> str:
    """Builds a binary or an example with the bench profile and returns its path, as cargo itself reports it."""
    if target not in _built:
        machine.note(f"building {kind} {target} of {package}")
        done = subprocess.run(
            ["cargo", "build", "--locked", "--profile", "bench", "-p", package, f"--{kind}", target]
            + ["--message-format", "json-render-diagnostics"],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"cargo could not build {kind} {target} of {package}")
        for line in done.stdout.splitlines():
            message = json.loads(line)
            if message.get("executable") and message["target"]["name"] == target:
                _built[target] = message["executable"]
    return _built[target]
