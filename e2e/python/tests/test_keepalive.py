"""`x-keymux-keepalive: 1`: a caller who waits for a key is shown that somebody is there."""

import threading

import harness
import raw

AUTH = {"Authorization": f"Bearer {harness.TOKEN}"}
BODY = {"model": "lab:m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
EVENTS = (
    b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)


def ask(**headers) -> bytes:
    return raw.request_bytes("/v1/chat/completions", BODY, {**AUTH, **headers})


def test_comments_come_while_the_request_waits_and_then_the_answer(workshop):
    free = threading.Event()

    def answer(connection, _request):
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        free.wait(raw.PATIENCE_S)
        connection.send(EVENTS)

    front, upstream = workshop.in_front_of(answer, more="limits = [{ concurrent = 1 }]")
    with raw.Connection(front.address) as first, raw.Connection(front.address) as second:
        first.send(ask())
        with upstream.arrived:
            assert upstream.arrived.wait_for(lambda: upstream.requests, raw.PATIENCE_S)
        second.send(ask(**{"x-keymux-keepalive": "1", "x-keymux-max-wait": "60s"}))
        head = second.read_head()
        assert head.status == 200
        assert second.read_piece().startswith(b":"), "a comment, before anything is decided"
        assert len(upstream.requests) == 1, "it still waits"
        free.set()
        rest = b""
        while b"[DONE]" not in rest:
            rest += second.read_piece()
        assert b'"content":"hi"' in rest


def test_what_is_decided_at_once_is_answered_as_ever(workshop):
    front, _ = workshop.in_front_of(raw.always(raw.response_bytes(b'{"error":{"message":"no"}}', status="400 Bad Request")))
    answer = raw.exchange(front.address, ask(**{"x-keymux-keepalive": "1"}))
    assert answer.status == 400 and answer.json["error"]["message"] == "no"
