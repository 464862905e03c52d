"""A clairvoyant FIFO: it knows every limit, its level and every fault, and serves the requests of a path in the order
in which they came, each as soon as some account admits it. No network, no rounding, no doubt.

Written from the definitions of the limits alone; shares nothing with the gateway.
"""

import heapq
from collections import deque

from .goodput_rows import PERIOD_S, Account, Ask, Limit, Provider, Row


class _Bucket:
    """Refills all the time, up to its depth."""

    def __init__(self, limit: Limit):
        self.depth, self.rate = float(limit.most), limit.most / PERIOD_S
        self.level, self.at_s = self.depth, 0.0

    def ready(self, at_s: float, need: float) -> float:
        level = min(self.depth, self.level + (at_s - self.at_s) * self.rate)
        return at_s if level >= need - 1e-9 else at_s + (need - level) / self.rate

    def used_share(self, at_s: float) -> float:
        return 1 - min(self.depth, self.level + (at_s - self.at_s) * self.rate) / self.depth

    def take(self, at_s: float, need: float, _until_s: float) -> None:
        self.level = min(self.depth, self.level + (at_s - self.at_s) * self.rate) - need
        self.at_s = at_s


class _Window:
    """Whole again at every multiple of the period of everybody's clock."""

    def __init__(self, limit: Limit, phase_s: float):
        self.most, self.phase_s = limit.most, phase_s
        self.index, self.used = -1, 0.0

    def ready(self, at_s: float, need: float) -> float:
        index = self._index(at_s)
        if index != self.index or self.used + need <= self.most:
            return at_s
        return (index + 1) * PERIOD_S - self.phase_s + 1e-6

    def used_share(self, at_s: float) -> float:
        return self.used / self.most if self._index(at_s) == self.index else 0.0

    def take(self, at_s: float, need: float, _until_s: float) -> None:
        index = self._index(at_s)
        self.used = need if index != self.index else self.used + need
        self.index = index

    def _index(self, at_s: float) -> int:
        return int((at_s + self.phase_s) // PERIOD_S)


class _Slots:
    """So many at a time."""

    def __init__(self, limit: Limit):
        self.most = limit.most
        self.ends: list[float] = []

    def ready(self, at_s: float, _need: float) -> float:
        running = sorted(end for end in self.ends if end > at_s)
        return at_s if len(running) < self.most else running[len(running) - self.most]

    def used_share(self, at_s: float) -> float:
        return sum(end > at_s for end in self.ends) / self.most

    def take(self, at_s: float, _need: float, until_s: float) -> None:
        while self.ends and self.ends[0] <= at_s:
            heapq.heappop(self.ends)
        heapq.heappush(self.ends, until_s)


class _Door:
    """An account as somebody sees it who knows everything about it."""

    def __init__(self, provider: Provider, account: Account, phase_s: float):
        self.paths, self.faults = provider.paths, account.faults
        self.meters = [(limit.dimension, self._meter(limit, phase_s)) for limit in account.limits]

    @staticmethod
    def _meter(limit: Limit, phase_s: float) -> _Bucket | _Window | _Slots:
        if limit.dimension == "concurrent":
            return _Slots(limit)
        return _Window(limit, phase_s) if limit.shape == "window" else _Bucket(limit)

    def earliest(self, at_s: float, ask: Ask) -> tuple[float, float] | None:
        """When it could begin and end here; never, if the account is out for good."""
        while True:
            begin = max((meter.ready(at_s, ask.cost(dimension)) for dimension, meter in self.meters), default=at_s)
            broken = next((f for f in self.faults if f.slow is None and f.holds(begin)), None)
            if broken and broken.to_s is None:
                return None
            if broken:
                begin = broken.to_s
            if begin == at_s:
                slow = next((f.slow for f in self.faults if f.slow and f.holds(begin)), 1.0)
                return begin, begin + ask.service_s * slow
            at_s = begin

    def used_share(self, at_s: float) -> float:
        """Of its scarcest limit."""
        return max((meter.used_share(at_s) for _, meter in self.meters), default=0.0)

    def take(self, begin_s: float, end_s: float, ask: Ask) -> None:
        for dimension, meter in self.meters:
            meter.take(begin_s, ask.cost(dimension), end_s)


def latencies(row: Row, asks: list[Ask], start_unix_s: float) -> list[float]:
    """Seconds from due to answered, of every request in its order."""
    doors = [_Door(provider, account, start_unix_s % PERIOD_S) for provider, account in row.accounts()]
    queues: dict[str, deque[int]] = {}
    for index, ask in enumerate(asks):
        queues.setdefault(ask.path, deque()).append(index)
    free_s = dict.fromkeys(queues, 0.0)
    took = [0.0] * len(asks)
    while any(queues.values()):
        heads = []
        for path, queue in queues.items():
            if queue:
                begin_s, end_s, door = _best(doors, path, asks[queue[0]], free_s[path])
                heads.append((begin_s, path, end_s, door))
        begin_s, path, end_s, door = min(heads, key=lambda head: head[:2])
        index = queues[path].popleft()
        door.take(begin_s, end_s, asks[index])
        free_s[path] = begin_s
        took[index] = end_s - asks[index].at_s
    return took


def _best(doors: list[_Door], path: str, ask: Ask, free_s: float) -> tuple[float, float, _Door]:
    """Where the request ends first; of equals, an account that fewer paths can use, then the least used one: what
    comes back to a full bucket is lost."""
    found = []
    for number, door in enumerate(doors):
        if path in door.paths and (times := door.earliest(max(ask.at_s, free_s), ask)):
            found.append((round(times[1], 6), len(door.paths), door.used_share(times[0]), number, *times))
    *_, number, begin_s, end_s = min(found)
    return begin_s, end_s, doors[number]
