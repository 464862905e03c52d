"""Plays one row: the same script through keymux and round-robin over the keys, each before a provider of its own.

keymux is told the keys and, unless the row says so, nothing of their limits. What happened is read from the books of
the providers and from the replies of the load, never from keymux.
"""

import json
import os
import subprocess
import threading
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from . import goodput_rows, machine, process
from .goodput_rows import PERIOD_S, Account, Ask, Provider, Row
from .proxies import cargo_build, keymux_binary

PATIENCE_S = 60
MAX_WAIT_S = 50
# The worlds begin so long before the first request.
LEAD_S = 0.5
WINDOW_PHASE_S = 0.3
SIDES = ("keymux", "round robin")

_KEYMUX = """
[server]
listen = "127.0.0.1:{port}"
admin = "none"
data_dir = "{folder}/keymux-data"
max_wait = "{max_wait}s"
workers = 1

[log]
level = "warn"

[checks]
every = "0s"

[[route]]
model = "{model}"
tiers = [[{targets}]]
"""

_PROVIDER = """
[[provider]]
name = "{name}"
{kind} = "{dialect}"
base_url = "http://{address}/{name}/v1"
"""

_KEY = """
[[provider.keys]]
name = "{name}"
secret = "literal:{secret}"
{limits}
"""


@dataclass
class Played:
    """What one side made of a row."""

    replies: list[dict]
    records: list[dict]
    start_unix_s: float
    # Seconds from the begin of the world to the first request.
    lead_s: float


def testkit_binary() -> str:
    """$TESTKIT_BIN, or built from this checkout."""
    return os.environ.get("TESTKIT_BIN") or cargo_build("keymux-testkit", "bin", "testkit")


def prepare() -> None:
    """Builds what is needed before anything is measured."""
    machine.need("taskset")
    keymux_binary()
    testkit_binary()


def secret(provider: Provider, account: Account) -> str:
    return f"sk-test-{provider.name}-{account.name}"


def world(row: Row) -> dict:
    """The row as the simulated provider reads it."""
    return {"provider": [_provider(provider) for provider in row.providers]}


def _provider(provider: Provider) -> dict:
    spec: dict = {
        "name": provider.name,
        "dialect": provider.dialect,
        "latency": {
            "ttft_ms": goodput_rows.TTFT_S * 1e3,
            "ttft_sigma": 0,
            "per_token_ms": goodput_rows.TOKEN_S * 1e3,
            "tokens_per_event": 4,
            "refusal_ms": 5,
        },
        "charging": {"refused_count": provider.refused_count},
        "account": [_account(provider, account) for account in provider.accounts],
    }
    if provider.headers:
        spec["headers"] = provider.headers
    if provider.refusal_time:
        spec["refusal_time"] = provider.refusal_time
    return spec


def _account(provider: Provider, account: Account) -> dict:
    limits = [
        {"dimension": limit.dimension, "limit": limit.most, "shape": limit.shape, "period_ms": PERIOD_S * 1000}
        for limit in account.limits
    ]
    faults = []
    for fault in account.faults:
        entry = {"from_ms": round((fault.from_s + LEAD_S) * 1e3), "kind": fault.kind}
        if fault.to_s is not None:
            entry["to_ms"] = round((fault.to_s + LEAD_S) * 1e3)
        faults.append(entry)
    key = {"name": account.name, "secret": secret(provider, account)}
    return {"name": f"org-{account.name}", "limits": limits, "key": [key], "faults": faults}


def keymux_config(row: Row, address: str, port: int, folder: Path) -> str:
    """What the operator of keymux writes down."""
    targets = ", ".join(f'"{provider.name}:{goodput_rows.MODEL}"' for provider in row.providers)
    text = _KEYMUX.format(port=port, folder=folder, max_wait=MAX_WAIT_S, model=goodput_rows.MODEL, targets=targets)
    for provider in row.providers:
        kind = "dialect" if provider.name == "generic" else "preset"
        text += _PROVIDER.format(name=provider.name, kind=kind, dialect=provider.dialect, address=address)
        for account in provider.accounts:
            limits = _declared(account) if row.declared else ""
            text += _KEY.format(name=account.name, secret=secret(provider, account), limits=limits)
    return text


def _declared(account: Account) -> str:
    names = {"requests": "requests", "total_tokens": "tokens"}
    entries = [
        f"{{ concurrent = {limit.most} }}"
        if limit.dimension == "concurrent"
        else f'{{ {names[limit.dimension]} = {limit.most}, per = "{PERIOD_S}s", shape = "{limit.shape}" }}'
        for limit in account.limits
    ]
    return f"limits = [{', '.join(entries)}]"


def play(row: Row, asks: list[Ask], folder: Path) -> dict[str, Played]:
    """Both sides at once; raises RuntimeError if something did not start or did not end."""
    cores = ",".join(str(core) for core in sorted(os.sched_getaffinity(0)))
    with ExitStack() as started:
        (folder / "world.json").write_text(json.dumps(world(row)))
        addresses = {}
        for side in SIDES:
            port = process.free_port()
            command = [testkit_binary(), "serve", "--listen", f"127.0.0.1:{port}", "--spec", str(folder / "world.json"), "--captures", "0"]
            provider = process.Process(f"provider-{side.replace(' ', '-')}", command, cores, folder)
            started.callback(provider.stop)
            provider.wait_until_listening(port)
            addresses[side] = f"127.0.0.1:{port}"
        gateway_port = process.free_port()
        (folder / "keymux.toml").write_text(keymux_config(row, addresses["keymux"], gateway_port, folder))
        (folder / "keymux-data").mkdir()
        gateway = process.Process("keymux", [keymux_binary(), "serve", "--config", str(folder / "keymux.toml")], cores, folder)
        started.callback(gateway.stop)
        gateway.wait_until_listening(gateway_port)
        targets = {
            "keymux": [{"url": f"http://127.0.0.1:{gateway_port}/v1"}],
            "round robin": [
                {"url": f"http://{addresses['round robin']}/{provider.name}/v1", "token": secret(provider, account), "paths": provider.paths}
                for provider, account in row.accounts()
            ],
        }
        return _scripts(asks, targets, addresses, _start_s(row), folder)


def _start_s(row: Row) -> float:
    """When the first request is due. Windows are everybody's clock's: such a load begins when one has just begun, or
    the whole of it might fall into fewer windows or more."""
    soon = time.time() + 1.5
    windows = any(limit.shape == "window" for _, account in row.accounts() for limit in account.limits)
    return soon + (WINDOW_PHASE_S - soon) % PERIOD_S if windows else soon


def _scripts(
    asks: list[Ask], targets: dict[str, list], addresses: dict[str, str], start_s: float, folder: Path
) -> dict[str, Played]:
    requests = [{"at_ms": ask.at_s * 1e3, "path": ask.path, "body": ask.body(), "stream": ask.stream} for ask in asks]
    running, leads = {}, {}
    for side in SIDES:
        script = {
            "targets": targets[side],
            "requests": requests,
            "retry_429": side == "round robin",
            "start_unix_ms": round(start_s * 1e3),
            "patience_ms": PATIENCE_S * 1000,
        }
        path = folder / f"script-{side.replace(' ', '-')}.json"
        path.write_text(json.dumps(script))
        running[side] = subprocess.Popen([testkit_binary(), "script", str(path)], stdout=subprocess.PIPE, text=True)
    time.sleep(max(0.0, start_s - LEAD_S - time.time()))
    for side in SIDES:
        before = time.time()
        _control(addresses[side], "reset", b"")
        leads[side] = start_s - (before + time.time()) / 2
    outputs: dict[str, str] = {}
    threads = [threading.Thread(target=lambda s=side: outputs.update({s: running[s].communicate()[0]})) for side in SIDES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(asks[-1].at_s + PATIENCE_S + 30)
    played = {}
    for side in SIDES:
        if running[side].poll() != 0:
            running[side].kill()
            raise RuntimeError(f"the load through {side} did not end well")
        told = json.loads(outputs[side])
        records = json.loads(_control(addresses[side], "records", None))
        if abs(told["start_unix_ms"] / 1e3 - start_s) > 0.05:
            raise RuntimeError(f"the load through {side} began {told['start_unix_ms'] / 1e3 - start_s:.2f} s late")
        played[side] = Played(told["replies"], records, start_s, leads[side])
    return played


def _control(address: str, what: str, body: bytes | None) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(f"http://{address}/_sim/{what}", data=body), timeout=30) as answer:
        return answer.read()
