"""Spans as a collector receives them, read with OpenTelemetry's own types and laid beside the conventions: HTTP server
spans, GenAI client spans, W3C Trace Context.
"""

import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

import crashes
import harness
import raw

AUTH = {"Authorization": f"Bearer {harness.TOKEN}"}
PROMPT = "the dog's name is Rex"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TAKEN = raw.response_bytes(ExportTraceServiceResponse().SerializeToString(), headers={"Content-Type": "application/x-protobuf"})
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10, "prompt_tokens_details": {"cached_tokens": 2}}
CHAT = {"id": "chatcmpl-9", "object": "chat.completion", "model": "m", "usage": USAGE,
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Rex"}}]}


def told(span) -> dict:
    """Its attributes as Python's values."""
    values = {}
    for pair in span.attributes:
        assert pair.key not in values, f"{pair.key} twice"
        values[pair.key] = getattr(pair.value, pair.value.WhichOneof("value"))
    return values


class Collector:
    """Takes spans; `spans` by the trace that they belong to."""

    def __init__(self, workshop, answer=None):
        self.upstream = workshop.upstream(answer or raw.always(TAKEN))
        self.url = self.upstream.url

    def batches(self) -> list[ExportTraceServiceRequest]:
        return [ExportTraceServiceRequest.FromString(request.body) for request in self.upstream.requests]

    def requests(self) -> list[tuple]:
        """The request's own span and those of its attempts, one such pair for each request."""
        spans = [span for batch in self.batches() for of in batch.resource_spans for scope in of.scope_spans for span in scope.spans]
        ids = [span.span_id for span in spans]
        assert len(set(ids)) == len(ids), "an id stands for one span"
        servers = [span for span in spans if span.kind == Span.SPAN_KIND_SERVER]
        clients = [span for span in spans if span.kind == Span.SPAN_KIND_CLIENT]
        assert len(servers) + len(clients) == len(spans)
        found = []
        for server in servers:
            own = sorted((c for c in clients if c.parent_span_id == server.span_id), key=lambda c: c.start_time_unix_nano)
            found.append((server, own))
        assert sum(len(own) for _, own in found) == len(clients), "no attempt without its request"
        return found

    def wait(self, answer: raw.Message) -> tuple:
        """The spans of the request that had this answer."""
        wanted = answer.get("x-request-id")

        def find():
            return next((pair for pair in self.requests() if told(pair[0])["keymux.request_id"] == wanted), None)

        with self.upstream.arrived:
            assert self.upstream.arrived.wait_for(find, raw.PATIENCE_S), f"no span of {wanted}"
        server, clients = found = find()
        for span in [server, *clients]:
            assert span.trace_id == server.trace_id and len(span.trace_id) == 16 and len(span.span_id) == 8
            assert server.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
            assert span.end_time_unix_nano <= server.end_time_unix_nano
            assert span.flags & 0x1FF == 0x101, "sampled, and whether the parent is remote is known"
            failed = span.status.code == Status.STATUS_CODE_ERROR
            assert ("error.type" in told(span)) == failed, "error.type stands where the status is an error"
            assert span.status.code != Status.STATUS_CODE_OK, "which is for applications to say"
        for client in clients:
            assert client.flags & 0x200 == 0, "its parent is in the same process"
        return found


def until(holds):
    """Looks until it is so."""
    deadline = time.monotonic() + raw.PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "it never came to be"


def traced(collector: Collector, more: str = "") -> str:
    return f'[traces]\nendpoint = "{collector.url}"\nheaders = {{ x-collector-key = "literal:sk-test-collector" }}\n{more}\n'


def ask(front, model: str, *, headers: dict | None = None, path="/v1/chat/completions", **more) -> raw.Message:
    body = {"model": model, "messages": [{"role": "user", "content": PROMPT}], **more}
    return raw.exchange(front.address, raw.request_bytes(path, body, {**AUTH, **(headers or {})}))


def steer(**what) -> dict:
    return {"messages": [{"role": "user", "content": "sim: " + json.dumps({**what, "note": PROMPT})}]}


def test_a_plain_call_is_a_server_span_of_the_callers_trace_and_a_client_span(workshop):
    collector = Collector(workshop)
    front, _ = workshop.in_front_of(raw.always(raw.response_bytes(json.dumps(CHAT).encode())), server=traced(collector))
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"}
    answer = ask(front, "lab:m", headers=headers)
    server, (client,) = collector.wait(answer)

    assert (server.trace_id.hex(), server.parent_span_id.hex()) == (TRACE, PARENT)
    assert server.trace_state == client.trace_state == "vendor=1" and server.flags & 0x200
    assert (server.name, client.name) == ("POST /v1/chat/completions", "chat m")
    assert told(server) == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "url.path": "/v1/chat/completions",
        "url.scheme": "http",
        "http.response.status_code": 200,
        "keymux.request_id": answer.get("x-request-id"),
        "keymux.model": "lab:m",
        "keymux.outcome": "answered",
        "keymux.attempts": 1,
        "keymux.queue_ms": 0,
    }
    host, port = re.search(r'base_url = "http://([\d.]+):(\d+)', front.config.read_text()).groups()
    assert told(client) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "m",
        "gen_ai.response.id": "chatcmpl-9",
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.usage.cache_read.input_tokens": 2,
        "server.address": host,
        "server.port": int(port),
        "http.response.status_code": 200,
        "keymux.provider": "lab",
        "keymux.key": "lab-1",
        "keymux.attempt": 1,
        "keymux.waited_ms": 0,
    }

    (sent,) = collector.upstream.requests
    assert sent.target == "/v1/traces" and sent.get("content-type") == "application/x-protobuf"
    assert sent.get("x-collector-key") == "sk-test-collector"
    (of,) = collector.batches()[0].resource_spans
    assert {pair.key: pair.value.string_value for pair in of.resource.attributes}["service.name"] == "keymux"
    assert of.scope_spans[0].scope.name == "keymux"
    for secret in (PROMPT, "Rex", "sk-test", harness.TOKEN):
        assert secret.encode() not in sent.body, secret
    until(lambda: "keymux_traces_sent_total 1" in front.metrics())


def test_a_stream_tells_when_its_first_chunk_came_and_what_it_used(world, workshop):
    collector = Collector(workshop)
    front = workshop.gateway(harness.SERVER + traced(collector) + harness.provider("anthropic", f"{world.url}/anthropic/v1", dialect="anthropic"))
    answer = ask(front, "anthropic:m", path="/v1/messages", stream=True, max_tokens=50, **steer(output_tokens=12))
    assert answer.status == 200
    server, (client,) = collector.wait(answer)
    said = told(client)
    assert (server.name, client.name) == ("POST /v1/messages", "chat m")
    assert said["gen_ai.request.stream"] is True and said["gen_ai.provider.name"] == "anthropic"
    assert said["gen_ai.usage.output_tokens"] == 12 and said["gen_ai.usage.input_tokens"] > 0
    took = (client.end_time_unix_nano - client.start_time_unix_nano) / 1e9
    assert 0 < said["gen_ai.response.time_to_first_chunk"] <= took
    assert not server.parent_span_id, "nobody said that it belongs to another trace"


def test_a_failover_is_a_client_span_for_each_attempt_and_tokens_count_once(world, workshop):
    collector = Collector(workshop)
    two = harness.provider("openai", f"{world.url}/openai/v1", n=2).replace("sk-test-openai-1", "sk-test-revoked")
    route = '[[route]]\nmodel = "m"\ntiers = [[{ target = "openai:m", keys = ["openai-1"] }], [{ target = "openai:m", keys = ["openai-2"] }]]\n'
    front = workshop.gateway(harness.SERVER + traced(collector) + two + route)
    answer = ask(front, "m")
    server, (first, second) = collector.wait(answer)
    assert told(server)["keymux.attempts"] == 2 and server.status.code == Status.STATUS_CODE_UNSET
    assert first.status.code == Status.STATUS_CODE_ERROR and first.status.message.startswith("401")
    failed, answered = told(first), told(second)
    assert (failed["error.type"], failed["http.response.status_code"]) == ("key_refused", 401)
    assert (failed["keymux.blame"], failed["keymux.key"], failed["keymux.attempt"]) == ("key", "openai-1", 1)
    assert (answered["keymux.key"], answered["keymux.attempt"]) == ("openai-2", 2)
    assert first.end_time_unix_nano <= second.start_time_unix_nano
    usage = answer.json["usage"]
    assert answered["gen_ai.usage.input_tokens"] == usage["prompt_tokens"]
    assert not any(name.startswith("gen_ai.usage") for name in [*failed, *told(server)]), "sums over spans stay true"


def test_refusals_are_the_clients_below_500_and_ours_from_there_on(world, workshop):
    collector = Collector(workshop)
    limited = harness.provider("openai", f"{world.url}/openai/v1", n=1, more='limits = [{ requests = 1, per = "1h" }]')
    nowhere = harness.provider("gone", "http://127.0.0.1:1/v1", n=1)
    front = workshop.gateway(harness.SERVER + 'max_wait = "0s"\n' + traced(collector) + limited + nowhere)
    assert ask(front, "openai:m").status == 200
    refused = ask(front, "openai:m")
    server, clients = collector.wait(refused)
    assert refused.status == 429 and clients == []
    assert told(server)["keymux.refusal"] == refused.json["error"]["code"] and told(server)["keymux.outcome"] == "refused"
    assert server.status.code == Status.STATUS_CODE_UNSET

    unreachable = ask(front, "gone:m")
    server, (client, *_) = collector.wait(unreachable)
    assert unreachable.status >= 500 and server.status.code == Status.STATUS_CODE_ERROR
    assert told(server)["error.type"] == unreachable.json["error"]["code"]
    assert told(client)["error.type"] == "connect_failed" and "http.response.status_code" not in told(client)


def test_a_stream_that_breaks_is_an_error_behind_a_200(world, workshop):
    collector = Collector(workshop)
    front = workshop.gateway(harness.SERVER + traced(collector) + harness.provider("openai", f"{world.url}/openai/v1", n=1))
    answer = ask(front, "openai:m", stream=True, **steer(fault={"reset": {"after_events": 3}}, output_tokens=20))
    server, (client,) = collector.wait(answer)
    assert (told(server)["http.response.status_code"], told(server)["error.type"]) == (200, "broken")
    assert told(client)["error.type"] in ("reset", "truncated") and told(client)["keymux.usage_estimated"] is True


def test_a_wait_is_part_of_the_request_and_comes_before_its_attempt(workshop):
    collector = Collector(workshop)
    go = threading.Event()

    def slow(connection: raw.Connection, _) -> bool:
        assert go.wait(raw.PATIENCE_S)
        connection.send(raw.response_bytes(json.dumps(CHAT).encode()))
        return True

    front, upstream = workshop.in_front_of(slow, server=traced(collector), more="limits = [{ concurrent = 1 }]")
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, front, "lab:m")
        upstream.wait_for(1)
        second = pool.submit(ask, front, "lab:m")
        until(lambda: 'keymux_waiting_requests{class="normal"} 1' in front.metrics())
        go.set()
        _, (before,) = collector.wait(first.result())
        server, (client,) = collector.wait(second.result())
    waited_ns = client.start_time_unix_nano - server.start_time_unix_nano
    assert client.start_time_unix_nano >= before.start_time_unix_nano and waited_ns > 0
    assert told(server)["keymux.queue_ms"] == told(client)["keymux.waited_ms"] == pytest.approx(waited_ns / 1e6, abs=50)


def test_the_callers_flag_decides_and_else_the_share(workshop):
    collector = Collector(workshop)
    front, _ = workshop.in_front_of(raw.always(raw.response_bytes(json.dumps(CHAT).encode())), server=traced(collector, "sample = 0"))
    assert ask(front, "lab:m").status == 200
    assert ask(front, "lab:m", headers={"traceparent": f"00-{TRACE}-{PARENT}-00"}).status == 200
    wanted = ask(front, "lab:m", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    collector.wait(wanted)
    front.stop()
    assert len(collector.requests()) == 1, "the other two were not wanted"


@pytest.mark.parametrize("traces", [True, False])
def test_only_providers_that_may_know_are_told_of_traces(workshop, traces):
    """By default a provider learns no id of a trace: it could tell by it which calls belong together."""
    collector = Collector(workshop)
    answer = raw.always(raw.response_bytes(json.dumps(CHAT).encode()))
    house, vendor = workshop.upstream(answer), workshop.upstream(answer)
    config = harness.SERVER + (traced(collector) if traces else "")
    config += harness.provider("house", f"{house.url}/v1", n=1, more="trace_context = true")
    config += harness.provider("vendor", f"{vendor.url}/v1", n=1)
    front = workshop.gateway(config)
    said = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1", "baggage": "user=7"}
    answers = [ask(front, f"{name}:m", headers=said) for name in ("house", "vendor")]
    (inside,), (outside,) = house.wait_for(1), vendor.wait_for(1)
    assert [outside.get(name) for name in said] == [None] * 3
    assert (inside.all("tracestate"), inside.all("baggage")) == (["vendor=1"], ["user=7"])
    if not traces:
        assert inside.all("traceparent") == [said["traceparent"]], "without spans of ours, the caller's is the parent"
        return
    _, (client,) = collector.wait(answers[0])
    assert inside.all("traceparent") == [f"00-{TRACE}-{client.span_id.hex()}-01"]
    alone = ask(front, "house:m")
    server, (client,) = collector.wait(alone)
    assert house.wait_for(2)[1].get("traceparent") == f"00-{server.trace_id.hex()}-{client.span_id.hex()}-01"
    assert house.requests[1].get("tracestate") is None


def test_opentelemetrys_variables_suffice_and_the_newest_names_are_a_switch(workshop):
    collector = Collector(workshop)
    claude = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": "end_turn",
              "usage": {"input_tokens": 5, "output_tokens": 3, "cache_creation_input_tokens": 11, "cache_read_input_tokens": 2}}
    answer = raw.always(raw.response_bytes(json.dumps(claude).encode()))
    upstream = workshop.upstream(answer)
    config = harness.SERVER + harness.provider("lab", f"{upstream.url}/v1", dialect="anthropic", n=1)
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_SERVICE_NAME": "edge",
                 "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20sk-test-otel"}
    names = {}
    for opt_in in ("", "gen_ai_latest_experimental"):
        front = workshop.gateway(config, env={**variables, "OTEL_SEMCONV_STABILITY_OPT_IN": opt_in})
        _, (client,) = collector.wait(ask(front, "lab:m", path="/v1/messages", max_tokens=9))
        names[opt_in] = told(client)
    assert {request.get("authorization") for request in collector.upstream.requests} == {"Bearer sk-test-otel"}
    assert collector.batches()[0].resource_spans[0].resource.attributes[0].value.string_value == "edge"
    known, latest = names[""], names["gen_ai_latest_experimental"]
    assert known["gen_ai.usage.cache_creation.input_tokens"] == latest["gen_ai.usage.cache_write.input_tokens"] == 11
    assert known["gen_ai.usage.input_tokens"] == 18, "cached tokens are input, too"
    assert "gen_ai.usage.cache_creation.input_tokens" not in latest and set(known) ^ set(latest) == {
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_write.input_tokens",
    }


def test_a_collector_that_is_away_is_told_once_and_nothing_that_fits_is_lost(workshop):
    refusals = threading.Semaphore(2)

    def moody(connection: raw.Connection, _) -> bool:
        busy = refusals.acquire(blocking=False)
        connection.send(raw.response_bytes(b"", status="503 Service Unavailable") if busy else TAKEN)
        return True

    collector = Collector(workshop, moody)
    front, _ = workshop.in_front_of(raw.always(raw.response_bytes(json.dumps(CHAT).encode())), server=traced(collector))
    answer = ask(front, "lab:m")
    assert answer.status == 200
    collector.upstream.wait_for(3)
    until(lambda: "takes spans again" in front.log())
    assert [len(batch.resource_spans[0].scope_spans[0].spans) for batch in collector.batches()] == [2, 2, 2]
    assert front.log().count("takes no spans") == front.log().count("takes spans again") == 1
    assert "it answers 503" in front.log() and "sk-test" not in front.log()
    assert "keymux_traces_sent_total 1" in front.metrics() and "keymux_traces_dropped_total 0" in front.metrics()


def test_spans_of_the_last_requests_are_sent_at_the_end(workshop):
    collector = Collector(workshop)
    front, _ = workshop.in_front_of(raw.always(raw.response_bytes(json.dumps(CHAT).encode())), server=traced(collector))
    for _ in range(3):
        assert ask(front, "lab:m").status == 200
    assert front.stop() == 0
    assert len(collector.requests()) == 3


def test_a_collector_that_hangs_does_not_hold_up_the_end(workshop):
    """Its patience is never used up: the end comes first, and what is left is tried once more on another connection."""
    over = threading.Event()

    def hang(_connection, _request):
        over.wait()

    collector = Collector(workshop, hang)
    front, _ = workshop.in_front_of(raw.always(raw.response_bytes(json.dumps(CHAT).encode())), server=traced(collector))
    assert ask(front, "lab:m").status == 200
    collector.upstream.wait_for(1)
    try:
        assert front.stop() == 0
    finally:
        over.set()
    assert len(collector.upstream.requests) == 2
    assert "takes no spans" not in front.log(), "nobody waited for it as long as a collector may take"


def test_a_models_name_is_remembered_and_shown_in_bounds(workshop):
    collector = Collector(workshop)
    front, upstream = workshop.in_front_of(raw.always(raw.response_bytes(json.dumps(CHAT).encode())), server=traced(collector))
    name = "\N{SNOWMAN}" * 350_000
    answer = ask(front, f"lab:{name}")
    assert answer.status == 200, answer.body[:200]
    assert upstream.requests[0].json["model"] == name, "what is sent is not cut"
    server, (client,) = collector.wait(answer)
    assert told(server)["keymux.model"] == "lab:" + name[:84], "the most whole characters that 256 bytes hold"
    assert (client.name, told(client)["gen_ai.request.model"]) == ("chat " + name[:85], name[:85])
    (recent,) = crashes.admin(front, "/admin/requests")["requests"]
    assert recent["model"] == "lab:" + name[:84] and len(json.dumps(recent)) < 10_000
