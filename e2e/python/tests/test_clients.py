"""Client keys over real sockets: who may call, what each may use up, and that money is held to the nano-dollar."""

import collections
import contextlib
import json
import signal
import sqlite3
import threading
import time

import pytest

import crashes
import harness
import raw

KEYS = {name: f"km-test-{name}-0123456789abcdef" for name in ("one", "two", "low", "old")}
ASK = {"model": "lab:m", "messages": [{"role": "user", "content": "How far is the moon?"}]}
# A cent for each request and nothing else: its bound is its cost.
CENT = """
[[price]]
model = "lab:*"
input = 0
output = 0
request = 0.01
"""
USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
ANSWER = json.dumps(
    {"id": "gen-1", "object": "chat.completion", "choices": [{"message": {"content": "far"}}], "usage": USAGE}
).encode()


def declared(name: str, more: str = "") -> str:
    return f'\n[[client]]\nname = "{name}"\nsecret = "literal:{KEYS[name]}"\n{more}\n'


def ask(gateway, key: str | None, body: dict | None = None, path: str = "/v1/chat/completions", **headers):
    """One call on a connection of its own; the whole answer."""
    given = {"Content-Type": "application/json", **headers}
    if key is not None:
        given["Authorization"] = f"Bearer {key}"
    method, data = ("GET", b"") if body is None else ("POST", json.dumps(body).encode())
    return raw.exchange(gateway.address, raw.request_bytes(path, data, method=method, headers=given))


def rows(gateway) -> list[sqlite3.Row]:
    """What the ledger has, once the gateway has ended."""
    with sqlite3.connect(gateway.config.parent / "data" / "ledger.db") as db:
        db.row_factory = sqlite3.Row
        return db.execute(
            "SELECT r.*, s.client, s.team, s.model, s.key_name FROM requests r JOIN series s ON s.id = r.series"
        ).fetchall()


def test_who_may_call_and_why_not(workshop):
    over = declared("old", 'expires = "2020-01-01"')
    gateway, upstream = workshop.in_front_of(raw.always(raw.response_bytes(ANSWER)), more=declared("one") + over)
    assert ask(gateway, KEYS["one"], ASK).status == 200
    assert ask(gateway, harness.TOKEN, ASK).status == 200
    for key, code in ((None, "invalid_api_key"), ("km-test-nobody", "invalid_api_key"), (KEYS["old"], "key_expired")):
        refused = ask(gateway, key, ASK)
        assert (refused.status, refused.json["error"]["code"]) == (401, code)
    assert len(upstream.wait_for(2)) == 2, "who may not call costs no call"


def test_a_clients_own_limits_are_told_and_kept(workshop):
    gateway, _ = workshop.in_front_of(raw.always(raw.response_bytes(ANSWER)), more=declared("one", "rpm = 2"))
    first = ask(gateway, KEYS["one"], ASK)
    assert (first.get("x-ratelimit-limit-requests"), first.get("x-ratelimit-remaining-requests")) == ("2", "1")
    statuses = [ask(gateway, KEYS["one"], ASK, **{"x-keymux-max-wait": "0"}) for _ in range(3)]
    refused = statuses[-1]
    assert (refused.status, refused.json["error"]["code"]) == (429, "client_rate_limit_exceeded")
    assert 1 <= int(refused.get("retry-after")) <= 31
    assert ask(gateway, harness.TOKEN, ASK).status == 200, "nobody else is limited"


def test_allow_lists_hold_for_fallbacks_and_lists(workshop):
    more = declared("one", 'models = ["lab:m*"]') + declared("two", 'keys = ["lab:lab-2"]')
    gateway, upstream = workshop.in_front_of(raw.always(raw.response_bytes(ANSWER)), n=2, more=more)
    assert ask(gateway, KEYS["one"], ASK).status == 200
    for body in ({**ASK, "model": "lab:x"}, {**ASK, "models": ["lab:x"]}, {**ASK, "fallbacks": [{"model": "x"}]}):
        refused = ask(gateway, KEYS["one"], body)
        assert (refused.status, refused.json["error"]["code"]) == (403, "model_not_allowed"), body
        assert "`x`" in refused.json["error"]["message"] or "lab:x" in refused.json["error"]["message"]
    before = len(upstream.wait_for(1))
    for _ in range(6):
        assert ask(gateway, KEYS["two"], ASK).status == 200
    used = {m.get("authorization") for m in upstream.wait_for(before + 6)[before:]}
    assert used == {"Bearer sk-test-lab-2"}


def test_of_200_at_once_against_a_budget_for_ten_ten_are_answered(workshop):
    """All are in before the first is answered: ten at the provider, the others wait for what those might give back."""
    all_in = threading.Event()

    def answer(connection, _request):
        assert all_in.wait(2 * raw.PATIENCE_S)
        connection.send(raw.response_bytes(ANSWER))
        return True

    gateway, upstream = workshop.in_front_of(answer, more=CENT + declared("one", "budget = 0.10"))
    body = json.dumps({**ASK, "max_tokens": 10}).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEYS['one']}"}
    with contextlib.ExitStack() as stack:
        callers = [stack.enter_context(raw.Connection(gateway.address)) for _ in range(200)]
        for caller in callers:
            caller.send(raw.request_bytes("/v1/chat/completions", body, headers=headers))
        deadline = time.monotonic() + raw.PATIENCE_S
        while (state := crashes.admin(gateway, "/admin/state"))["in_flight"] < 200:
            assert time.monotonic() < deadline, state
        assert len(upstream.wait_for(10)) == 10
        all_in.set()
        answers = [caller.read_message() for caller in callers]
    statuses = collections.Counter(answer.status for answer in answers)
    assert statuses == {200: 10, 402: 190}, statuses
    assert len(upstream.requests) == 10
    for refused in (answer for answer in answers if answer.status == 402):
        assert refused.get("x-should-retry") == "false" and refused.json["error"]["code"] == "budget_exhausted"
    spent = ask(gateway, KEYS["one"], {**ASK, "max_tokens": 10})
    assert (spent.status, spent.get("x-should-retry")) == (402, "false")
    assert "$0.00 left" in spent.json["error"]["message"]
    told = crashes.happened(gateway, "budget", 2)
    assert told == ["budget 80 % spent: key one, $0.08 of $0.10", "budget 100 % spent: key one, $0.10 of $0.10"]
    gateway.stop()
    charged = [(r["status"], r["cost_nano_usd"]) for r in rows(gateway) if r["client"] == "config:one"]
    assert collections.Counter(charged) == {(200, 10_000_000): 10, (402, 0): 191}


def test_who_is_taken_out_of_the_file_is_out_within_a_second_and_what_runs_ends(workshop):
    """A declared client is revoked by a reload; one that was made here by its call, before the call is answered."""
    gateway, upstream = workshop.in_front_of(raw.always(raw.response_bytes(ANSWER)), more=CENT + declared("one") + declared("two"))
    good = gateway.config.read_text()
    assert [ask(gateway, KEYS[name], ASK).status for name in ("one", "two")] == [200, 200]
    gateway.config.write_text(good.replace(declared("one"), ""))
    gateway.child.send_signal(signal.SIGHUP)
    since = time.monotonic()
    while ask(gateway, KEYS["one"], ASK).status != 401:
        assert time.monotonic() < since + 10, gateway.log()
    took = time.monotonic() - since
    assert ask(gateway, KEYS["two"], ASK).status == 200
    print(f"out after {took:.3f} s")


def test_a_dearer_provider_than_asked_for_is_not_used(workshop):
    """`provider.max_price` of a request holds at providers that do not know it; they do not get to see it either."""
    cheap, dear, unpriced = (workshop.upstream(raw.always(raw.response_bytes(ANSWER))) for _ in range(3))
    given = "".join(harness.provider(name, f"{up.url}/v1", n=1) for name, up in (("cheap", cheap), ("dear", dear), ("odd", unpriced)))
    given += '\n[[route]]\nmodel = "any"\ntiers = [["cheap:m", "dear:m", "odd:m"]]\n'
    given += '\n[[price]]\nmodel = "cheap:*"\ninput = 1\noutput = 2\n[[price]]\nmodel = "dear:*"\ninput = 3\noutput = 2\n'
    gateway = workshop.gateway(harness.SERVER + given)

    def served(**provider) -> set:
        body = {**ASK, "model": "any", "provider": provider}
        # Each is a conversation of its own, or they would all stay with the first.
        answers = [ask(gateway, harness.TOKEN, body, **{"x-keymux-session": f"s-{i}"}) for i in range(12)]
        return {(answer.status, answer.get("x-keymux-provider")) for answer in answers}

    assert served(max_price={"image": 0.1}, only=["odd"]) == {(200, "odd")}, "nothing of ours"
    assert served(max_price={"prompt": 1}) == {(200, "cheap")}
    within = {"prompt": "3", "completion": 2}
    assert served(max_price=within, ignore=["cheap"]) == {(200, "dear")}
    assert served(max_price=within, ignore=["dear"]) == {(200, "cheap")}
    assert all("provider" not in m.json for m in cheap.wait_for(1))
    for wished, status, code in (
        ({"prompt": 0.5}, 400, "no_provider_left"),
        ({"prompt": 1, "request": 0}, 200, None),
        ("cheap", 400, "invalid_type"),
        ({"prompt": "a lot"}, 400, "invalid_type"),
    ):
        answer = ask(gateway, harness.TOKEN, {**ASK, "model": "any", "provider": {"max_price": wished}})
        assert (answer.status, answer.json.get("error", {}).get("code")) == (status, code), answer.body


def test_what_was_spent_is_known_after_a_restart(workshop, tmp_path):
    upstream = workshop.upstream(raw.always(raw.response_bytes(ANSWER)))
    given = harness.provider("lab", f"{upstream.url}/v1", n=1, more=CENT + declared("one", "budget = 0.03"))
    folder = tmp_path / "again"
    ended = []
    for rounds in (2, 3):
        gateway = harness.Gateway(harness.SERVER + given, folder)
        ended.append([ask(gateway, KEYS["one"], {**ASK, "max_tokens": 1}).status for _ in range(rounds)])
        assert gateway.stop() == 0
    assert ended == [[200, 200], [200, 402, 402]]


def test_a_failure_is_refunded_and_a_cap_is_written_where_there_is_none(workshop):
    seen = []

    def answer(connection, request):
        seen.append(request.json)
        status = "500 Internal Server Error" if len(seen) == 1 else "200 OK"
        connection.send(raw.response_bytes(ANSWER, status=status))
        return True

    price = '\n[[price]]\nmodel = "lab:*"\ninput = 1\noutput = 10\n'
    gateway, _ = workshop.in_front_of(answer, more=price + declared("one", "budget = 0.05"))
    told = ask(gateway, KEYS["one"], ASK)
    assert told.status in (200, 500, 502)
    told = ask(gateway, KEYS["one"], ASK)
    assert told.status == 200
    # 4,096 would cost 4.1 cents beside the input: less than the budget.
    assert (seen[-1]["max_tokens"], told.get("x-keymux-max-tokens")) == (4096, "4096")
    gateway.stop()
    charged = [r["cost_nano_usd"] for r in rows(gateway) if r["client"] == "config:one"]
    # 5 tokens in at a dollar a million, 7 out at ten.
    assert sorted(charged)[-1] == 5 * 1_000 + 7 * 10_000
    assert sum(charged) in (75_000, 150_000)


def test_what_has_no_bound_or_no_price_is_refused_before_it_goes_out(workshop):
    gateway, upstream = workshop.in_front_of(
        raw.always(raw.response_bytes(ANSWER)), more=CENT + declared("one", "budget = 1")
    )
    for more in (
        {"plugins": [{"id": "web"}]},
        {"tools": [{"type": "web_search"}]},
        {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_url": "https://example.com/f.pdf"}}]}]},
    ):
        refused = ask(gateway, KEYS["one"], {**ASK, "max_tokens": 5, **more})
        assert (refused.status, refused.json["error"]["code"]) == (403, "cost_not_bounded"), more
    assert ask(gateway, KEYS["one"], {**ASK, "max_tokens": 5}).status == 200
    assert len(upstream.wait_for(1)) == 1


def test_a_client_that_leaves_is_charged_what_was_counted(workshop):
    half = threading.Event()
    gone = threading.Event()

    def answer(connection, _request):
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        event = b'data: {"id":"gen-9","choices":[{"delta":{"content":"x"}}]}\n\n'
        connection.send(head + raw.chunked(event, event, event, end=False))
        half.set()
        # The gateway closes when its client has gone.
        connection.sock.settimeout(raw.PATIENCE_S)
        try:
            while connection.sock.recv(100):
                pass
        except OSError:
            pass
        gone.set()
        return False

    price = '\n[[price]]\nmodel = "lab:*"\ninput = 1\noutput = 10\n'
    gateway, _ = workshop.in_front_of(answer, more=price + declared("one", "budget = 1"))
    body = json.dumps({**ASK, "stream": True, "max_tokens": 50}).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEYS['one']}"}
    with raw.Connection(gateway.address) as caller:
        caller.send(raw.request_bytes("/v1/chat/completions", body, headers=headers))
        caller.read_head()
        assert half.wait(raw.PATIENCE_S)
        caller.read_piece()
    assert gone.wait(raw.PATIENCE_S)
    gateway.stop()
    (row,) = rows(gateway)
    assert (row["status"] in (200, 499), row["estimated"], row["outcome"]) == (True, 1, "client_gone")
    assert row["generation"] == "gen-9"
    # Half as much again as was counted, and what may have been on its way.
    input, output = (-(-tokens * 3 // 2) for tokens in (row["input_tokens"], row["output_tokens"]))
    assert row["output_tokens"] >= 1 and row["cost_nano_usd"] == input * 1_000 + (output + 32) * 10_000


def stored_responses():
    """A provider that keeps what it answers, each under an id of its own."""
    made = iter(range(1, 100))

    def answer(connection, _request):
        body = {"id": f"resp_{next(made)}", "object": "response", "status": "completed", "output": []}
        connection.send(raw.response_bytes(json.dumps(body).encode()))
        return True

    return answer


def test_state_at_a_provider_is_its_clients_and_its_accounts_over_a_restart_too(workshop):
    upstream = workshop.upstream(stored_responses())
    given = harness.provider("lab", f"{upstream.url}/v1", n=3)
    config = harness.SERVER + given + declared("one") + declared("two")
    first = workshop.gateway(config)
    body = {"model": "lab:m", "input": "Remember this."}

    def follow(gateway, key, made):
        return ask(gateway, key, {**body, "previous_response_id": made}, "/v1/responses")

    others = [{**body, "input": f"Remember {n}."} for n in range(8)]
    made = [ask(first, KEYS["one"], other, "/v1/responses").json["id"] for other in others]
    by = dict(zip(made, (r.get("authorization") for r in upstream.requests), strict=True))
    assert len(set(by.values())) > 1, "several accounts have been used"
    first.stop()
    again = harness.Gateway(config, first.config.parent)
    workshop.made.append(again)
    for response, credential in by.items():
        before = len(upstream.requests)
        assert follow(again, KEYS["one"], response).status == 200
        assert [r.get("authorization") for r in upstream.requests[before:]] == [credential]
        for other in (KEYS["two"], harness.TOKEN):
            refused = follow(again, other, response)
            assert (refused.status, refused.json["error"]["code"]) == (404, "state_not_found")
        assert len(upstream.requests) == before + 1


FILE = {"type": "input_file", "file_id": "file-1"}


@pytest.mark.parametrize(
    "field, state",
    [
        ("previous_response_id", {"previous_response_id": "resp_9"}),
        ("conversation", {"conversation": "conv_9"}),
        ("file_id", {"input": [{"role": "user", "content": [FILE]}]}),
        ("item_reference", {"input": [{"type": "item_reference", "id": "msg_9"}]}),
    ],
)
def test_what_a_client_did_not_make_here_may_be_anothers_even_with_one_account(workshop, field, state):
    gateway, upstream = workshop.in_front_of(stored_responses(), more=declared("one"))
    refused = ask(gateway, KEYS["one"], {"model": "lab:m", "input": "x", **state}, "/v1/responses")
    assert (refused.status, refused.json["error"]["code"]) == (404, "state_not_found")
    assert refused.json["error"]["param"] == field and "`one`" in refused.json["error"]["message"]
    assert upstream.requests == []


@pytest.mark.parametrize("names, listed", [('["fast"]', ["fast"]), ('["*"]', ["fast", "slow"])])
def test_a_client_sees_its_own_models_only(workshop, names, listed):
    routes = '\n[[route]]\nmodel = "fast"\ntiers = [["lab:m"]]\n[[route]]\nmodel = "slow"\ntiers = [["lab:n"]]\n'
    gateway, _ = workshop.in_front_of(
        raw.always(raw.response_bytes(b"{}", status="404 Not Found")), more=routes + declared("low", f"models = {names}")
    )
    models = ask(gateway, KEYS["low"], path="/v1/models").json["data"]
    assert [m["id"] for m in models] == listed


def test_without_its_database_from_the_start_only_who_has_no_budget_is_served(workshop):
    away = '\n[ledger]\ndatabase = "literal:postgres://nobody@127.0.0.1:1/none"\n'
    more = CENT + declared("one", "budget = 1") + declared("two", "rpm = 60") + away
    gateway, _ = workshop.in_front_of(raw.always(raw.response_bytes(ANSWER)), more=more)
    assert ask(gateway, KEYS["two"], ASK).status == 200
    # What it spent before is in the database: a budget that is not known to hold does not serve.
    refused = ask(gateway, KEYS["one"], {**ASK, "max_tokens": 1})
    assert (refused.status, refused.json["error"]["code"]) == (503, "journal_unavailable")
    assert refused.get("retry-after")
    # Nobody knows whether this is one of the database's keys.
    stored = ask(gateway, "km-test-perhaps-stored", ASK)
    assert (stored.status, stored.json["error"]["code"]) == (503, "clients_unavailable")
