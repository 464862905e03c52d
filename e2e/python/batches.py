"""Batches in a folder of their own, over a simulated provider."""

import contextlib
import gzip
import json
import subprocess
from pathlib import Path

import harness

PRICE = 1_000  # nano-dollars for an output token


def world_spec(*, limits: list[dict] = (), latency_ms: float = 20.0) -> dict:
    accounts = [{"name": f"acc-{n}", "key": [{"name": f"lab-{n}", "secret": f"sk-test-lab-{n}"}]} for n in (1, 2)]
    return {
        "provider": [
            {
                "name": "lab",
                "dialect": "openai",
                "account": accounts,
                "limits": list(limits),
                "latency": {"ttft_ms": latency_ms, "per_token_ms": 0.0},
                "model": [
                    {"id": "m", "output_nano_usd": PRICE},
                    {"id": "slow", "latency": {"ttft_ms": 60_000.0, "ttft_sigma": 0.0}},
                ],
            }
        ]
    }


@contextlib.contextmanager
def bench(tmp_path: Path):
    """A world, a configuration for it, and batches in a folder of their own."""

    class Bench:
        def __init__(self):
            self.world = None

        def open(self, *, more: str = "", **spec) -> "Bench":
            path = tmp_path / "world.json"
            path.write_text(json.dumps(world_spec(**spec)))
            self.world = harness.World(path)
            self.configured(more=more)
            return self

        def configured(self, *, more: str = "", secret: str = "sk-test-lab"):
            price = f'[[price]]\nmodel = "lab:m"\ninput = 0\noutput = {PRICE / 1000}\n'
            keys = harness.keys("lab", 2).replace("sk-test-lab", secret)
            (tmp_path / "keymux.toml").write_text(
                f'default_provider = "lab"\n{price}[[provider]]\nname = "lab"\ndialect = "openai"\n'
                f'base_url = "{self.world.url}/lab/v1"\n{keys}\n{more}'
            )

        def argv(self, *more: str, given="in.jsonl", out="out.jsonl", config=True) -> list[str]:
            at = lambda name: name if name == "-" else str(tmp_path / name)
            told = ["--config", str(tmp_path / "keymux.toml")] if config else []
            return [harness.binary("KEYMUX_BIN"), "batch", at(given), "-o", at(out), *told, *more]

        def run(self, *more: str, stdin: str | None = None, env=None, **places) -> subprocess.CompletedProcess:
            given = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
            env = harness.clean_env(**(env or {}))
            return subprocess.run(
                self.argv(*more, **places), capture_output=True, text=True, timeout=100, env=env, **given
            )

        def start(self, *more: str, **places) -> subprocess.Popen:
            return subprocess.Popen(
                self.argv(*more, **places), stderr=subprocess.PIPE, text=True, env=harness.clean_env(), stdin=subprocess.DEVNULL
            )

        def write(self, lines: list, name: str = "in.jsonl") -> Path:
            text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
            path = tmp_path / name
            path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
            return path

        def read(self, name: str = "out.jsonl") -> list[dict]:
            raw = (tmp_path / name).read_bytes()
            raw = gzip.decompress(raw) if name.endswith(".gz") else raw
            return [json.loads(line) for line in raw.decode().splitlines()]

        def calls(self) -> list[dict]:
            return self.world.records("lab")

    made = Bench()
    try:
        yield made
    finally:
        if made.world:
            assert made.world.alive(), made.world.log()
            made.world.stop()


def chat(n: int, **more) -> dict:
    body = {"model": "m", "max_tokens": 8, "messages": [{"role": "user", "content": f"number {n}"}], **more}
    return {"custom_id": f"call-{n}", "method": "POST", "url": "/v1/chat/completions", "body": body}


def ids(lines: list[dict]) -> list[str]:
    return [line["custom_id"] for line in lines]


def call_ids(n: int) -> list[str]:
    return [f"call-{i}" for i in range(n)]


def answers(lines: list[dict]) -> list[str]:
    assert all(line["error"] is None and line["response"]["status_code"] == 200 for line in lines)
    return [line["response"]["body"]["id"] for line in lines]
