"""OpenAI's official SDK through the gateway, in front of an OpenAI-like provider."""

import json

import openai
import pytest

import harness

ASK = [{"role": "user", "content": "How far is the moon?"}]


def steered(**steer) -> list[dict]:
    """A prompt that tells the simulated provider what to do."""
    return [{"role": "user", "content": "sim: " + json.dumps(steer)}]


def test_a_plain_completion_comes_with_content_and_usage(client):
    answer = client.chat.completions.create(model="gpt-test", messages=steered(text="Quite far.", output_tokens=4))
    assert answer.choices[0].message.content == "Quite far."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.prompt_tokens > 0 and answer.usage.completion_tokens > 0


def test_a_stream_carries_the_same_content(client):
    text = 'Words like "usage", data: [DONE] and naïve 🦀 must not confuse anyone.'
    plain = client.chat.completions.create(model="gpt-test", messages=steered(text=text))
    with client.chat.completions.create(model="gpt-test", messages=steered(text=text), stream=True) as stream:
        chunks = list(stream)
    streamed = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert streamed == text == plain.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"


def test_the_usage_chunk_comes_only_when_asked_for(client, world):
    with client.chat.completions.create(model="gpt-test", messages=ASK, stream=True) as stream:
        unasked = list(stream)
    assert all(c.choices for c in unasked), "the chunk with usage alone is for those who asked"
    assert all(getattr(c, "usage", None) is None for c in unasked)
    asked_for = {"include_usage": True}
    with client.chat.completions.create(
        model="gpt-test", messages=ASK, stream=True, stream_options=asked_for
    ) as stream:
        asked = list(stream)
    assert asked[-1].choices == [] and asked[-1].usage.completion_tokens > 0


def test_a_function_call_goes_round(client):
    tools = [
        {
            "type": "function",
            "function": {
                "name": "distance",
                "description": "distance to a body",
                "parameters": {"type": "object", "properties": {"body": {"type": "string"}}, "required": ["body"]},
            },
        }
    ]
    forced = {"type": "function", "function": {"name": "distance"}}
    first = client.chat.completions.create(model="gpt-test", messages=ASK, tools=tools, tool_choice=forced)
    (call,) = first.choices[0].message.tool_calls
    assert call.function.name == "distance" and isinstance(json.loads(call.function.arguments), dict)
    result = {"role": "tool", "tool_call_id": call.id, "content": "384400 km"}
    second = client.chat.completions.create(
        model="gpt-test", messages=[*ASK, first.choices[0].message, result], tools=tools, tool_choice="none"
    )
    assert second.choices[0].message.content

    with client.chat.completions.create(
        model="gpt-test", messages=ASK, tools=tools, tool_choice=forced, stream=True
    ) as stream:
        deltas = [c.choices[0].delta for c in stream if c.choices]
    arguments = "".join(t.function.arguments or "" for d in deltas for t in d.tool_calls or [])
    assert isinstance(json.loads(arguments), dict)


def test_embeddings(client):
    answer = client.embeddings.create(model="gpt-test", input=["one", "two"])
    assert [d.index for d in answer.data] == [0, 1]
    assert len(answer.data[0].embedding) == len(answer.data[1].embedding) > 0
    assert all(isinstance(x, float) for x in answer.data[0].embedding)
    assert answer.usage.prompt_tokens > 0


def test_legacy_completions(client):
    answer = client.completions.create(model="gpt-test", prompt="Once upon a time")
    assert answer.choices[0].text


def test_responses_plain_and_streamed(client):
    answer = client.responses.create(model="gpt-test", input=steered(text="Quite far."))
    assert answer.output_text == "Quite far." and answer.usage.output_tokens > 0
    with client.responses.create(model="gpt-test", input=steered(text="Quite far."), stream=True) as stream:
        events = list(stream)
    assert events[0].type == "response.created" and events[-1].type == "response.completed"
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == "Quite far."
    assert [e.sequence_number for e in events] == list(range(len(events)))


def test_a_response_is_continued_at_the_account_that_keeps_it(client, world):
    """Three accounts keep their responses apart, so a gateway that forgets where one was made fails most of these."""
    for _ in range(6):
        first = client.responses.create(model="gpt-test", input="How far is the moon?")
        second = client.responses.create(model="gpt-test", input="And back?", previous_response_id=first.id)
        assert second.output_text
        rows = world.records("openai")
        assert rows[-2]["account"] == rows[-1]["account"]


def test_an_unknown_response_is_404_without_an_upstream_call(client, world):
    before = len(world.records("openai"))
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="gpt-test", input="And back?", previous_response_id="resp_never_made")
    assert len(world.records("openai")) == before


def test_models_of_all_providers_are_listed(client):
    ids = {m.id for m in client.models.list()}
    assert {"gpt-test", "claude-test", "vendor/large"} <= ids
    assert client.models.retrieve("gpt-test").id == "gpt-test"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("never-heard-of")


def test_a_wrong_token_is_401(gateway, world):
    before = len(world.records())
    for token in ("wrong", harness.TOKEN + "x", harness.TOKEN[:-1]):
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=token, max_retries=0) as stranger:
            with pytest.raises(openai.AuthenticationError) as caught:
                stranger.chat.completions.create(model="gpt-test", messages=ASK)
        assert caught.value.code == "invalid_api_key"
        assert token not in str(caught.value)
    assert len(world.records()) == before


def test_an_unknown_model_is_404_with_suggestions(client, world):
    before = len(world.records())
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-tset", messages=ASK)
    assert caught.value.code == "model_not_found" and "gpt-test" in str(caught.value)
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert len(world.records()) == before


def test_a_400_of_the_provider_is_relayed_and_nobody_is_blamed(client, world):
    """Were a key benched for the caller's mistake, the ninth mistake would find none left."""
    for _ in range(9):
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model="gpt-test", messages=steered(status=400))
        assert caught.value.response.headers["x-keymux-attempts"] == "1"
    assert client.chat.completions.create(model="gpt-test", messages=ASK).choices


def test_an_error_event_in_a_stream_is_raised(client):
    fault = {"error_event": {"after_events": 3}}
    with pytest.raises(openai.APIError):
        with client.chat.completions.create(
            model="gpt-test", messages=steered(fault=fault, output_tokens=20), stream=True
        ) as stream:
            list(stream)


def test_answers_tell_the_request_and_the_key(client):
    raw = client.chat.completions.with_raw_response.create(model="gpt-test", messages=ASK)
    headers = raw.headers
    assert headers["x-request-id"] and headers["x-keymux-provider"] == "openai"
    assert headers["x-keymux-key"] in {"openai-1", "openai-2", "openai-3"}
    assert headers["x-keymux-attempts"] == "1" and int(headers["x-keymux-queue-ms"]) >= 0
    inside = ("openai-organization", "x-ratelimit-limit-requests", "set-cookie")
    assert not [n for n in inside if n in headers], "the upstream's organisation and quota are not the caller's business"


@pytest.mark.parametrize("prefix", ["/v1", "/api/v1"])
def test_both_prefixes_are_the_same(gateway, prefix):
    with openai.OpenAI(base_url=gateway.url + prefix, api_key=harness.TOKEN, max_retries=0) as made:
        assert made.chat.completions.create(model="gpt-test", messages=ASK).choices


def test_a_provider_can_be_named_in_the_model(client, world):
    assert client.chat.completions.create(model="openai:gpt-anything", messages=ASK).choices
    assert world.records("openai")[-1]["model"] == "gpt-anything"


def test_a_pass_through_path_with_a_multipart_body(client, world):
    answer = client.audio.transcriptions.create(model="openai:whisper-test", file=("a.wav", b"RIFF....WAVE"))
    assert isinstance(answer.text, str)
    assert world.records("openai")[-1]["endpoint"] == "transcriptions"
    assert world.records("openai")[-1]["model"] == "whisper-test"


def test_an_endpoint_that_the_provider_does_not_serve_is_400(client, world):
    before = len(world.records())
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="claude-test", messages=ASK)
    assert caught.value.code == "endpoint_not_served" and "anthropic" in str(caught.value)
    assert len(world.records()) == before
