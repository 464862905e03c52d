"""Starts the real binaries for a test and ends them again; speaks with the simulated provider's control plane.

Nothing here is skipped when something is missing: a binary that is not built is an error that says so.
"""

import json
import os
import select
import signal
import ssl
import subprocess
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

from raw import PATIENCE_S

SPECS = Path(__file__).resolve().parent.parent / "specs"
TOKEN = "km-test-token"
ADMIN_TOKEN = "km-test-admin"


def binary(variable: str) -> str:
    path = os.environ.get(variable)
    assert path, f"{variable} is not set: run these tests by scripts/e2e, which builds the binaries"
    assert os.access(path, os.X_OK), f"{variable}={path} is no executable"
    return path


def clean_env(**extra: str) -> dict[str, str]:
    """An environment in which no key, proxy or setting of the caller's leaks into a test."""
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "TMPDIR", "LANG", "RUST_BACKTRACE")}
    return {**kept, **extra}


class Process:
    """A child that prints its addresses as the first line of its output, as JSON."""

    def __init__(self, *argv: str, env: dict[str, str] | None = None, ends_at_file_limits: bool = True, errors=None):
        self.errors = tempfile.TemporaryFile()
        self.stopped = False
        # Python ignores the signal of a file that would grow too large; what it starts does so only on demand.
        self.child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors or self.errors,
            env=env or clean_env(),
            restore_signals=ends_at_file_limits,
        )
        self.addresses = self._first_line()

    def _first_line(self) -> dict:
        line, deadline = b"", time.monotonic() + PATIENCE_S
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self.child.stdout], [], [], max(0, deadline - time.monotonic()))
            more = os.read(self.child.stdout.fileno(), 4096) if ready else b""
            if not more:
                self.child.kill()
                self.child.wait()
                raise AssertionError(f"{self.child.args} printed no address; its errors:\n{self.log()}")
            line += more
        return json.loads(line)

    def log(self) -> str:
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")

    def alive(self) -> bool:
        return self.child.poll() is None

    def stop(self) -> int:
        """Ends it as an operator would; returns the exit code."""
        if self.alive():
            self.child.send_signal(signal.SIGTERM)
            self.stopped = True
        try:
            return self.child.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
            raise AssertionError(f"{self.child.args} did not stop on SIGTERM; its errors:\n{self.log()}") from None
        finally:
            self.child.stdout.close()


def call(url: str, body: dict | None = None, method: str | None = None) -> dict | list:
    """A JSON request without any cleverness; raises on a status that is no success."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"}, method=method)
    # A little longer than the other side may wait, so that its own answer tells what was missing.
    with urllib.request.urlopen(request, timeout=PATIENCE_S + 5) as response:
        return json.load(response)


class World(Process):
    """The simulated providers of a spec, on a free port."""

    def __init__(self, spec: Path):
        super().__init__(binary("TESTKIT_BIN"), "serve", "--spec", str(spec), "--listen", "127.0.0.1:0", "--print-addr")
        self.address = split(self.addresses["listen"])
        self.url = "http://{}:{}".format(*self.address)

    def records(self, provider: str | None = None) -> list[dict]:
        """The provider's own record of each call, in order of arrival."""
        return call(f"{self.url}/_sim/records" + (f"?provider={provider}" if provider else ""))

    def wait(self, provider: str, *, calls: int, open: int | None = None) -> list[dict]:
        """Waits until a provider has had that many calls, of which at most `open` are not ended; returns them all."""
        query = f"provider={provider}&calls={calls}&timeout_ms={int(PATIENCE_S * 1000)}"
        return call(f"{self.url}/_sim/wait?{query}" + ("" if open is None else f"&open={open}"))

    def inject(self, **place_and_fault):
        """Puts a fault in at a provider, an account or a key; its calls count from now."""
        call(f"{self.url}/_sim/faults", place_and_fault)

    def clear(self, **place):
        """Removes all faults at exactly that place."""
        call(f"{self.url}/_sim/faults", place, "DELETE")


class Gateway(Process):
    """`keymux serve` on free ports with a configuration of the test's own."""

    def __init__(
        self,
        config: str,
        folder: Path,
        *,
        env: dict[str, str] | None = None,
        scheme: str = "http",
        trusts: Path | None = None,
        ends_at_file_limits: bool = True,
        errors=None,
    ):
        folder.mkdir(parents=True, exist_ok=True)
        self.config = folder / "keymux.toml"
        if "[ledger]" not in config:
            # Each gateway takes its log from the disk at its start.
            config += '\n[ledger]\nlog_bytes = "1MiB"\n'
        if "[checks]" not in config:
            # Tests count the calls that a provider has had.
            config += '\n[checks]\nevery = "0s"\n'
        self.config.write_text(config.replace("@DATA@", str(folder / "data")))
        tomllib.loads(self.config.read_text())
        super().__init__(
            binary("KEYMUX_BIN"),
            "serve",
            "--config",
            str(self.config),
            "--print-addr",
            env=clean_env(**(env or {})),
            ends_at_file_limits=ends_at_file_limits,
            errors=errors,
        )
        self.address = split(self.addresses["listen"])
        self.admin_address = split(self.addresses["admin"])
        # A certificate is for a name, not for an address.
        self.url = "http://{}:{}".format(*self.address) if scheme == "http" else f"https://localhost:{self.address[1]}"
        self._tls = ssl.create_default_context(cafile=str(trusts)) if trusts else None
        self.admin = "http://{}:{}".format(*self.admin_address)
        self._ready()

    def _ready(self):
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/readyz", timeout=PATIENCE_S, context=self._tls).close()
                return
            except urllib.error.HTTPError as error:
                assert error.code == 503 and time.monotonic() < deadline, f"/readyz: {error}\n{self.log()}"

    def metrics(self) -> str:
        request = urllib.request.Request(f"{self.admin}/metrics", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"})
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
            return response.read().decode()


def split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


def spec(name: str, **places: str) -> str:
    """A file of e2e/specs, its `@PLACES@` filled in."""
    text = (SPECS / name).read_text()
    for place, value in places.items():
        text = text.replace(f"@{place}@", value)
    return text


def keys(prefix: str, n: int = 3) -> str:
    """The `keys = […]` line of a provider: keys that are accounts of their own."""
    one = ", ".join(f'{{ name = "{prefix}-{i}", secret = "literal:sk-test-{prefix}-{i}" }}' for i in range(1, n + 1))
    return f"keys = [{one}]"


SERVER = f"""
[server]
listen = "127.0.0.1:0"
admin = "127.0.0.1:0"
token = "literal:{TOKEN}"
admin_token = "literal:{ADMIN_TOKEN}"
data_dir = "@DATA@"
"""
"""The `[server]` table that tests begin with; further settings of the table may follow it directly."""


def provider(name: str, base_url: str, *, dialect: str = "openai", n: int = 3, more: str = "") -> str:
    """A `[[provider]]` with n keys."""
    return f"""
[[provider]]
name = "{name}"
dialect = "{dialect}"
base_url = "{base_url}"
{keys(name, n)}
{more}
"""
