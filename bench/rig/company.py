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


class Patience:
    """Seconds that a whole run may lose to others: to waiting, and to measuring again."""

    def __init__(self, seconds: float):
        self.left_s = seconds

    def wait_for_quiet(self) -> None:
        """Waits until nobody builds, or patience has run out."""
        told = False
        while self.left_s > 0 and (busy := machine.disturbers()):
            if not told:
                machine.note(f"waiting for {', '.join(busy)} to end, {self.left_s:.0f} s at most")
                told = True
            time.sleep(0.5)
            self.left_s -= 0.5


def alone(processes: list[Process], patience: Patience, take: Callable[[], dict]) -> dict:
    """Takes a measurement in quiet, again if it was disturbed; adds `foreign_share` and `disturbed` to it."""
    for _ in range(TRIES):
        patience.wait_for_quiet()
        busy, ours, begin = _busy_s(), _ours_s(processes), time.monotonic()
        taken = take()
        wall = time.monotonic() - begin
        foreign = max(0.0, (_busy_s() - busy) - (_ours_s(processes) - ours))
        taken["foreign_share"] = foreign / wall / (os.cpu_count() or 1)
        taken["disturbed"] = taken["foreign_share"] > FOREIGN_SHARE_MAX or bool(machine.disturbers())
        if not taken["disturbed"] or patience.left_s <= 0:
            break
        patience.left_s -= wall
    return taken


def quiet_rounds(rounds: dict[str, list[dict]]) -> dict[str, list[dict]]:
    """The rounds in which nobody disturbed any of the proxies; all of them if there was no such round."""
    together = list(zip(*rounds.values(), strict=True))
    kept = [taken for taken in together if not any(r["disturbed"] for r in taken)] or together
    return {kind: [taken[index] for taken in kept] for index, kind in enumerate(rounds)}


def noisy(rounds: dict[str, list[dict]]) -> bool:
    """Whether not one round was quiet, so that the figures are no better than a hint."""
    return any(taken["disturbed"] for list_ in quiet_rounds(rounds).values() for taken in list_)


def remark(rounds: list[dict[str, list[dict]]]) -> str:
    """What the reader must know of the rounds, or nothing."""
    total = sum(len(next(iter(r.values()))) for r in rounds)
    left_out = total - sum(len(next(iter(quiet_rounds(r).values()))) for r in rounds)
    loud = sum(map(noisy, rounds))
    text = ""
    if left_out:
        text += f"\n\n{left_out} of {total} rounds were left out: something else used the machine."
    if loud:
        text += f"\n\n{loud} of {len(rounds)} kinds of answer had no quiet round: something else used the machine all the time."
    return text
