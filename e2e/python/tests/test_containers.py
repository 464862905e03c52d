"""Containers in which code ran at a provider belong to the client whose answer named them, and are reached at the
account that has them; templates of prompts are the account's."""

import itertools
import json

import pytest

import harness
import raw
from test_clients import KEYS, ask, declared

RESPONSES, MESSAGES = "/v1/responses", "/v1/messages"
CODE = {"type": "code_interpreter", "container": {"type": "auto"}}
RUN = {"type": "code_execution_20250825", "name": "code_execution"}


def makers():
    """A provider that runs code in a container of its own for each answer, told as `lab` tells it: by its path."""
    numbers = itertools.count(1)

    def answer(connection, request):
        n, asked = next(numbers), request.json
        if RESPONSES in request.first:
            item = {"type": "code_interpreter_call", "id": f"ci_{n}", "container_id": f"cntr_{n}", "code": "1"}
            whole = {"id": f"resp_{n}", "object": "response", "status": "completed", "output": [item], "metadata": asked.get("metadata")}
            whole["usage"] = {"input_tokens": 5, "output_tokens": 7}
            events = [
                {"type": "response.created", "response": {"id": f"resp_{n}", "output": []}},
                {"type": "response.output_item.added", "output_index": 0, "item": item},
                {"type": "response.completed", "response": whole},
            ]
        else:
            whole = {"id": f"msg_{n}", "type": "message", "role": "assistant", "content": [{"type": "text", "text": "1"}], "stop_reason": "end_turn"}
            whole |= {"container": {"id": f"container_{n}", "expires_at": "2026-12-01T00:00:00Z"}, "usage": {"input_tokens": 5, "output_tokens": 7}}
            delta = {"container": whole["container"], "stop_reason": "end_turn"}
            events = [
                {"type": "message_start", "message": {**whole, "content": [], "container": None}},
                {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "1"}},
                {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 7}},
                {"type": "message_stop"},
            ]
        if not asked.get("stream"):
            connection.send(raw.response_bytes(json.dumps(whole).encode()))
            return True
        text = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        connection.send(head + raw.chunked(text.encode()))
        return True

    return answer


def again(path: str, n: int) -> list[dict]:
    """The bodies that get at the n-th container."""
    if path == MESSAGES:
        return [{"container": f"container_{n}"}, {"container": {"id": f"container_{n}"}}]
    id = f"cntr_{n}"
    shell = {"type": "shell", "environment": {"type": "container_reference", "container_id": id}}
    call = {"type": "code_interpreter_call", "id": f"ci_{n}", "container_id": id, "code": "1"}
    return [
        {"tools": [{**CODE, "container": id}]},
        {"tools": [shell]},
        {"tools": [CODE], "input": [call, {"role": "user", "content": "And now?"}]},
    ]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", [RESPONSES, MESSAGES])
def test_a_container_is_its_clients_and_its_accounts(workshop, path, stream):
    upstream = workshop.upstream(makers())
    dialect = "anthropic" if path == MESSAGES else "openai"
    config = harness.provider("lab", f"{upstream.url}/v1", dialect=dialect, n=3)
    gateway = workshop.gateway(harness.SERVER + config + declared("one") + declared("two"))
    base = {"model": "lab:m", "stream": stream} | ({"max_tokens": 9, "messages": [], "tools": [RUN]} if path == MESSAGES else {"input": "x", "tools": [CODE]})

    def sent(name: str, body: dict):
        return ask(gateway, KEYS[name], {**base, **body}, path)

    keys = []
    # Conversations of their own, so that several accounts are used.
    for n in range(1, 9):
        opening = {"messages": [{"role": "user", "content": f"{n}"}]} if path == MESSAGES else {"input": f"{n}"}
        assert sent("one", opening).status == 200
        keys.append(upstream.requests[-1].get("authorization") or upstream.requests[-1].get("x-api-key"))
    assert len(set(keys)) > 1
    for n, key in enumerate(keys, 1):
        for body in again(path, n):
            before = len(upstream.requests)
            refused = sent("two", body)
            assert refused.status == 404, refused.body
            assert b"`two`" in refused.body and len(upstream.requests) == before
            assert sent("one", body).status == 200
            last = upstream.requests[-1]
            assert (last.get("authorization") or last.get("x-api-key")) == key
    # Never made here: what is asked for by name is refused, what was said before may be said again.
    for body in again(path, 999):
        said_before = isinstance(body.get("input"), list)
        assert sent("one", body).status == (200 if said_before else 404), body


def test_nothing_of_ones_own_opens_what_is_anothers(workshop):
    gateway, upstream = workshop.in_front_of(makers(), more=declared("one") + declared("two"))
    base = {"model": "lab:m", "input": "x", "tools": [CODE]}
    assert ask(gateway, KEYS["one"], base, RESPONSES).status == 200
    # What the second writes into its own request comes back in the answer, and gives it nothing.
    echoed = ask(gateway, KEYS["two"], {**base, "metadata": {"container_id": "cntr_7", "container": "cntr_7"}}, RESPONSES)
    own = echoed.json["id"]
    for foreign in ("cntr_1", "cntr_7"):
        for more in ({}, {"previous_response_id": own}):
            refused = ask(gateway, KEYS["two"], {**base, **more, "tools": [{**CODE, "container": foreign}]}, RESPONSES)
            assert (refused.status, refused.json["error"]["param"]) == (404, "container"), refused.body
    file = {"role": "user", "content": [{"type": "input_image", "file_id": "file-1"}]}
    refused = ask(gateway, KEYS["two"], {**base, "previous_response_id": own, "input": [file]}, RESPONSES)
    assert (refused.status, refused.json["error"]["param"]) == (404, "file_id")
    assert len(upstream.requests) == 2
    assert ask(gateway, KEYS["two"], {**base, "previous_response_id": own, "tools": [{**CODE, "container": "cntr_2"}]}, RESPONSES).status == 200


def test_a_template_is_the_accounts_and_goes_where_only_one_is_in_question(workshop):
    upstream = workshop.upstream(makers())
    given = harness.provider("lab", f"{upstream.url}/v1", n=2)
    more = declared("one", 'keys = ["lab:lab-2"]') + declared("two") + declared("low", 'budget = 1\nkeys = ["lab:lab-1"]')
    price = '\n[[price]]\nmodel = "lab:*"\ninput = 1\noutput = 10\n'
    gateway = workshop.gateway(harness.SERVER + given + price + more)
    body = {"model": "lab:m", "input": "x", "max_output_tokens": 9, "prompt": {"id": "pmpt_1", "variables": {"city": "Oslo"}}}
    assert ask(gateway, KEYS["one"], body, RESPONSES).status == 200
    assert upstream.requests[-1].get("authorization") == "Bearer sk-test-lab-2"
    several = ask(gateway, KEYS["two"], body, RESPONSES)
    assert (several.status, several.json["error"]["param"]) == (404, "prompt")
    assert "several could serve" in several.json["error"]["message"]
    # It may have tools that cost what they like.
    assert ask(gateway, KEYS["low"], body, RESPONSES).json["error"]["code"] == "cost_not_bounded"
    hidden = {**body, "prompt": {"id": "pmpt_1", "variables": {"x": {"type": "input_file", "file_id": "file-1"}}}}
    refused = ask(gateway, KEYS["one"], hidden, RESPONSES)
    assert (refused.status, refused.json["error"]["param"]) == (404, "file_id")
    assert len(upstream.requests) == 1
