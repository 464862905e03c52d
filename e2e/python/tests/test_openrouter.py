"""OpenRouter's official SDK through the gateway, and what only OpenRouter's dialect does."""

import json

import openai
import pytest
from openrouter import OpenRouter, errors
from openrouter.utils import BackoffStrategy, RetryConfig

import harness
import raw

ASK = [{"role": "user", "content": "How far is the moon?"}]
NO_RETRY = RetryConfig("none", BackoffStrategy(1, 1, 1, 1), False)


def steered(**steer) -> list[dict]:
    return [{"role": "user", "content": "sim: " + json.dumps(steer)}]


def sdk(url: str, token: str = harness.TOKEN) -> OpenRouter:
    return OpenRouter(api_key=token, server_url=f"{url}/api/v1", retry_config=NO_RETRY, timeout_ms=20_000)


@pytest.fixture
def router(gateway):
    with sdk(gateway.url) as made:
        yield made


def test_a_plain_chat(router):
    answer = router.chat.send(model="vendor/large", messages=steered(text="Quite far."))
    assert answer.choices[0].message.content == "Quite far."
    assert answer.usage.completion_tokens > 0 and answer.usage.cost > 0, "OpenRouter says what it cost"


def test_a_streamed_chat(router):
    with router.chat.send(model="vendor/large", messages=steered(text="Quite far away."), stream=True) as stream:
        chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Quite far away."
    assert chunks[-1].usage.cost > 0, "OpenRouter always sends usage; it is not the gateway's to remove"


def test_embeddings(router):
    answer = router.embeddings.generate(model="vendor/embedder", input=["one", "two"])
    assert len(answer.data) == 2


def test_models_are_listed_as_openrouter_lists_them(world, workshop):
    config = 'default_provider = "openrouter"\n' + harness.SERVER + harness.provider(
        "openrouter", f"{world.url}/openrouter/api/v1", dialect="openrouter", n=1
    )
    config += harness.provider("listing", f"{world.url}/listing/v1", n=1)
    config += '[[route]]\nmodel = "best"\ntiers = [["openrouter:vendor/large"]]\n'
    config += '[[route]]\nmodel = "far"\ntiers = [["listing:other"]]\n'
    front = workshop.gateway(config)
    with sdk(front.url) as made:
        models = {m.id: m for m in made.models.list().result.data}
    assert {"vendor/large", "vendor/large:free", "listing:listed", "best", "far"} <= set(models)
    assert models["best"].pricing.prompt == models["vendor/large"].pricing.prompt != "0", "as its target"
    assert models["far"].pricing.prompt == "-1" and models["far"].context_length is None, "unknown, not free"


def test_a_list_of_models_alone_names_its_first(world, workshop):
    """OpenRouter takes `models` without `model`; others get the model that the list begins with."""
    config = harness.SERVER + harness.provider(
        "openrouter", f"{world.url}/openrouter/api/v1", dialect="openrouter", n=1
    )
    config += harness.provider("openai", f"{world.url}/openai/v1", n=1)
    front = workshop.gateway(config)
    for prefix, model in [("openrouter", "vendor/large"), ("openai", "gpt-test")]:
        client = openai.OpenAI(api_key=harness.TOKEN, base_url=f"{front.url}/api/v1", max_retries=0)
        body = {"models": [f"{prefix}:{model}", "vendor/small"], "messages": ASK}
        answer = client.post("/chat/completions", body=body, cast_to=dict)
        assert answer["model"] == model


def test_errors_are_understood_by_the_sdk(gateway, router):
    with pytest.raises(errors.BadRequestResponseError):
        router.chat.send(model="vendor/large", messages=steered(status=400))
    with pytest.raises(errors.NotFoundResponseError) as caught:
        router.chat.send(model="never-heard-of", messages=ASK)
    ours = caught.value.data.error
    assert ours.code == 404 and ours.metadata == {"error_type": "model_not_found", "param": "model"}, "our word stands in the metadata"
    with sdk(gateway.url, "wrong") as stranger, pytest.raises(errors.UnauthorizedResponseError):
        stranger.chat.send(model="vendor/large", messages=ASK)


ANSWER = raw.response_bytes(
    b'{"id":"gen-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":"stop",'
    b'"message":{"role":"assistant","content":"hi"}}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'
)


def test_what_is_openrouters_reaches_it_untouched(workshop):
    """The provider object, the list of models, the suffix, plugins: byte for byte, but for the credential."""
    front, upstream = workshop.in_front_of(raw.always(ANSWER), dialect="openrouter")
    body = (
        b'{"model": "lab:vendor/large:nitro",  "models":["a/b","c/d:floor"], "provider" : {"order":["x/fast"],'
        b'"max_price":{"prompt":"0.1"},"unheard_of":1}, "plugins":[{"id":"web"}], "x":1e400,'
        b'"messages":[{"role":"user","content":"caf\\u00e9 \xf0\x9f\xa6\x80"}]}'
    )
    headers = {
        "Authorization": f"Bearer {harness.TOKEN}",
        "HTTP-Referer": "https://caller.example",
        "X-Title": "caller",
        "X-OpenRouter-Cache": "true",
        "X-Session-Id": "s-1",
        "Cookie": "a=b",
        "OpenAI-Organization": "org-theirs",
    }
    answer = raw.exchange(front.address, raw.request_bytes("/api/v1/chat/completions", body, headers))
    assert answer.status == 200
    (seen,) = upstream.requests
    assert seen.body == body.replace(b"lab:vendor/large:nitro", b"vendor/large:nitro")
    assert seen.get("http-referer") == "https://caller.example" and seen.get("x-title") == "caller"
    assert seen.get("x-session-id") == "s-1"
    assert seen.all("authorization") == ["Bearer sk-test-lab-1"]
    assert not [n for n in ("x-openrouter-cache", "cookie", "openai-organization") if seen.get(n)]
    assert harness.TOKEN not in seen.head.decode("latin-1")


def test_attribution_is_the_providers_unless_the_caller_says_otherwise(workshop):
    more = 'headers = { "HTTP-Referer" = "https://ours.example", "X-Title" = "ours" }'
    front, upstream = workshop.in_front_of(raw.always(ANSWER), dialect="openrouter", more=more)
    body = {"model": "lab:m", "messages": ASK}
    raw.exchange(
        front.address,
        raw.request_bytes("/api/v1/chat/completions", body, {"Authorization": f"Bearer {harness.TOKEN}"}),
    )
    (seen,) = upstream.requests
    assert seen.all("http-referer") == ["https://ours.example"] and seen.all("x-title") == ["ours"]


def test_processing_comments_do_not_count_as_an_answer(workshop):
    """A key that only sends comments and then fails is walked past, though its status was 200 long ago."""
    comments = b": OPENROUTER PROCESSING\n\n" * 3
    failed = b'data: {"error":{"code":502,"message":"Provider disconnected"},"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}\n\n'
    good = b'data: {"id":"gen-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"far"}}]}\n\ndata: [DONE]\n\n'
    stream = {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"}

    def answer(connection, request):
        body = failed if len(upstream.requests) == 1 else good
        head = "HTTP/1.1 200 OK\r\n" + "".join(f"{n}: {v}\r\n" for n, v in stream.items()) + "\r\n"
        connection.send(head.encode() + raw.chunked(comments, body))
        return True

    front, upstream = workshop.in_front_of(answer, dialect="openrouter", n=2)
    with openai.OpenAI(base_url=f"{front.url}/v1", api_key=harness.TOKEN, max_retries=0) as client:
        with client.chat.completions.create(model="lab:m", messages=ASK, stream=True) as stream_:
            text = "".join(c.choices[0].delta.content or "" for c in stream_ if c.choices)
    assert text == "far" and len(upstream.requests) == 2


def test_an_error_inside_a_200_is_walked_past(world, workshop):
    world.inject(provider="openrouter", fault={"to_call": 1, "kind": {"error_in_200": {}}})
    three = harness.provider("openrouter", f"{world.url}/openrouter/api/v1", dialect="openrouter")
    front = workshop.gateway(harness.SERVER + three)
    before = len(world.records("openrouter"))
    with sdk(front.url) as made:
        assert made.chat.send(model="openrouter:vendor/large", messages=ASK).choices[0].message.content
    assert [r["fault"] for r in world.records("openrouter")[before:]] == ["error_in_200", None]


def test_a_relayed_401_says_nothing_about_the_key(world, workshop):
    """OpenRouter relays its upstream's 401. The model there may be out of order then; a key that is benched for it
    would be missing for every other model."""
    front = workshop.gateway(
        harness.SERVER + harness.provider("openrouter", f"{world.url}/openrouter/api/v1", dialect="openrouter")
    )
    with openai.OpenAI(base_url=f"{front.url}/v1", api_key=harness.TOKEN, max_retries=0) as client:
        used = set()
        for i in range(6):
            with pytest.raises(openai.APIStatusError):
                client.chat.completions.create(
                    model="openrouter:vendor/large", messages=steered(fault={"relayed": {"status": 401}}, input_tokens=i)
                )
            # Each key still serves another model: nobody has to wait or is walked past.
            for j in range(4):
                answer = client.chat.completions.with_raw_response.create(
                    model="openrouter:vendor/large:free", messages=[{"role": "user", "content": f"{i} {j}"}]
                )
                assert answer.headers["x-keymux-attempts"] == "1"
                used.add(answer.headers["x-keymux-key"])
    assert used == {"openrouter-1", "openrouter-2", "openrouter-3"}
