"""What clients cost: a key to look up, limits and two budgets to ask, a reservation in the journal before the request
goes out, a row in the ledger when it is over; against the same gateway without any of that, in the same rounds.

CPU counts all threads of the gateway, those of the ledger too; a PostgreSQL server is another process. It is taken twice:
with as many requests as each gateway manages, which is where cost matters, and with as many for all.
"""

import functools
import statistics
from dataclasses import replace
from pathlib import Path

from . import company, cpu, latency, machine, table
from .goodput_play import testkit_binary
from .proxies import CLIENTS, prepare
from .steady import Steady

BARE = "keymux"
# Of what the slowest manages, for the second row.
STEADY_SHARE = 0.6


def _steady(scenario: cpu.Scenario, full: dict, rounds: int, seconds: int, patience: company.Patience, folder: Path) -> dict:
    """The same at one rate that all of them manage with ease."""
    slowest = min(statistics.median(r["requests_a_s"] for r in list_) for list_ in full["rounds"].values())
    rate = round(STEADY_SHARE * slowest / 100) * 100
    at_rate = replace(scenario, name=f"{scenario.name}-steady", title=f"{scenario.title}, {rate:,} a second")
    load = functools.partial(Steady, rate=rate)
    return cpu.measure(at_rate, list(full["rounds"]), rounds, seconds, patience, folder, load=load)


def run(rounds: int, seconds: int, patience: company.Patience, folder: Path) -> None:
    """Measures and publishes."""
    kinds = [BARE, *CLIENTS]
    machine.need("wrk")
    prepare(kinds)
    testkit_binary()
    costs = {}
    for scenario in cpu.scenarios()[:2]:
        full = costs[scenario.name] = cpu.measure(scenario, kinds, rounds, seconds, patience, folder)
        costs[f"{scenario.name}-steady"] = _steady(scenario, full, rounds, seconds, patience, folder)
    times = latency.measure(kinds, rounds, seconds, patience, folder)
    summary = latency.summarise(times)
    # The ledger writes in bursts: what a request meets of that is what it adds to the bare gateway.
    remark = company.remark([result["rounds"] for result in times.values()])
    text = "\n\n".join(
        [
            cpu.report(costs, (BARE,)).replace("### CPU a request", "### CPU a request, with client key, limits, budgets and ledger", 1),
            latency.report(summary, remark).replace("### Latency", "### With clients: latency", 1),
        ]
    )
    table.publish("clients", text, {"machine": machine.describe(), "scenarios": costs, "latency": summary})
