"""The admin API as its own description tells of it: every operation is asked for, every answer held against the schema,
and what operators do there has the effect that it says.
"""

import http.client
import itertools
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, urlencode

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import validate

import harness
import raw

AUTH = {"Authorization": f"Bearer {harness.TOKEN}"}
ADMIN = {"Authorization": f"Bearer {harness.ADMIN_TOKEN}"}
METHODS = ("get", "post", "put", "patch", "delete")
CHAT = {"id": "chatcmpl-9", "object": "chat.completion", "model": "m", "choices": [],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}}
COUNT = itertools.count()
ANSWER = raw.response_bytes(json.dumps(CHAT).encode())


class Api:
    """Asks, and lays each answer beside what the document says of it."""

    def __init__(self, front):
        self.front = front
        self.asked = set()
        self.document = json.loads(self.send("GET", "/admin/openapi.json")[2])

    def send(self, method: str, target: str, body=None, headers=None) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = http.client.HTTPConnection(*self.front.admin_address, timeout=raw.PATIENCE_S)
        data = json.dumps(body) if body is not None else None
        given = {"Content-Type": "application/json"} if data else {}
        connection.request(method, target, data, {**given, **(ADMIN if headers is None else headers)})
        answer = connection.getresponse()
        read = (answer.status, answer.headers, answer.read())
        connection.close()
        return read

    def call(self, method: str, path: str, status: int, *, body=None, headers=None, query=None, **places):
        """Sends what the document describes; the JSON, the text, or the headers where there is neither."""
        item = self.document["paths"][path]
        operation = item[method.lower()]
        known = {p["name"] for p in operation.get("parameters", []) if p["in"] == "query"}
        assert set(query or {}) <= known, "only what is described"
        target = path.format(**{name: quote(value, safe="") for name, value in places.items()})
        target += f"?{urlencode(query)}" if query else ""
        got, found, read = self.send(method, target, body, headers)
        assert got == status, (method, target, got, read)
        self.asked.add((method.lower(), path))
        described = operation["responses"].get(str(status))
        assert described, f"{method} {path} may answer {status}, and nobody says so"
        if "$ref" in described:
            described = self.document["components"]["responses"][described["$ref"].rpartition("/")[2]]
        if "content" not in described:
            assert not read, (method, path, read)
            return found
        media = found["content-type"].partition(";")[0]
        assert media in described["content"], f"{method} {path}: {status} is {media}"
        if media != "application/json":
            return read.decode()
        value = json.loads(read)
        self.fits(value, described["content"][media]["schema"])
        return value

    def fits(self, value, schema: dict):
        whole = {**schema, "components": self.document["components"]}
        errors = list(Draft202012Validator(whole, format_checker=FormatChecker()).iter_errors(value))
        assert not errors, "\n".join(f"{error.json_path}: {error.message}" for error in errors)

    def act(self, verb: str, status=200, *, key="lab-1", provider="lab", **query):
        return self.call("POST", "/admin/keys/{provider}/{key}/{verb}", status, provider=provider, key=key, verb=verb, query=query)

    def key(self, name: str) -> dict:
        state = self.call("GET", "/admin/state", 200)
        return next(k for p in state["providers"] for a in p["accounts"] for k in a["keys"] if k["name"] == name)


def ask(front, model="lab:m", **more) -> raw.Message:
    # Another conversation each time, or all would stay with the key that had the first.
    body = {"model": model, "messages": [{"role": "user", "content": f"question {next(COUNT)}"}], **more}
    return raw.exchange(front.address, raw.request_bytes("/v1/chat/completions", body, AUTH))


def until(holds):
    """Looks until it is so."""
    deadline = time.monotonic() + raw.PATIENCE_S
    while not (found := holds()):
        assert time.monotonic() < deadline, "it never came to be"
    return found


def test_every_operation_answers_as_the_document_says(world, workshop):
    bad = harness.provider("openai", f"{world.url}/openai/v1", n=3).replace("sk-test-openai-1", "sk-test-revoked")
    limits = 'limits = [{ rpm = 1 }, { tpd = 50000, models = ["m*"] }]'
    narrow = harness.provider("narrow", f"{world.url}/openai/v1", n=1, more=limits).replace("narrow-1\" }", "openai-3\" }")
    gone = harness.provider("gone", "http://127.0.0.1:1/v1", n=1)
    declared = '[[team]]\nname = "filed"\nbudget = 5.0\nreset = "daily"\n[[client]]\nname = "file"\nteam = "filed"\nsecret = "literal:km-test-declared"\nrpm = 60\nexpires = "2099-01-01"\n'
    hook = workshop.upstream(raw.always(raw.response_bytes(b"")))
    for name, url in (("there", hook.url), ("nowhere", "http://127.0.0.1:1")):
        declared += f'[[webhook]]\nname = "{name}"\nurl = "literal:{url}/hook"\n'
    front = workshop.gateway(harness.SERVER + 'max_wait = "0s"\n' + bad + narrow + gone + declared)
    api = Api(front)
    validate(api.document)
    for model in ["openai:m"] * 20 + ["narrow:m"] * 2 + ["gone:m"] * 6 + ["nowhere:m"]:
        ask(front, model, stream=model == "openai:m")

    state = api.call("GET", "/admin/state", 200)
    assert api.key("openai-1")["benched"]["why"] == "key"
    assert state["models"] and any(k["models"] for p in state["providers"] for a in p["accounts"] for k in a["keys"])
    listed = api.call("GET", "/admin/requests", 200, query={"troubled": "true"})["requests"]
    stories = [api.call("GET", "/admin/requests/{id}", 200, id=one["id"]) for one in listed]
    assert any("refusal" in story for story in stories) and any(s["passed_over"] for story in stories for s in story["steps"])
    api.call("GET", "/admin/requests/{id}", 404, id="km-never")
    api.call("GET", "/admin/requests", 400, query={"limit": "many"})
    happened = api.call("GET", "/admin/events", 200)["events"]
    assert "key_benched" in [event["kind"] for event in happened]
    assert api.call("GET", "/admin/events", 200, query={"after": str(happened[-1]["id"])}) == {"events": []}

    clients(api)
    api.call("GET", "/admin/usage", 200, query={"by": "model,day", "since": "1d"})
    api.call("GET", "/admin/usage", 400, query={"by": "colour"})
    for name, status in (("there", 200), ("nowhere", 502), ("never", 404)):
        api.call("POST", "/admin/webhooks/{name}/test", status, name=name)
    assert len(api.call("GET", "/admin/webhooks", 200)["webhooks"]) == 2
    api.call("POST", "/admin/reload", 202)
    for verb in ("disable", "enable", "restore", "drain"):
        api.act(verb, provider="openai", key="openai-2")
    api.act("enable", 404, key="nobody")
    api.act("enable", 400, provider="openai", key="openai-2", model="m")
    assert "# EOF" in api.call("GET", "/metrics", 200)
    api.call("GET", "/admin/openapi.json", 200)
    for path in ("/healthz", "/readyz", "/"):
        api.call("GET", path, 200, headers={})
    api.call("GET", "/assets/{name}", 404, headers={}, name="never.js")
    session(api)
    levels(api)

    everything = {(m, path) for path, item in api.document["paths"].items() for m in item if m in METHODS}
    # Streams end with their reader; they have tests of their own.
    assert everything - api.asked == {("get", "/admin/feed")}


def clients(api: Api):
    team = {"name": "night"}
    api.call("PUT", "/admin/teams/{name}", 201, body={"budget": 3.5, "reset": "weekly"}, **team)
    api.call("PUT", "/admin/teams/{name}", 200, body={"rpm": 90}, **team)
    api.call("PUT", "/admin/teams/{name}", 400, body={"rmp": 90}, **team)
    api.call("GET", "/admin/teams/{name}", 200, **team)
    assert {t["name"] for t in api.call("GET", "/admin/teams", 200)["teams"]} == {"night", "filed"}
    fields = {"name": "app", "team": "night", "models": ["openai:*"], "keys": ["openai:openai-2"], "tags": ["a"], "budget": 1, "expires": "2099-01-01T00:00:00Z", "priority": "low", "weight": 2, "max_wait_ms": 50}
    made = api.call("POST", "/admin/clients", 201, body=fields)
    api.fits(fields, {"$ref": "#/components/schemas/ClientFields"})
    api.call("POST", "/admin/clients", 400, body={"name": "app", "colour": "red"})
    one = {"id": made["id"]}
    api.call("GET", "/admin/clients/{id}", 200, **one)
    api.call("GET", "/admin/clients/{id}", 200, id="config:file")
    api.call("PATCH", "/admin/clients/{id}", 200, body={"disabled": True}, **one)
    api.call("PATCH", "/admin/clients/{id}", 409, body={"disabled": True}, headers={**ADMIN, "If-Match": '"1"'}, **one)
    api.call("POST", "/admin/clients/{id}/rotate", 200, body={"grace_s": 60}, **one)
    assert len(api.call("GET", "/admin/clients", 200)["clients"]) == 2
    api.call("DELETE", "/admin/clients/{id}", 200, **one)
    api.call("DELETE", "/admin/clients/{id}", 403, id="config:file")
    api.call("PUT", "/admin/teams/{name}", 403, body={}, name="filed")
    api.call("POST", "/admin/clients/{id}/rotate", 409, body={}, **one)
    assert len(api.call("GET", "/admin/clients", 200, query={"revoked": "true"})["clients"]) == 2
    api.call("GET", "/admin/clients/{id}", 404, id="cl_never")
    api.call("DELETE", "/admin/teams/{name}", 204, **team)
    api.call("DELETE", "/admin/teams/{name}", 404, name="never")


def session(api: Api):
    ours = {"Sec-Fetch-Site": "same-origin"}
    assert api.call("GET", "/admin/session", 200, headers={}) == {"signed_in": False}
    api.call("POST", "/admin/session", 401, headers=ours, body={"token": "wrong"})
    api.call("POST", "/admin/session", 403, headers={}, body={"token": harness.ADMIN_TOKEN})
    api.call("POST", "/admin/session", 422, headers=ours, body={"tocken": harness.ADMIN_TOKEN})
    cookie = api.call("POST", "/admin/session", 204, headers=ours, body={"token": harness.ADMIN_TOKEN})["set-cookie"]
    page = {"Cookie": cookie.partition(";")[0]}
    assert api.call("GET", "/admin/session", 200, headers=page) == {"signed_in": True}
    api.call("POST", "/admin/reload", 403, headers={**page, "Sec-Fetch-Site": "cross-site"})
    api.call("DELETE", "/admin/session", 204, headers={**page, **ours})


def levels(api: Api):
    for method in ("PUT", "POST"):
        assert api.call(method, "/admin/log-level", 200, body={"level": "warn"}) == {"level": "warn"}
        api.call(method, "/admin/log-level", 400, body={"level": "loud"})
        api.call(method, "/admin/log-level", 422, body={})
    assert api.call("GET", "/admin/log-level", 200) == {"level": "warn"}


def test_the_methods_are_those_of_the_document_and_nothing_secured_answers_without_the_token(workshop):
    front, _ = workshop.in_front_of(raw.always(ANSWER))
    api = Api(front)
    for path, item in api.document["paths"].items():
        target = path.replace("{", "").replace("}", "")
        status, headers, _ = api.send("TRACE", target)
        allowed = {method.strip().lower() for method in headers["allow"].split(",")} - {"head"}
        assert (status, allowed) == (405, set(item) & set(METHODS)), path
        for method in set(item) & set(METHODS):
            if item[method].get("security") != []:
                for given in ({}, AUTH):
                    status, _, read = api.send(method.upper(), target, {} if method != "get" else None, given)
                    assert status == 401 and b"admin token" in read, (method, path)


def test_a_key_that_is_drained_finishes_what_it_has_and_takes_nothing_new(workshop):
    go = threading.Event()

    def slow(connection: raw.Connection, _) -> bool:
        assert go.wait(raw.PATIENCE_S)
        connection.send(ANSWER)
        return True

    front, upstream = workshop.in_front_of(slow, server='max_wait = "0s"\n')
    api = Api(front)
    with ThreadPoolExecutor(2) as pool:
        flying = pool.submit(ask, front)
        upstream.wait_for(1)
        assert api.act("drain", 202)["in_flight"] == 1
        assert ask(front).status >= 400, "it takes nothing new"
        waiting = pool.submit(api.act, "drain", wait_s=20)
        assert not flying.done()
        go.set()
        assert waiting.result()["in_flight"] == 0
        assert flying.result().status == 200, "and cuts nothing"
    assert api.key("lab-1")["state"] == "disabled" and len(upstream.requests) == 1
    front.config.write_text(front.config.read_text() + "\n# another text\n")
    api.call("POST", "/admin/reload", 202)
    until(lambda: [e for e in api.call("GET", "/admin/events", 200)["events"] if e["kind"] == "reloaded"])
    assert api.key("lab-1")["state"] == "disabled", "it stays off over a reload"
    api.act("enable")
    assert ask(front).status == 200


def test_a_breaker_is_reset_for_one_model_alone(workshop):
    broken = raw.response_bytes(b'{"error":{"message":"no"}}', status="500 Internal Server Error")
    well = threading.Event()

    def moody(connection: raw.Connection, request: raw.Message) -> bool:
        # The other key answers, or it would be the provider that is out.
        fails = "lab-1" in request.get("authorization") and not well.is_set()
        connection.send(broken if fails else ANSWER)
        return True

    breaker = '[breaker]\nconsecutive = 2\nconsecutive_span = "0s"\ncooldown_min = "10m"\ncooldown_max = "10m"\n'
    route = '[[route]]\nmodel = "{0}"\ntiers = [[{{ target = "lab:{0}", keys = ["lab-{1}"] }}]]\n'.format
    routes = route("one", 1) + route("two", 1) + route("well", 2)
    front, _ = workshop.in_front_of(moody, n=2, server='max_wait = "0s"\n' + breaker, more=routes)
    api = Api(front)

    def opened() -> dict[str, bool]:
        return {m["model"]: m["breaker_open_for_ms"] is not None for m in api.key("lab-1")["models"]}

    for model in ("one", "two"):
        until(lambda: ask(front, "well").status == 200 and ask(front, model).status >= 500 and opened().get(model))
    well.set()
    api.act("restore", 404, model="three")
    api.act("restore", model="one")
    assert opened() == {"one": False, "two": True}
    assert (ask(front, "one").status, ask(front, "two").status) == (200, 503)
    api.act("restore")
    assert opened() == {"one": False, "two": False}
    assert ask(front, "two").status == 200

    def closed() -> list[str]:
        events = api.call("GET", "/admin/events", 200)["events"]
        return [e["subject"].split()[-1] for e in events if e["kind"] == "breaker_closed"]

    assert until(lambda: len(closed()) > 1 and closed()) == ["one", "two"], "what was told to be open is told to be closed"


def test_events_are_streamed_as_they_happen_and_go_on_where_a_reader_was(workshop):
    front, _ = workshop.in_front_of(raw.always(ANSWER))
    api = Api(front)
    schema = {"$ref": "#/components/schemas/Event"}

    def stream(**headers) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(*front.admin_address, timeout=raw.PATIENCE_S)
        connection.request("GET", "/admin/events", headers={**ADMIN, "Accept": "text/event-stream", **headers})
        answer = connection.getresponse()
        assert answer.status == 200 and answer.headers["content-type"] == "text/event-stream"
        return answer

    def next_event(answer) -> dict:
        fields = {}
        while line := answer.readline().decode().strip():
            name, _, value = line.partition(":")
            fields[name] = value.strip()
        event = json.loads(fields["data"])
        api.fits(event, schema)
        assert (fields["id"], fields["event"]) == (str(event["id"]), event["kind"])
        return event

    api.act("disable")
    reader = stream()
    seen = [next_event(reader)]
    while "switched off" not in seen[-1]["text"]:
        seen.append(next_event(reader))
    api.act("enable")
    seen.append(next_event(reader))
    while "switched on" not in seen[-1]["text"]:
        seen.append(next_event(reader))
    assert seen[-1]["kind"] == "by_operator" and seen[-1]["subject"] == "lab/lab-1"
    again = stream(**{"Last-Event-ID": str(seen[-2]["id"])})
    assert next_event(again) == seen[-1], "nothing twice, nothing left out"
    ids = [event["id"] for event in seen]
    assert ids == sorted(set(ids))


def test_the_log_tells_more_or_less_while_it_runs(workshop):
    refused = raw.response_bytes(b'{"error":{"message":"no"}}', status="400 Bad Request")
    front, _ = workshop.in_front_of(raw.always(refused), server='[log]\nlevel = "info"\nformat = "json"\n')
    api = Api(front)

    def lines() -> list[dict]:
        return [json.loads(line) for line in front.log().splitlines()]

    def failures() -> int:
        return sum(line["message"] == "an attempt failed" for line in lines())

    ask(front)
    assert failures() == 0
    api.call("PUT", "/admin/log-level", 200, body={"level": "debug"})
    ask(front)
    until(lambda: failures() == 1)
    assert any("the log tells from debug on" in line.get("event", "") for line in lines())
    front.config.write_text(front.config.read_text().replace('level = "info"', 'level = "error"'))
    api.call("POST", "/admin/reload", 202)
    until(lambda: api.call("GET", "/admin/log-level", 200)["level"] == "error")
    ask(front)
    api.call("PUT", "/admin/log-level", 200, body={"level": "debug"})
    ask(front)
    until(lambda: failures() == 2)


@pytest.mark.parametrize("format", ["json", "text"])
def test_of_requests_that_were_answered_a_share_is_logged_and_of_others_all(world, workshop, format):
    log = f'[log]\nrequests = true\nsample = 0.0\nformat = "{format}"\n'
    front = workshop.gateway(harness.SERVER + log + harness.provider("openai", f"{world.url}/openai/v1", n=1))
    answered = ask(front, "openai:m")
    refused = ask(front, "openai:")
    assert (answered.status, refused.status) == (200, 404)
    front.stop()
    logged = [line for line in front.log().splitlines() if "refused" in line or "answered" in line]
    assert len(logged) == 1 and refused.get("x-request-id") in logged[0]
    assert answered.get("x-request-id") not in front.log()
    if format == "json":
        line = json.loads(logged[0])
        assert (line["outcome"], line["status"], line["endpoint"]) == ("refused", 404, "chat/completions")
