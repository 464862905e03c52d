"""Providers that answer what no client should see. The caller gets a clear error of the gateway's own, or a good answer
from the next key; and the next request is served."""

import gzip
import json
import socket
import threading

import pytest

import harness
import raw

AUTH = {"Authorization": f"Bearer {harness.TOKEN}"}
GOOD = b'{"id":"good","object":"chat.completion","choices":[],"usage":{"prompt_tokens":1}}'
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
BODY = {"openai": {"messages": []}, "anthropic": {"messages": [], "max_tokens": 5}}
PATH = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}


def send(data: bytes):
    """Sends it and closes."""

    def answer(connection, _request):
        connection.send(data)

    return answer


def reset(connection, _request):
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def endless_headers(connection, _request):
    connection.send(b"HTTP/1.1 200 OK\r\n")
    for i in range(100_000):
        connection.send(b"X-%d: %s\r\n" % (i, b"y" * 1000))


def head(headers: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 " + status + b"\r\n" + headers + b"\r\n"


JSON = b"Content-Type: application/json\r\n"
HTML = b"<!doctype html><html><body>502 from an edge far away, 10.1.2.3</body></html>"
# Answers after which a request can be tried elsewhere: nothing of them has reached the caller.
BAD = {
    "garbage": send(b"\x00\x01\x02 this is not HTTP at all\r\n\r\n\r\n"),
    "nothing": send(b""),
    "a reset": reset,
    "half a head": send(b"HTTP/1.1 200 OK\r\nContent-Type: applic"),
    "half a status line": send(b"HTTP/1.1 2"),
    "another version": send(b"HTTP/3.7 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
    "no such status": send(head(JSON + b"Content-Length: 2\r\n", b"99 Odd") + b"{}"),
    "endless headers": endless_headers,
    "HTML with 200": send(head(b"Content-Type: text/html\r\nContent-Length: %d\r\n" % len(HTML)) + HTML),
    "HTML said to be JSON": send(head(JSON + b"Content-Length: %d\r\n" % len(HTML)) + HTML),
    "a 200 without a body": send(head(JSON + b"Content-Length: 0\r\n")),
    "a redirect": send(head(b"Location: http://127.0.0.1:9/elsewhere\r\nContent-Length: 0\r\n", b"307 Temporary Redirect")),
    "another redirect": send(head(b"Location: /v1/elsewhere\r\nContent-Length: 0\r\n", b"301 Moved Permanently")),
    "a length that is too long": send(head(JSON + b"Content-Length: %d\r\n" % (len(GOOD) + 100)) + GOOD),
    "two lengths": send(head(JSON + b"Content-Length: 5\r\nContent-Length: %d\r\n" % len(GOOD)) + GOOD),
    "a length that is none": send(head(JSON + b"Content-Length: many\r\n") + GOOD),
    "chunks without sizes": send(head(JSON + b"Transfer-Encoding: chunked\r\n") + b"oops\r\n" + GOOD),
    "chunks without an end": send(head(JSON + b"Transfer-Encoding: chunked\r\n") + raw.chunked(GOOD, end=False)),
    "only informational answers": send(b"HTTP/1.1 100 Continue\r\n\r\n" * 50),
    "a switch of protocols": send(head(b"Upgrade: websocket\r\nConnection: upgrade\r\n", b"101 Switching Protocols")),
    "gzip that nobody asked for": send(
        head(JSON + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n" % len(gzip.compress(GOOD, mtime=0)))
        + gzip.compress(GOOD, mtime=0)
    ),
    "a 500 without a word": send(head(b"Content-Length: 0\r\n", b"500 Internal Server Error")),
    "a 503 of HTML": send(head(b"Content-Type: text/html\r\nContent-Length: %d\r\n" % len(HTML), b"503 Busy") + HTML),
}


def ask(front, model: str, dialect: str = "openai", **more) -> raw.Message:
    body = {"model": model, **BODY[dialect], **more}
    return raw.exchange(front.address, raw.request_bytes(PATH[dialect], body, AUTH))


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
@pytest.mark.parametrize("case", BAD)
def test_a_bad_answer_becomes_a_clear_error(workshop, case, dialect):
    front, _ = workshop.in_front_of(BAD[case], dialect=dialect)
    answer = ask(front, "lab:m", dialect)
    body = answer.json
    error = body["error"]
    assert 500 <= answer.status <= 504, answer.head
    if dialect == "anthropic":
        assert body["type"] == "error" and error["type"] in ("api_error", "timeout_error", "overloaded_error")
    else:
        assert set(error) >= {"message", "type", "param", "code"}
    assert len(error["message"]) > 15
    everything = answer.head + answer.body
    for secret in (b"127.0.0.1", b"10.1.2.3", b"sk-test", b"<html", b"panicked", b".rs:"):
        assert secret not in everything, f"{secret} is not the caller's business"
    # The gateway itself is well: it answers the next caller.
    assert raw.exchange(front.address, raw.request_bytes("/healthz", method="GET")).status == 200


@pytest.mark.parametrize("case", BAD)
def test_a_bad_answer_is_walked_past(workshop, case):
    """The same trouble at one provider, while another is well: the caller notices nothing."""
    bad, good = workshop.upstream(BAD[case]), workshop.upstream(raw.always(raw.response_bytes(GOOD)))
    config = harness.SERVER + harness.provider("bad", f"{bad.url}/v1", n=1)
    config += harness.provider("good", f"{good.url}/v1", n=1)
    config += '[[route]]\nmodel = "moon"\ntiers = [["bad:m"], ["good:m"]]\n'
    front = workshop.gateway(config)
    for _ in range(3):
        answer = ask(front, "moon")
        assert answer.status == 200 and answer.body == GOOD
    assert bad.requests, "the first tier was tried first"


def test_a_length_that_is_too_short_spoils_no_later_answer(workshop):
    """What follows the announced bytes belongs to nobody. A connection that is used again after it would answer the
    next caller with the rest of this one's answer."""
    stray = raw.response_bytes(b'{"id":"somebody else\'s"}')

    def answer(connection, _request):
        connection.send(raw.response_bytes(GOOD) + stray)
        return True

    front, upstream = workshop.in_front_of(answer)
    for _ in range(5):
        got = ask(front, "lab:m")
        assert got.status == 200 and got.body == GOOD
    assert len(upstream.requests) == 5


def test_an_early_answer_to_a_request_that_is_still_being_sent(workshop):
    """A refusal before the body was read, and then a close: the refusal counts, not the broken pipe."""
    refusal = raw.response_bytes(b'{"error":{"message":"too long","type":"invalid_request_error","code":"x"}}', status="413 Too Large")
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with raw.Connection(sock) as connection:
                try:
                    connection.read_head()
                    connection.send(refusal)
                    sock.shutdown(socket.SHUT_WR)
                    connection.read_to_end()
                except (raw.Closed, OSError):
                    pass

    threading.Thread(target=serve, daemon=True).start()
    url = "http://{}:{}".format(*listener.getsockname())
    front = workshop.gateway(harness.SERVER + harness.provider("lab", f"{url}/v1", n=1))
    answer = ask(front, "lab:m", input="x" * 5_000_000)
    listener.close()
    assert answer.status == 413 and b"too long" in answer.body


# What comes after the first event, which the client already has.
STREAMS = {
    "garbage chunks": b"zzz\r\n",
    "cut in an event": raw.chunked(b'data: {"id":"c","cho', end=False),
    "cut between events": b"",
    "ended without DONE": b"0\r\n\r\n",
    "an event that is no JSON": raw.chunked(b"data: {oops\n\n", end=False),
}


@pytest.mark.parametrize("case", STREAMS)
def test_a_bad_stream_ends_in_an_error_event(workshop, case):
    arrived = threading.Event()

    def answer(connection, _request):
        connection.send(STREAM_HEAD + raw.chunked(EVENT, end=False))
        assert arrived.wait(raw.PATIENCE_S)
        connection.send(STREAMS[case])

    front, _ = workshop.in_front_of(answer)
    with raw.Connection(front.address) as client:
        body = {"model": "lab:m", "messages": [], "stream": True}
        client.send(raw.request_bytes(PATH["openai"], body, AUTH))
        assert client.read_head().status == 200
        got = client.read_piece()
        while EVENT not in got:
            got += client.read_piece()
        arrived.set()
        while piece := client.read_piece():
            got += piece
    assert got.startswith(EVENT) and b"[DONE]" not in got
    last = [e for e in got.split(b"\n\n") if e][-1]
    assert json.loads(last.removeprefix(b"data:"))["error"]["message"]


def test_an_endless_event_does_not_fill_the_memory(workshop):
    def answer(connection, _request):
        connection.send(STREAM_HEAD + raw.chunked(EVENT + b"data: ", end=False))
        for _ in range(3_000):
            connection.send(raw.chunked(b"x" * 65_536, end=False))
        connection.send(b"0\r\n\r\n")
        return True

    front, _ = workshop.in_front_of(answer)
    with raw.Connection(front.address) as client:
        client.send(raw.request_bytes(PATH["openai"], {"model": "lab:m", **BODY["openai"], "stream": True}, AUTH))
        assert client.read_head().status == 200
        size, tail = 0, b""
        while got := client.sock.recv(1 << 20):
            size, tail = size + len(got), (tail + got)[-2_000:]
    # What was not yet written when the end was missed is cut with the rest.
    assert size >= 2_900 * 65_536
    # The event had begun and never ended: no other may follow it, and no proper end makes it look whole.
    assert b'"error"' not in tail and not tail.endswith(b"0\r\n\r\n")
    with open(f"/proc/{front.child.pid}/status") as status:
        (peak,) = [int(line.split()[1]) for line in status if line.startswith("VmHWM")]
    assert peak < 120_000, f"{peak} kB at its peak for 200 MB passed through"


def test_a_plain_answer_to_a_stream_is_relayed(workshop):
    """Some servers ignore `stream`. What they send is still an answer."""
    front, _ = workshop.in_front_of(raw.always(raw.response_bytes(GOOD)))
    answer = ask(front, "lab:m", stream=True)
    assert answer.status == 200 and answer.body == GOOD


def test_an_unreachable_provider(workshop):
    with socket.socket() as bound:
        # Bound and not listening: nobody else gets the port, and connecting is refused.
        bound.bind(("127.0.0.1", 0))
        url = "http://{}:{}".format(*bound.getsockname())
        front = workshop.gateway(harness.SERVER + harness.provider("lab", f"{url}/v1", n=1))
        answer = ask(front, "lab:m")
    assert answer.status in (502, 503) and answer.json["error"]["message"]
    assert b"127.0.0.1" not in answer.body
