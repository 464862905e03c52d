"""What `/metrics` says under load, read by the official client's parser, beside what the simulated provider recorded."""

import json
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import harness
import raw
import scrapes

AUTH = {"Authorization": f"Bearer {harness.TOKEN}"}
CLIENT = {"Authorization": "Bearer km-test-declared"}
INPUT, OUTPUT = 3000, 15000
"""Nano-dollars a token."""
REQUESTS = 240
SLY = "a-name-of-a-client"


def world_spec() -> dict:
    model = {"id": "m", "input_nano_usd": INPUT, "cached_nano_usd": INPUT, "output_nano_usd": OUTPUT}
    latency = {"ttft_ms": 4, "ttft_sigma": 0.2, "per_token_ms": 0.2, "output": {"mean": 10, "sigma": 0.5, "max": 40}}

    def account(name: str, **more) -> dict:
        return {"name": f"acc-{name}", "key": [{"name": name, "secret": f"sk-test-{name}"}], **more}

    good, poor = [account("good-1"), account("good-2")], [account("poor-2", credit_nano_usd=1)]
    return {
        "provider": [
            {"name": "good", "dialect": "openai", "model": [model, {"id": SLY}], "account": good, "latency": latency},
            {"name": "poor", "dialect": "openai", "model": [model], "account": poor, "latency": latency},
        ]
    }


def config(world: str, n: int = 2) -> str:
    """`poor` has a key that nobody knows and an account without credit. `good` takes so few at once that some wait."""
    limits = 'limits = [{ concurrent = 4 }, { rpd = 100_000, models = ["m"] }]'
    text = harness.SERVER + harness.provider("good", f"{world}/good/v1", n=n, more=limits)
    text += harness.provider("poor", f"{world}/poor/v1", n=2)
    text += f'\n[[price]]\nmodel = "*:m"\ninput = {INPUT / 1000}\noutput = {OUTPUT / 1000}\n'
    text += '\n[[route]]\nmodel = "fine"\ntiers = [["good:m"]]\n\n[[route]]\nmodel = "shaky"\ntiers = [["poor:m"], ["good:m"]]\n'
    text += '\n[[team]]\nname = "crew"\nbudget = 1000.0\n'
    return text + '\n[[client]]\nname = "declared"\nteam = "crew"\nsecret = "literal:km-test-declared"\nbudget = 500.0\n'


def ask(front, n: int, model: str, steer: dict | None = None, headers: dict = AUTH, **more) -> int:
    content = "sim: " + json.dumps({"note": f"n-{n}", **(steer or {})})
    body = {"model": model, "messages": [{"role": "user", "content": content}], **more}
    with raw.Connection(front.address) as connection:
        connection.send(raw.request_bytes("/v1/chat/completions", body, headers))
        return connection.read_message().status


def scrape(front) -> scrapes.Scrape:
    return scrapes.Scrape(front.metrics())


def until(front, what: str, true) -> scrapes.Scrape:
    """The first scrape of which it is true."""
    deadline = time.monotonic() + raw.PATIENCE_S
    while not true(seen := scrape(front)):
        assert time.monotonic() < deadline, f"{what}:\n{seen.text}"
    return seen


@pytest.fixture
def world(tmp_path):
    spec = tmp_path / "world.json"
    spec.write_text(json.dumps(world_spec()))
    made = harness.World(spec)
    yield made
    made.stop()


@pytest.fixture
def loaded(world, workshop):
    """A gateway that has had requests of all sorts, scraped all the while; what was answered, and the last scrape."""
    front = workshop.gateway(config(world.url))
    first, over, scraped = scrape(front), threading.Event(), []
    # Judged by a refused and an empty key before anything else is.
    statuses = [ask(front, 0, "shaky"), ask(front, 1, "shaky")]

    def keep_scraping():
        while not over.is_set():
            scraped.append(scrape(front))

    def one(n: int) -> int:
        match n % 8:
            case 0:
                return ask(front, n, "shaky")
            case 1:
                return ask(front, n, "fine", stream=True)
            case 2:
                return ask(front, n, "fine", headers=CLIENT, max_tokens=50)
            case 3:
                return ask(front, n, f"good:{SLY}")
            case 4:
                return ask(front, n, f"nobody:{SLY}-{n}")
            case 5 if n % 5 == 0:
                return ask(front, n, "fine", {"status": 400})
            case _:
                return ask(front, n, "fine", {"cached_tokens": 3, "reasoning_tokens": 2, "output_tokens": 8})

    scraper = threading.Thread(target=keep_scraping)
    scraper.start()
    try:
        with ThreadPoolExecutor(16) as pool:
            statuses += pool.map(one, range(2, REQUESTS))
        # One waits while the others are held.
        hold = {"delay_ms": 300}
        with ThreadPoolExecutor(12) as pool:
            statuses += pool.map(lambda n: ask(front, n, "fine", hold), range(REQUESTS, REQUESTS + 12))
    finally:
        over.set()
        scraper.join()
    last = until(front, "all is over", lambda seen: seen.sum("keymux_in_flight_requests") == 0)
    return front, statuses, [first, *scraped, last]


def test_counters_agree_with_the_providers_own_record(loaded, world):
    front, statuses, seen = loaded
    last = seen[-1]
    records = world.wait("good", calls=0, open=0) + world.wait("poor", calls=0, open=0)
    for provider in ("good", "poor"):
        attempts = last.by("key", "keymux_attempts_total", provider=provider)
        for name, counted in attempts.items():
            mine = [r for r in records if r["provider"] == provider and r["key"] == name]
            # A key that is unknown there is nobody's.
            if name == "poor-1":
                mine = [r for r in records if r["provider"] == provider and r["key"] not in ("poor-2",)]
            assert counted == len(mine), (name, counted, len(mine))
            answered = [r for r in mine if r["status"] == 200]
            assert last.sum("keymux_attempts_total", key=name, outcome="answered") == len(answered), name
            for direction in ("input", "output"):
                told = last.sum("keymux_tokens_total", key=name, direction=direction)
                assert told == sum(r[f"{direction}_tokens"] for r in answered), (name, direction)
            for kind, field in (("cached", "cached_tokens"), ("reasoning", "reasoning_tokens")):
                assert last.sum("keymux_tokens_total", key=name, kind=kind) == sum(r[field] for r in answered), (name, kind)
            usd = sum(r["billed_nano_usd"] for r in answered) / 1e9
            assert last.sum("keymux_cost_usd_total", key=name) == pytest.approx(usd, abs=1e-9), name
            unpriced = [r for r in answered if r["model"] == SLY]
            assert last.sum("keymux_unpriced_requests_total", key=name) == len(unpriced), name
    assert last.sum("keymux_cost_usd_total") > 0 and last.sum("keymux_unpriced_requests_total") > 0
    assert last.sum("keymux_attempts_total", key="poor-1", outcome="key") > 0
    assert last.sum("keymux_attempts_total", key="poor-2", outcome="account") > 0
    # Each attempt but the first of its request is a retry.
    refused_before = sum(1 for status in statuses if status == 404)
    assert last.sum("keymux_retries_total") == len(records) - (len(statuses) - refused_before)


def test_counters_agree_with_what_clients_saw(loaded):
    front, statuses, seen = loaded
    last = seen[-1]
    assert set(statuses) == {200, 400, 404}, sorted(set(statuses))
    outcomes = last.by("outcome", "keymux_requests_total")
    assert outcomes["answered"] == statuses.count(200) and outcomes["provider_error"] == statuses.count(400)
    assert outcomes["refused"] == statuses.count(404) == last.sum("keymux_refusals_total", reason="model_not_found")
    assert last.sum("keymux_requests_total") == len(statuses) == last.sum("keymux_request_seconds_count")
    assert last.sum("keymux_request_seconds_bucket", le="+Inf") == len(statuses)
    assert last.sum("keymux_attempt_seconds_count") == statuses.count(200)
    assert set(last.by("model", "keymux_requests_total")) == {"fine", "shaky", "other"}
    assert last.sum("keymux_requests_total", model="other") == statuses.count(404) + REQUESTS // 8
    # Twelve came at once, eight may go.
    assert last.sum("keymux_wait_seconds_count", **{"class": "normal"}) >= 4
    assert last.sum("keymux_wait_seconds_sum") > 0
    assert max(one.sum("keymux_waiting_requests", **{"class": "normal"}) for one in seen) > 0, "seen while they waited"
    assert max(one.sum("keymux_in_flight_requests") for one in seen) > 1
    least = min(one.sum("keymux_limit_headroom_ratio", account="good-1", limit="concurrent") for one in seen)
    assert least == 0 and last.sum("keymux_limit_headroom_ratio", account="good-1", limit="concurrent") == 1
    # The first span of time that a key was used for was longer than nothing.
    assert 0 < last.sum("keymux_budget_spent_ratio", owner="client", name="declared") < 1


def test_every_scrape_under_load_is_whole_and_counters_only_grow(loaded):
    front, _, seen = loaded
    assert len(seen) > 10
    for before, after in zip(seen, seen[1:]):
        fallen = {key: (value, after.samples.get(key)) for key, value in before.counters().items() if after.samples.get(key, -1) < value}
        assert not fallen
    for one in seen:
        assert one.text.endswith("# EOF\n")
        assert one.sum("keymux_build_info") == 1


def test_the_scrape_is_what_the_documentation_says_and_nothing_of_a_clients(loaded):
    front, _, seen = loaded
    last, documented = seen[-1], scrapes.documented()
    suffixes = {"histogram": ("_bucket", "_sum", "_count")}
    expected = {name + suffix for name, (kind, _) in documented.items() for suffix in suffixes.get(kind, ("",))}
    # No key is checked here; test_webhooks.py has it.
    assert last.names == expected - {"keymux_key_check_age_seconds"}
    for name, *labels in last.samples:
        bare = name if name in documented else name.rsplit("_", 1)[0]
        assert {label for label, _ in labels} - {"le"} <= set(documented[bare][1]), name
    assert SLY not in last.text and "sim:" not in last.text
    for secret in (harness.TOKEN, harness.ADMIN_TOKEN, "km-test-declared", "sk-test-"):
        assert secret not in last.text


def test_alerts_and_the_dashboard_ask_for_series_that_exist(loaded):
    names = loaded[2][-1].names
    # No key is checked here.
    asked = scrapes.asked() - {"keymux_key_check_age_seconds"}
    assert len(asked) > 20 and asked <= names, sorted(asked - names)


def test_states_of_keys_and_accounts_are_those_of_now(loaded):
    front, _, seen = loaded
    state = lambda scrape, key: [s for s, on in scrape.by("state", "keymux_key_state", key=key).items() if on]
    last = seen[-1]
    assert state(last, "poor-1") == ["benched"] and last.sum("keymux_key_cooldown_seconds", key="poor-1") > 1
    assert last.sum("keymux_account_benched", account="poor-2") == 1, "out of credit"
    assert last.sum("keymux_account_benched") == 1, "the refused key's account is not"
    assert state(last, "good-1") == ["ready"]
    assert last.sum("keymux_events_total", event="key_benched") >= 1
    assert last.sum("keymux_events_total", event="account_benched") >= 1
    headers = {"Authorization": f"Bearer {harness.ADMIN_TOKEN}"}
    done = raw.exchange(front.admin_address, raw.request_bytes("/admin/keys/poor/poor-1/restore", {}, headers))
    assert done.status == 200
    assert state(scrape(front), "poor-1") == ["ready"]


def test_a_limit_that_ends_by_time_ends_in_the_scrape_without_a_request(workshop):
    wait = raw.response_bytes(b'{"error": {"message": "slow down"}}', status="429 Too Many", headers={"retry-after": "2"})
    front, upstream = workshop.in_front_of(lambda connection, _: connection.send(wait) or True)
    no_wait = {**AUTH, "x-keymux-max-wait": "0"}
    assert ask(front, 0, "lab:m", headers=no_wait) == 429
    assert scrape(front).sum("keymux_key_state", key="lab-1", state="limited") == 1
    until(front, "it is ready again", lambda seen: seen.sum("keymux_key_state", key="lab-1", state="ready") == 1)
    assert len(upstream.requests) == 1, "nobody asked meanwhile"


def test_a_reload_takes_the_series_of_what_it_removes_and_a_refused_one_is_told(world, workshop):
    front = workshop.gateway(config(world.url))
    assert ask(front, 0, "fine") == 200 and ask(front, 1, "shaky") == 200
    has = lambda seen, name: any(name in dict(key[1:]).values() for key in seen.samples)
    assert has(scrape(front), "good-2") and has(scrape(front), "shaky")

    def put(text: str):
        new = front.config.with_suffix(".new")
        new.write_text(text.replace("@DATA@", str(front.config.parent / "data")) + '\n[ledger]\nlog_bytes = "1MiB"\n')
        new.replace(front.config)
        front.child.send_signal(signal.SIGHUP)

    put(config(world.url, n=1).replace('"shaky"', '"other"'))
    seen = until(front, "it is well", lambda seen: seen.sum("keymux_events_total", event="reloaded") > 0)
    assert not has(seen, "good-2") and not has(seen, "shaky") and has(seen, "good-1")
    put(config(world.url).replace("[[provider]]", "[[provide]]"))
    seen = until(front, "it is refused", lambda seen: seen.sum("keymux_config_last_reload_successful") == 0)
    assert until(front, "it is counted", lambda seen: seen.sum("keymux_events_total", event="reload_refused") > 0)
    assert not has(seen, "good-2"), "the one before stays"
    put(config(world.url))
    seen = until(front, "it is taken", lambda seen: seen.sum("keymux_config_last_reload_successful") == 1)
    assert has(seen, "good-2"), "the state after what it tells of"
    assert seen.sum("keymux_requests_total", model="fine", outcome="answered") == 1
