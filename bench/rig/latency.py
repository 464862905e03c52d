"""Latency that a proxy adds at a fixed rate, far below what it could do: the everyday case.

Against the upstream asked directly, in turn with it, so that what load, upstream and machine add cancels.
"""

import math
import statistics
from contextlib import ExitStack
from pathlib import Path

from . import company, machine, openloop, table, upstream
from .cpu import check_answer, scenarios
from .proxies import Proxy, prepare
from .process import Process

RATE = 1_000
DIRECT = "direct"


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least `share` of all are not above."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


def measure(kinds: list[str], rounds: int, seconds: int, patience: company.Patience, folder: Path) -> dict:
    """Per scenario and proxy the samples of each round."""
    load_core, proxy_core = machine.cores()
    results = {}
    with machine.pinned_to(load_core):
        for scenario in scenarios()[:2]:
            with ExitStack() as started:
                static = upstream.Static(f"{scenario.name}-latency", scenario.answer, scenario.content_type, load_core, folder)
                started.callback(static.stop)
                ports, processes = {DIRECT: static.port}, [static.process]
                for kind in kinds:
                    proxy = Proxy(kind, static.port, scenario.streaming, proxy_core, folder)
                    started.callback(proxy.stop)
                    check_answer(proxy.port, scenario, scenario.seen)
                    ports[kind] = proxy.port
                    processes.append(proxy.process)
                results[scenario.name] = {
                    "title": scenario.title,
                    "rounds": _rounds(ports, processes, scenario.body, rounds, seconds, patience),
                }
    return results


def _rounds(
    ports: dict[str, int], processes: list[Process], body: bytes, rounds: int, seconds: int, patience: company.Patience
) -> dict:
    taken: dict[str, list[dict]] = {kind: [] for kind in ports}
    for port in ports.values():
        openloop.run(port, body, RATE, 0.5)  # warm
    for number in range(rounds):
        for kind, port in ports.items():
            taken[kind].append(
                company.alone(processes, patience, lambda port=port: vars(openloop.run(port, body, RATE, seconds)))
            )
        machine.note(
            f"round {number + 1}, p50/p99 µs: "
            + ", ".join(
                f"{kind} {percentile(list_[-1]['total_us'], 0.5):.0f}/{percentile(list_[-1]['total_us'], 0.99):.0f}"
                f"{' disturbed' if list_[-1]['disturbed'] else ''}"
                for kind, list_ in taken.items()
            )
        )
    return taken


def summarise(results: dict) -> dict:
    """Percentiles over all rounds, and what each round's percentile added to direct's of the same round."""
    summary: dict[str, dict] = {}
    for name, result in results.items():
        rounds = company.quiet_rounds(result["rounds"])
        summary[name] = {"title": result["title"], "proxies": {}, "noisy": company.noisy(rounds)}
        for kind, list_ in rounds.items():
            pooled = [us for r in list_ for us in r["total_us"]]
            added = {
                share: [
                    percentile(mine["total_us"], share) - percentile(direct["total_us"], share)
                    for mine, direct in zip(list_, rounds[DIRECT], strict=True)
                ]
                for share in (0.5, 0.99)
            }
            summary[name]["proxies"][kind] = {
                "requests": len(pooled),
                "p50_us": percentile(pooled, 0.5),
                "p99_us": percentile(pooled, 0.99),
                "p999_us": percentile(pooled, 0.999),
                "first_byte_p99_us": percentile([us for r in list_ for us in r["first_us"]], 0.99),
                "p50_added_us": added[0.5],
                "p99_added_us": added[0.99],
            }
    return summary


def report(summary: dict, remark: str) -> str:
    """The table, in microseconds."""
    rows = []
    for scenario in summary.values():
        for kind, p in scenario["proxies"].items():
            added = ["", ""] if kind == DIRECT else [
                f"{statistics.median(p['p50_added_us']):.0f}",
                table.spread(p["p99_added_us"], 0),
            ]
            rows.append(
                [scenario["title"], kind, f"{p['p50_us']:.0f}", f"{p['p99_us']:.0f}", f"{p['p999_us']:.0f}", *added]
            )
    head = ["answer", "through", "p50, µs", "p99, µs", "p99.9, µs", "p50 added", "p99 added, median of rounds (range)"]
    text = f"### Latency at {RATE:,} requests a second, from the instant due to the last byte\n\n" + table.markdown(head, rows)
    return text + remark


def run(kinds: list[str], rounds: int, seconds: int, patience: company.Patience, folder: Path) -> None:
    """Measures and publishes."""
    prepare(kinds)
    results = measure(kinds, rounds, seconds, patience, folder)
    summary = summarise(results)
    text = report(summary, company.remark([result["rounds"] for result in results.values()]))
    table.publish("latency", text, {"machine": machine.describe(), "rate": RATE, "scenarios": summary})
