"""Was somebody else at work while we measured?

A compiler's name in the process list is one sign; time that the cores worked for nobody of ours is the
other. A measurement taken in company is taken again, a few times at most, and then marked.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

from . import machine
from .process import Process

# Others may take this share of all cores before a measurement counts as disturbed.
FOREIGN_SHARE_MAX = 0.03
TRIES = 3


def _busy_s() -> float:
    """Seconds that all cores have worked since boot, for anybody."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    user, nice, system, _idle, _iowait, irq, softirq = (int(v) for v in fields[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _ours_s(processes: list[Process]) -> float:
    """Seconds that we, the children we waited for, and `processes` have worked."""
    return sum(os.times()[:4]) + sum(process.cpu_ns() for process in processes) / 1e9


def alone(processes: list[Process], patience_s: float, take: Callable[[], dict]) -> dict:
    """Takes a measurement in quiet, again if it was disturbed; adds `foreign_share` and `disturbed` to it."""
    for _ in range(TRIES):
        machine.wait_for_quiet(patience_s)
        busy, ours, begin = _busy_s(), _ours_s(processes), time.monotonic()
        taken = take()
        wall = time.monotonic() - begin
        foreign = max(0.0, (_busy_s() - busy) - (_ours_s(processes) - ours))
        taken["foreign_share"] = foreign / wall / (os.cpu_count() or 1)
        taken["disturbed"] = taken["foreign_share"] > FOREIGN_SHARE_MAX or bool(machine.disturbers())
        if not taken["disturbed"] or patience_s == 0:
            break
    return taken


def remark(rounds: list[dict]) -> str:
    """What the reader must know of the rounds, or nothing."""
    disturbed = sum(r["disturbed"] for r in rounds)
    return f"\n\n{disturbed} of {len(rounds)} rounds were taken while something else used the machine." if disturbed else ""
