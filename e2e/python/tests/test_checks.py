"""Keys in each state that their provider can give them: as `keymux keys` tells it, and what the gateway makes of it."""

import datetime
import json
import subprocess
import time

import pytest

import crashes
import harness
import raw

AUTH = {"Authorization": f"Bearer {harness.TOKEN}"}

WORLD = """
[[provider]]
name = "or"
dialect = "openrouter"
[[provider.model]]
id = "vendor/large"
input_nano_usd = 3000
output_nano_usd = 15000
[[provider.account]]
name = "acc-a"
[[provider.account.key]]
name = "main"
secret = "sk-test-or-main"
spend_cap_nano_usd = 50000000000
spent_nano_usd = 12340000000
spend_reset = "monthly"
[[provider.account.key]]
name = "spare"
secret = "sk-test-or-spare"
[[provider.account.key]]
name = "apart"
secret = "sk-test-or-apart"
workspace = "ws"
[[provider.account]]
name = "acc-b"
[[provider.account.key]]
name = "capped"
secret = "sk-test-or-capped"
spend_cap_nano_usd = 5000000000
spent_nano_usd = 5010000000
spend_reset = "daily"
[[provider.account]]
name = "acc-c"
[[provider.account.key]]
name = "ending"
secret = "sk-test-or-ending"
expires_in_ms = 302400000
[[provider.account.key]]
name = "ended"
secret = "sk-test-or-ended"
expires_in_ms = 0
[[provider.account.key]]
name = "disabled"
secret = "sk-test-or-disabled"
disabled = true
[[provider.account]]
name = "acc-d"
credit_nano_usd = 0
[[provider.account.key]]
name = "broke"
secret = "sk-test-or-broke"
[[provider.account]]
name = "acc-e"
[[provider.account.key]]
name = "odd"
secret = "sk-test-or-odd"

[[provider]]
name = "oai"
dialect = "openai"
[[provider.account]]
name = "org-x"
key = [{ name = "x1", secret = "sk-test-oai-x1" }, { name = "x2", secret = "sk-test-oai-x2" }]
"""


@pytest.fixture(scope="module")
def provider(tmp_path_factory):
    spec = tmp_path_factory.mktemp("checks") / "world.toml"
    spec.write_text(WORLD)
    process = harness.World(spec)
    yield process
    assert process.alive(), process.log()
    process.stop()


def file(tmp_path, *providers: str):
    path = tmp_path / "keymux.toml"
    path.write_text("".join(providers))
    return path


def given(name: str, url: str, *keys: str, dialect: str = "openrouter") -> str:
    secrets = ", ".join(f'{{ name = "{key}", secret = "literal:sk-test-{name}-{key}" }}' for key in keys)
    return f'[[provider]]\nname = "{name}"\ndialect = "{dialect}"\nbase_url = "{url}"\nkeys = [{secrets}]\n'


def keys(*argv, env: dict[str, str] | None = None, timeout: float = raw.PATIENCE_S):
    done = subprocess.run(
        [harness.binary("KEYMUX_BIN"), "keys", *map(str, argv)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=harness.clean_env(**(env or {})),
    )
    assert "panicked" not in done.stderr and "\x1b" not in done.stdout
    assert "sk-test-" not in done.stdout + done.stderr, "no secret is ever shown"
    return done


def told(*argv, **options) -> tuple[int, dict[str, dict]]:
    done = keys(*argv, "--json", **options)
    return done.returncode, {one["key"]: one for one in json.loads(done.stdout)["keys"]}


ALL = ("main", "spare", "apart", "capped", "ending", "ended", "disabled", "broke", "revoked")


def test_each_state_is_told(provider, tmp_path):
    config = file(tmp_path, given("or", f"{provider.url}/or/api/v1", *ALL))
    code, found = told("--config", config)
    assert code == 1
    states = {name: one["state"] for name, one in found.items()}
    assert states == {
        "main": "works",
        "spare": "works",
        "apart": "works",
        "capped": "used up",
        "ending": "works",
        "ended": "refused",
        "disabled": "refused",
        "broke": "works",
        "revoked": "refused",
    }
    main = found["main"]
    assert (main["limit_usd"], main["remaining_usd"], main["limit_reset"]) == (50, 37.66, "monthly")
    assert main["usage_usd"] == {"all": 12.34, "day": 12.34, "week": 12.34, "month": 12.34}
    assert main["binds_first"]["scope"] == "key_limit" and main["binds_first"]["resets_at"].endswith("-01T00:00:00Z")
    assert main["free_models"] == {"used": 0, "limit": 1000, "remaining": 1000}
    assert main["owner"]["organization"] == "acc-a" and main["shares_account_with"] == ["or/spare"]
    assert found["apart"]["shares_account_with"] == [], "workspaces stay apart"
    assert found["capped"]["again_at"].endswith("T00:00:00Z") and "daily limit of 5.00 $" in found["capped"]["detail"]
    assert any("expires in" in warning for warning in found["ending"]["warnings"])
    assert found["revoked"]["detail"] == "User not found. (401)"


def test_the_table_fits_and_says_what_to_do(provider, tmp_path):
    config = file(
        tmp_path,
        given("or", f"{provider.url}/or/api/v1", *ALL),
        given("oai", f"{provider.url}/oai/v1", "x1", "x2", dialect="openai"),
    )
    done = keys("--config", config)
    assert done.returncode == 1 and "4 of 11 keys cannot be used" in done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 100, done.stdout
    rows = {line.split()[0]: line for line in lines[1:12]}
    assert rows["or/main"].split()[1:5] == ["works", "37.66", "50.00", "monthly"]
    assert "used up" in rows["or/capped"] and "refused" in rows["or/revoked"] and "3 days" in rows["or/ending"]
    below = " ".join(line.strip() for line in lines[12:])
    assert "or/main, or/spare belong to one account" in below and "oai/x1, oai/x2 belong to one account" in below


def test_what_is_well_exits_with_nothing_to_say(provider, tmp_path):
    config = file(tmp_path, given("or", f"{provider.url}/or/api/v1", *ALL))
    done = keys("--config", config, "main", "or/apart")
    assert done.returncode == 0 and done.stderr == "" and len(done.stdout.splitlines()) == 3
    env = {"OPENROUTER_API_KEYS": "sk-test-or-main,sk-test-or-spare"}
    done = keys(env={**env, "OPENROUTER_BASE_URL": f"{provider.url}/or/api/v1"})
    assert done.returncode == 0 and "openrouter/list-2" in done.stdout


def test_a_paid_probe_finds_what_a_free_call_cannot_and_is_never_sent_unasked(provider, tmp_path):
    config = file(tmp_path, given("or", f"{provider.url}/or/api/v1", "main", "broke", "revoked"))
    paid = lambda: [r for r in provider.records("or") if r["endpoint"] == "chat"]  # noqa: E731
    before = len(paid())
    code, found = told("--config", config)
    assert code == 1 and found["broke"]["state"] == "works" and len(paid()) == before
    code, found = told("--config", config, "--probe", "vendor/large")
    assert (code, found["main"]["state"], found["broke"]["state"]) == (1, "works", "no credit")
    assert found["main"]["limit_usd"] == 50, "what the free call tells is still told"
    assert {r["key"] for r in paid()[before:]} == {"main", "broke"}, "a refused key is not paid for"


FAULTS = {
    "no HTTP": ("garbage", "unknown"),
    "a page": ({"html": {"status": 200}}, "unknown"),
    "an outage": ({"status": {"code": 503}}, "unknown"),
    "too fast": ({"status": {"code": 429}}, "unknown"),
    "no money": ({"status": {"code": 402}}, "no credit"),
    "a redirect": ({"redirect": {"location": "http://127.0.0.1:9/"}}, "unknown"),
    "half an answer": ("half_head", "unknown"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_an_answer_that_says_nothing_of_the_key_leaves_it_unknown(provider, tmp_path, case):
    kind, state = FAULTS[case]
    config = file(tmp_path, given("or", f"{provider.url}/or/api/v1", "odd"))
    place = {"provider": "or", "key": "odd"}
    provider.inject(**place, fault={"kind": kind})
    try:
        code, found = told("--config", config)
    finally:
        provider.clear(**place)
    assert (code, found["odd"]["state"]) == (1, state), found
    assert found["odd"]["usable"] is (None if state == "unknown" else False)


def test_who_is_not_there_or_does_not_answer_costs_its_own_time_only(provider, tmp_path):
    config = file(
        tmp_path,
        given("or", f"{provider.url}/or/api/v1", "odd", "main"),
        given("gone", "http://127.0.0.1:9/v1", "a", dialect="openai"),
    )
    provider.inject(provider="or", key="odd", fault={"kind": "hang"})
    try:
        code, found = told("--config", config, "--timeout", "300ms")
    finally:
        provider.clear(provider="or", key="odd")
    assert code == 1 and found["main"]["state"] == "works"
    assert found["odd"]["state"] == "unknown" and "300 ms" in found["odd"]["detail"]
    assert found["a"]["state"] == "unknown" and "127.0.0.1:9" in found["a"]["detail"]


def test_a_provider_that_says_a_key_back_does_not_get_it_shown(workshop, tmp_path):
    def answer(connection, request):
        secret = dict(request.headers)["authorization"].removeprefix("Bearer ")
        body = json.dumps({"error": {"message": f"the key {secret} is wrong", "code": secret}})
        connection.send(f"HTTP/1.1 401 No\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())

    upstream = workshop.upstream(answer)
    for dialect in ("openai", "openrouter"):
        done = keys("--config", file(tmp_path, given("lab", f"{upstream.url}/v1", "a", dialect=dialect)))
        assert done.returncode == 1 and "refused" in done.stdout


def test_watching_looks_again_and_ends_by_the_last_look(provider, tmp_path):
    config = file(tmp_path, given("or", f"{provider.url}/or/api/v1", "spare", "odd"))
    child = subprocess.Popen(
        [harness.binary("KEYMUX_BIN"), "keys", "--config", str(config), "--json", "--watch=50ms"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=harness.clean_env(),
    )
    try:
        first = json.loads(child.stdout.readline())
        assert [one["state"] for one in first["keys"]] == ["works", "works"]
        provider.inject(provider="or", key="odd", fault={"kind": "bad_key"})
        states = []
        while states != ["works", "refused"]:
            states = [one["state"] for one in json.loads(child.stdout.readline())["keys"]]
        child.send_signal(subprocess.signal.SIGINT)
        _, errors = child.communicate(timeout=raw.PATIENCE_S)
    finally:
        child.kill()
        provider.clear(provider="or", key="odd")
    assert child.returncode == 1 and "1 of 2 keys cannot be used" in errors


MISTAKES = {
    "a key that is not there": (["nobody"], "there is no key nobody"),
    "a provider that is not there": (["--provider", "nobody"], "there is no such provider"),
    "no time": (["--timeout", "soon"], "500ms"),
    "a watch without sense": (["--watch=0s"], "between 1ms and 24h"),
    "a probe of nobody's": (["--probe", "m"], "PROVIDER:m"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_told_with_its_mend(tmp_path, case):
    argv, words = MISTAKES[case]
    config = file(tmp_path, given("a", "http://127.0.0.1:9/v1", "k"), given("b", "http://127.0.0.1:9/v1", "k"))
    done = keys("--config", config, *argv)
    assert done.returncode == 2 and words in done.stderr and done.stdout == ""


def test_without_a_configuration_it_says_how_to_give_one(tmp_path):
    done = keys()
    assert done.returncode == 2 and "OPENROUTER_API_KEY" in done.stderr
    done = keys("--config", tmp_path / "none.toml")
    assert done.returncode == 2 and "none.toml" in done.stderr


CHECKED = '[checks]\nevery = "1s"\ntimeout = "2s"\n'


def state(front, provider: str = "or") -> dict[str, dict]:
    """Keys as operators see them, with the name of their account."""
    of = next(p for p in crashes.admin(front, "/admin/state")["providers"] if p["name"] == provider)
    return {key["name"]: {**key, "account": a["name"]} for a in of["accounts"] for key in a["keys"]}


def until(front, fits):
    """Looks until the keys are as they should be; each look waits for the gateway's next answer."""
    deadline = time.monotonic() + raw.PATIENCE_S
    while True:
        found = state(front)
        if fits(found):
            return found
        assert time.monotonic() < deadline, json.dumps(found, indent=1) + front.log()


def served(provider) -> list[dict]:
    return [r for r in provider.records("or") if r["endpoint"] == "chat"]


@pytest.fixture
def front(provider, workshop):
    """A gateway that checks by itself. Nobody calls it."""

    def start(*names: str):
        config = harness.SERVER + given("or", f"{provider.url}/or/api/v1", *names) + CHECKED
        before = len(served(provider))
        made = workshop.gateway(config)
        checked = until(made, lambda keys: all(key["check"] for key in keys.values()))
        assert len(served(provider)) == before, "no call was made with any key"
        return made, checked

    return start


def test_the_gateway_knows_its_keys_before_anybody_calls(front, provider):
    gateway, keys = front("main", "spare", "apart", "capped", "ending", "ended", "disabled", "broke")
    states = {name: key["state"] for name, key in keys.items()}
    assert states == {
        "main": "ready",
        "spare": "ready",
        "apart": "ready",
        "capped": "benched",
        "ending": "ready",
        "ended": "benched",
        "disabled": "benched",
        "broke": "ready",
    }
    assert round(keys["main"]["check"]["remaining_usd"], 2) == 37.66 and keys["ending"]["check"]["expires_at"]
    reset = datetime.datetime.fromisoformat(keys["capped"]["check"]["again_at"]).timestamp()
    out = keys["capped"]["benched"]["for_ms"] / 1000
    assert abs(time.time() + out - reset) < 30, "until the reset, not until somebody tries"
    assert keys["main"]["account"] == keys["spare"]["account"] == "main", "one owner, one account"
    assert keys["apart"]["account"] == "apart", "workspaces stay apart"
    assert len(crashes.happened(gateway, "key unusable", 3)) == len(crashes.happened(gateway, "key benched", 3)) == 3
    assert "or/spare shares the limits of or/main" in crashes.happened(gateway, "one account", 1)[0]
    assert crashes.happened(gateway, "key expires", 1)[0].startswith("key expires: or/ending/ending, in 3 days")
    said = gateway.log()
    assert "acc-a" not in said and "sk-test" not in said
    body = {"model": "or:vendor/large", "max_tokens": 2, "messages": [{"role": "user", "content": "x"}]}
    for n in range(12):
        body["messages"][0]["content"] = f"{n}"
        answer = raw.exchange(gateway.address, raw.request_bytes("/v1/chat/completions", body, AUTH))
        assert answer.status == 200, answer.body
    refused = [r for r in served(provider) if r["key"] in ("capped", "ended", "disabled")]
    assert refused == [], "what checks know, no request has to find out"


def test_a_key_that_is_revoked_goes_and_comes_back_without_any_traffic(front, provider):
    gateway, _ = front("main", "odd")
    provider.inject(provider="or", key="odd", fault={"kind": "bad_key"})
    try:
        gone = until(gateway, lambda keys: keys["odd"]["state"] == "benched")
        assert gone["odd"]["benched"]["why"] == "key" and gone["main"]["state"] == "ready"
        assert gone["odd"]["check"]["detail"] == "User not found. (401)"
    finally:
        provider.clear(provider="or", key="odd")
    until(gateway, lambda keys: keys["odd"]["state"] == "ready" and keys["odd"]["check"]["state"] == "works")
    for text in ("key benched", "key unusable", "key restored", "key usable again"):
        assert len(crashes.happened(gateway, text, 1)) == 1


OUTAGES = {
    "an outage that refuses everybody": "bad_key",
    "an outage": {"status": {"code": 503}},
    "no money for anybody": {"status": {"code": 402}},
    "a page": {"html": {"status": 200}},
    "no HTTP": "garbage",
}


@pytest.mark.parametrize("case", OUTAGES)
def test_what_all_keys_meet_at_once_benches_none(front, provider, case):
    provider.inject(provider="or", fault={"kind": OUTAGES[case]})
    try:
        gateway, _ = front("main", "capped", "ending")
        # The end of a second round: the first alone would prove too little.
        first = state(gateway)["main"]["check"]["checked_at"]
        keys = until(gateway, lambda keys: keys["main"]["check"]["checked_at"] != first)
        assert [key["state"] for key in keys.values()] == ["ready"] * 3, keys
        assert "key_benched" not in gateway.log() and "account_benched" not in gateway.log()
    finally:
        provider.clear(provider="or")


def test_a_key_that_may_not_list_models_serves_on(workshop):
    """Some keys may call models and nothing else: to the list they are refused as an unknown key is."""
    barred: set[str] = set()
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    chat = {"id": "c", "object": "chat.completion", "model": "m", "usage": {"prompt_tokens": 1, "completion_tokens": 1},
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "y"}}]}
    refusal = {"error": {"message": "not allowed to call this route", "type": "auth_error", "code": "401"}}

    def answer(connection, request):
        secret = request.get("authorization").removeprefix("Bearer ")
        if request.target.endswith("/chat/completions"):
            connection.send(raw.response_bytes(json.dumps(chat).encode()))
        elif secret in barred:
            connection.send(raw.response_bytes(json.dumps(refusal).encode(), status="401 Unauthorized"))
        else:
            models = {"object": "list", "data": [{"id": "m", "object": "model"}]}
            connection.send(raw.response_bytes(json.dumps(models).encode()))
        return True

    upstream = workshop.upstream(answer)
    config = harness.SERVER + given("or", f"{upstream.url}/v1", "a", "b", dialect="openai") + CHECKED
    gateway = workshop.gateway(config)
    until(gateway, lambda keys: all(key["check"] for key in keys.values()))

    def called() -> int:
        """How many calls b has served, after two more."""
        for _ in range(2):
            # Another conversation each time: one stays with its key.
            body["messages"][0]["content"] = f"{len(upstream.requests)}"
            answer = raw.exchange(gateway.address, raw.request_bytes("/v1/chat/completions", body, AUTH))
            assert answer.status == 200, answer.body
        wanted = "Bearer sk-test-or-b"
        return sum(r.target.endswith("/chat/completions") and r.get("authorization") == wanted for r in upstream.requests)

    until(gateway, lambda _: called() > 0)
    barred.update({"sk-test-or-b", "sk-test-or-new"})
    first = until(gateway, lambda keys: keys["b"]["check"]["state"] == "refused")
    # The end of a second round: what the first did is to be seen by then.
    again = until(gateway, lambda keys: keys["b"]["check"]["checked_at"] != first["b"]["check"]["checked_at"])
    assert again["b"]["check"]["state"] == "refused" and again["b"]["state"] == "ready", again
    before = called()
    until(gateway, lambda _: called() > before)
    gateway.config.write_text(gateway.config.read_text().replace("sk-test-or-b", "sk-test-or-new"))
    until(gateway, lambda keys: keys["b"]["state"] == "benched")


def test_a_configuration_that_names_accounts_is_not_overruled(front):
    names = 'keys = [{ name = "main", account = "a", secret = "literal:sk-test-or-main" }, { name = "spare", account = "b", secret = "literal:sk-test-or-spare" }]\n'
    gateway, _ = front("odd")
    config = gateway.config.read_text()
    gateway.config.write_text(config.replace("keys = [", names + "#", 1))
    keys = until(gateway, lambda keys: set(keys) == {"main", "spare"} and all(k["check"] for k in keys.values()))
    assert {name: key["account"] for name, key in keys.items()} == {"main": "a", "spare": "b"}


def test_checks_can_be_switched_off(provider, workshop):
    before = len(provider.records("or"))
    gateway = workshop.gateway(
        harness.SERVER + given("or", f"{provider.url}/or/api/v1", "main") + '[checks]\nevery = "0s"\n'
    )
    body = {"model": "or:vendor/large", "max_tokens": 2, "messages": [{"role": "user", "content": "x"}]}
    raw.exchange(gateway.address, raw.request_bytes("/v1/chat/completions", body, AUTH))
    assert [r["endpoint"] for r in provider.records("or")[before:]] == ["chat"]
    assert state(gateway)["main"]["check"] is None
