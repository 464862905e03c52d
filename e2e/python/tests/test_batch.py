"""`keymux batch`: a file of calls becomes a file of answers, whatever happens on the way."""

import contextlib
import gzip
import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

import batches
import harness
from batches import PRICE, answers, call_ids, chat, ids
from raw import PATIENCE_S


@pytest.fixture
def bench(tmp_path):
    with batches.bench(tmp_path) as made:
        yield made


def test_answers_come_in_the_order_of_the_calls_in_openais_form(bench):
    bench.open()
    bench.write([chat(n) for n in range(300)])
    done = bench.run("--json")
    assert done.returncode == 0, done.stderr
    out = bench.read()
    assert ids(out) == call_ids(300)
    assert answers(out) and set(out[0]) == {"id", "custom_id", "response", "error"}
    assert set(out[0]["response"]) == {"status_code", "request_id", "body"}
    told = json.loads(done.stdout)
    calls = bench.calls()
    assert (told["end"], told["answered"], told["failed"], told["exit_code"]) == ("complete", 300, 0, 0)
    assert told["output_tokens"] == sum(call["output_tokens"] for call in calls)
    assert round(told["cost_usd"] * 1e9) == sum(call["billed_nano_usd"] for call in calls) > 0
    assert {row["key"] for row in told["by_model_and_key"]} == {"lab/lab-1", "lab/lab-2"}
    # Whole is whole: a second run asks nobody.
    again = bench.run("--json")
    assert again.returncode == 0 and json.loads(again.stdout)["before"]["answered"] == 300
    assert len(bench.calls()) == 300 and ids(bench.read()) == call_ids(300)


def test_prompts_pipes_compressed_files_and_other_endpoints(bench):
    bench.open()
    text = "".join(json.dumps({"prompt": f"number {n}"}) + "\r\n" for n in range(20))
    piped = bench.run("--model", "m", "-q", stdin="\ufeff" + text, given="-", out="-")
    assert piped.returncode == 0, piped.stderr
    assert ids([json.loads(line) for line in piped.stdout.splitlines()]) == [f"line-{n}" for n in range(1, 21)]
    bodies = {
        "/v1/completions": {"prompt": "x", "max_tokens": 3},
        "/v1/embeddings": {"input": "x"},
        "/v1/responses": {"input": "x", "max_output_tokens": 20},
    }
    lines = [{"custom_id": url, "method": "POST", "url": url, "body": {"model": "m", **b}} for url, b in bodies.items()]
    bench.write(lines, "in.jsonl.gz")
    packed = bench.run("--unordered", given="in.jsonl.gz", out="out.jsonl.gz")
    assert packed.returncode == 0, packed.stderr
    assert sorted(ids(bench.read("out.jsonl.gz"))) == sorted(bodies)


def test_broken_lines_are_told_by_number_and_kept_out(bench, tmp_path):
    bench.open()
    good = [chat(n) for n in range(4)]
    lines = [good[0], "{bad", good[1], {"custom_id": "x", "url": "/v1/nothing", "body": {}}, "", good[2], good[0], good[3]]
    bench.write(lines)
    strict = bench.run("--strict", out="strict.jsonl")
    assert strict.returncode == 2 and "3 lines are broken" in strict.stderr, strict.stderr
    for told in ("line 2:", "line 4:", "line 7:"):
        assert told in strict.stderr
    assert bench.calls() == [] and not list(tmp_path.glob("strict*")), "what was not begun leaves nothing behind"
    apart = bench.run("--errors", str(bench.write([], "err.jsonl")))
    assert apart.returncode == 3, apart.stderr
    assert "line 4: `url` is `/v1/nothing`" in apart.stderr
    assert ids(bench.read()) == call_ids(4)
    errors = bench.read("err.jsonl")
    assert [(e["error"]["line"], e["error"]["code"]) for e in errors] == [
        (2, "invalid_json"),
        (4, "unknown_url"),
        (7, "duplicate_custom_id"),
    ]
    together = bench.run(out="together.jsonl")
    assert together.returncode == 3 and "mend the broken ones in the input; --retry-failed" in together.stderr
    assert ids(bench.read("together.jsonl")) == ["call-0", None, "call-1", "x", "call-2", "call-0", "call-3"]


def test_a_forgotten_model_is_told_before_the_first_call_and_leaves_nothing_behind(bench, tmp_path):
    bench.open()
    bench.write([{"prompt": "a"}, {"prompt": "b"}])
    for more in ([], ["--dry-run"]):
        done = bench.run(*more)
        assert done.returncode == 2 and "none of its 2 lines names a model; give --model" in done.stderr, done.stderr
    assert not list(tmp_path.glob("out*"))
    assert bench.run("--model", "m").returncode == 0
    assert len(answers(bench.read())) == 2
    # Other lines that all cannot be sent are told, too.
    bench.write(["{bad", "[]", {"prompt": 5}], "bad.jsonl")
    done = bench.run("--model", "m", given="bad.jsonl", out="bad-out.jsonl")
    assert done.returncode == 2 and "all 3 lines are broken, and nothing was sent\n" in done.stderr, done.stderr
    assert "line 1:" in done.stderr and "line 3: `prompt` is no text" in done.stderr
    assert not list(tmp_path.glob("bad-out*"))
    # From a pipe it is known only at the end; the same output is begun anew with the model.
    text = '{"prompt": "a"}\n{"prompt": "b"}\n'
    done = bench.run(stdin=text, given="-", out="piped.jsonl")
    assert done.returncode == 3 and "--model" in done.stderr, done.stderr
    done = bench.run("--model", "m", stdin=text, given="-", out="piped.jsonl")
    assert done.returncode == 0, done.stderr
    assert len(answers(bench.read("piped.jsonl"))) == 2 and len(bench.calls()) == 4


def test_errors_of_a_provider_are_lines_and_can_be_tried_again(bench):
    bench.open()
    wrong = chat(1)
    wrong["body"]["model"] = "none"
    bench.write([chat(0), wrong, chat(2)])
    done = bench.run()
    assert done.returncode == 3, done.stderr
    out = bench.read()
    assert ids(out) == call_ids(3) and out[1]["response"]["status_code"] == 404, out[1]
    assert "error" in out[1]["response"]["body"] and out[1]["error"] is None
    # The mended file is another file, but for lines that failed.
    bench.write([chat(0), chat(1), chat(2)])
    refused = bench.run()
    assert refused.returncode == 2 and "line 2 is not what it was" in refused.stderr
    done = bench.run("--retry-failed")
    assert done.returncode == 0, done.stderr
    assert len(answers(bench.read())) == 3 and ids(bench.read()) == call_ids(3)
    assert sum(call["status"] == 200 for call in bench.calls()) == 3


def test_a_rerun_that_is_refused_leaves_the_output_as_it_was(bench, tmp_path):
    bench.open()
    lines = ["{bad", *[chat(n) for n in range(30)]]
    bench.write(lines)
    assert bench.run().returncode == 3
    before = [(tmp_path / name).read_bytes() for name in ("out.jsonl", "out.jsonl.journal")]
    changed = [lines[0], chat(99), *lines[2:]]
    for code, given, more in [(2, lines, ["--strict"]), (4, lines, ["--budget", "0.0000001"]), (2, changed, [])]:
        bench.write(given)
        refused = bench.run("--retry-failed", *more)
        assert refused.returncode == code, refused.stderr
        assert [(tmp_path / name).read_bytes() for name in ("out.jsonl", "out.jsonl.journal")] == before, more
    refused = bench.run("--journal", str(tmp_path / "j"), out="-")
    assert refused.returncode == 2 and "--journal has no meaning with -o -" in refused.stderr
    piped = bench.run("--budget", "0.000000001", out="-")
    assert piped.returncode == 4 and "pays for all lines again" in piped.stderr, piped.stderr


@pytest.mark.parametrize("unordered", [False, True])
def test_killed_while_it_tries_again_it_loses_nothing_that_was_paid(bench, unordered):
    bench.open()
    bench.write(["{bad" if n % 11 == 5 else chat(n) for n in range(300)])
    more = ["-q", *(["--unordered"] if unordered else [])]
    assert bench.run(*more).returncode == 3
    first, total = len(bench.calls()), 360
    # Longer than it was: the output grows beyond where it ended before.
    bench.write([chat(n) for n in range(total)])
    child = bench.start(*more, "--retry-failed", "--max-rate", "40/s")
    bench.world.wait("lab", calls=first + 50)
    child.send_signal(signal.SIGKILL)
    assert child.wait(PATIENCE_S) == -signal.SIGKILL
    done = bench.run(*more, "--retry-failed")
    assert done.returncode == 0, done.stderr
    assert sorted(ids(bench.read())) == sorted(call_ids(total)) and (unordered or ids(bench.read()) == call_ids(total))
    assert len(set(answers(bench.read()))) == total
    assert len(bench.calls()) < total + 20, "what was answered was paid again"


@pytest.mark.parametrize("unordered", [False, True])
def test_killed_ten_times_it_is_whole_and_nearly_nothing_is_paid_twice(bench, unordered):
    lines, kills, at_once = 3_000, 10, 24
    bench.open()
    bench.write([chat(n) for n in range(lines)])
    dice = random.Random(unordered)
    argv = ["-q", "--max-concurrent", str(at_once), *(["--unordered"] if unordered else [])]
    for kill in range(1, kills + 1):
        child = bench.start(*argv)
        # Killed in the act, wherever it is.
        bench.world.wait("lab", calls=(lines * kill) // (kills + 2) + dice.randrange(100))
        child.send_signal(signal.SIGKILL)
        assert child.wait(PATIENCE_S) == -signal.SIGKILL
    done = bench.run(*argv)
    assert done.returncode == 0, done.stderr
    out = bench.read()
    assert (sorted(ids(out)) == sorted(call_ids(lines))) and (unordered or ids(out) == call_ids(lines))
    given = answers(out)
    calls = [call for call in bench.calls() if call["billed_nano_usd"] > 0]
    assert len(set(given)) == lines and set(given) <= {call["answer_id"] for call in calls}
    assert lines < len(calls) <= lines + kills * at_once, "more was paid twice than was in flight"


def test_answers_that_wait_for_their_turn_are_safe_too(bench):
    bench.open()
    lines = [chat(n) for n in range(500)]
    lines[0]["body"]["model"] = "slow"
    bench.write(lines)
    child = bench.start("-q", "--max-concurrent", "40")
    bench.world.wait("lab", calls=500, open=1)
    child.send_signal(signal.SIGKILL)
    assert child.wait(PATIENCE_S) == -signal.SIGKILL
    assert bench.read() == []
    # The line was not done, so it may be another one now.
    bench.write([chat(n) for n in range(500)])
    done = bench.run()
    assert done.returncode == 0 and ids(bench.read()) == call_ids(500), done.stderr
    assert 501 <= len(bench.calls()) <= 501 + 40


def test_one_ctrl_c_finishes_what_is_in_flight_and_the_next_run_pays_for_nothing_twice(bench):
    bench.open(latency_ms=300.0)
    bench.write([chat(n) for n in range(200)])
    child = bench.start("--max-concurrent", "40")
    bench.world.wait("lab", calls=60)
    child.send_signal(signal.SIGINT)
    _, told = child.communicate(timeout=PATIENCE_S)
    assert child.returncode == 130 and "run the same command again" in told, told
    calls = bench.calls()
    assert 60 <= len(calls) < 200 and not any(call["cancelled"] for call in calls)
    done = bench.run()
    assert done.returncode == 0, done.stderr
    assert ids(bench.read()) == call_ids(200) and len(bench.calls()) == 200


def test_a_second_ctrl_c_ends_at_once(bench):
    bench.open(latency_ms=60_000.0)
    bench.write([chat(n) for n in range(20)])
    child = bench.start()
    bench.world.wait("lab", calls=20)
    child.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.5)
    child.send_signal(signal.SIGINT)
    assert child.wait(PATIENCE_S) == 130


def test_ctrl_c_ends_it_when_nobody_reads_the_output(bench):
    bench.open()
    bench.write([chat(n) for n in range(2_000)])
    child = subprocess.Popen(
        bench.argv("-q", out="-"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=harness.clean_env(),
        stdin=subprocess.DEVNULL,
    )
    bench.world.wait("lab", calls=500)
    # The pipe is full, and stays so.
    for _ in range(2):
        child.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(0.5)
    assert child.wait(PATIENCE_S) == 130
    assert "pays for all lines again" in child.stderr.read()
    child.stdout.close()


def test_a_budget_is_never_overrun_and_says_where_it_stopped(bench):
    bench.open()
    bench.write([chat(n) for n in range(2_000)])
    budget = 500 * 8 * PRICE + PRICE
    argv = ["--budget", f"{budget / 1e9:.9f}"]
    spent = []
    for _ in range(2):
        done = bench.run(*argv)
        assert done.returncode == 4 and "--budget" in done.stderr, done.stderr
        spent.append(sum(call["billed_nano_usd"] for call in bench.calls()))
    assert budget * 0.8 < spent[0] == spent[1] <= budget
    out = bench.read()
    assert ids(out) == call_ids(len(out)) and f"stopped at line {len(out) + 1}:" in done.stderr
    done = bench.run("--budget", "100")
    assert done.returncode == 0 and ids(bench.read()) == call_ids(2_000), done.stderr
    assert len(bench.calls()) == 2_000


def test_without_a_key_that_works_it_ends_clearly_and_goes_on_later(bench):
    bench.open()
    bench.configured(secret="sk-test-wrong")
    bench.write([chat(n) for n in range(50)])
    done = bench.run()
    assert done.returncode == 4 and "stopped at line 1: lab/lab-1 was refused" in done.stderr, done.stderr
    assert bench.read() == []
    bench.configured()
    assert bench.run().returncode == 0 and ids(bench.read()) == call_ids(50)


def test_limits_are_filled_and_not_run_into(bench):
    limits = [{"dimension": "requests", "limit": 20, "period_ms": 1_000}]
    bench.open(limits=limits, more='limits = [{ requests = 20, per = "1s" }]\n')
    bench.write([chat(n) for n in range(200)])
    began = time.monotonic()
    done = bench.run()
    took = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    calls = bench.calls()
    assert len(calls) == 200 and all(call["status"] == 200 for call in calls)
    # 40 at once, then 40 a second.
    assert 4.0 - 0.2 <= took


def test_through_a_gateway(bench, workshop):
    bench.open()
    at = harness.provider("lab", f"{bench.world.url}/lab/v1", n=2)
    gateway = workshop.gateway(harness.SERVER + at)
    lines = [chat(n) for n in range(100)]
    for line in lines:
        line["body"]["model"] = "lab:m"
    bench.write(lines)
    via = ["--gateway", gateway.url, "--key"]
    wrong = bench.run(*via, "km-test-wrong", config=False)
    assert wrong.returncode == 4 and "gateway/key was refused" in wrong.stderr, wrong.stderr
    done = bench.run(*via, "env:MINE", env={"MINE": harness.TOKEN}, config=False)
    assert done.returncode == 0 and ids(bench.read()) == call_ids(100), done.stderr
    assert len(bench.calls()) == 100
    refused = bench.run(*via, harness.TOKEN, "--budget", "1", config=False, out="other.jsonl")
    assert refused.returncode == 2 and "--budget" in refused.stderr


def test_what_cannot_be_read_or_written_is_told_with_the_mend(bench, tmp_path):
    bench.open()
    bench.write([chat(n) for n in range(5)])
    (tmp_path / "link").symlink_to("out.jsonl")
    cases = [
        (bench.run(given="none.jsonl"), 2, "none.jsonl"),
        (bench.run(out="none/out.jsonl"), 2, "none/out.jsonl"),
        (bench.run(out="in.jsonl"), 2, "the same file"),
        (bench.run("--strict", stdin="", given="-"), 2, "--strict"),
        (bench.run(given=bench.write([], "empty.jsonl").name), 2, "has no line"),
        (bench.run(out="."), 2, "is a folder"),
        (bench.run("--errors", str(tmp_path / "none" / "e")), 2, "--errors"),
        (bench.run("--journal", str(tmp_path / "none" / "j")), 2, "--journal"),
        (bench.run("--gateway", "http://u:pw-of-test@h", config=False), 2, "--gateway: credentials do not belong"),
        (bench.run(given=bench.write(["plain"], "plain.txt").rename(tmp_path / "plain.gz").name), 2, "ends in .gz"),
        (bench.run("--errors", f"{tmp_path}/./out.jsonl"), 2, "the same file"),
        (bench.run("--errors", str(tmp_path / "link")), 2, "the same file"),
        (bench.run("--max-rate", "fast"), 2, "50/s"),
        (bench.run("--budget", "five"), 2, "dollars"),
        (bench.run("--json", out="-"), 2, "--json"),
        (bench.run("--max-concurrent", "4000000000"), 2, "open files"),
    ]
    for done, code, told in cases:
        assert done.returncode == code and told in done.stderr, done.stderr
        assert "pw-of-test" not in done.stderr
    assert bench.calls() == [] and not list(tmp_path.glob("*out*")) and not (tmp_path / ".journal").exists()
    full = bench.run("--journal", str(tmp_path / "journal"), out="/dev/full")
    assert full.returncode == 1 and "make room" in full.stderr, full.stderr
    (tmp_path / "mine.jsonl").write_text("precious\n")
    mine = bench.run(out="mine.jsonl")
    assert mine.returncode == 2 and (tmp_path / "mine.jsonl").read_text() == "precious\n"


def test_an_input_that_changes_while_it_is_read_is_noticed(bench, tmp_path):
    bench.open()
    path = bench.write([chat(n) for n in range(2_000)])
    child = bench.start("--max-rate", "400/s")
    bench.world.wait("lab", calls=20)
    with path.open("a") as file:
        file.write(json.dumps(chat(2_000)) + "\n")
    _, told = child.communicate(timeout=PATIENCE_S)
    assert child.returncode == 1 and "was changed while it was read" in told, told
    assert bench.run().returncode == 0
    assert ids(bench.read()) == call_ids(2_001) and len(bench.calls()) == 2_001
    assert os.path.exists(tmp_path / "out.jsonl.journal")


def test_a_dry_run_reckons_and_asks_nobody(bench, tmp_path):
    bench.open(more="limits = [{ requests = 20, per = \"1s\" }]\n")
    bench.write([chat(n) for n in range(400)] + ["{bad"])
    told = bench.run("--dry-run")
    assert told.returncode == 0, told.stderr
    assert "400 lines would be sent, 1 would end with an error" in told.stdout and "line 401:" in told.stdout
    assert "$0 to $0.003200" in told.stdout and "time    9.0 s" in told.stdout, told.stdout
    reckoned = json.loads(bench.run("--dry-run", "--json").stdout)
    assert (reckoned["calls"], reckoned["output_tokens_max"], round(reckoned["seconds_max"], 3)) == (400, 3_200, 9.0)
    assert bench.calls() == [] and not (tmp_path / "out.jsonl").exists()
