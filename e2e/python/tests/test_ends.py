"""How a request can end other than well: time-outs, callers who go away, streams that break, a gateway told to stop."""

import json
import os
import re
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import anthropic
import openai
import pytest

import crashes
import harness
import raw

ASK = [{"role": "user", "content": "How far is the moon?"}]
AUTH = {"Authorization": f"Bearer {harness.TOKEN}"}
MS = 1_000_000


def steered(**steer) -> list[dict]:
    return [{"role": "user", "content": "sim: " + json.dumps(steer)}]


def chat(messages, **more) -> bytes:
    return raw.request_bytes("/v1/chat/completions", {"model": "openai:m", "messages": messages, **more}, AUTH)


@pytest.fixture
def short(world, workshop):
    """A gateway with short patience, in front of two keys of the simulated provider."""
    times = 'timeouts = { first_byte = "300ms", idle = "300ms", total = "3s" }'
    return workshop.gateway(harness.SERVER + harness.provider("openai", f"{world.url}/openai/v1", n=2, more=times))


def sdk(front, **options) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{front.url}/v1", api_key=harness.TOKEN, **{"max_retries": 0, **options})


def test_a_provider_that_never_answers_is_given_up_and_the_sdk_told(world, short):
    before, began = len(world.records("openai")), time.monotonic()
    with sdk(short) as client, pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="openai:m", messages=steered(fault="hang"))
    assert caught.value.status_code == 504 and caught.value.code == "upstream_timeout"
    assert time.monotonic() - began < 5, "within the whole request's time, walking included"
    rows = world.wait("openai", calls=before + 1, open=0)[before:]
    assert rows and all(r["cancelled"] for r in rows), "what was given up is cancelled upstream"


def test_a_hanging_key_is_walked_past(world, workshop):
    silent = workshop.upstream(lambda connection, _: connection.is_closed())
    times = 'timeouts = { first_byte = "300ms" }'
    config = harness.SERVER + harness.provider("slow", f"{silent.url}/v1", n=1, more=times)
    config += harness.provider("openai", f"{world.url}/openai/v1")
    config += '[[route]]\nmodel = "moon"\ntiers = [["slow:m"], ["openai:m"]]\n'
    front = workshop.gateway(config)
    with sdk(front) as client:
        answer = client.chat.completions.with_raw_response.create(model="moon", messages=ASK)
    assert answer.headers["x-keymux-provider"] == "openai" and answer.headers["x-keymux-attempts"] == "2"
    assert len(silent.requests) == 1


def test_plain_calls_at_a_key_that_went_silent_are_moved_long_before_their_time_out(workshop):
    """A plain answer may take ten minutes; that siblings answer, and several calls here get none, tells enough."""
    silent = threading.Event()
    good = raw.response_bytes(b'{"id": "1", "object": "chat.completion", "choices": [], "usage": null}')

    def answer(connection, request) -> bool:
        if silent.is_set() and "lab-1" in request.get("authorization"):
            connection.sock.settimeout(None)
            return connection.is_closed()
        connection.send(good)
        return True

    # In turn, so that the silent key is asked again although its calls are still open.
    front, upstream = workshop.in_front_of(answer, n=3, server='[settings]\nstrategy = "round_robin"\n')
    for _ in range(30):
        assert raw.exchange(front.address, chat(ASK, model="lab:m")).status == 200
    silent.set()
    with ThreadPoolExecutor(24) as pool:
        calls = [pool.submit(raw.exchange, front.address, chat(ASK, model="lab:m")) for _ in range(24)]
        assert [call.result().status for call in calls] == [200] * 24
    there = [r for r in upstream.requests[30:] if "lab-1" in r.get("authorization")]
    assert len(there) >= 3, "or nothing was there to be moved"
    counted = re.search(r'keymux_attempts_total\{[^}]*key="lab-1",outcome="target"\} (\d+)', front.metrics())
    assert counted and int(counted[1]) == len(there)


def test_a_provider_whose_models_never_come_costs_one_call_its_time_and_no_name_a_404(workshop):
    back = threading.Event()
    listed = raw.response_bytes(b'{"object": "list", "data": [{"id": "x", "object": "model"}]}')

    def answer(connection, _) -> bool:
        if not back.is_set():
            connection.sock.settimeout(None)
            return connection.is_closed()
        connection.send(listed)
        return True

    front, upstream = workshop.in_front_of(answer)

    def get(path: str) -> raw.Message:
        return raw.exchange(front.address, raw.request_bytes(path, headers=AUTH, method="GET"))

    assert get("/v1/models").status == 200
    for _ in range(3):
        assert get("/v1/models").json["data"] == []
        unknown = get("/v1/models/lab:x")
        assert unknown.status == 502 and "not known" in unknown.json["error"]["message"], "it may well be there"
    assert len(upstream.requests) == 1, "nobody waits for it again"
    assert get("/v1/models/nobody:x").status in (404, 502)
    back.set()
    deadline = time.monotonic() + raw.PATIENCE_S
    while get("/v1/models/lab:x").status != 200:
        assert time.monotonic() < deadline, "it is asked again, beside"
    assert get("/v1/models/lab:y").status == 404


def test_a_caller_who_leaves_before_any_answer_is_counted_at_the_key(workshop):
    front, upstream = workshop.in_front_of(lambda connection, _: connection.is_closed())
    with raw.Connection(front.address) as caller:
        caller.send(chat(ASK, model="lab:m"))
        upstream.wait_for(1)
    deadline = time.monotonic() + raw.PATIENCE_S
    while not re.search(r'keymux_attempts_total\{[^}]*key="lab-1",outcome="client"\} 1$', front.metrics(), re.M):
        assert time.monotonic() < deadline, front.metrics()


def test_a_stream_that_stalls_ends_in_an_error_event(short):
    fault = {"stall": {"after_events": 3}}
    answer = raw.exchange(short.address, chat(steered(fault=fault, output_tokens=20), stream=True))
    assert answer.status == 200
    assert b'"error"' in answer.body and b"[DONE]" not in answer.body


@pytest.mark.parametrize("clean", [True, False], ids=["properly ended", "cut off"])
def test_a_stream_without_its_end_ends_in_an_error_event_and_no_false_done(gateway, client, clean):
    fault = {"truncate": {"after_events": 3, "clean": clean}}
    answer = raw.exchange(gateway.address, chat(steered(fault=fault, output_tokens=20), stream=True))
    assert answer.status == 200, "the caller already has output; nothing may be spliced to it"
    events = [e for e in answer.body.split(b"\n\n") if e.startswith(b"data:")]
    assert "error" in json.loads(events[-1].removeprefix(b"data:")) and b"[DONE]" not in answer.body
    with pytest.raises(openai.APIError):
        with client.chat.completions.create(
            model="openai:m", messages=steered(fault=fault, output_tokens=20), stream=True
        ) as stream:
            list(stream)


def test_a_broken_anthropic_stream_ends_in_anthropics_error_event(claude):
    fault = {"truncate": {"after_events": 3}}
    with pytest.raises(anthropic.APIStatusError):
        with claude.messages.stream(
            model="claude-test", max_tokens=50, messages=steered(fault=fault, output_tokens=20)
        ) as stream:
            stream.get_final_message()


def test_a_stream_that_breaks_before_any_output_is_served_by_another_key(gateway, world):
    """Held back until the first real output, so the caller sees one whole stream."""
    world.inject(provider="openai", fault={"to_call": 1, "kind": {"error_event": {"after_events": 0}}})
    before = len(world.records("openai"))
    answer = raw.exchange(gateway.address, chat(steered(text="whole"), stream=True))
    assert b"[DONE]" in answer.body and b'"error"' not in answer.body
    assert [r["fault"] for r in world.records("openai")[before:]] == ["error_event", None]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
def test_a_caller_who_goes_away_cancels_the_upstream_call_at_once(gateway, world, stream):
    before = len(world.records("openai"))
    slow = {"output_tokens": 2000, "per_token_ms": 20, "ttft_ms": 50}
    with raw.Connection(gateway.address) as client:
        client.send(chat(steered(**slow), stream=stream, max_tokens=4000))
        if stream:
            client.read_head()
            client.read_piece()
        world.wait("openai", calls=before + 1)
        gone = time.monotonic_ns()
        client.sock.shutdown(socket.SHUT_RDWR)
    rows = world.wait("openai", calls=before + 1, open=0)
    told = time.monotonic_ns()
    record = rows[before]
    assert record["cancelled"] and record["output_tokens"] < 2000
    # By our clock, including the question: the provider's own record holds the instant at which it noticed.
    assert (told - gone) / MS < 100, f"noticed after {(told - gone) / MS:.0f} ms"


def test_an_sdk_that_closes_its_stream_cancels_the_upstream_call(client, world):
    before = len(world.records("openai"))
    with client.chat.completions.create(
        model="openai:m", messages=steered(output_tokens=2000, per_token_ms=20), max_tokens=4000, stream=True
    ) as stream:
        next(iter(stream))
    assert world.wait("openai", calls=before + 1, open=0)[before]["cancelled"]


def test_an_sdk_that_times_out_cancels_the_upstream_call(gateway, world):
    before = len(world.records("openai"))
    with sdk(gateway, timeout=0.3) as client, pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(model="openai:m", messages=steered(delay_ms=60_000))
    assert world.wait("openai", calls=before + 1, open=0)[before]["cancelled"]


def test_a_caller_who_reads_nothing_holds_no_key_for_ever(workshop):
    """Its stream is stopped by back pressure, not buffered, and after `body_timeout` the connection is closed."""
    closed, sent = threading.Event(), []
    event = b'data: {"choices":[{"index":0,"delta":{"content":"' + b"x" * 4_000 + b'"}}]}\n\n'

    def endless(connection, _request):
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        try:
            while len(sent) < 100_000:
                connection.send(event)
                sent.append(1)
        except OSError:
            closed.set()

    front, _ = workshop.in_front_of(endless, server='body_timeout = "500ms"\n')
    with raw.Connection(front.address) as client:
        client.send(chat([{"role": "user", "content": "hi"}], model="lab:m", stream=True))
        client.read_head()
        assert closed.wait(raw.PATIENCE_S), "the provider's stream is still open"
        assert len(sent) < 100_000, "the whole stream was swallowed"


def test_a_waiter_who_goes_away_leaves_the_queue(world, workshop):
    """Were the place kept, the upstream would be called for nobody as soon as the slot is free."""
    limits = 'limits = [{ concurrent = 1 }]'
    front = workshop.gateway(harness.SERVER + harness.provider("openai", f"{world.url}/openai/v1", n=1, more=limits))
    before = len(world.records("openai"))
    with raw.Connection(front.address) as first, raw.Connection(front.address) as second:
        first.send(chat(steered(output_tokens=2000, per_token_ms=20), stream=True, max_tokens=4000))
        first.read_head()
        second.send(chat(steered(text="for nobody")))
        waiting = time.monotonic() + raw.PATIENCE_S
        while not re.search(r"^keymux_waiting\w*(\{[^}]*\})? [1-9]", front.metrics(), re.M):
            assert time.monotonic() < waiting, front.metrics()
        second.sock.shutdown(socket.SHUT_RDWR)
        while re.search(r"^keymux_waiting\w*(\{[^}]*\})? [1-9]", front.metrics(), re.M):
            assert time.monotonic() < waiting, front.metrics()
    with raw.Connection(front.address) as third:
        third.send(chat(steered(text="for somebody")))
        assert third.read_message().status == 200
    assert len(world.records("openai")) == before + 2


def test_sigterm_finishes_what_is_in_flight_and_refuses_the_rest(world, workshop):
    front = workshop.gateway(harness.SERVER + harness.provider("openai", f"{world.url}/openai/v1", n=1))
    with raw.Connection(front.address) as streaming, raw.Connection(front.address) as idle:
        streaming.send(chat(steered(output_tokens=150, per_token_ms=5, text=None), stream=True))
        streaming.read_head()
        # A connection that was open before: after the signal it gets an answer and a close, never silence.
        idle.send(raw.request_bytes("/healthz", method="GET"))
        assert idle.read_message().status == 200
        front.child.send_signal(signal.SIGTERM)
        front.alive = lambda: True
        # Until the signal has been noticed it is an ordinary gateway.
        status = 200
        while status == 200:
            ready = raw.exchange(front.address, raw.request_bytes("/readyz", method="GET"))
            status = ready.status
        assert status == 503 and ready.get("connection") == "close"
        idle.send(chat(ASK))
        refused = idle.read_message()
        assert refused.status == 503 and int(refused.get("retry-after")) >= 1
        assert refused.get("connection") == "close" and idle.is_closed()
        body = b""
        while piece := streaming.read_piece():
            body += piece
    assert b"[DONE]" in body and b'"error"' not in body, "what was in flight is finished"
    assert front.child.wait(raw.PATIENCE_S) == 0


def large_answers(workshop, server=""):
    """A gateway whose provider answers with more than the sockets on the way can hold."""
    answer = json.dumps({"id": "1", "choices": [], "filler": "x" * (7 << 20)}).encode()
    upstream = workshop.upstream(lambda connection, _: connection.send(raw.response_bytes(answer)) or True)
    settings = harness.SERVER + server
    return workshop.gateway(settings + harness.provider("lab", f"{upstream.url}/v1", n=1)), len(answer)


def unhurried(address) -> raw.Connection:
    """A caller whose own system takes little off its hands."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
    sock.settimeout(raw.PATIENCE_S)
    sock.connect(address)
    return raw.Connection(sock)


def in_flight(front) -> int:
    return int(re.search(r"^keymux_in_flight_requests (\d+)", front.metrics(), re.M)[1])


def test_sigterm_lets_an_answer_be_read_to_its_end(workshop):
    """Its story is over as soon as it is handed to the connection; its bytes are not."""
    front, size = large_answers(workshop)
    with unhurried(front.address) as slow:
        slow.send(chat(ASK, model="lab:m"))
        length = int(slow.read_head().get("content-length"))
        assert length == size
        deadline = time.monotonic() + raw.PATIENCE_S
        while in_flight(front):
            assert time.monotonic() < deadline, "the story does not end"
        front.child.send_signal(signal.SIGTERM)
        front.alive = lambda: True
        while "stopping" not in front.log():
            assert time.monotonic() < deadline, front.log()
        assert len(slow.read_exactly(length)) == size
    assert front.child.wait(raw.PATIENCE_S) == 0
    assert "requests in flight" not in front.log()


def test_a_slow_reader_of_a_plain_answer_is_not_idle(workshop):
    """`keep_alive` is for connections on which nothing happens."""
    front, size = large_answers(workshop, 'keep_alive = "500ms"\nbody_timeout = "20s"\n')
    with unhurried(front.address) as slow, raw.Connection(front.address) as idle:
        slow.send(chat(ASK, model="lab:m"))
        length = int(slow.read_head().get("content-length"))
        # A connection that really is idle, from later on, tells that the time is over.
        idle.send(raw.request_bytes("/healthz", method="GET"))
        assert idle.read_message().status == 200 and idle.is_closed()
        assert len(slow.read_exactly(length)) == size
        # And it goes on as any other.
        slow.send(raw.request_bytes("/healthz", method="GET"))
        assert slow.read_message().status == 200 and slow.is_closed()


def test_sighup_reloads_whole_or_not_at_all(world, workshop):
    front = workshop.gateway(harness.SERVER + harness.provider("openai", f"{world.url}/openai/v1", n=1))
    good = front.config.read_text()

    def models() -> set[str]:
        answer = raw.exchange(front.address, raw.request_bytes("/v1/models", headers=AUTH, method="GET"))
        return {m["id"] for m in answer.json["data"]}

    def reloaded(text: str, condition):
        front.config.write_text(text)
        front.child.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + raw.PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, front.log()

    reloaded(good + '\n[[route]]\nmodel = "moon"\ntiers = [["openai:m"]]\n', lambda: "moon" in models())
    # A file with one mistake changes nothing, and says so.
    reloaded(good + '\n[[route]]\nmodel = "sun"\ntiers = [["nobody:m"]]\n', lambda: "nobody" in front.log())
    assert "moon" in models() and "sun" not in models()
    reloaded(good, lambda: "moon" not in models())


def test_a_gateway_whose_standard_error_nobody_takes_goes_on(workshop):
    """The task that writes its lines also tells of events and keeps the calendar that budgets are reset by."""
    read, write = os.pipe()
    os.close(read)
    refusal = b'{"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}}'
    upstream = workshop.upstream(raw.always(raw.response_bytes(refusal, status="401 Unauthorized")))
    config = harness.SERVER + harness.provider("lab", f"{upstream.url}/v1", n=2) + "[log]\nrequests = true\n"
    with os.fdopen(write, "wb") as errors:
        front = workshop.gateway(config, errors=errors)
    with sdk(front) as client, pytest.raises(openai.APIStatusError):
        client.chat.completions.create(model="lab:m", messages=ASK)
    assert len(crashes.happened(front, "key benched", 2)) == 2
