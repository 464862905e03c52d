"""wrk: as many requests as go through on a fixed number of connections. For cost, never for latency."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import machine, upstream

# With a fixed body and no `request` function wrk formats the request once; `done` prints one line of JSON.
_SCRIPT = """
local file = io.open("{body}", "rb")
wrk.method = "POST"
wrk.body = file:read("*a")
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer sk-test-client"
done = function(summary, latency, requests)
    local e = summary.errors
    io.write(string.format(
        '\\nJSON {{"requests":%d,"bytes":%d,"us":%d,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}}\\n',
        summary.requests, summary.bytes, summary.duration, e.connect, e.read, e.write, e.status, e.timeout))
end
"""


class Failed(RuntimeError):
    """Some requests got no good answer: there is nothing to measure."""


@dataclass(frozen=True)
class Load:
    """What one run of wrk did."""

    requests: int
    duration_s: float


class Wrk:
    """One body, posted over and over."""

    def __init__(self, name: str, body: bytes, core: int, folder: Path, connections: int = 32):
        self._core = core
        self._connections = connections
        (folder / f"{name}.body").write_bytes(body)
        self._script = folder / f"{name}.lua"
        self._script.write_text(_SCRIPT.format(body=folder / f"{name}.body"))

    def run(self, port: int, seconds: int) -> Load:
        """Loads 127.0.0.1:port; raises Failed if any request failed."""
        done = subprocess.run(
            [machine.find("taskset"), "-c", str(self._core), machine.find("wrk"), "-t1", f"-c{self._connections}"]
            + [f"-d{seconds}s", "--timeout", "10s", "-s", str(self._script), f"http://127.0.0.1:{port}{upstream.PATH}"],
            capture_output=True,
            text=True,
            check=False,
        )
        line = next((line for line in done.stdout.splitlines() if line.startswith("JSON ")), None)
        if line is None:
            raise Failed(f"wrk said nothing usable:\n{done.stdout}{done.stderr}")
        counts = json.loads(line[5:])
        bad = {kind: counts[kind] for kind in ("connect", "read", "write", "status", "timeout") if counts[kind]}
        if bad or counts["requests"] == 0:
            raise Failed(f"{counts['requests']} requests, errors: {bad}")
        return Load(counts["requests"], counts["us"] / 1e6)
