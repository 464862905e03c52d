"""What clients cost: a key to look up, limits and two budgets to ask, a reservation in the journal before the request
goes out, a row in the ledger when it is over; against the same gateway without any of that, in the same rounds.

CPU counts all threads of the gateway, those of the ledger too; a PostgreSQL server is another process.
"""

from pathlib import Path

from . import company, cpu, latency, machine, table
from .proxies import CLIENTS, prepare

BARE = "keymux"


def run(rounds: int, seconds: int, patience: company.Patience, folder: Path) -> None:
    """Measures and publishes."""
    kinds = [BARE, *CLIENTS]
    machine.need("wrk")
    prepare(kinds)
    costs = {s.name: cpu.measure(s, kinds, rounds, seconds, patience, folder) for s in cpu.scenarios()[:2]}
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
