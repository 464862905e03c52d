"""What the ledger does by itself on SQLite: rows a second from requests to the database, bytes a request, what retention
leaves, and how long 100,000 client keys take to load. The store's own example measures; this reads what it prints."""

import re
import subprocess
from pathlib import Path

from . import machine, table

ROOT = Path(__file__).resolve().parent.parent.parent
FIGURES = {
    "rows": r"rows: .* ([\d.]+) a second, ([\d.]+) a CPU second",
    "bytes": r"database: ([\d.]+) bytes a request$",
    "kept": r"database: ([\d.]+) bytes a request after retention",
    "gone": r"retention: the rows gone in ([\d.]+) s",
    "clients": r"clients: (\d+) loaded in ([\d.]+) s",
}


def run(rounds: int) -> None:
    """Measures and publishes."""
    argv = ["cargo", "run", "--quiet", "--locked", "--profile", "bench", "-p", "keymux-store", "--example", "ledger"]
    seen: dict[str, list[tuple[float, ...]]] = {name: [] for name in FIGURES}
    for _ in range(rounds):
        printed = subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        for name, pattern in FIGURES.items():
            found = re.search(pattern, printed, re.MULTILINE)
            if found is None:
                raise RuntimeError(f"the example printed no {name}:\n{printed}")
            seen[name].append(tuple(float(figure) for figure in found.groups()))

    def shown(name: str, at: int = 0, digits: int = 0) -> str:
        return table.spread([figures[at] for figures in seen[name]], digits)

    slowest = min(figures[1] for figures in seen["rows"])
    longest = max(figures[1] for figures in seen["clients"])
    rows = [
        ["rows a second", shown("rows"), ""],
        ["rows a CPU second, log and database and all", shown("rows", 1), f">= 20,000: {'kept' if slowest >= 20_000 else 'missed'}"],
        ["database, bytes a request", shown("bytes"), ""],
        ["after roll-up and retention, bytes a request", shown("kept", digits=1), ""],
        ["retention of all of them, s", shown("gone", digits=2), ""],
        [f"{seen['clients'][0][0]:,.0f} client keys loaded, s", shown("clients", 1, 3), f"<= 1: {'kept' if longest <= 1 else 'missed'}"],
    ]
    text = "### The ledger on SQLite, 500,000 rows\n\n" + table.markdown(["measure", "seen", "promise"], rows)
    table.publish("ledger", text, {"machine": machine.describe(), "rounds": seen})
