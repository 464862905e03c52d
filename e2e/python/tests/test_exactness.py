"""Ten thousand requests of every kind: the ledger says what the provider billed, to the token and to the nano-dollar.
Where nobody can know (a stream that was cut, a caller that went away, a provider that does not tell), the row says that
it is an estimate, and a budget is charged no less than the bill."""

import json
import threading
from dataclasses import replace

import pytest

import harness
import ledgers
from traffic import TOOL, Caller, Kind, Sent, billed, number, table

REQUESTS = 10_000
CALLERS = 16
INPUT, CACHED, OUTPUT = 3000, 300, 15000
"""Nano-dollars a token."""

CHAT_TOOL = {"tools": [{"type": "function", "function": {"name": "weather", "parameters": TOOL}}], "tool_choice": "required"}
MESSAGES_TOOL = {"tools": [{"name": "weather", "input_schema": TOOL}], "tool_choice": {"type": "any"}, "max_tokens": 200}
CACHE = {"cache_control": {"type": "ephemeral"}}
STREAM = {"stream": True}
USAGE = {"stream": True, "stream_options": {"include_usage": True}}
CACHED_PART = {"input_tokens": 500, "cached_tokens": 384}
THOUGHT = {"reasoning_tokens": 25, "output_tokens": 12}
LONG = {"output_tokens": 60}

CHAT = [
    Kind("plain"),
    Kind("plain, cut by the cap", more={"max_tokens": 5}, steer=LONG),
    Kind("plain, cached", steer=CACHED_PART),
    Kind("plain, reasoning", steer=THOUGHT),
    Kind("plain, n = 3", more={"n": 3}),
    Kind("plain, n = 2, reasoning", more={"n": 2}, steer=THOUGHT),
    Kind("plain, tool", more=CHAT_TOOL),
    Kind("stream, usage asked for", more=USAGE),
    Kind("stream, usage not asked for", more=STREAM),
    Kind("stream, n = 3", more={"n": 3, **STREAM}),
    Kind("stream, cached", more=STREAM, steer=CACHED_PART),
    Kind("stream, reasoning", more=USAGE, steer=THOUGHT),
    Kind("stream, tool", more={**CHAT_TOOL, **STREAM}),
    Kind("stream, tricky text", more=STREAM, steer={"tricky": True, "output_tokens": 30}),
    Kind("refused by the provider", steer={"status": 400}),
    Kind("failing", steer={"status": 500}),
    Kind("stream, cut", more=STREAM, steer={**LONG, "fault": {"truncate": {"after_events": 9}}}, cut=True),
    Kind("stream, cut cleanly", more=STREAM, steer={**LONG, "fault": {"truncate": {"clean": True}}}, cut=True),
    Kind("stream, reset", more=USAGE, steer={**LONG, "fault": {"reset": {"after_events": 7}}}, cut=True),
    Kind("stream, error inside", more=STREAM, steer={**LONG, "fault": {"error_event": {"after_events": 6}}}, cut=True),
    Kind("stream, caller leaves", more=STREAM, steer={**LONG, "per_token_ms": 4}, leaves="stream"),
    Kind("plain, caller leaves", steer={"delay_ms": 30}, leaves="plain"),
    Kind("plain, caller has no patience", steer={"delay_ms": 60}, patience="20ms"),
    Kind("plain, untold", steer={"untold": True}),
    Kind("plain, n = 3, untold", more={"n": 3}, steer={"untold": True}),
    Kind("plain, tool, untold", more=CHAT_TOOL, steer={"untold": True}),
    Kind("stream, untold", more=STREAM, steer={"untold": True}),
    Kind("stream, several tokens an event, untold", more=STREAM, steer={"untold": True, **LONG, "tokens_per_event": 7}),
]
RESPONSES = [
    Kind("responses", "responses"),
    Kind("responses, cached, reasoning", "responses", steer={**CACHED_PART, **THOUGHT}),
    Kind("responses stream", "responses", STREAM),
    Kind("responses stream, reasoning", "responses", STREAM, THOUGHT),
    Kind("responses stream, cut", "responses", STREAM, {**LONG, "fault": {"truncate": {"after_events": 9}}}, cut=True),
]
MESSAGES = [
    Kind("messages", "messages", {"max_tokens": 200}),
    Kind("messages, cached", "messages", {"max_tokens": 200, "system": [{"type": "text", "text": "s", **CACHE}]}, CACHED_PART),
    Kind("messages, thinking", "messages", {"max_tokens": 200}, THOUGHT),
    Kind("messages, tool", "messages", MESSAGES_TOOL),
    Kind("messages stream", "messages", {"max_tokens": 200, **STREAM}),
    Kind("messages stream, cached", "messages", {"max_tokens": 200, "system": [{"type": "text", "text": "s", **CACHE}], **STREAM}, CACHED_PART),
    Kind("messages stream, cut", "messages", {"max_tokens": 200, **STREAM}, {**LONG, "fault": {"truncate": {"after_events": 9}}}, cut=True),
    Kind("messages stream, caller leaves", "messages", {"max_tokens": 200, **STREAM}, {**LONG, "per_token_ms": 4}, leaves="stream"),
]
# At a provider whom a cancel does not stop.
GOING_ON = [
    Kind("stream"),
    Kind("stream, caller leaves", more=STREAM, steer={**LONG, "per_token_ms": 1}, leaves="stream"),
    Kind("stream, caller has no patience", more=STREAM, steer={**LONG, "per_token_ms": 1}, patience="30ms"),
    Kind("plain, caller leaves", steer={**LONG, "delay_ms": 30}, leaves="plain"),
]
OTHERS = [Kind("completions", "completions"), Kind("completions stream", "completions", STREAM), Kind("embeddings", "embeddings")]
BY_PROVIDER = {
    "openai": CHAT + RESPONSES + OTHERS,
    "anthropic": MESSAGES,
    "openrouter": CHAT + RESPONSES + MESSAGES + OTHERS[2:],
    "goes-on": GOING_ON,
}
DIALECTS = {name: "openai" if name == "goes-on" else name for name in BY_PROVIDER}
KINDS = [(provider, kind) for provider, kinds in BY_PROVIDER.items() for kind in kinds]
FAULTY = 8
"""One round in so many has faults: were there more of them, the keys would rightly be benched, and nobody served."""


def asked(n: int) -> tuple[str, Kind]:
    """The kind of the n-th request: all of them in turn, kinds that are neighbours in the list far apart."""
    at, turn = n * 29 % len(KINDS), n // len(KINDS)
    provider, kind = KINDS[at]
    faulty = kind.cut or "status" in kind.steer
    return KINDS[at] if turn % FAULTY == at % FAULTY or not faulty else (provider, BY_PROVIDER[provider][0])


def world_spec() -> dict:
    model = {"id": "m", "input_nano_usd": INPUT, "cached_nano_usd": CACHED, "output_nano_usd": OUTPUT}
    latency = {"ttft_ms": 3, "ttft_sigma": 0.3, "per_token_ms": 0.1, "output": {"mean": 20, "sigma": 0.5, "max": 100}}
    key = lambda name, i: {"name": f"{name}-{i}", "secret": f"sk-test-{name}-{i}"}
    accounts = lambda name: [{"name": f"a-{i}", "key": [key(name, i)]} for i in range(1, 9)]
    return {
        "provider": [
            {
                "name": name,
                "dialect": dialect,
                "model": [model],
                "account": accounts(name),
                "latency": latency,
                "cancel_stops_billing": name != "goes-on",
            }
            for name, dialect in DIALECTS.items()
        ]
    }


def config(world: str) -> str:
    text = harness.SERVER
    for name, dialect in DIALECTS.items():
        base = f"{world}/{name}/api/v1" if name == "openrouter" else f"{world}/{name}/v1"
        more = "charging = { runs_on_after_cancel = true }" if name == "goes-on" else ""
        text += harness.provider(name, base, dialect=dialect, n=8, more=more)
    usd = f"input = {INPUT / 1000}\ncache_read = {CACHED / 1000}\noutput = {OUTPUT / 1000}"
    text += f'\n[[price]]\nmodel = "*:m"\n{usd}\n'
    text += '\n[[client]]\nname = "budgeted"\nsecret = "literal:km-test-budgeted"\nbudget = 100_000.0\n'
    return text + '\n[[client]]\nname = "free"\nsecret = "literal:km-test-free"\n'


def send_all(address: tuple[str, int]) -> list[Sent]:
    """All of them, by callers that take turns."""
    numbers, sent, failed = iter(range(REQUESTS)), [], []
    lock = threading.Lock()

    def call(index: int):
        name = "budgeted" if index % 2 else "free"
        caller = Caller(address, f"config:{name}", f"km-test-{name}")
        try:
            while True:
                with lock:
                    n = next(numbers, None)
                if n is None:
                    return caller.close()
                provider, kind = asked(n)
                one = caller.send(n, kind, f"{provider}:m")
                with lock:
                    sent.append(replace(one, kind=replace(kind, name=f"{provider}: {kind.name}")))
        except BaseException as error:  # told below
            failed.append(error)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed[0]
    return sent


FIELDS = {"input": "input_tokens", "cached": "cached_input_tokens", "output": "output_tokens", "reasoning": "reasoning_tokens", "cost": "cost_nano_usd"}


def differences(sent: Sent, row: dict, bill: dict) -> dict[str, int]:
    """Ledger less bill, by kind of token and in money."""
    found = {name: (row[column] or 0) - bill[name] for name, column in FIELDS.items()}
    if sent.kind.path.startswith("messages"):
        # This API counts thinking as output and does not tell it apart.
        found["reasoning"] = row["reasoning_tokens"]
    return found


@pytest.mark.timeout(600)
def test_the_ledger_says_what_the_provider_billed_for_each_kind_of_request(workshop, tmp_path, capsys):
    spec = tmp_path / "world.json"
    spec.write_text(json.dumps(world_spec()))
    world = harness.World(spec)
    gateway = workshop.gateway(config(world.url))
    sent = {one.n: one for one in send_all(gateway.address)}
    for provider in BY_PROVIDER:
        world.wait(provider, calls=0, open=0)
    bills = billed(world.records())
    world.stop()
    workshop.made.remove(gateway)
    assert gateway.stop() == 0 and "panicked" not in gateway.log()
    rows: dict[int, dict] = {}
    for row in ledgers.Sqlite(tmp_path / "gateway-0" / "data").rows():
        assert rows.setdefault(number(row["tags"]), row) is row, f"two rows for one request: {row}"
    # Who leaves before its request was read was never there.
    without = [one for one in sent.values() if one.n not in rows]
    assert all(one.kind.leaves == "plain" and one.n not in bills for one in without), without[:3]

    sums: dict[str, dict] = {}
    wrong = []
    for n, row in rows.items():
        one, bill = sent[n], bills.get(n, {"cost": 0, "calls": 0, "ids": [], **dict.fromkeys(FIELDS, 0)})
        line = sums.setdefault(one.kind.name, {"requests": 0, "estimated": 0, **dict.fromkeys(FIELDS, 0), "off": 0, "off nano": 0})
        off = differences(one, row, bill)
        line["requests"] += 1
        line["estimated"] += row["estimated"]
        for name in FIELDS:
            line[name] += bill[name]
        line["off"] += sum(abs(by) for name, by in off.items() if name != "cost")
        line["off nano"] += off["cost"]
        exact = not any(off.values())
        named = not one.id or row["id"] == one.id
        generated = not row["generation"] or not bill["ids"] or row["generation"] == bill["ids"][-1]
        if not (named and generated and row["client"] == one.client and (exact if one.kind.told else exact or row["estimated"])):
            wrong.append((one, row, bill, off))
        if row["estimated"] and one.client == "config:budgeted" and off["cost"] < 0:
            wrong.append((one, row, bill, "a budget is charged less than the bill"))
        if one.kind.told and row["estimated"]:
            wrong.append((one, row, bill, "estimated, although the provider said"))
    with capsys.disabled():
        heads = ["kind", "requests", "estimated", "input", "cached", "output", "reasoning", "nano-dollars", "tokens off", "nano-dollars off"]
        order = {f"{provider}: {kind.name}": i for i, (provider, kind) in enumerate(KINDS)}
        lines = sorted(([name, *line.values()] for name, line in sums.items()), key=lambda line: order[line[0]])
        print(f"\n{table(heads, lines)}\n{len(rows)} rows, {len(wrong)} wrong")
    assert not wrong, wrong[:3]
    assert set(sums) == set(order), "every kind was met"
    assert sum(1 for one in sent.values() if one.kind.told and one.n in bills) > REQUESTS / 2
