"""Items of an answer's output that come back in a later request, by their ids alone or sealed, are the client's whose
answer they were, and are read at the account that made them."""

import itertools
import json

import openai
import pytest

import harness
import raw
from test_clients import KEYS, ask, declared

RESPONSES = "/v1/responses"


def reasoner():
    """A provider that thinks before it speaks: what it thought is sealed for its account alone."""
    numbers = itertools.count(1)

    def answer(connection, request):
        n, asked = next(numbers), request.json
        thought = {"type": "reasoning", "id": f"rs_{n:048}", "summary": []}
        if "reasoning.encrypted_content" in (asked.get("include") or []):
            thought["encrypted_content"] = f"gAAAAAB{n:057}"
        text = {"type": "output_text", "text": "Hm.", "annotations": []}
        message = {"type": "message", "id": f"msg_{n:048}", "role": "assistant", "status": "completed", "content": [text]}
        whole = {"id": f"resp_{n:048}", "object": "response", "created_at": 1, "model": "m", "status": "completed", "output": [thought, message]}
        whole |= {"parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "usage": {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12}}
        if not asked.get("stream"):
            connection.send(raw.response_bytes(json.dumps(whole).encode()))
            return True
        events = [{"type": "response.created", "response": {**whole, "output": []}}]
        for at, item in enumerate(whole["output"]):
            events += [{"type": f"response.output_item.{verb}", "output_index": at, "item": item} for verb in ("added", "done")]
        events.append({"type": "response.completed", "response": whole})
        text = "".join(f"event: {event['type']}\ndata: {json.dumps(event | {'sequence_number': n})}\n\n" for n, event in enumerate(events))
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        connection.send(head + raw.chunked(text.encode()))
        return True

    return answer


def in_front(workshop, more: str = "", dialect: str = "openai"):
    upstream = workshop.upstream(reasoner())
    given = harness.provider("lab", f"{upstream.url}/v1", dialect=dialect, n=3)
    return workshop.gateway(harness.SERVER + given + more + declared("one") + declared("two")), upstream


def key_of(upstream) -> str:
    return upstream.requests[-1].get("authorization")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("sealed", [False, True])
def test_items_go_back_to_their_account_for_their_client_alone(workshop, stream, sealed):
    gateway, upstream = in_front(workshop)
    kept = {"store": False, "include": ["reasoning.encrypted_content"]} if sealed else {}
    clients = {name: openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=KEYS[name], max_retries=0) for name in ("one", "two")}

    def create(name: str, items):
        made = clients[name].responses.create(model="lab:m", input=items, stream=stream, **kept)
        return next(event.response for event in made if event.type == "response.completed") if stream else made

    firsts = []
    for n in range(8):
        first = create("one", f"Question {n}.")
        firsts.append((first.output, key_of(upstream)))
    assert len({key for _, key in firsts}) > 1, "several accounts have been used"
    for n, (output, key) in enumerate(firsts):
        # Another beginning each time, so that nothing else leads to the account.
        ask_on = [{"role": "user", "content": f"Anew {n}."}, *[item.to_dict() for item in output], {"role": "user", "content": "And?"}]
        ways = [ask_on]
        if sealed:
            # As some clients do, which take the ids off.
            ways.append([{name: value for name, value in item.items() if name != "id"} for item in ask_on])
        else:
            ways += [[{"type": "item_reference", "id": item.id}, ask_on[-1]] for item in output]
            ways.append([{"id": output[0].id}, ask_on[-1]])
        for items in ways:
            create("one", items)
            assert key_of(upstream) == key, items
            before = len(upstream.requests)
            with pytest.raises(openai.NotFoundError) as refused:
                create("two", items)
            assert refused.value.code == "state_not_found" and "`two`" in refused.value.message
            assert len(upstream.requests) == before
    # Items that are whole may go anywhere, also after others' of the same conversation.
    whole = [output[1].to_dict() for output, _ in firsts]
    create("two", [*whole, {"role": "user", "content": "And?"}])


def test_what_is_forgotten_is_refused_by_reference_and_passes_as_said_before(workshop):
    gateway, upstream = in_front(workshop)
    question = {"role": "user", "content": "And?"}
    unknown = "0" * 48

    def sent(item: dict):
        return ask(gateway, KEYS["one"], {"model": "lab:m", "input": [item, question]}, RESPONSES)

    for reference in ({"type": "item_reference", "id": f"msg_{unknown}"}, {"id": f"msg_{unknown}"}):
        refused = sent(reference)
        assert (refused.status, refused.json["error"]["param"]) == (404, "item_reference")
        assert "Send the item itself." in refused.json["error"]["message"]
    assert upstream.requests == []
    for item in (
        {"type": "reasoning", "id": f"rs_{unknown}", "summary": []},
        {"type": "reasoning", "summary": [], "encrypted_content": f"gAAAAAB{unknown}"},
    ):
        assert sent(item).status == 200


def test_items_do_not_follow_to_where_nobody_knows_them(workshop):
    other = workshop.upstream(reasoner())
    gateway, upstream = in_front(workshop, more=harness.provider("other", f"{other.url}/v1", n=1))
    first = ask(gateway, KEYS["one"], {"model": "lab:m", "input": "Hm?"}, RESPONSES).json["output"]
    on = {"model": "other:m", "input": [*first, {"role": "user", "content": "And?"}]}
    # The conversation goes on with a model of another provider's, who makes of it what it can.
    assert ask(gateway, KEYS["one"], on, RESPONSES).status == 200
    assert len(other.requests) == 1
    assert ask(gateway, KEYS["two"], on, RESPONSES).status == 404
    referred = ask(gateway, KEYS["one"], {**on, "input": [{"type": "item_reference", "id": first[1]["id"]}]}, RESPONSES)
    assert referred.status >= 400 and len(other.requests) == 1


def test_openrouter_keeps_nothing_and_any_of_its_accounts_can_go_on(workshop):
    gateway, upstream = in_front(workshop, dialect="openrouter")
    first = ask(gateway, KEYS["one"], {"model": "lab:m", "input": "Hm?"}, RESPONSES).json["output"]
    on = {"model": "lab:m", "input": [*first, {"role": "user", "content": "And?"}]}
    assert {ask(gateway, KEYS[name], on, RESPONSES).status for name in ("one", "two")} == {200}
    referred = ask(gateway, KEYS["one"], {**on, "input": [{"type": "item_reference", "id": first[1]["id"]}]}, RESPONSES)
    assert referred.status == 404
