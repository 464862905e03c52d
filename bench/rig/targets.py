"""What the gateway promises, held against what was just measured.

Reads the JSON of the benches in bench/out, so it can also be asked after they ran one by one.
"""

import json
import statistics
from dataclasses import dataclass

from . import batch, company, ledger, table
from .proxies import CLIENTS

JSON_NGINX_RATIO_MAX = 1.0
SSE_NGINX_RATIO_MAX = 0.6
P99_OVER_HAPROXY_US_MAX = 150
IDLE_BYTES_MAX = 15_000_000
STREAM_BYTES_MAX = 16_000
CLIENTS_RATIO_MAX = 1.15
CLIENTS_P99_US_MAX = 100
WATCHED_RATIO_MAX = 1.1
SUBJECT = "keymux"


@dataclass(frozen=True)
class Row:
    """One promise (or goal: where we would like to be) and what was measured."""

    title: str
    measured: float
    limit: float
    goal: bool = False
    noisy: bool = False
    # The limit is the least that will do, not the most.
    least: bool = False

    @property
    def met(self) -> bool:
        return self.measured >= self.limit if self.least else self.measured <= self.limit

    @property
    def promise(self) -> str:
        return f"{'at least' if self.least else 'at most'} {self.limit:,.2f}"

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


def _clients(data: dict) -> list[Row]:
    """Against keymux without clients and ledger, in the same rounds."""
    found = []
    for scenario in data["scenarios"].values():
        rounds = company.quiet_rounds(scenario["rounds"])
        noisy = company.noisy(scenario["rounds"])
        for kind in sorted(rounds.keys() & set(CLIENTS)):
            ratio = statistics.median(w["us"] / b["us"] for w, b in zip(rounds[kind], rounds[SUBJECT], strict=True))
            found.append(Row(f"CPU a request, {scenario['title']}, {kind} x {SUBJECT}", ratio, CLIENTS_RATIO_MAX, noisy=noisy))
    for scenario in data["latency"].values():
        proxies = scenario["proxies"]
        for kind in sorted(proxies.keys() & set(CLIENTS)):
            over = [w - b for w, b in zip(proxies[kind]["p99_added_us"], proxies[SUBJECT]["p99_added_us"], strict=True)]
            title = f"p99 added by clients and ledger, {scenario['title']}, {kind}, µs"
            found.append(Row(title, statistics.median(over), CLIENTS_P99_US_MAX, noisy=scenario["noisy"]))
    return found


def _ledger(data: dict) -> list[Row]:
    """The worst of the rounds counts."""
    rounds = data["rounds"]
    rows = min(figures[1] for figures in rounds["rows"])
    start = max(figures[0] for figures in rounds["start"])
    return [
        Row("ledger: rows a CPU second on SQLite", rows, ledger.ROWS_A_CPU_SECOND_MIN, least=True),
        Row("ledger: start with 100,000 client keys, s", start, ledger.START_S_MAX),
    ]


def _scrape(data: dict) -> list[Row]:
    """Against keymux that nobody looks at, in the same rounds."""
    found = []
    for scenario in data["scenarios"].values():
        rounds = company.quiet_rounds(scenario["rounds"])
        pairs = zip(rounds["keymux-watched"], rounds[SUBJECT], strict=True)
        ratio = statistics.median(watched["us"] / bare["us"] for watched, bare in pairs)
        title = f"CPU a request, {scenario['title']}, logged and watched x {SUBJECT}"
        found.append(Row(title, ratio, WATCHED_RATIO_MAX, noisy=company.noisy(scenario["rounds"])))
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


def _goodput(data: dict) -> list[Row]:
    """The worst of the rounds counts. A row that keeps all it promises is one line, what it misses is one each."""
    found = []
    for row in data["rows"].values():
        promised = row["promises"]
        rounds = [r["sides"] for r in row["rounds"]]
        mine = [sides[SUBJECT] for sides in rounds]
        ends = [f["p99_s"] / (s["oracle"]["p99_s"] + promised["p99_extra_s"]) for f, s in zip(mine, rounds, strict=True)]
        onsets = [o for f in mine for o in f["onsets"]]
        wasted = [o["wasted"] for o in onsets]
        noisy = any(r["busy_share"] > company.FOREIGN_SHARE_MAX for r in row["rounds"])
        measured = [
            ("goodput", min(f["goodput"] for f in mine), promised["goodput_min"], True),
            ("token goodput", min(f["token_goodput"] for f in mine), promised["token_goodput_min"], True),
            ("errors", max(f["errors"] for f in mine), promised["errors_max"], False),
            ("429s per 100 answers", max(f["wasted_per_answer"] for f in mine) * 100, promised["wasted_per_answer_max"] * 100, False),
            ("p99 x the oracle's", max(ends), promised["p99_of_oracle_max"], False),
            # A fault that no attempt ran into was no test.
            ("faults that were never met", sum(not o["in_flight"] for o in onsets), 0, False),
            ("attempts wasted at a faulty key", max(wasted, default=0), promised["wasted_attempts_max"], False),
        ]
        rows = [Row(f"{row['title']}: {what}", value, limit, noisy=noisy, least=least) for what, value, limit, least in measured]
        missed = [r for r in rows if not r.met]
        found += missed or [Row(f"{row['title']}: promises of {len(rows)} that are missed", 0, 0, noisy=noisy)]
    return found


def _batch(data: dict) -> list[Row]:
    keymux, client, limited = data["speed"]["keymux"], data["speed"]["client"], data["limited"]
    ratio = keymux["lines_per_cpu_s"] / client["lines_per_cpu_s"]
    return [
        Row("batch: lines a CPU second, x the official client's", ratio, batch.CPU_RATIO_MIN, least=True),
        Row("batch: three limited keys, wall time x the oracle's", limited["wall_s"] / limited["oracle_s"], batch.ORACLE_RATIO_MAX),
        Row("batch: lines lost or doubled", limited["lost"] + limited["doubled"], 0),
        *(
            Row(f"batch: peak memory at {int(lines):,} lines, MiB", rss / 2**20, batch.RSS_BYTES_MAX / 2**20)
            for lines, rss in data["speed"]["memory"].items()
        ),
    ]


def _scenarios(data: dict) -> list[Row]:
    """What is missed is one line each, all the rest together one."""
    broken = [s for s in data["scenarios"] if not s["kept"]]
    rows = [Row(f"in virtual time, {s['scenario']}: expectations that some seed misses", sum(not j["met"] for j in s["judged"]), 0) for s in broken]
    kept = len(data["scenarios"]) - len(broken)
    return [Row(f"in virtual time: scenarios of {kept} that miss anything with some seed", 0, 0), *rows] if kept else rows


_READERS = {
    "batch": _batch,
    "cpu": _cpu,
    "latency": _latency,
    "memory": _memory,
    "instructions": _instructions,
    "goodput": _goodput,
    "clients": _clients,
    "scrape": _scrape,
    "ledger": _ledger,
    "scenarios": _scenarios,
}


def report(benches: list[str]) -> tuple[str, bool]:
    """The table of promises for the benches that ran, and whether all are kept."""
    rows, kept = [], True
    for bench in benches:
        path = table.OUT / f"{bench}.json"
        if not path.exists() or bench not in _READERS:
            continue
        for row in _READERS[bench](json.loads(path.read_text())):
            kept &= row.met or row.goal
            rows.append([row.title, f"{row.measured:,.2f}", row.promise, row.verdict])
    if not rows:
        return "", True
    return "### Promises\n\n" + table.markdown(["measure", "measured", "promised", ""], rows), kept
