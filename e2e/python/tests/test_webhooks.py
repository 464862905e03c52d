"""Whoever is to be told when something needs a person is told once, and again when it is over: programs, Slack, Feishu."""

import base64
import hashlib
import hmac
import json
import re
import subprocess
import urllib.error
import urllib.request

import openai
import pytest

import crashes
import harness
import raw

TOKEN = "T0KEN-IN-THE-PATH"
ASK = [{"role": "user", "content": "How far is the moon?"}]
WHSEC = base64.b64encode(b"a key that signs, and no more").decode()


def takes(connection, _request):
    connection.send(raw.response_bytes(b'{"code":0}'))


def hook(receiver, kind: str = "json", more: str = "") -> str:
    return f"""
[[webhook]]
name = "{kind}"
kind = "{kind}"
url = "literal:{receiver.url}/hooks/{TOKEN}?x={TOKEN}"
gather = "0s"
{more}
"""


def bodies(receiver, n: int) -> list[dict]:
    """The bodies of the first n messages."""
    return [json.loads(message.body) for message in receiver.wait_for(n)]


def ask(front) -> None:
    with openai.OpenAI(base_url=f"{front.url}/v1", api_key=harness.TOKEN, max_retries=0) as client:
        client.chat.completions.create(model="openai:m", messages=ASK)


def admin(front, method: str, path: str) -> dict:
    headers = {"Authorization": f"Bearer {harness.ADMIN_TOKEN}"}
    request = urllib.request.Request(front.admin + path, headers=headers, method=method)
    with urllib.request.urlopen(request, timeout=raw.PATIENCE_S + 5) as response:
        return json.load(response)


def events(body: dict) -> list[tuple]:
    return [(e["event"], e["state"], e["severity"], e["subject"]) for e in body["events"]]


@pytest.fixture
def revoked(world):
    """The provider knows one key no more."""
    world.inject(provider="openai", key="openai-1", fault={"kind": "bad_key"})
    yield
    world.clear(provider="openai", key="openai-1")


def one_key(world, hooks: str) -> str:
    return harness.SERVER + harness.provider("openai", f"{world.url}/openai/v1", n=1) + hooks


def test_a_revoked_key_is_told_once_and_that_it_is_back(world, workshop, revoked):
    told, slack, feishu = (workshop.upstream(takes) for _ in range(3))
    secret = f'secret = "literal:whsec_{WHSEC}"'
    hooks = hook(told, more=secret) + hook(slack, "slack") + hook(feishu, "feishu", 'secret = "literal:fs-test"')
    front = workshop.gateway(one_key(world, hooks))
    for _ in range(3):
        with pytest.raises(openai.APIStatusError):
            ask(front)
    key = "openai/openai-1/openai-1"
    [begun] = bodies(told, 1)
    # That it was the only key is told with it, or right after.
    seen = events(begun)
    assert ("key_out", "begins", "critical", key) in seen and begun["source"] == "keymux" and begun["left_out"] == 0
    if ("all_keys_out", "begins", "critical", "openai") not in seen:
        seen += events(bodies(told, 2)[1])
    assert sorted(seen) == [("all_keys_out", "begins", "critical", "openai"), ("key_out", "begins", "critical", key)]
    world.clear(provider="openai", key="openai-1")
    admin(front, "POST", "/admin/keys/openai/openai-1/restore")
    ask(front)
    over = []
    while len(over) < 2:
        sent = bodies(told, 1)
        over = [e for body in sent for e in body["events"] if e["state"] == "over"]
        if len(over) < 2:
            told.wait_for(len(sent) + 1)
    assert {e["event"] for e in over} == {"key_out", "all_keys_out"}
    assert all(e["text"].endswith(("s", "moment", "min")) and " after " in e["text"] for e in over)
    begun = [e for body in bodies(told, 1) for e in body["events"] if e["state"] == "begins"]
    assert len(begun) == 2, "each once"
    # Signed as Standard Webhooks has it.
    message = told.requests[0]
    assert message.get("content-type") == "application/json; charset=utf-8"
    signed = f"{message.get('webhook-id')}.{message.get('webhook-timestamp')}.".encode() + message.body
    mac = hmac.new(base64.b64decode(WHSEC), signed, hashlib.sha256).digest()
    assert message.get("webhook-signature") == "v1," + base64.b64encode(mac).decode()
    # Slack's shape, and Feishu's with its signature.
    body = bodies(slack, 1)[0]
    assert set(body) == {"text"} and body["text"].startswith("*keymux on ") and f"🔴 key benched: {key}" in body["text"]
    body = bodies(feishu, 1)[0]
    post = body["content"]["post"]["en_us"]
    assert body["msg_type"] == "post" and post["title"].startswith("keymux on ")
    assert any(f"key benched: {key}" in part["text"] for line in post["content"] for part in line)
    mac = hmac.new(f"{body['timestamp']}\nfs-test".encode(), b"", hashlib.sha256).digest()
    assert body["sign"] == base64.b64encode(mac).decode()
    front.stop()
    assert TOKEN not in front.log() and WHSEC not in front.log() and "fs-test" not in front.log()


def test_only_what_is_wanted_is_told(world, workshop, revoked):
    picky, all_of_it = workshop.upstream(takes), workshop.upstream(takes)
    hooks = hook(picky, "slack", 'events = ["reload"]') + hook(all_of_it)
    front = workshop.gateway(one_key(world, hooks))
    with pytest.raises(openai.APIStatusError):
        ask(front)
    bodies(all_of_it, 1)
    good = front.config.read_text()
    front.config.write_text(good.replace("gather", "gathr"))
    text = bodies(picky, 1)[0]["text"]
    assert "reload refused" in text and "key benched" not in text
    front.config.write_text(good)
    assert "🟢 configuration in order again" in bodies(picky, 2)[1]["text"]


def test_a_webhook_that_does_not_answer_is_told_once_and_caught_up_with(world, workshop, revoked):
    refuses = [True]

    def sometimes(connection, _request):
        status = "503 Service Unavailable" if refuses[0] else "200 OK"
        connection.send(raw.response_bytes(b"", status=status))

    broken, other = workshop.upstream(sometimes), workshop.upstream(takes)
    front = workshop.gateway(one_key(world, hook(broken, "slack") + hook(other)))
    with pytest.raises(openai.APIStatusError):
        ask(front)
    broken.wait_for(3)
    refuses[0] = False
    broken.wait_for(4)
    begun = []
    while not any(e["event"] == "webhook" and e["state"] == "over" for e in begun):
        begun = [e for body in bodies(other, len(other.requests)) for e in body["events"]]
    assert [e["subject"] for e in begun if e["event"] == "webhook"] == ["slack", "slack"]
    assert "key benched" in json.loads(broken.requests[-1].body)["text"], "made anew, and complete"
    front.stop()
    assert front.log().count("webhook does not take its messages: slack: it answered 503") == 1
    assert front.log().count("webhook works again: slack") == 1


def test_redirects_are_not_followed(workshop, world):
    elsewhere = workshop.upstream(takes)

    def sends_on(connection, _request):
        headers = {"Location": f"{elsewhere.url}/steal"}
        connection.send(raw.response_bytes(b"", status="307 Temporary Redirect", headers=headers))

    front = workshop.gateway(one_key(world, hook(workshop.upstream(sends_on))))
    with pytest.raises(urllib.error.HTTPError) as caught:
        admin(front, "POST", "/admin/webhooks/json/test")
    message = json.loads(caught.value.read())["error"]["message"]
    assert "307, and redirects are not followed" in message and TOKEN not in message
    assert elsewhere.requests == []


def test_a_test_message_by_hand(world, workshop):
    receiver = workshop.upstream(takes)
    nowhere = f'[[webhook]]\nname = "gone"\nurl = "literal:http://127.0.0.1:1/{TOKEN}"\n'
    front = workshop.gateway(one_key(world, hook(receiver, "feishu") + nowhere))

    def keymux(*words: str) -> subprocess.CompletedProcess:
        argv = [harness.binary("KEYMUX_BIN"), "webhooks", *words, "--admin", front.admin.removeprefix("http://")]
        env = harness.clean_env(KEYMUX_ADMIN_TOKEN=harness.ADMIN_TOKEN)
        return subprocess.run(argv, capture_output=True, text=True, env=env, timeout=raw.PATIENCE_S + 5)

    done = keymux("test", "feishu")
    assert (done.returncode, done.stdout) == (0, f"delivered to {receiver.url}/…\n"), done.stderr
    [body] = bodies(receiver, 1)
    assert "come through" in body["content"]["post"]["en_us"]["content"][0][0]["text"]
    listed = json.loads(keymux("list", "--json").stdout)["webhooks"]
    assert [(h["name"], h["url"], h["open"]) for h in listed] == [
        ("feishu", f"{receiver.url}/…", 0),
        ("gone", "http://127.0.0.1:1/…", 0),
    ]
    assert "feishu" in keymux("list").stdout
    unknown = keymux("test", "feishy")
    assert unknown.returncode == 2 and "There is no webhook `feishy`; the configuration has feishu, gone." in unknown.stderr
    gone = keymux("test", "gone")
    assert gone.returncode == 1 and "cannot reach 127.0.0.1" in gone.stderr and TOKEN not in gone.stderr


OWNED = """
[[provider]]
name = "or"
dialect = "openrouter"
[[provider.account]]
name = "acc"
[[provider.account.key]]
name = "main"
secret = "sk-test-or-main"
[[provider.account.key]]
name = "gone"
secret = "sk-test-or-gone"
"""


@pytest.fixture
def owned(tmp_path):
    """A provider whose answers name one owner of two keys."""
    spec = tmp_path / "owned.toml"
    spec.write_text(OWNED)
    process = harness.World(spec)
    yield process
    assert process.alive(), process.log()
    process.stop()


def told_of(receiver, event: str, n: int) -> list[tuple[str, str, str]]:
    """State, subject and text of the first n things that are told of this kind, or more."""
    while True:
        sent = bodies(receiver, max(1, len(receiver.requests)))
        found = [(e["state"], e["subject"], e["text"]) for body in sent for e in body["events"] if e["event"] == event]
        if len(found) >= n:
            return found
        receiver.wait_for(len(sent) + 1)


def test_a_key_of_an_account_that_was_joined_is_told_of_by_the_same_name(owned, workshop):
    receiver = workshop.upstream(takes)
    secrets = ", ".join(f'{{ name = "{key}", secret = "literal:sk-test-or-{key}" }}' for key in ("main", "gone"))
    provider = f'[[provider]]\nname = "or"\ndialect = "openrouter"\nbase_url = "{owned.url}/or/api/v1"\nkeys = [{secrets}]\n'
    front = workshop.gateway(harness.SERVER + provider + '[checks]\nevery = "1s"\n' + hook(receiver))
    assert "or/gone shares the limits of or/main" in crashes.happened(front, "one account", 1)[0]
    key = "or/gone/gone"
    place = {"provider": "or", "key": "gone"}
    owned.inject(**place, fault={"kind": "bad_key"})
    assert [one[:2] for one in told_of(receiver, "key_out", 1)] == [("begins", key)]
    # Whatever an operator does has the state of keys looked at.
    admin(front, "POST", "/admin/keys/or/main/enable")
    crashes.happened(front, "switched on", 1)
    owned.clear(**place)
    admin(front, "POST", "/admin/keys/or/gone/restore")
    found = told_of(receiver, "key_out", 2)
    assert [one[:2] for one in found] == [("begins", key), ("over", key)], found
    assert found[1][2].startswith(f"key back: {key} after ")
    # Once more, and this time it is switched off.
    owned.inject(**place, fault={"kind": "bad_key"})
    told_of(receiver, "key_out", 3)
    admin(front, "POST", "/admin/keys/or/gone/disable")
    found = told_of(receiver, "key_out", 4)
    assert [one[:2] for one in found[2:]] == [("begins", key), ("over", key)], found
    assert found[3][2].startswith(f"removed or switched off: {key} after ")
    # Switched on again it is news again.
    admin(front, "POST", "/admin/keys/or/gone/enable")
    assert told_of(receiver, "key_out", 5)[4][0] in ("begins", "flaps")


def keys_out(front) -> dict[str, float]:
    """By provider, as a scrape tells it."""
    found = re.findall(r'^keymux_provider_keys_out\{provider="(\w+)"\} (\d+)', front.metrics(), re.M)
    return {name: int(n) for name, n in found}


def test_a_provider_without_a_key_is_told_of_in_a_fleet_of_more_than_a_thousand(world, workshop, revoked):
    receiver = workshop.upstream(takes)
    # The view of keys ends before the last provider.
    many = harness.provider("bulk", "http://127.0.0.1:1/v1", n=1_001)
    last = harness.provider("openai", f"{world.url}/openai/v1", n=1)
    off = '[checks]\nevery = "0s"\n'
    front = workshop.gateway(harness.SERVER + many + last + off + hook(receiver, more='events = ["all_keys_out"]'))
    with pytest.raises(openai.APIStatusError):
        ask(front)
    assert [one[:2] for one in told_of(receiver, "all_keys_out", 1)] == [("begins", "openai")]
    assert keys_out(front) == {"bulk": 0, "openai": 1}
    state = admin(front, "GET", "/admin/state")
    assert [(p["name"], p["keys"], p["keys_out"]) for p in state["providers"]] == [("bulk", 1_001, 0), ("openai", 1, 1)]
    assert state["keys_left_out"] == 2
    world.clear(provider="openai", key="openai-1")
    admin(front, "POST", "/admin/keys/openai/openai-1/restore")
    assert [one[:2] for one in told_of(receiver, "all_keys_out", 2)] == [("begins", "openai"), ("over", "openai")]


def test_a_key_with_a_new_secret_is_used_at_once_though_it_was_benched_and_switched_off(world, workshop, revoked):
    front = workshop.gateway(one_key(world, '[checks]\nevery = "0s"\n'))
    with pytest.raises(openai.APIStatusError):
        ask(front)
    admin(front, "POST", "/admin/keys/openai/openai-1/disable")
    front.config.write_text(front.config.read_text().replace("sk-test-openai-1", "sk-test-openai-2"))
    crashes.happened(front, "reload: ", 1)
    assert keys_out(front) == {"openai": 0}, "nothing that is switched off is out"
    admin(front, "POST", "/admin/keys/openai/openai-1/enable")
    ask(front)
    assert keys_out(front) == {"openai": 0}


def test_what_checks_alone_found_out_is_over_when_they_are_switched_off(owned, workshop):
    receiver = workshop.upstream(takes)
    owned.inject(provider="or", fault={"kind": "bad_key"})
    secret = 'secret = "literal:sk-test-or-main"'
    provider = f'[[provider]]\nname = "or"\ndialect = "openrouter"\nbase_url = "{owned.url}/or/api/v1"\nkeys = [{{ name = "main", {secret} }}]\n'
    front = workshop.gateway(harness.SERVER + provider + '[checks]\nevery = "1s"\n' + hook(receiver))
    # With one key there is nobody to compare with: it is told, and not benched.
    assert [one[:2] for one in told_of(receiver, "key_out", 1)] == [("begins", "or/main/main")]
    assert 'keymux_checks_total{result="refused"}' in front.metrics() and "keymux_key_check_age_seconds{" in front.metrics()
    on = front.config.read_text()
    front.config.write_text(on.replace('every = "1s"', 'every = "0s"'))
    found = told_of(receiver, "key_out", 2)
    assert found[1][0] == "over" and found[1][2].startswith("no longer checked: or/main/main after "), found
    assert "keymux_key_check_age_seconds{" not in front.metrics()
    # Whoever asks again finds the same, and that is news.
    front.config.write_text(on)
    assert told_of(receiver, "key_out", 3)[2][:2] == ("begins", "or/main/main")


def test_a_webhook_that_comes_later_is_told_of_what_stands(world, workshop, revoked):
    early, late = workshop.upstream(takes), workshop.upstream(takes)
    front = workshop.gateway(one_key(world, '[checks]\nevery = "0s"\n'))
    with pytest.raises(openai.APIStatusError):
        ask(front)
    crashes.happened(front, "key benched", 1)
    without = front.config.read_text()
    budgets = hook(early, more='events = ["budget"]')
    front.config.write_text(without + budgets + hook(late).replace('name = "json"', 'name = "late"'))
    assert ("key_out", "begins", "critical", "openai/openai-1/openai-1") in [one for body in bodies(late, 1) for one in events(body)]
    assert early.requests == []
    # One that wants to know more is told of it too, and nobody is told again.
    front.config.write_text(front.config.read_text().replace('events = ["budget"]', ""))
    assert "key_out" in [one[0] for body in bodies(early, 1) for one in events(body)]
    world.clear(provider="openai", key="openai-1")
    admin(front, "POST", "/admin/keys/openai/openai-1/restore")
    for receiver in (early, late):
        begun, over = told_of(receiver, "key_out", 2)[:2]
        assert (begun[0], over[0]) == ("begins", "over")
