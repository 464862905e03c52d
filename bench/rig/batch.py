"""What a line of `keymux batch` costs, beside the official client with a semaphore; how near three limited keys come to
what their limits let through; and whether memory grows with the file."""

import json
import os
import subprocess
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from . import machine, process, table
from .goodput_play import testkit_binary
from .proxies import REPOSITORY, keymux_binary

AT_ONCE = (8, 32, 128)
CPU_RATIO_MIN = 20
ORACLE_RATIO_MAX = 1.02
RSS_BYTES_MAX = 64 << 20
MEMORY_LINES_MIN = 10_000
# A tenth of the lines is enough to tell what one costs the slower side.
CLIENT_SHARE = 10
PERIOD_S = 10
OUTPUT_TOKENS = 20
LIMITS = (
    [("requests", 120)],
    [("tokens", 9_000)],
    [("requests", 200), ("tokens", 6_000)],
)
TTFT_S = 0.2


@dataclass
class Ran:
    """A batch that ended well."""

    wall_s: float
    cpu_s: float
    rss_bytes: int
    summary: dict


def run(lines: int, limited_s: int, folder: Path) -> None:
    """Measures and publishes."""
    machine.need("taskset")
    speed = _speed(lines, folder)
    limited = _limited(limited_s, folder)
    keymux, client = speed["keymux"], speed["client"]
    ratio = keymux["lines_per_cpu_s"] / client["lines_per_cpu_s"]
    largest = max(speed["memory"].values())
    rows = [
        ["lines a second", f"{keymux['lines_per_s']:,.0f}", f"{client['lines_per_s']:,.0f}", ""],
        ["CPU a line, µs", f"{1e6 / keymux['lines_per_cpu_s']:.1f}", f"{1e6 / client['lines_per_cpu_s']:.1f}", ""],
        ["lines a CPU second", f"{keymux['lines_per_cpu_s']:,.0f}", f"{client['lines_per_cpu_s']:,.0f}", _kept(f">= {CPU_RATIO_MIN} x", f"{ratio:.0f} x", ratio >= CPU_RATIO_MIN)],
        *(
            [f"peak memory at {n:,} lines, MB", f"{rss / 1e6:.1f}", "", _kept("<= 64 MiB", "", rss <= RSS_BYTES_MAX)]
            for n, rss in speed["memory"].items()
        ),
    ]
    text = f"### `keymux batch`, {lines:,} lines, a provider without limits or latency\n\n" + table.markdown(
        ["measure", "keymux batch", f"AsyncOpenAI, semaphore of {client['at_once']}", "promise"], rows
    )
    over = limited["wall_s"] / limited["oracle_s"]
    rows = [
        ["wall time, s", f"{limited['wall_s']:.2f}", _kept(f"<= {ORACLE_RATIO_MAX} x the oracle's", f"{over:.3f} x", over <= ORACLE_RATIO_MAX)],
        ["the oracle's, s", f"{limited['oracle_s']:.2f}", ""],
        ["lines lost or doubled", str(limited["lost"] + limited["doubled"]), _kept("0", "", limited["lost"] + limited["doubled"] == 0)],
        ["refusals drawn", str(limited["refused"]), ""],
    ]
    text += f"\n\n### The same, {limited['lines']:,} lines over three limited keys (requests, tokens, both)\n\n"
    text += table.markdown(["measure", "seen", "promise"], rows)
    kept = ratio >= CPU_RATIO_MIN and over <= ORACLE_RATIO_MAX and largest <= RSS_BYTES_MAX
    table.publish("batch", text, {"machine": machine.describe(), "speed": speed, "limited": limited, "kept": kept})


def _kept(promise: str, seen: str, kept: bool) -> str:
    return f"{promise}: {'kept' if kept else '**missed**'}" + (f", {seen}" if seen else "")


def client_python() -> str:
    """The Python of the end-to-end tests, which has the official client."""
    script = 'source scripts/places; echo "$venv"'
    place = subprocess.run(["bash", "-c", script], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    python = Path(place.stdout.strip()) / "bin" / "python"
    if not python.exists():
        raise RuntimeError("the official client is not installed: run `scripts/need e2e` first")
    return str(python)


def _world(folder: Path, started: ExitStack, provider: dict) -> str:
    port = process.free_port()
    spec = folder / f"world-{port}.json"
    spec.write_text(json.dumps({"provider": [{"name": "lab", "dialect": "openai", "model": [{"id": "m"}], **provider}]}))
    command = [testkit_binary(), "serve", "--listen", f"127.0.0.1:{port}", "--spec", str(spec), "--captures", "0"]
    world = process.Process(f"provider-{port}", command, machine.cores()[0], folder)
    started.callback(world.stop)
    world.wait_until_listening(port)
    return f"http://127.0.0.1:{port}"


def _account(n: int, limits: list[dict]) -> dict:
    return {"name": f"lab-{n}", "limits": limits, "key": [{"name": f"lab-{n}", "secret": f"sk-test-lab-{n}"}]}


def _lines(path: Path, n: int) -> Path:
    with path.open("w") as file:
        for i in range(n):
            say = f"Describe the weather in town number {i} in a few words, please."
            body = {"model": "m", "max_tokens": OUTPUT_TOKENS, "messages": [{"role": "user", "content": say}]}
            call = {"custom_id": f"call-{i}", "method": "POST", "url": "/v1/chat/completions", "body": body}
            file.write(json.dumps(call) + "\n")
    return path


def _batch(source: Path, config: Path, folder: Path) -> Ran:
    out = folder / "out.jsonl"
    for old in folder.glob("out.jsonl*"):
        old.unlink()
    told = folder / "summary.json"
    began = time.monotonic()
    with told.open("wb") as summary, (folder / "batch.log").open("wb") as log:
        argv = [machine.find("taskset"), "-c", str(machine.cores()[1]), keymux_binary(), "batch", str(source)]
        argv += ["-o", str(out), "--config", str(config), "--json", "--quiet"]
        child = subprocess.Popen(argv, stdout=summary, stderr=log, stdin=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise RuntimeError(f"keymux batch ended with {child.returncode}:\n{(folder / 'batch.log').read_text()[-2000:]}")
    wall_s = time.monotonic() - began
    return Ran(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, json.loads(told.read_text()))


def _config(folder: Path, url: str, accounts: str) -> Path:
    path = folder / "keymux.toml"
    keys = ", ".join(
        f'{{ name = "lab-{n}", account = "lab-{n}", secret = "literal:sk-test-lab-{n}" }}' for n in range(1, accounts.count("name") + 1)
    )
    path.write_text(
        f'default_provider = "lab"\n[[provider]]\nname = "lab"\ndialect = "openai"\nbase_url = "{url}/lab/v1"\n'
        f"keys = [{keys}]\naccount = [{accounts}]\ncharging = {{ output = \"as_produced\" }}\n"
    )
    return path


def _speed(lines: int, folder: Path) -> dict:
    with ExitStack() as started:
        latency = {"ttft_ms": 0, "ttft_sigma": 0, "per_token_ms": 0}
        url = _world(folder, started, {"latency": latency, "account": [_account(1, [])]})
        config = _config(folder, url, '{ name = "lab-1" }')
        memory = {}
        ran = None
        for n in dict.fromkeys((min(MEMORY_LINES_MIN, lines), lines)):
            machine.note(f"batch: {n:,} lines through keymux")
            ran = _batch(_lines(folder / "in.jsonl", n), config, folder)
            memory[n] = ran.rss_bytes
        few = max(1, lines // CLIENT_SHARE)
        best = None
        for at_once in AT_ONCE:
            machine.note(f"batch: {few:,} lines through the official client, {at_once} at once")
            argv = [machine.find("taskset"), "-c", str(machine.cores()[1]), client_python(), str(Path(__file__).with_name("batch_client.py"))]
            argv += [f"{url}/lab/v1", str(folder / "in.jsonl"), str(folder / "client.jsonl"), str(few), str(at_once)]
            took = json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
            seen = {"at_once": at_once, "lines_per_s": few / took["wall_s"], "lines_per_cpu_s": few / took["cpu_s"]}
            if best is None or seen["lines_per_cpu_s"] > best["lines_per_cpu_s"]:
                best = seen
        keymux = {"lines_per_s": lines / ran.wall_s, "lines_per_cpu_s": lines / ran.cpu_s}
        return {"lines": lines, "keymux": keymux, "client": best, "memory": memory}


def _limited(seconds: int, folder: Path) -> dict:
    names = {"requests": "requests", "tokens": "total_tokens"}
    accounts = [
        _account(n, [{"dimension": names[kind], "limit": most, "period_ms": PERIOD_S * 1000} for kind, most in limits])
        for n, limits in enumerate(LIMITS, 1)
    ]
    declared = ", ".join(
        f'{{ name = "lab-{n}", limits = [{", ".join(f"{{ {kind} = {most}, per = {chr(34)}{PERIOD_S}s{chr(34)} }}" for kind, most in limits)}] }}'
        for n, limits in enumerate(LIMITS, 1)
    )
    with ExitStack() as started:
        provider = {
            "latency": {"ttft_ms": TTFT_S * 1000, "ttft_sigma": 0, "per_token_ms": 0},
            "charging": {"total_tokens": "as_produced"},
            "account": accounts,
        }
        url = _world(folder, started, provider)
        # What a line is charged is known once lines were charged; the estimate only sets the length of the run.
        lines = int(passed(seconds, 40.0))
        machine.note(f"batch: {lines:,} lines over three limited keys, about {seconds} s")
        ran = _batch(_lines(folder / "in.jsonl", lines), _config(folder, url, declared), folder)
        with urllib.request.urlopen(f"{url}/_sim/records", timeout=60) as response:
            records = json.load(response)
    answered = [record for record in records if record["status"] == 200]
    tokens = sum(r["input_tokens"] + r["output_tokens"] for r in answered) / max(1, len(answered))
    with (folder / "out.jsonl").open() as out:
        ids = [json.loads(line)["custom_id"] for line in out]
    return {
        "lines": lines,
        "wall_s": ran.wall_s,
        "oracle_s": oracle_s(lines, tokens),
        "tokens_a_line": tokens,
        "lost": len({f"call-{i}" for i in range(lines)} - set(ids)),
        "doubled": len(ids) - len(set(ids)) + len(answered) - len(set(ids)),
        "refused": sum(record["status"] == 429 for record in records),
    }


def passed(seconds: float, tokens: float) -> float:
    """Lines that the limits of all keys let through in this time, full at its beginning."""
    units = {"requests": 1.0, "tokens": tokens}
    return sum(min(most * (1 + seconds / PERIOD_S) / units[kind] for kind, most in limits) for limits in LIMITS)


def oracle_s(lines: int, tokens: float) -> float:
    """When whoever knows every limit has the last answer."""
    least, most = 0.0, 1e6
    for _ in range(60):
        middle = (least + most) / 2
        least, most = (least, middle) if passed(middle, tokens) >= lines else (middle, most)
    return most + TTFT_S
