"""Client keys and teams over the admin API: made, changed, replaced, ended; in force as soon as the answer is there; on
SQLite and on PostgreSQL alike."""

import hashlib
import json
import urllib.error
import urllib.request

import pytest

import harness
import ledgers
import raw

LAB = """
[[provider]]
name = "lab"
dialect = "openai"
base_url = "{base}"
keys = [ {{ name = "a", account = "x", secret = "literal:sk-test-a" }}, {{ name = "b", secret = "literal:sk-test-b" }} ]
[[price]]
model = "lab:*"
input = 1
output = 10
"""
DECLARED = """
[[team]]
name = "file-team"
budget = 5.0
[[client]]
name = "file-client"
team = "file-team"
secret = "literal:declared-client-key-0123456789"
rpm = 100
"""
ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Well."}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }
)


class Api:
    """Calls as they are: the status, the body, the headers."""

    def __init__(self, url: str, token: str | None = harness.ADMIN_TOKEN):
        self.url, self.token = url, token

    def __call__(self, method: str, path: str, body=None, **headers) -> tuple[int, dict, dict]:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        headers["Content-Type"] = "application/json"
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=harness.PATIENCE_S) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text else {}, dict(answer.headers)
        except urllib.error.HTTPError as error:
            text = error.read()
            return error.code, json.loads(text) if text.startswith(b"{") else {"text": text}, dict(error.headers)


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request, tmp_path):
    made = ledgers.open_ledger(request.param, tmp_path / "ledger")
    yield made
    made.close()


@pytest.fixture
def begun(workshop, ledger):
    upstream = workshop.upstream(raw.always(raw.response_bytes(ANSWER.encode())))

    def begin(more: str = ""):
        config = harness.SERVER + LAB.format(base=f"{upstream.url}/v1") + more
        return workshop.gateway(config + f'\n[ledger]\nlog_bytes = "1MiB"\n{ledger.setting}\n')

    return begin


def asks(gateway, key: str, model: str = "lab:m") -> int:
    body = {"model": model, "messages": [{"role": "user", "content": "How far?"}], "max_tokens": 50}
    return Api(gateway.url, key)("POST", "/v1/chat/completions", body)[0]


def test_the_life_of_a_key(begun):
    gateway = begun()
    admin = Api(gateway.admin)
    status, made, headers = admin("POST", "/admin/clients", {"name": "nightly", "models": ["lab:m"], "budget": 2.5})
    assert status == 201, made
    key, id = made["key"], made["id"]
    assert key.startswith("km-") and len(key) == 46 and made["budget"] == 2.5 and made["reset"] == "never"
    assert made["hash"] == hashlib.sha256(key.encode()).hexdigest()
    tag = headers["etag"]
    assert asks(gateway, key) == 200
    assert asks(gateway, key, "lab:n") == 403
    # Its secret is shown once, and is nowhere else.
    status, seen, _ = admin("GET", f"/admin/clients/{id}")
    assert status == 200 and "key" not in seen and seen["name"] == "nightly" and key not in json.dumps(seen)
    assert [c["id"] for c in admin("GET", "/admin/clients")[1]["clients"]] == [id]
    # Changed by whoever looked at it last, and by nobody else.
    status, seen, headers = admin("PATCH", f"/admin/clients/{id}", {"disabled": True}, **{"If-Match": tag})
    assert status == 200 and seen["status"] == "disabled"
    assert asks(gateway, key) == 401
    status, told, _ = admin("PATCH", f"/admin/clients/{id}", {"disabled": False}, **{"If-Match": tag})
    assert status == 409 and told["error"]["code"] == "version_conflict"
    assert admin("PATCH", f"/admin/clients/{id}", {"disabled": False, "budget": None})[1]["budget"] is None
    assert asks(gateway, key) == 200
    # Another secret: the old one goes on for as long as it was given.
    status, turned, _ = admin("POST", f"/admin/clients/{id}/rotate", {"grace_s": 600})
    assert status == 200 and turned["key"] != key and turned["old_key_until"]
    assert asks(gateway, key) == 200 and asks(gateway, turned["key"]) == 200
    _, last, _ = admin("POST", f"/admin/clients/{id}/rotate")
    assert [asks(gateway, k) for k in (key, turned["key"], last["key"])] == [401, 401, 200]
    # Its end, which is for ever, and outlives the process.
    assert admin("DELETE", f"/admin/clients/{id}")[1]["status"] == "revoked"
    assert asks(gateway, last["key"]) == 401
    assert admin("PATCH", f"/admin/clients/{id}", {"disabled": False})[1]["error"]["code"] == "key_revoked"
    assert admin("GET", "/admin/clients")[1]["clients"] == []
    assert len(admin("GET", "/admin/clients?revoked=true")[1]["clients"]) == 1
    kept = admin("POST", "/admin/clients", {"name": "kept"})[1]["key"]
    assert gateway.stop() == 0
    again = begun()
    assert asks(again, kept) == 200 and asks(again, last["key"]) == 401


def test_teams(begun):
    gateway = begun(DECLARED)
    admin = Api(gateway.admin)
    assert admin("PUT", "/admin/teams/night", {"budget": 10, "reset": "monthly", "rpm": 60})[0] == 201
    status, team, headers = admin("GET", "/admin/teams/night")
    assert (status, team["budget"], team["reset"], team["rpm"]) == (200, 10.0, "monthly", 60)
    assert admin("PUT", "/admin/teams/night", {"rpm": None})[1]["rpm"] is None
    assert admin("PUT", "/admin/teams/night", {"rpm": 1}, **{"If-Match": headers["etag"]})[0] == 409
    names = {t["name"]: t["origin"] for t in admin("GET", "/admin/teams")[1]["teams"]}
    assert names == {"file-team": "configuration", "night": "api"}
    made = admin("POST", "/admin/clients", {"name": "a", "team": "night"})[1]
    assert asks(gateway, made["key"]) == 200
    status, told, _ = admin("DELETE", "/admin/teams/night")
    assert status == 409 and told["error"]["code"] == "team_in_use"
    assert admin("PUT", "/admin/teams/night", {"disabled": True})[0] == 200
    assert asks(gateway, made["key"]) == 401
    assert admin("GET", f"/admin/clients/{made['id']}")[1]["status"] == "team_off"
    assert admin("DELETE", f"/admin/clients/{made['id']}")[0] == 200
    assert admin("DELETE", "/admin/teams/night")[0] == 204
    assert admin("GET", "/admin/teams/night")[0] == 404


def test_what_the_file_declares_is_listed_and_changed_there_alone(begun):
    gateway = begun(DECLARED)
    admin = Api(gateway.admin)
    (one,) = admin("GET", "/admin/clients")[1]["clients"]
    assert (one["id"], one["origin"], one["team"], one["rpm"]) == (
        "config:file-client", "configuration", "file-team", 100,
    )
    assert asks(gateway, "declared-client-key-0123456789") == 200
    for method, path in [
        ("PATCH", "/admin/clients/config:file-client"),
        ("DELETE", "/admin/clients/config:file-client"),
        ("POST", "/admin/clients/config:file-client/rotate"),
        ("PUT", "/admin/teams/file-team"),
        ("DELETE", "/admin/teams/file-team"),
    ]:
        status, told, _ = admin(method, path, {})
        assert status == 403 and "configuration" in told["error"]["message"], (method, path, told)


WRONG = {
    "no name": ({}, ["name"]),
    "a name of nothing": ({"name": " "}, ["name"]),
    "a misspelt field": ({"name": "a", "rmp": 5}, ["rmp", "rpm"]),
    "an unknown provider": ({"name": "a", "providers": ["lba"]}, ["providers", "lab"]),
    "an unknown account": ({"name": "a", "accounts": ["lab:y"]}, ["accounts", "x"]),
    "an account without its provider": ({"name": "a", "accounts": ["x"]}, ["accounts", "provider:account"]),
    "an unknown key": ({"name": "a", "keys": ["lab:c"]}, ["keys", '"c"']),
    "no model at all": ({"name": "a", "models": []}, ["models", "null"]),
    "a model that is none": ({"name": "a", "models": ["a b"]}, ["models"]),
    "a negative budget": ({"name": "a", "budget": -1}, ["budget", "0"]),
    "a budget in words": ({"name": "a", "budget": "much"}, ["budget", "number"]),
    "a reset of nothing": ({"name": "a", "reset": "daily"}, ["reset", "budget"]),
    "an unknown reset": ({"name": "a", "budget": 1, "reset": "hourly"}, ["reset", "weekly"]),
    "an unknown class": ({"name": "a", "priority": "urgent"}, ["priority", "high"]),
    "no requests a minute": ({"name": "a", "rpm": 0}, ["rpm", "1"]),
    "half a request at once": ({"name": "a", "concurrent": 0.5}, ["concurrent"]),
    "a past end": ({"name": "a", "expires": "2020-01-01"}, ["expires", "past"]),
    "an end that is no day": ({"name": "a", "expires": "soon"}, ["expires", "2027-01-31"]),
    "an unknown team": ({"name": "a", "team": "nobody"}, ["team", "nobody"]),
    "too many tags": ({"name": "a", "tags": ["t"] * 17}, ["tags", "16"]),
    "no object": ([], ["object"]),
    "no JSON": (b"{", ["JSON"]),
}


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """A gateway that nobody answers."""
    config = harness.SERVER + LAB.format(base="http://127.0.0.1:9/v1")
    process = harness.Gateway(config, tmp_path_factory.mktemp("quiet"))
    yield process
    assert process.stop() == 0


@pytest.mark.parametrize("what", WRONG)
def test_mistakes_name_the_field_and_the_mend(quiet, what):
    body, words = WRONG[what]
    status, told, _ = Api(quiet.admin)("POST", "/admin/clients", body)
    assert status == 400, told
    for word in words:
        assert word in told["error"]["message"], told


def test_all_mistakes_are_told_at_once_and_nothing_is_made(quiet):
    admin = Api(quiet.admin)
    status, told, _ = admin("POST", "/admin/clients", {"budget": -1, "rpm": 0, "weight": "x", "whatever": 1})
    assert {p["field"] for p in told["error"]["problems"]} == {"budget", "rpm", "weight", "whatever"}
    assert admin("GET", "/admin/clients")[1]["clients"] == []


def test_only_the_admin_token_opens_it(quiet):
    for token in (None, "wrong", harness.TOKEN):
        for method, path in [("GET", "/admin/clients"), ("POST", "/admin/clients"), ("GET", "/admin/usage")]:
            assert Api(quiet.admin, token)(method, path)[0] == 401
        for method, path in [("GET", "/api/v1/keys"), ("POST", "/v1/keys"), ("DELETE", "/v1/keys/ab")]:
            assert Api(quiet.url, token)(method, path)[0] == 401


def test_what_there_is_not(quiet):
    admin = Api(quiet.admin)
    for method, path in [
        ("GET", "/admin/clients/ck-0"),
        ("PATCH", "/admin/clients/ck-0"),
        ("DELETE", "/admin/clients/config:nobody"),
        ("POST", "/admin/clients/ck-0/rotate"),
        ("GET", "/admin/teams/nobody"),
        ("DELETE", "/admin/teams/nobody"),
    ]:
        status, told, _ = admin(method, path, None if method == "GET" else {})
        assert status == 404 and "There is no" in told["error"]["message"], (method, path, told)


def test_without_a_ledger_keys_are_declared_in_the_file(workshop):
    config = harness.SERVER + LAB.format(base="http://127.0.0.1:9/v1") + '\n[ledger]\ndatabase = "off"\n'
    gateway = workshop.gateway(config)
    status, told, _ = Api(gateway.admin)("POST", "/admin/clients", {"name": "a"})
    assert status == 409 and "[[client]]" in told["error"]["message"]
    assert Api(gateway.admin)("GET", "/admin/clients")[0] == 200
    assert Api(gateway.admin)("GET", "/admin/state")[1]["ledger"] == {"state": "off"}


def test_openrouters_surface_by_hand(begun):
    """What the SDK does not show: who may see what."""
    gateway = begun()
    admin = Api(gateway.url)
    status, made, _ = admin("POST", "/api/v1/keys", {"name": "one", "limit": 3, "limit_reset": "weekly"})
    assert status == 201, made
    other = admin("POST", "/v1/keys", {"name": "two"})[1]
    hash, key = made["data"]["hash"], made["key"]
    assert hash == hashlib.sha256(key.encode()).hexdigest()
    mine = Api(gateway.url, key)
    status, seen, _ = mine("GET", "/api/v1/key")
    assert status == 200, seen
    assert (seen["data"]["limit"], seen["data"]["limit_remaining"], seen["data"]["limit_reset"]) == (3, 3, "weekly")
    assert mine("GET", "/v1/credits")[1]["data"] == {"total_credits": 3, "total_usage": 0}
    # A client key manages nothing, and sees nobody else's.
    assert mine("GET", "/api/v1/keys")[0] == 401 and mine("DELETE", f"/v1/keys/{hash}")[0] == 401
    assert mine("GET", "/api/v1/generation?id=gen-of-somebody")[0] == 404
    assert mine("GET", "/api/v1/generation")[0] == 400
    assert admin("GET", f"/v1/keys/{'0' * 64}")[0] == 404 and admin("GET", "/v1/keys/ck-0")[0] == 404
    assert admin("POST", "/v1/keys", {"name": "x", "limit": -1})[0] == 400
    assert admin("PATCH", f"/v1/keys/{hash}", {"disabled": True})[1]["data"]["disabled"] is True
    assert mine("GET", "/v1/key")[0] == 401
    assert [k["hash"] for k in admin("GET", "/v1/keys")[1]["data"]] == [other["data"]["hash"]]
    assert len(admin("GET", "/v1/keys?include_disabled=true")[1]["data"]) == 2
    assert admin("DELETE", f"/v1/keys/{hash}")[1]["deleted"] is True
    assert admin("GET", f"/v1/keys/{hash}")[0] == 404
