"""Anthropic's official SDK through the gateway, in front of an Anthropic-like provider."""

import json

import anthropic
import pytest

import harness
import raw

ASK = [{"role": "user", "content": "How far is the moon?"}]
FEW = {"model": "claude-test", "max_tokens": 50}


def steered(**steer) -> list[dict]:
    return [{"role": "user", "content": "sim: " + json.dumps(steer)}]


def test_a_plain_message(claude):
    answer = claude.messages.create(**FEW, messages=steered(text="Quite far."))
    assert answer.content[0].text == "Quite far." and answer.stop_reason == "end_turn"
    assert answer.usage.input_tokens > 0 and answer.usage.output_tokens > 0


def test_a_streamed_message_carries_the_same_content(claude):
    text = 'Words like "usage" and event: message_stop, naïve 🦀, must not confuse anyone.'
    with claude.messages.stream(**FEW, messages=steered(text=text)) as stream:
        assert "".join(stream.text_stream) == text
        final = stream.get_final_message()
    assert final.stop_reason == "end_turn" and final.usage.output_tokens > 0


def test_a_tool_call_goes_round(claude):
    schema = {"type": "object", "properties": {"body": {"type": "string"}}, "required": ["body"]}
    tools = [{"name": "distance", "description": "distance to a body", "input_schema": schema}]
    choice = {"type": "tool", "name": "distance"}
    first = claude.messages.create(**FEW, messages=ASK, tools=tools, tool_choice=choice)
    assert first.stop_reason == "tool_use"
    (use,) = [b for b in first.content if b.type == "tool_use"]
    assert use.name == "distance" and isinstance(use.input, dict)
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "384400 km"}
    told = [*ASK, {"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    assert claude.messages.create(**FEW, messages=told, tools=tools, tool_choice={"type": "none"}).content

    with claude.messages.stream(**FEW, messages=ASK, tools=tools, tool_choice=choice) as stream:
        final = stream.get_final_message()
    assert isinstance([b for b in final.content if b.type == "tool_use"][0].input, dict)


def test_tokens_are_counted_without_being_charged(claude, world):
    assert claude.messages.count_tokens(model="claude-test", messages=ASK).input_tokens > 0
    assert world.records("anthropic")[-1]["endpoint"] == "count_tokens"


def test_the_beta_query_survives(gateway, workshop):
    """Claude Code posts to `/v1/messages?beta=true`; without the query its beta fields are refused upstream."""
    body = b'{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"usage":{"input_tokens":1,"output_tokens":1}}'
    front, upstream = workshop.in_front_of(raw.always(raw.response_bytes(body)), dialect="anthropic")
    with anthropic.Anthropic(base_url=front.url, api_key=harness.TOKEN, max_retries=0) as made:
        made.beta.messages.create(
            model="lab:m",
            max_tokens=5,
            messages=ASK,
            betas=["some-beta-2026-01-01"],
            extra_query={"beta": "true"},
        )
    (seen,) = upstream.requests
    assert seen.target == "/v1/messages?beta=true"
    assert seen.get("anthropic-beta") == "some-beta-2026-01-01"
    assert seen.get("anthropic-version"), "the SDK's version goes through unchanged"
    assert seen.all("x-api-key") == ["sk-test-lab-1"] and not seen.get("authorization")


def test_the_token_is_taken_as_a_bearer_too(gateway):
    with anthropic.Anthropic(base_url=gateway.url, auth_token=harness.TOKEN, api_key=None, max_retries=0) as made:
        assert made.messages.create(**FEW, messages=ASK).content


def test_models_are_listed(claude):
    assert "claude-test" in {m.id for m in claude.models.list()}


def test_a_wrong_token_is_401_in_anthropics_envelope(gateway):
    with anthropic.Anthropic(base_url=gateway.url, api_key="wrong", max_retries=0) as stranger:
        with pytest.raises(anthropic.AuthenticationError) as caught:
            stranger.messages.create(**FEW, messages=ASK)
    assert caught.value.body["type"] == "error"
    assert caught.value.body["error"]["type"] == "authentication_error"


def test_an_unknown_model_is_404_in_anthropics_envelope(claude):
    with pytest.raises(anthropic.NotFoundError) as caught:
        claude.messages.create(model="claude-tset", max_tokens=5, messages=ASK)
    assert caught.value.body["error"]["type"] == "not_found_error" and "claude-test" in str(caught.value)


def test_a_400_of_the_provider_is_relayed(claude):
    with pytest.raises(anthropic.BadRequestError) as caught:
        claude.messages.create(**FEW, messages=steered(status=400))
    assert caught.value.body["error"]["type"] == "invalid_request_error"


def test_an_overloaded_key_is_walked_past(claude, world):
    """529 is the provider's trouble with a model; one such answer must not reach a caller while others serve."""
    world.inject(provider="anthropic", fault={"to_call": 1, "kind": {"status": {"code": 529}}})
    answer = claude.messages.with_raw_response.create(**FEW, messages=ASK)
    assert answer.status_code == 200 and answer.headers["x-keymux-attempts"] == "2"


def test_an_error_event_in_a_stream_is_raised(claude):
    with pytest.raises(anthropic.APIStatusError):
        with claude.messages.stream(
            **FEW, messages=steered(fault={"error_event": {"after_events": 3}}, output_tokens=20)
        ) as stream:
            stream.get_final_message()


def test_openrouter_serves_messages_too(claude, world):
    answer = claude.messages.create(model="vendor/large", max_tokens=50, messages=steered(text="Quite far."))
    assert answer.content[0].text == "Quite far."
    assert world.records("openrouter")[-1]["endpoint"] == "messages"
