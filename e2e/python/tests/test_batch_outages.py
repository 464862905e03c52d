"""`keymux batch` while something is down: it waits where something may come back, ends clearly where nothing will, and no
line becomes an error that is not the line's own."""

import json
import re
import signal

import pytest

import batches
import harness
from batches import PRICE, answers, call_ids, chat, ids
from raw import PATIENCE_S

QUICK = '[breaker]\ncooldown_min = "100ms"\ncooldown_max = "300ms"\n'
"""What is down is probed often, so that many lines fail."""


@pytest.fixture
def bench(tmp_path):
    with batches.bench(tmp_path) as made:
        yield made


def told_errors(bench) -> list[dict]:
    return [line for line in bench.read() if line["error"] or line["response"]["status_code"] != 200]


OUTAGES = {
    "errors": {"status": {"code": 500}},
    "overloaded": {"status": {"code": 503}},
    "a page of a proxy's": {"html": {"status": 502}},
    "an error in an answer": {"error_in_200": {}},
    "resets": {"reset": {}},
}


@pytest.mark.parametrize("kind", OUTAGES.values(), ids=OUTAGES)
def test_an_outage_is_waited_for_and_no_line_pays_for_it(bench, kind):
    bench.open(more=QUICK)
    bench.write([chat(n) for n in range(400)])
    child = bench.start("--max-rate", "200/s")
    bench.world.wait("lab", calls=100)
    bench.world.inject(provider="lab", fault={"to_ms": 5_000, "kind": kind})
    _, told = child.communicate(timeout=2 * PATIENCE_S)
    assert child.returncode == 0, told
    assert re.search(r"no answer for .*\(lab/lab-[12]: .*; ends after 1 h \(--patience\)", told), told
    assert ids(bench.read()) == call_ids(400) and len(set(answers(bench.read()))) == 400
    assert sum(call["billed_nano_usd"] > 0 for call in bench.calls()) == 400


def test_an_outage_that_lasts_ends_it_without_error_lines_and_the_next_run_goes_on(bench):
    bench.open(more=QUICK)
    bench.write([chat(n) for n in range(200)])
    bench.world.inject(provider="lab", fault={"from_call": 51, "kind": {"status": {"code": 500}}})
    done = bench.run("--patience", "2s", "--json")
    assert done.returncode == 4, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["end"], summary["failed"], summary["exit_code"]) == ("stopped", 0, 4)
    told = r"stopped at line \d+: nothing was answered for 2\.\d s \(lab/lab-[12]: 500: .*\)\. Once that is over, run the same"
    assert re.search(told, done.stderr), done.stderr
    assert told_errors(bench) == []
    bench.world.clear(provider="lab")
    done = bench.run()
    assert done.returncode == 0, done.stderr
    assert ids(bench.read()) == call_ids(200)
    assert sum(call["billed_nano_usd"] > 0 for call in bench.calls()) == 200


@pytest.mark.parametrize("code", [500, 503])
def test_lines_that_crash_whatever_they_meet_do_not_keep_the_others_waiting(bench, code):
    bench.open(more='[breaker]\ncooldown_min = "1s"\ncooldown_max = "60s"\n')
    lines = [chat(n) for n in range(60)]
    for line in lines[5:7]:
        line["body"]["messages"][0]["content"] += "\nsim: " + json.dumps({"status": code})
    bench.write(lines)
    child = bench.start("--max-rate", "20/s", "--unordered")
    while not re.search(r"\b(58|59|60)/60 done", line := child.stderr.readline()):
        assert line, "it ended"
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=PATIENCE_S)
    answered = [call["arrived_ns"] for call in bench.calls() if call["billed_nano_usd"]]
    assert len(answered) == 58 and max(answered) - min(answered) < 12e9


def test_ctrl_c_during_an_outage_leaves_its_lines_undone(bench):
    bench.open(more=QUICK)
    bench.write([chat(n) for n in range(200)])
    bench.world.inject(provider="lab", fault={"from_call": 51, "kind": {"status": {"code": 500}}})
    child = bench.start()
    bench.world.wait("lab", calls=100)
    child.send_signal(signal.SIGINT)
    assert child.wait(PATIENCE_S) == 130, child.stderr.read()
    child.stderr.close()
    assert told_errors(bench) == []
    bench.world.clear(provider="lab")
    assert bench.run().returncode == 0
    assert ids(bench.read()) == call_ids(200)


def test_keys_that_may_not_use_the_model_end_it_with_their_names(bench):
    bench.open()
    bench.write([chat(n) for n in range(50)])
    bench.world.inject(provider="lab", fault={"kind": {"forbidden": {}}})
    done = bench.run("--patience", "5s")
    assert done.returncode == 4 and told_errors(bench) == [], done.stderr
    assert "may not" in done.stderr.splitlines()[-1], done.stderr


def test_a_key_of_another_provider_does_not_keep_it_waiting_for_one_that_is_refused(bench):
    bench.open()
    bench.configured(secret="sk-test-wrong", more=harness.provider("other", "http://127.0.0.1:9/v1", n=1))
    bench.write([chat(n) for n in range(50)])
    done = bench.run()
    assert done.returncode == 4 and "stopped at line 1: lab/lab-1 was refused, lab/lab-2 was refused." in done.stderr, done.stderr


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_gateway_that_is_restarted_is_waited_for(bench, workshop, how):
    bench.open(latency_ms=100.0)
    at = harness.provider("lab", f"{bench.world.url}/lab/v1", n=2)
    gateway = workshop.gateway(harness.SERVER + at)
    lines = [chat(n) for n in range(300)]
    for line in lines:
        line["body"]["model"] = "lab:m"
    bench.write(lines)
    argv = ["--gateway", gateway.url, "--key", harness.TOKEN, "--max-rate", "150/s"]
    child = bench.start(*argv, config=False)
    bench.world.wait("lab", calls=60)
    gateway.child.send_signal(how)
    gateway.child.wait(PATIENCE_S)
    gateway.stopped = True
    # While nobody listens there, all that is sent fails at once.
    while "no answer for" not in (line := child.stderr.readline()):
        assert line, "it ended"
    workshop.gateway(harness.SERVER.replace("127.0.0.1:0", "{}:{}".format(*gateway.address), 1) + at)
    _, told = child.communicate(timeout=2 * PATIENCE_S)
    assert child.returncode == 0, told
    assert ids(bench.read()) == call_ids(300) and len(set(answers(bench.read()))) == 300


def test_what_no_line_can_reach_is_told_before_the_first_call(bench, tmp_path):
    bench.write([chat(n) for n in range(3)])
    keys = {"OPENAI_API_KEY": "sk-test-openai", "GROQ_API_KEY": "sk-test-groq"}
    for more in ([], ["--strict"], ["--dry-run"]):
        done = bench.run(*more, config=False, env=keys)
        told = "none of its 3 lines can be sent: There is no model `m` here. Did you mean"
        assert done.returncode == 2 and told in done.stderr, done.stderr
    assert not list(tmp_path.glob("out*"))


def test_an_empty_pipe_is_a_mistake_and_leaves_nothing_behind(bench, tmp_path):
    bench.open()
    for text in ("", "\n  \n"):
        done = bench.run(given="-", out="-", stdin=text)
        assert done.returncode == 2 and "standard input has no line; give one" in done.stderr, done.stderr
        assert bench.run("--errors", str(tmp_path / "out.errors"), given="-", stdin=text).returncode == 2
        assert not list(tmp_path.glob("out*"))


def test_an_input_that_is_overwritten_ends_it_before_anything_of_the_new_one_is_sent(bench):
    bench.open()
    lines = [chat(n) for n in range(2_000)]
    path = bench.write(lines)
    child = bench.start("--max-rate", "400/s")
    bench.world.wait("lab", calls=20)
    path.write_text("".join(json.dumps(chat(n, model="other")) + "\n" for n in range(3_000)))
    _, told = child.communicate(timeout=PATIENCE_S)
    assert child.returncode == 1 and "in.jsonl was changed while it was read, by line" in told, told
    assert all(call["model"] == "m" for call in bench.calls()) and told_errors(bench) == []
    refused = bench.run()
    assert refused.returncode == 2 and "line 1 is not what it was" in refused.stderr, refused.stderr
    bench.write(lines)
    assert bench.run().returncode == 0
    assert ids(bench.read()) == call_ids(2_000) and len(bench.calls()) == 2_000


def test_a_dry_run_says_where_the_budget_ends_it(bench):
    bench.open()
    bench.write([chat(n) for n in range(700)])
    tokens = 500 * 8 + 1
    budget = f"{tokens * PRICE / 1e9:.9f}"
    reckoned = json.loads(bench.run("--dry-run", "--json", "--budget", budget).stdout)
    assert (reckoned["stops_at_line_earliest"], reckoned["stops_at_line_latest"]) == (501, None)
    assert reckoned["held_usd_max"] == pytest.approx(8 * PRICE / 1e9)
    told = bench.run("--dry-run", "--budget", "5").stdout
    assert "budget  $5.00 left, covers all of it; holds up to $0.000008 for a line under way" in told
    done = bench.run("--budget", budget)
    stopped = re.search(r"stopped at line (\d+)", done.stderr)
    assert done.returncode == 4 and int(stopped[1]) >= 501, done.stderr
    rest = bench.run("--dry-run", "--budget", budget)
    assert rest.returncode == 0 and f"stops at line {stopped[1]}" in rest.stdout, rest.stdout


def test_a_line_without_a_cap_is_not_answered_in_part_by_what_is_left_of_the_budget(bench):
    bench.open()
    line = chat(0)
    del line["body"]["max_tokens"]
    bench.write([line])
    done = bench.run("--budget", f"{4_000 * PRICE / 1e9:.9f}")
    assert done.returncode == 4 and "stopped at line 1" in done.stderr and bench.calls() == [], done.stderr
    assert bench.run("--budget", f"{4_096 * PRICE / 1e9:.9f}").returncode == 0
    assert len(answers(bench.read())) == 1
