"""OpenRouter chooses among providers of different prices. A budget holds whomever it chooses, because the prices that its
bound was computed with go along in the request; other clients' requests go as they came."""

import json

import pytest

import crashes
import harness
import raw
from test_clients import KEYS, ask, declared, rows

# Dearer than the bound's thousands of tokens of slack can hide.
STEER = {"input_tokens": 2000, "output_tokens": 100}
ASK = {"max_tokens": 100, "messages": [{"role": "user", "content": "sim: " + json.dumps(STEER)}]}
CHEAP, DEAR = 3_000_000, 30_000_000
"""Nano-dollars: what the cheapest provider takes for it, and the dearest."""


@pytest.fixture
def agg(workshop, tmp_path):
    """OpenRouter, where the model `m` costs up to ten times its price in the table and `stale` no less than twice; the
    same one spoken to as if it were not OpenRouter; and another provider behind it."""
    model = {"input_nano_usd": 1000, "cached_nano_usd": 1000, "output_nano_usd": 10_000, "dearest_percent": 1000}
    accounts = [{"name": f"a-{i}", "key": [{"name": f"agg-{i}", "secret": f"sk-test-agg-{i}"}]} for i in (1, 2)]
    latency = {"ttft_ms": 1, "ttft_sigma": 0, "per_token_ms": 0.01}
    spec = {
        "provider": [
            {"name": "agg", "dialect": "openrouter", "model": [{"id": "m", **model}, {"id": "stale", **model}], "account": accounts, "latency": latency},
            {"name": "lab", "dialect": "openai", "open": True, "account": [{"name": "l", "key": [{"name": "k", "secret": "s"}]}], "latency": latency},
        ]
    }
    path = tmp_path / "world.json"
    path.write_text(json.dumps(spec))
    world = harness.World(path)
    given = harness.provider("agg", f"{world.url}/agg/api/v1", dialect="openrouter", n=2)
    given += harness.provider("plain", f"{world.url}/agg/api/v1", n=2).replace("sk-test-plain", "sk-test-agg")
    given += harness.provider("lab", f"{world.url}/lab/v1", n=1)
    given += '\n[[route]]\nmodel = "either"\ntiers = [["agg:stale"], ["lab:m"]]\n'
    for name, usd in (("*:stale", 0.5), ("*:m", 1)):
        given += f'\n[[price]]\nmodel = "{name}"\ninput = {usd}\noutput = {10 * usd}\n'
    gateway = workshop.gateway(harness.SERVER + given + declared("one", "budget = 1") + declared("two"))
    yield gateway, world
    world.stop()


def test_what_openrouter_takes_is_within_the_bound(agg):
    gateway, world = agg
    bare = ask(gateway, KEYS["one"], {**ASK, "model": "plain:m"})
    assert bare.status == 200 and bare.get("x-keymux-max-price") is None
    # Not said to be OpenRouter: nothing holds it to the price, and it takes what it likes.
    above = crashes.happened(gateway, "above its bound", 1)[0]
    assert "$0.03 instead of at most" in above
    for kind in ({}, {"stream": True}, {"provider": None}, {"provider": {"sort": "throughput", "max_price": {"prompt": 99}}}):
        answer = ask(gateway, KEYS["one"], {**ASK, **kind, "model": "agg:m"})
        assert answer.status == 200, answer.body
        assert answer.get("x-keymux-max-price") == "prompt=1.000000001; completion=10.000000001; request=0"
    free = ask(gateway, KEYS["two"], {**ASK, "model": "agg:m"})
    assert (free.status, free.get("x-keymux-max-price")) == (200, None), "who has no budget pays what there is"
    gateway.stop()
    costs = [(row["client"], row["cost_nano_usd"]) for row in rows(gateway)]
    assert costs == [("config:one", DEAR)] + [("config:one", CHEAP)] * 4 + [("config:two", DEAR)]
    assert [record["billed_nano_usd"] for record in world.records("agg")] == [DEAR, *[CHEAP] * 4, DEAR]
    assert gateway.log().count("above its bound") == 1


def test_where_nobody_is_so_cheap_the_client_is_told_and_no_key_is_blamed(agg):
    gateway, world = agg
    for path, body in (
        ("/v1/chat/completions", {**ASK, "model": "agg:stale"}),
        ("/v1/messages", {**ASK, "model": "agg:stale"}),
        ("/v1/chat/completions", {**ASK, "model": "agg:m", "provider": {"max_price": {"completion": "9.99"}}}),
    ) * 4:
        refused = ask(gateway, KEYS["one"], body, path=path)
        assert refused.status == 404, refused.body
        error = refused.json["error"]
        price = "prompt=1.000000001; completion=9.99" if body["model"] == "agg:m" else "prompt=0.500000001; completion=5.000000001"
        assert price in error["message"] and "[[price]]" in error["message"], error
        if path == "/v1/chat/completions":
            assert (error["code"], error["param"]) == ("no_provider_within_price", "provider.max_price")
    # The operator is told, once, of what the table says and nobody serves for; not of what the caller wants.
    assert "nobody behind agg serves stale for prompt=0.500000001" in crashes.happened(gateway, "price too low", 1)[0]
    # A route has another one.
    assert ask(gateway, KEYS["one"], {**ASK, "model": "either"}).get("x-keymux-provider") == "lab"
    # The caller's own wish without a budget: in OpenRouter's words.
    own = ask(gateway, KEYS["two"], {**ASK, "model": "agg:m", "provider": {"max_price": {"prompt": 0.1}}})
    assert own.status == 404 and own.json["error"]["availability"]["constraint"] == {"field": "max_price"}, own.body
    state = crashes.admin(gateway, "/admin/state")
    assert ask(gateway, KEYS["two"], {**ASK, "model": "agg:stale"}).status == 200
    keys = [key for provider in state["providers"] if provider["name"] == "agg" for account in provider["accounts"] for key in account["keys"]]
    assert len(keys) == 2 and {key["state"] for key in keys} == {"ready"}, keys
    gateway.stop()
    assert gateway.log().count("price too low") == 1
    refused = [row for row in rows(gateway) if row["status"] == 404]
    assert len(refused) == 13 and {row["cost_nano_usd"] for row in refused} == {0}


def test_bodies_of_others_go_as_they_came_and_doubtful_ones_do_not_go(workshop):
    answer = raw.always(raw.response_bytes(b'{"id":"gen-1","choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":5,"completion_tokens":7,"cost":0.00001}}'))
    price = '\n[[price]]\nmodel = "lab:*"\ninput = 1\noutput = 10\n'
    gateway, upstream = workshop.in_front_of(answer, dialect="openrouter", more=price + declared("one", "budget = 1") + declared("two"))

    def sent(name: str, body: str):
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEYS[name]}"}
        return raw.exchange(gateway.address, raw.request_bytes("/v1/chat/completions", body.encode(), headers=headers))

    body = '{"model":"m","messages":[],"max_tokens":5, "provider": {"zdr":true, "max_price": {"prompt":"0.10","audio":1.50e1}}}'
    assert sent("two", body.replace('"m"', '"lab:m"')).status == 200
    assert upstream.requests[-1].body.decode() == body
    assert sent("one", body.replace('"m"', '"lab:m"')).status == 200
    lowered = '{"audio":1.50e1,"completion":10.000000001,"prompt":"0.10","request":0}'
    assert upstream.requests[-1].body.decode() == body.replace('{"prompt":"0.10","audio":1.50e1}', lowered)
    before = len(upstream.requests)
    for doubtful in (
        '"provider":{"max_price":{"prompt":1},"max_price":{"prompt":9}}',
        '"provider":{"max_price":{"prompt":1},"max\\u005fprice":{"prompt":9}}',
        '"provider":{"max_price":{"prompt":1,"prompt":9}}',
        '"provider":{},"provider":{"max_price":{"prompt":9}}',
        '"provider":{},"pr\\u006fvider":{"max_price":{"prompt":9}}',
        '"provider":["max_price"]',
        '"Provider":{"max_price":{"prompt":9}}',
    ):
        refused = sent("one", '{"model":"lab:m","messages":[],"max_tokens":5,%s}' % doubtful)
        assert refused.status == 400, (doubtful, refused.body)
    assert len(upstream.requests) == before
