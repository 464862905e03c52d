"""Memory: what an idle proxy takes, and what each further slow stream adds.

The growth is a slope between two numbers of streams, so that fixed costs and pools drop out. A stream
that was lost makes the slope a lie, so every stream must hear an event after the last one was opened and
must end in [DONE].
"""

import asyncio
from pathlib import Path

from . import machine, table
from .proxies import Proxy, prepare
from .slow import PERIOD_S, SlowClients, SlowUpstream

FEW = 1_000
MANY = 9_000
_SAMPLES = 5


async def _settled_rss(proxy: Proxy) -> int:
    """The largest of a few readings: buffers come and go with each event."""
    readings = []
    for _ in range(_SAMPLES):
        readings.append(proxy.process.rss_bytes())
        await asyncio.sleep(0.2)
    return max(readings)


async def _cpu_us_an_event(proxy: Proxy, clients: SlowClients) -> float:
    """What one event costs that comes by itself, as a model's tokens do; only a loaded upstream sends many at once."""
    cpu, heard = proxy.process.cpu_ns(), clients.heard()
    await asyncio.sleep(PERIOD_S)
    return (proxy.process.cpu_ns() - cpu) / 1e3 / (clients.heard() - heard)


async def _one(kind: str, few: int, many: int, folder: Path) -> dict:
    _, proxy_core = machine.cores()
    slow = SlowUpstream()
    await slow.start()
    proxy = Proxy(kind, slow.port, True, proxy_core, folder)
    clients = SlowClients(proxy.port)
    try:
        await asyncio.sleep(1)
        idle = await _settled_rss(proxy)
        rss, heard = {}, {}
        for count in (few, many):
            await clients.grow(count)
            heard[count] = await clients.all_hear()
            rss[count] = await _settled_rss(proxy)
            machine.note(f"{kind}: {heard[count]} of {count} streams alive, {rss[count] / 1e6:.1f} MB")
        event_us = await _cpu_us_an_event(proxy, clients)
        slow.finish()
        completed = await clients.completed()
        clients.close()
        await asyncio.sleep(1)
        after = await _settled_rss(proxy)
    finally:
        clients.close()
        await slow.stop()
        proxy.stop()
    return {
        "idle_bytes": idle,
        "few": few,
        "many": many,
        "few_bytes": rss[few],
        "many_bytes": rss[many],
        "after_bytes": after,
        "bytes_a_stream": (rss[many] - rss[few]) / (many - few),
        "cpu_us_an_event": event_us,
        "lost": many - min(completed, heard[many]),
    }


def measure(kinds: list[str], folder: Path, few: int = FEW, many: int = MANY) -> dict:
    """Every proxy in turn, alone with its streams."""
    limit = machine.raise_descriptor_limit()
    if limit < 2 * many + 100:
        raise RuntimeError(f"{many} proxied streams take {2 * many} descriptors, this machine gives a process {limit}")
    load_core, _ = machine.cores()
    with machine.pinned_to(load_core):
        return {kind: asyncio.run(_one(kind, few, many, folder)) for kind in kinds}


def report(results: dict) -> str:
    """The table; MB are 10^6 bytes, KB 10^3."""
    rows = [
        [
            kind,
            f"{r['idle_bytes'] / 1e6:.1f}",
            f"{r['few_bytes'] / 1e6:.1f}",
            f"{r['many_bytes'] / 1e6:.1f}",
            f"{r['bytes_a_stream'] / 1e3:.1f}",
            f"{r['lost']}",
            f"{r['cpu_us_an_event']:.1f}",
            f"{r['after_bytes'] / 1e6:.1f}",
        ]
        for kind, r in results.items()
    ]
    few, many = (next(iter(results.values()))[k] for k in ("few", "many"))
    head = ["proxy", "idle, MB", f"{few:,} streams, MB", f"{many:,} streams, MB", "KB a stream", "lost"]
    head += ["CPU µs an event", "after they ended, MB"]
    return "### Memory\n\n" + table.markdown(head, rows)


def run(kinds: list[str], folder: Path) -> None:
    """Measures and publishes."""
    prepare(kinds)
    results = measure(kinds, folder)
    table.publish("memory", report(results), {"machine": machine.describe(), "proxies": results})
