"""Instructions a request, with few keys and with many: a count that repeats on a noisy machine.

(I(2N) - I(N)) / N under callgrind, so that start-up, building the pool and printing drop out. Two programs
are counted: the whole gateway over an in-memory duplex (no sockets), and the policy's verbs alone.
"""

import re
import subprocess
from pathlib import Path

from . import machine, table
from .proxies import REPOSITORY, cargo_build

FEW_KEYS = 3
MANY_KEYS = 10_000
FEW_CLIENTS = 10
MANY_CLIENTS = 100_000

# What a figure may grow by from the first row of its table to each other one.
GATEWAY_GROWTH_MAX = 1.1
POLICY_GROWTH_MAX = 2.0


class Uncounted(RuntimeError):
    """The program failed under callgrind."""


def instructions(binary: str, arguments: list[int], folder: Path) -> int:
    """Instructions of one whole run."""
    out = folder / "callgrind.out"
    done = subprocess.run(
        [machine.find("valgrind"), "--tool=callgrind", f"--callgrind-out-file={out}", binary, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    counted = re.search(r"Collected\s*:\s*(\d+)", done.stderr)
    if done.returncode != 0 or counted is None:
        raise Uncounted(f"{Path(binary).name} {arguments}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return int(counted.group(1))


def per_request(binary: str, fixed: list[int], requests: int, folder: Path, more: tuple[int, ...] = ()) -> float:
    """The slope between `requests` and twice as many."""
    once = instructions(binary, [*fixed, requests, *more], folder)
    twice = instructions(binary, [*fixed, 2 * requests, *more], folder)
    return (twice - once) / requests


def _gateway(folder: Path) -> list[list[dict]]:
    binary = cargo_build("keymux", "example", "instructions")
    tables = []
    for cases, what in (
        ([(FEW_KEYS, 0), (MANY_KEYS, 0)], "a request through the gateway, {0:,} keys"),
        ([(FEW_KEYS, FEW_CLIENTS), (FEW_KEYS, MANY_CLIENTS)], "a client's request through the gateway, {1:,} client keys"),
    ):
        rows = []
        for keys, clients in cases:
            count = per_request(binary, [keys], 2_000, folder, (clients,))
            machine.note(f"gateway, {keys} keys, {clients} client keys: {count:.0f} instructions a request")
            rows.append({"what": what.format(keys, clients), "instructions": count})
        tables.append(_grown(rows, GATEWAY_GROWTH_MAX))
    return tables


def _policy(folder: Path) -> list[list[dict]]:
    binary = cargo_build("keymux-policy", "example", "decide")
    tables = []
    for cases in ([(10, 0), (1_000, 0), (10_000, 0)], [(10, 0), (10, 1_000), (10, 100_000)]):
        rows = []
        for keys, waiters in cases:
            count = per_request(binary, [keys, waiters], 20_000, folder)
            machine.note(f"policy, {keys} keys, {waiters} waiters: {count:.0f} instructions a decision")
            rows.append({"what": f"a decision, {keys:,} keys, {waiters:,} waiting", "instructions": count})
        tables.append(_grown(rows, POLICY_GROWTH_MAX))
    return tables


def _grown(rows: list[dict], growth_max: float) -> list[dict]:
    for row in rows:
        row["growth"] = row["instructions"] / rows[0]["instructions"]
        row["growth_max"] = growth_max
    return rows


def report(tables: list[list[dict]]) -> str:
    """One table; each group of rows is compared with its own first row."""
    rows = [
        [
            row["what"],
            f"{row['instructions']:,.0f}",
            "" if index == 0 else f"{row['growth']:.3f}",
            "" if index == 0 else f"{row['growth_max']:.1f}",
        ]
        for group in tables
        for index, row in enumerate(group)
    ]
    head = ["instructions for", "count", "x the first of its group", "at most"]
    return "### Instructions, by callgrind\n\n" + table.markdown(head, rows)


def run(folder: Path) -> None:
    """Counts whatever of the two programs this checkout has, and says so if one is missing."""
    machine.need("valgrind")
    tables: list[list[dict]] = []
    if (REPOSITORY / "crates/keymux/examples/instructions.rs").exists():
        tables.extend(_gateway(folder))
    else:
        machine.note("crates/keymux/examples/instructions.rs is missing: instructions of the gateway not counted")
    if (REPOSITORY / "crates/policy/examples/decide.rs").exists():
        tables.extend(_policy(folder))
    else:
        machine.note("crates/policy/examples/decide.rs is missing: instructions of the policy not counted")
    if not tables:
        raise Uncounted("there is no program to count")
    table.publish("instructions", report(tables), {"machine": machine.describe(), "tables": tables})
