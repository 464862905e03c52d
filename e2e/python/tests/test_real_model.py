"""A real model server behind three limited keys: nothing on the other side was written for this project but the limits."""

import asyncio
import os
from pathlib import Path

import anthropic
import openai
import pytest

import harness
from limiter import Key, Limiter

pytestmark = pytest.mark.model
SECRETS = [f"sk-test-lab-{i}" for i in (1, 2, 3)]
ASK = [{"role": "user", "content": "Say hello."}]
REQUESTS = 18
DECLARED = 'limits = [{ requests = 4, per = "2s" }, { concurrent = 2 }]'


@pytest.fixture(scope="module")
def model():
    home = os.environ.get("KEYMUX_MODEL_HOME")
    assert home, "KEYMUX_MODEL_HOME is not set: run these tests by scripts/e2e, after scripts/need e2e"
    python, weights = Path(home) / "bin/python", Path(home) / "model.gguf"
    serve = Path(__file__).resolve().parent.parent / "serve_model.py"
    process = harness.Process(str(python), str(serve), str(weights))
    yield harness.split(process.addresses["listen"])
    process.child.kill()
    process.child.wait()
    process.child.stdout.close()


@pytest.fixture
def limited(model):
    """Each key may do four requests and two a second after them, two at a time."""
    made = Limiter(model, {s: Key(burst=4, rate=2.0, concurrent=2) for s in SECRETS})
    yield made
    made.close()


def front_of(workshop, limited, limits: str) -> harness.Gateway:
    # The model is slow on a busy machine; these tests are about keys, not about patience.
    config = harness.SERVER + 'max_wait = "60s"\n' + harness.provider("lab", f"{limited.url}/v1", more=limits)
    messages = harness.provider("lab-claude", f"{limited.url}/v1", dialect="anthropic", more=limits)
    return workshop.gateway(config + messages.replace("sk-test-lab-claude-", "sk-test-lab-"))


def test_the_limiter_limits(model, limited):
    """The proof is worth as much as its parts: one key alone is refused, a stranger at once."""
    with openai.OpenAI(base_url=f"{limited.url}/v1", api_key="sk-test-stranger", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError):
            client.chat.completions.create(model="smollm2", messages=ASK)

    async def at_once():
        async with openai.AsyncOpenAI(base_url=f"{limited.url}/v1", api_key=SECRETS[0], max_retries=0) as client:
            ask = [client.chat.completions.create(model="smollm2", messages=ASK, max_tokens=4) for _ in range(6)]
            return await asyncio.gather(*ask, return_exceptions=True)

    assert any(isinstance(answer, openai.RateLimitError) for answer in asyncio.run(at_once()))


def test_chat_streaming_and_messages_are_answered(workshop, limited):
    front = front_of(workshop, limited, DECLARED)
    with openai.OpenAI(base_url=f"{front.url}/v1", api_key=harness.TOKEN, max_retries=0) as client:
        plain = client.chat.completions.create(model="lab:smollm2", messages=ASK, max_tokens=12, temperature=0, seed=1)
        assert plain.choices[0].message.content and plain.usage.completion_tokens > 0
        with client.chat.completions.create(
            model="lab:smollm2", messages=ASK, max_tokens=12, temperature=0, seed=1, stream=True
        ) as stream:
            chunks = list(stream)
        assert all(c.choices for c in chunks), "usage was not asked for"
        assert "".join(c.choices[0].delta.content or "" for c in chunks) == plain.choices[0].message.content
    with anthropic.Anthropic(base_url=front.url, api_key=harness.TOKEN, max_retries=0) as claude:
        message = claude.messages.create(model="lab-claude:smollm2", messages=ASK, max_tokens=12)
        assert message.content[0].text and message.usage.output_tokens > 0
        with claude.messages.stream(model="lab-claude:smollm2", messages=ASK, max_tokens=12) as stream:
            assert "".join(stream.text_stream)


@pytest.mark.parametrize("limits", [DECLARED, ""], ids=["declared", "learned"])
def test_three_keys_carry_what_one_would_refuse(workshop, limited, limits):
    if not limits:
        # Only the rate is to be learned: how many at a time a key may do shows in no refusal of this limiter.
        for key in limited.keys.values():
            key.concurrent = REQUESTS
    front = front_of(workshop, limited, limits)

    async def at_once():
        async with openai.AsyncOpenAI(base_url=f"{front.url}/v1", api_key=harness.TOKEN, max_retries=0) as client:
            ask = [
                client.chat.completions.create(model="lab:smollm2", messages=ASK, max_tokens=4)
                for _ in range(REQUESTS)
            ]
            return await asyncio.gather(*ask)

    answers = asyncio.run(at_once())
    assert len(answers) == REQUESTS and all(a.choices[0].message.content is not None for a in answers)
    served = [limited.keys[s].served for s in SECRETS]
    assert sum(served) == REQUESTS and all(n > 0 for n in served) and limited.unknown == 0
    if limits:
        # Kept ahead of sending: what is declared is not found out by being refused.
        assert sum(limited.keys[s].refused for s in SECRETS) <= 2
