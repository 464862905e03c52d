"""What callers get wrong or do on purpose. Each is answered clearly in the endpoint's dialect or cut off, reaches no
provider, and leaves a gateway that serves the next request."""

import json
import re
import socket

import pytest

import harness
import raw

AUTH = {"Authorization": f"Bearer {harness.TOKEN}"}
OPENAI, ANTHROPIC = "/v1/chat/completions", "/v1/messages"
GOOD = {"model": "lab:m", "max_tokens": 5, "messages": [{"role": "user", "content": "hello"}]}
ANSWER = raw.response_bytes(b'{"id":"1","object":"chat.completion","choices":[],"usage":{"prompt_tokens":1}}')
LIMITS = 'body_bytes_max = 100_000\nhead_bytes_max = 16_384\nheader_timeout = "500ms"\nbody_timeout = "500ms"\n'


@pytest.fixture(scope="module")
def front(tmp_path_factory):
    """One gateway for all of them: what one request breaks, another would notice."""
    lab, lab_a = raw.Upstream(raw.always(ANSWER)), raw.Upstream(raw.always(ANSWER))
    config = harness.SERVER + LIMITS + harness.provider("lab", f"{lab.url}/v1", n=1)
    config += harness.provider("claude", f"{lab_a.url}/v1", dialect="anthropic", n=1)
    made = harness.Gateway(config, tmp_path_factory.mktemp("bad"))
    made.upstreams = [lab, lab_a]
    yield made
    assert made.alive(), f"the gateway died:\n{made.log()}"
    made.stop()
    assert "panicked" not in made.log(), made.log()
    for upstream in made.upstreams:
        upstream.close()


def calls(upstream: raw.Upstream) -> list[raw.Message]:
    """Calls to models; the gateway also asks for the list of models, when it likes."""
    return [r for r in upstream.requests if r.first.startswith("POST")]


@pytest.fixture(autouse=True)
def nothing_lost(front):
    """No provider was called for a bad request, and a good one on a new connection is served right afterwards."""
    before = [len(calls(u)) for u in front.upstreams]
    yield
    assert [len(calls(u)) for u in front.upstreams] == before, "a bad request must not reach a provider"
    answer = raw.exchange(front.address, raw.request_bytes(OPENAI, GOOD, AUTH))
    assert answer.status == 200
    (seen,) = calls(front.upstreams[0])[before[0] :]
    assert seen.json == {**GOOD, "model": "m"}


def ask(front, path: str, body: bytes | dict, headers: dict[str, str] | None = None) -> raw.Message:
    return raw.exchange(front.address, raw.request_bytes(path, body, {**AUTH, **(headers or {})}))


def told(answer: raw.Message, path: str, status: int, *words: str) -> dict:
    """Checks status, envelope and that the message says what is wrong; returns the inner error."""
    assert answer.status == status, answer.body
    assert answer.get("content-type") == "application/json"
    body = answer.json
    if path.startswith(ANTHROPIC):
        assert body["type"] == "error" and set(body["error"]) >= {"type", "message"}
    elif path.startswith("/api/v1/"):
        assert body["error"]["code"] == status and body["error"]["message"] and body["error"]["metadata"]["error_type"]
    else:
        assert set(body["error"]) >= {"message", "type", "param", "code"}
    for word in words:
        assert re.search(word, json.dumps(body["error"]), re.I), f"{word!r} is not said: {body}"
    assert harness.TOKEN not in answer.body.decode() and "127.0.0.1" not in answer.body.decode()
    return body["error"]


BODIES = {
    "no JSON": (b"{model: lab:m}", "JSON"),
    "cut off": (b'{"model":"lab:m","messages":[', "JSON"),
    "empty": (b"", "JSON|empty"),
    "a list": (b'["lab:m"]', "object|JSON"),
    "a string": (b'"lab:m"', "object|JSON"),
    "something behind it": (b'{"model":"lab:m","messages":[]} {}', "JSON|trailing"),
    "Latin-1": (b'{"model":"lab:m","messages":[{"role":"user","content":"caf\xe9"}]}', "UTF-8"),
    "half a surrogate in the model": (b'{"model":"lab:\\ud83e","messages":[]}', "model|JSON|surrogate"),
    "UTF-16": ('{"model":"lab:m"}'.encode("utf-16"), "UTF-8|JSON"),
    "a BOM": (b"\xef\xbb\xbf" + b'{"model":"lab:m","messages":[]}', "JSON|BOM|UTF-8"),
    "no model": (b'{"messages":[]}', "model"),
    "a number as model": (b'{"model":4,"messages":[]}', "model.*string"),
    "null as model": (b'{"model":null,"messages":[]}', "model"),
    "a list as model": (b'{"model":["lab:m"],"messages":[]}', "model.*string"),
    "an empty model": (b'{"model":"","messages":[]}', "model"),
    "the model twice": (b'{"model":"lab:m","messages":[],"model":"lab:dear"}', "model.*(twice|duplicate)|(twice|duplicate).*model"),
    "the model twice, escaped": (b'{"model":"lab:m","messages":[],"\\u006dodel":"lab:dear"}', "twice|duplicate"),
    "max_tokens twice": (b'{"model":"lab:m","max_tokens":1,"messages":[],"max_tokens":9999999}', "twice|duplicate"),
    "stream twice, escaped": (b'{"model":"lab:m","stream":false,"messages":[],"str\\u0065am":true}', "twice|duplicate"),
    "stream as a string": (b'{"model":"lab:m","messages":[],"stream":"yes"}', "stream"),
}


@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC], ids=["openai", "anthropic"])
@pytest.mark.parametrize("case", BODIES)
def test_a_bad_body(front, case, path):
    body, word = BODIES[case]
    if path == ANTHROPIC:
        body = body.replace(b"lab:", b"claude:")
    error = told(ask(front, path, body), path, 400, word)
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC], ids=["openai", "anthropic"])
@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "zstd", "identity, gzip"])
def test_an_encoded_body(front, path, coding):
    told(ask(front, path, b"\x1f\x8b\x08\x00", {"Content-Encoding": coding}), path, 415, "compress|encod")


@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC], ids=["openai", "anthropic"])
def test_a_body_over_the_limit_is_refused_before_it_is_sent(front, path):
    """The caller announces it and waits: an answer that comes only after the body would never come."""
    head = raw.request_bytes(path, headers={**AUTH, "Content-Type": "application/json", "Content-Length": "100001"})
    with raw.Connection(front.address) as client:
        client.send(head)
        told(client.read_message(), path, 413, "body|large", "100.?000")


def test_a_chunked_body_over_the_limit(front):
    head = raw.request_bytes(OPENAI, headers={**AUTH, "Transfer-Encoding": "chunked"})
    with raw.Connection(front.address) as client:
        client.send(head + raw.chunked(b"x" * 60_000, end=False))
        try:
            client.send(raw.chunked(b"x" * 60_000, end=False))
        except ConnectionError:
            pass
        told(client.read_message(), OPENAI, 413, "body|large")


def test_a_body_of_exactly_the_limit_is_served(front):
    filler = 100_000 - len(json.dumps({**GOOD, "x": ""}))
    body = json.dumps({**GOOD, "x": "y" * filler}).encode()
    assert len(body) == 100_000
    assert ask(front, OPENAI, body).status == 200
    front.upstreams[0].requests.pop()


def test_deep_nesting_harms_nobody(front):
    """Passed on as it is or refused; a parser that recurses falls over, and takes the process with it."""
    body = b'{"model":"lab:m","messages":' + b"[" * 40_000 + b"]" * 40_000 + b"}"
    answer = ask(front, OPENAI, body)
    if answer.status == 200:
        assert front.upstreams[0].requests.pop().body == body.replace(b"lab:m", b"m")
    else:
        told(answer, OPENAI, 400)


def ends(client: raw.Connection, *statuses: int):
    """The gateway answers with one of these or just closes; and it closes, whatever it answered."""
    try:
        answer = client.read_message()
        assert answer.status in statuses, answer.head
        assert client.is_closed()
    except (raw.Closed, ConnectionError):
        pass


def test_a_chunked_body_that_stops(front):
    head = raw.request_bytes(OPENAI, headers={**AUTH, "Transfer-Encoding": "chunked"})
    with raw.Connection(front.address) as client:
        client.send(head + b'20\r\n{"model":"lab:m"')
        ends(client, 408)


def test_a_body_that_stops_is_told_so(front):
    with raw.Connection(front.address) as client:
        client.send(raw.request_bytes(OPENAI, headers={**AUTH, "Content-Length": "500"}) + b'{"model":"lab:m"')
        told(client.read_message(), OPENAI, 408, "body")
        assert client.is_closed()


def test_a_caller_who_leaves_in_the_middle_of_a_body(front):
    for linger in (False, True):
        with raw.Connection(front.address) as client:
            client.send(raw.request_bytes(OPENAI, headers={**AUTH, "Content-Length": "500"}) + b'{"model":"lab:m"')
            if linger:
                client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def test_slow_headers(front):
    with raw.Connection(front.address) as client:
        client.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        ends(client, 408)


def test_nothing_at_all(front):
    with raw.Connection(front.address) as client:
        ends(client, 408)


@pytest.mark.parametrize(
    "flood",
    [
        pytest.param("".join(f"X-{i}: {i}\r\n" for i in range(3_000)), id="many"),
        pytest.param("X-Long: " + "y" * 300_000 + "\r\n", id="long"),
    ],
)
def test_a_header_flood(front, flood):
    with raw.Connection(front.address) as client:
        try:
            client.send(f"POST {OPENAI} HTTP/1.1\r\nHost: localhost\r\n{flood}\r\n".encode())
        except ConnectionError:
            return
        ends(client, 400, 431)


def test_an_endless_request_line(front):
    with raw.Connection(front.address) as client:
        try:
            client.send(b"POST /" + b"a" * 300_000)
        except ConnectionError:
            return
        ends(client, 400, 408, 414, 431)


INNER = b'{"model":"lab:m","messages":[]}'
SMUGGLED = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
SMUGGLING = {
    "length and chunked": ("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + SMUGGLED),
    "chunked and length": ("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", b"0\r\n\r\n" + SMUGGLED),
    "two lengths": ("Content-Length: 31\r\nContent-Length: 5\r\n", INNER + SMUGGLED),
    "a list of lengths": ("Content-Length: 31, 5\r\n", INNER + SMUGGLED),
    "a negative length": ("Content-Length: -1\r\n", INNER),
    "a signed length": ("Content-Length: +31\r\n", INNER),
    "a hexadecimal length": ("Content-Length: 0x1f\r\n", INNER),
    "a length beyond 64 bits": ("Content-Length: 18446744073709551647\r\n", INNER),
    "an empty length": ("Content-Length: \r\n", INNER),
    "chunked not last": ("Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n" + SMUGGLED),
    "an unknown coding": ("Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n" + SMUGGLED),
    "chunked twice": ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + SMUGGLED),
    "identity beside a length": ("Transfer-Encoding: identity\r\nContent-Length: 31\r\n", INNER),
    "a folded header": ("X-A: b\r\n c\r\nContent-Length: 31\r\n", INNER),
    "a folded coding": ("Transfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n" + SMUGGLED),
    "a space before the colon": ("Content-Length : 31\r\n", INNER),
    "a header without a name": (": 31\r\nContent-Length: 31\r\n", INNER),
    "a bare return in a value": ("X-A: b\rc\r\nContent-Length: 31\r\n", INNER),
    "a zero byte in a value": ("X-A: b\0c\r\nContent-Length: 31\r\n", INNER),
}


@pytest.mark.parametrize("form", SMUGGLING)
def test_request_smuggling(front, form):
    """Refused, or read in the one way that every proxy before us would; never two requests out of one. The gateway
    closes afterwards, so that whatever follows is nobody's."""
    headers, body = SMUGGLING[form]
    with raw.Connection(front.address) as client:
        # Longer than the gateway waits for anything here.
        client.sock.settimeout(3)
        head = f"POST {OPENAI} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {harness.TOKEN}\r\n{headers}\r\n"
        client.send(head.encode("latin-1") + body)
        try:
            everything = client.read_to_end()
        except TimeoutError:
            pytest.fail(f"the connection stays open after {client.buffer}")
    statuses = re.findall(rb"HTTP/1\.[01] (\d+)", everything)
    assert len(statuses) <= 1 and all(s in (b"400", b"411", b"415", b"501") for s in statuses), everything


CHUNKS = {
    "no hexadecimal size": b"zz\r\n" + INNER + b"\r\n0\r\n\r\n",
    "a size beyond 64 bits": b"1000000000000001f\r\n" + INNER + b"\r\n0\r\n\r\n",
    "a negative size": b"-1f\r\n" + INNER + b"\r\n0\r\n\r\n",
    "a size with 0x": b"0x1f\r\n" + INNER + b"\r\n0\r\n\r\n",
    "too small a size": b"1e\r\n" + INNER + b"\r\n0\r\n\r\n",
    "no size": b"\r\n" + INNER + b"\r\n0\r\n\r\n",
    "an endless extension": b"1f;" + b"e" * 200_000 + b"\r\n" + INNER + b"\r\n0\r\n\r\n",
    "endless trailers": b"1f\r\n" + INNER + b"\r\n0\r\n" + b"T: t\r\n" * 30_000 + b"\r\n",
}


@pytest.mark.parametrize("form", CHUNKS)
def test_bad_chunks(front, form):
    with raw.Connection(front.address) as client:
        try:
            client.send(raw.request_bytes(OPENAI, headers={**AUTH, "Transfer-Encoding": "chunked"}) + CHUNKS[form])
        except ConnectionError:
            return
        ends(client, 400, 408, 413, 431)


@pytest.mark.parametrize(
    "line",
    [
        b"POST /v1/chat/completions HTTP/1.2\r\n",
        b"POST /v1/chat/completions HTTP/2.0\r\n",
        b"POST /v1/chat/completions\r\n",
        b"POST  /v1/chat/completions HTTP/1.1\r\n",
        b"GET\x00/ HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\xff\xfe\xfd\xfc\r\n\r\n",
    ],
)
def test_what_is_no_http_1(front, line):
    with raw.Connection(front.address) as client:
        client.send(line + b"Host: localhost\r\n\r\n")
        ends(client, 400, 404, 405, 501, 505)


def test_http_1_0_is_served_without_chunks_and_closed(front):
    body = json.dumps(GOOD).encode()
    head = f"POST {OPENAI} HTTP/1.0\r\nAuthorization: Bearer {harness.TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n"
    with raw.Connection(front.address) as client:
        client.send(head.encode() + body)
        answer = client.read_message()
        assert answer.status == 200 and answer.get("transfer-encoding") is None
        assert client.is_closed()
    front.upstreams[0].requests.pop()


def test_no_host(front):
    with raw.Connection(front.address) as client:
        client.send(f"POST {OPENAI} HTTP/1.1\r\nContent-Length: {len(INNER)}\r\n\r\n".encode() + INNER)
        told(client.read_message(), OPENAI, 400, "Host")


@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC, "/v1/embeddings", "/api/v1/responses"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_a_wrong_method(front, path, method):
    answer = raw.exchange(front.address, raw.request_bytes(path, headers=AUTH, method=method))
    told(answer, path, 405, "POST")
    assert answer.get("allow") == "POST"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/",
        "/v1/chat",
        "/v1/chat/completions/../../admin",
        "/v1/%63hat/completions/x",
        "/v2/chat/completions",
        "/v1/keys/abc/def",
        "/api/v1/credits/coinbase",
        "/v1/organization/api_keys",
        "/v1/files",
        "/v1/fine_tuning/jobs",
        "/metrics",
        "/admin",
        "/v1/models/../../metrics",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_wrong_path(front, path, method):
    answer = raw.exchange(front.address, raw.request_bytes(path, INNER, AUTH, method))
    assert answer.status in (404, 405) and answer.json["error"]["message"]


@pytest.mark.parametrize("path", ["//v1/chat/completions", "/v1//chat//completions/", "/api/v1/chat/completions/"])
def test_empty_segments_of_a_path_do_not_matter(front, path):
    assert ask(front, path, GOOD).status == 200
    assert front.upstreams[0].requests.pop().target == "/v1/chat/completions"


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic a2V5"}, {"x-api-key": ""}])
def test_a_stranger_learns_nothing(front, headers):
    for path in (OPENAI, ANTHROPIC, "/v1/never"):
        answer = raw.exchange(front.address, raw.request_bytes(path, b"not even JSON", headers))
        assert answer.status in (401, 404), answer.body
    answer = raw.exchange(front.address, raw.request_bytes("/v1/models", headers=headers, method="GET"))
    assert answer.status == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"x-keymux-max-wait": "soon"},
        {"x-keymux-timeout": "-3s"},
        {"x-keymux-priority": "highest of all"},
        {"x-keymux-providers": "order=;;=nobody"},
    ],
)
def test_a_header_of_ours_that_cannot_be_understood(front, headers):
    (name,) = headers
    told(ask(front, OPENAI, GOOD, headers), OPENAI, 400, name)


def test_a_connection_survives_a_bad_request_that_was_whole(front):
    """Well framed but wrong: keep-alive goes on, for a caller with one bad request among many."""
    with raw.Connection(front.address) as client:
        client.send(raw.request_bytes(OPENAI, b"{", AUTH))
        assert client.read_message().status == 400
        client.send(raw.request_bytes("/v1/nowhere", b"{}", AUTH))
        assert client.read_message().status == 404
        client.send(raw.request_bytes("/healthz", method="GET"))
        assert client.read_message().status == 200


def test_pipelined_requests_are_answered_in_order(front):
    with raw.Connection(front.address) as client:
        client.send(raw.request_bytes("/healthz", method="GET") + raw.request_bytes("/v1/nowhere", headers=AUTH, method="GET"))
        assert [client.read_message().status for _ in range(2)] == [200, 404]
