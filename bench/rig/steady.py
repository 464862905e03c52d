"""`testkit load`: so many requests a second and no more, whatever the proxy makes of them. For cost beside wrk's.

Where a proxy is loaded to its limit it always finds several requests at once, and its load generator never sleeps. Below
that each answer wakes somebody, and what that costs is charged to the sender.
"""

import json
import subprocess
from pathlib import Path

from . import machine, upstream
from .goodput_play import testkit_binary
from .proxies import CLIENT_KEY
from .wrk import Failed, Load


class Steady:
    """One body, posted at equal distances."""

    def __init__(self, name: str, body: bytes, core: int, folder: Path, rate: int, connections: int = 32):
        self._core = core
        self._rate = rate
        self._connections = connections
        self._body = folder / f"{name}.body"
        self._body.write_bytes(body)

    def run(self, port: int, seconds: int) -> Load:
        """Loads 127.0.0.1:port; raises Failed if any request failed."""
        done = subprocess.run(
            [machine.find("taskset"), "-c", str(self._core), testkit_binary(), "load", "--json"]
            + ["--url", f"http://127.0.0.1:{port}", "--path", upstream.PATH, "--body", str(self._body), "--token", CLIENT_KEY]
            + ["--rate", str(self._rate), "--duration", str(seconds), "--connections", str(self._connections)],
            capture_output=True,
            text=True,
            check=False,
        )
        if not done.stdout.startswith("{"):
            raise Failed(f"testkit said nothing usable:\n{done.stdout}{done.stderr}")
        counts = json.loads(done.stdout)
        if not counts["ok"] or counts["ok"] < counts["sent"]:
            raise Failed(f"{counts['ok']} of {counts['sent']} requests answered: {counts['statuses']} {counts['errors']}")
        return Load(counts["ok"], counts["seconds"])
