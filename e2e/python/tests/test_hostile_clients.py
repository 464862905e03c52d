"""What a client with a key of its own might try: to get at what is others', at what it may not have, at more than its
budget, or to go on after it was shut out. Nothing of it reaches a provider, and nobody is told of anybody."""

import contextlib
import http.client
import json
import threading

import pytest

import crashes
import harness
import raw
from test_client_keys import Api
from test_clients import ASK, CENT, KEYS, USAGE, ask, declared, rows

PRICE = '\n[[price]]\nmodel = "lab:*"\ninput = 1\noutput = 10\n'
DEEP = "[" * 200 + "]" * 200


def sent(gateway, key: str, body: bytes, path: str = "/v1/chat/completions", **headers):
    """A body as it is, byte for byte."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}", **headers}
    return raw.exchange(gateway.address, raw.request_bytes(path, body, headers=headers))


def answering(**more):
    body = {"id": "gen-1", "object": "chat.completion", "choices": [{"message": {"content": "far"}}], "usage": USAGE}
    return raw.always(raw.response_bytes(json.dumps({**body, **more}).encode()))


class Held:
    """A stream that goes on when a test says so."""

    EVENT = b'data: {"id":"gen-9","choices":[{"delta":{"content":"x"}}]}\n\n'
    END = (
        b'data: {"id":"gen-9","choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
        b'data: {"id":"gen-9","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":7}}\n\ndata: [DONE]\n\n'
    )

    def __init__(self):
        self.go = threading.Event()

    def __call__(self, connection, _request):
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        connection.send(head + raw.chunked(self.EVENT, end=False))
        assert self.go.wait(raw.PATIENCE_S)
        connection.send(raw.chunked(self.EVENT, self.END))
        return True


@pytest.mark.parametrize("end", ["rotate", "disable", "revoke", "team off"])
def test_who_is_shut_out_in_the_middle_of_a_stream_gets_its_end_and_no_other(workshop, end):
    held = Held()
    gateway, _ = workshop.in_front_of(held, more=PRICE)
    admin = Api(gateway.admin)
    assert admin("PUT", "/admin/teams/night", {"budget": 1})[0] == 201
    made = admin("POST", "/admin/clients", {"name": "a", "team": "night", "budget": 1})[1]
    body = json.dumps({**ASK, "stream": True, "max_tokens": 50}).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {made['key']}"}
    with raw.Connection(gateway.address) as caller:
        caller.send(raw.request_bytes("/v1/chat/completions", body, headers=headers))
        caller.read_head()
        first = caller.read_piece()
        path = f"/admin/clients/{made['id']}"
        done = {
            "rotate": lambda: admin("POST", f"{path}/rotate"),
            "disable": lambda: admin("PATCH", path, {"disabled": True}),
            "revoke": lambda: admin("DELETE", path),
            "team off": lambda: admin("PUT", "/admin/teams/night", {"disabled": True}),
        }[end]()
        assert done[0] == 200, done
        # The answer to the change has come: from now on nothing of this key is let in, not on the same connection either.
        assert ask(gateway, made["key"], ASK).status == 401
        assert ask(gateway, made["key"], path="/v1/key").status == 401
        held.go.set()
        rest = []
        while piece := caller.read_piece():
            rest.append(piece)
        assert b"".join([first, *rest]).endswith(b"data: [DONE]\n\n"), "what was let in is answered"
        with contextlib.suppress(raw.Closed, ConnectionError):
            caller.send(raw.request_bytes("/v1/chat/completions", body, headers=headers))
            assert caller.read_head().status == 401
    gateway.stop()
    served = [row for row in rows(gateway) if row["status"] == 200]
    assert [(row["client"], row["team"], row["cost_nano_usd"]) for row in served] == [(made["id"], "night", 75_000)]


def test_a_client_key_opens_nothing_of_the_operators(workshop):
    gateway, upstream = workshop.in_front_of(answering(), more=PRICE + declared("one"))
    answer = ask(gateway, KEYS["one"], ASK)
    assert answer.status == 200
    id = answer.get("x-request-id")
    api, cookie = Api(gateway.admin, KEYS["one"]), {"Cookie": f"keymux-session={KEYS['one']}"}
    asked = [("GET", path) for path in ("/admin/state", "/admin/clients", "/admin/teams", "/admin/usage", "/admin/feed", "/metrics")]
    asked += [("GET", f"/admin/requests/{id}"), ("GET", "/admin/requests"), ("GET", "/admin/clients/config:one")]
    asked += [("POST", "/admin/clients"), ("PUT", "/admin/teams/mine"), ("DELETE", "/admin/clients/config:one")]
    for method, path in asked:
        for headers in ({}, cookie, {"x-api-key": KEYS["one"]}):
            assert api(method, path, None if method == "GET" else {}, **headers)[0] == 401, (method, path, headers)
    keys = Api(gateway.url, KEYS["one"])
    for method, path in (("GET", "/keys"), ("POST", "/keys"), ("PATCH", f"/keys/{'0' * 64}"), ("DELETE", f"/keys/{'0' * 64}")):
        for root in ("/v1", "/api/v1", "/v1/../v1", "//api//v1"):
            assert keys(method, root + path, None if method == "GET" else {})[0] in (400, 401, 404), (method, root, path)
    # The admin's surface is not on this listener, by whatever path.
    for path in ("/admin/state", "/v1/admin/state", "/%61dmin/state", "/metrics", "/v1/../admin/state"):
        assert ask(gateway, KEYS["one"], path=path).status in (400, 404), path
    assert len(upstream.requests) == 1


def test_one_client_sees_nothing_of_another(workshop):
    """Two keys of different teams, and a provider that gives all its answers one id."""
    more = PRICE + '\n[[team]]\nname = "team-red"\n[[team]]\nname = "team-blue"\n'
    more += declared("one", 'team = "team-red"\nbudget = 5') + declared("two", 'team = "team-blue"\nbudget = 7')
    gateway, _ = workshop.in_front_of(answering(), more=more)
    own = {name: ask(gateway, KEYS[name], {**ASK, "max_tokens": 9}).get("x-request-id") for name in ("one", "two")}
    while (state := crashes.admin(gateway, "/admin/state")["ledger"])["log"]["rows"] or state["buffered"]:
        pass

    def generation(name: str, id: str):
        return ask(gateway, KEYS[name], path=f"/api/v1/generation?id={id}")

    for name, other in (("one", "two"), ("two", "one")):
        assert generation(name, own[name]).json["data"]["total_cost"] == 75e-6
        assert generation(name, "gen-1").json["data"]["request_id"] == own[name], "of two answers with one id it sees its own"
        for id in (own[other], "%25", "_", "gen-1%27%20OR%20%27a%27=%27a", f"{own[other]}%00", f"{own[name]},{own[other]}"):
            refused = generation(name, id)
            assert refused.status == 404, (id, refused.body)
        key = ask(gateway, KEYS[name], path="/api/v1/key").json["data"]
        assert key["limit"] == {"one": 5, "two": 7}[name] and key["usage"] == 75e-6
        everything = json.dumps(key) + ask(gateway, KEYS[name], path="/api/v1/credits").body.decode()
        team = {"one": "team-blue", "two": "team-red"}[name]
        assert team not in everything and f'"{other}"' not in everything
    # The holder of the gateway's token is no client either.
    assert ask(gateway, harness.TOKEN, path=f"/api/v1/generation?id={own['one']}").status == 404


BUDGET = [
    ("nested too deep to be seen", '{%s,"x":%s,"plugins":[{"id":"web"}]}' % ("%s", DEEP), "cost_not_bounded"),
    ("hidden behind a number that is none", '{%s,"best_of":"1","plugins":[{"id":"web"}]}', "cost_not_bounded"),
    ("spelt with escapes", '{%s,"pl\\u0075gins":[{"id":"web"}]}', "cost_not_bounded"),
    ("a tool said twice", '{%s,"tools":[{"type":"web_search","type":"function"}]}', "cost_not_bounded"),
    ("more answers than it says", '{%s,"n":1,"n":9}', "duplicate_key"),
    ("a cap said twice", '{%s,"max_tokens":9000}', "duplicate_key"),
    ("a template with tools of its own", '{%s,"prompt":{"id":"pmpt_1"}}', "cost_not_bounded"),
    ("summing up what was said before", '{%s,"context_management":{"edits":[{"type":"compact_20260112"}]}}', "cost_not_bounded"),
    ("a search that is no tool", '{%s,"search_parameters":{"mode":"on"}}', "cost_not_bounded"),
    ("a search said to be off twice", '{%s,"search_parameters":{"mode":"off","mode":"on"}}', "cost_not_bounded"),
    ("a shell at the provider", '{%s,"tools":[{"type":"shell","environment":{"type":"container_auto"}}]}', "cost_not_bounded"),
    ("a shell of nobody", '{%s,"tools":[{"type":"shell"}]}', "cost_not_bounded"),
    ("what Google has stored", '{%s,"extra_body":{"google":{"cached_content":"c"}}}', "cost_not_bounded"),
    ("computed where it is dearer", '{%s,"inference_geo":"us"}', "cost_not_bounded"),
    ("a container with tools", '{%s,"container":{"skills":[{"type":"anthropic","skill_id":"xlsx"}]}}', "cost_not_bounded"),
    ("tools of somebody's server", '{%s,"mcp_servers":[{"type":"url","url":"http://localhost/"}]}', "cost_not_bounded"),
    ("a tier without a price", '{%s,"service_tier":"priority"}', "cost_not_bounded"),
    ("a tier spelt with escapes", '{%s,"service_ti\u0065r":"pri\u006frity"}', "cost_not_bounded"),
    ("a tier by another word", '{%s,"service_tier":"ultrafast"}', "cost_not_bounded"),
    ("a speed", '{%s,"speed":"fast","best_of":1e2}', "cost_not_bounded"),
    ("a cap in another case", '{%s,"MAX_TOKENS":9000}', "ambiguous_key"),
]


@pytest.mark.parametrize(("how", "body", "code"), BUDGET, ids=[how for how, _, _ in BUDGET])
def test_no_body_gets_around_a_budget(workshop, how, body, code):
    gateway, upstream = workshop.in_front_of(answering(), more=PRICE + declared("one", "budget = 1"))
    plain = '"model":"lab:m","messages":[],"max_tokens":5'
    refused = sent(gateway, KEYS["one"], (body % plain if "%s" in body else body).encode())
    assert 400 <= refused.status < 500 and refused.json["error"]["code"] == code, (how, refused.body)
    assert upstream.requests == []


BOUNDED = {
    "a search that is off": {"search_parameters": {"mode": "off"}},
    "a shell of the client's": {"tools": [{"type": "shell", "environment": {"type": "local"}}]},
    "thoughts in Google's words": {"extra_body": {"google": {"thinking_config": {"thinking_budget": 800}}}},
    "labels": {"metadata": {"type": "file", "file_id": "f"}},
}


@pytest.mark.parametrize("how", BOUNDED)
def test_a_budget_refuses_nothing_that_has_a_bound(workshop, how):
    gateway, upstream = workshop.in_front_of(answering(), more=PRICE + declared("one", "budget = 1"))
    body = {"model": "lab:m", "messages": [], "max_tokens": 5} | BOUNDED[how]
    served = ask(gateway, KEYS["one"], body)
    assert served.status == 200, served.body
    [request] = upstream.requests
    assert BOUNDED[how].items() <= request.json.items(), "it goes on as it came"


def test_each_text_of_a_list_is_paid_for(workshop):
    """`prompt` may be a list, and each of its texts gets an answer of its own."""
    answer = answering(object="text_completion", choices=[{"text": "far"}])
    gateway, upstream = workshop.in_front_of(answer, more=PRICE + declared("one", "budget = 0.5"))
    for prompt, status in ((["a"] * 100, 402), ([[1, 2]] * 100, 402), (["a"] * 40, 200), ([1] * 100, 200), ("a" * 100, 200)):
        body = {"model": "lab:m", "prompt": prompt, "max_tokens": 1000}
        assert ask(gateway, KEYS["one"], body, path="/v1/completions").status == status, prompt
    # Without a cap there is one that pays for all of them.
    before = len(upstream.requests)
    capped = ask(gateway, KEYS["one"], {"model": "lab:m", "prompt": ["a"] * 100}, path="/v1/completions")
    assert capped.status == 200 and len(upstream.requests) == before + 1
    cap = upstream.requests[-1].json["max_tokens"]
    assert cap == int(capped.get("x-keymux-max-tokens")) and 400 < cap < 500


NAMES = ["m:online", "m:online:nitro", "m@preset/any", "@preset/any", "openrouter/fusion", "openrouter/fusion:floor", "openai/gpt-4o-search-preview", "perplexity/sonar"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_does_more_than_a_model_is_nothing_for_a_budget(workshop, name):
    more = PRICE + declared("one", "budget = 1") + declared("two", 'models = ["lab:m*", "lab:open*"]')
    gateway, upstream = workshop.in_front_of(answering(), dialect="openrouter", more=more)
    base = {"messages": [], "max_tokens": 5}
    for body in ({"model": f"lab:{name}"}, {"model": "lab:m", "models": [name]}, {"model": "lab:m", "fallbacks": [{"model": name}]}):
        refused = ask(gateway, KEYS["one"], {**base, **body})
        assert (refused.status, refused.json["error"]["code"]) == (403, "cost_not_bounded"), refused.body
        if "@" in name:
            # Whoever may use all models that begin so may not use whatever a preset names.
            refused = ask(gateway, KEYS["two"], {**base, **body})
            assert (refused.status, refused.json["error"]["code"]) == (403, "model_not_allowed"), refused.body
    assert upstream.requests == []


@pytest.mark.parametrize("cap", ["-1", "null", "1e9", "5.0", '"5"', "99999999999999999999", "0"])
def test_a_cap_that_is_none_leaves_no_answer_without_one(workshop, cap):
    gateway, upstream = workshop.in_front_of(answering(), more=PRICE + declared("one", "budget = 1"))
    for field in ("max_tokens", "max_completion_tokens"):
        answer = sent(gateway, KEYS["one"], ('{"model":"lab:m","messages":[],"%s":%s}' % (field, cap)).encode())
        if answer.status == 200:
            seen = upstream.requests[-1].json
            caps = [seen[name] for name in ("max_tokens", "max_completion_tokens") if seen.get(name) is not None]
            assert caps and all(type(found) is int and 0 <= found <= 4096 for found in caps), (field, cap, seen)
        else:
            assert answer.status in (400, 402, 403), answer.body


MODELS = [
    ("nested too deep to be seen", '{"model":"lab:m","messages":[],"x":%s,"fallbacks":[{"model":"lab:x"}]}' % DEEP),
    ("a fallback spelt with escapes", '{"model":"lab:m","messages":[],"fallb\\u0061cks":[{"mod\\u0065l":"lab:x"}]}'),
    ("a list spelt with escapes", '{"model":"lab:m","messages":[],"mod\\u0065ls":["lab:x"]}'),
    ("a model said twice", '{"model":"lab:m","model":"lab:x","messages":[]}'),
    ("a model said twice, once with escapes", '{"model":"lab:m","mod\\u0065l":"lab:x","messages":[]}'),
    ("another case", '{"model":"LAB:x","messages":[]}'),
    ("behind another provider's name", '{"model":"lab:lab:x","messages":[]}'),
    ("a preset", '{"model":"lab:m@preset/any","messages":[]}'),
    ("a preset beside it", '{"model":"lab:m","messages":[],"preset":"any"}'),
    ("with a blank", '{"model":"lab:x ","messages":[]}'),
    ("a tool that asks another", '{"model":"lab:m","messages":[],"tools":[{"type":"advisor_20260301","model":"lab:x"}]}'),
    ("a tool that chooses others", '{"model":"lab:m","messages":[],"tools":[{"type":"openrouter:fusion","parameters":{}}]}'),
    ("a tool that draws", '{"model":"lab:m","input":"x","messages":[],"tools":[{"type":"image_generation"}]}'),
    ("a tool said twice", '{"model":"lab:m","messages":[],"tools":[{"type":"openrouter:fusion","type":"function"}]}'),
    ("a plug-in that chooses", '{"model":"lab:m","messages":[],"plugins":[{"id":"auto-router","allowed_models":["lab:m"]}]}'),
    ("a plug-in spelt with escapes", '{"model":"lab:m","messages":[],"pl\\u0075gins":[{"id":"fusion"}]}'),
    ("a list of lists", '{"model":"lab:m","messages":[],"models":[["lab:x"]]}'),
    ("a list in a string", '{"model":"lab:m","messages":[],"models":"lab:x"}'),
    ("another model for another case", '{"model":"lab:m","MODELS":["lab:x"],"messages":[]}'),
]


@pytest.mark.parametrize(("how", "body"), MODELS, ids=[how for how, _ in MODELS])
def test_no_body_gets_at_a_model_that_is_not_allowed(workshop, how, body):
    gateway, upstream = workshop.in_front_of(answering(), more=declared("one", 'models = ["lab:m"]'))
    refused = sent(gateway, KEYS["one"], body.encode())
    assert refused.status in (400, 403, 404), (how, refused.body)
    assert upstream.requests == []


STATE = [
    '{"model":"lab:m","input":[{"role":"user","content":[{"type":"input_file","file\\u005fid":"file-1"}]}]}',
    '{"model":"lab:m","input":[{"role":"user","content":[{"t\\u0079pe":"input_file","file_id":"file-1"}]}]}',
    '{"model":"lab:m","input":[{"type":"item\\u005freference","id":"msg_1"}]}',
    '{"model":"lab:m","input":"x","previous\\u005fresponse_id":"resp_1"}',
    '{"model":"lab:m","input":"x","conv\\u0065rsation":"conv_1"}',
    '{"model":"lab:m","input":"x","tools":[{"type":"file_search","vector_store_ids":["vs_1"]}]}',
    '{"model":"lab:m","input":"x","tools":[{"type":"code_interpreter","container":"cntr_1"}]}',
    '{"model":"lab:m","input":[%s{"type":"input_file","file_id":"file-1"}%s]}' % ("[" * 200, "]" * 200),
]


@pytest.mark.parametrize("body", STATE, ids=range(len(STATE)))
def test_no_body_gets_at_what_lies_at_a_provider(workshop, body):
    gateway, upstream = workshop.in_front_of(answering(), more=declared("one"))
    refused = sent(gateway, KEYS["one"], body.encode(), path="/v1/responses")
    assert (refused.status, refused.json["error"]["code"]) == (404, "state_not_found"), refused.body
    assert upstream.requests == []


def test_headers_lower_what_a_client_may_and_never_raise_it(workshop):
    slow = threading.Event()

    def answer(connection, _request):
        assert slow.wait(raw.PATIENCE_S)
        return answering()(connection, _request)

    more = PRICE + declared("one", 'concurrent = 1\nmax_wait = "0s"\npriority = "low"\nkeys = ["lab:lab-1"]')
    gateway, upstream = workshop.in_front_of(answer, n=2, more=more)
    body = json.dumps(ASK).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEYS['one']}"}
    with raw.Connection(gateway.address) as first:
        first.send(raw.request_bytes("/v1/chat/completions", body, headers=headers))
        upstream.wait_for(1)
        wishes = {"x-keymux-max-wait": "1h", "x-keymux-priority": "high", "x-keymux-providers": "order=lab; only=lab"}
        refused = ask(gateway, KEYS["one"], ASK, **wishes)
        assert (refused.status, refused.json["error"]["code"]) == (429, "client_rate_limit_exceeded")
        slow.set()
        assert first.read_message().status == 200
    # Another key beside its own makes it nobody else, and is not passed on.
    both = {"x-api-key": "sk-test-lab-2", "api-key": "sk-test-lab-2", "OpenAI-Organization": "org-other", "x-keymux-key": "lab-2"}
    assert ask(gateway, KEYS["one"], ASK, **both).status == 200
    last = upstream.requests[-1]
    assert last.get("authorization") == "Bearer sk-test-lab-1"
    assert "sk-test-lab-2" not in last.head.decode() and last.get("openai-organization") is None
    twice = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    twice += f"Authorization: Bearer {KEYS['one']}\r\nAuthorization: Bearer {harness.TOKEN}\r\n\r\n"
    answer = raw.exchange(gateway.address, twice.encode() + body)
    assert answer.status in (200, 400)
    gateway.stop()
    clients = {row["client"] for row in rows(gateway)}
    assert clients == {"config:one"}, "whoever it was, it was not the holder of the token"


def test_giving_up_costs_a_budget_what_it_may_cost_its_owner(workshop):
    """An answer in one piece is made and billed also if nobody waits for it: who leaves it, or sets a time too short
    for it, would else have answers made for nothing until somebody reads the provider's bill."""
    over = threading.Event()

    def answer(connection, _request):
        assert over.wait(raw.PATIENCE_S)
        return False

    gateway, upstream = workshop.in_front_of(answer, more=PRICE + declared("one", "budget = 0.02"))
    body = {**ASK, "max_tokens": 1000}
    refused = ask(gateway, KEYS["one"], body, **{"x-keymux-timeout": "50ms"})
    assert (refused.status, refused.json["error"]["code"]) == (504, "upstream_timeout"), refused.body
    # A thousand tokens out at ten dollars a million, and its input: there is not as much left as once more.
    for _ in range(20):
        refused = ask(gateway, KEYS["one"], body, **{"x-keymux-timeout": "50ms"})
        assert refused.status == 402, refused.body
    assert len(upstream.requests) == 1
    over.set()
    gateway.stop()
    charged = [(row["status"], row["estimated"], row["cost_nano_usd"] > 10_000_000) for row in rows(gateway)]
    assert charged == [(504, 1, True)] + [(402, 0, False)] * 20


def test_a_key_is_not_found_out_by_trying(workshop):
    """What is refused says nothing of keys that are like it, and is logged without it."""
    gateway, upstream = workshop.in_front_of(answering(), more=declared("one"))
    for key in (KEYS["one"][:-1], KEYS["one"] + "x", KEYS["one"].upper(), "config:one", f" {KEYS['one'][1:]}", "\x00"):
        try:
            refused = ask(gateway, key, ASK)
        except (http.client.HTTPException, raw.Closed):
            continue
        assert refused.status in (400, 401) and b"`one`" not in refused.body, refused.body
    assert upstream.requests == []
    assert KEYS["one"] not in gateway.log()
