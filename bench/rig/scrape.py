"""What being watched costs: the size of a scrape and its time, in a small gateway and in one with 500 keys and 50 routes;
and the CPU of a request while each is logged, one dashboard is open and Prometheus scrapes, against nobody looking, in
the same rounds.
"""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from . import answers, company, cpu, machine, process, table, upstream
from .proxies import ADMIN_TOKEN, Proxy, keymux_binary, prepare

BARE, WATCHED = "keymux", "keymux-watched"
PROVIDERS, KEYS, ROUTES = 10, 50, 50
"""Keys are a provider's; each is an account of its own with two limits, and each route has two targets."""
REQUESTS = 2_000
SCRAPES = 20
"""In a round."""
EVERY_S = 5
"""As often as an impatient Prometheus scrapes."""

_HEAD = """
[server]
listen = "127.0.0.1:{port}"
admin = "127.0.0.1:{admin_port}"
admin_token = "literal:{admin_token}"
data_dir = "{folder}/many-data"
workers = 1

[ledger]
database = "off"

[checks]
every = "0s"
"""


def _many(static_port: int, folder: Path) -> str:
    """The configuration of the large gateway, but for its head."""
    text = ""
    for p in range(PROVIDERS):
        keys = ", ".join(f'{{ name = "key-{p}-{k}", secret = "literal:sk-test-{p}-{k}" }}' for k in range(KEYS))
        base = f"http://127.0.0.1:{static_port}/v1"
        limits = "[{ rpm = 1_000_000_000, tpm = 1_000_000_000_000 }]"
        text += f'\n[[provider]]\nname = "provider-{p}"\ndialect = "openai"\nbase_url = "{base}"\nlimits = {limits}\nkeys = [{keys}]\n'
    for r in range(ROUTES):
        targets = ", ".join(f'["provider-{(r + i) % PROVIDERS}:model-{r}"]' for i in range(2))
        text += f'\n[[route]]\nmodel = "route-{r}"\ntiers = [{targets}]\n'
    return text


class Many:
    """A gateway with many keys and routes, all of which have been used."""

    def __init__(self, static_port: int, core: int, folder: Path):
        self.port, self.admin_port = process.free_port(), process.free_port()
        config = folder / "many.toml"
        head = _HEAD.format(port=self.port, admin_port=self.admin_port, admin_token=ADMIN_TOKEN, folder=folder)
        config.write_text(head + _many(static_port, folder))
        self.process = process.Process("many", [keymux_binary(), "serve", "--config", str(config)], core, folder)
        self.process.wait_until_listening(self.port)

    def use(self) -> None:
        """Requests to every route in turn."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        asked = json.loads(answers.request(False))
        for n in range(REQUESTS):
            body = json.dumps({**asked, "model": f"route-{n % ROUTES}"})
            connection.request("POST", upstream.PATH, body, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            reply.read()
            if reply.status != 200:
                raise RuntimeError(f"request {n} of the large gateway got {reply.status}")
        connection.close()


def _admin(port: int) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", port, timeout=30)


def _get(connection: http.client.HTTPConnection, path: str) -> http.client.HTTPResponse:
    connection.request("GET", path, headers={"Authorization": f"Bearer {ADMIN_TOKEN}"})
    reply = connection.getresponse()
    if reply.status != 200:
        raise RuntimeError(f"{path} got {reply.status}")
    return reply


def scrapes(gateway: process.Process, admin_port: int, rounds: int, patience: company.Patience) -> list[dict]:
    """Scrapes one after the other, and says of each round what one of them was."""

    def take() -> dict:
        connection, times = _admin(admin_port), []
        cpu_ns = gateway.cpu_ns()
        for _ in range(SCRAPES):
            begin = time.perf_counter()
            text = _get(connection, "/metrics").read()
            times.append((time.perf_counter() - begin) * 1e3)
        connection.close()
        if not text.endswith(b"# EOF\n"):
            raise RuntimeError("a scrape was cut")
        lines = [line for line in text.splitlines() if not line.startswith(b"#")]
        cpu_ms = (gateway.cpu_ns() - cpu_ns) / 1e6 / SCRAPES
        return {"bytes": len(text), "series": len(lines), "ms": sorted(times)[SCRAPES // 2], "cpu_ms": cpu_ms}

    return [company.alone([gateway], patience, take) for _ in range(rounds)]


@contextmanager
def watching(proxy: Proxy) -> Iterator[None]:
    """One open dashboard and a Prometheus, for as long as the gateway is measured; nobody, for one that is not watched."""
    if proxy.kind != WATCHED:
        yield
        return
    over, seen, broken = threading.Event(), [0, 0], []

    def look() -> None:
        reply = _get(_admin(proxy.admin_port), "/admin/feed")
        while not over.is_set():
            line = reply.readline()
            if not line:
                raise RuntimeError("the feed ended")
            seen[0] += line.startswith(b"event:")

    def scrape() -> None:
        connection = _admin(proxy.admin_port)
        while True:
            _get(connection, "/metrics").read()
            seen[1] += 1
            if over.wait(EVERY_S):
                return

    def told(what) -> None:
        try:
            what()
        except (RuntimeError, OSError, http.client.HTTPException) as error:
            broken.append(error)

    watchers = [threading.Thread(target=told, args=(what,), daemon=True) for what in (look, scrape)]
    for watcher in watchers:
        watcher.start()
    try:
        yield
    finally:
        over.set()
        for watcher in watchers:
            watcher.join()
    if broken or not all(seen):
        raise RuntimeError(f"nobody watched: {seen[0]} events, {seen[1]} scrapes, {broken}")


def _report(sizes: dict[str, list[dict]]) -> str:
    rows = []
    for title, rounds in sizes.items():
        quiet = company.quiet_rounds({title: rounds})[title]
        rows.append(
            [
                title,
                f"{quiet[-1]['series']:,}",
                f"{quiet[-1]['bytes'] / 1e3:,.0f}",
                table.spread([r["ms"] for r in quiet], 2),
                table.spread([r["cpu_ms"] for r in quiet], 2),
            ]
        )
    head = ["gateway", "series", "KB", "ms a scrape, median (range)", "CPU ms a scrape"]
    return "### A scrape\n\n" + table.markdown(head, rows) + company.remark([{title: r} for title, r in sizes.items()])


def run(rounds: int, seconds: int, patience: company.Patience, folder: Path) -> None:
    """Measures and publishes."""
    kinds = [BARE, WATCHED]
    machine.need("wrk")
    prepare(kinds)
    load_core, proxy_core = machine.cores()
    scenarios, sizes = cpu.scenarios()[:2], {}
    # Who watches is part of the load.
    with machine.pinned_to(load_core), ExitStack() as started:
        costs = {s.name: cpu.measure(s, kinds, rounds, seconds, patience, folder, watching) for s in scenarios}
        static = upstream.Static("scrape", answers.completion(), "application/json", load_core, folder)
        started.callback(static.stop)
        small = Proxy(BARE, static.port, False, proxy_core, folder)
        started.callback(small.stop)
        cpu.check_answer(small.port, scenarios[0], scenarios[0].seen)
        sizes["3 keys, no route"] = scrapes(small.process, small.admin_port, rounds, patience)
        many = Many(static.port, proxy_core, folder)
        started.callback(many.process.stop)
        many.use()
        sizes[f"{PROVIDERS * KEYS} keys, {ROUTES} routes"] = scrapes(many.process, many.admin_port, rounds, patience)
    title = "### CPU a request, each logged, one dashboard open, scraped every 5 s"
    text = _report(sizes) + "\n\n" + cpu.report(costs, (BARE,)).replace("### CPU a request", title, 1)
    table.publish("scrape", text, {"machine": machine.describe(), "scrapes": sizes, "scenarios": costs})
