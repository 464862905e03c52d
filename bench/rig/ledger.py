"""What the ledger does by itself on SQLite: rows a second from requests to the database, bytes a request, what retention
leaves, and how long a gateway with 100,000 client keys takes to start. The store's own example measures and leaves its
ledger behind; this reads what it prints, and starts a gateway on it. What a look-up costs is counted by `instructions`.
"""

import re
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from . import machine, process, table
from .proxies import REPOSITORY, keymux_binary

ROWS_A_CPU_SECOND_MIN = 20_000
START_S_MAX = 1.0
FIGURES = {
    "rows": r"rows: .* ([\d.]+) a second, ([\d.]+) a CPU second",
    "bytes": r"database: ([\d.]+) bytes a request$",
    "kept": r"database: ([\d.]+) bytes a request after retention",
    "gone": r"retention: the rows gone in ([\d.]+) s",
    "clients": r"clients: (\d+) loaded in ([\d.]+) s",
}
_GATEWAY = """
[server]
listen = "127.0.0.1:{port}"
admin = "127.0.0.1:{admin_port}"
data_dir = "{folder}"
workers = 1
[checks]
every = "0s"

[[provider]]
name = "bench"
dialect = "openai"
base_url = "http://127.0.0.1:9/v1"
list_models = false
keys = [{{ name = "one", secret = "literal:sk-test-1" }}]
"""


def started_s(folder: Path, key: str) -> float:
    """Seconds from the start of a gateway on this ledger until this client key is served."""
    port = process.free_port()
    config = folder / "keymux.toml"
    config.write_text(_GATEWAY.format(port=port, admin_port=process.free_port(), folder=folder))
    begun = time.monotonic()
    gateway = process.Process("start", [keymux_binary(), "serve", "--config", str(config)], machine.cores()[1], folder)
    try:
        while True:
            try:
                asked = urllib.request.Request(f"http://127.0.0.1:{port}/v1/key", headers={"Authorization": f"Bearer {key}"})
                urllib.request.urlopen(asked, timeout=10).close()
                return time.monotonic() - begun
            except (urllib.error.URLError, ConnectionError) as error:
                if not gateway.alive() or time.monotonic() > begun + 60:
                    raise process.DidNotStart(f"{key} is not served: {error}\n{gateway.tail()}") from error
                time.sleep(0.005)
    finally:
        gateway.stop()


def measured(rows: int, folder: Path) -> dict[str, tuple[float, ...]]:
    """One round."""
    argv = ["cargo", "run", "--quiet", "--locked", "--profile", "bench", "-p", "keymux-store", "--example", "ledger"]
    argv += ["--", str(rows), str(folder)]
    printed = subprocess.run(argv, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout
    seen = {}
    for name, pattern in FIGURES.items():
        found = re.search(pattern, printed, re.MULTILINE)
        if found is None:
            raise RuntimeError(f"the example printed no {name}:\n{printed}")
        seen[name] = tuple(float(figure) for figure in found.groups())
    seen["start"] = (started_s(folder, f"km-example-{seen['clients'][0] - 1:.0f}"),)
    return seen


def run(rounds: int, rows: int) -> None:
    """Measures and publishes."""
    keymux_binary()
    taken = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="keymux-bench-") as folder:
            taken.append(measured(rows, Path(folder)))
    seen = {name: [one[name] for one in taken] for name in taken[0]}

    def shown(name: str, at: int = 0, digits: int = 0) -> str:
        return table.spread([figures[at] for figures in seen[name]], digits)

    clients = f"{seen['clients'][0][0]:,.0f} client keys"
    lines = [
        ["rows a second", shown("rows")],
        ["rows a CPU second, log and database and all", shown("rows", 1)],
        ["database, bytes a request", shown("bytes")],
        ["after roll-up and retention, bytes a request", shown("kept", digits=1)],
        ["retention of all of them, s", shown("gone", digits=2)],
        [f"{clients} read from the database, s", shown("clients", 1, 3)],
        [f"{clients}: start of the gateway until the last one is served, s", shown("start", digits=3)],
    ]
    text = f"### The ledger on SQLite, {rows:,} rows\n\n" + table.markdown(["measure", "seen"], lines)
    table.publish("ledger", text, {"machine": machine.describe(), "rounds": seen})
