"""What an operator gets wrong at the command line: one line that says what to do, and an exit code for scripts."""

import datetime
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import urllib.request

import pytest

import harness

LAB = '[[provider]]\nname = "lab"\ndialect = "openai"\nbase_url = "http://127.0.0.1:9/v1"\n'
KEYS = 'keys = [{ name = "a", secret = "literal:sk-test-a" }]\n'


def keymux(*argv: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    return subprocess.run(
        [harness.binary("KEYMUX_BIN"), *argv],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        env=harness.clean_env(**(env or {})),
    )


@pytest.fixture
def serve(tmp_path):
    """Runs `keymux serve` on a configuration that cannot work; returns what it said."""

    def run(config: str, **env: str) -> subprocess.CompletedProcess:
        path = tmp_path / "keymux.toml"
        server = f'[server]\nlisten = "127.0.0.1:0"\nadmin = "127.0.0.1:0"\ndata_dir = "{tmp_path}/data"\n'
        path.write_text(config if "[server]" in config else server + config)
        done = keymux("serve", "--config", str(path), env=env)
        assert done.stdout == "", "errors belong on the other stream"
        assert "panicked" not in done.stderr and "backtrace" not in done.stderr.lower()
        assert "\x1b[" not in done.stderr, "no colour when it is not a terminal"
        return done

    return run


WRONG = {
    "an unknown dialect": (LAB.replace("openai", "opnai") + KEYS, ["dialect", "openai", ":7:"]),
    "an empty key": (LAB + 'keys = [{ name = "a", secret = "literal:" }]\n', ["empty|names nothing", ":9:"]),
    "an empty variable": (LAB + 'keys = [{ name = "a", secret = "env:LAB_KEY" }]\n', ["LAB_KEY", "empty"]),
    "a variable that is not set": (LAB + 'keys = [{ name = "a", secret = "env:NOT_SET" }]\n', ["NOT_SET", "set"]),
    "a duplicate key name": (
        LAB + 'keys = [{ name = "a", secret = "literal:sk-test-a" }, { name = "a", secret = "literal:sk-test-b" }]\n',
        ["two|twice|duplicate|already", "a"],
    ),
    "a misspelt setting": (LAB + KEYS + "limist = []\n", ["limist", "limits"]),
    "no keys": (LAB, ["key"]),
    "no TOML": ("[[provider\n", ["1|2|3|4|5"]),
    "a route to nowhere": (LAB + KEYS + '[[route]]\nmodel = "x"\ntiers = [["lba:m"]]\n', ["lba", "lab"]),
    "an open listener for everybody": (
        '[server]\nlisten = "0.0.0.0:0"\nadmin = "none"\n' + LAB + KEYS,
        ["token", "allow_open"],
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_in_the_file(serve, case):
    config, words = WRONG[case]
    done = serve(config, LAB_KEY="")
    assert done.returncode == 2, done.stderr
    for word in words:
        assert re.search(word, done.stderr), f"{word!r} is not said:\n{done.stderr}"
    assert "sk-test" not in done.stderr


def test_all_mistakes_are_told_at_once(serve):
    done = serve(LAB.replace("openai", "opnai") + "keys = []\nlimist = []\n" + '[[route]]\nmodel = 4\n')
    assert done.returncode == 2
    for word in ("opnai", "limist", "model"):
        assert word in done.stderr, done.stderr


def test_an_unreadable_secret_file(serve, tmp_path):
    missing = tmp_path / "no-such-secret"
    done = serve(LAB + f'keys = [{{ name = "a", secret = "file:{missing}" }}]\n')
    assert done.returncode == 2 and str(missing) in done.stderr
    folder = serve(LAB + f'keys = [{{ name = "a", secret = "file:{tmp_path}" }}]\n')
    assert folder.returncode == 2 and str(tmp_path) in folder.stderr


@pytest.mark.parametrize("which", ["listen", "admin"])
def test_a_port_in_use(tmp_path, which):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        addresses = {"listen": "127.0.0.1:0", "admin": "127.0.0.1:0", which: f"127.0.0.1:{port}"}
        path = tmp_path / "keymux.toml"
        lines = "".join(f'{name} = "{value}"\n' for name, value in addresses.items())
        path.write_text(f'[server]\n{lines}data_dir = "{tmp_path}/data"\n' + LAB + KEYS)
        done = keymux("serve", "--config", str(path))
    assert done.returncode in (1, 2), done.stderr
    said = [line for line in done.stderr.splitlines() if str(port) in line]
    assert len(said) == 1 and re.search("in use", said[0]) and which in done.stderr, done.stderr


def test_two_gateways_do_not_share_a_port(tmp_path):
    """Workers share theirs by SO_REUSEPORT; a second process must not slip in beside them and take half the calls."""
    first = harness.Gateway(harness.SERVER + LAB + KEYS, tmp_path / "first")
    try:
        text = harness.SERVER.replace('listen = "127.0.0.1:0"', f'listen = "127.0.0.1:{first.address[1]}"')
        path = tmp_path / "second.toml"
        path.write_text(text.replace("@DATA@", str(tmp_path / "second")) + LAB + KEYS)
        done = keymux("serve", "--config", str(path))
        assert done.returncode in (1, 2) and "in use" in done.stderr, done.stderr
        assert first.alive()
    finally:
        first.stop()


def test_no_key_at_all():
    done = keymux("serve")
    assert done.returncode == 2
    for word in ("OPENROUTER_API_KEY", "OPENROUTER_KEY_1", "OPENAI", "keymux demo"):
        assert word in done.stderr, done.stderr


def test_a_file_that_is_not_there(tmp_path):
    done = keymux("serve", "--config", str(tmp_path / "nowhere.toml"))
    assert done.returncode == 2 and "nowhere.toml" in done.stderr


@pytest.mark.parametrize("argv", [["srve"], ["serve", "--confg", "x"], ["check"], ["serve", "extra"]])
def test_a_command_line_that_cannot_be_understood(argv):
    done = keymux(*argv)
    assert done.returncode == 2 and done.stderr


def test_check_says_what_a_file_means_without_its_secrets(tmp_path):
    path = tmp_path / "keymux.toml"
    path.write_text(LAB + 'keys = [{ name = "first", secret = "literal:sk-test-marked" }]\n')
    done = keymux("check", "--config", str(path))
    assert done.returncode == 0, done.stderr
    assert "lab" in done.stdout and "first" in done.stdout and "sk-test-marked" not in done.stdout + done.stderr
    path.write_text(LAB + KEYS + "limist = []\n")
    assert keymux("check", "--config", str(path)).returncode == 2


def test_check_warns_of_a_table_of_prices_that_is_old(tmp_path):
    path, prices = tmp_path / "keymux.toml", tmp_path / "prices.txt"
    path.write_text(f"{LAB}{KEYS}[prices]\nfile = {json.dumps(str(prices))}\n")
    today = datetime.datetime.now(datetime.UTC).date()
    for days, old in ((89, False), (92, True)):
        made = today - datetime.timedelta(days=days)
        prices.write_text(f"keymux-prices 1 {made} mine\np openai\nm 0 only\nr - i1 o2\n")
        done = keymux("check", "--config", str(path))
        told = f"warning: the table of prices is of {made}, {days} days ago" in done.stderr
        assert done.returncode == 0 and told == old, done.stderr


def demo_env(folder) -> dict[str, str]:
    return harness.clean_env(XDG_STATE_HOME=str(folder), KEYMUX_DATA_DIR=str(folder))


def test_the_demo_runs_to_its_end_by_itself(tmp_path):
    done = subprocess.run(
        [harness.binary("KEYMUX_BIN"), "demo", "--once"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        env=demo_env(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"clients: (\d+) of \1 requests answered, 0 refused, 0 broken", done.stdout), done.stdout
    assert "\x1b[" not in done.stdout


def test_what_the_demo_says_to_try_works(tmp_path):
    """A newcomer copies the lines that the demo prints. They must work as they stand, and Ctrl-C must end it."""
    child = subprocess.Popen(
        [harness.binary("KEYMUX_BIN"), "demo"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=demo_env(tmp_path),
    )
    try:
        said = ""
        for line in child.stdout:
            said += line
            if "Ctrl-C ends" in line:
                break
        page = re.search(r"http://\S+/\?token=\S+", said)[0]
        # A browser keeps the cookie that the token is exchanged for.
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        with browser.open(page, timeout=20) as response:
            assert "html" in response.headers["content-type"]
        shown = re.search(r"^  curl (\S+) .*?-d '(.*?)'$", said, re.M | re.S)
        request = urllib.request.Request(shown[1], shown[2].encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as response:
            assert json.load(response)["choices"]
        snippet = textwrap.dedent(said[said.index("  from openai") : said.index("Ctrl-C ends")])
        tried = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, timeout=60)
        assert tried.returncode == 0 and "choices" in tried.stdout, tried.stderr
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 0
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def test_help_shows_an_example_for_every_command():
    listed = keymux("--help")
    assert listed.returncode == 0
    for command in ("serve", "batch", "demo", "check", "health"):
        assert re.search(rf"^\s+{command}\b", listed.stdout, re.M), listed.stdout
        told = keymux(command, "--help")
        assert told.returncode == 0 and f"keymux {command}" in told.stdout


def test_health_asks_a_running_gateway(tmp_path):
    running = harness.Gateway(harness.SERVER + LAB + KEYS, tmp_path)
    try:
        assert keymux("health", "--addr", running.addresses["listen"]).returncode == 0
        assert keymux("health", "--addr", running.addresses["admin"]).returncode == 0
    finally:
        running.stop()
    assert keymux("health", "--addr", running.addresses["listen"]).returncode == 1


def test_the_generated_admin_token_is_for_its_owner_only(tmp_path):
    generated = harness.SERVER.replace(f'admin_token = "literal:{harness.ADMIN_TOKEN}"\n', "")
    running = harness.Gateway(generated + LAB + KEYS, tmp_path)
    try:
        files = [p for p in (tmp_path / "data").rglob("*") if p.is_file() and "token" in p.name]
        assert files, "the admin token is generated into a file of the data folder"
        assert all(os.stat(p).st_mode & 0o777 == 0o600 for p in files)
    finally:
        running.stop()
