"""What the gateway promises, held against what was just measured.

Reads the JSON of the benches in bench/out, so it can also be asked after they ran one by one.
"""

import json
import statistics
from dataclasses import dataclass

from . import company, table

JSON_NGINX_RATIO_MAX = 1.0
SSE_NGINX_RATIO_MAX = 0.6
P99_OVER_HAPROXY_US_MAX = 150
IDLE_BYTES_MAX = 15_000_000
STREAM_BYTES_MAX = 16_000
SUBJECT = "keymux"


@dataclass(frozen=True)
class Row:
    """One promise (or goal: where we would like to be) and what was measured."""

    title: str
    measured: float
    most: float
    goal: bool = False
    noisy: bool = False

    @property
    def met(self) -> bool:
        return self.measured <= self.most

    @property
    def verdict(self) -> str:
        words = ("reached", "not reached") if self.goal else ("kept", "**missed**")
        return words[0 if self.met else 1] + (", but the machine was never quiet" if self.noisy else "")


def _cpu(data: dict) -> list[Row]:
    found = []
    for name, limit in (("json", JSON_NGINX_RATIO_MAX), ("sse", SSE_NGINX_RATIO_MAX)):
        if name not in data["scenarios"]:
            continue
        scenario = data["scenarios"][name]
        rounds = company.quiet_rounds(scenario["rounds"])
        noisy = company.noisy(scenario["rounds"])
        for other, most in (("nginx", limit), ("haproxy", None)):
            if not {SUBJECT, other} <= rounds.keys():
                continue
            pairs = zip(rounds[SUBJECT], rounds[other], strict=True)
            ratio = statistics.median(mine["us"] / theirs["us"] for mine, theirs in pairs)
            # haproxy's level is the goal, not the promise.
            found.append(Row(f"CPU a request, {scenario['title']}, x {other}", ratio, most or 1.0, goal=not most, noisy=noisy))
    return found


def _latency(data: dict) -> list[Row]:
    found = []
    for scenario in data["scenarios"].values():
        proxies = scenario["proxies"]
        if {SUBJECT, "haproxy"} <= proxies.keys():
            over = [m - t for m, t in zip(proxies[SUBJECT]["p99_added_us"], proxies["haproxy"]["p99_added_us"], strict=True)]
            title = f"p99 over haproxy's at {data['rate']:,} requests a second, {scenario['title']}, µs"
            found.append(Row(title, statistics.median(over), P99_OVER_HAPROXY_US_MAX, noisy=scenario["noisy"]))
    return found


def _memory(data: dict) -> list[Row]:
    mine = data["proxies"].get(SUBJECT)
    if mine is None:
        return []
    return [
        Row("memory idle, MB", mine["idle_bytes"] / 1e6, IDLE_BYTES_MAX / 1e6),
        Row("memory a slow stream, KB", mine["bytes_a_stream"] / 1e3, STREAM_BYTES_MAX / 1e3),
        Row(f"streams lost of {mine['many']:,}", mine["lost"], 0),
    ]


def _instructions(data: dict) -> list[Row]:
    return [
        Row(f"instructions, {row['what']}, x {group[0]['what'].split(', ', 1)[1]}", row["growth"], row["growth_max"])
        for group in data["tables"]
        for row in group[1:]
    ]


_READERS = {"cpu": _cpu, "latency": _latency, "memory": _memory, "instructions": _instructions}


def report(benches: list[str]) -> tuple[str, bool]:
    """The table of promises for the benches that ran, and whether all are kept."""
    rows, kept = [], True
    for bench in benches:
        path = table.OUT / f"{bench}.json"
        if not path.exists():
            continue
        for row in _READERS[bench](json.loads(path.read_text())):
            kept &= row.met or row.goal
            rows.append([row.title, f"{row.measured:,.2f}", f"{row.most:,.2f}", row.verdict])
    if not rows:
        return "", True
    return "### Promises\n\n" + table.markdown(["measure", "measured", "at most", ""], rows), kept
