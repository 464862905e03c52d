"""Three limited keys behind one address: together they carry what one alone refuses, and no caller sees a refusal."""

import asyncio

import anthropic
import openai
import pytest
from openrouter import OpenRouter

import harness

# One account admits five a second. Fifteen at once is all that three have; thirty need their windows once more.
REQUESTS = 30
LIMITS = 'limits = [{ requests = 5, per = "1s", shape = "window" }]'
ASK = [{"role": "user", "content": "How far is the moon?"}]
PATHS = {"openai": "v1", "anthropic": "v1", "openrouter": "api/v1"}


def front_of(world, workshop, dialect: str, limits: str) -> harness.Gateway:
    name = f"narrow-{dialect}"
    given = harness.provider(name, f"{world.url}/{name}/{PATHS[dialect]}", dialect=dialect, more=limits)
    return workshop.gateway(harness.SERVER + given)


async def with_openai(url: str):
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=harness.TOKEN, max_retries=0) as client:
        ask = [client.chat.completions.create(model="narrow-openai:m", messages=ASK) for _ in range(REQUESTS)]
        return [a.choices[0].message.content for a in await asyncio.gather(*ask)]


async def with_anthropic(url: str):
    async with anthropic.AsyncAnthropic(base_url=url, api_key=harness.TOKEN, max_retries=0) as client:
        ask = [
            client.messages.create(model="narrow-anthropic:m", max_tokens=50, messages=ASK) for _ in range(REQUESTS)
        ]
        return [a.content[0].text for a in await asyncio.gather(*ask)]


async def with_openrouter(url: str):
    async with OpenRouter(api_key=harness.TOKEN, server_url=f"{url}/api/v1") as client:
        ask = [client.chat.send_async(model="narrow-openrouter:m", messages=ASK) for _ in range(REQUESTS)]
        return [a.choices[0].message.content for a in await asyncio.gather(*ask)]


CLIENTS = {"openai": with_openai, "anthropic": with_anthropic, "openrouter": with_openrouter}


@pytest.mark.parametrize("dialect", CLIENTS)
def test_more_than_one_key_allows_and_no_client_error(world, workshop, dialect):
    name = f"narrow-{dialect}"
    front = front_of(world, workshop, dialect, LIMITS)
    before = len(world.records(name))
    answers = asyncio.run(CLIENTS[dialect](front.url))
    assert len(answers) == REQUESTS and all(answers)
    rows = world.records(name)[before:]
    served = [r for r in rows if r["status"] == 200]
    assert len(served) == REQUESTS, "each request is served, and billed, once"
    assert {r["key"] for r in served} == {f"{name}-{i}" for i in (1, 2, 3)}
    # Declared limits are kept ahead of sending; a window that begins elsewhere may cost a few refusals, not a storm.
    assert len(rows) - len(served) <= REQUESTS // 5, "most refusals are avoided, not walked past"


@pytest.mark.parametrize("dialect", CLIENTS)
def test_limits_that_nobody_declared_are_learned(world, workshop, dialect):
    name = f"narrow-{dialect}"
    front = front_of(world, workshop, dialect, "")
    before = len(world.records(name))
    answers = asyncio.run(CLIENTS[dialect](front.url))
    assert len(answers) == REQUESTS and all(answers)
    served = [r for r in world.records(name)[before:] if r["status"] == 200]
    assert len(served) == REQUESTS


def test_when_no_key_can_be_free_in_time_the_refusal_says_when(world, workshop):
    """The SDK obeys Retry-After. A gateway that says nothing is asked again at once, one that lies is asked in vain."""
    name = "narrow-openai"
    limits = 'limits = [{ requests = 2, per = "30s", shape = "window" }]'
    front = front_of(world, workshop, "openai", limits)
    with openai.OpenAI(base_url=f"{front.url}/v1", api_key=harness.TOKEN, max_retries=0) as client:
        for _ in range(6):
            client.chat.completions.create(model=f"{name}:m", messages=ASK)
        before = len(world.records(name))
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(
                model=f"{name}:m", messages=ASK, extra_headers={"x-keymux-max-wait": "100ms"}
            )
        assert len(world.records(name)) == before, "what cannot be served is not sent"
    headers = caught.value.response.headers
    # A window whose beginning nobody told counts from each request's arrival, which is a little after it was sent.
    assert 1 <= int(headers["retry-after"]) <= 31
    assert 0 < int(headers["retry-after-ms"]) <= int(headers["retry-after"]) * 1000
    assert caught.value.code == "rate_limit_exceeded" and name in str(caught.value)


def test_the_sdk_that_waits_as_told_is_served(world, workshop):
    """Two retries of the SDK, each after the Retry-After it was given: the first must already be enough."""
    limits = 'limits = [{ requests = 1, per = "2s", shape = "window" }]'
    front = front_of(world, workshop, "openai", limits)
    seen = []
    with openai.OpenAI(base_url=f"{front.url}/v1", api_key=harness.TOKEN, max_retries=1) as client:
        client._client.event_hooks["response"].append(lambda r: seen.append(r.status_code))
        for _ in range(4):
            client.chat.completions.create(
                model="narrow-openai:m", messages=ASK, extra_headers={"x-keymux-max-wait": "0ms"}
            )
    assert seen == [200, 200, 200, 429, 200]


def test_a_refused_key_is_never_seen_by_a_caller(world, workshop):
    """One of three keys is dead. Its 401 says nothing about the caller's own credential."""
    bad = harness.provider("openai", f"{world.url}/openai/v1").replace("sk-test-openai-2", "sk-test-revoked")
    front = workshop.gateway(harness.SERVER + bad)
    before = len(world.records("openai"))
    with openai.OpenAI(base_url=f"{front.url}/v1", api_key=harness.TOKEN, max_retries=0) as client:
        for i in range(30):
            # Another conversation each time, so that none of the keys is kept to for the sake of a prompt cache.
            another = [{"role": "user", "content": f"How far is star {i}?"}]
            assert client.chat.completions.create(model="openai:m", messages=another).choices
    refused = [r for r in world.records("openai")[before:] if r["status"] == 401]
    assert len(refused) == 1, "a key that was refused is benched, not asked again by the next request"


@pytest.mark.parametrize("name", ["openai", "openrouter"])
def test_a_poisonous_request_takes_nobody_down(world, workshop, name):
    """A request that makes the provider answer 500, whatever key carries it, is one trouble and not one for each key:
    the next caller, with another request and another model, is served at once and by the first key asked."""
    front = workshop.gateway(
        harness.SERVER + harness.provider(name, f"{world.url}/{name}/{PATHS[name]}", dialect=name)
    )
    poison = [{"role": "user", "content": 'sim: {"status": 500}'}]
    model = "vendor/large" if name == "openrouter" else "m"
    with openai.OpenAI(base_url=f"{front.url}/v1", api_key=harness.TOKEN, max_retries=0, timeout=20) as client:
        for i in range(4):
            with pytest.raises(openai.InternalServerError):
                client.chat.completions.create(model=f"{name}:{model}", messages=poison)
            answer = client.chat.completions.with_raw_response.create(
                model=f"{name}:{model}:free", messages=[{"role": "user", "content": f"How far is star {i}?"}]
            )
            assert answer.headers["x-keymux-attempts"] == "1" and int(answer.headers["x-keymux-queue-ms"]) < 1000
