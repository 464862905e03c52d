"""Goodput over real sockets: what of the quota that is there becomes answers, and at what price.

Each row is played through keymux and round-robin over the keys with retry on 429, at the same time and before the
same limits, and held against a clairvoyant FIFO that answers everything.
"""

import math
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import goodput_oracle, goodput_play, machine, table
from .goodput_play import SIDES, Played
from .goodput_rows import ROWS, Ask, Fault, Row

P99_ORACLE_RATIO_MAX = 1.15
TOKEN_GOODPUT_MIN = 0.98
WASTED_ATTEMPTS_MAX = 5
# A key that was given a rest is due to be probed after this at the earliest: the shortest cool-down, less its jitter.
PROBE_GAP_S = 2.5


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least `share` of all are not above."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)] if ordered else math.nan


def _latency(seconds: list[float]) -> dict:
    return {name: percentile(seconds, share) for name, share in (("p50_s", 0.5), ("p95_s", 0.95), ("p99_s", 0.99))}


def judge(row: Row, asks: list[Ask], played: Played, oracle: list[float]) -> dict:
    """The figures of one side."""
    answered = [r["status"] in range(200, 300) and not r["error"] for r in played.replies]
    tokens = [ask.input_tokens + ask.output_tokens for ask in asks]
    wasted = [r for r in played.records if r["status"] == 429]
    figures = {
        "asked": len(asks),
        "answered": sum(answered),
        "goodput": sum(answered) / len(asks),
        "token_goodput": sum(t for t, ok in zip(tokens, answered, strict=True) if ok) / sum(tokens),
        "errors": len(asks) - sum(answered),
        "error_kinds": _kinds(r for r, ok in zip(played.replies, answered, strict=True) if not ok),
        "wasted": len(wasted),
        "wasted_at_s": [round(r["arrived_ns"] / 1e9 - played.lead_s, 3) for r in wasted][:1000],
        "wasted_per_answer": len(wasted) / max(1, sum(answered)),
        "onsets": [o for _, account in row.accounts() for f in account.faults if (o := onset(account.name, f, played))],
        **_latency([r["total_us"] / 1e6 for r, ok in zip(played.replies, answered, strict=True) if ok]),
    }
    figures["p99_of_oracle"] = figures["p99_s"] / _latency(oracle)["p99_s"]
    return figures


def _kinds(replies) -> dict[str, int]:
    kinds: dict[str, int] = {}
    for reply in replies:
        kind = reply["error"] or f"{reply['status']}: {(reply['body'] or '')[:160]}"
        kinds[kind] = kinds.get(kind, 0) + 1
    return kinds


def onset(key: str, fault: Fault, played: Played) -> dict | None:
    """Attempts that ran into a fault which answers nothing: those that nobody could know better about, because they
    left before the first of them had failed; due probes; and the rest, which are wasted."""
    if fault.slow:
        return None
    hit = [r for r in played.records if r["key"] == key and r["fault"] == fault.name]
    ended = [r["ended_ns"] for r in hit if r["ended_ns"]]
    first_s = min(ended) / 1e9 if ended else math.inf
    later = [r["arrived_ns"] / 1e9 for r in hit if r["arrived_ns"] / 1e9 > first_s]
    probes = sum(at - before >= PROBE_GAP_S for before, at in zip([first_s, *later], later, strict=False))
    return {
        "key": key,
        "fault": fault.name,
        "in_flight": len(hit) - len(later),
        "probes": probes,
        "wasted": len(later) - probes,
    }


def round_of(row: Row, seed: int, folder: Path) -> dict:
    """One round of a row: figures of both sides and the oracle, and whether somebody else used the machine."""
    folder.mkdir()
    asks = row.asks(seed)
    stop, seen = threading.Event(), []

    def watch() -> None:
        while not stop.wait(1):
            seen.append(bool(machine.disturbers()))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        played = goodput_play.play(row, asks, folder)
    finally:
        stop.set()
        watcher.join()
    oracle = goodput_oracle.latencies(row, asks, played[SIDES[0]].start_unix_s)
    sides = {side: judge(row, asks, played[side], oracle) for side in SIDES}
    sides["oracle"] = {"asked": len(asks), "answered": len(asks), "goodput": 1.0, "token_goodput": 1.0, "errors": 0, **_latency(oracle)}
    told = {side: f"goodput {f['goodput']:.3f}, p99 {f['p99_s']:.2f} s" for side, f in sides.items()}
    machine.note(f"{row.name}: " + "; ".join(f"{side} {text}" for side, text in told.items()))
    return {"seed": seed, "busy_share": sum(seen) / max(1, len(seen)), "sides": sides}


def promises(row: Row) -> dict:
    """What the issue demands of this row."""
    return {
        "goodput_min": row.goodput_min,
        "token_goodput_min": TOKEN_GOODPUT_MIN,
        "wasted_per_answer_max": row.wasted_max,
        "errors_max": 0,
        "wasted_attempts_max": WASTED_ATTEMPTS_MAX,
        "p99_of_oracle_max": P99_ORACLE_RATIO_MAX,
        "p99_extra_s": row.p99_extra_s,
    }


def _line(title: str, side: str, rounds: list[dict]) -> list[str]:
    figures = [r["sides"][side] for r in rounds]

    def median(key: str) -> float:
        return statistics.median(f[key] for f in figures)

    times = "/".join(f"{median(key):.2f}" for key in ("p50_s", "p95_s", "p99_s"))
    if side == "oracle":
        return [title, side, "1.000", "", "", "", times, "", "1.000"]
    onsets = [str(max(o["wasted"] for o in f["onsets"])) for f in figures if f["onsets"]]
    return [
        title,
        side,
        f"{median('goodput'):.3f}",
        f"{median('wasted_per_answer'):.3f}",
        f"{sum(f['errors'] for f in figures)}",
        ", ".join(onsets),
        times,
        f"{median('p99_of_oracle'):.2f}",
        f"{median('token_goodput'):.3f}",
    ]


def report(results: dict[str, list[dict]]) -> str:
    """The table: medians of the rounds, errors of all of them."""
    rows = [
        _line(ROWS[name].title, side, rounds)
        for name, rounds in results.items()
        for side in ("oracle", "keymux", "round robin")
    ]
    head = ["load", "through", "goodput", "429s an answer", "errors", "wasted at a faulty key", "p50/p95/p99, s", "p99 x oracle's", "token goodput"]
    text = "### Goodput over real sockets, limits of 10 s\n\n" + table.markdown(head, rows)
    busy = [name for name, rounds in results.items() if any(r["busy_share"] > 0.1 for r in rounds)]
    if busy:
        text += f"\n\nSomething else used the machine for more than a tenth of the time in: {', '.join(busy)}."
    return text


def run(names: list[str], rounds: int, at_once: int, folder: Path) -> None:
    """Plays and publishes."""
    goodput_play.prepare()
    results: dict[str, list[dict]] = {name: [] for name in names}
    with ThreadPoolExecutor(at_once) as pool:
        jobs = []
        for number in range(1, rounds + 1):
            for name in names:
                jobs.append((name, pool.submit(round_of, ROWS[name], number, folder / f"{name}-{number}")))
                # Loads that begin together press on the cores together.
                time.sleep(0.2)
        for name, job in jobs:
            results[name].append(job.result())
    table.publish(
        "goodput",
        report(results),
        {
            "machine": machine.describe(),
            "rows": {name: {"title": ROWS[name].title, "promises": promises(ROWS[name]), "rounds": r} for name, r in results.items()},
        },
    )
