"""What the provider answers is what the client gets, byte for byte; and what the client sends is what arrives."""

import json
import re
import threading

import pytest

import harness
import raw

AUTH = {"Authorization": f"Bearer {harness.TOKEN}"}

# As a provider may write it: odd spacing, unknown fields, escapes, numbers no float can hold, an emoji in halves.
CHAT = (
    b'{ "id":"chatcmpl-1" ,"object":"chat.completion","created":1,"model":"m-2026-01-01",\r\n"choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"caf\\u00e9 \\ud83e\\udd80 \xf0\x9f\xa6\x80 \\"usage\\": {","refusal":null},'
    b'"finish_reason":"stop","logprobs":null}],"usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21},'
    b'"x_unknown":123456789012345678901234567890.10,"system_fingerprint":null}\n\n'
)
MESSAGE = (
    b'{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"hi"}],'
    b'"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":3, "output_tokens":1},"new":[]}'
)
PLAIN = [
    ("openai", "chat/completions", CHAT),
    ("openai", "completions", b'{"id":"c","choices":[{"text":" x","index":0}],"usage":{"prompt_tokens":1}}'),
    ("openai", "embeddings", b'{"object":"list","data":[{"embedding":[1e-9,0.10],"index":0}],"usage":{"prompt_tokens":1}}'),
    ("openai", "responses", b'{"id":"resp_1","object":"response","output":[],"usage":{"input_tokens":1,"output_tokens":2}}'),
    ("openai", "moderations", b'{"id":"modr-1","results":[]}'),
    ("openrouter", "chat/completions", CHAT),
    ("openrouter", "rerank", b'{"results":[]}'),
    ("anthropic", "messages", MESSAGE),
    ("anthropic", "messages/count_tokens", b'{"input_tokens": 14}'),
]


@pytest.mark.parametrize(("dialect", "path", "body"), PLAIN, ids=[f"{d}-{p}" for d, p, _ in PLAIN])
def test_a_plain_answer_is_the_providers_bytes(workshop, dialect, path, body):
    front, upstream = workshop.in_front_of(raw.always(raw.response_bytes(body)), dialect=dialect)
    sent = b'{"messages":[ ],"model" : "lab:m","input":"x","unknown" : {"a":[1,2 ]},"max_tokens":5,"query":"q","documents":[]}'
    answer = raw.exchange(front.address, raw.request_bytes(f"/v1/{path}", sent, AUTH))
    assert (answer.status, answer.body) == (200, body)
    (seen,) = upstream.requests
    assert seen.target == f"/v1/{path}" and seen.body == sent.replace(b'"lab:m"', b'"m"')


@pytest.mark.parametrize("length", [0, 1, 4096, 65536, 3_000_000])
def test_bodies_of_any_length_arrive_whole(workshop, length):
    body = CHAT.replace(b"caf", b"x" * length)
    front, upstream = workshop.in_front_of(raw.always(raw.response_bytes(body)))
    sent = json.dumps({"model": "lab:m", "messages": [{"role": "user", "content": "y" * length}]}).encode()
    answer = raw.exchange(front.address, raw.request_bytes("/v1/chat/completions", sent, AUTH))
    assert answer.body == body
    assert upstream.requests[0].body == sent.replace(b"lab:m", b"m")


def test_a_chunked_request_arrives_whole(workshop):
    front, upstream = workshop.in_front_of(raw.always(raw.response_bytes(CHAT)))
    sent = b'{"model":"lab:m","messages":[{"role":"user","content":"hello"}]}'
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {harness.TOKEN}\r\n"
    head += "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = raw.exchange(front.address, head.encode() + raw.chunked(sent[:1], sent[1:30], sent[30:]))
    assert answer.status == 200 and upstream.requests[0].body == sent.replace(b"lab:m", b"m")


def event(data: str, name: str = "") -> bytes:
    return (f"event: {name}\n" if name else "").encode() + f"data: {data}\n\n".encode()


CHAT_EVENTS = [
    b": OPENROUTER PROCESSING\n\n",
    event('{"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}'),
    event('{"id":"c","choices":[{"index":0,"delta":{"content":"caf\\u00e9 \\"usage\\": 🦀"}}] , "usage":null}'),
    b"data:{\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"no space, CRLF\"}}]}\r\n\r\n",
    event('{"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'),
]
USAGE_EVENT = event('{"id":"c","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}')
DONE = event("[DONE]")
MESSAGE_EVENTS = [
    event('{"type":"message_start","message":{"id":"m","usage":{"input_tokens":3,"output_tokens":1}}}', "message_start"),
    event('{"type": "ping"}', "ping"),
    event('{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}', "content_block_start"),
    event('{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"h\\u00ef 🦀"}}', "content_block_delta"),
    event('{"type":"content_block_stop","index":0}', "content_block_stop"),
    event('{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":5}}', "message_delta"),
    event('{"type":"message_stop"}', "message_stop"),
]
RESPONSE_EVENTS = [
    event('{"type":"response.created","sequence_number":0,"response":{"id":"r"}}', "response.created"),
    event('{"type":"response.output_text.delta","sequence_number":1,"delta":"h\\u00ef"}', "response.output_text.delta"),
    event('{"type":"response.completed","sequence_number":2,"response":{"id":"r","usage":{"input_tokens":1,"output_tokens":2}}}', "response.completed"),
]
# dialect, path, what is asked, what the provider sends, what the client gets of it.
STREAMS = [
    ("openai", "chat/completions", {"stream_options": {"include_usage": True}}, [*CHAT_EVENTS, USAGE_EVENT, DONE], None),
    ("openai", "chat/completions", {}, [*CHAT_EVENTS, USAGE_EVENT, DONE], [*CHAT_EVENTS, DONE]),
    ("openrouter", "chat/completions", {}, [*CHAT_EVENTS, USAGE_EVENT, DONE], None),
    ("anthropic", "messages", {}, MESSAGE_EVENTS, None),
    ("openai", "responses", {}, RESPONSE_EVENTS, None),
]
CUTS = {
    "an event a chunk": lambda events: events,
    "one chunk": lambda events: [b"".join(events)],
    "a byte a chunk": lambda events: [bytes([b]) for b in b"".join(events)],
    "cut inside events": lambda events: [b"".join(events)[i : i + 37] for i in range(0, len(b"".join(events)), 37)],
}


def streaming(*pieces: bytes):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    return raw.always(head + raw.chunked(*pieces))


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("stream", STREAMS, ids=["chat-asked", "chat-unasked", "openrouter", "messages", "responses"])
def test_a_stream_is_the_providers_bytes(workshop, stream, cut):
    dialect, path, more, sent, wanted = stream
    front, upstream = workshop.in_front_of(streaming(*CUTS[cut](sent)), dialect=dialect)
    body = {"model": "lab:m", "stream": True, "max_tokens": 5, "messages": [], "input": "x", **more}
    answer = raw.exchange(front.address, raw.request_bytes(f"/v1/{path}", body, AUTH))
    assert answer.status == 200 and answer.get("content-type") == "text/event-stream"
    assert answer.body == b"".join(wanted or sent)


def test_usage_is_asked_for_where_the_client_did_not_and_nothing_else_changes(workshop):
    front, upstream = workshop.in_front_of(streaming(*CHAT_EVENTS, USAGE_EVENT, DONE))
    forms = [
        b'{"model":"lab:m","stream":true,"messages":[ ]}',
        b'{"stream": true , "messages":[],"stream_options":{"include_obfuscation":false},"model":"lab:m"}',
        b'{"stream":true,"stream_options": {"include_usage" : false},"messages":[],"model":"lab:m"}',
        b'{"stream":true,"stream_options":null,"messages":[],"model":"lab:m"}',
    ]
    for sent in forms:
        answer = raw.exchange(front.address, raw.request_bytes("/v1/chat/completions", sent, AUTH))
        assert answer.body == b"".join([*CHAT_EVENTS, DONE])
        wanted, seen = json.loads(sent), json.loads(upstream.requests[-1].body)
        wanted["model"] = "m"
        wanted["stream_options"] = {**(wanted.get("stream_options") or {}), "include_usage": True}
        assert seen == wanted


def test_streams_are_relayed_as_they_come(workshop):
    """The provider holds its second event until the client has the first: a gateway that buffers never gets it."""
    release = threading.Event()

    def answer(connection, _request):
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.send(raw.chunked(CHAT_EVENTS[1] + CHAT_EVENTS[2], end=False))
        assert release.wait(raw.PATIENCE_S)
        connection.send(raw.chunked(CHAT_EVENTS[4], DONE))
        return True

    front, _ = workshop.in_front_of(answer)
    with raw.Connection(front.address) as client:
        client.send(raw.request_bytes("/v1/chat/completions", {"model": "lab:m", "stream": True, "messages": []}, AUTH))
        client.read_head()
        got = b""
        while CHAT_EVENTS[2] not in got:
            got += client.read_piece()
        release.set()
        while piece := client.read_piece():
            got += piece
    assert got == CHAT_EVENTS[1] + CHAT_EVENTS[2] + CHAT_EVENTS[4] + DONE


@pytest.mark.parametrize("stream", [False, True])
def test_the_simulated_provider_says_the_same_directly_and_through_the_gateway(gateway, world, stream):
    """The rest of the suite trusts the simulated provider: its answers differ only where two answers must."""
    ask = {"stream": stream, "stream_options": {"include_usage": True}} if stream else {}
    ask["messages"] = [{"role": "user", "content": 'sim: {"text": "the same 🦀"}'}]
    direct = raw.exchange(
        world.address,
        raw.request_bytes(
            "/openai/v1/chat/completions", {"model": "gpt-test", **ask}, {"Authorization": "Bearer sk-test-openai-1"}
        ),
    )
    through = raw.exchange(
        gateway.address, raw.request_bytes("/v1/chat/completions", {"model": "gpt-test", **ask}, AUTH)
    )

    def essence(body: bytes) -> bytes:
        # Ids and instants are of the answer, not of the path it took.
        return re.sub(rb'"(id|created|system_fingerprint)": ?("[^"]*"|\d+)', rb'"\1":_', body)

    assert essence(through.body) == essence(direct.body)
    assert through.get("content-type") == direct.get("content-type")
