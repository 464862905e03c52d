"""The scenarios in virtual time: what the scheduler makes of scarce quota and failing keys over many seeds, beside an oracle,
with what each promises. Nothing is timed here, so a busy machine changes no figure."""

import json
import statistics
import subprocess
import time

from . import machine, table
from .proxies import keymux_binary

# In the order in which the design tells of them; whatever else comes with the program follows by name.
FIRST = (
    "below-quota",
    "overload-130",
    "token-bound",
    "quotas-1-3-6",
    "unknown-cold",
    "unknown-warm",
    "stranger-silent",
    "shared-account",
    "slow-failing-hanging",
    "refused-keys",
    "poison",
    "provider-down",
    "bursts",
    "flood",
    "restart",
    "ten-thousand-keys",
)
# Expectations that say that a run was long enough, or that nothing at all went wrong: not what a row is for.
UNSAID = ("requests", "violations")


def ordered(scenarios: list[dict]) -> list[dict]:
    """The design's rows first."""
    place = {name: at for at, name in enumerate(FIRST)}
    return sorted(scenarios, key=lambda s: (place.get(s["scenario"], len(place)), s["scenario"]))


def promise(judged: dict) -> str:
    """An expectation in words. Whatever is a share cannot be above 1, and nothing is below 0."""
    low, high = judged["wanted"]
    name = judged["name"]
    if low == high:
        return f"{name} {high:g}"
    if low <= 0:
        return f"{name} <= {high:g}"
    return f"{name} >= {low:g}" if high == 1 else f"{name} {low:g} to {high:g}"


def verdict(judged: list[dict]) -> str:
    """Whether every seed keeps to all of them; if not, to which one does not."""
    missed = [j for j in judged if not j["met"]]
    if not missed:
        return "kept"
    told = ", ".join(f"{j['name']} {j['worst']:.4g}" + (f" ({j['known']})" if j["known"] else "") for j in missed)
    return f"**missed**: {told}"


def line(scenario: dict) -> list[str]:
    """A row: medians over the seeds, and where it matters the worst of them."""
    runs = [run["by_name"] for run in scenario["runs"]]

    def median(name: str) -> float:
        return statistics.median(run[name] for run in runs)

    def both(name: str, worst: float, digits: int) -> str:
        return f"{median(name):.{digits}f} ({worst:.{digits}f})"

    def times(what: str) -> str:
        return "/".join(f"{median(f'{what}_{p}_ms'):.0f}" for p in ("p50", "p95", "p99"))

    # The FIFO is not asked about fleets that would take it too long.
    fifo = median("fifo_goodput")
    said = [promise(j) for j in scenario["judged"] if j["name"] not in UNSAID]
    return [
        scenario["scenario"],
        both("goodput", min(run["goodput"] for run in runs), 4),
        f"{fifo:.4f}" if fifo else "",
        both("wasted_429", max(run["wasted_429"] for run in runs), 4),
        f"{max(run['errors'] for run in runs):.0f}",
        times("wait"),
        times("latency"),
        f"{median('p99_over_oracle'):.2f}" if fifo else "",
        "; ".join(said),
        verdict(scenario["judged"]),
    ]


def run(seeds: int) -> None:
    """Runs them all and publishes."""
    machine.note(f"scenarios: all, {seeds} seeds each")
    began = time.monotonic()
    argv = [keymux_binary(), "simulate", "--all", "--seeds", str(seeds), "--json"]
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"keymux simulate ended with {done.returncode}:\n{done.stderr[-2000:]}")
    scenarios = ordered(json.loads(done.stdout))
    machine.note(f"scenarios: done in {time.monotonic() - began:.0f} s")
    requests = sum(run["by_name"]["requests"] for scenario in scenarios for run in scenario["runs"])
    head = [
        "scenario",
        "goodput (worst)",
        "FIFO's",
        "429s an answer (worst)",
        "client errors (worst)",
        "wait p50/p95/p99, ms",
        "latency p50/p95/p99, ms",
        "p99 x FIFO's",
        "promise",
        "",
    ]
    text = f"### Scenarios in virtual time: {requests:,.0f} requests, each with {seeds} seed{'s' * (seeds > 1)}\n\n"
    text += "Goodput is a share of what the limits could have let through at most; the FIFO is a clairvoyant one.\n\n"
    text += table.markdown(head, [line(scenario) for scenario in scenarios])
    told = [{**scenario, "kept": all(j["met"] for j in scenario["judged"])} for scenario in scenarios]
    table.publish("scenarios", text, {"machine": machine.describe(), "seeds": seeds, "scenarios": told})
