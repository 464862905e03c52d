"""CPU a request: what one more request costs the proxy, whatever the machine makes of it in throughput.

The proxy has a core to itself; load and upstream share the other one. Rounds interleave the proxies
(A B C A B C …) so that a slow minute of the machine hits all of them, and ratios are taken within a round.
"""

import statistics
import time
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path

from . import answers, company, machine, table, upstream
from .proxies import KEYMUX, Proxy, prepare
from .steady import Steady
from .wrk import Wrk


@dataclass(frozen=True)
class Scenario:
    """One kind of request and its answer."""

    name: str
    title: str
    body: bytes
    answer: bytes
    seen: bytes
    content_type: str
    streaming: bool


def scenarios() -> list[Scenario]:
    """JSON, a stream, and a stream whose client did not ask for the usage that the gateway needs."""
    return [
        Scenario(
            "json",
            f"JSON of {answers.JSON_BYTES} bytes",
            answers.request(False),
            answers.completion(),
            answers.completion(),
            "application/json",
            False,
        ),
        Scenario(
            "sse",
            f"SSE of {answers.SSE_EVENTS} events, {answers.SSE_BYTES // 1000} KB",
            answers.request(True),
            answers.stream(),
            answers.stream(),
            "text/event-stream",
            True,
        ),
        Scenario(
            "sse-unasked",
            "the same, usage injected and taken out again by keymux",
            answers.request(True, ask_usage=False),
            answers.stream(),
            answers.stream(with_usage=False),
            "text/event-stream",
            True,
        ),
    ]


def check_answer(port: int, scenario: Scenario, seen: bytes) -> None:
    """One request by another client than wrk: what comes back must be the answer, byte for byte."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{upstream.PATH}",
        scenario.body,
        {"Content-Type": "application/json", "Authorization": "Bearer sk-test-client"},
    )
    with urllib.request.urlopen(request, timeout=10) as reply:
        got = reply.read()
        kind = reply.headers["Content-Type"]
    if got != seen or not kind.startswith(scenario.content_type):
        raise RuntimeError(f"port {port} answered {scenario.name} with {len(got)} bytes of {kind}, not as expected")


def measure(
    scenario: Scenario,
    kinds: list[str],
    rounds: int,
    seconds: int,
    patience: company.Patience,
    folder: Path,
    beside: Callable[[Proxy], AbstractContextManager] = nullcontext,
    load: Callable[[str, bytes, int, Path], Wrk | Steady] = Wrk,
) -> dict:
    """Per proxy the CPU µs a request of each round. `beside` goes on beside each proxy from its first request on."""
    load_core, proxy_core = machine.cores()
    with ExitStack() as started:
        static = upstream.Static(scenario.name, scenario.answer, scenario.content_type, load_core, folder)
        started.callback(static.stop)
        loader = load(scenario.name, scenario.body, load_core, folder)
        proxies = []
        for kind in kinds:
            proxy = Proxy(kind, static.port, scenario.streaming, proxy_core, folder)
            started.callback(proxy.stop)
            check_answer(proxy.port, scenario, scenario.seen if kind in KEYMUX else scenario.answer)
            loader.run(proxy.port, 1)  # warm
            started.enter_context(beside(proxy))
            proxies.append(proxy)
        return _rounds(scenario, static, proxies, loader, rounds, seconds, patience)


def _rounds(
    scenario: Scenario,
    static: upstream.Static,
    proxies: list[Proxy],
    loader: Wrk | Steady,
    rounds: int,
    seconds: int,
    patience: company.Patience,
) -> dict:
    taken: dict[str, list[dict]] = {proxy.kind: [] for proxy in proxies}
    for number in range(rounds):
        for proxy in proxies:

            def take(proxy: Proxy = proxy) -> dict:
                cpu, begin = proxy.process.cpu_ns(), time.monotonic()
                load = loader.run(proxy.port, seconds)
                cpu_s = (proxy.process.cpu_ns() - cpu) / 1e9
                return {
                    "us": cpu_s * 1e6 / load.requests,
                    "requests": load.requests,
                    "requests_a_s": load.requests / load.duration_s,
                    "core_share": cpu_s / (time.monotonic() - begin),
                }

            taken[proxy.kind].append(company.alone([static.process, proxy.process], patience, take))
        machine.note(
            f"{scenario.name} round {number + 1}: "
            + ", ".join(
                f"{kind} {list_[-1]['us']:.1f}{' disturbed' if list_[-1]['disturbed'] else ''}"
                for kind, list_ in taken.items()
            )
        )
    return {"title": scenario.title, "rounds": taken}


def report(results: dict, others: tuple[str, ...] = ("nginx", "haproxy")) -> str:
    """One table for all scenarios, each proxy beside `others`."""
    rows = []
    for result in results.values():
        rounds = company.quiet_rounds(result["rounds"])
        us = {kind: [r["us"] for r in list_] for kind, list_ in rounds.items()}
        for kind, values in us.items():
            ratios = [
                f"{statistics.median(mine / theirs for mine, theirs in zip(values, us[other], strict=True)):.2f}"
                if other in us and other != kind
                else ""
                for other in others
            ]
            rate = statistics.median(r["requests_a_s"] for r in rounds[kind])
            share = statistics.median(r["core_share"] for r in rounds[kind])
            rows.append([result["title"], kind, table.spread(values), *ratios, f"{rate:,.0f}", f"{share:.0%}"])
    ratios = [f"x {other}" for other in others]
    head = ["answer", "proxy", "CPU µs a request, median (range)", *ratios, "requests a second", "of its core"]
    text = "### CPU a request\n\n" + table.markdown(head, rows)
    text += "\n\nWhere a proxy does not fill its core, the load and the upstream were what limited the requests a second."
    text += company.remark([result["rounds"] for result in results.values()])
    return text


def run(kinds: list[str], rounds: int, seconds: int, patience: company.Patience, folder: Path) -> None:
    """Measures and publishes."""
    machine.need("wrk")
    prepare(kinds)
    results, failures = {}, []
    for scenario in scenarios():
        try:
            results[scenario.name] = measure(scenario, kinds, rounds, seconds, patience, folder)
        except (RuntimeError, OSError) as error:
            failures.append(f"{scenario.name}: {error}")
    if results:
        table.publish("cpu", report(results), {"machine": machine.describe(), "scenarios": results})
    if failures:
        raise RuntimeError("; ".join(failures))
