"""`keymux import`: a configuration of LiteLLM's becomes one that serves, and what goes wrong says what to do."""

import json
import subprocess
import urllib.request

import pytest

import harness

MASTER = "sk-test-master-key-of-the-proxy"


def keymux(*argv: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [harness.binary("KEYMUX_BIN"), *argv],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=20,
        env=harness.clean_env(**env),
    )
    assert "panicked" not in done.stderr
    return done


@pytest.fixture
def world(tmp_path):
    accounts = [{"name": f"acc-{n}", "key": [{"name": f"lab-{n}", "secret": f"sk-test-lab-{n}"}]} for n in (1, 2)]
    spec = {"provider": [{"name": "lab", "dialect": "openai", "account": accounts, "model": [{"id": "m"}, {"id": "other"}]}]}
    path = tmp_path / "world.json"
    path.write_text(json.dumps(spec))
    world = harness.World(path)
    yield world
    world.stop()


def config(world) -> str:
    return f"""
model_list:
  - model_name: first
    litellm_params: {{model: openai/m, api_base: os.environ/LAB_BASE, api_key: os.environ/LAB_KEY, rpm: 600}}
  - model_name: second
    litellm_params: {{model: openai/other, api_base: "{world.url}/lab/v1", api_key: sk-test-lab-2}}
router_settings:
  fallbacks: [{{first: [second]}}]
general_settings:
  master_key: os.environ/LITELLM_KEY
"""


def ask(gateway, model: str) -> tuple[str, str]:
    """The key that served, and the model that the provider says it is."""
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
    request = urllib.request.Request(
        f"{gateway.url}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {MASTER}"},
    )
    with urllib.request.urlopen(request, timeout=20) as response:
        return response.headers["x-keymux-key"], json.load(response)["model"]


def test_what_was_imported_serves(world, tmp_path):
    theirs, ours = tmp_path / "config.yaml", tmp_path / "imported.toml"
    theirs.write_text(config(world))
    done = keymux("import", "litellm", str(theirs), "-o", str(ours), LAB_BASE=f"{world.url}/lab/v1")
    assert done.returncode == 0, done.stderr
    assert "2 of 2 deployments became 1 provider with 2 keys and 2 routes" in done.stderr
    made = ours.read_text()
    assert "sk-test" not in made + done.stdout + done.stderr
    # What it says has to be set, and nothing else.
    unset = next(line for line in done.stderr.splitlines() if line.startswith("To be set"))
    names = unset.split(": ")[1].split(", ")
    assert names[:2] == ["LITELLM_KEY", "LAB_KEY"] and len(names) == 3, unset
    env = dict(zip(names, [MASTER, "sk-test-lab-1", "sk-test-lab-2"], strict=True))
    assert keymux("check", "--config", str(ours), **env).returncode == 0
    assert keymux("check", "--config", str(ours)).returncode == 2, "without its variables it is not good"

    server = harness.SERVER.replace(f'token = "literal:{harness.TOKEN}"\n', "", 1)
    gateway = harness.Gateway(made.replace("\n[server]\n", server, 1), tmp_path / "gateway", env=env)
    try:
        assert ask(gateway, "first") == ("lab-key", "m")
        assert ask(gateway, "second") == ("key-2", "other")
        world.inject(provider="lab", key="lab-1", fault={"kind": {"status": {"code": 401}}})
        assert ask(gateway, "first") == ("key-2", "other"), "its fallback, since its key is refused"
        assert len(world.records("lab")) == 4
    finally:
        gateway.stop()


GOOD = "model_list:\n  - {model_name: a, litellm_params: {model: openai/gpt-5, api_key: sk-test-literal}}\n"


def test_standard_input_and_output():
    done = keymux("import", "litellm", "-", stdin=GOOD)
    assert done.returncode == 0
    assert 'secret = "env:OPENAI_KEY_1"' in done.stdout and "standard output" in done.stderr
    assert done.stdout == keymux("import", "litellm", "-", "-o", "-", stdin=GOOD).stdout


def test_a_credential_in_a_header_of_any_name_is_listed_and_never_printed():
    for value in ("Basic SECRETI", "bearer SECRETI", "sk-SECRETI", "3f8a91c0SECRETIde7b4452a6f0"):
        text = GOOD + (
            "  - model_name: other\n    litellm_params:\n      model: openai/gpt-5\n      api_key: os.environ/OPENAI_KEY_9\n"
            f'      extra_headers: {{X-Custom: "{value}", X-Team: search}}\n'
        )
        done = keymux("import", "litellm", "-", stdin=text)
        assert done.returncode == 0, done.stderr
        assert "SECRETI" not in done.stdout + done.stderr and "X-Custom" in done.stderr, done.stderr
        assert "search" in done.stdout


def test_nothing_is_overwritten_unasked(tmp_path):
    theirs, ours = tmp_path / "config.yaml", tmp_path / "keymux.toml"
    theirs.write_text(GOOD)
    ours.write_text("mine")
    done = keymux("import", "litellm", str(theirs), "-o", str(ours))
    assert done.returncode == 2 and "--force" in done.stderr and ours.read_text() == "mine"
    # A refused input leaves what is there, too.
    assert keymux("import", "litellm", "-", "-o", str(ours), "--force", stdin="a: 1").returncode == 2
    assert ours.read_text() == "mine"
    assert keymux("import", "litellm", str(theirs), "-o", str(ours), "--force").returncode == 0
    assert "[[provider]]" in ours.read_text()
    done = keymux("import", "litellm", str(theirs), "-o", str(theirs), "--force")
    assert done.returncode == 2 and "is the input" in done.stderr and theirs.read_text() == GOOD


WRONG = {
    "a file that is not there": (["gone.yaml"], None, 2, ["gone.yaml", "No such file", "LiteLLM"]),
    "a folder": (["."], None, 2, ["directory"]),
    "an output in no folder": (["-", "-o", "nowhere/keymux.toml"], GOOD, 1, ["nowhere/keymux.toml", "No such file"]),
    "an output that is a folder": (["-", "-o", "."], GOOD, 2, ["folder"]),
    "nothing": (["-"], "", 2, ["standard input", "nothing in it"]),
    "a tab": (["-"], "model_list:\n\t- a\n", 2, [":2:", "no tabs"]),
    "a NUL": (["-"], "model_list:\n- model_name: m\0\n", 2, ["unprintable", "NUL"]),
    "an object of Python": (["-"], 'model_list: !!python/object/apply:os.system ["id"]\n', 2, [":1:", "!!python", "take it out"]),
    "a name twice": (["-"], "model_list: []\nmodel_list: []\n", 2, [":2:", "stands twice", "line 1"]),
    "an alias of nothing": (["-"], "model_list: *x\n", 2, [":1:", "anchor"]),
    "another program's file": (["-"], "services: {}\n", 2, ["none of its sections"]),
    "nothing that can be carried over": (
        ["-"],
        "model_list:\n  - {model_name: a, litellm_params: {model: bedrock/x}}\n",
        2,
        ["none of the 1 entries", "model_list[0] (line 2)", "Bedrock"],
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told_with_its_mend(case, tmp_path):
    argv, text, code, told = WRONG[case]
    done = subprocess.run(
        [harness.binary("KEYMUX_BIN"), "import", "litellm", *argv],
        input=text or "",
        capture_output=True,
        text=True,
        timeout=20,
        env=harness.clean_env(),
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    for words in told:
        assert words in done.stderr, done.stderr
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_what_is_not_text_is_told(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_bytes(b"model_list: \xff\xfe\n")
    done = keymux("import", "litellm", str(path))
    assert done.returncode == 2 and "UTF-8" in done.stderr
