"""What the gateway promises, held against what was just measured.

Reads the JSON of the benches in bench/out, so it can also be asked after they ran one by one.
"""

import json
import statistics

from . import table

JSON_NGINX_RATIO_MAX = 1.0
SSE_NGINX_RATIO_MAX = 0.6
P99_OVER_HAPROXY_US_MAX = 150
IDLE_BYTES_MAX = 15_000_000
STREAM_BYTES_MAX = 16_000
SUBJECT = "keymux"


def _cpu(data: dict) -> list[tuple[str, float, float, str]]:
    found = []
    for name, limit in (("json", JSON_NGINX_RATIO_MAX), ("sse", SSE_NGINX_RATIO_MAX)):
        scenario = data["scenarios"][name]
        for other, most in (("nginx", limit), ("haproxy", None)):
            if not {SUBJECT, other} <= scenario["rounds"].keys():
                continue
            pairs = zip(scenario["rounds"][SUBJECT], scenario["rounds"][other], strict=True)
            ratio = statistics.median(mine["us"] / theirs["us"] for mine, theirs in pairs)
            # haproxy's level is the goal, not the promise.
            found.append((f"CPU a request, {scenario['title']}, x {other}", ratio, most or 1.0, "" if most else "goal"))
    return found


def _latency(data: dict) -> list[tuple[str, float, float, str]]:
    found = []
    for scenario in data["scenarios"].values():
        proxies = scenario["proxies"]
        if {SUBJECT, "haproxy"} <= proxies.keys():
            over = [m - t for m, t in zip(proxies[SUBJECT]["p99_added_us"], proxies["haproxy"]["p99_added_us"], strict=True)]
            title = f"p99 over haproxy's at {data['rate']:,} requests a second, {scenario['title']}, µs"
            found.append((title, statistics.median(over), P99_OVER_HAPROXY_US_MAX, ""))
    return found


def _memory(data: dict) -> list[tuple[str, float, float, str]]:
    mine = data["proxies"].get(SUBJECT)
    if mine is None:
        return []
    return [
        ("memory idle, MB", mine["idle_bytes"] / 1e6, IDLE_BYTES_MAX / 1e6, ""),
        ("memory a slow stream, KB", mine["bytes_a_stream"] / 1e3, STREAM_BYTES_MAX / 1e3, ""),
        (f"streams lost of {mine['many']:,}", mine["lost"], 0, ""),
    ]


def _instructions(data: dict) -> list[tuple[str, float, float, str]]:
    return [
        (f"instructions, {row['what']}, x {group[0]['what'].split(', ', 1)[1]}", row["growth"], row["growth_max"], "")
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
        for title, value, most, kind in _READERS[bench](json.loads(path.read_text())):
            met = value <= most
            kept &= met or kind == "goal"
            verdict = ("reached" if met else "not reached") if kind == "goal" else ("kept" if met else "**missed**")
            rows.append([title, f"{value:,.2f}", f"{most:,.2f}", verdict])
    if not rows:
        return "", True
    return "### Promises\n\n" + table.markdown(["measure", "measured", "at most", ""], rows), kept
