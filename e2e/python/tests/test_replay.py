"""`keymux simulate --replay`: what a real gateway wrote down, against other fleets. The model is held against what really
happened: limits that are known, a burst that is too large for them, and callers that wait for so long."""

import concurrent.futures
import contextlib
import csv
import json
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

import harness
import ledgers

PRICE = 2_000  # nano-dollars for an output token
LIMIT, PERIOD_S, WAIT_S = 10, 5, 2.5
"""Each of two accounts lets ten through at once, and two a second; whoever would wait for more than 2.5 s is refused."""
BURST = 60
ADMITTED = 2 * (LIMIT + int(WAIT_S * LIMIT / PERIOD_S))


def world_spec() -> dict:
    limits = [{"dimension": "requests", "limit": LIMIT, "period_ms": PERIOD_S * 1000}]
    accounts = [
        {"name": f"acc-{n}", "limits": limits, "key": [{"name": f"lab-{n}", "secret": f"sk-test-lab-{n}"}]} for n in (1, 2)
    ]
    latency = {"ttft_ms": 100, "ttft_sigma": 0, "per_token_ms": 2}
    return {"provider": [{"name": "lab", "account": accounts, "latency": latency, "model": [{"id": "m"}]}]}


def config(url: str, ledger: ledgers.Ledger) -> str:
    limits = f'limits = [{{ requests = {LIMIT}, per = "{PERIOD_S}s" }}]\n'
    text = harness.SERVER + f'max_wait = "{int(WAIT_S * 1000)}ms"\n' + f"\n[ledger]\n{ledger.setting}\n"
    text += f'\n[[price]]\nmodel = "lab:*"\ninput = 0\noutput = {PRICE / 1000}\n'
    text += harness.provider("lab", f"{url}/lab/v1", n=2, more=limits)
    return text + '\n[[route]]\nmodel = "moon"\ntiers = [["lab:m"]]\n'


class Past:
    """A gateway with a burst behind it."""

    def __init__(self, folder: Path, kind: str):
        spec = folder / "world.json"
        spec.write_text(json.dumps(world_spec()))
        self.world = harness.World(spec)
        self.ledger = ledgers.open_ledger(kind, folder / "ledger")
        self.gateway = harness.Gateway(config(self.world.url, self.ledger), folder / "gateway")
        self.answered = 0
        with concurrent.futures.ThreadPoolExecutor(BURST) as callers:
            for ok in callers.map(lambda _: self.call(), range(BURST)):
                self.answered += ok
        self.wait_for_rows(BURST)

    def call(self) -> bool:
        body = {"model": "moon", "max_tokens": 20, "messages": [{"role": "user", "content": 'sim: {"output_tokens": 20}'}]}
        headers = {"Authorization": f"Bearer {harness.TOKEN}", "Content-Type": "application/json"}
        url = f"{self.gateway.url}/v1/chat/completions"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers), timeout=60) as answer:
                return answer.status == 200
        except urllib.error.HTTPError as error:
            assert error.code == 429, error.read()
            return False

    def wait_for_rows(self, rows: int):
        """Until the database has them all."""
        deadline = time.monotonic() + 30
        while len(self.ledger.rows()) < rows:
            assert time.monotonic() < deadline, self.gateway.log()

    def close(self):
        self.gateway.stop()
        self.world.stop()
        self.ledger.close()


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def past(request, tmp_path_factory):
    with contextlib.closing(Past(tmp_path_factory.mktemp("past"), request.param)) as past:
        yield past


def run(*words: str, env: dict | None = None) -> subprocess.CompletedProcess:
    argv = [harness.binary("KEYMUX_BIN"), "simulate", *words]
    env = harness.clean_env(**(env or {}))
    return subprocess.run(argv, capture_output=True, text=True, timeout=100, env=env, stdin=subprocess.DEVNULL)


def told(*words: str) -> dict:
    done = run(*words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(*words: str, code: int = 2) -> str:
    done = run(*words)
    assert done.returncode == code and done.stdout == "", done
    assert "panicked" not in done.stderr
    return done.stderr


def figures(said: dict) -> dict[str, dict]:
    return {line["name"]: line["runs"][0]["by_name"] | {"cost": line["cost_usd"]} for line in said["compare"]}


def near(value: float, wanted: float, by: float = 0.05) -> bool:
    return abs(value - wanted) <= by


def test_the_model_says_what_really_happened_and_what_else_would_have(past):
    """While the gateway works on that very ledger."""
    fleets = "+account:lab,-key:lab/lab-2,x2,x0.25"
    said = told("--replay", "--config", str(past.gateway.config), "--compare", fleets)
    was, by_fleet = said["past"], figures(said)
    assert was["requests"] == BURST and was["answered"] == past.answered / BURST
    assert near(was["answered"], ADMITTED / BURST), "or the rest of this test says nothing"
    as_it_is = by_fleet["as it is"]
    assert near(as_it_is["answered"], was["answered"]) and near(as_it_is["refused"], was["refused"])
    assert near(as_it_is["wait_p99_ms"], was["wait_ms"][2], by=500)
    assert near(as_it_is["latency_p50_ms"], was["latency_ms"][0], by=500)
    assert near(as_it_is["cost"], was["cost_nano_usd"] / 1e9, by=0.05 * as_it_is["cost"])
    assert as_it_is["limited"] == as_it_is["errors"] == as_it_is["violations"] == 0
    third = was["answered"] / 2
    assert near(by_fleet["+account:lab"]["answered"], 3 * third)
    assert near(by_fleet["-key:lab/lab-2"]["answered"], third)
    assert near(by_fleet["x2"]["answered"], third) and by_fleet["x2"]["requests"] == 2 * BURST
    assert near(by_fleet["x0.25"]["answered"], 1.0)
    assert past.gateway.alive()


def test_the_table_begins_with_the_past(past):
    done = run("--replay", "--config", str(past.gateway.config), "--compare", "x2")
    lines = done.stdout.splitlines()
    names = [line.split("  ")[0] for line in lines]
    assert names.index("the past") + 1 == names.index("as it is") == names.index("x2") - 1
    head = lines[names.index("the past") - 1]
    for column in ("answered", "refused", "429s", "wait, s", "full", "cost, $"):
        assert column in head
    assert "no limit is known" not in done.stdout
    assert "\x1b" not in done.stdout and "sk-test" not in done.stdout


def test_a_ledger_is_read_without_a_trace_and_as_an_export_too(past, tmp_path):
    if past.ledger.kind == "PostgreSQL":
        url = past.ledger.setting.split('"')[1].removeprefix("literal:")
        done = run("--replay", "env:PAST", "--config", str(past.gateway.config), "--json", env={"PAST": url})
        assert json.loads(done.stdout)["past"]["requests"] == BURST, done.stderr
        return
    copy = tmp_path / "copy.db"
    with sqlite3.connect(past.ledger.path) as live, sqlite3.connect(copy) as other:
        live.backup(other)
        other.execute("PRAGMA journal_mode = WAL")
    other.close()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    by_copy = told("--replay", str(copy), "--config", str(past.gateway.config))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    sql = """SELECT r.*, s.client, s.model, s.provider, s.endpoint FROM requests r JOIN series s ON s.id = r.series"""
    rows = past.ledger.query(sql)
    exported, lines = tmp_path / "export.csv", tmp_path / "export.jsonl"
    with exported.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for export in (exported, lines):
        assert told("--replay", str(export), "--config", str(past.gateway.config)) == by_copy


def test_a_scenario_can_be_the_fleet(past, tmp_path):
    fleet = tmp_path / "fleet.toml"
    limits = f"limits = [{{ limit = {2 * LIMIT}, period_ms = {PERIOD_S * 1000} }}]"
    fleet.write_text(f'[[provider]]\nname = "lab"\naccount = [{{ name = "one", {limits}, key = [{{}}] }}]\n')
    export = tmp_path / "rows.jsonl"
    rows = [{"started_unix_ms": n, "model": "moon", "input_tokens": 1, "output_tokens": 1} for n in range(BURST)]
    export.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = figures(told(str(fleet), "--replay", str(export), "--compare", "+account"))
    assert said["as it is"]["answered"] == 1.0, "scenarios let callers wait for 20 s"
    assert said["+account"]["wait_p99_ms"] < said["as it is"]["wait_p99_ms"] / 2


def test_a_scenario_and_what_it_is_compared_with_are_told_as_json_and_as_a_page():
    said = told("below-quota", "--compare", "+account,round_robin,x2")
    assert [line["name"] for line in said["compare"]] == ["+account", "round_robin", "x2"]
    assert all(judged["met"] for judged in said["judged"]) and said["runs"][0]["by_name"]["answered"] == 1.0
    key = said["runs"][0]["keys"][0]
    assert len(key["utilisation"]["over_time"]) == 60 and near(key["utilisation"]["mean"], 0.7)
    more = said["compare"][0]["runs"][0]["keys"]
    assert len(more) == len(said["runs"][0]["keys"]) + 1
    page = run("below-quota", "--compare", "+account").stdout
    assert all(part in page for part in ("clairvoyant FIFO", "how full, over time", "fair share", "▆", "+account"))
    assert "\x1b" not in page


@pytest.fixture
def lab(tmp_path) -> Path:
    """A configuration without a gateway."""
    path = tmp_path / "keymux.toml"
    text = config("http://127.0.0.1:9", ledgers.Sqlite(tmp_path / "none"))
    # With two of them, a model must say where it is.
    text += harness.provider("other", "http://127.0.0.1:9/other/v1", n=1)
    path.write_text(text.replace("@DATA@", str(tmp_path / "data")))
    return path


def test_a_batch_file_takes_as_long_as_the_limits_ask_for(lab, tmp_path):
    batch = tmp_path / "in.jsonl"
    batch.write_text("".join(json.dumps({"prompt": f"Hello {n}", "model": "moon"}) + "\n" for n in range(100)) + "oops\n")
    said = told("--replay", str(batch), "--config", str(lab), "--compare", "+account:lab,-key:lab/lab-1")
    ended = {line["name"]: line["ended_s"] for line in said["compare"]}
    assert said["past"] is None and any("in.jsonl:101" in note for note in said["notes"])
    # What is there at once goes at once; then two a second and account.
    for name, accounts in {"as it is": 2, "+account:lab": 3, "-key:lab/lab-1": 1}.items():
        wanted = (100 - accounts * LIMIT) / (accounts * LIMIT / PERIOD_S)
        assert wanted <= ended[name] <= wanted + 6, (name, ended)
    slowly = told("--replay", str(batch), "--config", str(lab), "--rate", "2")
    assert slowly["compare"][0]["runs"][0]["by_name"]["wait_p99_ms"] < 100
    text = run("--replay", str(batch), "--config", str(lab)).stdout
    assert "the last answer after" in text and "nobody measured" in text and "the past" not in text


def test_limits_that_nobody_knows_are_said_and_those_that_were_learned_are_known(lab, tmp_path):
    open_ended = lab.read_text().replace(f'limits = [{{ requests = {LIMIT}, per = "{PERIOD_S}s" }}]', "")
    lab.write_text(open_ended)
    batch = tmp_path / "in.jsonl"
    batch.write_text("".join(json.dumps({"prompt": "Hello", "model": "moon"}) + "\n" for _ in range(40)))
    text = run("--replay", str(batch), "--config", str(lab)).stdout
    assert "no limit is known of lab/lab-1, lab/lab-2: taken as unlimited" in text
    learned = {
        "key": None, "dimension": "requests", "daily": False, "models": [], "learned": True, "from_refusals": True,
        "meter": {"bucket": {"capacity": 5.0, "rate": 1.0, "level": 5.0}}, "shut_until_unix_ns": None,
    }  # fmt: skip
    account = {"provider": "lab", "account": "lab-1", "shut_until_unix_ns": None, "limits": [learned]}
    (tmp_path / "data").mkdir()
    levels = {"version": 1, "at_unix_ns": 1_800_000_000_000_000_000, "accounts": [account]}
    (tmp_path / "data" / "levels.json").write_text(json.dumps(levels))
    text = run("--replay", str(batch), "--config", str(lab)).stdout
    assert "no limit is known of lab/lab-2: taken as unlimited" in text
    said = told("--replay", str(batch), "--config", str(lab), "--compare", "-account:lab/lab-2")
    assert 30 <= said["compare"][1]["ended_s"] <= 45, "forty lines, five at once and one a second"


def test_every_mistake_is_told_with_its_mend(lab, tmp_path):
    at = ["--config", str(lab)]
    good = tmp_path / "rows.csv"
    good.write_text("started_unix_ms,model,input_tokens,output_tokens\n1000,moon,10,10\n")
    for words, parts in {
        ("--replay", *at): ["no such file", "--replay"],
        ("--replay", str(good), *at, "--compare", "-key:lab/lab-9"): ["no key `lab/lab-9`", "lab/lab-"],
        ("--replay", str(good), *at, "--compare", "-account:lba/lab-1"): ["no account `lba/lab-1`", "lab/lab-1"],
        ("--replay", str(good), *at, "--compare", "+account:labb"): ["no provider `labb`", "did you mean"],
        ("--replay", str(good), *at, "--compare", "xx"): ["x2"],
        ("--replay", str(good), *at, "--since", "yesterday"): ["--since yesterday", "7d"],
        ("--replay", str(good), *at, "--since", "1h", "--until", "2h"): ["is not before"],
        ("--replay", str(good), *at, "--since", "7d"): ["no request in this time"],
        ("--replay", str(good), *at, "--rate", "5"): ["--rate is for batch files"],
        ("--replay", str(good), *at, "--rate", "0"): ["lines a second"],
        ("--replay", str(lab), *at): ["behind --config"],
        ("--replay", str(tmp_path / "nowhere"), *at): ["nowhere", "No such file"],
        ("--replay", "env:NOT_SET_ANYWHERE", *at): ["NOT_SET_ANYWHERE is not set"],
        ("--replay", str(good), "--config", str(tmp_path / "no.toml")): ["no.toml"],
        ("overload-130", "--since", "1h"): ["--replay"],
        (): ["SCENARIO"],
    }.items():
        said = refused(*words)
        assert all(part in said for part in parts), (words, said)


def test_a_broken_file_is_told_with_its_line_and_another_models_requests_are_not_made_up(lab, tmp_path):
    rows = tmp_path / "rows.csv"
    head = "started_unix_ms,model,input_tokens,output_tokens,status\n"
    rows.write_text(head + "1000,moon,10,10,200\n2000,moon,ten,10,200\n")
    assert "rows.csv:3: `input_tokens` is no whole number" in refused("--replay", str(rows), "--config", str(lab))
    rows.write_text(head + f"1000,moon,10,10,200\n2000,moon,{2**64 - 1},{2**64 - 1},200\n")
    said = refused("--replay", str(rows), "--config", str(lab))
    assert "rows.csv:3: `input_tokens`" in said and "mend this row" in said
    rows.write_text(head + "1000,mooon,10,10,200\n")
    said = refused("--replay", str(rows), "--config", str(lab))
    assert "none of the requests can be replayed" in said and "did you mean `moon`" in said
    rows.write_text(head + "1000,moon,10,10,200\n2000,mooon,10,10,200\n3000,moon,10,10,400\n")
    notes = told("--replay", str(rows), "--config", str(lab))["notes"]
    assert any("1 that had no route for model `mooon`" in note for note in notes)
    assert any("1 that were wrong" in note for note in notes)


def test_a_time_too_long_to_be_replayed_is_refused_and_no_request_is_dropped(lab, tmp_path):
    rows, batch = tmp_path / "rows.csv", tmp_path / "in.jsonl"
    head, day = "started_unix_ms,model,input_tokens,output_tokens\n", 86_400_000
    at = ["--replay", str(rows), "--config", str(lab)]
    for first, last in ((1_800_000_000, 1_800_000_000_000), (1_800_000_000_000, 1_800_000_000_000 + 4_000 * day)):
        rows.write_text(head + f"{last},moon,10,10\n{first},moon,10,10\n")
        said = refused(*at)
        assert all(part in said for part in (f"{first})", f"({last})", "366", "--since", "milliseconds")), said
    assert told(*at, "--since", "2030-01-01", "--until", "2100-01-01")["past"]["requests"] == 1
    rows.write_text(head + "".join(f"{1_800_000_000_000 + n * 366 * day},moon,10,10\n" for n in range(2)))
    said = told(*at)
    assert said["past"]["requests"] == said["compare"][0]["runs"][0]["by_name"]["requests"] == 2
    batch.write_text('{"prompt": "Hello", "model": "moon", "max_tokens": 18446744073709551615}\n' * 50)
    said = refused("--replay", str(batch), "--config", str(lab), "--rate", "1e-9")
    assert all(part in said for part in ("--rate 1e-9", "50 lines", "366", "greater rate")), said
    said = told("--replay", str(batch), "--config", str(lab), "--rate", "0.001")
    assert said["compare"][0]["runs"][0]["by_name"]["requests"] == 50
    assert "--output-tokens" in refused("--replay", str(batch), "--config", str(lab), "--output-tokens", str(2**64 - 1))


def test_a_ledger_that_is_none_or_of_another_version_is_left_alone(lab, tmp_path):
    ledger = tmp_path / "none" / "ledger.db"
    with sqlite3.connect(ledger) as db:
        db.execute("CREATE TABLE something (n INTEGER)")
    assert "no ledger of keymux" in refused("--replay", "--config", str(lab))
    with sqlite3.connect(ledger) as db:
        db.execute("CREATE TABLE migrations (number BIGINT PRIMARY KEY, name TEXT, checksum TEXT)")
        db.execute("INSERT INTO migrations VALUES (9, 'later', 'x')")
    before = ledger.read_bytes()
    assert "use a newer one" in refused("--replay", "--config", str(lab))
    assert ledger.read_bytes() == before and [path.name for path in ledger.parent.iterdir()] == ["ledger.db"]
